"""Cookies by RFC 6265: who may set what, what is sent where, and until when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.cookie_jar import HOST_LIMIT, TOTAL_LIMIT, CookieJar
from probes.http_url import parse_url

NOW = 1_800_000_000.0
HERE = "https://mail.langson.gov.vn/a/b?q"


def sent(set_cookie: str, to: str, *, by: str = HERE, after_s: float = 0) -> str:
    jar = CookieJar()
    jar.take(parse_url(by), set_cookie, NOW)
    return jar.header(parse_url(to), NOW + after_s)


@pytest.mark.parametrize(
    ("set_cookie", "to", "header"),
    [
        ("k=v", "https://mail.langson.gov.vn/a/c", "k=v"),
        ("k=v", "https://mail.langson.gov.vn/c", ""),  # the path's default is the folder
        ("k=v; Path=/", "https://mail.langson.gov.vn/c", "k=v"),
        ("k=v; Path=/a", "https://mail.langson.gov.vn/ab", ""),
        ("k=v; Path=/", "https://x.mail.langson.gov.vn/", ""),  # for the host alone
        ("k=v; Path=/; Domain=langson.gov.vn", "https://web.langson.gov.vn/", "k=v"),
        ("k=v; Path=/; Domain=.LangSon.gov.vn", "https://langson.gov.vn/", "k=v"),
        ("k=v; Path=/; Domain=langson.gov.vn", "https://evillangson.gov.vn/", ""),
        ("k=v; Path=/; Domain=gov.vn", "https://mail.langson.gov.vn/", ""),
        ("k=v; Path=/; Domain=vn", "https://mail.langson.gov.vn/", ""),
        ("k=v; Path=/; Domain=example.vn", "https://example.vn/", ""),
        ("k=v; Path=/; Secure", "http://mail.langson.gov.vn/", ""),
        ("k=v; Path=/", "http://mail.langson.gov.vn/", "k=v"),
        ("__Host-k=v; Path=/; Secure", "https://mail.langson.gov.vn/", "__Host-k=v"),
        ("__Host-k=v; Path=/", "https://mail.langson.gov.vn/", ""),
        ("__Host-k=v; Path=/; Secure; Domain=langson.gov.vn", "https://mail.langson.gov.vn/", ""),
        ("__Secure-k=v; Path=/", "https://mail.langson.gov.vn/", ""),
        ("k", "https://mail.langson.gov.vn/a/", ""),
        ("=v", "https://mail.langson.gov.vn/a/", ""),
        ("k=a\x01", "https://mail.langson.gov.vn/a/", ""),
        ("k=" + "v" * 5000, "https://mail.langson.gov.vn/a/", ""),
    ],
)
def test_a_cookie_goes_where_it_may(set_cookie: str, to: str, header: str) -> None:
    assert sent(set_cookie, to) == header


def test_plain_http_may_set_no_secure_cookie_and_an_address_no_domain() -> None:
    assert sent("k=v; Secure", "https://a.vn/", by="http://a.vn/") == ""
    assert sent("k=v; Domain=0.0.1", "http://127.0.0.1/", by="http://127.0.0.1/") == ""
    assert sent("k=v; Domain=127.0.0.1", "http://127.0.0.1/", by="http://127.0.0.1/") == "k=v"


@pytest.mark.parametrize(
    ("attributes", "after_s", "kept"),
    [
        ("Max-Age=10", 9, True), ("Max-Age=10", 11, False), ("Max-Age=0", 0, False), ("Max-Age=-1", 0, False),
        ("Max-Age=x", 1e9, True), ("Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 1, True),
        ("Expires=Thu, 01-Jan-1970 00:00:01 GMT", 0, False), ("Expires=Fri, 15 Jan 2027 08:00:10 GMT", 9, True),
        ("Expires=Fri, 15 Jan 2027 08:00:10 GMT", 11, False), ("Expires=15 jan 27 8:0:10", 11, False),
        ("Expires=Tết", 1e9, True), ("Expires=Fri, 32 Jan 2027 08:00:10 GMT", 1e9, True),
    ],
)  # fmt: skip
def test_a_cookie_lives_as_long_as_it_says(attributes: str, after_s: float, kept: bool) -> None:
    assert sent(f"k=v; Path=/; {attributes}", HERE, after_s=after_s) == ("k=v" if kept else "")


def test_a_cookie_is_replaced_and_taken_away_by_its_like() -> None:
    jar, url = CookieJar(), parse_url("https://a.vn/x/y")
    for text in ("k=1; Path=/", "l=2; Path=/x", "k=3; Path=/"):
        jar.take(url, text, NOW)
    assert jar.header(url, NOW) == "l=2; k=3"
    assert jar.value("k", url, NOW) == "3"
    jar.take(url, "k=; Path=/; Max-Age=0", NOW)
    assert jar.header(url, NOW) == "l=2"


def test_a_jar_is_bounded() -> None:
    jar = CookieJar()
    for host in range(20):
        for number in range(2 * HOST_LIMIT):
            jar.take(parse_url(f"https://h{host}.vn/"), f"k{number}=v", NOW)
    assert len(jar) == TOTAL_LIMIT
    assert jar.header(parse_url("https://h0.vn/"), NOW).count("=") == HOST_LIMIT


@given(st.text(max_size=200))
def test_any_header_is_taken_or_left(text: str) -> None:
    jar = CookieJar()
    jar.take(parse_url(HERE), text, NOW)
    jar.take(parse_url(HERE), f"k=v; expires={text}; path={text}; domain={text}; max-age={text}", NOW)
    assert jar.header(parse_url(HERE), NOW).isprintable()
