"""What the figures allow to be said of congestion, sentence by sentence. Nothing else may say it.

The sentence "không xảy ra nghẽn mạng" is printed here only, and only when `congestion.verdict` says NONE_FOUND; the
detection limit stands in the same sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from config.plan import ServicePlan, Window
from exporters import text_report as words
from exporters.report import congestion as evidence
from exporters.report.congestion import (
    CONGESTION,
    NEAR_SIDE,
    ROUTE_CHANGE,
    CongestionEpisode,
    CongestionFigures,
    DetectionLimit,
    PathCongestion,
    Verdict,
)
from exporters.report.document import Block, Column, Numbering, Paragraph, Style, Table
from exporters.report.figures import Figures, within
from exporters.text import duration_words
from monitor.availability import NOT_ENOUGH, Segment
from monitor.model import State

SPANS: Final = 8  # chosen: more of them stand in the figures
EPISODES: Final = 60  # rows of a table; all of them stand in the figures
_CAUSES: Final = {
    CONGESTION: "nghẽn phía nhà mạng hoặc đích",
    NEAR_SIDE: "nghẽn phía trạm đo",
    ROUTE_CHANGE: "đổi đường truyền, không phải nghẽn",
}
_SEVERITIES: Final = {"light": "nhẹ", "moderate": "vừa", "severe": "nặng"}


def checks(figures: Figures) -> list[str]:
    """Return the checks by which congestion is judged."""
    return list(evidence.judged_checks(figures.plan))


def names(figures: Figures) -> dict[str, str]:
    """Return how a reader knows the paths: by their service, and their check where a service has several."""
    judged = evidence.judged_checks(figures.plan)
    several = [s.id for s in judged.values()]
    by_id = {t.id: t for t in figures.plan.targets()}
    return {
        check: service.name if several.count(service.id) == 1 else f"{service.name} – {by_id[check].name}"
        for check, service in judged.items()
    }


def windows(figures: Figures) -> list[Window]:
    """Return the spans for which a claim has to hold: the whole period, and each peak by itself."""
    return [figures.period, *(within(p, figures.period) for p in figures.peaks)]


def verdict(figures: Figures) -> Verdict:
    """Say what may be said of congestion on the networks over the period and its peaks.

    Congestion that the monitor itself believed in at the time is found, whatever an assessment says afterwards.
    """
    if congested(figures):
        return Verdict.FOUND
    return evidence.verdict(figures.congestion, checks(figures), windows(figures))


def congested(figures: Figures) -> list[tuple[ServicePlan, list[Segment]]]:
    """Return the services that were congested as the monitor saw it, with the spans."""
    found = []
    for service in figures.plan.services:
        spans = [s for s in figures.services[service.id].segments if s.state is State.CONGESTED]
        if spans:
            found.append((service, spans))
    return found


def blocks(figures: Figures, numbers: Numbering) -> list[Block]:
    """Return what stands under the heading of congestion: the claim, then what it rests on, path by path."""
    assessed = figures.congestion
    if assessed is None:
        return [_not_judged(figures), *_seen(figures)]
    found = verdict(figures)
    return [
        _claim(figures, assessed, found),
        *_why_not(figures, assessed, found),
        _paths_table(figures, assessed, numbers),
        _note(figures, assessed),
        *_episodes(figures, assessed, numbers),
        *_seen(figures),
    ]


def summary(figures: Figures) -> str:
    """Return one sentence for the general assessment."""
    found, assessed = verdict(figures), figures.congestion
    if found is Verdict.NONE_FOUND and assessed is not None and assessed.limit is not None:
        return f"Trên các đường đo tới {_listed(figures)}, {words.NO_CONGESTION}, với {limit_words(assessed.limit)}."
    if found is Verdict.FOUND:
        return f"{_found_words(figures, capital=True)}; chi tiết tại mục IV.2."
    return "Chưa đủ căn cứ để kết luận về việc có hay không có nghẽn mạng (lý do nêu tại mục IV.2)."


def limit_words(limit: DetectionLimit) -> str:
    """Return the detection limit, as it stands with every claim of absence."""
    return (
        f"giới hạn phát hiện: hàng đợi từ {words.number(math.ceil(limit.queue_ms), 0)} ms kéo dài từ "
        f"{words.number(math.ceil(limit.minutes), 0)} phút"
    )


def _listed(figures: Figures) -> str:
    return words.listed(dict.fromkeys(s.name for s in evidence.judged_checks(figures.plan).values()))


def _not_judged(figures: Figures) -> Paragraph:
    if congested(figures):
        return Paragraph(
            "Bộ giám sát đã xác nhận trạng thái nghẽn trong các khoảng thời gian dưới đây. Ngoài các khoảng này, báo "
            "cáo không kết luận về việc có hay không có nghẽn mạng, vì không có số liệu thời gian khứ hồi để xác định "
            "giới hạn phát hiện.",
            bold="Có ghi nhận nghẽn.",
        )
    return Paragraph(
        "Kỳ báo cáo không có số liệu thời gian khứ hồi để đánh giá, vì vậy báo cáo không đưa ra kết luận về việc có "
        "hay không có nghẽn mạng; chỉ báo cáo tình trạng gián đoạn, thời gian đáp ứng và tỷ lệ mất gói đo được.",
        bold="Chưa đánh giá nghẽn mạng.",
    )


def _claim(figures: Figures, assessed: CongestionFigures, found: Verdict) -> Paragraph:
    when = words.span(figures.period, figures.plan.site.timezone)
    if found is Verdict.NONE_FOUND and assessed.limit is not None:
        peaks = ", kể cả trong các khung giờ cao điểm" if figures.peaks else ""
        return Paragraph(
            f"{when}, trên các đường đo từ trạm đo tới {_listed(figures)}, {words.NO_CONGESTION}{peaks}, với "
            f"{limit_words(assessed.limit)}.",
            bold="Kết luận:",
        )
    if found is Verdict.FOUND:
        return Paragraph(
            f"{when}, {_found_words(figures)}; chi tiết nêu dưới đây.{_elsewhere(figures, assessed)}",
            bold="Kết luận: có nghẽn,",
        )
    return Paragraph(
        f"{when[0].upper()}{when[1:]}, không phát hiện đợt nghẽn nào trong thời gian quan sát được trên các đường đo "
        f"tới {_listed(figures)}, nhưng số liệu không đủ căn cứ để kết luận cho toàn bộ thời gian báo cáo. Lý do:",
        bold="Không đủ căn cứ để kết luận.",
    )


def _found_words(figures: Figures, *, capital: bool = False) -> str:
    """Say how much congestion was found, where and whose; without a judged episode, that the monitor told of it."""
    lead = "Ghi nhận" if capital else "ghi nhận"
    known = names(figures)
    counts = []
    for cause in (CONGESTION, NEAR_SIDE):
        for check, path in (figures.congestion.paths if figures.congestion else {}).items():
            episodes = [e for e in path.episodes if e.cause == cause]
            if episodes:
                total = duration_words(round(path.seconds(cause, figures.period)))
                side = " (phía trạm đo)" if cause == NEAR_SIDE else ""
                counts.append(f"{len(episodes)} đợt nghẽn trên đường đo tới {known[check]}{side}, tổng cộng {total}")
    if counts:
        return f"{lead} {'; '.join(counts)}"
    return f"{lead} trạng thái nghẽn đối với {words.listed(s.name for s, _ in congested(figures))}"


def _elsewhere(figures: Figures, assessed: CongestionFigures) -> str:
    """Say of the paths without an episode what the evidence carries of them by themselves."""
    hit = {s.id for s, _ in congested(figures)}
    judged, known = evidence.judged_checks(figures.plan), names(figures)
    calm = [
        check
        for check, service in judged.items()
        if service.id not in hit and evidence.verdict(assessed, [check], windows(figures)) is Verdict.NONE_FOUND
    ]
    limit = CongestionFigures({c: assessed.paths[c] for c in calm}).limit
    if limit is None:
        return ""
    return f" Trên đường đo tới {words.listed(known[c] for c in calm)} không phát hiện nghẽn, với {limit_words(limit)}."


def _nothing_judged(assessed: CongestionFigures, check: str) -> str:
    """Say why nothing of a path was judged: nothing was measured, or not for long enough to know its floor."""
    if check in assessed.paths and assessed.paths[check].floor_ms is not None:
        return "chưa đủ số liệu để học mức nền của đường đo (6 giờ đầu dùng để học)."
    return "không có số liệu thời gian khứ hồi."


def _why_not(figures: Figures, assessed: CongestionFigures, found: Verdict) -> list[Block]:
    """Say what stands against a claim of absence, path by path."""
    if found not in {Verdict.NOT_ENOUGH, Verdict.NOT_ASSESSED}:
        return []
    zone, known = figures.plan.site.timezone, names(figures)
    lines = [
        (check, _nothing_judged(assessed, check))
        for check in checks(figures)
        if check not in assessed.paths or not assessed.paths[check].usable
    ]
    silent = {check for check, _ in lines}
    lines += [
        (p.check, "chưa đủ số liệu của những giờ không nghẽn để xác định giới hạn phát hiện.")
        for p in assessed.paths.values()
        if p.limit is None and p.check not in silent
    ]
    for o in evidence.obstacles(assessed, checks(figures), windows(figures)):
        if o.check in silent:
            continue
        whole = o.window == figures.period
        when = "cả kỳ báo cáo" if whole else f"giờ cao điểm {words.span(o.window, zone)}"
        if o.near_side:
            lines.append((o.check, f"{when}: đường truyền của chính trạm đo bị nghẽn."))
        else:
            coverage = words.at_least(o.coverage, 2)
            lines.append((o.check, f"{when}: độ phủ {coverage}, dưới {words.at_least(NOT_ENOUGH, 0)}."))
    return [Paragraph(text, Style.BULLET, bold=f"{known[check]}:") for check, text in lines]


def _paths_table(figures: Figures, assessed: CongestionFigures, numbers: Numbering) -> Table:
    columns = (
        Column("Đường đo tới", 0.16),
        Column("Mức nền (ms)", 0.08, right=True),
        Column("Hàng đợi lớn nhất (ms), thời điểm", 0.17, right=True),
        Column("Số đợt nghẽn", 0.08, right=True),
        Column("Tổng thời gian nghẽn", 0.12, right=True),
        Column("Mất gói", 0.13, right=True),
        Column("Độ phủ [giờ cao điểm]", 0.12, right=True),
        Column("Giới hạn phát hiện", 0.14, right=True),
    )
    known = names(figures)
    rows = [_path_row(figures, known.get(p.check, p.check), p) for p in assessed.paths.values()]
    return Table(numbers.table("Đánh giá nghẽn theo đường đo"), columns, tuple(rows))


def _path_row(figures: Figures, name: str, path: PathCongestion) -> tuple[str, ...]:
    most = path.queues.most()
    queue = f"{words.number(most[0], 1)}\n{words.brief(most[1], figures.plan.site.timezone)}" if most else words.DASH
    responses = figures.responses.get(path.check)
    lost, sent = (responses.echoes_lost, responses.echoes_sent) if responses else (0, 0)
    loss = f"{words.count(lost)}/{words.count(sent)}\n({words.at_most(lost / sent, 2)})" if sent else words.DASH
    peaks = [words.at_least(path.coverage(w), 2) for w in windows(figures)[1:]]
    covered = words.at_least(path.coverage(figures.period), 2)
    return (
        name,
        words.number(path.floor_ms, 1) if path.floor_ms is not None else words.DASH,
        queue,
        str(sum(e.cause in {CONGESTION, NEAR_SIDE} for e in path.episodes)),
        words.clock(sum(path.seconds(cause, figures.period) for cause in (CONGESTION, NEAR_SIDE))),
        loss,
        f"{covered}\n[{'; '.join(peaks)}]" if peaks else covered,
        _limit(path.limit),
    )


def _limit(limit: DetectionLimit | None) -> str:
    if limit is None:
        return "chưa xác định"
    least = f"{math.ceil(limit.queue_ms)} ms trong {math.ceil(limit.minutes)} phút"
    return f"{least}\n({limit.trials}/{limit.trials} phép thử)"


def _note(figures: Figures, assessed: CongestionFigures) -> Paragraph:
    expected = max((p.expected for p in assessed.paths.values()), default=0)
    return Paragraph(
        f"Mỗi đường đo có {words.count(expected)} khoảng 5 phút. Hàng đợi: độ trễ của gói nhanh nhất trong khoảng so "
        "với mức nền học từ những giờ vắng của chính đường đo; 6 giờ số liệu đầu tiên dùng để học, chưa đánh giá. Độ "
        "phủ: phần thời gian đánh giá được. Giới hạn phát hiện: hàng đợi nhỏ nhất được tìm thấy trong mọi phép thử "
        "khi cộng vào số liệu đo của chính đường đo ở những giờ không nghẽn; hàng đợi nhỏ hơn hoặc ngắn hơn có thể "
        f"không được ghi nhận.{_blurred(figures)}",
        Style.NOTE,
    )


def _blurred(figures: Figures) -> str:
    if not figures.summed:
        return ""
    return (
        " Nơi số liệu gốc đã xoá theo hạn lưu, việc đánh giá dựa trên bản tóm tắt từng 5 phút; giới hạn phát hiện vì "
        "thế dài thêm 10 phút."
    )


def _episodes(figures: Figures, assessed: CongestionFigures, numbers: Numbering) -> list[Block]:
    known = names(figures)
    found = [(known.get(p.check, p.check), e) for p in assessed.paths.values() for e in p.episodes]
    if not found:
        return []
    columns = (
        Column("Đường đo tới", 0.17),
        Column("Bắt đầu", 0.14),
        Column("Kết thúc", 0.14),
        Column("Kéo dài", 0.1),
        Column("Độ trễ tăng tối đa / mức nền (ms)", 0.15, right=True),
        Column("Mất gói", 0.1, right=True),
        Column("Nhận định", 0.2),
    )
    ordered = sorted(found, key=lambda pair: (pair[1].start, pair[0]))
    rows = [_episode_row(figures, name, e) for name, e in ordered[:EPISODES]]
    table = Table(numbers.table("Các đợt nghẽn và thay đổi độ trễ ghi nhận"), columns, tuple(rows))
    if len(found) <= EPISODES:
        return [table]
    rest = f"Bảng trên có {EPISODES} trong tổng số {len(found)} đợt; toàn bộ có trong tệp số liệu kèm theo."
    return [table, Paragraph(rest, Style.NOTE)]


def _episode_row(figures: Figures, name: str, e: CongestionEpisode) -> tuple[str, ...]:
    zone = figures.plan.site.timezone
    peak = any(evidence.touches(e, w) for w in windows(figures)[1:])
    cause = _CAUSES[e.cause]
    said = cause if e.cause == ROUTE_CHANGE else f"{cause}, mức {_SEVERITIES[e.severity]}"
    return (
        name,
        words.brief(e.start, zone),
        words.brief(e.end, zone),
        duration_words(round((e.end - e.start).total_seconds())),
        f"{words.number(e.peak_ms, 1)} / {words.number(e.floor_ms, 1)}",
        f"{words.count(e.lost)}/{words.count(e.sent)}" if e.sent else words.DASH,
        f"{said}{'; trong giờ cao điểm' if peak else ''}",
    )


def _seen(figures: Figures) -> list[Block]:
    """Tell what the monitor believed while it watched, where no episode above says it already."""
    zone, assessed = figures.plan.site.timezone, figures.congestion
    told = [e for p in assessed.paths.values() for e in p.episodes if e.cause != ROUTE_CHANGE] if assessed else []
    judged = {s.id for s in evidence.judged_checks(figures.plan).values()}
    found: list[Block] = []
    for service, all_spans in congested(figures):
        spans = [
            s
            for s in all_spans
            if service.id not in judged or not any(e.start < s.end and e.end > s.start for e in told)
        ]
        if not spans:
            continue
        shown = [f"{words.brief(s.start, zone)} – {words.brief(s.end, zone)}" for s in spans[:SPANS]]
        more = f" và {len(spans) - SPANS} khoảng khác" if len(spans) > SPANS else ""
        total = duration_words(sum(s.seconds for s in spans))
        found.append(
            Paragraph(
                f"{_spans_lead(spans)}, tổng cộng {total}: {'; '.join(shown)}{more}.",
                Style.BULLET,
                bold=f"{service.name}:",
            )
        )
    return found


def _spans_lead(spans: Sequence[Segment]) -> str:
    return f"bộ giám sát đã báo {len(spans)} khoảng ở trạng thái nghẽn"
