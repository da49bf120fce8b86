"""The words of official reports, Vietnamese only: figures with the decimals they can carry, moments, spans, doubt.

Percentages that say how good something was are rounded down, and upper bounds up, so that a printed interval always
holds the computed one. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime, tzinfo
from typing import Final

from config.plan import Language, ServiceKind, Window
from exporters.text import duration_words, number_words
from monitor.availability import Account, Outage, failure_bound, percent_digits

NOT_ENOUGH_WORDS: Final = "không đủ căn cứ"
NO_DATA: Final = "không có số liệu"
ALL_WORK: Final = "bảo trì"
NO_CONGESTION: Final = "không xảy ra nghẽn mạng"  # printed by `claims` alone, and only when the evidence carries it
DASH: Final = "–"

GROUPS: Final[tuple[tuple[str, frozenset[ServiceKind]], ...]] = (
    (
        "Hệ thống thông tin, dịch vụ",
        frozenset(
            {
                ServiceKind.MAIL,
                ServiceKind.PORTAL,
                ServiceKind.OFFICE,
                ServiceKind.DATA_CENTRE,
                ServiceKind.CONFERENCE,
                ServiceKind.SERVICE,
            }
        ),
    ),
    ("Mạng viễn thông của các nhà mạng", frozenset({ServiceKind.CARRIER})),
    ("Mạng truyền số liệu, đường truyền", frozenset({ServiceKind.NETWORK})),
)


def placeholder(what: str) -> str:
    """Return a place where a person has to write."""
    return f"[… {what} …]"


def written_date(day: date) -> str:
    """Return a date as an official document writes it: days under 10 and the months 1 and 2 with a nought."""
    month = f"{day.month:02d}" if day.month < 3 else str(day.month)
    return f"ngày {day.day:02d} tháng {month} năm {day.year}"


def moment(at: datetime, zone: tzinfo) -> str:
    """Return `23:05 ngày 15/02/2018`."""
    return at.astimezone(zone).strftime("%H:%M ngày %d/%m/%Y")


def brief(at: datetime, zone: tzinfo) -> str:
    """Return `15/02/2018 23:05:10`, for a table."""
    return at.astimezone(zone).strftime("%d/%m/%Y %H:%M:%S")


def span(window: Window, zone: tzinfo) -> str:
    """Return `từ … đến …`."""
    return f"từ {moment(window.start, zone)} đến {moment(window.end, zone)}"


def count(number: int) -> str:
    """Return a whole number with its thousands apart by points."""
    return f"{number:,}".replace(",", ".")


def number(value: float, digits: int) -> str:
    """Return a number with a decimal comma."""
    return number_words(value, digits, Language.VI)


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds: `167:12:30`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def milliseconds(seconds: float | None) -> str:
    """Return a response time in milliseconds."""
    if seconds is None:
        return DASH
    ms = seconds * 1000
    return number(ms, 0 if ms >= 100 else 1)


def at_least(ratio: float, digits: int) -> str:
    """Return a share as a percentage, rounded down."""
    return "100%" if ratio >= 1.0 else number(100 * floor_share(ratio, digits), digits) + "%"


def at_most(ratio: float, digits: int) -> str:
    """Return a share as a percentage, rounded up, at most 100 %."""
    found = ceil_share(ratio, digits)
    return "100%" if found >= 1.0 else number(100 * found, digits) + "%"


def floor_share(ratio: float, digits: int) -> float:
    """Return a share rounded down to so many decimals of a percentage."""
    scale = 10.0 ** (digits + 2)
    return math.floor(ratio * scale + 1e-9) / scale


def ceil_share(ratio: float, digits: int) -> float:
    """Return a share rounded up to so many decimals of a percentage."""
    scale = 10.0 ** (digits + 2)
    return math.ceil(ratio * scale - 1e-9) / scale


def availability(account: Account, resolution_s: float, rounds: int) -> str:
    """Return a table's cell for availability: the value, with its bounds below where they differ from it.

    Without any failure the value is what so many rounds can prove, never 100 %.
    """
    share = account.share
    if account.all_work:
        return ALL_WORK
    if share.value is None or share.least is None or share.most is None:
        return NO_DATA
    digits = percent_digits(resolution_s, (account.window.end - account.window.start).total_seconds())
    bounds = f"[{at_least(share.least, digits)} – {at_most(share.most, digits)}]"
    if not share.enough:
        return f"{NOT_ENOUGH_WORDS}\n{bounds}"
    if share.value >= 1.0:
        value = f"≥ {at_least(1.0 - failure_bound(rounds), digits)}" if rounds else NOT_ENOUGH_WORDS
        return value if share.coverage >= 1.0 else f"{value}\n{bounds}"
    value = at_least(share.value, digits)
    # What is too little to change a printed decimal is not worth a second line.
    alike = at_least(share.least, digits) == value == at_most(share.most, digits)
    return value if alike else f"{value}\n{bounds}"


def coverage(account: Account) -> str:
    """Return the share of the time that was observed."""
    return DASH if account.all_work else at_least(account.share.coverage, 2)


def outage_length(outage: Outage) -> str:
    """Return how long an outage lasted: the middle of what is possible, and how far the truth may lie from it."""
    least = max((outage.earliest_end - outage.start).total_seconds(), 0.0)
    most = (outage.end - outage.earliest_start).total_seconds()
    half = (most - least) / 2
    words = duration_words((least + most) / 2)
    open_ends = outage.open_start or outage.open_end
    doubt = f" ± {duration_words(half)}" if half >= 0.5 else ""
    return f"ít nhất {words}" if open_ends else words + doubt


def down_time(account: Account) -> str:
    """Return how long a service was down in a window, between its bounds."""
    if account.outages == 0:
        return "0"
    low, high = duration_words(account.down_least_s), duration_words(account.down_most_s)
    return low if low == high else f"{low} – {high}"


def times(number_of: int) -> str:
    """Return `không ghi nhận` or `3 lần`."""
    return f"{number_of} lần" if number_of else "không ghi nhận"


def listed(words: Iterable[str]) -> str:
    """Return `a, b và c`."""
    found = list(words)
    return f"{', '.join(found[:-1])} và {found[-1]}" if len(found) > 1 else "".join(found)


def roman(value: int) -> str:
    """Return a small number in Roman figures."""
    signs = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    found = ""
    for size, sign in signs:
        found += sign * (value // size)
        value %= size
    return found
