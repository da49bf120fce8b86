from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.base import Fault, ProbeError
from probes.grpc import PROBE, Settings, serving
from probes.hpack import encode
from probes.http2 import Frame, frame
from tests.probes.grpc_server import NOT_SERVING, SERVING, grpc_server
from tests.probes.probing import cancelled_after, run_probe
from tests.servers import Certificates, byte_server, refused_port, resetting_server, silent_server, talk_server

SERVICES = {"": SERVING, "motcua": SERVING, "tre": NOT_SERVING, "la": 7, "chua-biet": 0}


async def test_a_serving_server_is_good() -> None:
    async with grpc_server(SERVICES) as server:
        reading = await run_probe(PROBE, host=server.host, port=server.port)
        named = await run_probe(PROBE, host=server.host, port=server.port, service="motcua", metadata={"x-tinh": "ls"})
    assert (reading.fault, reading.detail) == (None, "")
    assert (named.fault, named.facts["serving_status"]) == (None, "SERVING")
    assert reading.values == {"grpc_status_code": 0.0}
    assert reading.phases.keys() == {"resolve", "connect", "processing"}


@pytest.mark.parametrize(
    ("service", "words", "status"),
    [
        ("tre", "health is NOT_SERVING, expected SERVING", 0),
        ("chua-biet", "health is UNKNOWN, expected SERVING", 0),
        ("la", "health is 7, expected SERVING", 0),
        ("khong-co", "gRPC status NOT_FOUND: unknown service", 5),
    ],
)
async def test_a_service_that_does_not_serve_is_a_content_fault(service: str, words: str, status: int) -> None:
    async with grpc_server(SERVICES) as server:
        reading = await run_probe(PROBE, host=server.host, port=server.port, service=service)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, words)
    assert reading.values["grpc_status_code"] == status


async def test_tls_shows_its_certificate_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    ca_file = str(certificates.ca_file)
    async with grpc_server(SERVICES, tls=certificates.good.server_context()) as server:
        good = await run_probe(PROBE, host=server.host, port=server.port, tls=True, ca_file=ca_file)
    async with grpc_server(SERVICES, tls=certificates.expired.server_context()) as server:
        expired = await run_probe(PROBE, host=server.host, port=server.port, tls=True, ca_file=ca_file)
    assert good.fault is None
    assert good.values["tls_not_after_timestamp_s"] > 0
    assert expired.fault is Fault.TLS


async def test_a_closed_port_a_reset_and_silence() -> None:
    with refused_port() as closed:
        refused = await run_probe(PROBE, host=closed.host, port=closed.port)
    async with resetting_server() as server:
        reset = await run_probe(PROBE, host=server.host, port=server.port)
    async with silent_server() as server:
        silent = await run_probe(PROBE, host=server.host, port=server.port, timeout_s=0.1)
        await cancelled_after(PROBE, 0.02, host=server.host, port=server.port)
    assert (refused.fault, reset.fault, silent.fault) == (Fault.REFUSED, Fault.REFUSED, Fault.TIMEOUT)


async def test_another_protocol_and_another_server_of_http2_are_told_apart() -> None:
    async with talk_server(b"220 mail.example.vn ESMTP\r\n") as server:
        smtp = await run_probe(PROBE, host=server.host, port=server.port)
    assert (smtp.fault, smtp.detail) == (Fault.PROTOCOL, "the server does not speak HTTP/2 on this port")

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(frame(Frame.SETTINGS, 0, 0) + frame(Frame.HEADERS, 5, 1, encode([(":status", "503")])))
        await reader.read()

    async with byte_server(proxy) as server:
        proxied = await run_probe(PROBE, host=server.host, port=server.port)
    assert (proxied.fault, proxied.detail) == (Fault.CONTENT, "gRPC status UNAVAILABLE: HTTP status 503")


async def test_an_answer_without_end_is_cut_off() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(frame(Frame.SETTINGS, 0, 0) + frame(Frame.HEADERS, 4, 1, encode([(":status", "200")])))
        while True:
            writer.write(frame(Frame.DATA, 0, 1, bytes(16000)))
            await writer.drain()
            await asyncio.sleep(0)

    async with byte_server(flood) as server:
        reading = await run_probe(PROBE, host=server.host, port=server.port)
    assert (reading.fault, reading.detail) == (Fault.PROTOCOL, "the answer is too long to be one about health")


@pytest.mark.parametrize("metadata", [{"grpc-timeout": "1S"}, {"X-Upper": "1"}, {"x-bin": "1"}, {"x": "a\r\nb"}])
def test_metadata_that_cannot_be_sent_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings(host="a", port=1, metadata=metadata)


@given(st.binary(max_size=40))
def test_any_answer_is_a_status_or_a_named_fault(message: bytes) -> None:
    with contextlib.suppress(ProbeError):
        assert serving(b"\0" + len(message).to_bytes(4, "big") + message)
