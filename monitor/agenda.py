"""Reports by schedule: what is due when, and the duty to send it, written once into the outbox.

A report is a row of the outbox under the channel `report`, named by its schedule and the moment it was due. The name is
unique in the journal, so that no crash, no restart and no clock that is set back owes it twice. The row holds what is
asked for; the files are made from the evidence when it is sent. APScheduler knows the times, and wakes us; what is due
is looked up each time, so that a report that came due while the daemon was off is owed late, once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from config.plan import Plan, ReportSchedule, ServiceKind
from config.report_times import span_of
from monitor.journal import Duty, Journal, JournalBusyError
from monitor.model import EventKind, Notice, State
from monitor.rows import from_ms, to_ms
from probes.base import utc_now

log = logging.getLogger(__name__)
logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it tells of every time that it wakes us

CHANNEL: Final = "report"
LATE: Final = "late"  # `reason` of a report that could not be made when it was due
LATE_AFTER: Final = timedelta(minutes=15)
SETTLE_S: Final = 90.0  # after it is due, for the last results of its time to come in
LOOK_EVERY_S: Final = 30  # also without a job: the clock may have been set
BACK: Final = timedelta(days=32)  # how far back we look for what is owed; of all that, the newest alone


@dataclass(frozen=True, slots=True)
class Due:
    """A report that is due."""

    schedule: ReportSchedule
    at: datetime


def trigger_of(schedule: ReportSchedule, zone: ZoneInfo) -> BaseTrigger:
    """Return when a schedule wakes us."""
    if schedule.once is not None:
        return DateTrigger(schedule.once, zone)
    weekday = "*" if schedule.weekday is None else str(schedule.weekday)
    return CronTrigger(day_of_week=weekday, hour=schedule.at.hour, minute=schedule.at.minute, timezone=zone)


def newest_due(schedule: ReportSchedule, since: datetime, now: datetime, zone: ZoneInfo) -> Due | None:
    """Return what a schedule owes: the newest moment after `since`, up to now. Of several missed, one is enough."""
    moments = [m for m in _moments(schedule, max(since, now - BACK), now, zone) if m > since and _counts(schedule, m)]
    return Due(schedule, moments[-1]) if moments else None


def _moments(schedule: ReportSchedule, start: datetime, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    if schedule.once is not None:
        if schedule.once <= now:
            yield schedule.once
        return
    trigger = trigger_of(schedule, zone)
    moment = trigger.get_next_fire_time(None, start.astimezone(zone))
    while moment is not None and moment <= now:
        yield moment.astimezone(UTC)
        moment = trigger.get_next_fire_time(moment, moment + timedelta(seconds=1))


def _counts(schedule: ReportSchedule, moment: datetime) -> bool:
    """Whether a moment is the schedule's: within its event, and not within one that has its own."""
    if schedule.within is not None and not schedule.within.start < moment <= schedule.within.end:
        return False
    return not any(w.start < moment <= w.end for w in schedule.without)


def name_of(schedule: ReportSchedule) -> str:
    """Return what a schedule is known by; with another time it is another one, which owes nothing from before."""
    when = schedule.once.isoformat() if schedule.once else f"{schedule.at:%H:%M}"
    return f"{schedule.id} {when} {schedule.weekday}"


def notice_of(plan: Plan, due: Due, now: datetime) -> Notice:
    """Write what is asked for."""
    schedule = due.schedule
    event = next((e for e in plan.events if e.id == schedule.event), None)
    span = span_of(schedule, due.at, event.window if event else None, plan.site.timezone)
    return Notice(
        site=plan.site.id,
        site_name=plan.site.name,
        incident=0,
        kind=EventKind.REPORT,
        service=schedule.id,
        service_name=event.name if event else "",
        service_kind=ServiceKind.SERVICE,
        state=State.UP,
        since=span.start,
        at=due.at,
        ended_at=span.end,
        reason=LATE if now - due.at > LATE_AFTER else "",
    )


def message_of(plan: Plan, due: Due) -> str:
    """Return the name of a report's message: the same however often it is asked for."""
    kind = due.schedule.id.replace(":", "-")
    return f"report.{kind}.{to_ms(due.at) // 1000}.{plan.site.id}"


class Agenda:
    """One task of the daemon: owes each report when it is due."""

    def __init__(
        self, plan: Plan, journal: Journal, told: Callable[[], None], clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Args: told: called when something is owed."""
        self._plan = plan
        self._journal = journal
        self._told = told
        self._clock = clock
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look at each time there is, until cancelled."""
        zone = self._plan.site.timezone
        scheduler = AsyncIOScheduler(timezone=zone)
        for schedule in self._plan.schedules:
            scheduler.add_job(self._ring, trigger_of(schedule, zone), misfire_grace_time=None)
        scheduler.add_job(self._ring, IntervalTrigger(seconds=LOOK_EVERY_S, timezone=zone), misfire_grace_time=None)
        scheduler.start()
        try:
            while True:
                self._wake.clear()
                try:
                    await self.look()
                except JournalBusyError as exc:
                    log.warning("reports that are due cannot be noted now: %s", exc)
                await self._wake.wait()
        finally:
            scheduler.shutdown(wait=False)

    async def _ring(self) -> None:
        self._wake.set()

    async def look(self) -> int:
        """Owe what is due and not owed yet; return how many that were.

        Raises:
            JournalBusyError: nothing was written; look again later.
        """
        now = self._clock()
        names = [name_of(s) for s in self._plan.schedules]
        known = await self._journal.transact(partial(_know, site=self._plan.site.id, names=names, now_ms=to_ms(now)))
        owed = 0
        for schedule in self._plan.schedules:
            due = newest_due(schedule, from_ms(known[name_of(schedule)]), now, self._plan.site.timezone)
            if due is None:
                continue
            name = message_of(self._plan, due)
            duty = Duty(notice_of(self._plan, due, now), CHANNEL, name, name)
            settled = max(now, due.at + timedelta(seconds=SETTLE_S))
            if await self._journal.owe_once(duty, now, settled):
                log.info("the report %s of %s is owed", schedule.id, due.at.isoformat())
                owed += 1
        if owed:
            self._told()
        return owed


def _know(db: sqlite3.Connection, site: str, names: Sequence[str], now_ms: int) -> Mapping[str, int]:
    """Keep the schedules there are, and forget those there are no more; return since when each is known."""
    found = dict(db.execute("SELECT name, since_ms FROM agenda WHERE site = ?", (site,)).fetchall())
    new, gone = [n for n in names if n not in found], [n for n in found if n not in names]
    db.executemany("INSERT INTO agenda VALUES (?, ?, ?)", [(site, n, now_ms) for n in dict.fromkeys(new)])
    db.executemany("DELETE FROM agenda WHERE site = ? AND name = ?", [(site, n) for n in gone])
    return found | dict.fromkeys(new, now_ms)
