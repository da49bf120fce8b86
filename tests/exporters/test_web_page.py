"""The live page: what is shown, in words, and that nothing from outside becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from config.plan import Language
from exporters.text_page import label
from exporters.web import page
from exporters.web.markup import Html, escape, join, tag
from monitor.board import Board
from monitor.model import JUDGED, OWN_FAULT, State
from probes.base import Fault
from tests.exporters.builders import (
    MIDNIGHT,
    NOW,
    break_check,
    break_service,
    incident,
    mail_plan,
    plan,
    province,
    reading,
    result,
    service,
    target,
)


class Shown(HTMLParser):
    """Collects the text of the page and its tags; checks that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def shown(board: Board, *, alive: bool = True) -> Shown:
    return Shown(page.render(board, NOW, alive=alive))


def broken() -> Board:
    board = province(mail=mail_plan(to=("truc@example.vn",)))
    break_check(board, "data-centre.ping", Fault.TIMEOUT, "3 of 3 echoes lost")
    break_check(board, "mail.webmail", Fault.CONTENT, "status 503, expected 200")
    break_service(board, "data-centre", State.DOWN, incident(11, "data-centre"))
    break_service(board, "mail", State.DOWN, incident(12, "mail", parent=11))
    return board


def test_a_well_province_says_so_in_one_glance() -> None:
    html = page.render(province(), NOW)
    assert "<title>Tất cả thông suốt · Lạng Sơn · Thông Suốt</title>" in html
    text = Shown(html).text
    assert "4 ✓ thông suốt" in text
    assert "từ 05/02/2027 23:00:00 · đã 1 giờ 10 phút" in text
    assert "Không có sự cố nào đang diễn ra." in text
    assert "Cập nhật lúc 06/02/2027 00:10:00" in text


def test_what_is_broken_stands_first_with_since_how_long_and_why() -> None:
    seen = shown(broken())
    cards = [a["id"] for t, a in seen.tags if t == "article"]
    assert cards == ["service-data-centre", "service-mail", "service-portal", "service-vnpt"]
    assert "2 ✕ gián đoạn" in seen.text
    assert "từ 06/02/2027 00:00:00 · đã 10 phút" in seen.text
    assert "Máy chủ lõi : không trả lời trong thời hạn 3 of 3 echoes lost" in seen.text
    assert "Thư trên web : máy chủ web trả mã 503 (quá tải hoặc đang bảo trì), mã đúng là 200 status 503" in seen.text


def test_a_consequence_names_its_cause_and_is_told_with_it() -> None:
    text = shown(broken()).text
    assert "Kéo theo từ sự cố của “Trung tâm tích hợp dữ liệu”" in text
    assert "#12 · báo chung với sự cố số 11" in text


@pytest.mark.parametrize("state", JUDGED)
def test_every_state_is_told_by_word_sign_and_colour(state: State) -> None:
    board = province()
    board.services["portal"].state = state
    found = re.search(r'<article [^>]*id="service-portal">.*?</article>', page.render(board, NOW))
    assert found is not None
    card = found[0]
    assert f'class="state {state.value}"' in card
    assert re.search(r"<i aria-hidden=\"true\">[✓▼≈✕?]</i><span>[^<]+</span>", card)


def blind(board: Board) -> None:
    for view in board.services.values():
        view.state = State.UNKNOWN
    for check in board.checks.values():
        check.state, check.detail = State.UNKNOWN, OWN_FAULT


def test_one_lost_uplink_of_several_is_named() -> None:
    board = province()
    board.own_fault = "far"
    board.open_incidents[14] = incident(14, f"{OWN_FAULT}:vnpt", State.UNKNOWN, detail="far")
    text = shown(board).text
    assert "VNPT cáp quang: Các mốc tham chiếu bên ngoài đều không trả lời" in text
    assert "Trạm đo (VNPT cáp quang) từ 06/02/2027 00:00:00" in text
    assert "4 ✓ thông suốt" in text


