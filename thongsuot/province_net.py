"""Listeners of the demo province: TCP, UDP and HTTP servers that stop and start again on their own port.

A port is chosen free at first and held from then on, so that nothing else takes it while its server is "broken".
These servers know nothing of the monitor; they exist so that it has something real to watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiohttp import web

CLIENTS_LIMIT: Final = 256  # open connections of one listener; chosen: far above what the demo's checks open
SESSION_LIMIT_S: Final = 120.0  # longest life of one connection
CLOSE_LIMIT_S: Final = 1.0  # how long a peer may take to say goodbye before the connection is cut

Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener(Protocol):
    """One server on one address and port."""

    host: str
    port: int

    async def start(self) -> None:
        """Accept connections; OSError when the port is not to be had."""

    async def stop(self) -> None:
        """Cut every connection and refuse new ones; the port stays ours."""

    def release(self) -> None:
        """Give the port back for good."""


class Part:
    """Servers that break and recover together: all of mail, all of the portal."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners
        self.running = False

    async def start(self) -> None:
        """Start every server of the part, on the ports they had before; no effect when it runs."""
        if self.running:
            return
        try:
            for listener in self.listeners:
                await listener.start()
        except OSError:
            await self.stop()
            raise
        self.running = True

    async def stop(self) -> None:
        """Stop every server of the part as a crash would: connections are cut, new ones refused."""
        self.running = False
        for listener in self.listeners:
            await listener.stop()

    async def close(self) -> None:
        """Stop, and give the ports back."""
        await self.stop()
        for listener in self.listeners:
            listener.release()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class HeldPort:
    """A TCP port kept by a bound socket that never listens.

    Connections to it are refused until a second socket, also bound with SO_REUSEADDR, listens beside it. Without
    this a stopped server's port could be lent to any outgoing connection of this machine, the probe's own included:
    TCP lets a socket connect to itself, and a dead server would look alive.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        """Args: port: 0 chooses a free one."""
        self._sock = _bound(host, port)
        self.host = host
        self.port: int = self._sock.getsockname()[1]

    def listening(self) -> socket.socket:
        """Return a new socket on the port, for a server to listen on; the caller owns it."""
        return _bound(self.host, self.port)

    def release(self) -> None:
        """Give the port back."""
        self._sock.close()


class StreamListener:
    """A TCP or TLS server that runs one coroutine for each connection."""

    def __init__(self, host: str, session: Session, *, tls: ssl.SSLContext | None = None) -> None:
        """Args: session: may end with OSError or at end of file; the connection is closed after it."""
        self._held = HeldPort(host)
        self.host, self.port = host, self._held.port
        self._session = session
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Accept connections; OSError when the port is not to be had."""
        self._server = await asyncio.start_server(self._serve, sock=self._held.listening(), ssl=self._tls)

    async def stop(self) -> None:
        """Cut every connection and refuse new ones; the port stays ours."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_LIMIT_S)

    def release(self) -> None:
        """Give the port back for good."""
        self._held.release()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= CLIENTS_LIMIT:
            writer.transport.abort()
            return
        self._open[writer] = task
        try:
            async with asyncio.timeout(SESSION_LIMIT_S):
                await self._session(reader, writer)
            writer.close()
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await writer.wait_closed()
        except asyncio.CancelledError:
            pass  # stop() cuts its clients off; asyncio's own callback would log the cancellation as an error
        except (OSError, EOFError, ValueError):
            pass  # the client went away, was too slow or spoke no protocol: its own affair
        finally:
            writer.transport.abort()
            del self._open[writer]


class WebListener:
    """An HTTP or HTTPS server with one handler for every request."""

    def __init__(self, host: str, handler: Handler, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Args: port: 0 chooses a free one."""
        self._held = HeldPort(host, port)
        self.host, self.port = host, self._held.port
        self._handler = handler
        self._tls = tls
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http{'s' if self._tls else ''}://{self.host}:{self.port}/"

    async def start(self) -> None:
        """Accept connections; OSError when the port is not to be had."""
        runner = web.ServerRunner(web.Server(self._handler, access_log=None), shutdown_timeout=0.05)
        await runner.setup()
        self._runner = runner
        await web.SockSite(runner, self._held.listening(), ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Cut every connection and refuse new ones; the port stays ours."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def release(self) -> None:
        """Give the port back for good."""
        self._held.release()


async def greet_and_hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes) -> None:
    """Say a line, then keep the connection until the client leaves: a stand-in for databases and signalling ports."""
    if greeting:
        writer.write(greeting)
        await writer.drain()
    while await reader.read(4096):
        pass


def line_service(greeting: str) -> Session:
    """Return a session that greets with one line of text; an empty one says nothing."""
    line = f"{greeting}\r\n".encode() if greeting else b""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await greet_and_hold(reader, writer, line)

    return session
