"""WebSocket: does a server take the upgrade, and does it say the right words over it?

A video conference or a live board may serve its pages well and have no socket behind them. Phases: resolve, connect,
tls, processing (the upgrade), transfer (the dialogue). Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Final

from pydantic import AfterValidator, Field, field_validator

from probes.base import Fault, IpFamily, Measurement, ProbeError, ProbeType, Value, one_line
from probes.dialogue import SHOWN, STEPS_LIMIT, Step
from probes.http_url import URL_LIMIT, Url, parse_url
from probes.http_wire import HEADER_LIMIT, Response, ResponseParser, encode_request
from probes.net import Stream, open_stream
from probes.regex import search
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings, alert_words, open_tls
from probes.websocket_wire import Opcode, Reader, accept_of, encode

MESSAGES_LIMIT: Final = 100  # read for one step without finding its pattern; chosen: greetings and notices are few
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_OURS: Final = frozenset({"host", "connection", "upgrade", "content-length", "authorization"})


def http_url(text: str) -> Url:
    """Read a ws:// or wss:// address as the http:// or https:// one that is asked for the upgrade.

    Raises:
        ValueError: it is neither.
    """
    scheme, mark, rest = text.partition("://")
    if scheme not in ("ws", "wss") or not mark:
        raise ValueError("expected an address that begins with ws:// or wss://")
    return parse_url(f"{'https' if scheme == 'wss' else 'http'}://{rest}")


def _checked(text: str) -> str:
    http_url(text)
    return text


class Settings(TlsSettings):
    """What a WebSocket check needs."""

    url: Annotated[str, Field(max_length=URL_LIMIT), AfterValidator(_checked)] = Field(
        description="Address, ws:// or wss://"
    )
    headers: Mapping[str, str] = Field(default_factory=dict, max_length=50, description="Headers of the upgrade")
    subprotocol: str | None = Field(
        default=None, min_length=1, max_length=100, description="Protocol to ask for over the socket; must be agreed"
    )
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    dialogue: tuple[Step, ...] = Field(
        default=(), max_length=STEPS_LIMIT, description="Text messages sent, patterns expected in what comes"
    )

    def endpoint(self) -> str:
        """Return the URL's host."""
        return http_url(self.url).host

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in given.items():
            if not _TOKEN.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
                raise ValueError(f"{one_line(name, 40)!r} is no header that can be given here")
            if not value.isprintable():
                raise ValueError(f"header {name} holds a line end or another control character")
        return given

    @field_validator("subprotocol")
    @classmethod
    def _is_a_token(cls, given: str | None) -> str | None:
        if given is not None and not _TOKEN.fullmatch(given):
            raise ValueError("a subprotocol is one word")
        return given


async def run(s: Settings, m: Measurement) -> None:
    """Connect, upgrade, hold the dialogue, hang up.

    Raises:
        ProbeError: CONTENT when the server does not upgrade or says something else than was expected; PROTOCOL when
            it breaks the rules; REFUSED when it hangs up.
        OSError: a connection failed.
    """
    url = http_url(s.url)
    headers = list(s.headers.items())
    if s.subprotocol is not None:
        headers.append(("Sec-WebSocket-Protocol", s.subprotocol))
    async with _connected(s, url, m) as stream:
        response, conversation = await upgrade(m, stream, url, headers)
        m.values["status_code"] = float(response.status)
        if conversation is None:
            raise ProbeError(Fault.CONTENT, f"status {response.status}, expected 101: no upgrade to a WebSocket")
        if s.subprotocol is not None and response.header("sec-websocket-protocol") != s.subprotocol:
            raise ProbeError(Fault.CONTENT, f"the server did not agree on {s.subprotocol}")
        with m.phase("transfer"):
            for step in s.dialogue:
                if step.send is not None:
                    await conversation.say(step.send)
                if step.expect is not None:
                    await _expect(m, conversation, step.expect)
            await conversation.leave()


def _connected(s: Settings, url: Url, m: Measurement) -> AbstractAsyncContextManager[Stream]:
    if url.scheme == "https":
        return open_tls(m, s, url.host, url.port, family=s.family, alpn=("http/1.1",))
    return open_stream(m, url.host, url.port, family=s.family)


