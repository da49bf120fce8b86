"""The http probe against servers that refuse, stall, lie or never end."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.base import Fault, Reading
from tests.probes.web_servers import answer, probe
from tests.servers import (
    Address,
    Certificates,
    byte_server,
    drip_server,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
    talk_server,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), "127.0.0.2")


def url_of(address: Address) -> str:
    return f"http://{address.host}:{address.port}/"


async def test_a_refused_port_is_refused() -> None:
    with refused_port() as address:
        reading = await probe("http", url=url_of(address))

    assert reading.fault is Fault.REFUSED


async def test_a_reset_before_a_word_is_refused() -> None:
    async with resetting_server() as address:
        reading = await probe("http", url=url_of(address))

    assert reading.fault is Fault.REFUSED


async def test_silence_lasts_until_the_deadline() -> None:
    async with silent_server() as address:
        reading = await probe("http", url=url_of(address), timeout_s=0.1)

    assert reading.fault is Fault.TIMEOUT
    assert reading.detail == "no answer within 0.1 s in phase processing"


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 99])
async def test_a_byte_at_a_time_ends_at_the_deadline(sent: bytes) -> None:
    async with drip_server(sent, every_s=0.03) as address:
        reading = await probe("http", url=url_of(address), timeout_s=0.15)

    assert reading.fault is Fault.TIMEOUT
    assert reading.detail.endswith("in phase transfer")


async def test_an_answer_that_stops_in_the_middle_keeps_its_status() -> None:
    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await reader.read()
        await asyncio.sleep(60)

    async with byte_server(stop) as address:
        reading = await probe("http", url=url_of(address), timeout_s=0.1)

    assert reading.fault is Fault.TIMEOUT
    assert reading.values["status_code"] == 200


async def test_headers_without_end_are_not_read_to_the_end() -> None:
    async with endless_line_server(b"HTTP/1.1 200 OK\r\nX: ") as address:
        reading = await probe("http", url=url_of(address))

    assert reading.fault is Fault.PROTOCOL
    assert reading.detail == "the headers are longer than 65536 bytes"


async def test_a_body_without_end_is_cut_at_the_limit() -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"
    async with endless_line_server(start) as address:
        free = await probe("http", url=url_of(address), max_body_bytes=100_000)
        ruled = await probe("http", url=url_of(address), max_body_bytes=100_000, expect={"body": "b"})

    assert free.fault is None, free.detail
    assert free.values["content_bytes"] == 100_000
    assert ruled.fault is Fault.CONTENT
    assert "the first 100000 characters of a longer body" in ruled.detail


async def test_a_server_that_answers_before_it_is_asked_is_read() -> None:
    async with talk_server(answer(status="408 Request Timeout")) as address:
        reading = await probe("http", url=url_of(address))

    assert reading.detail == "status 408, expected 2xx"


async def test_a_server_that_refuses_a_large_body_early_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(status="413 Too Large"))
        await writer.drain()
        while await reader.read(1 << 16):
            pass

    async with byte_server(refuse) as address:
        reading = await probe("http", url=url_of(address), method="POST", body="x" * 900_000)

    assert reading.detail == "status 413, expected 2xx"


async def test_cancelling_closes_the_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        try:
            await reader.read()
        finally:
            gone.set()

    async with byte_server(wait) as address:
        running = asyncio.create_task(probe("http", url=url_of(address)))
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(2):
            await gone.wait()


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_bytes_are_an_answer_or_a_named_fault(data: bytes, behind_a_status: bool) -> None:
    async def play() -> Reading:
        start = b"HTTP/1.1 200 OK\r\n" if behind_a_status else b""
        async with talk_server(start + data) as address:
            return await probe("http", url=url_of(address), timeout_s=2, expect={"body": "x", "json": [{"path": "a"}]})

    reading = asyncio.run(play())

    assert reading.fault is not Fault.INTERNAL
    assert reading.fault in (Fault.REFUSED, Fault.PROTOCOL, Fault.CONTENT) or "status_code" in reading.values


# Settings.
