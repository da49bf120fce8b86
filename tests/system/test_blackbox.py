"""Our `/probe` and Debian's blackbox_exporter against the same servers: same verdicts, same families and values."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from probes import icmp
from tests.exporters.blackbox_endpoint import Endpoint, endpoint, figures
from tests.probes.grpc_server import NOT_SERVING, SERVING, grpc_server
from tests.probes.probing import run_probe
from tests.servers import (
    LOOPBACK,
    Address,
    Certificates,
    datagram_server,
    drip_server,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
    talk_server,
)
from tests.system.blackbox_cases import BRIEF, CASES, MODULES, TIMEOUT
from tests.system.blackbox_differences import DIFFERENCES, Difference, Side
from tests.system.blackbox_world import Http2Nginx, World, odd_pages, wanting_a_login
from tests.system.daemon import Daemon
from tests.system.namespaces import Network
from tests.system.servers_dns import Unbound
from tests.system.servers_mail import Postfix
from tests.system.servers_metrics import BlackboxExporter, Prometheus, promtool
from tests.system.servers_web import Nginx

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

DOCUMENT: Final = Path(__file__).parent.parent.parent / "docs" / "blackbox.md"
AT_ONCE: Final = 8


@pytest.fixture(scope="module")
def nginx2(certificates: Certificates) -> Iterator[Http2Nginx]:
    with Http2Nginx(certificates) as server:
        yield server


@pytest.fixture
async def world(
    shared_nginx: Nginx,
    nginx2: Http2Nginx,
    shared_unbound: Unbound,
    shared_postfix: Postfix,
    certificates: Certificates,
) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(wanting_a_login())
        elsewhere = await stack.enter_async_context(wanting_a_login("127.0.0.2"))
        odd = await stack.enter_async_context(odd_pages(other, elsewhere))
        made = World(shared_nginx, nginx2, shared_unbound, shared_postfix, odd, other)
        health = {"": SERVING, "tre": NOT_SERVING}
        servers: dict[str, contextlib.AbstractAsyncContextManager[Address]] = {
            "silent": silent_server(),
            "reset": resetting_server(),
            "banner": talk_server(b"220 mail.example.vn ESMTP\r\n"),
            "other banner": talk_server(b"554 no\r\nbye"),
            "talk": talk_server(b"220 mail.example.vn ESMTP\r\n", b"500 what\n250 xin chao\n"),
            "cut": talk_server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxin"),
            "endless": endless_line_server(b"HTTP/1.1 200 OK\r\nX: "),
            "drip": drip_server(b"HTTP/1.1 200 OK\r\n", every_s=0.1),
            "rubbish": datagram_server(lambda _: b"rubbish"),
            "grpc": grpc_server(health),
            "grpc tls": grpc_server(health, tls=certificates.good.server_context()),
        }
        for name, server in servers.items():
            address = await stack.enter_async_context(server)
            made.ports[name] = f"{address.host}:{address.port}"
        refused = stack.enter_context(refused_port())
        made.ports["refused"] = f"{refused.host}:{refused.port}"
        yield made


@pytest.fixture(scope="module")
def modules(certificates: Certificates) -> str:
    return MODULES.format(ca=certificates.ca_file, timeout=TIMEOUT, brief=BRIEF)


@pytest.fixture(scope="module")
def peer(modules: str) -> Iterator[BlackboxExporter]:
    # What came after 0.23 stays out of the file it reads.
    with BlackboxExporter(modules) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Pair:
    """What both found of one target."""

    case: str
    theirs: Mapping[str, float]
    ours: Mapping[str, float]


async def _both(ours: Endpoint, peer: BlackboxExporter, world: World) -> list[Pair]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: str) -> Pair:
        module, target = CASES[case]
        where = target(world)
        async with gate:
            theirs, own = await asyncio.gather(asyncio.to_thread(peer.probe, module, where), ours.probe(module, where))
        return Pair(case, figures(theirs), own)

    return await asyncio.gather(*map(one, CASES))


_SERIES: Final = re.compile(r"(\w+)(?:\{(.*)\})?")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TIMES: Final = re.compile(r"probe_(\w+_)?(duration|lookup_time|timeout)_seconds")


# How much of it comes before the deadline is a matter of milliseconds.
_AS_FAR_AS: Final = ("http: a slow body", "probe_http_uncompressed_body_length")


class Judge:
    """Compares, allows what is in the table, and remembers which of its rows were needed."""

    def __init__(self) -> None:
        self.used: set[Difference] = set()
        self.problems: list[str] = []

    def look_at(self, pair: Pair) -> None:
        theirs, ours = self._shapes(pair.case, pair.theirs), self._shapes(pair.case, pair.ours)
        for series in sorted(theirs.keys() | ours.keys()):
            family = series.partition("{")[0]
            if series not in ours:
                self._note(Side.THEIRS, pair.case, family, series)
            elif series not in theirs:
                self._note(Side.OURS, pair.case, family, series)
            elif theirs[series] != ours[series] and not _TIMES.fullmatch(family) and (pair.case, family) != _AS_FAR_AS:
                side = Side.VERDICT if family == "probe_success" else Side.VALUE
                self._note(side, pair.case, family, f"{series}: theirs {theirs[series]:g}, ours {ours[series]:g}")

    def _shapes(self, case: str, found: Mapping[str, float]) -> dict[str, float]:
        """Return the series without the labels that are known to be new."""
        shapes = {}
        for series, value in found.items():
            match = _SERIES.fullmatch(series)
            assert match
            labels = dict(_LABEL.findall(match[2] or ""))
            for name in tuple(labels):
                row = self._row(Side.LABEL, case, match[1], f"{{{name}}}")
                if row is not None:
                    del labels[name]
            shapes[f"{match[1]}{labels or ''}"] = value
        return shapes

    def _row(self, side: Side, case: str, family: str, labels: str = "") -> Difference | None:
        row = next((d for d in DIFFERENCES if d.side is side and d.concerns(case, family, labels)), None)
        if row is not None:
            self.used.add(row)
        return row

    def _note(self, side: Side, case: str, family: str, words: str) -> None:
        if self._row(side, case, family) is None:
            self.problems.append(f"{case}: {side}: {words}")


async def test_the_same_verdict_and_the_same_families_but_for_what_is_listed(
    world: World, modules: str, peer: BlackboxExporter
) -> None:
    async with endpoint(modules, allow=(LOOPBACK, "::1", "localhost", "*.invalid")) as ours:
        pairs = await _both(ours, peer, world)

    judge = Judge()
    for pair in pairs:
        judge.look_at(pair)
    assert not judge.problems, "\n".join(judge.problems)
    assert [row.row for row in DIFFERENCES if row not in judge.used] == []
    verdicts = [pair.ours["probe_success"] for pair in pairs]
    assert 30 <= sum(verdicts) <= len(verdicts) - 30  # both verdicts are well represented


def test_every_module_is_compared() -> None:
    named = set(re.findall(r"^  (\w+):", MODULES, re.MULTILINE))
    assert named == {module for module, _ in CASES.values()}


async def test_promtool_finds_nothing_wrong_with_our_page(world: World, modules: str) -> None:
    chosen = ("http: TLS and HTTP/2", "http: redirects without end", "tcp: STARTTLS", "dns: a serial", "grpc: TLS")
    async with endpoint(modules) as ours:
        for case in (*chosen, "icmp: good"):
            module, target = CASES[case]
            status, text = await ours.get("/probe", None, module=module, target=target(world))
            assert status == 200
            await asyncio.to_thread(promtool, "check", "metrics", text=text)  # raises when it has anything to say


def test_the_document_lists_every_difference() -> None:
    text = DOCUMENT.read_text("utf-8").partition("\n## Differences from ")[2]
    listed = [line for line in text.splitlines() if line.startswith("| `probe_")]
    assert listed == [row.row for row in DIFFERENCES]


PROVINCE: Final = """
site: {{id: lang-son, name: Lạng Sơn}}
blackbox: {{modules: modules.yml, allow: ["127.0.0.9"]}}
services:
  portal: {{checks: {{page: {{probe: http, url: "{url}", every: 10s, timeout: 5s}}}}}}
