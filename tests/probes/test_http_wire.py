"""HTTP/1.1 as bytes: what servers send, whole, in pieces, broken and without end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import Fault, ProbeError
from probes.http_url import parse_url
from probes.http_wire import (
    COOKIES_KEPT,
    HEADER_LIMIT,
    Cookies,
    Response,
    ResponseParser,
    basic_login,
    encode_request,
)

A = parse_url("https://a.vn/x")


def read(*pieces: bytes, method: str = "GET", limit: int = 1000, closed: bool = True) -> Response:
    parser = ResponseParser(method, limit)
    for piece in pieces:
        parser.feed(piece)
    if closed:
        parser.closed()
    assert parser.done
    return parser.response


def fault(*pieces: bytes, method: str = "GET", limit: int = 1000) -> tuple[Fault, str]:
    with pytest.raises(ProbeError) as caught:
        read(*pieces, method=method, limit=limit)
    return caught.value.fault, caught.value.detail


def test_a_request_is_written_in_full() -> None:
    sent = encode_request("POST", A, {"Accept": "*/*", "X-A": "Tết"}, "đủ".encode())

    assert sent.decode() == (
        "POST /x HTTP/1.1\r\nHost: a.vn\r\nAccept: */*\r\nX-A: Tết\r\nContent-Length: 5\r\nConnection: close\r\n\r\nđủ"
    )


def test_the_host_header_may_be_replaced_and_names_odd_ports_and_ipv6() -> None:
    assert b"\r\nHost: b.vn\r\n" in encode_request("GET", A, {"host": "b.vn"}, None)
    assert b"\r\nHost: [::1]:8443\r\n" in encode_request("GET", parse_url("https://[::1]:8443/"), {}, None)
    assert encode_request("GET", A, {"host": "b.vn"}, None).lower().count(b"host:") == 1


def test_a_basic_login_is_utf_8() -> None:
    assert basic_login("trực", "mật khẩu") == "Basic dHLhu7FjOm3huq10IGto4bqpdQ=="


def test_an_answer_with_a_length() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\nx: b\r\n\r\nhello", closed=False)

    assert (response.status, response.version, bytes(response.body)) == (200, "1.1", b"hello")
    assert response.header("X") == "a, b"
    assert response.header("y") is None
    assert response.header_bytes == len("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\nx: b\r\n\r\n")


def test_a_body_without_length_lasts_until_the_end() -> None:
    assert read(b"HTTP/1.0 200 OK\r\n\r\nall", b" of it").body == b"all of it"


def test_a_chunked_body_with_extensions_and_trailers() -> None:
    response = read(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n3\r\npe!\r\n0\r\nTrail: er\r\n\r\n",
        closed=False,
    )

    assert response.body == b"wikipe!"
    assert response.header("trail") is None


def test_interim_answers_are_passed_over() -> None:
    response = read(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        closed=False,
    )

    assert response.status == 404
    assert response.header("link") is None


def test_a_change_of_protocol_is_an_answer() -> None:
    upgrade = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x05hello"

    assert read(upgrade, closed=False).status == 101


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body(status: int) -> None:
    assert read(f"HTTP/1.1 {status} X\r\nContent-Length: 99\r\n\r\n".encode(), closed=False).body == b""


def test_an_answer_to_head_has_no_body() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nnot read", method="HEAD", closed=False)

    assert (response.status, bytes(response.body)) == (200, b"")


def test_what_follows_a_complete_answer_is_not_looked_at() -> None:
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\0\1 garbage", closed=False).body == b"hi"


def test_bare_line_feeds_are_let_pass() -> None:
    assert read(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", closed=False).body == b"hi"


def test_a_body_is_cut_at_the_limit() -> None:
    for head in (b"Content-Length: 10737418240", b"X: y"):
        response = read(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", *[b"a" * 300] * 4, closed=False)

        assert response.truncated
        assert response.body == b"a" * 1000


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"a" * 1000, closed=False)

    assert not response.truncated


@pytest.mark.parametrize(
    ("sent", "kind", "says"),
    [
        (b"", Fault.REFUSED, "the server closed the connection without an answer"),
        (b"HTTP/1.1 200", Fault.PROTOCOL, "in the middle of the headers"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", Fault.PROTOCOL, "in the middle of the headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Fault.PROTOCOL, "after 3 of 9 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Fault.PROTOCOL,
            "before the last chunk, after 3 bytes",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Fault.PROTOCOL, "it begins with 'SSH-2.0-OpenSSH_9.2'"),
        (b"220 mail\r\n", Fault.PROTOCOL, "it begins with '220 mail'"),
        (b"<html>", Fault.PROTOCOL, "it begins with '<html>'"),
        (b"\x15\x03\x01\x00\x02\x02\x16", Fault.PROTOCOL, "the answer is not HTTP"),
        (b"RTSP/1.0 200 OK\r\n\r\n", Fault.PROTOCOL, "it begins with 'RTSP/1.0 200 OK'"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", Fault.PROTOCOL, "the answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Fault.PROTOCOL, "the answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Fault.PROTOCOL, "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Fault.PROTOCOL, "not valid HTTP"),
    ],
)
def test_broken_answers_are_named(sent: bytes, kind: Fault, says: str) -> None:
    came = fault(sent)

    assert came[0] is kind
    assert says in came[1]


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 103 Hints\r\n\r\n" * 5_000,
        b"HTTP/1.1 200 " + b"a" * 70_000,
    ],
)
def test_endless_headers_are_bounded(sent: bytes) -> None:
    assert fault(sent) == (Fault.PROTOCOL, f"the headers are longer than {HEADER_LIMIT} bytes")


def test_endless_trailers_are_bounded() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"

    assert fault(start, *[b"X: y\r\n" * 5_000] * 40)[0] is Fault.PROTOCOL


ANSWERS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n3\r\npe!\r\n0\r\nT: t\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nuntil the end",
        b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n",
    ]
)


@given(ANSWERS, st.lists(st.integers(0, 120), max_size=8))
def test_it_does_not_matter_in_which_pieces_an_answer_comes(sent: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(c for c in cuts if c < len(sent)), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(places) if a < b]

    assert read(*pieces) == read(sent)


def outcome(pieces: list[bytes]) -> Fault | None:
    parser = ResponseParser("GET", 100)
    try:
        for piece in pieces:
            parser.feed(piece)
        parser.closed()
    except ProbeError as exc:
        return exc.fault
    assert parser.done
    assert len(parser.response.body) <= 100
    return None


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_random_bytes_give_an_answer_or_a_named_fault(pieces: list[bytes]) -> None:
    assert outcome(pieces) in (None, Fault.PROTOCOL, Fault.REFUSED)


@given(ANSWERS, st.integers(0, 200), st.binary(max_size=20))
def test_an_answer_with_random_bytes_inside_gives_an_answer_or_a_named_fault(sent: bytes, at: int, more: bytes) -> None:
    assert outcome([sent[:at] + more + sent[at:]]) in (None, Fault.PROTOCOL, Fault.REFUSED)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("Sat, 06 Feb 2027 00:00:00 GMT", 1801872000.0),
        ("Sat, 06 Feb 2027 07:00:00 +0700", 1801872000.0),
        ("yesterday", None),
        ("Sat, 06 Feb 99999 00:00:00 GMT", None),
    ],
)
def test_the_date_of_a_page_is_read_if_it_is_one(value: str, moment: float | None) -> None:
    assert Response(headers=[("last-modified", value)]).last_modified == moment
    assert Response().last_modified is None


def setting(*cookies: str) -> Response:
    return Response(headers=[("set-cookie", c) for c in cookies])


def test_cookies_go_back_to_the_host_that_set_them() -> None:
    jar = Cookies()
    jar.take(A, setting("id=7; Path=/; HttpOnly", "lang=vi"))

    assert jar.header(A) == "id=7; lang=vi"
    assert jar.header(parse_url("https://b.vn/")) == ""
    assert jar.header(parse_url("http://a.vn/")) == "id=7; lang=vi"


def test_secure_cookies_stay_inside_tls_and_dead_ones_go() -> None:
    jar = Cookies()
    jar.take(A, setting("id=7; Secure", "old=1"))
    jar.take(A, setting("old=; Max-Age=0"))

    assert jar.header(A) == "id=7"
    assert jar.header(parse_url("http://a.vn/")) == ""


def test_cookies_are_bounded_and_cannot_break_a_header() -> None:
    jar = Cookies()
    jar.take(A, setting(*(f"c{i}=v" for i in range(500)), "big=" + "x" * 5000, "bad=a\x01b", "noequals", "=v"))

    assert jar.header(A).count("=") == COOKIES_KEPT
    assert "bad" not in jar.header(A)
