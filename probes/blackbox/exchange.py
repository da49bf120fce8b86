"""One request and its answer over an open connection, by HTTP/1.1 or HTTP/2; bodies are counted whole, kept in part."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

from probes.base import Fault, Measurement, ProbeError
from probes.http2 import Exchange
from probes.http_url import Url
from probes.http_wire import ResponseParser, encode_request
from probes.net import Stream
from probes.tls_context import alert_words

_HOP_BY_HOP = frozenset({"connection", "host", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection", "te"})


@dataclass(slots=True)
class Answer:
    """What has come of an answer so far."""

    status: int = 0
    protocol: str = ""  # as Go writes it: HTTP/1.1, HTTP/2.0
    headers: list[tuple[str, str]] = field(default_factory=list)  # names in lower case
    kept: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    problem: str = ""  # why the body could not be read to its end

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str:
        """Return the first value of a header, or nothing."""
        return next(iter(self.values(name)), "")

    @property
    def content_length(self) -> float:
        """What the header says, or -1."""
        word = self.header("content-length")
        return float(word) if word.isascii() and word.isdigit() else -1.0

    @property
    def last_modified(self) -> float | None:
        """The header as Unix time, or None."""
        try:
            moment = parsedate_to_datetime(self.header("last-modified"))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    url: Url
    headers: dict[str, str]
    body: bytes | None
    keep_bytes: int  # how much of the body is kept; all of it is counted
    most_bytes: int  # where reading ends as a problem; 0 reads on


class _Parser(ResponseParser):
    """Counts the whole body and keeps its beginning."""

    def __init__(self, request: Request, answer: Answer) -> None:
        super().__init__(request.method, sys.maxsize)
        self._request = request
        self.answer = answer

    def on_body(self, body: bytes) -> None:
        if not self.done:
            take_body(self._request, self.answer, body)


def take_body(request: Request, answer: Answer, part: bytes) -> None:
    """Count a part of a body and keep what there is room for."""
    answer.body_bytes += len(part)
    room = request.keep_bytes - len(answer.kept)
    if room > 0:
        answer.kept += part[:room]


async def exchange(m: Measurement, stream: Stream, request: Request, head_came: Callable[[Answer], bool]) -> Answer:
    """Send a request and read the answer, timed as phases `processing` and `transfer`.

    Args:
        m: for the phases.
        stream: the connection; HTTP/2 when TLS agreed on it.
        request: what to ask.
        head_came: called once the status and headers are there; says whether the body is wanted.

    Raises:
        ProbeError: no answer came, or none of HTTP. What goes wrong in the body is the answer's `problem`.
        OSError: the connection broke before the answer.
    """
    session = stream.ssl_object
    if session is not None and session.selected_alpn_protocol() == "h2":
        return await _Http2(m, stream, request, head_came).ask()
    return await _http1(m, stream, request, head_came)


async def _http1(m: Measurement, stream: Stream, request: Request, head_came: Callable[[Answer], bool]) -> Answer:
    answer = Answer()
    parser = _Parser(request, answer)
    with m.phase("processing"):
        await stream.write(encode_request(request.method, request.url, request.headers, request.body))
        await _more(stream, parser)
    with m.phase("transfer"):
        while not parser.head_done:
            await _more(stream, parser)
        response = parser.response
        answer.status, answer.protocol, answer.headers = response.status, f"HTTP/{response.version}", response.headers
        if not head_came(answer):
            return answer
        try:
            while not _enough(m, request, answer) and not parser.done:
                await _more(stream, parser)
        except ProbeError as exc:
            answer.problem = exc.detail
    return answer


def _enough(m: Measurement, request: Request, answer: Answer) -> bool:
    """Note how much of the body has come, for the deadline may be near; say whether that is too much."""
    if request.most_bytes and answer.body_bytes > request.most_bytes:
        answer.problem = f"the body is longer than body_size_limit, {request.most_bytes} bytes"
        answer.body_bytes = request.most_bytes
    m.values["http_uncompressed_body_length"] = float(answer.body_bytes)
    return bool(answer.problem)


async def _more(stream: Stream, parser: _Parser) -> None:
    try:
        data = await stream.read_some()
    except ConnectionError:
        parser.closed("reset")
        return
    except ssl.SSLError as exc:  # TLS 1.3 refuses a client only after the handshake
        raise ProbeError(Fault.TLS, alert_words(exc)) from exc
    if data:
        parser.feed(data)
    else:
        parser.closed()


class _Http2:
    """The same over HTTP/2."""

    def __init__(self, m: Measurement, stream: Stream, request: Request, head_came: Callable[[Answer], bool]) -> None:
        self._m = m
        self._stream = stream
        self._request = request
        self._head_came = head_came
        self._answer = Answer(protocol="HTTP/2.0")
        self._exchange = Exchange(lambda part: take_body(request, self._answer, part))

    async def ask(self) -> Answer:
        with self._m.phase("processing"):
            await self._stream.write(self._exchange.request(self._head(), self._request.body or b""))
            while not self._exchange.status:
                await self._more()
        answer, exchange = self._answer, self._exchange
        answer.status, answer.headers = exchange.status, exchange.headers
        with self._m.phase("transfer"):
            if not self._head_came(answer):
                return answer
            try:
                while not _enough(self._m, self._request, answer) and not exchange.done:
                    await self._more()
            except ProbeError as exc:
                answer.problem = exc.detail
        return answer

    def _head(self) -> list[tuple[str, str]]:
        url, headers = self._request.url, self._request.headers
        host = next((value for name, value in headers.items() if name.lower() == "host"), url.authority)
        head = [(":method", self._request.method), (":scheme", url.scheme), (":authority", host), (":path", url.target)]
        head += [(name.lower(), value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
        if self._request.body is not None:
            head.append(("content-length", str(len(self._request.body))))
        return head

    async def _more(self) -> None:
        try:
            data = await self._stream.read_some()
        except ConnectionError:
            data = b""
        except ssl.SSLError as exc:
            raise ProbeError(Fault.TLS, alert_words(exc)) from exc
        if not data:
            self._exchange.closed()
            return
        reply = self._exchange.feed(data)
        if reply and not self._exchange.done:
            await self._stream.write(reply)
