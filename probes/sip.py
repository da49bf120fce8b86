"""SIP: does a telephone exchange or conference server answer OPTIONS, by UDP, TCP or TLS, and with what?

OPTIONS asks what the other end can do and rings nowhere. Any final answer shows that SIP is alive; which ones are good
is a matter of the settings, for many exchanges answer 404 or 405 to a stranger and work well. Nothing is logged in.

Source: RFC 3261 sections 11 (OPTIONS), 17.1.2 (timers), 18 (transport), 21 (answers); RFC 3581 (rport).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, field_validator

from probes import sip_message
from probes.base import Fault, Host, IpFamily, Measurement, Port, ProbeError, ProbeType, Value
from probes.datagram import Ask, doubling, exchange, open_datagram, time_left
from probes.net import Stream, open_stream, resolve
from probes.sip_message import Message, Options
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings, open_tls, server_name

T1_S: Final = 0.5  # RFC 3261 section 17.1.1.1: a request by UDP is sent again after this, then doubled
T2_S: Final = 4.0  # up to this
BODY_LIMIT: Final = 65536  # bytes behind a provisional answer; chosen: none has a body in practice
FOREIGN_LIMIT: Final = 100  # messages of a connection that are no answer of ours, empty ones included; chosen
AGENT: Final = "thongsuot"

_Uri = Annotated[str, Field(min_length=5, max_length=300, pattern=r"^sips?:[^\s<>\"\x00-\x1f\x7f]+$")]
_FinalCode = Annotated[int, Field(ge=300, le=699)]
_Method = Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")]


class Transport(StrEnum):
    """How requests travel."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class Settings(TlsSettings):
    """What a SIP check needs."""

    host: Host = Field(description="Exchange, proxy or gateway: name or address")
    port: Port | None = Field(default=None, description="Port; 5060, or 5061 for TLS")
    transport: Transport = Field(default=Transport.UDP, description="udp, tcp or tls")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    uri: _Uri | None = Field(default=None, description="Whom OPTIONS is for, as sip:truc@example.vn; the server itself")
    sender: _Uri | None = Field(default=None, description="Our own address in From; sip:giam-sat@ our IP address")
    codes: tuple[_FinalCode, ...] = Field(
        default=(), max_length=50, description="Answers that are good beside 200 to 299, as 404 or 405"
    )
    methods: tuple[_Method, ...] = Field(
        default=(), max_length=20, description="Methods that a good answer must allow, as INVITE"
    )
    max_forwards: int = Field(default=70, ge=0, le=70, description="Proxies that may pass it on; 0 asks the first one")

    @field_validator("uri", "sender")
    @classmethod
    def _is_ascii(cls, given: str | None) -> str | None:
        if given is not None and not given.isascii():
            raise ValueError("an address of SIP is written in ASCII; other letters as %xx")
        return given

    @property
    def wire_port(self) -> int:
        """The port in force."""
        return self.port or (5061 if self.transport is Transport.TLS else 5060)

    @property
    def wire_uri(self) -> str:
        """Whom the request is for."""
        usual = 5061 if self.transport is Transport.TLS else 5060
        port = "" if self.wire_port == usual else f":{self.wire_port}"
        return self.uri or f"sip:{_bracketed(self.host)}{port}"


def _bracketed(host: str) -> str:
    return f"[{host.strip('[]').partition('%')[0]}]" if ":" in host else server_name(host)


async def run(settings: Settings, m: Measurement) -> None:
    """Ask once for the options and judge the final answer.

    Raises:
        ProbeError: TIMEOUT without a final answer, PROTOCOL when it is not SIP's, CONTENT when it is not a good one,
            UNREACHABLE when the network said so, TLS.
        OSError: the host refused.
    """
    if settings.transport is Transport.UDP:
        response = await _by_udp(settings, m)
    else:
        response = await _by_stream(settings, m)
    _report(m, response)
    _judge(settings, response)


def _request(s: Settings, own: tuple[str, int]) -> Options:
    host = _bracketed(own[0])
    return Options(
        uri=s.wire_uri,
        sender=s.sender or f"sip:giam-sat@{host}",
        transport=s.transport.upper(),
        sent_by=f"{host}:{own[1]}",
        branch=f"z9hG4bK{secrets.token_hex(12)}",  # RFC 3261 section 8.1.1.7: the cookie says that it is unique
        call_id=secrets.token_hex(16),
        tag=secrets.token_hex(8),
        cseq=1 + secrets.randbelow(2**30),
        agent=AGENT,
        max_forwards=s.max_forwards,
    )


