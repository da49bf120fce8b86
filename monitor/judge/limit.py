"""The detection limit: which queue would have been found on this path, on these days?

"No congestion" is a claim above a limit, and the limit is the site's own: queues are laid over its quiet stretches and
the judge is asked. A queue of nominal size q is laid as 0.8 to 1.6 times q on each packet, never empty.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from monitor.judge.congestion import Judge
from monitor.judge.episode import Word

TRIALS: Final = 64  # quiet stretches at most that a queue is laid over; all of them have to show it
MINUTES: Final = (15, 20, 30, 60)
TIMES: Final = (1.0, 1.15, 1.29, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # of the path's threshold
LEAST, MOST = 0.8, 1.6  # of the nominal queue, on each packet
AFTER_S: Final = 1200.0  # how long the judge is given after the queue has gone


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet sent: when (seconds since 1970) and its round-trip time in seconds, None when lost."""

    at: float
    rtt_s: float | None


@dataclass(frozen=True, slots=True)
class Quiet:
    """A quiet stretch of a path's own data."""

    state: Mapping[str, Any]  # of the judge when it begins
    packets: Sequence[Packet]


@dataclass(frozen=True, slots=True)
class Limit:
    """The least queue that all trials showed, and how long it must stand for that."""

    queue_s: float
    minutes: float
    trials: int = 0  # quiet stretches of the path's own that a queue was laid over


def detected(stretch: Quiet, queue_s: float, minutes: float, dice: random.Random) -> bool:
    """Say whether a queue laid over a quiet stretch opens an episode."""
    judge = Judge.from_state(stretch.state)
    width = judge.settings.bin_s
    start = stretch.packets[0].at + dice.random() * width
    end = start + minutes * 60
    for packet in stretch.packets:
        if packet.at > end + AFTER_S:
            break
        rtt = packet.rtt_s
        if rtt is not None and start <= packet.at < end:
            rtt += queue_s * dice.uniform(LEAST, MOST)
        said = judge.advance(packet.at // width * width)
        judge.add(packet.at, rtt)
        said += judge.advance(packet.at)
        if any(s.word is Word.OPENED for s in said):
            return True
    return False


def found_share(stretches: Sequence[Quiet], queue_s: float, minutes: float, seed: int = 1) -> float:
    """Return the share of quiet stretches in which a queue of this size and length is found."""
    dice = random.Random(seed)  # noqa: S311  trials, not secrets
    return sum(detected(s, queue_s, minutes, dice) for s in stretches) / len(stretches)


def _always_found(stretches: Sequence[Quiet], queue_s: float, minutes: float, seed: int = 1) -> bool:
    dice = random.Random(seed)  # noqa: S311  trials, not secrets
    return all(detected(s, queue_s, minutes, dice) for s in stretches)


def detection_limit(stretches: Sequence[Quiet], threshold_s: float, minutes: Iterable[float] = MINUTES) -> Limit | None:
    """Return the shortest queue, and of that length the least, that every trial shows; None without quiet data."""
    if not stretches:
        return None
    for length in minutes:
        for times in TIMES:
            queue = round(threshold_s * times * 1000) / 1000
            if _always_found(stretches, queue, length):
                return Limit(queue, length, len(stretches))
    return None
