"""Time accounting: each second of a period is exactly one of up, degraded, congested, down, unknown.

Time is what is counted, never checks. Pure: no clock, no input or output. A timeline is the believed changes, each
overriding what came before from its own date on, with the spans that were not observed laid over them.
Definitions follow ITU-T X.137 (availability by sampling) in that unobserved time is in neither numerator; bounds say
what it could have been.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from config.plan import Window
from monitor.judge.service import combine
from monitor.model import Change, Gap, State

NOT_ENOUGH: Final = 0.95  # coverage under which no grade is given; chosen with the duty teams' reports in view
USABLE: Final = (State.UP, State.DEGRADED, State.CONGESTED)


@dataclass(frozen=True, slots=True)
class Segment:
    """A span [start, end) in one state."""

    start: datetime
    end: datetime
    state: State

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Outage:
    """A span of being down, as far as the period shows it."""

    start: datetime
    end: datetime
    earliest_start: datetime  # the truth began in (earliest_start, start]
    earliest_end: datetime  # and ended in (earliest_end, end]; equal to end when it goes on
    open_start: bool  # it had begun before the period
    open_end: bool  # it went on after the period, or into time that was not observed
    fault: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """Availability: down time against observed time, with what unknown time could have made of it."""

    value: float | None  # None when nothing was observed
    least: float | None  # all unknown time down
    most: float | None  # all unknown time up
    coverage: float  # observed share of the period

    @property
    def enough(self) -> bool:
        """Whether so much was observed that the value may be called a finding."""
        return self.coverage >= NOT_ENOUGH


def timeline(changes: Iterable[Change], gaps: Iterable[Gap], period: Window, known_until: datetime) -> list[Segment]:
    """Lay out a check's states over a period, without holes; neighbours differ.

    Args:
        changes: in the order in which they were recorded.
        gaps: in any order; may overlap.
        period: what to lay out.
        known_until: the last sign of life; nothing after it was observed.
    """
    believed: list[tuple[datetime, State]] = []
    for change in changes:
        while believed and believed[-1][0] >= change.at:
            believed.pop()
        believed.append((change.at, change.state))
    blind = [(max(g.start, period.start), min(g.end or period.end, period.end)) for g in gaps]
    if known_until < period.end:
        blind.append((max(known_until, period.start), period.end))
    return _overlay(_segments(believed, period), _union(blind))


def _segments(believed: Sequence[tuple[datetime, State]], period: Window) -> list[Segment]:
    marks = [(period.start, State.UNKNOWN), *believed, (period.end, State.UNKNOWN)]
    found: list[Segment] = []
    for (start, state), (end, _) in pairwise(marks):
        start, end = max(start, period.start), min(end, period.end)
        if start < end:
            found.append(Segment(start, end, state))
    return found


def _union(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    joined: list[tuple[datetime, datetime]] = []
    for start, end in sorted(s for s in spans if s[0] < s[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _overlay(segments: Sequence[Segment], blind: Sequence[tuple[datetime, datetime]]) -> list[Segment]:
    edges = sorted({t for s in segments for t in (s.start, s.end)} | {t for span in blind for t in span})
    pieces: list[Segment] = []
    at_segment = at_blind = 0
    for start, end in pairwise(edges):
        while at_segment < len(segments) and segments[at_segment].end <= start:
            at_segment += 1
        while at_blind < len(blind) and blind[at_blind][1] <= start:
            at_blind += 1
        unseen = at_blind < len(blind) and blind[at_blind][0] <= start
        inside = at_segment < len(segments) and segments[at_segment].start <= start
        state = segments[at_segment].state if inside and not unseen else State.UNKNOWN
        pieces.append(Segment(start, end, state))
    return join(pieces)


def join(pieces: Iterable[Segment]) -> list[Segment]:
    """Join neighbouring segments of the same state."""
    joined: list[Segment] = []
    for piece in pieces:
        if joined and joined[-1].state is piece.state and joined[-1].end == piece.start:
            joined[-1] = Segment(joined[-1].start, piece.end, piece.state)
        else:
            joined.append(piece)
    return joined


def service_timeline(checks: Sequence[Sequence[Segment]], at_least: int, period: Window) -> list[Segment]:
    """Combine the timelines of a service's checks by its rule. Each timeline covers the whole period."""
    edges = heapq.merge(*([(s.start, i, s.state) for s in line] for i, line in enumerate(checks)), key=lambda e: e[0])
    states = [State.UNKNOWN] * len(checks)
    pieces: list[Segment] = []
    last = period.start
    for start, i, state in edges:
        if start > last:
            pieces.append(Segment(last, start, combine(states, at_least)))
            last = start
        states[i] = state
    if last < period.end:
        pieces.append(Segment(last, period.end, combine(states, at_least)))
    return join(pieces)


def seconds_by_state(segments: Iterable[Segment]) -> Mapping[State, float]:
    """Return the seconds of every state; they sum to the period."""
    total = dict.fromkeys(State, 0.0)
    for segment in segments:
        total[segment.state] += segment.seconds
    return total


def share(seconds: Mapping[State, float]) -> Share:
    """Work out availability and its bounds from the seconds of each state."""
    down, unknown = seconds[State.DOWN], seconds[State.UNKNOWN]
    observed = sum(seconds[s] for s in USABLE) + down
    whole = observed + unknown
    if whole <= 0:
        return Share(None, None, None, 0.0)
    value = (observed - down) / observed if observed > 0 else None
    return Share(value, (observed - down) / whole, (observed - down + unknown) / whole, observed / whole)


def outages(segments: Sequence[Segment], changes: Sequence[Change], period: Window) -> list[Outage]:
    """List the spans of being down with what is known of their edges.

    An outage interrupted by unobserved time is one outage for each observed span: nobody saw it go on.
    """
    found: list[Outage] = []
    for before, segment, after in zip([None, *segments], segments, [*segments[1:], None], strict=False):
        if segment.state is not State.DOWN:
            continue
        began = _change_at(changes, State.DOWN, segment.start)
        ended = next((c for c in reversed(changes) if c.at == segment.end), None)
        found.append(
            Outage(
                start=segment.start,
                end=segment.end,
                earliest_start=max(began.earliest, period.start) if began else segment.start,
                earliest_end=min(max(ended.earliest, segment.start), segment.end) if ended else segment.end,
                open_start=before is None or before.state is State.UNKNOWN,
                open_end=after is None or after.state is State.UNKNOWN,
                fault=began.fault if began else "",
                detail=began.detail if began else "",
            )
        )
    return found


def _change_at(changes: Sequence[Change], state: State, at: datetime) -> Change | None:
    """Return the change that was in force at a moment, if it was to this state."""
    past = [c for c in changes if c.at <= at]
    return past[-1] if past and past[-1].state is state else None