def test_why_a_check_was_not_observed_is_told_in_words() -> None:
    board = province()
    board.services["vnpt"].state = board.checks["vnpt.ping"].state = State.UNKNOWN
    board.checks["vnpt.ping"].detail = "off"
    assert "Ping : phần mềm giám sát không chạy" in shown(board).text


def test_our_own_fault_is_a_banner_and_no_service_is_called_down() -> None:
    board = province()
    board.own_fault, board.own_fault_since = "far", MIDNIGHT
    blind(board)
    board.open_incidents[14] = incident(14, OWN_FAULT, State.UNKNOWN, detail="far")
    text = shown(board).text
    assert "TRẠM ĐO ĐANG GẶP SỰ CỐ" in text
    assert "Không đo được do sự cố của trạm đo (đường truyền Internet)." in text
    assert "không có số liệu Trạm đo từ 06/02/2027 00:00:00 · đã 10 phút #14 đường truyền Internet" in text
    assert "far" not in text
    assert "4 ? không có số liệu" in text
    assert "✕" not in text


def test_closed_incidents_are_listed_newest_first_with_how_long_they_lasted() -> None:
    board = province()
    for number in range(1, 15):
        began = MIDNIGHT - timedelta(hours=number)
        board.closed_incidents.append(incident(number, "mail", began_at=began, ended_at=began + timedelta(minutes=3)))
    text = shown(board).text
    assert "05/02/2027 23:00:00 → 05/02/2027 23:03:00 · kéo dài 3 phút #1 " in text
    assert text.index("#1 ") < text.index("#2 ")
    assert "… và 4 mục nữa" in text


def test_a_time_that_is_not_to_be_trusted_says_so() -> None:
    board = province()
    board.checks["vnpt.ping"].last = result("vnpt.ping", replace(reading(duration_s=0.02), late_s=0.015))
    assert "20 ms (máy giám sát đang bận, thời gian đo được có thể dài hơn thực tế)" in shown(board).text


def test_a_check_shows_its_last_result_its_path_and_its_marks() -> None:
    board = province()
    ping = board.checks["vnpt.ping"]
    ping.last = result("vnpt.ping", reading(rtts_s=(0.010, None, 0.014)))
    ping.suspect = ping.flapping = True
    ping.recent.extend([False] * 30)
    text = shown(board).text
    assert "00:10:00: 12 ms, mất gói 1/3" in text
    assert "đang kiểm tra lại chập chờn icmp · chu kỳ 5 giây · độ phủ đo 50%" in text
    assert "http · chu kỳ 30 giây · qua VNPT cáp quang" in text


def test_beside_a_queue_stands_from_where_on_one_would_be_found() -> None:
    board = province()
    board.checks["vnpt.ping"].queue_delay_s, board.checks["vnpt.ping"].queue_threshold_s = 0.0021, 0.007
    assert "hàng đợi 2 ms, chỉ ghi nhận nghẽn từ 7 ms kéo dài 15 phút" in shown(board).text


def test_a_check_without_a_result_says_that_it_waits() -> None:
    board = Board(plan([service("s", "Dịch vụ", [target("s", "c")])]), started_at=NOW)
    assert shown(board).text.count("đang chờ kết quả đầu tiên") == 2


def test_mails_that_do_not_leave_are_shown() -> None:
    board = broken()
    board.alerts = {("mail", "sent"): 3, ("mail", "retry"): 4, ("mail", "failed"): 1, ("mail", "recipient-refused"): 2}
    board.outbox_waiting = 2
    text = shown(board).text
    assert "Có 1 thư cảnh báo bị mọi máy chủ thư từ chối" in text
    assert "Có 2 thư cảnh báo chưa gửi được" in text
    assert "Gửi thư tới: truc@example.vn" in text
    assert "đã gửi: 3 · đang chờ gửi: 2 · không gửi được: 1 · người nhận bị từ chối: 2" in text


