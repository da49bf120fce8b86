"""The modules of blackbox_exporter's configuration file: every key it knows, with its meaning and its default.

Values come as the texts that stand in the file, and each key makes of its text what it wants: that is how Go reads
YAML, so `password: 0123` is a text and `tls: yes` is true. Source: blackbox_exporter 0.28, CONFIGURATION.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from probes.blackbox.expression import compiled

HIDDEN: Final = "<secret>"
_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "n"})
_GO_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_GO_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)(i?B)?")


def _flag(value: object) -> object:
    word = value.lower() if isinstance(value, str) else ""
    return word in _TRUE if word in _TRUE | _FALSE else value


def _number(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[-+]?\d{1,18}", value):
        raise ValueError("expected a whole number")
    return int(value) if isinstance(value, str) else value


def go_duration(value: object) -> float:
    """Read a duration as Go writes it, `5s` or `1m30s`, as seconds.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, float):
        return value
    text = value if isinstance(value, str) else ""
    parts = list(_GO_DURATION.finditer(text))
    if text != "0" and (not parts or "".join(part[0] for part in parts) != text):
        raise ValueError("expected a duration like 5s, 500ms or 1m30s")
    return sum(float(part[1]) * _GO_UNITS[part[2]] for part in parts)


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError("expected a size like 512KB or 10MB")
    return int(float(found[1]) * 1024 ** " KMGTPE".index(found[2] or " "))


def _from_to(least: int, most: int) -> AfterValidator:
    def check(number: int) -> int:
        if not least <= number <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return number

    return AfterValidator(check)


def _pattern(text: str) -> str:
    compiled(text)
    return text


Flag = Annotated[bool, BeforeValidator(_flag)]
Number = Annotated[int, BeforeValidator(_number)]
GoDuration = Annotated[float, BeforeValidator(go_duration), Field(ge=0)]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class Section(BaseModel):
    """A part of the file. A key without a value is as good as absent, as in Go.

    Not strict: all values are texts, and each type makes of its text what it can.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_the_default(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}

    def shown(self) -> dict[str, Any]:
        """Return what was given, with every secret hidden, ready to be written as YAML."""
        return {name: show(getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set}


def show(value: object) -> Any:
    """Return a value of a section as plain data without secrets."""
    if isinstance(value, Section):
        return value.shown()
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, tuple | list):
        return [show(item) for item in value]
    if isinstance(value, Mapping):
        return {key: show(item) for key, item in value.items()}
    if isinstance(value, FilePath):
        return str(value)
    return f"{value:g}s" if isinstance(value, float) else value  # only durations have fractions


TlsVersionWord = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


class TlsConfig(Section):
    """How far a server's TLS is trusted, and who we are to it."""

    insecure_skip_verify: Flag = False
    ca: str | None = None
    ca_file: FilePath | None = None
    cert: str | None = None
    cert_file: FilePath | None = None
    key: SecretStr | None = None
    key_file: FilePath | None = None
    server_name: str = ""
    min_version: TlsVersionWord | None = None
    max_version: TlsVersionWord | None = None

    @model_validator(mode="after")
    def _each_has_one_source(self) -> TlsConfig:
        for name in ("ca", "cert", "key"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"give {name} or {name}_file, not both")
        ours = self.cert is not None or self.cert_file is not None
        if ours != (self.key is not None or self.key_file is not None):
            raise ValueError("a client's certificate and its key go together")
        return self


class BasicAuth(Section):
    """A login by name and password (RFC 7617)."""

    username: str = ""
    username_file: FilePath | None = None
    password: SecretStr | None = None
    password_file: FilePath | None = None


class Authorization(Section):
    """A login by a token."""

    type: str = "Bearer"
    credentials: SecretStr | None = None
    credentials_file: FilePath | None = None


class OAuth2(Section):
    """A login by a token that another server gives; understood and not done, see `unsupported`."""

    client_id: str = ""
    client_secret: SecretStr | None = None
    client_secret_file: FilePath | None = None
    scopes: tuple[str, ...] = ()
    token_url: str = ""
    endpoint_params: Mapping[str, str] = Field(default_factory=dict)
    tls_config: TlsConfig = TlsConfig()
    proxy_url: SecretStr | None = None
    no_proxy: str = ""
    proxy_from_environment: Flag = False
    proxy_connect_header: Mapping[str, tuple[SecretStr, ...]] = Field(default_factory=dict)


class HeaderValues(Section):
    """The values of one header."""

    values: tuple[str, ...] = ()
    secrets: tuple[SecretStr, ...] = ()
    files: tuple[FilePath, ...] = ()


