"""What docs/evidence.md shows is run as it stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from monitor import segments
from monitor.chain import CHAIN_FILE
from tests.monitor.sealing import HOUR, chain, folder, hours_of, seal_hours, write

MANUAL = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    write(tmp_path, hours_of(3), ended=3 * HOUR)
    seal_hours(tmp_path, 3 * HOUR)
    return folder(tmp_path)


def check_by_hand(evidence: Path) -> list[str]:
    (script,) = blocks("sh")
    done = subprocess.run(["sh", "-c", script, "check.sh", str(evidence)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_public_tools_alone_find_whole_evidence_whole(evidence: Path) -> None:
    head = chain(evidence.parent.parent)[-1].head
    assert check_by_hand(evidence) == [f"3 lines, head {head}"]


def test_public_tools_alone_find_what_was_changed(evidence: Path) -> None:
    links = chain(evidence.parent.parent)
    file = evidence / links[0].fields["file"]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    text = (evidence / CHAIN_FILE).read_text()
    (evidence / CHAIN_FILE).write_text(text.replace('"number":2', '"number":4'))
    assert check_by_hand(evidence)[:-1] == [
        f"line 1: {links[0].fields['file']} is missing or changed",
        "line 2: the signature fails",
        "line 3 does not follow the line before it",
    ]


@pytest.mark.parametrize("number", range(len(blocks("sql"))))
def test_the_queries_answer(evidence: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(evidence)
    with duckdb.connect() as db:
        rows = db.execute(blocks("sql")[number]).fetchall()
    assert rows
    if "COPY" in blocks("sql")[number]:
        assert len((evidence / "mail-smtp.csv").read_text().splitlines()) == 1 + 180


def test_every_column_is_explained() -> None:
    for name in segments.SCHEMA.names:
        if name not in ("connect_us", "tls_us", "processing_us"):
            assert f"`{name}`" in MANUAL, name
