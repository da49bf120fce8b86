"""One run of a probe that needs no task: begun, ended by whatever comes in, called off, or out of time.

The same as `probes.base.measure`, for probes that can say beforehand what they will do (`ProbeType.prepare`), at half
its cost: no task, no timer of its own, no turn of the loop between the packet and the Reading. No protocol lives here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from probes.base import (
    Fault,
    Launch,
    Measurement,
    ProbeType,
    Reading,
    Stop,
    name_fault,
    one_line,
    reading_of,
    timed_out,
)
from probes.deadlines import Deadlines
from probes.loop_watch import LoopWatch


class Flight:
    """One run under way. Whoever wants its Reading says in a subclass what becomes of it: `landed`."""

    __slots__ = ("_began", "_deadlines", "_entered", "_grain", "_m", "_over", "_probe", "_stop", "_watch")

    def start(self, probe: ProbeType, launch: Launch, m: Measurement, loop: asyncio.AbstractEventLoop) -> bool:
        """Begin; False when the probe wants a task this time. `landed` is called later, never within."""
        self._probe = probe
        self._m = m
        self._over = False
        self._stop: Stop | None = None
        self._watch = m.tools.of(LoopWatch)
        self._deadlines = m.tools.of(Deadlines)
        self._entered = self._watch.enter()
        self._began = time.perf_counter()
        self._grain = self._deadlines.add(loop, self, m.timeout_s)
        try:
            self._stop = launch(m, self._done)
        except Exception as exc:  # noqa: BLE001  as measure() has it: whatever a probe raises is its outcome
            # Within the call that starts it, a run may not end: thousands that fail at once would nest.
            loop.call_soon(self._done, _raise, exc)
            self._stop = _nothing
        if self._stop is None:
            self.cancel()
            return False
        return True

    def _done(self, finish: Callable[..., None], *args: object) -> None:
        """End the run by what the last step finds or raises."""
        if self._over:
            return
        if self._stop is None:  # within the launch
            asyncio.get_running_loop().call_soon(self._done, finish, *args)
            return
        self._over = True
        self._deadlines.drop(self, self._grain)
        m = self._m
        fault: Fault | None = None
        detail = ""
        try:
            finish(*args)
            if m.remark:
                detail = one_line(m.remark)
        except Exception as exc:  # noqa: BLE001  a bug in a probe must not stop the others; it is logged with its trace
            fault, detail = name_fault(exc, self._probe)
        self._land(fault, detail)

    def expire(self) -> None:
        """End the run: its time is over."""
        if not self._over:
            self._stop_it()
            self._land(*timed_out(self._m))

    def cancel(self) -> None:
        """Call the run off: nothing comes of it."""
        if not self._over:
            self._stop_it()
            self._watch.leave(self._entered)

    def _stop_it(self) -> None:
        self._over = True
        self._deadlines.drop(self, self._grain)
        if self._stop is not None:
            self._stop()

    def _land(self, fault: Fault | None, detail: str) -> None:
        self.landed(reading_of(self._m, fault, detail, self._began, self._watch.leave(self._entered)))

    def landed(self, reading: Reading) -> None:
        """Take what the run measured; called once, unless it is called off."""
        raise NotImplementedError


def _raise(exc: Exception) -> None:
    raise exc


def _nothing() -> None:
    """Stop what never began."""
