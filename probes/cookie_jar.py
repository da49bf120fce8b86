"""Cookies of one run, kept as a browser keeps them, and bounded. Pure.

Source: RFC 6265 section 5 (parsing, storage, what is sent where), RFC 6265bis section 4.1.3 (name prefixes).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from probes.http_url import Url

COOKIE_LIMIT: Final = 4096  # bytes of one cookie's name and value, as RFC 6265 section 6.1 asks
HOST_LIMIT: Final = 50  # cookies of one domain, as section 6.1 asks
TOTAL_LIMIT: Final = 300  # of a run; chosen: a tenth of what section 6.1 asks of a browser that keeps them for years
AGE_LIMIT: Final = 10**9  # seconds, thirty years; more is taken for that
# Names under which strangers register: no cookie may be set for all of them. Those of Việt Nam; with the rule that a
# name has a dot, this is enough for a jar that only ever sees the hosts of one journey.
_PUBLIC: Final = frozenset(
    f"{name}.vn" for name in ("ac", "biz", "com", "edu", "gov", "health", "info", "int", "name", "net", "org", "pro")
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DELIMITER: Final = re.compile(r"[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")


@dataclass(slots=True)
class _Cookie:
    name: str
    value: str
    domain: str
    host_only: bool
    path: str
    secure: bool
    expires: float | None  # Unix time; None lasts as long as the run

    def goes_to(self, url: Url, now: float) -> bool:
        if self.expires is not None and self.expires <= now:
            return False
        if url.host != self.domain and (self.host_only or not url.host.endswith(f".{self.domain}")):
            return False
        return (url.scheme == "https" or not self.secure) and _path_matches(url.target.partition("?")[0], self.path)


class CookieJar:
    """The cookies of one run."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], _Cookie] = {}  # domain, path, name; in order of being made

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, url: Url, set_cookie: str, now: float) -> None:
        """Keep what a Set-Cookie header says, unless it may not be kept.

        Args:
            url: what answered.
            set_cookie: the header's value.
            now: Unix time.
        """
        cookie = _parsed(url, set_cookie, now)
        if cookie is None:
            return
        key = (cookie.domain, cookie.path, cookie.name)
        if cookie.expires is not None and cookie.expires <= now:
            self._kept.pop(key, None)
            return
        if key not in self._kept:
            of_domain = sum(domain == cookie.domain for domain, _, _ in self._kept)
            if of_domain >= HOST_LIMIT or len(self._kept) >= TOTAL_LIMIT:
                return
        self._kept[key] = cookie

    def header(self, url: Url, now: float) -> str:
        """Return the Cookie header for an address, longer paths first; empty when there is none."""
        found = [cookie for cookie in self._kept.values() if cookie.goes_to(url, now)]
        found.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{c.name}={c.value}" if c.name else c.value for c in found)

    def value(self, name: str, url: Url, now: float) -> str | None:
        """Return the value that a cookie of a name has for an address, None when none is sent there."""
        return next((c.value for c in self._kept.values() if c.name == name and c.goes_to(url, now)), None)


def _parsed(url: Url, text: str, now: float) -> _Cookie | None:
    pair, *rest = text.split(";")
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not equals or not name or len(pair) > COOKIE_LIMIT or not pair.isprintable():
        return None
    attributes = dict(_attributes(rest))
    domain = _domain(url.host, attributes.get("domain", ""))
    if domain is None:
        return None
    path = attributes.get("path", "")
    cookie = _Cookie(
        name,
        value,
        domain or url.host,
        not domain,
        path if path.startswith("/") else _default_path(url),
        "secure" in attributes,
        _expiry(attributes, now),
    )
    return cookie if _may_be_kept(cookie, url) else None


def _attributes(parts: list[str]) -> Iterator[tuple[str, str]]:
    for part in parts[:20]:
        name, _, value = part.partition("=")
        yield name.strip().lower(), value.strip()


def _may_be_kept(cookie: _Cookie, url: Url) -> bool:
    if cookie.secure and url.scheme != "https":
        return False
    low = cookie.name.lower()
    if low.startswith("__host-"):
        return cookie.secure and cookie.host_only and cookie.path == "/"
    return cookie.secure or not low.startswith("__secure-")


def _domain(host: str, wanted: str) -> str | None:
    """Return the domain a cookie is for, empty for the host alone; None when the host may not set it."""
    wanted = wanted.lower().removeprefix(".").rstrip(".")
    if not wanted:
        return ""
    if wanted == host and (_is_address(host) or "." not in host):
        return ""
    if _is_address(host) or "." not in wanted or wanted in _PUBLIC:
        return None
    return wanted if host == wanted or host.endswith(f".{wanted}") else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _default_path(url: Url) -> str:
    return url.target.partition("?")[0].rpartition("/")[0] or "/"


def _path_matches(asked: str, path: str) -> bool:
    return asked == path or (asked.startswith(path) and (path.endswith("/") or asked[len(path)] == "/"))


def _expiry(attributes: dict[str, str], now: float) -> float | None:
    age = attributes.get("max-age", "")
    if re.fullmatch(r"-?[0-9]+", age):
        return now + min(int(age[:12]), AGE_LIMIT) if not age.startswith("-") else now
    return _date(attributes["expires"]) if "expires" in attributes else None


def _date(text: str) -> float | None:
    """Read a date as RFC 6265 section 5.1.1 does: by its parts, in any order; None when it is none."""
    clock = day = month = year = None
    for token in _DELIMITER.split(text[:200]):
        low = token.lower()
        if clock is None and (match := re.match(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])", token)):
            clock = int(match[1]), int(match[2]), int(match[3])
        elif day is None and (match := re.match(r"([0-9]{1,2})(?![0-9])", token)):
            day = int(match[1])
        elif month is None and low[:3] in _MONTHS:
            month = _MONTHS.index(low[:3]) + 1
        elif year is None and (match := re.match(r"([0-9]{2,4})(?![0-9])", token)):
            year = int(match[1]) + (1900 if 70 <= int(match[1]) <= 99 else 2000 if int(match[1]) <= 69 else 0)
    if clock is None or day is None or month is None or year is None:
        return None
    return _unix(year, month, day, clock)


def _unix(year: int, month: int, day: int, clock: tuple[int, int, int]) -> float | None:
    try:
        return datetime(year, month, day, *clock, tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
