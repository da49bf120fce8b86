"""Queues on the way to a check's target: feeds live results to the judge of congestion and says what changed.

Every reading that times the network is a witness: the echoes of a ping, or the handshake of a connection (RFC 9293:
one exchange with the kernel of the other end). How long a server takes to answer is not, and is never fed.

In a peak a second judge listens beside the ordinary one, with windows of a third the length. What it finds is
suspected and never more: only the ordinary rule confirms, and nothing of the fast tier reaches its floor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from config.plan import Target
from monitor.judge.congestion import Judge
from monitor.judge.episode import Cause, Episode, Saying, Standing, Word
from monitor.judge.peak import at_peak
from monitor.model import Result

QUEUES: Final = frozenset({Cause.CONGESTION, Cause.NEAR_SIDE})  # causes that are congestion; a longer route is not
ENOUGH: Final = 5  # packets in each window of the fast tier; with three in five minutes false alarms double
_CONNECT: Final = "connect"


@dataclass(frozen=True, slots=True)
class Near:
    """How the near references of a path stand: by the ordinary rule, and by the fast one of peaks."""

    usual: Sequence[Standing] = ()
    fast: Sequence[Standing] = ()


class Queue:
    """The judges of one check's path, and the episode that is believed in."""

    __slots__ = ("_bin", "episode", "fast", "judge", "told_at", "told_confirmed")

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Args: state: what `state` returned before a restart."""
        state = state or {}
        self.judge = Judge.from_state(state) if state else Judge()
        fast = state.get("fast")
        self.fast = Judge.from_state(fast) if fast else None  # only in a peak, and only with packets enough
        told = state.get("told")
        self.told_at = datetime.fromtimestamp(told[0], UTC) if told else None  # of the word of suspicion it is in
        self.told_confirmed = bool(told and told[1])  # what was suspected by that word has been confirmed since
        self.episode = _congestion(self.judge.episode)
        self._bin = -1

    @property
    def suspected(self) -> bool:
        """Whether a queue seems to stand that is not confirmed."""
        return self.episode is None and (self.judge.suspected_at is not None or self.suspicion is not None)

    @property
    def suspicion(self) -> Episode | None:
        """What the fast tier of a peak has found and the ordinary rule has not confirmed."""
        return _congestion(self.fast.episode) if self.fast is not None and self.episode is None else None

    def take(self, result: Result, near: Near, target: Target | None = None) -> Episode | None:
        """Take in one observed result; return the congestion that it closed, if it did.

        Args:
            result: of this check, later than all before.
            near: how the near references stand: a queue that they have too is on our side.
            target: the check, which knows its peaks; None is one without.
        """
        sent = list(packets(result))
        ends = result.started_at.timestamp() + result.reading.duration_s
        said = _feed(self.judge, sent, ends, near.usual)
        moved = any(s.episode is not None and s.episode.cause is Cause.ROUTE_CHANGE for s in said)
        self.episode = _congestion(self.judge.episode)
        self._follow_peak(result, len(sent), target, moved=moved)
        if self.fast is not None:
            _feed(self.fast, sent, ends, near.fast)
        if self.told_at is not None and self.episode is not None:
            self.told_confirmed = True
        closed = [_congestion(s.episode) for s in said if s.word is Word.CLOSED]
        return closed[-1] if closed else None

    def _follow_peak(self, result: Result, count: int, target: Target | None, *, moved: bool) -> None:
        """Begin or end the fast tier at the edges of a peak; begin anew on another floor."""
        at = result.started_at
        if moved or target is None or not target.peaks:
            self.fast = None
        if target is None or self.judge.learning:
            return
        if not target.in_peak(at):
            if not (self.suspicion and self._just_over(target, at)):
                self.fast = None
        elif self.fast is None:
            fast = at_peak(self.judge)
            if count * fast.settings.bin_s / target.interval_at(at) >= ENOUGH:
                self.fast = fast

    def _just_over(self, target: Target, at: datetime) -> bool:
        """Whether a peak ended so lately that the ordinary rule may still confirm what was suspected in it."""
        settings = self.judge.settings
        wait = timedelta(seconds=settings.stand_s + settings.bin_s)
        return any(w.end <= at < w.end + wait for w in target.peaks)

    def clock_set(self) -> None:
        """Drop the bin under way: the clock was set, and its packets are no longer of one time."""
        state = dict(self.judge.state())
        state["binner"] = {"width": self.judge.settings.bin_s}
        self.judge, self._bin, self.fast = Judge.from_state(state), -1, None

    def worth_keeping(self, at: datetime) -> bool:
        """Whether a bin has been closed since the last call; between bins a restart may forget."""
        number = int(at.timestamp() // (self.fast or self.judge).settings.bin_s)
        closed, self._bin = number != self._bin, number
        return closed

    def state(self) -> Mapping[str, Any]:
        """Return all that is remembered, as JSON can hold it."""
        state = self.judge.state()
        if self.fast is not None:
            state["fast"] = self.fast.state()
        if self.told_at is not None:
            state["told"] = [self.told_at.timestamp(), self.told_confirmed]
        return state


def _feed(
    judge: Judge, sent: Sequence[tuple[float, float | None]], ends: float, references: Sequence[Standing]
) -> list[Saying]:
    said: list[Saying] = []
    for at, rtt_s in sent:
        said += judge.advance(at, references)  # closes bins before the packet counts for the next
        judge.add(at, rtt_s)
    return said + judge.advance(ends, references)


def packets(result: Result) -> Iterator[tuple[float, float | None]]:
    """Give the packets of a reading that time the network: when each was sent (seconds since 1970), and its RTT.

    An answer that never came at all tells of an outage, not of a queue, and gives nothing.
    """
    reading, began = result.reading, result.started_at.timestamp()
    if any(rtt is not None for rtt in reading.rtts_s):
        step = reading.duration_s / len(reading.rtts_s)
        for number, rtt in enumerate(reading.rtts_s):
            yield began + number * step, rtt
    elif not reading.rtts_s and reading.fault is None and _CONNECT in reading.phases:
        yield began, reading.phases[_CONNECT]


def _congestion(episode: Episode | None) -> Episode | None:
    return episode if episode is not None and episode.cause in QUEUES else None


def began_at(episode: Episode) -> datetime:
    """Return when an episode began."""
    return datetime.fromtimestamp(episode.start, UTC)


def ended_at(episode: Episode) -> datetime:
    """Return the last moment at which it stood."""
    return datetime.fromtimestamp(episode.end, UTC)


def sentence(episode: Episode) -> str:
    """Say in one line what stands, for the technical detail of a message."""
    side = "our own side of the path" if episode.cause is Cause.NEAR_SIDE else "beyond our references"
    if episode.by_loss:
        return f"{episode.loss:.1%} of {episode.sent} packets lost, {side}"
    queue, floor = episode.peak_s * 1000, episode.floor_s * 1000
    limit = episode.threshold_s * 1000
    return f"queue of up to {queue:.0f} ms above the floor of {floor:.1f} ms (threshold {limit:.0f} ms), {side}"
