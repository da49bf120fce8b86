"""Tells systemd that we are ready, alive or stopping. Source: sd_notify(3). Silent outside systemd."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

LONGEST_PAUSE_S: Final = 20.0  # between two signs of life


def notify(state: str) -> None:
    """Send a state such as `READY=1` to the service manager, if there is one. A datagram: never waits."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            # The manager is busy or gone; the next message will tell as much.
            return


def watchdog_s() -> float | None:
    """Return how often the service manager wants a sign of life, in seconds; None when it does not."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (owner and owner != str(os.getpid())):
        return None
    return int(usec) / 1e6


async def keep_alive(silent_s: Callable[[], float], limit_s: float) -> None:
    """Give the service manager its sign of life for as long as the work gives one; runs until cancelled.

    Args:
        silent_s: says how many seconds ago the work gave its last sign of life.
        limit_s: silence for so long, and for as long as the manager waits, is the end of ours.
    """
    every = watchdog_s()
    if every is None:
        await asyncio.Event().wait()
        return
    while True:
        if silent_s() < max(limit_s, every):
            notify("WATCHDOG=1")
        await asyncio.sleep(min(every / 3, LONGEST_PAUSE_S))
