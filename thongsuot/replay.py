"""Recorded figures through the daemon's own judges: what would have been told, and when?

Nothing here looks ahead: lines are fed in order of time, and the clock stands still between them except where a bin
of the judge ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT, Episode, Saying, Settings, Standing, Word
from monitor.judge.limit import MINUTES, TRIALS, Limit, Packet, Quiet, detection_limit
from probes.base import parse_duration

QUIET_FOR_S: Final = 5400.0  # length of a quiet stretch: an hour of queue, what may shift it, and what follows


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


@dataclass(slots=True)
class Replayed:
    """What a replay found."""

    judge: Judge
    episodes: list[Episode]
    said: list[Saying]
    quiet: list[Quiet]


def replay_packets(
    packets: Sequence[Packet], references: Sequence[Packet] = (), settings: Settings = DEFAULT
) -> Replayed:
    """Feed recorded packets to the judge, and those of a reference on our side to one of its own."""
    judge, beside = Judge(settings), Judge(settings)
    said: list[Saying] = []
    marks: list[tuple[int, Mapping[str, Any]]] = []  # hours' beginnings in calm, for the detection limit
    width, now, at_reference = settings.bin_s, -math.inf, 0
    for number, packet in enumerate(packets):
        for moment in _bin_ends(now, packet.at, width):
            at_reference = _feed(beside, references, at_reference, moment)
            said += judge.advance(moment, _standing(beside))
            if moment % settings.hour_s == 0 and not judge.learning and judge.suspected_at is None:
                marks.append((number, judge.state()))
        now = packet.at
        judge.add(packet.at, packet.rtt_s)
        said += judge.advance(packet.at, _standing(beside))
    if packets:
        # The daemon's clock goes on after the last line.
        last = (math.floor(now / width) + 1) * width
        _feed(beside, references, at_reference, last)
        said += judge.advance(last, _standing(beside))
    episodes = [s.episode for s in said if s.word is Word.CLOSED and s.episode]
    if judge.episode is not None:
        episodes.append(judge.episode)
    return Replayed(judge, episodes, said, _quiet_stretches(packets, marks, said, settings))


def _bin_ends(before: float, now: float, width: float) -> Iterator[float]:
    """Give the ends of bins after a moment: the first, and the last up to `now` when more have passed."""
    last = math.floor(now / width) * width
    if last <= before:
        return
    first = (math.floor(before / width) + 1) * width if math.isfinite(before) else last
    if first < last:
        yield first
    yield last


def _feed(judge: Judge, packets: Sequence[Packet], start: int, until: float) -> int:
    """Feed what was sent before a moment, and close the bins that ended by it; return where to go on."""
    width = judge.settings.bin_s
    while start < len(packets) and packets[start].at < until:
        packet = packets[start]
        judge.advance(math.floor(packet.at / width) * width)
        judge.add(packet.at, packet.rtt_s)
        start += 1
    judge.advance(until)
    return start


def _standing(judge: Judge) -> tuple[Standing, ...]:
    standing = judge.standing()
    return (standing,) if standing else ()


def _quiet_stretches(
    packets: Sequence[Packet],
    marks: Sequence[tuple[int, Mapping[str, Any]]],
    said: Sequence[Saying],
    settings: Settings,
) -> list[Quiet]:
    """Choose stretches after which nothing was said, spread over the record."""
    length = QUIET_FOR_S * settings.bin_s / DEFAULT.bin_s
    loud = [s.at for s in said]
    calm: list[tuple[int, int, Mapping[str, Any]]] = []
    at_loud = end = 0
    for start, state in marks:
        begins = packets[start].at
        while at_loud < len(loud) and loud[at_loud] < begins:
            at_loud += 1
        while end < len(packets) and packets[end].at < begins + length:
            end += 1
        told = at_loud < len(loud) and loud[at_loud] < begins + length
        if not told and end < len(packets):
            calm.append((start, end, state))
    step = max(1, len(calm) // TRIALS)
    return [Quiet(state, packets[start:end]) for start, end, state in calm[::step][:TRIALS]]


def congestion_json(packets: Sequence[Packet], references: Sequence[Packet], settings: Settings) -> dict[str, Any]:
    """Replay and return what `thongsuot replay congestion` prints."""
    found = replay_packets(packets, references, settings)
    limit = detection_limit(found.quiet, found.judge.threshold_s, _minutes(settings))
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


def _minutes(settings: Settings) -> tuple[float, ...]:

    return tuple(m * settings.bin_s / DEFAULT.bin_s for m in MINUTES)


def _limit_json(limit: Limit | None) -> dict[str, float | None]:
    if limit is None:
        return {"queue_ms": None, "minutes": None}
    return {"queue_ms": _ms(limit.queue_s), "minutes": limit.minutes}


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
