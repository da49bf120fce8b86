"""Other witnesses of congestion than packets of our own: how full an interface is, and how fast a download still is.

A full interface is congestion with a number, counted by the router itself. A download that falls below half of what
this path usually carries is a suspicion only: the server may be slow. Pure: no clock, no input or output; bounded.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from statistics import median
from typing import Any, Final

from probes.base import Reading

ROUNDS: Final = 3  # in a row: one busy minute is no congestion
FULL: Final = 0.95  # of the capacity; from here on a queue grows whatever the traffic
EASED: Final = 0.85
USUAL: Final = 48  # downloads whose median is what the path usually carries
USUAL_LEAST: Final = 12  # without which nothing is said
SLOW_SHARE: Final = 0.5
_LOADS: Final = (("in", "in_load_ratio"), ("out", "out_load_ratio"))
_RATE: Final = "rate_bps"


class Signals:
    """What one check has said of load and throughput. Feed good readings in order of time."""

    __slots__ = ("_eased", "_first", "_full", "_slow", "_usual", "full_since", "load", "rate_share", "side")

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Args: state: what `state` returned before a restart."""
        state = state or {}
        counts: tuple[int, int, int] = state.get("counts", (0, 0, 0))
        self._full, self._eased, self._slow = counts
        self._first: float = state.get("first", 0.0)  # when the row of full rounds began
        self._usual = array("d", state.get("usual", ()))
        self.full_since: float | None = state.get("full_since")  # since when an interface is full
        self.load: float = state.get("load", 0.0)
        self.side: str = state.get("side", "")
        self.rate_share: float = state.get("rate_share", 1.0)  # of the usual rate, by the last download

    @property
    def slow(self) -> bool:
        """Whether downloads are far below what this path usually carries."""
        return self._slow >= ROUNDS

    @property
    def idle(self) -> bool:
        """Whether there is nothing that a restart must not forget."""
        return not (self._full or self._slow or self._usual or self.full_since is not None)

    def take(self, at: float, reading: Reading) -> bool:
        """Take in a good reading that began at `at`; return whether an interface has become full or has eased."""
        values = reading.values
        if _RATE in values:
            self._take_rate(values[_RATE])
        loads = [(values[name], side) for side, name in _LOADS if name in values]
        return self._take_load(at, *max(loads)) if loads else False

    def _take_load(self, at: float, load: float, side: str) -> bool:
        before = self.full_since
        self._first = at if load >= FULL and not self._full else self._first
        self._full = min(self._full + 1, ROUNDS) if load >= FULL else 0
        self._eased = min(self._eased + 1, ROUNDS) if load < EASED else 0
        if load >= FULL:
            self.load, self.side = load, side
        if before is None and self._full >= ROUNDS:
            self.full_since = self._first
        elif before is not None and self._eased >= ROUNDS:
            self.full_since = None
        return (before is None) != (self.full_since is None)

    def _take_rate(self, rate: float) -> None:
        known = len(self._usual) >= USUAL_LEAST
        usual = median(self._usual) if known else 0.0
        self.rate_share = rate / usual if usual else 1.0
        low = known and self.rate_share < SLOW_SHARE
        self._slow = min(self._slow + 1, ROUNDS) if low else 0
        if not low:  # what is slow does not become the usual
            self._usual.append(rate)
            del self._usual[:-USUAL]

    def state(self) -> Mapping[str, Any]:
        """Return all that is remembered, as JSON can hold it."""
        return {
            "counts": [self._full, self._eased, self._slow],
            "first": self._first,
            "usual": list(self._usual),
            "full_since": self.full_since,
            "load": self.load,
            "side": self.side,
            "rate_share": self.rate_share,
        }

    def sentence(self) -> str:
        """Say in one line how full the interface is, for the technical detail of a message."""
        return f"interface load {self.load * 100:.0f} % ({self.side})"


def slowness(reading: Reading, allowed_s: float | None) -> str:
    """Say why a good answer is called slow: which part of it took long. Empty when it was not slow by time.

    A slow server (long processing, short connect) is never congestion; a slow connect is the network's.
    """
    response_s = reading.response_s
    if allowed_s is None or response_s is None or response_s <= allowed_s:
        return ""
    phases = {name: s for name, s in reading.phases.items() if s > 0}
    longest = max(phases, key=phases.__getitem__, default="")
    parts = ", ".join(f"{name} {s * 1000:.0f} ms" for name, s in phases.items())
    blamed = f", most of it {longest}" if longest else ""
    return f"slow answer: {response_s * 1000:.0f} ms of {allowed_s * 1000:.0f} ms{blamed}" + (
        f" ({parts})" if parts else ""
    )
