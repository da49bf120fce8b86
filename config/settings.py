"""The keys of a configuration: one model a section, each field described for the manual and the editors' schema.

What a check's probe needs stands beside that probe; here are the keys every check has. Models check one section at
a time and know nothing of the others: names across sections are looked up in `config.crosschecks`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from config.blackbox import TIMEOUT_OFFSET_S, pattern_problem
from config.calendar import parse_local
from config.plan import Language, ServiceKind
from config.problems import show_seconds, show_value
from probes.base import Duration, Host, Port, parse_duration

DEFAULT_EVERY: Final = "30s"
ID_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+")


def identifier(text: str) -> str:
    """Return an id as it is.

    Raises:
        ValueError: it is none; says what is expected and what came.
    """
    if not re.fullmatch(ID_PATTERN, text):
        raise ValueError(
            f"expected an id of at most 63 of a-z, 0-9 and '-', not beginning with '-'; got {show_value(text)}"
        )
    return text


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"expected a name of printable characters on one line; got {show_value(text)}")
    return text


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or not text.isprintable():
        raise ValueError(f"expected a mail address like truc@example.vn; got {show_value(text)}")
    return text


def _ip_address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        raise ValueError(f"expected an IP address of this machine, like 192.0.2.10; got {show_value(text)}") from exc
    return text


def _interface(text: str) -> str:
    if not re.fullmatch(r"[^\s/:]{1,15}", text):
        raise ValueError(f"expected the name of a network interface (at most 15 characters); got {show_value(text)}")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"expected a time zone like Asia/Ho_Chi_Minh; got {show_value(text)}") from exc
    return text


def _local_time(text: str) -> str:
    parse_local(text)
    return text


def _giao_thua_or_time(text: str) -> str:
    return text if text == GIAO_THUA else _local_time(text)


def parse_listen(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, IPv6 in brackets.

    Raises:
        ValueError: anything else; says what is expected and what came.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s/:\[\]]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"expected HOST:PORT like 127.0.0.1:8480 or [::1]:8480; got {show_value(text)}")
    return match[1] or match[2], int(match[3])


def _listen(text: str) -> str:
    parse_listen(text)
    return text


def _page_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", text):
        raise ValueError(f"expected a web address like http://192.0.2.5:8480/; got {show_value(text)}")
    return text


def _file_name(value: object) -> object:
    if isinstance(value, str) and (not value or not value.isprintable()):
        raise ValueError(f"expected the name of a file; got {show_value(value)}")
    return value


_SIZE = re.compile(r"(\d{1,6})(MB|GB|TB)")
_SizeText = Annotated[str, Field(pattern=rf"^{_SIZE.pattern}$")]  # what an editor is told


def _size(value: object, info: ValidationInfo) -> object:
    """Take bytes from code; from a file only text, where a bare number would be one without its unit."""
    if isinstance(value, int) and info.mode != "json":
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[match[2]]
    raise ValueError(f"expected a size with its unit, like 500MB, 20GB or 1TB; got {show_value(value)}")


def _between(least: str, most: str) -> AfterValidator:
    """Bound a duration; the message speaks in durations, not in seconds."""
    low, high = parse_duration(least), parse_duration(most)

    def check(seconds: float) -> float:
        if not low <= seconds <= high:
            raise ValueError(f"expected a duration from {least} to {most}; got {show_seconds(seconds)}")
        return seconds

    return AfterValidator(check)


def _up_when(value: object) -> object:
    if value in ("all", "any") or isinstance(value, dict):
        return value
    raise ValueError(f"expected all, any or {{at_least: n}}; got {show_value(value)}")


def _up_by(value: object) -> object:
    if value in ("majority", "any", "all") or isinstance(value, dict):
        return value
    raise ValueError(f"expected majority, any, all or {{at_least: n}}; got {show_value(value)}")


GIAO_THUA: Final = "giao-thua"

Id = Annotated[str, AfterValidator(identifier), Field(json_schema_extra={"pattern": ID_PATTERN})]
Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_label)]
Address = Annotated[str, AfterValidator(_address)]
LocalTime = Annotated[str, AfterValidator(_local_time)]
Interval = Annotated[Duration, _between("100ms", "7d")]
Timeout = Annotated[Duration, _between("1ms", "1h")]
Slow = Annotated[Duration, _between("1ms", "1h")]
Margin = Annotated[Duration, _between("0s", "366d")]
Keep = Annotated[Duration, _between("1d", "36500d")]
Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=_SizeText), Field(ge=1)]  # bytes
FileName = Annotated[FilePath, BeforeValidator(_file_name, json_schema_input_type=str)]


class Section(BaseModel):
    """A part of the configuration. Validated from JSON text, so that strict mode accepts enums and tuples."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")


