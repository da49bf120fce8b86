"""The figures of a period: seconds of each state, availability with its bounds, outages, response times.

Everything is computed from the journal by `monitor.availability`; nothing is kept. The same journal, configuration and
period give the same figures, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Final

from config.plan import Peak, Plan, ServicePlan, Target, Window
from exporters.report.congestion import CongestionFigures
from exporters.report.congestion_evidence import look
from exporters.text import own_fault_word
from exporters.text_page import label
from monitor import adjusted, availability, maintenance, safe_stop
from monitor.announced import Announcement
from monitor.availability import Account, Outage, Segment
from monitor.corrections import Correction
from monitor.duty import is_own_fault
from monitor.history import History, Responses, Survey
from monitor.model import SIMULATED, Gap, Incident, SlotCount, State
from monitor.register import Last
from monitor.traced import RouteTrace

PERCENTILES: Final = (0.5, 0.9, 0.95, 0.99)
RATIO_DIGITS: Final = 6  # more would claim to know fractions of a second in a month
SECOND_DIGITS: Final = 3
Seen = tuple[Survey, CongestionFigures | None]


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one check or one service."""

    segments: Sequence[Segment]
    outages: Sequence[Outage]
    every_s: float = 0.0  # between two looks: what lies between them may have been missed

    @property
    def seconds(self) -> Mapping[State, float]:
        """The seconds of each state; they sum to the period."""
        return availability.seconds_by_state(self.segments)

    def account(self, window: Window) -> Account:
        """Return the account of a part of the period; its bounds hold what may have been missed between looks."""
        seconds = availability.seconds_by_state(availability.clip(self.segments, window))
        rounds = int(availability.observed_s(seconds) / self.every_s) if self.every_s else 0
        return availability.account(self.segments, self.outages, window, availability.hidden_s(rounds, self.every_s))


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a period, before they are written in a format."""

    plan: Plan
    title: str
    period: Window
    checks: Mapping[str, Line]
    services: Mapping[str, Line]
    responses: Mapping[str, Responses]
    slots: Mapping[str, SlotCount]
    incidents: Sequence[Incident]
    gaps: Mapping[str, Sequence[Gap]] = field(default_factory=dict)  # by check
    peaks: Sequence[Peak] = ()  # those that touch the period
    known_until: datetime | None = None  # the last sign of life
    simulated: bool = False  # a run of the period was a drill or an example
    congestion: CongestionFigures | None = None  # None: nobody has judged
    corrections: Sequence[Correction] = ()  # that touch the period, decided on or not
    corrected_until: Last | None = None  # the newest record of corrections that there was
    adjusted: Mapping[str, Line] = field(default_factory=dict)  # services and checks that an approved one changes
    work: Sequence[Announcement] = ()  # announced work that took time of the period
    traces: Sequence[RouteTrace] = ()  # the ways to what failed, traced within the period
    unrecorded: Sequence[Window] = ()  # spans in which the disk was all but full and results were not written
    summed: Sequence[Window] = ()  # spans whose raw results are gone, and of which summaries tell

    def rounds(self, service: ServicePlan, window: Window | None = None) -> int:
        """Return how often a service was looked at: the fewest results that any of its checks has.

        In a part of the period, as often as its slowest check fits into the time that was observed.
        """
        if window is None or window == self.period:
            counts = [self.responses[t.id] for t in service.targets if t.id in self.responses]
            return min((r.good + r.bad for r in counts), default=0) if len(counts) == len(service.targets) else 0
        seconds = self.services[service.id].account(window).seconds
        return int(availability.observed_s(seconds) / slowest_s(service, window))


def gather(plan: Plan, history: History, period: Window, title: str, seen: Seen | None = None) -> Figures:
    """Compute the figures of a period, which must not reach beyond the present.

    Args:
        plan: the configuration.
        history: the past.
        period: of which.
        title: what it is called.
        seen: what `look` found of the period; it is asked when None.
    """
    survey, congestion = seen or look(plan, history, period)
    changes, gaps = history.changes(period.end), history.gaps(period)
    runs = history.runs()
    known_until = max((r.alive for r in runs), default=period.start)
    work = [a for a in history.announcements() if a.window and _touches(a.window, period)]
    taken = maintenance.windows(work)
    checks: dict[str, Line] = {}
    for target in plan.targets():
        mine = changes.get(target.id, [])
        segments = availability.timeline(mine, gaps.get(target.id, []), period, known_until)
        segments = availability.with_work(segments, maintenance.of_check(target, taken))
        checks[target.id] = Line(segments, availability.outages(segments, mine, period), target.every_s)
    services = {s.id: _service_line(s, checks, period) for s in plan.services}
    corrections = history.corrections(period)
    return Figures(
        plan,
        title,
        period,
        checks,
        services,
        survey.responses,
        history.slots(period),
        history.incidents(period),
        gaps,
        peaks_of(plan, period),
        known_until,
        any(SIMULATED in r.version for r in runs if r.started < period.end and r.alive > period.start),
        congestion,
        corrections=corrections,
        corrected_until=history.last_correction(),
        adjusted=_adjusted(plan, checks, services, corrections, period),
        work=work,
        traces=history.traces(period),
        summed=history.summed(period),
        unrecorded=safe_stop.unrecorded(changes.get(safe_stop.SUBJECT, ()), period),
    )


def peaks_of(plan: Plan, period: Window) -> tuple[Peak, ...]:
    """Return the peaks of any event that touch a period, each once, by their time."""
    found = {p.window: p for e in plan.events for p in e.peaks}
    touching = (p for p in found.values() if p.window.start < period.end and p.window.end > period.start)
    return tuple(sorted(touching, key=lambda p: p.window.start))


def within(peak: Peak, period: Window) -> Window:
    """Return the part of a peak that lies within the period."""
    return Window(max(peak.window.start, period.start), min(peak.window.end, period.end))


def slowest_s(service: ServicePlan, window: Window) -> float:
    """Return the resolution of a service in a window: the longest interval of its checks that occurs there."""

    def longest(target: Target) -> float:
        faster = (r for r in target.rates if r.window.start <= window.start and window.end <= r.window.end)
        return min((r.every_s for r in faster), default=target.every_s)

    return max(longest(t) for t in service.targets)


def _service_line(service: ServicePlan, checks: Mapping[str, Line], period: Window) -> Line:
    lines = [(checks[t.id].segments, checks[t.id].outages) for t in service.targets]
    segments = availability.service_timeline([s for s, _ in lines], service.rule, period)
    down = availability.service_outages(segments, lines, service.rule, period)
    return Line(segments, down, slowest_s(service, period))


def _adjusted(
    plan: Plan,
    checks: Mapping[str, Line],
    services: Mapping[str, Line],
    corrections: Sequence[Correction],
    period: Window,
) -> Mapping[str, Line]:
    """Lay the approved corrections over the lines that they are about; a check's goes into its service's."""
    found: dict[str, Line] = {}
    for service in plan.services:
        mine = dict(checks)
        for target in service.targets:
            spans = adjusted.laid_over(corrections, *maintenance.names_of(target)[1:])
            if spans:
                found[target.id] = mine[target.id] = _corrected(checks[target.id], spans)
        touched = any(t.id in found for t in service.targets)
        line = _service_line(service, mine, period) if touched else services[service.id]
        own = adjusted.laid_over(corrections, service.id)
        if touched or own:
            found[service.id] = _corrected(line, own)
    return found


def _corrected(line: Line, spans: Sequence[Segment]) -> Line:
    segments = availability.with_states(line.segments, spans)
    return Line(segments, adjusted.adjusted_outages(segments, line.outages), line.every_s)


def _touches(window: Window, period: Window) -> bool:
    return window.start < period.end and window.end > period.start


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of the values do not exceed (RFC 2330 section 11.3)."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * round(share * 1000) // 1000))
    return ordered[rank - 1]


def as_json(figures: Figures) -> dict[str, Any]:
    """Return the figures as one document; times are ISO 8601 in the site's zone, durations seconds."""
    zone = figures.plan.site.timezone
    period = figures.period
    return {
        "site": {"id": figures.plan.site.id, "name": figures.plan.site.name},
        "title": figures.title,
        "from": iso_time(period.start, zone),
        "to": iso_time(period.end, zone),
        "seconds": round((period.end - period.start).total_seconds(), SECOND_DIGITS),
        "configuration": figures.plan.digest,
        "summed": [
            {"from": iso_time(w.start, zone), "to": iso_time(w.end, zone)} for w in figures.summed
        ],  # of which only summaries are left
        "services": [_service_json(figures, s) for s in figures.plan.services],
        "references": [_check_json(figures, t) for t in figures.plan.references],
        "incidents": [_incident_json(figures, i) for i in figures.incidents],
        **records_json(figures),
    }


