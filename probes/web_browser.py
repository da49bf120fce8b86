"""What carries a journey from page to page: requests, redirects, cookies, and the rule whom a password is told.

Source: RFC 9110 section 15.4 (redirects), RFC 6265 (cookies).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

from probes.base import Fault, IpFamily, Measurement, ProbeError, utc_now
from probes.cookie_jar import CookieJar
from probes.http_body import Page, decoded, unpacked
from probes.http_url import Url, parse_url
from probes.http_wire import REDIRECTS, Response, ResponseParser, encode_request
from probes.leash import Leash
from probes.net import Stream, open_stream
from probes.tls_context import TlsSettings, alert_words, open_tls

REDIRECTS_LIMIT: Final = 10  # of one step
_BASE: Final = {"User-Agent": "thongsuot", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}


@dataclass(slots=True)
class Request:
    """What a step asks."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict)  # of the step; sent to its own origin only
    body: bytes | None = None
    secret: bool = False  # the body or a header holds the password


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a journey may go."""

    family: IpFamily
    body_bytes: int
    login_origins: frozenset[str]  # scheme, host and port to which the password may go
    allow_downgrade: bool
    named_hosts: frozenset[str]  # that the configuration names


class Browser:
    """One run's cookies and place."""

    def __init__(self, tls: TlsSettings, start: Url, bounds: Bounds) -> None:
        self._tls = tls
        self._start = start
        self._bounds = bounds
        self.url = start  # of the last answer
        self._leash = Leash(bounds.named_hosts)
        self.cookies = CookieJar()
        self.redirects = 0
        self.body_bytes = 0

    async def ask(self, m: Measurement, request: Request) -> Response:
        """Send a request, follow redirects, and return the final answer.

        Raises:
            ProbeError: CONTENT for redirects that lead nowhere or out of TLS, or when the password would go to a
                stranger; others as in `probes.http`.
            OSError: a connection failed.
        """
        for _ in range(REDIRECTS_LIMIT + 1):
            response = await self._once(m, request)
            location = response.header("location")
            if response.status not in REDIRECTS or location is None:
                return response
            self.redirects += 1
            request = self._redirected(request, response.status, location)
        raise ProbeError(Fault.CONTENT, f"more than {REDIRECTS_LIMIT} redirects, the last to {request.url.shown}")

    def _redirected(self, request: Request, status: int, location: str) -> Request:
        try:
            url = request.url.join(location)
        except ValueError as exc:
            raise ProbeError(Fault.CONTENT, f"status {status} leads to no web address: {exc}") from exc
        if (request.url.scheme, url.scheme) == ("https", "http") and not self._bounds.allow_downgrade:
            raise ProbeError(Fault.CONTENT, f"redirected out of TLS, from {request.url.shown} to {url.shown}")
        same = request.url.trusts(url)
        headers = request.headers if same else {}
        if status == 303 or (status in (301, 302) and request.method == "POST"):
            headers = {k: v for k, v in headers.items() if k.lower() != "content-type"}
            return Request("GET", url, headers, secret=request.secret and bool(headers))
        if request.body is not None and not same:
            raise ProbeError(Fault.CONTENT, f"status {status} would send what was posted on to {url.shown}")
        return Request(request.method, url, headers, request.body, request.secret)

    async def _once(self, m: Measurement, request: Request) -> Response:
        url = request.url
        if request.secret and _origin(url) not in self._bounds.login_origins:
            raise ProbeError(Fault.CONTENT, f"the password would be sent to {url.shown}, which is not a login address")
        m.fact("final_url", url.shown)
        parser = ResponseParser(request.method, self._bounds.body_bytes)
        headers = _BASE | dict(request.headers)
        if cookie := self.cookies.header(url, utc_now().timestamp()):
            headers["Cookie"] = cookie
        data = encode_request(request.method, url, headers, request.body)
        async with self._connected(m, url) as stream:
            self._leash.check(url.host, stream.peer, stream.own)
            with m.phase("processing"):
                with contextlib.suppress(ConnectionError):  # its answer, if it gave one early, is still to read
                    await stream.write(data)
                await _more(stream, parser)
            with m.phase("transfer"):
                while not parser.done:
                    await _more(stream, parser)
        self._note(m, url, parser.response)
        return parser.response

    def _note(self, m: Measurement, url: Url, response: Response) -> None:
        self.url = url
        self.body_bytes += len(response.body)
        m.values["status_code"] = float(response.status)
        now = utc_now().timestamp()
        for name, value in response.headers:
            if name == "set-cookie":
                self.cookies.take(url, value, now)

    def _connected(self, m: Measurement, url: Url) -> AbstractAsyncContextManager[Stream]:
        if url.scheme == "http":
            return open_stream(m, url.host, url.port, family=self._bounds.family)
        # Another name for TLS belongs to the configured host alone, not to where it sends us.
        own = url.host == self._start.host
        tls = self._tls if own else self._tls.model_copy(update={"server_name": None})
        return open_tls(m, tls, url.host, url.port, family=self._bounds.family, alpn=("http/1.1",))


async def _more(stream: Stream, parser: ResponseParser) -> None:
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


def _origin(url: Url) -> str:
    return f"{url.scheme}://{url.authority}"


def origin_of(text: str) -> str:
    """Return scheme, host and port of an address; a host alone is meant by https.

    Raises:
        ValueError: it is no address.
    """
    return _origin(parse_url(text if "://" in text else f"https://{text}"))


def page_of(response: Response, limit: int) -> tuple[Page, bool]:
    """Return a body as a page, and whether it went on. Takes time: not for the event loop.

    Raises:
        ProbeError: as `probes.http_body.unpacked`.
    """
    body, truncated = unpacked(response, limit)
    return Page(decoded(body, response.header("content-type") or "")), truncated


class Gate:
    """Lets few pages be read at a time: reading holds the interpreter, and the loop has other work."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(2)