class SiteSettings(Section):
    """Whose monitor this is."""

    id: Id = Field(description="Short id of the site; stands in every metric and file name")
    name: Label = Field(description="Name of the office, as people read it")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="Asia/Ho_Chi_Minh", description="Time zone of every time of day and of every local midnight"
    )
    language: Language = Field(default=Language.VI, description="Language of what people read: vi or en")


class PathSettings(Section):
    """An uplink a check may leave by: a source address, an interface, or both."""

    name: Label | None = Field(default=None, description="Name for people; the id without one")
    carrier: str | None = Field(
        default=None,
        description="Id of the service of kind carrier whose line it is; without one, the only one all of whose checks"
        " leave by it",
    )
    source: Annotated[str, AfterValidator(_ip_address)] | None = Field(
        default=None, description="Address of this machine to send from, IPv4 or IPv6"
    )
    interface: Annotated[str, AfterValidator(_interface)] | None = Field(
        default=None, description="Network interface to leave by"
    )

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.source is None and self.interface is None:
            raise ValueError("a path needs source (an address of this machine) or interface")
        return self


Objective = Annotated[float, Field(ge=50, le=99.999)]


class PolicySettings(Section):
    """How often to look, how long to wait, and when a streak of results is believed."""

    every: Interval | None = Field(default=None, description=f"Interval between probes; {DEFAULT_EVERY} without one")
    timeout: Timeout | None = Field(
        default=None,
        description="Longest wait for one probe. Without one: what suits the probe, and never longer than the interval",
    )
    bad_rounds: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Consecutive bad results before a check is down; without one, what suits the probe"
    )
    good_rounds: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Consecutive good results before a check is up again; 2 without one"
    )
    recheck_after: Annotated[Duration, _between("100ms", "1h")] | None = Field(
        default=None, description="Pause before each fast recheck after a first bad result; 5s without one"
    )
    objective: Objective | None = Field(
        default=None,
        description="Per cent of rounds that shall succeed; 99.5 without one. A check that fails now and then, far "
        "more often than this bears, is degraded",
    )
    slow_over: Slow | None = Field(
        default=None, description="A good answer slower than this counts as slow; a streak of them means degraded"
    )


class DefaultSettings(PolicySettings):
    """What checks and references take where they say nothing themselves."""


class AtLeast(Section):
    """A quorum of checks."""

    at_least: int = Field(ge=1, description="How many checks must be up")


UpWhen = Annotated[
    AtLeast | Literal["all", "any"], BeforeValidator(_up_when, json_schema_input_type=AtLeast | Literal["all", "any"])
]
UpBy = Annotated[
    AtLeast | Literal["majority", "any", "all"],
    BeforeValidator(_up_by, json_schema_input_type=AtLeast | Literal["majority", "any", "all"]),
]


class CheckSettings(PolicySettings):
    """The keys every check has, whatever its probe."""

    probe: str = Field(description="Kind of probe: what is measured")
    name: Label | None = Field(default=None, description="Name for people; the id without one")
    label: Label | None = Field(
        default=None, description="Name for people, where the probe has a key `name` of its own (as dns does)"
    )
    path: str | None = Field(
        default=None, description="Id of the path to leave by; without one, the system's own route"
    )
    paths: tuple[str, ...] = Field(
        default=(), description="Ids of several paths to ask by, each judged by itself and compared; instead of path"
    )
    up_by: UpBy = Field(
        default="majority",
        description="By which of its paths a check must be up: majority (at least half), any, all, or {at_least: n}",
    )


class ReferenceSettings(CheckSettings):
    """A neutral point that tells 'it is us' from 'it is them': a check, and on which side of the uplink it lies."""

    role: Literal["near", "far"] | None = Field(
        default=None,
        description="near: on our side of the uplink; far: beyond it. Without one: near for the id gateway, else far",
    )


