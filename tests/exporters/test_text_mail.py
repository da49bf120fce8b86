"""The letters: what a duty officer must find in each."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from config.plan import Language
from exporters.text_mail import EVIDENCE_LIMIT, Letter, compose
from monitor.model import OWN_FAULT, EventKind, Notice, Retracted, State
from probes.base import Fault
from tests.exporters.builders import MIDNIGHT, NOW, evidence, notice, site

TO = ("truc@example.vn", "lanh-dao@example.vn")
PAGE = "http://giam-sat.example.vn:8480/"


def letter(told: Notice, lang: Language = Language.VI, page: str | None = PAGE) -> Letter:
    return compose(told, site(lang), TO, page)


def opened(**changes: object) -> Notice:
    base = notice(
        lines=(evidence(), evidence("Thư trên web", Fault.CONTENT, "status 503, expected 200", kind="http")),
        affected=("Cổng dịch vụ công",),
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # any field by name


RECOVERED = notice(
    EventKind.RECOVERED, state=State.UP, at=NOW, ended_at=NOW - timedelta(seconds=5), lines=(evidence(fault=None),)
)
OWN = notice(subject=OWN_FAULT, name="", cause="far", state=State.UNKNOWN, affected=("Mạng VNPT",), references=(1, 3))
PASSED = replace(OWN, kind=EventKind.PASSED, cause="stall", ended_at=MIDNIGHT + timedelta(minutes=2), at=NOW)
CORRECTED = replace(
    OWN,
    kind=EventKind.CORRECTED,
    retracted=(
        Retracted(5, "Thư điện tử công vụ", EventKind.OPENED, State.DOWN, MIDNIGHT, MIDNIGHT + timedelta(seconds=15)),
    ),
)

ALL = (
    opened(),
    opened(kind=EventKind.WORSENED),
    RECOVERED,
    OWN,
    replace(OWN, cause="near"),
    replace(OWN, cause="local", service_name="VNPT"),
    replace(OWN, kind=EventKind.RECOVERED, ended_at=NOW, at=NOW),
    PASSED,
    CORRECTED,
    notice(EventKind.TEST, subject="", name=""),
)


@pytest.mark.parametrize(
    ("told", "subject"),
    [
        (opened(), "GIÁN ĐOẠN: Thư điện tử công vụ từ 00:00"),
        (opened(state=State.CONGESTED), "NGHẼN: Thư điện tử công vụ từ 00:00"),
        (opened(state=State.DEGRADED), "SUY GIẢM: Thư điện tử công vụ từ 00:00"),
        (opened(since=MIDNIGHT - timedelta(minutes=1)), "GIÁN ĐOẠN: Thư điện tử công vụ từ 23:59 05/02"),
        (opened(kind=EventKind.WORSENED), "NẶNG HƠN, GIÁN ĐOẠN: Thư điện tử công vụ từ 00:00"),
        (RECOVERED, "ĐÃ THÔNG SUỐT: Thư điện tử công vụ lúc 00:09 (sau 9 phút 55 giây)"),
        (OWN, "TRẠM ĐO MẤT KẾT NỐI: đường truyền Internet từ 00:00"),
        (replace(OWN, cause="near"), "TRẠM ĐO MẤT KẾT NỐI: cổng mạng nội bộ từ 00:00"),
        (replace(OWN, cause="local"), "TRẠM ĐO GẶP TRỤC TRẶC: máy giám sát từ 00:00"),
        (replace(OWN, service_name="VNPT"), "TRẠM ĐO MẤT KẾT NỐI: đường truyền Internet (VNPT) từ 00:00"),
        (
            replace(OWN, kind=EventKind.RECOVERED, at=NOW, ended_at=NOW),
            "TRẠM ĐO ĐÃ HOẠT ĐỘNG TRỞ LẠI: đường truyền Internet lúc 00:10 (sau 10 phút)",
        ),
        (PASSED, "LỖI PHÍA TRẠM ĐO, ĐÃ HẾT: phần mềm đo bị đứng từ 00:00 đến 00:02"),
        (
            replace(PASSED, cause="clock-step -3600.0"),
            "LỖI PHÍA TRẠM ĐO, ĐÃ HẾT: đồng hồ máy giám sát bị chỉnh lùi 1 giờ từ 00:00 đến 00:02",
        ),
        (replace(OWN, cause="resolver"), "TRẠM ĐO GẶP TRỤC TRẶC: phân giải tên miền (DNS) của trạm đo từ 00:00"),
        (replace(OWN, cause="descriptors"), "TRẠM ĐO GẶP TRỤC TRẶC: máy giám sát hết mô tả tệp từ 00:00"),
        (CORRECTED, "ĐÍNH CHÍNH: tin đã gửi là do lỗi phía trạm đo (đường truyền Internet)"),
        (notice(EventKind.TEST, subject="", name=""), "THƯ THỬ: kênh cảnh báo qua thư điện tử"),
    ],
)
def test_a_subject_is_short_and_can_be_searched_for(told: Notice, subject: str) -> None:
    assert letter(told).subject == f"[Thông Suốt][Lạng Sơn] {subject}"


def test_a_correction_lists_what_was_told_wrongly_and_when() -> None:
    text = letter(CORRECTED).text
    assert (
        "- Tin lúc 06/02/2027 00:00:15 về Thư điện tử công vụ (gián đoạn từ 06/02/2027 00:00:00): do lỗi phía trạm đo."
        in text
    )
    assert "không tính là dịch vụ bị gián đoạn" in text


def test_an_opening_letter_answers_every_question() -> None:
    text = letter(opened()).text
    for answer in (
        "Thư điện tử công vụ đang bị gián đoạn.",  # what
        "Bắt đầu:  06/02/2027 00:00:00 (GMT+7)",  # since when
        "Xác nhận: 06/02/2027 00:00:10",
        "- 00:00:00  Gửi thư (SMTP) [smtp]: gián đoạn, từ chối kết nối",  # how we know
        "    chi tiết kỹ thuật: status 503, expected 200",
        "Các mốc tham chiếu vẫn thông (2/2) → sự cố ở phía dịch vụ",  # is it us
        "- Cổng dịch vụ công",  # what else
        "- lanh-dao@example.vn",  # who was told
        f"Trang theo dõi trực tiếp: {PAGE}",
    ):
        assert answer in text


def test_a_consequence_names_the_service_it_follows_from() -> None:
    assert "Kéo theo từ sự cố của “Trung tâm dữ liệu”" in letter(opened(cause="Trung tâm dữ liệu")).text


def test_a_letter_that_hits_nothing_else_says_so() -> None:
    assert "CÙNG BỊ ẢNH HƯỞNG\n- Không có." in letter(opened(affected=())).text


def test_a_flapping_service_is_noted() -> None:
    assert "chập chờn" in letter(opened(flapping=True)).text
    assert "chập chờn" not in letter(opened()).text


def test_a_recovery_tells_from_when_to_when_and_how_long() -> None:
    text = letter(RECOVERED).text
    assert "đã thông suốt trở lại sau 9 phút 55 giây" in text
    assert "Bắt đầu:  06/02/2027 00:00:00" in text
    assert "Kết thúc: 06/02/2027 00:09:55" in text
    assert "LỖI Ở PHÍA NÀO" not in text


@pytest.mark.parametrize(
    ("cause", "says"),
    [("near", "gateway"), ("far", "đường truyền Internet của trạm đo bị gián đoạn"), ("local", "Chính máy giám sát")],
)
def test_our_own_fault_is_never_told_as_a_services(cause: str, says: str) -> None:
    text = letter(replace(OWN, cause=cause)).text
    assert says in text
    assert "không bị coi là gián đoạn" in text
    assert "sự cố ở phía dịch vụ" not in text
    assert "Mốc tham chiếu: 1 mốc thông, 3 mốc không trả lời." in text
    assert "DỊCH VỤ KHÔNG ĐO ĐƯỢC\n- Mạng VNPT" in text
    assert "Đề nghị kiểm tra" in text


def test_evidence_of_another_day_carries_its_date() -> None:
    late = opened(evidence=(evidence(at=MIDNIGHT - timedelta(hours=1)),))
    assert "- 05/02/2027 23:00:00  Gửi thư" in letter(late).text


def test_a_long_letter_says_how_much_it_leaves_out() -> None:
    long = opened(evidence=(evidence(),) * (EVIDENCE_LIMIT + 7), affected=tuple(f"s{n}" for n in range(100)))
    text = letter(long).text
    assert "… và 7 mục nữa" in text
    assert "… và 60 mục nữa" in text


class Words(HTMLParser):
    """Collects what is shown, and every tag and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_data(self, data: str) -> None:
        self.shown.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def parsed(html: str) -> Words:
    words = Words()
    words.feed(html)
    words.close()
    return words


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("told", ALL)
@pytest.mark.parametrize("lang", Language)
def test_the_html_part_says_what_the_text_part_says(told: Notice, lang: Language) -> None:
    made = letter(told, lang)
    shown = flat(" ".join(parsed(made.html).shown)).casefold()
    for line in made.text.splitlines():
        said = re.sub(r"^(- | {4}(chi tiết kỹ thuật|technical detail): )", "", line)
        for piece in re.split(r": +", said, maxsplit=1):
            if piece.strip("=- "):
                assert flat(piece).casefold() in shown