def test_a_stopped_daemon_is_said_on_the_page() -> None:
    assert "Phần mềm giám sát đang gặp trục trặc" in shown(province(), alive=False).text
    assert "Phần mềm giám sát đang gặp trục trặc" not in shown(province()).text


def test_trouble_with_journal_or_evidence_is_a_banner_and_not_all_is_well() -> None:
    board = province()
    board.journal_trouble = "database or disk is full"
    board.evidence_trouble = "no room to seal 2027-02-06 00"
    text = shown(board).text
    assert "Không ghi được nhật ký" in text
    assert "niêm phong số liệu" in text
    assert "no room to seal" in text


def test_a_service_of_many_checks_shows_the_worst_and_counts_the_rest() -> None:
    checks = [target("s", f"c{n}", f"Phép {n}") for n in range(40)]
    board = Board(plan([service("s", "Dịch vụ", checks)]), started_at=NOW)
    for view in board.checks.values():
        view.state = State.UP
    break_check(board, "s.c39", Fault.REFUSED, "connection refused")
    text = shown(board).text
    assert "… và 10 mục nữa" in text
    assert "gián đoạn Phép 39" in text


def test_nothing_from_configuration_or_network_becomes_markup() -> None:
    evil = "<script>alert('x')</script><img src=x onerror=1>\"'&"
    checks = [target("s", "c", evil, kind=evil)]
    board = Board(plan([service("s", evil, checks)], checks, name=evil, mail=mail_plan(to=(evil,))), started_at=NOW)
    break_check(board, "s.c", Fault.CONTENT, evil)
    board.services["s"].detail = evil
    break_service(board, "s", State.DOWN, incident(1, "s", detail=evil))
    board.closed_incidents.append(incident(2, evil, ended_at=NOW, detail=evil))
    seen = shown(board)
    assert [t for t, _ in seen.tags if t == "script"] == ["script"]  # our own
    assert "img" not in [t for t, _ in seen.tags]
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert "<script>alert('x')</script>" in seen.text  # shown, not run


def test_the_page_has_no_inline_script_or_style_and_loads_only_its_own_files() -> None:
    seen = shown(broken())
    for name, attributes in seen.tags:
        assert "style" not in attributes
        assert name != "style"
        for key in ("src", "href"):
            if key in attributes:
                assert (attributes[key] or "").startswith("static/")


def test_the_page_reloads_itself_without_a_script() -> None:
    html = page.render(province(), NOW)
    assert '<noscript><meta http-equiv="refresh" content="15"></noscript>' in html


def test_the_stale_banner_is_there_and_hidden_until_the_script_shows_it() -> None:
    html = page.render(province(), NOW)
    assert '<p id="stale" role="alert" hidden><strong>TRANG KHÔNG CÒN CẬP NHẬT</strong>' in html


def test_the_page_speaks_english_where_the_site_does() -> None:
    board = province(language=Language.EN)
    html = page.render(board, NOW)
    assert '<html lang="en">' in html
    assert "since 05/02/2027 23:00:00 · for 1 hour 10 minutes" in Shown(html).text


def test_a_large_province_is_rendered_whole() -> None:
    services = [service(f"s{n}", f"Dịch vụ {n}", [target(f"s{n}", f"c{m}") for m in range(40)]) for n in range(50)]
    board = Board(plan(services), started_at=NOW)
    assert shown(board).text.count("0/40 phép kiểm tra") == 50


def test_an_unknown_label_is_an_error_and_values_are_put_in() -> None:
    assert label("more", n="3") == "… và 3 mục nữa"
    with pytest.raises(KeyError):
        label("no-such-label")


def test_markup_escapes_whatever_is_not_markup() -> None:
    assert tag("p", "<b>", class_='a"b', hidden=True, title=False) == '<p class="a&quot;b" hidden>&lt;b&gt;</p>'
    assert tag("br") == "<br>"
    assert join(["<", Html("<i>")], "&") == "&lt;&amp;<i>"
    assert escape(Html("<i>")) == "<i>"
