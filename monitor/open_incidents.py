"""What a duty book looks up at every review: the open incidents by subject and by group, and who needs whom.

Kept as it changes and never searched for: with thousands of services down at once, a search for each would hold up
the results of all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from config.plan import ServicePlan
from monitor.groups import is_group
from monitor.model import Incident


class OpenIncidents(Mapping[str, Incident]):
    """The open incidents of a site, by subject, in the order in which they opened."""

    def __init__(self, incidents: Iterable[Incident] = ()) -> None:
        self._open: dict[str, Incident] = {}
        self._groups: dict[int, str] = {}  # number -> subject
        self._followers: dict[int, set[str]] = {}  # number -> subjects of the incidents that follow from it
        for incident in sorted(incidents, key=lambda i: i.id):
            self.keep(incident)

    def __getitem__(self, subject: str) -> Incident:
        return self._open[subject]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def keep(self, incident: Incident) -> None:
        """Take in an incident, or what has become of it."""
        self._part(incident.subject)
        self._open[incident.subject] = incident
        if incident.parent is not None:
            self._followers.setdefault(incident.parent, set()).add(incident.subject)
        if is_group(incident.subject):
            self._groups[incident.id] = incident.subject

    def drop(self, incident: Incident) -> None:
        """Forget an incident that is over."""
        self._part(incident.subject)
        del self._open[incident.subject]
        self._groups.pop(incident.id, None)

    def _part(self, subject: str) -> None:
        known = self._open.get(subject)
        if known is None or known.parent is None:
            return
        others = self._followers[known.parent]
        others.discard(subject)
        if not others:
            del self._followers[known.parent]

    def groups(self) -> list[Incident]:
        """Return the groups of services that fail together."""
        return [self._open[subject] for subject in self._groups.values()]

    def group(self, incident: Incident) -> Incident | None:
        """Return the open group that an incident is told with."""
        subject = self._groups.get(incident.parent) if incident.parent is not None else None
        return None if subject is None else self._open[subject]

    def members(self, group: Incident) -> dict[str, Incident]:
        """Return the incidents that follow from one, by subject, the first one first."""
        found = (self._open[subject] for subject in self._followers.get(group.id, ()))
        return {i.subject: i for i in sorted(found, key=lambda i: i.id)}


class Needs:
    """Which service needs which, directly or through others."""

    def __init__(self, services: Mapping[str, ServicePlan]) -> None:
        self._needs = {service: _needs(service, services) for service in services}
        self._dependants: dict[str, list[str]] = {}
        for service, needs in self._needs.items():
            for need in needs:
                self._dependants.setdefault(need, []).append(service)

    def of(self, service: str) -> Sequence[str]:
        """Return what a service needs, nearest first."""
        return self._needs.get(service, ())

    def dependants(self, service: str) -> Sequence[str]:
        """Return who needs a service."""
        return self._dependants.get(service, ())


def _needs(service: str, services: Mapping[str, ServicePlan]) -> list[str]:
    found: dict[str, None] = {}
    waiting = list(services[service].needs)
    for name in waiting:  # grows while it is walked
        if name not in found and name in services:
            found[name] = None
            waiting.extend(services[name].needs)
    return list(found)
