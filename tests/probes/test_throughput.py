from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.loader import ConfigError, load_text
from probes.base import Fault, ProbeError, Reading, Tools, utc_now
from probes.byte_budget import ByteBudget
from probes.throughput import PROBE, SLACK_BYTES, Settings
from tests.probes.probing import open_sockets, run_probe
from tests.servers import Address, byte_server, drip_server, endless_line_server, refused_port, silent_server

MB = 1_000_000


@contextlib.asynccontextmanager
async def file_server(
    size: int | None = 10 * MB, *, status: str = "200 OK", pause_s: float = 0.0, cut_after: int | None = None
) -> AsyncIterator[tuple[Address, list[bytes]]]:
    """Serve a file of `size` bytes, or one without end, and note the requests."""
    requests: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        length = b"" if size is None else b"Content-Length: %d\r\n" % size
        writer.write(b"HTTP/1.1 %b\r\n%b\r\n" % (status.encode(), length))
        left = min(1 << 40 if size is None else size, cut_after or 1 << 40)
        while left > 0:
            writer.write(b"x" * min(left, 50_000))
            left -= 50_000
            await writer.drain()
            await asyncio.sleep(pause_s)

    async with byte_server(handler) as address:
        yield address, requests


async def fetch(
    address: Address, *, timeout_s: float = 4.0, tools: Tools | None = None, seconds: str = "1s", **more: object
) -> Reading:
    url = f"http://{address.host}:{address.port}/file"
    return await run_probe(PROBE, timeout_s=timeout_s, tools=tools, url=url, seconds=seconds, **more)  # type: ignore[arg-type]


# Rates


async def test_a_whole_file_gives_a_rate_and_counts_what_came() -> None:
    async with file_server(2 * MB) as (address, requests):
        reading = await fetch(address)
    assert reading.fault is None, reading.detail
    values = reading.values
    assert values["content_bytes"] == 2 * MB
    assert 2 * MB < values["wire_bytes"] < 2 * MB + 1000
    assert values["budget_left_bytes"] == 1000 * MB - values["wire_bytes"]
    assert values["rate_bps"] <= 2 * MB * 8 / values["transfer_s"]
    assert values["late_rate_bps"] > 0
    assert {"connect", "processing", "transfer"} <= set(reading.phases)
    assert b"Range: bytes=0-9999999\r\n" in requests[0]


async def test_the_rate_is_that_of_the_server() -> None:
    async with file_server(MB, pause_s=0.01) as (address, _):  # 20 parts of 50 kB
        reading = await fetch(address)
    seconds = reading.values["transfer_s"]
    assert seconds >= 0.18
    assert reading.values["rate_bps"] == pytest.approx(0.95 * MB * 8 / seconds, rel=0.05)
    assert reading.values["late_rate_bps"] == pytest.approx(reading.values["rate_bps"], rel=0.4)


async def test_reading_ends_at_the_bound_of_bytes_and_what_was_on_its_way_is_counted() -> None:
    async with file_server(None) as (address, _):
        reading = await fetch(address, max_size="1MB")
    assert reading.fault is None
    assert MB <= reading.values["content_bytes"] < MB + 70_000
    assert reading.values["wire_bytes"] >= reading.values["content_bytes"]


async def test_reading_ends_at_the_bound_of_seconds() -> None:
    async with file_server(None, pause_s=0.01) as (address, _):
        reading = await fetch(address, seconds="300ms", max_size="100MB")
    assert reading.fault is None
    assert 0.2 < reading.values["transfer_s"] <= 0.31
    assert reading.duration_s < 0.6


async def test_a_rate_below_the_least_is_a_content_fault() -> None:
    async with file_server(MB, pause_s=0.01) as (address, _):
        reading = await fetch(address, min_rate="1Gbit")
    assert reading.fault is Fault.CONTENT
    assert reading.detail.endswith(" Mbit/s, at least 1e+03 Mbit/s expected")
    assert reading.values["rate_bps"] > 0


# What is not well


async def test_a_server_that_falls_silent_gives_a_low_rate_and_not_a_short_time() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 200_000)
        await reader.read()

    async with byte_server(handler) as address:
        reading = await fetch(address, seconds="400ms", min_rate="100Mbit")
    assert reading.fault is Fault.CONTENT
    assert reading.values["transfer_s"] > 0.3


async def test_hardly_anything_in_the_time_is_a_timeout() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"
    async with drip_server(head + b"x" * 99, every_s=0.001) as address:
        reading = await fetch(address, seconds="300ms", timeout_s=2.0)
    assert reading.fault in (Fault.TIMEOUT, Fault.PROTOCOL)


@pytest.mark.parametrize(
    ("size", "status", "cut", "fault", "detail"),
    [
        (50_000, "200 OK", None, Fault.CONTENT, "50000 bytes came; to tell a rate takes 100000"),
        (0, "200 OK", None, Fault.CONTENT, "0 bytes came; to tell a rate takes 100000"),
        (MB, "302 Found", None, Fault.CONTENT, "status 302, expected 200 or 206"),
        (MB, "200 OK", 500_000, Fault.PROTOCOL, "the server closed the connection in the middle of the body, after"),
    ],
)
async def test_what_came_instead_is_said(size: int, status: str, cut: int | None, fault: Fault, detail: str) -> None:
    async with file_server(size, status=status, cut_after=cut) as (address, _):
        reading = await fetch(address)
    assert reading.fault is fault
    assert reading.detail.startswith(detail)


