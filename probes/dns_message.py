"""DNS messages as bytes: encode a query, parse an answer. Pure: no sockets, no clock.

Only as much is read as a check needs: header, question, the frame of every record. dnspython turns single records
into text on request. A whole message through dnspython costs four times as much processor time.

Source: RFC 1035 section 4, RFC 6891 (EDNS), RFC 3225 (DO), RFC 4035 section 3.1.6 (AD), RFC 1982 (serials).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from probes.base import Fault, ProbeError

MESSAGE_LIMIT: Final = 65535
_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_AUTHORITATIVE: Final = 0x0400
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_AUTHENTIC: Final = 0x0020
_DNSSEC_OK: Final = 0x8000  # in the flags of the OPT record
_OPT: Final = 41
_SOA: Final = 6
_ANY: Final = 255
_NAMELESS: Final = frozenset({(1, 1), (1, 28)})  # A and AAAA of the Internet: the data means the same in any message


class Question(NamedTuple):
    """What is asked."""

    name: bytes  # in wire form, uncompressed
    type: int
    rdclass: int


class Record(NamedTuple):
    """The frame of one resource record; its data lies in the message at [begin, end)."""

    type: int
    rdclass: int
    ttl_s: int
    begin: int
    end: int


class Answer(NamedTuple):
    """A message that answers our question."""

    wire: bytes
    rcode: int  # extended by EDNS where present
    authoritative: bool
    truncated: bool
    authentic: bool  # the resolver vouches for DNSSEC (AD)
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]


@lru_cache(maxsize=16384)
def question(name: str, rdtype: str, rdclass: str = "IN") -> Question:
    """Return the question for a name, with or without final dot, and the names or numbers of type and class.

    Raises:
        ValueError: one of them does not exist.
    """
    try:
        wire = dns.name.from_text(name, dns.name.root).to_wire()
    except (dns.exception.DNSException, UnicodeError) as exc:
        raise ValueError(f"{name!r} is not a domain name: {exc}") from exc
    try:
        number = int(rdtype) if rdtype.isdecimal() else int(dns.rdatatype.from_text(rdtype))
        class_number = int(dns.rdataclass.from_text(rdclass))
    except (dns.exception.DNSException, ValueError) as exc:
        raise ValueError(f"{rdtype} {rdclass} is not a record type and class: {exc}") from exc
    if not 0 < number <= 0xFFFF:
        raise ValueError(f"{number} is not a record type: expected 1 to 65535")
    return Question(wire or b"\0", number, class_number)


def encode_query(ident: int, asked: Question, *, recursion: bool, udp_size: int = 512, dnssec: bool = False) -> bytes:
    """Return a query. Above a `udp_size` of 512 bytes, or with `dnssec`, it carries an EDNS record."""
    edns = dnssec or udp_size > 512
    flags = (_RECURSION_DESIRED if recursion else 0) | (_AUTHENTIC if dnssec else 0)
    query = _HEADER.pack(ident, flags, 1, 0, 0, int(edns))
    query += asked.name + struct.pack("!HH", asked.type, asked.rdclass)
    if edns:
        query += b"\0" + _RECORD.pack(_OPT, udp_size, _DNSSEC_OK if dnssec else 0, 0)
    return query


def parse(wire: bytes, ident: int, asked: Question) -> Answer | None:
    """Read the answer to a question; None when the message is not one: other identifier, other question, a query.

    Raises:
        ProbeError: PROTOCOL when it is the answer and broken.
    """
    if len(wire) < _HEADER.size:
        return None
    came, flags, questions, *counts = _HEADER.unpack_from(wire)
    if came != ident or not flags & _RESPONSE or flags & _OPCODE or questions > 1:
        return None
    rcode = flags & 0x0F
    if not questions and rcode == 0:
        return None  # only an error may leave out what it answers
    offset = _HEADER.size
    if questions:
        offset += len(asked.name) + 4
        # Letters may come back in the other case (RFC 1035 section 2.3.3); length octets are below the letters.
        quoted = asked.name + struct.pack("!HH", asked.type, asked.rdclass)
        if wire[_HEADER.size : offset].lower() != quoted.lower():
            return None
    sections, cut = _sections(wire, offset, counts)
    if cut and not flags & _TRUNCATED:  # bad servers cut anywhere; such an answer is fetched again by TCP
        raise ProbeError(Fault.PROTOCOL, f"the answer of {len(wire)} bytes ends inside a record")
    for record in sections[2]:
        if record.type == _OPT:
            rcode |= record.ttl_s >> 24 << 4  # RFC 6891 section 6.1.3
    return Answer(
        wire, rcode, bool(flags & _AUTHORITATIVE), bool(flags & _TRUNCATED), bool(flags & _AUTHENTIC), *sections
    )


_Sections = tuple[tuple[Record, ...], tuple[Record, ...], tuple[Record, ...]]


def _sections(wire: bytes, offset: int, counts: Sequence[int]) -> tuple[_Sections, bool]:
    """Return the records of the three sections, and whether the message ended too early: then there are none."""
    try:
        answers, offset = _records(wire, offset, counts[0])
        authority, offset = _records(wire, offset, counts[1])
        additional, _ = _records(wire, offset, counts[2])
    except (IndexError, struct.error):
        return ((), (), ()), True
    return (answers, authority, additional), False


def _records(wire: bytes, offset: int, count: int) -> tuple[tuple[Record, ...], int]:
    found = []
    for _ in range(count):
        offset = skip_name(wire, offset)
        rdtype, rdclass, ttl_s, size = _RECORD.unpack_from(wire, offset)
        begin = offset + _RECORD.size
        offset = begin + size
        if offset > len(wire):
            raise IndexError
        found.append(Record(rdtype, rdclass, ttl_s, begin, offset))
    return tuple(found), offset


def skip_name(wire: bytes, offset: int) -> int:
    """Return where a name, possibly compressed, ends.

    Raises:
        IndexError: the message ends first.
        ProbeError: PROTOCOL when a label is of no known sort.
    """
    while True:
        length = wire[offset]
        if length >= 0xC0:
            if offset + 2 > len(wire):
                raise IndexError
            return offset + 2
        if length >= 0x40:
            raise ProbeError(Fault.PROTOCOL, f"the answer holds a label of unknown sort 0x{length:02x}")
        offset += 1 + length
        if not length:
            return offset


def matching(answer: Answer, asked: Question) -> tuple[Record, ...]:
    """Return the answer's records of the type asked for; aliases on the way to them do not count."""
    return tuple(r for r in answer.answers if asked.type in (r.type, _ANY))


