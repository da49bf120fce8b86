"""The labelled series: what is in them, and how episodes are scored against them."""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from monitor.judge.limit import Packet
from monitor.judge.route import is_flat

HERE: Final = Path(__file__).parent / "data"
SLOT_S: Final = 900.0
SAME_EVENT_S: Final = 7200.0  # labels nearer than this are one event
APART_S: Final = 1800.0  # an episode this far from every label is spurious
RISE_S: Final = 0.007
HOUR_S: Final = 3600.0

Span = tuple[float, float]


def more_data() -> Path:
    """Return where more series may lie than the project keeps."""
    return Path(os.environ.get("THONGSUOT_SCORE_DATA", HERE.parent.parent.parent / "shared" / "data"))


def jitterbug() -> tuple[list[Packet], list[Span], Span]:
    """Return packets, congested spans, and the labelled period."""
    with (HERE / "jitterbug" / "raw.csv").open() as file:
        packets = [Packet(float(r["epoch"]), float(r["values"]) / 1000) for r in csv.DictReader(file)]
    with (HERE / "jitterbug" / "jd_inferences.csv").open() as file:
        rows = [(float(r["starts"]), float(r["ends"]), float(r["congestion"])) for r in csv.DictReader(file)]
    return packets, [(s, e) for s, e, c in rows if c], (rows[0][0], rows[-1][1])


@dataclass(frozen=True, slots=True)
class Found:
    """An episode of any rule: its span and when it was told."""

    start: float
    end: float
    alarm_at: float


@dataclass(frozen=True, slots=True)
class Score:
    """How well found episodes match labelled spans."""

    events: int
    events_found: int
    precision: float
    recall: float
    f1: float
    spurious: int
    minutes_median: float | None
    minutes_most: float | None


def score(found: Sequence[Found], labels: Sequence[Span], period: Span) -> Score:
    """Score by slots of 15 minutes (a slot counts when any of it is covered) and by events."""
    slots = [period[0] + i * SLOT_S for i in range(int((period[1] - period[0]) // SLOT_S))]
    marked = [any(s <= t < e for s, e in labels) for t in slots]
    named = [any(f.start < t + SLOT_S and f.end > t for f in found) for t in slots]
    both = sum(a and b for a, b in zip(marked, named, strict=True))
    precision = both / max(1, sum(named))
    recall = both / max(1, sum(marked))
    events: list[Span] = []
    for start, end in labels:
        if events and start - events[-1][1] <= SAME_EVENT_S:
            events[-1] = (events[-1][0], end)
        else:
            events.append((start, end))
    firsts = [next((f for f in found if f.start < e and f.end > s), None) for s, e in events]
    minutes = [(f.alarm_at - s) / 60 for f, (s, _) in zip(firsts, events, strict=True) if f]
    inside = [f for f in found if f.start >= period[0] and f.end <= period[1]]
    return Score(
        len(events),
        len(minutes),
        precision,
        recall,
        2 * precision * recall / (precision + recall) if both else 0.0,
        sum(all(f.start >= e + APART_S or f.end <= s - APART_S for s, e in labels) for f in inside),
        statistics.median(minutes) if minutes else None,
        max(minutes, default=None),
    )


# RIPE Atlas series with hand-marked changes of level.


@dataclass(frozen=True, slots=True)
class Rise:
    """A marked rise of the level, from the mark to the next."""

    start: float
    end: float
    flat: bool  # stays flat for its first hour


def atlas_files() -> list[Path]:
    """Return every Atlas series that can be found."""
    all_of_them = sorted((more_data() / "atlas_rtt_labelled" / "real").glob("*.csv"))
    return all_of_them or sorted((HERE / "atlas").glob("*.csv"))


def atlas(file: Path) -> tuple[list[Packet], list[Rise]]:
    """Read one series and its marked rises of 7 ms and more between medians."""
    packets, marks = [], []
    with file.open() as lines:
        for row in csv.DictReader(lines, delimiter=";"):
            rtt = float(row["rtt"].replace(",", ".") or "nan")
            packets.append(Packet(_when(row["epoch"]), rtt / 1000 if 0 < rtt < 1000 else None))
            if row["cp"].strip() in ("1", "1.0"):
                marks.append(len(packets) - 1)
    return packets, _rises(packets, [0, *marks, len(packets)])


def _when(text: str) -> float:
    form = "%d/%m/%Y %H:%M" if "/" in text else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()


def _rises(packets: Sequence[Packet], edges: Sequence[int]) -> list[Rise]:
    rises = []
    for before, mark, after in zip(edges, edges[1:], edges[2:], strict=False):
        old = [p.rtt_s for p in packets[before:mark] if p.rtt_s]
        new = [p.rtt_s for p in packets[mark:after] if p.rtt_s]
        if len(old) < 3 or len(new) < 3:
            continue
        rise = statistics.median(new) - statistics.median(old)
        start, end = packets[mark].at, packets[after - 1].at
        hour = [p.rtt_s for p in packets[mark:after] if p.rtt_s and p.at < start + HOUR_S]
        if rise >= RISE_S:
            rises.append(Rise(start, end, end - start >= HOUR_S and is_flat(hour, rise, 0.0, 0.10)))
    return rises
