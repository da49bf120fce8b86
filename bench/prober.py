"""Our side of "probing alone": the real scheduler and probes, and a queue of Results that is emptied; nothing else.

    python -m bench.prober CONFIG

A process of its own, so that nothing else is counted. Each line on standard input is a command, each answered by one
line of JSON: `paced KIND` and `saturated KIND` begin to probe the checks of a kind, `idle` stops, and `count` tells how
many probes were done, and how many of them well, since the last beginning.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from config.loader import load
from config.plan import Plan, Target
from monitor.board import Board
from monitor.model import Result
from monitor.scheduler import TICK_S, Scheduler
from probes.base import Tools, utc_now

GATHER_S: Final = 0.25  # results are taken as often as monitor.pipeline takes them
RESULTS_LIMIT: Final = 20_000  # chosen: what a saturated core makes within that time, and some
FIRST_COST_S: Final = {"icmp": 25e-6, "tcp": 60e-6, "dns": 60e-6, "http": 150e-6, "https": 800e-6}  # of one probe
PACED_CHECKS: Final = 400
PACED_S: Final = 2.0  # 200 probes a second; a check that is due so soon gets no look ahead of its slot at the start
TRIALS: Final = 2
TRIAL_S: Final = 0.3
OVERLOAD: Final = 2.0  # chosen: with less, a cheap moment leaves the core idle until the next tick


class Prober:
    """Probes one kind at a time, at the rate that the configuration says or as fast as one core can."""

    def __init__(self, plan: Plan) -> None:
        """Args: plan: checks whose service ids begin with their kind and a dash."""
        self._plan = plan
        self._cost_s: dict[str, float] = {}  # of one probe of a kind, when saturated
        self._tools = Tools()
        self._tasks: list[asyncio.Task[None]] = []
        self._probes = self._good = 0
        self._results: asyncio.Queue[Result] = asyncio.Queue()

    async def obey(self, words: Sequence[str]) -> dict[str, float]:
        """Carry out one command and return what is to be told."""
        match words:
            case ["count"]:
                self._take_all()
            case ["idle"]:
                await self._stop()
            case ["paced", kind]:
                await self._begin([replace(t, every_s=PACED_S) for t in self._targets(kind)[:PACED_CHECKS]])
            case ["saturated", kind]:
                if kind not in self._cost_s:
                    self._cost_s[kind] = FIRST_COST_S[kind.partition("-")[0]]
                    for _ in range(TRIALS):
                        self._cost_s[kind] = await self._try(kind)
                await self._begin(self._too_many(kind))
            case _:
                raise ValueError(f"{words} is no command")
        return {"probes": self._probes, "good": self._good}

    def _targets(self, kind: str) -> list[Target]:
        return [t for t in self._plan.targets() if t.service.startswith(f"{kind}-")]

    def _too_many(self, kind: str) -> list[Target]:
        """Return checks that are due at every tick, and more of them than one core can do in a tick.

        So the loop is closed: each runs again once its run before is done, and there is always one to run.
        """
        wanted = math.ceil(OVERLOAD * TICK_S / self._cost_s[kind])
        return [replace(t, every_s=TICK_S) for t in self._targets(kind)[:wanted]]

    async def _try(self, kind: str) -> float:
        """Return what a probe costs, in seconds of CPU."""
        await self._begin(self._too_many(kind))
        await asyncio.sleep(TRIAL_S)
        await self.obey(["count"])
        before, used = self._probes, time.process_time()
        await asyncio.sleep(TRIAL_S)
        await self.obey(["count"])
        each_s = (time.process_time() - used) / max(self._probes - before, 1)
        await self._stop()
        return each_s

    async def _begin(self, targets: list[Target]) -> None:
        await self._stop()
        self._probes = self._good = 0
        self._results = asyncio.Queue(RESULTS_LIMIT)
        scheduler = Scheduler(targets, self._results, Board(self._plan, utc_now()), self._tools)
        gc.unfreeze()  # as thongsuot.daemon does
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        self._tasks = [asyncio.create_task(scheduler.run()), asyncio.create_task(self._empty())]

    async def _empty(self) -> None:
        while True:
            await asyncio.sleep(GATHER_S)
            self._take_all()

    def _take_all(self) -> None:
        taken = [self._results.get_nowait() for _ in range(self._results.qsize())]
        self._probes += len(taken)
        self._good += sum(result.reading.fault is None for result in taken)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []


async def serve(plan: Plan) -> None:
    """Obey until standard input ends."""
    prober = Prober(plan)
    commands: asyncio.Queue[str] = asyncio.Queue()
    rest = b""

    def read() -> None:
        nonlocal rest
        data = os.read(sys.stdin.fileno(), 4096)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines if data else [b""]:
            commands.put_nowait(line.decode())

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), read)
    print("{}", flush=True)
    while words := (await commands.get()).split():
        print(json.dumps(await prober.obey(words)), flush=True)
    await prober.obey(["idle"])


if __name__ == "__main__":
    uvloop.run(serve(load(Path(sys.argv[1]))))
