from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import Fault, ProbeError
from probes.hpack import encode
from probes.http2 import CONTROL_LIMIT, FRAME_LIMIT, Exchange, Frame, frame

SETTINGS = frame(Frame.SETTINGS, 0, 0)
OK = encode([(":status", "200"), ("Server", "x")])
ASKED = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]


def exchange(body: bytes = b"") -> tuple[Exchange, list[bytes], bytes]:
    parts: list[bytes] = []
    made = Exchange(parts.append)
    return made, parts, made.request(ASKED, body)


def test_a_whole_answer_in_any_pieces() -> None:
    answer = (
        SETTINGS
        + frame(Frame.PING, 0, 0, b"12345678")
        + frame(Frame.HEADERS, 4, 1, encode([(":status", "103"), ("link", "early")]))
        + frame(Frame.HEADERS, 0, 1, OK[:3])
        + frame(Frame.CONTINUATION, 4, 1, OK[3:])
        + frame(Frame.DATA, 8, 1, b"\x02xin \0\0")
        + frame(Frame.DATA, 0, 1, b"chao")
        + frame(Frame.HEADERS, 5, 1, encode([("grpc-status", "0")]))
    )
    for size in (1, 7, len(answer)):
        made, parts, _ = exchange()
        sent = b"".join(made.feed(answer[i : i + size]) for i in range(0, len(answer), size))
        assert (made.status, made.headers, made.trailers) == (200, [("server", "x")], [("grpc-status", "0")])
        assert (b"".join(parts), made.done) == (b"xin chao", True)
        assert frame(Frame.SETTINGS, 1, 0) in sent
        assert frame(Frame.PING, 1, 0, b"12345678") in sent
        assert frame(Frame.WINDOW_UPDATE, 0, 1, struct.pack("!I", 4)) in sent


def test_a_body_is_sent_as_far_as_the_windows_allow() -> None:
    made, _, first = exchange(b"a" * 100_000)
    assert first.count(b"a" * FRAME_LIMIT) == 3  # and 16,383 more: 65,535 in all
    rest = made.feed(SETTINGS + frame(Frame.WINDOW_UPDATE, 0, 0, struct.pack("!I", 50_000)))
    assert b"aaaa" not in rest
    rest = made.feed(frame(Frame.WINDOW_UPDATE, 0, 1, struct.pack("!I", 50_000)))
    assert rest.count(b"a") == 100_000 - 65_535


def test_a_larger_initial_window_counts_for_what_is_under_way() -> None:
    made, _, _ = exchange(b"a" * 70_000)
    made.feed(frame(Frame.SETTINGS, 0, 0, struct.pack("!HI", 4, 100_000)))
    rest = made.feed(frame(Frame.WINDOW_UPDATE, 0, 0, struct.pack("!I", 10_000)))
    assert rest.count(b"a") == 70_000 - 65_535


@pytest.mark.parametrize(
    ("answer", "fault", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Fault.PROTOCOL, "does not speak HTTP/2"),
        (SETTINGS + b"\xff" * 9, Fault.PROTOCOL, "a frame longer than was allowed"),
        (SETTINGS + frame(Frame.DATA, 1, 1, b"x"), Fault.PROTOCOL, "a body before its headers"),
        (SETTINGS + frame(Frame.HEADERS, 4, 3, OK), Fault.PROTOCOL, "an answer to nothing that was asked"),
        (SETTINGS + frame(Frame.HEADERS, 0, 1, OK) + SETTINGS, Fault.PROTOCOL, "another frame inside a header block"),
        (SETTINGS + frame(Frame.CONTINUATION, 4, 1, OK), Fault.PROTOCOL, "the continuation of nothing"),
        (SETTINGS + frame(Frame.HEADERS, 4, 1, encode([("a", "b")])), Fault.PROTOCOL, "an answer without a status"),
        (SETTINGS + frame(Frame.PUSH_PROMISE, 4, 1), Fault.PROTOCOL, "a push that was forbidden"),
        (frame(Frame.SETTINGS, 0, 0, b"12345"), Fault.PROTOCOL, "settings of a wrong size"),
        (frame(Frame.SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff"), Fault.PROTOCOL, "too large a window"),
        (SETTINGS + frame(Frame.HEADERS, 12, 1, b"\x05"), Fault.PROTOCOL, "more padding than frame"),
        (SETTINGS + frame(Frame.RST_STREAM, 0, 1, b"\0\0\0\x0b"), Fault.REFUSED, "broke off for too many requests"),
        (SETTINGS + frame(Frame.GOAWAY, 0, 0, bytes(7) + b"\x0d"), Fault.REFUSED, "that it wants HTTP/1.1"),
        (SETTINGS * (CONTROL_LIMIT + 1), Fault.PROTOCOL, "frames without end"),
    ],
)
def test_what_is_no_answer_is_a_named_fault(answer: bytes, fault: Fault, words: str) -> None:
    made, _, _ = exchange()
    with pytest.raises(ProbeError, match=words) as caught:
        made.feed(answer)
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", Fault.REFUSED),
        (SETTINGS, Fault.PROTOCOL),
        (SETTINGS + frame(Frame.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\2"), Fault.REFUSED),
    ],
)
def test_an_early_end_is_a_named_fault(answer: bytes, fault: Fault) -> None:
    made, _, _ = exchange()
    made.feed(answer)
    with pytest.raises(ProbeError) as caught:
        made.closed()
    assert caught.value.fault is fault


frames = st.builds(
    lambda kind, flags, stream, payload: frame(kind, flags, stream, payload),
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 2]),
    st.one_of(st.binary(max_size=40), st.just(OK)),
)


@given(st.lists(frames, max_size=12))
def test_any_frames_are_an_answer_or_a_named_fault(sent: list[bytes]) -> None:
    made, _, _ = exchange()
    with contextlib.suppress(ProbeError):
        made.feed(SETTINGS + b"".join(sent))
        made.closed()
