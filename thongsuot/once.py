"""One run of checks, without a schedule or a verdict: `thongsuot once` and `thongsuot probe`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from ipaddress import ip_address
from pathlib import Path as FilePath
from statistics import median
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from config.plan import REFERENCES, Language, Plan, Target
from exporters import text
from exporters.text_page import label
from exporters.text_reason import reason_words
from monitor.model import State
from probes import PROBES
from probes.approved_pages import ApprovedPages
from probes.base import BLIND_FAULTS, Path, ProbeSettings, ProbeType, Reading, Tools, measure, parse_duration

AT_ONCE: Final = 50  # probes under way together
LONGEST_TIMEOUT_S: Final = 3600.0  # chosen: somebody sits before the screen
_COLOURS: Final = {State.UP: "green", State.DOWN: "red", State.UNKNOWN: "yellow"}


class UsageError(Exception):
    """The words of the command line do not fit; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and what one run of its probe found."""

    target: Target
    reading: Reading

    @property
    def state(self) -> State:
        """What one run says: up, down, or unknown when we could not measure."""
        if self.reading.fault is None:
            return State.UP
        return State.UNKNOWN if self.reading.fault in BLIND_FAULTS else State.DOWN


def choose(plan: Plan, only: str | None) -> Sequence[Target]:
    """Return the targets that `--only SERVICE[.CHECK]` names, or all.

    Raises:
        UsageError: nothing is called that.
    """
    found = [t for t in plan.targets() if only is None or only in (t.id, t.service)]
    if not found:
        known = ", ".join(sorted({t.service for t in plan.targets()}))
        raise UsageError(f"no service or check is called {only!r}; services: {known}")
    return found


async def run_once(targets: Sequence[Target], state_dir: FilePath | None = None) -> list[Outcome]:
    """Run each target's probe once, many at a time; the outcomes come in the order of the targets.

    Args:
        targets: what to probe.
        state_dir: where pages were approved; without it, none is.
    """
    tools, gate = Tools(), asyncio.Semaphore(AT_ONCE)
    if state_dir is not None:
        tools.put(ApprovedPages.of(state_dir))

    async def one(target: Target) -> Outcome:
        async with gate:
            reading = await measure(
                target.probe,
                target.settings,
                timeout_s=target.timeout_s,
                path=target.path,
                tools=tools,
                check=target.id,
            )
        return Outcome(target, reading)

    try:
        return list(await asyncio.gather(*map(one, targets)))
    finally:
        tools.close()


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome for machines."""
    target = outcome.target
    return {
        "service": target.service,
        "check": target.check,
        "name": target.name,
        "kind": target.probe.kind,
        "path": target.path_id,
        "state": outcome.state.value,
        **reading_json(outcome.reading),
    }


def reading_json(reading: Reading) -> dict[str, Any]:
    """Return a reading for machines: seconds, ratios and counts as the names say."""
    return {
        "fault": reading.fault.value if reading.fault else None,
        "detail": reading.detail,
        "duration_s": reading.duration_s,
        "phases": dict(reading.phases),
        "values": dict(reading.values),
        "facts": dict(reading.facts),
        "rtts_s": list(reading.rtts_s),
        "late_s": reading.late_s,
        "trusted": reading.trusted,
    }


def print_table(outcomes: Sequence[Outcome], names: dict[str, str], lang: Language, zone: tzinfo = UTC) -> None:
    """Print outcomes for people, on standard output."""
    words = ("Dịch vụ", "Phép kiểm tra", "Trạng thái", "Thời gian", "Chi tiết")
    if lang is Language.EN:
        words = ("Service", "Check", "State", "Time", "Detail")
    table = Table(*(Column(word, overflow="fold") for word in words))
    names = {REFERENCES: label("references", lang), **names}
    for outcome in outcomes:
        state, reading = outcome.state, outcome.reading
        said = reason_words(reading.detail, lang, zone)
        why = text.fault_phrase(reading.fault, lang) if reading.fault and not said else ""
        detail = said or reading.detail
        table.add_row(
            # Text, not str: names and details are not markup.
            Text(names.get(outcome.target.service, outcome.target.service)),
            Text(outcome.target.name),
            Text(f"{text.state_symbol(state)} {text.state_word(state, lang)}", style=_COLOURS.get(state, "")),
            Text(f"{text.number_words(_shown_s(reading) * 1000, 1, lang)} ms"),
            Text(f"{why}: {detail}" if why and detail else why or detail),
        )
    Console().print(table)


