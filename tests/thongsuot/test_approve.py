"""`thongsuot approve`: what a person is shown, and what is written when they accept it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.servers import LOOPBACK
from thongsuot.cli import app

CONFIG = """\
site: {{id: lang-son, name: Lạng Sơn}}
services:
  portal:
    name: Cổng thông tin
    checks:
      web: {{probe: http, url: "{url}", content: {{watch: true, ignore: ["#counter"]}}}}
      plain: {{probe: http, url: "{url}"}}
"""


class Portal:
    """A page that can be changed."""

    def __init__(self) -> None:
        self.page = "<title>Cổng</title><p>Chào mừng Tết<p><a href=/le-hoi>Lễ hội</a>"
        self.status = 200
        portal = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = portal.page.encode()
                self.send_response(portal.status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self.server.server_address[1]}/"


@pytest.fixture
def portal() -> Iterator[Portal]:
    made = Portal()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


class Desk:
    """The command line with one configuration and one state directory."""

    def __init__(self, folder: Path, portal: Portal) -> None:
        self.config, self.state = folder / "tinh.yaml", folder / "state"
        self.config.write_text(CONFIG.format(url=portal.url))
        self.state.mkdir()

    def approve(self, *words: str, answer: str = "", check: str = "portal.web") -> Result:
        args = ["approve", str(self.config), check, "--state-dir", str(self.state), *words]
        return CliRunner().invoke(app, args, input=answer)

    def records(self) -> list[dict[str, str]]:
        file = self.state / "content" / "portal.web.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def desk(tmp_path: Path, portal: Portal) -> Desk:
    return Desk(tmp_path, portal)


def test_the_first_approval_shows_the_page_and_asks(desk: Desk) -> None:
    refused = desk.approve(answer="không\n")
    assert refused.exit_code == 1
    assert desk.records() == []
    assert "Trang này chưa được duyệt lần nào." in refused.stderr
    assert "+ Chào mừng Tết" in refused.stderr

    accepted = desk.approve("--by", "Trực ca 1", "--reason", "mở trang Tết", answer="có\n")
    assert accepted.exit_code == 0, accepted.stderr
    (record,) = desk.records()
    assert (record["by"], record["why"]) == ("Trực ca 1", "mở trang Tết")
    assert record["url"].startswith("http://127.0.0.1")
    assert len(record["sha256"]) == 64


def test_a_change_is_shown_and_added_behind_the_first(desk: Desk, portal: Portal) -> None:
    desk.approve("--yes", "--by", "Trực ca 1")
    portal.page += "<p>Hacked by X<p><a href=http://evil.example/bet>cược</a>"
    changed = desk.approve("--yes", "--by", "Trực ca 2")
    assert changed.exit_code == 0
    assert "người duyệt: Trực ca 1, lý do: không ghi lý do" in changed.stderr
    assert "MÁY CHỦ BÊN NGOÀI MỚI XUẤT HIỆN, cần xem kỹ:\n  ! evil.example" in changed.stderr
    assert "+ Hacked by X" in changed.stderr
    assert "+ http://evil.example/bet" in changed.stderr
    assert [r["by"] for r in desk.records()] == ["Trực ca 1", "Trực ca 2"]


def test_what_is_ignored_or_the_same_needs_no_approval(desk: Desk, portal: Portal) -> None:
    desk.approve("--yes")
    portal.page += "<div id=counter>Lượt xem 7</div>"
    again = desk.approve()
    assert again.exit_code == 0
    assert "không cần duyệt lại" in again.stderr
    assert len(desk.records()) == 1


def test_no_input_is_a_no(desk: Desk) -> None:
    assert desk.approve().exit_code == 1
    assert desk.records() == []


def test_a_page_that_is_not_well_cannot_be_approved(desk: Desk, portal: Portal) -> None:
    portal.status = 503
    refused = desk.approve("--yes")
    assert refused.exit_code == 1
    assert "status 503, expected 2xx" in refused.stderr
    assert desk.records() == []


@pytest.mark.parametrize("check", ["portal.plain", "portal.none", "portal"])
def test_only_a_watched_page_can_be_approved(desk: Desk, check: str) -> None:
    refused = desk.approve("--yes", check=check)
    assert refused.exit_code == 2
    assert "those that do: portal.web" in refused.stderr


def test_terminal_escapes_of_a_page_do_not_reach_the_terminal(desk: Desk, portal: Portal) -> None:
    portal.page = "<p>\x1b]0;x\x07đỏ\x1b[31m<p>&#27;[2J"
    shown = desk.approve("--yes")
    assert shown.exit_code == 0
    assert "\x1b" not in shown.stderr


def test_json_says_what_changed(desk: Desk, portal: Portal) -> None:
    desk.approve("--yes")
    portal.page = portal.page.replace("Tết", "Xuân")
    said = json.loads(desk.approve("--yes", "--json").stdout)
    assert said["lines_added"] == ["Chào mừng Xuân"]
    assert said["lines_removed"] == ["Chào mừng Tết"]
    assert 0 < said["text_ratio"] < 1


def test_once_compares_with_what_was_approved(desk: Desk, portal: Portal) -> None:
    desk.approve("--yes")
    config = desk.config.read_text() + f"store: {{dir: {desk.state}}}\n"
    desk.config.write_text(config)
    assert CliRunner().invoke(app, ["once", str(desk.config), "--only", "portal.web"]).exit_code == 0
    portal.page = "<h1>HACKED</h1>"
    assert CliRunner().invoke(app, ["once", str(desk.config), "--only", "portal.web"]).exit_code == 1
