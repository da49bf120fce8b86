"""Days, Tết, and the windows of events: turns what people write into spans of UTC.

Pure: no clock, no files. A day begins at local midnight and may have 23 or 25 hours; whole days are counted on the
local calendar, what is left over in seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import holidays

from config.lunar import LunarDate, lunar_date
from config.plan import Window

_DAY_S: Final = 86400
_YEARS: Final = range(1970, 2200)  # chosen: keeps every sum within what datetime can hold
_TET_NAME: Final = "Tết Nguyên Đán"  # the library's own name for mùng 1, in Vietnamese
_STEMS: Final = ("Giáp", "Ất", "Bính", "Đinh", "Mậu", "Kỷ", "Canh", "Tân", "Nhâm", "Quý")
_BRANCHES: Final = ("Tý", "Sửu", "Dần", "Mão", "Thìn", "Tỵ", "Ngọ", "Mùi", "Thân", "Dậu", "Tuất", "Hợi")
_MONTHS: Final = ("Giêng", "Hai", "Ba", "Tư", "Năm", "Sáu", "Bảy", "Tám", "Chín", "Mười", "Mười Một", "Chạp")
_ISO: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)
_OFFSET: Final = re.compile(r"(Z|[+-]\d{2}:?\d{2})$")
EXPECTED_TIME: Final = "expected a local date or time like 2022-04-29 or 2022-04-29 19:30"


class CalendarError(ValueError):
    """A date or time that does not exist or is not known; the message says which and what is expected."""


@dataclass(frozen=True, slots=True)
class LocalDay:
    """A civil day, or the part of it that a window covers."""

    day: date
    window: Window


@lru_cache(maxsize=64)
def tet_day(year: int) -> date:
    """Return the civil date of mùng 1 Tết in Việt Nam.

    Source: the library `holidays`, country VN, which keeps the Vietnamese calendar apart from the Chinese.

    Raises:
        CalendarError: a year the library does not cover.
    """
    try:
        known = holidays.country_holidays("VN", years=year, language="vi", expand=False)
        found = [day for day in known.get_named(_TET_NAME, lookup="exact") if day.year == year]
    except (ValueError, OverflowError):
        found = []
    if not found:
        raise CalendarError(f"mùng 1 Tết of the year {year} is not known; expected a year from 1968 to 2100")
    return found[0]


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the first moment of a local day, in UTC; also where a clock change swallows or repeats midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def giao_thua(year: int, zone: ZoneInfo) -> datetime:
    """Return Giao thừa, the local midnight that begins mùng 1 Tết, in UTC.

    Raises:
        CalendarError: a year the library does not cover.
    """
    return local_midnight(tet_day(year), zone)


def tet_window(year: int, before_s: float, after_s: float, zone: ZoneInfo) -> Window:
    """Return the span from `before_s` before the start of mùng 1 Tết to `after_s` after that same start.

    With two days before and five after it holds the two days before Tết and mùng 1 to mùng 5, whole.

    Raises:
        CalendarError: a year the library does not cover.
    """
    return around(datetime.combine(tet_day(year), datetime.min.time()), before_s, after_s, zone)


def around(local: datetime, before_s: float, after_s: float, zone: ZoneInfo) -> Window:
    """Return the span around a naive local time; whole days are local days, the rest is seconds."""
    return Window(shift(local, -before_s, zone), shift(local, after_s, zone))


def shift(local: datetime, seconds: float, zone: ZoneInfo) -> datetime:
    """Move a naive local time and return it in UTC; whole days are local days, the rest is seconds."""
    days = int(seconds / _DAY_S)
    moved = (local + timedelta(days=days)).replace(tzinfo=zone)
    return moved.astimezone(UTC) + timedelta(seconds=seconds - days * _DAY_S)


def parse_local(text: str) -> date | datetime:
    """Read `2022-04-29`, `2022-04-29 19:30` or `2022-04-29T19:30:00` as a date or a naive local time.

    Raises:
        CalendarError: anything else, an offset from UTC included: times are local to the site.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        if _OFFSET.search(text) and _ISO.match(text):
            raise CalendarError(f"{EXPECTED_TIME}; times are local to site.timezone and take no offset; got '{text}'")
        raise CalendarError(f"{EXPECTED_TIME}; got '{text}'")
    parts = [int(part) for part in match.groups() if part is not None]
    if parts[0] not in _YEARS:
        raise CalendarError(f"expected a year from {_YEARS[0]} to {_YEARS[-1]}; got '{text}'")
    try:
        day = date(*parts[:3])
        if len(parts) == 3:
            return day
        hour, minute, second = (*parts[3:], 0)[:3]
        return datetime.combine(day, time(hour, minute, second))
    except ValueError as exc:
        raise CalendarError(f"there is no such date or time: '{text}' ({exc})") from exc


