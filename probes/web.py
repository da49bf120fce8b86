"""WEB: can a person do what the site is for? Several requests in a row, with cookies, forms and values carried along.

Logs in to the e-office, opens a page, logs out, and names the step that failed. Phases are those of all steps together.
The password goes to the configured hosts alone, by TLS unless that is allowed otherwise, whatever a page's form says.
Source: RFC 9110, RFC 9112 (HTTP), RFC 6265 (cookies), HTML Living Standard section 4.10 (forms).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import quote, quote_plus, unquote, urlencode

from pydantic import AfterValidator, Field, model_validator

from probes.base import (
    Fault,
    IpFamily,
    Measurement,
    PasswordSettings,
    ProbeError,
    ProbeType,
    Value,
    fault_of,
    one_line,
    utc_now,
)
from probes.http_rules import judge_body, judge_head
from probes.http_url import URL_LIMIT, Url, parse_url
from probes.http_wire import Response
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings
from probes.web_browser import Bounds, Browser, Gate, Request, origin_of, page_of
from probes.web_forms import find_form
from probes.web_markup import Markup, parse_selector, read_markup
from probes.web_steps import SECRET, STEPS_LIMIT, Step, Values, extracted, usable

RESERVE: Final = 0.2  # share of the time-out kept for steps that always run: a session left open is a seat taken
RESERVE_MOST_S: Final = 3.0
WORDS_S: Final = 0.05  # kept so that a time-out names its step; the share below where the time-out is short
LEAK_LENGTH: Final = 6  # characters of the password in a text that make us withhold it
_WITHHELD: Final = "(text withheld: it repeats the login)"
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


def _checked_origin(text: str) -> str:
    origin_of(text)
    return text


class Settings(TlsSettings, PasswordSettings):
    """What a journey through a site needs."""

    url: Annotated[str, Field(max_length=URL_LIMIT), AfterValidator(_checked_url)] = Field(
        description="Where the site begins; addresses of steps are relative to it, then to the answer before"
    )
    steps: tuple[Step, ...] = Field(min_length=1, max_length=STEPS_LIMIT, description="What to do, in order")
    login_hosts: tuple[Annotated[str, Field(max_length=300), AfterValidator(_checked_origin)], ...] = Field(
        default=(), max_length=10, description="Other hosts that may be told the password, like sso.example.vn"
    )
    plaintext_login: bool = Field(default=False, description="Whether the password may be sent without TLS")
    allow_downgrade: bool = Field(default=False, description="Whether https may redirect to plain http")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family: any, ip4 or ip6")
    max_body_bytes: int = Field(
        default=1 << 20, ge=1, le=4 << 20, description="Where reading each body ends, also after decompression"
    )

    def endpoint(self) -> str:
        """Return the first URL's host."""
        return parse_url(self.url).host

    @property
    def login_origins(self) -> frozenset[str]:
        """Scheme, host and port of everything that may be told the password."""
        named = set(map(origin_of, (self.url, *self.login_hosts)))
        # Where a site moves its visitors from http to https, the better one may be told as well.
        return frozenset(named | {origin_of(parse_url(o).host) for o in named if o == f"http://{parse_url(o).host}"})

    @property
    def named_hosts(self) -> frozenset[str]:
        """Every host that stands in these settings."""
        named = (self._whole(step.address) for step in self.steps if "{" not in step.address)
        return frozenset(url.host for url in (*map(parse_url, self.login_origins), *named))

    def _whole(self, address: str) -> Url:
        return parse_url(address) if "://" in address.partition("?")[0] else parse_url(self.url).join(address)

    @model_validator(mode="after")
    def _steps_lead_somewhere(self) -> Settings:
        for number, step in enumerate(self.steps, 1):
            try:
                if "{" not in step.address:
                    self._whole(step.address)
            except ValueError as exc:
                raise ValueError(f"step {number} leads to no web address: {exc}") from exc
        return self

    @model_validator(mode="after")
    def _steps_fit_together(self) -> Settings:
        known = {"username", SECRET} if self.username is not None else set()
        for number, step in enumerate(self.steps, 1):
            for name, place in step.holes():
                if name not in known:
                    raise ValueError(f"step {number} uses {{{name}}}, which no step before it extracts")
                if name == SECRET and place == "url":
                    raise ValueError(f"step {number} would put the password into an address, where logs keep it")
            known.update(step.extract)
        if self.steps[0].form is not None:
            raise ValueError("step 1 fills in a form, but there is no page before it: get the page first")
        return self

    @model_validator(mode="after")
    def _password_is_covered(self) -> Settings:
        sends = any(name == SECRET for step in self.steps for name, _ in step.holes())
        if self.username is not None and not sends:
            raise ValueError("no step uses {password}: fill it into a field of a form")
        if sends and not self.plaintext_login and any(o.startswith("http:") for o in self.login_origins):
            raise ValueError("this would send a login without TLS: use https, or say plaintext_login: true")
        return self


