from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import Fault, ProbeError, Reading
from probes.sip import PROBE, Settings
from probes.sip_message import LINES_LIMIT, Message, Options, parse
from tests.probes.probing import cancelled_after, open_sockets, run_probe
from tests.servers import (
    Address,
    Certificates,
    byte_server,
    datagram_server,
    drip_server,
    endless_line_server,
    refused_port,
    silent_server,
)

Reply = Callable[[bytes], bytes | None]
ASKED = Options(
    "sip:a.vn", "sip:me@192.0.2.1", "UDP", "192.0.2.1:5060", "z9hG4bKabc", "call-1", "tag-1", 7, "thongsuot"
)


def header(request: bytes, name: str) -> str:
    found = re.search(rf"^{name}: (.*)\r$", request.decode(), re.MULTILINE)
    assert found is not None
    return found[1]


def answer(request: bytes, status: str = "200 OK", *more: str, compact: bool = False, **changed: str) -> bytes:
    """Answer with the headers that RFC 3261 section 8.2.6 has copied, and those given."""
    names = {"Via": "v", "From": "f", "To": "t", "Call-ID": "i"} if compact else {}
    lines = [f"SIP/2.0 {status}"]
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        value = changed.get(name.replace("-", "_"), header(request, name))
        lines.append(f"{names.get(name, name)}: {value}")
    lines += [*more, "l: 0" if compact else "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode()


@contextlib.asynccontextmanager
async def exchange(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
    """Serve SIP on a stream."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        made = reply(request)
        if made is not None:
            writer.write(made)
            await writer.drain()
        await reader.read()

    async with byte_server(handler, tls=tls) as address:
        yield address


async def ask(server: Address, *, timeout_s: float = 3.0, **settings: Any) -> Reading:
    return await run_probe(PROBE, timeout_s=timeout_s, host=server.host, port=server.port, **settings)


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


def look_at(message: Message) -> None:
    """Read everything that a message may be asked for."""
    assert isinstance(message.branch, str)
    assert message.cseq[0] >= 0
    assert message.retry_after_s is None or message.retry_after_s >= 0
    assert isinstance(message.agent + message.joined("allow"), str)
    assert not ASKED.is_answered_by(message) or message.status >= 100
    with only_protocol_faults():
        assert message.body_bytes >= 0


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"SIP/2.0 200 OK\r\n", b"SIP/2.0 ", b"OPTIONS sip:a SIP/2.0\r\n"])
)
def test_random_bytes_are_a_message_or_a_protocol_fault(rest: bytes, start: bytes) -> None:
    with only_protocol_faults():
        look_at(parse(start + rest))


HEADERS = st.sampled_from(["Via", "v", "CSeq", "Content-Length", "l", "Call-ID", "Retry-After", "Allow", "Server", ""])
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["SIP/2.0/UDP a;branch=z9hG4bKabc", "7 OPTIONS", "call-1", "-1", "9" * 30, "٣", ";branch="]),
)


@given(st.integers(0, 9999), st.lists(st.tuples(HEADERS, VALUES), max_size=10))
def test_any_headers_are_a_message_or_a_protocol_fault(status: int, lines: list[tuple[str, str]]) -> None:
    text = f"SIP/2.0 {status} x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    with only_protocol_faults():
        look_at(parse(text.encode()))


def test_a_request_is_the_one_of_rfc_3261() -> None:
    lines = ASKED.encode().decode().split("\r\n")
    assert lines[0] == "OPTIONS sip:a.vn SIP/2.0"
    assert lines[-2:] == ["", ""]
    found = dict(line.split(": ", 1) for line in lines[1:-2])
    assert found["Via"] == "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport"
    assert found["From"] == "<sip:me@192.0.2.1>;tag=tag-1"
    assert found["CSeq"] == "7 OPTIONS"
    assert found["Content-Length"] == "0"
    assert parse(ASKED.encode()).status == 0


def test_only_its_own_answer_answers_a_request() -> None:
    request = ASKED.encode()
    assert ASKED.is_answered_by(parse(answer(request)))
    assert ASKED.is_answered_by(parse(answer(request, compact=True)))
    assert not ASKED.is_answered_by(parse(answer(request, Via="SIP/2.0/UDP a;branch=z9hG4bKother")))
    assert not ASKED.is_answered_by(parse(answer(request, CSeq="7 INVITE")))
    assert not ASKED.is_answered_by(parse(answer(request, CSeq="8 OPTIONS")))
    assert not ASKED.is_answered_by(parse(answer(request, Call_ID="call-2")))
    assert not ASKED.is_answered_by(parse(request))


def test_folded_and_repeated_headers_are_put_together() -> None:
    message = parse(b"SIP/2.0 200 OK\r\nAllow: INVITE,\r\n\tACK\r\nAllow: BYE\r\nl : 12\r\n\r\nAllow: no")
    assert message.joined("allow") == "INVITE, ACK, BYE"
    assert message.body_bytes == 12


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SIP/2.0 99 x\r\n\r\n",
        b"SIP/2.0 700 x\r\n\r\n",
        b"SIP/2.0 200 OK\r\nno colon\r\n\r\n",
        b"SIP/2.0 200 OK\r\n" + b"a: b\r\n" * (LINES_LIMIT + 5) + b"\r\n",
    ],
)
def test_what_is_no_message_is_refused(wire: bytes) -> None:
    with pytest.raises(ProbeError) as caught:
        parse(wire)
    assert caught.value.fault is Fault.PROTOCOL


# By UDP


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer_is_measured(host: str) -> None:
    def reply(request: bytes) -> bytes:
        assert request.startswith(b"OPTIONS sip:[::1]:" if ":" in host else b"OPTIONS sip:127.0.0.1:")
        return answer(request, "200 OK", "Allow: INVITE, ACK", "Allow: BYE", "User-Agent: Tổng đài", compact=True)

    async with datagram_server(reply, host=host) as server:
        reading = await ask(server, methods=["INVITE", "BYE"])
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.values["status_code"] == 200
    assert reading.values["sent_count"] == 1
    assert reading.values["provisional_count"] == 0
    assert reading.facts["user_agent"] == "Tổng đài"
    assert reading.facts["allow"] == "INVITE, ACK, BYE"
    assert reading.facts["address"] == host
    assert reading.phases["processing"] > 0


async def test_the_request_names_whom_it_is_for_and_who_asks() -> None:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes:
        seen.append(request)
        return answer(request)

    async with datagram_server(reply) as server:
        await ask(server, uri="sip:truc@tinh.example.vn", sender="sip:giam-sat@tinh.example.vn", max_forwards=0)
    assert seen[0].startswith(b"OPTIONS sip:truc@tinh.example.vn SIP/2.0\r\n")
    assert header(seen[0], "From").startswith("<sip:giam-sat@tinh.example.vn>;tag=")
    assert header(seen[0], "Max-Forwards") == "0"


@pytest.mark.parametrize(
    ("keys", "uri"),
    [
        ({"host": "bücher.example"}, "sip:xn--bcher-kva.example"),
        ({"host": "192.0.2.1", "port": 5070}, "sip:192.0.2.1:5070"),
        ({"host": "fe80::1%eth0"}, "sip:[fe80::1]"),
        ({"host": "a.vn", "transport": "tls"}, "sip:a.vn"),
        ({"host": "a.vn", "transport": "tls", "port": 5060}, "sip:a.vn:5060"),
    ],
)
def test_a_server_is_named_as_addresses_of_sip_are_written(keys: dict[str, Any], uri: str) -> None:
    settings = PROBE.settings.model_validate_json(json.dumps(keys))
    assert isinstance(settings, Settings)
    assert settings.wire_uri == uri


@pytest.mark.parametrize(
    ("status", "keys", "words"),
    [
        ("404 Not Found", {}, "status 404 Not Found, expected 200 to 299"),
        ("503 Service Unavailable", {"codes": [404, 405]}, "expected 200 to 299 or one of 404, 405"),
        ("301 Moved", {}, "status 301 Moved"),
        ("200 OK", {"methods": ["INVITE", "REFER"]}, "status 200 OK, but it does not allow REFER"),
    ],
)
async def test_an_answer_that_is_not_a_good_one_is_a_content_fault(
    status: str, keys: dict[str, Any], words: str
) -> None:
    async with datagram_server(lambda r: answer(r, status, "Allow: INVITE", "Retry-After: 30 (quá tải)")) as server:
        reading = await ask(server, **keys)
    assert reading.fault is Fault.CONTENT
    assert words in reading.detail
    assert reading.values["status_code"] == int(status[:3])
    assert reading.values["retry_after_s"] == 30


async def test_a_listed_code_is_good() -> None:
    async with datagram_server(lambda r: answer(r, "405 Method Not Allowed")) as server:
        reading = await ask(server, codes=[404, 405])
    assert reading.fault is None
    assert reading.facts["status"] == "405 Method Not Allowed"


async def test_a_lost_request_is_sent_again_after_half_a_second() -> None:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes | None:
        seen.append(request)
        return answer(request) if len(seen) == 2 else None

    async with datagram_server(reply) as server:
        reading = await ask(server)
    assert reading.fault is None
    assert reading.values["sent_count"] == 2
    assert seen[0] == seen[1]


async def test_garbage_and_strangers_answers_do_not_end_the_check() -> None:
    for wire in (b"x", b"\xff" * 2000, answer(ASKED.encode())):
        async with datagram_server(lambda _, wire=wire: wire) as server:  # type: ignore[misc]  # bound early
            reading = await ask(server, timeout_s=0.4)
        assert reading.fault is Fault.PROTOCOL
        assert reading.values["foreign_count"] == 1


async def test_an_answer_that_is_never_final_is_a_timeout_that_says_so() -> None:
    async with datagram_server(lambda r: answer(r, "100 Trying")) as server:
        reading = await ask(server, timeout_s=0.4)
    assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no final answer came, the last was 100 Trying")
    assert reading.values["provisional_count"] == 1
    assert reading.values["foreign_count"] == 0


async def test_silence_is_a_timeout_and_a_closed_port_is_refused() -> None:
    async with datagram_server(lambda _: None) as server:
        silent = await ask(server, timeout_s=0.4)
    with refused_port() as address:
        refused = await ask(address)
        stream = await ask(address, transport="tcp")
    assert silent.fault is Fault.TIMEOUT
    assert refused.fault is Fault.REFUSED
    assert stream.fault is Fault.REFUSED


async def test_cancelling_leaves_no_socket_behind() -> None:
    async with datagram_server(lambda _: None) as server:
        before = open_sockets()
        await cancelled_after(PROBE, 0.05, host=server.host, port=server.port)
        assert open_sockets() == before


# By stream


@pytest.mark.parametrize("secure", [False, True])
async def test_streams_serve_as_well(secure: bool, certificates: Certificates) -> None:
    def reply(request: bytes) -> bytes:
        trying = answer(request, "183 Session Progress").replace(b"Content-Length: 0", b"Content-Length: 4")
        own = b"OPTIONS sip:you SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKx\r\nl: 2\r\n\r\nhi"
        return b"\r\n\r\n" + trying + b"body" + own + answer(request)

    more: dict[str, Any] = (
        {"transport": "tls", "ca_file": str(certificates.ca_file)} if secure else {"transport": "tcp"}
    )
    async with exchange(reply, certificates.good.server_context() if secure else None) as server:
        reading = await ask(server, **more)
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.values["status_code"] == 200
    assert reading.values["provisional_count"] == 1
    assert reading.values["foreign_count"] == 1
    assert ("tls" in reading.phases) is secure
    assert ("tls_not_after_timestamp_s" in reading.values) is secure


@pytest.mark.parametrize(
    ("reply", "fault", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Fault.PROTOCOL, "no SIP message came: 'HTTP/1.1 400 Bad Request'"),
        (b"220 mail.example.vn ESMTP\r\n", Fault.PROTOCOL, "no SIP message came"),
        (b"SIP/2.0 200 OK\r\nVia: x\r\n", Fault.REFUSED, "the server hung up before a whole answer"),
        (b"", Fault.REFUSED, "the server hung up"),
        (b"SIP/2.0 180 Ringing\r\nContent-Length: 99999999\r\n\r\n", Fault.PROTOCOL, "a body of 99999999 bytes"),
        (b"SIP/2.0 180 Ringing\r\nContent-Length: -5\r\n\r\n", Fault.PROTOCOL, "a Content-Length came that is none"),
    ],
)
async def test_what_is_not_sip_is_named(reply: bytes, fault: Fault, words: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()

    async with byte_server(handler) as server:
        reading = await ask(server, transport="tcp")
    assert reading.fault is fault, reading.detail
    assert words in reading.detail


async def test_endless_slow_and_silent_streams_end_on_time() -> None:
    async with endless_line_server(b"SIP/2.0 200 OK\r\nX: ") as server:
        endless = await ask(server, transport="tcp")
    async with drip_server(b"SIP/2.0 200 OK\r\n" * 50, every_s=0.02) as server:
        slow = await ask(server, transport="tcp", timeout_s=0.3)
    async with silent_server() as server:
        silent = await ask(server, transport="tcp", timeout_s=0.3)
    assert (endless.fault, endless.detail) == (Fault.PROTOCOL, "a message came whose head does not end")
    assert slow.fault is Fault.TIMEOUT
    assert silent.fault is Fault.TIMEOUT
    assert max(slow.duration_s, silent.duration_s) < 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"uri": "sip:a b"}, "pattern"),
        ({"uri": "sip:a\r\nX: y"}, "pattern"),
        ({"uri": "sip:trực@a.vn"}, "ASCII"),
        ({"codes": [200]}, "greater than or equal to 300"),
        ({"methods": ["invite"]}, "pattern"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PROBE.settings.model_validate_json(json.dumps({"host": "a.vn", **keys}))
