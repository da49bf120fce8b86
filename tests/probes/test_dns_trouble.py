from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import strategies as st

from probes.base import Fault, Path, ProbeError, Reading
from probes.dns import PROBE
from tests.probes.probing import run_probe
from tests.servers import Address, byte_server, datagram_server, refused_port, silent_server

Reply = Callable[[dns.message.Message], dns.message.Message | bytes | None]

ZONE = {
    ("langson.gov.vn.", "A"): "192.0.2.10 192.0.2.11",
    ("langson.gov.vn.", "AAAA"): "2001:db8::10",
    ("langson.gov.vn.", "MX"): "10 mail.langson.gov.vn.",
    ("langson.gov.vn.", "SOA"): "ns1.langson.gov.vn. quantri.langson.gov.vn. 2027010105 3600 600 86400 300",
    ("langson.gov.vn.", "TXT"): '"v=spf1 -all"',
}


def answered(query: dns.message.Message) -> dns.message.Message:
    """Answer as a small name server of the zone does."""
    reply = dns.message.make_response(query, recursion_available=True)
    name, kind = str(query.question[0].name), query.question[0].rdtype.name
    if not name.endswith("langson.gov.vn."):
        reply.set_rcode(dns.rcode.REFUSED)
    elif name == "www.langson.gov.vn.":
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "langson.gov.vn."))
        if kind == "A":
            reply.answer.append(dns.rrset.from_text("langson.gov.vn.", 300, "IN", "A", "192.0.2.10"))
    elif name != "langson.gov.vn.":
        reply.set_rcode(dns.rcode.NXDOMAIN)
        soa = ZONE[("langson.gov.vn.", "SOA")]
        reply.authority.append(dns.rrset.from_text("langson.gov.vn.", 300, "IN", "SOA", soa))
    elif (data := ZONE.get((name, kind))) is not None:
        texts = data.split() if kind == "A" else [data]
        reply.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *texts))
        reply.flags |= dns.flags.AA
    return reply


def wire(made: dns.message.Message | bytes | None) -> bytes | None:
    return made.to_wire() if isinstance(made, dns.message.Message) else made


@contextlib.asynccontextmanager
async def name_server(
    udp: Reply = answered, tcp: Reply | None = answered, *, host: str = "127.0.0.1"
) -> AsyncIterator[Address]:
    """Serve by UDP and TCP on one port."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        made = wire(tcp(dns.message.from_wire(await reader.readexactly(size)))) if tcp else None
        if made is not None:
            writer.write(len(made).to_bytes(2, "big") + made)
            await writer.drain()

    async with (
        byte_server(handler, host=host) as address,
        datagram_server(lambda data: wire(udp(dns.message.from_wire(data))), host=host, port=address.port),
    ):
        yield address


async def ask(server: Address, *, timeout_s: float = 3.0, path: Path | None = None, **settings: object) -> Reading:
    given_ = {"server": server.host, "port": server.port, "name": "langson.gov.vn", **settings}
    return await run_probe(PROBE, timeout_s=timeout_s, path=path, **given_)  # type: ignore[arg-type]


@contextlib.contextmanager
def udp_socket(hear: Callable[[socket.socket, bytes, tuple[str, int]], object], port: int = 0) -> Iterator[Address]:
    """Hand every datagram to `hear` with the socket and the sender, to answer as often as it wants."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", port))
        loop.add_reader(sock, lambda: hear(sock, *sock.recvfrom(4096)))
        yield Address(*sock.getsockname())
        loop.remove_reader(sock)


def edited(change: Callable[[dns.message.Message], None]) -> Reply:
    def reply(query: dns.message.Message) -> dns.message.Message:
        made = answered(query)
        change(made)
        return made

    return reply


@contextlib.contextmanager
def only_protocol_faults() -> Iterator[None]:
    try:
        yield
    except ProbeError as exc:
        if exc.fault is not Fault.PROTOCOL:
            raise


# Bytes