async def run(s: Settings, m: Measurement) -> None:
    """Take the steps one by one; after a failure only those that always run.

    Raises:
        ProbeError: with the number and name of the step that failed first, and why.
    """
    known = {"username": s.username, SECRET: (await s.password()).get_secret_value()} if s.username else {}
    journey = _Journey(s, Values(known))
    pieces = _pieces(known.get(SECRET, ""))
    try:
        await journey.take(m)
    except ProbeError as exc:
        if _repeats(exc.detail, pieces):
            raise ProbeError(exc.fault, f"{m.facts.get('failed_step', 'a step')}: {_WITHHELD}") from None
        raise
    finally:
        journey.note(m)
        m.facts |= {name: _WITHHELD for name, text in m.facts.items() if _repeats(text, pieces)}


def _pieces(secret: str) -> frozenset[str]:
    """Return what a text must not hold: a site may send back what it was sent, whole or in an address."""
    forms = filter(None, (secret, quote(secret, safe=""), quote_plus(secret)))
    return frozenset(f[at : at + LEAK_LENGTH].lower() for f in forms for at in range(max(1, len(f) - LEAK_LENGTH + 1)))


def _repeats(text: str, pieces: frozenset[str]) -> bool:
    low = text.lower()
    low += f"\n{unquote(low)}"
    return any(piece in low for piece in pieces)


