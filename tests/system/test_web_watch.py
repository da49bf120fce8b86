"""A stranger's day with a real nginx: approve a page, see it defaced, put it right; and a journey with a session."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes import PROBES
from probes.base import Fault
from tests.probes.probing import run_probe
from tests.servers import Certificates
from tests.system.servers_web import Nginx

pytestmark = pytest.mark.system

CONFIG = """\
site: {{id: lang-son, name: Lạng Sơn}}
store: {{dir: {state}}}
services:
  portal:
    name: Cổng thông tin
    kind: portal
    checks:
      web: {{probe: http, url: "{url}", content: {{watch: true, ignore: ["#counter"]}}}}
"""
PAGE = """<!doctype html><meta charset=utf-8><title>Cổng thông tin</title><h1>Chào mừng Tết Đinh Mùi</h1>
<a href=/le-hoi>Lễ hội</a><div id=counter>{count} lượt</div>"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(Certificates(tmp_path, "127.0.0.1")) as server:
        yield server


def thongsuot(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thongsuot", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def once(config: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(thongsuot("once", str(config), "--json").stdout)["checks"][0]
    return found


@pytest.mark.timeout(60)
def test_a_page_is_approved_defaced_found_out_and_approved_anew(nginx: Nginx, tmp_path: Path) -> None:
    config, state = tmp_path / "tinh.yaml", tmp_path / "state"
    state.mkdir()
    config.write_text(CONFIG.format(state=state, url=nginx.url("/index.html")))
    nginx.write("pages/index.html", PAGE.format(count=1))

    first = once(config)
    assert first["fault"] is None
    assert first["values"]["warning_count"] == 1
    approved = thongsuot("approve", str(config), "portal.web", "--yes", "--by", "Trực ca 1")
    assert approved.returncode == 0, approved.stderr

    nginx.write("pages/index.html", PAGE.format(count=2))
    assert once(config)["values"]["content_change_ratio"] == 0

    nginx.write("pages/index.html", PAGE.format(count=3).replace("Chào mừng", "<a href=http://evil.example>cược</a>"))
    defaced = once(config)
    assert defaced["fault"] == "content"
    assert defaced["detail"].startswith("new links or scripts of evil.example; text changed by ")
    assert defaced["facts"]["text_added"] == "cược Tết Đinh Mùi"

    nginx.write("pages/index.html", PAGE.format(count=4).replace("Đinh Mùi", "2027"))
    assert once(config)["fault"] == "content"
    again = thongsuot("approve", str(config), "portal.web", "--yes", "--by", "Trực ca 2", "--reason", "đổi chữ")
    assert "- Chào mừng Tết Đinh Mùi" in again.stderr
    assert once(config)["fault"] is None
    records = (state / "content" / "portal.web.jsonl").read_text().splitlines()
    assert [json.loads(line)["by"] for line in records] == ["Trực ca 1", "Trực ca 2"]


async def test_a_journey_through_a_session(nginx: Nginx) -> None:
    steps: list[dict[str, Any]] = [
        {"get": "/login"},
        {"name": "login", "form": {"fields": {"u": "can-bo"}}, "expect": {"body": "Văn bản đến", "final_url": "/home"},
         "extract": {"out": {"css": "#out", "attribute": "href"}}},
        {"name": "logout", "get": "{out}", "expect": {"final_url": {"regex": "/$"}}, "always": True},
    ]  # fmt: skip
    reading = await run_probe(PROBES["web"], url=nginx.url("/"), steps=steps)
    assert reading.fault is None, reading.detail
    assert reading.values["cookies_count"] == 0
    assert reading.values["redirects_count"] == 2

    closed = await run_probe(PROBES["web"], url=nginx.url("/"), steps=[{"name": "home", "get": "/home"}])
    assert (closed.fault, closed.detail) == (Fault.CONTENT, "step 1 (home): status 403, expected 2xx")
