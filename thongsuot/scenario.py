"""The scenario of a simulated event: what happens when, and how fast things answer; and the readings that follow.

A YAML file; times are local to the site. Made for drills, examples and benches: everything that comes of it is marked
as simulated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, model_validator

from config.calendar import CalendarError, local_moment
from config.plan import REFERENCES, Plan, Target, Window
from config.problems import Findings
from config.settings import LocalTime, Section
from config.tree import parse
from config.wording import say
from probes.base import Fault, Reading

_EVERYTHING: Final = "*"
_DAY_S: Final = 86400.0


class ScenarioError(Exception):
    """The scenario cannot be used; the message says why, a line a mistake."""


class Speed(Section):
    """How fast a check answers when all is well."""

    ms: Annotated[float, Field(gt=0, le=60_000)] = Field(description="Median of its response time")
    spread: Annotated[float, Field(ge=0, le=2)] = Field(default=0.08, description="Of the logarithm of that time")


class Happening(Section):
    """Something that goes on from one moment to another."""

    from_: LocalTime = Field(alias="from")
    to: LocalTime
    down: tuple[str, ...] = Field(default=(), description="Services or checks that do not work")
    slow: tuple[str, ...] = Field(default=(), description="Services or checks whose answers take longer")
    times: Annotated[float, Field(ge=1, le=1000)] = Field(default=1.0, description="How many times as long")
    queued: tuple[str, ...] = Field(default=(), description="Services or checks behind a queue")
    queue_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(default=0.0, description="What the queue adds")
    loss: Annotated[float, Field(ge=0, le=1)] = Field(default=0.0, description="Share of packets that it drops")
    fault: Fault = Field(default=Fault.TIMEOUT, description="Why what is down fails")
    detail: str = Field(default="no answer within the time-out", description="What the probe says of it")
    off: bool = Field(default=False, description="The monitor does not run")
    cut_off: bool = Field(default=False, description="The monitor has lost its own uplink")
    near: tuple[str, ...] = Field(
        default=(), description="Services or checks on our own side: they answer all the same"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.down or self.slow or self.queued or self.off or self.cut_off):
            raise ValueError("say what happens: down, slow, queued, off or cut_off")
        return self


class Scenario(Section):
    """A whole scenario."""

    from_: LocalTime | None = Field(default=None, alias="from", description="The monitor starts only then")
    to: LocalTime | None = Field(default=None, description="And stops then: a part of a long event")
    loss: Annotated[float, Field(ge=0, le=1)] = Field(default=0.001, description="Share of packets lost at all times")
    speeds: dict[str, Speed] = Field(default_factory=dict, description="By check, service, probe kind or *")
    happenings: tuple[Happening, ...] = ()


def read(file: Path, plan: Plan) -> Scenario:
    """Read a scenario.

    Raises:
        ScenarioError: it cannot be read, or names what is not in the configuration.
    """
    findings = Findings()
    try:
        data, findings.places = parse(file.read_text("utf-8"), str(file), findings)
    except (OSError, UnicodeDecodeError) as exc:
        raise ScenarioError(f"{file}: {exc}") from exc
    if findings.problems:
        raise ScenarioError("\n".join(map(str, findings.problems)))
    try:
        scenario = Scenario.model_validate_json(json.dumps(data or {}))
    except ValidationError as exc:
        lines = [f"{'.'.join(map(str, loc))}: {message}" for loc, message, _ in say(exc, Scenario, data)]
        raise ScenarioError("\n".join(f"{file}: {line}" for line in lines)) from exc
    known = {REFERENCES} | {s.id for s in plan.services} | {t.id for t in plan.targets()}
    named = {n for h in scenario.happenings for n in (*h.down, *h.slow, *h.queued, *h.near)}
    if unknown := sorted(named - known):
        raise ScenarioError(f"{file}: no service or check of the configuration is called {', '.join(unknown)}")
    return scenario


@dataclass(frozen=True, slots=True)
class Span:
    """A happening with its moments."""

    window: Window
    what: Happening

    def at(self, moment: datetime) -> bool:
        """Whether it goes on at a moment."""
        return self.window.start <= moment < self.window.end


def spans(scenario: Scenario, plan: Plan) -> Sequence[Span]:
    """Return the happenings with their moments in UTC.

    Raises:
        ScenarioError: a time that does not exist, or an end before its beginning.
    """
    zone = plan.site.timezone
    found = []
    for happening in scenario.happenings:
        try:
            window = Window(local_moment(happening.from_, zone), local_moment(happening.to, zone))
        except CalendarError as exc:
            raise ScenarioError(str(exc)) from exc
        if window.end <= window.start:
            raise ScenarioError(f"a happening ends ({happening.to}) before it begins ({happening.from_})")
        found.append(Span(window, happening))
    return found


def part(scenario: Scenario, plan: Plan, whole: Window) -> Window:
    """Return the part of an event that the scenario lives through.

    Raises:
        ScenarioError: a time that does not exist, or nothing is left.
    """
    zone = plan.site.timezone
    try:
        start = local_moment(scenario.from_, zone) if scenario.from_ else whole.start
        end = local_moment(scenario.to, zone, end=True) if scenario.to else whole.end
    except CalendarError as exc:
        raise ScenarioError(str(exc)) from exc
    if min(end, whole.end) <= max(start, whole.start):
        raise ScenarioError("nothing of the event is left between the scenario's from and to")
    return Window(max(start, whole.start), min(end, whole.end))


def running(whole: Window, happenings: Sequence[Span]) -> list[Window]:
    """Return the spans in which the monitor runs: the whole without those in which it is off."""
    runs, start = [], whole.start
    for off in sorted((s.window for s in happenings if s.what.off), key=lambda w: w.start):
        if start < off.start:
            runs.append(Window(start, min(off.start, whole.end)))
        start = max(start, off.end)
    if start < whole.end:
        runs.append(Window(start, whole.end))
    return runs


class World:
    """Answers for the targets, as the scenario has it. The same seed gives the same answers."""

    def __init__(self, scenario: Scenario, happenings: Sequence[Span], seed: int) -> None:
        self._scenario = scenario
        self._spans = [s for s in happenings if not s.what.off]
        self._random = Random(seed)  # noqa: S311  made-up answers, no secrets

    def reading(self, target: Target, at: datetime) -> Reading:
        """Return what the target's probe finds at a moment."""
        now = [s.what for s in self._spans if s.at(at)]
        stopped = next((h for h in now if h.cut_off or _named(h.down, target)), None)
        if stopped is not None and not (stopped.cut_off and (target.near or _named(stopped.near, target))):
            return self._failed(target, stopped)
        queued = [h for h in now if _named(h.queued, target)]
        times = math.prod(h.times for h in now if _named(h.slow, target))
        base_s = self._base_s(target, at) * times
        queue_s = sum(h.queue_ms for h in queued) / 1000
        loss = 1 - (1 - self._scenario.loss) * math.prod(1 - h.loss for h in queued)
        if target.probe.kind == "icmp":
            return self._echoes(target, base_s, queue_s, loss)
        response_s = base_s * self._jitter(target) + queue_s * 2 * self._random.uniform(0.8, 1.6)
        if response_s > target.timeout_s:
            return Reading(Fault.TIMEOUT, f"no answer within {target.timeout_s:g} s", target.timeout_s)
        return Reading(None, "", response_s)

    def _failed(self, target: Target, happening: Happening) -> Reading:
        fault = Fault.TIMEOUT if happening.cut_off else happening.fault
        duration_s = target.timeout_s if fault is Fault.TIMEOUT else 0.01
        rtts = (None,) * _echo_count(target) if target.probe.kind == "icmp" else ()
        return Reading(fault, happening.detail, duration_s, rtts_s=rtts)

    def _echoes(self, target: Target, base_s: float, queue_s: float, loss: float) -> Reading:
        rtts: list[float | None] = []
        for _ in range(_echo_count(target)):
            rtt_s = base_s * self._jitter(target) + queue_s * self._random.uniform(0.8, 1.6)
            rtts.append(None if self._random.random() < loss else rtt_s)
        lost = rtts.count(None)
        allowed = float(getattr(target.settings, "max_loss", 1.0))
        if lost == len(rtts) or lost / len(rtts) > allowed:
            detail = f"{len(rtts) - lost} of {len(rtts)} echoes answered"
            return Reading(Fault.TIMEOUT, detail, target.timeout_s, rtts_s=tuple(rtts))
        return Reading(None, "", sum(r or 0.0 for r in rtts), rtts_s=tuple(rtts))

    def _speed(self, target: Target) -> Speed:
        speeds = self._scenario.speeds
        for key in (target.id, target.service, target.probe.kind, _EVERYTHING):
            if key in speeds:
                return speeds[key]
        return Speed(ms=20.0)

    def _base_s(self, target: Target, at: datetime) -> float:
        """The median at a moment: a tenth slower in the evening than at its best."""
        day = (at.timestamp() % _DAY_S) / _DAY_S
        return self._speed(target).ms / 1000 * (1.05 - 0.05 * math.cos(2 * math.pi * (day - 0.6)))

    def _jitter(self, target: Target) -> float:
        return self._random.lognormvariate(0.0, self._speed(target).spread)


def _named(names: Sequence[str], target: Target) -> bool:
    return target.id in names or target.service in names


def _echo_count(target: Target) -> int:
    return int(getattr(target.settings, "count", 3))
