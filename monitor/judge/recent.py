"""The bins of the last hour, as the judge of congestion looks back on them. Pure: no clock, no input or output."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from monitor.judge.bins import Bin
from monitor.judge.floor import DIGITS, Floor

_WIDTH: Final = 8  # numbers of a bin, in the order of Kept
_END: Final = 1
_SENT: Final = 2
_LOST: Final = 3


@dataclass(frozen=True, slots=True)
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
    """A bounded look back, oldest first. Rows of plain numbers take a quarter of objects."""

    __slots__ = ("_most", "_rows")

    def __init__(self, length: int) -> None:
        """Args: length: how many bins are remembered."""
        self._most = length * _WIDTH
        self._rows = array("d")

    @property
    def bins(self) -> list[Kept]:
        """All that are remembered."""
        return [self._kept(at) for at in range(0, len(self._rows), _WIDTH)]

    @property
    def last(self) -> Kept | None:
        """The newest; None before the first."""
        return self._kept(len(self._rows) - _WIDTH) if self._rows else None

    def _kept(self, at: int) -> Kept:
        start, end, sent, lost, *rest = self._rows[at : at + _WIDTH]
        return Kept(start, end, int(sent), int(lost), *rest)

    def see(self, found: Bin, queue_s: float) -> None:
        """Remember a bin and how far its minimum lay above the floor."""
        sent, queue_s = found.sent - found.silent, round(queue_s, DIGITS)
        row = (found.start, found.end, sent, found.lost, found.least_s, queue_s, found.median_s, found.p95_s)
        self._remember(row)

    def _remember(self, row: Sequence[float]) -> None:
        self._rows.extend(row)
        del self._rows[: -self._most]

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
        rows = self._rows
        sent = lost = 0.0
        start = 0.0
        for at in range(len(rows) - _WIDTH, -1, -_WIDTH):
            start = rows[at]
            sent += rows[at + _SENT]
            lost += rows[at + _LOST]
            if sent >= packets and rows[_END - _WIDTH] - start >= seconds:
                break
        return int(sent), int(lost), start

    def state(self) -> list[list[float | None]]:
        """Return all that is remembered, as JSON can hold it."""
        rows = ((k.start, k.end, k.sent, k.lost, k.least_s, k.queue_s, k.median_s, k.p95_s) for k in self.bins)
        return [[None if v != v else v for v in row] for row in rows]  # noqa: PLR0124  NaN alone differs from itself

    def restore(self, state: Iterable[Iterable[Any]]) -> None:
        """Go on from what `state` returned."""
        for row in state:
            values: list[float] = [math.nan if v is None else v for v in row]
            # One of an older program knew less of a bin.
            self._remember([*values, *[math.nan] * (_WIDTH - len(values))])
