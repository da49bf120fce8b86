"""Traces the way to what fails, by itself: when an incident opens, some minutes later, and when it is over.

Looks at the board and runs the probe `path` with the check's own uplink. Bounded: a few at once, three an incident,
one for all incidents with the same host and uplink. A trace never holds up judging or telling: the word of the begin
leaves without it, the next one has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from config.plan import ServiceKind, Target
from monitor import traced
from monitor.board import Board, CheckView
from monitor.groups import is_service
from monitor.journal import Duty, Journal, JournalBusyError
from monitor.model import Incident, Result, State
from monitor.traced import SILENT, Moment, RouteTrace
from probes.base import BLIND_FAULTS, Fault, Reading, Tools, measure, utc_now
from probes.path import PROBE, Settings

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
AT_ONCE: Final = 4  # chosen: a province's routers answer a few hundred errors a second for everybody
LATER: Final = timedelta(minutes=3)  # chosen: routes have settled by then, and the carrier is on the telephone
SAME: Final = timedelta(seconds=60)  # a trace to the same host by the same uplink serves other incidents so long
TIMEOUT_S: Final = 15.0
BUSY_S: Final = 2.0
_NO_WAY: Final = frozenset({Fault.TIMEOUT, Fault.UNREACHABLE})
_STOPPED: Final = (State.DOWN, State.CONGESTED)

Whole = tuple[tuple[str, ...], datetime]  # a way that led to its host, and when
Run = Callable[[Target, str], "asyncio.Future[Reading]"]


@dataclass(slots=True)
class _Followed:
    """An incident whose way is traced."""

    incident: Incident
    target: Target
    done: set[Moment]


class Tracer:
    """The traces of one site's incidents."""

    def __init__(
        self, board: Board, journal: Journal, tools: Tools, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._board = board
        self._journal = journal
        self._tools = tools
        self._clock = clock
        self._followed: dict[int, _Followed] = {}
        self._whole: dict[tuple[str, str], Whole] = {}
        self._lately: dict[tuple[str, str], tuple[datetime, asyncio.Task[Reading]]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Trace for as long as the daemon runs; what is under way at the stop is dropped."""
        await self._resume()
        try:
            while True:
                self.look(self._clock())
                await asyncio.sleep(LOOK_S)
        finally:
            tasks = [*self._tasks, *(task for _, task in self._lately.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _resume(self) -> None:
        """Go on with what is open, and know the ways as they were last whole."""
        board, site = self._board, self._board.plan.site.id
        known = await self._journal.transact(lambda db: traced.newest(db, site))
        targets = {t.id: t for t in board.plan.targets()}
        for trace in known:
            if trace.reached:
                self._whole[trace.host, trace.path] = trace.route, trace.at
            incident = board.open_incidents.get(trace.incident)
            if incident is not None and trace.check in targets:
                found = self._followed.setdefault(incident.id, _Followed(incident, targets[trace.check], set()))
                found.done.add(trace.moment)
            if incident is not None or any(i.id == trace.incident for i in board.closed_incidents):
                board.traces.setdefault(trace.incident, []).append(trace)

    def look(self, now: datetime) -> None:
        """Begin what is due."""
        self._note_whole()
        for incident in list(self._board.open_incidents.values()):
            found = self._followed.get(incident.id) or self._follow(incident)
            if found is None:
                continue
            if Moment.OPENED not in found.done:
                self._begin(found, Moment.OPENED, now)
            elif Moment.LATER not in found.done and now >= incident.confirmed_at + LATER:
                self._begin(found, Moment.LATER, now)
        for number in [n for n in self._followed if n not in self._board.open_incidents]:
            self._begin(self._followed.pop(number), Moment.RECOVERED, now)
        self._forget(now)

    def _forget(self, now: datetime) -> None:
        self._lately = {k: v for k, v in self._lately.items() if v[0] <= now < v[0] + SAME or not v[1].done()}
        board = self._board
        shown = board.open_incidents.keys() | {i.id for i in board.closed_incidents} | self._followed.keys()
        for number in [n for n in board.traces if n not in shown]:
            del board.traces[number]

    def _follow(self, incident: Incident) -> _Followed | None:
        if not is_service(incident.subject) or incident.subject not in self._board.services:
            return None
        plan = self._board.services[incident.subject].plan
        views = [self._board.checks[t.id] for t in plan.targets]
        view = _worth_tracing(views, always=plan.kind is ServiceKind.CARRIER)
        if view is None:
            return None
        found = self._followed[incident.id] = _Followed(incident, view.target, set())
        return found

    def _note_whole(self) -> None:
        """Keep the ways that the configured checks of kind `path` have found whole."""
        for view in self._board.checks.values():
            if view.target.probe.kind != PROBE.kind or view.last is None:
                continue
            route = _route_of(view.last)
            if route:
                key = view.target.settings.endpoint(), view.target.path_id
                self._whole[key] = route, view.last.started_at

    def _begin(self, found: _Followed, moment: Moment, now: datetime) -> None:
        found.done.add(moment)
        task = asyncio.create_task(self._trace(found, moment, now), name=f"trace {found.incident.id} {moment}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _trace(self, found: _Followed, moment: Moment, now: datetime) -> None:
        target = found.target
        host = target.settings.endpoint()
        reading = await self._reading(target, host, now)
        if reading.fault in BLIND_FAULTS:
            log.warning("the way to %s cannot be traced: %s", host, reading.detail)
            return
        whole = self._whole.get((host, target.path_id))
        trace = trace_of(reading, found.incident, target, moment, now)
        if whole is not None and whole[1] < now:
            trace = replace(trace, before=whole[0], before_at=whole[1])
        if trace.reached:
            self._whole[host, target.path_id] = trace.route, now
        self._board.traces.setdefault(trace.incident, []).append(trace)
        self._board.version += 1
        await self._keep(trace)

    async def _reading(self, target: Target, host: str, now: datetime) -> Reading:
        """Run the probe, or wait for what another incident with the same way has asked for."""
        key = host, target.path_id
        had = self._lately.get(key)
        if had is None or not had[0] <= now < had[0] + SAME:  # a clock that was set back makes nothing fresh
            had = self._lately[key] = now, asyncio.create_task(self._measure(target, host))
        return await asyncio.shield(had[1])

    async def _measure(self, target: Target, host: str) -> Reading:
        async with self._places:
            return await measure(PROBE, Settings(host=host), timeout_s=TIMEOUT_S, path=target.path, tools=self._tools)

    async def _keep(self, trace: RouteTrace) -> None:
        while True:
            try:
                return await self._journal.transact(lambda db: traced.write(db, trace))
            except JournalBusyError:
                await asyncio.sleep(BUSY_S)


def trace_of(reading: Reading, incident: Incident, target: Target, moment: Moment, at: datetime) -> RouteTrace:
    """Make the record of a run of the probe `path`."""
    route = tuple(reading.facts.get("route", "").split())
    times = reading.facts.get("hop_times", "").split()
    return RouteTrace(
        site=incident.site,
        incident=incident.id,
        moment=moment,
        at=at,
        check=target.id,
        host=target.settings.endpoint(),
        path=target.path_id,
        reached=bool(reading.values.get("reached_code")),
        route=route,
        times_ms=tuple(None if t == SILENT else float(t) for t in times),
        detail=reading.detail,
    )


def _route_of(result: Result) -> tuple[str, ...]:
    """Return the way that a result of kind `path` has found whole; empty when it did not get through."""
    reading = result.reading
    if reading.fault is not None or not reading.values.get("reached_code"):
        return ()
    return tuple(reading.facts.get("route", "").split())


def _worth_tracing(views: Iterable[CheckView], *, always: bool) -> CheckView | None:
    """Return the check whose way is to be traced: one that gets no answer, or a queueing one.

    What answers wrongly has got there; only of a carrier the way is always asked for.
    """
    failing = [v for v in views if v.target.settings.endpoint() and (v.state in _STOPPED or _failed(v))]
    lost = [v for v in failing if v.last is not None and v.last.reading.fault in _NO_WAY]
    congested = [v for v in failing if v.state is State.CONGESTED]
    return next(iter([*lost, *congested, *(failing if always else [])]), None)


def _failed(view: CheckView) -> bool:
    return view.last is not None and view.last.observed and view.last.reading.fault is not None


def with_ways(
    duties: Sequence[Duty], traces: Mapping[int, Sequence[RouteTrace]], incidents: Iterable[Incident]
) -> list[Duty]:
    """Add to each word the newest trace of its incident, or of one that is told with it."""
    if not traces:
        return list(duties)
    children: dict[int, int] = {}
    for incident in incidents:
        if incident.parent is not None and incident.id in traces:
            children.setdefault(incident.parent, incident.id)
    found = []
    for duty in duties:
        number = duty.notice.incident
        known = traces.get(number) or traces.get(children.get(number, -1)) or ()
        way = next((t for t in reversed(known) if t.moment is not Moment.RECOVERED), None)
        found.append(duty if way is None else replace(duty, notice=replace(duty.notice, way=way)))
    return found
