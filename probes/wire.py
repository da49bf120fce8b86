"""A connection at the least cost: bytes straight from the socket, TLS by OpenSSL over two buffers in memory.

For probes that ask once and read until the end. asyncio's streams and transports do more, and with them the probe costs
half as much again. Everything waits in the caller's task, so the run's deadline bounds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from probes.base import Fault, IpFamily, Measurement, ProbeError
from probes.handshake_bound import HANDSHAKE_BYTES
from probes.net import connect

READ_BYTES: Final = 65536  # taken from the socket at once, and so the most that is ever unread here
READS_AT_ONCE: Final = 2  # chosen: from a peer that is faster than we are; then others have their turn


class Wire:
    """A connection over a non-blocking socket. Owned by `open_wire`, which closes it."""

    __slots__ = (
        "_asked",
        "_incoming",
        "_listens",
        "_loop",
        "_number",
        "_outgoing",
        "_readable",
        "_sock",
        "_tls",
        "_unwaited",
    )

    def __init__(self, sock: socket.socket) -> None:
        """Args: sock: connected and non-blocking."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._unwaited = 0  # reads since the last that had to wait
        self._asked = False  # something was sent since the last read: no answer can be here yet
        self._number = sock.fileno()  # by which the loop finds it fastest
        self._listens = False  # the loop tells us when there is something to read
        self._readable: asyncio.Future[None] | None = None  # who waits for that
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, once there is one."""
        return self._tls

    @property
    def peer(self) -> tuple[Any, ...]:
        """Address and port of the other side; empty when it has reset the connection."""
        try:
            found: tuple[Any, ...] = self._sock.getpeername()
        except OSError:
            return ()
        return found

    @property
    def own(self) -> tuple[Any, ...]:
        """Address and port of this side."""
        found: tuple[Any, ...] = self._sock.getsockname()
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
                return _through_buffer(self._decrypt)
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
        if self._asked:
            self._asked, self._unwaited = False, 0
            await self._wait_readable()
        elif self._unwaited >= READS_AT_ONCE:
            self._unwaited = 0
            await asyncio.sleep(0)
        while True:
            try:
                data = _through_buffer(self._fill)
            except (BlockingIOError, InterruptedError):
                self._unwaited = 0
                await self._wait_readable()
            else:
                self._unwaited += 1
                return data

    def _fill(self, buffer: bytearray) -> int:
        return self._sock.recv_into(buffer)

    def _decrypt(self, buffer: bytearray) -> int:
        assert self._tls is not None
        return cast(int, self._tls.read(READ_BYTES, buffer))  # with a buffer it returns how much is in it

    async def _send(self, data: bytes) -> None:
        self._asked = True
        sent = 0
        while sent < len(data):
            try:
                sent += self._sock.send(memoryview(data)[sent:] if sent else data)
            except (BlockingIOError, InterruptedError):
                await self._wait_writable()

    async def _wait_readable(self) -> None:
        self._readable = self._loop.create_future()
        if not self._listens:
            self._listens = True
            self._loop.add_reader(self._number, self._on_readable)
        try:
            await self._readable
        finally:
            self._readable = None

    def _on_readable(self) -> None:
        if self._readable is None:  # nobody waits: else the loop would call for as long as it lies there
            self._hear_no_more()
        elif not self._readable.done():
            self._readable.set_result(None)

    def _hear_no_more(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._number)

    async def _wait_writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._number, _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._number)

    def close(self) -> None:
        """Close the connection, without TLS's goodbye."""
        self._hear_no_more()
        self._sock.close()


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


# Buffers to read into, one for each thread that reads at this moment. With a new one for every read, malloc would tidy
# up all of OpenSSL's small pieces each time.
_spare: Final[list[bytearray]] = []


def _through_buffer(fill: Callable[[bytearray], int]) -> bytes:
    """Return what `fill` puts into a buffer."""
    buffer = _spare.pop() if _spare else bytearray(READ_BYTES)
    try:
        return bytes(memoryview(buffer)[: fill(buffer)])
    finally:
        _spare.append(buffer)


class open_wire:  # noqa: N801  used as a block, as contextlib's are, at a tenth of their cost
    """Connect, and close the connection at the end, also when cancelled.

    Raises:
        ProbeError: see `probes.net.connect`.
        OSError: see `probes.net.connect`.
    """

    __slots__ = ("_family", "_host", "_m", "_port", "_wire")

    def __init__(self, m: Measurement, host: str, port: int, *, family: IpFamily = IpFamily.ANY) -> None:
        """Args: m: where phases and the address go. host, port: where to. family: of address to use."""
        self._m, self._host, self._port, self._family = m, host, port, family

    async def __aenter__(self) -> Wire:
        self._wire = Wire(await connect(self._m, self._host, self._port, self._family))
        return self._wire

    async def __aexit__(self, *_: object) -> None:
        self._wire.close()
