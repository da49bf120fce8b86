"""The daily and the weekly report: a short one for the duty leader, of the day or the week up to when it is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from config.plan import EventPlan, Peak, Plan, ReportKind, Window
from exporters import text_report as words
from exporters.report import letter, post_event
from exporters.report.document import Block, Document, Heading, Numbering, Paragraph, Style
from exporters.report.material import Material

TITLES: Final = {ReportKind.DAILY: "Báo cáo hằng ngày", ReportKind.WEEKLY: "Báo cáo hằng tuần"}
_COMING: Final = 3  # peaks that are named beforehand


def build(material: Material, kind: ReportKind) -> Document:
    """Write the report."""
    figures, plan = material.figures, material.plan
    zone = plan.site.timezone
    local = material.dated or figures.period.end
    numbers = Numbering()
    title = TITLES[kind]
    blocks: list[Block] = [
        *_opening(material),
        Heading("I. PHẠM VI THEO DÕI", 1),
        post_event.scope(figures),
        *post_event.results(material, numbers),
        *post_event.incidents(figures, numbers),
        *post_event.assessment(figures, numbers),
        *_coming(plan, figures.period.end),
    ]
    year = local.astimezone(zone).year
    return Document(
        head=letter.letterhead(plan, "BC", local, year),
        kind=title.upper(),
        about=f"Tình hình hoạt động của các hệ thống thông tin và mạng viễn thông\n{words.span(figures.period, zone)}",
        blocks=tuple(blocks),
        signature=letter.signature(plan),
        stamp=figures.period.end,
        addressee=plan.reports.addressee or "",
        banners=letter.banners(simulated=figures.simulated),
        annexes=post_event.annexes(figures, numbers),
        annex_note=letter.annex_note(plan, title, local, year),
    )


def _opening(material: Material) -> list[Block]:
    figures, plan = material.figures, material.plan
    event = event_of(plan, figures.period)
    during = f" phục vụ {event.name}" if event else ""
    return [
        Paragraph(
            f"{letter.body_name(plan)} báo cáo tình hình hoạt động của các hệ thống thông tin và mạng viễn thông"
            f"{during}, {words.span(figures.period, plan.site.timezone)}, như sau:"
        )
    ]


def event_of(plan: Plan, period: Window) -> EventPlan | None:
    """Return the event in which a period ends, or that ended in it."""
    return next((e for e in plan.events if e.window.start < period.end and e.window.end > period.start), None)


def coming_peaks(plan: Plan, after: datetime) -> list[tuple[EventPlan, Peak]]:
    """Return the next peaks that have not ended, the nearest first."""
    found = [(event, peak) for event in plan.events for peak in event.peaks if peak.window.end > after]
    return sorted(found, key=lambda pair: pair[1].window.start)[:_COMING]


def _coming(plan: Plan, after: datetime) -> list[Block]:
    peaks = coming_peaks(plan, after)
    if not peaks:
        return []
    zone = plan.site.timezone
    lines = [Paragraph(f"{e.name}: {words.span(p.window, zone)}.", Style.BULLET) for e, p in peaks]
    return [Heading("V. GIỜ CAO ĐIỂM SẮP TỚI", 1), *lines]
