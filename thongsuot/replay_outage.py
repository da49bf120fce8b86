"""Recorded results through the daemon's own judge of outages and accounting of time.

Figures are worked out by `monitor.availability`, as those of reports are; failures that were never confirmed, and
outages that fit between two probes, are told to it as down time that may have been missed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from config.plan import OutagePolicy, Window
from monitor.availability import USABLE, account, hidden_s, outages, timeline
from monitor.judge import outage
from monitor.judge.outage import Memory, Sample
from monitor.model import Change, Gap, State
from monitor.pipeline import MISSED_AFTER
from probes.base import parse_duration
from thongsuot.replay import ReplayError, lines_of

SITE, CHECK = "replay", "replay.outage"
SIGNS: Final = {"1": Sample.GOOD, "0": Sample.BAD, "-": Sample.BLIND}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded result."""

    at: float  # seconds since 1970
    sample: Sample


@dataclass(frozen=True, slots=True)
class Asked:
    """What `--policy` asks for."""

    policy: OutagePolicy = field(default_factory=OutagePolicy)
    packets: int = 3  # of a simulated round
    every_s: float | None = None  # None: as the lines show


def parse_policy(pairs: Iterable[str]) -> Asked:
    """Read KEY=VALUE settings: bad_rounds, good_rounds, recheck_after, packets, every.

    Raises:
        ReplayError: an unknown key or a value that does not fit it.
    """
    asked = Asked()
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            asked = _with(asked, key, value)
        except ValueError as exc:
            raise ReplayError(f"{pair}: {exc}") from exc
    return asked


def _with(asked: Asked, key: str, value: str) -> Asked:
    match key:
        case "bad_rounds":
            return replace(asked, policy=replace(asked.policy, bad_rounds=_count(value)))
        case "good_rounds":
            return replace(asked, policy=replace(asked.policy, good_rounds=_count(value)))
        case "recheck_after":
            return replace(asked, policy=replace(asked.policy, recheck_s=parse_duration(value)))
        case "packets":
            return replace(asked, packets=_count(value))
        case "every":
            return replace(asked, every_s=parse_duration(value))
        case _:
            raise ReplayError(f"{key}: expected one of bad_rounds, good_rounds, recheck_after, packets, every")


def _count(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("expected 1 or more")
    return number


def read_results(file: Path) -> list[Recorded]:
    """Read `epoch_seconds,ok` lines in order of time: 1 good, 0 failed, - could not measure.

    Raises:
        ReplayError: a line that is neither, other than a header in the first.
    """
    results: list[Recorded] = []
    for number, parts in lines_of(file):
        try:
            at = float(parts[0])
        except ValueError as exc:
            if not results and number == 1:
                continue
            raise ReplayError(f"{file}:{number}: expected epoch_seconds,ok: {exc}") from exc
        sign = parts[1] if len(parts) > 1 else ""
        if sign not in SIGNS or not math.isfinite(at):
            raise ReplayError(f"{file}:{number}: expected a time and 1, 0 or -, got {','.join(parts)}")
        results.append(Recorded(at, SIGNS[sign]))
    results.sort(key=lambda r: r.at)
    return results


def usual_interval(results: Sequence[Recorded]) -> float:
    """Return the interval most lines keep, in seconds: rechecks are few and near, holes few and wide."""
    return statistics.median_high([b.at - a.at for a, b in pairwise(results)] or [60.0])


def moment(at: float) -> datetime:
    """Return seconds since 1970 as the daemon's own kind of time."""
    return datetime.fromtimestamp(at, UTC)


@dataclass(slots=True)
class OutageReplay:
    """Takes results as the pipeline does: judged, with what was not observed laid over the verdicts."""

    policy: OutagePolicy
    every_s: float
    memory: Memory = field(default_factory=Memory)
    changes: list[Change] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    doubtful_s: float = 0.0  # failures that were never confirmed: an outage, or lost packets
    rounds: int = 0
    _gap: datetime | None = None
    _last: datetime | None = None

    def see(self, at: datetime, sample: Sample) -> None:
        """Take in one result."""
        self._note_missed(at)
        self._last = at
        if sample is Sample.BLIND:
            self._gap = self._gap or at
            return
        if self._gap is not None:
            self.gaps.append(Gap(SITE, CHECK, self._gap, at, "local"))
            self._gap = None
        self.rounds += 1
        before = self.memory
        self.memory = outage.observe(before, self.policy, sample, at)
        if before.suspect and not self.memory.suspect and before.state is not State.DOWN:
            self.doubtful_s += (at - (before.last_good or before.first_bad or at)).total_seconds()
        found = outage.verdict(self.memory, self.policy)
        if found is not None:
            self.memory = outage.believe(self.memory, found)
            self.changes.append(Change(SITE, CHECK, found.state, found.at, at, found.earliest))

    def _note_missed(self, at: datetime) -> None:
        if self._last is None or self._gap is not None:
            return
        every = timedelta(seconds=self.every_s)
        if at - self._last > MISSED_AFTER * every:
            self.gaps.append(Gap(SITE, CHECK, self._last + every, at, "missed"))

    def figures(self, start: datetime, end: datetime) -> dict[str, Any]:
        """Return what the commands print of a period."""
        period = Window(start, end)
        gaps = [*self.gaps, *([Gap(SITE, CHECK, self._gap, None, "local")] if self._gap else [])]
        segments = timeline(self.changes, gaps, period, end)
        found = outages(segments, self.changes, period)
        unseen_s = self.doubtful_s + hidden_s(self.rounds, self.every_s)
        result = account(segments, found, period, unseen_s)
        seconds = result.seconds
        return {
            "outages": [self._outage_json(o.start, o.end) for o in found],
            "seconds": {
                "up": sum(seconds[s] for s in USABLE),
                "down": seconds[State.DOWN],
                "unknown": seconds[State.UNKNOWN],
            },
            "availability": {"value": result.share.value, "min": result.share.least, "max": result.share.most},
            "coverage": result.share.coverage,
        }

    def _outage_json(self, start: datetime, end: datetime) -> dict[str, float]:
        told = next(
            (c.confirmed_at for c in reversed(self.changes) if c.state is State.DOWN and c.at <= start),
            start,
        )
        return {"start": start.timestamp(), "end": end.timestamp(), "alarm_at": max(told, start).timestamp()}


def outage_json(results: Sequence[Recorded], asked: Asked) -> dict[str, Any]:
    """Replay recorded results and return what `thongsuot replay outage` prints.

    Raises:
        ReplayError: there is not one result.
    """
    if not results:
        raise ReplayError("expected at least one line with a result")
    replayed = OutageReplay(asked.policy, asked.every_s or usual_interval(results))
    for result in results:
        replayed.see(moment(result.at), result.sample)
    return replayed.figures(moment(results[0].at), moment(results[-1].at))
