"""Throughput: how fast does a file come by HTTP or HTTPS, within a bound of bytes, seconds and bytes a day?

One request over a fresh connection; reading stops at the bound of bytes or of seconds, whichever is first, so that a
slow line is measured as well as a fast one without filling either. The rate is that of the body, from its first
byte to its last. Runs by the same path wait for each other. What crossed the line is counted as the kernel saw it,
headers and what was on its way at the end included, and a budget for any 24 hours is never exceeded, restarts or not:
when it is spent nothing is measured.

Source: RFC 9112 (messages), RFC 9110 section 14 (ranges), RFC 6349 section 3.3 (throughput of TCP, its slow start);
tcp(7) of the Linux manual (TCP_INFO).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from probes.base import Duration, Fault, IpFamily, Measurement, ProbeError, ProbeType, Value, utc_now
from probes.byte_budget import ByteBudget, Share
from probes.handshake_bound import received_bytes
from probes.http_url import URL_LIMIT, Url, parse_url
from probes.http_wire import ResponseParser, encode_request
from probes.net import Stream, open_stream
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings, open_tls

MARGIN_S: Final = 0.1  # chosen: reading ends this much before the deadline
CONNECT_S: Final = 1.0  # chosen: least time for a connection and the first word, beside the download itself
SLACK_BYTES: Final = 1 << 17  # headers, TLS and what is on its way when we hang up, set aside beside the body
LEAST_BYTES: Final = 100_000  # less than that is over before TCP has found its speed

_SIZE: Final = re.compile(r"(\d{1,6})(kB|MB|GB)")
_SIZE_UNITS: Final = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
_RATE: Final = re.compile(r"(\d{1,6}(?:\.\d+)?)(kbit|Mbit|Gbit)")
_RATE_UNITS: Final = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}


def _size(value: object, info: ValidationInfo) -> object:
    if isinstance(value, int) and info.mode != "json":
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _SIZE_UNITS[match[2]]
    raise ValueError("expected a size with its unit, like 500kB, 10MB or 1GB")


def _rate(value: object, info: ValidationInfo) -> object:
    if isinstance(value, float) and info.mode != "json":
        return value
    if isinstance(value, str) and (match := _RATE.fullmatch(value)):
        return float(match[1]) * _RATE_UNITS[match[2]]
    raise ValueError("expected bits a second with their unit, like 500kbit, 20Mbit or 1Gbit")


_SizeText = Annotated[str, Field(pattern=rf"^{_SIZE.pattern}$")]
_RateText = Annotated[str, Field(pattern=rf"^{_RATE.pattern}$")]
Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=_SizeText)]  # bytes
Rate = Annotated[float, BeforeValidator(_rate, json_schema_input_type=_RateText)]  # bits a second


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


class Settings(TlsSettings):
    """What a throughput check needs."""

    url: Annotated[str, Field(max_length=URL_LIMIT), AfterValidator(_checked_url)] = Field(
        description="Address of a file, http:// or https://; redirects are not followed"
    )
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family: any, ip4 or ip6")
    max_size: Size = Field(default=10**7, description="Most that one run fetches, like 10MB")
    seconds: Duration = Field(default=5.0, gt=0, le=60, description="Longest that one run fetches")
    daily: Size = Field(
        default=10**9, description="Most that is fetched in any 24 hours, restarts or not; then nothing is measured"
    )
    min_rate: Rate | None = Field(default=None, description="Slowest good rate, bits a second, like 20Mbit")

    @model_validator(mode="after")
    def _bounds_fit(self) -> Settings:
        if self.max_size < LEAST_BYTES:
            raise ValueError(f"max_size: a rate cannot be told from less than {LEAST_BYTES // 1000}kB")
        if self.max_size > 10**9:
            raise ValueError("max_size: at most 1GB")
        if self.daily < self.aside:
            raise ValueError(
                "daily: less than a single run of max_size needs (and some 130 kB for all around the body)"
            )
        return self

    @property
    def aside(self) -> int:
        """Bytes set aside for one run."""
        return self.max_size + SLACK_BYTES

    def endpoint(self) -> str:
        """Return the URL's host."""
        return parse_url(self.url).host


