"""A gRPC server of one method, the health check, written on bytes: good enough for gRPC's own clients."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from probes.hpack import encode
from probes.http2 import Frame, frame
from tests.servers import LOOPBACK, Address, byte_server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SERVING, NOT_SERVING = 1, 2


def grpc_server(
    services: Mapping[str, int], *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK
) -> AbstractAsyncContextManager[Address]:
    """Answer with the serving status of a service by its name, or with NOT_FOUND."""
    if tls is not None:
        tls.set_alpn_protocols(["h2"])

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        writer.write(frame(Frame.SETTINGS, 0, 0))
        bodies: dict[int, bytes] = {}
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == Frame.SETTINGS and not flags & 1:
                writer.write(frame(Frame.SETTINGS, 1, 0))
            elif kind == Frame.PING and not flags & 1:
                writer.write(frame(Frame.PING, 1, 0, payload))
            elif kind == Frame.DATA:
                bodies[stream] = bodies.get(stream, b"") + payload
            if kind in (Frame.DATA, Frame.HEADERS) and flags & 1:
                writer.write(_answer(stream, bodies.get(stream, b""), services))

    return byte_server(handler, tls=tls, host=host)


def _answer(stream: int, body: bytes, services: Mapping[str, int]) -> bytes:
    name = body[7:].decode() if len(body) > 7 else ""
    status = services.get(name)
    head = encode([(":status", "200"), ("content-type", "application/grpc")])
    if status is None:
        trailers = encode([("grpc-status", "5"), ("grpc-message", "unknown%20service")])
        return frame(Frame.HEADERS, 4, stream, head) + frame(Frame.HEADERS, 5, stream, trailers)
    message = b"\0\0\0\0\x02\x08" + bytes([status])
    trailers = encode([("grpc-status", "0")])
    return (
        frame(Frame.HEADERS, 4, stream, head)
        + frame(Frame.DATA, 0, stream, message)
        + frame(Frame.HEADERS, 5, stream, trailers)
    )
