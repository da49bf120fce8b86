"""The sheets of a workbook about announced work and corrections, as plain rows; `xlsx` writes them."""

from __future__ import annotations

from typing import Final

from exporters.report.figures import Figures, Line
from exporters.report.records import STATUS, subject_name
from exporters.report.xlsx_congestion import Cell, Sheet
from exporters.text import state_word
from monitor.announced import CONFIGURATION
from monitor.model import State

_TIME: Final = "dd/mm/yyyy hh:mm:ss"
_SECONDS: Final = "#,##0"
_SHARE: Final = "0.0000%"
_TEXT: Final = "General"


def sheets(figures: Figures) -> list[Sheet]:
    """Return a sheet for announced work, and two for corrections; none where there is nothing to say."""
    found = [_work(figures)] if figures.work else []
    return [*found, _corrections(figures), _beside(figures)] if figures.corrections else found


def _work(figures: Figures) -> Sheet:
    heads = (
        ("Số", _SECONDS),
        ("Hệ thống, dịch vụ", _TEXT),
        ("Từ", _TIME),
        ("Đến", _TIME),
        ("Nội dung", _TEXT),
        ("Người báo", _TEXT),
        ("Báo lúc", _TIME),
        ("Kế hoạch từ", _TIME),
        ("Kế hoạch đến", _TIME),
        ("Kết thúc sớm lúc", _TIME),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            a.id,
            subject_name(figures.plan, a.subject),
            a.window.start,
            a.window.end,
            a.reason,
            "cấu hình" if a.source == CONFIGURATION else a.author,
            a.at,
            a.planned.start,
            a.planned.end,
            a.cancelled_at,
        )
        for a in figures.work
        if a.window is not None
    ]
    return Sheet("Bảo trì", heads, rows)


def _corrections(figures: Figures) -> Sheet:
    heads = (
        ("Số", _SECONDS),
        ("Hệ thống, dịch vụ", _TEXT),
        ("Từ", _TIME),
        ("Đến", _TIME),
        ("Điều chỉnh thành", _TEXT),
        ("Lý do", _TEXT),
        ("Tệp kèm theo", _TEXT),
        ("SHA-256 của tệp", _TEXT),
        ("Người đề nghị", _TEXT),
        ("Đề nghị lúc", _TIME),
        ("Kết quả", _TEXT),
        ("Người quyết định", _TEXT),
        ("Quyết định lúc", _TIME),
        ("Ý kiến", _TEXT),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            c.id,
            subject_name(figures.plan, c.subject),
            c.window.start,
            c.window.end,
            state_word(c.state),
            c.reason,
            c.evidence.name if c.evidence else None,
            c.evidence.sha256 if c.evidence else None,
            c.author,
            c.at,
            STATUS[c.status],
            c.decided_by or None,
            c.decided_at,
            c.decision or None,
        )
        for c in figures.corrections
    ]
    return Sheet("Điều chỉnh", heads, rows)


def _beside(figures: Figures) -> Sheet:
    heads = (
        ("Hệ thống, dịch vụ", _TEXT),
        ("Số liệu", _TEXT),
        *((f"{state_word(s).capitalize()} (giây)", _SECONDS) for s in State),
        ("Độ khả dụng", _SHARE),
        ("Thấp nhất", _SHARE),
        ("Cao nhất", _SHARE),
        ("Độ phủ đo", _SHARE),
        ("Số lần gián đoạn", _SECONDS),
    )
    rows: list[tuple[Cell, ...]] = []
    for service in figures.plan.services:
        corrected = figures.adjusted.get(service.id)
        if corrected is not None:
            rows.append((service.name, "đo được", *_cells(figures, figures.services[service.id])))
            rows.append((service.name, "sau điều chỉnh", *_cells(figures, corrected)))
    return Sheet("Trước và sau điều chỉnh", heads, rows)


def _cells(figures: Figures, line: Line) -> tuple[Cell, ...]:
    account = line.account(figures.period)
    share = account.share
    return (
        *(account.seconds[s] for s in State),
        share.value,
        share.least,
        share.most,
        share.coverage,
        account.outages,
    )
