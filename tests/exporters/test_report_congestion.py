"""From the packets in the journal and the evidence to what the files of a report say of congestion."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from exporters.report import papers
from exporters.report.congestion import CONGESTION, CongestionFigures, Queues, judged_checks
from exporters.report.congestion_evidence import assess
from monitor.history import open_history
from monitor.journal import Batch
from probes.base import Reading
from tests.exporters.report_sample import PING, episode, figures, judged, material, province
from tests.monitor.builders import SITE, at, result, span
from tests.monitor.rtts import HOUR, lay, queue
from tests.monitor.rtts import T0 as BEGAN
from tests.monitor.rtts import path as quiet_path
from tests.monitor.sealing import seal_hours, write

PLAN = province()
HOURS = 27
PERIOD = span(7 * HOUR, HOURS * HOUR)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Twenty-seven hours of echoes, with a queue of 20 ms for forty minutes."""
    packets = lay(quiet_path(HOURS, every_s=20.0), 9, 40, queue(20))
    results = [
        result(PING, p.at - BEGAN, Reading(None, "", p.rtt_s or 0.0, rtts_s=(p.rtt_s,)), path="vnpt") for p in packets
    ]
    write(tmp_path, [Batch(results=results)], ended=HOURS * HOUR)
    return tmp_path


def assessed(state_dir: Path) -> CongestionFigures:
    with open_history(state_dir, SITE) as history:
        found = assess(PLAN, history, PERIOD)
    assert found is not None
    return found


def test_the_evidence_is_judged_and_says_the_same_when_it_is_sealed(state_dir: Path) -> None:
    found = assessed(state_dir)
    path = found.paths[PING]
    (seen,) = path.episodes
    assert seen.cause == CONGESTION
    assert abs((seen.start - at(9 * HOUR)).total_seconds()) < 60
    assert abs((seen.end - at(9 * HOUR + 2400)).total_seconds()) < 60
    assert 16 <= seen.peak_ms <= 25
    assert path.expected == 20 * 12
    assert path.coverage(PERIOD) == 1.0
    assert path.limit is not None
    assert path.limit.trials >= 12
    assert found.limit is None  # nothing was measured on the other network's path
    seal_hours(state_dir, (HOURS - 2) * HOUR)
    assert assessed(state_dir) == found


def test_without_any_packet_nothing_is_judged(tmp_path: Path) -> None:
    write(tmp_path, [Batch()], ended=HOUR)
    with open_history(tmp_path, SITE) as history:
        assert assess(PLAN, history, PERIOD) is None


def test_networks_are_judged_by_their_echoes_and_without_networks_every_service() -> None:
    assert list(judged_checks(PLAN)) == [PING, "cap-ii.uy-ban"]


def test_the_largest_queue_of_each_step_is_drawn() -> None:
    queues = Queues([at(300.0 * i).timestamp() for i in range(6)], [1.0, 5.0, 2.0, 2.0, 0.0, 9.0])
    assert list(queues.points(600, at(0))) == [(at(0), 5.0), (at(600), 2.0), (at(1200), 9.0)]
    assert queues.most() == (9.0, at(1500))
    assert queues.at_most(0.5) == 2.0
    assert (Queues().most(), Queues().at_most(0.95), list(Queues().points(600, at(0)))) == (None, None, [])


def test_every_format_has_the_assessment(tmp_path: Path) -> None:
    made = material(figures(congestion=judged(episode(600, 4000))))
    papers.write(made, tmp_path, ["csv", "json", "xlsx"])
    found = json.loads((tmp_path / "figures.json").read_text("utf-8"))["congestion"]
    assert (found["verdict"], found["detection_limit"]) == ("found", {"queue_ms": 8.4, "minutes": 15.0, "trials": 24})
    (told,) = found["checks"][0]["episodes"]
    assert (told["seconds"], told["severity"], told["lost"]) == (3400.0, "moderate", 12)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "congestion.csv").read_text("utf-8-sig"))))
    assert [(r["id"], r["congested_s"], r["limit_queue_ms"]) for r in rows] == [
        (PING, "3400.0", "8.4"),
        ("cap-ii.uy-ban", "0", "8.4"),
    ]
    episodes = list(csv.DictReader(io.StringIO((tmp_path / "congestion-episodes.csv").read_text("utf-8-sig"))))
    assert [(e["id"], e["cause"]) for e in episodes] == [(PING, CONGESTION)]
    with zipfile.ZipFile(tmp_path / "bao-cao.xlsx") as book:
        names, texts = book.read("xl/workbook.xml").decode(), book.read("xl/sharedStrings.xml").decode()
    assert all(f'name="{sheet}"' in names for sheet in ("Nghẽn mạng", "Các đợt nghẽn", "Hàng đợi"))
    assert all(f">{text}<" in texts for text in ("Giới hạn phát hiện (ms)", PING, "nghẽn", "vừa"))
