"""Tells systemd that we are ready, alive or stopping. Source: sd_notify(3). Silent outside systemd."""

from __future__ import annotations

import os
import socket


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
