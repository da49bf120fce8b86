"""What a peak looked like beside the same hours of other days, and beside the peak of the event before. Pure.

For reading, never for judging: a queue of a peak is a queue, however usual it is at that hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, tzinfo
from typing import Final

from config.plan import Window
from exporters import text_report as words
from exporters.report.congestion import PathCongestion, Queues
from exporters.report.document import Block, Column, Numbering, Paragraph, Style, Table
from exporters.report.figures import Figures, within
from exporters.report.peak_past import DAYS, Answered, PeakPast
from exporters.text import number_words

_PAST_NOTE: Final = (
    f"Ngày thường: tối đa {DAYS} ngày liền trước sự kiện, không kể ngày thuộc sự kiện khác, trong chừng mực còn số "
    "liệu; trung vị là giá trị giữa của trung vị các ngày, trong ngoặc là ngày thấp nhất và ngày cao nhất. Tỷ lệ mất: "
    "gói tin đối với phép đo bằng gói tin, lượt đo hỏng đối với phép đo khác. Dấu –: không tính được. Bảng chỉ để so "
    "sánh: hàng đợi đêm nào cũng có vẫn được ghi nhận là hàng đợi."
)


def same_hours(peak: Window, period: Window, zone: tzinfo, peaks: Sequence[Window]) -> list[Window]:
    """Return a peak's hours of the clock on each other day of a period, as far as no peak lies in them."""
    begin, length = peak.start.astimezone(zone), peak.end - peak.start
    found = []
    days = (period.end - period.start).days + 2
    for back in range(-days, days + 1):
        local = (begin.replace(tzinfo=None) + timedelta(days=back)).replace(tzinfo=zone)
        window = Window(local.astimezone(period.start.tzinfo), local.astimezone(period.start.tzinfo) + length)
        inside = window.start >= period.start and window.end <= period.end
        if back and inside and not any(p.start < window.end and window.start < p.end for p in peaks):
            found.append(window)
    return found


def part(queues: Queues, windows: Sequence[Window]) -> Queues:
    """Return the bins that begin within some windows."""
    spans = [(w.start.timestamp(), w.end.timestamp()) for w in windows]
    kept = [
        (start, ms)
        for start, ms in zip(queues.starts, queues.ms, strict=True)
        if any(low <= start < high for low, high in spans)
    ]
    return Queues([start for start, _ in kept], [ms for _, ms in kept])


def baseline_tables(figures: Figures, numbers: Numbering) -> list[Table]:
    """Return, for each peak, a row a path: its delay and queue then, and in the same hours of other days."""
    found = figures.congestion
    if found is None:
        return []
    zone, spans = figures.plan.site.timezone, [within(p, figures.period) for p in figures.peaks]
    names = {t.id: f"{s.name}: {t.name}" for s in figures.plan.services for t in s.targets}
    services = {t.id: s.id for s in figures.plan.services for t in s.targets}
    columns = (
        Column("Đường đo", 0.28),
        Column("Độ trễ nhỏ nhất trong giờ cao điểm: trung vị – p95 (ms)", 0.24, right=True),
        Column("Cùng khung giờ các ngày khác (ms)", 0.24, right=True),
        Column("Hàng đợi p95: cao điểm / ngày khác (ms)", 0.24, right=True),
    )
    tables = []
    for peak, window in zip(figures.peaks, spans, strict=True):
        ordinary = same_hours(window, figures.period, zone, spans)
        rows = [
            _row(names[check], path, window, ordinary)
            for check, path in found.paths.items()
            if check in names and (not peak.services or services[check] in peak.services)
        ]
        if rows:
            caption = f"Giờ cao điểm {words.span(window, zone)} so với cùng khung giờ của {len(ordinary)} ngày khác"
            tables.append(Table(numbers.table(caption), columns, tuple(rows)))
    return tables


