"""The connection at the least cost: what its users, http and tls, do not show of themselves."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from probes.base import Measurement
from probes.wire import open_wire
from tests.servers import byte_server, resetting_server


async def test_more_than_the_kernel_takes_at_once_arrives_whole() -> None:
    data = bytes(range(256)) * 40_000
    came = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(came) < len(data):
            came.extend(await reader.read(4096))
        writer.write(b"thanks")

    async with byte_server(handler) as (host, port), open_wire(Measurement(timeout_s=5), host, port) as wire:
        await wire.write(data)
        assert await wire.read_some() == b"thanks"
        assert await wire.read_some() == b""
    assert bytes(came) == data


async def test_a_reset_is_an_error_and_not_an_end() -> None:
    async with resetting_server() as (host, port), open_wire(Measurement(timeout_s=5), host, port) as wire:
        with pytest.raises(ConnectionError):
            await wire.read_some()


async def test_a_server_that_hangs_up_in_the_handshake_is_an_error_of_tls() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    context = ssl.create_default_context()
    async with byte_server(handler) as (host, port), open_wire(Measurement(timeout_s=5), host, port) as wire:
        with pytest.raises((ssl.SSLEOFError, ConnectionError)):
            await wire.start_tls(Measurement(timeout_s=5), context, "localhost")
        assert wire.ssl_object is None


async def test_waiting_ends_when_the_run_is_cancelled_and_listens_no_more() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with byte_server(handler) as (host, port), open_wire(Measurement(timeout_s=5), host, port) as wire:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await wire.read_some()
        await wire.write(b"still open")


async def test_what_comes_while_nobody_waits_keeps_no_loop_busy() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"first")
        await reader.read(1)
        writer.write(b"second")

    async with byte_server(handler) as (host, port), open_wire(Measurement(timeout_s=5), host, port) as wire:
        await wire.write(b"a")
        assert await wire.read_some() == b"first"
        await wire.write(b"b")
        await asyncio.sleep(0.02)
        assert not asyncio.get_running_loop().remove_reader(wire._number)
        assert await wire.read_some() == b"second"
        assert await wire.read_some() == b""
