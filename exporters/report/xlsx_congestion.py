"""The sheets of a workbook about congestion: what they say, as plain rows; `xlsx` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from exporters.report import congestion_claims as claims
from exporters.report.congestion import CONGESTION, NEAR_SIDE, ROUTE_CHANGE, CongestionFigures, PathCongestion
from exporters.report.figures import Figures

_COUNT: Final = "#,##0"
_MS: Final = "#,##0.0"
_TIME: Final = "dd/mm/yyyy hh:mm:ss"
_SHARE: Final = "0.00%"
_CAUSES: Final = {CONGESTION: "nghẽn", NEAR_SIDE: "nghẽn phía trạm đo", ROUTE_CHANGE: "đổi đường truyền"}
_SEVERITIES: Final = {"light": "nhẹ", "moderate": "vừa", "severe": "nặng"}
Cell = str | float | datetime | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet: its name, its columns with the form of their numbers, and its rows."""

    name: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]


def sheets(figures: Figures, found: CongestionFigures) -> list[Sheet]:
    """Return the sheets of what was found: path by path, episode by episode. Times are UTC."""
    return [_paths(figures, found), _episodes(figures, found)]


def _paths(figures: Figures, found: CongestionFigures) -> Sheet:
    heads = (
        ("Đường đo tới", "General"),
        ("Mã phép kiểm tra", "General"),
        ("Mức nền (ms)", _MS),
        ("Ngưỡng (ms)", _MS),
        ("Hàng đợi 95% (ms)", _MS),
        ("Hàng đợi lớn nhất (ms)", _MS),
        ("Thời điểm", _TIME),
        ("Số đợt nghẽn", _COUNT),
        ("Tổng thời gian nghẽn (giây)", _COUNT),
        ("Nghẽn phía trạm đo (giây)", _COUNT),
        ("Gói gửi", _COUNT),
        ("Gói mất", _COUNT),
        ("Tỷ lệ mất gói", _SHARE),
        ("Khoảng đo dự kiến", _COUNT),
        ("Khoảng đo đánh giá được", _COUNT),
        ("Độ phủ", _SHARE),
        ("Độ phủ giờ cao điểm thấp nhất", _SHARE),
        ("Giới hạn phát hiện (ms)", _MS),
        ("kéo dài từ (phút)", _COUNT),
        ("Số phép thử", _COUNT),
    )
    names = claims.names(figures)
    return Sheet("Nghẽn mạng", heads, [_path(figures, names, p) for p in found.paths.values()])


def _path(figures: Figures, names: Mapping[str, str], p: PathCongestion) -> list[Cell]:
    most, responses = p.queues.most(), figures.responses.get(p.check)
    sent, lost = (responses.echoes_sent, responses.echoes_lost) if responses else (0, 0)
    return [
        names.get(p.check, p.check),
        p.check,
        p.floor_ms,
        p.threshold_ms,
        p.queues.at_most(0.95),
        most[0] if most else None,
        most[1] if most else None,
        sum(e.cause == CONGESTION for e in p.episodes),
        p.seconds(CONGESTION, figures.period),
        p.seconds(NEAR_SIDE, figures.period),
        sent,
        lost,
        lost / sent if sent else None,
        p.expected,
        len(p.queues.ms),
        p.coverage(figures.period),
        min((p.coverage(w) for w in claims.windows(figures)[1:]), default=None),
        p.limit.queue_ms if p.limit else None,
        p.limit.minutes if p.limit else None,
        p.limit.trials if p.limit else None,
    ]


def _episodes(figures: Figures, found: CongestionFigures) -> Sheet:
    heads = (
        ("Đường đo tới", "General"),
        ("Bắt đầu", _TIME),
        ("Kết thúc", _TIME),
        ("Kéo dài (giây)", _COUNT),
        ("Nhận định", "General"),
        ("Mức độ", "General"),
        ("Độ trễ tăng tối đa (ms)", _MS),
        ("Mức nền (ms)", _MS),
        ("Ngưỡng (ms)", _MS),
        ("Gói gửi", _COUNT),
        ("Gói mất", _COUNT),
    )
    names = claims.names(figures)
    rows: list[list[Cell]] = [
        [
            names.get(p.check, p.check),
            e.start,
            e.end,
            (e.end - e.start).total_seconds(),
            _CAUSES[e.cause],
            _SEVERITIES[e.severity] if e.cause != ROUTE_CHANGE else None,
            e.peak_ms,
            e.floor_ms,
            e.threshold_ms,
            e.sent,
            e.lost,
        ]
        for p in found.paths.values()
        for e in p.episodes
    ]
    return Sheet("Các đợt nghẽn", heads, rows)


def queues(figures: Figures, found: CongestionFigures, step_s: float) -> Sheet:
    """Return the queueing delay over time, a column a path: what the chart is drawn from."""
    names = claims.names(figures)
    columns = [dict(p.queues.points(step_s, figures.period.start)) for p in found.paths.values()]
    moments = sorted({moment for column in columns for moment in column})
    heads = [("Thời điểm", _TIME), *((f"{names.get(c, c)} (ms)", _MS) for c in found.paths)]
    return Sheet("Hàng đợi", heads, [[m, *(c.get(m) for c in columns)] for m in moments])
