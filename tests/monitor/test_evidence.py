"""Sealing: what leaves the journal, and that nobody who asks the past can tell."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from monitor import chain, segments
from monitor.evidence import SealError, seal
from monitor.journal import FILE_NAME, Batch
from monitor.model import SlotCount
from probes.base import Reading
from tests.monitor.builders import SITE, at, good, result, span
from tests.monitor.sealing import (
    HOUR,
    everything_known,
    folder,
    hours_of,
    order,
    rows_left,
    seal_hours,
    tidy,
    write,
)
from tests.monitor.sealing import (
    chain as chain_of,
)


def query(sql: str) -> list[tuple[Any, ...]]:
    """Ask with a reader that is not ours."""
    with duckdb.connect() as db:
        found: list[tuple[Any, ...]] = db.execute(sql).fetchall()
        return found


def test_no_figure_changes_when_hours_are_sealed(tmp_path: Path) -> None:
    write(tmp_path, hours_of(4), ended=4 * HOUR)
    periods = [span(0, 4 * HOUR), span(1000, 2 * HOUR + 500), span(HOUR, 2 * HOUR), span(3 * HOUR, 5 * HOUR)]
    before = [everything_known(tmp_path, p) for p in periods]
    for hours in range(1, 5):
        assert len(seal_hours(tmp_path, hours * HOUR)) == 1
        assert [everything_known(tmp_path, p) for p in periods] == before, hours
    assert rows_left(tmp_path) == 1  # the last row keeps its number from being given out again


def test_no_figure_changes_between_the_line_of_the_chain_and_its_note_in_the_journal(tmp_path: Path) -> None:
    write(tmp_path, hours_of(3), ended=3 * HOUR)
    before = everything_known(tmp_path, span(0, 3 * HOUR))
    assert len(list(seal(order(tmp_path, 2 * HOUR)))) == 2
    assert everything_known(tmp_path, span(0, 3 * HOUR)) == before


def test_the_evidence_alone_tells_what_the_journal_told(tmp_path: Path) -> None:
    write(tmp_path, hours_of(3), ended=3 * HOUR)
    before = everything_known(tmp_path, span(0, 3 * HOUR))
    seal_hours(tmp_path, 3 * HOUR)
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert everything_known(tmp_path, span(0, 3 * HOUR)) == before


def test_a_new_journal_goes_on_with_the_chain_of_a_lost_one(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    seal_hours(tmp_path, 2 * HOUR)
    before = everything_known(tmp_path, span(0, 2 * HOUR))
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    later = [good("mail.smtp", 2 * HOUR + s) for s in range(0, HOUR, 60)]
    write(tmp_path, [Batch(results=later)], started=2 * HOUR)
    *_, line = seal_hours(tmp_path, 3 * HOUR)  # the new journal notes the old lines first
    assert (line.number, line.fields["results"]) == (3, 60)
    after = everything_known(tmp_path, span(0, 2 * HOUR))
    assert {k: v for k, v in after.items() if k != "runs"} == {k: v for k, v in before.items() if k != "runs"}
    assert everything_known(tmp_path, span(0, 3 * HOUR))["responses"] != before["responses"]


def test_an_hour_is_one_file_named_by_its_hash_and_one_signed_line(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    lines = seal_hours(tmp_path, 2 * HOUR)
    assert [line.number for line in lines] == [1, 2]
    assert lines[1].fields["previous"] == lines[0].digest
    key = chain.load_public_key(folder(tmp_path) / chain.PUBLIC_KEY_FILE)
    for line, hour in zip(lines, ("17", "18"), strict=True):
        data = (folder(tmp_path) / line.fields["file"]).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        assert line.fields["sha256"] == digest
        assert line.fields["file"] == f"2027/02/05/{hour}-{digest[:12]}.parquet"
        assert chain.signature_fits(line.text, key)
    assert (lines[0].fields["first"], lines[0].fields["last"]) == (
        "2027-02-05T17:00:00.250Z",
        "2027-02-05T17:59:14.250Z",
    )
    assert (lines[0].fields["results"], lines[0].fields["late"]) == (180, 0)
    mode = stat.S_IMODE((tmp_path / chain.PRIVATE_KEY_FILE).stat().st_mode)
    assert mode == 0o600


def test_rows_stand_by_check_and_time_and_any_reader_understands_them(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1))
    seal_hours(tmp_path, HOUR)
    files = f"{folder(tmp_path)}/**/*.parquet"
    rows = query(f"SELECT subject, path, epoch_ms(time) FROM '{files}' WHERE kind = 'result'")
    assert rows == sorted(rows)
    assert len(rows) == 180
    kinds = query(f"SELECT kind, count(*) FROM '{files}' GROUP BY kind ORDER BY kind")
    assert kinds == [
        ("alert", 1),
        ("change", 1),
        ("gap", 2),
        ("incident", 1),
        ("result", 180),
        ("run", 1),
        ("slots", 3),
    ]
    numbers = query(
        f"SELECT DISTINCT (numbers->>'status_code')::DOUBLE, facts->>'title' FROM '{files}'"
        " WHERE subject = 'portal.home' AND kind = 'result' AND fault = ''"
    )
    assert numbers == [(200.0, 'Cổng "thông tin", "f":{')]
    echoes = query(f"SELECT count(*), max(len(rtts_us)) FROM '{files}' WHERE subject = 'carrier.ping'")
    assert echoes[0][1] == 3


def test_every_digit_of_the_journal_is_in_the_file(tmp_path: Path) -> None:
    readings = [
        Reading(None, "", 0.123456, {"connect": 0.000001, "transfer": 4000.0}, {"x_count": -3.5}, {"a": "từ 🙂\\"}),
        Reading(None, "chậm", 5000.0, {}, {}, {}, (0.000001, None, 3600.0)),
        Reading(None, "", 0.0, late_s=0.0123456),
    ]
    results = [result("a.b", i, r, attempt=i) for i, r in enumerate(readings)]
    write(tmp_path, [Batch(results=results)])
    seal_hours(tmp_path, HOUR)
    (line,) = chain_of(tmp_path)
    table = pq.read_table(folder(tmp_path) / line.fields["file"], partitioning=None)
    rows = [r for r in table.to_pylist() if r["kind"] == "result"]
    assert [r["attempt"] for r in rows] == [0, 1, 2]
    assert rows[0]["connect_us"] == 1
    assert rows[0]["transfer_us"] == 4_000_000_000
    assert rows[0]["resolve_us"] is None
    assert (rows[0]["numbers"], rows[0]["facts"]) == ('{"x_count":-3.5}', '{"a":"từ 🙂\\\\"}')
    assert rows[1]["duration_us"] == 2**32 - 1  # longer than any time-out: the column's most
    assert rows[1]["rtts_us"] == [1, None, 3_600_000_000]
    assert rows[1]["detail"] == "chậm"
    assert rows[2]["rtts_us"] is None
    assert [row["late_us"] for row in rows] == [None, None, 12346]
    assert (rows[2]["numbers"], rows[2]["facts"], rows[2]["detail"]) == ("", "", "")


def test_results_that_come_late_go_with_the_hour_after(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1))
    seal_hours(tmp_path, HOUR)
    late = [good("mail.smtp", HOUR - 30), good("mail.smtp", HOUR + 5)]
    write(tmp_path, [Batch(results=late, slots=[SlotCount("mail.smtp", at(0), done=1)])], started=HOUR)
    before = everything_known(tmp_path, span(0, 2 * HOUR))
    assert seal_hours(tmp_path, HOUR) == []
    (line,) = seal_hours(tmp_path, 2 * HOUR)
    assert (line.fields["results"], line.fields["late"]) == (2, 1)
    assert everything_known(tmp_path, span(0, 2 * HOUR)) == before


def test_an_hour_that_is_not_closed_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    assert [line.fields["hour"] for line in seal_hours(tmp_path, HOUR)] == ["2027-02-05T17:00:00.000Z"]
    assert rows_left(tmp_path) == 180


def test_sealing_twice_makes_nothing_new(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    seal_hours(tmp_path, 2 * HOUR)
    have = sorted(p for p in folder(tmp_path).rglob("*"))
    assert seal_hours(tmp_path, 2 * HOUR) == []
    assert sorted(p for p in folder(tmp_path).rglob("*")) == have


def test_the_same_journal_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        write(tmp_path / name, hours_of(1))
        db = sqlite3.connect(tmp_path / name / FILE_NAME)
        db.execute("UPDATE identity SET uid = 'same'")
        db.commit()
        db.close()
        digests.append(seal_hours(tmp_path / name, HOUR)[0].fields["sha256"])
    assert digests[0] == digests[1]


def test_simulated_evidence_says_so_in_line_and_file(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1))
    (line,) = seal_hours(tmp_path, HOUR, simulated=True)
    assert line.fields["simulated"] is True
    metadata = pq.read_metadata(folder(tmp_path) / line.fields["file"]).metadata
    assert b'"simulated":true' in metadata[segments.METADATA_KEY]


# Keeping.


def test_old_days_go_whole_and_the_chain_says_so(tmp_path: Path) -> None:
    write(tmp_path, hours_of(9, every_s=600))
    first = seal_hours(tmp_path, 9 * HOUR)
    keep = order(tmp_path, 7 * HOUR).closed_ms  # 00:00 UTC
    summary, line = seal_hours(tmp_path, 9 * HOUR, keep_from_ms=keep)
    assert [summary.fields["kind"], line.fields["kind"]] == ["summary", "deleted"]
    assert [e["number"] for e in line.fields["segments"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [(folder(tmp_path) / n.fields["file"]).exists() for n in first] == [False] * 7 + [True, True]
    assert seal_hours(tmp_path, 9 * HOUR, keep_from_ms=keep) == []
    known = everything_known(tmp_path, span(0, 9 * HOUR))
    assert len(known["changes"]["mail.smtp"]) == 9  # type: ignore[index]  # what is small stays for ever


def test_a_budget_deletes_the_oldest_but_never_the_last_day(tmp_path: Path) -> None:
    write(tmp_path, hours_of(27, every_s=600))
    seal_hours(tmp_path, 27 * HOUR)
    _, line = seal_hours(tmp_path, 27 * HOUR, budget_bytes=1)
    assert line.fields["reason"] == "space"
    assert [e["number"] for e in line.fields["segments"]] == [1, 2, 3]


def test_a_deletion_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    write(tmp_path, hours_of(8, every_s=600))
    first = seal_hours(tmp_path, 8 * HOUR)[0]
    kept = (folder(tmp_path) / first.fields["file"]).read_bytes()
    keep = order(tmp_path, 7 * HOUR).closed_ms
    seal_hours(tmp_path, 8 * HOUR, keep_from_ms=keep)
    (folder(tmp_path) / first.fields["file"]).write_bytes(kept)
    seal_hours(tmp_path, 8 * HOUR, keep_from_ms=keep)
    assert not (folder(tmp_path) / first.fields["file"]).exists()


# Troubles.


def test_a_lost_key_stops_sealing_and_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    seal_hours(tmp_path, HOUR)
    (tmp_path / chain.PRIVATE_KEY_FILE).unlink()
    with pytest.raises(SealError, match=r"put it back, or move .* away to begin a new chain"):
        seal_hours(tmp_path, 2 * HOUR)
    assert rows_left(tmp_path) == 180


def test_another_key_stops_sealing(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    seal_hours(tmp_path, HOUR)
    (tmp_path / chain.PRIVATE_KEY_FILE).unlink()
    other = tmp_path / "other"
    other.mkdir()
    folder(other).mkdir(parents=True)
    chain.signing_key(other, SITE)
    with pytest.raises(SealError, match="is not the key of"):
        seal_hours(tmp_path, 2 * HOUR, key_file=str(other / chain.PRIVATE_KEY_FILE))


def test_a_tail_that_was_cut_off_is_put_back_from_the_journal(tmp_path: Path) -> None:
    write(tmp_path, hours_of(3))
    lines = seal_hours(tmp_path, 2 * HOUR)
    file = folder(tmp_path) / chain.CHAIN_FILE
    file.write_text(lines[0].text + "\n" + lines[1].text[:40])
    (line,) = seal_hours(tmp_path, 3 * HOUR)
    assert [n.text for n in chain_of(tmp_path)] == [*(n.text for n in lines), line.text]


def test_a_changed_line_stops_sealing(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    (line,) = seal_hours(tmp_path, HOUR)
    (folder(tmp_path) / chain.CHAIN_FILE).write_text(line.text.replace('"late":0', '"late":1') + "\n")
    with pytest.raises(SealError, match="line 1 of the chain is not the one that was written"):
        seal_hours(tmp_path, 2 * HOUR)


def test_two_sealers_do_not_meet(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1))
    folder(tmp_path).mkdir(parents=True)
    with (
        chain.SealingLock(folder(tmp_path)),
        pytest.raises(SealError, match="another process is sealing here"),
    ):
        seal_hours(tmp_path, HOUR)


def test_with_little_room_on_the_disk_the_journal_goes_first(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1))
    with pytest.raises(SealError, match="left to the journal"):
        seal_hours(tmp_path, HOUR, reserve_bytes=1 << 60)
    assert rows_left(tmp_path) == 180


class CutError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["written", "synced", "named", "chained"])
def test_a_cut_at_any_step_loses_nothing_and_seals_nothing_twice(tmp_path: Path, step: str) -> None:
    write(tmp_path, hours_of(3))
    before = everything_known(tmp_path, span(0, 3 * HOUR))
    seal_hours(tmp_path, HOUR)

    def cut(reached: str) -> None:
        if reached == step:
            raise CutError

    for _ in range(3):
        with pytest.raises(CutError):
            seal_hours(tmp_path, 3 * HOUR, reached=cut)
        assert everything_known(tmp_path, span(0, 3 * HOUR)) == before
        if step == "chained":
            break
    seal_hours(tmp_path, 3 * HOUR)
    assert everything_known(tmp_path, span(0, 3 * HOUR)) == before
    assert [n.fields["hour"][11:13] for n in chain_of(tmp_path)] == ["17", "18", "19"]
    files = sorted(str(p.relative_to(folder(tmp_path))) for p in folder(tmp_path).rglob("*.parquet"))
    assert files == sorted(n.fields["file"] for n in chain_of(tmp_path))
    assert not list(folder(tmp_path).rglob("*.part"))


def test_a_drop_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2))
    before = everything_known(tmp_path, span(0, 2 * HOUR))
    for outcome in seal(order(tmp_path, 2 * HOUR)):
        db = sqlite3.connect(tmp_path / FILE_NAME)
        from monitor import sealed

        with db:
            sealed.note(db, SITE, chain.parse_line(outcome.line), outcome.slots, 0)
            assert not sealed.note(db, SITE, chain.parse_line(outcome.line), outcome.slots, 0)
            sealed.drop(db, SITE, sealed.to_drop(db, SITE)[0], 30)
        db.close()
        assert everything_known(tmp_path, span(0, 2 * HOUR)) == before
    tidy(tmp_path)
    assert rows_left(tmp_path) == 1
    assert everything_known(tmp_path, span(0, 2 * HOUR)) == before


def test_the_private_key_is_no_part_of_the_evidence(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1))
    seal_hours(tmp_path, HOUR)
    names = {p.name for p in (tmp_path / "evidence").rglob("*") if p.is_file()}
    assert names == {
        ".lock",
        chain.CHAIN_FILE,
        chain.PUBLIC_KEY_FILE,
        Path(chain_of(tmp_path)[0].fields["file"]).name,
    }