def _service_json(figures: Figures, service: ServicePlan) -> dict[str, Any]:
    resolution = max(t.every_s for t in service.targets)
    return {
        "id": service.id,
        "name": service.name,
        "kind": service.kind.value,
        **_line_json(figures, figures.services[service.id], resolution),
        "adjusted": _adjusted_json(figures, service.id, resolution),
        "checks": [_check_json(figures, t) for t in service.targets],
    }


def _check_json(figures: Figures, target: Target) -> dict[str, Any]:
    return {
        "id": target.id,
        "name": target.name,
        "probe": target.probe.kind,
        "path": target.path_id,
        **_line_json(figures, figures.checks[target.id], target.every_s),
        "adjusted": _adjusted_json(figures, target.id, target.every_s),
        "slots": _slots_json(figures.slots.get(target.id)),
        "results": _results_json(figures.responses.get(target.id)),
    }


def _adjusted_json(figures: Figures, subject: str, resolution_s: float) -> dict[str, Any] | None:
    """Return the figures with the approved corrections; None where none of them changes anything."""
    line = figures.adjusted.get(subject)
    return _line_json(figures, line, resolution_s) if line is not None else None


def records_json(figures: Figures) -> dict[str, Any]:
    """Return announced work and corrections, and the newest record that was taken into account."""
    zone, last = figures.plan.site.timezone, figures.corrected_until
    return {
        "maintenance": [
            {
                "id": a.id,
                "subject": a.subject,
                "from": iso_time(a.window.start, zone),
                "to": iso_time(a.window.end, zone),
                "planned_from": iso_time(a.planned.start, zone),
                "planned_to": iso_time(a.planned.end, zone),
                "announced_at": iso_time(a.at, zone),
                "announced_late": a.late,
                "source": a.source,
                "by": a.author,
                "reason": a.reason,
                "cancelled_at": iso_time(a.cancelled_at, zone) if a.cancelled_at else None,
            }
            for a in figures.work
            if a.window is not None
        ],
        "corrections": [
            {
                "id": c.id,
                "subject": c.subject,
                "from": iso_time(c.window.start, zone),
                "to": iso_time(c.window.end, zone),
                "state": c.state.value,
                "reason": c.reason,
                "by": c.author,
                "at": iso_time(c.at, zone),
                "evidence": asdict(c.evidence) if c.evidence else None,
                "status": c.status,
                "decided_by": c.decided_by,
                "decided_at": iso_time(c.decided_at, zone) if c.decided_at else None,
                "decision": c.decision,
            }
            for c in figures.corrections
        ],
        "corrections_until": {"record": last.number, "at": iso_time(last.at, zone)} if last else None,
    }


