"""In which order the addresses of a name are used: the rules of RFC 6724 that change something for a client.

Addresses that this host has no route to come last; then those whose source address fits them (scope, label), then
the higher precedence of the policy table. Otherwise they stay as the name server gave them: its rotation is kept.

Source: RFC 6724 sections 2.1, 3.1 and 6 (rules 1, 2, 5, 6, 10).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6724 section 2.1: prefix, precedence, label.
_POLICY: Final = tuple(
    (ipaddress.IPv6Network(prefix), precedence, label)
    for prefix, precedence, label in (
        ("::1/128", 50, 0),
        ("::ffff:0:0/96", 35, 4),
        ("::/96", 1, 3),
        ("2001::/32", 5, 5),
        ("2002::/16", 30, 2),
        ("3ffe::/16", 1, 12),
        ("fec0::/10", 1, 11),
        ("fc00::/7", 3, 13),
    )
)
_OTHERWISE: Final = (40, 1)
_GLOBAL: Final = 0xE
_LINK_LOCAL: Final = 0x2


def ordered(ips: Sequence[str]) -> list[str]:
    """Return the addresses in the order to use them."""
    if len(ips) < 2 or not any(":" in ip for ip in ips):
        return list(ips)  # of IPv4 alone only a missing route could make a difference, and then it is the same for all
    return sorted(ips, key=_rank)


def _rank(ip: str) -> tuple[bool, bool, bool, int]:
    precedence, label, scope = _traits(ip)
    source = _source_towards(ip)
    if source is None:
        return True, False, False, -precedence
    _, source_label, source_scope = _traits(source)
    return False, source_scope != scope, source_label != label, -precedence


@lru_cache(maxsize=16384)  # the same addresses again and again
def _traits(text: str) -> tuple[int, int, int]:
    """Return precedence, label and scope of an address."""
    ip = ipaddress.ip_address(text)
    return (*_policy(ip), _scope(ip))


def _source_towards(ip: str) -> str | None:
    """Return the address that we would send from; None without a route. Nothing is sent (udp(7), connect)."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect((ip.partition("%")[0], 9))
            return str(sock.getsockname()[0])
        except OSError:
            return None


def _policy(ip: _Ip) -> tuple[int, int]:
    if ip.version == 4:
        return 35, 4
    return next(((precedence, label) for network, precedence, label in _POLICY if ip in network), _OTHERWISE)


def _scope(ip: _Ip) -> int:
    return _LINK_LOCAL if ip.is_link_local or ip.is_loopback else _GLOBAL
