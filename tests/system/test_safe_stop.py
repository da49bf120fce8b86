"""On a small disk of its own: what is least important goes first, and results stop being written before the journal."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporters.metrics import render
from monitor import safe_stop
from monitor.board import Board
from monitor.history import open_history
from monitor.journal import Batch, Journal
from monitor.model import State
from monitor.retention import room
from monitor.sealer import Sealer
from tests.monitor.builders import SITE, at, change, good, plan, service, span
from tests.monitor.sealing import HOUR, folder, hours_of, order, seal_hours, write
from thongsuot import verify

pytestmark = pytest.mark.system
DISK = 128 << 20
LIMIT = safe_stop.STOP_SHARE * DISK


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, free: int) -> None:
    """Leave so many bytes of the disk free."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb") as stream:
        stream.write(bytes(max(shutil.disk_usage(disk).free - free, 0)))


def look_back(state_dir: Path) -> None:
    with open_history(state_dir, SITE) as history:
        changes = history.changes(at(100))
        assert len(changes["mail.smtp"]) == 40
        assert [c.state for c in changes[safe_stop.SUBJECT]] == [State.UNKNOWN, State.UP]
        assert safe_stop.unrecorded(changes[safe_stop.SUBJECT], span(0, 50)) == [span(2, 50)]
        assert safe_stop.unrecorded(changes[safe_stop.SUBJECT], span(0, 100)) == [span(2, 60)]
        assert safe_stop.unrecorded(changes[safe_stop.SUBJECT], span(70, 100)) == []
        assert history.responses(span(0, 100))["mail.smtp"].good == 51


@pytest.mark.timeout(60)
async def test_results_stop_before_the_journal_does_and_changes_are_still_written(small_disk: Path) -> None:
    watched = plan(service("mail", "smtp"), state_dir=small_disk)
    journal = await Journal.open(small_disk, SITE)
    journal.safe_stop = safe_stop.SafeStop(look_s=0)
    await journal.begin_run(at(0), "d", "0.1.0", "site: {}\n")

    async def live(second: int, state: State) -> int:
        results = [good("mail.smtp", second + i / 1000) for i in range(50)]
        await journal.commit(Batch(results=results, changes=[change("mail.smtp", state, second)]), at(second))
        return await journal.transact(lambda db: db.execute("SELECT count(*) FROM results").fetchone()[0])

    assert await live(1, State.UP) == 50
    await asyncio.to_thread(fill, small_disk, int(LIMIT * 0.8))
    for second in range(2, 40):
        assert await live(second, State.DOWN if second % 2 else State.UP) == 50
    assert journal.safe_stop.since == at(2)
    await asyncio.to_thread(fill, small_disk, int(LIMIT * 1.5))
    assert await live(40, State.DOWN) == 50  # there must be clearly more than what it stopped for
    await journal.close()

    again = await Journal.open(small_disk, SITE)  # a restart goes on with it
    again.safe_stop = safe_stop.SafeStop(look_s=0)
    await again.begin_run(at(50), "d", "0.1.0", "site: {}\n")
    assert again.safe_stop.since == at(2)
    await asyncio.to_thread((small_disk / "ballast").unlink)
    await again.commit(Batch(results=[good("mail.smtp", 60)]), at(60))
    assert again.safe_stop.since is None
    await again.close()

    await asyncio.to_thread(look_back, small_disk)
    board = Board(watched, at(0))
    board.unrecorded_since = at(2)
    assert 'thongsuot_results_recorded{site="lang-son"} 0' in render(board)[0].decode()


def test_on_a_full_disk_raw_results_go_first_and_sealing_goes_on(small_disk: Path) -> None:
    write(small_disk, hours_of(30, every_s=120), ended=30 * HOUR)
    seal_hours(small_disk, 30 * HOUR)
    reserve = 20 << 20
    fill(small_disk, reserve - 1)
    lines = seal_hours(small_disk, 30 * HOUR, reserve_bytes=reserve)
    assert [n.fields["kind"] for n in lines] == ["summary", "deleted"]
    assert lines[1].fields["reason"] == "space"
    assert len(lines[1].deleted) == 6  # the newest 24 of 30 stay
    assert len(list(folder(small_disk).glob("summaries/*/*.parquet"))) == 1
    (account,) = verify.verify(small_disk)
    assert account.problems == []
    said = room(replace(order(small_disk, 30 * HOUR), reserve_bytes=reserve))
    assert said.days_left is not None
    assert said.days_left < 0.2
    assert "the disk fills" in said.warning
    assert "there is room for 0 days" in said.warning


@pytest.mark.timeout(60)
async def test_the_days_that_are_left_stand_on_the_board(tmp_path: Path) -> None:
    watched = plan(service("mail", "smtp"), state_dir=tmp_path)
    journal = await Journal.open(tmp_path, SITE)
    await journal.begin_run(at(0), "d", "0.1.0", "site: {}\n")
    for batch in hours_of(2):
        await journal.commit(batch, at(2 * HOUR))
    board = Board(watched, at(0))
    assert await Sealer(watched, journal, board, clock=lambda: at(2 * HOUR + 100), pause_s=0).step()
    await journal.close()
    assert board.room is not None
    taken, budget, days = board.room
    assert 0 < taken < budget
    assert days is not None
    assert days > 0
    assert "thongsuot_evidence_left_seconds{" in render(board)[0].decode()
