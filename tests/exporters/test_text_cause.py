"""Why several services fail together, in the words of a letter, the page, the API and a report."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.plan import Language
from exporters.report import tables
from exporters.report.document import Numbering
from exporters.text_cause import subject_words, why_sentence
from exporters.text_mail import compose
from exporters.web import page, status
from monitor.model import Cause, CauseKind, Certainty, EventKind, Incident, Notice, State
from tests.exporters.board_sample import full_board as board_of_province
from tests.exporters.builders import MIDNIGHT, NOW, evidence, notice, site
from tests.exporters.report_sample import figures as figures_of_tet

HOST = Cause(
    CauseKind.HOST, "10.1.2.3", Certainty.CERTAIN, ("mail", "portal", "office"), of=3, elsewhere=6, span_s=35.0
)
PATH = Cause(CauseKind.PATH, "vnpt", Certainty.CERTAIN, ("portal",), of=1, paths=2)
CHANCE = Cause(CauseKind.COINCIDENCE, "", Certainty.POSSIBLE, ("a", "b", "c", "d"), span_s=61.0, chance=2.2e-6)


@pytest.mark.parametrize(
    ("cause", "name", "sentence"),
    [
        (
            HOST,
            "10.1.2.3",
            "Nguyên nhân là máy chủ 10.1.2.3: 3/3 dịch vụ đi qua đó cùng hỏng trong vòng 35 giây, 6 dịch vụ khác vẫn "
            "bình thường.",
        ),
        (
            replace(HOST, certainty=Certainty.POSSIBLE, of=4, good=1, span_s=0.0),
            "10.1.2.3",
            "Có thể do máy chủ 10.1.2.3: 3/4 dịch vụ đi qua đó cùng hỏng một lúc, còn 1 phép kiểm tra qua đó vẫn tốt, "
            "6 dịch vụ khác vẫn bình thường.",
        ),
        (
            PATH,
            "VNPT",
            "Qua kênh VNPT không tới được, qua 2 kênh khác vẫn tốt → lỗi ở phía kênh VNPT (chắc chắn), không phải ở "
            "dịch vụ.",
        ),
        (
            replace(PATH, members=("portal", "mail", "office")),
            "VNPT",
            "Qua kênh VNPT không tới được 3 dịch vụ, qua 2 kênh khác vẫn tốt → lỗi ở phía kênh VNPT (chắc chắn), "
            "không phải ở dịch vụ.",
        ),
        (
            replace(HOST, kind=CauseKind.CARRIER, certainty=Certainty.LIKELY, subject="carrier-vnpt"),
            "Mạng VNPT",
            "Nhiều khả năng do nhà mạng “Mạng VNPT”: 3/3 dịch vụ đi qua đó cùng hỏng trong vòng 35 giây, 6 dịch vụ "
            "khác vẫn bình thường.",
        ),
        (
            CHANCE,
            "",
            "Có thể do nguyên nhân chung chưa rõ: 4 dịch vụ cùng hỏng trong vòng 1 phút 01 giây, mà nếu mỗi dịch vụ tự "
            "hỏng thì xác suất trùng hợp dưới 0,01 %.",
        ),
        (
            Cause(CauseKind.NEEDS, "dc", Certainty.CERTAIN, ("mail", "portal")),
            "Trung tâm dữ liệu",
            "Nguyên nhân là sự cố của “Trung tâm dữ liệu” (chắc chắn, theo khai báo phụ thuộc): 2 dịch vụ cần đến nó "
            "cùng bị ảnh hưởng.",
        ),
    ],
)
def test_a_cause_its_certainty_and_its_evidence_are_one_sentence(cause: Cause, name: str, sentence: str) -> None:
    assert why_sentence(cause, name) == sentence
    assert "\n" not in why_sentence(cause, name, Language.EN)


def test_a_resolver_is_named_with_or_without_its_domain() -> None:
    names = Cause(CauseKind.RESOLVER, "", Certainty.LIKELY, ("a", "b"))
    assert subject_words(names, "") == "việc phân giải tên miền"
    assert subject_words(replace(names, subject="langson.gov.vn"), "langson.gov.vn").endswith("langson.gov.vn")


# The letters.

TOLD = replace(
    notice(subject="group:host:10.1.2.3", name="10.1.2.3", lines=(evidence(),)),
    why=HOST,
    why_name="10.1.2.3",
    members=("Thư điện tử", "Cổng thông tin", "Văn phòng"),
    still=("Thư điện tử", "Cổng thông tin", "Văn phòng"),
)


def subject(told: Notice, lang: Language = Language.VI) -> str:
    return compose(told, site(lang), ("truc@example.vn",), None).subject.partition("] ")[2]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (TOLD, "GIÁN ĐOẠN: 3 dịch vụ (máy chủ 10.1.2.3) từ 00:00"),
        (replace(TOLD, kind=EventKind.SPREAD), "LAN RỘNG, GIÁN ĐOẠN: 3 dịch vụ (máy chủ 10.1.2.3) từ 00:00"),
        (
            replace(TOLD, kind=EventKind.PARTLY, still=("Văn phòng",)),
            "THÔNG MỘT PHẦN: 2/3 dịch vụ (máy chủ 10.1.2.3) từ 00:00",
        ),
        (
            replace(TOLD, kind=EventKind.RECOVERED, state=State.UP, still=(), at=NOW, ended_at=NOW),
            "ĐÃ THÔNG SUỐT: 3 dịch vụ (máy chủ 10.1.2.3) lúc 00:10 (sau 10 phút)",
        ),
    ],
)
def test_the_subject_says_how_many_are_hit_and_by_what(told: Notice, expected: str) -> None:
    assert subject(told) == expected
    assert "3 service" in subject(told, Language.EN)


def test_a_letter_names_the_cause_and_who_is_back() -> None:
    told = replace(TOLD, kind=EventKind.PARTLY, still=("Văn phòng",))
    body = compose(told, site(Language.VI), ("truc@example.vn",), None).text
    assert why_sentence(HOST, "10.1.2.3") in " ".join(body.split())
    assert "Một phần đã thông suốt trở lại; vẫn chưa thông: Văn phòng." in body
    assert "Văn phòng: chưa thông" in body
    assert "Thư điện tử: đã thông suốt" in body
    assert "Nguyên nhân: máy chủ 10.1.2.3 (chắc chắn)" in " ".join(body.split())


def test_a_service_missed_by_one_path_says_that_the_others_are_good() -> None:
    told = replace(notice(state=State.DEGRADED, lines=(evidence(),)), why=PATH, why_name="VNPT")
    body = compose(told, site(Language.VI), ("truc@example.vn",), None).text
    assert why_sentence(PATH, "VNPT") in " ".join(body.split())


# The page, the API and the report.

GROUP = Incident(
    9,
    "lang-son",
    "group:host:10.1.2.3",
    State.DOWN,
    MIDNIGHT,
    MIDNIGHT + timedelta(seconds=40),
    told=True,
    cause=replace(HOST, members=("mail", "portal")),
)


def test_the_page_and_the_api_give_cause_certainty_and_members() -> None:
    board = board_of_province()
    board.open_incidents[9] = GROUP
    html = page.render(board, NOW)
    assert "2 dịch vụ (máy chủ 10.1.2.3)" in html
    assert "Các dịch vụ bị ảnh hưởng" in html
    found = status.incident(board, GROUP, NOW)
    cause = found["cause"]
    assert isinstance(cause, dict)
    assert (cause["kind"], cause["subject"], cause["certainty"]) == ("host", "10.1.2.3", "certain")
    assert [m["service"] for m in cause["members"]] == ["mail", "portal"]
    assert cause["text"] == why_sentence(replace(HOST, members=("mail", "portal")), "10.1.2.3")
    assert found["name"] == "2 dịch vụ (máy chủ 10.1.2.3)"


def test_a_service_in_a_group_shows_the_groups_cause() -> None:
    board = board_of_province()
    board.open_incidents[9] = GROUP
    board.open_incidents[7] = replace(board.open_incidents[7], parent=9)
    view = board.services["mail"]
    view.incident = 7
    cause = status.service_cause(board, view)
    assert cause == "group:9"
    assert status.cause_text(board, cause, Language.VI).startswith("Nguyên nhân là máy chủ 10.1.2.3")


def test_the_report_has_one_row_for_what_was_one_incident() -> None:
    figures = figures_of_tet()
    mail = Incident(10, "lang-son", "mail", State.DOWN, figures.period.start, figures.period.start, parent=9)
    figures = replace(figures, incidents=[GROUP, mail])
    table = tables.incident_table(figures, Numbering())
    assert table is not None
    assert len(table.rows) == 1
    assert str(table.rows[0][1]).startswith("2 dịch vụ: ")
    assert str(table.rows[0][5]).startswith("Nguyên nhân là máy chủ 10.1.2.3")
