"""The daemon's side of sealing: its task, the clock it watches, and what the board says."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitor.board import Board
from monitor.journal import Journal, to_ms
from monitor.sealer import Sealer
from tests.monitor.builders import at, plan, service
from tests.monitor.journals import ask, begin, opened
from tests.monitor.sealing import HOUR, chain, hours_of, rows_left


class WallClock:
    """A wall clock that goes with the loop's time, and can be set."""

    def __init__(self, now: datetime) -> None:
        self._offset = now - timedelta(seconds=asyncio.get_running_loop().time())

    def __call__(self) -> datetime:
        return self._offset + timedelta(seconds=asyncio.get_running_loop().time())

    def set(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)


def sealer_of(state_dir: Path, journal: Journal, now: float) -> tuple[Sealer, Board]:
    watched = plan(service("mail", "smtp"), state_dir=state_dir)
    board = Board(watched, at(0))
    return Sealer(watched, journal, board, clock=lambda: at(now), pause_s=0), board


@pytest.mark.timeout(40)
async def test_an_hour_is_sealed_when_no_result_of_it_can_still_come_and_not_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        for batch in hours_of(2):
            await journal.commit(batch, at(2 * HOUR))
        early, board = sealer_of(tmp_path, journal, HOUR + 69)  # ten seconds of time-out, and a minute
        assert await early.step()
        assert board.chain_head == ""
        due, board = sealer_of(tmp_path, journal, HOUR + 70)
        assert await due.step()
    assert await asyncio.to_thread(rows_left, tmp_path) == 180
    (line,) = await asyncio.to_thread(chain, tmp_path)
    assert board.chain_head == line.head
    assert board.evidence_trouble == ""


async def test_a_trouble_stands_on_the_board_until_it_is_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(hours_of(1)[0], at(HOUR))
        sealer, board = sealer_of(tmp_path, journal, 2 * HOUR)
        in_the_way = tmp_path / "evidence"
        await asyncio.to_thread(in_the_way.write_text, "no folder")
        assert not await sealer.step()
        assert "evidence" in board.evidence_trouble
        await asyncio.to_thread(in_the_way.unlink)
        assert await sealer.step()
        assert board.evidence_trouble == ""


async def test_what_is_not_sealed_stays_in_the_journal_however_old_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(hours_of(1)[0], at(HOUR))
        before = await asyncio.to_thread(rows_left, tmp_path)
        (tmp_path / "evidence").write_text("in the way")
        sealer, _ = sealer_of(tmp_path, journal, 1000 * 24 * HOUR)
        assert not await sealer.step()
    assert await asyncio.to_thread(rows_left, tmp_path) == before > 0


async def test_the_clock_is_watched_and_a_step_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        sealer, _ = sealer_of(tmp_path, journal, 0)
        clock = WallClock(at(100))
        sealer._clock = clock
        sealer.clock_every_s = 0.01
        task = asyncio.create_task(sealer.run())
        rows: list[tuple[object, ...]] = []
        while len(rows) < 2:
            await asyncio.sleep(0.03)
            rows = await ask(tmp_path, "SELECT cause, step_ms, at_ms FROM clock ORDER BY id")
            if len(rows) == 1:
                clock.set(-90)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (start, step), moved = [r[0] for r in rows[:2]], rows[1][1]
    assert (start, step) == ("start", "step")
    assert isinstance(moved, int)
    assert abs(moved + 90_000) < 50


async def test_a_start_before_the_last_sign_of_life_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal, 5000)
        await begin(journal, 100)
        sealer, _ = sealer_of(tmp_path, journal, 100)
        task = asyncio.create_task(sealer.run())
        rows: list[tuple[object, ...]] = []
        while not rows:
            await asyncio.sleep(0.02)
            rows = await ask(tmp_path, "SELECT cause, step_ms, at_ms FROM clock")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert rows == [("start", -4_900_000, to_ms(at(100)))]


async def test_sealing_does_not_go_on_when_the_clock_is_watched_no_more(tmp_path: Path) -> None:
    def broken() -> int:
        raise RuntimeError("no such clock")

    async with opened(tmp_path) as journal:
        await begin(journal)
        sealer, _ = sealer_of(tmp_path, journal, 0)
        sealer._steady = broken
        with pytest.raises(ExceptionGroup) as died:
            async with asyncio.timeout(5):
                await sealer.run()
    assert died.group_contains(RuntimeError, match="no such clock")
