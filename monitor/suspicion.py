"""Queues suspected in a peak: told once, as a suspicion, and what became of it.

At Giao thừa ten minutes are worth a word that may turn out wrong; on ordinary days they are not. So what the fast
tier finds in a peak is gathered for a minute and told as one word for the whole site. What the ordinary rule then
confirms has an incident and words of its own; of what it does not, one closing word says so. Which word a check is in
stands in its queue's memory, so that a restart neither repeats nor forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from config.plan import Plan, ServiceKind
from monitor.journal import Batch, Duty
from monitor.model import SUSPECT, SUSPICION, EventKind, Evidence, Notice, State
from monitor.queues import began_at, sentence
from monitor.track import Track

GATHER: Final = timedelta(seconds=60)  # chosen: what shares an uplink is suspected within a minute, and is one word
LINES: Final = 8
_ANSWERS: Final = (State.UP, State.DEGRADED)


@dataclass(frozen=True, slots=True)
class _Told:
    kind: EventKind
    all_of: Sequence[Track]
    named: Sequence[Track]  # those it is about: of a closing word, those that came to nothing
    references: tuple[int, int]


class Suspicions:
    """What is suspected of a site's paths in a peak. Owned by the pipeline."""

    def __init__(self, plan: Plan, tracks: Iterable[Track] = ()) -> None:
        """Args: tracks: as the journal knew them, to go on with what was told before a restart."""
        self._plan = plan
        self._names = {s.id: s.name for s in plan.services}
        self._watched = {t.target.id: t for t in tracks if t.queue.told_at is not None}
        self._first: datetime | None = None  # since when a suspicion waits to be told

    def note(self, track: Track) -> None:
        """Look at a check whose queue may be suspected, at the next review."""
        if track.queue.suspicion is not None and not track.is_reference:
            self._watched[track.target.id] = track

    def review(self, references: tuple[int, int], now: datetime, batch: Batch) -> None:
        """Tell what is newly suspected, and what became of what was told. Args: references: how many are good, bad."""
        if not self._watched:
            return
        for track in self._watched.values():
            if track.memory.state is State.DOWN:
                track.queue.fast = None  # what comes after an outage is another queue
        self._watched = {n: t for n, t in self._watched.items() if t.queue.told_at or t.queue.suspicion}
        told = [t for t in self._watched.values() if t.queue.told_at is not None]
        suspected = [t for t in self._watched.values() if _seen(t)]
        if told:
            self._go_on(told, suspected, references, now, batch)
        elif not suspected:
            self._first = None
        elif self._first is not None and now < self._first:
            self._first = now  # the clock was set back: the wait begins anew, and not when it has come so far again
        elif now >= (self._first or now) + GATHER:
            self._first = None
            self._mark(suspected, now, batch)
            self._owe(_Told(EventKind.SUSPECTED, suspected, suspected, references), now, now, batch)
        elif self._first is None:
            self._first = now

    def _go_on(
        self,
        told: Sequence[Track],
        suspected: Sequence[Track],
        references: tuple[int, int],
        now: datetime,
        batch: Batch,
    ) -> None:
        stamp = min(t.queue.told_at for t in told if t.queue.told_at is not None)
        if suspected:
            self._mark([t for t in suspected if t.queue.told_at is None], stamp, batch)
            return
        if any(t.gap is not None and not t.queue.told_confirmed for t in told):
            return  # nobody sees it just now, as after a restart: nothing came of it yet
        # What went down has an incident and words of its own too; that is not nothing.
        came_to_nothing = [t for t in told if not t.queue.told_confirmed and t.memory.state in _ANSWERS]
        if came_to_nothing:
            self._owe(_Told(EventKind.UNCONFIRMED, told, came_to_nothing, references), stamp, now, batch)
        for track in told:
            track.queue.told_at, track.queue.told_confirmed = None, False
            batch.queues[track.target.id] = track.kept()
        self._watched.clear()

    def _mark(self, tracks: Sequence[Track], stamp: datetime, batch: Batch) -> None:
        for track in tracks:
            track.queue.told_at = stamp
            batch.queues[track.target.id] = track.kept()

    def _owe(self, told: _Told, stamp: datetime, now: datetime, batch: Batch) -> None:
        """Owe a word in the thread of the suspicion of a moment."""
        if self._plan.mail is None:
            return
        kind, all_of, named, references = told.kind, told.all_of, told.named, told.references
        found = [e for t in named if (e := t.queue.suspicion) is not None]
        members = self._services(all_of)
        notice = Notice(
            site=self._plan.site.id,
            site_name=self._plan.site.name,
            incident=0,
            kind=kind,
            service=SUSPICION,
            service_name="",
            service_kind=ServiceKind.NETWORK,
            state=State.CONGESTED if kind is EventKind.SUSPECTED else State.UP,
            since=min(map(began_at, found), default=stamp),
            at=now,
            evidence=tuple(self._line(t, now) for t in named[:LINES]),
            references_good=references[0],
            references_bad=references[1],
            members=tuple(members.values()),
            still=tuple(n for s, n in members.items() if s in self._services(named)),
        )
        domain = self._plan.mail.sender.rpartition("@")[2] or "thongsuot.invalid"
        thread = f"{self._plan.site.id}.{SUSPICION}.{stamp:%Y%m%dT%H%M%S}"
        message = thread if kind is EventKind.SUSPECTED else f"{thread}.{kind}"
        batch.duties.append(Duty(notice, "mail", f"<{message}@{domain}>", f"<{thread}@{domain}>"))

    def _services(self, tracks: Sequence[Track]) -> Mapping[str, str]:
        return {t.target.service: self._names.get(t.target.service, t.target.service) for t in tracks}

    def _line(self, track: Track, now: datetime) -> Evidence:
        episode, target = track.queue.suspicion, track.target
        detail = sentence(episode) if episode is not None else ""
        name = f"{self._names.get(target.service, target.service)}: {target.name}"
        return Evidence(name, now, SUSPECT, "", detail, target.probe.kind)


def _seen(track: Track) -> bool:
    """Whether a check is suspected now, and answers: of what is down, its own incident speaks."""
    return track.queue.suspicion is not None and track.gap is None and track.memory.state in _ANSWERS
