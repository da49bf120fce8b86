"""Tết, Giao thừa, local days and the lunar calendar, against published tables."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import calendar, lunar
from config.plan import Window

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
BERLIN = ZoneInfo("Europe/Berlin")
# First day of Tết as announced in Việt Nam; the Chinese calendar differs in 1985, 2007 and 2030.
TET = [
    "1985-01-21", "2007-02-17", "2018-02-16", "2019-02-05", "2020-01-25", "2021-02-12", "2022-02-01", "2023-01-22",
    "2024-02-10", "2025-01-29", "2026-02-17", "2027-02-06", "2028-01-26", "2029-02-13", "2030-02-02", "2031-01-23",
    "2032-02-11", "2033-01-31", "2034-02-19", "2035-02-08",
]  # fmt: skip
# Leap months as printed in Vietnamese calendars: lunar year and the month that comes twice.
LEAP_MONTHS = {
    1985: 2, 1987: 7, 2001: 4, 2004: 2, 2006: 7, 2009: 5, 2012: 4, 2014: 9, 2017: 6, 2020: 4, 2023: 2, 2025: 6,
    2028: 5, 2031: 3, 2033: 11, 2036: 6,
}  # fmt: skip
DAYS = st.dates(date(1968, 1, 1), date(2100, 12, 31))


@pytest.mark.parametrize("day", TET)
def test_tet_falls_on_the_day_of_the_vietnamese_calendar(day: str) -> None:
    expected = date.fromisoformat(day)
    assert calendar.tet_day(expected.year) == expected
    assert lunar.first_day(expected.year) == expected


def test_computation_and_library_agree_in_every_year_both_know() -> None:
    assert [y for y in range(1968, 2101) if calendar.tet_day(y) != lunar.first_day(y)] == []


def test_the_chinese_calendar_would_be_wrong_in_2030() -> None:
    china = holidays.country_holidays("CN", years=2030, language="en_US")
    assert date(2030, 2, 3) in china.get_named("Chinese New Year", lookup="icontains")
    assert calendar.tet_day(2030) == date(2030, 2, 2)


@pytest.mark.parametrize("year", [-1, 0, 1900, 2101, 99999])
def test_a_year_that_is_not_covered_says_so(year: int) -> None:
    with pytest.raises(
        calendar.CalendarError, match=f"the year {year} is not known; expected a year from 1968 to 2100"
    ):
        calendar.tet_day(year)


def test_giao_thua_is_the_local_midnight_that_begins_mung_1() -> None:
    assert calendar.giao_thua(2027, HANOI) == datetime(2027, 2, 5, 17, tzinfo=UTC)


def test_the_window_of_2024_is_that_of_the_holiday() -> None:
    window = calendar.tet_window(2024, 2 * 86400, 5 * 86400, HANOI)
    assert window == Window(datetime(2024, 2, 7, 17, tzinfo=UTC), datetime(2024, 2, 14, 17, tzinfo=UTC))
    labels = [calendar.lunar_label(day.day) for day in calendar.days_of(window, HANOI)]
    assert labels == ["29 Chạp", "30 Chạp", "mùng 1", "mùng 2", "mùng 3", "mùng 4", "mùng 5"]


def test_parts_of_days_are_seconds() -> None:
    window = calendar.tet_window(2027, 90 * 60, 2.5 * 86400, HANOI)
    assert window == Window(datetime(2027, 2, 5, 15, 30, tzinfo=UTC), datetime(2027, 2, 8, 5, tzinfo=UTC))


def test_whole_days_are_local_days_where_clocks_change() -> None:
    noon = datetime(2022, 3, 27, 12)  # noqa: DTZ001  the clock was put forward at two that morning
    window = calendar.around(noon, 86400, 86400, BERLIN)
    assert window == Window(datetime(2022, 3, 26, 11, tzinfo=UTC), datetime(2022, 3, 28, 10, tzinfo=UTC))


def test_days_of_23_and_25_hours_are_cut_at_local_midnight() -> None:
    spring = calendar.days_of(
        Window(calendar.local_midnight(date(2022, 3, 26), BERLIN), calendar.local_midnight(date(2022, 3, 29), BERLIN)),
        BERLIN,
    )
    assert [(d.window.end - d.window.start) / timedelta(hours=1) for d in spring] == [24, 23, 24]
    autumn = calendar.days_of(
        Window(
            calendar.local_midnight(date(2022, 10, 30), BERLIN), calendar.local_midnight(date(2022, 10, 31), BERLIN)
        ),
        BERLIN,
    )
    assert [(d.window.end - d.window.start) / timedelta(hours=1) for d in autumn] == [25]


def test_a_midnight_that_the_clock_skips_is_the_first_moment_of_its_day() -> None:
    havana = ZoneInfo("America/Havana")  # 2022-03-13: from 00:00 straight to 01:00
    assert calendar.local_midnight(date(2022, 3, 13), havana) == datetime(2022, 3, 13, 5, tzinfo=UTC)
    assert calendar.local_moment("2022-03-13", havana) == datetime(2022, 3, 13, 5, tzinfo=UTC)


@given(day=DAYS, before=st.integers(0, 40), hours=st.integers(0, 23), after=st.integers(1, 60))
def test_the_days_of_a_window_tile_it(day: date, before: int, hours: int, after: int) -> None:
    local = datetime(day.year, day.month, day.day)  # noqa: DTZ001  a local time, by design
    window = calendar.around(local, before * 86400 + hours * 3600, after * 3600, BERLIN)
    days = calendar.days_of(window, BERLIN)
    assert days[0].window.start == window.start
    assert days[-1].window.end == window.end
    assert all(a.window.end == b.window.start for a, b in itertools.pairwise(days))
    assert all(a.day + timedelta(days=1) == b.day for a, b in itertools.pairwise(days))


def test_an_empty_window_has_no_days() -> None:
    now = datetime(2027, 1, 1, tzinfo=UTC)
    assert calendar.days_of(Window(now, now), HANOI) == ()


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2022-04-29", False, datetime(2022, 4, 28, 17, tzinfo=UTC)),
        ("2022-04-29", True, datetime(2022, 4, 29, 17, tzinfo=UTC)),
        ("2022-04-29 19:30", True, datetime(2022, 4, 29, 12, 30, tzinfo=UTC)),
        ("2022-04-29T19:30:15", False, datetime(2022, 4, 29, 12, 30, 15, tzinfo=UTC)),
    ],
)
def test_local_times_become_utc(text: str, end: bool, expected: datetime) -> None:
    assert calendar.local_moment(text, HANOI, end=end) == expected


def test_of_a_time_that_comes_twice_the_first_is_meant() -> None:
    assert calendar.local_moment("2022-10-30 02:30", BERLIN) == datetime(2022, 10, 30, 0, 30, tzinfo=UTC)


def test_years_have_their_names() -> None:
    names = [calendar.year_name(y) for y in (1968, 2018, 2020, 2022, 2024, 2027)]
    assert names == ["Mậu Thân", "Mậu Tuất", "Canh Tý", "Nhâm Dần", "Giáp Thìn", "Đinh Mùi"]


def test_leap_months_are_those_of_the_printed_calendars() -> None:
    found = {}
    day = date(1984, 12, 1)
    while day < date(2037, 2, 1):
        now = lunar.lunar_date(day)
        if now.leap:
            found[now.year] = now.month
        day += timedelta(days=20)
    printed = LEAP_MONTHS | {1990: 5, 1993: 3, 1995: 8, 1998: 5}
    assert found == printed


@pytest.mark.parametrize(
    ("day", "label"),
    [
        (date(2024, 2, 9), "30 Chạp"),
        (date(2025, 1, 28), "29 Chạp"),  # the last day of a short month
        (date(2025, 1, 29), "mùng 1"),
        (date(2024, 2, 2), "23 Chạp"),
        (date(2024, 2, 24), "15 tháng Giêng"),
        (date(2023, 4, 5), "15 tháng Hai nhuận"),
        (date(2024, 4, 18), "mùng 10 tháng Ba"),  # Giỗ Tổ Hùng Vương
        (date(2024, 9, 17), "15 tháng Tám"),  # Trung thu
        (date(2034, 1, 20), "mùng 1 Chạp"),
    ],
)
def test_days_are_said_as_people_say_them(day: date, label: str) -> None:
    assert calendar.lunar_label(day) == label


@given(day=DAYS.filter(lambda d: d < date(2100, 12, 31)))
def test_lunar_days_follow_each_other(day: date) -> None:
    today, tomorrow = lunar.lunar_date(day), lunar.lunar_date(day + timedelta(days=1))
    assert 1 <= today.day <= lunar.month_length(day)
    if today.day < lunar.month_length(day):
        assert (tomorrow.day, tomorrow.month, tomorrow.leap) == (today.day + 1, today.month, today.leap)
    else:
        assert tomorrow.day == 1
        assert tomorrow.month in (today.month, today.month % 12 + 1)
        assert tomorrow.leap == (tomorrow.month == today.month)
    assert tomorrow.year - today.year == ((today.month, tomorrow.month) == (12, 1))


@pytest.mark.parametrize("day", [date(1967, 12, 31), date(2101, 1, 1)])
def test_outside_its_years_the_lunar_calendar_says_nothing(day: date) -> None:
    with pytest.raises(ValueError, match="known for 1968 to 2100"):
        lunar.lunar_date(day)
    with pytest.raises(ValueError, match="known for 1968 to 2100"):
        lunar.first_day(day.year)