def past_blocks(
    figures: Figures, pasts: Sequence[PeakPast], compared: Figures | None, numbers: Numbering
) -> list[Block]:
    """Return, for each peak, what each check said then, on the ordinary days before, and in the peak before.

    Args:
        figures: of the period.
        pasts: what was read of those times.
        compared: the figures of the other event, where the report has them: queues come from these.
        numbers: of the tables.
    """
    zone = figures.plan.site.timezone
    columns = (
        Column("Dịch vụ: phép đo", 0.24),
        Column("Khi nào", 0.28),
        Column("Lượt đáp ứng / lượt đo", 0.14, right=True),
        Column("Đáp ứng trung vị (ms)", 0.14, right=True),
        Column("Hàng đợi p95 (ms)", 0.1, right=True),
        Column("Tỷ lệ mất", 0.1, right=True),
    )
    found: list[Block] = []
    names = {t.id: f"{s.name}: {t.name}" for s in figures.plan.services for t in s.targets}
    for past in pasts:
        rows = [
            (names[t.id] if first else "", *cells)
            for t in past.targets
            for first, cells in zip((True, False, False), _three(figures, past, compared, t.id), strict=True)
        ]
        if rows:
            caption = f"Giờ cao điểm {words.span(past.window, zone)} so với ngày thường trước sự kiện và kỳ trước"
            found.append(Table(numbers.table(caption), columns, tuple(rows)))
    return [*found, Paragraph(_PAST_NOTE, Style.NOTE)] if found else []


def _three(figures: Figures, past: PeakPast, compared: Figures | None, check: str) -> list[tuple[str, ...]]:
    zone = figures.plan.site.timezone
    then, usual, earlier = past.then.get(check), past.usual.get(check), past.earlier.get(check)
    days = usual.windows if usual else 0
    before = "Giờ cao điểm kỳ trước"
    if past.event is not None and past.before is not None:
        before += f" ({past.event.name}, {words.span(past.before, zone)})"
    return [
        ("Giờ cao điểm này", *_cells(then, _queue(figures, check, past.window))),
        (f"Cùng khung giờ, {days} ngày thường trước sự kiện" if days else "Cùng khung giờ, ngày thường trước sự kiện",
         *_cells(usual, words.DASH)),
        (before, *_cells(earlier, _queue(compared, check, past.before))),
    ]  # fmt: skip


def _cells(found: Answered | None, queue: str) -> tuple[str, ...]:
    if found is None or not found.windows:
        return words.NO_DATA, words.DASH, queue, words.DASH
    median = words.milliseconds(found.median_s)
    if found.windows > 1 and found.low_s is not None:
        median += f"\n({words.milliseconds(found.low_s)} – {words.milliseconds(found.high_s)})"
    lost = words.DASH if found.lost is None else f"{number_words(100 * found.lost, 2)}%"
    return f"{words.count(found.good)} / {words.count(found.good + found.bad)}", median, queue, lost


def _queue(figures: Figures | None, check: str, window: Window | None) -> str:
    """Return the queue of a path in a window, where the figures have judged it."""
    path = figures.congestion.paths.get(check) if figures and figures.congestion else None
    return _ms(part(path.queues, [window]).at_most(0.95)) if path and window else words.DASH


def _row(name: str, path: PathCongestion, peak: Window, ordinary: Sequence[Window]) -> tuple[str, ...]:
    then, usual = part(path.queues, [peak]), part(path.queues, ordinary)
    queues = f"{_ms(then.at_most(0.95))} / {_ms(usual.at_most(0.95))}"
    return name, _delay(path, then), _delay(path, usual), queues


def _delay(path: PathCongestion, queues: Queues) -> str:
    if path.floor_ms is None or not queues.ms:
        return words.DASH
    middle, high = queues.at_most(0.5), queues.at_most(0.95)
    assert middle is not None  # there are bins
    assert high is not None
    return f"{_ms(path.floor_ms + middle)} – {_ms(path.floor_ms + high)}"


def _ms(value: float | None) -> str:
    return words.DASH if value is None else number_words(value, 1)