def local_moment(text: str, zone: ZoneInfo, *, end: bool = False) -> datetime:
    """Read a local date or time (see `parse_local`) as a moment in UTC.

    Args:
        text: a date stands for its first moment.
        zone: the site's time zone.
        end: a date stands for the end of that day instead, so that `to: 2022-05-31` holds the 31st.

    Raises:
        CalendarError: no such date, or a time that a clock change leaves out.
    """
    return to_utc(naive_moment(text, end=end), zone)


def naive_moment(text: str, *, end: bool = False) -> datetime:
    """Read a local date or time as a naive local time; a date is its midnight, or with `end` the next one.

    Raises:
        CalendarError: as `parse_local`.
    """
    read = parse_local(text)
    if isinstance(read, datetime):
        return read
    return datetime.combine(read + timedelta(days=1) if end else read, datetime.min.time())


def to_utc(local: datetime, zone: ZoneInfo) -> datetime:
    """Return a naive local time in UTC; of a time that comes twice, the first.

    Raises:
        CalendarError: a time of day that a clock change leaves out; midnight then is the first moment of the day.
    """
    moment = local.replace(tzinfo=zone).astimezone(UTC)
    left_out = moment.astimezone(zone).replace(tzinfo=None) != local
    if left_out and (local.hour, local.minute, local.second) != (0, 0, 0):
        raise CalendarError(f"the clock change in {zone.key} leaves out {local:%Y-%m-%d %H:%M:%S}")
    return moment


def days_of(window: Window, zone: ZoneInfo) -> tuple[LocalDay, ...]:
    """Cut a window at local midnights; the first and last part may be shorter than a day."""
    days = []
    day = window.start.astimezone(zone).date()
    while (begin := local_midnight(day, zone)) < window.end:
        following = local_midnight(day + timedelta(days=1), zone)
        days.append(LocalDay(day, Window(max(begin, window.start), min(following, window.end))))
        day += timedelta(days=1)
    return tuple(d for d in days if d.window.start < d.window.end)


def year_name(year: int) -> str:
    """Return the name of a lunar year: 2027 is Đinh Mùi."""
    return f"{_STEMS[(year - 4) % 10]} {_BRANCHES[(year - 4) % 12]}"


def lunar_label(day: date) -> str:
    """Say a civil date by the lunar calendar, for people: `29 Chạp`, `mùng 1`, `15 tháng Giêng`.

    The first ten days are `mùng`; of tháng Giêng they need no month, for that is what mùng 1 means at Tết.

    Raises:
        ValueError: outside 1968 to 2100.
    """
    return say_lunar(lunar_date(day))


def say_lunar(lunar: LunarDate) -> str:
    """Say a lunar date for people, as `lunar_label` does."""
    number = f"mùng {lunar.day}" if lunar.day <= 10 else str(lunar.day)
    if lunar.month == 1 and lunar.day <= 10 and not lunar.leap:
        return number
    month = _MONTHS[lunar.month - 1]
    word = month if lunar.month == 12 else f"tháng {month}"
    return f"{number} {word} nhuận" if lunar.leap else f"{number} {word}"
