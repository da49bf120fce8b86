"""Simulated months of probing with a truth that is known: false outages, found ones, and the bounds of availability."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from thongsuot.replay_outage import Asked
from thongsuot.simulate import Loss, Weather, simulate_outage, simulate_under

MONTH_S = 30 * 86400.0
SLACK_S = 120.0  # between a true outage and the one that is reported for it


@dataclass(slots=True)
class Months:
    """Sums over runs."""

    runs: int = 0
    outages: int = 0  # true ones of five minutes and more
    found: int = 0
    false: int = 0
    false_most: int = 0  # in one month
    off_most: float = 0.0  # points of availability
    inside: int = 0  # runs whose truth lay within the printed bounds


def truth_of(dice: random.Random) -> list[tuple[float, float]]:
    """Make a month: some outages of 5 minutes to 2 hours, some short ones, the last at the month's end."""
    start = 1_700_000_040.0 + dice.random() * 60
    lengths = [dice.uniform(300, 7200) for _ in range(dice.randint(2, 8))]
    lengths += [dice.uniform(5, 240) for _ in range(dice.randint(0, 6))]
    dice.shuffle(lengths)
    spans, at = [], start
    for length in lengths:
        spans.append((at, at + length))
        at += length + dice.uniform(0.5, 1.5) * (MONTH_S / len(lengths))
    return [*spans, (at, at + 600)]


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss in bursts: two states of the channel, each left by chance. Source: Gilbert 1960, Elliott 1963."""

    good_s: float  # mean time in each state
    bad_s: float
    lost_good: float  # share of packets lost in each
    lost_bad: float


@dataclass(slots=True)
class Channel:
    """A channel of two states; ask in order of time."""

    kind: GilbertElliott
    dice: random.Random
    _bad: bool = True
    _until: float = -math.inf

    def answered(self, at: float) -> bool:
        """Say whether a packet sent at `at` is answered."""
        if self._until == -math.inf:
            self._until = at
        while at >= self._until:
            self._bad = not self._bad
            self._until += self.dice.expovariate(1 / (self.kind.bad_s if self._bad else self.kind.good_s))
        return self.dice.random() >= (self.kind.lost_bad if self._bad else self.kind.lost_good)


class Both:
    """The truth, and a channel that loses packets while the target is well."""

    def __init__(self, truth: list[tuple[float, float]], kind: GilbertElliott, seed: int) -> None:
        self._truth = Weather(truth, Loss(), random.Random(seed))
        self._channel = Channel(kind, random.Random(f"channel {seed}"))

    def answered(self, at: float) -> bool:
        """Say whether a packet sent at `at` is answered."""
        heard = self._channel.answered(at)
        return heard and self._truth.answered(at)


CHANNELS: Final = {
    "1 % in bursts, half lost, 1 s": GilbertElliott(49.0, 1.0, 0.0, 0.5),
    "1 % in bursts, all lost, 2 s": GilbertElliott(198.0, 2.0, 0.0, 1.0),
    "3 % in bursts, 4 of 5 lost, 3 s": GilbertElliott(77.0, 3.0, 0.001, 0.8),
    "5 % in bursts, half lost, 20 s": GilbertElliott(180.0, 20.0, 0.0, 0.5),
}


def run_channel(runs: int, kind: GilbertElliott, asked: Asked, every_s: float = 60.0) -> Months:
    """Simulate months over a channel of two states."""
    sums = Months()
    for seed in range(runs):
        truth = truth_of(random.Random(seed))
        _compare(sums, truth, simulate_under(Both(truth, kind, seed), truth, every_s, asked))
    return sums


def run(runs: int, loss: Loss, asked: Asked, every_s: float = 60.0) -> Months:
    """Simulate months and compare what is printed with the truth."""
    sums = Months()
    for seed in range(runs):
        truth = truth_of(random.Random(seed))
        _compare(sums, truth, simulate_outage(truth, every_s, asked, loss, seed))
    return sums


def _compare(sums: Months, truth: list[tuple[float, float]], printed: dict[str, object]) -> None:
    outages, share = printed["outages"], printed["availability"]
    assert isinstance(outages, list)
    assert isinstance(share, dict)
    sums.runs += 1
    for start, end in truth:
        if end - start >= 300:
            sums.outages += 1
            sums.found += any(o["start"] < end + SLACK_S and o["end"] > start - SLACK_S for o in outages)
    false = sum(all(o["start"] > e + SLACK_S or o["end"] < s - SLACK_S for s, e in truth) for o in outages)
    sums.false += false
    sums.false_most = max(sums.false_most, false)
    begin = truth[0][0] // 60 * 60
    real = 1 - sum(e - s for s, e in truth) / (truth[-1][1] - begin)
    sums.off_most = max(sums.off_most, 100 * abs(share["value"] - real))
    sums.inside += share["min"] <= real <= share["max"]
