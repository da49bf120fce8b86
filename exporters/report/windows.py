"""The figures of each day and each peak, and of congestion, for programs: what `figures.as_json` is enlarged by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

from config.calendar import days_of
from config.plan import Window
from exporters.report import congestion_claims
from exporters.report.congestion import CONGESTION, NEAR_SIDE, CongestionEpisode, DetectionLimit, PathCongestion
from exporters.report.figures import SECOND_DIGITS, Figures, iso_time, ratio, within
from monitor.availability import Account


def as_json(figures: Figures) -> dict[str, Any]:
    """Return the windows and the assessment of congestion as parts of one document."""
    return {
        "simulated": figures.simulated,
        "windows": windows_json(figures),
        "congestion": congestion_json(figures),
    }


def windows_json(figures: Figures) -> list[dict[str, Any]]:
    """Return each local day and each peak, with the account of every service in it."""
    zone = figures.plan.site.timezone
    named = [("day", d.day.isoformat(), d.window) for d in days_of(figures.period, zone)]
    named += [("peak", p.id, within(p, figures.period)) for p in figures.peaks]
    return [
        {
            "kind": kind,
            "id": ident,
            "from": iso_time(window.start, zone),
            "to": iso_time(window.end, zone),
            "services": [
                {"id": s.id, **_account_json(figures.services[s.id].account(window))} for s in figures.plan.services
            ],
        }
        for kind, ident, window in named
    ]


def _account_json(account: Account) -> dict[str, Any]:
    share = account.share
    return {
        "seconds": {state.value: round(s, SECOND_DIGITS) for state, s in account.seconds.items()},
        "availability": {"value": ratio(share.value), "min": ratio(share.least), "max": ratio(share.most)},
        "coverage": ratio(share.coverage),
        "enough": share.enough,
        "outages": account.outages,
        "longest_outage_s": round(account.longest_s, SECOND_DIGITS),
        "down_least_s": round(account.down_least_s, SECOND_DIGITS),
        "down_most_s": round(account.down_most_s, SECOND_DIGITS),
    }


def congestion_json(figures: Figures) -> dict[str, Any] | None:
    """Return the assessment of congestion; None when there was nothing to judge by."""
    found = figures.congestion
    if found is None:
        return None
    zone, peaks = figures.plan.site.timezone, congestion_claims.windows(figures)[1:]
    return {
        "verdict": congestion_claims.verdict(figures).value,
        "detection_limit": _limit_json(found.limit),
        "checks": [_path_json(figures, path, peaks, zone) for path in found.paths.values()],
    }


def _limit_json(limit: DetectionLimit | None) -> dict[str, float] | None:
    return {"queue_ms": limit.queue_ms, "minutes": limit.minutes, "trials": limit.trials} if limit else None


def _path_json(figures: Figures, path: PathCongestion, peaks: Sequence[Window], zone: tzinfo) -> dict[str, Any]:
    most, found = path.queues.most(), figures.responses.get(path.check)
    return {
        "id": path.check,
        "bins_expected": path.expected,
        "bins_judged": len(path.queues.ms),
        "coverage": ratio(path.coverage(figures.period)),
        "peaks": [
            {
                "from": iso_time(w.start, zone),
                "to": iso_time(w.end, zone),
                "coverage": ratio(path.coverage(w)),
                "congested_s": round(path.seconds(CONGESTION, w), SECOND_DIGITS),
            }
            for w in peaks
        ],
        "detection_limit": _limit_json(path.limit),
        "floor_ms": path.floor_ms,
        "threshold_ms": path.threshold_ms,
        "queue_ms": {"p95": path.queues.at_most(0.95), "max": most[0] if most else None},
        "queue_max_at": iso_time(most[1], zone) if most else None,
        "congested_s": round(path.seconds(CONGESTION, figures.period), SECOND_DIGITS),
        "near_side_s": round(path.seconds(NEAR_SIDE, figures.period), SECOND_DIGITS),
        "echoes": {"sent": found.echoes_sent if found else 0, "lost": found.echoes_lost if found else 0},
        "episodes": [_episode_json(e, zone) for e in path.episodes],
    }


def _episode_json(e: CongestionEpisode, zone: tzinfo) -> dict[str, Any]:
    return {
        "begin": iso_time(e.start, zone),
        "end": iso_time(e.end, zone),
        "seconds": round((e.end - e.start).total_seconds(), SECOND_DIGITS),
        "cause": e.cause,
        "severity": e.severity,
        "peak_ms": e.peak_ms,
        "floor_ms": e.floor_ms,
        "threshold_ms": e.threshold_ms,
        "sent": e.sent,
        "lost": e.lost,
        "by_loss": e.by_loss,
    }
