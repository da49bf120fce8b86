"""The figures of each day and each peak, and of congestion, for programs: what `figures.as_json` is enlarged by."""

from __future__ import annotations

from typing import Any

from config.calendar import days_of
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
    """Return the assessment of congestion; None when nobody has judged."""
    found, zone = figures.congestion, figures.plan.site.timezone
    if found is None:
        return None
    return {
        "detection_limit": {"queue_ms": found.limit.queue_ms, "minutes": found.limit.minutes} if found.limit else None,
        "checks": [
            {
                "id": path.check,
                "bins_expected": path.expected,
                "coverage": ratio(path.coverage(figures.period)),
                "episodes": [
                    {
                        "begin": iso_time(e.start, zone),
                        "end": iso_time(e.end, zone),
                        "cause": e.cause,
                        "peak_ms": e.peak_ms,
                        "floor_ms": e.floor_ms,
                        "sent": e.sent,
                        "lost": e.lost,
                    }
                    for e in path.episodes
                ],
            }
            for path in found.paths.values()
        ],
    }
