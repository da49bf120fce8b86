"""A longer route, or a queue? Pure: no clock, no input or output.

A route's delay is a constant: the minima after a change lie as close together as before it, at another level. A queue
breathes: in labelled congestion on interdomain links the minima of an hour never lay within a tenth of their rise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from monitor.judge.floor import Floor
from monitor.judge.recent import Kept

SHIFT_SHARE: Final = 0.25  # of the rise, by which the median may have risen more or less than the minimum
THIN_BIN: Final = 7  # packets up to which a bin's minimum says little more than its median
HOURS_FLAT: Final = 6  # hourly minima that keep to a level are a route, even where the bins are too noisy to tell
HOURS_NEVER_BACK: Final = 24  # a day whose quietest hours did not come back to the floor
SHARE_NEVER_BACK: Final = 0.25  # and kept within this share of the rise
SHIFT_NOISES: Final = 6.0  # or by so many standard deviations of the path's quiet minima
WIDER_TIMES: Final = 1.15  # as wide as before may packets lie on another route
WIDER_SHARE: Final = 0.15  # and wider by this share of the shift
WIDER_NOISES: Final = 3.0
WIDER_LEAST_S: Final = 0.002  # or by this
BINS_MANY: Final = 6  # bins whose middle one says how wide they are; of fewer the narrowest does
CLEAR_SHARE: Final = 0.25  # of the shift, that the quiet path's packets may lie apart for it to be plain to see
FILLED_SHARE: Final = 0.4  # of the shift: who was less late than this met a queue that was filling
NOISY_TIMES: Final = 3  # a path too noisy to tell in an hour is asked for as many
IQR_OF_SIGMA: Final = 1.349  # interquartile range of a normal distribution, in standard deviations


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range, quartiles interpolated."""
    ordered = sorted(values)
    return _quantile(ordered, 0.75) - _quantile(ordered, 0.25)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return sorted(values)[len(values) // 2]


def is_flat(minima: Sequence[float], rise_s: float, noise_s: float, share: float) -> bool:
    """Whether minima keep to a level as a route does.

    Args:
        minima: of the bins of an hour or more, seconds.
        rise_s: how far they lie from the old level.
        noise_s: standard deviation of the path's minima when it is quiet.
        share: of the rise within which the middle half of the minima must lie; a path that is noisier than that by
            itself may be as noisy as it was.
    """
    return spread(minima) <= max(share * abs(rise_s), IQR_OF_SIGMA * noise_s)


def keeps_level(kept: Sequence[Kept], rise_s: float, noise_s: float, share: float) -> bool:
    """Whether the bins of an hour keep to a level as a route does."""
    if is_flat([k.least_s for k in kept], rise_s, noise_s, share):
        return True
    # Of few packets the least is as much chance as the middle one: either may show the level.
    return all(k.sent <= THIN_BIN for k in kept) and is_flat([k.median_s for k in kept], rise_s, noise_s, share)


def shifted(kept: Sequence[Kept], level_s: float, before_s: float, floor: Floor) -> bool:
    """Whether the middle packets moved as far as the fastest: a queue spreads them, a route does not.

    Args:
        kept: the bins at the new level.
        level_s: the middle of their minima.
        before_s: the floor before.
        floor: how the path was when it was quiet.
    """
    least = level_s - before_s - floor.usual_s
    median = middle([k.median_s for k in kept]) - before_s - floor.offset_s
    return abs(median - least) <= max(SHIFT_SHARE * abs(least), SHIFT_NOISES * floor.noise_s)


def as_narrow(kept: Sequence[Kept], shift_s: float, floor: Floor) -> bool:
    """Whether packets lie about as near to each other as they did: what queues comes late by more and by less."""
    spreads = sorted(k.p95_s - k.least_s for k in kept if not math.isnan(k.p95_s))
    if not spreads or not floor.spread_s:
        return True
    share = SHIFT_SHARE
    if all(k.sent > THIN_BIN for k in kept):
        share = WIDER_SHARE
        least = middle([k.least_s for k in kept]) - floor.level_s - floor.usual_s
        median = middle([k.median_s for k in kept]) - floor.level_s - floor.offset_s
        if abs(median - least) > max(share * abs(shift_s), WIDER_NOISES * floor.noise_s):
            return False
    # Three bins of four packets each: one of them may hold a packet that was late by itself, and so may two.
    found = spreads[len(spreads) // 2] if len(spreads) >= BINS_MANY else spreads[0]
    return found <= WIDER_TIMES * floor.spread_s + max(share * abs(shift_s), WIDER_LEAST_S)


def never_back(hours: Sequence[float], threshold_s: float, share: float, *, whole_day: bool = False) -> bool:
    """Whether an episode's hours, rather than its bins, keep to a level away from the floor.

    Args:
        hours: the least rise of each whole hour so far; the first is not whole.
        threshold_s: what counts as away.
        share: of the rise within which the middle half of six hours must lie; of a whole day, with its quiet night,
            more is allowed.
        whole_day: six hours do not suffice.
    """
    whole = hours[1:]
    return (not whole_day and _away(whole[-HOURS_FLAT:], HOURS_FLAT, threshold_s, share)) or _away(
        whole[-HOURS_NEVER_BACK:], HOURS_NEVER_BACK, threshold_s, SHARE_NEVER_BACK
    )


def _away(hours: Sequence[float], count: int, threshold_s: float, share: float) -> bool:
    return len(hours) == count and min(hours) > threshold_s and is_flat(hours, middle(hours), 0.0, share)
