"""What services share: hosts, paths, carriers and the resolver, as the configuration and the last results show it.

Says what would explain all of a service's failing checks, and for whom the same thing works. State without decisions:
`monitor.judge.cause` weighs it.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from config.plan import Plan, ServiceKind, ServicePlan, Target
from monitor.judge.cause import Failure, Thing, Use
from monitor.judge.service import USABLE
from monitor.model import Cause, CauseKind, Certainty, State
from monitor.track import Track
from probes.base import Fault

RELATED_MOST: Final = 8  # checks asked at once beside one that begins to fail; chosen: no burst of our own
_TROUBLE: Final = frozenset({State.DOWN, State.CONGESTED, State.DEGRADED})
_NO_THINGS: Final[frozenset[Thing]] = frozenset()


class Sharing:
    """Who uses what, for one plan and its tracks."""

    def __init__(self, plan: Plan, tracks: Mapping[str, Track]) -> None:
        carriers = carriers_of_paths(plan)
        self._tracks = {s.id: [tracks[t.id] for t in s.targets] for s in plan.services}
        self._things: dict[str, frozenset[Thing]] = {}
        self._names: dict[str, frozenset[Thing]] = {}  # what a failing resolver would take along
        self._users: dict[Thing, set[str]] = defaultdict(set)
        self._checks: dict[Thing, list[Track]] = defaultdict(list)
        for service in plan.services:
            for target in service.targets:
                self._things[target.id] = _things(service, target, carriers)
                self._names[target.id] = _names(target)
                for thing in self._things[target.id] | self._names[target.id]:
                    self._users[thing].add(service.id)
                    self._checks[thing].append(tracks[target.id])
        self._shared = {thing for thing, users in self._users.items() if len(users) > 1}

    def failure(self, service: str, since: datetime) -> Failure:
        """Return how a service in trouble fails."""
        bad = [t for t in self._tracks[service] if t.state in _TROUBLE or t.memory.suspect]
        explained = [self._explained(t) for t in bad]
        by = frozenset.intersection(*explained) if explained else _NO_THINGS
        return Failure(service, since, max((t.target.interval_at(since) for t in bad), default=0.0), by & self._shared)

    def _explained(self, track: Track) -> frozenset[Thing]:
        things = self._things[track.target.id]
        unnamed = track.last is not None and track.last.reading.fault is Fault.NAME
        return things | self._names[track.target.id] if unnamed else things

    def shares(self, service: str) -> frozenset[Thing]:
        """Return everything that a service shares with others, whatever of it fails."""
        return frozenset().union(*(self._explained(t) for t in self._tracks[service])) & self._shared

    def uses(self, since: datetime) -> dict[Thing, Use]:
        """Return who uses what, and how many checks through it have answered since a moment."""
        return {thing: Use(frozenset(self._users[thing]), _good(self._checks[thing], since)) for thing in self._shared}

    def one_path(self, service: str) -> Cause | None:
        """Return the path that alone does not get through to a service, where others do."""
        tracks = self._tracks[service]
        bad = [t for t in tracks if t.state is State.DOWN]
        paths = {t.target.path_id for t in bad}
        if len(paths) != 1 or not all(t.target.one_of for t in bad):
            return None
        others = [sum(t.target.one_of == b.target.one_of and t.state in USABLE for t in tracks) for b in bad]
        if not min(others):
            return None
        sure = Certainty.CERTAIN if min(others) > 1 else Certainty.LIKELY
        return Cause(CauseKind.PATH, paths.pop(), sure, (service,), of=1, paths=min(others))

    def related(self, track: Track) -> Sequence[Track]:
        """Return a few checks of other services that a common cause would hit too, each service's first."""
        found: dict[str, Track] = {}
        for thing in sorted(self._things.get(track.target.id, _NO_THINGS) & self._shared):
            for other in self._checks[thing]:
                if other.target.service != track.target.service and len(found) < RELATED_MOST:
                    found.setdefault(other.target.service, other)
        return list(found.values())


def carriers_of_paths(plan: Plan) -> dict[str, str]:
    """Return the carrier service of each path: as configured, or the only one all of whose checks leave by it."""
    found: dict[str, str] = {}
    shared: set[str] = set()
    for service in plan.services:
        paths = {t.path_id for t in service.targets}
        if service.kind is ServiceKind.CARRIER and len(paths) == 1 and (path := paths.pop()):
            if path in found:
                shared.add(path)
            found[path] = service.id
    return {p: s for p, s in found.items() if p not in shared} | dict(plan.path_carriers)


def _things(service: ServicePlan, target: Target, carriers: Mapping[str, str]) -> frozenset[Thing]:
    things = []
    if host := _host(target):
        things.append(Thing(CauseKind.HOST, host))
    if target.path_id:
        things.append(Thing(CauseKind.PATH, target.path_id))
    carrier = service.id if service.kind is ServiceKind.CARRIER else carriers.get(target.path_id) or service.carrier
    if carrier:
        things.append(Thing(CauseKind.CARRIER, carrier))
    return frozenset(things)


def _host(target: Target) -> str:
    """Return the host that is probed; on loopback, where everything may live, with its port, or nothing."""
    host = target.settings.endpoint().lower().rstrip(".").strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        return host
    port = getattr(target.settings, "port", None)
    return f"{host}:{port}" if isinstance(port, int) else ""


def _names(target: Target) -> frozenset[Thing]:
    """Return what must work for a target's name to be found: the resolver, and the domain it stands in."""
    host = target.settings.endpoint().lower().rstrip(".").strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        domain = host.partition(".")[2] if host.count(".") > 1 else host
        return frozenset({Thing(CauseKind.RESOLVER, ""), Thing(CauseKind.RESOLVER, domain)}) if host else _NO_THINGS
    return _NO_THINGS


def _good(checks: Iterable[Track], since: datetime) -> int:
    return sum(
        t.last is not None and t.last.reading.fault is None and t.last.started_at >= since and t.state not in _TROUBLE
        for t in checks
    )
