"""What a message will say, frozen at the moment of the change: names, evidence, who is hit, and why. Asks no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

from config.plan import Plan, ServiceKind
from monitor.groups import is_group
from monitor.model import OWN_FAULT, Cause, CauseKind, EventKind, Evidence, Incident, Notice, State

EVIDENCE_LINES: Final = 8


class Witnesses(Protocol):
    """What of the scene a message needs."""

    def state(self, service: str) -> State:
        """Return a service's state."""

    def since(self, service: str) -> datetime:
        """Return since when."""

    def begin_seen(self, service: str) -> bool:
        """Whether it was observed when it became what it is."""

    def flapping(self, service: str) -> bool:
        """Whether a check of it keeps changing."""

    def evidence(self, service: str) -> Sequence[Evidence]:
        """Return what its checks said last, the failing ones first."""

    def references(self) -> tuple[Sequence[Evidence], int, int]:
        """Return what the references said, how many are good and how many are not."""


class Notices:
    """Writes notices for one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._services = plan.by_id()
        self._path_names = {t.path.id: t.path.name for t in plan.targets() if t.path is not None}

    def name(self, subject: str) -> str:
        """Return a service's name; the bare id of one that is no longer there."""
        service = self._services.get(subject)
        return service.name if service else subject

    def cause_name(self, cause: Cause) -> str:
        """Return the name, for people, of what a cause blames."""
        if cause.kind is CauseKind.PATH:
            return self._path_names.get(cause.subject, cause.subject)
        return self.name(cause.subject)

    def of_service(
        self, incident: Incident, kind: EventKind, scene: Witnesses, now: datetime, affected: Sequence[str]
    ) -> Notice:
        """Write what is told of one service."""
        subject, service = incident.subject, self._services[incident.subject]
        whole = replace(
            self._blank(incident, kind, scene, now),
            service_name=service.name,
            service_kind=service.kind,
            state=scene.state(subject) if kind is EventKind.RECOVERED else incident.state,
            evidence=tuple(scene.evidence(subject)[:EVIDENCE_LINES]),
            affected=tuple(affected),
            flapping=scene.flapping(subject),
            reason=incident.detail,
            begin_unseen=kind is EventKind.OPENED and not scene.begin_seen(subject),
        )
        if kind is EventKind.OPENED and scene.since(subject) < incident.began_at:
            whole = replace(whole, failing_since=scene.since(subject))
        if incident.cause is None or incident.cause.kind is CauseKind.NEEDS:
            return whole
        return replace(whole, why=incident.cause, why_name=self.cause_name(incident.cause))

    def of_group(
        self,
        group: Incident,
        kind: EventKind,
        scene: Witnesses,
        now: datetime,
        affected: Sequence[str],
        down: Mapping[str, Incident],
    ) -> Notice:
        """Write what is told of services that fail together. Args: down: those that are not back, by id."""
        cause = group.cause
        assert cause is not None  # it is what makes a group
        shown = [s for s in (*down, *(m for m in cause.members if m not in down)) if s in self._services]
        each = max(1, EVIDENCE_LINES // max(len(shown), 1))
        lines = [replace(x, check=f"{self.name(s)}: {x.check}") for s in shown for x in scene.evidence(s)[:each]]
        return replace(
            self._blank(group, kind, scene, now),
            service_name=self.cause_name(cause),
            service_kind=ServiceKind.SERVICE,
            state=State.UP if kind is EventKind.RECOVERED else group.state,
            evidence=tuple(lines[:EVIDENCE_LINES]),
            affected=tuple(affected),
            why=cause,
            why_name=self.cause_name(cause),
            members=tuple(map(self.name, cause.members)),
            still=tuple(map(self.name, down)),
        )

    def of_ourselves(self, incident: Incident, kind: EventKind, scene: Witnesses, now: datetime) -> Notice:
        """Write what is told of our own fault."""
        blind = [s.name for s in self._plan.services if scene.state(s.id) is State.UNKNOWN]
        lines, _, _ = scene.references()
        if kind is EventKind.PASSED:
            lines, blind = (), []  # what is so now says nothing of what is over
        return replace(
            self._blank(incident, kind, scene, now),
            service=OWN_FAULT,
            service_name=self._path_names.get(incident.subject.partition(":")[2], ""),
            evidence=tuple(lines[:EVIDENCE_LINES]),
            affected=tuple(blind),
            cause=incident.detail,
        )

    def _blank(self, incident: Incident, kind: EventKind, scene: Witnesses, now: datetime) -> Notice:
        _, good, bad = scene.references()
        return Notice(
            site=incident.site,
            site_name=self._plan.site.name,
            incident=incident.id,
            kind=kind,
            service=incident.subject,
            service_name="",
            service_kind=ServiceKind.NETWORK,
            state=State.UNKNOWN,
            since=incident.began_at,
            at=now,
            references_good=good,
            references_bad=bad,
            ended_at=incident.ended_at,
        )


def thread_of(incident: Incident) -> str:
    """Return the name, before its domain, of the thread that an incident's messages stand in.

    Made from the event, so that a message sent twice after a crash is one message to the reader.
    """
    if incident.cause is not None and incident.cause.thread:
        return incident.cause.thread
    return _own_name(incident)


def message_of(incident: Incident, kind: EventKind, now: datetime) -> str:
    """Return the name, before its domain, of one message.

    An incident opens and ends once, and gets worse at most once to each state; what may come twice has its moment.
    """
    own = _own_name(incident)
    if kind is EventKind.OPENED:
        return own
    if kind is EventKind.WORSENED:
        return f"{own}.{kind}.{incident.state}"
    if kind in (EventKind.SPREAD, EventKind.PARTLY, EventKind.CORRECTED):
        return f"{own}.{kind}.{now:%Y%m%dT%H%M%S}"
    return f"{own}.{kind}"


def _own_name(incident: Incident) -> str:
    """A group may begin before its first member is joined by an earlier one: its number alone is its own."""
    if is_group(incident.subject):
        return f"{incident.site}.{incident.id}.{incident.confirmed_at:%Y%m%dT%H%M%S}"
    return f"{incident.site}.{incident.id}.{incident.began_at:%Y%m%dT%H%M%S}"
