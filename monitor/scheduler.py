"""The pacer of probes, and the ledger of slots: each planned slot ends as done, late, skipped or lost.

Slots lie at phase + k × interval on the monotonic clock, the phase from a hash of the check, so they neither drift
nor bunch. What is due within one tick of 10 ms is started together: waking up costs more than a probe. One run of a
check at a time; a cap on all. Knows no judge and no exporter.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from config.plan import Target
from monitor.board import Board
from monitor.model import Result, SlotCount, SlotEnd
from probes.base import Reading, Tools, measure, utc_now

log = logging.getLogger(__name__)

TICK_S: Final = 0.01
LATE_S: Final = 0.5  # chosen: a start later than this is in the ledger as late
CONCURRENCY: Final = 1000  # probes under way at once
FIRST_LOOK_S: Final = 5.0  # a new daemon looks at every check once within this time
MAX_SLEEP_S: Final = 1.0  # so that a suspended or stalled loop notices soon how much time has passed


def phase(check: str, every_s: float) -> float:
    """Return a check's place within its interval, in seconds on the 10 ms grid, from a hash of its id."""
    ticks = max(1, round(every_s / TICK_S))
    return int.from_bytes(hashlib.blake2b(check.encode(), digest_size=8).digest()) % ticks * TICK_S


