from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from probes.base import Fault
from probes.unix import PROBE, Settings
from tests.probes.probing import cancelled_after, run_probe


@contextlib.asynccontextmanager
async def unix_server(path: Path, *turns: bytes) -> AsyncIterator[str]:
    """Say the first turn at once and each later one after a line; then wait for the client to leave."""

    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(handler(reader, writer)))

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for number, turn in enumerate(turns):
                if number:
                    await reader.readline()
                writer.write(turn)
                await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_unix_server(accept, path)
    yield str(path)
    await asyncio.sleep(0.01)  # connections that the client has left already are still to be accepted
    server.close()
    await asyncio.gather(*serving)


async def test_a_socket_that_takes_connections_is_good(tmp_path: Path) -> None:
    async with unix_server(tmp_path / "s") as path:
        reading = await run_probe(PROBE, socket=path)
    assert reading.fault is None
    assert reading.phases.keys() == {"connect"}


async def test_a_dialogue_tells_right_words_from_wrong_ones(tmp_path: Path) -> None:
    async with unix_server(tmp_path / "s", b"", b"PONG\n", b"BYE\n") as path:
        good = await run_probe(PROBE, socket=path, dialogue=[{"send": "PING\n", "expect": "^PONG"}])
        bad = await run_probe(PROBE, socket=path, dialogue=[{"send": "PING\n", "expect": "^OK"}], timeout_s=0.1)
    assert (good.fault, good.facts["answer"]) == (None, "PONG")
    assert (bad.fault, bad.facts["answer"]) == (Fault.TIMEOUT, "PONG")


async def test_no_socket_a_dead_one_and_silence(tmp_path: Path) -> None:
    absent = await run_probe(PROBE, socket=str(tmp_path / "absent"))
    async with unix_server(tmp_path / "s") as path:
        silent = await run_probe(PROBE, socket=path, dialogue=[{"expect": "x"}], timeout_s=0.05)
        await cancelled_after(PROBE, 0.02, socket=path, dialogue=[{"expect": "x"}])
    dead = await run_probe(PROBE, socket=path)  # its file outlives the server
    assert (absent.fault, absent.detail) == (Fault.NAME, f"there is no socket {tmp_path}/absent")
    assert (silent.fault, dead.fault) == (Fault.TIMEOUT, Fault.REFUSED)


@pytest.mark.parametrize("name", ["relative", "/" + "a" * 107])
def test_a_name_that_can_be_no_socket_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Settings(socket=Path(name))
