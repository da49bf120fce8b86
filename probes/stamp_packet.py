"""Packets of the Simple Two-way Active Measurement Protocol as bytes, of both ends. No sockets.

With a key they are authenticated; nothing is encrypted. What answers TWAMP Light is read as well.
Source: RFC 8762 sections 4.2 and 4.3 (packets), 4.4 (integrity), 4.6 (TWAMP Light); RFC 8972 sections 3 (session
identifier) and 4.1 (extra padding); RFC 4656 section 4.1.2 (error estimate).
"""

from __future__ import annotations

import hmac
import math
import struct
from dataclasses import dataclass
from typing import Final

from probes.own_clock import ClockState, stamp_of, wall_ns_of

PLAIN_BYTES: Final = 44
TWAMP_LIGHT_BYTES: Final = 41  # its reflected packet ends with the sender's TTL
SIGNED_BYTES: Final = 112
_HMAC_BYTES: Final = 16  # HMAC-SHA-256, cut
_PLAIN_SENT: Final = struct.Struct("!IQHH28x")
_SIGNED_SENT: Final = struct.Struct("!I12xQHH68x")
_PLAIN_BACK: Final = struct.Struct("!IQHHQIQHxxB3x")
_SIGNED_BACK: Final = struct.Struct("!I12xQHH4xQ8xI12xQH6xB15x")
_STAMP: Final = struct.Struct("!Q")
_PLAIN_STAMP_AT, _SIGNED_STAMP_AT = 4, 16
_SYNCHRONISED, _PTP = 0x8000, 0x4000
_MULTIPLIER_MOST: Final = 255
_TLV_UNKNOWN: Final = 0x80  # set by the sender; cleared by a reflector that knows the type
_TLV_PADDING: Final = 1


@dataclass(frozen=True, slots=True)
class Test:
    """A packet of the sender."""

    __test__ = False  # no test of ours, whatever its name

    seq: int
    stamp: int  # when it was sent, as on the wire
    clock: int  # error estimate, as on the wire
    session: int = 0  # RFC 8972 session identifier

    def encode(self, size_bytes: int, key: bytes = b"") -> bytes:
        """Write the packet, filled up to a size; with a key, authenticated."""
        layout = _SIGNED_SENT if key else _PLAIN_SENT
        head = layout.pack(self.seq, self.stamp, self.clock, self.session)
        return _signed(head, key) + _padding(size_bytes - least_bytes(key))


@dataclass(frozen=True, slots=True)
class Reflected:
    """A packet of the reflector."""

    seq: int  # the reflector's own count, or the sender's number again
    sent_ns: int
    clock: int
    session: int
    received_ns: int
    test: Test  # what it answers; its session is not repeated a second time
    test_ttl: int  # that was left of the packet's TTL or hop limit; 0 when not told

    @property
    def synchronised(self) -> bool:
        """Whether the reflector says that its clock is kept in step."""
        return bool(self.clock & _SYNCHRONISED)

    @property
    def held_ns(self) -> int:
        """How long the reflector kept the packet; 0 when it does not say."""
        return self.sent_ns - self.received_ns if self.received_ns else 0

    def encode(self, answered: bytes, key: bytes = b"") -> bytes:
        """Write the packet, exactly as long as the one it answers, whose padding it repeats."""
        layout = _SIGNED_BACK if key else _PLAIN_BACK
        head = layout.pack(
            self.seq,
            stamp_of(self.sent_ns),
            self.clock,
            self.session,
            stamp_of(self.received_ns),
            self.test.seq,
            self.test.stamp,
            self.test.clock,
            self.test_ttl,
        )
        return (_signed(head, key) + answered[least_bytes(key) :])[: len(answered)]


def least_bytes(key: bytes) -> int:
    """Return the size of a packet without padding."""
    return SIGNED_BYTES if key else PLAIN_BYTES


def parse_test(wire: bytes, key: bytes = b"") -> Test | None:
    """Read a sender's packet; None when it is too short or, with a key, not of somebody who knows it."""
    if not _is_whole(wire, key):
        return None
    layout = _SIGNED_SENT if key else _PLAIN_SENT
    return Test(*layout.unpack_from(wire.ljust(layout.size, b"\0")))


def parse_reflected(wire: bytes, key: bytes = b"") -> Reflected | None:
    """Read a reflector's packet; None when it is too short or, with a key, not of somebody who knows it."""
    if not _is_whole(wire, key):
        return None
    layout = _SIGNED_BACK if key else _PLAIN_BACK
    seq, sent, clock, session, received, test_seq, test_stamp, test_clock, ttl = layout.unpack_from(
        wire.ljust(layout.size, b"\0")
    )
    return Reflected(
        seq,
        _unix_ns(sent, clock),
        clock,
        session,
        _unix_ns(received, clock) if received else 0,
        Test(test_seq, test_stamp, test_clock),
        ttl,
    )


def error_estimate(clock: ClockState, *, synchronised: bool | None = None) -> int:
    """Return what the kernel says of our clock as on the wire; `synchronised` overrides it."""
    steps = max(1.0, clock.error_s * 2.0**32)
    scale = 0
    while steps > _MULTIPLIER_MOST and scale < 63:
        steps /= 2
        scale += 1
    kept = clock.synchronised if synchronised is None else synchronised  # what is unknown is not vouched for
    return (_SYNCHRONISED if kept else 0) | scale << 8 | min(math.ceil(steps), _MULTIPLIER_MOST)


def claimed_error_s(clock: int) -> float:
    """Return the greatest error that an error estimate claims."""
    return float((clock & 0xFF) * 2.0**-32 * 2.0 ** (clock >> 8 & 0x3F))


def stamp_in_place(wire: bytearray, sent_ns: int, key: bytes = b"") -> int:
    """Write the time of sending into a packet of either end that is ready to go, and return it as on the wire.

    The packet is made before the clock is read: what is done after that would count as delay.
    """
    stamp = stamp_of(sent_ns)
    _STAMP.pack_into(wire, _SIGNED_STAMP_AT if key else _PLAIN_STAMP_AT, stamp)
    if key:
        at = SIGNED_BYTES - _HMAC_BYTES
        wire[at:SIGNED_BYTES] = _hash(bytes(wire[:at]), key)
    return stamp


def _unix_ns(stamp: int, clock: int) -> int:
    """Read a time stamp in the format that its error estimate names: NTP's, or PTP's seconds and nanoseconds."""
    if clock & _PTP:
        return (stamp >> 32) * 1_000_000_000 + (stamp & 0xFFFFFFFF)
    return wall_ns_of(stamp)


def _is_whole(wire: bytes, key: bytes) -> bool:
    if not key:
        return len(wire) >= TWAMP_LIGHT_BYTES
    if len(wire) < SIGNED_BYTES:
        return False
    at = SIGNED_BYTES - _HMAC_BYTES
    return hmac.compare_digest(_hash(wire[:at], key), wire[at:SIGNED_BYTES])


def _signed(head: bytes, key: bytes) -> bytes:
    return head + _hash(head, key) if key else head


def _hash(head: bytes, key: bytes) -> bytes:
    return hmac.digest(key, head, "sha256")[:_HMAC_BYTES]


def _padding(size_bytes: int) -> bytes:
    if size_bytes < 4:
        return bytes(max(0, size_bytes))
    return struct.pack("!BBH", _TLV_UNKNOWN, _TLV_PADDING, size_bytes - 4) + bytes(size_bytes - 4)
