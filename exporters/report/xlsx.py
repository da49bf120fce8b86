"""The figures as an Excel workbook: numbers as numbers, times as local times, one sheet a table, heads frozen, charts.

Texts are written as texts, whatever they begin with: none of them can become a formula.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import xlsxwriter

from config.calendar import days_of, lunar_label
from config.plan import ServiceKind, ServicePlan, Window
from exporters import text_report as words
from exporters.report import claims, tables, xlsx_congestion, xlsx_records
from exporters.report.archive import steady_zip
from exporters.report.congestion import CongestionFigures, main_check
from exporters.report.figures import PERCENTILES, Figures, slowest_s, within
from exporters.report.letter import SIMULATED_BANNER
from exporters.report.material import Material, charted
from exporters.text import fault_phrase, kind_word, state_word
from monitor.availability import Account, failure_bound, percent_digits
from monitor.model import State

_SECONDS: Final = "#,##0"
_SHARE: Final = "0.00%"
_TIME: Final = "dd/mm/yyyy hh:mm:ss"
_MS: Final = "#,##0.0"
_WIDEST: Final = 48  # characters


@dataclass(frozen=True, slots=True)
class Head:
    """A column: its title and how its numbers are shown."""

    title: str
    form: str = "General"


@dataclass(frozen=True, slots=True)
class Shown:
    """A number with a form of its own, not its column's."""

    value: float
    form: str


Row = Sequence[str | float | datetime | Shown | None]
_ACCOUNT: Final = (
    *(Head(f"{state_word(s).capitalize()} (giây)", _SECONDS) for s in State),
    Head("Độ khả dụng", _SHARE),
    Head("Thấp nhất", _SHARE),
    Head("Cao nhất", _SHARE),
    Head("Độ phủ đo", _SHARE),
    Head("Căn cứ"),
    Head("Số lần gián đoạn", _SECONDS),
    Head("Gián đoạn dài nhất (giây)", _SECONDS),
    Head("Gián đoạn ít nhất (giây)", _SECONDS),
    Head("Gián đoạn nhiều nhất (giây)", _SECONDS),
)


def write(material: Material) -> bytes:
    """Return the workbook as an .xlsx file."""
    return _Book(material).write()


