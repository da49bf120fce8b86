"""Recorded figures through the daemon's own judges: what would have been told, and when?

Nothing here looks ahead: lines are fed in order of time, and the clock stands still between them except where a bin
of the judge ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from monitor.congestion_record import judge_packets
from monitor.judge.episode import DEFAULT, Episode, Settings, Word
from monitor.judge.limit import Limit, Packet
from probes.base import parse_duration


class ReplayError(Exception):
    """A file or a setting that cannot be used; the message names the place."""


def lines_of(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Give the fields of each line that has any, with its number; commas, semicolons or blanks between.

    Raises:
        ReplayError: the file cannot be read.
    """
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ReplayError(f"{file}: {exc}") from exc
    for number, line in enumerate(text.splitlines(), 1):
        found = line.strip()
        if not found or found.startswith("#"):
            continue
        separator = next((s for s in ",;" if s in found), None)
        yield number, [part.strip() for part in found.split(separator)]


def read_packets(file: Path) -> list[Packet]:
    """Read `epoch_seconds,rtt_ms` lines in order of time; an empty, `nan` or non-positive rtt is a lost packet.

    Raises:
        ReplayError: a line that is neither, other than a header in the first.
    """
    packets: list[Packet] = []
    for number, parts in lines_of(file):
        try:
            at = float(parts[0])
            rtt_ms = float(parts[1]) if len(parts) > 1 and parts[1] else math.nan
        except ValueError as exc:
            if not packets and number == 1:
                continue
            raise ReplayError(f"{file}:{number}: expected epoch_seconds,rtt_ms: {exc}") from exc
        if not math.isfinite(at):
            raise ReplayError(f"{file}:{number}: expected a time, got {parts[0]}")
        packets.append(Packet(at, rtt_ms / 1000 if 0 < rtt_ms < math.inf else None))
    packets.sort(key=lambda p: p.at)
    return packets


def parse_settings(pairs: Iterable[str]) -> Settings:
    """Read KEY=VALUE settings of the congestion judge; `scale=60` runs all its times 60 times faster.

    Times and delays are durations (`rise=9ms stand=10m`), anything else a number.

    Raises:
        ReplayError: an unknown key or a value that does not fit it.
    """
    known = {f.name.removesuffix("_s"): f.name for f in fields(Settings)}
    given: dict[str, Any] = {}
    scale = 1.0
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            if key == "scale":
                scale = float(value)
            elif key not in known:
                raise ReplayError(f"{key}: expected one of {', '.join(sorted([*known, 'scale']))}")
            elif known[key].endswith("_s"):
                given[known[key]] = parse_duration(value)
            else:
                given[known[key]] = type(getattr(DEFAULT, known[key]))(value)
        except ValueError as exc:
            raise ReplayError(f"{pair}: {exc}") from exc
    settings = replace(DEFAULT, **given)
    least = min(scale, settings.bin_s, settings.hour_s, settings.stand_s, settings.rise_s)
    if not (least > 0 and math.isfinite(scale)):
        raise ReplayError("bin, hour, stand, rise and scale must be more than nothing")
    return settings.scaled(scale)


def congestion_json(packets: Sequence[Packet], references: Sequence[Packet], settings: Settings) -> dict[str, Any]:
    """Replay and return what `thongsuot replay congestion` prints."""
    found = judge_packets(packets, references, settings)
    limit = found.limit()
    opened = sum(s.word is Word.SUSPECTED for s in found.said)
    cleared = sum(s.word is Word.CLEARED for s in found.said)
    still = found.judge.episode
    return {
        "episodes": [{**_episode_json(e), "open": e == still} for e in found.episodes],
        "bins": {
            "usable": round(found.judge.usable_s / settings.bin_s),
            "unknown": round(found.judge.unknown_s / settings.bin_s),
        },
        "detection_limit": _limit_json(limit),
        "suspicions": {"raised": opened, "cleared": cleared},
        "learning": found.judge.learning,
        "floor_ms": _ms(found.judge.floor_s),
        "noise_ms": _ms(found.judge.noise_s),
        "threshold_ms": _ms(found.judge.threshold_s),
    }


def _limit_json(limit: Limit | None) -> dict[str, float | None]:
    if limit is None:
        return {"queue_ms": None, "minutes": None, "trials": None}
    return {"queue_ms": _ms(limit.queue_s), "minutes": limit.minutes, "trials": limit.trials}


def _episode_json(episode: Episode) -> dict[str, Any]:
    return {
        "start": episode.start,
        "end": episode.end,
        "suspected_at": episode.suspected_at,
        "alarm_at": episode.alarm_at,
        "cause": episode.cause,
        "severity": episode.severity,
        "peak_ms": _ms(episode.peak_s),
        "floor_ms": _ms(episode.floor_s),
        "threshold_ms": _ms(episode.threshold_s),
        "noise_ms": _ms(episode.noise_s),
        "loss": round(episode.loss, 6),
        "sent": episode.sent,
        "lost": episode.lost,
        "by_loss": episode.by_loss,
    }


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1000, 3)