class ServiceSettings(Section):
    """A thing the duty officer cares about, and the rule that makes its state from its checks."""

    name: Label | None = Field(default=None, description="Name for people; the id without one")
    kind: ServiceKind = Field(default=ServiceKind.SERVICE, description="What it is; decides wording and grouping")
    needs: tuple[str, ...] = Field(default=(), description="Ids of services it cannot work without")
    carrier: str | None = Field(
        default=None,
        description="Id of the service of kind carrier through which it is reached, where its paths do not say",
    )
    up_when: UpWhen = Field(default="all", description="Which checks must be up: all, any, or {at_least: n}")
    objective: Objective | None = Field(
        default=None, description="As of a check, for all checks of this service that say nothing themselves"
    )
    checks: dict[str, Any] = Field(description="The checks by id")


class PeakSettings(Section):
    """A span of an event in which named services are probed more often."""

    at: Annotated[str, AfterValidator(_giao_thua_or_time)] = Field(
        description="giao-thua (in an event with tet), or a local date or time"
    )
    before: Margin = Field(default=0.0, description="How long before `at` the peak begins")
    after: Margin = Field(default=0.0, description="How long after `at` the peak ends")
    every: Interval | None = Field(
        default=None, description="Interval within the peak, for checks whose own is longer; without one, their own"
    )
    services: tuple[str, ...] = Field(default=(), description="Ids of the services meant; without any, all of them")

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.before + self.after <= 0:
            raise ValueError("a peak needs before or after, or it lasts no time at all")
        return self


class EventSettings(Section):
    """A Tết, a festival, a conference: a period with a report of its own."""

    name: Label | None = Field(
        default=None, description="Name for people; Tết by its lunar year, or the id, without one"
    )
    tet: int | None = Field(default=None, description="Year whose Tết this is, by the Vietnamese lunar calendar")
    from_: LocalTime | None = Field(default=None, alias="from", description="First day, or local time of the start")
    to: LocalTime | None = Field(default=None, description="Last day (held to its end), or local time of the end")
    before: Margin | None = Field(
        default=None, description="How much earlier the event begins: 2d before mùng 1 for Tết, else nothing"
    )
    after: Margin | None = Field(
        default=None,
        description="Tết: how long after the start of mùng 1 the event ends, 5d without one. Else: how long after `to`",
    )
    peaks: dict[str, Any] = Field(default_factory=dict, description="Spans of a higher rate, by id")
    daily: dict[str, Any] | None = Field(
        default=None, description="The daily report during this event, instead of the one under reports"
    )

    @model_validator(mode="after")
    def _has_one_time(self) -> Self:
        if self.tet is not None and (self.from_ is not None or self.to is not None):
            raise ValueError("give tet, or from and to, not both")
        if self.tet is None and (self.from_ is None or self.to is None):
            raise ValueError("an event needs tet (a year), or from and to")
        return self


class RelaySettings(Section):
    """A mail server that accepts our alerts."""

    host: Host = Field(description="Name or address of the mail server")
    port: Port | None = Field(default=None, description="25 without one; 465 with tls")
    starttls: Literal["required", "optional", "never"] | None = Field(
        default=None, description="Whether to change to TLS after the greeting; optional without one, never with tls"
    )
    tls: bool = Field(default=False, description="TLS from the first byte")
    username: str | None = Field(default=None, description="Login name; without it no login is tried")
    password_file: FileName | None = Field(default=None, description="File whose first line is the password")
    password_env: str | None = Field(default=None, description="Environment variable that holds the password")
    ca_file: FileName | None = Field(default=None, description="Certificates to trust instead of the system's, PEM")
    plaintext_login: bool = Field(default=False, description="The second, explicit yes to a login without TLS")
    timeout: Annotated[Duration, _between("1s", "10m")] = Field(default=20.0, description="Longest wait for the server")

    @model_validator(mode="after")
    def _login_is_whole_and_safe(self) -> Self:
        sources = (self.password_file is not None) + (self.password_env is not None)
        if sources > 1:
            raise ValueError("give password_file or password_env, not both")
        if sources != (self.username is not None):
            raise ValueError("username and one of password_file, password_env go together")
        if self.tls and self.starttls in ("required", "optional"):
            raise ValueError(f"tls (TLS from the first byte) and starttls: {self.starttls} exclude each other")
        if self.username is not None and not (self.tls or self.starttls == "required" or self.plaintext_login):
            raise ValueError(
                "a login without TLS shows the password to the network: "
                "set starttls: required or tls: true, or say plaintext_login: true"
            )
        return self


