"""Faults of our own that no reference shows: named by what our own host says, and taken out of the record.

Which part of the host is at fault is read from the details of results that could not be measured. What passed while we
stood still, slept or had our clock set is laid over every check as not observed, with its own cause.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from monitor.journal import Batch
from monitor.judge import outage
from monitor.judge.service import Since
from monitor.model import Gap
from monitor.own_watch import Lapse
from monitor.track import LOCAL_STREAK, Track

LOCAL: Final = "local"  # our host, and nobody knows which part of it
RESOLVER: Final = "resolver"  # it gives no answer: names cannot be found
DESCRIPTORS: Final = "descriptors"  # our table of open files is full
SOCKETS: Final = "sockets"  # the kernel has no socket, port or buffer left for us
LOCAL_KINDS: Final = frozenset({LOCAL, RESOLVER, DESCRIPTORS, SOCKETS})

LOCAL_SHARE: Final = 0.5  # share of checks that we could not measure, from which on it is our own host's fault
LOCAL_LEAST: Final = 3  # checks at least: one wrong interface name is no fault of the host
NOTABLE: Final = timedelta(seconds=30)  # chosen: a lapse of so long is told; a shorter one is recorded and shown

_PATH: Final = "path"  # in the detail of a source address or interface that is not there: a mistake, not a shortage
_SIGNS: Final = (
    (DESCRIPTORS, tuple(os.strerror(n) for n in (errno.EMFILE, errno.ENFILE))),
    (SOCKETS, tuple(os.strerror(n) for n in (errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN))),
    (RESOLVER, ("our resolver",)),
)


def part_at_fault(detail: str) -> str:
    """Name the part of our host that a result's detail speaks of; LOCAL when it names none."""
    for kind, signs in _SIGNS:
        if any(sign in detail for sign in signs) and not (kind == SOCKETS and _PATH in detail):
            return kind
    return LOCAL


def asks_by_name(track: Track) -> bool:
    """Whether a check's target is given by a name that our resolver has to find."""
    host = track.target.settings.endpoint()
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return bool(host)
    return False


class Host:
    """Says whether our own host is at fault, and which part of it, from what its checks could not measure."""

    def __init__(self, tracks: Iterable[Track]) -> None:
        self._checks = [t for t in tracks if not t.is_reference]
        self._named = sum(map(asks_by_name, self._checks))

    @property
    def _least(self) -> float:
        return max(LOCAL_LEAST, LOCAL_SHARE * len(self._checks))

    def at_fault(self) -> str:
        """Return the part of our host that is at fault now, or nothing."""
        lost = self._lost(LOCAL_STREAK)
        named = [part_at_fault(t.last.reading.detail) for t in lost if t.last]
        # In this order: without descriptors a resolver cannot be asked either.
        for kind in (DESCRIPTORS, SOCKETS):
            if named.count(kind) >= LOCAL_LEAST:
                return kind
        resolver = named.count(RESOLVER)
        if resolver and 2 * resolver >= self._named:
            return RESOLVER
        if len(lost) < self._least:
            return ""
        return next((kind for kind in (DESCRIPTORS, SOCKETS) if kind in named), LOCAL)

    def over(self, kind: str) -> bool:
        """Whether a fault of our host is over: so many were measured again that the rest could not begin it."""
        lost = self._lost(1)
        waiting = sum(t.last is None for t in self._checks)
        if kind == LOCAL:
            return len(lost) + waiting < self._least
        named = sum(t.last is not None and part_at_fault(t.last.reading.detail) == kind for t in lost)
        if kind == RESOLVER:
            return 2 * (named + waiting) < max(self._named, 1)
        return named + waiting == 0 and len(lost) < self._least

    def first_sign(self, kind: str) -> datetime | None:
        """Return when the first of the results that could not be measured began."""
        lost = self._lost(1)
        if kind != LOCAL:
            lost = [t for t in lost if t.last and part_at_fault(t.last.reading.detail) == kind] or lost
        return min((t.local_since for t in lost if t.local_since), default=None)

    def _lost(self, streak: int) -> list[Track]:
        return [t for t in self._checks if t.local_streak >= streak]


def lay(lapse: Lapse, site: str, tracks: Iterable[Track], batch: Batch) -> None:
    """Take the time of a lapse out of the record of every check: it was not observed."""
    batch.gaps += [Gap(site, t.target.id, lapse.start, lapse.end, lapse.kind.value) for t in tracks]


def follow_clock(lapse: Lapse, now: datetime, tracks: Sequence[Track], batch: Batch) -> None:
    """Go on by a wall clock that was set.

    What is under way keeps its true length by moving with the clock; what is believed keeps its date, and no date
    lies ahead of the clock.
    """
    by = timedelta(seconds=lapse.seconds)
    for track in tracks:
        track.memory = outage.move(track.memory, by, now)
        if track.memory_changed():
            batch.memories[track.target.id] = track.memory
        if track.last_started is not None:
            track.last_started += by
        if track.local_since is not None:
            track.local_since += by
        if track.queue_since is not None:
            track.queue_since = min(track.queue_since, now)
        if track.shown is not None and track.shown.at > now:
            track.shown = Since(track.shown.state, now, track.shown.before)
        track.queue.clock_set()
    if by < timedelta():
        batch.due_now = now  # what waits for its next try would wait for the old clock


def worth_telling(lapse: Lapse) -> bool:
    """Whether the people on duty hear of a lapse by mail; every one is recorded and shown."""
    return timedelta(seconds=abs(lapse.seconds)) >= NOTABLE
