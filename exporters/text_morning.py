"""The mail that carries a report by schedule: plain, short, for a duty leader who gives it one glance. Vietnamese only.

What may be said of congestion and of availability is said by `report.congestion_claims` and `text_report`, as in the
report itself. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.plan import Plan, ReportKind, ServicePlan
from exporters import text_report as words
from exporters.report import congestion_claims, tables
from exporters.report.figures import Figures, slowest_s
from exporters.report.periodic import coming_peaks
from exporters.text import duration_words, own_fault_sentence, state_word
from monitor.duty import is_own_fault
from monitor.model import Incident, State
from probes.base import one_line

TITLES: Final = {
    ReportKind.DAILY: "Báo cáo hằng ngày",
    ReportKind.WEEKLY: "Báo cáo hằng tuần",
    ReportKind.EVENT: "Dự thảo báo cáo sau đợt trực",
}
_LINES: Final = 12  # incidents that a mail tells one by one; the report has them all
_SUBJECT: Final = 120


@dataclass(frozen=True, slots=True)
class Told:
    """What the mail says beside the figures."""

    kind: ReportKind
    due: datetime
    late: bool = False
    head: str = ""  # of the chain of evidence


@dataclass(frozen=True, slots=True)
class MorningLetter:
    """A mail, before it gets its headers and files."""

    subject: str
    text: str


def compose(figures: Figures, told: Told) -> MorningLetter:
    """Write the mail of a report."""
    zone = figures.plan.site.timezone
    sections = (
        _opening(figures, told),
        _incidents(figures),
        _services(figures),
        _claims(figures),
        _own(figures),
        _coming(figures.plan, told.due),
        _closing(told),
    )
    title = TITLES[told.kind]
    about = figures.title if told.kind is ReportKind.EVENT else f"{told.due.astimezone(zone):%d/%m/%Y}"
    subject = one_line(f"[Thông Suốt] {verdict(figures)} – {title} {about}", _SUBJECT)
    return MorningLetter(subject, "\n\n".join("\n".join(s) for s in sections if s) + "\n")


def verdict(figures: Figures) -> str:
    """Say in a few words what a leader has to know first."""
    count, still = len(_of_services(figures)), len(_open(figures))
    if count:
        return f"{count} SỰ CỐ" + (f", {still} CHƯA KẾT THÚC" if still else ", ĐÃ KẾT THÚC")
    if _weak(figures):
        return "THIẾU SỐ LIỆU"
    return "KHÔNG CÓ SỰ CỐ"


def _of_services(figures: Figures) -> list[Incident]:
    return [i for i in tables.told_incidents(figures) if not i.withdrawn]


def _open(figures: Figures) -> list[Incident]:
    end = figures.period.end
    return [i for i in _of_services(figures) if i.ended_at is None or i.ended_at > end]


def _weak(figures: Figures) -> list[ServicePlan]:
    return [s for s in figures.plan.services if not figures.services[s.id].account(figures.period).share.enough]


def _opening(figures: Figures, told: Told) -> list[str]:
    zone = figures.plan.site.timezone
    lines = [
        f"{TITLES[told.kind].upper()} – {figures.plan.site.name}",
        words.span(figures.period, zone).capitalize(),
    ]
    if figures.simulated:
        lines.append("SỐ LIỆU MÔ PHỎNG, KHÔNG PHẢI SỐ ĐO THỰC TẾ.")
    if told.late:
        lines.append(f"Gửi muộn: lúc {words.moment(told.due, zone)} trạm đo không hoạt động.")
    if told.kind is ReportKind.EVENT:
        lines.append("Tệp kèm theo là bản dự thảo: cần người có thẩm quyền xem, bổ sung và ký.")
    return [*lines, "", f"TÓM TẮT: {_summary(figures)}"]


def _summary(figures: Figures) -> str:
    count, still, weak = len(_of_services(figures)), len(_open(figures)), _weak(figures)
    total = len(figures.plan.services)
    if count:
        ends = f"{still} chưa kết thúc" if still else "đều đã kết thúc"
        found = f"{count} sự cố, {ends}."
    else:
        found = f"Không ghi nhận sự cố ở {total} hệ thống, dịch vụ trong thời gian quan sát được."
    if weak:
        found += f" {len(weak)} trong {total} hệ thống có độ phủ đo dưới 95%: không đủ căn cứ kết luận."
    return found


def _incidents(figures: Figures) -> list[str]:
    found = _of_services(figures)
    if not found:
        return []
    still = {i.id for i in _open(figures)}
    ordered = sorted(found, key=lambda i: (i.id not in still, i.began_at))
    lines = ["SỰ CỐ"]
    lines += [_incident(figures, i, open_=i.id in still) for i in ordered[:_LINES]]
    if len(found) > _LINES:
        lines.append(f"- và {len(found) - _LINES} sự cố khác, xem báo cáo kèm theo.")
    return lines


def _incident(figures: Figures, incident: Incident, *, open_: bool) -> str:
    zone = figures.plan.site.timezone
    name = tables.subject_name(figures.plan, incident)
    began = words.moment(incident.began_at, zone)
    if open_ or incident.ended_at is None:
        when = f"CHƯA KẾT THÚC, từ {began}"
    else:
        length = duration_words((incident.ended_at - incident.began_at).total_seconds())
        when = f"từ {began} đến {words.moment(incident.ended_at, zone)} ({length})"
    cause = tables.incident_cause(figures, incident)
    told = "" if cause == state_word(incident.state) else f" {cause}"
    return f"- {name}: {state_word(incident.state)}, {when}.{told}"


def _services(figures: Figures) -> list[str]:
    return ["ĐỘ KHẢ DỤNG (độ phủ đo)", *(_service(figures, s) for s in figures.plan.services)]


def _service(figures: Figures, service: ServicePlan) -> str:
    period = figures.period
    account = figures.services[service.id].account(period)
    value = words.availability(account, slowest_s(service, period), figures.rounds(service, period))
    down = f", gián đoạn {account.outages} lần" if account.outages else ""
    return f"- {service.name}: {value.replace(chr(10), ' ')} ({words.coverage(account)}){down}"


def _claims(figures: Figures) -> list[str]:
    return ["NGHẼN MẠNG", congestion_claims.summary(figures)]


def _own(figures: Figures) -> list[str]:
    zone = figures.plan.site.timezone
    own = [i for i in figures.incidents if is_own_fault(i.subject)]
    taken_back = sum(i.withdrawn for i in figures.incidents)
    if not own and not taken_back:
        return ["LỖI CỦA TRẠM ĐO: không ghi nhận."]
    lines = ["LỖI CỦA TRẠM ĐO"]
    for incident in own[:_LINES]:
        end = words.moment(incident.ended_at, zone) if incident.ended_at else "nay"
        began = words.moment(incident.began_at, zone)
        lines.append(f"- từ {began} đến {end}: {own_fault_sentence(incident.detail)}")
    if len(own) > _LINES:
        lines.append(f"- và {len(own) - _LINES} lần khác, xem báo cáo kèm theo.")
    if taken_back:
        lines.append(f"- {taken_back} cảnh báo đã rút lại vì do lỗi phía trạm đo.")
    return lines


def _coming(plan: Plan, after: datetime) -> list[str]:
    peaks = coming_peaks(plan, after)
    if not peaks:
        return []
    zone = plan.site.timezone
    event, peak = peaks[0]
    return [f"CAO ĐIỂM TỚI: {event.name}, {words.span(peak.window, zone)}."]


def _closing(told: Told) -> list[str]:
    if not told.head:
        return []
    return [
        f"Đầu chuỗi bằng chứng: {told.head}",
        "Giữ thư này: nó làm chứng rằng số liệu đến lúc ấy không bị sửa (thongsuot verify --head).",
    ]


def unmade(plan: Plan, told: Told, trouble: str, open_names: Sequence[str], down: Sequence[str]) -> MorningLetter:
    """Write the mail that goes out when the report itself could not be made, so that silence is not taken for calm.

    Args:
        plan: whose report.
        told: which one.
        trouble: why it could not be made.
        open_names: services with an incident that is open now.
        down: services that are not usable now.
    """
    when = told.due.astimezone(plan.site.timezone)
    subject = one_line(f"[Thông Suốt] CHƯA LẬP ĐƯỢC – {TITLES[told.kind]} {when:%d/%m/%Y}", _SUBJECT)
    return MorningLetter(subject, "\n".join(_unmade(plan, told, trouble, open_names, down)) + "\n")


def _unmade(plan: Plan, told: Told, trouble: str, open_names: Sequence[str], down: Sequence[str]) -> Iterator[str]:
    yield f"{TITLES[told.kind].upper()} – {plan.site.name}"
    yield ""
    yield "Trạm đo chưa lập được báo cáo này. Bằng chứng vẫn còn; lập lại bằng lệnh thongsuot report."
    yield f"Lý do: {one_line(trouble, 300)}"
    yield ""
    yield f"Sự cố đang diễn ra: {words.listed(open_names) or 'không có'}."
    yield f"Đang {state_word(State.DOWN)}: {words.listed(down) or 'không có'}."
    yield from _closing(told)
