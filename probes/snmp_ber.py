"""BER as far as SNMP uses it: bytes from numbers, names and texts, and back. Pure; bounded by the datagram's size.

Source: ITU-T X.690 (BER); RFC 3417 section 8 (definite lengths, primitive strings); RFC 2578 section 7.1 (types).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

INTEGER: Final = 0x02
OCTETS: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
SEQUENCE: Final = 0x30
IP_ADDRESS: Final = 0x40
COUNTER32: Final = 0x41
GAUGE32: Final = 0x42
TIME_TICKS: Final = 0x43
OPAQUE: Final = 0x44
COUNTER64: Final = 0x46
NO_SUCH: Final = frozenset({0x80, 0x81, 0x82})  # noSuchObject, noSuchInstance, endOfMibView

_NUMBERS: Final = frozenset({INTEGER, COUNTER32, GAUGE32, TIME_TICKS, COUNTER64})
_UNSIGNED: Final = frozenset({COUNTER32, GAUGE32, TIME_TICKS, COUNTER64})

Name = tuple[int, ...]
Value = int | bytes | Name | None  # None: NULL, or there is no such thing


class BerError(ValueError):
    """Bytes that are not BER, or not what was expected there."""


def tlv(tag: int, content: bytes) -> bytes:
    """Return content under a tag, with its length."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes, tag: int = SEQUENCE) -> bytes:
    """Return parts as one sequence."""
    return tlv(tag, b"".join(parts))


def integer(number: int, tag: int = INTEGER) -> bytes:
    """Return a number in the fewest bytes of two's complement."""
    size = (number if number >= 0 else ~number).bit_length() // 8 + 1
    return tlv(tag, number.to_bytes(size, "big", signed=True))


def octets(text: bytes) -> bytes:
    """Return a text of bytes."""
    return tlv(OCTETS, text)


def oid(name: Name) -> bytes:
    """Return a name of two arcs or more."""
    arcs = (name[0] * 40 + name[1], *name[2:])
    return tlv(OID, b"".join(_base128(arc) for arc in arcs))


def _base128(arc: int) -> bytes:
    parts = [arc & 0x7F]
    while arc := arc >> 7:
        parts.append(0x80 | (arc & 0x7F))
    return bytes(reversed(parts))


@dataclass(slots=True)
class Reader:
    """Takes one thing after the other from bytes."""

    data: bytes
    at: int = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self.at < len(self.data)

    def take(self) -> tuple[int, bytes]:
        """Return the next tag and its content.

        Raises:
            BerError: it is cut off, or of a form that SNMP does not use.
        """
        tag, size = self._byte(), self._byte()
        if tag & 0x1F == 0x1F:
            raise BerError("a tag of several bytes")
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise BerError("a length without end or too long")
            size = int.from_bytes(self._bytes(count), "big")
        return tag, self._bytes(size)

    def expect(self, tag: int) -> bytes:
        """Return the content of the next thing, which must have this tag.

        Raises:
            BerError: it has not.
        """
        found, content = self.take()
        if found != tag:
            raise BerError(f"tag {found:#x}, expected {tag:#x}")
        return content

    def inside(self, tag: int = SEQUENCE) -> Reader:
        """Return a reader of the next sequence."""
        return Reader(self.expect(tag))

    def number(self) -> int:
        """Return the next thing, an INTEGER."""
        return _number(INTEGER, self.expect(INTEGER))

    def value(self) -> tuple[int, Value]:
        """Return the tag and the value of the next thing, whatever simple type it has."""
        tag, content = self.take()
        if tag in _NUMBERS:
            return tag, _number(tag, content)
        if tag == OID:
            return tag, read_oid(content)
        if tag == NULL or tag in NO_SUCH:
            return tag, None
        if tag in (OCTETS, IP_ADDRESS, OPAQUE):
            return tag, content
        raise BerError(f"a value of the unknown type {tag:#x}")

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise BerError("cut off")
        self.at += count
        return self.data[self.at - count : self.at]


def _number(tag: int, content: bytes) -> int:
    if not 1 <= len(content) <= 9:
        raise BerError(f"a number of {len(content)} bytes")
    # Some agents leave out the zero byte that keeps a large counter from being read as negative.
    return int.from_bytes(content, "big", signed=tag not in _UNSIGNED)


def read_oid(content: bytes) -> Name:
    """Return the name in the content of an OID.

    Raises:
        BerError: it is cut off, or an arc is larger than 32 bits.
    """
    if not content or content[-1] & 0x80:
        raise BerError("a name that is cut off")
    arcs: list[int] = []
    arc = 0
    for byte in content:
        arc = arc << 7 | byte & 0x7F
        if arc >> 33:
            raise BerError("an arc that is too large")
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return (first, arcs[0] - first * 40, *arcs[1:])


def dotted(name: Sequence[int]) -> str:
    """Return a name as people write it."""
    return ".".join(map(str, name))