NAMES = st.lists(st.text("abcxyz019-", min_size=1, max_size=20), min_size=1, max_size=6).map(".".join)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_closed_port_is_a_refusal(transport: str) -> None:
    with refused_port() as closed:
        reading = await ask(closed, transport=transport)
    assert reading.fault is Fault.REFUSED
    assert f"port {closed.port}" in reading.detail


async def test_silence_is_a_timeout_after_every_try() -> None:
    heard: list[bytes] = []
    async with datagram_server(heard.append) as server:
        reading = await ask(server, timeout_s=0.2, tries=3)
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail == f"no answer to 3 queries from 127.0.0.1 port {server.port}"
    assert reading.duration_s < 0.2
    assert len(heard) == 3
    assert len(set(heard)) == 1
    assert reading.values["sent_count"] == 3


async def test_a_lost_query_is_sent_again() -> None:
    heard = []

    def second_only(query: dns.message.Message) -> dns.message.Message | None:
        heard.append(query)
        return answered(query) if len(heard) == 2 else None

    async with name_server(second_only) as server:
        reading = await ask(server, timeout_s=0.4)
    assert (reading.fault, reading.values["sent_count"]) == (None, 2)


async def test_silence_by_tcp_is_a_timeout() -> None:
    async with silent_server() as server:
        reading = await ask(server, transport="tcp", timeout_s=0.05)
    assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no answer within 0.05 s in phase processing")


def _other_ident(query: dns.message.Message) -> bytes:
    made = bytearray(answered(query).to_wire())
    made[1] ^= 1
    return bytes(made)


def _other_question(query: dns.message.Message) -> dns.message.Message:
    reply = answered(query)
    reply.question = dns.message.make_query("khac.vn", "A").question
    return reply


def _echoed(query: dns.message.Message) -> bytes:
    return query.to_wire()


def _rubbish(_: dns.message.Message) -> bytes:
    return b"\xff" * 40


@pytest.mark.parametrize("forged", [_other_ident, _other_question, _echoed, _rubbish, lambda _: b"\0"])
async def test_datagrams_that_do_not_answer_are_counted_and_never_believed(forged: Reply) -> None:
    async with name_server(forged) as server:
        reading = await ask(server, timeout_s=0.15)
    assert reading.fault is Fault.PROTOCOL
    assert "only 2 datagrams that do not answer our question" in reading.detail
    assert reading.values["foreign_count"] == 2


async def test_a_right_answer_behind_a_forged_one_is_taken() -> None:
    def both(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        sock.sendto(_other_ident(query), sender)
        sock.sendto(answered(query).to_wire(), sender)

    with udp_socket(both) as server:
        reading = await ask(server)
    assert (reading.fault, reading.values["foreign_count"]) == (None, 1)


async def test_an_answer_from_another_port_is_not_heard() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))

        def elsewhere(_: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
            other.sendto(answered(dns.message.from_wire(data)).to_wire(), sender)

        with udp_socket(elsewhere) as server:
            assert (await ask(server, timeout_s=0.1)).fault is Fault.TIMEOUT


async def test_a_broken_answer_is_a_protocol_fault() -> None:
    async with name_server(lambda query: answered(query).to_wire()[:-15]) as server:
        reading = await ask(server)
    assert reading.fault is Fault.PROTOCOL
    assert "ends inside a record" in reading.detail


async def test_a_broken_record_is_a_protocol_fault() -> None:
    def longer(query: dns.message.Message) -> bytes:
        return answered(query).to_wire().replace(b"\0\x04\xc0\0\x02", b"\0\x03\xc0\0\x02")

    async with name_server(longer) as server:
        assert (await ask(server)).fault is Fault.PROTOCOL


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (_other_ident, Fault.PROTOCOL),
        (_rubbish, Fault.PROTOCOL),
        (lambda _: None, Fault.REFUSED),
        (lambda _: b"", Fault.PROTOCOL),
    ],
)
async def test_wrong_answers_by_tcp_are_told_apart(reply: Reply, fault: Fault) -> None:
    async with name_server(tcp=reply) as server:
        assert (await ask(server, transport="tcp")).fault is fault
