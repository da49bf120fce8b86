"""What a report says of announced work and of corrections: who, when, why, approved by whom, and what they change."""

from __future__ import annotations

from typing import Final

from config.plan import Plan, ServicePlan
from exporters import text_report as words
from exporters.report.document import Block, Column, Heading, Numbering, Paragraph, Style, Table
from exporters.report.figures import Figures, Line, slowest_s
from exporters.text import duration_words, state_word
from monitor.announced import CONFIGURATION, Announcement
from monitor.corrections import APPROVED, PROPOSED, Correction
from monitor.model import State

ROWS: Final = 60  # chosen: what is more stands in the CSV and Excel files
STATUS: Final = {PROPOSED: "chờ duyệt, chưa tính", APPROVED: "đã duyệt", "rejected": "không được duyệt"}


def subject_name(plan: Plan, subject: str) -> str:
    """Return the name of what work or a correction is about: a service, or one of its checks."""
    service_id, _, check = subject.partition(".")
    service = plan.by_id().get(service_id)
    if service is None:
        return subject
    found = next((t.name for t in service.targets if check in (t.check, t.one_of)), check)
    return f"{service.name}: {found}" if check else service.name


def blocks(figures: Figures, no: Numbering, first: int) -> list[Block]:
    """Return the sections about announced work, where there was any, and corrections. Args: first: first number."""
    found: list[Block] = []
    if figures.work:
        found += [
            Heading(f"{first}. Bảo trì đã báo trước", 2),
            _work_table(figures, no),
            Paragraph(
                "Bảo trì chỉ được tính từ lúc được báo; phần trước đó không phải là bảo trì. Thời gian bảo trì không "
                "tính vào thời gian quan sát được, cũng không tính là gián đoạn; việc đo vẫn tiếp tục.",
                Style.NOTE,
            ),
        ]
        first += 1
    return [*found, Heading(f"{first}. Số liệu điều chỉnh", 2), *_corrections(figures, no)]


def _corrections(figures: Figures, no: Numbering) -> list[Block]:
    if not figures.corrections:
        return [Paragraph(f"Số liệu trong báo cáo này không có điều chỉnh nào. {_until(figures)}".rstrip())]
    found: list[Block] = [_correction_table(figures, no)]
    if figures.adjusted:
        found.append(_beside(figures, no))
    waiting = sum(c.status == PROPOSED for c in figures.corrections)
    pending = f" {waiting} đề nghị còn chờ duyệt và không làm thay đổi số liệu nào." if waiting else ""
    return [
        *found,
        Paragraph(
            "Các bảng khác của báo cáo này ghi số liệu đúng như đo được. Điều chỉnh chỉ được tính khi có người thứ hai "
            f"duyệt; số liệu gốc vẫn giữ nguyên.{pending} {_until(figures)}",
            Style.NOTE,
        ),
    ]


def _until(figures: Figures) -> str:
    last = figures.corrected_until
    if last is None:
        return ""
    at = words.brief(last.at, figures.plan.site.timezone)
    return f"Sổ điều chỉnh được xét đến bản ghi số {last.number}, lập lúc {at}."


def _work_table(figures: Figures, no: Numbering) -> Table:
    zone = figures.plan.site.timezone
    columns = (
        Column("Hệ thống, dịch vụ", 0.22),
        Column("Từ", 0.16),
        Column("Đến", 0.16),
        Column("Nội dung", 0.24),
        Column("Báo trước", 0.22),
    )
    rows = [
        (
            subject_name(figures.plan, a.subject),
            words.brief(a.window.start, zone),
            words.brief(a.window.end, zone),
            a.reason,
            announced_words(figures.plan, a),
        )
        for a in figures.work[:ROWS]
        if a.window is not None
    ]
    return Table(no.table("Bảo trì đã báo trước"), columns, tuple(rows))


def announced_words(plan: Plan, work: Announcement) -> str:
    """Say who announced work and when, whether late, and whether it was cancelled."""
    zone = plan.site.timezone
    who = "theo cấu hình" if work.source == CONFIGURATION else work.author
    late = "; báo khi đã bắt đầu" if work.late else ""
    ended = f"; {work.cancelled_by or 'cấu hình mới'} kết thúc sớm" if work.cancelled_at else ""
    return f"{words.brief(work.at, zone)}\n{who}{late}{ended}"


def _correction_table(figures: Figures, no: Numbering) -> Table:
    zone = figures.plan.site.timezone
    columns = (
        Column("Số", 0.05, right=True),
        Column("Hệ thống, dịch vụ", 0.16),
        Column("Từ, đến", 0.15),
        Column("Điều chỉnh thành", 0.1),
        Column("Lý do", 0.2),
        Column("Người đề nghị", 0.16),
        Column("Người duyệt", 0.18),
    )
    rows = [
        (
            str(c.id),
            subject_name(figures.plan, c.subject),
            f"{words.brief(c.window.start, zone)}\n{words.brief(c.window.end, zone)}",
            state_word(c.state),
            c.reason + (f"\n(kèm tệp {c.evidence.name}, mã băm {c.evidence.sha256[:12]}…)" if c.evidence else ""),
            f"{c.author}\n{words.brief(c.at, zone)}",
            decision_words(figures.plan, c),
        )
        for c in figures.corrections[:ROWS]
    ]
    return Table(no.table("Các điều chỉnh số liệu"), columns, tuple(rows))


def decision_words(plan: Plan, correction: Correction) -> str:
    """Say what was decided on a correction, by whom and when."""
    word = STATUS[correction.status]
    if correction.decided_at is None:
        return word
    why = f" ({correction.decision})" if correction.decision else ""
    return f"{correction.decided_by}: {word}{why}\n{words.brief(correction.decided_at, plan.site.timezone)}"


def _beside(figures: Figures, no: Numbering) -> Table:
    """Set the figures as measured and as corrected beside each other, for the services that are changed."""
    columns = (
        Column("Hệ thống, dịch vụ", 0.2),
        Column("Số liệu", 0.12),
        Column("Gián đoạn", 0.13, right=True),
        Column("Số lần", 0.07, right=True),
        Column("Không có số liệu", 0.12, right=True),
        Column("Bảo trì", 0.11, right=True),
        Column("Độ khả dụng", 0.15, right=True),
        Column("Độ phủ đo", 0.1, right=True),
    )
    rows: list[tuple[str, ...]] = []
    for service in figures.plan.services:
        corrected = figures.adjusted.get(service.id)
        if corrected is not None:
            rows.append((service.name, "đo được", *_cells(figures, service, figures.services[service.id])))
            rows.append(("", "sau điều chỉnh", *_cells(figures, service, corrected)))
    return Table(no.table("Số liệu đo được và số liệu sau điều chỉnh"), columns, tuple(rows))


def _cells(figures: Figures, service: ServicePlan, line: Line) -> tuple[str, ...]:
    account = line.account(figures.period)
    seconds = account.seconds
    rounds = figures.rounds(service)
    return (
        duration_words(seconds[State.DOWN]) if seconds[State.DOWN] else "0",
        str(account.outages),
        words.clock(seconds[State.UNKNOWN]),
        words.clock(seconds[State.MAINTENANCE]),
        words.availability(account, slowest_s(service, figures.period), rounds),
        words.coverage(account),
    )
