"""From a module and a target of blackbox_exporter to a check of ours that means the same.

What has no equal is told as a note, never dropped in silence; without an equal for the module's point there is no check
at all. Pure: files are neither read nor written. Secrets are not copied: the check names a file for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from probes import PROBES
from probes.blackbox import host_of
from probes.blackbox.modules import (
    Addressing,
    BasicAuth,
    DnsModule,
    HttpModule,
    Module,
    QueryResponse,
    RecordRules,
    TalkModule,
    TlsConfig,
    unsupported,
)
from probes.blackbox.task import split_host_port
from probes.http import Method

SECRETS: Final = "/etc/thongsuot/secrets"  # where secrets are looked for; a comment says what belongs there
_MAIL: Final = (("^220", "smtp"), ("* OK", "imap"), ("\\* OK", "imap"), ("+OK", "pop3"), ("\\+OK", "pop3"))
_TLS_VERSIONS: Final = {"TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}
_DROPPED: Final = frozenset({"authorization", "proxy-authorization"})
_OURS: Final = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect"})


class NoEqualError(Exception):
    """A module whose point has no equal; the message says which."""


@dataclass(slots=True)
class Translation:
    """One check, ready to be written."""

    keys: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what could not be translated, one line each
    source: str = ""  # address to send from: needs a path


def translate(module: Module, target: str, secret: str) -> Translation:
    """Translate one target of a module.

    Args:
        module: as read.
        target: as Prometheus hands it over.
        secret: name of the file that a secret would lie in.

    Raises:
        NoEqualError: there is no such check.
    """
    made = Translation()
    for way, _ in unsupported(module):
        made.notes.append(f"{'.'.join(way)} is not supported")
    _TRANSLATORS[module.prober](made, module, target, secret)
    made.source = module.source
    if module.timeout:
        made.keys["timeout"] = f"{module.timeout * 1000:g}ms" if module.timeout < 1 else f"{module.timeout:g}s"
    _prove(made)
    return made


def _prove(made: Translation) -> None:
    probe = PROBES[made.keys["probe"]]
    settings = {key: value for key, value in made.keys.items() if key not in ("probe", "timeout")}
    try:
        probe.settings.model_validate_json(json.dumps(settings))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        way = ".".join(map(str, first["loc"])) or "the check"
        raise NoEqualError(f"{way}: {first['msg'].removeprefix('Value error, ')}") from exc


def _family(made: Translation, how: Addressing) -> None:
    if not how.ip_protocol_fallback:
        made.keys["family"] = "ip4" if how.prefers_ip4 else "ip6"


def _tls(made: Translation, config: TlsConfig) -> None:
    if config.insecure_skip_verify:
        made.keys["verify"] = False
    elif config.ca_file is not None:
        made.keys["ca_file"] = str(config.ca_file)
    if config.server_name:
        made.keys["server_name"] = config.server_name
    if config.min_version is not None:
        made.keys["min_version"] = _TLS_VERSIONS[config.min_version]
    for name in ("ca", "cert", "cert_file", "max_version"):
        if getattr(config, name) is not None:
            made.notes.append(f"tls_config.{name} has no equal")


def _place(made: Translation, target: str, default_port: int | None = None) -> None:
    where = split_host_port(target)
    if where is None and default_port is None:
        raise NoEqualError(f"{target!r} names no port")
    made.keys["host"], made.keys["port"] = where or (target.strip("[]"), default_port)


def _http(made: Translation, module: Module, target: str, secret: str) -> None:
    http = module.http
    url = target if target.startswith(("http://", "https://")) else f"http://{target}"
    made.keys |= {"probe": "http", "url": url}
    for name in ("proxy_url", "oauth2", "body_file"):  # without it the check would be another one
        if getattr(http, name) is not None:
            raise NoEqualError(f"http.{name}")
    method = http.method or "GET"
    if method not in Method.__members__:
        raise NoEqualError(f"http.method {method} has no equal")
    if method != "GET":
        made.keys["method"] = method
    _family(made, http)
    if http.no_follow_redirects or not http.follow_redirects:
        made.keys["follow_redirects"] = False
    _http_headers(made, http)
    _http_login(made, http, secret, plain=url.startswith("http://"))
    _http_rules(made, http)
    _tls(made, http.tls_config)
    if http.fail_if_not_ssl and not url.startswith("https://"):
        made.notes.append("http.fail_if_not_ssl has no equal; write the address with https://")
    for name in ("valid_http_versions", "fail_if_ssl", "body_size_limit"):
        if getattr(http, name):
            made.notes.append(f"http.{name} has no equal")


def _http_headers(made: Translation, http: HttpModule) -> None:
    if http.body:
        made.keys["body"] = http.body
    kept = {}
    for name, value in http.headers.items():
        if name.lower() in _DROPPED | _OURS:
            made.notes.append(f"http.headers.{name}: this header cannot be given; a login has keys of its own")
        else:
            kept[name] = value
    for name, values in http.http_headers.items():
        if values.secrets or values.files or len(values.values) != 1:
            made.notes.append(f"http.http_headers.{name}: only one plain value can be given")
        else:
            kept[name] = values.values[0]
    if kept:
        made.keys["headers"] = kept


def _http_login(made: Translation, http: HttpModule, secret: str, *, plain: bool) -> None:
    auth = http.authorization
    if http.basic_auth is not None:
        _basic(made, http.basic_auth, secret)
    elif auth is not None and auth.type.lower() == "bearer":
        _token(made, str(auth.credentials_file) if auth.credentials_file else "", secret)
    elif auth is not None:
        raise NoEqualError(f"http.authorization of type {auth.type}")
    elif http.bearer_token is not None or http.bearer_token_file is not None:
        _token(made, str(http.bearer_token_file) if http.bearer_token_file else "", secret)
    if plain and made.keys.keys() & {"username", "token_file"}:
        made.keys["plaintext_login"] = True


def _basic(made: Translation, auth: BasicAuth, secret: str) -> None:
    if auth.username_file is not None or not auth.username:
        raise NoEqualError("http.basic_auth without a name, or with one from a file")
    made.keys["username"] = auth.username
    if auth.password_file is not None:
        made.keys["password_file"] = str(auth.password_file)
    else:
        made.keys["password_file"] = f"{SECRETS}/{secret}"
        made.notes.append(f"put the password of {auth.username} into {SECRETS}/{secret}")


def _token(made: Translation, file: str, secret: str) -> None:
    made.keys["token_file"] = file or f"{SECRETS}/{secret}"
    if not file:
        made.notes.append(f"put the token into {SECRETS}/{secret}")


def _http_rules(made: Translation, http: HttpModule) -> None:
    expect: dict[str, Any] = {}
    if http.valid_status_codes:
        expect["status"] = list(http.valid_status_codes)
    if http.fail_if_body_not_matches_regexp:
        expect["body"] = [{"regex": pattern} for pattern in http.fail_if_body_not_matches_regexp]
    if http.fail_if_body_matches_regexp:
        expect["body_absent"] = [{"regex": pattern} for pattern in http.fail_if_body_matches_regexp]
    headers = {}
    for rule in http.fail_if_header_not_matches:
        if rule.allow_missing or rule.header in headers:
            made.notes.append(f"http.fail_if_header_not_matches for {rule.header} has no equal")
        else:
            headers[rule.header] = {"regex": rule.regexp}
    if headers:
        expect["headers"] = headers
    if http.fail_if_header_matches:
        made.notes.append("http.fail_if_header_matches has no equal")
    if expect:
        made.keys["expect"] = expect


def _tcp(made: Translation, module: Module, target: str, _: str) -> None:
    tcp = module.tcp
    _place(made, target)
    _family(made, tcp)
    starttls = any(step.starttls for step in tcp.query_response)
    mail = _mail_kind(tcp)
    if mail is not None and (starttls or tcp.tls):
        made.keys |= {"probe": mail, **({"starttls": "required"} if starttls else {"tls": True})}
        _tls(made, tcp.tls_config)
        made.notes.append(f"query_response: the dialogue is {mail}'s own")
    elif starttls:
        raise NoEqualError("query_response.starttls in a dialogue that is not that of smtp, imap or pop3")
    elif tcp.tls:
        made.keys["probe"] = "tls"
        _tls(made, tcp.tls_config)
        if tcp.query_response:
            made.notes.append("query_response over TLS has no equal; the handshake is checked")
    else:
        made.keys["probe"] = "tcp"
        _dialogue(made, tcp)


def _mail_kind(module: TalkModule) -> str | None:
    first = next((step.expect for step in module.query_response if step.expect), "")
    return next((kind for start, kind in _MAIL if first.removeprefix("^").startswith(start.removeprefix("^"))), None)


def _dialogue(made: Translation, module: TalkModule) -> None:
    steps: list[dict[str, str]] = []
    for step in module.query_response:
        if step.expect_bytes is not None or re.search(r"\$[\w{]", step.send):
            raise NoEqualError("query_response with expect_bytes or with ${…} in what is sent")
        steps += _steps(step)
        if step.labels:
            made.notes.append("query_response.labels has no equal; the matched line is kept as the fact `answer`")
    if steps:
        made.keys["dialogue"] = steps


def _steps(step: QueryResponse) -> list[dict[str, str]]:
    found = []
    if step.expect:
        # Ours looks through all that came, line ends included: ^ and $ have to mean those of a line.
        end = step.expect.endswith("$") and not step.expect.endswith("\\$")
        found.append({"expect": f"(?m){step.expect[:-1]}\\r?$" if end else f"(?m){step.expect}"})
    if step.send:
        found.append({"send": f"{step.send}\n"})
    return found


def _unix(made: Translation, module: Module, target: str, _: str) -> None:
    if module.unix.tls or any(step.starttls for step in module.unix.query_response):
        raise NoEqualError("TLS over a unix socket")
    made.keys |= {"probe": "unix", "socket": target}
    _dialogue(made, module.unix)


def _dns(made: Translation, module: Module, target: str, _: str) -> None:
    dns = module.dns
    assert dns is not None
    if dns.dns_over_tls:
        raise NoEqualError("dns.dns_over_tls")
    where = split_host_port(target) or (target.strip("[]"), 53)
    made.keys |= {"probe": "dns", "server": where[0], "name": dns.query_name, "type": dns.query_type}
    if where[1] != 53:
        made.keys["port"] = where[1]
    if dns.query_class != "IN":
        made.keys["class"] = dns.query_class
    if dns.transport_protocol == "tcp":
        made.keys["transport"] = "tcp"
    if not dns.recursion_desired:
        made.keys["recursion"] = False
    if dns.valid_rcodes:
        made.keys["rcodes"] = list(dns.valid_rcodes)
    _family(made, dns)
    _dns_rules(made, dns)


def _dns_rules(made: Translation, dns: DnsModule) -> None:
    answers: dict[str, Any] = {"at_least": 0}
    rules = dns.validate_answer_rrs
    every = rules.fail_if_none_matches_regexp
    if len(every) == 1 and (pattern := _of_data(every[0])):
        answers |= {"at_least": 1, "match": [pattern]}
    elif every:
        made.notes.append("dns.validate_answer_rrs.fail_if_none_matches_regexp has no equal in this form")
    forbidden = [_of_data(pattern) for pattern in rules.fail_if_matches_regexp]
    if all(forbidden) and forbidden:
        answers["forbid"] = forbidden
    elif forbidden:
        made.notes.append("dns.validate_answer_rrs.fail_if_matches_regexp has no equal in this form")
    for name in ("fail_if_not_matches_regexp", "fail_if_all_match_regexp"):
        if getattr(rules, name):
            made.notes.append(f"dns.validate_answer_rrs.{name} has no equal")
    for section in ("validate_authority_rrs", "validate_additional_rrs"):
        if getattr(dns, section) != RecordRules():
            made.notes.append(f"dns.{section} has no equal")
    made.keys["answers"] = answers


def _of_data(pattern: str) -> str:
    """Return a pattern for a record's data made of one for the whole line with tabs; nothing when that cannot be."""
    head, tab, data = re.sub(r"\\t|\[\\t\]|\\x09", "\t", pattern).rpartition("\t")
    if tab:
        return f"^{data}" if data and not re.search(r"[(|]", head) else ""
    return "" if pattern.startswith("^") else pattern


