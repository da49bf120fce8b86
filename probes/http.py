"""HTTP: does a page answer, with what it should say, and where does the time go?

One request over a fresh connection with HTTP/1.1, redirects followed as a browser does. Phases are those of all
connections together: resolve, connect, tls, processing (from the request to the first byte of the answer),
transfer (from there to the end).
Source: RFC 9110 (meaning), RFC 9112 (messages), RFC 6265 (cookies between redirects), RFC 7617, RFC 6750 (logins).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from probes.base import (
    Fault,
    IpFamily,
    Measurement,
    PasswordSettings,
    ProbeError,
    ProbeType,
    Value,
    one_line,
    read_secret,
)
from probes.http_body import Page, decoded, unpacked
from probes.http_content import CONTENT_FACTS, CONTENT_VALUES, WATCHED_BYTES, ContentRules, judge_content
from probes.http_rules import Expect, judge_body, judge_head
from probes.http_url import URL_LIMIT, Url, parse_url
from probes.http_wire import REDIRECTS, Cookies, Response, ResponseParser, basic_login, encode_request
from probes.leash import Leash
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings, alert_words, open_tls_wire
from probes.tls_sessions import see_certificate_next
from probes.wire import Wire, open_wire

THREAD_FROM_BYTES: Final = 65536  # bodies larger than that are judged in a thread, not in the loop
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_OURS: Final = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect"})
_LOGINS: Final = frozenset({"authorization", "proxy-authorization"})
_NO_CONTENT_RULES: Final = ContentRules()
_PRIVATE: Final = re.compile(r"auth|cookie|token|secret|key|session|host$", re.IGNORECASE)


class Method(StrEnum):
    """What can be asked."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


class Settings(TlsSettings, PasswordSettings):
    """What a web address needs."""

    url: Annotated[str, Field(max_length=URL_LIMIT), AfterValidator(_checked_url)] = Field(
        description="Address, http:// or https://; names beyond ASCII as they are written"
    )
    method: Method = Field(default=Method.GET, description="Method of the request")
    headers: Mapping[str, str] = Field(
        default_factory=dict, max_length=50, description="Headers to send; those that look secret go to no other host"
    )
    body: str | None = Field(default=None, max_length=1 << 20, description="Text to send, in UTF-8")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family: any, ip4 or ip6")
    follow_redirects: bool = Field(
        default=True, description="Whether redirects are followed; one whose status is expected never is"
    )
    max_redirects: int = Field(default=10, ge=0, le=20, description="Redirects to follow at most")
    allow_downgrade: bool = Field(default=False, description="Whether https may redirect to plain http")
    expect: Expect = Field(default_factory=Expect, description="What the answer must be; any 2xx by default")
    content: ContentRules = Field(
        default_factory=ContentRules, description="What the page must be as a page: unchanged, fresh, its links working"
    )
    max_body_bytes: int = Field(
        default=1 << 20, ge=1, le=64 << 20, description="Where reading the body ends, also after decompression"
    )
    token_file: FilePath | None = Field(default=None, description="File whose first line is a bearer token")
    token_env: str | None = Field(default=None, description="Environment variable that holds a bearer token")
    plaintext_login: bool = Field(default=False, description="Whether a login may be sent without TLS")

    def endpoint(self) -> str:
        """Return the URL's host."""
        return parse_url(self.url).host

    @property
    def logs_in(self) -> bool:
        """Whether the request carries a login."""
        return self.username is not None or self.bears_token

    @property
    def bears_token(self) -> bool:
        """Whether the login is a bearer token."""
        return self.token_file is not None or self.token_env is not None

    @model_validator(mode="after")
    def _headers_can_be_sent(self) -> Settings:
        seen: set[str] = set()
        for name, value in self.headers.items():
            _check_header(name, value)
            if name.lower() in seen:
                raise ValueError(f"header {name} is given twice")
            seen.add(name.lower())
        return self

    @model_validator(mode="after")
    def _login_is_one_and_covered(self) -> Settings:
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("give token_file or token_env, not both")
        if self.bears_token and self.username is not None:
            raise ValueError("give a username with its password or a token, not both")
        if self.username is not None and (":" in self.username or not self.username.isprintable()):
            raise ValueError("a username holds no colon and no control characters")
        if self.logs_in and not self.plaintext_login and parse_url(self.url).scheme == "http":
            raise ValueError("this would send a login without TLS: use https, or say plaintext_login: true")
        return self

    @model_validator(mode="after")
    def _body_suits_the_method(self) -> Settings:
        if self.body is not None and self.method in (Method.GET, Method.HEAD):
            raise ValueError(f"{self.method} sends no body: choose method POST, PUT or PATCH")
        if self.content.reads_page and self.max_body_bytes > WATCHED_BYTES:
            raise ValueError(f"content rules read at most {WATCHED_BYTES} bytes: give a smaller max_body_bytes")
        if self.method is Method.HEAD and (self.expect.reads_body or self.content.reads_page):
            raise ValueError("an answer to HEAD has no body to compare: choose method GET")
        return self


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{one_line(name, 40)!r} is not a header name")
    if any(not c.isprintable() and c != "\t" for c in value):
        raise ValueError(f"header {name} holds a line end or another control character")
    if name.lower() in _LOGINS:
        raise ValueError(f"{name} is a secret: use username and password_file, or token_file")
    if name.lower() in _OURS:
        raise ValueError(f"{name} is set by the probe")


