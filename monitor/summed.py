"""Summaries read back as if the results were still there: counts exact, times as far as a summary holds them.

Whole hours are told from their histogram, each time within 1 % (the fastest and the slowest exactly); parts of hours
from the bins of five minutes, whose ranks are exact and what lies between them is drawn straight. Packets stand evenly
in their bin, slow ones among fast ones, so that the judge sees a queue only where a whole bin had one.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from monitor import segments
from monitor.asked import Answers, Asked, Bins, Said
from monitor.congestion_record import Timed
from monitor.summaries import BIN, BIN_MS, COUNTS, HOUR, HOUR_MS, PACKETS, RANKS, STEP, rank

_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_NAMES: Final = ["kind", "subject", "time", *COUNTS, *RANKS, "steps", "step_counts", *PACKETS]
_LOST: Final = math.inf


def read(file: Path, asked: Asked) -> Said:
    """Answer everything that is asked of a file, as `monitor.answers.read` does of a segment.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    rows = _read(file)
    said = Said([list(_in_bins(rows, wanted)) if wanted.end_ms else [] for wanted in asked.bins], {})
    if asked.hours:
        judged = set(asked.judged)
        bins = [r for r in rows if r["kind"] == BIN and r["packets_sent"] and r["subject"] in judged]
        for number, (start, end) in asked.hours.items():
            said.packets[number] = packets_of([r for r in bins if start <= r["time"] < end])
    return said


def _read(file: Path) -> list[dict[str, Any]]:
    table = segments.read_columns(file, _NAMES, pc.field("kind").isin([HOUR, BIN]))
    place = table.schema.get_field_index("time")
    rows: list[dict[str, Any]] = table.set_column(place, "time", table.column("time").cast("int64")).to_pylist()
    return rows


# Counts and times.


def _in_bins(rows: Sequence[Mapping[str, Any]], wanted: Bins) -> Iterator[Answers]:
    """Tell hours that lie whole in one of the bins asked for at once, and the others by their five minutes."""
    for row in rows:
        start = row["time"]
        if not _asked_for(row["subject"], wanted.checks):
            continue
        if row["kind"] == HOUR:
            if _lies_whole(start, wanted):
                yield _answers(row, (start - wanted.start_ms) // wanted.step_ms, _by_steps(row))
        elif wanted.start_ms <= start < wanted.end_ms and not _lies_whole(start - start % HOUR_MS, wanted):
            yield _answers(row, (start - wanted.start_ms) // wanted.step_ms, _by_ranks(row))


def _asked_for(check: str, checks: Collection[str] | None) -> bool:
    return checks is None or check in checks


def _lies_whole(hour: int, wanted: Bins) -> bool:
    first, last = hour - wanted.start_ms, hour + HOUR_MS - 1 - wanted.start_ms
    return first >= 0 and hour + HOUR_MS <= wanted.end_ms and first // wanted.step_ms == last // wanted.step_ms


def _answers(row: Mapping[str, Any], place: int, micros: array[int]) -> Answers:
    good, bad, blind, sent, lost = (row[name] for name in COUNTS)
    return Answers(row["subject"], place, good, bad, blind, sent, lost, memoryview(micros))


def _by_steps(row: Mapping[str, Any]) -> array[int]:
    found = array("I")
    low, high = row["low_us"], row["high_us"]
    for step, count in zip(row["steps"] or (), row["step_counts"] or (), strict=True):
        found.extend([min(max(round(math.exp(step * STEP)), low), high)] * count)
    if found:
        found[0], found[-1] = low, high
    return found


def _by_ranks(row: Mapping[str, Any]) -> array[int]:
    count = row["good"]
    if not count:
        return array("I")
    low, middle, p95, _, high = (row[name] for name in RANKS)
    places = [0, rank(count, 50), rank(count, 95), count - 1]
    return array("I", (round(v) for v in _drawn(places, [low, middle, high if p95 is None else p95, high])))


def _drawn(places: Sequence[int], values: Sequence[float]) -> list[float]:
    """Draw a line through what is known at some places in order; of several at one place the last counts."""
    known = dict(zip(places, values, strict=True))
    stops = sorted(known)
    found = [known[stops[0]]]
    for a, b in pairwise(stops):
        rise = (known[b] - known[a]) / (b - a)
        found += [known[a] + rise * i for i in range(1, b - a)]
        found.append(known[b])
    return found


# Packets.


def packets_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Timed]:
    """Return packets that stand for those of some bins, by check, in order of time.

    Args:
        rows: with `subject`, `time` in milliseconds, and what `monitor.summaries.packet_bins` says of a bin.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    mute_until: dict[str, int] = {}
    for row in sorted(rows, key=lambda r: (r["subject"], r["time"])):
        check = row["subject"]
        rtts = _rtts(row, goes_on=mute_until.get(check) == row["time"])
        if row["packets_silent"]:
            mute_until[check] = row["time"] + BIN_MS
        start, step = row["time"] / 1000, BIN_MS / 1000 / len(rtts)
        found.setdefault(check, []).extend((start + (i + 0.5) * step, rtt) for i, rtt in enumerate(rtts))
    return {check: _timed(pairs) for check, pairs in found.items()}


def _timed(pairs: list[tuple[float, float]]) -> Timed:
    pairs.sort()
    return Timed(array("d", (at for at, _ in pairs)), array("d", (rtt for _, rtt in pairs)))


def _rtts(row: Mapping[str, Any], *, goes_on: bool) -> list[float]:
    """Return a bin's packets in the order in which they stand for those that were: infinite when lost."""
    sent, lost, silent = (row[name] for name in PACKETS[:3])
    came = sent - lost - silent
    mute = [_LOST] * silent
    if not came:
        return [_LOST] * lost + mute
    places = [0, came // 2, max(math.ceil(0.95 * came) - 1, 0), came - 1]
    low, middle, high = (row[name] / 1e6 for name in PACKETS[3:])
    # The ranks of a few packets may be one place: the fastest must stay.
    ordered = [low, *_drawn(places, [low, middle, high, high])[1:]]
    answers = [ordered[i] for i in _mixed(came)]
    heard = _among(answers, lost)
    return mute + heard if goes_on else heard + mute


def _mixed(count: int) -> list[int]:
    """Return the places of an order that has slow and fast ones everywhere."""
    return sorted(range(count), key=lambda i: (i + 0.5) * _GOLDEN % 1.0)


def _among(answers: Sequence[float], lost: int) -> list[float]:
    """Put lost packets evenly among those that came back, never many in a row."""
    found: list[float] = []
    done = 0
    for number, answer in enumerate(answers, 1):
        found.append(answer)
        due = lost * number // len(answers)
        found += [_LOST] * (due - done)
        done = due
    return found
