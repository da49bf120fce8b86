"""Addresses: read strictly from a configuration, joined as browsers do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.http_url import Url, parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://example.vn", Url("http", "example.vn", 80, "/")),
        ("HTTPS://Example.VN:443/a?b=c#d", Url("https", "example.vn", 443, "/a?b=c")),
        ("http://192.0.2.7:8080/", Url("http", "192.0.2.7", 8080, "/")),
        ("https://[2001:db8::1]:8443/x", Url("https", "2001:db8::1", 8443, "/x")),
        ("http://[fe80::1%25eth0]/", Url("http", "fe80::1%eth0", 80, "/")),
        ("https://thôngsuốt.vn/", Url("https", "xn--thngsut-u0a3299d.vn", 443, "/")),
        ("http://a.vn/Đăng/nhập?q=Tết", Url("http", "a.vn", 80, "/%C4%90%C4%83ng/nh%E1%BA%ADp?q=T%E1%BA%BFt")),
        ("http://a.vn/%41?x=%2F", Url("http", "a.vn", 80, "/%41?x=%2F")),
        ("http://a.vn?q", Url("http", "a.vn", 80, "/?q")),
        ("http://may_chu.noi-bo/", Url("http", "may_chu.noi-bo", 80, "/")),
    ],
)
def test_an_address_is_read(text: str, url: Url) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://a.vn/", "begins with http:// or https://"),
        ("a.vn", "begins with http:// or https://"),
        ("http://", "not a host name"),
        ("http:///x", "not a host name"),
        ("http://a..vn/", "not a host name"),
        ("http://-a.vn/", "not a host name"),
        ("http://a.vn:0/", "port 0"),
        ("http://a.vn:70000/", "[Pp]ort"),
        ("http://a.vn:x/", "[Pp]ort"),
        ("http://u:p@a.vn/", "no login in a URL"),
        ("http://a.vn/ b", "no blanks"),
        ("http://a.vn/\r\nX: y", "no blanks"),
        ("http://[::1/", "Invalid IPv6"),
        ("http://[::g]/", "IPv6|address"),
        ("http://a.vn/" + "x" * 8000, "at most 8000"),
    ],
)
def test_what_is_no_address_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url(text)


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/login", "https://a.vn/login"),
        ("next", "https://a.vn/x/next"),
        ("?p=2", "https://a.vn/x/y?p=2"),
        ("//b.vn/z", "https://b.vn/z"),
        ("http://b.vn:8080", "http://b.vn:8080/"),
        ("https://u:p@b.vn/", "https://b.vn/"),
        ("/Tết", "https://a.vn/T%E1%BA%BFt"),
        ("/a\r\nSet-Cookie: x", "https://a.vn/aSet-Cookie:x"),
        ("", "https://a.vn/x/y?q=1"),
    ],
)
def test_a_location_is_joined(location: str, leads_to: str) -> None:
    assert str(parse_url("https://a.vn/x/y?q=1").join(location)) == leads_to


@pytest.mark.parametrize("location", ["ftp://a.vn/", "javascript:alert(1)", "http://[", "http://%00/", "mailto:a@b.vn"])
def test_a_location_that_leads_nowhere_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url("https://a.vn/").join(location)


@given(st.text(max_size=80))
def test_any_location_leads_to_something_sendable_or_is_refused(location: str) -> None:
    try:
        url = parse_url("https://a.vn/").join(location)
    except ValueError:
        return
    line = f"GET {url.target} HTTP/1.1"

    assert line.isascii()
    assert len(line.split()) == 3
    assert url.authority.isascii()
    assert str(url).startswith(("http://", "https://"))


@pytest.mark.parametrize(
    ("here", "there", "trusted"),
    [
        ("https://a.vn/x", "https://a.vn/y", True),
        ("http://a.vn/", "https://a.vn/", True),
        ("https://a.vn/", "http://a.vn/", False),
        ("https://a.vn/", "https://www.a.vn/", False),
        ("https://a.vn/", "https://a.vn:8443/", False),
        ("http://a.vn:8080/", "https://a.vn/", False),
    ],
)
def test_only_the_same_origin_or_its_https_is_trusted(here: str, there: str, trusted: bool) -> None:
    assert parse_url(here).trusts(parse_url(there)) is trusted


def test_a_query_is_not_shown() -> None:
    assert parse_url("https://a.vn:8443/x?session=abc").shown == "https://a.vn:8443/x?…"
