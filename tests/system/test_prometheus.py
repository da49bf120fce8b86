"""A real Prometheus scrapes our page: every expression of the dashboard and the rules has data, the rules load."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import aiohttp
import pytest
from aiohttp import web

from exporters.alert_rules import ALERTS, JOB
from exporters.dashboards import every_expression
from exporters.metrics import page
from exporters.rules import INTERVAL_S, RECORDINGS, RULES_FILE
from tests.exporters.board_sample import advance, full_board
from tests.servers import LOOPBACK
from tests.system.servers import free_port
from tests.system.servers_metrics import Prometheus

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

# The first scrape comes five seconds after the start, and the rules run once an interval, at a phase of their own.
DATA_WITHIN_S = INTERVAL_S + 15.0


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
    await web.TCPSite(runner, LOOPBACK, port).start()
    yield f"{LOOPBACK}:{port}"
    await runner.cleanup()


@pytest.fixture
def prometheus(scraped: str) -> Iterator[str]:
    """Address of a Prometheus that scrapes `scraped` each second with our rules."""
    rules = {RULES_FILE.name: RULES_FILE.read_text("utf-8")}
    with Prometheus({JOB: scraped}, rules=rules) as server:
        yield server.url


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
