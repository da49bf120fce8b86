from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from probes.base import Fault, IpFamily, Measurement, Path, ProbeError, Tools
from probes.net import (
    LINE_LIMIT,
    Address,
    _alternating,
    connect,
    connect_error,
    open_stream,
    resolve,
    speaker,
)
from probes.resolver import Resolver
from tests.probes.probing import open_sockets
from tests.servers import byte_server, deaf_port, endless_line_server, refused_port, silent_server, talk_server

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def tools() -> Iterator[Tools]:
    made = Tools()
    yield made
    made.close()


class Names(Resolver):
    """A resolver of the test's own words, put in the place of the system's."""

    def __init__(self, book: dict[str, list[str]]) -> None:
        super().__init__()
        self.book = book

    async def lookup(self, host: str, family: IpFamily = IpFamily.ANY, *, timeout_s: float = 10.0) -> Sequence[str]:
        return self.book[host]


def with_names(tools: Tools, **book: list[str]) -> None:
    tools._made[Resolver] = Names(book)


@pytest.fixture
async def measurement(tools: Tools) -> AsyncIterator[Measurement]:
    yield Measurement(timeout_s=3, tools=tools)
    # Sockets that a race gave up are closed by tasks that end in the next turns of the loop.
    await asyncio.sleep(0)


# Names


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "fe80::1%lo"])
async def test_a_literal_address_costs_no_lookup(host: str, tools: Tools) -> None:
    (address,) = await resolve(Measurement(timeout_s=1, tools=tools), host, 80)
    assert address.ip == host.strip("[]")
    assert not tools._made


@pytest.mark.parametrize("scope", ["nichts", "9" * 30, "²", "99999999999"])
def test_an_interface_that_cannot_be_is_our_own_fault(scope: str) -> None:
    with pytest.raises(ProbeError, match="no interface"):
        Address(socket.AF_INET6, f"fe80::1%{scope}", 80).sockaddr  # noqa: B018  reading it is what is tried


async def test_a_name_is_looked_up_and_timed(measurement: Measurement) -> None:
    addresses = await resolve(measurement, "localhost", 80, IpFamily.IP4)
    assert [a.ip for a in addresses] == ["127.0.0.1"]
    assert measurement.phases["resolve"] > 0


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".vn", "\udcff.vn"])
async def test_what_cannot_be_a_name_is_a_name_fault(host: str, measurement: Measurement) -> None:
    with pytest.raises(ProbeError) as caught:
        await resolve(measurement, host)
    assert caught.value.fault is Fault.NAME


async def test_a_family_the_host_lacks_is_a_name_fault(measurement: Measurement) -> None:
    with pytest.raises(ProbeError, match=r"no address of the wanted family \(IPv6\)") as caught:
        await resolve(measurement, "127.0.0.1", 80, IpFamily.IP6)
    assert caught.value.fault is Fault.NAME


async def test_only_the_family_of_the_paths_source_is_used(tools: Tools) -> None:
    with_names(tools, both=["::1", "127.0.0.1"])
    m = Measurement(timeout_s=1, tools=tools, path=Path("p", "p", source="127.0.0.1"))
    assert [a.ip for a in await resolve(m, "both")] == ["127.0.0.1"]


# Connecting


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_server_is_reached(host: str, measurement: Measurement) -> None:
    async with silent_server(host=host) as server:
        (await connect(measurement, *server)).close()
    assert measurement.facts["address"] == host
    assert set(measurement.phases) == {"resolve", "connect"}


async def test_a_refusal_is_the_hosts(measurement: Measurement) -> None:
    with refused_port() as closed, pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1 port"):
        await connect(measurement, *closed)


@pytest.mark.parametrize("source", ["127.0.0.9", "127.1.2.3"])
async def test_the_server_sees_the_paths_source(source: str, tools: Tools) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(writer.get_extra_info("peername")[0])

    async with byte_server(handler) as server:
        m = Measurement(timeout_s=3, tools=tools, path=Path("p", "p", source=source))
        (await connect(m, *server)).close()
        assert await seen.get() == source


async def test_an_interface_path_is_honoured(tools: Tools) -> None:
    async with silent_server() as server:
        m = Measurement(timeout_s=3, tools=tools, path=Path("p", "p", interface="lo"))
        with await connect(m, *server) as sock:
            bound = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    assert bound.rstrip(b"\0") == b"lo"


@pytest.mark.parametrize("path", [Path("p", "p", interface="wwan99"), Path("p", "p", source="192.0.2.9")])
async def test_a_path_that_is_not_there_is_our_own_fault(path: Path, tools: Tools) -> None:
    before = open_sockets()
    with pytest.raises(ProbeError, match="cannot leave by path p") as caught:
        await connect(Measurement(timeout_s=1, tools=tools, path=path), "127.0.0.1", 9)
    assert caught.value.fault is Fault.LOCAL
    assert open_sockets() == before


