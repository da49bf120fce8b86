"""The bins of the last hour, as the judge of congestion looks back on them. Pure: no clock, no input or output."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from monitor.judge.bins import Bin
from monitor.judge.floor import DIGITS, Floor


@dataclass(slots=True)
class Kept:
    """What is remembered of a bin of the last hour."""

    start: float
    end: float
    sent: int
    lost: int
    least_s: float  # NaN, like the next three, when not usable
    queue_s: float  # of the minimum above the floor
    median_s: float
    p95_s: float = math.nan


class Recent:
    """A bounded look back, oldest first."""

    __slots__ = ("_length", "bins")

    def __init__(self, length: int) -> None:
        """Args: length: how many bins are remembered."""
        self._length = length
        self.bins: list[Kept] = []  # an empty deque alone takes more than twelve of them

    def see(self, found: Bin, queue_s: float) -> Kept:
        """Remember a bin and how far its minimum lay above the floor."""
        sent, queue_s = found.sent - found.silent, round(queue_s, DIGITS)
        kept = Kept(found.start, found.end, sent, found.lost, found.least_s, queue_s, found.median_s, found.p95_s)
        self.bins.append(kept)
        del self.bins[: -self._length]
        return kept

    def usable(self, since: float) -> list[Kept]:
        """Return the usable bins that lie whole after a moment."""
        return [k for k in self.bins if k.start >= since and not math.isnan(k.least_s)]

    def built_from(self, first: float, floor: Floor, raised_s: float, limit_s: float) -> float:
        """Return where a queue that stands from `first` began to build up.

        Args:
            first: the first packet of those that are all slow.
            floor: of the path.
            raised_s: how far a bin's median must lie above its usual place to be part of the building up.
            limit_s: how long before `first` at most.
        """
        start = first
        for kept in reversed(self.bins):
            if kept.start >= first:
                continue
            if kept.end < start or not floor.raised_s(kept.median_s) > raised_s or kept.start < first - limit_s:
                break
            start = kept.start
        return start

    def counts(self, since: float) -> tuple[int, int]:
        """Return packets sent and lost in bins that end after a moment."""
        late = [k for k in self.bins if k.end > since]
        return sum(k.sent for k in late), sum(k.lost for k in late)

    def loss_window(self, packets: int, seconds: float) -> tuple[int, int, float]:
        """Return packets sent and lost, and since when, over the shortest window of so many packets and seconds."""
        sent = lost = 0
        start = 0.0
        for kept in reversed(self.bins):
            sent += kept.sent
            lost += kept.lost
            start = kept.start
            if sent >= packets and self.bins[-1].end - start >= seconds:
                break
        return sent, lost, start

    def state(self) -> list[list[float | None]]:
        """Return all that is remembered, as JSON can hold it."""
        rows = ((k.start, k.end, k.sent, k.lost, k.least_s, k.queue_s, k.median_s, k.p95_s) for k in self.bins)
        return [[None if v != v else v for v in row] for row in rows]  # noqa: PLR0124  NaN alone differs from itself

    def restore(self, state: Iterable[Iterable[Any]]) -> None:
        """Go on from what `state` returned."""
        for row in state:
            values: list[Any] = [math.nan if v is None else v for v in row]
            self.bins.append(Kept(*values))
        del self.bins[: -self._length]
