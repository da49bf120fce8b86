"""The message of `mailflow`: what it says of itself, and what passes for it."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes.mailflow_message import MARKER, Mark, build, dotted, new_token, parse_fetch, parse_mark, parse_search

TOKEN = "0123456789abcdef0123456789abcdef"
NOW = datetime(2027, 2, 5, 17, 0, 5, tzinfo=UTC)


def message(**changes: str) -> bytes:
    keys = {"sender": "giam-sat@tinh.example.vn", "recipient": "truc@tinh.example.vn", "check": "mail.thu", **changes}
    return build(TOKEN, keys["sender"], keys["recipient"], keys["check"], NOW)


def test_the_message_says_in_vietnamese_what_it_is_and_asks_for_no_answer() -> None:
    read = email.message_from_bytes(message(), policy=email.policy.default)
    assert str(read["From"]) == "Giám sát Thông Suốt <giam-sat@tinh.example.vn>"
    assert read["To"] == "truc@tinh.example.vn"
    assert read["Subject"] == f"Thư thử tự động, không cần trả lời [{TOKEN}]"
    assert read["Message-ID"] == f"<{TOKEN}@tinh.example.vn>"
    assert read["Auto-Submitted"] == "auto-generated"
    assert read["Precedence"] == "bulk"
    assert read["Date"].datetime == NOW
    text = read.get_content()
    assert "thư thử tự động của hệ thống giám sát Thông Suốt" in text
    assert "Không cần trả lời" in text
    assert "Phép kiểm tra: mail.thu" in text
    assert NOW.astimezone().strftime("%d/%m/%Y %H:%M:%S") in text


def test_on_the_wire_it_is_ascii_in_short_lines_ended_by_crlf() -> None:
    raw = message(sender=f"{'a' * 60}@{'b' * 60}.example.vn")
    assert raw.isascii()
    assert raw.endswith(b"\r\n")
    assert all(line.count(b"\n") == 0 and len(line) <= 998 for line in raw.split(b"\r\n"))
    assert f"Message-ID: <{TOKEN}@".encode() in raw


def test_tokens_differ_and_cannot_be_guessed() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}


def test_what_is_built_is_known_again() -> None:
    header = message().split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert parse_mark(header) == Mark(TOKEN, NOW)


@pytest.mark.parametrize(
    ("header", "mark"),
    [
        (f"{MARKER}: {TOKEN} 10\r\n\r\n", Mark(TOKEN, datetime.fromtimestamp(10, UTC))),
        (f"{MARKER.lower()}:\r\n {TOKEN}\r\n\t10\r\n\r\n", Mark(TOKEN, datetime.fromtimestamp(10, UTC))),
        (f"Message-ID: <{TOKEN}@example.vn>\r\n\r\n", Mark(TOKEN, None)),  # a gateway took our own header away
        (f"message-id: <{TOKEN}@example.vn>\n\n", Mark(TOKEN, None)),
        (f"Subject: Re: [{TOKEN}]\r\nIn-Reply-To: <{TOKEN}@example.vn>\r\n\r\n", None),  # an answer to it
        (f"X-{MARKER}: {TOKEN} 10\r\n\r\n", None),
        (f"{MARKER}: {TOKEN}\r\n\r\n", None),
        (f"{MARKER}: {TOKEN[:-1]} 10\r\n\r\n", None),
        (f"{MARKER}: {TOKEN} 99999999999\r\n\r\n", Mark(TOKEN, datetime.fromtimestamp(99999999999, UTC))),
        ("\r\n", None),
        ("", None),
    ],
)
def test_a_header_is_ours_only_in_our_own_form(header: str, mark: Mark | None) -> None:
    assert parse_mark(header.encode()) == mark


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        (b"(UID 7 BODY[HEADER.FIELDS (A B)]<0> {3}\r\nabc)", (7, b"abc")),
        (b"(FLAGS (\\Seen) BODY[HEADER.FIELDS (A)] {3}\r\nabc UID 7)", (7, b"abc")),
        (b'(UID 7 BODY[HEADER.FIELDS ("A" "B")]<0> {3}\r\nabc)', (7, b"abc")),
        (b'(UID 7 BODY[HEADER.FIELDS (A)] "a\\"c")', (7, b'a"c')),
        (b"(uid 7 body[header.fields (A)] {0}\r\n)", (7, b"")),
        (b"(BODY[HEADER.FIELDS (A)] {14}\r\n(UID 9 )UID 9 )", None),  # a stranger's header claims a UID
        (b"(UID 7 FLAGS (\\Deleted))", None),
        (b"(UID 0 BODY[X] {0}\r\n)", None),
        (b"(UID 99999999999 BODY[X] {0}\r\n)", None),
        (b"", None),
    ],
)
def test_a_fetch_gives_its_uid_and_what_was_asked_for(rest: bytes, found: tuple[int, bytes] | None) -> None:
    assert parse_fetch(rest) == found


def test_a_search_gives_its_numbers_and_leaves_out_what_is_none() -> None:
    assert parse_search(b"1 22 x -3 0 4294967296 4294967295 (MODSEQ 9)") == (1, 22, 4294967295)
    assert parse_search(b"") == ()


@given(st.binary(max_size=300))
@example(b"(UID 7 BODY[X] {9999999999}\r\n")
def test_whatever_comes_is_read_or_left_out(data: bytes) -> None:
    found = parse_fetch(data)
    assert found is None or found[0] > 0
    mark = parse_mark(data)
    assert mark is None or len(mark.token) == 32
    assert all(number > 0 for number in parse_search(data))


@given(st.binary(max_size=200))
def test_a_line_that_begins_with_a_dot_cannot_end_the_message(data: bytes) -> None:
    lines = dotted(data + b"\r\n").split(b"\r\n")
    assert lines[-1] == b"."
    assert b"." not in lines[:-1]