class MailSettings(Section):
    """Who is told by mail, and through which servers."""

    from_: Address = Field(alias="from", description="Sender's address")
    to: tuple[Address, ...] = Field(min_length=1, description="Who is told")
    relays: tuple[RelaySettings, ...] = Field(
        min_length=1, description="Mail servers, tried in order; never the monitored one alone"
    )
    page_url: Annotated[str, AfterValidator(_page_url)] | None = Field(
        default=None, description="Address of the live page, printed in mails"
    )


class AlertSettings(Section):
    """Ways to tell."""

    mail: MailSettings | None = Field(default=None, description="Telling by mail")


class StampSettings(Section):
    """A time-stamp authority (RFC 3161) that bears witness of the chain of evidence."""

    url: Annotated[str, AfterValidator(_page_url)] = Field(description="Where it is asked, http or https")
    ca_file: FileName = Field(description="Certificates that its stamps must lead to, PEM")
    every: Annotated[Duration, _between("1h", "31d")] = Field(default=86400.0, description="At most how often")


class StoreSettings(Section):
    """Where records are kept, and how long."""

    dir: FileName = Field(default=FilePath("/var/lib/thongsuot"), description="State directory")
    raw: Keep = Field(default=400 * 86400.0, description="How long raw results are kept")
    budget: Size | None = Field(
        default=None,
        description="Most that journal and evidence may take of the disk: a warning at four fifths, and beyond it the "
        "oldest hours of raw evidence go, which the chain records. Without one, only their age counts",
    )
    key_file: FileName | None = Field(
        default=None,
        description="Private key (Ed25519, PEM) that signs the evidence, such as a credential of systemd; without one, "
        "evidence-key.pem in the state directory, made at the first start",
    )
    timestamp_authority: StampSettings | None = Field(
        default=None, description="Who stamps the chain of evidence with the time; nobody without one"
    )


class WebSettings(Section):
    """The live page, the metrics and the API."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:8480", description="Address and port to listen on"
    )


def _allowed(pattern: str) -> str:
    if problem := pattern_problem(pattern):
        raise ValueError(f"{problem}; got {show_value(pattern)}")
    return pattern


class BlackboxSettings(Section):
    """Probing on demand at `/probe`, as blackbox_exporter offers it."""

    modules: FileName | None = Field(
        default=None, description="blackbox_exporter's own configuration file; a few usual modules without one"
    )
    allow: tuple[Annotated[str, AfterValidator(_allowed)], ...] = Field(
        default=(),
        max_length=1000,
        description="Targets that may be probed besides the hosts of checks: names, *.patterns, networks, sockets",
    )
    compat: Literal["strict", "fixed"] = Field(
        default="strict", description="strict keeps the original's quirks, fixed mends them; see docs/blackbox.md"
    )
    timeout_offset: Annotated[Duration, _between("0s", "1m")] = Field(
        default=TIMEOUT_OFFSET_S, description="How much earlier than Prometheus a probe gives up"
    )


class RootSettings(Section):
    """The whole file."""

    include: str | tuple[str, ...] | None = Field(
        default=None, description="More files to read, by name or pattern, relative to this one"
    )
    site: dict[str, Any] = Field(description="Whose monitor this is")
    paths: dict[str, Any] = Field(default_factory=dict, description="Uplinks a check may leave by")
    references: dict[str, Any] = Field(default_factory=dict, description="Neutral points: is it us?")
    defaults: dict[str, Any] = Field(default_factory=dict, description="What checks take where they say nothing")
    services: dict[str, Any] = Field(description="What is watched")
    events: dict[str, Any] = Field(default_factory=dict, description="Periods with a report of their own")
    maintenance: tuple[dict[str, Any], ...] = Field(default=(), description="Announced work")
    alerts: dict[str, Any] = Field(default_factory=dict, description="Who is told, and how")
    reports: dict[str, Any] = Field(default_factory=dict, description="What official reports say beside the figures")
    store: dict[str, Any] = Field(default_factory=dict, description="Where records are kept")
    web: dict[str, Any] = Field(default_factory=dict, description="The live page")
    blackbox: dict[str, Any] = Field(default_factory=dict, description="Probing on demand at /probe")
