"""A connection at the least cost: bytes straight from the socket, TLS by OpenSSL over two buffers in memory.

For probes that ask once and read until the end. asyncio's streams and transports do more, and with them the probe costs
half as much again. Everything waits in the caller's task, so the run's deadline bounds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from probes.base import Fault, IpFamily, Measurement, ProbeError
from probes.handshake_bound import HANDSHAKE_BYTES
from probes.net import connect

READ_BYTES: Final = 65536  # taken from the socket at once, and so the most that is ever unread here
READS_AT_ONCE: Final = 2  # chosen: from a peer that is faster than we are; then others have their turn


class Wire:
    """A connection over a non-blocking socket. Owned by `open_wire`, which closes it."""

    __slots__ = ("_incoming", "_loop", "_outgoing", "_sock", "_tls", "_unwaited")

    def __init__(self, sock: socket.socket) -> None:
        """Args: sock: connected and non-blocking."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._unwaited = 0  # reads since the last that had to wait
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, once there is one."""
        return self._tls

    @property
    def peer(self) -> tuple[Any, ...]:
        """Address and port of the other side."""
        found: tuple[Any, ...] = self._sock.getpeername()
        return found

    async def read_some(self) -> bytes:
        """Read what has come, at most `READ_BYTES`; empty at the end of the stream.

        Raises:
            ConnectionError: the peer reset the connection.
            ssl.SSLError: the peer sent an alert, or something that is not TLS.
        """
        if self._tls is None:
            return await self._receive()
        while True:
            try:
                return self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                await self._take_in()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""  # many servers hang up without TLS's goodbye; whether all has come, the protocol tells

    async def write(self, data: bytes) -> None:
        """Send bytes and wait until the kernel has them.

        Raises:
            ConnectionError: the peer reset the connection.
        """
        if self._tls is None:
            await self._send(data)
        else:
            self._tls.write(data)  # into a buffer without bounds: all of it, at once
            await self._flush()

    async def start_tls(self, m: Measurement, context: ssl.SSLContext, server_name: str) -> None:
        """Turn this plain connection into TLS, timed as phase `tls`.

        Raises:
            ssl.SSLError: the handshake failed; ssl.SSLCertVerificationError when only the certificate did.
            ProbeError: TLS when the handshake does not come to its end.
            ConnectionError: the peer reset the connection.
        """
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # A name as bytes is taken as it is; it has been through IDNA already, which costs some 10 us.
        name = server_name.encode("ascii")
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        taken = 0
        with m.phase("tls"):
            try:
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        await self._flush()
                        taken += await self._take_in()
                    if taken > HANDSHAKE_BYTES:  # requests to begin anew, say: OpenSSL passes over them for ever
                        raise ProbeError(Fault.TLS, f"the handshake is longer than {HANDSHAKE_BYTES} bytes")
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._sock.send(self._outgoing.read())  # the alert, so that the server knows why
                raise
            await self._flush()
        self._tls = tls

    async def _take_in(self) -> int:
        data = await self._receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return len(data)

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._send(data)

    async def _receive(self) -> bytes:
        if self._unwaited >= READS_AT_ONCE:
            self._unwaited = 0
            await asyncio.sleep(0)
        while True:
            try:
                data = self._sock.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                self._unwaited = 0
                await self._ready(reading=True)
            else:
                self._unwaited += 1
                return data

    async def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except (BlockingIOError, InterruptedError):
                await self._ready(reading=False)

    async def _ready(self, *, reading: bool) -> None:
        loop, sock = self._loop, self._sock
        ready: asyncio.Future[None] = loop.create_future()
        if reading:
            loop.add_reader(sock, _wake, ready)
        else:
            loop.add_writer(sock, _wake, ready)
        try:
            await ready
        finally:
            if reading:
                loop.remove_reader(sock)
            else:
                loop.remove_writer(sock)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


@asynccontextmanager
async def open_wire(m: Measurement, host: str, port: int, *, family: IpFamily = IpFamily.ANY) -> AsyncIterator[Wire]:
    """Connect, and close the connection at the end, also when cancelled.

    Raises:
        ProbeError: see `probes.net.connect`.
        OSError: see `probes.net.connect`.
    """
    sock = await connect(m, host, port, family)
    try:
        yield Wire(sock)
    finally:
        sock.close()
