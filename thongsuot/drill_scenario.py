"""`thongsuot drill CONFIG --scenario FILE`: the duty team's own configuration in simulated time.

The scenario is that of `simulate event`; the answers are made up, what judges and owes words is the daemon's own, and
all of it is written into a journal that is thrown away. No probe runs and no service hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from config.plan import Language, Plan, ServicePlan, Window
from exporters import text_drill
from monitor.history import open_history
from monitor.judge.service import combine
from monitor.model import SIMULATED, State
from monitor.throw_away import throw_away
from monitor.words import Told
from thongsuot.drill_findings import (
    QUEUE_GONE_S,
    QUEUE_S,
    Finding,
    Injected,
    back_limit_s,
    judge,
    limit_s,
)
from thongsuot.made_up_time import Manner, live
from thongsuot.scenario import Scenario, ScenarioError, Span, World, running, spans
from thongsuot.simulate_event import ScenarioFeed

LEAD: Final = timedelta(minutes=10)  # before the first fault, so that everything is known to be well
QUEUE_LEAD: Final = timedelta(hours=26)  # the floor of a path is learned first
AFTER: Final = timedelta(minutes=30)
QUEUE_AFTER: Final = timedelta(seconds=QUEUE_GONE_S)
RESULTS_LIMIT: Final = 5_000_000  # more than this is no drill any more, but a whole season


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    """What a drill in simulated time found."""

    plan: Plan
    window: Window
    findings: Sequence[Finding]
    words: Sequence[Told]


async def drill_scenario(
    plan: Plan, scenario: Scenario, begin: datetime | None, seed: int, lang: Language
) -> ScenarioOutcome:
    """Live through a scenario, and judge what was told.

    Args:
        plan: the configuration; its state directory is left alone.
        scenario: what happens.
        begin: when the first of it happens, instead of the scenario's own time.
        seed: makes other answers of the same scenario.
        lang: for people.

    Raises:
        ScenarioError: nothing happens in it, or it is too long for a drill.
        JournalError: there is no place for a journal.
    """
    happenings = _moved(spans(scenario, plan), begin)
    if not happenings:
        raise ScenarioError("nothing happens in the scenario: there is nothing to practise")
    whole = _whole(happenings)
    if sum((whole.end - whole.start).total_seconds() / t.every_s for t in plan.targets()) > RESULTS_LIMIT:
        raise ScenarioError("the scenario is too long for a drill: let its happenings lie nearer together")
    world = World(scenario, happenings, seed)
    async with throw_away(plan.site.id) as (journal, folder):
        thrown = replace(plan, state_dir=folder)
        for window in running(whole, happenings):
            feed = ScenarioFeed(thrown, world, window, window.start, timed=True)
            feed.begin()
            await live(thrown, journal, feed, window.end, Manner(f"drill {SIMULATED}"))
        words = [w for w in await journal.words() if not w.unneeded]
        injected = _injected(plan, happenings, lang)
        findings = await asyncio.to_thread(_judged, folder, plan, whole, injected, words)
    return ScenarioOutcome(plan, whole, findings, words)


def _moved(happenings: Sequence[Span], begin: datetime | None) -> list[Span]:
    found = sorted(happenings, key=lambda s: s.window.start)
    if begin is None or not found:
        return found
    by = begin - found[0].window.start
    return [replace(s, window=Window(s.window.start + by, s.window.end + by)) for s in found]


def _whole(happenings: Sequence[Span]) -> Window:
    queued = any(s.what.queued for s in happenings)
    start = happenings[0].window.start - (QUEUE_LEAD if queued else LEAD)
    return Window(start, max(s.window.end for s in happenings) + (QUEUE_AFTER if queued else AFTER))


def _judged(
    folder: Path, plan: Plan, whole: Window, injected: Sequence[Injected], words: Sequence[Told]
) -> list[Finding]:
    with open_history(folder, plan.site.id) as history:
        changes = {name: list(found) for name, found in history.changes(whole.end).items()}
        incidents = history.incidents(whole)
    return judge(injected, changes, incidents, [(w, w.created_at) for w in words])


# What is expected.


def _injected(plan: Plan, happenings: Sequence[Span], lang: Language) -> list[Injected]:
    found = []
    for span in happenings:
        what = span.what
        if what.cut_off:
            found.append(_of(plan, span, "is-cut-off", (), State.UNKNOWN, lang))
        for key, names, state in (
            ("is-down", what.down, State.DOWN),
            ("is-queued", what.queued, State.CONGESTED),
            ("is-slow", what.slow, State.DEGRADED),
        ):
            if names:
                found.append(_of(plan, span, key, names, state, lang))
    return found


def _of(plan: Plan, span: Span, key: str, names: Sequence[str], state: State, lang: Language) -> Injected:
    """Say what is expected of one happening. A service that its rule keeps up is not to be told of."""
    hit = {s.id: _made(s, names, state) for s in plan.services if _touched(s, names)}
    worse = {name: made for name, made in hit.items() if made not in (State.UP, State.UNKNOWN)}
    expected = max(worse.values(), key=lambda s: s.severity, default=State.UNKNOWN)
    shown = ", ".join(_names(plan, names))
    what = text_drill.label(key, lang)
    name = text_drill.label("happened", lang, what=what, names=shown) if shown else what
    targets = [t for s in plan.services if s.id in worse for t in s.targets] or list(plan.references or plan.targets())
    limits = (limit_s(targets, span.window.start, 0.0), back_limit_s(targets, span.window.end, 0.0))
    if state is State.CONGESTED:
        limits = (QUEUE_S, QUEUE_GONE_S)
    tolerated = bool(names) and not worse
    ident = ":".join(filter(None, (key.removeprefix("is-"), ",".join(names))))
    return Injected(
        ident, name, tuple(worse), expected, span.window.start, span.window.end, *limits, tolerated=tolerated
    )


def _touched(service: ServicePlan, names: Sequence[str]) -> bool:
    return service.id in names or any(t.id in names for t in service.targets)


def _made(service: ServicePlan, names: Sequence[str], state: State) -> State:
    """Return what a service becomes by its rule when the checks named are in a state, and the others up."""
    states = [state if service.id in names or t.id in names else State.UP for t in service.targets]
    if state is State.DEGRADED:
        # Slowness is judged only where the configuration says from when on an answer is slow.
        slow = [t.policy.slow_over_s is not None for t in service.targets]
        states = [s if judged else State.UP for s, judged in zip(states, slow, strict=True)]
    return combine(states, service.rule)


def _names(plan: Plan, names: Sequence[str]) -> list[str]:
    services = {s.id: s.name for s in plan.services}
    checks = {t.id: f"{services.get(t.service, t.service)} / {t.name}" for t in plan.targets()}
    return [services.get(name) or checks.get(name, name) for name in names]
