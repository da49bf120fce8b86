"""What is probed: TCP, DNS and HTTP servers on loopback, in a process of their own so that their CPU is not counted.

    python target_servers.py TCP_PORTS DNS_PORTS HTTP_PORTS

Each argument is a list of ports with commas between. Runs until SIGTERM. Needs nothing of the house: the answers are
the smallest that each protocol allows.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import Final, cast

import uvloop

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 1024
_PAGE: Final = b"<!doctype html><title>bench</title><p>" + b"well " * 100
_RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    % len(_PAGE)
) + _PAGE
_ANSWER: Final = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"  # A 127.0.0.1, TTL 60
_FLAGS_AND_COUNTS: Final = b"\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00"  # an authoritative answer of one record
_HEADER_BYTES: Final = 12


class Accepting:
    """Takes connections, and hangs up each once so many others have come: by then the client has hung up first.

    No reader and no protocol for each: so it is never the server that a client waits for.
    """

    KEPT: Final = 256

    def __init__(self, port: int) -> None:
        self._listening = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
        self._listening.setblocking(False)
        self._taken: deque[socket.socket] = deque()
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._take)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(BACKLOG):
                self._taken.append(self._listening.accept()[0])
                if len(self._taken) > self.KEPT:
                    self._taken.popleft().close()


class Page(asyncio.Protocol):
    """Answers any request with the same small page, then hangs up."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the request's head is whole."""
        self._heard += data
        if self._transport is not None and self._heard.endswith(b"\r\n\r\n"):
            self._transport.write(_RESPONSE)
            self._transport.close()


class Names:
    """Answers every question with one address."""

    def __init__(self, port: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.setblocking(False)
        self._sock.bind((LOOPBACK, port))
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._answer)

    def _answer(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(BACKLOG):
                data, client = self._sock.recvfrom(512)
                end = data.find(b"\0", _HEADER_BYTES) + 5  # the name's root label, type and class
                if end > _HEADER_BYTES + 4:
                    # A client that has gone is told of by an ICMP error to nobody: the socket is not connected.
                    self._sock.sendto(data[:2] + _FLAGS_AND_COUNTS + data[_HEADER_BYTES:end] + _ANSWER, client)


def ports(text: str) -> list[int]:
    """Read a list of ports."""
    return [int(word) for word in text.split(",") if word]


async def serve(tcp: list[int], names: list[int], pages: list[int]) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listening = [*map(Names, names), *map(Accepting, tcp)]
    for port in pages:
        await loop.create_server(Page, LOOPBACK, port, backlog=BACKLOG)
    await stop.wait()
    listening.clear()


if __name__ == "__main__":
    uvloop.run(serve(*map(ports, sys.argv[1:4])))
