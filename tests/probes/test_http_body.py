"""Bodies: compressed, in old encodings, composed either way, and bombs."""

from __future__ import annotations

import gzip
import unicodedata
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import Fault, ProbeError
from probes.http_body import Page, decoded, unpacked
from probes.http_wire import Response

TEXT = "Đăng nhập hệ thống thư điện tử công vụ".encode()


def response(body: bytes, coding: str = "", *, truncated: bool = False) -> Response:
    headers = [("content-encoding", coding)] if coding else []
    return Response(200, "1.1", "OK", headers, bytearray(body), truncated)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("deflate, gzip", gzip.compress(zlib.compress(TEXT))),
        ("deflate", zlib.compress(TEXT) + b"padding"),
    ],
)
def test_a_body_is_unpacked(coding: str, body: bytes) -> None:
    assert unpacked(response(body, coding), 1000) == (TEXT, False)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000), 9)

    assert unpacked(response(bomb, "gzip"), 1000) == (bytes(1000), True)


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    assert unpacked(response(gzip.compress(bytes(1000)), "gzip"), 1000) == (bytes(1000), False)


def test_a_cut_body_is_unpacked_as_far_as_it_came() -> None:
    packed = gzip.compress(bytes(range(256)) * 40)

    body, more = unpacked(response(packed[: len(packed) // 2], "gzip", truncated=True), 10_000)

    assert more
    assert (bytes(range(256)) * 40).startswith(body)


@pytest.mark.parametrize(
    ("coding", "body", "fault", "says"),
    [
        ("gzip", b"<html>not packed", Fault.PROTOCOL, "not compressed as its headers say"),
        ("gzip", gzip.compress(TEXT)[:-12], Fault.PROTOCOL, "ends too early"),
        ("br", TEXT, Fault.CONTENT, "encoded as 'br'"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_told_so(coding: str, body: bytes, fault: Fault, says: str) -> None:
    with pytest.raises(ProbeError, match=says) as caught:
        unpacked(response(body, coding), 1000)

    assert caught.value.fault is fault


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "deflate, gzip"]), st.booleans())
def test_random_bytes_are_unpacked_or_refused(body: bytes, coding: str, truncated: bool) -> None:
    try:
        data, _ = unpacked(response(body, coding, truncated=truncated), 100)
    except ProbeError:
        return

    assert len(data) <= 100


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (TEXT, "text/html; charset=utf-8"),
        (TEXT, 'text/html; charset="UTF-8"'),
        (TEXT, ""),
        (TEXT, "text/html; charset=rot13"),
        (TEXT, "text/html; charset=x-no-such"),
        (b"\xef\xbb\xbf" + TEXT, "text/html; charset=windows-1252"),
        (TEXT.decode().encode("utf-16"), ""),
        (TEXT.decode().encode("utf-16-be"), "text/html; charset=utf-16be"),
        (b'<meta charset="utf-8">' + TEXT, "text/html"),
    ],
)
def test_text_is_decoded_by_mark_header_or_meta_element(body: bytes, content_type: str) -> None:
    assert TEXT.decode() in decoded(body, content_type)


def test_old_vietnamese_pages_are_read() -> None:
    old = "Trang tin điện tử".encode("cp1258", "replace")
    meta = b'<meta http-equiv="Content-Type" content="text/html; charset=windows-1258">'

    assert "Trang tin đi" in decoded(meta + old, "text/html")


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_bytes_are_decoded_somehow(body: bytes, content_type: str) -> None:
    page = Page(decoded(body, content_type))

    assert isinstance(page.title, str)
    assert not page.holds("a text that is not there")


@pytest.mark.parametrize(
    "written",
    [
        "<h1>Đăng nhập</h1>",
        unicodedata.normalize("NFD", "<h1>Đăng nhập</h1>"),
        "<h1>&#272;&#259;ng nh&#7853;p</h1>",
        "<h1>Đăng\n      nhập</h1>",
        "<h1>Đăng&nbsp;nhập</h1>",
    ],
)
def test_a_text_is_found_however_it_is_written(written: str) -> None:
    assert Page(written).holds("Đăng nhập")
    assert Page(written).holds(unicodedata.normalize("NFD", "Đăng nhập"))
    assert not Page(written).holds("Đăng xuất")


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("<title>Cổng thông tin</title>", "Cổng thông tin"),
        ('<TITLE lang="vi">\n Bảo trì &amp; nâng cấp\n</TITLE>', "Bảo trì & nâng cấp"),
        ("<title>never closed", ""),
        ("no title", ""),
        ("<title", ""),
    ],
)
def test_a_title_is_read(written: str, title: str) -> None:
    assert Page(written).title == title