async def upgrade(
    m: Measurement, stream: Stream, url: Url, headers: Sequence[tuple[str, str]]
) -> tuple[Response, Conversation | None]:
    """Ask for the upgrade, timed as phase `processing`; without a 101 there is no conversation.

    Raises:
        ProbeError: PROTOCOL when the answer is not HTTP or the handshake's proof is wrong; REFUSED without an answer.
    """
    key = base64.b64encode(secrets.token_bytes(16)).decode("ascii")
    given = {name.lower() for name, _ in headers}
    ours = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    if "user-agent" not in given:
        ours["User-Agent"] = "thongsuot"
    request = encode_request("GET", url, _joined(headers), None)
    # What is asked on this connection is its upgrade, not its end.
    request = request.replace(b"\r\nConnection: close\r\n", b"\r\nConnection: Upgrade\r\n")
    request = request[:-2] + "".join(f"{name}: {value}\r\n" for name, value in ours.items()).encode() + b"\r\n"
    with m.phase("processing"):
        await stream.write(request)
        parser = ResponseParser("HEAD", 1)  # of the answer only the head counts; what follows it are frames already
        parser.feed(await _head(stream))
        parser.closed()
    response = parser.response
    if response.status != 101:
        return response, None
    if response.header("sec-websocket-accept") != accept_of(key):
        raise ProbeError(Fault.PROTOCOL, "the server's proof of the upgrade (Sec-WebSocket-Accept) is wrong")
    return response, Conversation(stream)


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


async def _head(stream: Stream) -> bytes:
    try:
        return await stream.reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    except asyncio.LimitOverrunError as exc:
        raise ProbeError(Fault.PROTOCOL, f"the headers are longer than {HEADER_LIMIT} bytes") from exc
    except ConnectionError:
        return b""
    except ssl.SSLError as exc:
        raise ProbeError(Fault.TLS, alert_words(exc)) from exc


class Conversation:
    """An upgraded connection: texts out, messages in."""

    def __init__(self, stream: Stream) -> None:
        """Args: stream: just upgraded; whoever opened it closes it."""
        self._stream = stream
        self._reader = Reader()

    async def say(self, text: str) -> None:
        """Send a text message."""
        await self._stream.write(encode(Opcode.TEXT, text.encode("utf-8", "replace"), secrets.token_bytes(4)))

    async def hear(self) -> bytes:
        """Return the next message; pings are answered meanwhile.

        Raises:
            ProbeError: REFUSED when the server left instead; PROTOCOL when it breaks the rules.
        """
        while not self._reader.messages:
            if self._reader.closed:
                raise ProbeError(Fault.REFUSED, f"the server ended the conversation: {self._reader.closed}")
            data = await self._stream.read_some()
            if not data:
                raise ProbeError(Fault.REFUSED, "the server hung up without a word over the socket")
            self._reader.feed(data)
            for ping in self._reader.pings:
                await self._stream.write(encode(Opcode.PONG, ping, secrets.token_bytes(4)))
            self._reader.pings.clear()
        return self._reader.messages.pop(0)

    async def leave(self) -> None:
        """Say goodbye; the answer is not waited for."""
        await self._stream.write(encode(Opcode.CLOSE, (1000).to_bytes(2, "big"), secrets.token_bytes(4)))


async def _expect(m: Measurement, conversation: Conversation, pattern: str) -> None:
    last = ""
    async for text in _texts(conversation):
        last = text
        m.fact("answer", text[:SHOWN])
        if search(pattern, text) is not None:
            return
    raise ProbeError(Fault.CONTENT, f"expected pattern '{pattern[:SHOWN]}', the last message was {last[:SHOWN]!r}")


async def _texts(conversation: Conversation) -> AsyncIterator[str]:
    for _ in range(MESSAGES_LIMIT):
        yield (await conversation.hear()).decode("utf-8", "replace")


PROBE = ProbeType(
    kind="websocket",
    summary="The upgrade to a WebSocket, with an optional dialogue over it",
    settings=Settings,
    run=run,
    values=(Value("status_code", "Status of the answer to the upgrade; 101 is good"), *TLS_VALUES),
    facts=(
        Value("address", "The address that took the connection"),
        Value("answer", "The last message that came, its beginning"),
        *TLS_FACTS,
    ),
)
