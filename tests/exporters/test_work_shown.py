"""Announced work is a mark beside what is measured: on the page, in the API, in the metrics, in the letter after it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

from config.plan import Window
from exporters import text_mail
from exporters.alert_rules import ALERTS
from exporters.metrics import render
from exporters.web import page, status
from monitor.announced import PERSON, Announcement
from monitor.board import Board
from monitor.model import State
from tests.exporters.builders import MIDNIGHT, NOW, notice, province, site

WORK = Announcement(
    7,
    "portal",
    Window(NOW - timedelta(hours=1), NOW + timedelta(hours=2)),
    "Thay ổ đĩa <máy chủ>",
    "Nguyễn Văn An",
    "an",
    PERSON,
    NOW - timedelta(days=1),
)


def worked_on() -> Board:
    board = province()
    view = board.services["portal"]
    view.state, view.work = State.DOWN, WORK
    for target in view.plan.targets:
        board.checks[target.id].work = WORK
    return board


def test_the_page_keeps_the_real_state_and_marks_the_work_beside_it() -> None:
    html = page.render(worked_on(), NOW)
    card = html[html.index('id="service-portal"') - 100 :]
    assert "gián đoạn" in card
    assert "đang bảo trì đến 06/02/2027 02:10:00: Thay ổ đĩa &lt;máy chủ&gt;" in card
    assert "đang bảo trì" not in page.render(province(), NOW)


def test_the_api_says_until_when_and_why() -> None:
    said = status.status(worked_on(), NOW)["services"]
    assert isinstance(said, list)
    found = {s["id"]: s for s in said}
    work = found["portal"]["maintenance"]
    assert (work["id"], work["by"], work["to"]) == (7, "Nguyễn Văn An", NOW + timedelta(hours=2))
    assert found["portal"]["checks"][0]["maintenance"] == work
    assert found["mail"]["maintenance"] is None
    assert found["portal"]["state"] == "down"


def test_the_metrics_have_a_gauge_beside_the_state() -> None:
    body = render(worked_on())[0].decode()
    assert 'thongsuot_service_maintenance{site="lang-son",service="portal",kind="portal"} 1' in body
    assert 'thongsuot_service_maintenance{site="lang-son",service="mail",kind="mail"} 0' in body
    assert body.count("thongsuot_maintenance{") == len(worked_on().checks)
    assert 'state="maintenance"' not in body


def test_the_alert_rules_leave_out_what_is_under_work() -> None:
    rules = {a.name: a.expr for a in ALERTS}
    for name in ("ThongsuotServiceDown", "ThongsuotServiceImpaired", "ThongsuotServiceUnobserved"):
        assert "unless on (job, instance, site, service) (thongsuot_service_maintenance == 1)" in rules[name]
    assert "thongsuot_maintenance == 1" in rules["ThongsuotCheckDown"]


def test_a_letter_after_the_work_says_since_when_it_fails_and_from_when_it_counts() -> None:
    told = replace(notice(), since=MIDNIGHT, failing_since=MIDNIGHT - timedelta(hours=1))
    letter = text_mail.compose(told, site(), ["truc@example.vn"], None)
    assert re.search(r"Hỏng từ: +05/02/2027 23:00:00 \(trong lúc bảo trì\)", letter.text)
    assert re.search(r"Bắt đầu: +06/02/2027 00:00:00", letter.text)
    assert "được tính từ lúc hết giờ bảo trì" in letter.text
