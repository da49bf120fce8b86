"""A peak beside the ordinary days before its event, and beside the peak of the event before."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from config.plan import EventPlan, Peak, Plan, ServiceKind, Window
from exporters.report import material, papers, post_event
from exporters.report.congestion import CongestionFigures, PathCongestion, Queues
from exporters.report.document import Document, Paragraph, Table
from exporters.report.peak_past import DAYS, PeakPast, ordinary_days, previous, read_pasts
from monitor.history import open_history
from monitor.journal import Batch
from monitor.model import Result
from probes.base import Reading
from tests.exporters.report_sample import figures
from tests.monitor.builders import SITE, at, bad, check, good, plan, result, service, span
from tests.monitor.sealing import HOUR, seal_hours, write
from thongsuot.reports import Beside, write_report

DAY = 24 * HOUR
YEAR = 355 * DAY  # a lunar one
PEAK = Peak("giao-thua", span(DAY - HOUR, DAY + HOUR), 5.0, ("carrier",))
TET = EventPlan("tet-2027", "Tết Đinh Mùi", span(0, 2 * DAY), (PEAK,))
OLD_PEAK = Peak("giao-thua", span(DAY - HOUR - YEAR, DAY + HOUR - YEAR), 5.0, ("carrier",))
OLD_TET = EventPlan("tet-2026", "Tết Bính Ngọ", span(-YEAR, 2 * DAY - YEAR), (OLD_PEAK,))
FAIR = EventPlan("hoi-xuan", "Hội xuân", span(-5 * DAY, -4 * DAY + 2 * HOUR))


def province(*events: EventPlan) -> Plan:
    return plan(
        service("mail", "smtp", name="Thư điện tử", kind=ServiceKind.MAIL),
        service(
            "carrier",
            check("carrier.ping", kind="icmp", every_s=600.0),
            check("carrier.web", every_s=600.0),
            name="Mạng VNPT",
            kind=ServiceKind.CARRIER,
        ),
        events=events,
    )


def evening(begin: float, took_s: float, *, lost: int = 0) -> list[Result]:
    """Twelve pings of three echoes each in the two hours from a moment on, some of the last of which were lost."""
    found = []
    for n in range(12):
        rtts = (took_s, took_s, None if n < lost else took_s)
        found.append(result("carrier.ping", begin + 600 * n, Reading(None, "", took_s, rtts_s=rtts)))
    return found


def live(state_dir: Path, *, last_year: bool = True) -> None:
    """Evenings of two ordinary days and the peak, maybe last year's; the web failed twice in the peak."""
    old = evening(DAY - HOUR - YEAR, 0.030, lost=6) if last_year else []
    usual = [
        *evening(-2 * DAY - HOUR, 0.010),
        good("mail.smtp", -2 * DAY - HOUR + 7000, took_s=0.5),
        *evening(-DAY - HOUR, 0.014, lost=1),
    ]
    noon = evening(-12 * HOUR, 0.200)  # another hour of the clock
    then = evening(DAY - HOUR, 0.040, lost=3)
    web = [good("carrier.web", DAY - 100, took_s=0.2), bad("carrier.web", DAY + 10), bad("carrier.web", DAY + 20)]
    now = sorted([*then, *web], key=lambda r: r.started_at)
    began = -YEAR if last_year else -3 * DAY
    batches = [Batch(results=some) for some in (old, [*usual, *noon], now) if some]
    write(state_dir, batches, started=began, ended=2 * DAY)


def pasts(state_dir: Path, of: Plan, compared: EventPlan | None = None) -> tuple[PeakPast, ...]:
    with open_history(state_dir, SITE) as history:
        return read_pasts(of, history, TET.window, [PEAK], compared)


