"""`thongsuot report`: which period, which formats, and the wiring from the journal to the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from config.calendar import CalendarError, local_moment
from config.plan import EventPlan, Plan, Window
from exporters.report import figures, material, papers, peak_past
from monitor.history import open_history

AROUND: Final = timedelta(minutes=30)  # what an incident's report shows before and after it
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS: Final = range(1970, 2200)  # as the configuration has them


class UsageError(Exception):
    """The words of the command line do not fit; the message says which and why."""


def choose_formats(text: str) -> Sequence[str]:
    """Read `csv,json,xlsx,docx,pdf`.

    Raises:
        UsageError: a format that there is not.
    """
    wanted = [f.strip() for f in text.split(",") if f.strip()]
    unknown = [f for f in wanted if f not in papers.FORMATS]
    if unknown or not wanted:
        raise UsageError(f"--format {text}: expected some of {', '.join(papers.FORMATS)}")
    return wanted


def choose_period(
    plan: Plan, event: str | None, start: str | None, end: str | None, now: datetime
) -> tuple[Window, str]:
    """Return the period asked for, cut off at the present, and its title.

    Raises:
        UsageError: no such event, an impossible time, or a period that has not begun.
    """
    if (event is None) == (start is None and end is None) or (start is None) != (end is None):
        raise UsageError("give either --event, or --from together with --to")
    if event is not None:
        found = find_event(plan, event)
        window, title = found.window, found.name
    else:
        window, title = choose_span(plan, start or "", end or ""), f"{start} – {end}"
    if window.end <= window.start:
        raise UsageError("the period ends before it begins")
    if window.start >= now:
        raise UsageError("the period has not begun: there is nothing to report yet")
    # The journal's own resolution: finer edges would make the rounded seconds miss the period's sum.
    return Window(_whole_ms(window.start), _whole_ms(min(window.end, now))), title


def choose_span(plan: Plan, start: str, end: str) -> Window:
    """Return the span between two local dates or times; a date as the end is held to its end.

    Raises:
        UsageError: an impossible time.
    """
    zone = plan.site.timezone
    try:
        return Window(_moment(start, zone, end=False), _moment(end, zone, end=True))
    except (CalendarError, ValueError) as exc:
        raise UsageError(str(exc)) from exc


def _moment(text: str, zone: ZoneInfo, *, end: bool) -> datetime:
    """Read a local date or time, as the configuration has them, or an ISO 8601 time that names its offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return local_moment(text, zone, end=end)
    if moment.tzinfo is None:
        return local_moment(text, zone, end=end)
    if moment.year not in _YEARS:
        raise UsageError(f"expected a year from {_YEARS[0]} to {_YEARS[-1]}; got '{text}'")
    return moment.astimezone(UTC)


def _whole_ms(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    event: str | None = None
    start: str | None = None
    end: str | None = None
    incident: int | None = None
    compare: str | None = None
    dated: str | None = None  # the date of the document


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands in a report beside its period."""

    event: EventPlan | None = None
    compared: EventPlan | None = None
    compared_until: datetime | None = None  # no later than the present
    dated: datetime | None = None  # the date of the document; None is left to a person


def write(plan: Plan, asked: Asked, out: Path, formats: Sequence[str], now: datetime) -> list[Path]:
    """Read the past, write the files of the report that is asked for, and return them.

    Raises:
        UsageError: the words do not fit, or there is no such incident.
        JournalError: there is no journal, or it cannot be read.
        OSError: the folder cannot be written.
    """
    dated = _dated(plan, asked.dated)
    if asked.incident is not None:
        if asked.event or asked.start or asked.end or asked.compare:
            raise UsageError("--incident stands alone: the period is the incident's own")
        return _write_incident(plan, asked.incident, out, formats, (now, dated))
    window, title = choose_period(plan, asked.event, asked.start, asked.end, now)
    title = title if asked.event else _period_title(plan, window)
    other = find_event(plan, asked.compare) if asked.compare else None
    if other is not None and other.window.start >= now:
        raise UsageError(f"--compare {asked.compare}: that event has not begun")
    event = find_event(plan, asked.event) if asked.event else None
    return write_report(plan, window, title, out, formats, Beside(event, other, now, dated))


def _period_title(plan: Plan, window: Window) -> str:
    """Name a period by its days, and by the event that it is a part of."""
    zone = plan.site.timezone
    first, last = window.start.astimezone(zone), (window.end - timedelta(seconds=1)).astimezone(zone)
    one_day = first.date() == last.date()
    days = f"ngày {first:%d/%m/%Y}" if one_day else f"từ {first:%d/%m/%Y} đến {last:%d/%m/%Y}"
    around = (e.name for e in plan.events if e.window.start <= window.start and window.end <= e.window.end)
    name = next(around, None)
    return f"{name} ({days})" if name else f"hoạt động {days}"


def find_event(plan: Plan, event: str) -> EventPlan:
    """Return an event of the configuration.

    Raises:
        UsageError: there is none of that id.
    """
    found = next((e for e in plan.events if e.id == event), None)
    if found is None:
        known = ", ".join(e.id for e in plan.events) or "none"
        raise UsageError(f"no event is called {event!r}; events: {known}")
    return found


def _dated(plan: Plan, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return local_moment(text, plan.site.timezone)
    except CalendarError as exc:
        raise UsageError(f"--date: {exc}") from exc


def write_report(
    plan: Plan, window: Window, title: str, out: Path, formats: Sequence[str], beside: Beside | None = None
) -> list[Path]:
    """Compute the figures and write the files; return them.

    Raises:
        JournalError: there is no journal, or it cannot be read.
        OSError: the folder cannot be written.
    """
    beside = beside or Beside()
    other, until = beside.compared, beside.compared_until
    with open_history(plan.state_dir, plan.site.id) as history:
        found = material.collect(plan, history, window, title, beside.event)
        pasts = peak_past.read_pasts(plan, history, window, found.figures.peaks, other)
        found = replace(found, pasts=pasts)
        if other is not None:
            span = replace(other.window, end=min(other.window.end, until or other.window.end))
            found = replace(found, compared=figures.gather(plan, history, span, other.name))
    return papers.write(replace(found, dated=beside.dated), out, formats)


def _write_incident(
    plan: Plan, number: int, out: Path, formats: Sequence[str], when: tuple[datetime, datetime | None]
) -> list[Path]:
    """Write what belongs to an incident, with half an hour before it and after it. Args: when: now, and the date."""
    now, dated = when
    with open_history(plan.state_dir, plan.site.id) as history:
        found = next((i for i in history.incidents(Window(_BEGINNING, now)) if i.id == number), None)
        if found is None:
            raise UsageError(f"there is no incident {number} in the journal")
        start, end = found.began_at - AROUND, min((found.ended_at or now) + AROUND, now)
        window = Window(_whole_ms(start), _whole_ms(end))
        read = material.collect(plan, history, window, f"sự cố số {number}", services=plan.services)
    return papers.write(replace(read, incident=found, dated=dated), out, formats)