class HttpClient(Section):
    """How an HTTP request is made: logins, proxies, TLS."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    bearer_token: SecretStr | None = None
    bearer_token_file: FilePath | None = None
    tls_config: TlsConfig = TlsConfig()
    follow_redirects: Flag = True
    enable_http2: Flag = True
    proxy_url: SecretStr | None = None  # it may hold a login
    no_proxy: str = ""
    proxy_from_environment: Flag = False
    proxy_connect_header: Mapping[str, tuple[SecretStr, ...]] = Field(default_factory=dict)
    http_headers: Mapping[str, HeaderValues] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_login(self) -> HttpClient:
        bearer = self.bearer_token is not None or self.bearer_token_file is not None
        if (self.basic_auth, self.authorization, self.oauth2).count(None) + (not bearer) < 3:
            raise ValueError("give at most one of basic_auth, authorization, oauth2 and bearer_token")
        if self.bearer_token is not None and self.bearer_token_file is not None:
            raise ValueError("give bearer_token or bearer_token_file, not both")
        return self


class Addressing(Section):
    """Which address of a name is taken."""

    preferred_ip_protocol: str = ""
    ip_protocol_fallback: Flag = True

    @property
    def prefers_ip4(self) -> bool:
        """Whether IPv4 is preferred: nothing and ip6 mean IPv6, any other word IPv4."""
        return self.preferred_ip_protocol not in ("", "ip6")


class HeaderMatch(Section):
    """A rule for a header of the answer."""

    header: Annotated[str, Field(min_length=1)]
    regexp: Annotated[Pattern, Field(min_length=1)]
    allow_missing: Flag = False


class HttpModule(HttpClient, Addressing):
    """What the http prober wants."""

    valid_status_codes: tuple[Number, ...] = ()
    valid_http_versions: tuple[str, ...] = ()
    skip_resolve_phase_with_proxy: Flag = False
    no_follow_redirects: Flag = False
    fail_if_ssl: Flag = False
    fail_if_not_ssl: Flag = False
    method: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict)
    fail_if_body_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_body_not_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_body_json_matches_cel: str | None = None
    fail_if_body_json_not_matches_cel: str | None = None
    fail_if_header_matches: tuple[HeaderMatch, ...] = ()
    fail_if_header_not_matches: tuple[HeaderMatch, ...] = ()
    body: str = ""
    body_file: FilePath | None = None
    compression: Literal["", "gzip", "br", "deflate", "identity"] = ""
    body_size_limit: Size = 0
    enable_http3: Flag = False

    def header(self, name: str) -> str | None:
        """Return a header that the module sends, by its name in any case."""
        return {key.lower(): value for key, value in self.headers.items()}.get(name.lower())

    @model_validator(mode="after")
    def _can_be_sent(self) -> HttpModule:
        for name, value in self.headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
                raise ValueError(f"header {name[:40]!r} cannot be sent")
        accepted = self.header("accept-encoding")
        if self.compression and accepted is not None and not _accepts(accepted, self.compression):
            raise ValueError(f"compression {self.compression} contradicts the header Accept-Encoding: {accepted}")
        if self.body and self.body_file is not None:
            raise ValueError("give body or body_file, not both")
        return self


def _accepts(header: str, coding: str) -> bool:
    offers = {}
    for offer in header.lower().split(","):
        name, _, quality = offer.replace(" ", "").partition(";q=")
        offers[name] = quality or "1"
    return offers.get(coding, offers.get("*", "0")).strip("0.") != ""


class Label(Section):
    """A label of `probe_expect_info`."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
    value: str = ""


class QueryResponse(Section):
    """One step of a dialogue: wait for a line or bytes, send a line, change to TLS; in this order."""

    expect: Pattern | None = None
    expect_bytes: str | None = None
    labels: tuple[Label, ...] = ()
    send: str = ""
    starttls: Flag = False

    @model_validator(mode="after")
    def _expects_one_thing(self) -> QueryResponse:
        if self.expect is not None and self.expect_bytes is not None:
            raise ValueError("give expect or expect_bytes, not both")
        return self


class TalkModule(Section):
    """What the tcp and unix probers share."""

    query_response: tuple[QueryResponse, ...] = ()
    tls: Flag = False
    tls_config: TlsConfig = TlsConfig()


class TcpModule(TalkModule, Addressing):
    """What the tcp prober wants."""

    source_ip_address: str = ""


class UnixModule(TalkModule):
    """What the unix prober wants."""


