"""Parsers of the web: HTTP/1.1, HTTP/2, WebSocket, bodies, addresses, cookies, markup, gRPC."""

from __future__ import annotations

import gzip
import math
import zlib
from typing import Final

from probes.base import ProbeError
from probes.cookie_jar import COOKIE_LIMIT, CookieJar
from probes.grpc import serving
from probes.hpack import LIST_LIMIT
from probes.http2 import Exchange
from probes.http_body import Page, decoded, unpacked
from probes.http_rules import parse_json_path
from probes.http_url import Url, parse_url
from probes.http_wire import HEADER_LIMIT, Cookies, Response, ResponseParser
from probes.page_watch import Lens, compare, snapshot
from probes.web_forms import find_form
from probes.web_markup import parse_selector, read_markup
from probes.websocket_wire import MESSAGE_LIMIT, Reader
from tests.fuzz.target import Target, pieces

_BASE: Final = Url("https", "langson.gov.vn", 443, "/tin-tuc/index.html")
_BODY_LIMIT: Final = 1000
_UNPACKED_LIMIT: Final = 100_000
_LENS: Final = Lens((parse_selector("div.ngay"),), (r"\d+ lượt xem",))
_BEFORE: Final = snapshot("<p>Chào<a href=/x>đi</a><script src=//a.vn/b.js></script>", _BASE, _LENS)


def _http(data: bytes) -> None:
    parser = ResponseParser("GET", _BODY_LIMIT)
    for piece in pieces(data):
        parser.feed(piece)
    parser.closed()
    response = parser.response
    assert len(response.body) <= _BODY_LIMIT
    assert response.header_bytes <= HEADER_LIMIT + 200
    assert response.last_modified is None or math.isfinite(response.last_modified)
    cookies = Cookies()
    cookies.take(_BASE, response)
    cookies.header(_BASE)


def _http_body(data: bytes) -> None:
    codings = ("gzip", "deflate", "x-gzip, deflate", "br", "identity")
    choice = data[0] if data else 0
    response = Response(200, headers=[("content-encoding", codings[choice % len(codings)])])
    response.body, response.truncated = bytearray(data[1:]), choice > 127
    body, _ = unpacked(response, _UNPACKED_LIMIT)
    assert len(body) <= _UNPACKED_LIMIT


def _http_text(data: bytes) -> None:
    kind, _, body = data.partition(b"\n")
    page = Page(decoded(body, kind.decode("latin-1")))
    assert page.title.isprintable()
    page.holds("Lạng Sơn")


