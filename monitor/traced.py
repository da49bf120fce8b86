"""The way to what failed, as it was when an incident opened, some minutes later, and when it was over.

A record and its rows in the journal; what runs the traces is `monitor.tracing`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter

SILENT: Final = "*"  # stands in a route for a hop that did not answer
RECENT: Final = 500  # rows that are looked through for the way as it was when all was well


class Moment(StrEnum):
    """When of an incident a trace was made."""

    OPENED = "opened"
    LATER = "later"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class RouteTrace:
    """One trace towards what a check of an incident's service asks."""

    site: str
    incident: int
    moment: Moment
    at: datetime  # UTC, when it began
    check: str  # Target.id
    host: str
    path: str  # id of the uplink; "" is the system's own route
    reached: bool  # the host itself answered
    route: tuple[str, ...]  # addresses in the order of the way; SILENT where a hop gave no answer
    times_ms: tuple[float | None, ...]  # round-trip time to each
    detail: str = ""  # what stopped it, one line
    before: tuple[str, ...] = ()  # the way when it was last whole, towards the same host by the same uplink
    before_at: datetime | None = None

    @property
    def last(self) -> tuple[int, str] | None:
        """Number and address of the last hop that answered; None when none did."""
        for number in range(len(self.route), 0, -1):
            if self.route[number - 1] != SILENT:
                return number, self.route[number - 1]
        return None

    @property
    def beyond(self) -> str:
        """The hop that once came next after the last that answers; "" where nobody knows or the way is another."""
        last = self.last
        if self.reached or last is None or len(self.before) <= last[0] or self.turned is not None:
            return ""
        following = self.before[last[0]]
        return "" if following == SILENT else following

    @property
    def turned(self) -> int | None:
        """Number of the first hop that is another than when the way was whole; None when none is."""
        if not self.before:
            return None
        for number, (now, then) in enumerate(zip(self.route, self.before, strict=False), 1):
            if SILENT not in (now, then) and now != then:
                return number
        return None


_TRACE: Final = TypeAdapter(RouteTrace)


def write(db: sqlite3.Connection, trace: RouteTrace) -> None:
    """Keep a trace."""
    at_ms = round(trace.at.timestamp() * 1000)
    db.execute(
        "INSERT INTO traces (site, incident, moment, check_name, at_ms, detail, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            trace.site,
            trace.incident,
            trace.moment,
            trace.check,
            at_ms,
            trace.detail,
            _TRACE.dump_json(trace).decode(),
        ),
    )


def of_incidents(db: sqlite3.Connection, site: str, incidents: Iterable[int]) -> list[RouteTrace]:
    """Return what was kept of some incidents, oldest first."""
    found: list[RouteTrace] = []
    for incident in incidents:
        rows = db.execute("SELECT body FROM traces WHERE site = ? AND incident = ? ORDER BY id", (site, incident))
        found += traces_from(rows.fetchall())
    return found


def newest(db: sqlite3.Connection, site: str) -> list[RouteTrace]:
    """Return the newest traces of a site, oldest first."""
    rows = db.execute("SELECT body FROM traces WHERE site = ? ORDER BY id DESC LIMIT ?", (site, RECENT))
    return traces_from(rows.fetchall())[::-1]


def traces_from(rows: Iterable[Sequence[Any]]) -> list[RouteTrace]:
    """Build traces from rows whose first column is their body."""
    return [_TRACE.validate_json(row[0]) for row in rows]
