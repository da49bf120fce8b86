"""Web servers for the probes that ask them: scripted answers, and the requests that came."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from probes import PROBES
from probes.base import Path, ProbeSettings, Reading, Tools, measure
from tests.servers import LOOPBACK, Address, byte_server


@dataclass(slots=True)
class Request:
    """One request as the server saw it."""

    line: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    peer: str

    @property
    def target(self) -> str:
        return self.line.split()[1]


@dataclass(slots=True)
class Site:
    """A web server that answers by path; what it does not know is a 404."""

    pages: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    address: Address = field(default_factory=lambda: Address("", 0))
    scheme: str = "http"

    def url(self, target: str = "/", host: str = "") -> str:
        name = host or self.address.host
        return f"{self.scheme}://{f'[{name}]' if ':' in name else name}:{self.address.port}{target}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(head[0], headers, body, writer.get_extra_info("peername")[0]))
        target = self.requests[-1].target
        writer.write(self.pages.get(target, answer(status="404 Not Found")))
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    async def serve_and_close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a server that closes none by itself."""
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def site(
    pages: dict[str, bytes] | bytes, *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK
) -> AsyncIterator[Site]:
    """Serve pages by target; bytes alone are the answer to `/`."""
    here = Site({"/": pages} if isinstance(pages, bytes) else dict(pages), scheme="https" if tls else "http")
    async with byte_server(here.serve, tls=tls, host=host) as here.address:
        yield here


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Write a response by hand."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def page(text: str, *headers: str) -> bytes:
    """Write a page in UTF-8."""
    return answer(text.encode(), "Content-Type: text/html; charset=utf-8", *headers)


def redirect(location: str, status: int = 302, *headers: str) -> bytes:
    """Write a redirect."""
    return answer(b"moved", f"Location: {location}", *headers, status=f"{status} Moved")


def settings_of(kind: str, **settings: Any) -> ProbeSettings:
    """Read settings as the loader does: strictly, from JSON."""
    return PROBES[kind].settings.model_validate_json(json.dumps(settings, default=str))


async def probe(kind: str, *, timeout_s: float = 5.0, path: Path | None = None, **settings: Any) -> Reading:
    """Run one probe with tools of its own."""
    tools = Tools()
    try:
        return await measure(PROBES[kind], settings_of(kind, **settings), timeout_s=timeout_s, path=path, tools=tools)
    finally:
        tools.close()