class _Provisional:
    """Answers that say "wait" (1xx): they end nothing, and are not strangers'."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def take(self, response: Message) -> bool:
        """Note a provisional answer; False for a final one."""
        if response.status >= 200:
            return False
        self.count += 1
        self.last = f"{response.status} {response.reason}".strip()
        return True


async def _by_udp(s: Settings, m: Measurement) -> Message:
    began = time.perf_counter()
    address = (await resolve(m, s.host, s.wire_port, s.family))[0]
    m.fact("address", address.ip)
    waiting = _Provisional()
    with open_datagram(m, address) as sock, m.phase("processing"):
        request = _request(s, sock.getsockname()[:2])
        wire = request.encode()

        def read(datagram: bytes, _: int) -> Message | None:
            try:
                response = sip_message.parse(datagram)
            except ProbeError:
                return None  # it may be anybody's
            if not request.is_answered_by(response):
                return None
            return None if waiting.take(response) else response

        pauses = doubling(T1_S, time_left(m, began), most_s=T2_S)
        try:
            return await exchange(m, sock, address, Ask(lambda: wire, read, pauses))
        except ProbeError as exc:
            if waiting.count and exc.fault in (Fault.TIMEOUT, Fault.PROTOCOL):
                raise ProbeError(Fault.TIMEOUT, f"no final answer came, the last was {waiting.last}") from exc
            raise
        finally:
            m.values["foreign_count"] -= waiting.count
            m.values["provisional_count"] = waiting.count


async def _by_stream(s: Settings, m: Measurement) -> Message:
    waiting = _Provisional()
    m.values["sent_count"] = 1
    m.values["foreign_count"] = 0
    m.values["provisional_count"] = 0
    async with _opened(s, m) as stream:
        request = _request(s, stream.writer.get_extra_info("sockname")[:2])
        with m.phase("processing"):
            await stream.write(request.encode())
            while True:
                response = await _next(stream)
                if not request.is_answered_by(response):
                    m.values["foreign_count"] += 1
                    _bound(m.values["foreign_count"])
                elif not waiting.take(response):
                    return response
                m.values["provisional_count"] = waiting.count
                _bound(waiting.count)


def _bound(count: float) -> None:
    if count > FOREIGN_LIMIT:
        raise ProbeError(Fault.PROTOCOL, f"more than {FOREIGN_LIMIT} messages came, and none of them a final answer")


@contextlib.asynccontextmanager
async def _opened(s: Settings, m: Measurement) -> AsyncIterator[Stream]:
    if s.transport is Transport.TLS:
        async with open_tls(m, s, s.host, s.wire_port, family=s.family) as stream:
            yield stream
    else:
        async with open_stream(m, s.host, s.wire_port, family=s.family) as stream:
            yield stream


async def _next(stream: Stream) -> Message:
    """Read the next message of a stream; a final answer's body is left where it is.

    Raises:
        ProbeError: PROTOCOL when it is not SIP's or too long; REFUSED when the server hung up.
    """
    head, empty = b"", 0
    try:
        while not head.strip():  # empty lines keep connections alive (RFC 5626 section 3.5.1)
            empty += 1
            _bound(empty)
            head = await stream.reader.readuntil(b"\r\n\r\n")
        response = sip_message.parse(head)
        if response.status < 200:  # a request of the server's own, too
            size = response.body_bytes
            if size > BODY_LIMIT:
                raise ProbeError(Fault.PROTOCOL, f"a body of {size} bytes came, at most {BODY_LIMIT} are taken")
            await stream.reader.readexactly(size)
    except asyncio.LimitOverrunError as exc:
        raise ProbeError(Fault.PROTOCOL, "a message came whose head does not end") from exc
    except asyncio.IncompleteReadError as exc:
        if exc.partial.strip() and not exc.partial.lstrip().startswith(b"SIP/2.0"):
            sip_message.parse(exc.partial)  # says what came instead
        raise ProbeError(Fault.REFUSED, "the server hung up before a whole answer") from exc
    return response


def _report(m: Measurement, response: Message) -> None:
    m.values["status_code"] = response.status
    m.fact("status", f"{response.status} {response.reason}".strip())
    if response.agent:
        m.fact("user_agent", response.agent)
    if allow := response.joined("allow"):
        m.fact("allow", allow)
    if response.retry_after_s is not None:
        m.values["retry_after_s"] = response.retry_after_s


def _judge(s: Settings, response: Message) -> None:
    """Compare an answer with the rules.

    Raises:
        ProbeError: CONTENT with what was expected and what came.
    """
    came = f"status {response.status} {response.reason}".strip()
    if not 200 <= response.status <= 299 and response.status not in s.codes:
        also = f" or one of {', '.join(map(str, s.codes))}" if s.codes else ""
        raise ProbeError(Fault.CONTENT, f"{came}, expected 200 to 299{also}")
    if s.methods:
        allowed = {word.strip().upper() for word in response.joined("allow").split(",")}
        if missing := [method for method in s.methods if method not in allowed]:
            raise ProbeError(Fault.CONTENT, f"{came}, but it does not allow {', '.join(missing)}")


PROBE = ProbeType(
    kind="sip",
    summary="A telephone exchange or conference server: its answer to OPTIONS by UDP, TCP or TLS",
    settings=Settings,
    run=run,
    values=(
        *TLS_VALUES,
        Value("status_code", "Status of the final answer"),
        Value("retry_after_s", "When an overloaded server wants to be asked again"),
        Value("sent_count", "Requests sent until the answer came"),
        Value("provisional_count", "Answers that said to wait (1xx)"),
        Value("foreign_count", "Messages that came and did not answer the request"),
    ),
    facts=(
        Value("address", "The server's address"),
        *TLS_FACTS,
        Value("status", "Status and reason of the final answer"),
        Value("user_agent", "What the server calls itself"),
        Value("allow", "Methods that the server allows"),
    ),
    default_timeout_s=5.0,
)
