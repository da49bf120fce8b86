"""The demo province as `make run` starts it: services up, an outage and a recovery told, every chart with data."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from exporters.dashboards import every_expression
from exporters.rules import RULES_FILE
from tests.servers import LOOPBACK
from tests.system.servers import Server, free_port, http_get, wait_until
from tests.system.servers_metrics import Prometheus, promtool
from tests.system.test_prometheus import assert_every_expression_has_data

# The day of `make run`, without its pauses: only the times are other.
RUN = """
import asyncio, logging, sys
from thongsuot.demo import Day, run_demo
logging.basicConfig(level="WARNING")
day = Day(mail_stops_s=12, mail_starts_s=28, portal_fails_s=36, portal_recovers_s=54)
sys.exit(asyncio.run(run_demo(sys.argv[1], day=day)))
"""


class Demo(Server):
    """`thongsuot demo` with a shorter day."""

    name = "demo"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def prepare(self) -> None:
        """Nothing: the demo writes its own files."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", RUN, f"{LOOPBACK}:{self.port}"]

    def answers(self) -> bool:
        return http_get(LOOPBACK, self.port, "/readyz")[0] == 200

    def json(self, path: str) -> dict[str, Any]:
        """Fetch one of the daemon's documents."""
        found: dict[str, Any] = json.loads(http_get(LOOPBACK, self.port, path)[1])
        return found

    def mailbox(self) -> str:
        """Return the first page of the duty mailbox."""
        address = re.search(r"Hộp thư trực\s+http://([\d.]+):(\d+)/", self.logs(200))
        assert address, self.logs(200)
        return http_get(address[1], int(address[2]), "/")[1]


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with Demo() as server:
        yield server


@pytest.mark.timeout(150)
async def test_the_province_is_up_breaks_is_told_and_recovers_and_every_chart_has_data(demo: Demo) -> None:
    services = demo.json("/api/v1/status")["services"]
    checks = [c for s in services for c in s["checks"]]
    up = sum(c["state"] == "up" for c in checks)
    promtool("check", "metrics", text=http_get(LOOPBACK, demo.port, "/metrics")[1])

    with Prometheus({"thongsuot": f"{LOOPBACK}:{demo.port}"}, rules=_rules(), every="1s") as prometheus:
        wait_until(lambda: demo.json("/api/v1/incidents")["open"], within_s=40, every_s=0.2)
        wait_until(lambda: "GIÁN ĐOẠN" in demo.mailbox(), within_s=10, every_s=0.2)
        wait_until(lambda: len(demo.json("/api/v1/incidents")["recent"]) >= 2, within_s=80, every_s=0.5)
        wait_until(lambda: demo.mailbox().count("ĐÃ THÔNG SUỐT") >= 1, within_s=10, every_s=0.2)
        # How long the room lasts is known only after the first sealed hours.
        known = [e for e in every_expression() if "thongsuot_evidence_left_seconds" not in e]
        await assert_every_expression_has_data(prometheus.url, known, within_s=40)
    page = http_get(LOOPBACK, demo.port, "/")[1]

    assert len(services) >= 6
    assert len(checks) >= 15
    assert up >= 15
    assert "Thư điện tử công vụ" in page
    assert {i["subject"] for i in demo.json("/api/v1/incidents")["recent"]} == {"mail", "portal"}


def _rules() -> dict[str, str]:
    return {RULES_FILE.name: RULES_FILE.read_text("utf-8")}
