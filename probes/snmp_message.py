"""Messages of SNMP: requests and responses as bytes, version 2c around them. Pure: no sockets, no clock.

Source: RFC 3416 section 3 (PDUs), RFC 1901 section 3 (version 2c).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from probes.snmp_ber import NULL, BerError, Name, Reader, Value, integer, octets, oid, sequence, tlv

GET: Final = 0xA0
RESPONSE: Final = 0xA2
GET_BULK: Final = 0xA5
REPORT: Final = 0xA8
BINDINGS_LIMIT: Final = 1000  # in one response; more do not fit a datagram in practice

# RFC 3416 section 3.
_ERRORS: Final = (
    "noError", "tooBig", "noSuchName", "badValue", "readOnly", "genErr", "noAccess", "wrongType", "wrongLength",
    "wrongEncoding", "wrongValue", "noCreation", "inconsistentValue", "resourceUnavailable", "commitFailed",
    "undoFailed", "authorizationError", "notWritable", "inconsistentName",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pdu:
    """A request or a response. Of GET_BULK, `status` and `index` are non-repeaters and max-repetitions."""

    kind: int
    request: int
    bindings: tuple[tuple[Name, Value], ...]
    status: int = 0
    index: int = 0

    @property
    def error(self) -> str:
        """The error's name, or an empty string."""
        if not self.status:
            return ""
        return _ERRORS[self.status] if 0 < self.status < len(_ERRORS) else f"error {self.status}"


def get(request: int, names: Sequence[Name]) -> Pdu:
    """Return a request for the values of these very names."""
    return Pdu(GET, request, tuple((name, None) for name in names))


def get_bulk(request: int, after: Name, most: int) -> Pdu:
    """Return a request for what comes after a name, at most so many."""
    return Pdu(GET_BULK, request, ((after, None),), 0, most)


def encode_request(pdu: Pdu) -> bytes:
    """Return a request's bytes; its bindings have no values."""
    null = tlv(NULL, b"")
    bindings = sequence(*(sequence(oid(name), null) for name, _ in pdu.bindings))
    return sequence(integer(pdu.request), integer(pdu.status), integer(pdu.index), bindings, tag=pdu.kind)


def read_pdu(reader: Reader) -> Pdu:
    """Read a response or report.

    Raises:
        BerError: it is none.
    """
    kind, content = reader.take()
    if kind not in (RESPONSE, REPORT):
        raise BerError(f"a message of kind {kind:#x}, expected a response")
    body = Reader(content)
    request, status, index = body.number(), body.number(), body.number()
    listed = body.inside()
    bindings: list[tuple[Name, Value]] = []
    while listed.more:
        if len(bindings) == BINDINGS_LIMIT:
            raise BerError("too many values")
        one = listed.inside()
        name = one.value()[1]
        if not isinstance(name, tuple):
            raise BerError("a value without its name")
        bindings.append((name, one.value()[1]))
    return Pdu(kind, request, tuple(bindings), status, index)


def encode_v2c(community: bytes, pdu: Pdu) -> bytes:
    """Return a whole message of version 2c."""
    return sequence(integer(1), octets(community), encode_request(pdu))


def read_v2c(wire: bytes, community: bytes) -> Pdu:
    """Read a response of version 2c under this community.

    Raises:
        BerError: it is none.
    """
    message = Reader(wire).inside()
    if message.number() != 1 or message.expect(0x04) != community:
        raise BerError("another version or community")
    return read_pdu(message)
