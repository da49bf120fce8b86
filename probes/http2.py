"""HTTP/2 for one request on one connection, without sockets: bytes in, bytes out.

A probe asks once and hangs up, so there is one stream, no priorities and no push. Everything a server may send is
bounded. Source: RFC 9113.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from probes.base import Fault, ProbeError
from probes.hpack import LIST_LIMIT, Decoder, encode

FRAME_LIMIT: Final = 16384  # bytes of a frame, both ways: the protocol's own default
CONTROL_LIMIT: Final = 1000  # frames that carry no part of an answer; chosen: an honest server sends some ten
WINDOW_BYTES: Final = 1 << 20  # of body that may come before we say that we have taken it in
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM: Final = 1
_DEFAULT_WINDOW: Final = 65535
_LARGEST_WINDOW: Final = (1 << 31) - 1
_END_STREAM: Final = 0x1
_ACK: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20
_HEAD: Final = 9  # bytes before a frame's payload


class Frame(IntEnum):
    """Types of frames (RFC 9113 section 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class _Setting(IntEnum):
    ENABLE_PUSH = 2
    INITIAL_WINDOW_SIZE = 4
    MAX_HEADER_LIST_SIZE = 6


_ERRORS: Final = (
    "no error", "a protocol error", "an internal error", "a flow control error", "a late acknowledgement",
    "a closed stream", "a wrong frame size", "a refused stream", "a cancelled request", "a compression error",
    "a failed CONNECT", "too many requests", "too little security", "that it wants HTTP/1.1",
)  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


@dataclass(slots=True)
class Exchange:
    """One request and what comes of it. `feed` what the server sends, send it what `feed` returns."""

    on_body: Callable[[bytes], None]  # called with each part of the body
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)  # names in lower case, without pseudo-headers
    trailers: list[tuple[str, str]] = field(default_factory=list)
    done: bool = False
    _decoder: Decoder = field(default_factory=Decoder)
    _raw: bytearray = field(default_factory=bytearray)
    _block: bytearray | None = None  # a header block under way
    _block_ends: bool = False  # whether that block ends the stream
    _body: bytes = b""  # of the request, not sent yet
    _window: int = _DEFAULT_WINDOW  # of the connection
    _stream_window: int = _DEFAULT_WINDOW
    _initial_window: int = _DEFAULT_WINDOW
    _greeted: bool = False
    _control: int = 0
    _refusal: int | None = None  # code of a GOAWAY

    def request(self, head: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
        """Return the first bytes of the connection.

        Args:
            head: pseudo-headers first, all names in lower case.
            body: sent as far as the server's windows allow, the rest by `feed`.
        """
        settings = {
            _Setting.ENABLE_PUSH: 0,
            _Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            _Setting.MAX_HEADER_LIST_SIZE: LIST_LIMIT,
        }
        out = _PREFACE + frame(Frame.SETTINGS, 0, 0, b"".join(struct.pack("!HI", *pair) for pair in settings.items()))
        out += frame(Frame.WINDOW_UPDATE, 0, 0, struct.pack("!I", WINDOW_BYTES - _DEFAULT_WINDOW))
        block = encode(head)
        first, rest = block[:FRAME_LIMIT], block[FRAME_LIMIT:]
        flags = (0 if rest else _END_HEADERS) | (0 if body else _END_STREAM)
        out += frame(Frame.HEADERS, flags, _STREAM, first)
        while rest:
            piece, rest = rest[:FRAME_LIMIT], rest[FRAME_LIMIT:]
            out += frame(Frame.CONTINUATION, 0 if rest else _END_HEADERS, _STREAM, piece)
        self._body = body
        return out + self._pump()

    def _pump(self) -> bytes:
        out = b""
        while self._body and (room := min(self._window, self._stream_window, FRAME_LIMIT)) > 0:
            piece, self._body = self._body[:room], self._body[room:]
            out += frame(Frame.DATA, 0 if self._body else _END_STREAM, _STREAM, piece)
            self._window -= len(piece)
            self._stream_window -= len(piece)
        return out

    def feed(self, data: bytes) -> bytes:
        """Take in what has come and return what is to be sent for it.

        Raises:
            ProbeError: PROTOCOL when it is not HTTP/2 or breaks its rules; REFUSED when the server turns us away.
        """
        self._raw += data
        out = b""
        while not self.done and len(self._raw) >= _HEAD:
            size = int.from_bytes(self._raw[:3], "big")
            kind, flags, stream = struct.unpack("!BBI", self._raw[3:_HEAD])
            if not self._greeted and kind != Frame.SETTINGS:
                raise ProbeError(Fault.PROTOCOL, "the server does not speak HTTP/2 on this port")
            if size > FRAME_LIMIT:
                raise _broken("a frame longer than was allowed")
            if len(self._raw) < _HEAD + size:
                break
            payload = bytes(self._raw[_HEAD : _HEAD + size])
            del self._raw[: _HEAD + size]
            self._greeted = True
            out += self._take(kind, flags, stream & 0x7FFFFFFF, payload)
        return out

    def closed(self) -> None:
        """Take in that the server ended the connection.

        Raises:
            ProbeError: REFUSED when it had said nothing or turned us away, PROTOCOL when more should have come.
        """
        if self.done:
            return
        if self._refusal:
            raise ProbeError(Fault.REFUSED, f"the server hung up for {_reason(self._refusal)}")
        if not self._greeted:
            raise ProbeError(Fault.REFUSED, "the server hung up before a word of HTTP/2")
        raise ProbeError(Fault.PROTOCOL, "the server closed the connection in the middle of the answer")

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if self._block is not None and (kind, stream) != (Frame.CONTINUATION, _STREAM):
            raise _broken("another frame inside a header block")
        if kind in (Frame.DATA, Frame.HEADERS, Frame.CONTINUATION):
            if stream != _STREAM:
                raise _broken("an answer to nothing that was asked")
            return self._take_answer(kind, flags, payload)
        self._control += 1
        if self._control > CONTROL_LIMIT:
            raise _broken("frames without end and no answer")
        return self._take_control(kind, flags, stream, payload)

    def _take_answer(self, kind: int, flags: int, payload: bytes) -> bytes:
        if kind == Frame.DATA:
            return self._take_data(flags, payload)
        if kind == Frame.HEADERS:
            payload = _unpadded(flags, payload)
            if flags & _PRIORITY:
                payload = payload[5:]
            self._block, self._block_ends = bytearray(), bool(flags & _END_STREAM)
        elif self._block is None:
            raise _broken("the continuation of nothing")
        else:
            self._control += 1
            if self._control > CONTROL_LIMIT:
                raise _broken("headers without end")
        self._block += payload
        if len(self._block) > LIST_LIMIT:
            raise ProbeError(Fault.PROTOCOL, f"the headers are longer than {LIST_LIMIT} bytes")
        if flags & _END_HEADERS:
            self._end_block(bytes(self._block))
        return b""

    def _end_block(self, block: bytes) -> None:
        fields = self._decoder.decode(block)
        self._block = None
        plain = [(name.lower(), value) for name, value in fields if not name.startswith(":")]
        if self.status:
            self.trailers = plain
        else:
            word = dict(fields).get(":status", "")
            if not (len(word) == 3 and word.isascii() and word.isdigit()):
                raise _broken("an answer without a status")
            if int(word) >= 200:
                self.status, self.headers = int(word), plain
        self.done = self._block_ends and bool(self.status)

    def _take_data(self, flags: int, payload: bytes) -> bytes:
        if not self.status:
            raise _broken("a body before its headers")
        self.on_body(_unpadded(flags, payload))
        if flags & _END_STREAM:
            self.done = True
            return b""
        if not payload:
            return b""
        taken = struct.pack("!I", len(payload))
        return frame(Frame.WINDOW_UPDATE, 0, 0, taken) + frame(Frame.WINDOW_UPDATE, 0, _STREAM, taken)

    def _take_control(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == Frame.SETTINGS and not flags & _ACK:
            self._settings(payload)
            return frame(Frame.SETTINGS, _ACK, 0) + self._pump()
        if kind == Frame.PING and not flags & _ACK:
            return frame(Frame.PING, _ACK, 0, payload[:8].ljust(8, b"\0"))
        if kind == Frame.WINDOW_UPDATE and len(payload) == 4:
            self._widen(stream, int.from_bytes(payload, "big") & 0x7FFFFFFF)
            return self._pump()
        if kind == Frame.GOAWAY:
            self._refusal = int.from_bytes(payload[4:8], "big")
            if int.from_bytes(payload[:4], "big") & 0x7FFFFFFF < _STREAM:
                raise ProbeError(Fault.REFUSED, f"the server turned us away for {_reason(self._refusal)}")
        elif kind == Frame.RST_STREAM and stream == _STREAM:
            raise ProbeError(Fault.REFUSED, f"the server broke off for {_reason(int.from_bytes(payload[:4], 'big'))}")
        elif kind == Frame.PUSH_PROMISE:
            raise _broken("a push that was forbidden")
        return b""

    def _settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise _broken("settings of a wrong size")
        for number, value in struct.iter_unpack("!HI", payload):
            if number == _Setting.INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise _broken("too large a window")
                self._stream_window += value - self._initial_window
                self._initial_window = value

    def _widen(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window = min(self._window + more, _LARGEST_WINDOW)
        elif stream == _STREAM:
            self._stream_window = min(self._stream_window + more, _LARGEST_WINDOW)


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _broken("more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def _broken(what: str) -> ProbeError:
    return ProbeError(Fault.PROTOCOL, f"the server breaks the rules of HTTP/2: it sends {what}")


def _reason(code: int) -> str:
    return _ERRORS[code] if code < len(_ERRORS) else f"error {code}"
