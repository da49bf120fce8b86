"""gRPC health: does a service answer the standard health check, and does it say that it serves?

One call of `grpc.health.v1.Health/Check` over a fresh connection. Source: the gRPC protocol over HTTP/2
(PROTOCOL-HTTP2.md of the gRPC project), its health checking protocol (health/v1), RFC 9113.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from pydantic import Field, field_validator

from probes.base import Fault, Host, IpFamily, Measurement, Port, ProbeError, ProbeType, Value, one_line
from probes.http2 import Exchange
from probes.net import Stream, open_stream
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings, alert_words, open_tls

SERVING: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")  # by number; health.proto
PATH: Final = "/grpc.health.v1.Health/Check"
ANSWER_LIMIT: Final = 4096  # bytes of a health answer; an honest one has seven
# What the HTTP status means when a proxy answered and not gRPC (doc/http-grpc-status-mapping.md of gRPC).
_BY_HTTP_STATUS: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_UNKNOWN: Final = 2
STATUS_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_KEY: Final = re.compile(r"[0-9a-z_.-]+")


class Settings(TlsSettings):
    """What a gRPC check needs."""

    host: Host = Field(description="Name or address")
    port: Port = Field(description="Port")
    service: str = Field(
        default="", max_length=1000, description="Service asked about; empty asks about the server as a whole"
    )
    tls: bool = Field(default=False, description="TLS from the first byte")
    metadata: Mapping[str, str] = Field(
        default_factory=dict, max_length=50, description="Metadata to send; names in lower case"
    )
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")

    @field_validator("metadata")
    @classmethod
    def _can_be_sent(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in given.items():
            if not _KEY.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
                raise ValueError(f"{one_line(name, 40)!r} is no metadata that can be sent")
            if not value.isascii() or not value.isprintable():
                raise ValueError(f"metadata {name} holds what a header cannot")
        return given


class Health(NamedTuple):
    """What came of one health check."""

    status: int  # of gRPC; 0 is OK
    message: str
    serving: str  # one of SERVING, or a number newer than these; empty without an answer


async def run(s: Settings, m: Measurement) -> None:
    """Ask for health once.

    Raises:
        ProbeError: CONTENT when the service does not serve or does not know; PROTOCOL when it is not gRPC.
        OSError: a connection failed.
    """
    shown = f"[{s.host}]" if ":" in s.host else s.host
    async with _connected(s, m) as stream:
        health = await check(m, stream, f"{shown}:{s.port}", s.service, list(s.metadata.items()), tls=s.tls)
    m.values["grpc_status_code"] = float(health.status)
    if health.serving:
        m.fact("serving_status", health.serving)
    if health.status:
        name = STATUS_NAMES[health.status] if health.status < len(STATUS_NAMES) else str(health.status)
        raise ProbeError(Fault.CONTENT, f"gRPC status {name}{': ' if health.message else ''}{health.message}")
    if health.serving != "SERVING":
        raise ProbeError(Fault.CONTENT, f"health is {health.serving}, expected SERVING")


def _connected(s: Settings, m: Measurement) -> contextlib.AbstractAsyncContextManager[Stream]:
    if s.tls:
        return open_tls(m, s, s.host, s.port, family=s.family, alpn=("h2",))
    return open_stream(m, s.host, s.port, family=s.family)


async def check(
    m: Measurement, stream: Stream, authority: str, service: str, metadata: Iterable[tuple[str, str]], *, tls: bool
) -> Health:
    """Make the call on a fresh connection, timed as phase `processing`.

    Raises:
        ProbeError: PROTOCOL or REFUSED when no gRPC answer came.
    """
    answer = bytearray()

    def take(part: bytes) -> None:
        if len(answer) + len(part) > ANSWER_LIMIT:
            raise ProbeError(Fault.PROTOCOL, "the answer is too long to be one about health")
        answer.extend(part)

    exchange = Exchange(take)
    head = [
        (":method", "POST"),
        (":scheme", "https" if tls else "http"),
        (":path", PATH),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "thongsuot"),
        ("grpc-timeout", f"{max(1, round(m.timeout_s * 1000))}m"),
        *metadata,
    ]
    with m.phase("processing"):
        await stream.write(exchange.request(head, _question(service)))
        async for data in _pieces(stream):
            reply = exchange.feed(data)
            if exchange.done:
                break
            if reply:
                await stream.write(reply)
        exchange.closed()
    return _read(exchange, bytes(answer))


async def _pieces(stream: Stream) -> AsyncIterator[bytes]:
    try:
        while data := await stream.read_some():
            yield data
    except ConnectionError:
        return
    except ssl.SSLError as exc:  # TLS 1.3 refuses a client only after the handshake
        raise ProbeError(Fault.TLS, alert_words(exc)) from exc


def _question(service: str) -> bytes:
    """Return a HealthCheckRequest as a gRPC message: field 1 is the service's name."""
    name = service.encode("utf-8")
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _read(exchange: Exchange, answer: bytes) -> Health:
    # An answer of headers alone carries its status in them (PROTOCOL-HTTP2.md, Trailers-Only).
    said = {**dict(exchange.headers), **dict(exchange.trailers)}
    word = said.get("grpc-status", "")
    if not word.isascii() or not word.isdigit():
        if exchange.status == 200:
            raise ProbeError(Fault.PROTOCOL, "the answer carries no gRPC status")
        return Health(_BY_HTTP_STATUS.get(exchange.status, _UNKNOWN), f"HTTP status {exchange.status}", "")
    status = int(word[:9])
    message = one_line(unquote(said.get("grpc-message", "")), 100)
    return Health(status, message, "" if status else serving(answer))


def serving(answer: bytes) -> str:
    """Read a HealthCheckResponse in its gRPC frame: field 1 is the serving status. Pure.

    Raises:
        ProbeError: PROTOCOL when it is none.
    """
    if len(answer) < 5 or answer[0] != 0 or int.from_bytes(answer[1:5], "big") != len(answer) - 5:
        raise ProbeError(Fault.PROTOCOL, "the answer is not one whole, uncompressed gRPC message")
    number, at, message = 0, 0, answer[5:]
    while at < len(message):
        tag, at = _read_varint(message, at)
        if tag & 7 == 0:
            value, at = _read_varint(message, at)
            number = value if tag >> 3 == 1 else number
        elif tag & 7 == 2:
            size, at = _read_varint(message, at)
            at += size
        else:
            at += {1: 8, 5: 4}.get(tag & 7, len(message))
    if at != len(message):
        raise ProbeError(Fault.PROTOCOL, "the answer about health is cut or malformed")
    return SERVING[number] if number < len(SERVING) else str(number)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message) and shift < 64:
        byte, at = message[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, at
    raise ProbeError(Fault.PROTOCOL, "the answer about health is cut or malformed")


PROBE = ProbeType(
    kind="grpc",
    summary="The standard health check of a gRPC service",
    settings=Settings,
    run=run,
    values=(
        Value("grpc_status_code", "Status of the call; 0 is OK, 5 NOT_FOUND, 12 UNIMPLEMENTED, 14 UNAVAILABLE"),
        *TLS_VALUES,
    ),
    facts=(
        Value("address", "The address that took the connection"),
        Value("serving_status", "What the service says of itself: SERVING, NOT_SERVING, …"),
        *TLS_FACTS,
    ),
)
