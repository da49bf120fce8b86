"""Announced work: which time of which service it takes. Pure: no clock, no input or output.

An announcement counts from the moment it was put on record, never earlier: what is entered afterwards is a correction
(`monitor.corrections`). A cancellation ends it from then on, and what has passed stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from config.plan import Plan, ServicePlan, Target, Window
from monitor.announced import Announcement
from monitor.judge.service import combine
from monitor.model import State


def names_of(target: Target) -> tuple[str, ...]:
    """Return the subjects that are a check's: its service, itself, and itself by all of its paths."""
    own = (target.service, target.id)
    return (*own, f"{target.service}.{target.one_of}") if target.one_of else own


def subjects(plan: Plan) -> tuple[str, ...]:
    """Return everything that work may be announced for, and that a correction may be about."""
    names: dict[str, None] = {}
    for service in plan.services:
        names[service.id] = None
        for target in service.targets:
            names |= dict.fromkeys(names_of(target)[1:])
    return tuple(names)


def windows(announcements: Iterable[Announcement]) -> Mapping[str, list[Window]]:
    """Return the time that work takes, by subject."""
    found: dict[str, list[Window]] = {}
    for one in announcements:
        if one.window is not None:
            found.setdefault(one.subject, []).append(one.window)
    return found


def of_check(target: Target, taken: Mapping[str, Sequence[Window]]) -> list[Window]:
    """Return the time that work takes of a check: its own, and its service's."""
    return [w for name in names_of(target) for w in taken.get(name, ())]


class WorkBook:
    """The announced work that is known now. Owned by the pipeline; what is announced is put into it from outside."""

    def __init__(self, plan: Plan) -> None:
        self._services = plan.by_id()
        self._known: Sequence[Announcement] = ()
        self._by_check: dict[str, list[Announcement]] = {}

    def take(self, announcements: Iterable[Announcement]) -> None:
        """Replace what is known."""
        self._known = [a for a in announcements if a.window is not None]
        by_subject: dict[str, list[Announcement]] = {}
        for one in self._known:
            by_subject.setdefault(one.subject, []).append(one)
        self._by_check = {}
        for service in self._services.values() if by_subject else ():
            for target in service.targets:
                found = [a for name in names_of(target) for a in by_subject.get(name, ())]
                if found:
                    self._by_check[target.id] = found

    @property
    def idle(self) -> bool:
        """Whether no work is known of."""
        return not self._by_check

    def under_way(self, measured: Callable[[str], Sequence[State]], at: datetime) -> dict[str, Announcement]:
        """Return the services and checks that are under work at a moment.

        Args:
            measured: gives what the checks of a service are measured to be.
            at: when.
        """
        found = {check: work for check in self._by_check if (work := self.on_check(check, at))}
        for service in {check.partition(".")[0] for check in found}:
            if work := self.on_service(service, measured(service), at):
                found[service] = work
        return found

    def on_check(self, check: str, at: datetime) -> Announcement | None:
        """Return the work on a check at a moment: of several, what lasts longest."""
        found = [a for a in self._by_check.get(check, ()) if _holds(a.window, at)]
        return max(found, key=_end, default=None)

    def on_service(self, service: str, states: Sequence[State], at: datetime) -> Announcement | None:
        """Return the work that a service is under: on all of its checks, or on those that make the difference.

        Args:
            service: its id.
            states: what its checks are measured to be, in the plan's order.
            at: when.
        """
        plan = self._services[service]
        works = [self.on_check(t.id, at) for t in plan.targets] if self._by_check else []
        if not any(works) or self._combined(plan, works, states) is not State.MAINTENANCE:
            return None
        return max((w for w in works if w is not None), key=_end)

    def counts_from(self, service: str, states: Sequence[State], moment: datetime) -> datetime:
        """Return from when on a service's trouble counts that began at a moment: work puts it off to its own end."""
        plan = self._services[service]
        while self._by_check:
            works = [self.on_check(t.id, moment) for t in plan.targets]
            if not any(works) or self._combined(plan, works, states) is not State.MAINTENANCE:
                break
            moment = min(_end(w) for w in works if w is not None)
        return moment

    @staticmethod
    def _combined(plan: ServicePlan, works: Sequence[Announcement | None], states: Sequence[State]) -> State:
        said = [State.MAINTENANCE if work else state for work, state in zip(works, states, strict=True)]
        return combine(said, plan.rule)


def _holds(window: Window | None, at: datetime) -> bool:
    return window is not None and window.start <= at < window.end


def _end(announcement: Announcement) -> datetime:
    window = announcement.window
    assert window is not None  # only such are kept
    return window.end
