"""How often one address may call in with a wrong token before it has to wait. Pure: the time is an argument.

Callers on our own host are never held up: a reverse proxy stands there in the name of many.
"""

from __future__ import annotations

import ipaddress
from typing import Final

MOST: Final = 30  # wrong calls within the window; chosen: a script with a typing error, called each two seconds
WINDOW_S: Final = 60.0
ADDRESSES: Final = 1024  # that are remembered at most


class WrongCalls:
    """Counts wrong calls by address."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}  # address -> begin of its window, wrong calls in it

    def wait_s(self, address: str, now: float) -> float:
        """Return how long an address has to wait before it is heard again; 0 for nearly all."""
        began, count = self._seen.get(address, (now, 0))
        left = began + WINDOW_S - now
        return left if count >= MOST and left > 0 else 0.0

    def note(self, address: str, now: float) -> None:
        """Count one wrong call."""
        if _is_ours(address):
            return
        began, count = self._seen.pop(address, (now, 0))
        if now >= began + WINDOW_S:
            began, count = now, 0
        if len(self._seen) >= ADDRESSES:
            self._seen.pop(next(iter(self._seen)))  # whose last wrong call is longest ago
        self._seen[address] = began, count + 1


def _is_ours(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a UNIX socket has none
        return True
