"""The way to what failed, wherever people read of the incident: the report, the page, the interface for programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exporters.report import incident_report
from exporters.report.document import Table
from exporters.web import page, status
from monitor.board import Board
from monitor.model import State
from monitor.traced import Moment, RouteTrace
from tests.exporters.builders import NOW, break_service, incident, province
from tests.exporters.report_sample import figures, material
from tests.monitor.builders import SITE, at

CUT = RouteTrace(
    SITE,
    1,
    Moment.OPENED,
    at(-7190),
    "mail.smtp",
    "mail.langson.gov.vn",
    "vnpt",
    reached=False,
    route=("192.0.2.1", "*", "198.51.100.7"),
    times_ms=(0.4, None, 12.25),
    before=("192.0.2.1", "192.0.2.9", "198.51.100.7", "203.162.4.191"),
    before_at=at(-9000),
)
WHOLE = replace(CUT, moment=Moment.RECOVERED, at=at(-5990), reached=True, route=CUT.before, times_ms=(0.4, 1.0, 12, 13))
STOPS = "Đường đi tới mail.langson.gov.vn dừng ở trạm thứ 3 (198.51.100.7)."


def test_the_report_of_an_incident_has_a_table_of_its_ways_hop_by_hop() -> None:
    other = replace(CUT, incident=2, host="another.example.vn")
    made = replace(figures(), traces=(CUT, other, WHOLE))
    report = incident_report.build(replace(material(made), incident=made.incidents[0]))

    (table,) = (b for b in report.blocks if isinstance(b, Table) and b.columns[-1].title == "Từng trạm")
    assert [row[0].partition(", ")[2] for row in table.rows] == ["khi sự cố bắt đầu", "khi đã thông trở lại"]
    assert str(table.rows[0][1]).startswith(STOPS)
    assert "203.162.4.191" in str(table.rows[0][1])  # what came next when all was well
    assert table.rows[0][2] == "1 192.0.2.1 0.4 ms, 2 *, 3 198.51.100.7 12.2 ms"
    assert str(table.rows[1][1]).startswith("Đường đi tới mail.langson.gov.vn thông, 4 trạm.")


def test_a_report_without_a_trace_has_no_such_table() -> None:
    made = figures()
    report = incident_report.build(replace(material(made), incident=made.incidents[0]))
    assert not [b for b in report.blocks if isinstance(b, Table) and b.columns[-1].title == "Từng trạm"]


def traced_board() -> Board:
    board = province()
    break_service(board, "mail", State.DOWN, incident(1, "mail"))
    board.traces[1] = [CUT, replace(CUT, moment=Moment.LATER, route=("192.0.2.1",), times_ms=(0.5,))]
    return board


def test_the_page_shows_the_last_way_with_the_incident() -> None:
    text = page.render(traced_board(), NOW, alive=True)
    assert "dừng ở trạm thứ 1 (192.0.2.1)" in text
    assert "vài phút sau" in text
    assert 'title="1 192.0.2.1 0.5 ms"' in text
    assert STOPS not in text  # the one before


def test_the_interface_for_programs_has_every_way_with_its_hops() -> None:
    board = traced_board()
    told: Any = status.incident(board, board.open_incidents[1], NOW)["traces"]
    first, second = told
    assert (first["moment"], first["check"], first["path"], first["reached"]) == ("opened", "mail.smtp", "vnpt", False)
    assert first["last_hop"] == {"number": 3, "address": "198.51.100.7"}
    assert first["hops"] == [
        {"address": "192.0.2.1", "rtt_ms": 0.4},
        {"address": None, "rtt_ms": None},
        {"address": "198.51.100.7", "rtt_ms": 12.25},
    ]
    assert first["before"][-1] == "203.162.4.191"
    assert first["text"].startswith(STOPS)
    assert second["moment"] == "later"
