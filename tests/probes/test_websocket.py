from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.base import Fault, ProbeError
from probes.websocket import PROBE, Settings
from probes.websocket_wire import MESSAGE_LIMIT, PARTS_LIMIT, Opcode, Reader, accept_of, encode
from tests.probes.probing import cancelled_after, run_probe
from tests.servers import LOOPBACK, Address, Certificates, byte_server, refused_port, silent_server


@contextlib.asynccontextmanager
async def websocket_server(certificates: Certificates | None = None) -> AsyncIterator[Address]:
    """aiohttp's own server: greets, then answers `ping` with `pong` and anything else with an echo."""

    async def live(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["bang-tin"])
        await socket.prepare(request)
        await socket.ping(b"alive?")
        await socket.send_str("xin chào")
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str("pong" if message.data == "ping" else f"echo {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/live", live)
    app.router.add_get("/page", _page)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = certificates.good.server_context() if certificates else None
    await web.TCPSite(runner, LOOPBACK, 0, ssl_context=tls).start()
    try:
        yield Address(LOOPBACK, runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="no socket here")


async def test_an_upgrade_and_a_dialogue_are_good() -> None:
    async with websocket_server() as server:
        url = f"ws://{LOOPBACK}:{server.port}/live"
        bare = await run_probe(PROBE, url=url, subprotocol="bang-tin")
        dialogue = [{"expect": "^xin chào$"}, {"send": "ping", "expect": "pong"}]
        reading = await run_probe(PROBE, url=url, dialogue=dialogue)
    assert (bare.fault, bare.detail) == (None, "")
    assert (reading.fault, reading.values, reading.facts["answer"]) == (None, {"status_code": 101.0}, "pong")
    assert reading.phases.keys() == {"resolve", "connect", "processing", "transfer"}


async def test_it_works_inside_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with websocket_server(certificates) as server:
        url = f"wss://{LOOPBACK}:{server.port}/live"
        good = await run_probe(PROBE, url=url, ca_file=str(certificates.ca_file))
        bad = await run_probe(PROBE, url=url)
    assert (good.fault, bad.fault) == (None, Fault.TLS)
    assert good.values["tls_not_after_timestamp_s"] > 0


async def test_no_upgrade_another_protocol_and_other_words_are_content_faults() -> None:
    async with websocket_server() as server:
        page = await run_probe(PROBE, url=f"ws://{LOOPBACK}:{server.port}/page")
        url = f"ws://{LOOPBACK}:{server.port}/live"
        protocol = await run_probe(PROBE, url=url, subprotocol="xmpp")
        words = await run_probe(PROBE, url=url, dialogue=[{"expect": "tạm biệt"}], timeout_s=0.1)
    assert (page.fault, page.values["status_code"]) == (Fault.CONTENT, 200.0)
    assert page.detail == "status 200, expected 101: no upgrade to a WebSocket"
    assert (protocol.fault, protocol.detail) == (Fault.CONTENT, "the server did not agree on xmpp")
    assert (words.fault, words.facts["answer"]) == (Fault.TIMEOUT, "xin chào")


def answering(tail: bytes, *, accept: str | None = None) -> contextlib.AbstractAsyncContextManager[Address]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        proof = accept or accept_of(key)
        head = f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {proof}"
        writer.write(head.encode() + b"\r\n\r\n" + tail)
        await writer.drain()

    return byte_server(handler)


@pytest.mark.parametrize(
    ("tail", "fault", "words"),
    [
        (b"", Fault.REFUSED, "hung up without a word"),
        (b"\x88\x04\x03\xe8ok", Fault.REFUSED, "ended the conversation: code 1000 ok"),
        (b"\xff\xff\xff\xff", Fault.PROTOCOL, "an extension that was not asked for"),
        (b"\x81\x7f" + b"\xff" * 8, Fault.PROTOCOL, "a frame of 18446744073709551615 bytes"),
        (b"\x80\x01a", Fault.PROTOCOL, "a frame out of order"),
    ],
)
async def test_what_follows_the_upgrade_is_judged(tail: bytes, fault: Fault, words: str) -> None:
    async with answering(tail) as server:
        url = f"ws://{LOOPBACK}:{server.port}/"
        reading = await run_probe(PROBE, url=url, dialogue=[{"expect": "x"}])
    assert reading.fault is fault
    assert words in reading.detail


async def test_a_wrong_proof_is_a_protocol_fault() -> None:
    async with answering(b"", accept=base64.b64encode(b"wrong").decode()) as server:
        reading = await run_probe(PROBE, url=f"ws://{LOOPBACK}:{server.port}/")
    assert reading.fault is Fault.PROTOCOL


async def test_a_closed_port_and_silence() -> None:
    with refused_port() as closed:
        refused = await run_probe(PROBE, url=f"ws://{LOOPBACK}:{closed.port}/")
    async with silent_server() as server:
        url = f"ws://{LOOPBACK}:{server.port}/"
        silent = await run_probe(PROBE, url=url, timeout_s=0.1)
        await cancelled_after(PROBE, 0.02, url=url)
    assert (refused.fault, silent.fault) == (Fault.REFUSED, Fault.TIMEOUT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://a/"},
        {"url": "ws://a b/"},
        {"url": "ws://a/", "headers": {"Sec-WebSocket-Key": "x"}},
        {"url": "ws://a/", "headers": {"X": "a\r\nb"}},
        {"url": "ws://a/", "subprotocol": "two words"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


@pytest.mark.parametrize("size", [0, 125, 126, 65535])
def test_frames_of_every_length_come_back(size: int) -> None:
    masked = encode(Opcode.TEXT, b"a" * size, b"\0\0\0\0")
    head = 2 if size < 126 else 4
    unmasked = bytes([masked[0], masked[1] & 0x7F]) + masked[2:head] + masked[head + 4 :]
    reader = Reader()
    for i in range(0, len(unmasked), 1000):
        reader.feed(unmasked[i : i + 1000])
    assert reader.messages == [b"a" * size]


def test_parts_are_joined_with_pings_between_them() -> None:
    reader = Reader()
    reader.feed(b"\x01\x01a\x89\x01p\x00\x01b\x80\x01c")
    assert (reader.messages, reader.pings) == ([b"abc"], [b"p"])


def test_parts_without_end_are_cut_off() -> None:
    with pytest.raises(ProbeError, match="frames without end"):
        Reader().feed(b"\x01\x00" + b"\x00\x00" * PARTS_LIMIT)
    with pytest.raises(ProbeError, match="a message longer than"):
        Reader().feed(b"\x01\x01a" + b"\x00\x7e\xff\xff" + b"a" * 65535 + b"\x00\x02aa")
    assert MESSAGE_LIMIT == 65536


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_named_fault(data: bytes) -> None:
    with contextlib.suppress(ProbeError):
        Reader().feed(data)
