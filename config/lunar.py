"""The Vietnamese lunar calendar, computed: new moons and the sun's longitude at UTC+7.

Pure: no clock, no files. Good for 1968 (when Việt Nam took UTC+7 for its calendar) to 2100; the tests compare every
year with independent tables. Sources: J. Meeus, Astronomical Algorithms, 2nd edition, chapter 25 (longitude of the
sun), chapter 49 (new moons) and, for the difference of dynamical and civil time, F. Espenak and J. Meeus, polynomial
expressions for Delta T (NASA). Rules of the calendar: a month begins on the day of the new moon at UTC+7, the winter
solstice lies in month 11, and of thirteen months from one month 11 to the next the first without a major solar term
is the leap month (Hồ Ngọc Đức, "Computing the Vietnamese lunar calendar", publishes the same rules).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

FIRST_YEAR: Final = 1968
LAST_YEAR: Final = 2100

_UTC7_DAYS: Final = 7 / 24
_LUNATION_DAYS: Final = 29.530588861  # mean synodic month, Meeus 49.1
_J2000: Final = 2451545.0  # Julian day of 2000-01-01 12:00
_ORDINAL_OF_JD_ZERO: Final = 1721424.5  # Julian day of midnight = date.toordinal() + this


@dataclass(frozen=True, slots=True)
class LunarDate:
    """A day of the Vietnamese lunar calendar."""

    year: int  # the year in which its Tết falls
    month: int  # 1 (Giêng) to 12 (Chạp)
    day: int  # 1 to 30
    leap: bool  # in a leap month, which follows the month of the same number


def lunar_date(day: date) -> LunarDate:
    """Return the lunar date of a civil date.

    Raises:
        ValueError: outside 1968 to 2100.
    """
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"the lunar calendar is known for {FIRST_YEAR} to {LAST_YEAR}; got {day.year}")
    year = day.year if day < _month_eleven(day.year)[1] else day.year + 1
    for month in reversed(_months_between_solstices(year)):
        if month.first <= day:
            lunar_year = year - 1 if month.number >= 11 and not month.after_tet else year
            return LunarDate(lunar_year, month.number, (day - month.first).days + 1, month.leap)
    raise AssertionError("a day lies between two eleventh months")  # the list begins at or before the day


def first_day(year: int) -> date:
    """Return the civil date of mùng 1 tháng Giêng, by computation; `config.calendar.tet_day` is the one to ask.

    Raises:
        ValueError: outside 1968 to 2100.
    """
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError(f"the lunar calendar is known for {FIRST_YEAR} to {LAST_YEAR}; got {year}")
    return next(m.first for m in _months_between_solstices(year) if m.number == 1 and not m.leap)


@dataclass(frozen=True, slots=True)
class _Month:
    first: date
    number: int
    leap: bool
    after_tet: bool  # a (leap) month 11 at the end of the year, not the one that opens the list


@lru_cache(maxsize=512)
def _months_between_solstices(year: int) -> tuple[_Month, ...]:
    """Name the months from the month 11 that begins in `year - 1` to the last before that of `year`."""
    lunation, begin = _month_eleven(year - 1)
    end_lunation, _ = _month_eleven(year)
    count = end_lunation - lunation  # 12, or 13 with a leap month
    firsts = [begin, *(_new_moon_day(lunation + i) for i in range(1, count + 1))]
    leap_at = -1
    if count == 13:
        leap_at = next(i for i in range(1, count) if _solar_term(firsts[i]) == _solar_term(firsts[i + 1]))
    months = []
    number = 11
    for i in range(count):
        if i and i != leap_at:
            number = number % 12 + 1
        months.append(_Month(firsts[i], number, leap=i == leap_at, after_tet=i > 4))
    return tuple(months)


@lru_cache(maxsize=512)
def _month_eleven(year: int) -> tuple[int, date]:
    """Return lunation number and first day of the month that holds the winter solstice of `year`."""
    lunation = math.floor((date(year, 12, 31).toordinal() + _ORDINAL_OF_JD_ZERO - 2451550.1) / _LUNATION_DAYS) + 1
    while _new_moon_day(lunation) > date(year, 12, 31) or _solar_term(_new_moon_day(lunation)) >= 9:
        lunation -= 1  # the month begins before the sun reaches 270 degrees: term 8 or less on its first day
    return lunation, _new_moon_day(lunation)


def _solar_term(day: date) -> int:
    """Return which twelfth of the ecliptic the sun is in at 00:00 UTC+7 of the day (0 from the spring equinox)."""
    jd = day.toordinal() + _ORDINAL_OF_JD_ZERO - _UTC7_DAYS
    return int(_sun_longitude(jd + _delta_t_days(jd)) / 30)


def _sun_longitude(jde: float) -> float:
    """Return the sun's apparent longitude in degrees, within 0.01 (Meeus, chapter 25)."""
    t = (jde - _J2000) / 36525
    mean = 280.46646 + 36000.76983 * t + 0.0003032 * t * t
    anomaly = math.radians(357.52911 + 35999.05029 * t - 0.0001537 * t * t)
    centre = (
        (1.914602 - 0.004817 * t - 0.000014 * t * t) * math.sin(anomaly)
        + (0.019993 - 0.000101 * t) * math.sin(2 * anomaly)
        + 0.000289 * math.sin(3 * anomaly)
    )
    node = math.radians(125.04 - 1934.136 * t)
    return (mean + centre - 0.00569 - 0.00478 * math.sin(node)) % 360


