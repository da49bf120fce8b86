"""Everything a report is written from, read once from the past; then no file and no database is touched any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from config.plan import REFERENCES, EventPlan, Peak, Plan, ReportKind, ServiceKind, ServicePlan, Window
from exporters.report.congestion import main_check
from exporters.report.congestion_evidence import look
from exporters.report.figures import Figures, gather, peaks_of, within
from exporters.report.peak_past import PeakPast
from monitor.history import History, Wish
from monitor.model import Incident
from monitor.series import Point

Series = Mapping[str, Sequence[Point]]

_STEPS: Final = tuple(timedelta(minutes=m) for m in (1, 5, 10, 15, 30, 60, 180, 360, 1440))
_BINS: Final = 350  # more would be finer than a page prints
AROUND_PEAK: Final = timedelta(hours=2)
SUMMED_STEP: Final = timedelta(minutes=5)  # the bins of a summary: `monitor.summaries`
CURVES: Final = 6  # panels of a chart


@dataclass(frozen=True, slots=True)
class Zoom:
    """A peak, drawn larger with the hours around it."""

    name: str
    window: Window
    step: timedelta
    series: Series


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is written from."""

    figures: Figures
    step: timedelta
    series: Series
    zooms: Sequence[Zoom] = ()
    event: EventPlan | None = None
    compared: Figures | None = None
    incident: Incident | None = None
    dated: datetime | None = None  # the date of the document; None is left to a person
    names: Mapping[str, str] = field(default_factory=dict)  # of services, by id
    kind: ReportKind | None = None  # of a report by schedule
    draft: bool = False  # nobody has looked at it yet
    pasts: Sequence[PeakPast] = ()  # what the peaks are set beside

    @property
    def plan(self) -> Plan:
        """The configuration."""
        return self.figures.plan


def collect(
    plan: Plan,
    history: History,
    period: Window,
    title: str,
    event: EventPlan | None = None,
    services: Sequence[ServicePlan] = (),
) -> Material:
    """Read the figures of a period and the points of its charts, in one pass over the results.

    Args:
        plan: the configuration.
        history: the past.
        period: of which.
        title: what it is called.
        event: the event that it is.
        services: whose response is drawn besides those of `charted`.
    """
    step = _step(history, period, _BINS)
    peaks = peaks_of(plan, period)
    around = [_around(peak, period) for peak in peaks]
    charts = [(period, step), *((window, _step(history, window, 180)) for window in around)]
    drawn = {main_check(s).id for s in (*charted(plan), *services)}
    survey, congestion = look(plan, history, period, Wish(charts=charts, charted=drawn))
    zooms = [
        Zoom(peak.id, window, fine, points)
        for peak, (window, fine), points in zip(peaks, charts[1:], survey.charts[1:], strict=True)
    ]
    figures = gather(plan, history, period, title, (survey, congestion))
    names = {s.id: s.name for s in plan.services} | {REFERENCES: "Mốc tham chiếu"}
    return Material(figures, step, survey.charts[0], tuple(zooms), event, names=names)


def _step(history: History, window: Window, bins: int) -> timedelta:
    """Return the width of a chart's bins; no finer than the summaries that the past may have left."""
    step = step_for(window, bins)
    return max(step, SUMMED_STEP) if history.summed(window) else step


def _around(peak: Peak, period: Window) -> Window:
    core = within(peak, period)
    return Window(max(core.start - AROUND_PEAK, period.start), min(core.end + AROUND_PEAK, period.end))


def step_for(window: Window, bins: int = _BINS) -> timedelta:
    """Return the width of a chart's bins."""
    whole = window.end - window.start
    return next((s for s in _STEPS if whole / s <= bins), _STEPS[-1])


def charted(plan: Plan) -> list[ServicePlan]:
    """Return the services whose response is drawn: carriers first, then what people open."""
    order = (ServiceKind.CARRIER, ServiceKind.NETWORK, ServiceKind.PORTAL, ServiceKind.MAIL)
    ranked = sorted((s for s in plan.services if s.kind in order), key=lambda s: order.index(s.kind))
    return ranked[:CURVES] or list(plan.services[:CURVES])
