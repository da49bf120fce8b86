"""How far a site may lead us: by a redirect, a link or a form of its own it may send us anywhere but home.

Whoever controls a site could else have this host ask its own services, which trust whoever comes from here, or the
service by which clouds tell a machine its secrets (169.254.169.254). Judged by where the connection has really gone,
so that no name can hide it, and before a word is sent. What the configuration names itself is the operator's choice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from probes.base import Fault, ProbeError


class Leash:
    """Of one run."""

    def __init__(self, named: Iterable[str]) -> None:
        """Args: named: hosts that the configuration names; they may be anywhere."""
        self._named = frozenset(named)
        self._home = False  # the site itself is at home, so it may lead there

    def check(self, host: str, peer: Sequence[Any], own: Sequence[Any]) -> None:
        """Say whether a new connection may be used.

        Args:
            host: whom it is to, by the address that was asked for.
            peer: the other end's address and port, as the socket has them.
            own: this end's.

        Raises:
            ProbeError: CONTENT when the site led us home.
        """
        place = _place(str(peer[0]), str(own[0])) if peer and own else ""
        if host in self._named:
            self._home |= bool(place)
        elif place and not self._home:
            raise ProbeError(Fault.CONTENT, f"the site leads to {host}, which is {place} ({peer[0]})")


def _place(peer: str, own: str) -> str:
    ip = _ip(peer)
    if ip.is_loopback or ip.is_unspecified or ip == _ip(own):
        return "the monitor's own host"
    return "a link-local address" if ip.is_link_local else ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(text.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip
