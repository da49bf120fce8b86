"""Questions by UDP: what their makers and readers do wrong is told as our fault, not as the target's silence."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from probes.base import Measurement, Tools
from probes.datagram import Ask, exchange, open_datagram
from probes.net import Address


async def _asked(write: Callable[[], bytes], read: Callable[[bytes, int], int | None], *, stamped: bool) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(server.fileno(), lambda: server.sendto(b"x", server.recvfrom(100)[1]))
        m = Measurement(1.0, tools=Tools())
        address = Address(socket.AF_INET, "127.0.0.1", server.getsockname()[1])
        try:
            with open_datagram(m, address, stamped=stamped) as sock:
                return await exchange(m, sock, address, Ask(write, read, [0.8], stamped=stamped))
        finally:
            loop.remove_reader(server.fileno())


@pytest.mark.parametrize("stamped", [False, True])
async def test_a_bug_in_reading_an_answer_is_raised_and_not_waited_out(stamped: bool) -> None:
    def read(wire: bytes, _: int) -> int:
        return wire[7]

    with pytest.raises(IndexError):
        await asyncio.wait_for(_asked(lambda: b"?", read, stamped=stamped), 0.5)


async def test_an_answer_is_read() -> None:
    assert await _asked(lambda: b"?", lambda wire, _: wire[0], stamped=False) == ord("x")