async def test_cancelling_a_connect_closes_its_socket(measurement: Measurement) -> None:
    with deaf_port() as deaf:
        before = open_sockets()
        task = asyncio.create_task(connect(measurement, *deaf))
        await asyncio.sleep(0.01)
        assert open_sockets() == before + 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_sockets() == before


async def test_a_dead_first_address_does_not_eat_the_deadline(measurement: Measurement) -> None:
    with deaf_port() as deaf:
        before = open_sockets()
        listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.2", deaf.port)
        async with listener:
            with_names(measurement.tools, two=["127.0.0.1", "127.0.0.2"])
            sock = await asyncio.wait_for(connect(measurement, "two", deaf.port), 2)
            assert sock.getpeername()[0] == "127.0.0.2"
            sock.close()
        await asyncio.sleep(0.01)
        assert open_sockets() == before
    assert measurement.facts["address"] == "127.0.0.2"
    assert 0.2 < measurement.phases["connect"] < 1


async def test_a_refused_first_address_costs_no_waiting(measurement: Measurement) -> None:
    async with silent_server(host="127.0.0.2") as server:
        with_names(measurement.tools, two=["127.0.0.1", "127.0.0.2"])
        (await connect(measurement, "two", server.port)).close()
    assert measurement.phases["connect"] < 0.2


async def test_when_all_addresses_fail_the_most_telling_answer_is_kept(measurement: Measurement) -> None:
    with refused_port() as closed:
        with_names(measurement.tools, two=["127.0.0.1", "fe80::1%wwan99"])
        with pytest.raises(ConnectionRefusedError):
            await connect(measurement, "two", closed.port)


async def test_cancelling_a_race_closes_every_socket(measurement: Measurement) -> None:
    with deaf_port() as deaf:
        before = open_sockets()
        with_names(measurement.tools, two=["127.0.0.1", "127.0.0.1"])
        task = asyncio.create_task(connect(measurement, "two", deaf.port))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        assert open_sockets() == before


def test_families_take_turns() -> None:
    order = ["::1", "::2", "::3", "127.0.0.1"]
    addresses = [Address(V6 if ":" in ip else V4, ip, 1) for ip in order]
    assert [a.ip for a in _alternating(addresses)] == ["::1", "127.0.0.1", "::2", "::3"]


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPROTO])
def test_the_same_error_is_ours_at_once_and_the_networks_later(code: int) -> None:
    address = Address(V4, "192.0.2.1", 80)
    at_once = connect_error(code, address)
    assert isinstance(at_once, OSError)
    assert at_once.errno == code
    with socket.socket() as sock:
        sock.setblocking(False)
        later = connect_error(code, address, sock)
    assert isinstance(later, ProbeError)
    assert later.fault is Fault.UNREACHABLE
    assert later.detail.startswith("the network answered: ")
    assert "192.0.2.1 port 80" in later.detail


def test_who_sent_an_error_is_said_in_words() -> None:
    assert speaker("") == "the network answered"
    assert speaker("192.0.2.1") == "192.0.2.1 answered"
    assert speaker("2001:db8::1") == "2001:db8::1 answered"


# Streams


async def test_lines_are_read_without_their_ends(measurement: Measurement) -> None:
    async with talk_server(b"one\r\ntwo\n") as server, open_stream(measurement, *server) as stream:
        assert [await stream.read_line(), await stream.read_line()] == [b"one", b"two"]


async def test_a_hang_up_inside_a_line_is_a_refusal(measurement: Measurement) -> None:
    async with talk_server(b"half") as server, open_stream(measurement, *server) as stream:
        with pytest.raises(ProbeError, match="closed the connection after 4 bytes") as caught:
            await stream.read_line()
    assert caught.value.fault is Fault.REFUSED


async def test_an_endless_line_is_bounded(measurement: Measurement) -> None:
    async with endless_line_server() as server, open_stream(measurement, *server) as stream:
        with pytest.raises(ProbeError, match=f"longer than {LINE_LIMIT} bytes") as caught:
            await stream.read_line()
    assert caught.value.fault is Fault.PROTOCOL


async def test_cancelling_inside_a_stream_closes_it(measurement: Measurement) -> None:
    async with silent_server() as server:
        entered = asyncio.Event()

        async def wait() -> None:
            async with open_stream(measurement, *server) as stream:
                entered.set()
                await stream.read_line()

        before = open_sockets()
        task = asyncio.create_task(wait())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.02)  # both ends close in the next turns of the loop
        gc.collect()
        assert open_sockets() == before
