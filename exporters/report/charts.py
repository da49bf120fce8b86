"""Charts as SVG: availability strips, response times with the peaks marked, carriers side by side. Pure.

Drawn by hand, so that they are text in the PDF, the same to the byte everywhere, and readable in black and white: what
is down is tall and dark, what was not observed is hatched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from config.calendar import days_of, lunar_label
from config.plan import Language, Peak, Window
from exporters.report.document import Chart
from exporters.text import number_words, state_word
from monitor.availability import Segment
from monitor.model import State
from monitor.series import Point

WIDTH: Final = 467.0  # points: the width of the text
LEFT: Final = 112.0  # for names
RIGHT: Final = 8.0
FONT: Final = "Liberation Serif"
INK: Final = "#1a1a1a"
GRID: Final = "#c8c8c8"
PEAK: Final = "#ffe9b8"
_COLOURS: Final = {
    State.UP: "#9ccc9c",
    State.DEGRADED: "#f0c648",
    State.CONGESTED: "#e07b00",
    State.DOWN: "#a3001b",
    State.UNKNOWN: "url(#blind)",
    State.MAINTENANCE: "#b9c7d6",
}
_HEIGHTS: Final = {
    State.UP: 0.5,
    State.DEGRADED: 0.7,
    State.CONGESTED: 0.85,
    State.DOWN: 1.0,
    State.UNKNOWN: 0.5,
    State.MAINTENANCE: 0.3,
}
_HATCH: Final = (
    '<defs><pattern id="blind" width="4" height="4" patternUnits="userSpaceOnUse">'
    '<rect width="4" height="4" fill="#ffffff"/><path d="M0,4 L4,0" stroke="#777777" stroke-width="0.8"/>'
    "</pattern></defs>"
)
_SERIES: Final = ("#12507b", "#c2410c")  # median, 95 %
RESPONSE: Final = ("trung vị", "95% lượt đo không chậm hơn")
_DAYS_NAMED: Final = 9  # with more days than this the lunar date is left out


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of the availability chart."""

    name: str
    segments: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel of the response chart."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Bar:
    """One carrier's bars."""

    name: str
    median_s: float | None
    p95_s: float | None
    lost: int
    sent: int


