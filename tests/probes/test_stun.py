from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import stun_message
from probes.base import Fault, ProbeError, Reading
from probes.stun import PROBE
from probes.stun_message import Attr, Login, Mapped, Method, encode, login, parse, wire_size
from tests.probes.probing import cancelled_after, open_sockets, run_probe
from tests.servers import Address, Certificates, byte_server, datagram_server, refused_port, silent_server

TRANSACTION = bytes(range(12))
REALM, NONCE = b"example.vn", b"nonce-1"
USER, PASSWORD = "giám-sát", "mật khẩu rất dài"

# RFC 5769 section 2.2: an answer with software, mapped address, integrity by a short-term key, and fingerprint.
SAMPLE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
SAMPLE_KEY = b"VOkJxbRl1RmTxUk/WvJxBt"


def attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def message(kind: int, transaction: bytes, *attributes: bytes) -> bytes:
    body = b"".join(attributes)
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + transaction + body


def xored(kind: int, ip: str, port: int, transaction: bytes) -> bytes:
    raw = ipaddress.ip_address(ip).packed
    mask = b"\x21\x12\xa4\x42" + transaction
    hidden = bytes(a ^ b for a, b in zip(raw, mask, strict=False))
    family = b"\0\1" if len(raw) == 4 else b"\0\2"
    return attribute(kind, family + (port ^ 0x2112).to_bytes(2, "big") + hidden)


