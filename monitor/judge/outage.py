"""The judge of outages: when a streak of results becomes a verdict on one check.

Pure: no clock, no input or output. Results come in time order; times are theirs. The rule (several bad rounds some
seconds apart, back-dated to the first) is the soft/hard state rule of Nagios and Icinga; replayed over 156 real days
at 1 % packet loss, two rounds of three packets 5 s apart gave no false outage and found every one of 300 s and more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from config.plan import OutagePolicy
from monitor.model import State

# Rounds nearer together than this share of `recheck_s` see the same moment and count once.
ROUND_SPACING = 0.9

# A target that loses whole rounds in bursts, again and again, is asked for more rounds: so many that bursts as long as
# those seen make a hundredth of a false outage in a day. But a silence of this long is an outage, whatever its cause.
BURST_LONGEST_S = 30.0
BURSTS_LEAST = 2.0  # bursts that are remembered before anything is concluded from them
BURSTS_HALVED_S = 86400.0  # their weight halves in so long
OUTAGES_MOST = 1.0  # for each burst: where more streaks than that were outages, they are told as early as ever
FALSE_A_DAY = 0.01

FLAP_STATES = 21  # remembered states; Nagios base/flapping.c
FLAP_START = 0.30
FLAP_STOP = 0.20


class Sample(StrEnum):
    """What one result says about the target."""

    GOOD = "good"
    SLOW = "slow"  # good, but slower than the check allows
    BAD = "bad"
    BLIND = "blind"  # we could not measure


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is remembered of a check; enough to go on after a restart as if nothing had happened."""

    state: State = State.UNKNOWN  # believed; UNKNOWN before the first verdict
    since: datetime | None = None  # of the believed state
    bad: int = 0  # length of the streak of bad rounds, capped when believed
    first_bad: datetime | None = None
    counted_bad: datetime | None = None  # the last bad result that counted as a round
    good: int = 0
    first_good: datetime | None = None
    slow: int = 0
    first_slow: datetime | None = None
    last_good: datetime | None = None  # the last good result: an outage began after it
    last_bad: datetime | None = None  # the last bad result: an outage ended after it
    history: str = ""  # newest last, at most FLAP_STATES: "d" believed down, "u" otherwise
    flapping: bool = False
    bursts: float = 0.0  # bad streaks that were over before they were believed; these four fade by the day
    lasted: float = 0.0  # bad rounds, in all streaks, that followed another
    believed: float = 0.0  # streaks that were believed
    bursts_at: datetime | None = None  # when they were last brought up to date

    @property
    def suspect(self) -> bool:
        """Whether a bad streak has begun that is not believed yet."""
        return self.bad > 0 and self.state is not State.DOWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """A new state, dated from the first result that showed it."""

    state: State
    at: datetime
    earliest: datetime  # the last contrary result; the truth lies in (earliest, at]


def observe(memory: Memory, policy: OutagePolicy, sample: Sample, at: datetime) -> Memory:
    """Take in one result that started at `at`. Changes streaks, never the believed state."""
    if sample is Sample.BLIND:
        return memory
    if sample is Sample.BAD:
        return _after_bad(memory, policy, at)
    return _after_good(memory, policy, at, slow=sample is Sample.SLOW)


def _after_bad(memory: Memory, policy: OutagePolicy, at: datetime) -> Memory:
    # A clock that was set back makes the spacing negative: that proves nothing, and the round counts.
    if (
        memory.bad
        and memory.counted_bad is not None
        and 0 <= (at - memory.counted_bad).total_seconds() < ROUND_SPACING * policy.recheck_s
    ):
        return replace(memory, last_bad=at)
    return replace(
        memory,
        bad=min(memory.bad + 1, rounds_needed(memory, policy)),
        first_bad=memory.first_bad if memory.bad else at,
        counted_bad=at,
        last_bad=at,
        good=0,
        first_good=None,
        slow=0,
        first_slow=None,
    )


def _after_good(memory: Memory, policy: OutagePolicy, at: datetime, *, slow: bool) -> Memory:
    if memory.suspect:
        memory = _count_streak(memory, at, believed=False)
    slows = min(memory.slow + 1, policy.bad_rounds) if slow else 0
    # Slow answers are good ones for an outage, but it takes fast ones to end a degradation: count anew from there.
    anew = not memory.good or (memory.state is State.DEGRADED and memory.slow > 0 and not slow)
    return replace(
        memory,
        good=1 if anew else min(memory.good + 1, policy.good_rounds),
        first_good=at if anew else memory.first_good,
        last_good=at,
        bad=0,
        first_bad=None,
        counted_bad=None,
        slow=slows,
        first_slow=(memory.first_slow if memory.slow else at) if slow else None,
    )


def verdict(memory: Memory, policy: OutagePolicy) -> Verdict | None:
    """Say what the streaks now prove that is not believed yet, or None."""
    if memory.bad >= rounds_needed(memory, policy) and memory.state is not State.DOWN and memory.first_bad:
        return Verdict(State.DOWN, memory.first_bad, memory.last_good or memory.first_bad)
    if memory.slow >= policy.bad_rounds and memory.state in (State.UNKNOWN, State.UP) and memory.first_slow:
        # Where slow answers ended an outage, this verdict takes the place of that end and must keep its doubt.
        after_outage = memory.last_bad if memory.first_slow == memory.first_good else None
        return Verdict(State.DEGRADED, memory.first_slow, after_outage or memory.first_slow)
    return _well_again(memory, policy)


