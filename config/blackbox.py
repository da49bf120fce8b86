"""What `/probe` may do: the modules of a blackbox_exporter, from its own file, and which targets may be reached.

The file is taken as it is, with the same machinery for places as our own: every mistake at once, as
`file:line:column`. Reads files, so it must not be called on the event loop; what it returns is plain and frozen.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError
from ruamel.yaml import YAML

from config.problems import Findings, Place, show_key, show_value
from config.tree import parse
from config.wording import say
from probes.base import Path as Uplink
from probes.base import ProbeSettings, ProbeType
from probes.blackbox import PROBERS, host_of
from probes.blackbox.modules import Module, show, unsupported
from probes.blackbox.task import EXPECT_LABEL, Task

__all__ = ["EXPECT_LABEL", "AllowList", "Blackbox", "Job", "read_modules"]

SIZE_LIMIT: Final = 4 * 1024 * 1024  # bytes of a file of modules, as of our own
TIMEOUT_OFFSET_S: Final = 0.5  # the original's own

_HOSTNAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,253}")

# What there is without a file of modules: the ones everybody's configuration begins with.
BUILT_IN: Final = """\
modules:
  http_2xx: {prober: http}
  http_post_2xx: {prober: http, http: {method: POST}}
  tcp_connect: {prober: tcp}
  icmp: {prober: icmp}