@pytest.mark.parametrize("told", ALL)
def test_no_english_stands_in_a_vietnamese_letter_but_technical_details(told: Notice) -> None:
    plain = re.sub(r"chi tiết kỹ thuật: .*|\[\w+\]|\S+@\S+|http\S+", "", letter(told).text)
    assert not re.search(r"\b(the|is|are|service|down|since|check|monitor|and|recovered)\b", plain, re.IGNORECASE)


@pytest.mark.parametrize("told", ALL)
def test_no_vietnamese_stands_in_an_english_letter_but_names(told: Notice) -> None:
    plain = letter(told, Language.EN).text
    others = (*(e.check for e in told.evidence), *(r.service_name for r in told.retracted))
    names = (told.site_name, told.service_name, *told.affected, *others, "Thông Suốt")
    for name in sorted(names, key=len, reverse=True):
        plain = plain.replace(name, "")
    assert plain.replace("→", "").isascii() or not re.search(r"[ạảãàáâậầấẩẫăắằặẳẵđêếềệểễôốồộổỗơớờợởỡưứừựửữ]", plain)


def test_nothing_from_outside_becomes_markup_or_a_second_line() -> None:
    evil = '<script>alert("1")</script>\r\nX: y'
    told = opened(
        service_name=evil,
        site_name=evil,
        affected=(evil,),
        cause=evil,
        evidence=(evidence(evil, Fault.CONTENT, evil, kind=evil),),
    )
    made = compose(told, site(name=evil), (evil,), "http://x/" + evil)
    seen = parsed(made.html)
    assert "script" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "\n" not in made.subject
    assert "\r" not in made.text
    assert "\nX: y" not in made.text


