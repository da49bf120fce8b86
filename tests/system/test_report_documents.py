"""From made-up evidence to every file of a report, through the command line, twice: the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thongsuot.test_simulate_event import CONFIG, HAPPENINGS

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def run(
    *words: str, hash_seed: str = "0", zone: str = "UTC", tongue: str = "C.UTF-8"
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "LC_ALL": tongue}
    return subprocess.run(
        [sys.executable, "-m", "thongsuot", *words], capture_output=True, text=True, env=env, check=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("event")
    (folder / "config.yaml").write_text(CONFIG, "utf-8")
    (folder / "scenario.yaml").write_text(HAPPENINGS, "utf-8")
    done = run(
        "simulate", "event", str(folder / "config.yaml"), "--event", "dem-hoi",
        "--scenario", str(folder / "scenario.yaml"), "--out", str(folder / "state"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def report(
    place: Path, out: str, *words: str, hash_seed: str = "0", zone: str = "UTC", tongue: str = "C.UTF-8"
) -> dict[str, bytes]:
    done = run(
        "report", str(place / "config.yaml"), *words, "--state-dir", str(place / "state"), "--out", str(place / out),
        "--format", "csv,json,xlsx,docx,pdf", hash_seed=hash_seed, zone=zone, tongue=tongue,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {p.name: p.read_bytes() for p in (place / out).iterdir()}


def test_another_process_in_another_zone_and_tongue_writes_the_same_bytes(place: Path) -> None:
    first = report(place, "one", "--event", "dem-hoi")
    second = report(place, "two", "--event", "dem-hoi", hash_seed="7", zone="America/New_York", tongue="C")
    assert first == second
    assert set(first) == {
        "bao-cao.docx", "bao-cao.pdf", "bao-cao.xlsx", "checks.csv", "congestion-episodes.csv",
        "congestion.csv", "figures.json", "incidents.csv", "outages.csv",
        "services.csv",
    }  # fmt: skip


def test_an_incident_is_reported_with_the_draft_of_form_03(place: Path) -> None:
    written = report(place, "incident", "--incident", "1", "--date", "2022-05-03")
    assert {"bao-cao-dot-xuat.docx", "bao-cao-dot-xuat.pdf", "du-thao-mau-03.docx", "du-thao-mau-03.pdf"} <= set(
        written
    )


def test_an_incident_that_there_is_not_is_wrong_use(place: Path) -> None:
    done = run(
        "report", str(place / "config.yaml"), "--incident", "99", "--state-dir", str(place / "state"),
        "--out", str(place / "none"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no incident 99" in done.stderr
