"""The journal on a real file: one transaction a batch, nothing lost by a cut, wrong files refused in words."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.journal import (
    Batch,
    JournalBusyError,
    Recovered,
    from_ms,
    pack_body,
    to_ms,
)
from monitor.judge.outage import Memory
from monitor.model import SlotCount, State
from probes.base import Fault, Reading
from tests.monitor.builders import at, change, duty, gap, good, incident
from tests.monitor.journals import ask, begin, everything, fill_up, make_room, opened, recovered

# Times and bodies.


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  see timezones
def test_a_moment_survives_to_the_millisecond_and_never_moves_forward(moment: datetime) -> None:
    kept = from_ms(to_ms(moment))
    assert timedelta() <= moment - kept < timedelta(milliseconds=1)
    assert to_ms(kept) == to_ms(moment)


def test_a_body_holds_only_what_there_is() -> None:
    assert pack_body(Reading(None, "", 0.5)) == b"{}"
    full = Reading(
        Fault.CONTENT,
        "status 503, expected 200",
        0.5,
        {"connect": 0.0012345},
        {"status_code": 503.0},
        {"peer": "127.0.0.1"},
        (0.0105, None),
    )
    assert orjson.loads(pack_body(full)) == {
        "d": "status 503, expected 200",
        "p": {"connect": 1234},
        "r": [10500, None],
        "v": {"status_code": 503.0},
        "f": {"peer": "127.0.0.1"},
    }


# One transaction.


async def test_a_batch_is_found_again_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        first = await begin(journal)
        assert first == Recovered({}, {}, {}, [], {}, 1, None, False)
        batch = everything()
        await journal.commit(batch, at(41))
        await journal.end_run(at(50))
    found = await recovered(tmp_path)
    assert found.memories == batch.memories
    assert found.open_gaps == {"portal.home": gap("portal.home", 5, None)}
    assert found.open_incidents == batch.incidents
    assert found.recent_incidents == []
    assert found.last_changes == {"mail.smtp": batch.changes[0]}
    assert found.next_incident == 2
    assert (found.alive, found.stopped) == (at(50), True)


async def test_results_are_rows_that_a_person_can_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(everything(), at(41))
    assert await ask(tmp_path, "SELECT name, path, started_utc, attempt, duration_ms, fault FROM results_readable") == [
        ("mail.smtp", "", "2027-02-05 17:00:00", 0, 25.0, ""),
        ("mail.smtp", "vnpt", "2027-02-05 17:00:30", 0, 10000.0, "refused"),
    ]
    assert await ask(tmp_path, "SELECT subject, state, at_utc, confirmed_utc, detail FROM changes_readable") == [
        ("mail.smtp", "down", "2027-02-05 17:00:30", "2027-02-05 17:00:40", "từ chối")
    ]
    assert await ask(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert await ask(tmp_path, "PRAGMA journal_mode") == [("wal",)]


async def test_an_empty_batch_is_a_sign_of_life(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(), at(77))
    found = await recovered(tmp_path)
    assert (found.alive, found.stopped) == (at(77), False)


TABLES = ("results", "checks", "changes", "gaps", "memories", "incidents", "slots")


async def test_a_batch_with_one_bad_statement_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(duties=[duty("twice")]), at(1))
        batch = everything()
        batch.duties = [duty("once"), duty("twice")]  # the last statement but two: nearly all is written by then
        with pytest.raises(sqlite3.IntegrityError, match="message_id"):
            await journal.commit(batch, at(99))
    for table in TABLES:
        assert await ask(tmp_path, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert await ask(tmp_path, "SELECT message_id FROM outbox") == [("<twice@lang-son>",)]
    assert (await recovered(tmp_path)).alive == at(1)


async def test_results_after_a_failed_batch_find_their_check(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(duties=[duty("twice")]), at(1))
        with pytest.raises(sqlite3.IntegrityError):
            await journal.commit(Batch(results=[good("mail.smtp", 1)], duties=[duty("twice")]), at(2))
        await journal.commit(Batch(results=[good("portal.home", 3), good("mail.smtp", 3)]), at(3))
    assert await ask(tmp_path, "SELECT name FROM results_readable ORDER BY rowid") == [("portal.home",), ("mail.smtp",)]


def large() -> Batch:
    batch = everything()
    batch.results = [good("mail.smtp", i) for i in range(2000)]
    return batch


async def test_a_full_disk_is_told_as_busy_and_the_same_batch_goes_through_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await fill_up(journal)
        batch = large()
        for _ in range(3):
            with pytest.raises(JournalBusyError, match="full"):
                await journal.commit(batch, at(50))
        assert await ask(tmp_path, "SELECT count(*) FROM results") == [(0,)]
        assert await ask(tmp_path, "SELECT count(*) FROM outbox") == [(0,)]
        await make_room(journal)
        await journal.commit(batch, at(60))
    assert await ask(tmp_path, "SELECT count(*) FROM results_readable WHERE name = 'mail.smtp'") == [(2000,)]
    assert await ask(tmp_path, "SELECT count(*) FROM outbox") == [(1,)]


async def test_a_start_on_a_full_disk_is_busy(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal._do(lambda: journal._db.execute("PRAGMA query_only = ON").fetchall())
        with pytest.raises(JournalBusyError):
            await begin(journal)
        with pytest.raises(JournalBusyError):
            await journal.end_run(at(5))


# After a cut.


async def test_a_streak_of_two_is_a_streak_of_two_after_the_next_start(tmp_path: Path) -> None:
    streak = Memory(state=State.UP, since=at(0), bad=2, first_bad=at(20), counted_bad=at(25), last_good=at(10))
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(memories={"mail.smtp": Memory()}), at(5))
        await journal.commit(Batch(memories={"mail.smtp": streak}), at(26))
    assert (await recovered(tmp_path)).memories == {"mail.smtp": streak}


async def test_a_copy_of_the_files_under_way_holds_all_that_was_committed(tmp_path: Path) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy"
    async with opened(state) as journal:
        await begin(journal)
        for number in range(1, 6):
            await journal.commit(small(number), at(number))
        await asyncio.to_thread(shutil.copytree, state, copy)
        await journal.commit(small(6), at(6))
    found = await recovered(copy)
    assert (found.alive, found.stopped, found.next_incident) == (at(5), False, 6)
    assert await ask(copy, "PRAGMA integrity_check") == [("ok",)]


def small(number: int) -> Batch:
    """A batch whose parts all carry its number, so that half of one would be seen."""
    return Batch(
        results=[good("mail.smtp", number)],
        changes=[change("mail.smtp", State.UP, number)],
        incidents={number: incident(number, f"service-{number}", number)},
        duties=[duty(f"opened-{number}", number, subject=f"service-{number}")],
    )


async def test_wherever_the_last_writes_are_cut_a_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with opened(state) as journal:
        await begin(journal)
        for number in range(1, 6):
            await journal.commit(small(number), at(number))
        log = await asyncio.to_thread((state / "journal.db-wal").read_bytes)
        await asyncio.to_thread(shutil.copytree, state, tmp_path / "whole")
    counts = set()
    for step in range(12):
        copy = tmp_path / f"cut-{step}"
        await asyncio.to_thread(shutil.copytree, tmp_path / "whole", copy)
        cut = log[: len(log) - step * len(log) // 12 - 7 * step]
        await asyncio.to_thread((copy / "journal.db-wal").write_bytes, cut)
        (copy / "journal.db-shm").unlink()
        async with opened(copy):
            pass
        assert await ask(copy, "PRAGMA integrity_check") == [("ok",)]
        found = {
            (await ask(copy, f"SELECT count(*) FROM {table}"))[0][0]
            for table in ("results", "changes", "incidents", "outbox")
        }
        assert len(found) == 1, f"a batch was torn apart by a cut at {len(cut)} of {len(log)} bytes"
        counts |= found
    assert 5 in counts
    assert len(counts) > 2


# Runs and configurations.


async def test_a_configuration_that_ran_is_kept_under_its_hash_and_never_written_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal, 0, "aaa", "site: {name: Sở TT&TT}\n")
        await begin(journal, 1, "bbb", "site: {}\n")
        await begin(journal, 2, "aaa", "forged\n")
    kept = {f.name: f.read_text(encoding="utf-8") for f in (tmp_path / "config").iterdir()}
    assert kept == {"aaa.yaml": "site: {name: Sở TT&TT}\n", "bbb.yaml": "site: {}\n"}
    assert await ask(tmp_path, "SELECT config_digest, version FROM runs ORDER BY id") == [
        ("aaa", "0.1.0"),
        ("bbb", "0.1.0"),
        ("aaa", "0.1.0"),
    ]


async def test_a_run_that_was_cut_off_did_not_stop_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(), at(10))
    found = await recovered(tmp_path, 500)
    assert (found.alive, found.stopped) == (at(10), False)


# Gaps.


async def test_an_open_gap_is_closed_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(gaps=[gap("mail.smtp", 10, None, "local"), gap("a.b", 10, None)]), at(10))
        await journal.commit(Batch(gaps_closed={"mail.smtp": at(20), "never.open": at(20)}), at(20))
        await journal.commit(Batch(gaps_closed={"mail.smtp": at(99)}), at(99))
    assert await ask(tmp_path, "SELECT check_name, end_ms, cause FROM gaps ORDER BY id") == [
        ("mail.smtp", to_ms(at(20)), "local"),
        ("a.b", None, "off"),
    ]
    assert set((await recovered(tmp_path)).open_gaps) == {"a.b"}


async def test_a_gap_may_close_and_the_next_one_open_in_one_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(gaps=[gap("mail.smtp", 10, None)]), at(10))
        await journal.commit(Batch(gaps_closed={"mail.smtp": at(20)}, gaps=[gap("mail.smtp", 25, None)]), at(25))
    assert (await recovered(tmp_path)).open_gaps == {"mail.smtp": gap("mail.smtp", 25, None)}


async def test_a_gap_never_ends_before_it_begins(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(gaps=[gap("mail.smtp", 10, None)]), at(10))
        await journal.commit(Batch(gaps_closed={"mail.smtp": at(5)}), at(11))
    assert await ask(tmp_path, "SELECT end_ms - start_ms FROM gaps") == [(0,)]


# Incidents.


async def test_an_incident_is_written_over_until_it_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(incidents={1: incident(1, "mail", state=State.DEGRADED, told=False)}), at(10))
        await journal.commit(Batch(incidents={1: incident(1, "mail", state=State.DOWN)}), at(20))
        await journal.commit(Batch(incidents={1: incident(1, "mail", ended=30)}), at(30))
        assert await journal.recent_incidents(10) == [incident(1, "mail", ended=30)]
    found = await recovered(tmp_path)
    assert (found.open_incidents, found.recent_incidents) == ({}, [incident(1, "mail", ended=30)])
    assert found.next_incident == 2


async def test_a_subject_may_end_one_incident_and_begin_the_next_in_one_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(incidents={1: incident(1, "mail")}), at(10))
        batch = Batch(incidents={2: incident(2, "mail", 40), 1: incident(1, "mail", ended=30)})
        await journal.commit(batch, at(40))
        assert await journal.recent_incidents(10) == [incident(2, "mail", 40), incident(1, "mail", ended=30)]


async def test_a_second_open_incident_of_a_subject_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(incidents={1: incident(1, "mail")}), at(10))
        with pytest.raises(sqlite3.IntegrityError):
            await journal.commit(Batch(incidents={2: incident(2, "mail", 5)}), at(11))
        assert await journal.recent_incidents(10) == [incident(1, "mail")]


async def test_consequences_keep_the_incident_they_follow_from(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        family = {1: incident(1, "data-centre"), 2: incident(2, "mail", parent=1, told=False)}
        await journal.commit(Batch(incidents=family), at(10))
    assert (await recovered(tmp_path)).open_incidents == family


# Slots, old results, several sites.


async def test_slots_of_an_hour_add_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        for _ in range(3):
            batch = Batch(slots=[SlotCount("a.b", at(0), done=10, late=1, skipped=2, lost=3)])
            await journal.commit(batch, at(1))
        await journal.commit(Batch(slots=[SlotCount("a.b", at(3600), done=5)]), at(3601))
    assert await ask(tmp_path, "SELECT hour_ms, done, late, skipped, lost FROM slots ORDER BY hour_ms") == [
        (to_ms(at(0)), 30, 3, 6, 9),
        (to_ms(at(3600)), 5, 0, 0, 0),
    ]


async def test_sites_in_one_file_do_not_see_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as ours:
        await begin(ours)
        await ours.commit(everything(), at(41))
        async with opened(tmp_path, "ha-tinh") as theirs:
            found = await begin(theirs, 50)
            assert (found.memories, found.open_gaps, found.open_incidents, found.last_changes) == ({}, {}, {}, {})
            assert found.alive is None
            assert found.next_incident == 2  # numbers are one row for all
            assert await theirs.claim("mail", at(99), 10) == []
            assert await theirs.waiting("mail") == 0
            assert await theirs.recent_incidents(10) == []
