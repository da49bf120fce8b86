"""From an announcement to the figures: on record, taken up by the pipeline, over a restart, and in the report."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from config.plan import MaintenancePlan, Plan, Window
from exporters.report.figures import Figures, gather
from monitor import register
from monitor.announced import Announcement
from monitor.announcer import Announcer
from monitor.corrections import Correction
from monitor.history import open_history
from monitor.model import State
from monitor.register import RegisterError, Signature
from tests.monitor.builders import SITE, at, bad, good, span
from tests.monitor.room import SMTP, Room, living, one_service

T = TypeVar("T")
DOWN, UP, WORK, UNKNOWN = State.DOWN, State.UP, State.MAINTENANCE, State.UNKNOWN


@contextlib.asynccontextmanager
async def announcing(plan: Plan, folder: Path, now: float = 0.0) -> AsyncIterator[tuple[Room, Announcer]]:
    async with living(plan, folder, now) as room:
        announcer = Announcer(plan, room.journal, room.pipeline.book, lambda: at(room.now))
        await announcer.begin()
        yield room, announcer


async def on_record(folder: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do it as another process would: with a connection of its own, off the loop."""

    def whole() -> T:
        with register.open_register(folder) as db:
            return work(db)

    return await asyncio.to_thread(whole)


async def say(folder: Path, window: Window, now: float, subject: str = "mail") -> int:
    by = Signature("Lan", "lan", at(now))
    return await on_record(folder, lambda db: register.announce(db, SITE, subject, window, "Thay ổ đĩa", by))


async def announcements(folder: Path) -> list[Announcement]:
    return await on_record(folder, lambda db: register.announcements(db, SITE))


async def correct(folder: Path, subject: str, window: Window, state: State) -> Correction:
    by = Signature("Lan", "lan", at(500))
    await on_record(folder, lambda db: register.propose(db, SITE, subject, window, state, "Biên bản", by))
    return (await on_record(folder, lambda db: register.corrections(db, SITE)))[-1]


async def approve(folder: Path, asked: Correction) -> None:
    by = Signature("Bình", "binh", at(600))
    await on_record(folder, lambda db: register.approve(db, SITE, asked, "", by))


async def figures(plan: Plan, folder: Path, start: float, end: float) -> Figures:
    def work() -> Figures:
        with open_history(folder, SITE) as history:
            return gather(plan, history, span(start, end), "thử")

    return await asyncio.to_thread(work)


def configured(*windows: Window) -> Plan:
    works = tuple(MaintenancePlan("", ("mail",), "Vá lỗi", w) for w in windows)
    return replace(one_service(), maintenance=works)


async def test_what_another_process_announces_keeps_the_daemon_quiet_and_counts_for_nobody(tmp_path: Path) -> None:
    plan = one_service()
    async with announcing(plan, tmp_path) as (room, announcer):
        await room.feed(*(good(SMTP, t) for t in (0, 30, 60)))
        await say(tmp_path, span(100, 400), 60)
        await announcer.look()
        await room.feed(good(SMTP, 90))
        assert room.board.services["mail"].work is None
        await room.feed(*(bad(SMTP, t) for t in (120, 125, 130)))
        assert room.state("mail") is DOWN
        assert room.board.services["mail"].work is not None
        assert room.board.checks[SMTP].work is not None
        await room.wait(200)
        assert await room.told() == []
        await room.feed(bad(SMTP, 390), now=401)
        assert await room.told() == [("opened", "mail")]
        assert room.board.services["mail"].work is None
        (item,) = await room.outbox()
        assert (item.notice.since, item.notice.failing_since) == (at(400), at(120))
        await room.wait(500)
    found = (await figures(plan, tmp_path, 0, 500)).services["mail"].account(span(0, 500)).seconds
    assert found[WORK] == 300
    assert found[DOWN] == 100
    assert sum(found.values()) == 500


async def test_the_configurations_windows_are_on_record_once_and_end_when_it_leaves_them_out(tmp_path: Path) -> None:
    window = span(100, 1000)
    for start in (0, 50):
        async with announcing(configured(window), tmp_path, start) as (room, _):
            await room.feed(good(SMTP, start + 1))
    (only,) = await announcements(tmp_path)
    assert (only.planned, only.at, only.late) == (window, at(0), False)
    async with announcing(configured(), tmp_path, 300):
        pass
    (ended,) = await announcements(tmp_path)
    assert ended.window == span(100, 300)


async def test_a_window_that_had_begun_before_its_configuration_was_read_counts_from_then(tmp_path: Path) -> None:
    plan = configured(span(-500, 200))
    async with announcing(plan, tmp_path, 0) as (room, _):
        await room.feed(*(good(SMTP, t) for t in (0, 30, 60, 90, 120, 150, 180, 210, 240)))
        await room.wait(250)
    found = (await figures(plan, tmp_path, -100, 240)).services["mail"]
    assert [(s.start, s.end) for s in found.segments if s.state is WORK] == [(at(0), at(200))]


