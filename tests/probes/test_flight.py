"""Runs without a task: the same outcomes as `measure`, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import socket
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import pytest

from probes import icmp, tcp
from probes.base import Done, Fault, Launch, Measurement, ProbeError, ProbeSettings, ProbeType, Reading, Stop, Tools
from probes.deadlines import Deadlines
from probes.dns import PROBE as DNS
from probes.flight import Flight
from tests.probes.dns_servers import answered, name_server
from tests.probes.probing import open_sockets, run_probe


class Landing(Flight):
    """Keeps its Reading."""

    __slots__ = ("reading",)

    def __init__(self) -> None:
        self.reading: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()

    def landed(self, reading: Reading) -> None:
        self.reading.set_result(reading)


@pytest.fixture
def tools() -> Iterator[Tools]:
    made = Tools()
    yield made
    made.close()


def prepared(kind: ProbeType, tools: Tools, **settings: object) -> Launch:
    """Return what a check with these settings begins."""
    assert kind.prepare is not None
    launch = kind.prepare(kind.settings.model_validate_json(json.dumps(settings)), None, tools)
    assert launch is not None
    return launch


def begun(kind: ProbeType, tools: Tools, timeout_s: float = 3.0, **settings: object) -> Landing:
    """Begin a run."""
    flight = Landing()
    m = Measurement(timeout_s, tools=tools)
    assert flight.start(kind, prepared(kind, tools, **settings), m, asyncio.get_running_loop())
    return flight


def silent_port() -> Iterator[int]:
    """Hold a UDP port that answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


silence = pytest.fixture(silent_port)


