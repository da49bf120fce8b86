"""A path's own floor and noise: how fast it is when nothing queues. Pure: no clock, no input or output.

The floor is the 10th percentile of the hourly minima of the last 48 quiet hours: the least of one hour could be one
lucky packet, and a day may have many hours of queueing. Hours in which a queue stood are left out, so a queue of days
does not become the normal.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

DIGITS: Final = 9  # of seconds: nanoseconds
HOURS: Final = 48  # hourly minima kept: the floor survives a peak night and a whole bad day
LOW_SHARE: Final = 0.10  # percentile of the hourly minima
QUIET_BINS: Final = 72  # six hours of quiet bins say how much the minimum moves by itself
NOISE_LEAST_S: Final = 0.00025  # minima of a quiet path move by 0.25 to 0.5 ms; less is not believed
DRIFT_SHARE: Final = 0.5  # of the spread of quiet minima that a slow drift may be
MAD_TO_SIGMA: Final = 1.4826  # median absolute deviation of a normal distribution, in standard deviations


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _median_apart(ordered: Sequence[float], middle: float) -> float:
    """Return the median of how far sorted values lie from their own median.

    The nearest of them stand together, so that halving finds where they begin: most of them need no look.
    """
    count = len(ordered)
    half = (count + 1) // 2
    low, high = 0, count - half
    while low < high:
        place = (low + high) // 2
        if middle - ordered[place] > ordered[place + half] - middle:
            low = place + 1
        else:
            high = place
    apart = max(middle - ordered[low], ordered[low + half - 1] - middle)
    if count % 2:
        return apart
    below = middle - ordered[low - 1] if low else math.inf
    above = ordered[low + half] - middle if low + half < count else math.inf
    return (apart + min(below, above)) / 2


class _Newest:
    """The newest of some values, also sorted: their median is asked for with each new one."""

    __slots__ = ("ordered", "values")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.values = array("d", values)
        self.ordered = array("d", sorted(self.values))  # not a list: four times the memory, in each of many judges

    def push(self, value: float, most: int) -> None:
        """Take in a value, and forget the oldest beyond so many."""
        values, ordered = self.values, self.ordered
        values.append(value)
        insort(ordered, value)
        while len(values) > most:
            del ordered[bisect_left(ordered, values.pop(0))]


class Floor:
    """The level below which a path does not go, and how much its minimum moves above it."""

    __slots__ = (
        "_current",
        "_hour",
        "_hour_s",
        "_hours",
        "_offsets",
        "_quiet",
        "_spreads",
        "_steps",
        "level_s",
        "noise_s",
        "offset_s",
        "spread_s",
        "usual_s",
    )

    def __init__(self, hour_s: float = 3600.0) -> None:
        """Args: hour_s: length of an hour; shorter only in drills that run faster than life."""
        self._hour_s = hour_s
        self._hours = array("d")
        self._hour = -1
        self._current = math.inf
        self._quiet = _Newest()  # minimum above the floor, of the last quiet bins
        self._offsets = _Newest()  # median above the floor, of the same bins
        self._spreads = _Newest()  # 95th percentile above the minimum, of the same bins
        self._steps = _Newest()  # how far a quiet minimum lies from the one before
        self.level_s = math.nan
        self.noise_s = NOISE_LEAST_S
        self.usual_s = 0.0  # how far a quiet bin's minimum lies above the floor
        self.offset_s = 0.0  # how far a quiet bin's median lies above the floor
        self.spread_s = 0.0  # how far its 95th percentile lies above its minimum

    @property
    def hours(self) -> int:
        """How many hours it rests on, the current one included."""
        return len(self._hours) + (self._current < math.inf)

    def see(self, start: float, least_s: float) -> None:
        """Take in the minimum of a bin in which no queue stood, or of any bin while learning."""
        hour = int(start // self._hour_s)
        if hour != self._hour:
            if self._current < math.inf:
                self._hours.append(self._current)
                del self._hours[:-HOURS]
            self._hour, self._current = hour, math.inf
        elif least_s >= self._current:
            return
        self._current = min(self._current, least_s)
        ordered = sorted([*self._hours, self._current])
        self.level_s = ordered[int(LOW_SHARE * (len(ordered) - 1))]

    def see_quiet(self, queue_s: float, median_s: float, spread_s: float) -> None:
        """Take in a quiet bin: how far its minimum and its median lie above the floor, and how wide it is."""
        quiet = self._quiet
        # No clock here is finer, and what is kept of it is written with half the digits.
        queue_s, median_s, spread_s = round(queue_s, DIGITS), round(median_s, DIGITS), round(spread_s, DIGITS)
        if quiet.values:
            self._steps.push(abs(queue_s - quiet.values[-1]), QUIET_BINS - 1)
        quiet.push(queue_s, QUIET_BINS)
        self._offsets.push(median_s, QUIET_BINS)
        self._spreads.push(spread_s, QUIET_BINS)
        middle = self.usual_s = _median(quiet.ordered)
        spread = _median_apart(quiet.ordered, middle)
        steps = _median(self._steps.ordered) / math.sqrt(2) if len(quiet.values) > 1 else spread
        self.noise_s = max(NOISE_LEAST_S, MAD_TO_SIGMA * min(spread, max(steps, DRIFT_SHARE * spread)))
        self.offset_s = _median(self._offsets.ordered)
        self.spread_s = _median(self._spreads.ordered)

    def raised_s(self, median_s: float) -> float:
        """Return how far a bin's median lies above its usual place; NaN stays NaN."""
        return median_s - self.level_s - self.offset_s

    def move_to(self, level_s: float) -> None:
        """Begin again at another level: the path has changed. What is known of its noise stays."""
        del self._hours[:]
        self._hour = -1
        self._current = math.inf
        self._hours.append(level_s)
        self.level_s = level_s

    def state(self) -> Mapping[str, Any]:
        """Return all that is remembered, as JSON can hold it."""
        return {
            "hour_s": self._hour_s,
            "hours": list(self._hours),
            "hour": self._hour,
            "current": None if math.isinf(self._current) else self._current,
            "quiet": list(self._quiet.values),
            "offsets": list(self._offsets.values),
            "spreads": list(self._spreads.values),
            "level": None if math.isnan(self.level_s) else self.level_s,
            "noise": self.noise_s,
            "offset": self.offset_s,
            "usual": self.usual_s,
            "spread": self.spread_s,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Floor:
        """Go on from what `state` returned."""
        floor = cls(state["hour_s"])
        floor._hours = array("d", state["hours"])
        floor._hour = state["hour"]
        floor._current = math.inf if state["current"] is None else state["current"]
        floor._quiet, floor._offsets = _Newest(state["quiet"]), _Newest(state["offsets"])
        floor._steps = _Newest(abs(b - a) for a, b in pairwise(state["quiet"]))
        floor.level_s = math.nan if state["level"] is None else state["level"]
        floor._spreads, floor.spread_s = _Newest(state.get("spreads", ())), state.get("spread", 0.0)
        floor.noise_s, floor.offset_s, floor.usual_s = state["noise"], state["offset"], state["usual"]
        return floor
