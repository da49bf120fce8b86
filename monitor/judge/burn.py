"""The judge of scattered failures: a check that is never down for long, and fails too often all the same.

Two windows at a time, a long one for weight and a short one so that it is still so now; both must burn the error
budget (what an objective leaves: 0.5 % of 99.5 %) many times faster than it lasts. The pairs and factors are those of
Google's Site Reliability Workbook, chapter 5 (14.4 over 1 h and 5 min, 6 over 6 h and 30 min). With a round a minute
that is few failures, so there must be some at all, and so many that chance within the objective does not explain them.
Pure: no clock, no input or output; bounded: 72 counts of five minutes.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from monitor.judge.loss import wilson

BUCKET_S: Final = 300.0
BUCKETS: Final = 72  # six hours
BAD_LEAST: Final = 4  # failures in the long window without which nothing is scattered: at one a minute 7 % of an hour
ROUNDS_LEAST: Final = 12  # rounds in the long window without which nothing is said of a share
END_SHARE: Final = 0.5  # of the rate at which it began, below which it has ended
_MOST: Final = 65_535  # what a count holds


@dataclass(frozen=True, slots=True)
class Tier:
    """A pair of windows, in buckets, with the factor of the budget that both must burn."""

    long: int
    short: int
    factor: float
    end: int  # window over which it must be over


TIERS: Final = (Tier(12, 2, 14.4, 6), Tier(72, 6, 6.0, 12))  # the bucket under way is young: two are five minutes


@dataclass(frozen=True, slots=True)
class Burning:
    """Failures that are scattered over a window, more than the objective bears."""

    since: float  # begin of the five minutes with the first of them, seconds since 1970
    bad: int
    rounds: int
    window_s: float
    objective: float

    @property
    def share(self) -> float:
        """Share of the rounds that failed."""
        return self.bad / self.rounds


class Burn:
    """The rounds of one check over the last six hours. Feed them in order of time."""

    __slots__ = ("_at", "_bad", "_pending", "_rounds", "_tier", "burning")

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Args: state: what `state` returned before a restart."""
        self._rounds = array("H", bytes(2 * BUCKETS))
        self._bad = array("H", bytes(2 * BUCKETS))
        self._at = -1  # number of the newest bucket since 1970
        self._pending: list[int] = []  # buckets of failures that may still turn out to be an outage
        self._tier: Tier | None = None  # whose windows burn
        self.burning: Burning | None = None
        if state:
            self._rounds, self._bad = array("H", state["rounds"]), array("H", state["bad"])
            self._at = state["at"]
            self._pending = list(state["pending"])
            self._tier = None if state["tier"] is None else TIERS[state["tier"]]
            self.burning = Burning(**state["burning"]) if state["burning"] else None

    def good(self, at: float, objective: float) -> bool:
        """Take in a round that succeeded; return whether it has begun or ended to burn."""
        self._count(at)
        return self.settle(objective)

    def settle(self, objective: float) -> bool:
        """Take the failures since the last success for scattered ones; return whether it has begun or ended to burn."""
        if not self._pending:
            return self.burning is not None and self._judge(objective)
        for bucket in self._pending:
            if self._at - bucket < BUCKETS:
                place = bucket % BUCKETS
                self._bad[place] = min(self._bad[place] + 1, _MOST)
        self._pending.clear()
        return self._judge(objective)

    def bad(self, at: float) -> None:
        """Take in a scheduled round that failed; what it was is known when a good one follows, or an outage."""
        self._count(at)
        if len(self._pending) < BUCKETS:
            self._pending.append(self._at)

    def outage(self) -> None:
        """Forget failures that turned out to be an outage: it is told by itself."""
        for bucket in self._pending:
            place = bucket % BUCKETS
            if self._at - bucket < BUCKETS and self._rounds[place]:
                self._rounds[place] -= 1
        self._pending.clear()

    def _count(self, at: float) -> None:
        bucket = int(at // BUCKET_S)
        if bucket > self._at:
            for number in range(max(self._at + 1, bucket - BUCKETS + 1), bucket + 1):
                self._rounds[number % BUCKETS] = self._bad[number % BUCKETS] = 0
            self._at = bucket
        place = self._at % BUCKETS  # a clock that was set back counts for the newest
        self._rounds[place] = min(self._rounds[place] + 1, _MOST)

    def _sum(self, counts: Sequence[int], buckets: int) -> int:
        return sum(counts[(self._at - back) % BUCKETS] for back in range(buckets))

    def _share(self, buckets: int) -> float:
        rounds = self._sum(self._rounds, buckets)
        return self._sum(self._bad, buckets) / rounds if rounds else 0.0

    def _judge(self, objective: float) -> bool:
        before, budget = self.burning, 1 - objective
        if self._tier is not None and self._share(self._tier.end) < END_SHARE * self._tier.factor * budget:
            self._tier, self.burning = None, None
        for tier in TIERS if self._tier is None else ():
            if self._burns(tier, budget):
                self._tier = tier
                break
        if self._tier is not None:
            self.burning = self._told(self._tier, objective)
        return (before is None) != (self.burning is None)

    def _burns(self, tier: Tier, budget: float) -> bool:
        rounds, bad = self._sum(self._rounds, tier.long), self._sum(self._bad, tier.long)
        if bad < BAD_LEAST or rounds < ROUNDS_LEAST:
            return False
        limit = min(tier.factor * budget, 1.0)
        return bad / rounds >= limit and self._share(tier.short) >= limit and wilson(bad, rounds)[0] > budget

    def _told(self, tier: Tier, objective: float) -> Burning:
        since = self.burning.since if self.burning is not None else self._first_bad(tier.long) * BUCKET_S
        rounds, bad = self._sum(self._rounds, tier.long), self._sum(self._bad, tier.long)
        if not bad and self.burning is not None:
            return self.burning
        return Burning(since, bad, rounds, tier.long * BUCKET_S, objective)

    def _first_bad(self, buckets: int) -> int:
        return next(
            (self._at - back for back in range(buckets - 1, -1, -1) if self._bad[(self._at - back) % BUCKETS]),
            self._at,
        )

    @property
    def idle(self) -> bool:
        """Whether there is nothing that a restart must not forget: no failure within six hours."""
        return not self._pending and self.burning is None and not any(self._bad)

    def state(self) -> Mapping[str, Any]:
        """Return all that is remembered, as JSON can hold it."""
        burning = self.burning
        return {
            "rounds": list(self._rounds),
            "bad": list(self._bad),
            "at": self._at,
            "pending": self._pending,
            "tier": None if self._tier is None else TIERS.index(self._tier),
            "burning": {name: getattr(burning, name) for name in Burning.__slots__} if burning else None,
        }


def sentence(burning: Burning) -> str:
    """Say in one line what was seen, for the technical detail of a message."""
    hours = burning.window_s / 3600
    return (
        f"scattered failures: {burning.share * 100:.1f} % of {burning.rounds} rounds failed in {hours:.0f} h"
        f" (objective {burning.objective * 100:g} %)"
    )
