"""WebSocket frames: bytes in, messages out. Pure, no sockets; everything a server may send is bounded.

Source: RFC 6455 sections 4 and 5.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from probes.base import Fault, ProbeError, one_line

MESSAGE_LIMIT: Final = 65536  # bytes of one message, its parts together
CONTROL_LIMIT: Final = 125  # bytes of a control frame (section 5.5)
PARTS_LIMIT: Final = 1000  # frames that end no message, pings included; chosen: an honest server sends a few
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opcode(IntEnum):
    """Kinds of frames."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def accept_of(key: str) -> str:
    """Return what a server must answer to a `Sec-WebSocket-Key` (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()).decode("ascii")


def encode(opcode: Opcode, payload: bytes, mask: bytes) -> bytes:
    """Return one whole frame of a client: always masked, with four random bytes."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@dataclass(slots=True)
class Reader:
    """Puts a server's frames together to messages."""

    messages: list[bytes] = field(default_factory=list)  # whole ones, oldest first; who uses one takes it out
    pings: list[bytes] = field(default_factory=list)  # to be answered by whoever has the socket
    closed: str = ""  # why the server ended the conversation, once it did
    _raw: bytearray = field(default_factory=bytearray)
    _parts: bytearray | None = None
    _odd: int = 0

    def feed(self, data: bytes) -> None:
        """Take in what has come.

        Raises:
            ProbeError: PROTOCOL when it breaks the rules or is longer than any honest message.
        """
        self._raw += data
        while not self.closed and (found := self._frame()) is not None:
            self._take(*found)

    def _frame(self) -> tuple[int, bool, bytes] | None:
        raw = self._raw
        if len(raw) < 2:
            return None
        opcode, final, size, at = raw[0] & 0x0F, bool(raw[0] & 0x80), raw[1] & 0x7F, 2
        if raw[0] & 0x70 or raw[1] & 0x80:
            raise _broken("an extension that was not asked for, or a mask")
        if size >= 126:
            at = 4 if size == 126 else 10
            if len(raw) < at:
                return None
            size = int.from_bytes(raw[2:at], "big")
        if size > (CONTROL_LIMIT if opcode >= Opcode.CLOSE else MESSAGE_LIMIT):
            raise _broken(f"a frame of {size} bytes")
        if len(raw) < at + size:
            return None
        payload = bytes(raw[at : at + size])
        del raw[: at + size]
        return opcode, final, payload

    def _take(self, opcode: int, final: bool, payload: bytes) -> None:
        if opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            self._take_control(opcode, payload)
            return
        if (opcode == Opcode.CONTINUATION) == (self._parts is None) or opcode > Opcode.BINARY:
            raise _broken("a frame out of order")
        self._parts = payload_so_far = (self._parts or bytearray()) + payload
        if len(payload_so_far) > MESSAGE_LIMIT:
            raise _broken(f"a message longer than {MESSAGE_LIMIT} bytes")
        if final:
            self.messages.append(bytes(payload_so_far))
            self._parts = None
        else:
            self._count()

    def _take_control(self, opcode: int, payload: bytes) -> None:
        self._count()
        if opcode == Opcode.PING:
            self.pings.append(payload)
        elif opcode == Opcode.CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.closed = one_line(f"code {code} {payload[2:].decode('utf-8', 'replace')}", 100)

    def _count(self) -> None:
        self._odd += 1
        if self._odd > PARTS_LIMIT:
            raise _broken("frames without end and no message")


def _broken(what: str) -> ProbeError:
    return ProbeError(Fault.PROTOCOL, f"the server breaks the rules of WebSocket: it sends {what}")
