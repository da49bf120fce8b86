"""How late our own event loop was while probes ran: what a stamp taken in it may be wrong by.

A packet's answer may lie in the kernel while the loop is held up by other work; whatever then reads the clock takes the
wait for the target's. So while at least one probe is under way, a timer asks every few milliseconds how much later
than due it is called. No protocol lives here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

TICK_S: Final = 0.005  # chosen: what holds the loop for less may stay unseen, and no result is doubted for it
LEAST_S: Final = 0.002  # chosen: below this lies the loop's own grain (uvloop counts whole milliseconds)
_KEPT: Final = 1024  # moments of lateness; only those count that none after them exceeds
_OTHER_CLOCK_S: Final = 1.0


class LoopWatch:
    """Measures lateness while something is under way. One a daemon, by `Tools.of(LoopWatch)`."""

    __slots__ = ("_due", "_loop", "_seen", "_timer", "_under_way")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer should be called, monotonic seconds
        self._under_way = 0
        self._seen: deque[tuple[float, float]] = deque(maxlen=_KEPT)  # (when, how late): ever less late

    def enter(self) -> float:
        """Begin to watch for one run; give what is returned to `leave`."""
        now = time.monotonic()
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self._under_way = loop, None, 0
            self._seen.clear()
        self._under_way += 1
        if self._timer is None:
            self._set_timer(loop, now)
        return now

    def leave(self, began: float) -> float:
        """End the run that `enter` began; return the greatest lateness of the loop since, 0 if none worth a word."""
        self._under_way -= 1
        now = time.monotonic()
        # A timer that is due and not called yet: whoever asks may be called before it in the same turn.
        worst = min(now - self._due, now - began) if self._timer is not None else 0.0
        for when, late in reversed(self._seen):
            if when < began:
                break
            worst = max(worst, min(late, when - began))  # what was late before the run began did not touch it
        if not self._under_way and self._timer is not None:
            # Else it would wake an idle process once more after every probe.
            self._timer.cancel()
            self._timer = None
        return worst if worst >= LEAST_S else 0.0

    def _set_timer(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        if abs(loop.time() - now) > _OTHER_CLOCK_S:
            return  # a loop with a time of its own simulates: nothing is late in it
        # On the grid of the scheduler's ticks, so that waking for it is mostly waking for something else as well.
        self._due = (now // TICK_S + 1) * TICK_S
        self._timer = loop.call_later(self._due - now, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        late = now - self._due
        if late >= LEAST_S:
            while self._seen and self._seen[-1][1] <= late:
                self._seen.pop()
            self._seen.append((now, late))
        self._timer = None
        if self._under_way > 0:
            self._set_timer(loop, now)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
