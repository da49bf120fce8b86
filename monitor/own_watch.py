"""Do we ourselves lose time? Three clocks side by side tell a stall, a sleep and a set wall clock from one another.

The monotonic clock stops while the machine is suspended, the one since boot goes on, and the wall clock is what
somebody can set. What passed unnoticed between two looks was not observed, whatever the targets did meanwhile.
`compare` is pure; `OwnWatch` reads the clocks. Sources: clock_gettime(2), adjtimex(2).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from monitor.board import Board
from probes.own_clock import ClockState, clock_state

log = logging.getLogger(__name__)

TICK_S: Final = 0.5  # between two looks; so exact is the begin of what is found
STALL_S: Final = 2.0  # a look that comes so much too late: stopped, starved, or held up by something that blocks
ASLEEP_S: Final = 1.0  # time since boot runs on by so much more than monotonic time: the machine slept
STEP_S: Final = 0.5  # the wall clock moved by so much against the time since boot: it was set
SLEW: Final = 0.001  # chosen: twice what the kernel slews (500 ppm); over a long sleep that is no step
KERNEL_EVERY_S: Final = 16.0  # how often the kernel is asked for the state of its clock
UNKEPT_S: Final = 600.0  # a clock that nobody keeps for so long is worth a warning; it is so for minutes after any boot
ERROR_S: Final = 1.0  # a clock that may be wrong by more than this is worth one as well


class Kind(StrEnum):
    """What happened to us. The values are causes of a gap and words of an incident."""

    STALL = "stall"  # the process or its event loop stood still
    SUSPEND = "suspend"  # the machine slept
    CLOCK_STEP = "clock-step"  # the wall clock was set


class Clocks(NamedTuple):
    """One instant on three clocks, in nanoseconds."""

    wall_ns: int  # CLOCK_REALTIME
    steady_ns: int  # CLOCK_MONOTONIC: stands while the machine sleeps
    boot_ns: int  # CLOCK_BOOTTIME: never stands, cannot be set


@dataclass(frozen=True, slots=True)
class Lapse:
    """A span of the wall clock that was not observed, and is over."""

    kind: Kind
    start: datetime  # UTC; for a clock set back the earlier of its two readings as well
    end: datetime
    seconds: float  # how long it lasted; for a step, how far the clock was moved: below 0 is back

    @property
    def detail(self) -> str:
        """Name it for an incident; a step with how far the clock was moved, in seconds."""
        return f"{self.kind} {self.seconds:+.1f}" if self.kind is Kind.CLOCK_STEP else self.kind.value


def read_clocks() -> Clocks:
    """Read the three clocks at once."""
    return Clocks(
        time.clock_gettime_ns(time.CLOCK_REALTIME), time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    )


def compare(before: Clocks, after: Clocks, due_s: float = TICK_S) -> list[Lapse]:
    """Say what happened between two looks that should have been at most `due_s` apart; in order of time.

    Times are by the wall clock as it stood: what came before a step by the old one, the step from the old to the new.
    """
    steady_s = (after.steady_ns - before.steady_ns) / 1e9
    boot_s = (after.boot_ns - before.boot_ns) / 1e9
    step_s = (after.wall_ns - before.wall_ns) / 1e9 - boot_s
    was = _moment(before.wall_ns)
    unset = was + timedelta(seconds=boot_s)  # what the wall clock would show now, had nobody set it
    found: list[Lapse] = []
    if boot_s - steady_s >= ASLEEP_S:
        found.append(Lapse(Kind.SUSPEND, was, unset, boot_s))
    elif steady_s - due_s >= STALL_S:
        found.append(Lapse(Kind.STALL, was, unset, steady_s))
    if abs(step_s) >= STEP_S + SLEW * boot_s:
        now = _moment(after.wall_ns)
        found.append(Lapse(Kind.CLOCK_STEP, min(unset, now), max(unset, now), step_s))
    return found


def _moment(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC) + timedelta(microseconds=wall_ns // 1000 % 1_000_000)


class OwnWatch:
    """Looks at the clocks twice a second, and whenever the pipeline is about to judge.

    The second matters: results that wait since before a stall may be judged before this task gets its turn.
    """

    def __init__(
        self,
        board: Board,
        read: Callable[[], Clocks] = read_clocks,
        kernel: Callable[[], ClockState] = clock_state,
    ) -> None:
        self._board = board
        self._read = read
        self._kernel = kernel
        self._last = read()
        self._found: list[Lapse] = []
        self._asked_ns: int | None = None  # time since boot at which the kernel was last asked
        self._unkept_ns: int | None = None  # since when nobody keeps the clock

    async def run(self) -> None:
        """Look until cancelled."""
        self._last = self._read()  # what was built since was no stall
        while True:
            self.look()
            await asyncio.sleep(TICK_S)

    def look(self) -> None:
        """Compare the clocks with the look before, and keep what happened for `take`."""
        now = self._read()
        for lapse in compare(self._last, now):
            self._found.append(lapse)
            lapses, seconds = self._board.lapses.get(lapse.kind, (0, 0.0))
            self._board.lapses[lapse.kind] = (lapses + 1, seconds + abs(lapse.seconds))
            log.warning(
                "our own fault: %s, from %s to %s", lapse.detail, lapse.start.isoformat(), lapse.end.isoformat()
            )
        self._last = now
        if self._asked_ns is None or now.boot_ns - self._asked_ns >= KERNEL_EVERY_S * 1e9:
            self._asked_ns = now.boot_ns
            self._ask_kernel(now)

    def take(self) -> list[Lapse]:
        """Look, and return what happened since the last call, oldest first."""
        self.look()
        found, self._found = self._found, []
        return found

    def _ask_kernel(self, now: Clocks) -> None:
        """Show on the board what the kernel says of its clock, and warn when it cannot be relied on."""
        state = self._kernel()
        board = self._board
        board.clock = state
        if state.synchronised is not False:
            self._unkept_ns = None
        elif self._unkept_ns is None:
            self._unkept_ns = now.boot_ns
        trouble = ""
        if self._unkept_ns is not None and now.boot_ns - self._unkept_ns >= UNKEPT_S * 1e9:
            trouble = "unkept"
        elif state.synchronised and state.error_s > ERROR_S:
            trouble = "uncertain"
        if trouble != board.clock_trouble:
            board.clock_trouble = trouble
            board.version += 1
            if trouble:
                log.warning("our own clock is not to be relied on: %s, error up to %.3f s", state.words, state.error_s)
