"""The pacer of probes, and the ledger of slots: each planned slot ends as done, late, skipped or lost.

Slots lie at phase + k × interval on the monotonic clock, the phase from a hash of the check, so they neither drift
nor bunch. What is due within one tick of 10 ms is started together: waking up costs more than a probe. One run of a
check at a time; a cap on all. Knows no judge and no exporter.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from config.plan import Target
from monitor.board import Board
from monitor.model import Result, SlotCount, SlotEnd
from probes.base import BLIND_FAULTS, Fault, Launch, Measurement, Reading, Tools, measure, one_line, utc_now
from probes.flight import Flight

log = logging.getLogger(__name__)

TICK_S: Final = 0.01
LATE_S: Final = 0.5  # chosen: a start later than this is in the ledger as late
CONCURRENCY: Final = 1000  # probes under way at once
FIRST_LOOK_S: Final = 5.0  # a new daemon looks at every check once within this time
MAX_SLEEP_S: Final = 1.0  # so that a suspended or stalled loop notices soon how much time has passed
STALL_S: Final = LATE_S  # a loop that wakes later than this stood still: what failed meanwhile proves nothing
HOUR_SURE_S: Final = 0.5
_ENDS: Final = tuple(SlotEnd)  # in the order of SlotCount's fields
_NOT_OBSERVED: Final = frozenset({SlotEnd.SKIPPED, SlotEnd.LOST})


@functools.lru_cache(maxsize=65536)  # asked for at every slot; chosen: more than one process can probe
def phase(check: str, every_s: float) -> float:
    """Return a check's place within its interval, in seconds on the 10 ms grid, from a hash of its id."""
    ticks = max(1, round(every_s / TICK_S))
    return int.from_bytes(hashlib.blake2b(check.encode(), digest_size=8).digest()) % ticks * TICK_S


def next_slot(check: str, every_s: float, after: float) -> float:
    """Return the first slot strictly after a moment of the monotonic clock, in seconds."""
    return _slot_after(phase(check, every_s), every_s, after)


