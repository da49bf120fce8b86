"""What surrounds the text of an official document: its head, its date, who signs and who receives."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from config.plan import Plan
from exporters import text_report as words
from exporters.report.document import Letterhead, Signature

SIMULATED_BANNER: Final = "SỐ LIỆU MÔ PHỎNG, DÙNG ĐỂ MINH HỌA – KHÔNG PHẢI SỐ ĐO THỰC TẾ"
_BLANK: Final = "....."  # where a number or a day is written by hand


def letterhead(plan: Plan, kind: str, dated: datetime | None, year: int) -> Letterhead:
    """Return the head of a document.

    Args:
        plan: whose document it is.
        kind: the letters of its kind, used when no symbol is configured: BC for a report.
        dated: its date; None leaves the day and month to a person.
        year: the year that is printed then.
    """
    reports = plan.reports
    local = dated.astimezone(plan.site.timezone).date() if dated else None
    date_words = words.written_date(local) if local else f"ngày {_BLANK} tháng {_BLANK} năm {year}"
    symbol = reports.symbol or f"{kind}-{words.placeholder('ký hiệu')}"
    return Letterhead(
        parent=reports.parent_body or words.placeholder("cơ quan chủ quản"),
        body=reports.body or plan.site.name,
        number=f"Số: {_BLANK}/{symbol}",
        place_date=f"{reports.place or words.placeholder('địa danh')}, {date_words}",
    )


def signature(plan: Plan) -> Signature:
    """Return who signs and who receives; placeholders where the configuration does not say."""
    reports = plan.reports
    lines = [f"- {r};" for r in reports.recipients] or [f"- {words.placeholder('nơi nhận')};"]
    return Signature(
        authority=reports.signer.authority,
        title=reports.signer.title or words.placeholder("chức vụ người ký"),
        name=reports.signer.name or words.placeholder("họ và tên người ký"),
        recipients=(*lines, f"- Lưu: {reports.archive}."),
    )


def body_name(plan: Plan) -> str:
    """Return the issuing body as it is named within a sentence."""
    return plan.site.name


def annex_note(plan: Plan, kind: str, dated: datetime | None, year: int) -> str:
    """Return the line below an annex's title: which document it belongs to."""
    head = letterhead(plan, "BC", dated, year)
    date_words = head.place_date.rpartition(", ")[2]
    return f"(Kèm theo {kind} số {head.number.removeprefix('Số: ')} {date_words} của {body_name(plan)})"


def banners(*, simulated: bool, draft: str = "") -> tuple[str, ...]:
    """Return the warnings above a title."""
    return tuple(b for b in (draft, SIMULATED_BANNER if simulated else "") if b)
