"""The tables of a report: texts made from figures, with the decimals they can carry. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from config.calendar import days_of, lunar_label
from config.lunar import lunar_date
from config.plan import REFERENCES, Plan, ServiceKind, ServicePlan, Window
from exporters import text_report as words
from exporters.report.claims import Blind
from exporters.report.congestion import main_check
from exporters.report.document import Column, Numbering, Table
from exporters.report.figures import Figures, Line, slowest_s, within
from exporters.text import cause_sentence, duration_words, fault_phrase, own_fault_sentence, state_word
from exporters.text_cause import count_words, why_sentence
from exporters.text_reason import reason_words
from monitor.availability import Account, Outage
from monitor.duty import is_own_fault
from monitor.groups import is_group
from monitor.model import Cause, CauseKind, Incident, State

ROWS: Final = 60  # chosen: what is more stands in the CSV and Excel files
_STATES = (State.UP, State.DEGRADED, State.CONGESTED, State.DOWN, State.UNKNOWN)
_WEEKLY_FROM = 15  # days from which on a table has a column a week


def group_tables(figures: Figures, numbers: Numbering) -> list[tuple[str, Table]]:
    """Return a table for each group of services: seconds by state, availability, coverage, outages."""
    found = []
    for title, kinds in words.GROUPS:
        services = [s for s in figures.plan.services if s.kind in kinds]
        if services:
            caption = numbers.table(f"{title}: thời gian theo trạng thái (giờ:phút:giây) và độ khả dụng")
            found.append((title, _group(figures, services, caption)))
    return found


def _group(figures: Figures, services: Sequence[ServicePlan], caption: str) -> Table:
    columns = (
        Column("Hệ thống, dịch vụ", 0.19),
        *(Column(state_word(s).capitalize(), _width(figures, s), right=True) for s in _states(figures)),
        Column("Độ khả dụng [thấp nhất – cao nhất]", 0.185, right=True),
        Column("Độ phủ đo", 0.085, right=True),
        Column("Gián đoạn (dài nhất)", 0.105, right=True),
    )
    return Table(caption, columns, tuple(_service_row(figures, s) for s in services))


def _states(figures: Figures) -> tuple[State, ...]:
    """Return the states that have a column: maintenance only where there was any."""
    work = any(line.seconds[State.MAINTENANCE] for line in figures.services.values())
    return (*_STATES, State.MAINTENANCE) if work else _STATES


def _width(figures: Figures, state: State) -> float:
    wide = 0.105 if state is State.UP else 0.082
    return wide * len(_STATES) / len(_states(figures))


def _service_row(figures: Figures, service: ServicePlan) -> tuple[str, ...]:
    account = figures.services[service.id].account(figures.period)
    longest = f"\n({duration_words(account.longest_s)})" if account.outages else ""
    return (
        service.name,
        *(words.clock(account.seconds[s]) for s in _states(figures)),
        _availability(figures, service, account),
        words.coverage(account),
        words.times(account.outages) + longest,
    )


def _availability(figures: Figures, service: ServicePlan, account: Account) -> str:
    resolution_s = slowest_s(service, account.window)
    return words.availability(account, resolution_s, figures.rounds(service, account.window))


def peak_tables(figures: Figures, numbers: Numbering) -> list[Table]:
    """Return a table for each peak: what its services were, and how fast they answered."""
    found = []
    zone = figures.plan.site.timezone
    for peak in figures.peaks:
        window = within(peak, figures.period)
        named = [s for s in figures.plan.services if not peak.services or s.id in peak.services]
        rows = []
        for service in named:
            account = figures.services[service.id].account(window)
            rows.append(
                (
                    service.name,
                    _availability(figures, service, account),
                    words.coverage(account),
                    words.times(account.outages),
                    words.down_time(account),
                )
            )
        columns = (
            Column("Hệ thống, dịch vụ", 0.34),
            Column("Độ khả dụng [thấp nhất – cao nhất]", 0.2, right=True),
            Column("Độ phủ đo", 0.13, right=True),
            Column("Số lần gián đoạn", 0.15, right=True),
            Column("Thời gian gián đoạn", 0.18, right=True),
        )
        caption = numbers.table(f"Giờ cao điểm {words.span(window, zone)}")
        found.append(Table(caption, columns, tuple(rows)))
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the period with a column of its own."""

    title: str
    window: Window


