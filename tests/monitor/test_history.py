"""Questions about the past, asked of a real journal beside a daemon that may be writing it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.history import History, Responses, Run, open_history
from monitor.journal import FILE_NAME, Batch, Journal, JournalError, migrations, to_ms
from monitor.model import Result, SlotCount, State
from probes.base import Fault, Reading
from tests.monitor.builders import SITE, at, bad, blind, change, gap, good, incident, result, span


def record(state_dir: Path, *batches: Batch, site: str = SITE, started: float = 0) -> None:
    """Let a daemon live from `started` on and write these batches, one a second."""

    async def live() -> None:
        journal = await Journal.open(state_dir, site)
        await journal.begin_run(at(started), "d1", "0.1.0", "site: {}\n")
        for number, batch in enumerate(batches, start=1):
            await journal.commit(batch, at(started + number))
        await journal.close()

    asyncio.run(live())


@contextlib.contextmanager
def past(state_dir: Path, *batches: Batch) -> Iterator[History]:
    record(state_dir, *batches)
    with open_history(state_dir, SITE) as history:
        yield history


def test_changes_come_by_subject_in_the_order_of_their_recording(tmp_path: Path) -> None:
    first = [change("a.b", State.UP, 0), change("c.d", State.DOWN, 5), change("a.b", State.DOWN, 50)]
    second = [change("a.b", State.DEGRADED, 20), change("c.d", State.UP, 99.999), change("c.d", State.DOWN, 100)]
    with past(tmp_path, Batch(changes=first), Batch(changes=second)) as history:
        assert history.changes(at(100)) == {"a.b": [first[0], first[2], second[0]], "c.d": [first[1], second[1]]}
        assert history.changes(at(-10)) == {}


def test_gaps_are_those_that_touch_the_period_oldest_first(tmp_path: Path) -> None:
    before, into, within, out_of, after, still = (
        gap("a.b", -20, 0),
        gap("a.b", -10, 5),
        gap("c.d", 10, 20, "missed"),
        gap("a.b", 90, 110),
        gap("a.b", 100, 120),
        gap("a.b", -30, None, "local"),
    )
    with past(tmp_path, Batch(gaps=[before, into, within, out_of, after, still])) as history:
        assert history.gaps(span(0, 100)) == {"a.b": [still, into, out_of], "c.d": [within]}
        assert history.gaps(span(-100, -50)) == {}


def test_every_life_of_the_daemon_is_listed(tmp_path: Path) -> None:
    record(tmp_path, Batch(), Batch())

    async def second_life() -> None:
        journal = await Journal.open(tmp_path, SITE)
        await journal.begin_run(at(100), "d2", "0.2.0", "site: {}\n")
        await journal.end_run(at(130))
        await journal.close()

    asyncio.run(second_life())
    with open_history(tmp_path, SITE) as history:
        assert history.runs() == [
            Run(at(0), at(2), None, "d1", "0.1.0"),
            Run(at(100), at(130), at(130), "d2", "0.2.0"),
        ]


def test_incidents_are_those_that_touch_the_period_oldest_first(tmp_path: Path) -> None:
    told = [
        incident(1, "a", -50, ended=0),
        incident(2, "b", 40),
        incident(3, "c", -50, ended=1),
        incident(4, "d", 10, ended=20),
        incident(5, "e", 100),
    ]
    with past(tmp_path, Batch(incidents={i.id: i for i in told})) as history:
        assert [i.id for i in history.incidents(span(0, 100))] == [3, 4, 2]
        assert history.incidents(span(0, 100))[0] == told[2]


def test_the_ledger_is_summed_over_the_hours_that_touch_the_period(tmp_path: Path) -> None:
    slots = [SlotCount("a.b", at(h * 3600), done=10**h, late=h, skipped=1, lost=2) for h in range(5)]
    with past(tmp_path, Batch(slots=[*slots, SlotCount("c.d", at(7200), done=7)])) as history:
        hours = span(3600, 3 * 3600)
        assert history.slots(hours) == {
            "a.b": SlotCount("a.b", at(3600), done=110, late=3, skipped=2, lost=4),
            "c.d": SlotCount("c.d", at(7200), done=7),
        }
        assert history.slots(span(5400, 7201))["a.b"].done == 110
        assert history.slots(span(-7200, 0)) == {}


def echoes(check_id: str, seconds: float, *rtts_ms: float | None, fault: Fault | None = None) -> Result:
    rtts = tuple(None if r is None else r / 1000 for r in rtts_ms)
    return result(check_id, seconds, Reading(fault, "", 2.5, rtts_s=rtts))


def test_responses_tell_good_from_bad_from_not_measured(tmp_path: Path) -> None:
    results = [
        good("a.b", 1, took_s=0.5),
        bad("a.b", 2),
        blind("a.b", 3),
        bad("a.b", 4, Fault.INTERNAL),
        good("a.b", 5, took_s=0.25, path="vnpt"),
        good("c.d", 6, took_s=1.5),
    ]
    with past(tmp_path, Batch(results=results)) as history:
        assert history.responses(span(0, 100)) == {
            "a.b": Responses(good=2, bad=1, blind=2, seconds=[0.5, 0.25]),
            "c.d": Responses(good=1, bad=0, blind=0, seconds=[1.5]),
        }


def test_the_response_of_a_ping_is_its_median_echo_and_lost_ones_are_counted(tmp_path: Path) -> None:
    results = [
        echoes("a.b", 1, 12, 10, 30),
        echoes("a.b", 2, None, 40, 20),
        echoes("a.b", 3, None, None, None, fault=Fault.TIMEOUT),
        echoes("a.b", 4, None, 9, fault=Fault.LOCAL),
    ]
    with past(tmp_path, Batch(results=results)) as history:
        found = history.responses(span(0, 100))["a.b"]
    assert found == Responses(good=2, bad=1, blind=1, seconds=[0.012, 0.020], echoes_sent=9, echoes_lost=4)
    assert list(found.seconds) == [results[0].reading.response_s, results[1].reading.response_s]


def test_words_of_a_server_are_not_taken_for_echoes(tmp_path: Path) -> None:
    reading = Reading(None, 'said "r":[1]', 0.5, facts={"r": '"r":'}, values={"r": 1.0})
    with past(tmp_path, Batch(results=[result("a.b", 1, reading)])) as history:
        assert history.responses(span(0, 100)) == {"a.b": Responses(1, 0, 0, [0.5])}


def test_only_results_that_started_within_the_period_count(tmp_path: Path) -> None:
    results = [good("a.b", s, took_s=1 + s / 10) for s in (-0.001, 0, 50, 99.999, 100)]
    with past(tmp_path, Batch(results=results)) as history:
        assert history.responses(span(0, 100))["a.b"].good == 3


def test_other_sites_in_the_file_are_not_ours(tmp_path: Path) -> None:
    theirs = Batch(
        results=[good("a.b", 1)],
        changes=[],
        gaps=[],
        slots=[SlotCount("a.b", at(0), done=1)],
    )
    record(tmp_path, theirs, site="ha-tinh")
    with past(tmp_path) as history:
        assert (history.responses(span(0, 9)), history.slots(span(0, 9))) == ({}, {})
        assert len(history.runs()) == 1


def memory_of(started_ms: Sequence[int], first_row: int = 1) -> sqlite3.Connection:
    """A journal in memory whose raw results started so, in the order of their rows."""
    db = sqlite3.connect(":memory:")
    for _, step in migrations():
        db.executescript(step)
    db.execute("INSERT INTO checks VALUES (1, ?, 'a.b', '')", (SITE,))
    db.executemany(
        "INSERT INTO results (rowid, check_no, slot_ms, started_ms, lateness_us, attempt, duration_us, fault, body)"
        " VALUES (?, 1, 0, ?, 0, 0, ?, '', '{}')",
        [(first_row + i, ms, 1_000_000 + i) for i, ms in enumerate(started_ms)],
    )
    return db


MINUTE = 60_000


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 600 * MINUTE), st.integers(0, 10 * MINUTE)), max_size=60),
    st.integers(-20, 620),
    st.integers(0, 620),
    st.integers(1, 5000),
)
def test_no_result_is_missed_though_rows_are_in_the_order_of_their_end(
    probes: list[tuple[int, int]], from_min: int, length_min: int, first_row: int
) -> None:
    """Each probe is a start and how long it took; a row is written when it ends."""
    ordered = sorted(probes, key=lambda p: p[0] + p[1])
    started_ms = [to_ms(at(0)) + start for start, _ in ordered]
    period = span(from_min * 60, (from_min + length_min) * 60)
    with contextlib.closing(memory_of(started_ms, first_row)) as db:
        found = History(db, SITE).responses(period)
    expected = [1 + i / 1e6 for i, ms in enumerate(started_ms) if to_ms(period.start) <= ms < to_ms(period.end)]
    assert (list(found["a.b"].seconds) if found else []) == expected


def test_the_search_reads_few_rows_of_many(tmp_path: Path) -> None:
    started = [to_ms(at(0)) + i * 1000 for i in range(50_000)]
    with contextlib.closing(memory_of(started)) as db:
        asked: list[str] = []
        db.set_trace_callback(asked.append)
        assert History(db, SITE)._first_row(at(40_000)) == 40_001
    assert len(asked) < 20


def test_rows_that_were_pruned_leave_holes_that_do_no_harm() -> None:
    started = [to_ms(at(0)) + i * 1000 for i in range(1000)]
    with contextlib.closing(memory_of(started)) as db:
        db.execute("DELETE FROM results WHERE rowid < 300 OR rowid BETWEEN 400 AND 700")
        assert History(db, SITE)._first_row(at(-5)) == 300
        assert History(db, SITE)._first_row(at(349)) == 350
        assert History(db, SITE)._first_row(at(500)) in range(400, 702)
        assert History(db, SITE)._first_row(at(5000)) == 1001


def test_a_report_sees_one_past_whatever_the_daemon_writes_meanwhile(tmp_path: Path) -> None:
    with past(tmp_path, Batch(changes=[change("a.b", State.UP, 0)])) as history:
        assert len(history.changes(at(100))["a.b"]) == 1
        record(tmp_path, Batch(changes=[change("a.b", State.DOWN, 5)]), started=10)
        assert len(history.changes(at(100))["a.b"]) == 1
        assert len(history.runs()) == 1
    with open_history(tmp_path, SITE) as history:
        assert len(history.changes(at(100))["a.b"]) == 2


def test_reading_cannot_write(tmp_path: Path) -> None:
    record(tmp_path, Batch())
    with open_history(tmp_path, SITE) as history, pytest.raises(sqlite3.OperationalError, match="readonly"):
        history._db.execute("DELETE FROM runs")


def test_without_a_journal_there_is_no_history(tmp_path: Path) -> None:
    words = f"there is no journal in {tmp_path}: the daemon has not run with this state directory"
    with pytest.raises(JournalError, match=words), open_history(tmp_path, SITE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 77")
    words = f"is of version 77, this program reads {migrations()[-1][0]}: start the daemon on it once"
    with pytest.raises(JournalError, match=words), open_history(tmp_path, SITE):
        pass


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a journal" * 1000)
    with pytest.raises(JournalError, match="cannot be read: file is not a database"), open_history(tmp_path, SITE):
        pass


def test_a_journal_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    record(tmp_path, Batch())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # not one more file for this process
    try:
        with pytest.raises(JournalError, match="cannot be opened: unable to open database file"):
            open_history(tmp_path, SITE).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_journal_that_breaks_while_it_is_read_is_told(tmp_path: Path) -> None:
    record(tmp_path, Batch())

    def read() -> None:
        with open_history(tmp_path, SITE) as history:
            history._db.close()
            history.runs()

    with pytest.raises(JournalError, match=r"journal\.db cannot be read: Cannot operate on a closed database"):
        read()


def test_the_search_allows_for_the_longest_probe() -> None:
    """A probe that started in time and ended ten minutes later stands after results of those ten minutes."""
    late = timedelta(minutes=10)
    started = [to_ms(at(s)) for s in (-700, -650, -300, 599)] + [to_ms(at(600) - late), to_ms(at(601))]
    with contextlib.closing(memory_of(started)) as db:
        assert History(db, SITE).responses(span(0, 10))["a.b"].good == 1
