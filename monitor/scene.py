"""What is so at this moment: the services' states, the references, and whether we can see at all.

Derived from the tracks; holds no record of its own beyond since when. Written for the pipeline and the duty book.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from config.plan import Plan, Rule, ServicePlan
from monitor.duty import OwnFault, is_own_fault, own_fault_subject
from monitor.judge import observer
from monitor.judge.cause import Failure, Thing, Use
from monitor.judge.observer import Sight
from monitor.judge.service import NEVER, Since, began, combine
from monitor.maintenance import WorkBook
from monitor.model import OWN_FAULT, SUSPECT, Cause, Change, Evidence, Incident, State
from monitor.own_faults import LOCAL_KINDS, RESOLVER, Host
from monitor.queues import Near
from monitor.sharing import Sharing
from monitor.track import Track

_RANK: Final = {State.DOWN: 0, State.CONGESTED: 1, State.DEGRADED: 2, State.UNKNOWN: 3, State.UP: 4}


@dataclass(slots=True)
class _Service:
    plan: ServicePlan
    tracks: Sequence[Track]
    rule: int | Rule
    state: State = State.UNKNOWN
    since: datetime | None = None
    begin_seen: bool = False  # it was observed when it became what it is


@dataclass(slots=True)
class LiveScene:
    """Answers questions about the present."""

    plan: Plan
    tracks: Mapping[str, Track]
    book: WorkBook  # of announced work
    _services: dict[str, _Service] = field(default_factory=dict)
    _faults: dict[str, OwnFault] = field(default_factory=dict)
    _ended: dict[str, datetime] = field(default_factory=dict)
    _references: list[Track] = field(default_factory=list)
    _sharing: Sharing = field(init=False)
    _host: Host = field(init=False)
    _failing: dict[str, set[str]] = field(default_factory=dict)  # service -> its checks whose last result was not good
    _paths: set[str] = field(default_factory=set)  # uplinks with references of their own; "" is the system's route

    def __post_init__(self) -> None:
        self._references = [t for t in self.tracks.values() if t.is_reference]
        self._host = Host(self.tracks.values())
        self._sharing = Sharing(self.plan, self.tracks)
        self._paths = {t.target.path_id for t in self._references}
        for plan in self.plan.services:
            self._services[plan.id] = _Service(plan, [self.tracks[t.id] for t in plan.targets], plan.rule)

    def resume(self, incidents: Iterable[Incident], changes: Mapping[str, Change], now: datetime) -> None:
        """Take up own faults that were open, and since when services were what they were."""
        for incident in incidents:
            if is_own_fault(incident.subject):
                self._faults[incident.subject] = OwnFault(incident.subject, incident.detail, incident.began_at)
        for service in self._services.values():
            self.refresh(service.plan)
            known = changes.get(service.plan.id)
            if known is not None and known.state is service.state:
                service.since = known.at
            elif service.since is None and known is not None:
                service.since = now

    def touched(self, checks: Collection[str]) -> list[ServicePlan]:
        """Return the services that any of these checks belongs to."""
        names = {self.tracks[c].target.service for c in checks}
        return [s.plan for s in self._services.values() if s.plan.id in names]

    def refresh(self, plan: ServicePlan) -> tuple[State, datetime]:
        """Work out a service's state from its checks; return it and since when."""
        service = self._services[plan.id]
        shown = [t.shown or Since(State.UNKNOWN, NEVER, State.UNKNOWN) for t in service.tracks]
        state = combine([s.state for s in shown], service.rule)
        known = [s for s in shown if s.at > NEVER]
        if state is not service.state:
            service.begin_seen = service.state is not State.UNKNOWN
        if state is not service.state and known:
            service.since = began(known, service.rule) if len(known) == len(shown) else max(s.at for s in known)
        service.state = state
        return state, service.since or max((s.at for s in known), default=NEVER)

    # For the duty book.

    def state(self, service: str) -> State:
        """Return a service's state."""
        return self._services[service].state

    def since(self, service: str) -> datetime:
        """Return since when a service is what it is; only for one that has been judged."""
        since = self._services[service].since
        assert since is not None
        return since

    def begin_seen(self, service: str) -> bool:
        """Whether it was observed when it became what it is; what was unknown before may have begun earlier."""
        return self._services[service].begin_seen

    def since_or_none(self, service: str) -> datetime | None:
        """Return since when a service is what it is; None before its first verdict."""
        return self._services[service].since

    def suspect(self, service: str) -> bool:
        """Whether a check of it has begun to fail and is not judged yet."""
        return any(t.memory.suspect for t in self._services[service].tracks)

    def flapping(self, service: str) -> bool:
        """Whether a check of it keeps changing."""
        return any(t.memory.flapping for t in self._services[service].tracks)

    def reason(self, service: str) -> str:
        """Say in one line why a service is not up."""
        found = self._services[service]
        if found.state is State.UP:
            return ""
        worst = min(found.tracks, key=lambda t: _RANK[t.state])
        return f"{worst.target.name}: {worst.reason()}" if worst.reason() else ""

    def evidence(self, service: str) -> Sequence[Evidence]:
        """Return what its checks said last, the failing ones first."""
        return _evidence(self._services[service].tracks)

    def references(self) -> tuple[Sequence[Evidence], int, int]:
        """Return what the references said last, how many are good and how many are not."""
        return (_evidence(self._references), *self.references_standing())

    def references_standing(self) -> tuple[int, int]:
        """Return how many references are good and how many are not."""
        bad = sum(t.failing or t.local_streak > 0 for t in self._references)
        return sum(t.last is not None for t in self._references) - bad, bad

    def own_faults(self) -> Mapping[str, OwnFault]:
        """Return why we cannot see, by subject; empty when we can."""
        return self._faults

    def own_fault_ended(self, subject: str) -> datetime | None:
        """Return when sight came back, if it did."""
        return self._ended.get(subject)

    def failure(self, service: str) -> Failure:
        """Return how a service in trouble fails: since when, and what would explain all of it."""
        return self._sharing.failure(service, self.since(service))

    def shares(self, service: str) -> frozenset[Thing]:
        """Return everything that a service shares with others."""
        return self._sharing.shares(service)

    def uses(self, since: datetime) -> Mapping[Thing, Use]:
        """Return who uses what, and how many checks through it have answered since a moment."""
        return self._sharing.uses(since)

    def one_path(self, service: str) -> Cause | None:
        """Return the path that alone does not get through to a service, where others do."""
        return self._sharing.one_path(service)

    def at_work(self, service: str, now: datetime) -> bool:
        """Whether a service is under announced work."""
        return not self.book.idle and self.book.on_service(service, self.measured(service), now) is not None

    def counts_from(self, service: str, moment: datetime) -> datetime:
        """Return from when on a trouble counts that began at a moment: announced work puts it off to its end."""
        return self.book.counts_from(service, self.measured(service), moment)

    def measured(self, service: str) -> list[State]:
        """Return what the checks of a service are measured to be, announced work or not."""
        return [t.shown.state if t.shown else State.UNKNOWN for t in self._services[service].tracks]

    # For judging.

    def note_result(self, track: Track) -> None:
        """Take in whether a check's last result was good: counted as it comes, for every verdict asks how many fail."""
        checks = self._failing.get(track.target.service)
        if track.failing or track.local_streak > 0:
            if not track.is_reference:
                self._failing.setdefault(track.target.service, set()).add(track.target.id)
        elif checks is not None:
            checks.discard(track.target.id)
            if not checks:
                del self._failing[track.target.service]

    def witnesses_of(self, track: Track) -> list[Track]:
        """Return the references that leave by the check's path, or else those that leave by none."""
        path = track.target.path_id if track.target.path_id in self._paths else ""
        return [t for t in self._references if t.target.path_id == path]

    def near_queues(self, track: Track) -> Near:
        """Return how the near references of a check's path stand: what queues there, queues on our side."""
        near = [w.queue for w in self.witnesses_of(track) if w.target.near and w is not track]
        return Near(
            [standing for q in near if (standing := q.judge.standing())],
            [standing for q in near if q.fast is not None and (standing := q.fast.standing())],
        )

    def needed_by(self, track: Track) -> list[Track]:
        """Return the checks of what the check's service needs directly."""
        if track.is_reference:
            return []
        needs = self._services[track.target.service].plan.needs
        return [t for n in needs for t in self._services[n].tracks]

    def related_to(self, track: Track) -> Sequence[Track]:
        """Return a few checks of other services that a common cause would hit too."""
        return [] if track.is_reference else self._sharing.related(track)

    def look(self, track: Track, since: datetime | None) -> Sight:
        """Ask whether we can see, for a check that has been failing since a moment."""
        witnesses = [t.witness() for t in self.witnesses_of(track)]
        return observer.look(witnesses, since, self._failing_share(but=track.target.service))

    def blind(self, track: Track) -> bool:
        """Whether a failure of this check says nothing about its target now."""
        return self.fault_of(track) is not None

    def fault_of(self, track: Track) -> OwnFault | None:
        """Return the fault of ours that makes a failure of this check say nothing about its target."""
        if track.is_reference:
            return None
        fault = self._faults.get(own_fault_subject(track.target.path_id))
        if fault is None and track.target.path_id not in self._paths:
            fault = self._faults.get(OWN_FAULT)
        # Without a resolver what asks for a name cannot be measured at all; what fails otherwise is the target.
        return None if fault is None or fault.kind == RESOLVER else fault

    def in_doubt(self, track: Track) -> bool:
        """Whether a check was believed down after the first sign of a fault of ours that holds now."""
        fault, memory = self.fault_of(track), track.memory
        if fault is None or memory.state is not State.DOWN or memory.since is None:
            return False
        return memory.since >= (fault.sign or fault.since)

    def _failing_share(self, but: str = "") -> float:
        """Return the share of services that fail beside the one in question, `but` or any one that fails."""
        failing, others = len(self._failing), len(self._services) - 1
        if others < 1:
            return 1.0 if failing or not self._services else 0.0
        return max(0, failing - (not but or but in self._failing)) / others

    def watch(self, now: datetime) -> bool:
        """Look whether we can see, by every path that has references; return whether we are blind by any."""
        # Also uplinks that lost their references by a reload: nobody else would ever end their fault.
        for path in self._paths | {""} | {s.partition(":")[2] for s in self._faults}:
            self._watch_path(path, now)
        return bool(self._faults)

    def _watch_path(self, path: str, now: datetime) -> None:
        subject = own_fault_subject(path)
        tracks = [t for t in self._references if t.target.path_id == path]
        witnesses = [t.witness() for t in tracks]
        sight = observer.look(witnesses, None, self._failing_share())
        kind = sight.value if sight.blind else ""
        if not kind and not path:
            kind = self._host.at_fault()
        known = self._faults.get(subject)
        if kind and (known is None or (sight.blind and known.kind in LOCAL_KINDS)):
            if sight.blind:
                since, sign = observer.blind_since(witnesses), observer.first_sign(witnesses)
            else:
                since = sign = self._host.first_sign(kind)
            self._faults[subject] = OwnFault(subject, kind, since or now, sign)
            self._ended.pop(subject, None)
        elif not kind and known is not None and self._seen_again(known):
            over = self._faults.pop(subject)
            back = [t.memory.since for t in tracks if t.memory.since and t.memory.since > over.since]
            self._ended[subject] = max(back) if back and over.kind not in LOCAL_KINDS else now

    def _seen_again(self, fault: OwnFault) -> bool:
        if fault.kind in LOCAL_KINDS:
            return self._host.over(fault.kind)
        # After a restart nothing has been asked yet, and a single reference is believed only together with the
        # services: what was blind stays blind until everyone was asked.
        return all(t.last is not None for t in self.tracks.values())

    def follow_clock(self, now: datetime) -> None:
        """Let no service be what it is since a moment ahead of a clock that was set back."""
        for service in self._services.values():
            if service.since is not None:
                service.since = min(service.since, now)


def _evidence(tracks: Iterable[Track]) -> list[Evidence]:
    asked = [(t, t.last) for t in tracks if t.last is not None]
    asked.sort(key=lambda pair: (pair[1].reading.fault is None, _RANK[pair[0].state]))
    return [
        Evidence(
            check=t.target.name,
            at=r.started_at,
            state=SUSPECT if t.memory.suspect else t.state.value,
            fault=r.reading.fault or "",
            detail=r.reading.detail or (t.reason() if t.state in (State.CONGESTED, State.DEGRADED) else ""),
            kind=t.target.probe.kind,
        )
        for t, r in asked
    ]