"""


def _writer() -> YAML:
    made = YAML(typ="safe", pure=True)
    made.default_flow_style = False
    made.allow_unicode = True
    return made


_WRITER: Final = _writer()  # made at import: it looks through a folder for plug-ins


def pattern_problem(pattern: str) -> str:
    """Say what is wrong with an entry of the allow-list, or nothing."""
    if not pattern or not pattern.isprintable() or " " in pattern:
        return "expected a host, a pattern like *.gov.vn, an address, a network like 10.0.0.0/8, or a socket's name"
    if "/" in pattern and not pattern.startswith("/"):
        try:
            ipaddress.ip_network(pattern)
        except ValueError as exc:
            return f"expected a network like 10.0.0.0/8: {exc}"
    return ""


class AllowList:
    """Which hosts may be probed. Names are compared as names, addresses as addresses; nothing is looked up."""

    def __init__(self, patterns: Iterable[str], hosts: Iterable[str] = ()) -> None:
        """Args: patterns: as configured. hosts: allowed as they are, with any port."""
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: list[str] = []
        self._hosts = {_plain(host) for host in hosts if host}
        for pattern in patterns:
            try:
                self._networks.append(ipaddress.ip_network(pattern.strip("[]")))
            except ValueError:
                self._names.append(_plain(pattern))

    def __call__(self, host: str) -> bool:
        """Whether a host, or a socket by its full name, may be probed."""
        plain = _plain(host)
        if plain in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(plain.partition("%")[0])
        except ValueError:
            return any(fnmatch.fnmatchcase(plain, name) for name in self._names)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return "*" in self._names or any(address in network for network in self._networks)


def _plain(host: str) -> str:
    if host.startswith("/"):
        return host
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(bare)) if ":" in bare else bare.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):  # patterns, zones and underscores are no names of IDNA
        return bare


@dataclass(frozen=True, slots=True)
class Job:
    """One probe, ready to be measured."""

    prober: str  # the module's word
    probe: ProbeType
    settings: ProbeSettings
    path: Uplink | None
    log: Callable[[], str]  # what was said on the way, for `debug=true`


@dataclass(frozen=True, slots=True)
class Blackbox:
    """What `/probe` may do."""

    modules: Mapping[str, Module] = field(default_factory=lambda: MappingProxyType({}))
    allow: tuple[str, ...] = ()  # patterns; the hosts of configured checks are allowed besides
    fixed: bool = False
    timeout_offset_s: float = TIMEOUT_OFFSET_S

    def job(self, name: str, target: str, hostname: str, allowed: Callable[[str], bool]) -> Job:
        """Return the probe of a target by a module.

        Raises:
            KeyError: there is no such module.
            ValueError: the module defines another Host than `hostname`, in the original's words; or it is none.
        """
        module = _for_host(self.modules[name], hostname)
        task = Task(name=name, module=module, target=target, fixed=self.fixed, allowed=allowed)
        path = Uplink("source_ip_address", "", module.source) if module.source else None
        return Job(module.prober, PROBERS[module.prober], task, path, task.log)

    def host(self, name: str, target: str) -> str:
        """Return the host that probing a target by a module would connect to."""
        return host_of(self.modules[name].prober, target)

    def refusal(self, name: str) -> str:
        """Say why a module cannot be used, or nothing: it asks for what this program does not do."""
        return "; ".join(f"{'.'.join(way)}: {why}" for way, why in unsupported(self.modules[name]))

    def shown(self, name: str | None = None) -> str:
        """Return a module, or all, as YAML without secrets."""
        data = show(self.modules) if name is None else show(self.modules[name])
        out = StringIO()
        _WRITER.dump({"modules": data} if name is None else data, out)
        return out.getvalue()


def _for_host(module: Module, hostname: str) -> Module:
    if not hostname:
        return module
    if not _HOSTNAME.fullmatch(hostname):  # it becomes a header: whoever asks must not write another line into it
        raise ValueError("the parameter hostname is no host name")
    if module.prober == "tcp" and not module.tcp.tls_config.server_name:
        tls = module.tcp.tls_config.model_copy(update={"server_name": hostname})
        return module.model_copy(update={"tcp": module.tcp.model_copy(update={"tls_config": tls})})
    if module.prober != "http":
        return module
    given = module.http.header("host")
    if given is not None and given != hostname:
        raise ValueError(
            f"host header defined both in module configuration ({given}) and with URL-parameter 'hostname' ({hostname})"
        )
    headers = {name: value for name, value in module.http.headers.items() if name.lower() != "host"}
    http = module.http.model_copy(update={"headers": {**headers, "Host": hostname}})
    return module.model_copy(update={"http": http})


def read_modules(file: Path | None, findings: Findings, asked_at: Place | None = None) -> Mapping[str, Module]:
    """Read a file of modules; mistakes go to `findings`, what is not supported to its warnings.

    Args:
        file: the file; None is the built-in modules.
        findings: of the configuration that names the file.
        asked_at: where it does.
    """
    if file is None:
        return read_text(BUILT_IN, "(built in)", Findings())
    name = str(file)
    try:
        with file.open("rb") as opened:
            raw = opened.read(SIZE_LIMIT + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        findings.mistake_at(asked_at or Place(name, 1, 1), f"{name} cannot be read: {reason}", "blackbox.modules")
        return MappingProxyType({})
    if len(raw) > SIZE_LIMIT:
        findings.mistake_at(asked_at or Place(name, 1, 1), f"{name} is larger than 4 MiB", "blackbox.modules")
        return MappingProxyType({})
    own = Findings()
    modules = read_text(text, name, own)
    findings.places.files.append(name)
    findings.problems += own.problems
    findings.warnings += own.warnings
    return modules


def read_text(text: str, name: str, findings: Findings) -> Mapping[str, Module]:
    """Read modules from a text; `findings` must be of this file alone. File names are relative to `name`'s folder."""
    data, findings.places = parse(text, name, findings, typed=False)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        findings.mistake((), f"expected a mapping with modules at the top; got {show_value(data)}")
        return MappingProxyType({})
    for key in data:
        if key != "modules":
            findings.mistake((key,), f"unknown key '{show_key(key)}'; known keys: modules", at_key=True)
    modules = data.get("modules")
    if modules is not None and not isinstance(modules, dict):
        findings.mistake(("modules",), f"expected a mapping of modules by name; got {show_value(modules)}")
    found = {}
    for key, content in modules.items() if isinstance(modules, dict) else ():
        module = _module(content, ("modules", key), Path(name).absolute().parent, findings)
        if module is not None:
            found[key] = module
    return MappingProxyType(found)


def _module(content: Any, loc: tuple[str, ...], folder: Path, findings: Findings) -> Module | None:
    if not isinstance(content, dict):
        findings.mistake(loc, f"expected a mapping of keys and values; got {show_value(content)}")
        return None
    _anchor(content, folder)
    try:
        module = Module.model_validate_json(json.dumps(content))
    except ValidationError as exc:
        for below, message, at_key in say(exc, Module, content):
            findings.mistake((*loc, *below), message, at_key=at_key)
        return None
    for way, why in unsupported(module):
        findings.warn((*loc, *way), f"not supported, probing with this module is refused: {why}", at_key=True)
    return module


def _anchor(content: Any, folder: Path) -> None:
    """Make file names absolute: they are relative to the file that names them."""
    items: Sequence[tuple[Any, Any]] = list(content.items()) if isinstance(content, dict) else []
    for key, value in items:
        if isinstance(value, dict):
            _anchor(value, folder)
        elif str(key).endswith("_file") and isinstance(value, str) and value:
            content[key] = str(folder / value)
        elif key == "files" and isinstance(value, list):
            content[key] = [str(folder / name) if isinstance(name, str) else name for name in value]
