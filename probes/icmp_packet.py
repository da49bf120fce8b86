"""ICMP and ICMPv6 messages as bytes: encode echoes, parse what comes back. Pure: no sockets, no clock.

Every echo of one flow carries the same identifier and the same checksum, whatever its number: two payload bytes make
up the difference. Routers that share load by these fields then keep the whole flow on one path, so that a change of
delay is a change of the path and not of the choice between paths (Luckie et al., IMC 2014, section 3).

Source: RFC 792; RFC 4443 sections 3 and 4; RFC 1071 for the checksum.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, NamedTuple

HEADER_BYTES: Final = 8  # type, code, checksum, identifier, sequence number
MARK_BYTES: Final = 14  # cookie, serial number, balance: the start of our payload
LEAST_PAYLOAD_BYTES: Final = 16
IPV6_HEADER_BYTES: Final = 40

_HEADER: Final = struct.Struct("!BBHHH")
_TAIL: Final = struct.Struct("!IH")  # serial, balance
_REQUEST: Final = struct.Struct("!4sHH8sIH")  # the header, type to checksum in one, and the marks of the payload
ECHO_REPLY: Final = {4: 0, 6: 129}
_ECHO_REQUEST: Final = {4: 8, 6: 128}
_ERROR_TYPES: Final = {4: frozenset({3, 11, 12}), 6: frozenset({1, 2, 3, 4})}

# RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1; RFC 4443 section 3.
_REASONS: Final = {
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 4): "packet too big",
    (4, 3, 5): "source route failed",
    (4, 3, 6): "network unknown",
    (4, 3, 7): "host unknown",
    (4, 3, 9): "network prohibited by a filter",
    (4, 3, 10): "host prohibited by a filter",
    (4, 3, 11): "network unreachable for this class of service",
    (4, 3, 12): "host unreachable for this class of service",
    (4, 3, 13): "prohibited by a filter",
    (4, 11, 0): "TTL expired on the way",
    (4, 11, 1): "fragments did not arrive in time",
    (6, 1, 0): "no route to the destination",
    (6, 1, 1): "prohibited by a filter",
    (6, 1, 2): "beyond the scope of the source address",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 1, 5): "source address refused by a policy",
    (6, 1, 6): "route rejects the destination",
    (6, 2, 0): "packet too big",
    (6, 3, 0): "hop limit expired on the way",
    (6, 3, 1): "fragments did not arrive in time",
}


class Echo(NamedTuple):
    """An echo request or reply."""

    reply: bool
    ident: int
    seq: int
    body: bytes  # the payload
    hops: int | None = None  # TTL that was left in the IP header, when there was one


class Refused(NamedTuple):
    """An ICMP error about an echo of somebody's: what it says, and what it quotes of that echo."""

    type: int
    code: int
    mtu: int  # of "packet too big"; 0 otherwise
    ident: int
    seq: int
    to: str  # where the quoted echo was going
    body: bytes  # as much of the quoted payload as the router kept; often empty


def checksum(data: bytes) -> int:
    """Return the Internet checksum of `data` (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def encode(version: int, echo: Echo) -> bytes:
    """Return an echo as an ICMP message, without IP header; version 6 leaves the checksum to the kernel."""
    kind = (ECHO_REPLY if echo.reply else _ECHO_REQUEST)[version]
    bare = _HEADER.pack(kind, 0, 0, echo.ident, echo.seq) + echo.body
    if version == 6:
        return bare
    return bare[:2] + checksum(bare).to_bytes(2, "big") + bare[4:]


def _balance(serial: int) -> int:
    # The sequence number is the low half of the serial, so it counts twice; the sum is kept at one value.
    return -(2 * (serial & 0xFFFF) + (serial >> 16)) % 0xFFFF


class EchoMaker:
    """Makes the echo requests of one socket and size, alike in all that load balancers look at."""

    def __init__(self, version: int, ident: int, cookie: bytes, size_bytes: int) -> None:
        """Args: cookie: 8 bytes that no other process shares. size_bytes: of the payload, 16 or more."""
        self._ident = ident
        self._cookie = cookie
        self._filler = bytes(i & 0xFF for i in range(size_bytes - MARK_BYTES))
        first = encode(version, Echo(False, ident, 0, self._body(0)))
        self._head = first[:4]  # the checksum of the first is the checksum of all

    def _body(self, serial: int) -> bytes:
        return self._cookie + _TAIL.pack(serial, _balance(serial)) + self._filler

    def make(self, serial: int) -> bytes:
        """Return the echo request with this 32-bit serial; its sequence number is the serial's low 16 bits."""
        seq = serial & 0xFFFF
        return _REQUEST.pack(self._head, self._ident, seq, self._cookie, serial, _balance(serial)) + self._filler


def parse(version: int, packet: bytes, *, ip_header: bool) -> Echo | Refused | None:
    """Read an ICMP message; None when it is whole rubbish or none of those that concern echoes.

    Args:
        version: 4 or 6.
        packet: what the socket gave.
        ip_header: whether the IPv4 header comes first, as on raw sockets.
    """
    hops: int | None = None
    if ip_header:
        if len(packet) < 20:
            return None
        hops = packet[8]
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < HEADER_BYTES:
        return None
    kind, code, _, ident, seq = _HEADER.unpack_from(packet)
    if kind == ECHO_REPLY[version] and code == 0:
        return Echo(True, ident, seq, packet[HEADER_BYTES:], hops)
    if kind in _ERROR_TYPES[version]:
        mtu = _mtu(version, kind, code, packet)
        return _parse_quote(version, Refused(kind, code, mtu, 0, 0, "", packet[HEADER_BYTES:]))
    if kind == _ECHO_REQUEST[version] and code == 0:
        return Echo(False, ident, seq, packet[HEADER_BYTES:], hops)
    return None


def _mtu(version: int, kind: int, code: int, packet: bytes) -> int:
    if version == 4:  # RFC 1191 section 4
        return int.from_bytes(packet[6:8], "big") if (kind, code) == (3, 4) else 0
    return int.from_bytes(packet[4:8], "big") if kind == 2 else 0


def _parse_quote(version: int, error: Refused) -> Refused | None:
    quoted = error.body
    if version == 4:
        begin = (quoted[0] & 0x0F) * 4 if quoted else 0
        protocol, to = quoted[9:10], quoted[16:20]
        is_echo = begin >= 20 and protocol == b"\x01"
    else:
        begin = IPV6_HEADER_BYTES
        protocol, to = quoted[6:7], quoted[24:40]
        is_echo = protocol == b"\x3a"
    echo = quoted[begin:]
    if not is_echo or len(echo) < HEADER_BYTES or echo[0] != _ECHO_REQUEST[version]:
        return None
    _, _, _, ident, seq = _HEADER.unpack_from(echo)
    return error._replace(ident=ident, seq=seq, to=str(ipaddress.ip_address(to)), body=echo[HEADER_BYTES:])


def reason(version: int, error: Refused) -> str:
    """Say in words what an ICMP error means."""
    said = _REASONS.get((version, error.type, error.code), f"ICMP type {error.type} code {error.code}")
    return f"{said} (MTU {error.mtu})" if error.mtu else said
