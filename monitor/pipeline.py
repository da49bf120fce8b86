"""The one road of a result: judged, written with all that follows from it, then shown.

The only writer of the journal's records and of the board's states. Results are gathered for a quarter of a second
and go through as one transaction; the board changes after it, and the channels are woken after it. Knows no exporter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from config.plan import Plan
from monitor.board import Board
from monitor.duty import DutyBook
from monitor.journal import Batch, Journal, JournalBusyError, Recovered
from monitor.judge import outage
from monitor.judge.episode import Episode
from monitor.judge.outage import Sample
from monitor.judge.signals import slowness
from monitor.keeping import Keeping
from monitor.maintenance import WorkBook
from monitor.model import Change, Gap, Result, SlotCount, State
from monitor.own_faults import follow_clock, lay, worth_telling
from monitor.own_watch import Kind, Lapse, OwnWatch
from monitor.queues import began_at, ended_at, sentence
from monitor.scene import LiveScene
from monitor.suspicion import Suspicions
from monitor.tracing import with_ways
from monitor.track import Track, sample_of
from monitor.withdrawal import WITHDRAWN
from probes.base import utc_now

log = logging.getLogger(__name__)

GATHER_S: Final = 0.25  # results of this long go through as one transaction; chosen: each costs some 0.5 ms of CPU
IDLE_S: Final = 0.5  # with no result, reviews (and the sign of life in the journal) still happen this often
SLOTS_EVERY_S: Final = 10.0  # how often the slot ledger is written
MISSED_AFTER: Final = 1.5  # intervals without a result before the time between counts as not observed
BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)  # before trying a transaction again; the last one repeats


class Pipeline:
    """Takes Results from a bounded queue, for as long as the daemon runs."""

    def __init__(  # noqa: PLR0913  the daemon wires each part by name
        self,
        plan: Plan,
        journal: Journal,
        board: Board,
        results: asyncio.Queue[Result],
        *,
        request: Callable[[str, float], None],
        slot_counts: Callable[[], Sequence[SlotCount]],
        told: Callable[[], None],
        clock: Callable[[], datetime] = utc_now,
        own_watch: OwnWatch | None = None,
    ) -> None:
        """Build a pipeline.

        `request` asks the scheduler for a run of a check after some seconds; `told` wakes the channels; `own_watch`
        knows when we stood still, slept or had our clock set, and is left out where time is made up.
        """
        self._plan = plan
        self._journal = journal
        self._board = board
        self._results = results
        self._request = request
        self._slot_counts = slot_counts
        self._told = told
        self._clock = clock
        self._own_watch = own_watch
        self.tracks = {t.id: Track(t) for t in plan.targets()}
        self._keeping = Keeping(len(self.tracks))
        self.book = WorkBook(plan)  # filled from outside: what is announced comes from people
        self._scene = LiveScene(plan, self.tracks, self.book)
        self._duty = DutyBook(plan, {}, 1)
        self._suspicions = Suspicions(plan)
        self._services_shown: dict[str, State] = {}
        self._held: set[str] = set()  # checks whose DOWN waits for what the references say
        self._taken_back: set[str] = set()  # services that were believed down through a fault of ours
        self._dirty: set[str] = set()  # checks whose shown state may have changed
        self._unshown = {s.id for s in plan.services}  # services of which the board may be out of date
        self._slots_written = 0.0
        self._stopping = False
        self._look_again = True
        self.gave_up = False  # the last results could not be written: the stop was not in order
        self.beat = 0.0  # loop time of the last sign of life; a journal that is retried still lives

    # Starting up.

    def resume(self, recovered: Recovered, now: datetime, *, reloaded: bool = False) -> Batch:
        """Go on where the journal says the daemon before stopped; the time between is not observed.

        Args:
            recovered: what the journal knew.
            now: the present moment.
            reloaded: the same process goes on with another configuration: no time has passed unobserved.

        Returns:
            What has to be committed before the first result.
        """
        batch = Batch()
        site = self._plan.site.id
        alive = recovered.alive
        if alive is not None and alive > now and not reloaded:
            # The clock was set back while nobody ran: the time up to where it stood was lived, and will be again.
            batch.gaps += [Gap(site, name, now, alive, Kind.CLOCK_STEP.value) for name in self.tracks]
        # A check that was never measured has an open gap and no memory.
        for name in recovered.memories.keys() | recovered.open_gaps.keys():
            track = self.tracks.get(name)
            gap = recovered.open_gaps.get(name)
            if track is None:
                if gap is None:
                    batch.gaps.append(Gap(site, name, recovered.alive or now, None, "removed"))
                continue
            track.memory = recovered.memories.get(name, track.memory)
            track.gap = gap
            if name in recovered.queues:
                track.recall(recovered.queues[name])
            if gap is None and not reloaded:
                # Also of a check that is not judged yet: its verdict may be dated before the stop.
                self._open_gap(track, recovered.alive or now, "off", batch)
            track.show(now)
        recent = recovered.recent_incidents
        self._duty = DutyBook(self._plan, recovered.open_incidents, recovered.next_incident, recent)
        self._suspicions = Suspicions(self._plan, self.tracks.values())
        self._scene.resume(recovered.open_incidents.values(), recovered.last_changes, now)
        self._services_shown = {s.id: self._scene.state(s.id) for s in self._plan.services}
        self._board.closed_incidents.extend(reversed(recovered.recent_incidents))
        self._show_board(batch, now)
        return batch

    # Running.

    async def run(self) -> None:
        """Take results until `stop`, then put through all that is left. Raises what a damaged journal raises."""
        while not self._stopping:
            self._board.queue_size = self._results.qsize()
            await self._step()
        self._slots_written = float("-inf")
        left = self._take_all()
        if self.gave_up:
            # What comes after something that is missing would not fit what is written.
            log.error("%d more results could not be written before the stop", len(left))
            return
        await self.put_through(left)

    def stop(self) -> None:
        """Make `run` end after the results that are in the queue by then."""
        self._stopping = True

    async def _step(self) -> None:
        first: list[Result] = []
        try:
            async with asyncio.timeout(IDLE_S):
                first.append(await self._results.get())
        except TimeoutError:
            pass
        else:
            await asyncio.sleep(GATHER_S)
        await self.put_through(first + self._take_all())

    def _take_all(self) -> list[Result]:
        return [self._results.get_nowait() for _ in range(self._results.qsize())]

    async def put_through(self, results: Sequence[Result]) -> None:
        """Judge results and commit everything that follows as one transaction."""
        lapses = self._own_watch.take() if self._own_watch is not None else ()
        now = self._clock()
        batch = Batch(results=list(results))
        for lapse in lapses:
            self._pass_over(lapse, now, batch)
        for result in results:
            track = self.tracks.get(result.check)
            if track is not None:
                self._judge(track, result, batch)
        self._settle_held(batch)
        self._watch_ourselves(now, batch)
        self._record_services(now, batch)
        if self._taken_back:
            self._duty.take_back(self._taken_back, self._scene, now, batch)
            self._taken_back.clear()
        self._duty.review(self._scene, now, batch)
        self._suspicions.review(self._scene.references_standing(), now, batch)
        batch.duties = with_ways(batch.duties, self._board.traces, self._board.open_incidents.values())
        loop_time = asyncio.get_running_loop().time()
        if loop_time - self._slots_written >= SLOTS_EVERY_S:
            self._slots_written = loop_time
            batch.slots = self._slot_counts()
        self._keeping.fill(batch, whole=self._stopping)
        await self._commit(batch, now)
        self._show_results(results)
        self._show_board(batch, now)
        if batch.duties:
            self._told()

    async def _commit(self, batch: Batch, now: datetime) -> None:
        began = asyncio.get_running_loop().time()
        for attempt in itertools.count():
            self.beat = asyncio.get_running_loop().time()
            try:
                await self._journal.commit(batch, now)
                break
            except JournalBusyError as exc:
                # Nothing is dropped: the queue fills, probes wait, and their slots are counted as skipped.
                if self._stopping and attempt >= len(BUSY_PAUSES_S):
                    # The stop must end some time; what could not be written is not observed, and said so.
                    log.error("%d results could not be written before the stop: %s", len(batch.results), exc)
                    self.gave_up = True
                    return
                self._show_trouble(str(exc), asyncio.get_running_loop().time() - began)
                pause = BUSY_PAUSES_S[min(attempt, len(BUSY_PAUSES_S) - 1)]
                log.warning("the journal cannot be written (%s); trying again in %g s", exc, pause)
                await asyncio.sleep(pause)
        self._show_trouble("", asyncio.get_running_loop().time() - began)

    def _show_trouble(self, trouble: str, commit_s: float) -> None:
        """Say on the board that nothing more can be recorded, or that it can again."""
        board = self._board
        board.commit_s, board.queue_size = commit_s, self._results.qsize()
        if bool(trouble) != bool(board.journal_trouble):
            board.journal_trouble_since = self._clock() if trouble else None
            board.version += 1
        board.journal_trouble = trouble
        if board.unrecorded_since != self._journal.safe_stop.since:
            board.unrecorded_since = self._journal.safe_stop.since
            board.version += 1

    # Judging one result.

    def _judge(self, track: Track, result: Result, batch: Batch) -> None:
        at = result.started_at
        track.last = result
        self._note_missed(track, at, batch)
        track.last_started = at
        sample = sample_of(result, track.target.policy)
        self._look_again |= track.is_reference or sample is not Sample.GOOD or track.local_streak > 0
        track.failing = sample is Sample.BAD
        track.note_local(at if sample is Sample.BLIND else None)
        self._scene.note_result(track)
        self._dirty.add(track.target.id)
        if sample is Sample.BLIND:
            self._open_gap(track, at, "local", batch)
            return
        if sample is Sample.BAD and self._scene.blind(track):
            self._unobserved(track, at, batch)
            return
        self._close_gap(track, at, batch)
        before = track.memory
        track.memory = outage.observe(before, track.target.policy, sample, at)
        if track.memory.suspect and not before.suspect:
            self._ask_around(track, at)
        self._decide(track, batch)
        if result.attempt == 0 and not track.memory.suspect:
            track.memory = outage.settle(track.memory)
        if outage.wants_recheck(track.memory, track.target.policy):
            wait = timedelta(seconds=track.target.policy.recheck_s) - (self._clock() - at)
            self._request(track.target.id, wait.total_seconds())
        if track.memory_changed():
            batch.memories[track.target.id] = track.memory
        self._weigh_queue(track, result, batch)
        since = track.weigh_signals(result, sample)
        if since is not None:
            self._change(track, track.believed, since, track.reason(), batch)
            batch.queues[track.target.id] = track.kept()

    def _weigh_queue(self, track: Track, result: Result, batch: Batch) -> None:
        """Feed the judge of congestion, and record what it begins, ends or takes back."""
        queue, before = track.queue, track.queue.episode
        closed = queue.take(result, self._scene.near_queues(track), track.target)
        after = queue.episode
        if before is not None and after is None:
            # Closed, or found to be a longer route: then it never was congestion.
            self._end_congestion(track, ended_at(closed) if closed else began_at(before), batch)
        elif after is not None and (before is None or before.cause is not after.cause):
            self._begin_congestion(track, after, batch)
        self._suspicions.note(track)
        self._keeping.note(track, result.started_at, batch)

    def _begin_congestion(self, track: Track, episode: Episode, batch: Batch) -> None:
        since = track.memory.since
        if since is None or track.believed is not State.CONGESTED:
            return  # down, or not judged yet: said when it answers again
        track.queue_since = max(began_at(episode), since)
        self._change(track, State.CONGESTED, track.queue_since, sentence(episode), batch)

    def _end_congestion(self, track: Track, at: datetime, batch: Batch) -> None:
        since = track.memory.since
        if since is None or track.memory.state not in (State.UP, State.DEGRADED):
            return
        track.queue_since = max(at, since)
        self._change(track, track.believed, track.queue_since, track.reason(), batch)

    def _change(self, track: Track, state: State, at: datetime, detail: str, batch: Batch) -> None:
        site, name = self._plan.site.id, track.target.id
        batch.changes.append(Change(site, name, state, at, self._clock(), at, detail=detail))
        log.info("%s is %s since %s %s", name, state, at.isoformat(), detail)

    def _decide(self, track: Track, batch: Batch) -> None:
        found = outage.verdict(track.memory, track.target.policy)
        self._held.discard(track.target.id)
        if found is None:
            return
        if found.state is State.DOWN and not track.is_reference:
            sight = self._scene.look(track, found.at)
            if sight.blind:
                self._unobserved(track, found.at, batch)
                return
            if sight is sight.WAIT:
                self._held.add(track.target.id)
                return
        track.memory = outage.believe(track.memory, found)
        reading = track.last.reading if track.last else None
        well = found.state is State.UP or reading is None
        change = Change(
            self._plan.site.id,
            track.target.id,
            found.state,
            found.at,
            self._clock(),
            found.earliest,
            "" if well or reading is None else reading.fault or "",
            "" if well or reading is None else reading.detail or slowness(reading, track.target.policy.slow_over_s),
            track.memory.flapping,
        )
        track.because = change.detail
        batch.changes.append(change)
        log.info("%s is %s since %s %s", change.subject, change.state, change.at.isoformat(), change.detail)
        if track.queue.episode is not None:
            self._begin_congestion(track, track.queue.episode, batch)
        elif track.believed is not found.state:
            self._change(track, track.believed, found.at, track.reason(), batch)  # it burned before, and does again

    def _settle_held(self, batch: Batch) -> None:
        for check in list(self._held):
            track = self.tracks[check]
            self._decide(track, batch)
            if track.memory_changed():
                batch.memories[check] = track.memory
            self._dirty.add(check)

    def _ask_around(self, track: Track, since: datetime) -> None:
        """Ask the references and the needed services now, so that the verdict finds fresh answers."""
        if track.is_reference:
            return
        for other in self._scene.witnesses_of(track):
            if other.last_started is None or other.last_started < since:
                self._request(other.target.id, 0.0)
        for other in [*self._scene.needed_by(track), *self._scene.related_to(track)]:
            if other.last_started is None or other.last_started < since:
                self._request(other.target.id, 0.0)

    # Time that was not observed.

    def _note_missed(self, track: Track, at: datetime, batch: Batch) -> None:
        last = track.last_started
        if last is None or track.gap is not None:
            return
        # Over the edge of a peak the longer of the two intervals may lie between.
        every = timedelta(seconds=max(track.target.interval_at(last), track.target.interval_at(at)))
        if at - last > MISSED_AFTER * every:
            batch.gaps.append(Gap(self._plan.site.id, track.target.id, last + every, at, "missed"))

    def _unobserved(self, track: Track, at: datetime, batch: Batch) -> None:
        """Take a bad streak for our own fault: unobserved from its first sign, and no streak any more."""
        start = track.memory.first_bad if track.memory.suspect and track.memory.first_bad else at
        fault, seen = self._scene.fault_of(track), track.memory.last_good
        if fault is not None and seen is not None and track.believed is not State.DOWN:
            # Nobody saw it well between the first sign and its own first failure.
            start = min(start, max(fault.sign or fault.since, seen))
        if track.gap is not None and start < track.gap.start:
            # The streak began before we noticed that we could not measure at all.
            batch.gaps.append(Gap(self._plan.site.id, track.target.id, start, track.gap.start, "own-fault"))
        self._open_gap(track, start, "own-fault", batch)
        track.memory = outage.forget_streak(track.memory)
        track.burn.outage()
        if track.memory_changed():
            batch.memories[track.target.id] = track.memory

    def _open_gap(self, track: Track, start: datetime, cause: str, batch: Batch) -> None:
        if track.gap is None:
            track.gap = Gap(self._plan.site.id, track.target.id, start, None, cause)
            batch.gaps.append(track.gap)
            self._dirty.add(track.target.id)

    def _close_gap(self, track: Track, end: datetime, batch: Batch) -> None:
        if track.gap is None:
            return
        if track.gap in batch.gaps:
            batch.gaps.remove(track.gap)
            batch.gaps.append(Gap(track.gap.site, track.gap.check, track.gap.start, end, track.gap.cause))
        else:
            batch.gaps_closed[track.target.id] = end
        track.gap = None

    def _pass_over(self, lapse: Lapse, now: datetime, batch: Batch) -> None:
        """Count a time in which we were not there as not observed, and go on by the clock as it stands now."""
        tracks = list(self.tracks.values())
        lay(lapse, self._plan.site.id, tracks, batch)
        if lapse.kind is Kind.CLOCK_STEP:
            follow_clock(lapse, now, tracks, batch)
            self._scene.follow_clock(now)
            self._duty.follow_clock(timedelta(seconds=lapse.seconds), now, batch)
            self._dirty.update(self.tracks)
        self._duty.note_lapse(lapse, self._scene, now, batch, tell=worth_telling(lapse))

    def _watch_ourselves(self, now: datetime, batch: Batch) -> None:
        if not self._look_again and not self._scene.own_faults():
            return  # only good results came: nothing about ourselves can have changed
        self._look_again = False
        if not self._scene.watch(now):
            return
        for track in self.tracks.values():
            # What began to fail with our own fault was never a failing of theirs.
            if track.memory.suspect and self._scene.blind(track):
                self._unobserved(track, now, batch)
                self._held.discard(track.target.id)
            elif self._scene.in_doubt(track):
                self._take_back(track, batch)

    def _take_back(self, track: Track, batch: Batch) -> None:
        """Take back an outage that was believed after the first sign of a fault of ours: nobody knows what was so."""
        since = track.memory.since
        assert since is not None  # of an outage that is believed
        self._change(track, State.UNKNOWN, since, WITHDRAWN, batch)
        if track.gap is not None and since < track.gap.start:
            batch.gaps.append(Gap(self._plan.site.id, track.target.id, since, track.gap.start, "own-fault"))
        self._open_gap(track, since, "own-fault", batch)
        track.memory, track.because = outage.retract(track.memory), ""
        if track.memory_changed():
            batch.memories[track.target.id] = track.memory
        track.shown = None  # what it was shown as is taken back with it
        self._dirty.add(track.target.id)
        self._taken_back.add(track.target.service)

    # Services and the board.

    def _record_services(self, now: datetime, batch: Batch) -> None:
        moved = []
        for check in self._dirty:
            track = self.tracks[check]
            self._unshown.add(track.target.service)
            before = track.shown
            track.show(now)
            if track.shown is not before:
                moved.append(check)
        # Nearly always none: a service is what it was while each of its checks is.
        for service in self._scene.touched(moved) if moved else ():
            state, since = self._scene.refresh(service)
            if self._services_shown.get(service.id) is not state:
                self._services_shown[service.id] = state
                detail = self._scene.reason(service.id)
                site = self._plan.site.id
                batch.changes.append(Change(site, service.id, state, since, now, since, detail=detail))
                log.info("service %s is %s since %s", service.id, state, since.isoformat())

    def _show_results(self, results: Sequence[Result]) -> None:
        for result in results:
            track = self.tracks.get(result.check)
            if track is not None:
                view = self._board.checks[result.check]
                seen = result.observed and not (track.gap and result.reading.fault)
                track.show_result(view, result, seen=seen)

    def _show_board(self, batch: Batch, now: datetime) -> None:
        board, changed = self._board, bool(batch.incidents or batch.changes or batch.gaps or batch.gaps_closed)
        for check in self._dirty:
            changed |= self.tracks[check].show_state(board.checks[check])
        self._dirty.clear()
        for incident in batch.incidents.values():
            self._unshown.add(incident.subject)
            if incident.ended_at is not None:
                board.closed_incidents.append(incident)
        open_now = self._duty.open_incidents()
        board.open_incidents = {i.id: i for i in open_now.values()}
        for name in self._unshown & board.services.keys():
            view = board.services[name]
            view.state, view.since = self._scene.state(name), self._scene.since_or_none(name)
            view.detail = self._scene.reason(name)
            view.incident = open_now[name].id if name in open_now else None
        self._unshown.clear()
        changed |= board.show_work(self.book.under_way(self._scene.measured, now))
        fault = next(iter(self._scene.own_faults().values()), None)
        board.own_fault, board.own_fault_since = (fault.kind, fault.since) if fault else ("", None)
        if changed:
            board.version += 1
