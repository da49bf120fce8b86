"""Queues on the way to a check's target: feeds live results to the judge of congestion and says what changed.

Every reading that times the network is a witness: the echoes of a ping, or the handshake of a connection (RFC 9293:
one exchange with the kernel of the other end). How long a server takes to answer is not, and is never fed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from monitor.judge.congestion import Judge
from monitor.judge.episode import Cause, Episode, Standing, Word
from monitor.model import Result

QUEUES: Final = frozenset({Cause.CONGESTION, Cause.NEAR_SIDE})  # causes that are congestion; a longer route is not
_CONNECT: Final = "connect"


class Queue:
    """The judge of one check's path, and the episode it believes in."""

    __slots__ = ("_bin", "episode", "judge")

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Args: state: what `state` returned before a restart."""
        self.judge = Judge.from_state(state) if state else Judge()
        self.episode = _congestion(self.judge.episode)
        self._bin = -1

    @property
    def suspected(self) -> bool:
        """Whether a queue seems to stand that is not confirmed."""
        return self.judge.suspected_at is not None and self.episode is None

    def take(self, result: Result, references: Sequence[Standing]) -> Episode | None:
        """Take in one observed result; return the congestion that it closed, if it did.

        Args:
            result: of this check, later than all before.
            references: how the near references stand: a queue that they have too is on our side.
        """
        said = []
        for at, rtt_s in packets(result):
            said += self.judge.advance(at, references)  # closes bins before the packet counts for the next
            self.judge.add(at, rtt_s)
        said += self.judge.advance(result.started_at.timestamp() + result.reading.duration_s, references)
        self.episode = _congestion(self.judge.episode)
        closed = [_congestion(s.episode) for s in said if s.word is Word.CLOSED]
        return closed[-1] if closed else None

    def clock_set(self) -> None:
        """Drop the bin under way: the clock was set, and its packets are no longer of one time."""
        state = dict(self.judge.state())
        state["binner"] = {"width": self.judge.settings.bin_s}
        self.judge, self._bin = Judge.from_state(state), -1

    def worth_keeping(self, at: datetime) -> bool:
        """Whether a bin has been closed since the last call; between bins a restart may forget."""
        number = int(at.timestamp() // self.judge.settings.bin_s)
        closed, self._bin = number != self._bin, number
        return closed

    def state(self) -> Mapping[str, Any]:
        """Return all that is remembered, as JSON can hold it."""
        return self.judge.state()


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
