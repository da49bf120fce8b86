"""A real Prometheus scrapes our page: every expression of the dashboard and the rules has data, the rules load."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from exporters.alert_rules import ALERTS, JOB
from exporters.dashboards import every_expression
from exporters.metrics import page
from exporters.rules import INTERVAL_S, RECORDINGS, RULES_FILE
from tests.exporters.board_sample import advance, full_board

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

DATA_WITHIN_S = INTERVAL_S + 15.0  # the recording rules run once an interval, at a phase of Prometheus' choosing


async def assert_every_expression_has_data(
    prometheus_url: str, expressions: Sequence[str], within_s: float = DATA_WITHIN_S
) -> None:
    """Ask Prometheus each expression until each has answered with at least one number.

    Raises:
        AssertionError: some stayed without data, or were refused; the message names each with Prometheus' words.
    """
    deadline = time.monotonic() + within_s
    waiting = dict.fromkeys(expressions, "never asked")
    async with aiohttp.ClientSession(prometheus_url) as session:
        while waiting and time.monotonic() < deadline:
            for expr in tuple(waiting):
                waiting[expr] = await _problem(session, expr)
                if not waiting[expr]:
                    del waiting[expr]
            await asyncio.sleep(0.05)

    assert not waiting, "\n".join(f"{problem}: {expr}" for expr, problem in waiting.items())


async def _problem(session: aiohttp.ClientSession, expr: str) -> str:
    async with session.post("/api/v1/query", data={"query": expr}) as response:
        answer = await response.json()
    if answer["status"] != "success":
        return f"refused ({answer['error']})"
    found = answer["data"]["result"]
    samples = [found] if answer["data"]["resultType"] == "scalar" else [sample["value"] for sample in found]
    values = [float(value) for _, value in samples]
    if not values:
        return "no data"
    return "not a number" if all(math.isnan(value) for value in values) else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def running_prometheus(folder: Path, scraped: str) -> AsyncIterator[str]:
    """Run a Prometheus of our own in `folder` that scrapes HOST:PORT each second with our rules; yield its address."""
    await asyncio.to_thread(shutil.copy, RULES_FILE, folder)
    config = folder / "prometheus.yml"
    scrape = {"job_name": JOB, "scrape_interval": "1s", "static_configs": [{"targets": [scraped]}]}
    text = json.dumps({"rule_files": [RULES_FILE.name], "scrape_configs": [scrape]})  # JSON is YAML
    await asyncio.to_thread(config.write_text, text, "utf-8")
    address = f"127.0.0.1:{free_port()}"
    log = await asyncio.to_thread((folder / "prometheus.log").open, "wb")
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
        stdout=log,
        stderr=log,
    )
    try:
        await _ready(f"http://{address}", process, folder)
        yield f"http://{address}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()


async def _ready(url: str, process: asyncio.subprocess.Process, folder: Path) -> None:
    async with asyncio.timeout(15), aiohttp.ClientSession(url) as session:
        while True:
            if process.returncode is not None:
                log = await asyncio.to_thread((folder / "prometheus.log").read_text, "utf-8")
                raise AssertionError(f"prometheus ended with {process.returncode}: {log}")
            try:
                async with session.get("/-/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


@pytest.fixture
async def scraped() -> AsyncIterator[str]:
    """HOST:PORT whose /metrics shows every kind of value, one round of checks further at each scrape."""
    board = full_board()

    async def metrics(request: web.Request) -> web.Response:
        advance(board)
        body, content_type = await page(board)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture
async def prometheus(scraped: str, tmp_path: Path) -> AsyncIterator[str]:
    async with running_prometheus(tmp_path, scraped) as url:
        yield url


async def test_every_expression_has_data_and_every_rule_loads(prometheus: str) -> None:
    await assert_every_expression_has_data(prometheus, every_expression())

    async with aiohttp.ClientSession(prometheus) as session:
        async with session.get("/api/v1/rules") as response:
            groups = (await response.json())["data"]["groups"]
        async with session.get("/api/v1/targets") as response:
            targets = (await response.json())["data"]["activeTargets"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == {rule.record for rule in RECORDINGS} | {alert.name for alert in ALERTS}
    assert {name: rule["lastError"] for name, rule in rules.items() if rule.get("lastError")} == {}
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]


async def test_vietnamese_names_arrive_whole(prometheus: str) -> None:
    await assert_every_expression_has_data(
        prometheus,
        [
            'thongsuot_service_info{name="Cổng thông tin điện tử"}',
            'thongsuot_service_info{name="Thư điện tử \\"công vụ\\"\\\\"}',
            'thongsuot_check_info{name="Gửi\\nthư"}',
        ],
        within_s=10.0,
    )


async def test_an_expression_without_data_is_named_with_the_reason(prometheus: str) -> None:
    with pytest.raises(AssertionError) as caught:
        await assert_every_expression_has_data(prometheus, ["thongsuot_nothing", "sum(", "0 / 0", "1"], within_s=0.5)

    message = str(caught.value)
    assert "no data: thongsuot_nothing" in message
    assert "refused (" in message
    assert "not a number: 0 / 0" in message
    assert ": 1\n" not in message
