"""A loop whose time jumps to the next thing to do, and a scheduler on it: hours pass in milliseconds.

Only for code that waits for nothing but time and its own tasks: no sockets, no threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from config.plan import Target
from monitor.board import Board
from monitor.model import Result, SlotCount, SlotEnd
from monitor.scheduler import Scheduler
from probes.base import Tools
from tests.monitor import builders
from tests.monitor.builders import T0

T = TypeVar("T")

BEGIN_S = 1000.0  # the loop's time when it begins


class _Jump(selectors.DefaultSelector):
    """Never waits: moves the loop's time instead."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise RuntimeError("nothing will ever happen any more: every task waits for another")
        if not found and timeout is not None:
            self.loop.now += max(timeout, 0.0)
        return found


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop in simulated time."""

    def __init__(self) -> None:
        selector = _Jump()
        selector.loop = self
        self.now = BEGIN_S
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def stand_still(self, seconds: float) -> None:
        """Let time pass while nothing can run, as a blocking call or a stopped machine would."""
        self.now += seconds

    def wall(self) -> datetime:
        """The wall clock: T0 when the loop begins."""
        return T0 + timedelta(seconds=self.now - BEGIN_S)


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop, debug=False) as runner:
        return runner.run(main)


def the_loop() -> SimulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop


@dataclass
class Watch:
    """A scheduler under watch."""

    scheduler: Scheduler
    board: Board
    queue: asyncio.Queue[Result]
    began: float = 0.0
    ended: float = 0.0
    results: list[Result] = field(default_factory=list)
    counts: list[SlotCount] = field(default_factory=list)
    taking: asyncio.Task[None] | None = None

    def of(self, check_id: str, *, slots_only: bool = True) -> list[Result]:
        return [r for r in self.results if r.check == check_id and (r.attempt == 0 or not slots_only)]

    def ends(self, check_id: str) -> Mapping[SlotEnd, int]:
        """How the slots of a check ended, from what `take_counts` gave."""
        mine = [c for c in self.counts if c.check == check_id]
        return {end: sum(getattr(c, end.value) for c in mine) for end in SlotEnd}

    def take(self) -> None:
        """Begin to take results from the queue, as the pipeline does."""

        async def work() -> None:
            while True:
                self.results.append(await self.queue.get())

        self.taking = asyncio.create_task(work())

    def hold(self) -> None:
        """Take nothing any more."""
        assert self.taking is not None
        self.taking.cancel()
        self.taking = None


async def watch(
    targets: Sequence[Target],
    during: Callable[[Watch], Awaitable[None]],
    *,
    concurrency: int = 1000,
    queue_size: int = 1000,
) -> Watch:
    """Run a scheduler while `during` goes on, then stop it and gather what it left."""
    loop = the_loop()
    services = {t.service for t in targets}
    plans = [builders.service(s, *(t for t in targets if t.service == s)) for s in sorted(services)]
    board = Board(builders.plan(*plans), T0)
    queue: asyncio.Queue[Result] = asyncio.Queue(queue_size)
    scheduler = Scheduler(targets, queue, board, Tools(), concurrency=concurrency, clock=loop.wall)
    seen = Watch(scheduler, board, queue, began=loop.time())
    seen.take()
    pacer = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0)  # it has planned
    await during(seen)
    seen.ended = loop.time()
    pacer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pacer
    if seen.taking is not None:
        await asyncio.sleep(0)
        seen.hold()
    seen.results += [queue.get_nowait() for _ in range(queue.qsize())]
    seen.counts += scheduler.take_counts()
    return seen


def watch_for(targets: Sequence[Target], seconds: float, *, concurrency: int = 1000, queue_size: int = 1000) -> Watch:
    """Run a scheduler for some simulated seconds."""

    async def wait(_: Watch) -> None:
        await asyncio.sleep(seconds)

    return simulate(watch(targets, wait, concurrency=concurrency, queue_size=queue_size))
