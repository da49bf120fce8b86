"""Announced work in the configuration: once or weekly, on services or single checks. Pure: no clock, no files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from config.plan import MaintenancePlan, Window
from config.problems import Loc, show_value
from config.settings import Id, Label, LocalTime, Section, _between
from probes.base import Duration

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def _time_of_day(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError(f"expected a time of day like 22:00; got {show_value(text)}")
    return text


class WeeklySettings(Section):
    """Work that comes every week."""

    on: Weekday | tuple[Weekday, ...] = Field(description="Day of the week, or several: mon tue wed thu fri sat sun")
    at: Annotated[str, AfterValidator(_time_of_day)] = Field(description="Local time of day at which it begins")
    for_: Annotated[Duration, _between("1m", "7d")] = Field(alias="for", description="How long it takes")


class MaintenanceSettings(Section):
    """Work that is announced: its time is maintenance, and its trouble is nobody's alarm."""

    id: Id | None = Field(default=None, description="Short name, for people")
    services: tuple[str, ...] = Field(default=(), description="Ids of the services that are worked on")
    checks: tuple[str, ...] = Field(default=(), description="Single checks that are worked on, as service.check")
    from_: LocalTime | None = Field(default=None, alias="from", description="Local date or time of the start")
    to: LocalTime | None = Field(default=None, description="Local date (held to its end) or time of the end")
    weekly: WeeklySettings | None = Field(default=None, description="Every week instead of once")
    reason: Label = Field(description="What is done, for the report and the page")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.services and not self.checks:
            raise ValueError("maintenance needs services or checks: what is worked on")
        once = self.from_ is not None and self.to is not None
        if (self.from_ is None) != (self.to is None) or once == (self.weekly is not None):
            raise ValueError("maintenance needs from and to, or weekly")
        return self


@dataclass(slots=True)
class MaintenanceDraft:
    """Announced work with its place in the file; `window` None comes every week."""

    loc: Loc
    settings: MaintenanceSettings
    window: Window | None

    def plan(self) -> MaintenancePlan:
        """Return what it announces."""
        settings, weekly = self.settings, self.settings.weekly
        subjects = tuple(dict.fromkeys((*settings.services, *settings.checks)))
        if weekly is None:
            return MaintenancePlan(settings.id or "", subjects, settings.reason, self.window)
        days = (weekly.on,) if isinstance(weekly.on, str) else weekly.on
        numbers = tuple(sorted({WEEKDAYS.index(d) for d in days}))
        at = time.fromisoformat(weekly.at)
        return MaintenancePlan(settings.id or "", subjects, settings.reason, None, numbers, at, weekly.for_)


def occurrences(work: MaintenancePlan, span: Window, zone: ZoneInfo) -> Iterator[Window]:
    """Give the times of announced work that end after a span's start and begin before its end, whole, in order.

    What comes every week begins at its local time of day and takes its time by the clock of physics: a change of clocks
    makes it neither longer nor shorter.
    """
    if work.window is not None:
        if work.window.end > span.start:  # however far ahead: it is announced once, and for good
            yield work.window
        return
    day = (span.start - timedelta(seconds=work.for_s)).astimezone(zone).date()
    while True:
        start = datetime.combine(day, work.at, tzinfo=zone).astimezone(UTC)
        end = start + timedelta(seconds=work.for_s)
        if start >= span.end:
            return
        if day.weekday() in work.weekdays and end > span.start:
            yield Window(start, end)
        day += timedelta(days=1)