class RecordRules(Section):
    """Rules for the records of one section of an answer, as texts with tabs between the fields."""

    fail_if_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_all_match_regexp: tuple[Pattern, ...] = ()
    fail_if_not_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_none_matches_regexp: tuple[Pattern, ...] = ()


class DnsModule(Addressing):
    """What the dns prober wants."""

    query_name: str = ""
    query_type: str = "ANY"
    query_class: str = "IN"
    recursion_desired: Flag = True
    transport_protocol: Literal["udp", "tcp"] = "udp"
    dns_over_tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    source_ip_address: str = ""
    valid_rcodes: tuple[str, ...] = ()
    validate_answer_rrs: RecordRules = RecordRules()
    validate_authority_rrs: RecordRules = RecordRules()
    validate_additional_rrs: RecordRules = RecordRules()

    @model_validator(mode="after")
    def _tls_needs_tcp(self) -> DnsModule:
        if self.dns_over_tls and self.transport_protocol != "tcp":
            raise ValueError("dns_over_tls needs transport_protocol: tcp")
        return self


class IcmpModule(Addressing):
    """What the icmp prober wants; `count` is ours."""

    source_ip_address: str = ""
    payload_size: Annotated[Number, _from_to(0, 65000)] = 0
    dont_fragment: Flag = False
    ttl: Annotated[Number, _from_to(0, 255)] = 64
    count: Annotated[Number, _from_to(1, 100)] = 1


class GrpcModule(Addressing):
    """What the grpc prober wants."""

    service: str = ""
    tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    metadata: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


class WebsocketModule(Addressing):
    """What the websocket prober wants."""

    http_config: HttpClient = HttpClient()
    headers: Mapping[str, HeaderValues] = Field(default_factory=dict)
    query_response: tuple[QueryResponse, ...] = ()


PROBERS: Final = ("http", "tcp", "dns", "icmp", "grpc", "unix", "websocket")


class Module(Section):
    """One way of probing, by name."""

    prober: Literal["http", "tcp", "dns", "icmp", "grpc", "unix", "websocket"]
    timeout: GoDuration = 0.0
    http: HttpModule = HttpModule()
    tcp: TcpModule = TcpModule()
    dns: DnsModule | None = None
    icmp: IcmpModule = IcmpModule()
    grpc: GrpcModule = GrpcModule()
    unix: UnixModule = UnixModule()
    websocket: WebsocketModule = WebsocketModule()

    @model_validator(mode="after")
    def _dns_asks_something(self) -> Module:
        if (self.prober == "dns" or self.dns is not None) and not (self.dns and self.dns.query_name):
            raise ValueError("a dns module needs query_name under dns")
        return self

    @property
    def source(self) -> str:
        """Address of this machine to send from, or nothing."""
        section = {"tcp": self.tcp, "dns": self.dns, "icmp": self.icmp}.get(self.prober)
        return str(getattr(section, "source_ip_address", ""))


def unsupported(module: Module) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give what a module asks for and this program does not do: the way to the key, and what to do about it.

    Probing by such a module is refused: a verdict without it would be another one than the module means.
    """
    if module.prober == "http":
        yield from _unsupported_http(module.http)
    elif module.prober == "websocket":
        yield from (
            (("websocket", "http_config", *way), why) for way, why in _unsupported_client(module.websocket.http_config)
        )
        if module.websocket.http_config.proxy_url is not None:
            yield ("websocket", "http_config", "proxy_url"), "sockets are opened without a proxy"


def _unsupported_http(http: HttpModule) -> Iterator[tuple[tuple[str, ...], str]]:
    yield from ((("http", *way), why) for way, why in _unsupported_client(http))
    if http.enable_http3:
        yield ("http", "enable_http3"), "HTTP/3 is not spoken; leave it out to use HTTP/2 or 1.1"
    if http.compression == "br":
        yield ("http", "compression"), "br is not unpacked; use gzip or deflate"
    for name in ("fail_if_body_json_matches_cel", "fail_if_body_json_not_matches_cel"):
        if getattr(http, name) is not None:
            yield ("http", name), "CEL is not evaluated; use a pattern, or a check with expect.json"


def _unsupported_client(client: HttpClient) -> Iterator[tuple[tuple[str, ...], str]]:
    if client.oauth2 is not None:
        yield ("oauth2",), "tokens are not fetched; use authorization with credentials_file"
    if client.proxy_from_environment:
        yield ("proxy_from_environment",), "the environment is not asked; use proxy_url"
    if client.no_proxy:
        yield ("no_proxy",), "exceptions from a proxy are not made; use a module without proxy_url for them"
