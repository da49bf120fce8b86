"""What stands beside a peak: the same hours of the ordinary days before its event, and the peak of the event before.

For reading, never for judging: no judge is told of it, so a queue of every night is still a queue.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

from config.plan import EventPlan, Peak, Plan, Target, Window
from exporters.report.congestion import main_check
from exporters.report.figures import within
from monitor.history import History, Wish
from monitor.series import Point

DAYS: Final = 14  # so far back from an event its ordinary days are looked for
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Answered:
    """What one check said in some windows; times are None where no good answer came."""

    windows: int  # that have any result
    good: int
    bad: int
    median_s: float | None  # the middle of the windows' medians
    low_s: float | None  # the least of them
    high_s: float | None  # the largest of them
    lost: float | None  # share of the echoes, or of the results where there are no echoes; None without any


@dataclass(frozen=True, slots=True)
class PeakPast:
    """A peak, and what its checks said then and at the times that it is set beside."""

    peak: Peak
    window: Window  # as far as it lies in the period
    targets: Sequence[Target]
    ordinary: Sequence[Window]
    event: EventPlan | None  # the one before, with a peak of the same id
    before: Window | None  # that peak
    then: Mapping[str, Answered]  # by check, as the next two
    usual: Mapping[str, Answered]
    earlier: Mapping[str, Answered]


def read_pasts(
    plan: Plan, history: History, period: Window, peaks: Sequence[Peak], compared: EventPlan | None = None
) -> tuple[PeakPast, ...]:
    """Read, in one pass over those hours alone, what the checks of some peaks said then and at comparable times.

    Args:
        plan: the configuration.
        history: the past.
        period: of the report.
        peaks: that touch it.
        compared: the event that was asked for; the last one before with a peak of the same id where it has none.
    """
    chosen = []
    for peak in peaks:
        event = previous(plan, peak, compared)
        before = next((p.window for p in event.peaks if p.id == peak.id), None) if event else None
        chosen.append((peak, within(peak, period), ordinary_days(plan, peak, period), event, before))
    asked = {w for _, window, ordinary, _, before in chosen for w in (window, *ordinary, *([before] if before else []))}
    windows = sorted(asked, key=lambda w: (w.start, w.end))
    names = {t.id for peak in peaks for t in targets_of(plan, peak)}
    if not windows or not names:
        return ()
    survey = history.survey(Wish(charts=[(w, w.end - w.start) for w in windows], charted=names))
    said = dict(zip(windows, survey.charts, strict=True))
    found = []
    for peak, window, ordinary, event, before in chosen:
        targets = targets_of(plan, peak)
        then, usual, earlier = (
            {t.id: answered([p for w in some for p in said[w].get(t.id, ())]) for t in targets}
            for some in ([window], ordinary, [before] if before else [])
        )
        found.append(PeakPast(peak, window, targets, ordinary, event, before, then, usual, earlier))
    return tuple(found)


def targets_of(plan: Plan, peak: Peak) -> list[Target]:
    """Return the checks of the services that a peak names; of a peak of all services, the main one of each."""
    if not peak.services:
        return [main_check(s) for s in plan.services]
    return [t for s in plan.services if s.id in peak.services for t in s.targets]


def ordinary_days(plan: Plan, peak: Peak, period: Window) -> list[Window]:
    """Return a peak's hours of the clock on the days before its event that belong to no event, oldest first.

    A peak of more than a day is set beside spans of as many days that do not overlap.
    """
    event, window, zone = _owner(plan, peak), within(peak, period), plan.site.timezone
    start = event.window.start if event else period.start
    begin, length = window.start.astimezone(zone), window.end - window.start
    stride = max(1, -(-length // _DAY))
    found: list[Window] = []
    back = stride
    while True:
        local = (begin.replace(tzinfo=None) - timedelta(days=back)).replace(tzinfo=zone)
        one = Window(local.astimezone(UTC), local.astimezone(UTC) + length)
        back += stride
        if one.start < start - DAYS * _DAY:
            return found[::-1]
        if one.end <= start and not any(e.window.start < one.end and one.start < e.window.end for e in plan.events):
            found.append(one)


def previous(plan: Plan, peak: Peak, compared: EventPlan | None = None) -> EventPlan | None:
    """Return the event whose peak of the same id a peak is set beside: the compared one, else the last before it."""
    if compared is not None and any(p.id == peak.id and p.window != peak.window for p in compared.peaks):
        return compared
    earlier = [
        (p.window.start, n, e)
        for n, e in enumerate(plan.events)
        for p in e.peaks
        if p.id == peak.id and p.window.end <= peak.window.start
    ]
    return max(earlier)[2] if earlier else None


def _owner(plan: Plan, peak: Peak) -> EventPlan | None:
    """Return the event that a peak belongs to; of several, the one that begins first."""
    owners = [e for e in plan.events if any(p.window == peak.window for p in e.peaks)]
    return min(owners, key=lambda e: e.window.start, default=None)


def answered(points: Sequence[Point]) -> Answered:
    """Put together what the windows of one check said, a point a window."""
    seen = [p for p in points if p.good + p.bad]
    medians = [p.median_s for p in seen if p.median_s is not None]
    good, bad = sum(p.good for p in seen), sum(p.bad for p in seen)
    sent, lost = sum(p.echoes_sent for p in seen), sum(p.echoes_lost for p in seen)
    share = lost / sent if sent else bad / (good + bad) if seen else None
    middle = statistics.median(medians) if medians else None
    return Answered(len(seen), good, bad, middle, min(medians, default=None), max(medians, default=None), share)
