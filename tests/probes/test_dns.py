from __future__ import annotations

import asyncio
import socket

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import dns_message
from probes.base import Fault, Path
from probes.dns import PROBE
from probes.dns_message import Answer, Question, encode_query, parse, question
from tests.probes.dns_servers import (
    ZONE,
    answered,
    ask,
    edited,
    name_server,
    only_protocol_faults,
    udp_socket,
)
from tests.probes.probing import cancelled_after, open_sockets
from tests.servers import Address, byte_server, datagram_server, silent_server

# Bytes

NAMES = st.lists(st.text("abcxyz019-", min_size=1, max_size=20), min_size=1, max_size=6).map(".".join)


@given(NAMES, st.integers(0, 0xFFFF), st.booleans(), st.booleans(), st.sampled_from([512, 1232]))
def test_a_query_is_read_by_dnspython_as_it_was_meant(
    name: str, ident: int, recursion: bool, dnssec: bool, size: int
) -> None:
    asked = question(name, "MX")
    query = dns.message.from_wire(encode_query(ident, asked, recursion=recursion, udp_size=size, dnssec=dnssec))
    assert query.id == ident
    assert str(query.question[0]) == f"{name}. IN MX"
    assert bool(query.flags & dns.flags.RD) == recursion
    assert query.edns == (0 if dnssec or size > 512 else -1)
    assert bool(query.ednsflags & dns.flags.DO) == dnssec


@given(st.binary(max_size=80), st.booleans())
def test_random_bytes_are_an_answer_none_or_a_protocol_fault(rest: bytes, with_question: bool) -> None:
    asked = question("a.vn", "A")
    head = b"\0\7\x81\x80\0\1\0\2\0\1\0\1" + encode_query(7, asked, recursion=True)[12:] if with_question else b"\0\7"
    with only_protocol_faults():
        answer = parse(head + rest, 7, asked)
        if answer is not None:
            for record in answer.answers:
                dns_message.text(answer, record)
            dns_message.soa_serial(answer)


@pytest.mark.parametrize(("name", "kind"), ZONE)
def test_every_record_is_read_as_dnspython_reads_it(name: str, kind: str) -> None:
    asked = question(name, kind)
    query = dns.message.from_wire(encode_query(1, asked, recursion=True))
    reply = answered(query)
    answer = parse(reply.to_wire(), 1, asked)
    assert answer is not None
    assert sorted(dns_message.text(answer, r) for r in answer.answers) == sorted(str(r) for r in reply.answer[0])


@pytest.mark.parametrize("cut", range(12, 60))
def test_an_answer_cut_anywhere_is_a_protocol_fault_or_none(cut: int) -> None:
    asked = question("langson.gov.vn", "A")
    whole = answered(dns.message.from_wire(encode_query(1, asked, recursion=True))).to_wire()
    with only_protocol_faults():
        assert parse(whole[:cut], 1, asked) is None


@pytest.mark.parametrize(
    ("serial", "wanted", "reached"),
    [(5, 5, True), (6, 5, True), (4, 5, False), (3, 2**32 - 2, True), (2**32 - 2, 3, False), (0, 2**31, False)],
)
def test_serials_go_round_as_in_rfc_1982(serial: int, wanted: int, reached: bool) -> None:
    assert dns_message.serial_reached(serial, wanted) is reached


def test_an_extended_rcode_is_put_together() -> None:
    asked = Question(b"\0", 1, 1)
    badvers = b"\0\1\x80\0\0\1\0\0\0\0\0\1" + b"\0\0\1\0\1" + b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"
    answer = parse(badvers, 1, asked)
    assert isinstance(answer, Answer)
    assert dns_message.rcode_name(answer.rcode) == "BADVERS"


# Answers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_answer_is_measured(host: str, transport: str) -> None:
    async with name_server(host=host) as server:
        reading = await ask(server, transport=transport)
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.values["answers_count"] == 2
    assert reading.values["rcode_code"] == 0
    assert reading.values["ttl_min_s"] == 300
    assert reading.facts["address"] == host
    assert reading.facts["rcode"] == "NOERROR"
    assert reading.facts["answer"] in ("192.0.2.10 (+1)", "192.0.2.11 (+1)")
    assert reading.phases["processing"] > 0
    assert ("connect" in reading.phases) == (transport == "tcp")


