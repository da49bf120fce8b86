"""A longer route, or a queue? Pure: no clock, no input or output.

A route's delay is a constant: the minima after a change lie as close together as before it, at another level. A queue
breathes: in labelled congestion on interdomain links the minima of an hour never lay within a tenth of their rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
