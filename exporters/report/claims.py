"""What the figures allow to be said of outages and of unobserved time, sentence by sentence. Nothing else may say it.

What may be said of congestion is in `congestion_claims`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.plan import ServicePlan
from exporters import text_report as words
from exporters.report import congestion_claims
from exporters.report.document import Block, Paragraph, Style
from exporters.report.figures import Figures, slowest_s
from exporters.text import duration_words, gap_phrase
from monitor.availability import NOT_ENOUGH, failure_bound
from monitor.model import State

FIRST_RESULT = "chưa có kết quả đo đầu tiên"
OFF = "off"
_ALIKE = timedelta(minutes=5)  # spans whose edges differ by no more are told as one


def outages(figures: Figures) -> list[Block]:
    """Return the paragraphs about outages: what was found, and what so many rounds without one can prove."""
    hit = [s for s in figures.plan.services if figures.services[s.id].outages]
    clean = [s for s in figures.plan.services if not figures.services[s.id].outages]
    found: list[Block] = []
    for service in hit:
        line = figures.services[service.id]
        account = line.account(figures.period)
        repair = account.mean_repair_s
        mean = f"; thời gian khắc phục trung bình {duration_words(repair)}" if repair is not None else ""
        found.append(
            Paragraph(
                f"{account.outages} lần gián đoạn, tổng cộng {words.down_time(account)}, dài nhất "
                f"{duration_words(account.longest_s)}{mean}.",
                Style.BULLET,
                bold=f"{service.name}:",
            )
        )
    found.extend(Paragraph(_clean(figures, s), Style.BULLET, bold=f"{s.name}:") for s in clean)
    return found


def _clean(figures: Figures, service: ServicePlan) -> str:
    account = figures.services[service.id].account(figures.period)
    rounds, share = figures.rounds(service), account.share
    if account.all_work:
        return "bảo trì đã báo trước trong cả kỳ báo cáo."
    if rounds == 0:
        return "không có lượt đo nào; không đủ căn cứ."
    if not share.enough:
        return (
            f"không ghi nhận gián đoạn trong thời gian quan sát được, nhưng độ phủ đo chỉ đạt "
            f"{words.at_least(share.coverage, 2)}: không đủ căn cứ kết luận cho cả kỳ báo cáo."
        )
    return (
        f"không ghi nhận gián đoạn; với {words.count(rounds)} lượt đo, ở độ tin cậy 95% tỷ lệ thời điểm không sử dụng "
        f"được không quá {words.at_most(failure_bound(rounds), 3)}."
    )


def summary(figures: Figures) -> list[Block]:
    """Return the general assessment: how many services were interrupted, and what is known of congestion."""
    total = len(figures.plan.services)
    hit = [s.name for s in figures.plan.services if figures.services[s.id].outages]
    accounts = {s.name: figures.services[s.id].account(figures.period) for s in figures.plan.services}
    weak = [name for name, account in accounts.items() if not (account.share.enough or account.all_work)]
    first = (
        f"Trong tổng số {total} hệ thống, dịch vụ được giám sát, {len(hit)} hệ thống có ghi nhận gián đoạn: "
        f"{words.listed(hit)}."
        if hit
        else f"Trong thời gian quan sát được, không ghi nhận gián đoạn đối với {total} hệ thống, dịch vụ được giám sát."
    )
    found: list[Block] = [Paragraph(first)]
    found.append(Paragraph(congestion_claims.summary(figures)))
    if weak:
        found.append(
            Paragraph(
                f"Độ phủ đo dưới {words.at_least(NOT_ENOUGH, 0)} đối với: {words.listed(weak)}; số liệu của các hệ "
                "thống này không đủ căn cứ để đánh giá."
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Blind:
    """A span in which checks were not observed, for one reason."""

    start: datetime
    end: datetime
    cause: str  # in words
    checks: int


def blind(figures: Figures) -> list[Blind]:
    """Return when checks were not observed and why, neighbouring spans of the same cause together, by their time."""
    pieces: dict[str, list[tuple[datetime, datetime, str]]] = {}
    for name, line in figures.checks.items():
        for s in line.segments:
            if s.state is State.UNKNOWN:
                for start, end, cause in _causes(figures, name, s.start, s.end):
                    pieces.setdefault(cause, []).append((start, end, name))
    found = [b for cause, spans in pieces.items() for b in _joined(cause, sorted(spans))]
    return sorted(found, key=lambda b: (b.start, b.cause))


def _causes(figures: Figures, check: str, start: datetime, end: datetime) -> Iterable[tuple[datetime, datetime, str]]:
    """Cut an unobserved span of a check by the gaps that say why; what none of them says has its own reasons."""
    at = start
    gaps = sorted(figures.gaps.get(check, ()), key=lambda g: g.start)
    for gap in gaps:
        gap_end = min(gap.end or end, end)
        begin = max(gap.start, at)
        if begin >= gap_end:
            continue
        if begin > at:
            yield at, begin, _unsaid(figures, at)
        yield begin, gap_end, gap_phrase(gap.cause) or gap.cause
        at = gap_end
    if at < end:
        yield at, end, _unsaid(figures, at)


def _unsaid(figures: Figures, at: datetime) -> str:
    known = figures.known_until
    return gap_phrase(OFF) if known is not None and at >= known else FIRST_RESULT


def _joined(cause: str, spans: Sequence[tuple[datetime, datetime, str]]) -> list[Blind]:
    """Put together what began and ended at about the same time: one cause that hit many checks."""
    groups: list[tuple[datetime, datetime, set[str]]] = []
    for start, end, name in spans:
        for i, (first, last, names) in enumerate(groups):
            if abs(start - first) <= _ALIKE and abs(end - last) <= _ALIKE:
                groups[i] = (first, max(end, last), names | {name})
                break
        else:
            groups.append((start, end, {name}))
    return [Blind(start, end, cause, len(names)) for start, end, names in groups]


def raw_words(figures: Figures) -> str:
    """Say, with a space before it, of which part of the period raw results are gone or were never written."""
    return _unrecorded_words(figures) + _summed_words(figures)


def _unrecorded_words(figures: Figures) -> str:
    if not figures.unrecorded:
        return ""
    spans = words.listed(words.span(w, figures.plan.site.timezone) for w in figures.unrecorded)
    return (
        f" Đĩa của trạm đo gần đầy {spans}: việc đo và xét trạng thái vẫn tiếp tục, nhưng kết quả từng lượt đo không "
        "được ghi lại."
    )


def _summed_words(figures: Figures) -> str:
    if not figures.summed:
        return ""
    spans = words.listed(words.span(w, figures.plan.site.timezone) for w in figures.summed)
    return (
        f" Số liệu gốc {spans} đã xoá theo hạn lưu; phần này lấy từ bản tóm tắt đã ký: độ khả dụng, gián đoạn và số "
        "lượt đo không đổi, thời gian đáp ứng sai không quá 1%, biểu đồ chi tiết đến 5 phút."
    )


def resolution_words(figures: Figures) -> str:
    """Return the span of intervals between two looks at a service, for the notes."""
    slow = [slowest_s(s, figures.period) for s in figures.plan.services]
    low, high = min(slow, default=0.0), max(slow, default=0.0)
    return duration_words(low) if low == high else f"{duration_words(low)} đến {duration_words(high)}"
