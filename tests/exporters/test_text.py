"""The words a duty officer reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.plan import Language, ServiceKind
from exporters import text
from monitor.model import State
from probes.base import Fault
from tests.exporters.builders import MIDNIGHT, ZONE


def test_the_states_have_the_words_of_the_field() -> None:
    words = {state: text.state_word(state) for state in State}
    assert words == {
        State.UNKNOWN: "không có số liệu",
        State.UP: "thông suốt",
        State.DEGRADED: "suy giảm",
        State.CONGESTED: "nghẽn",
        State.DOWN: "gián đoạn",
        State.MAINTENANCE: "bảo trì",
    }


@pytest.mark.parametrize("lang", Language)
def test_every_state_fault_and_kind_has_a_word_of_its_own(lang: Language) -> None:
    for words in (
        [text.state_word(s, lang) for s in State],
        [text.fault_phrase(f, lang) for f in Fault],
        [text.kind_word(k, lang) for k in ServiceKind],
        [text.state_symbol(s) for s in State],
        [text.state_clause(s, lang) for s in State],
        [text.gap_phrase(c, lang) for c in ("off", "own-fault", "local", "missed", "removed")],
        [text.own_fault_sentence(c, lang) for c in ("near", "far", "local", "")],
    ):
        assert all(words)
        assert len(set(words)) == len(words)


def test_a_fault_is_told_in_plain_words() -> None:
    assert text.fault_phrase("timeout") == "không trả lời trong thời hạn"
    assert text.fault_phrase("refused") == "từ chối kết nối"
    assert text.fault_phrase("name") == "không phân giải được tên miền"


def test_without_a_fault_the_state_says_why() -> None:
    assert text.fault_phrase("", state=State.DEGRADED) == "có trả lời nhưng chậm hoặc có cảnh báo"
    assert text.fault_phrase("", state=State.UP) == "trả lời bình thường"


def test_a_word_from_a_newer_journal_is_shown_as_it_came_on_one_line() -> None:
    assert text.state_word("odd\nstate") == "odd state"
    assert text.fault_phrase("odd\nfault") == "odd fault"


@pytest.mark.parametrize(
    ("seconds", "vi", "en"),
    [
        (0.2, "dưới 1 giây", "less than 1 second"),
        (1, "1 giây", "1 second"),
        (59.4, "59 giây", "59 seconds"),
        (60, "1 phút", "1 minute"),
        (303, "5 phút 03 giây", "5 minutes 03 seconds"),
        (3599.9, "59 phút 59 giây", "59 minutes 59 seconds"),
        (3900, "1 giờ 05 phút", "1 hour 05 minutes"),
        (3659, "1 giờ", "1 hour"),
        (3660, "1 giờ 01 phút", "1 hour 01 minute"),
        (2 * 86400 + 3 * 3600 + 59, "2 ngày 03 giờ", "2 days 03 hours"),
        (-5, "dưới 1 giây", "less than 1 second"),
    ],
)
def test_a_duration_is_told_by_its_two_largest_units(seconds: float, vi: str, en: str) -> None:
    assert text.duration_words(seconds) == vi
    assert text.duration_words(seconds, Language.EN) == en


@given(st.floats(min_value=60, max_value=10**9))
def test_no_duration_is_told_longer_than_it_was(seconds: float) -> None:
    sizes = {"ngày": 86400, "giờ": 3600, "phút": 60, "giây": 1}
    words = text.duration_words(seconds).split()
    told = sum(int(n) * sizes[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert told <= seconds


def test_times_are_local_and_in_the_order_of_the_country() -> None:
    assert text.local_time(MIDNIGHT, ZONE) == "06/02/2027 00:00:00"
    assert text.local_clock(MIDNIGHT + timedelta(hours=13, seconds=5), ZONE) == "13:00:05"
    assert text.local_date(MIDNIGHT - timedelta(seconds=1), ZONE) == "05/02/2027"
    assert text.zone_word(MIDNIGHT, ZONE) == "GMT+7"
    assert text.zone_word(MIDNIGHT, timezone(-timedelta(hours=3, minutes=30))) == "GMT-3:30"


def test_a_zone_with_summer_time_is_followed() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert text.zone_word(datetime(2027, 7, 1, tzinfo=UTC), berlin) == "GMT+2"
    assert text.local_time(datetime(2027, 7, 1, tzinfo=UTC), berlin) == "01/07/2027 02:00:00"


def test_a_brief_time_names_the_day_only_when_it_is_another_one() -> None:
    assert text.brief_time(MIDNIGHT, MIDNIGHT + timedelta(minutes=1), ZONE) == "00:00"
    assert text.brief_time(MIDNIGHT - timedelta(minutes=1), MIDNIGHT, ZONE) == "23:59 05/02"


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (2, 0, "Các mốc tham chiếu vẫn thông (2/2) → sự cố ở phía dịch vụ"),
        (1, 2, "Chỉ 1/3 mốc tham chiếu còn thông"),
        (0, 2, "nhiều khả năng lỗi ở phía trạm đo"),
        (0, 0, "chưa phân biệt được"),
    ],
)
def test_the_references_tell_whose_trouble_it_is(good: int, bad: int, says: str) -> None:
    assert says in text.blame_sentence(good, bad)
    assert text.blame_sentence(good, bad, Language.EN) != text.blame_sentence(good, bad)
    # Where a path is blamed, no letter may say in one breath that it is the service.
    assert not (good and not bad and "phía dịch vụ" in text.blame_sentence(good, bad, between=True))


def test_numbers_use_the_comma_in_vietnamese() -> None:
    assert text.number_words(1.25, 2) == "1,25"
    assert text.number_words(1.25, 2, Language.EN) == "1.25"
    assert text.short_duration(0.0004) == "0,4 ms"
    assert text.short_duration(0.0351) == "35 ms"
    assert text.short_duration(1.25) == "1,2 s"


def test_a_share_just_below_all_is_not_shown_as_all() -> None:
    assert text.percent_words(0.999) == "99%"
    assert text.percent_words(0.99999, digits=2) == "99,99%"
    assert text.percent_words(1.0) == "100%"
    assert text.percent_words(0.29) == "29%"  # 0.29 * 100 is 28.999…


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Sở Thông tin và Truyền thông tỉnh Lạng Sơn", "Lạng Sơn"),
        ("Sở TT&TT thành phố Hải Phòng", "Hải Phòng"),
        ("Sở TT&TT tỉnh Sông Xuân (mẫu)", "Sông Xuân (mẫu)"),
        ("Trung tâm CNTT", "Trung tâm CNTT"),
        ("Trung tâm\r\nBcc: x", "Trung tâm Bcc: x"),
    ],
)
def test_a_site_has_a_short_name_for_subject_lines(name: str, short: str) -> None:
    assert text.short_site(name) == short


def test_a_site_of_any_length_has_a_short_name() -> None:
    assert len(text.short_site("Trung tâm " * 30)) == 40
