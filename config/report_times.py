"""Which reports are due when: from the settings to schedules, and the span that a report of one tells of. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from config.draft import Draft
from config.plan import ReportKind, ReportSchedule, Window
from config.report_settings import DailySettings, ScheduledSettings

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS: Final = {ReportKind.DAILY: 1, ReportKind.WEEKLY: 7}


def schedules_of(draft: Draft) -> tuple[ReportSchedule, ...]:
    """Return the reports that a draft without mistakes asks for."""
    return (*_of_events(draft), *_of_days(draft))


def _of_events(draft: Draft) -> Iterator[ReportSchedule]:
    reports, zone = draft.reports, draft.zone
    for event in draft.events:
        if event.daily is not None:
            asked = _over(event.daily, reports.daily)
            usual = _schedule(draft, f"daily:{event.id}", ReportKind.DAILY, asked)
            # The first report after the end is the event's too: it tells of the last day.
            span = Window(event.window.start, next_at(event.window.end, usual.at, zone))
            yield replace(usual, event=event.id, within=span)
        if reports.event is not None:
            usual = _schedule(draft, f"event:{event.id}", ReportKind.EVENT, reports.event)
            yield replace(usual, event=event.id, once=next_at(event.window.end, usual.at, zone))


def _of_days(draft: Draft) -> Iterator[ReportSchedule]:
    daily, weekly = draft.reports.daily, draft.reports.weekly
    if daily is not None:
        usual = _schedule(draft, "daily", ReportKind.DAILY, daily)
        own = (e.window for e in draft.events if e.daily is not None)
        yield replace(usual, without=tuple(Window(w.start, next_at(w.end, usual.at, draft.zone)) for w in own))
    if weekly is not None:
        yield replace(_schedule(draft, "weekly", ReportKind.WEEKLY, weekly), weekday=WEEKDAYS.index(weekly.on))


def _schedule(draft: Draft, id_: str, kind: ReportKind, asked: ScheduledSettings) -> ReportSchedule:
    mail = draft.alerts.mail
    to = asked.to or (mail.to if mail else ())
    return ReportSchedule(id_, kind, time.fromisoformat(asked.at), tuple(dict.fromkeys(to)), asked.formats)


def _over(asked: DailySettings, usual: DailySettings | None) -> DailySettings:
    """Return what an event asks for; where it says nothing, as on other days."""
    if usual is None:
        return asked
    return usual.model_copy(update={name: getattr(asked, name) for name in asked.model_fields_set})


def next_at(moment: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return the first time of day `at` that is not before a moment, in UTC."""
    day = moment.astimezone(zone).date()
    found = datetime.combine(day, at, zone).astimezone(UTC)
    return found if found >= moment else datetime.combine(day + timedelta(days=1), at, zone).astimezone(UTC)


def span_of(schedule: ReportSchedule, due: datetime, event: Window | None, zone: ZoneInfo) -> Window:
    """Return what a report tells of: the day or the week up to the time it is due, or its event.

    Args:
        schedule: of the report.
        due: when it is due.
        event: the window of its event, of a report after one.
        zone: whose days.
    """
    if schedule.kind is ReportKind.EVENT and event is not None:
        return event
    local = due.astimezone(zone).replace(tzinfo=None) - timedelta(days=_DAYS[schedule.kind])
    return Window(local.replace(tzinfo=zone).astimezone(UTC), due)
