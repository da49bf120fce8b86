"""What every part of the bench gives: rows with a ratio, and the words said meanwhile."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result. `ratio` is ours / peer; None where there is no peer."""

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    ratio: float | None
    detail: str


def row(name: str, unit: str, ours: float, peer: float | None = None, peer_name: str = "", *, detail: str = "") -> Row:
    """Make a row and work out its ratio."""
    return Row(name, unit, ours, peer, peer_name, ours / peer if peer else None, detail)


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def say(text: str) -> None:
    """Tell what is being done now; figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)
