"""What is to happen later unless something else happens first: time-outs by the thousand, and one timer for all.

Nearly every time-out of a probe is called off. A timer of the loop's for each would cost more than all else that is
done for it; here it costs a place in a set. Whoever waits is told at the earliest when asked for, and at most three
grains later. No protocol lives here.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Final, Protocol

_GRAINS_A_SECOND: Final = 100  # on the scheduler's grid of 10 ms


class Waits(Protocol):
    """Something with a time-out; compared by identity."""

    def expire(self) -> None:
        """Act: the time is over."""


class Deadlines:
    """The time-outs of one event loop. Get the one of a daemon by `Tools.of(Deadlines)`."""

    __slots__ = ("_loop", "_order", "_timer", "_timer_at", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, set[Waits]] = {}  # by grain
        self._order: list[int] = []  # a heap of the same grains
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0  # the grain it is set to

    def add(self, loop: asyncio.AbstractEventLoop, item: Waits, delay_s: float) -> int:
        """Let an item expire after a delay; give what is returned to `drop`."""
        if loop is not self._loop:
            self.close()
            self._loop = loop
        # A loop's clock may be that of its last turn, a few milliseconds ago: never too early by that.
        grain = int((loop.time() + delay_s) * _GRAINS_A_SECOND) + 2
        found = self._waiting.get(grain)
        if found is None:
            found = self._waiting[grain] = set()
            heapq.heappush(self._order, grain)
            if self._timer is None or grain < self._timer_at:
                self._set_timer(loop)
        found.add(item)
        return grain

    def drop(self, item: Waits, grain: int) -> None:
        """Call an item off; one that has expired or was dropped already is none the worse."""
        found = self._waiting.get(grain)
        if found is not None:
            found.discard(item)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._order:
            self._timer_at = self._order[0]
            self._timer = loop.call_at(self._timer_at / _GRAINS_A_SECOND, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        due = int(loop.time() * _GRAINS_A_SECOND)
        try:
            # Grains that nobody waits for any more go with those that are over: else each would wake us for nothing.
            while self._order and (self._order[0] <= due or not self._waiting[self._order[0]]):
                items = self._waiting[self._order[0]]
                while items:
                    items.pop().expire()
                del self._waiting[heapq.heappop(self._order)]
        finally:
            self._timer = None
            self._set_timer(loop)

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._order.clear()