def parts(figures: Figures) -> list[Part]:
    """Return the days of a period, with their lunar dates; of a long one, its weeks from Monday."""
    days = days_of(figures.period, figures.plan.site.timezone)
    if len(days) < _WEEKLY_FROM:
        return [Part(f"{d.day:%d/%m}\n{lunar_label(d.day)}", d.window) for d in days]
    weeks: list[Part] = []
    for d in days:
        if weeks and d.day.weekday() != 0:
            weeks[-1] = Part(weeks[-1].title, Window(weeks[-1].window.start, d.window.end))
        else:
            weeks.append(Part(f"Tuần từ\n{d.day:%d/%m}", d.window))
    return weeks


def day_tables(figures: Figures, numbers: Numbering) -> Iterator[Table]:
    """Give tables of services by days, seven days a table."""
    columns = parts(figures)
    for start in range(0, len(columns), 7):
        block = columns[start : start + 7]
        rows = []
        for service in figures.plan.services:
            line = figures.services[service.id]
            rows.append((service.name, *(_day_cell(figures, service, line, p.window) for p in block)))
        titles = (Column("Hệ thống, dịch vụ", 0.22), *(Column(p.title, 0.78 / len(block), right=True) for p in block))
        yield Table(numbers.table("Độ khả dụng theo thời gian"), titles, tuple(rows))


def _day_cell(figures: Figures, service: ServicePlan, line: Line, window: Window) -> str:
    return _availability(figures, service, line.account(window))


def carrier_table(figures: Figures, numbers: Numbering) -> Table | None:
    """Return the carriers side by side; None where there are none."""
    carriers = [s for s in figures.plan.services if s.kind is ServiceKind.CARRIER]
    if not carriers:
        return None
    columns = (
        Column("Nhà mạng", 0.26),
        Column("Kênh đo", 0.18),
        Column("Trung vị (ms)", 0.1, right=True),
        Column("95% (ms)", 0.1, right=True),
        Column("Lớn nhất (ms)", 0.1, right=True),
        Column("Gói mất / gói gửi", 0.16, right=True),
        Column("Tỷ lệ mất gói", 0.1, right=True),
    )
    caption = numbers.table("Thời gian đáp ứng và mất gói đo được tới từng nhà mạng")
    return Table(caption, columns, tuple(_carrier_row(figures, s) for s in carriers))


def _carrier_row(figures: Figures, service: ServicePlan) -> tuple[str, ...]:
    target = main_check(service)
    found = figures.responses.get(target.id)
    path = target.path.name if target.path else "đường truyền mặc định"
    if found is None or not found.good:
        return (service.name, path, *(words.DASH,) * 5)
    median, high, most = found.at_ranks((0.5, 0.95, 1.0))
    sent, lost = found.echoes_sent, found.echoes_lost
    return (
        service.name,
        path,
        words.milliseconds(median),
        words.milliseconds(high),
        words.milliseconds(most),
        f"{words.count(lost)} / {words.count(sent)}" if sent else "không đo",
        f"{words.number(100 * lost / sent, 2)}%" if sent else words.DASH,
    )


def incident_table(figures: Figures, numbers: Numbering) -> Table | None:
    """Return the incidents of services, with their causes and a place for what was done; None without any."""
    found = told_incidents(figures)
    if not found:
        return None
    zone = figures.plan.site.timezone
    columns = (
        Column("TT", 0.05, right=True),
        Column("Hệ thống, dịch vụ", 0.2),
        Column("Bắt đầu", 0.13),
        Column("Kết thúc", 0.13),
        Column("Kéo dài", 0.11),
        Column("Nguyên nhân ghi nhận", 0.21),
        Column("Biện pháp xử lý", 0.17),
    )
    rows = [
        (
            str(i),
            subject_name(figures.plan, incident),
            words.brief(incident.began_at, zone),
            words.brief(incident.ended_at, zone) if incident.ended_at else "chưa kết thúc",
            incident_length(figures, incident),
            incident_cause(figures, incident),
            words.placeholder("xử lý"),
        )
        for i, incident in enumerate(found[:ROWS], 1)
    ]
    return Table(numbers.table("Các sự cố ghi nhận"), columns, tuple(rows))


def told_incidents(figures: Figures) -> list[Incident]:
    """Return the incidents of services, those that were one as one: its members stand in its row."""
    groups = {i.id for i in figures.incidents if is_group(i.subject)}
    return [i for i in figures.incidents if not is_own_fault(i.subject) and i.parent not in groups]


