"""`thongsuot simulate event`: a whole event's evidence in simulated time.

The pipeline, the judge and the journal are the daemon's own; the schedule's slots are the scheduler's. Only the clock
and the answers are made up, from a scenario. Each run in the journal is marked as simulated.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from config.plan import EventPlan, Plan, Target, Window
from monitor.board import Board
from monitor.journal import Journal, JournalError
from monitor.model import SIMULATED, Result, SlotCount
from monitor.scheduler import next_slot
from monitor.sealer import Sealer
from thongsuot.made_up_time import Manner, live
from thongsuot.scenario import Scenario, World, part, running, spans

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was simulated."""

    results: int
    runs: int
    window: Window


@dataclass(slots=True)
class ScenarioFeed:
    """The answers of one simulated life of the daemon, by its own schedule."""

    plan: Plan
    world: World
    window: Window
    now: datetime
    timed: bool = False  # answers come when they have taken their time; else the moment they are asked for
    queue: list[tuple[datetime, int, Target, int]] = field(default_factory=list)  # due, tie-breaker, check, attempt
    order: itertools.count[int] = field(default_factory=itertools.count)
    counts: dict[tuple[str, datetime], int] = field(default_factory=dict)
    results: int = 0
    _ended: list[tuple[datetime, int, Result]] = field(default_factory=list)  # under way, by when they end
    _running: dict[str, datetime] = field(default_factory=dict)  # until when

    def begin(self) -> None:
        """Plan the first slot of every check."""
        for target in self.plan.targets():
            self._plan_slot(target, self.window.start)

    def _plan_slot(self, target: Target, after: datetime) -> None:
        slot_s = next_slot(target.id, target.interval_at(after), (after - _EPOCH).total_seconds())
        self._push(_EPOCH + timedelta(seconds=slot_s), target, 0)

    def _push(self, due: datetime, target: Target, attempt: int) -> None:
        heapq.heappush(self.queue, (due, next(self.order), target, attempt))

    def request(self, check: str, delay_s: float) -> None:
        """Run a check once more after some seconds, as the judge asks."""
        target = next(t for t in self.plan.targets() if t.id == check)
        self._push(self.now + timedelta(seconds=max(delay_s, 0.0)), target, 1)

    async def due(self) -> datetime | None:
        """Return when the next answer comes."""
        if not self.timed:
            return self.queue[0][0] if self.queue else None
        while self.queue and (not self._ended or self.queue[0][0] <= self._ended[0][0]):
            self._start()
        return self._ended[0][0] if self._ended else None

    def take(self) -> Result:
        """Return the next answer, and move the clock to it."""
        self.results += 1
        if self.timed:
            ended, _, result = heapq.heappop(self._ended)
            self.now = max(ended, self.now)
            return result
        result = self._run(*self._next())
        self.now = result.started_at
        return result

    def _next(self) -> tuple[datetime, Target, int]:
        due, _, target, attempt = heapq.heappop(self.queue)
        due = max(due, self.now) if not self.timed else due
        if attempt == 0:
            self._plan_slot(target, due)
        return due, target, attempt

    def _start(self) -> None:
        """Ask the check that is due next; one that is under way is not asked twice at once."""
        due, target, attempt = self._next()
        busy = self._running.get(target.id)
        if busy is not None and due < busy:
            if attempt:
                self._push(busy, target, attempt)
            return
        result = self._run(due, target, attempt)
        ended = due + timedelta(seconds=result.reading.duration_s)
        self._running[target.id] = ended
        heapq.heappush(self._ended, (ended, next(self.order), result))

    def _run(self, due: datetime, target: Target, attempt: int) -> Result:
        if attempt == 0:
            hour = due.replace(minute=0, second=0, microsecond=0)
            self.counts[target.id, hour] = self.counts.get((target.id, hour), 0) + 1
        reading = self.world.reading(target, due)
        return Result(target.site, target.id, target.path_id, due, due, 0.0, attempt, reading)

    def take_counts(self) -> Sequence[SlotCount]:
        """Return the ledger since the last call."""
        counts = [SlotCount(check, hour, done=n) for (check, hour), n in self.counts.items()]
        self.counts.clear()
        return counts


async def simulate(plan: Plan, event: EventPlan, scenario: Scenario, out: Path, seed: int) -> Outcome:
    """Write the evidence of an event into a state directory, as the daemon would have kept it.

    Args:
        plan: the configuration; its own state directory is not touched.
        event: which event to live through.
        scenario: what happens.
        out: the state directory to write; should be empty.
        seed: makes other answers of the same scenario.

    Raises:
        JournalError: the directory cannot serve.
        ScenarioError: the scenario names times that do not exist.
    """
    happenings = spans(scenario, plan)
    world = World(scenario, happenings, seed)
    plan = replace(plan, state_dir=out)
    whole = part(scenario, plan, event.window)
    lives = running(whole, happenings)
    journal = await Journal.open(out, plan.site.id)
    done = 0
    try:
        for window in lives:
            done += await _live(ScenarioFeed(plan, world, window, window.start), journal, seed)
        sealer = Sealer(plan, journal, Board(plan, whole.start), clock=lambda: whole.end, pause_s=0)
        if trouble := await sealer.seal_simulated():
            raise JournalError(f"the evidence cannot be sealed: {trouble}")
    finally:
        await journal.close()
    return Outcome(done, len(lives), whole)


async def _live(run: ScenarioFeed, journal: Journal, seed: int) -> int:
    run.begin()
    await live(run.plan, journal, run, run.window.end, Manner(f"seed {seed} {SIMULATED}", ticks=False))
    return run.results