async def test_garbage_silence_and_refusal_are_told_apart() -> None:
    async with endless_line_server() as address:
        assert (await fetch(address)).fault is Fault.PROTOCOL
    async with endless_line_server(b"HTTP/1.1 200 OK\r\nX: ") as address:
        assert (await fetch(address)).fault is Fault.PROTOCOL
    async with silent_server() as address:
        reading = await fetch(address, seconds="100ms", timeout_s=1.3)
        assert reading.fault is Fault.TIMEOUT
        assert reading.values["wire_bytes"] == 0
    with refused_port() as address:
        assert (await fetch(address)).fault is Fault.REFUSED


async def test_cancelling_closes_the_connection_and_counts_what_came() -> None:
    before, tools = open_sockets(), Tools()
    budget = tools.of(ByteBudget)
    arrived = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 60_000)
        await writer.drain()
        asyncio.get_running_loop().call_later(0.03, arrived.set)
        await reader.read()

    async with byte_server(handler) as address:
        task = asyncio.create_task(fetch(address, tools=tools))
        async with asyncio.timeout(3):
            await arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        spent = await budget.spent(f" http://{address.host}:{address.port}/file", utc_now())
    tools.close()
    assert 60_000 < spent < 61_000
    assert open_sockets() == before


def test_the_kernels_count_is_read_on_uvloop_as_well() -> None:
    async def body() -> Reading:
        async with file_server(MB) as (address, _):
            return await fetch(address)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reading = runner.run(body())
    assert reading.fault is None
    assert reading.values["wire_bytes"] > MB


# The budget


async def test_when_the_budget_is_spent_nothing_is_fetched_also_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "byte-budget.json"
    readings = []
    async with file_server(None) as (address, requests):
        for _ in range(3):
            tools = Tools()
            tools.put(ByteBudget(file))  # as a daemon that starts anew
            readings.append(await fetch(address, tools=tools, max_size="1MB", daily="3MB"))
            tools.close()
    assert [r.fault for r in readings] == [None, None, Fault.LOCAL]
    assert readings[-1].detail.startswith("daily budget spent: ")
    assert len(requests) == 2
    assert os.listdir(tmp_path) == ["byte-budget.json"]  # noqa: PTH208  nothing is left beside it


async def test_a_crash_in_the_middle_counts_as_all_that_was_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    async with ByteBudget(file).share("k", 5 * MB, 20 * MB) as share:
        share.used = 0
        assert await ByteBudget(file).spent("k", utc_now()) == 5 * MB  # what another life would read now
    assert await ByteBudget(file).spent("k", utc_now()) == 0


async def test_after_a_day_the_bytes_are_free_again(tmp_path: Path) -> None:
    budget, now = ByteBudget(), utc_now()
    async with budget.share("k", 7, 10):
        pass
    assert await budget.spent("k", now + timedelta(hours=23)) == 7
    assert await budget.spent("k", now + timedelta(hours=25, minutes=1)) == 0
    assert await budget.spent("other", now) == 0
    with pytest.raises(ProbeError, match="daily budget spent"):
        async with budget.share("k", 7, 10):
            pass


async def test_a_budget_that_cannot_be_kept_is_our_own_fault(tmp_path: Path) -> None:
    with pytest.raises(ProbeError) as caught:
        async with ByteBudget(tmp_path / "no" / "b.json").share("k", 1, 2):
            pass
    assert caught.value.fault is Fault.LOCAL


SCRAPS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(["bytes", "1", "k", "x", "9" * 5000]), inner),
)


@given(st.binary(max_size=60) | SCRAPS.map(lambda data: json.dumps(data).encode()))
def test_a_damaged_file_is_begun_anew(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("b") / "b.json"
    file.write_bytes(content)

    async def use() -> int:
        budget = ByteBudget(file)
        async with budget.share("new", 5, 10**12):
            pass
        return await budget.spent("new", utc_now())

    assert asyncio.run(use()) == 5


async def test_two_downloads_by_one_path_wait_for_each_other() -> None:
    tools, here = Tools(), 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal here
        here += 1
        assert here == 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200_000)
        await writer.drain()
        await asyncio.sleep(0.03)
        writer.write(b"x" * 100_000)
        await writer.drain()
        here -= 1

    async with byte_server(handler) as address:
        readings = await asyncio.gather(*(fetch(address, tools=tools) for _ in range(3)))
    assert [r.fault for r in readings] == [None, None, None]
    async with file_server(None, pause_s=0.01) as (address, _):
        first, second = await asyncio.gather(
            fetch(address, tools=tools, seconds="900ms", max_size="900MB", daily="9GB"),
            fetch(address, tools=tools, seconds="900ms", max_size="900MB", daily="9GB", timeout_s=2.2),
        )
    assert first.fault is None
    assert second.detail == "another download used the path all the time"
    tools.close()


# Settings


@pytest.mark.parametrize(
    "more",
    [
        {"max_size": "50kB"},
        {"max_size": "2GB", "daily": "9GB"},
        {"max_size": 10_000_000},
        {"max_size": "10mb"},
        {"daily": "10MB"},
        {"min_rate": "20"},
        {"min_rate": "20MB"},
        {"url": "ftp://a/b"},
        {"seconds": "2m"},
    ],
)
def test_bounds_that_make_no_sense_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate_json(json.dumps({"url": "http://a.vn/f", **more}))


def test_an_interval_at_which_the_budget_would_not_last_is_refused() -> None:
    text = """\
site: {id: a, name: A}
services: {s: {name: S, checks: {c: {probe: throughput, url: "http://a.vn/f", every: 1m}}}}
"""
    with pytest.raises(
        ConfigError, match="the interval 1m is too short: throughput with these settings needs at least"
    ):
        load_text(text)
    settings = Settings(url="http://a.vn/f")
    every_s = PROBE.least_every_s(settings)
    assert 86400 / every_s * (settings.max_size + SLACK_BYTES) <= settings.daily