def subject_name(plan: Plan, incident: Incident) -> str:
    """Return the name of what an incident is about."""
    if is_group(incident.subject) and incident.cause:
        names = [plan.service(m).name for m in incident.cause.members if m in plan.by_id()]
        return f"{count_words(len(incident.cause.members))}: {words.listed(names)}" if names else incident.subject
    service = plan.by_id().get(incident.subject)
    return service.name if service else incident.subject


def cause_name(plan: Plan, cause: Cause) -> str:
    """Return the name of what a cause blames."""
    paths = {t.path.id: t.path.name for t in plan.targets() if t.path}
    if cause.kind is CauseKind.PATH:
        return paths.get(cause.subject, cause.subject)
    service = plan.by_id().get(cause.subject)
    return service.name if service else cause.subject


def incident_length(figures: Figures, incident: Incident) -> str:
    """Return how long an incident lasted, or has lasted so far."""
    end = incident.ended_at or figures.period.end
    return duration_words((end - incident.began_at).total_seconds())


def incident_cause(figures: Figures, incident: Incident) -> str:
    """Say what the evidence shows about the cause; a person knows more."""
    if incident.withdrawn or is_own_fault(incident.subject):
        return "Đã rút lại: do lỗi phía trạm đo." if incident.withdrawn else own_fault_sentence(incident.detail)
    if incident.cause is not None and incident.cause.kind is not CauseKind.NEEDS:
        return why_sentence(incident.cause, cause_name(figures.plan, incident.cause))
    by_id = {i.id: i for i in figures.incidents}
    parent = by_id.get(incident.parent) if incident.parent is not None else None
    if parent is not None and parent.cause is not None and is_group(parent.subject):
        return why_sentence(parent.cause, cause_name(figures.plan, parent.cause))
    if parent is not None:
        return cause_sentence(subject_name(figures.plan, parent))
    line = figures.services.get(incident.subject)
    hit = next((o for o in line.outages if _meets(o, incident)), None) if line else None
    if hit is None:
        return state_word(incident.state)
    # A heartbeat that is missing is a content fault, and nothing answered: say what was recorded.
    _, _, recorded = incident.detail.partition(": ")
    said = reason_words(recorded) if recorded.startswith("no heartbeat for ") else ""
    return said or fault_phrase(hit.fault, state=incident.state)


def _meets(outage: Outage, incident: Incident) -> bool:
    return outage.end > incident.began_at and (incident.ended_at is None or outage.start < incident.ended_at)


def outage_table(figures: Figures, numbers: Numbering) -> Table | None:
    """Return every outage of a service with what is known of its edges; None without any."""
    found = [(s, o) for s in figures.plan.services for o in figures.services[s.id].outages]
    if not found:
        return None
    zone = figures.plan.site.timezone
    columns = (
        Column("Hệ thống, dịch vụ", 0.22),
        Column("Bắt đầu trong khoảng", 0.19),
        Column("Kết thúc trong khoảng", 0.19),
        Column("Kéo dài", 0.2),
        Column("Lý do phép kiểm tra hỏng", 0.2),
    )
    rows = [
        (
            service.name,
            f"{words.brief(o.earliest_start, zone)}\n{words.brief(o.start, zone)}",
            f"{words.brief(o.earliest_end, zone)}\n{words.brief(o.end, zone)}",
            words.outage_length(o),
            fault_phrase(o.fault, state=State.DOWN),
        )
        for service, o in sorted(found, key=lambda pair: pair[1].start)[:ROWS]
    ]
    return Table(numbers.table("Các lần gián đoạn và khoảng chứa thời điểm đúng"), columns, tuple(rows))


def blind_table(figures: Figures, spans: Sequence[Blind], numbers: Numbering) -> Table | None:
    """Return when and why something was not observed; None when everything was."""
    if not spans:
        return None
    zone, total = figures.plan.site.timezone, len(figures.checks)
    columns = (
        Column("Từ", 0.2),
        Column("Đến", 0.2),
        Column("Kéo dài", 0.18),
        Column("Số phép kiểm tra", 0.14, right=True),
        Column("Lý do không có số liệu", 0.28),
    )
    longest = sorted(spans, key=lambda b: b.start - b.end)[:ROWS]
    rows = [
        (
            words.brief(b.start, zone),
            words.brief(b.end, zone),
            duration_words((b.end - b.start).total_seconds()),
            f"{b.checks}/{total}",
            b.cause,
        )
        for b in sorted(longest, key=lambda b: b.start)
    ]
    return Table(numbers.table("Thời gian không có số liệu"), columns, tuple(rows))