@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", "ftp://x/"])
def test_only_a_web_address_becomes_a_link(url: str | None) -> None:
    made = letter(opened(), page=url)
    assert "<a " not in made.html
    assert "Trang theo dõi" not in made.text


def test_the_html_loads_nothing_and_sets_no_ground_that_would_break_dark_screens() -> None:
    seen = parsed(letter(opened()).html)
    assert not {"img", "link", "script", "style", "iframe"} & set(seen.tags)
    styles = [value or "" for name, value in seen.attributes if name == "style"]
    assert all("color:#ffffff" in style for style in styles if "background" in style)
    assert ("content", "light dark") in seen.attributes


def test_the_same_notice_makes_the_same_letter() -> None:
    assert letter(opened()) == letter(opened())


def test_what_was_broken_before_anybody_looked_does_not_claim_a_begin() -> None:
    text = letter(replace(notice(), begin_unseen=True)).text
    assert "Bắt đầu:  trước khi bắt đầu theo dõi; muộn nhất 06/02/2027 00:00:00" in text


def test_a_recovery_names_the_reason_that_was_recorded() -> None:
    text = letter(replace(RECOVERED, reason="smtp: Connection refused")).text
    assert "Lý do đã ghi: smtp: Connection refused" in text


def test_a_letter_that_leaves_late_says_that_things_may_have_changed() -> None:
    told = notice()
    fresh = compose(told, site(), TO, None, told.at + timedelta(seconds=30)).text
    late = compose(told, site(), TO, None, told.at + timedelta(minutes=7)).text
    assert "bị chậm" not in fresh
    assert "bị chậm 7 phút" in late
    assert "có thể đã khác" in late
