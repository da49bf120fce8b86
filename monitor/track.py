"""One check under watch: its memory, whether it is observed, and what of it is shown. State without decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

from config.plan import REFERENCES, OutagePolicy, Target
from monitor.board import CheckView
from monitor.judge import burn as burns
from monitor.judge.burn import Burn
from monitor.judge.observer import Witness
from monitor.judge.outage import Memory, Sample
from monitor.judge.service import NEVER, Since
from monitor.judge.signals import Signals
from monitor.model import Gap, Result, State
from monitor.queues import Queue, began_at, sentence

LOCAL_STREAK: Final = 2  # results in a row that we could not measure, from which on it is believed


def sample_of(result: Result, policy: OutagePolicy) -> Sample:
    """Say what a result means for the judge of outages."""
    if not result.observed:
        return Sample.BLIND
    if result.reading.fault is not None:
        return Sample.BAD
    response_s = result.reading.response_s
    slow = policy.slow_over_s is not None and response_s is not None and response_s > policy.slow_over_s
    slow = slow and result.reading.trusted  # it is we who may have been slow
    return Sample.SLOW if slow or result.reading.warned else Sample.GOOD


# What changes with every result of a steady state is left out; a restart does without.
_STEADY: Final = attrgetter(*(f.name for f in fields(Memory) if f.name not in {"last_good", "last_bad", "counted_bad"}))


def _kept(memory: Memory) -> tuple[object, ...]:
    counted = None if memory.state is State.DOWN else memory.counted_bad
    return (*_STEADY(memory), counted)


@dataclass(slots=True)
class Track:
    """All the pipeline knows of one check."""

    target: Target
    memory: Memory = field(default_factory=Memory)
    gap: Gap | None = None  # open: not observed since its start
    last: Result | None = None
    last_started: datetime | None = None
    failing: bool = False  # the last result was bad
    local_streak: int = 0  # results in a row in which we could not measure
    local_since: datetime | None = None  # the first of them
    because: str = ""  # detail of the result that decided the believed state
    shown: Since | None = None
    queue: Queue = field(default_factory=Queue)
    queue_since: datetime | None = None  # when congestion last began or ended
    burn: Burn = field(default_factory=Burn)
    signals: Signals = field(default_factory=Signals)
    burn_since: datetime | None = None  # when scattered failures, or a full interface, last began or ended
    _written: tuple[object, ...] = _kept(Memory())

    @property
    def is_reference(self) -> bool:
        """Whether this is a neutral point and not a service's check."""
        return self.target.service == REFERENCES

    @property
    def state(self) -> State:
        """What is so: the believed state, or UNKNOWN while not observed."""
        return State.UNKNOWN if self.gap is not None else self.believed

    @property
    def believed(self) -> State:
        """What is believed of the check, observed just now or not. A queue matters only while something answers."""
        queued = self.queue.episode is not None or self.signals.full_since is not None
        if queued and self.memory.state in (State.UP, State.DEGRADED):
            return State.CONGESTED
        if self.burn.burning is not None and self.memory.state is State.UP:
            return State.DEGRADED
        return self.memory.state

    def weigh_signals(self, result: Result, sample: Sample) -> datetime | None:
        """Look for scattered failures and a full interface; return since when another state is believed, or None.

        Call it after the judge of outages: what that one calls an outage is never scattered. A recheck counts for no
        round, or the rechecks after a failure would water its share down.
        """
        burn, at = self.burn, result.started_at
        if self.memory.state is State.DOWN or self.is_reference:
            burn.outage()
            return None
        if sample is Sample.BAD:
            if result.attempt == 0:
                burn.bad(at.timestamp())
            return None
        objective, before = self.target.policy.objective, self.believed
        since: float | None = None
        if burn.good(at.timestamp(), objective) if result.attempt == 0 else burn.settle(objective):
            since = burn.burning.since if burn.burning is not None else at.timestamp()
        if self.signals.take(at.timestamp(), result.reading):
            since = self.signals.full_since or at.timestamp()
        if since is None:
            return None
        began = datetime.fromtimestamp(since, UTC)
        self.burn_since = max(filter(None, (began, self.memory.since, self.queue_since, self.burn_since)))
        return self.burn_since if self.believed is not before else None

    def kept(self) -> Mapping[str, Any]:
        """Return what a restart must not forget of queues and of scattered failures, as JSON can hold it."""
        state = dict(self.queue.state())
        if not self.burn.idle:
            state["burn"] = self.burn.state()
        if not self.signals.idle:
            state["signals"] = self.signals.state()
        return state

    def recall(self, state: Mapping[str, Any]) -> None:
        """Go on with what `kept` returned before a restart."""
        self.queue, self.burn, self.signals = Queue(state), Burn(state.get("burn")), Signals(state.get("signals"))
        self.queue_since = began_at(self.queue.episode) if self.queue.episode else None
        burning = self.burn.burning
        self.burn_since = datetime.fromtimestamp(burning.since, UTC) if burning else None

    def note_local(self, at: datetime | None) -> None:
        """Count a result in which we could not measure, started at `at`; None is one in which we could."""
        if at is None:
            self.local_streak, self.local_since = 0, None
        else:
            self.local_streak, self.local_since = self.local_streak + 1, self.local_since or at

    def memory_changed(self) -> bool:
        """Whether the memory differs from what was last written, as far as a restart needs it; counts as written."""
        kept = _kept(self.memory)
        if kept == self._written:
            return False
        self._written = kept
        return True

    def show(self, now: datetime) -> None:
        """Bring what is shown in line with what is so."""
        state = self.state
        if self.shown is not None and self.shown.state is state:
            return
        at = self.gap.start if self.gap else self._since()
        if self.shown is not None and self.shown.state is State.UNKNOWN and at is not None:
            # Seen again: the believed state may be older than the gap it shows through after.
            at = max(at, self.last_started or at) if self.memory.state is not State.DOWN else at
        before = self.shown.state if self.shown else State.UNKNOWN
        self.shown = Since(state, at or now, before)

    def _since(self) -> datetime | None:
        return max(filter(None, (self.memory.since, self.queue_since, self.burn_since)), default=None)

    def show_state(self, view: CheckView) -> bool:
        """Copy the shown state to the board; return whether it differs."""
        shown = self.shown or Since(State.UNKNOWN, NEVER, State.UNKNOWN)
        since = self.shown.at if self.shown else None
        queued = self.queue.suspected or self.signals.slow
        before = (view.state, view.since, view.suspect, view.congestion_suspected)
        changed = before != (shown.state, since, self.memory.suspect, queued)
        view.state, view.since = shown.state, since
        view.suspect, view.congestion_suspected = self.memory.suspect, queued
        view.flapping = self.memory.flapping
        view.detail = self.reason()
        return changed

    def reason(self) -> str:
        """Say in one line why the check is not up, or why it is unknown; empty when it is up."""
        if self.gap is not None and self.gap.cause != "local":
            return self.gap.cause
        if self.last is not None and self.last.reading.fault is not None:
            return self.last.reading.detail or str(self.last.reading.fault)
        if self.state is State.CONGESTED and self.queue.episode is not None:
            return sentence(self.queue.episode)
        if self.state is State.CONGESTED:
            return self.signals.sentence()
        if self.state is State.DEGRADED and self.memory.state is State.UP and self.burn.burning is not None:
            return burns.sentence(self.burn.burning)
        return "" if self.state is State.UP else self.because

    def show_result(self, view: CheckView, result: Result, *, seen: bool) -> None:
        """Count a result on the board."""
        reading = result.reading
        view.last = result
        standing = self.queue.judge.standing()
        view.queue_delay_s = None if standing is None else max(standing.queue_s, 0.0)
        view.queue_threshold_s = None if standing is None else standing.threshold_s
        name = reading.fault or "none"
        view.faults[name] = view.faults.get(name, 0) + 1
        view.untrusted += not reading.trusted
        if result.attempt == 0:
            view.recent.append(seen)
        if reading.rtts_s:
            view.sent += len(reading.rtts_s)
            for rtt in reading.rtts_s:
                if rtt is None:
                    view.lost += 1
                else:
                    view.rtt.observe(rtt)
        elif reading.fault is None and reading.trusted:
            view.rtt.observe(reading.duration_s)

    def witness(self) -> Witness:
        """Return this reference as the observer sees it.

        One that cannot even be asked, twice in a row, is lost to us like one that does not answer: no route out is
        the plainest way in which an uplink fails, and no result will ever call such a reference down.
        """
        bad_since = self.memory.first_bad or (self.memory.since if self.memory.state is State.DOWN else None)
        if bad_since is None and self.local_streak > 0:
            bad_since = self.local_since
        failing = self.failing or self.local_streak > 0
        if failing and bad_since is None:
            bad_since = self.last_started
        state = State.DOWN if self.local_streak >= LOCAL_STREAK else self.memory.state
        return Witness(self.target.near, self.last_started, state, failing, bad_since)
