"""From the packets in the evidence to what a report knows of congestion: the daemon's own judge, over the past."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from config.plan import Plan, Window
from exporters.report.congestion import (
    CongestionEpisode,
    CongestionFigures,
    DetectionLimit,
    PathCongestion,
    Queues,
    judged_checks,
)
from monitor import congestion_past, judging
from monitor.congestion_past import Judged
from monitor.history import History, Survey, Wish
from monitor.judge.episode import DEFAULT, Episode

_BIN: Final = timedelta(seconds=DEFAULT.bin_s)
NOTHING: Final = Wish()  # no charts
_DIGITS: Final = 3  # of milliseconds: microseconds are what the evidence keeps


def look(
    plan: Plan, history: History, period: Window, charts: Wish = NOTHING
) -> tuple[Survey, CongestionFigures | None]:
    """Read the results of a period once: what they say, and the networks' paths judged over it.

    Args:
        plan: which checks there are, and whose congestion is judged.
        history: the past.
        period: of the responses and of the judgement.
        charts: which charts to gather points for meanwhile.

    Returns:
        What the results say; the judgement, or None when there is nothing to judge by.
    """
    services = judged_checks(plan)
    targets = [t for t in plan.targets() if t.id in services]
    wish = replace(
        charts,
        period=period,
        judged=congestion_past.wanted(plan, targets),
        hours=congestion_past.with_learning(period),
    )
    near = congestion_past.beside(plan, targets)
    count = judging.processes_for(len(near), period)
    if count:
        with judging.Judges(near, period, count) as judges:
            survey = history.survey(wish, judges.hear)
            found = judges.finish()
    else:
        alone = congestion_past.Judging(near, period)
        survey = history.survey(wish, alone.hear)
        found = alone.finish()
    if all(math.isnan(p.floor_s) for p in found.values()):
        return survey, None
    summed = history.summed(congestion_past.with_learning(period))
    # Of what stood only in a part of a bin a summary has no trace: so much longer must a queue be to be found.
    blurred = 2 * DEFAULT.bin_s / 60 if summed else 0.0
    return survey, CongestionFigures({name: _path(name, path, period, blurred) for name, path in found.items()})


def assess(plan: Plan, history: History, period: Window) -> CongestionFigures | None:
    """Judge the networks' paths over a period; None when there is nothing to judge by."""
    return look(plan, history, period)[1]


def _path(check: str, path: Judged, period: Window, blurred: float) -> PathCongestion:
    found = path.limit
    limit = DetectionLimit(_ms(found.queue_s), found.minutes + blurred, found.trials) if found else None
    start, end = period.start.timestamp(), period.end.timestamp()
    bins = path.bins
    shown = [i for i in range(0, len(bins), 3) if bins[i] < end and bins[i + 1] > start]
    known = not math.isnan(path.floor_s)
    return PathCongestion(
        check,
        expected=-(-(period.end - period.start) // _BIN),
        usable=_spans([(bins[i], bins[i + 1]) for i in shown]),
        episodes=[_episode(e) for e in path.episodes if e.start < end and e.end > start],
        queues=Queues([bins[i] for i in shown], [_ms(max(bins[i + 2], 0.0)) for i in shown]),
        limit=limit,
        floor_ms=_ms(path.floor_s) if known else None,
        threshold_ms=_ms(path.threshold_s) if known else None,
    )


def _spans(bins: list[tuple[float, float]]) -> list[Window]:
    """Join bins that follow one another."""
    joined: list[list[float]] = []
    for start, end in bins:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return [Window(_moment(start), _moment(end)) for start, end in joined]


def _episode(e: Episode) -> CongestionEpisode:
    return CongestionEpisode(
        _moment(e.start),
        _moment(e.end),
        e.cause.value,
        _ms(e.peak_s),
        _ms(e.floor_s),
        _ms(e.threshold_s),
        e.severity.value,
        e.sent,
        e.lost,
        e.by_loss,
    )


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(round(at, 3), UTC)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, _DIGITS)
