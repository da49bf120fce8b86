"""`thongsuot report`: which period, which formats, and the wiring from the journal to the files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from config.calendar import CalendarError, local_moment
from config.plan import Plan, Window
from exporters.report import figures, files
from monitor.history import open_history

_YEARS: Final = range(1970, 2200)  # as the configuration has them


class UsageError(Exception):
    """The words of the command line do not fit; the message says which and why."""


def choose_formats(text: str) -> Sequence[str]:
    """Read `csv,json`.

    Raises:
        UsageError: a format that there is not.
    """
    wanted = [f.strip() for f in text.split(",") if f.strip()]
    unknown = [f for f in wanted if f not in files.FORMATS]
    if unknown or not wanted:
        raise UsageError(f"--format {text}: expected some of {', '.join(files.FORMATS)}")
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
        found = next((e for e in plan.events if e.id == event), None)
        if found is None:
            known = ", ".join(e.id for e in plan.events) or "none"
            raise UsageError(f"no event is called {event!r}; events: {known}")
        window, title = found.window, found.name
    else:
        window, title = _window(plan, start or "", end or ""), f"{start} – {end}"
    if window.end <= window.start:
        raise UsageError("the period ends before it begins")
    if window.start >= now:
        raise UsageError("the period has not begun: there is nothing to report yet")
    # The journal's own resolution: finer edges would make the rounded seconds miss the period's sum.
    return Window(_whole_ms(window.start), _whole_ms(min(window.end, now))), title


def _window(plan: Plan, start: str, end: str) -> Window:
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


def write_report(plan: Plan, window: Window, title: str, out: Path, formats: Sequence[str]) -> list[Path]:
    """Compute the figures and write the files; return them.

    Raises:
        JournalError: there is no journal, or it cannot be read.
        OSError: the folder cannot be written.
    """
    with open_history(plan.state_dir, plan.site.id) as history:
        found = figures.gather(plan, history, window, title)
    return files.write(found, out, formats)