@pytest.mark.parametrize(("name", "kind"), ZONE)
async def test_any_type_can_be_asked(name: str, kind: str) -> None:
    async with name_server() as server:
        assert (await ask(server, name=name, type=kind)).fault is None


@pytest.mark.parametrize("kind", [28, "28", "TYPE28", "aaaa"])
async def test_a_type_may_be_a_number(kind: object) -> None:
    async with name_server() as server:
        assert (await ask(server, type=kind)).facts["answer"] == "2001:db8::10"


async def test_the_case_of_letters_does_not_matter() -> None:
    def shouting(query: dns.message.Message) -> bytes:
        return answered(query).to_wire().replace(b"langson", b"LANGson")

    async with name_server(shouting) as server:
        assert (await ask(server)).fault is None


@pytest.mark.parametrize(("name", "rcode"), [("khong-co.langson.gov.vn", "NXDOMAIN"), ("example.com", "REFUSED")])
async def test_another_rcode_is_a_content_fault_unless_it_is_wanted(name: str, rcode: str) -> None:
    async with name_server() as server:
        reading = await ask(server, name=name)
        assert (reading.fault, reading.detail) == (Fault.CONTENT, f"rcode {rcode}, expected NOERROR")
        assert (await ask(server, name=name, rcodes=[rcode.lower()])).fault is None
        reading = await ask(server, rcodes=["NXDOMAIN", "REFUSED"])
        assert reading.detail == "rcode NOERROR, expected one of NXDOMAIN, REFUSED"


async def test_no_record_of_the_type_is_a_content_fault_unless_allowed() -> None:
    async with name_server() as server:
        reading = await ask(server, type="SRV")
        assert (reading.fault, reading.detail) == (Fault.CONTENT, "0 SRV records, expected at least 1")
        assert (await ask(server, type="SRV", answers={"at_least": 0})).fault is None


async def test_an_alias_without_its_target_is_no_answer() -> None:
    async with name_server() as server:
        assert (await ask(server, name="www.langson.gov.vn")).fault is None
        reading = await ask(server, name="www.langson.gov.vn", type="AAAA")
    assert reading.detail == "0 AAAA records, expected at least 1"
    assert reading.values["answers_count"] == 1


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ({"match": [r"^192\.0\.2\.10$", r"\.11$"]}, None),
        ({"match": [r"^192\.0\.2\.12$"]}, Fault.CONTENT),
        ({"forbid": [r"^10\."]}, None),
        ({"forbid": [r"\.11$"]}, Fault.CONTENT),
        ({"at_least": 2}, None),
        ({"at_least": 3}, Fault.CONTENT),
    ],
)
async def test_rules_for_records_are_kept(rules: dict[str, object], fault: Fault | None) -> None:
    async with name_server() as server:
        assert (await ask(server, answers=rules)).fault is fault


async def test_a_wrong_answer_is_shown() -> None:
    async with name_server() as server:
        reading = await ask(server, type="MX", answers={"match": ["^10 thu\\."]})
    assert reading.detail == "got 10 mail.langson.gov.vn., expected pattern '^10 thu\\.'"


async def test_authority_is_required_when_asked_for() -> None:
    async with name_server() as server:
        assert (await ask(server, authoritative=True)).fault is None
        reading = await ask(server, authoritative=False)
        assert reading.detail == "the answer is authoritative, expected not authoritative"
        reading = await ask(server, name="www.langson.gov.vn", authoritative=True)
        assert reading.detail == "the answer is not authoritative, expected authoritative"


async def test_the_zones_serial_is_read_and_compared() -> None:
    async with name_server() as server:
        reading = await ask(server, type="SOA", soa_serial_at_least=2027010105)
        assert (reading.fault, reading.values["soa_serial_count"]) == (None, 2027010105)
        reading = await ask(server, type="SOA", soa_serial_at_least=2027010106)
        assert reading.detail == "SOA serial 2027010105, expected at least 2027010106"


