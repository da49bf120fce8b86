"""The daemon's side of sealing: starts the sealing process, notes what it did, and tidies the journal in small steps.

The heavy work is in a process of its own (`monitor.evidence`), so that probes never wait for it. A trouble, such as a
full disk or a lost key, is a warning and is tried again: probing goes on, and nothing leaves the journal unsealed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import orjson

from config.plan import Plan, Window
from monitor import sealed
from monitor.board import Board
from monitor.chain import ChainError, parse_line
from monitor.journal import Journal, JournalBusyError
from monitor.rows import to_ms
from probes.base import utc_now

log = logging.getLogger(__name__)

HOUR_MS: Final = 3_600_000
MARGIN_S: Final = 60.0  # after the last result of an hour can have come, before the hour is closed
RETRY_S: Final = 60.0
FIRST_S: Final = 20.0  # after a start: probes come first
CLOCK_EVERY_S: Final = 10.0
STEP_MS: Final = 1_000  # the wall clock moved by so much between two looks: it was set, not slewed
DROP_ROWS: Final = 2_000  # rows deleted at a time: some milliseconds of the journal's thread
DROP_PAUSE_S: Final = 0.1
PROCESS_S: Final = 1800.0  # longest run of the sealing process
LINE_LIMIT: Final = 64 << 20  # of what it prints at a time


def _steady_ms() -> int:
    """Milliseconds since boot, sleep included: a clock that nobody can set."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _span(window: Window) -> list[int]:
    return [to_ms(window.start), to_ms(window.end)]


