"""Results over time, a point a bin: what the charts are drawn from. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from config.plan import Window


@dataclass(frozen=True, slots=True)
class Point:
    """What the results of one check said in one bin; times are None where no good answer came."""

    start: datetime
    good: int
    bad: int
    blind: int  # we could not measure
    low_s: float | None  # the fastest answer
    median_s: float | None
    p95_s: float | None
    high_s: float | None
    echoes_sent: int
    echoes_lost: int


@dataclass(slots=True)
class Tally:
    """A bin that is being filled."""

    good: int = 0
    bad: int = 0
    blind: int = 0
    micros: array[int] = field(default_factory=lambda: array("I"))  # response times of the good ones
    echoes_sent: int = 0
    echoes_lost: int = 0


def point(start: datetime, tally: Tally) -> Point:
    """Close a bin."""
    ordered = [us / 1e6 for us in sorted(tally.micros)]
    return Point(
        start=start,
        good=tally.good,
        bad=tally.bad,
        blind=tally.blind,
        low_s=ordered[0] if ordered else None,
        median_s=_nearest(ordered, 50),
        p95_s=_nearest(ordered, 95),
        high_s=ordered[-1] if ordered else None,
        echoes_sent=tally.echoes_sent,
        echoes_lost=tally.echoes_lost,
    )


def _nearest(ordered: Sequence[float], percent: int) -> float | None:
    """Return the smallest value that so many percent of the values do not exceed (RFC 2330 section 11.3)."""
    return ordered[max(1, -(-len(ordered) * percent // 100)) - 1] if ordered else None


class Bins:
    """Takes results roughly in the order of their time and gives points, without keeping more than the newest bins."""

    def __init__(self, period: Window, step: timedelta, disorder: timedelta) -> None:
        """Args: step: width of a bin. disorder: how much older than its forerunner a result may be."""
        self._period = period
        self._step = step
        self._disorder = disorder
        self._open: dict[int, dict[str, Tally]] = {}
        self._closed: dict[str, list[Point]] = {}
        self._due = period.start + step + disorder

    def tally(self, check: str, at: datetime) -> Tally:
        """Return the bin that a result of a check belongs to; `at` lies within the period."""
        if at >= self._due:
            self._close(until=(at - self._disorder - self._period.start) // self._step)
            self._due = at + self._step
        checks = self._open.setdefault((at - self._period.start) // self._step, {})
        found = checks.get(check)
        if found is None:
            found = checks[check] = Tally()
        return found

    def points(self) -> dict[str, list[Point]]:
        """Close what is open and return the points of every check, in order of time; empty bins are left out."""
        self._close(until=None)
        return {check: sorted(points, key=lambda p: p.start) for check, points in self._closed.items()}

    def _close(self, until: int | None) -> None:
        for index in self._ripe(until):
            start = self._period.start + index * self._step
            for check, tally in self._open.pop(index).items():
                self._closed.setdefault(check, []).append(point(start, tally))

    def _ripe(self, until: int | None) -> Iterator[int]:
        yield from sorted(i for i in self._open if until is None or i < until)