def _well_again(memory: Memory, policy: OutagePolicy) -> Verdict | None:
    if not memory.good or not memory.first_good:
        return None
    if memory.state is State.UNKNOWN:
        return Verdict(State.UP, memory.first_good, memory.first_good)
    if memory.good < policy.good_rounds:
        return None
    if memory.state is State.DOWN:
        return Verdict(State.UP, memory.first_good, memory.last_bad or memory.first_good)
    if memory.state is State.DEGRADED and memory.slow == 0:
        return Verdict(State.UP, memory.first_good, memory.first_good)
    return None


def believe(memory: Memory, found: Verdict) -> Memory:
    """Take a verdict as the state from now on."""
    if found.state is State.DOWN:
        memory = _count_streak(memory, memory.last_bad or found.at, believed=True)
    return replace(memory, state=found.state, since=found.at)


def _count_streak(memory: Memory, at: datetime, *, believed: bool) -> Memory:
    """Remember how long a bad streak lasted, for `rounds_needed`."""
    passed_s = 0.0 if memory.bursts_at is None else max(0.0, (at - memory.bursts_at).total_seconds())
    fade = 0.5 ** (passed_s / BURSTS_HALVED_S)
    return replace(
        memory,
        bursts=memory.bursts * fade + (not believed),
        lasted=memory.lasted * fade + max(0, memory.bad - 1),
        believed=memory.believed * fade + believed,
        bursts_at=at,
    )


def rounds_needed(memory: Memory, policy: OutagePolicy) -> int:
    """Return how many bad rounds in a row make an outage of this target: more where bursts of loss are its habit."""
    usual = policy.bad_rounds
    if memory.bursts < BURSTS_LEAST or memory.believed > OUTAGES_MOST * memory.bursts or policy.recheck_s <= 0:
        return usual
    if memory.state is State.DOWN:
        return usual
    # Each round is followed by another with the same chance: a geometric law, whose parameter is estimated.
    on = (memory.lasted + 0.5) / (memory.lasted + memory.bursts + memory.believed + 1)
    wanted = 1 + math.ceil(math.log(FALSE_A_DAY / memory.bursts) / math.log(on))
    return max(usual, min(wanted, 1 + int(BURST_LONGEST_S / policy.recheck_s)))


def forget_streak(memory: Memory) -> Memory:
    """Drop a bad streak that turned out to be our own fault; the results said nothing about the target."""
    return replace(memory, bad=0, first_bad=None, counted_bad=None)


def retract(memory: Memory) -> Memory:
    """Drop a believed outage and all streaks: it turned out to be our own fault, and nobody knows what was so."""
    return replace(
        forget_streak(memory), state=State.UNKNOWN, since=None, good=0, first_good=None, slow=0, first_slow=None
    )


def move(memory: Memory, by: timedelta, now: datetime) -> Memory:
    """Go on by a clock that was set: streaks move with it and keep their length; no date lies ahead of the clock."""

    def moved(at: datetime | None) -> datetime | None:
        return None if at is None else at + by

    return replace(
        memory,
        since=None if memory.since is None else min(memory.since, now),
        first_bad=moved(memory.first_bad),
        counted_bad=moved(memory.counted_bad),
        first_good=moved(memory.first_good),
        first_slow=moved(memory.first_slow),
        last_good=moved(memory.last_good),
        last_bad=moved(memory.last_bad),
        bursts_at=moved(memory.bursts_at),
    )


def settle(memory: Memory) -> Memory:
    """Remember the believed state after a scheduled result, and say whether the check is flapping.

    Call it when no streak is under way. Source: Nagios base/flapping.c, weights 0.75 to 1.25 over 20 changes.
    """
    letter = "d" if memory.state is State.DOWN else "u"
    if memory.history and not memory.history.strip(letter) and not memory.flapping:
        return memory  # steady as far back as is remembered, and a short history counts as steady before it began
    history = (memory.history + letter)[-FLAP_STATES:]
    share = flap_share(history)
    flapping = share > FLAP_STOP if memory.flapping else share >= FLAP_START
    if history == memory.history and flapping == memory.flapping:
        return memory
    return replace(memory, history=history, flapping=flapping)


def flap_share(history: str) -> float:
    """Return the weighted share of changes in a history of states, 0 to about 1; newer changes weigh more."""
    changes = FLAP_STATES - 1
    offset = changes - (len(history) - 1)  # a short history counts as steady before it began
    return (
        sum(0.75 + (i + offset) * 0.5 / (changes - 1) for i, (a, b) in enumerate(pairwise(history)) if a != b) / changes
    )


def wants_recheck(memory: Memory, policy: OutagePolicy) -> bool:
    """Whether a fast recheck would bring a verdict nearer: a bad streak not believed, or a recovery not yet."""
    if memory.suspect:
        return memory.bad < rounds_needed(memory, policy)
    return memory.state is State.DOWN and 0 < memory.good < policy.good_rounds