def text(answer: Answer, record: Record) -> str:
    """Return a record's data as `dig +short` prints it.

    Raises:
        ProbeError: PROTOCOL when its data is not what its type says.
    """
    try:
        if (record.rdclass, record.type) in _NAMELESS:
            return _text(answer.wire[record.begin : record.end], record.rdclass, record.type)
        return _read(answer.wire, record.rdclass, record.type, record.begin, record.end - record.begin)
    except (dns.exception.DNSException, ValueError) as exc:
        name = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(record.type))
        raise ProbeError(Fault.PROTOCOL, f"a {name} record of the answer is broken: {exc}") from exc


@lru_cache(maxsize=16384)  # the same addresses at every slot: reading them was a fifth of a probe
def _text(data: bytes, rdclass: int, rdtype: int) -> str:
    return _read(data, rdclass, rdtype, 0, len(data))


def _read(wire: bytes, rdclass: int, rdtype: int, begin: int, size: int) -> str:
    kind = dns.rdatatype.RdataType.make(rdtype)
    return str(dns.rdata.from_wire(dns.rdataclass.RdataClass.make(rdclass), kind, wire, begin, size).to_text())


def soa_serial(answer: Answer) -> int | None:
    """Return the serial of the first SOA record, in the answer or, for a name without data, in the authority.

    Raises:
        ProbeError: PROTOCOL when the record is broken.
    """
    for record in (*answer.answers, *answer.authority):
        if record.type == _SOA:
            try:
                offset = skip_name(answer.wire, skip_name(answer.wire, record.begin))
            except IndexError:
                offset = record.end
            if offset + 20 != record.end:
                raise ProbeError(Fault.PROTOCOL, "the SOA record of the answer is broken")
            return int.from_bytes(answer.wire[offset : offset + 4], "big")
    return None


def serial_reached(serial: int, wanted: int) -> bool:
    """Whether a zone's serial is at or past another, in the circle of RFC 1982."""
    return (serial - wanted) % 2**32 < 2**31


@lru_cache(maxsize=4096)  # there are no more
def rcode_name(rcode: int) -> str:
    """Return the name of a response code."""
    return str(dns.rcode.to_text(dns.rcode.Rcode.make(rcode)))
