"""STUN messages as bytes: requests made, answers read, integrity and fingerprint added and checked. No sockets.

Source: RFC 8489 sections 5 (header), 9.2 (long-term credentials), 14 (attributes); RFC 8656 section 18 (TURN).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from probes.base import Fault, ProbeError

HEADER_BYTES: Final = 20
ATTRIBUTES_LIMIT: Final = 64  # chosen: several times what any answer holds
_COOKIE: Final = 0x2112A442.to_bytes(4, "big")
_FINGERPRINT_MASK: Final = 0x5354554E  # RFC 8489 section 14.7
_SUCCESS, _ERROR = 0x0100, 0x0110
_CLASS_MASK: Final = 0x0110
_INTEGRITY_BYTES: Final = 20  # HMAC-SHA1
_FINGERPRINT_BYTES: Final = 4
_UDP: Final = b"\x11\0\0\0"


class Method(IntEnum):
    """What is asked for."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004


class Attr(IntEnum):
    """Kinds of attributes that are read or written here."""

    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    LIFETIME = 0x000D
    REALM = 0x0014
    NONCE = 0x0015
    XOR_RELAYED_ADDRESS = 0x0016
    REQUESTED_TRANSPORT = 0x0019
    XOR_MAPPED_ADDRESS = 0x0020
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028


class Mapped(NamedTuple):
    """An address and port inside a message."""

    ip: str
    port: int

    def __str__(self) -> str:
        """Write it as people do."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Long-term credentials, as the server's challenge completed them."""

    username: str
    realm: bytes
    nonce: bytes
    key: bytes  # never shown

    def __repr__(self) -> str:
        """Keep the key out of every log."""
        return f"Login({self.username!r})"