def _shown_s(reading: Reading) -> float:
    """Return the time that means something to people: of echoes the way there and back, not the length of the round."""
    answered = [rtt for rtt in reading.rtts_s if rtt is not None]
    return median(answered) if answered else reading.duration_s


def print_reading(reading: Reading, lang: Language) -> None:
    """Print one reading for people, on standard output."""
    state = State.UP if reading.fault is None else State.UNKNOWN if reading.fault in BLIND_FAULTS else State.DOWN
    lines = [f"{text.state_symbol(state)} {text.state_word(state, lang)}"]
    if reading.fault:
        lines.append(f"{text.fault_phrase(reading.fault, lang)}: {reading.detail}")
    lines += [f"  {name}: {seconds * 1000:.2f} ms" for name, seconds in reading.phases.items()]
    lines += [f"  {name}: {value:g}" for name, value in reading.values.items()]
    lines += [f"  {name}: {value}" for name, value in reading.facts.items()]
    if reading.rtts_s:
        rtts = ("-" if r is None else f"{r * 1000:.2f}" for r in reading.rtts_s)
        lines.append(f"  rtt ms: {' '.join(rtts)}")
    console = Console()
    for line in lines:
        console.print(Text(line))


def parse_probe(kind: str, pairs: Sequence[str]) -> tuple[ProbeType, ProbeSettings, float, Path | None]:
    """Turn `KIND KEY=VALUE…` into what `measure` wants; the keys are those of a check, dots reach inside.

    Raises:
        UsageError: with every mistake.
    """
    probe = PROBES.get(kind)
    if probe is None:
        raise UsageError(f"no probe is called {kind!r}; there are: {', '.join(sorted(PROBES))}")
    raw: dict[str, Any] = {}
    for pair in pairs:
        key, sep, value = pair.partition("=")
        if not sep or not key:
            raise UsageError(f"expected KEY=VALUE, got {pair!r}")
        _put(raw, key.split("."), _value(value, pair))
    given_s = _timeout(raw.pop("timeout")) if "timeout" in raw else None
    path = _path(raw.pop("source", None), raw.pop("interface", None))
    try:
        settings = probe.settings.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as exc:
        raise UsageError("\n".join(_problem(probe, e) for e in exc.errors(include_input=False))) from exc
    usual_s = max(probe.default_timeout_s, probe.least_timeout_s(settings))
    return probe, settings, usual_s if given_s is None else given_s, path


def _problem(probe: ProbeType, error: ErrorDetails) -> str:
    """Say in one line what is wrong with a key; never its value, which may be secret."""
    where = ".".join(map(str, error["loc"])) or probe.kind
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; {probe.kind} knows {', '.join(sorted(probe.settings.model_fields))}"
    if error["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _timeout(value: object) -> float:
    try:
        timeout_s = parse_duration(value)
    except ValueError as exc:
        raise UsageError(f"timeout: {exc}") from exc
    if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise UsageError(f"timeout: expected more than 0s and at most {LONGEST_TIMEOUT_S:g}s, got {value}")
    return timeout_s


def _path(source: object, interface: object) -> Path | None:
    """Make the uplink of the keys `source` and `interface`; both, one or none, as in a configuration."""
    if source is None and interface is None:
        return None
    try:
        address = None if source is None else str(ip_address(str(source)))
    except ValueError as exc:
        raise UsageError(f"source: expected an address of this machine, got {source!r}") from exc
    device = None if interface is None else str(interface)
    return Path("command-line", address or device or "", source=address, interface=device)


def _put(raw: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        raw = raw.setdefault(key, {})
        if not isinstance(raw, dict):
            raise UsageError(f"{'.'.join(keys)}: {key} already has a value of its own")
    if keys[-1] in raw:
        raise UsageError(f"{'.'.join(keys)} is given twice")
    raw[keys[-1]] = value


def _value(text_: str, pair: str) -> object:
    try:
        found: object = YAML(typ="safe", pure=True).load(text_)
    except YAMLError as exc:
        raise UsageError(f"{pair!r}: the value is no YAML") from exc
    return text_ if found is None else found
