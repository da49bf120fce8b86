"""From the states of checks to the state of their service. Pure: no clock, no input or output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from config.plan import Rule
from monitor.model import State

NEVER: Final = datetime.min.replace(tzinfo=UTC)  # since when a check is unknown that was never seen
USABLE: Final = frozenset({State.UP, State.DEGRADED, State.CONGESTED})
_WORST_FIRST: Final = sorted(USABLE, key=lambda s: s.severity, reverse=True)


def combine(states: Sequence[State], rule: int | Rule) -> State:
    """Return a service's state by its rule: when at least so many of its checks must be usable.

    What is asked by several paths is made one check first, by the same rule with its own quorum: with two of three
    paths usable it is DEGRADED, and the service with it.

    Three-valued: DOWN only when the unknown ones could not save it, UNKNOWN when they decide.
    A service that works with part of its checks failing is DEGRADED, or worse if one that works is congested.
    Announced work on a check is the service's own where it can make the difference, and nothing where it cannot.
    """
    if State.MAINTENANCE in states:
        worst, best = (
            combine([instead if s is State.MAINTENANCE else s for s in states], rule)
            for instead in (State.DOWN, State.UP)
        )
        return best if worst is best or {worst, best} <= USABLE else State.MAINTENANCE
    if isinstance(rule, Rule):
        return combine([combine([states[i] for i in part], needed) for part, needed in rule.parts], rule.at_least)
    at_least = rule
    unknown, down = states.count(State.UNKNOWN), states.count(State.DOWN)
    usable = len(states) - unknown - down
    if usable + unknown < at_least:
        return State.DOWN
    if usable < at_least:
        return State.UNKNOWN
    if down and State.CONGESTED not in states:
        return State.DEGRADED
    return next(s for s in _WORST_FIRST if s in states)


@dataclass(frozen=True, slots=True)
class Since:
    """A check's state, since when, and what it was before; None before the first."""

    state: State
    at: datetime
    before: State


def began(checks: Sequence[Since], rule: int | Rule) -> datetime:
    """Return since when the combined state has been what it is now.

    A back-dated change of one check may date the service's change before or after the moment it was noticed: the
    state is walked backwards from now as long as it stays the same. One change back per check is known; a service
    that stayed the same beyond that is dated from there.
    """
    states = [c.state for c in checks]
    now = combine(states, rule)
    order = sorted(range(len(checks)), key=lambda i: checks[i].at, reverse=True)
    start = checks[order[0]].at
    for moment, together in groupby(order, key=lambda i: checks[i].at):
        start = moment
        for i in together:  # taken back as one: half of what changed at a moment was never so
            states[i] = checks[i].before
        if combine(states, rule) is not now:
            break
    return start