async def run(s: Settings, m: Measurement) -> None:
    """Ask, follow redirects, and compare the answer with what is expected.

    Raises:
        ProbeError: REFUSED when the server hangs up without a word; PROTOCOL when it does not speak HTTP or stops in
            the middle; CONTENT when the answer is not what is expected; TLS, NAME, LOCAL as in `probes.tls_context`.
        OSError: a connection failed.
    """
    walk = _Walk(s, await _login(s), Leash((s.endpoint(),)))
    response = await _walked(walk, m)
    try:
        await _judge(s, m, walk, response)
    except ProbeError:
        see_certificate_next(m)
        raise


async def _judge(s: Settings, m: Measurement, walk: _Walk, response: Response) -> None:
    judge_head(s.expect, response)
    await _judge_body(s, m, response)
    if s.content != _NO_CONTENT_RULES:

        async def ask_link(address: str, expect: Expect) -> Response:
            return await _ask_link(s, m, address, expect, walk.leash)

        limit = s.max_body_bytes
        await judge_content(s.content, m, response, limit=limit, url=walk.url, ask_link=ask_link)


async def _walked(walk: _Walk, m: Measurement) -> Response:
    """Ask, follow redirects, and return the final answer."""
    while True:
        response = await walk.ask(m)
        if not walk.leads_on(response):
            return response
        walk.follow(response)
        m.values["redirects_count"] = float(walk.redirects)


async def _ask_link(s: Settings, m: Measurement, address: str, expect: Expect, leash: Leash) -> Response:
    """Fetch the page behind a link: times count, values and facts stay the first page's."""
    trusted = parse_url(s.url).trusts(parse_url(address))
    headers = {} if s.body is not None else {k: v for k, v in s.headers.items() if trusted or not _PRIVATE.search(k)}
    changes = {"url": address, "method": Method.GET, "body": None, "headers": headers, "expect": expect}
    link = Measurement(timeout_s=m.timeout_s, path=m.path, tools=m.tools, phases=m.phases)
    return await _walked(_Walk(s.model_copy(update=changes), await _login(s) if trusted else None, leash), link)


async def _login(s: Settings) -> str | None:
    """Return the Authorization header, read now, so that a changed file is honoured at once."""
    if s.bears_token:
        token = (await read_secret(s.token_file, s.token_env)).get_secret_value()
        if not token or any(not "!" <= c <= "~" for c in token):
            raise ProbeError(Fault.LOCAL, "the token is empty or holds characters that a header cannot")
        return f"Bearer {token}"
    if s.username is not None:
        return basic_login(s.username, (await s.password()).get_secret_value())
    return None