def _icmp(made: Translation, module: Module, target: str, _: str) -> None:
    icmp = module.icmp
    made.keys |= {"probe": "icmp", "host": target.strip("[]")}
    if icmp.count > 1:
        made.keys["count"] = icmp.count
    if icmp.payload_size >= 16:
        made.keys["size"] = icmp.payload_size
    if icmp.ttl not in (0, 64):
        made.keys["ttl"] = icmp.ttl
    if icmp.dont_fragment:
        made.keys["dont_fragment"] = True
    _family(made, icmp)


def _grpc(made: Translation, module: Module, target: str, _: str) -> None:
    grpc = module.grpc
    place = target.removeprefix("http://").removeprefix("https://").partition("/")[0]
    made.keys["probe"] = "grpc"
    _place(made, place, 443 if grpc.tls else 80)
    if grpc.service:
        made.keys["service"] = grpc.service
    if grpc.tls:
        made.keys["tls"] = True
        _tls(made, grpc.tls_config)
    metadata = {name.lower(): values[0] for name, values in grpc.metadata.items() if len(values) == 1}
    if len(metadata) < len(grpc.metadata):
        made.notes.append("grpc.metadata: only one value of a name can be given")
    if metadata:
        made.keys["metadata"] = metadata
    _family(made, grpc)