def test_ordinary_days_lie_within_a_fortnight_before_the_event_and_belong_to_no_event() -> None:
    found = ordinary_days(province(TET, FAIR), PEAK, TET.window)
    starts = [(w.start - at(-HOUR)) // timedelta(days=1) for w in found]
    assert starts == [-13, -12, -11, -10, -9, -8, -7, -6, -3, -2, -1]
    assert all((w.end - w.start).total_seconds() == 2 * HOUR for w in found)
    assert min(w.start for w in found) >= at(-DAYS * DAY)


def test_a_peak_of_days_is_set_beside_spans_that_do_not_overlap() -> None:
    long = replace(PEAK, window=span(0, 30 * HOUR))
    found = ordinary_days(province(replace(TET, peaks=(long,))), long, TET.window)
    assert len(found) == 7
    assert all(a.end <= b.start for a, b in pairwise(found))


def test_the_peak_before_is_that_of_the_compared_event_or_of_the_last_event_with_one() -> None:
    older = replace(
        OLD_TET, id="tet-2025", peaks=(replace(OLD_PEAK, window=span(DAY - HOUR - 2 * YEAR, DAY + HOUR - 2 * YEAR)),)
    )
    of = province(older, TET, OLD_TET, FAIR)
    assert previous(of, PEAK) == OLD_TET
    assert previous(of, PEAK, older) == older
    assert previous(of, PEAK, FAIR) == OLD_TET  # it has no such peak
    assert previous(of, OLD_PEAK) == older
    assert previous(province(TET), PEAK) is None


def test_only_the_same_hours_and_the_checks_of_the_peak_are_read(tmp_path: Path) -> None:
    live(tmp_path)
    (found,) = pasts(tmp_path, province(OLD_TET, TET))
    assert [t.id for t in found.targets] == ["carrier.ping", "carrier.web"]
    then, usual, earlier = (some["carrier.ping"] for some in (found.then, found.usual, found.earlier))
    assert (then.windows, then.good, then.median_s, then.lost) == (1, 12, 0.040, 3 / 36)
    assert (usual.windows, usual.good, usual.low_s, usual.high_s) == (2, 24, 0.010, 0.014)
    assert usual.median_s == pytest.approx(0.012)
    assert usual.lost == 1 / 72
    assert (earlier.good, earlier.median_s, earlier.lost) == (12, 0.030, 6 / 36)
    web = found.then["carrier.web"]
    assert (web.good, web.bad, web.lost) == (1, 2, 2 / 3)


def test_sealed_evidence_says_the_same_as_the_journal(tmp_path: Path) -> None:
    live(tmp_path, last_year=False)
    of = province(OLD_TET, TET)
    before = pasts(tmp_path, of)
    assert seal_hours(tmp_path, 2 * DAY)
    assert pasts(tmp_path, of) == before


def test_a_peak_of_all_services_is_told_by_the_main_check_of_each(tmp_path: Path) -> None:
    live(tmp_path)
    everything = replace(PEAK, services=())
    with open_history(tmp_path, SITE) as history:
        (found,) = read_pasts(province(TET), history, TET.window, [everything])
    assert [t.id for t in found.targets] == ["mail.smtp", "carrier.ping"]
    assert found.usual["mail.smtp"].good == 1


def test_without_a_peak_nothing_is_read(tmp_path: Path) -> None:
    live(tmp_path, last_year=False)
    with open_history(tmp_path, SITE) as history:
        assert read_pasts(province(TET), history, TET.window, []) == ()


# The table.


def told(state_dir: Path, of: Plan, *, compared: CongestionFigures | None = None) -> Document:
    with open_history(state_dir, SITE) as history:
        found = material.collect(of, history, TET.window, TET.name, TET)
        read = read_pasts(of, history, TET.window, found.figures.peaks)
    other = replace(figures(), congestion=compared) if compared else None
    return post_event.build(replace(found, pasts=read, compared=other))


def rows_of(document: Document) -> Sequence[tuple[str, ...]]:
    (table,) = [b for b in document.blocks if isinstance(b, Table) and "ngày thường trước sự kiện" in b.caption]
    return table.rows


def test_each_check_has_three_rows_in_plain_vietnamese(tmp_path: Path) -> None:
    live(tmp_path)
    document = told(tmp_path, province(OLD_TET, TET))
    ping = rows_of(document)[:3]
    assert [row[0] for row in ping] == ["Mạng VNPT: Phép kiểm tra ping", "", ""]
    assert ping[0][1:] == ("Giờ cao điểm này", "12 / 12", "40,0", "30,0", "8,33%")
    assert ping[1][1:] == (
        "Cùng khung giờ, 2 ngày thường trước sự kiện", "24 / 24", "12,0\n(10,0 – 14,0)", "–", "1,39%",
    )  # fmt: skip
    assert ping[2][1] == ("Giờ cao điểm kỳ trước (Tết Bính Ngọ, từ 23:00 ngày 16/02/2026 đến 01:00 ngày 17/02/2026)")
    assert ping[2][2:] == ("12 / 12", "30,0", "–", "16,67%")
    notes = [b.text for b in document.blocks if isinstance(b, Paragraph)]
    assert any("hàng đợi đêm nào cũng có vẫn được ghi nhận là hàng đợi" in text for text in notes)


def test_what_the_evidence_does_not_hold_is_said_to_be_missing(tmp_path: Path) -> None:
    live(tmp_path, last_year=False)
    rows = rows_of(told(tmp_path, province(OLD_TET, TET)))
    assert rows[2][2:] == ("không có số liệu", "–", "–", "–")
    assert rows[3][:3] == ("Mạng VNPT: Phép kiểm tra web", "Giờ cao điểm này", "1 / 3")
    assert rows[4][1:] == ("Cùng khung giờ, ngày thường trước sự kiện", "không có số liệu", "–", "–", "–")
    assert rows_of(told(tmp_path, province(TET)))[2][1:3] == ("Giờ cao điểm kỳ trước", "không có số liệu")


def test_queues_of_the_peak_before_are_those_of_the_compared_figures(tmp_path: Path) -> None:
    live(tmp_path)
    start = OLD_PEAK.window.start.timestamp()
    queues = Queues([start - 300, start, start + 300], [90.0, 5.0, 6.5])
    path = PathCongestion("carrier.ping", 3, (Window(OLD_PEAK.window.start, OLD_PEAK.window.end),), queues=queues)
    rows = rows_of(told(tmp_path, province(OLD_TET, TET), compared=CongestionFigures({"carrier.ping": path})))
    assert rows[2][4] == "6,5"


def test_the_command_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    live(tmp_path / "state")
    of = replace(province(OLD_TET, TET), state_dir=tmp_path / "state")

    def written(name: str) -> bytes:
        beside = Beside(TET, OLD_TET, at(30 * DAY))
        (file,) = write_report(of, TET.window, TET.name, tmp_path / name, ["docx"], beside)
        assert file.name == f"{papers.REPORT}.docx"
        with zipfile.ZipFile(file) as word:
            assert "Cùng khung giờ, 2 ngày thường trước sự kiện" in word.read("word/document.xml").decode()
        return file.read_bytes()

    assert written("one") == written("two")