"""
SCRAPE: Final = """
global: {{scrape_interval: 3s}}
scrape_configs:
  - job_name: blackbox
    metrics_path: /probe
    params: {{module: [http_2xx]}}
    static_configs: [{{targets: ["{target}"]}}]
    relabel_configs:
      - {{source_labels: [__address__], target_label: __param_target}}
      - {{source_labels: [__param_target], target_label: instance}}
      - {{target_label: __address__, replacement: "{host}:{port}"}}
"""


class ProbingDaemon(Daemon):
    """A daemon with a file of modules beside its configuration."""

    def prepare(self) -> None:
        super().prepare()
        self.write("modules.yml", "modules: {http_2xx: {prober: http, timeout: 5s}}")


def test_a_prometheus_needs_nothing_but_a_new_address(shared_nginx: Nginx) -> None:
    with ProbingDaemon(PROVINCE.format(url=shared_nginx.url())) as daemon:
        quoted = urllib.parse.quote(shared_nginx.url(), safe="")
        status, text = daemon.get(f"/probe?target={quoted}&module=http_2xx")
        assert (status, figures(text)["probe_success"]) == (200, 1)
        assert daemon.get("/probe?target=http://127.0.0.8/")[0] == 403  # neither checked nor allowed
        assert daemon.get("/probe?target=http://127.0.0.9:1/")[0] == 200  # allowed; it fails, which is an answer
        assert "http_2xx:" in daemon.get("/config")[1]
        assert "blackbox_module_unknown_total 0" in daemon.get("/metrics")[1]

        scrape = SCRAPE.format(target=shared_nginx.url(), host=LOOPBACK, port=daemon.port)
        with Prometheus({}, config=scrape) as prometheus:
            prometheus.wait_for("probe_success == 1", within_s=30)
            found = prometheus.query("probe_http_status_code")
            timeout = prometheus.value("probe_timeout_seconds")
    assert [(one["metric"]["instance"], one["value"][1]) for one in found] == [(shared_nginx.url(), "200")]
    assert timeout == 2.5  # Prometheus waits three seconds, less the offset


@pytest.mark.parametrize(
    ("host", "size", "whole", "good"),
    [
        ("address4", 1400, True, True),
        ("address4", 3000, True, False),
        ("address4", 3000, False, True),
        ("address6", 3000, True, False),
        ("address6", 3000, False, True),
    ],
)
def test_an_echo_that_may_not_be_cut_fails_where_it_is_too_big(
    network: Network, host: str, size: int, whole: bool, good: bool
) -> None:
    target = getattr(network.target, host)
    reading = network.monitor.call(
        lambda: asyncio.run(run_probe(icmp.PROBE, host=target, count=1, wait="500ms", size=size, dont_fragment=whole))
    )
    assert (reading.fault is None) is good, reading.detail
    if not good:
        assert reading.detail == f"cannot send to {target}: size {size} is more than the link takes"
