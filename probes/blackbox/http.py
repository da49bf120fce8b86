"""The http prober: a request, the redirects it leads to, and rules for the last answer.

What the original does: the first host's address is chosen once, ten redirects are followed, only the last answer
counts. What differs, on purpose: a login goes to no other origin, and a redirect only to a host that may be probed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import unquote, urlsplit

from probes.base import Measurement, ProbeError
from probes.blackbox.address import choose, once_more, open_chosen
from probes.blackbox.client import Headers, joined, login, many_headers, read_file
from probes.blackbox.exchange import Answer, Request, exchange
from probes.blackbox.expression import search
from probes.blackbox.modules import HeaderMatch, HttpModule
from probes.blackbox.task import Task
from probes.blackbox.tls import Wish, forget, secure
from probes.http_body import unpacked
from probes.http_url import Url, parse_url
from probes.http_wire import REDIRECTS, Cookies, Response, basic_login
from probes.net import Stream, open_stream

REDIRECTS_MOST: Final = 10
KEPT_BYTES: Final = 4 << 20  # of a body that patterns are looked for in; chosen: a page a hundred times over
THREAD_FROM_BYTES: Final = 65536  # larger bodies are looked through in a thread, not in the loop
_PRIVATE: Final = frozenset({"authorization", "www-authenticate", "cookie", "cookie2", "host"})
_NUMBER: Final = re.compile(r"HTTP/(\d+(?:\.\d+)?)")
_NOTHING_YET: Final[Mapping[str, float]] = {
    "http_content_length": 0.0,
    "http_uncompressed_body_length": 0.0,
    "http_ssl": 0.0,
    "http_status_code": 0.0,
    "http_version": 0.0,
}


async def probe_http(task: Task, m: Measurement) -> None:
    """Ask, follow, judge.

    Raises:
        ProbeError: the probe failed; the reason was said.
        OSError: a connection failed.
    """
    module = task.module.http
    m.values |= {**_NOTHING_YET, "http_redirects": 0.0, "failed_due_to_regex": 0.0}
    m.phases["resolve"] = 0.0
    url, own_login = _target(task)
    if module.skip_resolve_phase_with_proxy and module.proxy_url is not None:
        ip = url.host
    else:
        ip = await choose(task, m, url.host, module)
    for phase in ("connect", "tls", "processing", "transfer"):
        m.phases.setdefault(phase, 0.0)
    walk = _Walk(task, m, url, ip)
    await walk.prepare(own_login)
    try:
        answer = await walk.to_the_end()
    except (ProbeError, OSError) as exc:
        task.say("Error for HTTP request", "error", err=str(exc))
        raise
    await _judge(task, m, walk, answer)


def read_target(target: str) -> tuple[Url, str]:
    """Return the address that a target names, and the login in it, if there is one.

    Raises:
        ValueError: it names none.
    """
    text = target if target.startswith(("http://", "https://")) else f"http://{target}"
    parts = urlsplit(text)
    own = ""
    if parts.username is not None:
        own = basic_login(unquote(parts.username), unquote(parts.password or ""))
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    return parse_url(bare.geturl().replace(" ", "%20")), own


def _target(task: Task) -> tuple[Url, str]:
    try:
        return read_target(task.target)
    except ValueError as exc:
        raise task.fail("Could not parse target URL", err=exc) from exc


class _Walk:
    """The way from the first address to the last answer."""

    def __init__(self, task: Task, m: Measurement, url: Url, ip: str) -> None:
        self._task = task
        self._module: HttpModule = task.module.http
        self._m = m
        self._first = self._url = url
        self._ip = ip
        self._method = self._module.method or "GET"
        self._body: bytes | None = None
        self._headers: Headers = []
        self._login = ""
        self._proxy: Url | None = None
        self._for_proxy: Headers = []
        self._cookies = Cookies()
        self.stopped = False  # at a redirect that is not followed
        self.requests = 0

    @property
    def secure(self) -> bool:
        """Whether the last address was asked over TLS."""
        return self._url.scheme == "https"

    async def prepare(self, own_login: str) -> None:
        """Read what the request takes from files.

        Raises:
            ProbeError: LOCAL when one cannot be read.
        """
        module = self._module
        if module.body_file is not None:
            self._body = await read_file(module.body_file)
        elif module.body:
            self._body = module.body.encode("utf-8")
        self._headers = [*module.headers.items(), *await many_headers(module.http_headers.items())]
        given = {name.lower() for name, _ in self._headers}
        if "user-agent" not in given:
            self._headers.append(("User-Agent", "thongsuot"))
        if module.compression and "accept-encoding" not in given:
            self._headers.append(("Accept-Encoding", module.compression))
        if "authorization" not in given:
            self._login = await login(module) or own_login
        if module.proxy_url is not None:
            self._take_proxy(module.proxy_url.get_secret_value())

    def _take_proxy(self, text: str) -> None:
        try:
            parts = urlsplit(text)
            self._proxy = parse_url(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        except ValueError as exc:
            raise self._task.fail("proxy_url is no http address") from exc
        if self._proxy.scheme != "http":
            raise self._task.fail("proxy_url: only http:// proxies are spoken to")
        given = self._module.proxy_connect_header.items()
        self._for_proxy = [(name, value.get_secret_value()) for name, values in given for value in values]
        if parts.username is not None:
            word = basic_login(unquote(parts.username), unquote(parts.password or ""))
            self._for_proxy.append(("Proxy-Authorization", word))

    async def to_the_end(self) -> Answer:
        """Ask until an answer leads nowhere.

        Raises:
            ProbeError: there is no last answer.
            OSError: a connection failed.
        """
        while True:
            answer = await self._ask()
            location = self._location(answer)
            if not location or self.stopped:
                return answer
            self._follow(answer, location)

    async def _ask(self) -> Answer:
        self._task.say("Making HTTP request", url=self._url.shown)
        request = Request(
            self._method,
            self._url,
            joined(self._sent_headers()),
            self._body,
            keep_bytes=KEPT_BYTES if self._reads_body else 0,
            most_bytes=0 if self._module.compression else self._module.body_size_limit,
        )
        self.requests += 1
        async with self._connected() as (stream, proxied):
            if proxied and not self.secure:
                request = replace(request, url=replace(self._url, target=str(self._url)))
            return await exchange(self._m, stream, request, self._head_came)

    @property
    def _reads_body(self) -> bool:
        module = self._module
        rules = module.fail_if_body_matches_regexp or module.fail_if_body_not_matches_regexp
        return bool(rules or module.compression not in ("", "identity"))

    def _sent_headers(self) -> Headers:
        same = self._first.trusts(self._url)
        sent = [(name, value) for name, value in self._headers if same or name.lower() not in _PRIVATE]
        if self._login and same:
            sent.append(("Authorization", self._login))
        if not self.secure:  # inside a tunnel the proxy hears nothing
            sent += [pair for pair in self._for_proxy if pair[0] == "Proxy-Authorization"]
        if cookie := self._cookies.header(self._url):
            sent.append(("Cookie", cookie))
        return sent

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Stream, bool]]:
        url, first = self._url, self._url.host == self._first.host
        if self._proxy is not None:
            async with self._through_proxy(self._proxy) as stream:
                yield stream, True
            return
        if first:
            opened = open_chosen(self._task, self._m, (url.host, url.port), self._ip, self._module)
        else:
            opened = open_stream(self._m, url.host, url.port)
        async with opened as stream:
            await self._secured(stream)
            yield stream, False

    async def _secured(self, stream: Stream) -> None:
        forget(self._m)
        if not self.secure:
            return
        url, config = self._url, self._module.tls_config
        host = url.host
        if url.host == self._first.host:
            host = self._module.header("host") or url.host
        else:
            config = config.model_copy(update={"server_name": ""})
        alpn = ("h2", "http/1.1") if self._module.enable_http2 else ("http/1.1",)
        again = once_more(self._m, self._m.facts.get("address", url.host), url.port)
        await secure(self._task, self._m, stream, Wish(config, host, again, alpn))

    @contextlib.asynccontextmanager
    async def _through_proxy(self, proxy: Url) -> AsyncIterator[Stream]:
        self._task.say("Using proxy", proxy=proxy.authority)
        async with open_stream(self._m, proxy.host, proxy.port) as stream:
            if self.secure:
                await self._tunnel(stream, joined(self._for_proxy))
            await self._secured(stream)
            yield stream

    async def _tunnel(self, stream: Stream, headers: dict[str, str]) -> None:
        place = f"{self._url.authority.rpartition(']')[0]}]" if "[" in self._url.authority else self._url.host
        where = f"{place}:{self._url.port}"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with self._m.phase("connect"):
            await stream.write(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{head}\r\n".encode())
            status = (await stream.read_line()).split(b" ", 2)[1:2]
            while await stream.read_line():
                pass
        if status != [b"200"]:
            raise self._task.fail("The proxy opened no tunnel", status=b"".join(status).decode("latin-1"))

    def _head_came(self, answer: Answer) -> bool:
        """Note what the head says; say whether the body is wanted."""
        self._task.say("Received HTTP response", status_code=answer.status)
        location = self._location(answer)
        if location:
            # Counted also when it is not followed, as the original does.
            self._m.values["http_redirects"] = float(self.requests)
            self.stopped = not self._follows or self.requests > REDIRECTS_MOST
            if not self.stopped:
                return False
            self._task.say("Not following redirect", location=location)
        self._note(answer)
        return not self.stopped

    @property
    def _follows(self) -> bool:
        return self._module.follow_redirects and not self._module.no_follow_redirects

    @staticmethod
    def _location(answer: Answer) -> str:
        return answer.header("location") if answer.status in REDIRECTS else ""

    def _note(self, answer: Answer) -> None:
        version = _NUMBER.fullmatch(answer.protocol)
        self._m.values |= {
            "http_status_code": float(answer.status),
            "http_content_length": answer.content_length,
            "http_ssl": float(self.secure),
            "http_version": float(version[1]) if version else 0.0,
        }
        if (moment := answer.last_modified) is not None:
            self._m.values["http_last_modified_timestamp_seconds"] = moment

    def _follow(self, answer: Answer, location: str) -> None:
        self._task.say("Received redirect", location=location)
        self._cookies.take(self._url, Response(headers=answer.headers))
        forget(self._m)
        self._m.values |= _NOTHING_YET
        try:
            url = self._url.join(location)
        except ValueError as exc:
            raise self._task.fail("The redirect leads to no web address", err=exc) from exc
        if not self._task.allowed(url.host):
            raise self._task.fail("The redirect leads to a host that may not be probed", host=url.host)
        if answer.status not in (307, 308) and self._method not in ("GET", "HEAD"):
            self._method, self._body = "GET", None
            self._headers = [(n, v) for n, v in self._headers if not n.lower().startswith("content-")]
        self._url = url


async def _judge(task: Task, m: Measurement, walk: _Walk, answer: Answer) -> None:
    """Apply the module's rules; of several broken ones the first is the reason, and all are looked at as ever needed.

    Raises:
        ProbeError: one is broken.
    """
    module = task.module.http
    body, broken = await _body(task, module, answer)
    m.values["http_uncompressed_body_length"] = 0.0 if walk.stopped or broken else float(answer.body_bytes)
    wanted = module.valid_status_codes
    if answer.status not in wanted if wanted else not 200 <= answer.status < 300:
        raise task.fail("Invalid HTTP response status code", status_code=answer.status, wanted=wanted or "2xx")
    problem = _header_problem(module, answer)
    if broken and not problem:
        raise task.fail("Failed to decompress response body", err=broken)
    if not problem and (module.fail_if_body_matches_regexp or module.fail_if_body_not_matches_regexp):
        # What could not be read to its end cannot be said to match.
        problem = answer.problem or await _look_through(module, body)
    if problem:
        m.values["failed_due_to_regex"] = 1.0
        raise task.fail(problem)
    if answer.problem:
        raise task.fail("Failed to read HTTP response body", err=answer.problem)
    _judge_version_and_tls(task, module, walk, answer)


def _judge_version_and_tls(task: Task, module: HttpModule, walk: _Walk, answer: Answer) -> None:
    if module.valid_http_versions and answer.protocol not in module.valid_http_versions:
        raise task.fail("Invalid HTTP version number", version=answer.protocol)
    if module.fail_if_ssl and walk.secure:
        raise task.fail("Final request was over SSL")
    if module.fail_if_not_ssl and not walk.secure:
        raise task.fail("Final request was not over SSL")


async def _body(task: Task, module: HttpModule, answer: Answer) -> tuple[bytes, str]:
    """Return the body as far as it was kept, unpacked when the module says that it is packed, or why it cannot be."""
    if module.compression not in ("gzip", "deflate") or answer.problem or not answer.body_bytes:
        return bytes(answer.kept), ""
    packed = Response(headers=[("content-encoding", module.compression)], body=answer.kept)
    limit = module.body_size_limit or KEPT_BYTES
    try:
        body, more = await asyncio.to_thread(unpacked, packed, limit)
    except (ProbeError, zlib.error) as exc:
        return b"", str(exc)
    answer.body_bytes = len(body)
    if more and module.body_size_limit:
        answer.problem = f"the body is longer than body_size_limit, {limit} bytes"
    task.say("Unpacked the body", bytes=len(body))
    return body, ""


def _header_problem(module: HttpModule, answer: Answer) -> str:
    for rule in module.fail_if_header_matches:
        if (problem := _missing(rule, answer)) or _matches(rule, answer):
            return problem or f"Header {rule.header} matched regular expression {rule.regexp}"
    for rule in module.fail_if_header_not_matches:
        missing = _missing(rule, answer)
        if missing or (answer.values(rule.header) and not _matches(rule, answer)):
            return missing or f"Header {rule.header} did not match regular expression {rule.regexp}"
    return ""


def _missing(rule: HeaderMatch, answer: Answer) -> str:
    return "" if rule.allow_missing or answer.values(rule.header) else f"Missing required header {rule.header}"


def _matches(rule: HeaderMatch, answer: Answer) -> bool:
    return any(search(rule.regexp, value.encode("utf-8", "replace")) for value in answer.values(rule.header))


async def _look_through(module: HttpModule, body: bytes) -> str:
    if len(body) > THREAD_FROM_BYTES:
        return await asyncio.to_thread(_body_problem, module, body)
    return _body_problem(module, body)


def _body_problem(module: HttpModule, body: bytes) -> str:
    for pattern in module.fail_if_body_matches_regexp:
        if search(pattern, body):
            return f"Body matched regular expression {pattern}"
    for pattern in module.fail_if_body_not_matches_regexp:
        if not search(pattern, body):
            where = f" in its first {KEPT_BYTES} bytes" if len(body) >= KEPT_BYTES else ""
            return f"Body did not match regular expression {pattern}{where}"
    return ""
