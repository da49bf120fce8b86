"""The dns probe when answers are missing, late, forged or broken."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from probes.base import Fault
from tests.probes.dns_servers import (
    Reply,
    answered,
    ask,
    name_server,
    udp_socket,
)
from tests.servers import datagram_server, refused_port, silent_server


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