@dataclass(slots=True)
class _Download:
    """The body as it came: how much by when."""

    began: float = 0.0  # when its first byte was here
    first: int = 0  # bytes that were here then; they came before the clock started
    got: int = 0
    ended: float = 0.0
    marks: list[tuple[float, int]] = field(default_factory=list)  # when, and bytes by then

    def add(self, count: int) -> None:
        """Note bytes that have just come."""
        now = time.perf_counter()
        if not self.got:
            self.began, self.first = now, count
        self.got += count
        self.ended = now
        self.marks.append((now, self.got))

    @property
    def seconds(self) -> float:
        """From the first byte to the last."""
        return self.ended - self.began

    def rate_bps(self) -> float | None:
        """Bits a second over the whole body; None when it came at once."""
        return (self.got - self.first) * 8 / self.seconds if self.seconds > 0 else None

    def late_rate_bps(self) -> float | None:
        """Bits a second of the second half of the time, when TCP has found its speed; None when it came at once."""
        middle = self.began + self.seconds / 2
        at, before = next(((t, n) for t, n in self.marks if t >= middle), (0.0, 0))
        return (self.got - before) * 8 / (self.ended - at) if self.ended > at else None


async def run(s: Settings, m: Measurement) -> None:
    """Fetch within the bounds and compare the rate.

    Raises:
        ProbeError: LOCAL when the budget is spent or another download kept the path busy; CONTENT for another status,
            a body too small, or a rate below `min_rate`; TIMEOUT when hardly anything came in the time; PROTOCOL and
            REFUSED as in `probes.http`.
        OSError: the connection failed.
    """
    ends = time.perf_counter() + m.timeout_s - MARGIN_S
    budget = m.tools.of(ByteBudget)
    url = parse_url(s.url)
    key = f"{m.path.id if m.path else ''} {url}"
    async with _turn(budget, m, ends - s.seconds - CONNECT_S), budget.share(key, s.aside, s.daily) as share:
        share.used = 0  # from here on we know; the file still has all that was set aside
        try:
            download = await _download(s, m, url, share, ends)
        finally:
            m.values["wire_bytes"] = share.used
    m.values["budget_left_bytes"] = s.daily - await budget.spent(key, utc_now())
    _judge(s, m, download)


@contextlib.asynccontextmanager
async def _turn(budget: ByteBudget, m: Measurement, until: float) -> AsyncIterator[None]:
    """Wait until no other download uses the path, at most until then."""
    line = budget.line(m.path.id if m.path else "")
    try:
        async with asyncio.timeout(max(0.0, until - time.perf_counter())):
            await line.acquire()
    except TimeoutError as exc:
        raise ProbeError(Fault.LOCAL, "another download used the path all the time") from exc
    try:
        yield
    finally:
        line.release()


async def _download(s: Settings, m: Measurement, url: Url, share: Share, ends: float) -> _Download:
    connection = (
        open_stream(m, url.host, url.port, family=s.family)
        if url.scheme == "http"
        else open_tls(m, s, url.host, url.port, family=s.family, alpn=("http/1.1",))
    )
    headers = {
        "User-Agent": "thongsuot",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Range": f"bytes=0-{s.max_size - 1}",  # a server that knows it does not even send what we would not read
    }
    async with connection as stream:
        fetch = _Fetch(stream, ResponseParser("GET", s.max_size), share)
        try:
            with m.phase("processing"):
                await stream.write(encode_request("GET", url, headers, None))
                await fetch.head(m)
            with m.phase("transfer"):
                await fetch.body(s.max_size, min(ends, time.perf_counter() + s.seconds))
        finally:
            share.used = max(share.used, received_bytes(stream.writer.transport))
    return fetch.download