def _line_json(figures: Figures, line: Line, resolution_s: float) -> dict[str, Any]:
    zone, share = figures.plan.site.timezone, line.account(figures.period).share
    return {
        "seconds": {state.value: round(s, SECOND_DIGITS) for state, s in line.seconds.items()},
        "availability": {"value": ratio(share.value), "min": ratio(share.least), "max": ratio(share.most)},
        "coverage": ratio(share.coverage),
        "enough": share.enough,
        "resolution_s": resolution_s,
        "longest_outage_s": round(max((_length(o) for o in line.outages), default=0.0), SECOND_DIGITS),
        "outages": [_outage_json(o, zone) for o in line.outages],
    }


def _outage_json(outage: Outage, zone: tzinfo) -> dict[str, Any]:
    return {
        "begin": iso_time(outage.start, zone),
        "end": iso_time(outage.end, zone),
        "seconds": round(_length(outage), SECOND_DIGITS),
        "begin_earliest": iso_time(outage.earliest_start, zone),
        "end_earliest": iso_time(outage.earliest_end, zone),
        "begin_unseen": outage.open_start,
        "end_unseen": outage.open_end,
        "fault": outage.fault,
        "detail": outage.detail,
    }


def _slots_json(slots: SlotCount | None) -> dict[str, int]:
    counted = slots or SlotCount("", datetime.min)  # noqa: DTZ901  only its zeros are used
    return {"done": counted.done, "late": counted.late, "skipped": counted.skipped, "lost": counted.lost}


def _results_json(responses: Responses | None) -> dict[str, Any]:
    found = responses or Responses(0, 0, 0, [])
    *quantiles, most = found.at_ranks((*PERCENTILES, 1.0))
    return {
        "good": found.good,
        "bad": found.bad,
        "not_measured": found.blind,
        "response_s": {**{f"p{round(p * 100)}": q for p, q in zip(PERCENTILES, quantiles, strict=True)}, "max": most},
        "echoes": {"sent": found.echoes_sent, "lost": found.echoes_lost},
    }


def _incident_json(figures: Figures, incident: Incident) -> dict[str, Any]:
    zone = figures.plan.site.timezone
    service = figures.plan.by_id().get(incident.subject)
    return {
        "id": incident.id,
        "subject": incident.subject,
        "name": service.name if service else _subject_name(figures, incident),
        "worst": incident.state.value,
        "begin": iso_time(incident.began_at, zone),
        "confirmed": iso_time(incident.confirmed_at, zone),
        "end": iso_time(incident.ended_at, zone) if incident.ended_at else None,
        "follows_from": incident.parent,
        "told": incident.told,
        "withdrawn": incident.withdrawn,
        "cause": incident.cause.kind.value if incident.cause else None,
        "cause_subject": incident.cause.subject if incident.cause else None,
        "certainty": incident.cause.certainty.value if incident.cause else None,
        "members": list(incident.cause.members) if incident.cause else [],
    }


def _subject_name(figures: Figures, incident: Incident) -> str:
    """Name what is no service of the configuration: ourselves with what failed, or a service that is gone."""
    if not is_own_fault(incident.subject):
        return incident.subject
    lang = figures.plan.site.language
    return f"{label('own-subject', lang)} ({own_fault_word(incident.detail, lang)})"


def _length(outage: Outage) -> float:
    return (outage.end - outage.start).total_seconds()


def ratio(value: float | None) -> float | None:
    """Return a ratio with the digits that a file gives it."""
    return None if value is None else round(value, RATIO_DIGITS)


def iso_time(moment: datetime, zone: tzinfo) -> str:
    """Return a moment in ISO 8601 with its offset, to the millisecond."""
    return moment.astimezone(zone).isoformat(timespec="milliseconds")