class _Book:
    def __init__(self, material: Material) -> None:
        self._material = material
        self._content = io.BytesIO()
        self._book = xlsxwriter.Workbook(
            self._content,
            {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "default_date_format": _TIME},
        )
        figures = material.figures
        self._zone: ZoneInfo = figures.plan.site.timezone
        self._book.set_properties(
            {
                "title": figures.title,
                "author": figures.plan.site.name,
                "created": figures.period.end.replace(tzinfo=None),
            }
        )
        self._bold = self._book.add_format(
            {"bold": True, "text_wrap": True, "border": 1, "bg_color": "#E8EEF4", "valign": "vcenter"}
        )
        self._forms: dict[str, Any] = {}

    def write(self) -> bytes:
        figures = self._material.figures
        self._about(figures)
        self._services(figures)
        self._days(figures)
        self._peaks(figures)
        self._checks(figures)
        self._carriers(figures)
        if figures.congestion is not None:
            self._congestion(figures, figures.congestion)
        self._outages(figures)
        self._incidents(figures)
        self._blind(figures)
        for page in xlsx_records.sheets(figures):
            self._plain_sheet(page)
        self._responses()
        if self._material.compared is not None:
            self._comparison(figures, self._material.compared)
        self._book.close()
        return steady_zip(self._content.getvalue())

    # Each sheet.

    def _about(self, figures: Figures) -> None:
        period = figures.period
        rows: list[Row] = [
            ("Đơn vị", figures.plan.site.name),
            ("Kỳ báo cáo", figures.title),
            ("Từ", self._local(period.start)),
            ("Đến", self._local(period.end)),
            ("Múi giờ", self._zone.key),
            ("Mã băm SHA-256 của cấu hình", figures.plan.digest),
            ("Ghi chú", SIMULATED_BANNER if figures.simulated else ""),
        ]
        self._sheet("Giới thiệu", (Head("Mục"), Head("Nội dung")), rows)

    def _services(self, figures: Figures) -> None:
        heads = (Head("Hệ thống, dịch vụ"), Head("Loại"), *_ACCOUNT, Head("Số lượt đo", _SECONDS), Head("MTTR (giây)"))
        rows: list[Row] = []
        for service in figures.plan.services:
            account = figures.services[service.id].account(figures.period)
            rows.append(
                (
                    service.name,
                    kind_word(service.kind),
                    *_account(account, slowest_s(service, figures.period), figures.rounds(service)),
                    figures.rounds(service),
                    account.mean_repair_s,
                )
            )
        sheet = self._sheet("Tổng hợp", heads, rows)
        chart = self._book.add_chart({"type": "bar", "subtype": "percent_stacked"})
        for i, (state, colour) in enumerate(
            zip(State, ("#D9D9D9", "#9CCC9C", "#F0C648", "#E07B00", "#A3001B", "#B9C7D6"), strict=True), 2
        ):
            chart.add_series(
                {
                    "name": state_word(state),
                    "categories": ["Tổng hợp", 1, 0, len(rows), 0],
                    "values": ["Tổng hợp", 1, i, len(rows), i],
                    "fill": {"color": colour},
                }
            )
        chart.set_title({"name": "Thời gian theo trạng thái"})
        chart.set_y_axis({"reverse": True})
        chart.set_size({"width": 760, "height": 120 + 34 * len(rows)})
        sheet.insert_chart(len(rows) + 2, 0, chart)

    def _days(self, figures: Figures) -> None:
        heads = (Head("Ngày", "dd/mm/yyyy"), Head("Âm lịch"), Head("Hệ thống, dịch vụ"), *_ACCOUNT)
        rows: list[Row] = [
            (
                datetime(d.day.year, d.day.month, d.day.day),  # noqa: DTZ001  Excel has no time zones
                lunar_label(d.day),
                s.name,
                *_service(figures, s, d.window),
            )
            for d in days_of(figures.period, self._zone)
            for s in figures.plan.services
        ]
        self._sheet("Theo ngày", heads, rows)

    def _peaks(self, figures: Figures) -> None:
        heads = (Head("Từ", _TIME), Head("Đến", _TIME), Head("Hệ thống, dịch vụ"), *_ACCOUNT)
        rows: list[Row] = []
        for peak in figures.peaks:
            window = within(peak, figures.period)
            rows += [
                (
                    self._local(window.start),
                    self._local(window.end),
                    s.name,
                    *_service(figures, s, window),
                )
                for s in figures.plan.services
                if not peak.services or s.id in peak.services
            ]
        self._sheet("Cao điểm", heads, rows)

    def _checks(self, figures: Figures) -> None:
        heads = (
            Head("Mã"),
            Head("Tên"),
            Head("Loại"),
            Head("Kênh truyền"),
            Head("Chu kỳ (giây)", "0.###"),
            *_ACCOUNT,
            *(Head(f"Đáp ứng {round(p * 100)}% (ms)", _MS) for p in PERCENTILES),
            Head("Lượt tốt", _SECONDS),
            Head("Lượt hỏng", _SECONDS),
            Head("Không đo được", _SECONDS),
            Head("Gói gửi", _SECONDS),
            Head("Gói mất", _SECONDS),
        )
        rows: list[Row] = []
        for target in figures.plan.targets():
            found = figures.responses.get(target.id)
            times = found.at_ranks(PERCENTILES) if found else [None] * len(PERCENTILES)
            rows.append(
                (
                    target.id,
                    target.name,
                    target.probe.kind,
                    target.path.name if target.path else "mặc định",
                    target.every_s,
                    *_account(
                        figures.checks[target.id].account(figures.period),
                        target.every_s,
                        found.good + found.bad if found else 0,
                    ),
                    *(_ms(t) for t in times),
                    *(
                        (found.good, found.bad, found.blind, found.echoes_sent, found.echoes_lost)
                        if found
                        else (0,) * 5
                    ),
                )
            )
        self._sheet("Phép kiểm tra", heads, rows)

    def _carriers(self, figures: Figures) -> None:
        heads = (
            Head("Nhà mạng"),
            Head("Kênh đo"),
            Head("Trung vị (ms)", _MS),
            Head("95% (ms)", _MS),
            Head("Lớn nhất (ms)", _MS),
            Head("Gói gửi", _SECONDS),
            Head("Gói mất", _SECONDS),
            Head("Tỷ lệ mất gói", "0.00%"),
        )
        rows: list[Row] = []
        for service in figures.plan.services:
            target = main_check(service)
            found = figures.responses.get(target.id)
            if service.kind is not ServiceKind.CARRIER or found is None:
                continue
            median, high, most = found.at_ranks((0.5, 0.95, 1.0))
            sent, lost = found.echoes_sent, found.echoes_lost
            rows.append(
                (
                    service.name,
                    target.path.name if target.path else "mặc định",
                    _ms(median),
                    _ms(high),
                    _ms(most),
                    sent,
                    lost,
                    lost / sent if sent else None,
                )
            )
        sheet = self._sheet("Nhà mạng", heads, rows)
        if rows:
            chart = self._book.add_chart({"type": "column"})
            for column, name in ((2, "Trung vị"), (3, "95%")):
                chart.add_series(
                    {
                        "name": name,
                        "categories": ["Nhà mạng", 1, 0, len(rows), 0],
                        "values": ["Nhà mạng", 1, column, len(rows), column],
                    }
                )
            chart.set_title({"name": "Thời gian đáp ứng (ms)"})
            sheet.insert_chart(len(rows) + 2, 0, chart)

    def _congestion(self, figures: Figures, found: CongestionFigures) -> None:
        step_s = self._material.step.total_seconds()
        for page in xlsx_congestion.sheets(figures, found):
            self._plain_sheet(page)
        page = xlsx_congestion.queues(figures, found, step_s)
        sheet = self._plain_sheet(page)
        if not page.rows:
            return
        last = len(page.rows)
        chart = self._book.add_chart({"type": "line"})
        for column in range(1, len(page.heads)):
            chart.add_series(
                {
                    "name": [page.name, 0, column],
                    "categories": [page.name, 1, 0, last, 0],
                    "values": [page.name, 1, column, last, column],
                    "line": {"width": 1.25},
                }
            )
        chart.set_title({"name": "Độ trễ hàng đợi (ms)"})
        chart.set_size({"width": 900, "height": 320})
        sheet.insert_chart(1, len(page.heads) + 1, chart)

    def _plain_sheet(self, page: xlsx_congestion.Sheet) -> Any:
        rows = [[self._local(c) if isinstance(c, datetime) else c for c in row] for row in page.rows]
        return self._sheet(page.name, [Head(*h) for h in page.heads], rows)

    def _outages(self, figures: Figures) -> None:
        heads = (
            Head("Hệ thống, dịch vụ"),
            Head("Bắt đầu sớm nhất", _TIME),
            Head("Bắt đầu muộn nhất", _TIME),
            Head("Kết thúc sớm nhất", _TIME),
            Head("Kết thúc muộn nhất", _TIME),
            Head("Kéo dài (giây)", _SECONDS),
            Head("Lý do"),
            Head("Chi tiết"),
        )
        rows: list[Row] = [
            (
                s.name,
                self._local(o.earliest_start),
                self._local(o.start),
                self._local(o.earliest_end),
                self._local(o.end),
                (o.end - o.start).total_seconds(),
                fault_phrase(o.fault, state=State.DOWN),
                o.detail,
            )
            for s in figures.plan.services
            for o in figures.services[s.id].outages
        ]
        self._sheet("Gián đoạn", heads, rows)

    def _incidents(self, figures: Figures) -> None:
        heads = (
            Head("Số"),
            Head("Hệ thống, dịch vụ"),
            Head("Mức nặng nhất"),
            Head("Bắt đầu", _TIME),
            Head("Xác nhận", _TIME),
            Head("Kết thúc", _TIME),
            Head("Nguyên nhân ghi nhận"),
        )
        rows: list[Row] = [
            (
                i.id,
                tables.subject_name(figures.plan, i),
                state_word(i.state),
                self._local(i.began_at),
                self._local(i.confirmed_at),
                self._local(i.ended_at) if i.ended_at else None,
                tables.incident_cause(figures, i),
            )
            for i in figures.incidents
        ]
        self._sheet("Sự cố", heads, rows)

    def _blind(self, figures: Figures) -> None:
        heads = (
            Head("Từ", _TIME),
            Head("Đến", _TIME),
            Head("Kéo dài (giây)", _SECONDS),
            Head("Số phép kiểm tra", _SECONDS),
            Head("Lý do"),
        )
        rows: list[Row] = [
            (self._local(b.start), self._local(b.end), (b.end - b.start).total_seconds(), b.checks, b.cause)
            for b in claims.blind(figures)
        ]
        self._sheet("Không có số liệu", heads, rows)

    def _responses(self) -> None:
        material = self._material
        services = charted(material.plan)
        heads = [Head("Thời điểm", _TIME)]
        for service in services:
            heads += [Head(f"{service.name}: trung vị (ms)", _MS), Head(f"{service.name}: 95% (ms)", _MS)]
        by_time: dict[datetime, list[float | None]] = {}
        for i, service in enumerate(services):
            for p in material.series.get(main_check(service).id, ()):
                cells = by_time.setdefault(p.start, [None] * (2 * len(services)))
                cells[2 * i], cells[2 * i + 1] = _ms(p.median_s), _ms(p.p95_s)
        rows: list[Row] = [(self._local(at), *by_time[at]) for at in sorted(by_time)]
        sheet = self._sheet("Đáp ứng", heads, rows)
        chart = self._book.add_chart({"type": "line"})
        for i, service in enumerate(services):
            chart.add_series(
                {
                    "name": service.name,
                    "categories": ["Đáp ứng", 1, 0, len(rows), 0],
                    "values": ["Đáp ứng", 1, 2 * i + 2, len(rows), 2 * i + 2],
                    "line": {"width": 1},
                }
            )
        chart.set_title({"name": "Thời gian đáp ứng, 95% (ms)"})
        chart.set_x_axis({"date_axis": False, "num_format": "dd/mm hh:mm", "interval_unit": max(1, len(rows) // 12)})
        chart.set_size({"width": 900, "height": 360})
        sheet.insert_chart(1, len(heads) + 1, chart)

    def _comparison(self, figures: Figures, other: Figures) -> None:
        heads = [Head("Ngày")]
        for f in (figures, other):
            heads += [
                Head(f"{f.title}: số lần gián đoạn", _SECONDS),
                Head(f"{f.title}: gián đoạn (giây)", _SECONDS),
                Head(f"{f.title}: độ phủ thấp nhất", _SHARE),
            ]
        rows: list[Row] = []
        for label, mine, theirs in tables.paired_days(figures, other):
            cells: list[float | None] = []
            for f, window in ((figures, mine), (other, theirs)):
                cells += tables.day_totals(f, window) if window else [None] * 3
            rows.append((label, *cells))
        self._sheet("So sánh", heads, rows)

    # How a sheet is written.

    def _sheet(self, name: str, heads: Sequence[Head], rows: Sequence[Row]) -> Any:
        sheet = self._book.add_worksheet(name)
        for column, head in enumerate(heads):
            sheet.write_string(0, column, head.title, self._bold)
            longest = max((len(r[column]) for r in rows if isinstance(r[column], str)), default=0)  # type: ignore[arg-type]
            sheet.set_column(column, column, min(max(len(head.title) * 0.6, longest, 11), _WIDEST))
        for number, row in enumerate(rows, 1):
            for column, (head, value) in enumerate(zip(heads, row, strict=True)):
                self._cell(sheet, number, column, value, head.form)
        sheet.freeze_panes(1, 1)
        sheet.set_row(0, 45)
        sheet.set_landscape()
        sheet.set_paper(9)  # A4
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        sheet.autofilter(0, 0, max(len(rows), 1), len(heads) - 1)
        return sheet

    def _cell(self, sheet: Any, row: int, column: int, value: object, form: str) -> None:
        if isinstance(value, str):
            sheet.write_string(row, column, value)
        elif isinstance(value, Shown):
            sheet.write_number(row, column, value.value, self._form(value.form))
        elif isinstance(value, datetime):
            sheet.write_datetime(row, column, value, self._form(form if form != "General" else _TIME))
        elif isinstance(value, int | float):
            sheet.write_number(row, column, value, self._form(form))

    def _form(self, form: str) -> Any:
        if form not in self._forms:
            self._forms[form] = self._book.add_format({"num_format": form})
        return self._forms[form]

    def _local(self, at: datetime) -> datetime:
        """Excel has no time zones: the clock of the site, said on the first sheet."""
        return at.astimezone(self._zone).replace(tzinfo=None)


def _service(figures: Figures, service: ServicePlan, window: Window) -> tuple[str | float | Shown | None, ...]:
    account = figures.services[service.id].account(window)
    return _account(account, slowest_s(service, window), figures.rounds(service, window))


def _account(account: Account, resolution_s: float, rounds: int) -> tuple[str | float | Shown | None, ...]:
    """Return the cells of an account: shares as in the report, with the decimals that the interval carries."""
    share = account.share
    window_s = (account.window.end - account.window.start).total_seconds()
    digits = percent_digits(resolution_s, window_s)
    form = "0." + "0" * digits + "%" if digits else "0%"
    flawless = share.value is not None and share.value >= 1.0
    doubt = failure_bound(rounds) if flawless else 0.0

    def down(value: float | None) -> Shown | None:
        return None if value is None else Shown(words.floor_share(value * (1.0 - doubt), digits), form)

    grounds = words.NOT_ENOUGH_WORDS if not share.enough else "đủ; cận dưới 95%" if flawless else "đủ"
    return (
        *(account.seconds[s] for s in State),
        down(share.value) if share.enough else None,
        down(share.least),
        None if share.most is None else Shown(words.ceil_share(share.most, digits), form),
        words.floor_share(share.coverage, 2),
        grounds,
        account.outages,
        account.longest_s,
        account.down_least_s,
        account.down_most_s,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