def _websocket(made: Translation, module: Module, target: str, _: str) -> None:
    socket = module.websocket
    made.keys |= {"probe": "websocket", "url": target}
    _tls(made, socket.http_config.tls_config)
    headers = {
        n: v.values[0] for n, v in socket.headers.items() if len(v.values) == 1 and not v.secrets and not v.files
    }
    if len(headers) < len(socket.headers):
        made.notes.append("websocket.headers: only one plain value of a name can be given")
    if headers:
        made.keys["headers"] = headers
    if socket.http_config.basic_auth or socket.http_config.authorization or socket.http_config.bearer_token:
        made.notes.append("websocket.http_config: a login has no equal")
    _dialogue(made, TalkModule(query_response=socket.query_response))
    for step in made.keys.get("dialogue", ()):
        if "send" in step:
            step["send"] = step["send"].removesuffix("\n")  # a message has its own end
    _family(made, socket)


_Translator = Callable[[Translation, Module, str, str], None]
_TRANSLATORS: Final[Mapping[str, _Translator]] = {
    "http": _http,
    "tcp": _tcp,
    "dns": _dns,
    "icmp": _icmp,
    "grpc": _grpc,
    "unix": _unix,
    "websocket": _websocket,
}

__all__ = ["NoEqualError", "Translation", "host_of", "translate"]
