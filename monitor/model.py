"""The types that travel between the rooms. Frozen, serialisable, without behaviour that needs a clock.

Every record carries its site: a hub may one day judge results of many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.plan import ServiceKind
from monitor.traced import RouteTrace
from probes.base import BLIND_FAULTS, Reading

SUSPECT = "suspect"  # in evidence: failing, and not yet believed
SIMULATED = "(simulated)"  # ends the version of a run whose results were made up: drills, examples, benches
OWN_FAULT = "own-fault"  # the subject of an incident in which we ourselves are at fault
SUSPICION = "suspicion"  # the service of a word about queues that are suspected in a peak
GROUP = "group"  # begins the subject of an incident of several services with one cause: group:<kind>:<what>


class State(StrEnum):
    """What a check or service is. Times without a record are UNKNOWN.

    MAINTENANCE is a state of time alone: a judge never gives it, and what is measured meanwhile goes on beside it.
    """

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    CONGESTED = "congested"
    DOWN = "down"
    MAINTENANCE = "maintenance"

    @property
    def severity(self) -> int:
        """Order from well to worst, for choosing the worse of two; UNKNOWN is lowest."""
        return _SEVERITY[self]


_SEVERITY = {
    State.UNKNOWN: 0,
    State.MAINTENANCE: 0,
    State.UP: 1,
    State.DEGRADED: 2,
    State.CONGESTED: 3,
    State.DOWN: 4,
}
JUDGED = tuple(s for s in State if s is not State.MAINTENANCE)  # what a check or service can be found to be


class SlotEnd(StrEnum):
    """How a planned slot ended in the ledger."""

    DONE = "done"  # started when it was due
    LATE = "late"  # started, but later than the scheduler's bound
    SKIPPED = "skipped"  # not started: the check's previous run was still going, or the cap was reached
    LOST = "lost"  # the time passed while the daemon could not act, or the run was cut off by a stop

    __hash__ = str.__hash__  # an enum's own hash is a call of Python's, several times a slot


@dataclass(frozen=True, slots=True)
class Result:
    """One finished probe."""

    site: str
    check: str  # Target.id
    path: str  # path id, or ""
    slot: datetime  # the planned moment, UTC; for a recheck, when it was asked for
    started_at: datetime  # UTC
    lateness_s: float  # monotonic, from planned to started
    attempt: int  # 0 for a scheduled slot; 1, 2, … for fast rechecks
    reading: Reading

    @property
    def observed(self) -> bool:
        """Whether this result says anything about the target."""
        return self.reading.fault not in BLIND_FAULTS


@dataclass(frozen=True, slots=True)
class Change:
    """A confirmed change of state, dated from the first result that showed it.

    A later record overrides everything earlier from `at` on, so a back-dated change rewrites no row.
    """

    site: str
    subject: str  # Target.id, or a service id
    state: State
    at: datetime  # UTC, of the first deciding result
    confirmed_at: datetime  # UTC, when it was believed
    earliest: datetime  # the last contrary result: the truth lies in (earliest, at]
    fault: str = ""  # the Fault that decided it, if any
    detail: str = ""  # one line
    flapping: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which a check was not observed. Laid over the changes: unobserved beats any state.

    `end` None is still open.
    """

    site: str
    check: str
    start: datetime
    end: datetime | None
    cause: str  # "off" | "own-fault" | "local" | "missed" | "removed" | a value of own_watch.Kind


class CauseKind(StrEnum):
    """What services in one incident have in common."""

    NEEDS = "needs"  # the others need this service, by the configuration
    PATH = "path"  # an uplink that a check may leave by
    HOST = "host"
    CARRIER = "carrier"
    RESOLVER = "resolver"  # names are not found
    COINCIDENCE = "coincidence"  # nothing that is known; too many at once for chance