def comparison_table(figures: Figures, other: Figures, numbers: Numbering) -> Table:
    """Return two events beside each other, lunar day by lunar day; where none is common, day by day from the start."""
    columns = (
        Column("Ngày", 0.2),
        Column(f"{figures.title}: số lần gián đoạn", 0.16, right=True),
        Column("thời gian gián đoạn", 0.16, right=True),
        Column("độ phủ đo thấp nhất", 0.12, right=True),
        Column(f"{other.title}: số lần gián đoạn", 0.16, right=True),
        Column("thời gian gián đoạn", 0.16, right=True),
        Column("độ phủ đo thấp nhất", 0.12, right=True),
    )
    rows = [
        (label, *_day_words(figures, mine), *_day_words(other, theirs))
        for label, mine, theirs in paired_days(figures, other)
    ]
    return Table(numbers.table(f"So sánh với {other.title}"), columns, tuple(rows))


def paired_days(figures: Figures, other: Figures) -> list[tuple[str, Window | None, Window | None]]:
    """Return the days of two events that belong together: those of the same lunar date, or of the same number."""
    mine, theirs = (days_of(f.period, f.plan.site.timezone) for f in (figures, other))
    lunar = [{_lunar(d.day): d for d in days} for days in (mine, theirs)]
    if set(lunar[0]) & set(lunar[1]):
        keys = sorted(set(lunar[0]) | set(lunar[1]), key=lambda key: _order(key))
        pairs = [(lunar[0].get(k), lunar[1].get(k)) for k in keys]
        return [
            (lunar_label((a or b).day), a.window if a else None, b.window if b else None)  # type: ignore[union-attr]
            for a, b in pairs
        ]
    longest = max(len(mine), len(theirs))
    return [
        (
            f"Ngày thứ {i + 1}",
            mine[i].window if i < len(mine) else None,
            theirs[i].window if i < len(theirs) else None,
        )
        for i in range(longest)
    ]


def _lunar(day: date) -> tuple[int, int]:
    found = lunar_date(day)
    return found.month, found.day


def _order(key: tuple[int, int]) -> tuple[int, int]:
    """Order lunar dates around Tết: the last months of the old year come before the first of the new."""
    month, day = key
    return (month - 12 if month > 6 else month, day)


def _day_words(figures: Figures, window: Window | None) -> tuple[str, str, str]:
    if window is None:
        return (words.DASH,) * 3
    count, down_s, coverage = day_totals(figures, window)
    return (str(count), words.clock(down_s), words.at_least(coverage, 2))


def day_totals(figures: Figures, window: Window) -> tuple[int, float, float]:
    """Return the outages of all services in a window, their seconds, and the lowest coverage of any."""
    accounts = [figures.services[s.id].account(window) for s in figures.plan.services]
    return (
        sum(a.outages for a in accounts),
        sum(a.seconds[State.DOWN] for a in accounts),
        min((a.share.coverage for a in accounts), default=0.0),
    )


def scope_table(figures: Figures, numbers: Numbering) -> Table:
    """Return what is watched: the checks of each service, their paths and intervals."""
    columns = (
        Column("Hệ thống, dịch vụ", 0.26),
        Column("Phép kiểm tra", 0.28),
        Column("Loại", 0.1),
        Column("Kênh truyền", 0.2),
        Column("Chu kỳ", 0.16),
    )
    rows = []
    for target in figures.plan.targets():
        service = figures.plan.by_id().get(target.service)
        faster = min((r.every_s for r in target.rates), default=target.every_s)
        every = duration_words(target.every_s)
        rows.append(
            (
                "Mốc tham chiếu" if target.service == REFERENCES or service is None else service.name,
                target.name,
                target.probe.kind.upper(),
                target.path.name if target.path else "mặc định",
                every if faster >= target.every_s else f"{every}; cao điểm {duration_words(faster)}",
            )
        )
    return Table(numbers.table("Phạm vi và chu kỳ đo"), columns, tuple(rows))