async def test_dnssec_needs_the_resolvers_word() -> None:
    def vouch(reply: dns.message.Message) -> None:
        reply.flags |= dns.flags.AD

    async with name_server() as server:
        assert "no AD flag" in (await ask(server, dnssec=True)).detail
    async with name_server(edited(vouch)) as server:
        assert (await ask(server, dnssec=True)).fault is None


async def test_recursion_is_asked_for_unless_told_otherwise() -> None:
    seen = []

    def reply(query: dns.message.Message) -> dns.message.Message:
        seen.append(bool(query.flags & dns.flags.RD))
        return answered(query)

    async with name_server(reply) as server:
        await ask(server)
        await ask(server, recursion=False)
    assert seen == [True, False]


# Trouble


async def test_a_truncated_answer_is_fetched_by_tcp() -> None:
    def cut(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.TC
        return reply

    async with name_server(cut) as server:
        reading = await ask(server)
    assert reading.fault is None
    assert reading.values["answers_count"] == 2
    assert "TCP" in reading.facts["truncated"]


async def test_a_truncated_answer_cut_inside_a_record_is_fetched_by_tcp() -> None:
    def cut(query: dns.message.Message) -> bytes:
        made = bytearray(answered(query).to_wire()[:-20])
        made[2] |= 2
        return bytes(made)

    async with name_server(cut) as server:
        assert (await ask(server)).values["answers_count"] == 2


async def test_every_query_has_its_own_identifier_and_port() -> None:
    idents, ports = set(), set()

    def hear(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        idents.add(data[:2])
        ports.add(sender[1])
        sock.sendto(answered(dns.message.from_wire(data)).to_wire(), sender)

    with udp_socket(hear) as server:
        for _ in range(20):
            assert (await ask(server)).fault is None
    assert len(idents) >= 19
    assert len(ports) >= 15


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_server_sees_the_paths_source(transport: str) -> None:
    sources: list[str] = []

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sources.append(writer.get_extra_info("peername")[0])

    async with byte_server(handler) as address:
        with udp_socket(lambda _sock, _data, sender: sources.append(sender[0]), address.port):
            path = Path("vnpt", "VNPT", source="127.0.0.8")
            await ask(address, transport=transport, path=path, timeout_s=0.1, tries=1)
    assert sources == ["127.0.0.8"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_interface_that_is_not_there_is_our_own_fault(transport: str) -> None:
    before = open_sockets()
    reading = await ask(Address("127.0.0.1", 53), transport=transport, path=Path("4g", "4G", interface="wwan99"))
    assert (reading.fault, reading.detail) == (Fault.LOCAL, "cannot leave by path 4g (wwan99): No such device")
    assert open_sockets() == before


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_cancelling_closes_the_socket(transport: str) -> None:
    async with silent_server() as tcp_server, datagram_server(lambda _: None) as udp_server:
        server = udp_server if transport == "udp" else tcp_server
        before = open_sockets()
        await cancelled_after(PROBE, 0.02, server=server.host, port=server.port, name="a.vn", transport=transport)
        await asyncio.sleep(0.02)
        assert open_sockets() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "a..b"}, "is not a domain name"),
        ({"name": "x" * 64}, "is not a domain name"),
        ({"type": "AAAAA"}, "is not a record type"),
        ({"type": 0}, "expected 1 to 65535"),
        ({"type": 70000}, "record type"),
        ({"type": "AXFR"}, "a zone transfer is not a query"),
        ({"class": "XX"}, "record type and class"),
        ({"rcodes": ["NOERR"]}, "is not a response code"),
        ({"rcodes": []}, "at least 1 item"),
        ({"soa_serial_at_least": 1}, "needs type: SOA"),
        ({"answers": {"match": ["["]}}, "not a regular expression"),
        ({"transport": "tls"}, "'udp' or 'tcp'"),
        ({"udp_size": 511}, "greater than or equal to 512"),
    ],
)
async def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await ask(Address("127.0.0.1", 53), **wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_the_endpoint_is_the_server() -> None:
    settings = PROBE.settings.model_validate_json('{"server": "ns1.vn", "name": "vn", "class": "CH"}')
    assert settings.endpoint() == "ns1.vn"