class _Canvas:
    def __init__(self, height: float) -> None:
        self.height = height
        self._parts: list[str] = []

    def rect(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = "none") -> None:
        self._parts.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}" fill="{fill}" stroke="{stroke}" '
            'stroke-width="0.5"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = GRID) -> None:
        self._parts.append(
            f'<path d="M{x1:.2f},{y1:.2f} L{x2:.2f},{y2:.2f}" stroke="{colour}" stroke-width="0.5" fill="none"/>'
        )

    def text(self, x: float, y: float, words: str, *, size: float = 8.5, anchor: str = "start") -> None:
        self._parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" font-family="{FONT}" font-size="{size}" fill="{INK}" '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str, width: float = 0.9) -> None:
        if len(points) == 1:
            self.rect(points[0][0] - 0.5, points[0][1] - 0.5, 1.0, 1.0, colour)
        elif points:
            way = " ".join(f"{'L' if i else 'M'}{x:.2f},{y:.2f}" for i, (x, y) in enumerate(points))
            self._parts.append(f'<path d="{way}" stroke="{colour}" stroke-width="{width}" fill="none"/>')

    def chart(self, caption: str, says: str) -> Chart:
        body = "".join(self._parts)
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:g}pt" height="{self.height:g}pt" '
            f'viewBox="0 0 {WIDTH:g} {self.height:g}">{_HATCH}<rect width="{WIDTH:g}" height="{self.height:g}" '
            f'fill="#ffffff"/>{body}</svg>'
        )
        return Chart(svg, WIDTH, self.height, caption, says)


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis of time, with the peaks of the event."""

    period: Window
    zone: ZoneInfo
    peaks: Sequence[Peak]

    def x(self, moment: datetime) -> float:
        """Return where a moment stands."""
        whole = (self.period.end - self.period.start).total_seconds()
        return LEFT + (WIDTH - LEFT - RIGHT) * (moment - self.period.start).total_seconds() / whole

    def marked(self) -> list[tuple[float, float]]:
        """Return the spans of the peaks, wide enough to be seen."""
        spans = []
        for peak in self.peaks:
            start, end = max(peak.window.start, self.period.start), min(peak.window.end, self.period.end)
            if start < end:
                spans.append((self.x(start), max(self.x(end), self.x(start) + 1.5)))
        return spans

    def ticks(self) -> list[tuple[float, str, str]]:
        """Return where lines stand, with the civil and the lunar date; hours where the axis is short."""
        whole = self.period.end - self.period.start
        if whole <= timedelta(days=2):
            return self._hours(whole)
        days = days_of(self.period, self.zone)
        step = max(1, math.ceil(len(days) / 13))
        lunar = len(days) <= _DAYS_NAMED
        return [
            (self.x(d.window.start), d.day.strftime("%d/%m"), lunar_label(d.day) if lunar else "") for d in days[::step]
        ]

    def _hours(self, whole: timedelta) -> list[tuple[float, str, str]]:
        hours = whole / timedelta(hours=1)
        step = next((s for s in (0.25, 0.5, 1, 2, 3, 6, 12) if hours / s <= 12), 12)
        local = self.period.start.astimezone(self.zone)
        first = local.replace(minute=0, second=0, microsecond=0)
        first = first.replace(hour=int(first.hour // step * step) if step >= 1 else first.hour)
        marks = (first + timedelta(hours=step * i) for i in range(int(hours / step) + 3))
        return [
            (self.x(m), m.strftime("%H:%M"), m.strftime("%d/%m") if m.hour == m.minute == 0 else "")
            for m in marks
            if self.period.start <= m < self.period.end
        ]


def _frame(canvas: _Canvas, axis: Axis, top: float, bottom: float) -> None:
    for start, end in axis.marked():
        canvas.rect(start, top, end - start, bottom - top, PEAK)
    for x, _, _ in axis.ticks():
        canvas.line(x, top, x, bottom)
    canvas.rect(LEFT, top, WIDTH - LEFT - RIGHT, bottom - top, "none", INK)


def _dates(canvas: _Canvas, axis: Axis, y: float) -> None:
    for x, civil, lunar in axis.ticks():
        canvas.text(x + 1, y, civil, size=7.5)
        canvas.text(x + 1, y + 8, lunar, size=7)


def strips(rows: Sequence[Strip], axis: Axis, caption: str) -> Chart:
    """Draw a row a service: what it was at each moment."""
    pitch, top = 17.0, 6.0
    bottom = top + pitch * len(rows)
    canvas = _Canvas(bottom + 36)
    _frame(canvas, axis, top, bottom)
    for i, row in enumerate(rows):
        base = top + pitch * (i + 1) - 2
        canvas.text(LEFT - 4, base - 3, _short(row.name), anchor="end")
        for s in row.segments:
            height = (pitch - 4) * _HEIGHTS[s.state]
            # What is brief is still drawn: half a point is the thinnest line a printer shows.
            wide = max(axis.x(s.end) - axis.x(s.start), 0.6 if s.state is not State.UP else 0.0)
            canvas.rect(axis.x(s.start), base - height, wide, height, _COLOURS[s.state])
    _dates(canvas, axis, bottom + 9)
    work = any(s.state is State.MAINTENANCE for row in rows for s in row.segments)
    _legend(canvas, bottom + 25, peaks=bool(axis.marked()), work=work)
    return canvas.chart(caption, "; ".join(_says(row) for row in rows))


def _says(row: Strip) -> str:
    down = sum(s.state is State.DOWN for s in row.segments)
    return f"{row.name}: {down} đoạn gián đoạn" if down else f"{row.name}: không có đoạn gián đoạn"


def _legend(canvas: _Canvas, y: float, *, peaks: bool, work: bool) -> None:
    x = 8.0
    shown = (State.UP, State.DEGRADED, State.CONGESTED, State.DOWN, State.UNKNOWN)
    for state in (*shown, State.MAINTENANCE) if work else shown:
        height = 8 * _HEIGHTS[state]
        canvas.rect(x, y + 7 - height, 12, height, _COLOURS[state], INK)
        words = state_word(state)
        canvas.text(x + 15, y + 6.5, words, size=8)
        x += 28 + 4.1 * len(words)
    if peaks:
        canvas.rect(x, y, 12, 7, PEAK, INK)
        canvas.text(x + 15, y + 6.5, "giờ cao điểm", size=8)


def response(
    curves: Sequence[Curve], axis: Axis, step: timedelta, caption: str, labels: tuple[str, ...] = RESPONSE
) -> Chart:
    """Draw a panel a check: median and 95 % of the response time in each bin; gaps stay gaps.

    With one label only the median is drawn: points of which there is one value a bin.
    """
    pitch, top = 44.0, 6.0
    canvas = _Canvas(top + pitch * len(curves) + 34)
    for i, curve in enumerate(curves):
        _panel(canvas, axis, curve, (step, len(labels)), (top + pitch * i, top + pitch * (i + 1) - 8))
    bottom = top + pitch * len(curves) - 8
    _dates(canvas, axis, bottom + 9)
    y = bottom + 30
    for x, colour, words in zip((LEFT, LEFT + 70), _SERIES, labels, strict=False):
        canvas.line(x, y - 3, x + 14, y - 3, colour)
        canvas.rect(x, y - 3.8, 14, 1.6, colour)
        canvas.text(x + 17, y, words, size=8)
    if axis.marked():
        canvas.rect(LEFT + 210, y - 7, 12, 7, PEAK, INK)
        canvas.text(LEFT + 225, y, "giờ cao điểm", size=8)
    says = "; ".join(f"{c.name}: cao nhất {_ms(max((p.p95_s or 0 for p in c.points), default=0))}" for c in curves)
    return canvas.chart(caption, says)


def _panel(canvas: _Canvas, axis: Axis, curve: Curve, kind: tuple[timedelta, int], span: tuple[float, float]) -> None:
    (step, lines), (top, bottom) = kind, span
    _frame(canvas, axis, top, bottom)
    most = _ceiling(max((p.p95_s or 0.0 for p in curve.points), default=0.001))
    canvas.text(LEFT - 4, top + 16, _short(curve.name), anchor="end")
    canvas.text(LEFT - 4, top + 6, _ms(most), size=7, anchor="end")
    canvas.text(LEFT - 4, bottom, "0", size=7, anchor="end")
    canvas.line(LEFT, (top + bottom) / 2, WIDTH - RIGHT, (top + bottom) / 2)

    def y(seconds: float) -> float:
        return bottom - (bottom - top) * min(seconds / most, 1.0)

    for colour, pick in ((_SERIES[1], "p95_s"), (_SERIES[0], "median_s"))[2 - lines :]:
        run: list[tuple[float, float]] = []
        last: datetime | None = None
        for p in curve.points:
            value = getattr(p, pick)
            if value is None or (last is not None and p.start - last > step * 1.5):
                canvas.path(run, colour)
                run = []
            if value is not None:
                run.append((axis.x(min(p.start + step / 2, axis.period.end)), y(value)))
                last = p.start
        canvas.path(run, colour)


def carriers(bars: Sequence[Bar], caption: str) -> Chart:
    """Draw the carriers side by side: median and 95 % of the response time, and the share of packets lost."""
    pitch, top = 24.0, 16.0
    bottom = top + pitch * len(bars)
    canvas = _Canvas(bottom + 6)
    split = LEFT + (WIDTH - LEFT - RIGHT) * 0.62
    canvas.text(LEFT, 10, "Thời gian đáp ứng: trung vị và 95%", size=8)
    canvas.text(split + 8, 10, "Tỷ lệ mất gói", size=8)
    most = _ceiling(max((b.p95_s or 0.0 for b in bars), default=0.001))
    losses = [b.lost / b.sent if b.sent else 0.0 for b in bars]
    most_loss = max(max(losses, default=0.0), 0.001)
    for i, (bar, loss) in enumerate(zip(bars, losses, strict=True)):
        y = top + pitch * i
        canvas.text(LEFT - 4, y + 13, _short(bar.name), anchor="end")
        for j, value in enumerate((bar.median_s, bar.p95_s)):
            if value is not None:
                wide = (split - LEFT - 44) * value / most
                canvas.rect(LEFT, y + 2 + 9 * j, wide, 7, _SERIES[j])
                canvas.text(LEFT + wide + 3, y + 8.5 + 9 * j, _ms(value), size=7.5)
        if bar.sent:
            canvas.rect(split + 8, y + 6, (WIDTH - RIGHT - split - 52) * loss / most_loss, 8, "#6b6b6b")
            x = split + 8 + (WIDTH - RIGHT - split - 52) * loss / most_loss + 3
            canvas.text(x, y + 13, f"{number_words(loss * 100, 2, Language.VI)}%", size=7.5)
        else:
            canvas.text(split + 8, y + 13, "không đo", size=7.5)
    canvas.line(LEFT, top, LEFT, bottom, INK)
    canvas.line(split + 8, top, split + 8, bottom, INK)
    return canvas.chart(caption, "; ".join(f"{b.name}: trung vị {_ms(b.median_s or 0)}" for b in bars))


def _ceiling(value: float) -> float:
    """Return the next round number of seconds: 1, 2 or 5 times a power of ten."""
    value = max(value, 0.001)
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= value * 0.999999)


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    digits = 0 if ms >= 10 or ms == 0 else 1
    return f"{number_words(ms, digits, Language.VI)} ms"


def _short(name: str, limit: int = 27) -> str:
    return name if len(name) <= limit else name[: limit - 1].rstrip() + "…"
