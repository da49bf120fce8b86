"""Reports by schedule: what is due when, owed once however often it is asked, and late after an absence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from config.loader import load_text
from config.plan import ReportKind, ReportSchedule
from monitor.agenda import CHANNEL, LATE, Agenda, newest_due
from tests.monitor.builders import SITE
from tests.monitor.journals import begin, opened

HOUR = timedelta(hours=1)
DAILY = ReportSchedule("daily", ReportKind.DAILY, time(7), ("a@b.vn",), ("docx",))
VN = ZoneInfo("Asia/Ho_Chi_Minh")

CONFIG = f"""
site: {{id: {SITE}, name: Sở}}
services: {{mail: {{checks: {{smtp: {{probe: tcp, host: 127.0.0.1, port: 25}}}}}}}}
events: {{tet-2027: {{tet: 2027, daily: {{at: "06:00"}}}}}}
alerts: {{mail: {{from: a@b.vn, to: [c@d.vn], relays: [{{host: 127.0.0.1}}]}}}}
reports: {{daily: {{at: "07:00"}}, weekly: {{on: monday, at: "07:30"}}, event: {{at: "08:00"}}}}
"""


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=VN).astimezone(UTC)


PLAN = load_text(CONFIG)


def due_of(name: str, since: str, now: str) -> str:
    schedule = next(s for s in PLAN.schedules if s.id == name)
    due = newest_due(schedule, local(since), local(now), VN)
    return f"{due.at.astimezone(VN):%d/%m %H:%M}" if due else "none"


def test_a_daily_report_is_due_each_morning_and_not_before() -> None:
    assert due_of("daily", "2027-01-04 06:00", "2027-01-04 06:59") == "none"
    assert due_of("daily", "2027-01-04 06:00", "2027-01-04 07:00") == "04/01 07:00"
    assert due_of("daily", "2027-01-04 06:00", "2027-01-06 05:00") == "05/01 07:00"


def test_what_was_due_before_the_schedule_was_known_is_not_owed() -> None:
    assert due_of("daily", "2027-01-04 07:00", "2027-01-05 06:00") == "none"
    assert due_of("event:tet-2027", "2027-03-01", "2027-03-02") == "none"


def test_a_weekly_report_is_due_on_mondays() -> None:
    assert due_of("weekly", "2027-01-05 06:00", "2027-01-11 07:29") == "none"
    assert due_of("weekly", "2027-01-05 06:00", "2027-01-14 12:00") == "11/01 07:30"


def test_the_report_of_an_event_takes_the_place_of_the_daily_one_to_the_morning_after_it() -> None:
    # The event lasts from 04/02 00:00 to 11/02 00:00.
    for day in range(1, 16):
        now = f"2027-02-{day:02d} 07:00"
        since = f"2027-02-{day:02d} 00:00"
        in_event = 4 <= day <= 11
        assert (due_of("daily:tet-2027", since, now) != "none") is in_event, day
        assert (due_of("daily", since, now) == "none") is in_event, day
    assert due_of("event:tet-2027", "2027-02-01", "2027-02-20") == "11/02 08:00"


def test_where_the_clock_is_changed_every_day_has_its_report() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for day in (date := datetime(2027, 3, 26, 12, tzinfo=zone), date + timedelta(days=1), date + timedelta(days=2)):
        due = newest_due(DAILY, day.astimezone(UTC) - 12 * HOUR, day.astimezone(UTC), zone)
        assert due is not None
        assert f"{due.at.astimezone(zone):%d %H:%M}" == f"{day:%d} 07:00"


class Daemon:
    """A daemon's agenda at a moment."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.told = 0

    def tell(self) -> None:
        self.told += 1

    async def looks(self, now: datetime, times: int = 1) -> list[tuple[str, str]]:
        """Look so many times; return all that was ever owed: schedule and reason."""
        async with opened(self.state_dir) as journal:
            await begin(journal)
            for _ in range(times):
                await Agenda(PLAN, journal, self.tell, clock=lambda: now).look()
            items = await journal.claim(CHANNEL, now + timedelta(days=400), 99)
            return [(i.notice.service, i.notice.reason) for i in items]


async def test_a_report_is_owed_once_however_often_it_is_looked_for(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    assert await daemon.looks(local("2027-01-04 06:59")) == []
    assert await daemon.looks(local("2027-01-04 07:00"), times=3) == [("daily", "")]
    assert await daemon.looks(local("2027-01-04 07:01"), times=2) == [("daily", "")]  # after a restart
    assert await daemon.looks(local("2027-01-04 06:30")) == [("daily", "")]  # the clock was set back
    assert await daemon.looks(local("2027-01-04 07:00")) == [("daily", "")]
    assert daemon.told == 1


async def test_after_an_absence_the_newest_report_is_owed_late_and_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    assert await daemon.looks(local("2027-01-04 06:00")) == []
    owed = await daemon.looks(local("2027-01-07 10:00"), times=2)
    assert owed == [("daily", LATE), ("weekly", LATE)]


async def test_a_report_waits_for_the_last_results_of_its_time(tmp_path: Path) -> None:
    due = local("2027-01-05 07:00")
    async with opened(tmp_path) as journal:
        await begin(journal)
        await Agenda(PLAN, journal, lambda: None, clock=lambda: due - HOUR).look()
        await Agenda(PLAN, journal, lambda: None, clock=lambda: due).look()
        assert await journal.claim(CHANNEL, due + timedelta(seconds=60), 9) == []
        (item,) = await journal.claim(CHANNEL, due + timedelta(seconds=90), 9)
    assert item.notice.since == due - 24 * HOUR
    assert item.notice.ended_at == due


async def test_the_task_owes_what_is_due_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    now = local("2027-01-04 06:59:59")
    woken = asyncio.Event()
    async with opened(tmp_path) as journal:
        await begin(journal)
        await Agenda(PLAN, journal, woken.set, clock=lambda: now).look()
        task = asyncio.create_task(Agenda(PLAN, journal, woken.set, clock=lambda: now + HOUR).run())
        async with asyncio.timeout(5):
            await woken.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert len(await journal.claim(CHANNEL, now + 2 * HOUR, 9)) == 2
