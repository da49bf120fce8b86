"""The duty to tell: incidents from confirmed trouble to confirmed recovery, and who is owed a word.

Works on levels, not edges: `review` compares what is with what has been told and writes the difference into the
batch of the same transaction. So nothing is lost when several things change at once, and a restart just reviews again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from config.plan import Plan, ServiceKind, ServicePlan
from monitor.journal import Batch, Duty
from monitor.model import OWN_FAULT, EventKind, Evidence, Incident, Notice, State

TROUBLE: Final = frozenset({State.DOWN, State.CONGESTED, State.DEGRADED})
CAUSE_WAIT: Final = timedelta(seconds=15)  # chosen: a needed service in doubt gets this long to be judged
ORPHAN_WAIT: Final = timedelta(seconds=60)  # chosen: after the cause has ended, consequences get this long to end
EVIDENCE_LINES: Final = 8


@dataclass(frozen=True, slots=True)
class OwnFault:
    """Why we cannot see, for one uplink (or the system's own route)."""

    subject: str  # OWN_FAULT, or OWN_FAULT:path
    kind: str  # near | far | local
    since: datetime


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


class DutyBook:
    """The open incidents of a site and what has been told of them. Owned by the pipeline."""

    def __init__(self, plan: Plan, open_incidents: Mapping[int, Incident], next_incident: int) -> None:
        self._plan = plan
        self._services = plan.by_id()
        self._open = {i.subject: i for i in open_incidents.values()}
        self._next = next_incident
        self._path_names = {t.path.id: t.path.name for t in plan.targets() if t.path is not None}
        self._orphaned: dict[int, datetime] = {}
        self._children: dict[int, set[str]] = {}  # names of services told with an incident
        for incident in self._open.values():
            if incident.parent is not None:
                self._children.setdefault(incident.parent, set()).add(self._name(incident.subject))

    def open_incidents(self) -> Mapping[str, Incident]:
        """Return the open incidents by subject."""
        return self._open

    def review(self, scene: Scene, now: datetime, batch: Batch) -> None:
        """Bring incidents and duties in line with the scene."""
        for gone in [s for s in self._open if s not in self._services and not is_own_fault(s)]:
            self._close(self._open[gone], now, batch, detail="no longer in the configuration")
        self._review_own_faults(scene, now, batch)
        for service in self._services.values():
            self._review_service(service, scene, now, batch)
        for incident in list(self._open.values()):
            if not incident.told:
                self._consider_telling(incident, scene, now, batch)

    def _review_service(self, service: ServicePlan, scene: Scene, now: datetime, batch: Batch) -> None:
        state, incident = scene.state(service.id), self._open.get(service.id)
        if state in TROUBLE:
            if incident is None:
                why = scene.reason(service.id)
                self._keep(self._new(service.id, state, scene.since(service.id), now, detail=why), batch)
            elif state.severity > incident.state.severity:
                worse = replace(incident, state=state)
                self._keep(worse, batch)
                if worse.told and not scene.flapping(service.id):
                    self._owe(worse, EventKind.WORSENED, scene, now, batch)
        elif state is State.UP and incident is not None and not scene.flapping(service.id):
            # While it flaps the incident stays open and says nothing more; UNKNOWN is no recovery.
            ended = max(scene.since(service.id), incident.began_at)
            closed = self._close(incident, ended, batch)
            if closed.told:
                self._owe(closed, EventKind.RECOVERED, scene, now, batch)

    def _review_own_faults(self, scene: Scene, now: datetime, batch: Batch) -> None:
        faults = scene.own_faults()
        for subject, fault in faults.items():
            if subject not in self._open:
                incident = self._new(subject, State.UNKNOWN, fault.since, now, detail=fault.kind)
                self._keep(incident, batch)
        for subject, incident in list(self._open.items()):
            if not is_own_fault(subject) or subject in faults:
                continue
            ended = scene.own_fault_ended(subject)
            if ended is None:
                continue  # just restarted: not seen yet
            closed = self._close(incident, max(ended, incident.began_at), batch)
            if closed.told:
                self._owe(closed, EventKind.RECOVERED, scene, now, batch)

    def _consider_telling(self, incident: Incident, scene: Scene, now: datetime, batch: Batch) -> None:
        if self._plan.mail is None:
            return  # nobody can be told; whoever is named later hears of what is still open
        if not is_own_fault(incident.subject) and scene.state(incident.subject) not in TROUBLE:
            return  # not seen just now, or changing too often: nobody is told of what may be over
        cause = self._cause(incident.subject, scene)
        if cause is not None:
            if incident.parent != cause.id:
                self._keep(replace(incident, parent=cause.id), batch)
                self._children.setdefault(cause.id, set()).add(self._name(incident.subject))
            self._orphaned.pop(incident.id, None)
            return
        if incident.parent is not None:
            # What it followed from is over: give it time to end too, then it is a trouble of its own.
            if now < self._orphaned.setdefault(incident.id, now) + ORPHAN_WAIT:
                return
        elif now < incident.confirmed_at + CAUSE_WAIT and any(map(scene.suspect, self._needs(incident.subject))):
            return
        self._orphaned.pop(incident.id, None)
        told = replace(incident, told=True, parent=None)
        self._keep(told, batch)
        self._owe(told, EventKind.OPENED, scene, now, batch)

    def _needs(self, service: str) -> list[str]:
        """Return what a service needs, directly or through others, nearest first."""
        found: list[str] = []
        waiting = list(self._services[service].needs) if service in self._services else []
        while waiting:
            name = waiting.pop(0)
            if name not in found and name in self._services:
                found.append(name)
                waiting.extend(self._services[name].needs)
        return found

    def _dependants(self, service: str) -> list[str]:
        return [s for s in self._services if service in self._needs(s)]

    def _cause(self, service: str, scene: Scene) -> Incident | None:
        """Return the incident at the root of this one: the farthest needed service that is down.

        One that nobody was told of counts only while it is in trouble: else nobody would be told of either.
        """
        down = [i for n in self._needs(service) if (i := self._open.get(n)) and i.state is State.DOWN]
        seen = [i for i in down if i.told or scene.state(i.subject) in TROUBLE]
        return seen[-1] if seen else None

    def _new(self, subject: str, state: State, began: datetime, now: datetime, detail: str = "") -> Incident:
        incident = Incident(self._next, self._plan.site.id, subject, state, began, now, detail=detail)
        self._next += 1
        return incident

    def _keep(self, incident: Incident, batch: Batch) -> None:
        self._open[incident.subject] = incident
        batch.incidents[incident.id] = incident

    def _close(self, incident: Incident, ended: datetime, batch: Batch, detail: str | None = None) -> Incident:
        closed = replace(incident, ended_at=ended, detail=incident.detail if detail is None else detail)
        del self._open[incident.subject]
        self._orphaned.pop(incident.id, None)
        batch.incidents[incident.id] = closed
        return closed

    def _name(self, subject: str) -> str:
        service = self._services.get(subject)
        return service.name if service else subject

    def _owe(self, incident: Incident, kind: EventKind, scene: Scene, now: datetime, batch: Batch) -> None:
        if self._plan.mail is None:
            return
        domain = self._plan.mail.sender.rpartition("@")[2] or "thongsuot.invalid"
        # Made from the event, so that a message sent twice after a crash is one message to the reader. An incident
        # opens and ends once, and gets worse at most once to each state.
        thread = f"{incident.site}.{incident.id}.{incident.began_at:%Y%m%dT%H%M%S}"
        names = {EventKind.OPENED: thread, EventKind.WORSENED: f"{thread}.{kind}.{incident.state}"}
        name = names.get(kind, f"{thread}.{kind}")
        notice = self._notice(incident, kind, scene, now)
        batch.duties.append(Duty(notice, "mail", f"<{name}@{domain}>", f"<{thread}@{domain}>"))

    def _notice(self, incident: Incident, kind: EventKind, scene: Scene, now: datetime) -> Notice:
        subject = incident.subject
        service = self._services.get(subject)
        lines, good, bad = scene.references()
        if service is not None:
            evidence = scene.evidence(subject)
            name, service_kind = service.name, service.kind
            affected = self._affected(incident, scene)
            state = scene.state(subject) if kind is EventKind.RECOVERED else incident.state
        else:
            evidence, name = lines, self._path_names.get(subject.partition(":")[2], "")
            service_kind, state = ServiceKind.NETWORK, State.UNKNOWN
            affected = tuple(s.name for s in self._services.values() if scene.state(s.id) is State.UNKNOWN)
        return Notice(
            site=incident.site,
            site_name=self._plan.site.name,
            incident=incident.id,
            kind=kind,
            service=OWN_FAULT if service is None else subject,
            service_name=name,
            service_kind=service_kind,
            state=state,
            since=incident.began_at,
            at=now,
            evidence=tuple(evidence[:EVIDENCE_LINES]),
            references_good=good,
            references_bad=bad,
            affected=affected,
            cause=incident.detail if service is None else "",
            flapping=service is not None and scene.flapping(subject),
            ended_at=incident.ended_at,
            reason=incident.detail if service is not None else "",
            begin_unseen=service is not None and kind is EventKind.OPENED and not scene.begin_seen(subject),
        )

    def _affected(self, incident: Incident, scene: Scene) -> tuple[str, ...]:
        hit = {
            self._name(s)
            for s in self._dependants(incident.subject)
            if scene.state(s) in TROUBLE or (scene.suspect(s) and incident.ended_at is None)
        }
        return tuple(sorted(hit | self._children.get(incident.id, set())))
