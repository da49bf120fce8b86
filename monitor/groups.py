"""Which open incidents are one: the bookkeeping between the duty book and the judge of causes. No input or output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from config.plan import Plan
from monitor.judge.cause import Surroundings, Thing, Use, own_rate
from monitor.model import GROUP, OWN_FAULT, Cause, CauseKind, Incident


def is_group(subject: str) -> bool:
    """Whether an incident's subject is several services with one cause."""
    return subject.startswith(f"{GROUP}:")


def is_service(subject: str) -> bool:
    """Whether an incident's subject is one service: neither ourselves nor a group."""
    return not is_group(subject) and subject.partition(":")[0] != OWN_FAULT


def group_subject(cause: Cause, number: int) -> str:
    """Return the subject of a group's incident: one thing has at most one open; a coincidence goes by its number."""
    what = str(number) if cause.kind is CauseKind.COINCIDENCE else cause.subject
    return f"{GROUP}:{cause.kind}:{what}"


class Rates:
    """How often each service fails by itself, learnt from the incidents that were nobody else's consequence."""

    def __init__(self, recent: Iterable[Incident] = ()) -> None:
        """Args: recent: closed incidents of the past, the newest ones without a gap."""
        self._alone: Counter[str] = Counter()
        self._since: datetime | None = None
        for incident in recent:
            self.count(incident)

    def count(self, incident: Incident) -> None:
        """Take in an incident that has ended."""
        self._since = min(self._since or incident.began_at, incident.began_at)
        if incident.withdrawn:
            return  # it was our own fault
        if incident.parent is None and is_service(incident.subject):
            self._alone[incident.subject] += 1

    def around(self, plan: Plan, uses: Mapping[Thing, Use], well: Iterable[str], now: datetime) -> Surroundings:
        """Return what failures are weighed against at a moment."""
        watched_s = (now - self._since).total_seconds() if self._since else 0.0
        rates = {s.id: own_rate(self._alone[s.id], watched_s) for s in plan.services}
        return Surroundings(tuple(rates), uses, frozenset(well), rates)


def merged(cause: Cause, before: Cause) -> Cause:
    """Return a cause weighed anew that goes on with what was told of it, and forgets none that was ever hit."""
    gone = tuple(m for m in before.members if m not in cause.members)
    return replace(
        cause,
        members=gone + cause.members,
        thread=before.thread,
        told=before.told,
        spread=before.spread,
        partly=before.partly,
    )
