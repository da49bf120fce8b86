"""Files that cannot serve as a journal are refused in words; older journals are brought to this version."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from monitor.journal import FILE_NAME, Journal, JournalError, migrations
from monitor.journal_file import keep_configuration
from tests.monitor.builders import SITE, at, gap, notice
from tests.monitor.journals import ask, begin, everything, opened, recovered

VERSION_1 = Path(__file__).with_name("journal_v1.sql")


def make_file(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.executescript(statement)


async def test_a_journal_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    await asyncio.to_thread(make_file, tmp_path / FILE_NAME, "PRAGMA user_version = 4711")
    newest = (await asyncio.to_thread(migrations))[-1][0]
    words = f"the journal is of version 4711, this program knows {newest}: use the newer program"
    with pytest.raises(JournalError, match=words):
        await Journal.open(tmp_path, SITE)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"this is somebody's letter\n" * 100)
    with pytest.raises(JournalError, match=rf"{file} cannot be used: file is not a database"):
        await Journal.open(tmp_path, SITE)
    assert file.read_bytes() == b"this is somebody's letter\n" * 100


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    await asyncio.to_thread(make_file, tmp_path / FILE_NAME, "CREATE TABLE runs (song TEXT)")
    with pytest.raises(JournalError, match="cannot be used: table runs already exists"):
        await Journal.open(tmp_path, SITE)
    assert await ask(tmp_path, "SELECT name FROM sqlite_schema WHERE type = 'table'") == [("runs",)]


async def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for state_dir in (tmp_path / "taken", tmp_path / "taken" / "state"):
        with pytest.raises(JournalError, match=f"cannot open the journal in {state_dir}: "):
            await Journal.open(state_dir, SITE)


async def test_a_state_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(JournalError, match=f"cannot open the journal in {tmp_path}: unable to open database file"):
        await Journal.open(tmp_path, SITE)


async def test_a_new_state_directory_is_closed_to_others(tmp_path: Path) -> None:
    async with opened(tmp_path / "var" / "thongsuot"):
        pass
    assert (tmp_path / "var" / "thongsuot").stat().st_mode & 0o007 == 0


async def test_a_configuration_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    file = tmp_path / "config" / "d1.yaml"

    def sync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix()
        done.append(f"{name}, {'named' if file.exists() else 'unnamed'}")

    monkeypatch.setattr(os, "fsync", sync)
    await asyncio.to_thread(keep_configuration, tmp_path, "d1", "site: {id: tỉnh}\n")

    assert done == ["config/.d1.part, unnamed", "config, named", "., named"]
    assert [f.name for f in file.parent.iterdir()] == ["d1.yaml"]
    await asyncio.to_thread(keep_configuration, tmp_path, "d1", "site: {id: tỉnh}\n")
    assert len(done) == 3


async def test_a_configuration_that_a_power_cut_left_empty_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "config" / "d1.yaml"
    await asyncio.to_thread(file.parent.mkdir)
    await asyncio.to_thread(file.touch)
    await asyncio.to_thread(keep_configuration, tmp_path, "d1", "site: {}\n")

    assert await asyncio.to_thread(file.read_text) == "site: {}\n"


# Older versions.


async def test_a_journal_of_version_1_is_brought_to_this_version_with_all_it_holds(tmp_path: Path) -> None:
    dump = await asyncio.to_thread(VERSION_1.read_text, "utf-8")
    await asyncio.to_thread(make_file, tmp_path / FILE_NAME, dump)
    found = await recovered(tmp_path)
    assert await ask(tmp_path, "PRAGMA user_version") == [((await asyncio.to_thread(migrations))[-1][0],)]
    expected = everything()
    assert found.memories == expected.memories
    assert found.open_gaps == {"portal.home": gap("portal.home", 5, None)}
    assert found.open_incidents == expected.incidents
    assert found.last_changes == {"mail.smtp": expected.changes[0]}
    assert (found.alive, found.stopped) == (at(50), True)
    async with opened(tmp_path) as journal:
        await begin(journal, 2000)
        (item,) = await journal.claim("mail", at(2000), 10)
        assert (item.message_id, item.notice) == ("<opened-1@lang-son>", notice())
    assert await ask(tmp_path, "SELECT count(*) FROM results_readable") == [(2,)]


def test_migrations_are_numbered_from_one_without_holes() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))