class Sealer:
    """One task of the daemon."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        board: Board,
        clock: Callable[[], datetime] = utc_now,
        pause_s: float = DROP_PAUSE_S,
    ) -> None:
        """Args: pause_s: between two steps of deleting sealed rows."""
        self._plan = plan
        self._journal = journal
        self._board = board
        self._clock = clock
        self._steady: Callable[[], int] = _steady_ms
        self._pause_s = pause_s
        self.clock_every_s = CLOCK_EVERY_S
        self._warning = ""  # that the disk fills
        self._unstamped = ""  # that nobody has stamped the chain with the time for long
        self._trouble = ""
        self._late_s = max((t.timeout_s for t in plan.targets()), default=0.0) + MARGIN_S

    # The task.

    async def run(self) -> None:
        """Seal what closes, hour by hour, until cancelled."""
        async with asyncio.TaskGroup() as both:  # if the watch of the clock dies, this must not go on without it
            both.create_task(self._watch_clock(), name="clock")
            with suppress(JournalBusyError, ChainError):  # the first step will say so
                await self._show_head()
            await asyncio.sleep(FIRST_S)
            while True:
                done = await self.step()
                await asyncio.sleep(self._until_next() if done else RETRY_S)

    def _until_next(self) -> float:
        """Seconds until the hour that is going on now is closed."""
        now = self._clock() - timedelta(seconds=self._late_s)
        return 3600.0 - (now.minute * 60 + now.second) + 1.0

    def _order(self) -> dict[str, Any]:
        now, plan = self._clock(), self._plan
        closed = to_ms(now - timedelta(seconds=self._late_s))
        return {
            "state_dir": str(plan.state_dir),
            "site": plan.site.id,
            "now_ms": to_ms(now),
            "closed_ms": closed - closed % HOUR_MS,
            "keep_from_ms": to_ms(now - timedelta(seconds=plan.raw_keep_s)),
            "budget_bytes": plan.budget_bytes or 0,
            "key_file": str(plan.evidence_key or ""),
            "events": [_span(e.window) for e in plan.events],
            "peaks": [_span(p.window) for e in plan.events for p in e.peaks],
        }

    async def seal_simulated(self) -> str:
        """Seal all there is, up to the present hour and with it, marked as simulated; return what went wrong."""
        closed = to_ms(self._clock())
        order = self._order() | {"closed_ms": closed - closed % -HOUR_MS, "simulated": True, "most": 100_000}
        trouble = await self._seal(order)
        await self._tidy()
        return trouble

    async def step(self) -> bool:
        """Seal all closed hours, note them, and delete their rows; return whether all of it went through."""
        trouble = ""
        try:
            trouble = await self._seal(self._order())
            await self._show_head()
            await self._tidy()
        except JournalBusyError as exc:
            trouble = f"the journal cannot be written: {exc}"
        except (OSError, TimeoutError, ValueError, ChainError) as exc:
            trouble = f"{type(exc).__name__}: {exc}"
        if trouble:
            log.warning("evidence is not sealed for now, and stays in the journal: %s", trouble)
        elif self._warning and self._warning != self._board.evidence_trouble:
            log.warning("%s", self._warning)
        self._trouble = trouble
        self._show()
        return not trouble

    def unstamped(self, warning: str) -> None:
        """Take in that the chain could not be stamped with the time for a while; "" when it could."""
        self._unstamped = warning
        self._show()

    def _show(self) -> None:
        trouble = self._trouble or self._warning or self._unstamped
        if trouble != self._board.evidence_trouble:
            self._board.evidence_trouble = trouble
            self._board.version += 1

    async def _seal(self, order: Mapping[str, Any]) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing from the working directory
            "-m",
            "monitor.evidence",
            orjson.dumps(order).decode(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT,
        )
        trouble = ""
        try:
            async with asyncio.timeout(PROCESS_S):
                while process.stdout is not None and (raw := await process.stdout.readline()):
                    message = orjson.loads(raw)
                    if "line" not in message:
                        trouble, self._warning = message["trouble"], message["warning"]
                        if room := message["room"]:
                            self._board.room = (room["bytes"], room["budget"], room["days_left"])
                    else:
                        await self.note(message["line"], message["slots"])
                code = await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()  # safe at any point, and found again at the next run
                await process.wait()
        return trouble or (f"the sealing process ended with {code}" if code else "")

    async def note(self, line: str, slots: Sequence[Sequence[Any]]) -> None:
        """Write a line of the chain into the journal, and take what is sealed off its ledger, as one transaction."""
        link, now = parse_line(line), to_ms(self._clock())
        await self._journal.transact(lambda db: sealed.note(db, self._plan.site.id, link, slots, now))
        log.info("evidence: line %d of the chain is written and noted", link.number)

    # Tidying.

    async def _tidy(self) -> None:
        site = self._plan.site.id
        for drop in await self._journal.transact(lambda db: sealed.to_drop(db, site)):
            while drop.row <= drop.through:
                await self._journal.transact(partial(sealed.drop, site=site, what=drop, rows=DROP_ROWS))
                await asyncio.sleep(self._pause_s)
            await self._journal.transact(partial(sealed.dropped, site=site, number=drop.number))

    async def _show_head(self) -> None:
        site = self._plan.site.id
        line = await self._journal.transact(lambda db: sealed.last_line(db, site))
        if line is not None:
            self._board.chain_head = parse_line(line).head

    # The clock.

    async def _watch_clock(self) -> None:
        site = self._plan.site.id
        wall, steady = to_ms(self._clock()), self._steady()
        step = await self._noting(lambda db: sealed.clock_at_start(db, site, wall, steady))
        if step:
            log.warning("the clock stands %g s before the last sign of life of the run before", -step / 1000)
        anchor, hour = wall - steady, wall // HOUR_MS
        drift = anchor
        while True:
            await asyncio.sleep(self.clock_every_s)
            wall, steady = to_ms(self._clock()), self._steady()
            moved, drift = wall - steady - drift, wall - steady
            cause = "step" if abs(moved) >= STEP_MS else "hour" if wall // HOUR_MS != hour else ""
            if not cause:
                continue
            if cause == "step":
                log.warning("the clock was moved by %g s", moved / 1000)
            row = (site, wall, steady, drift - anchor, cause)
            await self._noting(partial(sealed.clock_row, row=row))
            anchor, hour = drift, wall // HOUR_MS

    async def _noting(self, work: Callable[[sqlite3.Connection], int]) -> int:
        while True:
            try:
                return await self._journal.transact(work)
            except JournalBusyError:
                await asyncio.sleep(RETRY_S)