@lru_cache(maxsize=4096)
def _new_moon_day(lunation: int) -> date:
    jde = _new_moon(lunation)
    local = jde - _delta_t_days(jde) + _UTC7_DAYS
    return date.fromordinal(math.floor(local - _ORDINAL_OF_JD_ZERO))


def _new_moon(k: int) -> float:
    """Return the Julian ephemeris day of a new moon, within seconds (Meeus, chapter 49)."""
    t = k / 1236.85
    jde = 2451550.09766 + _LUNATION_DAYS * k + t * t * (0.00015437 + t * (-0.000000150 + 0.00000000073 * t))
    e = 1 - t * (0.002516 + 0.0000074 * t)
    sun = math.radians(2.5534 + 29.10535670 * k - t * t * (0.0000014 + 0.00000011 * t))
    moon = math.radians(201.5643 + 385.81693528 * k + t * t * (0.0107582 + t * (0.00001238 - 0.000000058 * t)))
    latitude = math.radians(160.7108 + 390.67050284 * k - t * t * (0.0016118 + t * (0.00000227 - 0.000000011 * t)))
    node = math.radians(124.7746 - 1.56375588 * k + t * t * (0.0020672 + 0.00000215 * t))
    for size, power, m_sun, m_moon, m_latitude in _PERIODIC:
        jde += size * e**power * math.sin(m_sun * sun + m_moon * moon + m_latitude * latitude)
    jde -= 0.00017 * math.sin(node)
    for size, start, rate, square in _PLANETARY:
        jde += size * math.sin(math.radians(start + rate * k + square * t * t))
    return jde


def _delta_t_days(jd: float) -> float:
    """Return dynamical minus civil time in days (Espenak and Meeus); its error of seconds moves no day here."""
    year = 2000 + (jd - _J2000) / 365.25
    t = year - 2000
    if year < 1986:
        u = year - 1975
        seconds = 45.45 + 1.067 * u - u * u / 260 - u**3 / 718
    elif year < 2005:
        seconds = 63.86 + 0.3345 * t - 0.060374 * t**2 + 0.0017275 * t**3 + 0.000651814 * t**4 + 0.00002373599 * t**5
    elif year < 2050:
        seconds = 62.92 + 0.32217 * t + 0.005589 * t * t
    else:
        seconds = -20 + 32 * ((year - 1820) / 100) ** 2 - 0.5628 * (2150 - year)
    return seconds / 86400


# Meeus, chapter 49, periodic terms of the new moon: days, power of E, multiples of M, M' and F.
_PERIODIC: Final = (
    (-0.40720, 0, 0, 1, 0),
    (0.17241, 1, 1, 0, 0),
    (0.01608, 0, 0, 2, 0),
    (0.01039, 0, 0, 0, 2),
    (0.00739, 1, -1, 1, 0),
    (-0.00514, 1, 1, 1, 0),
    (0.00208, 2, 2, 0, 0),
    (-0.00111, 0, 0, 1, -2),
    (-0.00057, 0, 0, 1, 2),
    (0.00056, 1, 1, 2, 0),
    (-0.00042, 0, 0, 3, 0),
    (0.00042, 1, 1, 0, 2),
    (0.00038, 1, 1, 0, -2),
    (-0.00024, 1, -1, 2, 0),
    (-0.00007, 0, 2, 1, 0),
    (0.00004, 0, 0, 2, -2),
    (0.00004, 0, 3, 0, 0),
    (0.00003, 0, 1, 1, -2),
    (0.00003, 0, 0, 2, 2),
    (-0.00003, 0, 1, 1, 2),
    (0.00003, 0, -1, 1, 2),
    (-0.00002, 0, -1, 1, -2),
    (-0.00002, 0, 1, 3, 0),
    (0.00002, 0, 0, 4, 0),
)
# Meeus, chapter 49, planetary arguments: days, degrees at k = 0, degrees a lunation, degrees by T squared.
_PLANETARY: Final = (
    (0.000325, 299.77, 0.107408, -0.009173),
    (0.000165, 251.88, 0.016321, 0.0),
    (0.000164, 251.83, 26.651886, 0.0),
    (0.000126, 349.42, 36.412478, 0.0),
    (0.000110, 84.66, 18.206239, 0.0),
    (0.000062, 141.74, 53.303771, 0.0),
    (0.000060, 207.14, 2.453732, 0.0),
    (0.000056, 154.84, 7.306860, 0.0),
    (0.000047, 34.52, 27.261239, 0.0),
    (0.000042, 207.19, 0.121824, 0.0),
    (0.000040, 291.34, 1.844379, 0.0),
    (0.000037, 161.72, 24.198154, 0.0),
    (0.000035, 239.56, 25.513099, 0.0),
    (0.000023, 331.55, 3.592518, 0.0),
)


def month_length(day: date) -> int:
    """Return 29 or 30: how many days the lunar month of a civil date has."""
    begin = day - timedelta(days=lunar_date(day).day - 1)
    return 30 if lunar_date(begin + timedelta(days=29)).day == 30 else 29