def closed_port() -> int:
    """Return a port where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("count", [1, 3])
async def test_an_echo_is_measured_as_with_a_task(tools: Tools, count: int) -> None:
    settings: dict[str, Any] = {"host": "127.0.0.1", "count": count, "gap": "1ms"}
    one, other = await begun(icmp.PROBE, tools, **settings).reading, await run_probe(icmp.PROBE, **settings)
    assert one.fault is None
    assert one.values.keys() == other.values.keys()
    assert one.facts == other.facts
    assert one.phases.keys() == other.phases.keys()
    assert len(one.rtts_s) == count


async def test_a_connection_is_measured_as_with_a_task(tools: Tools) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        one = await begun(tcp.PROBE, tools, host="127.0.0.1", port=port).reading
        other = await run_probe(tcp.PROBE, host="127.0.0.1", port=port)
    assert one.fault is None
    assert one.facts == other.facts
    assert one.phases.keys() == other.phases.keys()
    assert 0 < one.phases["connect"] < 0.1


async def test_a_refused_connection_is_named_as_with_a_task(tools: Tools) -> None:
    port, before = closed_port(), open_sockets()
    one = await begun(tcp.PROBE, tools, host="127.0.0.1", port=port).reading
    other = await run_probe(tcp.PROBE, host="127.0.0.1", port=port)
    assert (one.fault, one.detail) == (other.fault, other.detail)
    assert one.fault is Fault.REFUSED
    assert open_sockets() == before


async def test_nothing_that_listens_for_questions_is_named_as_with_a_task(tools: Tools) -> None:
    settings: dict[str, Any] = {"server": "127.0.0.1", "port": closed_port(), "name": "example.vn"}
    one, other = await begun(DNS, tools, **settings).reading, await run_probe(DNS, **settings)
    assert (one.fault, one.detail) == (other.fault, other.detail)
    assert one.fault is Fault.REFUSED


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
async def test_an_answer_is_judged_as_with_a_task(tools: Tools, cut: bool) -> None:
    def udp(query: dns.message.Message) -> dns.message.Message:
        reply = answered(query)
        reply.flags |= dns.flags.TC if cut else 0
        return reply

    async with name_server(udp) as (host, port):
        settings: dict[str, Any] = {"server": host, "port": port, "name": "langson.gov.vn", "type": "SOA"}
        one, other = await begun(DNS, tools, **settings).reading, await run_probe(DNS, **settings)
        wrong = await begun(DNS, tools, **settings, answers={"match": ["^never"]}).reading
    assert one.fault is None
    assert one.values == other.values
    assert one.facts == other.facts
    assert one.phases.keys() == other.phases.keys()
    assert ("truncated" in one.facts) == cut
    assert wrong.fault is Fault.CONTENT


async def test_silence_is_a_time_out_on_time(tools: Tools, silence: int) -> None:
    before = open_sockets()
    settings: dict[str, Any] = {"server": "127.0.0.1", "port": silence, "name": "example.vn"}
    reading = await begun(DNS, tools, timeout_s=0.2, **settings).reading
    assert reading.fault is Fault.TIMEOUT
    assert 0.1 < reading.duration_s < 0.3
    assert reading.values["sent_count"] == 2
    assert open_sockets() == before


async def test_what_is_called_off_leaves_nothing_and_never_lands(tools: Tools, silence: int) -> None:
    before = open_sockets()
    flights = [
        begun(DNS, tools, server="127.0.0.1", port=silence, name="example.vn"),
        begun(tcp.PROBE, tools, host="127.0.0.1", port=closed_port()),
    ]
    for flight in flights:
        flight.cancel()
        flight.cancel()
    await asyncio.sleep(0.01)
    assert not any(flight.reading.done() for flight in flights)
    assert open_sockets() == before


async def test_a_name_takes_a_task(tools: Tools) -> None:
    assert tcp.PROBE.prepare is not None
    settings = tcp.PROBE.settings.model_validate_json('{"host": "mail.example.vn", "port": 25}')
    assert tcp.PROBE.prepare(settings, None, tools) is None


def kind_of(launch: Launch) -> ProbeType:
    """Make a kind of probe that begins so."""

    async def run(_: ProbeSettings, __: Measurement) -> None:
        raise NotImplementedError

    return ProbeType("odd", "", ProbeSettings, run, prepare=lambda *_: launch)


def fails_at_once(_: Measurement, __: Done) -> Stop:
    raise ProbeError(Fault.LOCAL, "no socket")


def fails_later(_: Measurement, done: Done) -> Stop:
    def finish() -> None:
        raise ZeroDivisionError("oops")

    asyncio.get_running_loop().call_soon(done, finish)
    return lambda: None


def ends_within(_: Measurement, done: Done) -> Stop:
    done(lambda: None)
    return lambda: None


def never_ends(m: Measurement, _: Done) -> Stop:
    m.current = "connect"
    return lambda: m.fact("stopped", "yes")


async def test_what_fails_at_once_lands_later(tools: Tools) -> None:
    flight = begun(kind_of(fails_at_once), tools)
    assert not flight.reading.done()
    reading = await flight.reading
    assert (reading.fault, reading.detail) == (Fault.LOCAL, "no socket")


async def test_a_bug_is_internal_and_logged_with_its_trace(tools: Tools, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reading = await begun(kind_of(fails_later), tools).reading
    assert (reading.fault, reading.detail) == (Fault.INTERNAL, "ZeroDivisionError: oops")
    assert "ZeroDivisionError" in caplog.text


async def test_what_ends_within_its_own_launch_lands_later(tools: Tools) -> None:
    flight = begun(kind_of(ends_within), tools)
    assert not flight.reading.done()
    assert (await flight.reading).fault is None


async def test_what_never_ends_is_stopped_at_its_deadline(tools: Tools) -> None:
    reading = await begun(kind_of(never_ends), tools, timeout_s=0.03).reading
    assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no answer within 0.03 s in phase connect")
    assert reading.facts == {"stopped": "yes"}


class Item:
    """Something that waits."""

    def __init__(self) -> None:
        self.at = 0.0

    def expire(self) -> None:
        self.at = asyncio.get_running_loop().time()


async def test_deadlines_come_in_order_and_never_early() -> None:
    loop, deadlines = asyncio.get_running_loop(), Deadlines()
    late, soon, dropped = Item(), Item(), Item()
    began = loop.time()
    deadlines.add(loop, late, 0.03)
    deadlines.add(loop, soon, 0.01)
    deadlines.drop(dropped, deadlines.add(loop, dropped, 0.01))
    await asyncio.sleep(0.1)
    assert 0.01 <= soon.at - began < late.at - began
    assert late.at - began >= 0.03
    assert not dropped.at
    deadlines.close()


async def test_what_was_called_off_wakes_nobody() -> None:
    loop, deadlines = asyncio.get_running_loop(), Deadlines()
    for delay_s in (0.01, 0.02, 60.0):
        item = Item()
        deadlines.drop(item, deadlines.add(loop, item, delay_s))
    await asyncio.sleep(0.05)
    assert deadlines._timer is None
    assert not deadlines._waiting


@pytest.mark.parametrize("room", [0, 1, 2, 3])
async def test_without_descriptors_it_is_our_own_fault_and_none_is_lost(tools: Tools, room: int) -> None:
    with socket.socket() as server, socket.socket() as highest:
        server.bind(("127.0.0.1", 0))
        server.listen()
        settings: dict[ProbeType, dict[str, Any]] = {
            tcp.PROBE: {"host": "127.0.0.1", "port": server.getsockname()[1]},
            icmp.PROBE: {"host": "127.0.0.1", "count": 1},
            DNS: {"server": "127.0.0.1", "port": closed_port(), "name": "a.vn"},
        }
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = open_sockets()
        for kind, what in settings.items():
            with contextlib.closing(Tools()) as its:
                flight = Landing()
                launch = prepared(kind, its, **what)
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1 + room, limits[1]))
                try:
                    assert flight.start(kind, launch, Measurement(1.0, tools=its), asyncio.get_running_loop())
                    reading = await flight.reading
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert reading.fault in (None, Fault.LOCAL, Fault.REFUSED)
        assert open_sockets() == before
