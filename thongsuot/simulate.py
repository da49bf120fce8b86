"""The scheduler's and the judge's own code in simulated time, against a truth that is known.

Slots lie where the scheduler would put them, rounds are packets that are lost by chance, and rechecks come when the
judge asks for them. Months take seconds.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

from monitor.judge import outage
from monitor.judge.outage import Sample
from monitor.scheduler import next_slot
from thongsuot.replay import ReplayError, lines_of
from thongsuot.replay_outage import CHECK, Asked, OutageReplay, moment

PACKET_GAP_S: Final = 0.2  # between the packets of a round


@dataclass(frozen=True, slots=True)
class Loss:
    """How packets are lost while the target is well."""

    ratio: float = 0.0
    burst_s: float = 0.0  # mean length of a burst in which all are lost; 0: each packet by itself


def read_truth(file: Path) -> list[tuple[float, float]]:
    """Read `start,end` lines: down from start to end, seconds since 1970, sorted and apart.

    Raises:
        ReplayError: anything else.
    """
    truth: list[tuple[float, float]] = []
    for number, parts in lines_of(file):
        try:
            start, end = map(float, parts)
        except ValueError as exc:
            if not truth and number == 1:
                continue
            raise ReplayError(f"{file}:{number}: expected start,end: {exc}") from exc
        if not (math.isfinite(start) and math.isfinite(end) and start <= end):
            raise ReplayError(f"{file}:{number}: expected an end after its start")
        truth.append((start, end))
    if not truth:
        raise ReplayError(f"{file}: expected at least one line start,end")
    if any(b[0] < a[1] for a, b in pairwise(truth)):
        raise ReplayError(f"{file}: expected outages in order of time that do not overlap")
    return truth


class Weather:
    """Says of each packet whether it is answered: the truth, and loss by chance."""

    def __init__(self, truth: Sequence[tuple[float, float]], loss: Loss, dice: random.Random) -> None:
        self._starts = [s for s, _ in truth]
        self._ends = [e for _, e in truth]
        self._loss = loss
        self._dice = dice
        self._burst = (-math.inf, -math.inf)

    def answered(self, at: float) -> bool:
        """Say whether a packet sent at `at` is answered. Ask in order of time."""
        place = bisect_right(self._starts, at) - 1
        if place >= 0 and at < self._ends[place]:
            return False
        if self._loss.burst_s <= 0:
            return self._dice.random() >= self._loss.ratio
        return not self._in_burst(at)

    def _in_burst(self, at: float) -> bool:
        start, end = self._burst
        if at >= end:
            ratio, length = self._loss.ratio, self._loss.burst_s
            if not ratio:
                return False
            # Between bursts the line is well for as long as makes the share of lost time what was asked for.
            calm = length * (1 - ratio) / ratio
            end = max(end, at - 20 * calm) if math.isfinite(end) else at
            while at >= end:
                start = end + self._dice.expovariate(1 / calm)
                end = start + self._dice.expovariate(1 / length)
            self._burst = (start, end)
        return start <= at < end


def simulate_outage(
    truth: Sequence[tuple[float, float]], every_s: float, asked: Asked, loss: Loss, seed: int
) -> dict[str, Any]:
    """Probe a known truth from its first minute to its last end and return what `thongsuot simulate outage` prints."""
    weather = Weather(truth, loss, random.Random(seed))  # noqa: S311  chance, not secrets
    return simulate_under(weather, truth, every_s, asked)


class Answering(Protocol):
    """Says of each packet whether it is answered, in order of time."""

    def answered(self, at: float) -> bool:
        """Say whether a packet sent at `at` is answered."""


def simulate_under(
    weather: Answering, truth: Sequence[tuple[float, float]], every_s: float, asked: Asked
) -> dict[str, Any]:
    """Probe under a weather that knows the truth; as `simulate_outage`."""
    start = math.floor(truth[0][0] / 60) * 60.0
    end = truth[-1][1]
    replayed = OutageReplay(asked.policy, every_s)
    slot = next_slot(CHECK, every_s, start - every_s)
    while slot < start:
        slot = next_slot(CHECK, every_s, slot)
    recheck = math.inf
    while (at := min(slot, recheck)) < end:
        if at >= slot:
            slot = next_slot(CHECK, every_s, slot)
        recheck = math.inf
        answers = [weather.answered(at + i * PACKET_GAP_S) for i in range(asked.packets)]
        replayed.see(moment(at), Sample.GOOD if any(answers) else Sample.BAD)
        if outage.wants_recheck(replayed.memory, asked.policy):
            wanted = at + asked.policy.recheck_s
            # As in the scheduler, a slot that comes sooner serves as well.
            recheck = wanted if slot > wanted else math.inf
    return replayed.figures(moment(start), moment(end))
