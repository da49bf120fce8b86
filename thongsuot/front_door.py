"""The daemon's listening socket: opened once, and open over every reload.

While one configuration's page gives way to the next, callers wait in the kernel's queue instead of being refused. How
many are let in at once is limited; one more takes the place of whoever has been connected longest and asks nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporters.web.app import requests_log

CONNECTIONS: Final = 256  # chosen: streams, scrapes and probes on demand at their own limits, and some to spare
QUEUE: Final = 128  # callers the kernel lets wait
LAST_WORDS_S: Final = 0.05  # for requests of those who were let in just before a reload
SHUTDOWN_S: Final = 2.0  # for requests under way
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nServer: thongsuot\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Retry-After: 5\r\nConnection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


class FrontDoor:
    """Where the daemon can be called. Belongs to the process, not to a configuration."""

    def __init__(self, most: int = CONNECTIONS) -> None:
        """Args: most: connections at once."""
        self._most = most
        self._at: tuple[str, int] | None = None
        self._sockets: list[socket.socket] = []

    @contextlib.asynccontextmanager
    async def serving(self, app: web.Application, host: str, port: int) -> AsyncIterator[str]:
        """Let an application answer; yields the address of its page. It listens on after the end, until `close`.

        Raises:
            OSError: the address cannot be had; what was listened on before is kept.
        """
        await self._listen(host, port)
        busy: set[asyncio.BaseTransport] = set()
        app.middlewares.insert(0, _noting(busy))
        runner = web.AppRunner(
            app, access_log=None, logger=requests_log, handle_signals=False, shutdown_timeout=SHUTDOWN_S
        )
        await runner.setup()
        assert runner.server is not None
        factory = _limited(runner.server, busy, self._most)
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        try:
            for listening in self._sockets:
                # A second descriptor of the same queue: closing it turns nobody away.
                server = await loop.create_server(factory, sock=listening.dup(), backlog=QUEUE)
                servers.append(server)
            yield self._url()
        finally:
            for server in servers:
                server.close()
            await asyncio.sleep(LAST_WORDS_S)
            await runner.cleanup()

    def close(self) -> None:
        """Listen no more."""
        for listening in self._sockets:
            listening.close()
        self._sockets, self._at = [], None

    async def _listen(self, host: str, port: int) -> None:
        if self._at == (host, port):
            return
        opened = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
        fresh = [bound.dup() for bound in opened.sockets]
        opened.close()
        try:
            for listening in fresh:
                listening.listen(QUEUE)
        except OSError:
            for listening in fresh:
                listening.close()
            raise
        self.close()
        self._sockets, self._at = fresh, (host, port)

    def _url(self) -> str:
        host, port = self._sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _noting(busy: set[asyncio.BaseTransport]) -> Middleware:
    """Make what notes the connections whose requests are being answered."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        if transport is None:  # the caller has left
            return await handler(request)
        busy.add(transport)
        try:
            return await handler(request)
        finally:
            busy.discard(transport)

    return note


def _limited(server: web.Server, busy: set[asyncio.BaseTransport], most: int) -> Callable[[], asyncio.BaseProtocol]:
    """Make what answers new connections: the server, or a refusal when `most` are busy."""

    def protocol() -> asyncio.BaseProtocol:
        known = server.connections  # in the order in which they came
        if len(known) < most:
            return server()
        idle = next((c.transport for c in known if c.transport is not None and c.transport not in busy), None)
        if idle is None:
            return _Full()
        idle.abort()
        return server()

    return protocol


class _Full(asyncio.Protocol):
    """Turns a caller away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(_FULL)
        transport.close()