async def test_work_goes_on_over_a_restart_and_takes_the_time_in_which_nobody_looked(tmp_path: Path) -> None:
    plan = one_service()
    async with announcing(plan, tmp_path) as (room, _):
        await room.feed(*(good(SMTP, t) for t in (0, 30, 60)))
        await say(tmp_path, span(100, 400), 60)
        await room.wait(80)
    async with announcing(plan, tmp_path, 300) as (room, _):
        await room.feed(*(bad(SMTP, t) for t in (300, 305, 310)))
        assert await room.told() == []
        assert room.board.services["mail"].work is not None
        await room.feed(good(SMTP, 350), good(SMTP, 355))
        await room.wait(500)
        assert await room.told() == []
    account = (await figures(plan, tmp_path, 0, 400)).services["mail"].account(span(0, 400))
    assert account.seconds[WORK] == 300
    assert account.seconds[UNKNOWN] == 20  # from the last sign of life on to the work
    assert account.share.coverage == pytest.approx(80 / 100)


async def test_work_that_is_cancelled_under_way_ends_then_and_the_trouble_is_told(tmp_path: Path) -> None:
    plan = one_service()
    async with announcing(plan, tmp_path) as (room, announcer):
        await room.feed(*(good(SMTP, t) for t in (0, 30, 60)))
        number = await say(tmp_path, span(100, 10_000), 60)
        await announcer.look()
        await room.feed(*(bad(SMTP, t) for t in (120, 125, 130)))
        assert await room.told() == []
        (known,) = await announcements(tmp_path)
        by = Signature("Lan", "lan", at(200))
        await on_record(tmp_path, lambda db: register.cancel(db, SITE, known, "Xong sớm", by))
        # Nobody may end it twice, not even two at the same moment.
        with pytest.raises(RegisterError, match="cancelled before"):
            await on_record(tmp_path, lambda db: register.cancel(db, SITE, known, "Xong sớm", by))
        assert number == known.id
        await announcer.look()
        await room.wait(201)
        assert await room.told() == [("opened", "mail")]
        (item,) = await room.outbox()
        assert item.notice.since == at(200)


async def test_approved_corrections_stand_beside_the_measured_figures_and_others_change_nothing(tmp_path: Path) -> None:
    plan = one_service(every_s=300.0)
    async with announcing(plan, tmp_path) as (room, _):
        await room.feed(*(good(SMTP, t) for t in (0, 30, 60)))
        await room.feed(*(bad(SMTP, t) for t in (100, 105, 110)))
        await room.feed(good(SMTP, 300), good(SMTP, 305), now=400)
    asked = await correct(tmp_path, "mail", span(100, 200), WORK)
    waiting = await figures(plan, tmp_path, 0, 400)
    assert waiting.adjusted == {}
    assert [c.status for c in waiting.corrections] == ["proposed"]
    await approve(tmp_path, asked)
    found = await figures(plan, tmp_path, 0, 400)
    assert found.services["mail"].seconds[DOWN] == waiting.services["mail"].seconds[DOWN] == 200
    assert (found.adjusted["mail"].seconds[DOWN], found.adjusted["mail"].seconds[WORK]) == (100, 100)
    assert sum(found.adjusted["mail"].seconds.values()) == 400
    assert SMTP not in found.adjusted
    assert found.corrected_until is not None
    assert (found.corrected_until.number, found.corrected_until.at) == (2, at(600))


async def test_a_correction_of_a_check_goes_into_its_service(tmp_path: Path) -> None:
    plan = one_service(every_s=300.0)
    async with announcing(plan, tmp_path) as (room, _):
        await room.feed(*(good(SMTP, t) for t in (0, 30, 60)))
        await room.feed(*(bad(SMTP, t) for t in (100, 105, 110)))
        await room.feed(good(SMTP, 300), good(SMTP, 305), now=400)
    await approve(tmp_path, await correct(tmp_path, SMTP, span(100, 300), UP))
    found = await figures(plan, tmp_path, 0, 400)
    assert found.adjusted[SMTP].outages == found.adjusted["mail"].outages == []
    assert len(found.services["mail"].outages) == 1


async def test_the_daemon_and_the_command_line_do_not_wait_for_each_other_for_long(tmp_path: Path) -> None:
    async with announcing(one_service(), tmp_path) as (room, announcer):
        for number in range(20):
            await say(tmp_path, span(1000 + number, 2000), 0)
            await room.feed(good(SMTP, 30.0 * number))
            await announcer.look()
    assert len(await announcements(tmp_path)) == 20