def error(code: int, reason: str) -> bytes:
    return attribute(Attr.ERROR_CODE, bytes([0, 0, code // 100, code % 100]) + reason.encode())


def signed(wire: bytes, key: bytes) -> bytes:
    """Add the integrity of whoever knows the key."""
    size = len(wire) - 20 + 24
    counted = wire[:2] + size.to_bytes(2, "big") + wire[4:]
    return counted + attribute(Attr.MESSAGE_INTEGRITY, hmac.new(key, counted, hashlib.sha1).digest())


def attributes_of(wire: bytes) -> dict[int, bytes]:
    found, at = {}, 20
    while at < len(wire):
        size = int.from_bytes(wire[at + 2 : at + 4], "big")
        found[int.from_bytes(wire[at : at + 2], "big")] = wire[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return found


@dataclass
class Turn:
    """A server that gives relays to one user and remembers what it was asked."""

    password: str = PASSWORD
    stale: int = 0  # requests that are told their nonce is old
    forged: bool = False  # good answers bear somebody else's integrity
    refuse: tuple[int, str] | None = None  # what a logged-in allocation gets
    open: bool = False  # wants no login
    asked: list[tuple[int, bool]] = field(default_factory=list)  # method, and whether with a login
    relays: int = 0
    silent_refresh: bool = False

    def answer(self, wire: bytes) -> bytes | None:
        method, transaction = int.from_bytes(wire[:2], "big"), wire[8:20]
        given_ = attributes_of(wire)
        with_login = Attr.MESSAGE_INTEGRITY in given_
        self.asked.append((method, with_login))
        if method == Method.BINDING:
            return message(0x0101, transaction, xored(Attr.XOR_MAPPED_ADDRESS, "203.0.113.9", 40000, transaction))
        if not self.open:
            if not with_login:
                return self._challenge(method, transaction, 401, "Unauthorized")
            key = login(USER, self.password, REALM, NONCE).key
            before = wire[: wire.index(attribute(Attr.MESSAGE_INTEGRITY, given_[Attr.MESSAGE_INTEGRITY]))]
            if signed(before, key)[-20:] != given_[Attr.MESSAGE_INTEGRITY]:
                return self._challenge(method, transaction, 401, "Unauthorized")
            if self.stale:
                self.stale -= 1
                return self._challenge(method, transaction, 438, "Stale Nonce")
        return self._served(method, transaction, given_)

    def _challenge(self, method: int, transaction: bytes, code: int, reason: str) -> bytes:
        login_ = (attribute(Attr.REALM, REALM), attribute(Attr.NONCE, NONCE))
        return message(method | 0x0110, transaction, error(code, reason), *login_)

    def _served(self, method: int, transaction: bytes, asked: dict[int, bytes]) -> bytes | None:
        if self.refuse and method == Method.ALLOCATE:
            return message(method | 0x0110, transaction, error(*self.refuse))
        if method == Method.ALLOCATE:
            assert asked[Attr.REQUESTED_TRANSPORT] == b"\x11\0\0\0"
            self.relays += 1
            parts = [
                xored(Attr.XOR_RELAYED_ADDRESS, "198.51.100.1", 50000, transaction),
                xored(Attr.XOR_MAPPED_ADDRESS, "203.0.113.9", 40000, transaction),
                attribute(Attr.LIFETIME, (600).to_bytes(4, "big")),
                attribute(Attr.SOFTWARE, b"Ti\xe1\xba\xbfp s\xc3\xb3ng 1.0"),
            ]
        else:
            assert asked[Attr.LIFETIME] == bytes(4)
            self.relays -= 1
            if self.silent_refresh:
                return None
            parts = [attribute(Attr.LIFETIME, bytes(4))]
        whole = message(method | 0x0100, transaction, *parts)
        if self.open:
            return whole
        return signed(whole, b"somebody else" if self.forged else login(USER, self.password, REALM, NONCE).key)


@contextlib.asynccontextmanager
async def stream_server(turn: Turn, tls: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(20)
            answer = turn.answer(head + await reader.readexactly(int.from_bytes(head[2:4], "big")))
            if answer is not None:
                writer.write(answer)

    async with byte_server(handler, tls=tls) as address:
        yield address


async def ask(server: Address, *, timeout_s: float = 3.0, **settings: Any) -> Reading:
    return await run_probe(PROBE, timeout_s=timeout_s, host=server.host, port=server.port, **settings)


@pytest.fixture
def user(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return {"turn": True, "username": USER, "password_file": str(file)}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def only_protocol_faults() -> Iterator[None]:
    try:
        yield
    except ProbeError as exc:
        if exc.fault is not Fault.PROTOCOL:
            raise


# Bytes


def test_the_sample_of_rfc_5769_is_read_and_its_maker_known() -> None:
    answer = parse(SAMPLE, Method.BINDING, SAMPLE[8:20])
    assert answer is not None
    assert answer.good
    assert answer.mapped == Mapped("192.0.2.1", 32853)
    assert answer.software == "test vector"
    assert answer.is_from(Login("", b"", b"", SAMPLE_KEY))
    assert not answer.is_from(Login("", b"", b"", b"another"))


def test_a_long_term_key_is_the_hash_of_name_realm_and_password() -> None:
    # RFC 8489 section 9.2.2 and RFC 1321: md5("user:realm:pass")
    assert login("user", "pass", b"realm", b"").key.hex() == "8493fbc53ba582fb4c044c456bdc40eb"
    assert "pass" not in repr(login("user", "pass", b"realm", b""))


def test_a_changed_bit_spoils_the_fingerprint() -> None:
    changed = SAMPLE[:45] + bytes([SAMPLE[45] ^ 1]) + SAMPLE[46:]
    with pytest.raises(ProbeError, match="fingerprint"):
        parse(changed, Method.BINDING, SAMPLE[8:20])


def test_a_request_is_one_that_others_can_read() -> None:
    wire = encode(Method.ALLOCATE, TRANSACTION, stun_message.allocation(), login(USER, PASSWORD, REALM, NONCE))
    assert wire[:2] == b"\0\3"
    assert wire_size(wire) == len(wire)
    found = attributes_of(wire)
    assert list(found) == [
        Attr.REQUESTED_TRANSPORT,
        Attr.USERNAME,
        Attr.REALM,
        Attr.NONCE,
        Attr.MESSAGE_INTEGRITY,
        Attr.FINGERPRINT,
    ]
    assert found[Attr.USERNAME].decode() == USER


@given(st.binary(max_size=120), st.sampled_from([0x0101, 0x0111, 0x0103, 0x0113]), st.booleans())
def test_random_bytes_are_an_answer_none_or_a_protocol_fault(rest: bytes, kind: int, with_header: bool) -> None:
    wire = message(kind, TRANSACTION, rest) if with_header else rest
    with only_protocol_faults():
        wire_size(wire)
    for method in Method:
        with only_protocol_faults():
            answer = parse(wire, method, TRANSACTION)
            if answer is not None:
                assert isinstance(answer.software, str)
                assert not answer.is_from(Login("", b"", b"", b"x"))


@given(st.lists(st.tuples(st.sampled_from([*Attr, 0x7FFF]), st.binary(max_size=24)), max_size=8))
def test_any_attributes_are_an_answer_or_a_protocol_fault(parts: list[tuple[int, bytes]]) -> None:
    wire = message(0x0101, TRANSACTION, *(attribute(kind, value) for kind, value in parts))
    with only_protocol_faults():
        answer = parse(wire, Method.BINDING, TRANSACTION)
        assert answer is not None
        assert all(part.isprintable() for part in (str(answer.mapped), str(answer.relayed), str(answer.alternate)))


@pytest.mark.parametrize("cut", range(0, len(SAMPLE), 3))
def test_an_answer_cut_anywhere_is_none_or_a_protocol_fault(cut: int) -> None:
    with only_protocol_faults():
        assert parse(SAMPLE[:cut], Method.BINDING, SAMPLE[8:20]) is None


def test_what_stands_behind_the_integrity_is_not_believed() -> None:
    whole = signed(message(0x0101, TRANSACTION), b"key")
    wire = message(0x0101, TRANSACTION, whole[20:], xored(Attr.XOR_MAPPED_ADDRESS, "192.0.2.66", 1, TRANSACTION))
    answer = parse(wire, Method.BINDING, TRANSACTION)
    assert answer is not None
    assert answer.mapped is None


def test_too_many_attributes_are_refused() -> None:
    with pytest.raises(ProbeError, match="more than 64"):
        parse(message(0x0101, TRANSACTION, attribute(0x7FFF, b"") * 100), Method.BINDING, TRANSACTION)


# Bindings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_our_mapped_address_is_told(host: str) -> None:
    async with datagram_server(Turn().answer, host=host) as server:
        reading = await ask(server, mapped_in=["203.0.113.0/24"])
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.facts["mapped_address"] == "203.0.113.9:40000"
    assert reading.facts["mapped_ip"] == "203.0.113.9"
    assert reading.facts["address"] == host
    assert reading.values["error_code"] == 0
    assert reading.values["sent_count"] == 1
    assert reading.phases["processing"] > 0


async def test_an_address_of_another_uplink_is_a_content_fault() -> None:
    async with datagram_server(Turn().answer) as server:
        reading = await ask(server, mapped_in=["198.51.100.0/24", "2001:db8::/32"])
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "the server sees us as 203.0.113.9, expected one of 198.51.100.0/24, 2001:db8::/32"


async def test_an_old_server_that_does_not_hide_the_address_is_understood() -> None:
    def answer(wire: bytes) -> bytes:
        plain = b"\0\1" + (40001).to_bytes(2, "big") + ipaddress.ip_address("203.0.113.7").packed
        return message(0x0101, wire[8:20], attribute(Attr.MAPPED_ADDRESS, plain))

    async with datagram_server(answer) as server:
        assert (await ask(server)).facts["mapped_address"] == "203.0.113.7:40001"


async def test_a_lost_request_is_sent_again_after_half_a_second() -> None:
    turn = Turn()
    seen: list[bytes] = []

    def answer(wire: bytes) -> bytes | None:
        seen.append(wire)
        return turn.answer(wire) if len(seen) > 1 else None

    async with datagram_server(answer) as server:
        reading = await ask(server)
    assert reading.fault is None
    assert reading.values["sent_count"] == 2
    assert seen[0] == seen[1]
    assert 0.45 < reading.duration_s < 1.5


ANSWERS: list[tuple[str, Sequence[bytes], Fault, str]] = [
    ("no address", (), Fault.PROTOCOL, "a good answer came without our mapped address"),
    ("strange address", (attribute(Attr.XOR_MAPPED_ADDRESS, b"\0\7ab"),), Fault.PROTOCOL, "an address came that is"),
]


@pytest.mark.parametrize(("name", "parts", "fault", "words"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_a_broken_answer_is_named(name: str, parts: Sequence[bytes], fault: Fault, words: str) -> None:
    async with datagram_server(lambda wire: message(0x0101, wire[8:20], *parts)) as server:
        reading = await ask(server)
    assert reading.fault is fault
    assert words in reading.detail


async def test_a_server_that_sends_us_elsewhere_is_a_content_fault_that_says_where() -> None:
    def answer(wire: bytes) -> bytes:
        other = b"\0\1" + (3479).to_bytes(2, "big") + ipaddress.ip_address("192.0.2.44").packed
        parts = (error(300, "Try Alternate"), attribute(Attr.ALTERNATE_SERVER, other))
        return message(0x0111, wire[8:20], *parts)

    async with datagram_server(answer) as server:
        reading = await ask(server)
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "the server sends us to another, 192.0.2.44:3479: 300 Try Alternate"
    assert reading.values["error_code"] == 300


@pytest.mark.parametrize("garbage", [b"x", bytes(20), SAMPLE, b"\x80" * 1400])
async def test_datagrams_that_answer_nothing_of_ours_do_not_end_the_check(garbage: bytes) -> None:
    async with datagram_server(lambda _: garbage) as server:
        reading = await ask(server, timeout_s=0.4)
    assert reading.fault is Fault.PROTOCOL
    assert reading.values["foreign_count"] == 1


async def test_silence_is_a_timeout_and_a_closed_port_is_refused() -> None:
    async with datagram_server(lambda _: None) as server:
        silent = await ask(server, timeout_s=0.4)
    with refused_port() as address:
        refused = await ask(address)
    assert silent.fault is Fault.TIMEOUT
    assert refused.fault is Fault.REFUSED


# Relays


async def test_a_relay_is_given_with_a_login_and_taken_back(user: dict[str, Any]) -> None:
    turn = Turn()
    async with datagram_server(turn.answer) as server:
        reading = await ask(server, **user)
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.facts["relayed_address"] == "198.51.100.1:50000"
    assert reading.facts["mapped_ip"] == "203.0.113.9"
    assert reading.facts["realm"] == "example.vn"
    assert reading.facts["software"] == "Tiếp sóng 1.0"
    assert reading.values["lifetime_s"] == 600
    assert turn.asked == [(Method.ALLOCATE, False), (Method.ALLOCATE, True), (Method.REFRESH, True)]
    assert turn.relays == 0


async def test_an_open_relay_needs_no_login() -> None:
    turn = Turn(open=True)
    async with datagram_server(turn.answer) as server:
        reading = await ask(server, turn=True)
    assert reading.fault is None
    assert turn.relays == 0


async def test_a_stale_nonce_is_renewed_but_not_for_ever(user: dict[str, Any]) -> None:
    async with datagram_server(Turn(stale=1).answer) as server:
        renewed = await ask(server, **user)
    async with datagram_server(Turn(stale=100).answer) as server:
        never = await ask(server, **user)
    assert renewed.fault is None
    assert never.fault is Fault.CONTENT
    assert never.detail == "Allocate request refused: 438 Stale Nonce"


async def test_a_wrong_password_is_a_content_fault_and_never_shown(user: dict[str, Any]) -> None:
    async with datagram_server(Turn(password="another").answer) as server:
        reading = await ask(server, **user)
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "login refused: 401 Unauthorized"
    assert PASSWORD not in repr(reading)


async def test_a_server_that_wants_a_login_that_we_lack_says_so() -> None:
    async with datagram_server(Turn().answer) as server:
        reading = await ask(server, turn=True)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "the server wants a login: 401 Unauthorized")


async def test_a_full_server_is_a_content_fault(user: dict[str, Any]) -> None:
    async with datagram_server(Turn(refuse=(486, "Allocation Quota Reached")).answer) as server:
        reading = await ask(server, **user)
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "Allocate request refused: 486 Allocation Quota Reached"
    assert reading.values["error_code"] == 486


async def test_a_good_answer_from_somebody_else_is_not_believed(user: dict[str, Any]) -> None:
    async with datagram_server(Turn(forged=True).answer) as server:
        reading = await ask(server, timeout_s=0.3, **user)
    assert reading.fault is Fault.PROTOCOL
    assert reading.values["foreign_count"] >= 1
    assert "relayed_address" not in reading.facts


async def test_a_relay_is_given_back_also_when_the_run_is_cancelled(user: dict[str, Any]) -> None:
    turn = Turn()
    taken = asyncio.Event()
    back = asyncio.Event()

    def answer(wire: bytes) -> bytes | None:
        reply = turn.answer(wire)
        if turn.relays:
            taken.set()
            return None  # the good answer is lost: the relay stands, and we do not know it
        if taken.is_set():
            back.set()
        return reply

    async with datagram_server(answer) as server:
        before = open_sockets()
        keys: dict[str, Any] = {"host": server.host, "port": server.port, **user}
        task = asyncio.create_task(run_probe(PROBE, **keys))
        await taken.wait()
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(back.wait(), 2)
        assert open_sockets() == before
    assert turn.relays == 0


@pytest.mark.parametrize("secure", [False, True])
async def test_streams_serve_as_well(user: dict[str, Any], secure: bool, certificates: Certificates) -> None:
    turn = Turn()
    more: dict[str, Any] = (
        {"transport": "tls", "ca_file": str(certificates.ca_file)} if secure else {"transport": "tcp"}
    )
    async with stream_server(turn, certificates.good.server_context() if secure else None) as server:
        reading = await ask(server, **user, **more)
        bound = await ask(server, **more)
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.values["lifetime_s"] == 600
    assert turn.relays == 0
    assert bound.facts["mapped_ip"] == "203.0.113.9"
    assert ("tls" in reading.phases) is secure
    assert ("tls_not_after_timestamp_s" in reading.values) is secure


async def test_a_stream_of_something_else_is_a_protocol_fault() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(SAMPLE[:30])
        await writer.drain()

    async with byte_server(http) as server:
        reading = await ask(server, transport="tcp")
    async with byte_server(short) as server:
        cut = await ask(server, transport="tcp")
    async with silent_server() as server:
        silent = await ask(server, transport="tcp", timeout_s=0.4)
    assert reading.fault is Fault.PROTOCOL
    assert reading.detail.startswith("no STUN message came")
    assert (cut.fault, cut.detail) == (Fault.REFUSED, "the server hung up before the whole answer")
    assert silent.fault is Fault.TIMEOUT


async def test_cancelling_leaves_no_socket_behind() -> None:
    async with datagram_server(lambda _: None) as server:
        before = open_sockets()
        await cancelled_after(PROBE, 0.05, host=server.host, port=server.port)
        assert open_sockets() == before


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"username": "a", "password_env": "X"}, "no use without turn: true"),
        ({"turn": True, "username": "a"}, "go together"),
        ({"mapped_in": ["203.0.113.0/33"]}, "does not appear to be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PROBE.settings.model_validate_json(json.dumps({"host": "a.vn", **keys}))
