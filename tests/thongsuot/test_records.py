"""Announcing work and correcting figures from the command line, beside a journal that a daemon may be writing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.journal import FILE_NAME, Journal
from probes.base import utc_now
from thongsuot.cli import app

CONFIG = """\
site: {id: lang-son, name: Sở TT&TT}
references: {gateway: {probe: icmp, host: 192.0.2.1}, far: {probe: icmp, host: 192.0.2.2}}
services:
  mail: {name: Thư điện tử, checks: {smtp: {probe: smtp, host: mail.example.vn}}}
  portal: {name: Cổng thông tin, checks: {web: {probe: http, url: "https://portal.example.vn/"}}}
"""


class Desk:
    """A configuration, a state directory, and somebody who types commands."""

    def __init__(self, folder: Path) -> None:
        self.config, self.state = folder / "tinh.yaml", folder / "state"
        self.config.write_text(CONFIG, "utf-8")

        async def once() -> None:
            await (await Journal.open(self.state, "lang-son")).close()

        asyncio.run(once())

    def type(self, group: str, verb: str, *words: str) -> tuple[int, str, str]:
        line = [group, verb, str(self.config), *words, "--state-dir", str(self.state)]
        result = CliRunner().invoke(app, line)
        return result.exit_code, result.stdout, result.stderr

    def json(self, group: str, verb: str, *words: str) -> Any:
        code, out, err = self.type(group, verb, *words, "--json")
        assert code == 0, err
        return json.loads(out)

    def rows(self, table: str) -> Sequence[tuple[object, ...]]:
        with sqlite3.connect(self.state / FILE_NAME) as db:
            return db.execute(f"SELECT * FROM {table}").fetchall()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def moment(minutes: float) -> str:
    return (utc_now() + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def span(start: float, end: float) -> tuple[str, ...]:
    return ("--from", moment(start), "--to", moment(end))


SAID = ("--reason", "Thay ổ đĩa", "--by", "Nguyễn Văn An")
OUTAGE = ("--state", "maintenance", "--reason", "Bảo trì quên báo", "--by", "Nguyễn Văn An")


def test_work_is_announced_listed_and_cancelled(desk: Desk) -> None:
    made = desk.json("maintenance", "add", "mail", *span(10, 70), *SAID)
    assert (made["subject"], made["standing"], made["by"], made["late"]) == ("mail", "planned", "Nguyễn Văn An", False)
    assert "1. Thư điện tử [sắp tới]" in desk.type("maintenance", "list")[1]

    ended = desk.json("maintenance", "cancel", "1", "--reason", "Hoãn", "--by", "Trần Thị Bình")
    assert (ended["standing"], ended["from"]) == ("ended", None)
    assert [row[2] for row in desk.rows("announcements")] == ["announced", "cancelled"]

    code, _, err = desk.type("maintenance", "cancel", "1", "--reason", "Hoãn", "--by", "Trần Thị Bình")
    assert (code, "was cancelled before" in err) == (2, True)


def test_what_is_announced_when_it_has_begun_counts_from_then_and_says_so(desk: Desk) -> None:
    code, out, err = desk.type("maintenance", "add", "mail.smtp", *span(-10, 60), *SAID, "--json")
    made = json.loads(out)
    assert (code, made["late"], made["from"]) == (0, True, made["at"])
    assert "chỉ tính bảo trì từ" in err


def test_what_is_over_is_no_maintenance_any_more(desk: Desk) -> None:
    code, _, err = desk.type("maintenance", "add", "mail", *span(-60, -10), *SAID)
    assert (code, "correct propose" in err) == (2, True)
    assert desk.rows("announcements") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mial", *span(600, 660), *SAID), "no service or check is called 'mial'"),
        (("mail", *span(660, 600), *SAID), "--to must lie after --from"),
        (("mail", *span(600, 660), "--reason", " ", "--by", "An"), "a reason is needed"),
        (("mail", *span(600, 660), "--reason", "Vá", "--by", " - "), "the name of a person"),
        (("mail", "--from", "mai", "--to", "2027-01-01", *SAID), "expected a local date or time"),
    ],
)
def test_words_that_do_not_fit_put_nothing_on_record(desk: Desk, words: tuple[str, ...], said: str) -> None:
    code, _, err = desk.type("maintenance", "add", *words)
    assert (code, said in err) == (2, True), err
    assert desk.rows("announcements") == []


def test_a_correction_needs_a_second_person(desk: Desk, tmp_path: Path) -> None:
    paper = tmp_path / "bien-ban.pdf"
    paper.write_bytes(b"minutes")
    made = desk.json("correct", "propose", "portal", *span(-120, -60), *OUTAGE, "--evidence", str(paper))
    assert (made["status"], made["evidence"]["name"], made["evidence"]["size"]) == ("proposed", "bien-ban.pdf", 7)

    for same in ("Nguyễn Văn An", "nguyen van  an", "NGUYỄN VĂN AN."):
        code, _, err = desk.type("correct", "approve", "1", "--by", same)
        assert (code, "somebody else has to approve it" in err) == (2, True)
    assert desk.json("correct", "list")[0]["status"] == "proposed"

    done = desk.json("correct", "approve", "1", "--by", "Trần Thị Bình", "--reason", "Đúng biên bản")
    assert (done["status"], done["decided_by"], done["decision"]) == ("approved", "Trần Thị Bình", "Đúng biên bản")
    code, _, err = desk.type("correct", "reject", "1", "--by", "Lê Văn Cường", "--reason", "Sai")
    assert (code, "that stands" in err) == (2, True)
    assert [row[2] for row in desk.rows("corrections")] == ["proposed", "approved"]


def test_an_author_may_withdraw_his_own(desk: Desk) -> None:
    desk.json("correct", "propose", "portal", *span(-120, -60), *OUTAGE)
    done = desk.json("correct", "reject", "1", "--by", "Nguyễn Văn An", "--reason", "Nhầm giờ")
    assert (done["status"], done["decision"]) == ("rejected", "Nhầm giờ")
    assert "không được duyệt" in desk.type("correct", "list")[1]


def test_a_correction_is_about_what_is_over_and_a_state_that_there_is(desk: Desk) -> None:
    code, _, err = desk.type("correct", "propose", "portal", *span(-10, 10), *OUTAGE)
    assert (code, "has not ended" in err) == (2, True)
    wrong = ("--state", "fine", "--reason", "Vá", "--by", "An")
    assert desk.type("correct", "propose", "portal", *span(-20, -10), *wrong)[0] == 2
    assert desk.type("correct", "approve", "7", "--by", "Bình")[0] == 2


def test_an_approval_written_past_the_command_line_by_the_author_does_not_count(desk: Desk) -> None:
    desk.json("correct", "propose", "portal", *span(-120, -60), *OUTAGE)
    with sqlite3.connect(desk.state / FILE_NAME) as db:
        db.execute(
            "INSERT INTO corrections"
            " (site, act, proposal, subject, from_ms, to_ms, state, reason, author, account, at_ms)"
            " SELECT site, 'approved', id, subject, from_ms, to_ms, state, '', author, '', at_ms FROM corrections"
        )
    assert desk.json("correct", "list")[0]["status"] == "proposed"


def test_records_are_never_changed_or_deleted(desk: Desk) -> None:
    desk.json("correct", "propose", "portal", *span(-120, -60), *OUTAGE)
    desk.json("maintenance", "add", "mail", *span(10, 70), *SAID)
    with sqlite3.connect(desk.state / FILE_NAME) as db:
        for table in ("corrections", "announcements"):
            for statement in (f"UPDATE {table} SET reason = ''", f"DELETE FROM {table}"):
                with pytest.raises(sqlite3.IntegrityError, match="a record is never"):
                    db.execute(statement)


def test_without_a_journal_nothing_can_be_put_on_record(desk: Desk) -> None:
    (desk.state / FILE_NAME).unlink()
    code, _, err = desk.type("maintenance", "add", "mail", *span(10, 70), *SAID)
    assert (code, "there is no journal" in err) == (70, True)