class _Walk:
    """The way from the first address to the final answer, one request at a time."""

    def __init__(self, s: Settings, login: str | None, leash: Leash) -> None:
        self._s = s
        self.leash = leash
        self._login = login
        self._first = parse_url(s.url)
        self._url = self._first
        self._method = str(s.method)
        self._body = None if s.body is None else s.body.encode()
        self._cookies = Cookies()
        self._seen = {(self._method, str(self._url), "")}
        self.redirects = 0

    @property
    def url(self) -> Url:
        """Where the walk is."""
        return self._url

    async def ask(self, m: Measurement) -> Response:
        """Send one request and read its answer; of a redirect that will be followed, only the head."""
        m.fact("final_url", self._url.shown)
        parser = ResponseParser(self._method, self._s.max_body_bytes)
        request = encode_request(self._method, self._url, dict(self._headers()), self._body)
        async with self._connected(m) as stream:
            self.leash.check(self._url.host, stream.peer, stream.own)
            await _first_word(m, stream, request, parser)
            with m.phase("transfer"):
                while not parser.head_done:
                    await _more(stream, parser)
                _note_head(m, parser.response)
                while not parser.done and not self.leads_on(parser.response):
                    await _more(stream, parser)
        m.values["content_bytes"] = float(len(parser.response.body))
        return parser.response

    def _connected(self, m: Measurement) -> contextlib.AbstractAsyncContextManager[Wire]:
        url, s = self._url, self._s
        if url.scheme == "http":
            return open_wire(m, url.host, url.port, family=s.family)
        # Another name for TLS belongs to the configured host alone, not to where it sends us.
        tls = s if url.host == self._first.host else s.model_copy(update={"server_name": None})
        return open_tls_wire(m, tls, url.host, url.port, family=s.family, alpn=("http/1.1",))

    def _headers(self) -> Iterator[tuple[str, str]]:
        given = {name.lower() for name in self._s.headers}
        trusted = self._first.trusts(self._url)
        body_dropped = self._body is None and self._s.body is not None
        for name, value in {"User-Agent": "thongsuot", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}.items():
            if name.lower() not in given:
                yield name, value
        if self._body is not None and "content-type" not in given:
            yield "Content-Type", "text/plain; charset=utf-8"
        cookies = [self._cookies.header(self._url)]
        for name, value in self._s.headers.items():
            if (not trusted and _PRIVATE.search(name)) or (body_dropped and name.lower() == "content-type"):
                continue
            if name.lower() == "cookie":
                cookies.insert(0, value)
            else:
                yield name, value
        if self._login is not None and trusted:
            yield "Authorization", self._login
        if cookie := "; ".join(filter(None, cookies)):
            yield "Cookie", cookie

    def leads_on(self, response: Response) -> bool:
        """Whether a response is a redirect to follow."""
        wanted = self._s.follow_redirects and not self._s.expect.takes(response.status)
        return wanted and response.status in REDIRECTS and response.header("location") is not None

    def follow(self, response: Response) -> None:
        """Move on to where a redirect leads.

        Raises:
            ProbeError: CONTENT when it leads nowhere, in a circle, too far, or out of TLS.
        """
        self._cookies.take(self._url, response)
        if self.redirects >= self._s.max_redirects:
            raise ProbeError(
                Fault.CONTENT, f"more than {self._s.max_redirects} redirects, the last to {self._url.shown}"
            )
        try:
            url = self._url.join(response.header("location") or "")
        except ValueError as exc:
            raise ProbeError(Fault.CONTENT, f"status {response.status} leads to no web address: {exc}") from exc
        if (self._url.scheme, url.scheme) == ("https", "http") and not self._s.allow_downgrade:
            raise ProbeError(Fault.CONTENT, f"redirected out of TLS, from {self._url.shown} to {url.shown}")
        see_other = response.status == 303 and self._method != "HEAD"
        if see_other or (response.status in (301, 302) and self._method == "POST"):  # as browsers do, and Fetch says
            self._method, self._body = "GET", None
        self._url = url
        # The same page with another cookie may well answer: portals set one and send the visitor back.
        place = (self._method, str(url), self._cookies.header(url))
        if place in self._seen:
            raise ProbeError(Fault.CONTENT, f"redirects go in a circle at {url.shown}")
        self._seen.add(place)
        self.redirects += 1


async def _first_word(m: Measurement, stream: Wire, request: bytes, parser: ResponseParser) -> None:
    with m.phase("processing"):
        with contextlib.suppress(ConnectionError):  # a server may refuse early and hang up; its answer is still to read
            await stream.write(request)
        await _more(stream, parser)


async def _more(stream: Wire, parser: ResponseParser) -> None:
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


def _note_head(m: Measurement, response: Response) -> None:
    m.values["status_code"] = float(response.status)
    m.values["header_bytes"] = float(response.header_bytes)
    m.fact("http_version", response.version)
    for fact, header in (("server", "server"), ("content_type", "content-type")):
        if (value := response.header(header)) is not None:
            m.fact(fact, value)
    if (moment := response.last_modified) is not None:
        m.values["last_modified_timestamp_s"] = moment


async def _judge_body(s: Settings, m: Measurement, response: Response) -> None:
    if not s.expect.reads_body:
        return
    if len(response.body) > THREAD_FROM_BYTES or response.header("content-encoding"):
        title, problem = await asyncio.to_thread(_read_and_judge, s, response)
    else:
        title, problem = _read_and_judge(s, response)
    if title:
        m.fact("body_title", title)
    if problem is not None:
        raise problem


def _read_and_judge(s: Settings, response: Response) -> tuple[str, ProbeError | None]:
    """Return the page's title and what is wrong with the body. Pure; may run in a thread."""
    title = ""
    try:
        body, truncated = unpacked(response, s.max_body_bytes)
        page = Page(decoded(body, response.header("content-type") or ""))
        title = page.title
        judge_body(s.expect, page, truncated=truncated)
    except ProbeError as problem:
        return title, problem
    return title, None


PROBE = ProbeType(
    kind="http",
    summary="Web page or service over HTTP(S): status, headers, body, JSON, redirects",
    settings=Settings,
    run=run,
    values=(
        Value("status_code", "Status of the final answer"),
        Value("content_bytes", "Size of the body as sent, up to max_body_bytes"),
        Value("header_bytes", "Size of the final answer's status line and headers"),
        Value("redirects_count", "Redirects followed"),
        Value("last_modified_timestamp_s", "When the page was last modified, as it says itself, Unix time"),
        *CONTENT_VALUES,
        *TLS_VALUES,
    ),
    facts=(
        Value("address", "Address of the last connection"),
        Value("final_url", "Address of the final answer, without its query"),
        Value("http_version", "Version of HTTP of the final answer"),
        Value("server", "Software the server says it is"),
        Value("content_type", "Type of the body"),
        Value("body_title", "Title of the page, where rules read the body"),
        *CONTENT_FACTS,
        *TLS_FACTS,
    ),
)