class Certainty(StrEnum):
    """How sure a cause is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why services fail together, with the figures that say so."""

    kind: CauseKind
    subject: str  # id of a service or path, a host, a domain; "" where there is none
    certainty: Certainty
    members: tuple[str, ...]  # ids of the services hit, by when they began; also those that are well again
    of: int = 0  # services that use it, those hit included
    good: int = 0  # checks through it that answered all the same
    elsewhere: int = 0  # services that do not use it and are well
    paths: int = 0  # other paths by which each of the same services is reached
    span_s: float = 0.0  # from the first to the last of their begins
    chance: float = 0.0  # how probable so many would be if each failed by itself
    thread: str = ""  # of the letters that tell of it, where an incident of one service was told before
    told: tuple[str, ...] = ()  # members that a letter named, or that had one of their own
    spread: bool = False  # the further word that it hit more was said
    partly: bool = False  # the word that some are back, and others not, was said


class EventKind(StrEnum):
    """Why someone has to be told."""

    OPENED = "opened"
    WORSENED = "worsened"
    SPREAD = "spread"  # more services are hit than was told
    PARTLY = "partly"  # some are back, the others are not
    RECOVERED = "recovered"
    PASSED = "passed"  # our own fault, found when it was over
    SUSPECTED = "suspected"  # in a peak: queues seem to stand, and are not confirmed
    UNCONFIRMED = "unconfirmed"  # a suspicion that was told came to nothing
    CORRECTED = "corrected"  # what was told was our own fault
    TEST = "test"
    REPORT = "report"  # a report by schedule


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line of how we know: what a check said."""

    check: str  # name for people
    at: datetime
    state: str  # a State's value, or SUSPECT
    fault: str  # a Fault's value, or ""
    detail: str
    kind: str = ""  # probe kind


@dataclass(frozen=True, slots=True)
class Retracted:
    """A word that was told, or was to be told, and is not so."""

    incident: int
    service_name: str
    kind: EventKind
    state: State  # what was said of it
    since: datetime
    told_at: datetime | None = None  # when a server accepted it; None: it never left
    thread_id: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Everything a message needs, frozen at the moment of the change, so that it can be sent again as it was."""

    site: str
    site_name: str
    incident: int
    kind: EventKind
    service: str  # service id, or OWN_FAULT, or "" for a test
    service_name: str
    service_kind: ServiceKind
    state: State
    since: datetime  # when the incident began
    at: datetime  # when this was confirmed
    evidence: tuple[Evidence, ...] = ()
    references_good: int = 0
    references_bad: int = 0
    affected: tuple[str, ...] = ()  # names of other services hit by the same cause
    cause: str = ""  # own-fault: near | far | local; otherwise the name of the service that this follows from
    flapping: bool = False
    ended_at: datetime | None = None
    reason: str = ""  # what decided it when it began, one line
    begin_unseen: bool = False  # nobody looked just before: it may have begun earlier
    failing_since: datetime | None = None  # it fails since then; counted from `since` on, the end of announced work
    why: Cause | None = None  # what several services have in common, or why one path does not get through
    why_name: str = ""  # of its subject, for people
    members: tuple[str, ...] = ()  # names of the services hit by it, back or not
    still: tuple[str, ...] = ()  # names of those that are not back
    way: RouteTrace | None = None  # how far packets got, when that was traced
    retracted: tuple[Retracted, ...] = ()  # of a correction: what was told wrongly


@dataclass(frozen=True, slots=True)
class Incident:
    """From confirmed trouble to confirmed recovery, of a service, of ourselves, or of what fails together."""

    id: int
    site: str
    subject: str  # service id, OWN_FAULT, or GROUP:… of several services
    state: State  # the worst so far; UNKNOWN for OWN_FAULT
    began_at: datetime
    confirmed_at: datetime
    ended_at: datetime | None = None
    parent: int | None = None  # the incident this one follows from
    told: bool = False  # whether a message of its own was owed; children are told with their parent
    detail: str = ""
    cause: Cause | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether it turned out to be our own fault: it never was, and counts nowhere."""
        return self.state is State.UNKNOWN and self.subject.partition(":")[0] != OWN_FAULT


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A duty to tell, claimed by a channel."""

    id: int
    channel: str
    message_id: str  # the same at every try
    thread_id: str  # one an incident
    notice: Notice
    attempts: int
    created_at: datetime
    served: frozenset[str] = frozenset()  # recipients who have it from an earlier try


@dataclass(frozen=True, slots=True)
class SlotCount:
    """How the planned slots of a check ended within one hour."""

    check: str
    hour: datetime
    done: int = 0
    late: int = 0
    skipped: int = 0
    lost: int = 0
