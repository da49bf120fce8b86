"""`thongsuot import blackbox`: a province file from an existing blackbox_exporter and its targets.

Every target becomes a check of ours that means what its module means. What has no equal is said, and stands as a
comment where the check would have the key.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from config.blackbox import read_modules
from config.blackbox_translate import NoEqualError, Translation, host_of, translate
from config.plan import REFERENCES
from config.problems import ConfigError, Findings, show_value
from config.tree import parse
from probes.blackbox.modules import Module

DEFAULT_MODULE: Final = "http_2xx"
DEFAULT_EVERY_S: Final = 30.0
_MODULE_LABELS: Final = ("__param_module", "module")
_SERVICE_LABELS: Final = ("service", "job")
_NAME_LABELS: Final = ("name", "instance")


@dataclass(frozen=True, slots=True)
class Asked:
    """One target, as the file of targets names it."""

    target: str
    module: str
    service: str  # what the labels say, or nothing
    name: str  # for people


@dataclass(slots=True)
class Imported:
    """A province file, and what has to be said about it."""

    text: str
    notes: list[str] = field(default_factory=list)
    checks: int = 0


def read_targets(file: Path, default_module: str = DEFAULT_MODULE) -> list[Asked]:
    """Read a file of targets, JSON or YAML, as Prometheus' file_sd_configs do.

    Raises:
        ConfigError: with every mistake and its place.
    """
    findings = Findings()
    findings.places.files.append(str(file))
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([_cannot_read(file, exc, findings)]) from exc
    data, findings.places = parse(text, str(file), findings, typed=False)
    if data is not None and not isinstance(data, list):
        findings.mistake((), f"expected a list of targets with labels; got {show_value(data)}")
    found: list[Asked] = []
    for number, group in enumerate(data if isinstance(data, list) else ()):
        found += _group(group, number, default_module, findings)
    findings.refuse()
    return found


def _cannot_read(file: Path, exc: Exception, findings: Findings) -> Any:
    reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
    findings.mistake((), f"{file} cannot be read: {reason}")
    return findings.problems[0]


def _group(group: object, number: int, default_module: str, findings: Findings) -> Iterator[Asked]:
    targets = group.get("targets") if isinstance(group, dict) else None
    labels = group.get("labels") if isinstance(group, dict) else None
    if not isinstance(targets, list) or not all(isinstance(t, str) and t for t in targets):
        findings.mistake((number,), "expected a mapping with targets, a list of texts")
        return
    if labels is not None and not isinstance(labels, dict):
        findings.mistake((number, "labels"), f"expected a mapping of texts; got {show_value(labels)}")
        return
    texts = {name: str(value) for name, value in (labels or {}).items() if value is not None}
    for target in targets:
        yield Asked(
            target,
            _first(texts, _MODULE_LABELS) or default_module,
            _first(texts, _SERVICE_LABELS),
            _first(texts, _NAME_LABELS) if len(targets) == 1 else "",
        )


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def build(file: Path, asked: Sequence[Asked], *, site_id: str, site_name: str) -> Imported:
    """Translate every target and write the province file.

    Args:
        file: blackbox_exporter's configuration.
        asked: the targets.
        site_id: for `site.id`.
        site_name: for `site.name`.

    Raises:
        ConfigError: the file of modules is wrong; with every mistake and its place.
    """
    findings = Findings()
    modules = read_modules(file, findings)
    findings.refuse()
    province = _Province(modules)
    for one in asked:
        province.add(one)
    return province.imported(file, site_id, site_name)


@dataclass(slots=True)
class _Check:
    asked: Asked
    made: Translation | None
    notes: list[str]


class _Province:
    """Services and checks as they come."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self._modules = modules
        self._services: dict[str, dict[str, _Check]] = {}
        self._names: dict[str, str] = {}
        self._sources: dict[str, str] = {}  # address to path id
        self._notes: list[str] = []
        self._checks = 0

    def add(self, asked: Asked) -> None:
        """Translate one target, and say what of it was not."""
        module = self._modules.get(asked.module)
        host = host_of(module.prober, asked.target) if module else asked.target
        label = asked.service or host
        service = slug(label)
        if service == REFERENCES:
            service += "-service"  # the word is taken
        checks = self._services.setdefault(service, {})
        self._names.setdefault(service, label)
        check = _unique(slug(asked.module), checks)
        made, notes = self._translated(asked, module, f"{service}-{check}")
        checks[check] = _Check(asked, made, notes)
        self._checks += made is not None
        self._notes += [f"{service}.{check} ({asked.target}, module {asked.module}): {note}" for note in notes]

    def _translated(self, asked: Asked, module: Module | None, secret: str) -> tuple[Translation | None, list[str]]:
        if module is None:
            return None, ["no check: there is no such module"]
        try:
            made = translate(module, asked.target, secret)
        except NoEqualError as exc:
            return None, [f"no check: {exc}"]
        if module.timeout > DEFAULT_EVERY_S:
            made.keys["every"] = f"{module.timeout:g}s"
        if made.source:
            made.keys["path"] = self._sources.setdefault(made.source, f"source-{len(self._sources) + 1}")
        return made, made.notes

    def imported(self, file: Path, site_id: str, site_name: str) -> Imported:
        """Write everything down."""
        lines = [
            f"# Made from {file.name} by `thongsuot import blackbox`. Give the site and the services their names, add",
            "# references (who tells `it is us`), alerts, and look for `NOTE`.",
            f"site: {_flow({'id': site_id, 'name': site_name})}",
            "blackbox:",
            f"  modules: {_flow(str(file.absolute()))}",
        ]
        if self._sources:
            lines.append("paths:")
            lines += [f"  {id_}: {_flow({'source': address})}" for address, id_ in self._sources.items()]
        lines.append("services:" if self._checks else "services: {}")
        for service, checks in self._services.items():
            lines += self._service(service, checks)
        return Imported("\n".join(lines) + "\n", self._notes, self._checks)

    def _service(self, service: str, checks: Mapping[str, _Check]) -> Iterator[str]:
        body = [line for id_, check in checks.items() for line in _lines(id_, check)]
        if not any(check.made for check in checks.values()):
            yield from (f"  # {line.strip().removeprefix('# ')}" for line in body)
            return
        yield f"  {service}:"
        yield f"    name: {_flow(self._names[service])}"
        yield "    checks:"
        yield from body


def _lines(id_: str, check: _Check) -> Iterator[str]:
    place = f"{check.asked.target}, module {check.asked.module}"
    if check.made is None:
        yield f"      # NOTE {_comment(f'{place}: {check.notes[0]}')}"
        return
    for note in check.notes:
        yield f"      # NOTE {_comment(note)}"
    yield f"      {id_}:"
    if check.asked.name:
        key = "label" if check.made.keys["probe"] == "dns" else "name"
        yield f"        {key}: {_flow(check.asked.name)}"
    keys = {"probe": check.made.keys["probe"], **check.made.keys}  # what it is stands first
    for key, value in keys.items():
        yield f"        {key}: {_flow(value)}"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _flow(value: object) -> str:
    # JSON is YAML: nothing needs quoting by hand.
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def slug(text: str) -> str:
    """Make an id of any text: small letters without marks, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("đ", "d")).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].rstrip("-") or "service"


def _unique(id_: str, taken: Iterable[str]) -> str:
    known, number, found = set(taken), 1, id_
    while found in known:
        number += 1
        found = f"{id_[:58]}-{number}"
    return found