def next_slot(check: str, every_s: float, after: float) -> float:
    """Return the first slot strictly after a moment of the monotonic clock, in seconds."""
    start = phase(check, every_s)
    k = int((after - start) // every_s) + 1
    slot = start + k * every_s
    # Floating point may give back the slot we are leaving.
    return slot if slot > after + TICK_S / 2 else start + (k + 1) * every_s


@dataclass(slots=True)
class _Job:
    """A check on the schedule."""

    target: Target
    due: float = 0.0  # the next slot, monotonic seconds
    every_s: float = 0.0  # the interval that led to it
    running: asyncio.Task[None] | None = None
    waiting: float | None = None  # a slot that came while the run before was still going
    recheck: float | None = None  # a fast run asked for
    again: bool = False  # a fast run fell due while a run was under way
    attempt: int = 0  # number of fast runs since the last scheduled one


class Scheduler:
    """Runs every target's probe when it is due and hands Results to a bounded queue."""

    def __init__(
        self,
        targets: Sequence[Target],
        results: asyncio.Queue[Result],
        board: Board,
        tools: Tools,
        *,
        concurrency: int = CONCURRENCY,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._jobs = {t.id: _Job(t) for t in targets}
        self._results = results
        self._board = board
        self._tools = tools
        self._cap = concurrency
        self._clock = clock
        self._heap: list[tuple[float, int, str, bool]] = []  # due, tie-breaker, check, is a recheck
        self._order = itertools.count()
        self._queue: deque[tuple[_Job, float, bool]] = deque()  # due, but over the cap
        self._running: set[asyncio.Task[None]] = set()
        self._counts: dict[tuple[str, datetime], dict[SlotEnd, int]] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Start what is due until cancelled; then end what is under way and note its slots as lost."""
        now = self._now()
        for job in self._jobs.values():
            self._plan_next(job, now)
            first = phase(job.target.id, min(job.target.every_s, FIRST_LOOK_S))
            if job.due > now + first + 2.0:
                self.request(job.target.id, first)
        try:
            while True:
                self._start_due(self._now())
                await self._sleep()
        finally:
            await self._stop()

    async def _sleep(self) -> None:
        self._wake.clear()
        delay = MAX_SLEEP_S
        if self._heap:
            # Up to the end of the tick in which the next is due: what else is due in it starts with it.
            delay = min(delay, max(self._heap[0][0] - self._now(), 0.0) + TICK_S / 2)
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _stop(self) -> None:
        self._stopping = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def request(self, check: str, delay_s: float) -> None:
        """Ask for a run of a check besides its slots. A run under way, or a slot that is nearly due, serves as well."""
        job = self._jobs.get(check)
        if job is None:
            return
        due = self._now() + max(delay_s, 0.0)
        if (job.recheck is not None and job.recheck <= due) or (job.due <= due and job.due > self._now()):
            return
        job.recheck = due
        heapq.heappush(self._heap, (due, next(self._order), check, True))
        self._wake.set()

    def take_counts(self) -> list[SlotCount]:
        """Return how slots ended since the last call, by check and hour."""
        taken = [
            SlotCount(check, hour, *(ends.get(end, 0) for end in SlotEnd))
            for (check, hour), ends in self._counts.items()
        ]
        self._counts.clear()
        return taken

    def _wall(self, due: float) -> datetime:
        return self._clock() - timedelta(seconds=self._now() - due)

    def _plan_next(self, job: _Job, after: float) -> None:
        target = job.target
        moment = self._wall(after)
        job.every_s = target.interval_at(moment)
        job.due = next_slot(target.id, job.every_s, after)
        ends = self._wall(job.due)
        for rate in target.rates:
            # A peak that begins, or ends, before the next slot: from that edge on its own slots count.
            for edge in (rate.window.start, rate.window.end):
                if moment < edge < ends:
                    at_edge = after + (edge - moment).total_seconds()
                    job.every_s = target.interval_at(edge)
                    job.due = min(job.due, next_slot(target.id, job.every_s, at_edge))
                    ends = self._wall(job.due)
        heapq.heappush(self._heap, (job.due, next(self._order), target.id, False))

    def _start_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now + TICK_S / 2:
            due, _, check, is_recheck = heapq.heappop(self._heap)
            job = self._jobs[check]
            if is_recheck:
                if job.recheck == due:
                    job.recheck = None
                    if job.running is None:
                        self._start(job, due, recheck=True)
                    else:
                        # The run under way began before whatever it is that asks: it proves nothing of it.
                        job.again = True
                continue
            if due != job.due:
                continue  # planned anew since
            self._start_slot(job, due, now)
            self._plan_next(job, max(due, now))
        self._drain_queue(now)

    def _start_slot(self, job: _Job, due: float, now: float) -> None:
        # Slots that passed while the loop stood still were not observed; only the newest may still be run.
        missed = int((now - due) // job.every_s)
        if missed > 0:
            self._end_slot(job.target.id, due, SlotEnd.LOST, missed)
            due += missed * job.every_s
        if job.running is not None:
            if job.waiting is not None:
                self._end_slot(job.target.id, job.waiting, SlotEnd.SKIPPED)
            job.waiting = due
            return
        self._start(job, due, recheck=False)

    def _start(self, job: _Job, due: float, *, recheck: bool) -> None:
        if len(self._running) >= self._cap:
            self._queue.append((job, due, recheck))
            return
        job.attempt = job.attempt + 1 if recheck else 0
        task = asyncio.get_running_loop().create_task(self._probe(job, due, job.attempt, self._now() - due))
        job.running = task
        self._running.add(task)
        self._board.running = len(self._running)

    def _drain_queue(self, now: float) -> None:
        for _ in range(len(self._queue)):
            if len(self._running) >= self._cap:
                return
            job, due, recheck = self._queue.popleft()
            if job.running is not None or now - due > job.every_s / 2:
                if not recheck:
                    self._end_slot(job.target.id, due, SlotEnd.SKIPPED)
                continue
            self._start(job, due, recheck=recheck)

    async def _probe(self, job: _Job, due: float, attempt: int, lateness_s: float) -> None:
        target = job.target
        slot, started = self._wall(due), self._clock()
        ended = False
        try:
            reading = await measure(
                target.probe, target.settings, timeout_s=target.timeout_s, path=target.path, tools=self._tools
            )
            await self._results.put(_result(target, slot, started, lateness_s, attempt, reading))
            ended = True
        finally:
            self._finish(job, due, attempt, lateness_s, ended=ended)

    def _finish(self, job: _Job, due: float, attempt: int, lateness_s: float, *, ended: bool) -> None:
        if job.running is not None:
            self._running.discard(job.running)
        job.running = None
        self._board.running = len(self._running)
        if attempt == 0:
            end = SlotEnd.LOST if not ended else SlotEnd.LATE if lateness_s > LATE_S else SlotEnd.DONE
            self._end_slot(job.target.id, due, end)
            self._board.lateness.observe(max(lateness_s, 0.0))
        waiting, job.waiting = job.waiting, None
        if waiting is not None:
            if not self._stopping and self._now() - waiting <= job.every_s / 2:
                self._start(job, waiting, recheck=False)
            else:
                self._end_slot(job.target.id, waiting, SlotEnd.LOST if self._stopping else SlotEnd.SKIPPED)
        if job.again and not self._stopping:
            job.again = False
            self.request(job.target.id, 0.0)
        if self._queue and not self._stopping:
            self._wake.set()

    def _end_slot(self, check: str, due: float, end: SlotEnd, count: int = 1) -> None:
        hour = self._wall(due).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        ends = self._counts.setdefault((check, hour), {})
        ends[end] = ends.get(end, 0) + count
        view = self._board.checks[check]
        view.slots[end] += count
        if end in (SlotEnd.SKIPPED, SlotEnd.LOST):
            view.recent.extend([False] * min(count, 60))


def _result(
    target: Target, slot: datetime, started: datetime, lateness_s: float, attempt: int, reading: Reading
) -> Result:
    return Result(target.site, target.id, target.path_id, slot, started, lateness_s, attempt, reading)
