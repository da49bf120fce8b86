"""The way to what failed: when it is traced, what is kept, which word has it. On loopback, where ways are short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from config.plan import OutagePolicy, Plan, ServiceKind, Target
from monitor.model import Incident, State
from monitor.traced import Moment, RouteTrace
from monitor.tracing import LATER, Tracer, with_ways
from probes.base import Fault, Reading, Tools
from tests.monitor.builders import MAIL, HostSettings, at, bad, check, duty, good, plan, result, service, span
from tests.monitor.room import Room, living

PING = "carrier-vnpt.ping"
WEB = "portal.web"


def asks(name: str, host: str) -> Target:
    return replace(check(name, policy=OutagePolicy(bad_rounds=2)), settings=HostSettings(host=host))


def province() -> Plan:
    carrier = service("carrier-vnpt", asks(PING, "127.0.0.1"), kind=ServiceKind.CARRIER)
    return plan(carrier, service("portal", asks(WEB, "127.0.0.1")), mail=MAIL)


@asynccontextmanager
async def tracing(folder: Path, now: float = 0.0) -> AsyncIterator[tuple[Room, Tracer]]:
    async with living(province(), folder, now) as room:
        tools = Tools()
        try:
            yield room, Tracer(room.board, room.journal, tools)
        finally:
            tools.close()


async def fail(room: Room, name: str, start: float, fault: Fault = Fault.TIMEOUT) -> None:
    await room.feed(good(name, start))
    for seconds in (30.0, 35.0):
        await room.feed(bad(name, start + seconds, fault))


async def kept(room: Room) -> list[tuple[int, Moment, bool]]:
    traces: Sequence[RouteTrace] = await room.read(lambda h: h.traces(span(-1e6, 1e6)))
    return [(t.incident, t.moment, t.reached) for t in traces]


async def test_a_way_is_traced_at_the_begin_some_minutes_later_and_at_the_end_and_kept(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (room, tracer):
        await fail(room, PING, 0)
        for now in (36.0, 40.0, 36.0 + LATER.total_seconds(), 300.0):
            tracer.look(at(now))
            await tracer.finish()
        await room.feed(good(PING, 310), good(PING, 340))
        tracer.look(at(341))
        await tracer.finish()

        assert await kept(room) == [(1, Moment.OPENED, True), (1, Moment.LATER, True), (1, Moment.RECOVERED, True)]
        (first, *_) = room.board.traces[1]
        assert (first.route, first.last, first.check) == (("127.0.0.1",), (1, "127.0.0.1"), PING)
        recovered = (await room.outbox())[-1].notice
        assert recovered.way is not None
        assert recovered.way.moment is Moment.LATER  # of the time when it failed, not of its end


async def test_what_answers_wrongly_has_got_there_and_only_a_carrier_is_traced_all_the_same(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (room, tracer):
        await fail(room, WEB, 0, Fault.CONTENT)
        await fail(room, PING, 0, Fault.CONTENT)
        tracer.look(at(40))
        await tracer.finish()

        subjects = {i.subject: i.id for i in room.board.open_incidents.values()}
        assert set(room.board.traces) == {subjects["carrier-vnpt"]}


async def test_incidents_with_one_way_share_one_trace(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (room, tracer):
        await fail(room, WEB, 0)
        await fail(room, PING, 0)
        tracer.look(at(40))
        await tracer.finish()

        traces = [t for of_one in room.board.traces.values() for t in of_one]
        assert len(traces) == 2
        assert traces[0].times_ms == traces[1].times_ms  # the very same packets


async def test_a_trace_from_before_the_clock_was_set_back_serves_no_other_incident(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (room, tracer):
        await fail(room, WEB, 0)
        tracer.look(at(4000))
        await tracer.finish()
        await fail(room, PING, 0)
        tracer.look(at(400))
        await tracer.finish()

        traces = [t for of_one in room.board.traces.values() for t in of_one]
        assert {t.incident for t in traces if t.at == at(400)} == {1, 2}
        ((asked_at, _),) = tracer._lately.values()
        assert asked_at == at(400)  # with packets of their own


async def test_a_restart_goes_on_with_what_was_traced_and_knows_the_way_as_it_was(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (room, tracer):
        await fail(room, PING, 0)
        tracer.look(at(36))
        await tracer.finish()
    async with tracing(tmp_path, now=50) as (room, tracer):
        await tracer._resume()
        tracer.look(at(51))
        await tracer.finish()
        assert len(await kept(room)) == 1
        tracer.look(at(36 + LATER.total_seconds()))
        await tracer.finish()

        assert [t.moment for t in room.board.traces[1]] == [Moment.OPENED, Moment.LATER]
        assert room.board.traces[1][1].before == ("127.0.0.1",)


def trace(route: str, before: str = "", **more: object) -> RouteTrace:
    hops = tuple(route.split())
    base = RouteTrace(
        "s",
        1,
        Moment.OPENED,
        at(0),
        PING,
        "192.0.2.9",
        "",
        False,
        hops,
        (None,) * len(hops),
        before=tuple(before.split()),
    )
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("route", "before", "last", "beyond", "turned"),
    [
        ("10.0.0.1 * 10.0.0.3 *", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", (3, "10.0.0.3"), "10.0.0.4", None),
        ("10.0.0.1 10.0.9.9", "10.0.0.1 10.0.0.2 10.0.0.3", (2, "10.0.9.9"), "", 2),
        ("* *", "10.0.0.1", None, "", None),
        ("10.0.0.1", "", (1, "10.0.0.1"), "", None),
        ("10.0.0.1", "10.0.0.1 *", (1, "10.0.0.1"), "", None),
        ("", "", None, "", None),
    ],
)
def test_a_way_says_where_it_stops_what_came_next_and_where_it_turned(
    route: str, before: str, last: tuple[int, str] | None, beyond: str, turned: int | None
) -> None:
    found = trace(route, before)
    assert (found.last, found.beyond, found.turned) == (last, beyond, turned)


def test_a_word_of_a_group_has_the_way_of_one_of_its_services() -> None:
    child = Incident(7, "s", "portal", State.DOWN, at(0), at(0), parent=5)
    found = with_ways([duty("w", 5)], {7: [trace("10.0.0.1")]}, [child])
    assert found[0].notice.way == trace("10.0.0.1")


def test_a_way_that_was_traced_after_the_end_is_in_no_word_of_the_trouble() -> None:
    found = with_ways([duty("w", 5)], {5: [trace("10.0.0.1", moment=Moment.RECOVERED)]}, [])
    assert found[0].notice.way is None


async def test_the_way_as_a_configured_check_last_found_it_is_what_is_compared_with(tmp_path: Path) -> None:
    way = replace(check("carrier-vnpt.way", kind="path"), settings=HostSettings(host="127.0.0.1"))
    carrier = service("carrier-vnpt", asks(PING, "127.0.0.1"), way, kind=ServiceKind.CARRIER)
    async with living(plan(carrier, mail=MAIL), tmp_path) as room:
        tools = Tools()
        tracer = Tracer(room.board, room.journal, tools)
        facts = {"route": "10.0.0.1 127.0.0.1"}
        await room.feed(result("carrier-vnpt.way", 1, Reading(None, "", 0.1, values={"reached_code": 1}, facts=facts)))
        tracer.look(at(2))
        await fail(room, PING, 5)
        tracer.look(at(45))
        await tracer.finish()
        tools.close()

        (found,) = room.board.traces[1]
        assert found.before == ("10.0.0.1", "127.0.0.1")
        assert found.turned == 1