def _url(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        _sendable(_BASE.join(text))
    except ValueError:
        _sendable(parse_url(text))
        raise


def _sendable(url: Url) -> None:
    line = f"{url.target} {url.authority}"
    assert line.isascii()
    assert line.isprintable()
    assert url.shown


def _json_path(data: bytes) -> None:
    parse_json_path(data.decode("utf-8", "replace"))


def _cookie(data: bytes) -> None:
    jar = CookieJar()
    for number, line in enumerate(data.split(b"\n")[:20]):
        jar.take(_BASE, line.decode("latin-1"), float(number))
    sent = jar.header(_BASE, 10.0)
    assert "\r" not in sent
    assert "\n" not in sent
    assert len(sent) <= 20 * (COOKIE_LIMIT + 2)


def _markup(data: bytes) -> None:
    markup = read_markup(data.decode("utf-8", "replace"))
    list(markup.text_of("a"))
    markup.below(frozenset(markup.elements[:1]))
    try:
        find_form(markup, selector=None, form_id="", name="", action="").filled({"user": "x"})
    except ProbeError:
        return


def _selector(data: bytes) -> None:
    parse_selector(data.decode("utf-8", "replace"))


def _page_watch(data: bytes) -> None:
    now = snapshot(data.decode("utf-8", "replace"), _BASE, _LENS)
    assert len(now.sha256) == 64
    assert 0 <= compare(_BEFORE, now, ("*.gov.vn",)).ratio <= 1


def _websocket(data: bytes) -> None:
    reader = Reader()
    for piece in pieces(data):
        reader.feed(piece)
    assert all(len(message) <= MESSAGE_LIMIT for message in reader.messages)
    assert reader.closed.isprintable()


def _grpc(data: bytes) -> None:
    serving(data)


def _http2(data: bytes) -> None:
    body = bytearray()
    exchange = Exchange(body.extend)
    exchange.request([(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")], b"x" * 100)
    for piece in pieces(data):
        exchange.feed(piece)
    exchange.closed()
    assert 200 <= exchange.status <= 999
    assert len(body) <= len(data)
    assert sum(len(name) + len(value) for name, value in exchange.headers + exchange.trailers) <= 2 * LIST_LIMIT


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


_HTTP: Final = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: a=b; Path=/; Secure\r\n"
    b"Last-Modified: Tue, 17 Feb 2026 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nXin c\r\n3\r\nhao\r\n0\r\n\r\n"
)
_PAGE: Final = """<!DOCTYPE html><html><head><title>Sở &amp; ban</title><base href="/x/"><meta http-equiv=refresh
content="5;url=//b.vn/"><!-- x --></head><body><div class=ngay>17/02</div><ul><li>một<li>hai</ul>
<a href='../y?z=1#k'>đi</a>
<form id=f action=/vao method=post><input name=user><input type=password name=p><select name=s><option selected value=1>
</select><textarea name=t>\nchữ</textarea><button name=b>Vào</button></form><script>var u="https://c.vn/d.js";</script>"""
_GREETING: Final = _frame(4, 0, 0, b"\0\3\0\0\0\x64") + _frame(8, 0, 0, b"\0\1\0\0") + _frame(4, 1, 0)
_STATUS: Final = b"\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64"  # 200, application/grpc, in Huffman's code
_TRAILERS: Final = b"\x40\x0bgrpc-status\x010"
_FRAMES: Final = b"\x81\x05xin c\x01\x02ab\x89\x01p\x80\x01c\x88\x05\x03\xe8bye\x00"

TARGETS: Final = (
    Target(
        "http",
        _http,
        (
            _HTTP + b"\x07",
            b"HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.0 301 Moved\r\nLocation: /\r\nContent-Length: 2\r\n\r\nab\x00",
            b"HTTP/1.1 200\r\nLast-Modified: Mon, 99 Xyz 20260 25:61:00 +9999\r\n\r\n\x00",
        ),
    ),
    Target(
        "http_body",
        _http_body,
        (b"\0" + gzip.compress(b"xin chao" * 20, mtime=0), b"\1" + zlib.compress(bytes(500)), b"\4abc"),
    ),
    Target(
        "http_text",
        _http_text,
        (b"text/html; charset=windows-1258\n<title>L\xf2 x</title>", b"\n" + _PAGE.encode(), b"\n\xff\xfea\0"),
        (),
    ),
    Target(
        "url",
        _url,
        ("https://cổng.langson.gov.vn:8443/đường?x=%20#y".encode(), b"//[::1]:80/a", b"../b"),
        (ValueError,),
    ),
    Target("json_path", _json_path, (b'$.a[0]["b c"].d', b"$[-1]"), (ValueError,)),
    Target(
        "cookie",
        _cookie,
        (
            b"a=b; Path=/; Domain=langson.gov.vn; Max-Age=60; Expires=Tue, 17 Feb 2026 00:00:00 GMT; Secure",
            b"__Host-x=1; Path=/",
        ),
        (),
    ),
    Target("markup", _markup, (_PAGE.encode(), b"<p><a b=c d='e' f=\"g\"/><script>if(a<b)</script></p>"), longest=8192),
    Target("selector", _selector, (b'div#tin .ngay input[name="csrf"]', b"*[href^=x]"), (ValueError,)),
    Target("page_watch", _page_watch, (_PAGE.encode(), b"<a href=data:x>y</a><img src=//h.vn/z alt=t>"), longest=8192),
    Target("websocket", _websocket, (_FRAMES, b"\x82\x7e\x01\x00" + bytes(256) + b"\x05")),
    Target(
        "http2",
        _http2,
        (
            _GREETING + _frame(1, 4, 1, _STATUS) + _frame(0, 0, 1, b"abc") + _frame(1, 5, 1, _TRAILERS) + b"\x0b",
            _GREETING
            + _frame(6, 0, 0, b"12345678")
            + _frame(1, 0, 1, _STATUS[:4])
            + _frame(9, 4, 1, _STATUS[4:])
            + _frame(0, 9, 1, b"\2ab\0\0")
            + b"\0",
            _GREETING + _frame(7, 0, 0, bytes(7) + b"\x0b") + b"\0",
            _GREETING + _frame(3, 0, 1, b"\0\0\0\7") + b"\0",
        ),
    ),
    Target("grpc", _grpc, (b"\0\0\0\0\2\x08\x01", b"\0\0\0\0\6\x12\x02ab\x08\x02")),
)
