"""What the figures allow to be said of outages and of congestion, sentence by sentence. Nothing else may say it.

The sentence "không xảy ra nghẽn mạng" is printed here only, and only when `congestion.verdict` says NONE_FOUND.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.plan import ServiceKind, ServicePlan, Window
from exporters import text_report as words
from exporters.report.congestion import CongestionEpisode, CongestionFigures, Verdict, verdict
from exporters.report.document import Block, Paragraph, Style
from exporters.report.figures import Figures, slowest_s, within
from exporters.report.material import main_check
from exporters.text import duration_words, gap_phrase
from monitor.availability import NOT_ENOUGH, Segment, failure_bound
from monitor.model import State

_NETWORKS = frozenset({ServiceKind.CARRIER, ServiceKind.NETWORK})
FIRST_RESULT = "chưa có kết quả đo đầu tiên"
OFF = "off"
_SPANS = 8  # chosen: more of them stand in the figures
_ALIKE = timedelta(minutes=5)  # spans whose edges differ by no more are told as one


def congestion_checks(figures: Figures) -> list[str]:
    """Return the checks by which congestion is judged: the main one of each network, or of every service."""
    networks = [s for s in figures.plan.services if s.kind in _NETWORKS] or list(figures.plan.services)
    return [main_check(s).id for s in networks]


def windows(figures: Figures) -> list[Window]:
    """Return the spans for which a claim has to hold: the whole period, and each peak by itself."""
    return [figures.period, *(within(p, figures.period) for p in figures.peaks)]


def congestion_verdict(figures: Figures) -> Verdict:
    """Say what may be said of congestion on the networks over the period and its peaks.

    Congestion that the monitor itself believed in at the time is found, whatever an assessment says afterwards.
    """
    if congested(figures):
        return Verdict.FOUND
    return verdict(figures.congestion, congestion_checks(figures), windows(figures))


def congested(figures: Figures) -> list[tuple[ServicePlan, list[Segment]]]:
    """Return the services that were congested as the monitor saw it, with the spans."""
    found = []
    for service in figures.plan.services:
        spans = [s for s in figures.services[service.id].segments if s.state is State.CONGESTED]
        if spans:
            found.append((service, spans))
    return found


def congestion(figures: Figures) -> list[Block]:
    """Return the paragraphs about congestion: the claim, its limit, its coverage and what was found."""
    found = congestion_verdict(figures)
    assessed = figures.congestion
    if assessed is None and found is Verdict.FOUND:
        return [
            Paragraph(
                "Bộ giám sát đã xác nhận trạng thái nghẽn trong các khoảng thời gian dưới đây. Ngoài các khoảng "
                "này, báo "
                "cáo không kết luận về việc có hay không có nghẽn mạng, vì giới hạn phát hiện của kỳ báo cáo chưa được "
                "xác định.",
                bold="Có ghi nhận nghẽn.",
            ),
            *_seen(figures),
        ]
    if assessed is None or found is Verdict.NOT_ASSESSED:
        return [
            Paragraph(
                "Phiên bản số liệu này chưa có kết quả đánh giá nghẽn mạng (chưa có giới hạn phát hiện được xác định), "
                "vì vậy báo cáo không đưa ra kết luận về việc có hay không có nghẽn mạng; chỉ báo cáo tình trạng gián "
                "đoạn, thời gian đáp ứng và tỷ lệ mất gói đo được.",
                bold="Chưa đánh giá nghẽn mạng.",
            )
        ]
    return [
        _claim(figures, found),
        *_limits(figures, assessed),
        *_episodes(figures, assessed),
        *_seen(figures),
    ]


def _seen(figures: Figures) -> list[Block]:
    zone = figures.plan.site.timezone
    found: list[Block] = []
    for service, spans in congested(figures):
        total = sum(s.seconds for s in spans)
        shown = [f"{words.brief(s.start, zone)} – {words.brief(s.end, zone)}" for s in spans[:_SPANS]]
        more = f" và {len(spans) - _SPANS} khoảng khác" if len(spans) > _SPANS else ""
        found.append(
            Paragraph(
                f"{len(spans)} khoảng ở trạng thái nghẽn, tổng cộng {duration_words(total)}: {'; '.join(shown)}{more}.",
                Style.BULLET,
                bold=f"{service.name}:",
            )
        )
    return found


def _claim(figures: Figures, found: Verdict) -> Paragraph:
    zone = figures.plan.site.timezone
    when = words.span(figures.period, zone)
    names = words.listed(s.name for s in _judged(figures))
    if found is Verdict.NONE_FOUND:
        return Paragraph(
            f"{when}, trên các đường đo từ trạm đo tới {names}, {words.NO_CONGESTION} ở mức trên giới hạn phát hiện "
            f"nêu dưới đây{_at_peaks(figures)}.",
            bold="Kết luận:",
        )
    if found is Verdict.FOUND:
        count = sum(e.cause == "congestion" for e in _all_episodes(figures))
        how_many = f"{count} đợt nghẽn" if count else "nghẽn"
        return Paragraph(
            f"{when}, ghi nhận {how_many} trên các đường đo tới {names}; chi tiết nêu dưới đây.",
            bold="Kết luận:",
        )
    return Paragraph(
        f"{when}, không phát hiện đợt nghẽn nào trong thời gian quan sát được, nhưng số liệu không đủ căn cứ (có đường "
        f"đo hoặc giờ cao điểm có độ phủ dưới {words.at_least(NOT_ENOUGH, 0)}, hoặc đường truyền của chính trạm đo bị "
        "nghẽn) "
        "để kết luận cho toàn bộ thời gian báo cáo.",
        bold="Không đủ căn cứ kết luận.",
    )


def _at_peaks(figures: Figures) -> str:
    return ", kể cả trong các khung giờ cao điểm" if figures.peaks else ""


def _judged(figures: Figures) -> list[ServicePlan]:
    checks = set(congestion_checks(figures))
    return [s for s in figures.plan.services if main_check(s).id in checks]


def _limits(figures: Figures, assessed: CongestionFigures) -> list[Block]:
    found: list[Block] = []
    if assessed.limit is not None:
        found.append(
            Paragraph(
                f"độ trễ hàng đợi từ {words.number(assessed.limit.queue_ms, 0)} ms trở lên, kéo dài từ "
                f"{words.number(assessed.limit.minutes, 0)} phút trở lên. Hàng đợi nhỏ hơn hoặc ngắn hơn có thể không "
                "được ghi nhận.",
                Style.BULLET,
                bold="Giới hạn phát hiện:",
            )
        )
    for service in _judged(figures):
        path = assessed.paths.get(main_check(service).id)
        if path is None:
            continue
        shares = [words.at_least(path.coverage(figures.period), 2)]
        shares += [f"{words.at_least(path.coverage(w), 2)} (giờ cao điểm)" for w in windows(figures)[1:]]
        found.append(
            Paragraph(
                f"{words.count(path.expected)} khoảng đo dự kiến; độ phủ {words.listed(shares)}; "
                f"{_queue_words(path.queues)}.",
                Style.BULLET,
                bold=f"{service.name}:",
            )
        )
    return found


def _queue_words(queues: Sequence[object]) -> str:
    delays = sorted(float(getattr(q, "queue_ms", 0.0)) for q in queues)
    if not delays:
        return "không có số liệu độ trễ hàng đợi"
    rank = delays[max(1, -(-len(delays) * 95 // 100)) - 1]
    return f"độ trễ hàng đợi 95%: {words.number(rank, 1)} ms, lớn nhất {words.number(delays[-1], 1)} ms"


def _all_episodes(figures: Figures) -> list[CongestionEpisode]:
    assessed = figures.congestion
    return [e for p in assessed.paths.values() for e in p.episodes] if assessed else []


_CAUSES = {
    "congestion": "nghẽn phía nhà mạng hoặc đích",
    "near-side": "nghẽn phía trạm đo",
    "route-change": "đổi đường truyền, không phải nghẽn",
}


def _episodes(figures: Figures, assessed: CongestionFigures) -> list[Block]:
    zone = figures.plan.site.timezone
    names = {main_check(s).id: s.name for s in figures.plan.services}
    found: list[Block] = []
    for path in assessed.paths.values():
        for e in path.episodes:
            loss = f", mất {e.lost}/{e.sent} gói" if e.sent else ""
            found.append(
                Paragraph(
                    f"từ {words.moment(e.start, zone)} đến {words.moment(e.end, zone)}, độ trễ tăng tối đa "
                    f"{words.number(e.peak_ms, 1)} ms trên mức nền {words.number(e.floor_ms, 1)} ms{loss}: "
                    f"{_CAUSES.get(e.cause, e.cause)}.",
                    Style.BULLET,
                    bold=f"{names.get(path.check, path.check)}:",
                )
            )
    return found


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
    rounds, share = figures.rounds(service), figures.services[service.id].account(figures.period).share
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
    weak = [s.name for s in figures.plan.services if not figures.services[s.id].account(figures.period).share.enough]
    first = (
        f"Trong tổng số {total} hệ thống, dịch vụ được giám sát, {len(hit)} hệ thống có ghi nhận gián đoạn: "
        f"{words.listed(hit)}."
        if hit
        else f"Trong thời gian quan sát được, không ghi nhận gián đoạn đối với {total} hệ thống, dịch vụ được giám sát."
    )
    found: list[Block] = [Paragraph(first)]
    queued = [s.name for s, _ in congested(figures)]
    if queued:
        found.append(Paragraph(f"Ghi nhận trạng thái nghẽn đối với: {words.listed(queued)}."))
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


def resolution_words(figures: Figures) -> str:
    """Return the span of intervals between two looks at a service, for the notes."""
    slow = [slowest_s(s, figures.period) for s in figures.plan.services]
    low, high = min(slow, default=0.0), max(slow, default=0.0)
    return duration_words(low) if low == high else f"{duration_words(low)} đến {duration_words(high)}"