class _Fetch:
    """One answer on its way; its body is counted and not kept."""

    def __init__(self, stream: Stream, parser: ResponseParser, share: Share) -> None:
        self._stream = stream
        self._parser = parser
        self._share = share
        self.download = _Download()

    async def head(self, m: Measurement) -> None:
        """Read the status and headers; what of the body came with them is counted.

        Raises:
            ProbeError: CONTENT for another status than 200 or 206.
        """
        while not self._parser.head_done:
            await self._more()
        response = self._parser.response
        m.values["status_code"] = response.status
        if response.status not in (200, 206):
            raise ProbeError(Fault.CONTENT, f"status {response.status}, expected 200 or 206")

    async def body(self, most: int, ends: float) -> None:
        """Read until the end, until so many bytes have come, or until then."""
        download = self.download
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, ends - time.perf_counter())):
                while not self._parser.done and download.got < most:
                    await self._more()
                return
        download.ended = max(download.ended, min(ends, time.perf_counter()))  # silence at the end counts

    async def _more(self) -> None:
        data = await self._stream.read_some()
        self._share.used += len(data)
        if data:
            self._parser.feed(data)
        else:
            self._closed()
        body = self._parser.response.body
        if body:
            self.download.add(len(body))
            body.clear()

    def _closed(self) -> None:
        try:
            self._parser.closed()
        except ProbeError as exc:
            if not self._parser.head_done:
                raise
            words = f"the server closed the connection in the middle of the body, after {self.download.got} bytes"
            raise ProbeError(Fault.PROTOCOL, words) from exc


def _judge(s: Settings, m: Measurement, download: _Download) -> None:
    m.values["content_bytes"] = download.got
    m.values["transfer_s"] = download.seconds
    if download.got < LEAST_BYTES:
        if download.seconds >= s.seconds * 0.9:
            raise ProbeError(Fault.TIMEOUT, f"only {download.got} bytes came within {s.seconds:g} s")
        raise ProbeError(Fault.CONTENT, f"{download.got} bytes came; to tell a rate takes {LEAST_BYTES}")
    rate = download.rate_bps()
    if rate is None:
        raise ProbeError(Fault.LOCAL, "the whole body came at once: no rate can be told; let max_size be larger")
    m.values["rate_bps"] = rate
    if (late := download.late_rate_bps()) is not None:
        m.values["late_rate_bps"] = late
    if s.min_rate is not None and rate < s.min_rate:
        raise ProbeError(Fault.CONTENT, f"{_shown(rate)}, at least {_shown(s.min_rate)} expected")


def _shown(rate: float) -> str:
    return f"{rate / 1e6:.3g} Mbit/s" if rate >= 1e6 else f"{rate / 1e3:.3g} kbit/s"


def _least_every_s(s: Settings) -> float:
    """Return the interval at which the budget lasts the whole day, whatever the line can carry."""
    return max(10.0, s.seconds, math.ceil(86400 * s.aside / s.daily))


PROBE = ProbeType(
    kind="throughput",
    summary="A bounded download by HTTP(S): the rate of a path, with a budget for any 24 hours",
    settings=Settings,
    run=run,
    values=(
        Value("rate_bps", "Bits a second of the body, from its first byte to its last"),
        Value("late_rate_bps", "Bits a second of the second half of that time, when TCP has found its speed"),
        Value("content_bytes", "Bytes of the body that were read"),
        Value("transfer_s", "Time from the first byte of the body to the last, or to the end of the time allowed"),
        Value("wire_bytes", "Bytes that the kernel took in for the connection, headers and TLS included"),
        Value("budget_left_bytes", "Bytes that may still be fetched of what any 24 hours allow"),
        Value("status_code", "Status of the answer"),
        *TLS_VALUES,
    ),
    facts=(Value("address", "Address of the connection"), *TLS_FACTS),
    rounds_to_down=2,
    least_every_s=_least_every_s,
    least_timeout_s=lambda s: s.seconds + CONNECT_S + MARGIN_S,
    default_timeout_s=10.0,
)
