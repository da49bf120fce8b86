"""Round-trip times gathered into bins: what each five minutes say about delay and loss.

Pure: no clock, no input or output. The minimum of a bin removes random queueing and processing: a raised minimum is a
queue that stands (RFC 8289 section 3). A lost packet has no delay; it never becomes a large number (RFC 2681).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

ANSWERS_LEAST: Final = 4  # answers without which nothing is said of delay; chosen: one packet a minute, one lost
BINS_JOINED: Final = 6  # a thinly probed path waits this many bins for its answers; then they are not observed
KEPT: Final = 64  # round-trip times kept of a bin for its quantiles; the minimum and the counts are of all
OUTAGE_RUN: Final = (
    5  # more packets than this lost in one run are an outage (judged elsewhere), not the loss of a queue
)


class Bin(NamedTuple):
    """What was seen in [start, end), seconds since 1970. Delays in seconds; NaN when the bin is not usable."""

    start: float
    end: float
    sent: int
    lost: int  # packets lost one by one or few in a row
    silent: int  # packets lost in long runs: outages
    least_s: float
    median_s: float
    p95_s: float

    @property
    def usable(self) -> bool:
        """Whether enough answers came to speak of delay."""
        return not math.isnan(self.least_s)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


class Binner:
    """Gathers one path's packets into bins. Bounded: keeps a sample of the current bin only."""

    __slots__ = ("_answers", "_kept", "_least", "_lost", "_run", "_sent", "_silent", "_skip", "_start", "end", "width")

    def __init__(self, width: float) -> None:
        """Args: width: of a bin, seconds."""
        self.width = width
        self._start = -math.inf
        self.end = -math.inf  # of the bin under way
        self._run = 0  # packets lost since the last answer
        self._clear()

    def _clear(self) -> None:
        self._sent = self._lost = self._silent = self._answers = 0
        self._least = math.inf
        self._kept = array("d")
        self._skip = 1  # every so many answers one is kept

    def add(self, at: float, rtt_s: float | None) -> None:
        """Take in one packet sent at `at`; None was lost. Close what ended before with `closed` first."""
        if self.end == -math.inf:
            self._begin(at)
        self._sent += 1
        if rtt_s is None:
            self._run += 1
            return
        if self._run:
            self._settle_run()
        self._answers += 1
        if rtt_s < self._least:  # noqa: PLR1730  half the cost of min() on the busiest line of the judge
            self._least = rtt_s
        if self._skip == 1 or self._answers % self._skip == 0:
            self._kept.append(rtt_s)
            if len(self._kept) > KEPT:
                del self._kept[::2]
                self._skip *= 2

    def add_answers(self, rtts: Sequence[float]) -> None:
        """Take in answers of the bin under way, with no loss between them, as `add` would one by one."""
        if self._run:
            self._settle_run()
        self._sent += len(rtts)
        self._least = min(self._least, min(rtts))
        place = 0
        while place < len(rtts):
            skip = self._skip
            first = place + -(self._answers + 1) % skip
            room = KEPT + 1 - len(self._kept)
            self._kept.extend(rtts[first : first + room * skip : skip])
            until = len(rtts)
            if len(self._kept) > KEPT:
                until = first + (room - 1) * skip + 1
                del self._kept[::2]
                self._skip *= 2
            self._answers += until - place
            place = until

    def _settle_run(self) -> None:
        if self._run > OUTAGE_RUN:
            self._silent += self._run
        else:
            self._lost += self._run
        self._run = 0

    def _begin(self, at: float) -> None:
        self._start = math.floor(at / self.width) * self.width
        self.end = self._start + self.width

    def close(self, now: float) -> Bin | None:
        """Return the bin that has ended by `now`, as `closed` would give it; None, and nothing done: ask that.

        Most bins are alone and have answers enough, and this is the cheaper way to them.
        """
        end = self.end
        if self._answers < ANSWERS_LEAST or now >= end + self.width:
            return None
        done = self._close()
        self._start, self.end = end, end + self.width
        self._clear()
        return done

    def closed(self, now: float) -> Iterator[Bin]:
        """Give the bins that have ended by `now`, oldest first. A span without a packet is one bin, not usable."""
        while now >= self.end > -math.inf:
            waited = self.end - self._start
            if 0 < self._answers < ANSWERS_LEAST and waited < BINS_JOINED * self.width:
                self.end += self.width
                continue
            if not self._sent and now - self.end >= self.width:
                self.end += math.floor((now - self.end) / self.width) * self.width
            done = self._close()
            self._start, self.end = self.end, self.end + self.width
            self._clear()
            yield done

    def _close(self) -> Bin:
        if self._run > OUTAGE_RUN:
            self._settle_run()
        if self._answers < ANSWERS_LEAST:
            return Bin(self._start, self.end, self._sent, self._lost, self._silent, math.nan, math.nan, math.nan)
        kept = sorted(self._kept)
        return Bin(
            self._start,
            self.end,
            self._sent,
            self._lost,
            self._silent,
            self._least,
            kept[len(kept) // 2],
            kept[math.ceil(0.95 * len(kept)) - 1],
        )

    def state(self) -> Mapping[str, Any]:
        """Return all that is remembered, as JSON can hold it; nothing of a bin that has not begun."""
        if self.end == -math.inf:
            return {"width": self.width}
        return {
            "width": self.width,
            "span": [self._start, self.end],
            "counts": [self._sent, self._lost, self._silent, self._answers, self._run, self._skip],
            "kept": list(self._kept),
            "least": self._least if self._answers else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Binner:
        """Go on from what `state` returned."""
        binner = cls(state["width"])
        if "span" in state:
            binner._start, binner.end = state["span"]
            binner._sent, binner._lost, binner._silent, binner._answers, binner._run, binner._skip = state["counts"]
            binner._kept = array("d", state["kept"])
            binner._least = math.inf if state["least"] is None else state["least"]
        return binner
