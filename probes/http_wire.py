"""HTTP/1.1 on the wire: a request to bytes, bytes to a response, cookies between redirects. Pure, no sockets.

Everything a server may send is bounded. Source: RFC 9112 (messages), RFC 9110 (meaning), RFC 6265 (cookies).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import httptools

from probes.base import Fault, ProbeError, one_line
from probes.http_url import Url

HEADER_LIMIT: Final = 65536  # bytes before the body, interim responses included; chosen: what large proxies allow
FRAMING_FACTOR: Final = 8  # raw bytes for each byte of body at most: a chunk of one byte costs six
SLICE: Final = 4096  # bytes handed to the parser at once while the header lasts
COOKIES_KEPT: Final = 50  # for each host, as RFC 6265 section 6.1 asks
COOKIE_LIMIT: Final = 4096  # bytes of one cookie, as RFC 6265 section 6.1 asks
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class Response:
    """An answer, as far as it has come."""

    status: int = 0
    version: str = ""
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)  # names in lower case, in order
    body: bytearray = field(default_factory=bytearray)  # as sent, still compressed, at most the limit
    truncated: bool = False  # the body went on beyond the limit

    def header(self, name: str) -> str | None:
        """Return a header's value, several joined by commas; None when there is none."""
        name = name.lower()
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None

    @property
    def header_bytes(self) -> int:
        """Size of the status line and headers, with their line ends."""
        lines = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(f"HTTP/{self.version} {self.status} {self.reason}") + 2 + lines + 2

    @property
    def last_modified(self) -> float | None:
        """The Last-Modified header as Unix time; None when there is none that can be read."""
        text = self.header("last-modified")
        if text is None:
            return None
        try:
            moment = parsedate_to_datetime(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None


def encode_request(method: str, url: Url, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return a whole request. Host, Content-Length and Connection are set here, other headers as given.

    Args:
        method: in capitals.
        url: what to ask for.
        headers: already checked for line ends; a Host of theirs replaces the address's.
        body: what to send; None sends none.
    """
    lines = {"Host": url.authority}
    own_host = {name.lower(): value for name, value in headers.items()}.get("host")
    if own_host is not None:
        lines["Host"] = own_host
    lines |= {name: value for name, value in headers.items() if name.lower() != "host"}
    if body is not None:
        lines["Content-Length"] = str(len(body))
    lines["Connection"] = "close"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {url.target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def basic_login(username: str, password: str) -> str:
    """Return the value of an Authorization header. Source: RFC 7617, in UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


class ResponseParser:
    """Reads one final response from bytes as they come; interim ones (1xx) are passed over."""

    def __init__(self, method: str, body_limit: int) -> None:
        """Args: method: of the request: an answer to HEAD has no body. body_limit: bytes of body to keep."""
        self.response = Response()
        self.head_done = False  # status and headers of the final response are complete
        self.done = False  # nothing more is needed: the end was seen, or the body's limit
        self._no_body = method == "HEAD"
        self._limit = body_limit
        self._start = b""  # the first bytes, for saying what came instead of HTTP
        self._raw = 0
        self._parser = httptools.HttpResponseParser(self)
        # What every browser lets pass: bare line feeds, blanks after a chunk's size, bytes after the end.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True, lenient_data_after_close=True
        )

    def feed(self, data: bytes) -> None:
        """Take in what has come.

        Raises:
            ProbeError: PROTOCOL when it is not HTTP, or more than an honest server sends.
        """
        while data and not self.done:
            size = len(data) if self.head_done else SLICE
            self._feed_slice(data[:size])
            data = data[size:]

    def _feed_slice(self, data: bytes) -> None:
        self._raw += len(data)
        if len(self._start) < 80:
            self._start = (self._start + data)[:80]
            if not b"HTTP/".startswith(self._start[:5]):
                raise self._not_http("it")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.done = True
        except httptools.HttpParserError as exc:
            if not self.done:
                raise self._not_http(str(exc)) from exc
        if not self.head_done and self._raw > HEADER_LIMIT:
            raise ProbeError(Fault.PROTOCOL, f"the headers are longer than {HEADER_LIMIT} bytes")
        if self._raw > HEADER_LIMIT + FRAMING_FACTOR * max(self._limit, HEADER_LIMIT):
            raise ProbeError(Fault.PROTOCOL, "the server sends framing without end and hardly any body")

    def _not_http(self, why: str) -> ProbeError:
        if not self._start.startswith(b"HTTP/"):
            return ProbeError(Fault.PROTOCOL, f"the answer is not HTTP: it begins with {_shown(self._start)}")
        return ProbeError(Fault.PROTOCOL, f"the answer is not valid HTTP: {one_line(why)}")

    def closed(self, how: str = "closed") -> None:
        """Take in that the server ended the connection.

        Raises:
            ProbeError: REFUSED when not a byte came before; PROTOCOL when more should have come.
        """
        if self.done:
            return
        if not self._raw:
            raise ProbeError(Fault.REFUSED, f"the server {how} the connection without an answer")
        if not self.head_done:
            raise ProbeError(Fault.PROTOCOL, f"the server {how} the connection in the middle of the headers")
        got, declared = len(self.response.body), self.response.header("content-length")
        if "chunked" in (self.response.header("transfer-encoding") or "").lower():
            raise ProbeError(
                Fault.PROTOCOL, f"the server {how} the connection before the last chunk, after {got} bytes"
            )
        if declared is not None:
            raise ProbeError(Fault.PROTOCOL, f"the server {how} the connection after {got} of {declared} bytes")
        self.done = True  # a body without a length lasts until the connection closes

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Begin a response: the first, or the one after an interim one."""
        if not self.done:
            self.response = Response()

    def on_status(self, status: bytes) -> None:
        """Take a part of the reason phrase."""
        if not self.done:
            self.response.reason += status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers after a chunked body are not looked at."""
        if not self.head_done:
            self.response.headers.append((name.decode("latin-1").lower(), _text(value)))

    def on_headers_complete(self) -> None:
        """Note the status; interim responses but 101 are passed over."""
        if self.done:
            return
        self.response.status = self._parser.get_status_code()
        self.response.version = self._parser.get_http_version()
        self.head_done = self.response.status == 101 or self.response.status >= 200
        self.done = self.head_done and self._no_body

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, up to the limit."""
        if self.done:
            return
        room = self._limit - len(self.response.body)
        self.response.body += body[:room]
        if len(body) > room:
            self.response.truncated = self.done = True

    def on_message_complete(self) -> None:
        """End the response, unless it was an interim one."""
        self.done = self.done or self.head_done


def _text(value: bytes) -> str:
    # RFC 9110 section 5.5 allows ISO-8859-1; what is UTF-8 in practice is far more often meant as such.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _shown(start: bytes) -> str:
    first = start.splitlines()[0] if start.splitlines() else b""
    return repr(one_line(first[:60].decode("utf-8", "replace")))


class Cookies:
    """Cookies of one run, so that portals that set one and redirect are followed as a browser would.

    Each is kept for the very host that set it. Source: RFC 6265 section 5.
    """

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, tuple[str, bool]]] = {}  # host: name: value and whether for https only

    def take(self, url: Url, response: Response) -> None:
        """Keep what a response sets; a cookie that lives no longer is dropped."""
        jar = self._kept.setdefault(url.host, {})
        for text in (value for name, value in response.headers if name == "set-cookie"):
            pair, *attributes = text.split(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            wanted = {a.strip().lower().replace(" ", "") for a in attributes}
            if not equals or not name or len(pair) > COOKIE_LIMIT or not pair.isprintable():
                continue
            jar.pop(name, None)
            if "max-age=0" not in wanted and len(jar) < COOKIES_KEPT:
                jar[name] = (value, "secure" in wanted)

    def header(self, url: Url) -> str:
        """Return the Cookie header for an address, empty when there is none."""
        jar = self._kept.get(url.host, {})
        secure = url.scheme == "https"
        return "; ".join(f"{name}={value}" for name, (value, only_https) in jar.items() if secure or not only_https)