def login(username: str, password: str, realm: bytes, nonce: bytes) -> Login:
    """Make the key of long-term credentials: MD5 of name, realm and password (RFC 8489 section 9.2.2)."""
    name, secret = (unicodedata.normalize("NFC", text).encode() for text in (username, password))
    key = hashlib.md5(name + b":" + realm + b":" + secret, usedforsecurity=False).digest()
    return Login(username, realm, nonce, key)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request of ours."""

    method: int
    good: bool
    attributes: Mapping[int, bytes]  # the first of each kind, those behind the integrity left out
    error_code: int  # 0 for a good answer
    reason: str
    mapped: Mapped | None  # where the server sees us
    relayed: Mapped | None
    alternate: Mapped | None
    lifetime_s: int | None
    _wire: bytes
    _integrity_at: int  # where MESSAGE-INTEGRITY begins; 0 without one

    @property
    def software(self) -> str:
        """What the server calls itself."""
        return self.attributes.get(Attr.SOFTWARE, b"").decode("utf-8", "replace")

    def is_from(self, known: Login) -> bool:
        """Say whether somebody who knows the password made this answer."""
        at = self._integrity_at
        if not at:
            return False
        wanted = _integrity(self._wire[:at], known.key)
        return hmac.compare_digest(wanted, self._wire[at + 4 : at + 4 + _INTEGRITY_BYTES])


def encode(
    method: Method, transaction: bytes, attributes: Sequence[tuple[Attr, bytes]] = (), by: Login | None = None
) -> bytes:
    """Write a request with a fingerprint, and with integrity when it is made by somebody.

    Args:
        method: what is asked for.
        transaction: 12 random bytes.
        attributes: kind and value, in order.
        by: credentials, once the server has asked for them.
    """
    parts = [(int(kind), value) for kind, value in attributes]
    if by is not None:
        name = unicodedata.normalize("NFC", by.username).encode()
        parts += [(Attr.USERNAME, name), (Attr.REALM, by.realm), (Attr.NONCE, by.nonce)]
    body = b"".join(_attribute(kind, value) for kind, value in parts)
    head = int(method).to_bytes(2, "big") + len(body).to_bytes(2, "big") + _COOKIE + transaction
    message = head + body
    if by is not None:
        message += _attribute(Attr.MESSAGE_INTEGRITY, _integrity(message, by.key))
        message = _with_length(message, len(message) - HEADER_BYTES)
    return _sealed(message)


def wire_size(head: bytes) -> int:
    """Return how long the message is that begins with this header, for streams.

    Raises:
        ProbeError: PROTOCOL when it is no STUN message.
    """
    if len(head) < HEADER_BYTES or head[0] & 0xC0 or head[4:8] != _COOKIE or head[3] & 3:
        raise ProbeError(Fault.PROTOCOL, f"no STUN message came: {head[:8].hex()}")
    return HEADER_BYTES + int.from_bytes(head[2:4], "big")


def parse(wire: bytes, method: Method, transaction: bytes) -> Answer | None:
    """Read an answer to the request with that method and transaction; None when it is something else.

    Raises:
        ProbeError: PROTOCOL when it is the answer, and broken.
    """
    if len(wire) < HEADER_BYTES or wire[4:8] != _COOKIE or wire[8:20] != transaction:
        return None
    kind = int.from_bytes(wire[:2], "big")
    if kind & 0xC000 or kind & ~_CLASS_MASK != method or kind & _CLASS_MASK not in (_SUCCESS, _ERROR):
        return None
    if wire_size(wire) != len(wire):
        raise ProbeError(Fault.PROTOCOL, f"a message of {wire_size(wire)} bytes came in a packet of {len(wire)}")
    attributes, integrity_at = _attributes(wire)
    good = kind & _CLASS_MASK == _SUCCESS
    code, reason = (0, "") if good else _error(attributes.get(Attr.ERROR_CODE))
    mapped = _address(attributes.get(Attr.XOR_MAPPED_ADDRESS), wire) or _address(attributes.get(Attr.MAPPED_ADDRESS))
    lifetime = attributes.get(Attr.LIFETIME)
    if lifetime is not None and len(lifetime) != 4:
        raise ProbeError(Fault.PROTOCOL, f"a lifetime of {len(lifetime)} bytes came, expected 4")
    return Answer(
        kind & ~_CLASS_MASK, good, attributes, code, reason, mapped,
        _address(attributes.get(Attr.XOR_RELAYED_ADDRESS), wire),
        _address(attributes.get(Attr.ALTERNATE_SERVER)),
        None if lifetime is None else int.from_bytes(lifetime, "big"),
        wire, integrity_at,
    )  # fmt: skip


def allocation() -> list[tuple[Attr, bytes]]:
    """Return what an allocation of a relay for UDP asks for (RFC 8656 section 18.7)."""
    return [(Attr.REQUESTED_TRANSPORT, _UDP)]


def with_lifetime(seconds: int) -> list[tuple[Attr, bytes]]:
    """Return how long an allocation shall live; 0 gives it back (RFC 8656 section 7)."""
    return [(Attr.LIFETIME, seconds.to_bytes(4, "big"))]


def _attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def _with_length(message: bytes, size: int) -> bytes:
    return message[:2] + size.to_bytes(2, "big") + message[4:]


def _integrity(before: bytes, key: bytes) -> bytes:
    """Hash what stands before MESSAGE-INTEGRITY, the length counting it (RFC 8489 section 14.5)."""
    counted = len(before) - HEADER_BYTES + 4 + _INTEGRITY_BYTES
    return hmac.digest(key, _with_length(before, counted), "sha1")


def _fingerprint(before: bytes) -> bytes:
    counted = len(before) - HEADER_BYTES + 4 + _FINGERPRINT_BYTES
    return (zlib.crc32(_with_length(before, counted)) ^ _FINGERPRINT_MASK).to_bytes(4, "big")


def _sealed(message: bytes) -> bytes:
    whole = message + _attribute(Attr.FINGERPRINT, _fingerprint(message))
    return _with_length(whole, len(whole) - HEADER_BYTES)


def _attributes(wire: bytes) -> tuple[dict[int, bytes], int]:
    """Read the attributes, and where MESSAGE-INTEGRITY begins; what stands behind it is not believed.

    Raises:
        ProbeError: PROTOCOL when they do not fit, are too many, or the fingerprint is wrong.
    """
    found: dict[int, bytes] = {}
    at, integrity_at = HEADER_BYTES, 0
    for _ in range(ATTRIBUTES_LIMIT):
        if at == len(wire):
            return found, integrity_at
        kind, size = int.from_bytes(wire[at : at + 2], "big"), int.from_bytes(wire[at + 2 : at + 4], "big")
        value = wire[at + 4 : at + 4 + size]
        following = at + 4 + size + -size % 4
        if following > len(wire):
            raise ProbeError(Fault.PROTOCOL, "an attribute reaches beyond the end of the message")
        if kind == Attr.FINGERPRINT:
            if value != _fingerprint(wire[:at]):
                raise ProbeError(Fault.PROTOCOL, "the fingerprint of the answer is wrong")
        elif kind == Attr.MESSAGE_INTEGRITY and not integrity_at:
            if size != _INTEGRITY_BYTES:
                raise ProbeError(Fault.PROTOCOL, f"a MESSAGE-INTEGRITY of {size} bytes came")
            integrity_at = at
        elif not integrity_at:
            found.setdefault(kind, value)
        at = following
    raise ProbeError(Fault.PROTOCOL, f"more than {ATTRIBUTES_LIMIT} attributes came")


def _error(value: bytes | None) -> tuple[int, str]:
    if value is None or len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
        raise ProbeError(Fault.PROTOCOL, "an error answer without its code came")
    return (value[2] & 7) * 100 + value[3], value[4:].decode("utf-8", "replace")


def _address(value: bytes | None, xor_by: bytes | None = None) -> Mapped | None:
    """Read an address attribute; with a message given, its cookie and transaction undo the XOR.

    Raises:
        ProbeError: PROTOCOL when it is neither IPv4 nor IPv6.
    """
    if value is None:
        return None
    size = {1: 4, 2: 16}.get(value[1] if len(value) > 1 else 0)
    if size is None or len(value) != 4 + size:
        raise ProbeError(Fault.PROTOCOL, f"an address came that is none: {value[:8].hex()}")
    port, raw = value[2:4], value[4:]
    if xor_by is not None:
        port, raw = _xor(port, xor_by[4:6]), _xor(raw, xor_by[4 : 4 + size])
    return Mapped(str(ipaddress.ip_address(raw)), int.from_bytes(port, "big"))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