class _Journey:
    def __init__(self, s: Settings, values: Values) -> None:
        self._s = s
        self._values = values
        bounds = Bounds(s.family, s.max_body_bytes, s.login_origins, s.allow_downgrade, s.named_hosts)
        self._browser = Browser(s, parse_url(s.url), bounds)
        self._page = ""
        self._markup: Markup | None = None
        self._times: list[tuple[str, float]] = []
        self._failed = 0

    async def take(self, m: Measurement) -> None:
        first: ProbeError | None = None
        last_s = time.perf_counter() + m.timeout_s - min(WORDS_S, RESERVE * m.timeout_s)
        ends_s = min(last_s, time.perf_counter() + m.timeout_s - self._reserved_s(m.timeout_s))
        for number, step in enumerate(self._s.steps, 1):
            if first is not None and not step.always:
                continue
            left_s = (ends_s if first is None else last_s) - time.perf_counter()
            try:
                await self._timed(m, number, step, left_s)
            except ProbeError as problem:
                if first is None:
                    first, self._failed = problem, number
                    m.fact("failed_step", _title(number, step))
        if first is not None:
            raise first

    def _reserved_s(self, timeout_s: float) -> float:
        if any(step.always for step in self._s.steps):
            return min(RESERVE_MOST_S, RESERVE * timeout_s)
        return 0.0

    async def _timed(self, m: Measurement, number: int, step: Step, left_s: float) -> None:
        title, began = _title(number, step), time.perf_counter()
        try:
            async with asyncio.timeout(left_s):
                await self._step(m, step)
        except TimeoutError as exc:
            # The resolver is ours: the target has not been asked anything yet.
            fault = Fault.LOCAL if m.current == "resolve" else Fault.TIMEOUT
            where = f" in phase {m.current}" if m.current else ""
            took_s = time.perf_counter() - began
            raise ProbeError(fault, f"{title}: no answer within {took_s:.1f} s{where}") from exc
        except ProbeError as exc:
            raise ProbeError(exc.fault, f"{title}: {exc.detail}") from exc
        except OSError as exc:
            words = one_line(exc.strerror or str(exc) or type(exc).__name__)
            raise ProbeError(fault_of(exc), f"{title}: {words}") from exc
        finally:
            self._times.append((title, time.perf_counter() - began))

    async def _step(self, m: Measurement, step: Step) -> None:
        request = await self._request(m, step)
        request.headers = self._origin_of(request) | dict(request.headers)
        response = await self._browser.ask(m, request)
        self._page, self._markup = "", None
        judge_head(step.expect, response)
        self._judge_place(step)
        async with m.tools.of(Gate).turn:
            await asyncio.to_thread(self._read, step, response)

    def _origin_of(self, request: Request) -> dict[str, str]:
        """Return where the request comes from, as browsers say it and sites check it against forgery."""
        before = self._browser.url
        if not self._times or not before.trusts(request.url):
            return {}
        referer = {"Referer": str(before)}
        return referer | {"Origin": f"{before.scheme}://{before.authority}"} if request.method == "POST" else referer

    def _judge_place(self, step: Step) -> None:
        rule, place = step.expect.final_url, self._browser.url.shown
        if rule is not None and not rule.found_in_line(place):
            raise ProbeError(Fault.CONTENT, f"came to {place}, expected {rule.words}")

    def _read(self, step: Step, response: Response) -> None:
        """Keep the page for the next step, compare it, and take values from it. Runs in a thread."""
        page, truncated = page_of(response, self._s.max_body_bytes)
        self._page = page.text
        judge_body(step.expect, page, truncated=truncated)
        now = utc_now().timestamp()
        for name, rule in step.extract.items():
            if rule.header is not None:
                value = usable(name, response.header(rule.header))
            elif rule.cookie is not None:
                value = usable(name, self._browser.cookies.value(rule.cookie, self._browser.url, now))
            else:
                value = extracted(name, rule, self._page, self._read_markup)
            self._values.keep(name, value)

    def _read_markup(self) -> Markup:
        if self._markup is None:
            self._markup = read_markup(self._page)
        return self._markup

    async def _request(self, m: Measurement, step: Step) -> Request:
        values = self._values
        secret = any(name == SECRET for name, _ in step.holes())
        headers = {name: values.header(text) for name, text in step.headers.items()}
        if step.form is not None:
            async with m.tools.of(Gate).turn:
                request = await asyncio.to_thread(self._from_form, step)
            return Request(request.method, request.url, dict(request.headers) | headers, request.body, secret)
        url = self._joined(values.url(step.address))
        if step.get is not None:
            return Request("GET", url, headers, None, secret)
        kinds = {name.lower(): text for name, text in headers.items()}
        if step.body is None:
            fields = [(name, values.plain(text)) for name, text in step.fields.items()]
            return Request("POST", url, {"Content-Type": _FORM_TYPE} | headers, urlencode(fields).encode(), secret)
        if "content-type" not in kinds:
            headers["Content-Type"] = "text/plain; charset=utf-8"
        text = values.body(step.body, json_text="json" in kinds.get("content-type", ""))
        return Request("POST", url, headers, text.encode("utf-8", "replace"), secret)

    def _from_form(self, step: Step) -> Request:
        """Fill in the form. Runs in a thread."""
        rule = step.form
        assert rule is not None
        selector = parse_selector(rule.css) if rule.css else None
        form = find_form(self._read_markup(), selector=selector, form_id=rule.id, name=rule.name, action=rule.action)
        filled = form.filled({name: self._values.plain(text) for name, text in rule.fields.items()})
        url = self._joined(form.action or str(self._browser.url))
        if form.method == "post":
            if form.encoding == "multipart/form-data":
                raise ProbeError(Fault.CONTENT, "the form wants multipart/form-data, which only files need")
            return Request("POST", url, {"Content-Type": _FORM_TYPE}, urlencode(filled, errors="replace").encode())
        if any(name == SECRET for name, _ in step.holes()):
            raise ProbeError(Fault.CONTENT, "the form would put the password into an address (method get)")
        query = urlencode(filled, errors="replace", quote_via=quote)
        return Request("GET", self._joined(f"{str(url).partition('?')[0]}?{query}"))

    def _joined(self, address: str) -> Url:
        try:
            return self._browser.url.join(address)
        except ValueError as exc:
            raise ProbeError(Fault.CONTENT, f"what was found leads to no web address: {exc}") from exc

    def note(self, m: Measurement) -> None:
        m.values["steps_count"] = float(len(self._times))
        m.values["failed_step_count"] = float(self._failed)
        m.values["redirects_count"] = float(self._browser.redirects)
        m.values["content_bytes"] = float(self._browser.body_bytes)
        m.values["cookies_count"] = float(len(self._browser.cookies))
        if self._times:
            title, most_s = max(self._times, key=lambda pair: pair[1])
            m.values["slowest_step_s"] = most_s
            m.fact("slowest_step", title)
            m.fact("steps", "; ".join(self._shown_times()))

    def _shown_times(self) -> Iterator[str]:
        for title, took_s in self._times:
            yield f"{title.removeprefix('step ')} {took_s:.3f} s"


def _title(number: int, step: Step) -> str:
    name = step.name or (f"form {step.form.id or step.form.name}".strip() if step.form else step.address)
    return f"step {number} ({one_line(name.partition('?')[0], 40)})"


PROBE = ProbeType(
    kind="web",
    summary="Journey through a web site: several requests with cookies, forms and values carried along",
    settings=Settings,
    run=run,
    values=(
        Value("steps_count", "Steps that were begun, those that always run included"),
        Value("failed_step_count", "Number of the step that failed first; 0 when none did"),
        Value("slowest_step_s", "Time of the slowest step, redirects and reading included"),
        Value("status_code", "Status of the last answer"),
        Value("redirects_count", "Redirects followed in all steps"),
        Value("content_bytes", "Size of all bodies as sent"),
        Value("cookies_count", "Cookies held at the end"),
        *TLS_VALUES,
    ),
    facts=(
        Value("steps", "Every step with its time"),
        Value("slowest_step", "The slowest step"),
        Value("failed_step", "The step that failed first"),
        Value("final_url", "Address of the last answer, without its query"),
        Value("address", "Address of the last connection"),
        *TLS_FACTS,
    ),
    least_every_s=lambda _: 10.0,  # a login is work for the site, and a line in somebody's log
    default_timeout_s=30.0,
)