def _slot_after(start: float, every_s: float, after: float) -> float:
    k = int((after - start) // every_s) + 1
    slot = start + k * every_s
    # Floating point may give back the slot we are leaving.
    return slot if slot > after + TICK_S / 2 else start + (k + 1) * every_s


@dataclass(slots=True, eq=False)
class _Job:
    """A check on the schedule."""

    target: Target
    id: str  # the target's, which makes it anew each time
    path_id: str  # likewise
    first: float  # the check's place within its own interval, seconds
    launch: Launch | None  # how it runs without a task, if it can
    due: float = math.inf  # the next slot, monotonic seconds
    every_s: float = 0.0  # the interval that led to it
    edge: float = math.inf  # when another interval begins: this one's slots end there
    running: asyncio.Task[None] | _Run | None = None
    slot: float | None = None  # of the run under way; None for a fast run
    waiting: float | None = None  # the newest slot that has come and is not begun: for the run before, or for a place
    again: float | None = None  # when a fast run was due that is not begun, for the same reasons
    queued: bool = False  # stands in the line for a place
    recheck: float | None = None  # a fast run asked for
    attempt: int = 0  # number of fast runs since the last scheduled one


class _Run(Flight):
    """One run without a task."""

    __slots__ = ("_to", "began", "job", "lateness_s", "slot", "started")

    def __init__(self, to: Scheduler, job: _Job, due: float, lateness_s: float) -> None:
        self._to = to
        self.job = job
        self.lateness_s = lateness_s
        self.began = due + lateness_s
        self.started = to.clock()
        self.slot = self.started - timedelta(seconds=lateness_s)

    def landed(self, reading: Reading) -> None:
        """Hand the Result on."""
        self._to.land(self, reading)


class Scheduler:
    """Runs every target's probe when it is due and hands Results to a bounded queue.

    Time is the running loop's, so that a loop with a time of its own simulates hours at once.
    """

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
        self._jobs = {t.id: self._job(t, tools) for t in targets}
        self._results = results
        self._board = board
        self._tools = tools
        self._cap = concurrency
        self.clock = clock
        self._heap: list[tuple[float, int, _Job, bool]] = []  # due, tie-breaker, check, is a recheck
        self._order = itertools.count()
        self._line: deque[_Job] = deque()  # due, and waiting for a place; each check once
        self._running: set[asyncio.Task[None] | _Run] = set()
        self._counts: dict[tuple[str, datetime], dict[SlotEnd, int]] = {}
        self._hour = datetime.min.replace(tzinfo=UTC)  # that of the last slot that ended
        self._hour_from = self._hour_to = -math.inf  # monotonic: slots between lie in it
        self._nap: asyncio.Future[None] | None = None  # ends when something is due or asked for
        self._stopping = False
        self._wakes_at = math.inf  # when the pacer has to be awake again: past that, the loop stands still
        self._stall_end, self._stall_s = -math.inf, 0.0  # the last time that it stood still, and for how long

    @staticmethod
    def _job(target: Target, tools: Tools) -> _Job:
        prepare = target.probe.prepare
        launch = prepare(target.settings, target.path, tools) if prepare is not None else None
        return _Job(target, target.id, target.path_id, phase(target.id, target.every_s), launch)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Start what is due until cancelled; then end what is under way and note its slots as lost."""
        now = self._now()
        for job in self._jobs.values():
            self._plan_next(job, now)
            self._enter(job)
            first = phase(job.id, min(job.target.every_s, FIRST_LOOK_S))
            if job.due > now + first + 2.0:
                self.request(job.id, first)
        try:
            while True:
                self._start_due(self._now())
                await self._sleep()
        finally:
            await self._stop()

    async def _sleep(self) -> None:
        """Wait until something is due, or asked for; a bare timer, for this happens a hundred times a second."""
        self._note_stall()
        delay = MAX_SLEEP_S
        if self._heap:
            # Up to the end of the tick in which the next is due: what else is due in it starts with it.
            delay = min(delay, max(self._heap[0][0] - self._now(), 0.0) + TICK_S / 2)
        loop = asyncio.get_running_loop()
        self._nap = loop.create_future()
        timer = loop.call_later(delay, self._rouse)
        self._wakes_at = loop.time() + delay
        try:
            await self._nap
        finally:
            timer.cancel()
            self._note_stall()
            self._wakes_at = self._now()

    def _note_stall(self) -> None:
        """Keep that the loop stood still, if it did: stopped, starved, or held up by something that blocks."""
        now = self._now()
        if now - self._wakes_at > STALL_S:
            self._stall_end, self._stall_s = now, now - self._wakes_at
            self._wakes_at = now  # one wake is noted once, however many ask
            log.warning("our own process stood still for %.1f s", self._stall_s)

    def _rouse(self) -> None:
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)

    async def _stop(self) -> None:
        self._stopping = True
        now = self._now()
        running = list(self._running)
        for one in running:
            one.cancel()
        await asyncio.gather(*(one for one in running if isinstance(one, asyncio.Task)), return_exceptions=True)
        for job in self._jobs.values():
            if job.running is not None and job.slot is not None:
                # Without a task, or cancelled before its first step: neither can say so itself.
                self._end_slot(job, job.slot, SlotEnd.LOST)
            if job.due <= now + TICK_S / 2:
                self._give_up_waiting(job, SlotEnd.LOST)
                job.waiting = self._come_to(job, now)
            self._give_up_waiting(job, SlotEnd.LOST)
            job.running = job.slot = None
        self._line.clear()
        self._running.clear()
        self._board.running = 0

    def request(self, check: str, delay_s: float) -> None:
        """Ask for a run of a check besides its slots. One asked for already, or a slot due by then, serves as well."""
        job = self._jobs.get(check)
        if job is None or self._stopping:
            return
        due = self._now() + max(delay_s, 0.0)
        if (job.recheck is not None and job.recheck <= due) or job.due <= due:
            return
        job.recheck = due
        heapq.heappush(self._heap, (due, next(self._order), job, True))
        self._rouse()

    def take_counts(self) -> list[SlotCount]:
        """Return how slots ended since the last call, by check and hour."""
        taken = [
            SlotCount(check, hour, *[ends.get(end, 0) for end in _ENDS]) for (check, hour), ends in self._counts.items()
        ]
        self._counts.clear()
        return taken

    def _wall(self, due: float) -> datetime:
        return self.clock() - timedelta(seconds=self._now() - due)

    # Planning.

    def _plan_next(self, job: _Job, after: float) -> None:
        """Find the first slot after a moment (a slot, or the start), at the interval that is in force by then."""
        target = job.target
        every_s = job.every_s = target.every_s
        job.edge = math.inf
        if target.rates:
            self._plan_by_rates(job, after)
        else:
            job.due = _slot_after(job.first, every_s, after)

    def _enter(self, job: _Job) -> None:
        heapq.heappush(self._heap, (job.due, next(self._order), job, False))

    def _plan_by_rates(self, job: _Job, after: float) -> None:
        target, moment = job.target, self._wall(after)
        job.every_s = target.interval_at(moment)
        job.due = next_slot(target.id, job.every_s, after)
        for edge in (e for rate in target.rates for e in (rate.window.start, rate.window.end)):
            if edge <= moment:
                continue
            at_edge = after + (edge - moment).total_seconds()
            if at_edge > job.due:
                job.edge = at_edge
                return
            # A peak that begins, or ends, before the next slot: from that edge on its own slots count.
            job.every_s = target.interval_at(edge)
            job.due = next_slot(target.id, job.every_s, max(at_edge - TICK_S, after))

    def _come_to(self, job: _Job, now: float) -> float:
        """Plan the slot after `now`; return the newest that has come.

        Slots before that one passed while the loop stood still: lost.
        """
        while True:
            passed = int((min(now + TICK_S / 2, job.edge) - job.due) // job.every_s)
            if passed > 0:
                self._end_slot(job, job.due, SlotEnd.LOST, passed)
                job.due += passed * job.every_s
            slot = job.due
            self._plan_next(job, slot)
            if job.due > now + TICK_S / 2:
                return slot
            self._end_slot(job, slot, SlotEnd.LOST)

    # Starting.

    def _start_due(self, now: float) -> None:
        heap, until = self._heap, now + TICK_S / 2
        while heap and heap[0][0] <= until:
            due, _, job, is_recheck = heap[0]
            if is_recheck:
                heapq.heappop(heap)
                if job.recheck != due:
                    continue  # asked for anew since, for an earlier moment
                job.recheck = None
                # A run under way began before whatever it is that asks, and proves nothing of it.
                job.again = due
            else:
                if job.waiting is not None:
                    self._give_up_waiting(job, SlotEnd.SKIPPED)
                job.waiting = self._come_to(job, now)
                heapq.heapreplace(heap, (job.due, next(self._order), job, False))
            self._line_up(job)
        self._fill_places()

    def _give_up_waiting(self, job: _Job, end: SlotEnd) -> None:
        if job.waiting is not None:
            self._end_slot(job, job.waiting, end)
            job.waiting = None

    def _line_up(self, job: _Job) -> None:
        """Let a check that has something to run wait for a place, unless its run before still goes on.

        First come, first served, and late rather than never: over the cap all checks run less often, none never.
        """
        if job.running is None and not job.queued and (job.waiting is not None or job.again is not None):
            job.queued = True
            self._line.append(job)

    def _fill_places(self) -> None:
        while self._line and len(self._running) < self._cap:
            job = self._line.popleft()
            job.queued = False
            self._start(job, self._now())
        self._board.running = len(self._running)

    def _start(self, job: _Job, now: float) -> None:
        slot = job.waiting
        due = job.again if slot is None else slot
        if due is None:
            return
        # A slot's run serves a fast run that was asked for as well.
        job.slot, job.waiting, job.again = slot, None, None
        job.attempt = job.attempt + 1 if slot is None else 0
        loop = asyncio.get_running_loop()
        if job.launch is not None:
            target, one = job.target, _Run(self, job, due, now - due)
            m = Measurement(target.timeout_s, target.path, self._tools, check=job.id)
            if one.start(target.probe, job.launch, m, loop):
                job.running = one
                self._running.add(one)
                return
        job.running = loop.create_task(self._probe(job, due, now - due))
        self._running.add(job.running)

    def land(self, one: _Run, reading: Reading) -> None:
        """Take the reading of a run without a task."""
        job = one.job
        if reading.fault is not None:
            reading = self._unless_stalled(reading, one.began)
        result = Result(
            job.target.site, job.id, job.path_id, one.slot, one.started, one.lateness_s, job.attempt, reading
        )
        try:
            self._results.put_nowait(result)
        except asyncio.QueueFull:
            # The check counts as running until there is room, as with a task.
            self._running.discard(one)
            job.running = asyncio.get_running_loop().create_task(self._land_later(job, one.lateness_s, result))
            self._running.add(job.running)
            return
        self._finish(job, one.lateness_s, ended=True)

    async def _land_later(self, job: _Job, lateness_s: float, result: Result) -> None:
        ended = False
        try:
            await self._results.put(result)
            ended = True
        finally:
            self._finish(job, lateness_s, ended=ended)

    async def _probe(self, job: _Job, due: float, lateness_s: float) -> None:
        target, attempt = job.target, job.attempt
        started, began = self.clock(), self._now()
        slot = started - timedelta(seconds=began - due)
        ended = False
        try:
            reading = await measure(
                target.probe,
                target.settings,
                timeout_s=target.timeout_s,
                path=target.path,
                tools=self._tools,
                check=job.id,
            )
            reading = self._unless_stalled(reading, began)
            result = Result(target.site, job.id, target.path_id, slot, started, lateness_s, attempt, reading)
            if self._results.full():
                await self._results.put(result)
            else:
                self._results.put_nowait(result)
            ended = True
        finally:
            self._finish(job, lateness_s, ended=ended)

    def _unless_stalled(self, reading: Reading, began: float) -> Reading:
        """Take a failure for our own when the loop stood still during the run.

        The answer may have lain in the kernel all the while: time-outs run on when we do not.
        """
        if reading.fault is None or reading.fault in BLIND_FAULTS:
            return reading
        # Time-outs that passed meanwhile end their runs before the pacer itself is awake again.
        self._note_stall()
        if self._stall_end <= began:
            return reading
        said = f"our own process stood still for {self._stall_s:.1f} s meanwhile: {reading.detail or reading.fault}"
        return replace(reading, fault=Fault.LOCAL, detail=one_line(said))

    def _finish(self, job: _Job, lateness_s: float, *, ended: bool) -> None:
        if job.running is not None:
            self._running.discard(job.running)
        if job.slot is not None:
            end = SlotEnd.LOST if not ended else SlotEnd.LATE if lateness_s > LATE_S else SlotEnd.DONE
            self._end_slot(job, job.slot, end)
            self._board.lateness.observe(max(lateness_s, 0.0))
        job.running = job.slot = None
        if not self._stopping:
            if job.waiting is not None and self._now() - job.waiting > job.every_s / 2:
                self._give_up_waiting(job, SlotEnd.SKIPPED)  # nearer to the next one than to its own time
            self._line_up(job)
            if self._line:
                self._fill_places()
            else:
                self._board.running = len(self._running)

    def _end_slot(self, job: _Job, due: float, end: SlotEnd, count: int = 1) -> None:
        # Which hour a slot lies in needs no more than this; near its ends the clock is asked.
        if not self._hour_from <= due < self._hour_to:
            self._find_hour(due)
        key = (job.id, self._hour)
        ends = self._counts.get(key)
        if ends is None:
            ends = self._counts[key] = {}
        ends[end] = ends.get(end, 0) + count
        view = self._board.checks[job.id]
        view.slots[end] += count
        if end in _NOT_OBSERVED:
            view.recent.extend([False] * min(count, 60))

    def _find_hour(self, due: float) -> None:
        """Find the hour, in UTC, that a moment of the monotonic clock lies in, and for how long that is sure."""
        moment = self._wall(due)
        self._hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        began = due - (moment - self._hour).total_seconds()
        # Asked again soon: the wall clock may be set.
        self._hour_from, self._hour_to = max(began, due - HOUR_SURE_S), min(began + 3600.0, due + HOUR_SURE_S)
