"""What a peak looked like beside the same hours of the other days of the period. Pure.

For reading, never for judging: a queue of a peak is a queue, however usual it is at that hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, tzinfo

from config.plan import Window
from exporters import text_report as words
from exporters.report.congestion import PathCongestion, Queues
from exporters.report.document import Column, Numbering, Table
from exporters.report.figures import Figures, within
from exporters.text import number_words


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
