"""What people put on record is evidence: sealed with the hour, read back without the journal, not to be dated back."""

from __future__ import annotations

import json
from pathlib import Path

from exporters.report import papers
from exporters.report.figures import as_json, gather
from exporters.report.material import collect
from monitor import register
from monitor.history import open_history
from monitor.model import State
from monitor.register import Signature
from monitor.segments import read_records
from tests.monitor.builders import SITE, at, plan, service, span
from tests.monitor.sealing import HOUR, folder, hours_of, seal_hours, write
from thongsuot.verify import verify

PROVINCE = plan(service("mail", "smtp"), service("portal", "home"))


def put_on_record(state_dir: Path, made: float) -> None:
    """Announce an hour of work, and correct a quarter of an hour; a second correction waits."""
    lan, binh = Signature("Lan", "lan", at(made)), Signature("Bình", "binh", at(made + 60))
    with register.open_register(state_dir) as db:
        register.announce(db, SITE, "portal", span(HOUR, 2 * HOUR), "Thay ổ đĩa", lan)
        register.propose(db, SITE, "mail", span(HOUR + 5, HOUR + 900), State.MAINTENANCE, "Quên báo", lan)
        register.propose(db, SITE, "mail", span(0, 60), State.UP, "Chưa rõ", lan)
        register.approve(db, SITE, register.corrections(db, SITE)[0], "Đúng", binh)


def figures(state_dir: Path) -> str:
    with open_history(state_dir, SITE) as history:
        return json.dumps(as_json(gather(PROVINCE, history, span(0, 4 * HOUR), "thử")), ensure_ascii=False)


def test_the_figures_are_the_same_before_and_after_sealing_and_without_the_journal(tmp_path: Path) -> None:
    write(tmp_path, hours_of(4), ended=4 * HOUR)
    put_on_record(tmp_path, -100)
    before = figures(tmp_path)
    assert '"adjusted": {"seconds"' in before
    assert '"status": "proposed"' in before
    seal_hours(tmp_path, 4 * HOUR)
    assert figures(tmp_path) == before
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert figures(tmp_path) == before


def test_every_act_is_a_row_of_the_segment_with_who_when_and_why(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1), ended=HOUR)
    put_on_record(tmp_path, 100)
    (line,) = seal_hours(tmp_path, HOUR)
    rows = read_records(folder(tmp_path) / line.fields["file"], {"announcement", "correction"})
    said = [(kind, row["act"], row["author"], row["reason"]) for kind, row in rows]
    assert said == [
        ("announcement", "announced", "Lan", "Thay ổ đĩa"),
        ("correction", "proposed", "Lan", "Quên báo"),
        ("correction", "proposed", "Lan", "Chưa rõ"),
        ("correction", "approved", "Bình", "Đúng"),
    ]


def test_the_same_evidence_gives_the_same_files_and_a_later_record_is_named(tmp_path: Path) -> None:
    write(tmp_path, hours_of(4), ended=4 * HOUR)
    put_on_record(tmp_path, 100)

    def files() -> dict[str, bytes]:
        with open_history(tmp_path, SITE) as history:
            material = collect(PROVINCE, history, span(0, 4 * HOUR), "thử")
        return {f.name: f.read_bytes() for f in papers.write(material, tmp_path / "out", papers.FORMATS)}

    first = files()
    assert {"corrections.csv", "maintenance.csv", "adjusted.csv"} <= first.keys()
    assert files() == first
    with register.open_register(tmp_path) as db:
        asked = register.corrections(db, SITE)[1]
        register.reject(db, SITE, asked, "Không có căn cứ", Signature("Bình", "binh", at(9000)))
    assert json.loads(files()["figures.json"])["corrections_until"]["record"] == 4


def test_a_record_that_is_dated_back_is_found(tmp_path: Path) -> None:
    write(tmp_path, hours_of(3), ended=3 * HOUR)
    seal_hours(tmp_path, HOUR)
    # Sealed after the first hour; it claims to have been there before.
    put_on_record(tmp_path, 100)
    seal_hours(tmp_path, 3 * HOUR)
    (account,) = verify(tmp_path)
    assert {p.code for p in account.problems} == {"record-dated-back"}
    assert "ghi lùi ngày" in account.problems[0].text(PROVINCE.site.language)


def test_records_made_when_they_say_are_whole(tmp_path: Path) -> None:
    write(tmp_path, hours_of(3), ended=3 * HOUR)
    seal_hours(tmp_path, HOUR)
    put_on_record(tmp_path, 2 * HOUR)
    seal_hours(tmp_path, 3 * HOUR)
    (account,) = verify(tmp_path)
    assert account.problems == []
