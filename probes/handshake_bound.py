"""Bounds the bytes of a TLS handshake that asyncio holds: it has no bound of its own but time.

OpenSSL passes over some messages for as long as they come, requests to begin anew for one. What has come is asked of
the kernel, every few milliseconds while the handshake lasts. Source: tcp(7), TCP_INFO.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from probes.base import Fault, ProbeError

HANDSHAKE_BYTES: Final = 1 << 20  # chosen: ten times what OpenSSL takes as a chain of certificates
LOOK_S: Final = 0.02  # most handshakes are over by then and are never looked at

_RECEIVED_AT: Final = 128  # linux/tcp.h: struct tcp_info, tcpi_bytes_received
_U64: Final = struct.Struct("=Q")


def received_bytes(transport: asyncio.BaseTransport) -> int:
    """Return how many bytes the kernel took in for a connection; 0 where it does not say."""
    fd = transport.get_extra_info("socket").fileno()
    if fd < 0:
        return 0
    with socket.socket(fileno=os.dup(fd)) as sock:  # the loop's own stand-in has no getsockopt everywhere
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(_U64.unpack_from(info, _RECEIVED_AT)[0]) if len(info) >= _RECEIVED_AT + _U64.size else 0


@asynccontextmanager
async def bounded_handshake(transport: asyncio.BaseTransport) -> AsyncIterator[None]:
    """End the block when more than `HANDSHAKE_BYTES` have come on a connection.

    Raises:
        ProbeError: TLS, when they have.
    """
    loop = asyncio.get_running_loop()
    bound = asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if received_bytes(transport) > HANDSHAKE_BYTES:
            bound.reschedule(loop.time())
        else:
            timer = loop.call_later(LOOK_S, look)

    timer = loop.call_later(LOOK_S, look)
    try:
        async with bound:
            yield
    except TimeoutError as exc:
        if bound.expired():
            raise ProbeError(Fault.TLS, f"the handshake is longer than {HANDSHAKE_BYTES} bytes") from exc
        raise
    finally:
        timer.cancel()
