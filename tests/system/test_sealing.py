"""Sealing in processes of its own: killed at every step, on a full disk, and beside a journal that is written."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from monitor.board import Board
from monitor.evidence import SealError
from monitor.journal import Batch, Journal
from monitor.sealer import Sealer
from tests.monitor.builders import SITE, at, good, plan, service, span
from tests.monitor.sealing import HOUR, chain, everything_known, folder, hours_of, order, seal_hours, write
from thongsuot import verify

pytestmark = pytest.mark.system

KILLED_AT = """
import os, signal, sys, orjson
from monitor.evidence import Order, seal

def reached(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

list(seal(Order(**orjson.loads(sys.argv[1])), reached))
"""
HOURS = 3


def whole(state: Path) -> bool:
    (account,) = verify.verify(state)
    return not account.problems


def files(state: Path) -> list[str]:
    return sorted(str(p.relative_to(folder(state))) for p in folder(state).rglob("*.parquet"))


def order_text(state: Path) -> str:
    return orjson.dumps(asdict(order(state, HOURS * HOUR))).decode()


@pytest.mark.parametrize("step", ["written", "synced", "named", "chained", "deleted"])
def test_a_sealer_killed_at_any_step_loses_nothing_and_seals_nothing_twice(tmp_path: Path, step: str) -> None:
    write(tmp_path, hours_of(HOURS), ended=HOURS * HOUR)
    before = everything_known(tmp_path, span(0, HOURS * HOUR))
    command = [sys.executable, "-c", KILLED_AT, order_text(tmp_path), step]
    for _ in range(HOURS):
        killed = subprocess.run(command, check=False, capture_output=True)
        assert killed.returncode in ((0,) if step == "deleted" else (-9, 0)), killed.stderr
        assert everything_known(tmp_path, span(0, HOURS * HOUR)) == before
    seal_hours(tmp_path, HOURS * HOUR)
    assert everything_known(tmp_path, span(0, HOURS * HOUR)) == before
    assert whole(tmp_path)
    assert files(tmp_path) == sorted(n.fields["file"] for n in chain(tmp_path))
    assert [n.fields["results"] for n in chain(tmp_path)] == [180] * HOURS


def test_a_deletion_killed_in_the_middle_is_finished_and_said_once(tmp_path: Path) -> None:
    write(tmp_path, hours_of(8, every_s=600))
    seal_hours(tmp_path, 8 * HOUR)
    old = replace(order(tmp_path, 8 * HOUR), keep_from_ms=order(tmp_path, 7 * HOUR).closed_ms)
    for step in ("written", "synced", "named", "chained", "deleted"):
        command = [sys.executable, "-c", KILLED_AT, orjson.dumps(asdict(old)).decode(), step]
        subprocess.run(command, check=False, capture_output=True)
    seal_hours(tmp_path, 8 * HOUR, keep_from_ms=old.keep_from_ms)
    assert [n.fields["kind"] for n in chain(tmp_path)] == ["segment"] * 8 + ["summary", "deleted"]
    assert len(files(tmp_path)) == 2
    assert whole(tmp_path)


@pytest.mark.timeout(60)
def test_a_sealer_killed_at_random_moments_gets_there_in_the_end(tmp_path: Path) -> None:
    write(tmp_path, hours_of(HOURS), ended=HOURS * HOUR)
    before = everything_known(tmp_path, span(0, HOURS * HOUR))
    r = random.Random(5)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-m", "monitor.evidence", order_text(tmp_path)], stdout=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(r.uniform(0.2, 0.8))
            except subprocess.TimeoutExpired:
                process.kill()
        assert everything_known(tmp_path, span(0, HOURS * HOUR)) == before
    seal_hours(tmp_path, HOURS * HOUR)
    assert everything_known(tmp_path, span(0, HOURS * HOUR)) == before
    assert whole(tmp_path)
    assert files(tmp_path) == sorted(n.fields["file"] for n in chain(tmp_path))


# A small disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a disk of its own, of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "thongsuot-test", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def leave_free(disk: Path, free: int) -> None:
    """Fill the disk with a ballast, but for so many bytes (whole pages)."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            pass
        stream.truncate(max(stream.tell() - free, 0))


def test_a_disk_that_fills_at_any_step_loses_nothing(small_disk: Path) -> None:
    write(small_disk, hours_of(HOURS), ended=HOURS * HOUR)
    before = everything_known(small_disk, span(0, HOURS * HOUR))
    refused, done = 0, False
    for free in range(0, 200, 4):
        leave_free(small_disk, free * 1024)
        try:
            seal_hours(small_disk, HOURS * HOUR)
            done = True
        except (SealError, OSError, sqlite3.OperationalError):
            refused += 1
        (small_disk / "ballast").unlink()
        assert everything_known(small_disk, span(0, HOURS * HOUR)) == before, free
        if chain(small_disk):
            assert whole(small_disk), free
        if done:
            break
    assert done
    assert refused > 5
    assert files(small_disk) == sorted(n.fields["file"] for n in chain(small_disk))
    assert not list(folder(small_disk).rglob("*.part"))


@pytest.mark.timeout(60)
async def test_while_the_disk_is_nearly_full_results_are_still_written_and_a_warning_stands(small_disk: Path) -> None:
    target = service("mail", "smtp")
    journal = await Journal.open(small_disk, SITE)
    try:
        await journal.begin_run(at(0), "d", "0.1.0", "site: {}\n")
        for batch in hours_of(1):
            await journal.commit(batch, at(HOUR))
        watched = plan(target, state_dir=small_disk)
        board = Board(watched, at(0))
        sealer = Sealer(watched, journal, board, clock=lambda: at(HOUR + 100), pause_s=0)
        assert not await sealer.step()  # 2 MB are less than what is left to the journal
        assert "left to the journal" in board.evidence_trouble
        await journal.commit(Batch(results=[good("mail.smtp", HOUR + 1)]), at(HOUR + 2))
        grow = ("mount", "-o", "remount,size=2G", str(small_disk))
        process = await asyncio.create_subprocess_exec(*grow)
        assert await process.wait() == 0
        assert await sealer.step()
        assert board.evidence_trouble == ""
        assert board.chain_head.startswith("1:")
    finally:
        await journal.close()
    assert await asyncio.to_thread(whole, small_disk)
    assert [n.fields["results"] for n in await asyncio.to_thread(chain, small_disk)] == [180]
