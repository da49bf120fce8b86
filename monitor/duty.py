"""The duty to tell: incidents from confirmed trouble to confirmed recovery, and who is owed a word.

Works on levels, not edges: `review` compares what is with what has been told and writes the difference into the
batch of the same transaction. So nothing is lost when several things change at once, and a restart just reviews again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from config.plan import Plan, ServicePlan
from monitor.groups import Rates, group_subject, is_group, is_service, merged
from monitor.journal import Batch, Duty, Withdrawal
from monitor.judge import cause as causes
from monitor.judge.cause import Failure, Thing, Use
from monitor.model import OWN_FAULT, Cause, CauseKind, Certainty, EventKind, Evidence, Incident, State
from monitor.notices import EVIDENCE_LINES, Notices, message_of, thread_of
from monitor.open_incidents import Needs, OpenIncidents
from monitor.own_watch import Lapse
from monitor.withdrawal import WITHDRAWN

__all__ = ["CAUSE_WAIT", "EVIDENCE_LINES", "ORPHAN_WAIT", "DutyBook", "OwnFault", "Scene"]

TROUBLE: Final = frozenset({State.DOWN, State.CONGESTED, State.DEGRADED})
CAUSE_WAIT: Final = timedelta(seconds=15)  # chosen: a needed service in doubt gets this long to be judged
ORPHAN_WAIT: Final = timedelta(seconds=60)  # chosen: after the cause has ended, consequences get this long to end
SPREAD_WAIT: Final = timedelta(seconds=30)  # chosen: what joins a told incident is gathered this long, for one word


@dataclass(frozen=True, slots=True)
class OwnFault:
    """Why we cannot see, for one uplink (or the system's own route)."""

    subject: str  # OWN_FAULT, or OWN_FAULT:path
    kind: str  # near | far, or a part of our host: see own_faults.LOCAL_KINDS
    since: datetime
    sign: datetime | None = None  # its first sign, when earlier: what was believed since is in doubt


def own_fault_subject(path: str) -> str:
    """Return the subject of incidents in which we cannot see by an uplink; "" is the system's own route."""
    return f"{OWN_FAULT}:{path}" if path else OWN_FAULT


def is_own_fault(subject: str) -> bool:
    """Whether an incident's subject is ourselves and not a service."""
    return subject == OWN_FAULT or subject.startswith(f"{OWN_FAULT}:")


class Scene(Protocol):
    """What is so at this moment, as the pipeline knows it."""

    def state(self, service: str) -> State:
        """Return a service's state."""

    def since(self, service: str) -> datetime:
        """Return since when."""

    def begin_seen(self, service: str) -> bool:
        """Whether it was observed when it became what it is."""

    def reason(self, service: str) -> str:
        """Say in one line why it is not up."""

    def suspect(self, service: str) -> bool:
        """Whether a check of it has begun to fail and is not judged yet."""

    def flapping(self, service: str) -> bool:
        """Whether a check of it keeps changing."""

    def evidence(self, service: str) -> Sequence[Evidence]:
        """Return what its checks said last, the failing ones first."""

    def references(self) -> tuple[Sequence[Evidence], int, int]:
        """Return what the references said, how many are good and how many are not."""

    def own_faults(self) -> Mapping[str, OwnFault]:
        """Return why we cannot see, by subject; empty when we can."""

    def own_fault_ended(self, subject: str) -> datetime | None:
        """Return when sight came back, if it did."""

    def failure(self, service: str) -> Failure:
        """Return how a service in trouble fails: since when, and what would explain all of it."""

    def shares(self, service: str) -> frozenset[Thing]:
        """Return everything that a service shares with others."""

    def uses(self, since: datetime) -> Mapping[Thing, Use]:
        """Return who uses what, and how many checks through it have answered since a moment."""

    def one_path(self, service: str) -> Cause | None:
        """Return the path that alone does not get through to a service, where others do."""

    def at_work(self, service: str, now: datetime) -> bool:
        """Whether it is under announced work."""

    def counts_from(self, service: str, moment: datetime) -> datetime:
        """Return from when on a trouble counts that began at a moment: announced work puts it off to its end."""


class DutyBook:
    """The open incidents of a site and what has been told of them. Owned by the pipeline."""

    def __init__(
        self,
        plan: Plan,
        open_incidents: Mapping[int, Incident],
        next_incident: int,
        recent: Iterable[Incident] = (),
    ) -> None:
        """Args: recent: incidents that ended lately, the newest without a gap: how often does what fail by itself."""
        self._plan = plan
        self._services = plan.by_id()
        self._open = OpenIncidents(open_incidents.values())
        self._needs = Needs(self._services)
        self._next = next_incident
        self._notices = Notices(plan)
        self._rates = Rates(recent)
        self._orphaned: dict[int, datetime] = {}
        self._excused: dict[
            int, datetime
        ] = {}  # incidents that followed from announced work -> when that was seen last
        self._children: dict[int, set[str]] = {}  # names of services told with an incident
        self._looked: frozenset[int] = frozenset()  # incidents of which it is known whether they have one cause
        self._waiting: dict[tuple[int, str], datetime] = {}  # since when a group's word of joining or part waits
        self._last_end: dict[int, datetime] = {}  # of a group's members
        for incident in self._open.values():
            if incident.parent is not None:
                self._children.setdefault(incident.parent, set()).add(self._notices.name(incident.subject))

    def open_incidents(self) -> Mapping[str, Incident]:
        """Return the open incidents by subject."""
        return self._open

    def review(self, scene: Scene, now: datetime, batch: Batch) -> None:
        """Bring incidents and duties in line with the scene."""
        for gone in [s for s in self._open if s not in self._services and is_service(s)]:
            self._close(self._open[gone], now, batch, detail="no longer in the configuration")
        self._review_own_faults(scene, now, batch)
        for service in self._services.values():
            self._review_service(service, scene, now, batch)
        self._excuse(scene, now)
        self._gather(scene, now, batch)
        for incident in list(self._open.values()):
            if is_group(incident.subject):
                self._review_group(incident, scene, now, batch)
            elif not incident.told:
                self._consider_telling(incident, scene, now, batch)
        if batch.incidents and self._children:
            still = {i.id for i in self._open.values()}
            self._children = {number: names for number, names in self._children.items() if number in still}

    def _review_service(self, service: ServicePlan, scene: Scene, now: datetime, batch: Batch) -> None:
        state, incident = scene.state(service.id), self._open.get(service.id)
        if state in TROUBLE:
            if incident is None:
                since = scene.since(service.id)
                began = scene.counts_from(service.id, since)
                if began > max(now, since):
                    return  # begun under announced work: told when that ends, if it is so still
                self._keep(self._new(service.id, state, began, now, detail=scene.reason(service.id)), batch)
            elif state.severity > incident.state.severity and not scene.at_work(service.id, now):
                worse = replace(incident, state=state)
                if incident.told and (incident.cause is None or incident.cause.kind is CauseKind.PATH):
                    worse = replace(worse, cause=scene.one_path(service.id))  # one path when it began, all of them now?
                self._keep(worse, batch)
                if worse.told and self._open.group(worse) is None and not scene.flapping(service.id):
                    self._owe(worse, EventKind.WORSENED, scene, now, batch)
        elif state is State.UP and incident is not None and not scene.flapping(service.id):
            # While it flaps the incident stays open and says nothing more; UNKNOWN is no recovery.
            group = self._open.group(incident)
            closed = self._close(incident, max(scene.since(service.id), incident.began_at), batch)
            if closed.told and group is None:
                self._owe(closed, EventKind.RECOVERED, scene, now, batch)

    def _excuse(self, scene: Scene, now: datetime) -> None:
        """Note which incidents follow from announced work on what their services need: nobody is told of those."""
        last = {}
        for service, incident in self._open.items():
            work = [n for n in self._needs.of(service) if scene.state(n) is not State.UP and scene.at_work(n, now)]
            seen = now if work and not incident.told else self._excused.get(incident.id)
            if seen is not None and now < seen + ORPHAN_WAIT:
                last[incident.id] = seen
        self._excused = last

    def _review_own_faults(self, scene: Scene, now: datetime, batch: Batch) -> None:
        faults = scene.own_faults()
        for subject, fault in faults.items():
            known = self._open.get(subject)
            if known is None:
                self._keep(self._new(subject, State.UNKNOWN, fault.since, now, detail=fault.kind), batch)
            elif known.detail != fault.kind:
                self._keep(replace(known, detail=fault.kind), batch)  # first our resolver, then the whole uplink
        for subject, incident in list(self._open.items()):
            if not is_own_fault(subject) or subject in faults:
                continue
            ended = scene.own_fault_ended(subject)
            if ended is None:
                continue  # just restarted: not seen yet
            closed = self._close(incident, max(ended, incident.began_at), batch)
            if closed.told:
                self._owe(closed, EventKind.RECOVERED, scene, now, batch)

    def note_lapse(self, lapse: Lapse, scene: Scene, now: datetime, batch: Batch, *, tell: bool) -> None:
        """Record a fault of our own that was over when it was found; tell it once, if it is to be told."""
        found = self._new(OWN_FAULT, State.UNKNOWN, lapse.start, now, detail=lapse.detail)
        found = replace(found, ended_at=lapse.end, told=tell and self._plan.mail is not None)
        batch.incidents[found.id] = found
        if found.told:
            self._owe(found, EventKind.PASSED, scene, now, batch)

    def take_back(self, services: Collection[str], scene: Scene, now: datetime, batch: Batch) -> None:
        """End the incidents of services whose trouble turned out to be our own, and take back what was said of them.

        What was not sent is withdrawn by the same transaction; what was is corrected by one word.
        """
        self._review_own_faults(scene, now, batch)
        own = next((i for s, i in self._open.items() if is_own_fault(s)), None)
        gone = [i for s in services if (i := self._open.get(s)) and scene.state(s) not in TROUBLE]
        parents = {i.parent for i in gone}
        ended = [self._take_back(i, now, batch) for i in gone]
        for group in [g for g in self._open.groups() if g.id in parents]:
            if not self._open.members(group):
                ended.append(self._take_back(group, now, batch))
            elif group.cause is not None:  # they are no part of it, and never come back to it
                left = tuple(m for m in group.cause.members if m not in {i.subject for i in gone})
                self._keep(replace(group, cause=replace(group.cause, members=left)), batch)
        if own is None or not ended or self._plan.mail is None:
            return
        notice = self._notices.of_ourselves(own, EventKind.CORRECTED, scene, now)
        domain = self._plan.mail.sender.rpartition("@")[2] or "thongsuot.invalid"
        # The same fault may take back more a moment later, by the next uplink that is lost.
        message, thread = f"{message_of(own, EventKind.CORRECTED, now)}.{ended[0].id}", thread_of(own)
        correction = Duty(notice, "mail", f"<{message}@{domain}>", f"<{thread}@{domain}>")
        batch.withdrawal = Withdrawal(tuple(i.id for i in ended), correction)

    def _take_back(self, incident: Incident, now: datetime, batch: Batch) -> Incident:
        """End an incident as one that never was: its state is UNKNOWN, which no trouble of a service has."""
        never = replace(incident, state=State.UNKNOWN, ended_at=max(now, incident.began_at), detail=WITHDRAWN)
        self._open.drop(incident)
        self._orphaned.pop(incident.id, None)
        self._last_end.pop(incident.id, None)
        self._waiting = {key: at for key, at in self._waiting.items() if key[0] != incident.id}
        batch.incidents[incident.id] = never
        return never

    def follow_clock(self, by: timedelta, now: datetime, batch: Batch) -> None:
        """Go on by a clock that was set: waits keep their length, and no open incident begins ahead of the clock."""
        self._orphaned = {number: since + by for number, since in self._orphaned.items()}
        self._waiting = {key: since + by for key, since in self._waiting.items()}
        self._excused = {number: seen + by for number, seen in self._excused.items()}
        for incident in [i for i in self._open.values() if i.confirmed_at > now]:
            self._keep(replace(incident, began_at=min(incident.began_at, now), confirmed_at=now), batch)

    def _consider_telling(self, incident: Incident, scene: Scene, now: datetime, batch: Batch) -> None:
        if self._open.group(incident) is not None or incident.id in self._excused:
            return  # told with it, or not at all
        own = not is_service(incident.subject)
        if not own and scene.state(incident.subject) not in TROUBLE:
            return  # not seen just now, or changing too often: nobody is told of what may be over
        cause = self._cause(incident.subject, scene)
        if cause is not None:
            if incident.parent != cause.id:
                self._attach(incident, cause, batch)
            self._orphaned.pop(incident.id, None)
            return
        if self._plan.mail is None:
            return  # nobody can be told; whoever is named later hears of what is still open
        if incident.parent is not None:
            # What it followed from is over: give it time to end too, then it is a trouble of its own.
            if now < self._orphaned.setdefault(incident.id, now) + ORPHAN_WAIT:
                return
        elif not own and now < incident.confirmed_at + CAUSE_WAIT and self._in_doubt(incident, scene):
            return
        self._orphaned.pop(incident.id, None)
        path = None if own else scene.one_path(incident.subject)
        told = replace(incident, told=True, parent=None, cause=path or incident.cause)
        self._keep(told, batch)
        self._owe(told, EventKind.OPENED, scene, now, batch)

    def _attach(self, incident: Incident, root: Incident, batch: Batch) -> None:
        """Make an incident the consequence of one that it needs."""
        self._keep(replace(incident, parent=root.id), batch)
        self._children.setdefault(root.id, set()).add(self._notices.name(incident.subject))
        before = root.cause.members if root.cause and root.cause.kind is CauseKind.NEEDS else ()
        if incident.subject not in before:
            members = (*before, incident.subject)
            needs = Cause(CauseKind.NEEDS, root.subject, Certainty.CERTAIN, members, of=len(members))
            self._keep(replace(self._open[root.subject], cause=needs), batch)

    def _in_doubt(self, incident: Incident, scene: Scene) -> bool:
        """Whether something that has begun to fail may turn out to be the cause, or to have the same one."""
        if any(map(scene.suspect, self._needs.of(incident.subject))):
            return True
        others = [s for s in self._services if s != incident.subject and s not in self._open and scene.suspect(s)]
        if not others:
            return False
        by = scene.failure(incident.subject).by
        if by and any(by & scene.shares(s) for s in others):
            return True
        company = sum(1 for i in self._alone(scene) if not i.told and i.id != incident.id)
        return 1 + company + len(others) >= causes.BLIND_LEAST

    # What fails together.

    def _alone(self, scene: Scene) -> list[Incident]:
        """Return the services' incidents that have no cause yet, of those seen to be in trouble now."""
        return [
            i
            for s, i in self._open.items()
            if i.parent is None
            and s in self._services
            and scene.state(s) in TROUBLE
            and not scene.flapping(s)
            and self._cause(s, scene) is None
            and i.id not in self._excused
        ]

    def _gather(self, scene: Scene, now: datetime, batch: Batch) -> None:
        """Join incidents that have one cause: those of an open group first, then into new ones."""
        alone = self._alone(scene)
        known = frozenset(i.id for i in alone)
        if known == self._looked:
            return
        failures = {i.subject: scene.failure(i.subject) for i in alone}
        well = [s for s in self._services if scene.state(s) is State.UP]
        latest = max((f.began for f in failures.values()), default=now)
        around = self._rates.around(self._plan, scene.uses(latest), well, now)
        for group in self._open.groups():
            assert group.cause is not None  # it is what makes a group
            members = [scene.failure(s) for s in self._open.members(group) if scene.state(s) in TROUBLE]
            late = [f for f in failures.values() if causes.joins(group.cause, members, f)]
            if late:
                wider = causes.grown(group.cause, [*members, *late], around)
                self._join(group, merged(_compared(wider, scene), group.cause), batch)
                for failure in late:
                    del failures[failure.service]
        for cause in causes.find(failures.values(), around):
            self._join(self._found(cause, now), _compared(cause, scene), batch)
        self._looked = frozenset(i.id for i in self._alone(scene))

    def _found(self, cause: Cause, now: datetime) -> Incident:
        """Return the incident for a cause: the open one, or a new one, in the thread of what was told before."""
        found = self._open.get(group_subject(cause, self._next))
        if found is not None:
            return found
        first = min((self._open[m] for m in cause.members), key=lambda i: i.began_at)
        return self._new(group_subject(cause, self._next), first.state, first.began_at, now)

    def _join(self, group: Incident, cause: Cause, batch: Batch) -> None:
        joined = [self._open[m] for m in cause.members if m in self._open and self._open[m].parent != group.id]
        told = [i for i in joined if i.told]
        first = min(told, key=lambda i: i.id, default=None)
        cause = replace(
            cause,
            thread=cause.thread or (thread_of(first) if first is not None and not group.told else ""),
            told=cause.told + tuple(i.subject for i in told),
        )
        for member in joined:
            self._keep(replace(member, parent=group.id), batch)
        began = min([group.began_at, *(i.began_at for i in joined)])
        self._keep(replace(group, told=group.told or bool(told), cause=cause, began_at=began), batch)

    def _review_group(self, group: Incident, scene: Scene, now: datetime, batch: Batch) -> None:
        down = self._open.members(group)
        if not down:
            closed = self._close(group, self._last_end.pop(group.id, now), batch)
            self._waiting = {key: at for key, at in self._waiting.items() if key[0] != group.id}
            if closed.told:
                self._owe(closed, EventKind.RECOVERED, scene, now, batch)
            return
        worst = max((i.state for i in down.values()), key=lambda s: s.severity)
        if worst.severity > group.state.severity:
            group = replace(group, state=worst)
            self._keep(group, batch)
            if group.told and not all(map(scene.flapping, down)):
                self._tell_group(group, EventKind.WORSENED, scene, now, batch)
                return
        if group.told:
            self._tell_more(group, down, scene, now, batch)
        elif self._plan.mail is not None and any(scene.state(s) in TROUBLE for s in down):
            first = min(i.confirmed_at for i in down.values())
            doubt = [s for s in self._services if s not in self._open and scene.suspect(s)]
            if not doubt or now >= first + CAUSE_WAIT:
                self._tell_group(replace(group, told=True), EventKind.OPENED, scene, now, batch)

    def _tell_more(
        self, group: Incident, down: Mapping[str, Incident], scene: Scene, now: datetime, batch: Batch
    ) -> None:
        """Say once that more is hit than was told, and once that some are back and others stay away."""
        cause = group.cause
        assert cause is not None  # it is what makes a group
        new = [s for s in down if s not in cause.told and scene.state(s) in TROUBLE]
        if new and (not cause.spread or len(new) >= len(cause.told)):
            if now >= self._waiting.setdefault((group.id, "spread"), now) + SPREAD_WAIT:
                spread = replace(group, cause=replace(cause, spread=True))
                self._tell_group(spread, EventKind.SPREAD, scene, now, batch)
            return
        self._waiting.pop((group.id, "spread"), None)
        back = [m for m in cause.members if m in self._services and m not in self._open and scene.state(m) is State.UP]
        if not any(scene.state(s) in TROUBLE for s in down):
            return  # nobody sees those that stay away
        if not back or cause.partly or len(back) == len(cause.members):
            self._waiting.pop((group.id, "partly"), None)
        elif now >= self._waiting.setdefault((group.id, "partly"), now) + ORPHAN_WAIT:
            # Who fails again from here on is news again.
            told = tuple(m for m in cause.told if m in down)
            partly = replace(group, cause=replace(cause, partly=True, spread=False, told=told))
            self._keep(partly, batch)
            self._owe(partly, EventKind.PARTLY, scene, now, batch)

    def _tell_group(self, group: Incident, kind: EventKind, scene: Scene, now: datetime, batch: Batch) -> None:
        """Tell of a group, and note who was named."""
        cause = group.cause
        assert cause is not None  # it is what makes a group
        self._waiting.pop((group.id, "spread"), None)
        named = replace(group, cause=replace(cause, told=tuple(self._open.members(group))))
        self._keep(named, batch)
        self._owe(named, kind, scene, now, batch)

    def _cause(self, service: str, scene: Scene) -> Incident | None:
        """Return the incident at the root of this one: the farthest needed service that is down.

        One that nobody was told of counts only while it is in trouble: else nobody would be told of either. One that
        was down and answers again, if badly, is the cause of nothing any more.
        """
        down = [i for n in self._needs.of(service) if (i := self._open.get(n)) and i.state is State.DOWN]
        states = ((i, scene.state(i.subject)) for i in down)
        seen = [i for i, state in states if state is State.DOWN or (i.told and state not in TROUBLE)]
        return seen[-1] if seen else None

    def _new(self, subject: str, state: State, began: datetime, now: datetime, detail: str = "") -> Incident:
        incident = Incident(self._next, self._plan.site.id, subject, state, began, now, detail=detail)
        self._next += 1
        return incident

    def _keep(self, incident: Incident, batch: Batch) -> None:
        self._open.keep(incident)
        batch.incidents[incident.id] = incident

    def _close(self, incident: Incident, ended: datetime, batch: Batch, detail: str | None = None) -> Incident:
        closed = replace(incident, ended_at=ended, detail=incident.detail if detail is None else detail)
        self._open.drop(incident)
        self._orphaned.pop(incident.id, None)
        batch.incidents[incident.id] = closed
        self._rates.count(closed)
        if closed.parent is not None and self._open.group(closed) is not None:
            self._last_end[closed.parent] = max(ended, self._last_end.get(closed.parent, ended))
        return closed

    def _owe(self, incident: Incident, kind: EventKind, scene: Scene, now: datetime, batch: Batch) -> None:
        if self._plan.mail is None:
            return
        domain = self._plan.mail.sender.rpartition("@")[2] or "thongsuot.invalid"
        affected = self._affected(incident, scene)
        if is_group(incident.subject):
            down = self._open.members(incident)
            notice = self._notices.of_group(incident, kind, scene, now, affected, down)
        elif incident.subject in self._services:
            notice = self._notices.of_service(incident, kind, scene, now, affected)
        else:
            notice = self._notices.of_ourselves(incident, kind, scene, now)
        message, thread = message_of(incident, kind, now), thread_of(incident)
        batch.duties.append(Duty(notice, "mail", f"<{message}@{domain}>", f"<{thread}@{domain}>"))

    def _affected(self, incident: Incident, scene: Scene) -> tuple[str, ...]:
        """Return the names of what follows from an incident: services that need it, or one of a group."""
        members = incident.cause.members if is_group(incident.subject) and incident.cause else (incident.subject,)
        ended = incident.ended_at is not None
        found: set[str] = set()
        for member in members:
            found |= {
                self._notices.name(s)
                for s in self._needs.dependants(member)
                if scene.state(s) in TROUBLE or (scene.suspect(s) and not ended)
            }
        found |= self._children.get(incident.id, set())
        return tuple(sorted(found - (set(map(self._notices.name, members)) if is_group(incident.subject) else set())))


def _compared(cause: Cause, scene: Scene) -> Cause:
    """Add, to a path that is blamed, by how many others each of the services is reached all the same."""
    if cause.kind is not CauseKind.PATH:
        return cause
    found = [scene.one_path(m) for m in cause.members]
    others = [c.paths if c is not None and c.subject == cause.subject else 0 for c in found]
    return replace(cause, paths=min(others), certainty=Certainty.CERTAIN) if min(others) else cause
