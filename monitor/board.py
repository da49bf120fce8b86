"""The board: what is so right now, in memory. Written only by the pipeline and the scheduler, read by exporters.

Rebuilt from the journal at start; never asks the journal afterwards. No locks: one loop, one writer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from config.plan import Plan, ServicePlan, Target
from monitor.announced import Announcement
from monitor.model import Incident, Result, SlotEnd, State
from monitor.traced import RouteTrace
from probes.own_clock import ClockState

LATENESS_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
RTT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOTS_KEPT = 60
_ALL_SEEN = (1 << SLOTS_KEPT) - 1
CLOSED_INCIDENTS_KEPT = 100  # chosen: a page of history; the journal keeps them all


@dataclass(slots=True)
class Histogram:
    """Counts of observations by upper bound, as Prometheus wants them (not yet cumulative)."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Seen:
    """The last 60 slots, each observed or not: one bit each, for a deque takes 700 bytes a check."""

    __slots__ = ("_bits", "_count")

    def __init__(self) -> None:
        self._bits = 0
        self._count = 0

    def append(self, observed: bool) -> None:
        """Add the newest."""
        self._bits = (self._bits << 1 | observed) & _ALL_SEEN
        if self._count < SLOTS_KEPT:
            self._count += 1

    def extend(self, observed: Iterable[bool]) -> None:
        """Add several, the newest last."""
        for one in observed:
            self.append(one)

    def __iter__(self) -> Iterator[bool]:
        """Give them, oldest first."""
        return (bool(self._bits >> place & 1) for place in reversed(range(self._count)))

    @property
    def share(self) -> float | None:
        """Share of them that were observed; None before the first."""
        return self._bits.bit_count() / self._count if self._count else None


@dataclass(slots=True)
class CheckView:
    """A check as it stands."""

    target: Target
    state: State = State.UNKNOWN  # UNKNOWN also while unobserved
    since: datetime | None = None
    detail: str = ""  # why it is not up, or why it is unknown
    last: Result | None = None
    suspect: bool = False  # a bad streak has begun and is not confirmed
    congestion_suspected: bool = False  # a queue seems to stand and is not confirmed
    work: Announcement | None = None  # announced work that it is under; it is measured all the same
    queue_delay_s: float | None = None  # standing above the path's floor; None while learning or not measured
    queue_threshold_s: float | None = None  # how large it must be to be called one: less is not found
    flapping: bool = False
    faults: dict[str, int] = field(default_factory=dict)  # finished probes by fault, "none" for good
    rtt: Histogram = field(default_factory=lambda: Histogram(RTT_BUCKETS_S))
    untrusted: int = 0  # finished probes whose times are not to be trusted: our own loop was late
    sent: int = 0  # echoes sent and lost, for checks that count packets
    lost: int = 0
    slots: dict[SlotEnd, int] = field(default_factory=lambda: dict.fromkeys(SlotEnd, 0))
    recent: Seen = field(default_factory=Seen)  # observed or not, last slots


@dataclass(slots=True)
class ServiceView:
    """A service as it stands."""

    plan: ServicePlan
    state: State = State.UNKNOWN
    since: datetime | None = None
    detail: str = ""
    incident: int | None = None  # id of the open incident
    work: Announcement | None = None  # announced work that it is under


@dataclass(slots=True)
class Board:
    """Everything exporters may show."""

    plan: Plan
    started_at: datetime
    checks: dict[str, CheckView] = field(default_factory=dict)
    services: dict[str, ServiceView] = field(default_factory=dict)
    open_incidents: dict[int, Incident] = field(default_factory=dict)
    closed_incidents: deque[Incident] = field(default_factory=lambda: deque(maxlen=CLOSED_INCIDENTS_KEPT))
    traces: dict[int, list[RouteTrace]] = field(default_factory=dict)  # of the incidents that are shown, oldest first
    own_fault: str = ""  # "" while we can see; near | far | local | resolver | descriptors | sockets otherwise
    own_fault_since: datetime | None = None
    lateness: Histogram = field(default_factory=lambda: Histogram(LATENESS_BUCKETS_S))
    alerts: dict[tuple[str, str], int] = field(default_factory=dict)  # (channel, outcome) -> count
    outbox_waiting: int = 0
    queue_size: int = 0  # results waiting for the pipeline
    queue_limit: int = 0
    running: int = 0  # probes under way
    commit_s: float = 0.0  # how long the last journal transaction took, or this one has taken so far
    journal_trouble: str = ""  # why the journal cannot be written just now; while it lasts nothing here moves on
    journal_trouble_since: datetime | None = None
    config_reloads_refused: int = 0
    chain_head: str = ""  # `number:sha256` of the newest line of the chain of evidence; a witness for others to keep
    unrecorded_since: datetime | None = None  # raw results are not written: `monitor.safe_stop`
    room: tuple[int, int, float | None] | None = None  # bytes of the past, what it may take, days until that is full
    evidence_trouble: str = ""  # why closed hours are not sealed now, or that the disk fills; "" when all is well
    clock: ClockState | None = None  # what the kernel says of the wall clock; None before it was asked
    clock_trouble: str = ""  # unkept: nobody keeps the clock in step; uncertain: it may be wrong by seconds
    lapses: dict[str, tuple[int, float]] = field(default_factory=dict)  # own_watch.Kind -> how often, seconds in all
    work: Mapping[str, Announcement] = field(default_factory=dict)  # by service and check that is under it
    version: int = 0  # grows with every change; what server-sent events wait for

    def __post_init__(self) -> None:
        for target in self.plan.targets():
            self.checks.setdefault(target.id, CheckView(target))
        for service in self.plan.services:
            self.services.setdefault(service.id, ServiceView(service))

    def show_work(self, under_way: Mapping[str, Announcement]) -> bool:
        """Mark which services and checks are under announced work; return whether that changed."""
        if under_way == self.work:
            return False
        self.work = under_way
        for service, view in self.services.items():
            view.work = under_way.get(service)
        for check, shown in self.checks.items():
            shown.work = under_way.get(check)
        return True

    def coverage(self, check: str) -> float | None:
        """Share of the last slots of a check (up to 60) that were observed; None before the first."""
        return self.checks[check].recent.share
