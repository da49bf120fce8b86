"""The other side: Debian's blackbox_exporter on the same load, asked by a paced client or by a real Prometheus."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

import aiohttp
import uvloop

from bench.daemon import Window
from bench.targets import EVERY_S, MODULES, Check, scrape_configuration
from bench.usage import Usage, usage
from monitor.scheduler import TICK_S, next_slot
from probes.base import utc_now
from tests.servers import LOOPBACK
from tests.system.servers import wait_until
from tests.system.servers_metrics import BlackboxExporter, Prometheus

CONNECTIONS: Final = 20  # kept alive by the client; chosen: more than are ever busy at this rate
DISCOVERY_S: Final = 5.0  # a Prometheus gathers targets so long before its first scrape
WELL: Final = b"\nprobe_success 1\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


@dataclass(slots=True)
class Count:
    """Answers so far."""

    probes: int = 0
    good: int = 0


class PacedClient:
    """Asks for each check's probe at its own slot, as our scheduler would start it; its CPU is not counted."""

    def __init__(self, session: aiohttp.ClientSession, port: int, checks: Sequence[Check]) -> None:
        self._session = session
        self._base = f"http://{LOOPBACK}:{port}"
        self._queries = {check.id: check.query for check in checks}
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._slots = [(next_slot(check.id, EVERY_S, now), check.id) for check in checks]
        heapq.heapify(self._slots)
        self._asking: set[asyncio.Task[None]] = set()
        self.count = Count()

    async def run(self) -> None:
        """Ask until cancelled; then give up what is under way."""
        try:
            await self._pace()
        finally:
            for task in tuple(self._asking):
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)

    async def _pace(self) -> None:
        while True:
            now = self._loop.time()
            while self._slots[0][0] <= now + TICK_S / 2:
                due, check = self._slots[0]
                task = asyncio.create_task(self._ask(self._queries[check]))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
                heapq.heapreplace(self._slots, (next_slot(check, EVERY_S, max(due, now)), check))
            await asyncio.sleep(max(self._slots[0][0] - now, 0.0) + TICK_S / 2)

    async def _ask(self, query: str) -> None:
        async with self._session.get(self._base + query) as answer:
            body = await answer.read()
        self.count.probes += 1
        self.count.good += answer.status == 200 and WELL in body


class FlatOutClient(asyncio.Protocol):
    """One connection that asks without a pause, each query in turn; a dozen of them saturate an exporter's core.

    Bytes straight to and from the wire: a client that costs as much as a probe would be what is measured.
    """

    def __init__(self, queries: Iterator[str], count: Count) -> None:
        """Args: queries: path and query of each /probe, without an end. count: shared by all connections."""
        self._queries = queries
        self._count = count
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the first."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._heard = b""
        self._transport.write(f"GET {next(self._queries)} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Count a whole answer and ask the next."""
        self._heard += data
        if _is_whole(self._heard):
            self._count.probes += 1
            self._count.good += WELL in self._heard
            self._ask()


def _is_whole(answer: bytes) -> bool:
    """Say whether an HTTP answer, with its length in front or in chunks, has come to its end."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"\r\n0\r\n\r\n")


@asynccontextmanager
async def flat_out(port: int, checks: Sequence[Check]) -> AsyncIterator[Count]:
    """Ask an exporter for each check's probe in turn, without a pause, over every connection."""
    loop, count = asyncio.get_running_loop(), Count()
    queries = itertools.cycle([check.query for check in checks])
    transports = []
    try:
        for _ in range(CONNECTIONS):
            transport, _client = await loop.create_connection(lambda: FlatOutClient(queries, count), LOOPBACK, port)
            transports.append(transport)
        yield count
    finally:
        for transport in transports:
            transport.abort()


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the connections to blackbox_exporter, which are kept."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=60.0)
    async with aiohttp.ClientSession(connector=connector, headers={"Accept-Encoding": "identity"}) as found:
        yield found


@asynccontextmanager
async def paced(port: int, checks: Sequence[Check]) -> AsyncIterator[Count]:
    """Ask an exporter for each check's probe at its own slot."""
    async with session() as kept:
        client = PacedClient(kept, port, checks)
        asking = asyncio.create_task(client.run())
        try:
            yield client.count
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


def run_blackbox(checks: Sequence[Check], *, warm_s: float, window_s: float) -> Window:
    """Have blackbox_exporter probe the load by the paced client, and watch it for a window."""
    with BlackboxExporter(MODULES) as exporter:
        return uvloop.run(_paced(exporter, checks, warm_s, window_s))


async def _paced(exporter: BlackboxExporter, checks: Sequence[Check], warm_s: float, window_s: float) -> Window:
    async with paced(exporter.port, checks) as count:
        await asyncio.sleep(warm_s)
        before, probes, good = usage(exporter.pid), count.probes, count.good
        await asyncio.sleep(window_s)
        after = usage(exporter.pid)
        probes, good = count.probes - probes, count.good - good
    return _window(before, after, probes, good)


def _window(before: Usage, after: Usage, probes: int, good: int) -> Window:
    return Window(
        probes_per_s=probes / (after.at - before.at),
        good_ratio=good / probes,
        cpu_per_probe_us=(after.cpu_s - before.cpu_s) / probes * 1e6,
        rss_bytes=after.rss_bytes,
    )


def run_prometheus(checks: Sequence[Check], *, warm_s: float, window_s: float) -> Window:
    """Have blackbox_exporter probe the load for a real Prometheus, and watch both processes for a window."""
    with BlackboxExporter(MODULES) as exporter:
        text = scrape_configuration(checks, exporter.port)
        with Prometheus({}, config=text) as prometheus:
            time.sleep(DISCOVERY_S + warm_s)
            before = usage(exporter.pid, prometheus.pid)
            time.sleep(window_s)
            after = usage(exporter.pid, prometheus.pid)
            span = f"[{round(window_s)}s]"
            ended = utc_now().timestamp()
            probes = _sum(prometheus, f"count_over_time(probe_success{span})", ended)
            good = _sum(prometheus, f"sum_over_time(probe_success{span})", ended)
    return _window(before, after, round(probes), round(good))


def _sum(prometheus: Prometheus, series: str, at: float) -> float:
    """Ask for a sum as it was at a moment, until Prometheus has the time to answer."""
    asked = {"query": f"sum({series})", "time": f"{at:.3f}"}
    found = wait_until(lambda: prometheus.get("/api/v1/query", **asked)["result"], within_s=60.0, every_s=1.0)
    return float(found[0]["value"][1])
