"""Time accounting: each second of a period is one of up, degraded, congested, down, unknown, maintenance.

Time is what is counted, never checks. Pure: no clock, no input or output. A timeline is the believed changes, each
overriding what came before from its own date on, with the spans that were not observed laid over them.
Definitions follow ITU-T X.137 (availability by sampling) in that unobserved time is in neither numerator; bounds say
what it could have been. Announced work lies over everything, unobserved time included: it is in no numerator and no
denominator, so that nobody has to look for it to be what was announced.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from config.plan import Rule, Window
from monitor.judge.service import combine
from monitor.model import Change, Gap, State

NOT_ENOUGH: Final = 0.95  # coverage under which no grade is given; chosen with the duty teams' reports in view
Span = tuple[datetime, datetime]
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
class Doubt:
    """How far down time, as it was counted, may lie from the truth, seconds: what lies between two looks was not seen.

    `account` works out the first two from outages and their edges; `hidden_s` is what probing itself may miss.
    """

    longer_s: float = 0.0  # between the last good look before an outage and the first bad one
    shorter_s: float = 0.0  # between the last bad look of an outage and the first good one
    hidden_s: float = 0.0  # in outages that no look fell into, or whose failures were never confirmed


NO_DOUBT: Final = Doubt()


@dataclass(frozen=True, slots=True)
class Share:
    """Availability: down time against observed time, with what the unseen could have made of it."""

    value: float | None  # None when nothing was observed
    least: float | None  # all unknown time down, outages as long as can be, and some unseen
    most: float | None  # all unknown time up, outages as short as can be
    coverage: float  # observed share of the period

    @property
    def enough(self) -> bool:
        """Whether so much was observed that the value may be called a finding."""
        return self.coverage >= NOT_ENOUGH


def in_force(changes: Iterable[Change]) -> list[Change]:
    """Return the changes that no later record took the place of, by date.

    Args:
        changes: in the order in which they were recorded; each overrides what came before from its own date on.
    """
    kept: list[Change] = []
    for change in changes:
        while kept and kept[-1].at >= change.at:
            kept.pop()
        kept.append(change)
    return kept


def timeline(changes: Iterable[Change], gaps: Iterable[Gap], period: Window, known_until: datetime) -> list[Segment]:
    """Lay out a check's states over a period, without holes; neighbours differ.

    Args:
        changes: in the order in which they were recorded.
        gaps: in any order; may overlap.
        period: what to lay out.
        known_until: the last sign of life; nothing after it was observed.
    """
    believed = [(c.at, c.state) for c in in_force(changes)]
    blind = [(max(g.start, period.start), min(g.end or period.end, period.end)) for g in gaps]
    if known_until < period.end:
        blind.append((max(known_until, period.start), period.end))
    return _overlay(_segments(believed, period), _union(blind), State.UNKNOWN)


def with_work(segments: Sequence[Segment], work: Iterable[Window]) -> list[Segment]:
    """Lay announced work over the timeline of a period; what reaches beyond its edges is cut off.

    Args:
        segments: cover the period, at least one.
        work: in any order; may overlap.
    """
    first, last = segments[0].start, segments[-1].end
    spans = _union((max(w.start, first), min(w.end, last)) for w in work)
    return _overlay(segments, spans, State.MAINTENANCE) if spans else list(segments)


def with_states(segments: Sequence[Segment], spans: Iterable[Segment]) -> list[Segment]:
    """Lay spans of any state over the timeline of a period, each over those before it; what lies outside is cut off."""
    found, first, last = list(segments), segments[0].start, segments[-1].end
    for span in spans:
        start, end = max(span.start, first), min(span.end, last)
        if start < end:
            found = _overlay(found, [(start, end)], span.state)
    return found


def _segments(believed: Sequence[tuple[datetime, State]], period: Window) -> list[Segment]:
    marks = [(period.start, State.UNKNOWN), *believed, (period.end, State.UNKNOWN)]
    found: list[Segment] = []
    for (start, state), (end, _) in pairwise(marks):
        start, end = max(start, period.start), min(end, period.end)
        if start < end:
            found.append(Segment(start, end, state))
    return found


def _union(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(s for s in spans if s[0] < s[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _overlay(segments: Sequence[Segment], spans: Sequence[Span], state: State) -> list[Segment]:
    """Lay spans (sorted, apart) of one state over segments that cover the whole period."""
    edges = sorted({t for s in segments for t in (s.start, s.end)} | {t for span in spans for t in span})
    pieces: list[Segment] = []
    at_segment = at_span = 0
    for start, end in pairwise(edges):
        while segments[at_segment].end <= start:
            at_segment += 1
        while at_span < len(spans) and spans[at_span][1] <= start:
            at_span += 1
        covered = at_span < len(spans) and spans[at_span][0] <= start
        pieces.append(Segment(start, end, state if covered else segments[at_segment].state))
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


def service_timeline(checks: Sequence[Sequence[Segment]], rule: int | Rule, period: Window) -> list[Segment]:
    """Combine the timelines of a service's checks by its rule. Each timeline covers the whole period."""
    edges = heapq.merge(*([(s.start, i, s.state) for s in line] for i, line in enumerate(checks)), key=lambda e: e[0])
    states = [State.UNKNOWN] * len(checks)
    pieces: list[Segment] = []
    last = period.start
    for start, i, state in edges:
        if start > last:
            pieces.append(Segment(last, start, combine(states, rule)))
            last = start
        states[i] = state
    if last < period.end:
        pieces.append(Segment(last, period.end, combine(states, rule)))
    return join(pieces)


def seconds_by_state(segments: Iterable[Segment]) -> Mapping[State, float]:
    """Return the seconds of every state; they sum to the period."""
    total = dict.fromkeys(State, 0.0)
    for segment in segments:
        total[segment.state] += segment.seconds
    return total


def observed_s(seconds: Mapping[State, float]) -> float:
    """Return how much of a period was observed and counts, from the seconds of each state."""
    return sum(seconds[s] for s in USABLE) + seconds[State.DOWN]


def share(seconds: Mapping[State, float], doubt: Doubt = NO_DOUBT) -> Share:
    """Work out availability and its bounds from the seconds of each state.

    Args:
        seconds: of each state; they sum to the window.
        doubt: how far the down time among them may be wrong.
    """
    down, unknown = seconds[State.DOWN], seconds[State.UNKNOWN]
    usable = sum(seconds[s] for s in USABLE)
    whole = usable + down + unknown
    if whole <= 0:
        return Share(None, None, None, 0.0)
    observed = usable + down
    value = usable / observed if observed > 0 else None
    least = max(usable - doubt.longer_s - doubt.hidden_s, 0.0)
    most = min(usable + unknown + doubt.shorter_s, whole)
    return Share(value, least / whole, most / whole, observed / whole)


HIDDEN_CHANCE: Final = 0.01  # that more was down between good looks than `hidden_s` says


def hidden_s(rounds: int, every_s: float) -> float:
    """Return how long outages between good looks may have lasted altogether, unseen.

    So many looks without a failure bound the share of time that was down: 1 - chance^(1/n), about 4.6 intervals.
    """
    share_hidden: float = 1 - HIDDEN_CHANCE ** (1 / rounds) if rounds > 0 else 0.0
    return share_hidden * rounds * every_s


def outages(segments: Sequence[Segment], changes: Iterable[Change], period: Window) -> list[Outage]:
    """List a check's spans of being down with what is known of their edges.

    An outage interrupted by unobserved time is one outage for each observed span: nobody saw it go on. What began
    before the end of one is not the next one's beginning. Announced work cuts one in two as well: what was so meanwhile
    counts for nobody.

    Args:
        segments: the check's timeline over the period.
        changes: the changes it was made from, in the order in which they were recorded.
        period: what the timeline covers.
    """
    believed = in_force(changes)
    dates = [c.at for c in believed]
    found: list[Outage] = []
    worked_until = period.start  # no outage reaches back over announced work
    for before, segment, after in _neighbours(segments):
        if segment.state is State.MAINTENANCE:
            worked_until = segment.end
        if segment.state is not State.DOWN:
            continue
        began = believed[bisect_right(dates, segment.start) - 1]  # a DOWN segment is some change's doing
        following = bisect_left(dates, segment.end)
        changed = following < len(dates) and dates[following] == segment.end
        floor = max(found[-1].end if found else period.start, worked_until)
        if not changed and _is_work(after) and following < len(dates):
            changed = believed[following].earliest < segment.end
        found.append(
            Outage(
                start=segment.start,
                end=segment.end,
                earliest_start=max(began.earliest, floor),
                earliest_end=max(believed[following].earliest, segment.start) if changed else segment.end,
                open_start=_unseen(before),
                open_end=_unseen(after),
                fault=began.fault,
                detail=began.detail,
            )
        )
    return found


def service_outages(
    segments: Sequence[Segment],
    checks: Sequence[tuple[Sequence[Segment], Sequence[Outage]]],
    rule: int | Rule,
    period: Window,
) -> list[Outage]:
    """List a service's spans of being down; their edges are as uncertain as those of its checks together.

    Args:
        segments: the service's timeline over the period.
        checks: timeline and outages of each of its checks.
        rule: the service's, see `combine`.
        period: what the timelines cover.
    """
    longest = [_overlay(line, _union((o.earliest_start, o.start) for o in down), State.DOWN) for line, down in checks]
    shortest = [_overlay(line, _union((o.earliest_end, o.end) for o in down), State.UP) for line, down in checks]
    widest = [s for s in service_timeline(longest, rule, period) if s.state is State.DOWN]
    narrowest = [s for s in service_timeline(shortest, rule, period) if s.state is State.DOWN]
    starts, certain = [s.start for s in widest], [s.start for s in narrowest]
    found: list[Outage] = []
    for before, segment, after in _neighbours(segments):
        if segment.state is not State.DOWN:
            continue
        start, end = segment.start, segment.end
        sure = narrowest[i].end if (i := bisect_left(certain, end) - 1) >= 0 else start
        floor = found[-1].end if found else period.start
        began = _deciding(start, [down for _, down in checks])
        found.append(
            Outage(
                start=start,
                end=end,
                earliest_start=max(widest[bisect_right(starts, start) - 1].start, floor),
                earliest_end=max(sure, start),
                open_start=_unseen(before),
                open_end=_unseen(after),
                fault=began.fault,
                detail=began.detail,
            )
        )
    return found


def _neighbours(segments: Sequence[Segment]) -> Iterable[tuple[Segment | None, Segment, Segment | None]]:
    return zip([None, *segments], segments, [*segments[1:], None], strict=False)


def _is_work(neighbour: Segment | None) -> bool:
    return neighbour is not None and neighbour.state is State.MAINTENANCE


def _unseen(neighbour: Segment | None) -> bool:
    return neighbour is None or neighbour.state is State.UNKNOWN


def _deciding(moment: datetime, checks: Iterable[Sequence[Outage]]) -> Outage:
    """Return the outage under way at a moment that began last: the one too many."""
    under_way = []
    for down in checks:
        i = bisect_right(down, moment, key=lambda o: o.start) - 1
        if i >= 0 and moment < down[i].end:
            under_way.append(down[i])
    return max(under_way, key=lambda o: o.start)


# The account of a window: what a report may say about it, and how finely.

MTTR_LEAST: Final = 5  # outages under which counts and durations are given, and no mean


@dataclass(frozen=True, slots=True)
class Account:
    """What is to be said about one window: the whole period, a local day, a peak."""

    window: Window
    seconds: Mapping[State, float]  # they sum to the window
    share: Share
    outages: int  # that touch the window
    longest_s: float  # of the parts within the window
    down_least_s: float  # from the first bad result of each outage to its last one
    down_most_s: float  # from the last good result before to the first good one after

    @property
    def all_work(self) -> bool:
        """Whether all of it was announced work: there is nothing to judge, and nothing was missed."""
        return self.seconds[State.MAINTENANCE] > 0 and observed_s(self.seconds) + self.seconds[State.UNKNOWN] <= 0

    @property
    def half_width_s(self) -> float:
        """How far the true down time may lie from the middle between its bounds, to either side."""
        return (self.down_most_s - self.down_least_s) / 2

    @property
    def mean_repair_s(self) -> float | None:
        """Down time an outage; None under five of them: a mean of so few says nothing."""
        return self.seconds[State.DOWN] / self.outages if self.outages >= MTTR_LEAST else None


def clip(segments: Iterable[Segment], window: Window) -> list[Segment]:
    """Return the part of a timeline that lies within a window."""
    return [
        Segment(max(s.start, window.start), min(s.end, window.end), s.state)
        for s in segments
        if s.start < window.end and s.end > window.start
    ]


def account(segments: Iterable[Segment], down: Sequence[Outage], window: Window, unseen_s: float = 0.0) -> Account:
    """Work out the account of a window. The accounts of a window's parts add up to its own.

    Args:
        segments: a timeline that covers the window.
        down: the outages of that timeline.
        window: what to account for.
        unseen_s: down time that probing may have missed, see `hidden_s`; widens the lower bound alone.
    """

    def within(moment: datetime) -> datetime:
        return min(max(moment, window.start), window.end)

    seconds = seconds_by_state(clip(segments, window))
    touching = [o for o in down if o.start < window.end and o.end > window.start]
    least = sum((max(within(o.earliest_end) - within(o.start), timedelta()) for o in touching), timedelta())
    most = sum((within(o.end) - within(o.earliest_start) for o in down), timedelta())
    down_least_s, down_most_s, down_s = least.total_seconds(), most.total_seconds(), seconds[State.DOWN]
    doubt = Doubt(max(down_most_s - down_s, 0.0), max(down_s - down_least_s, 0.0), unseen_s)
    return Account(
        window=window,
        seconds=seconds,
        share=share(seconds, doubt),
        outages=len(touching),
        longest_s=max(((within(o.end) - within(o.start)).total_seconds() for o in touching), default=0.0),
        down_least_s=down_least_s,
        down_most_s=down_most_s,
    )


def failure_bound(rounds: int, confidence: float = 0.95) -> float:
    """Return the greatest share of failures that no failure in so many rounds leaves credible.

    One-sided: 1 - (1 - confidence)^(1/n), about 3/n at 95 % (the rule of three). Without a round, everything is.
    """
    return 1.0 - (1.0 - confidence) ** (1.0 / rounds) if rounds > 0 else 1.0


def percent_digits(resolution_s: float, window_s: float) -> int:
    """Return how many decimals of a percentage an interval between probes can carry.

    60 s in 9 days are 0.008 %: two decimals. Never more than three.
    """
    step = 100.0 * resolution_s / window_s if window_s > 0 else 100.0
    digits = 0
    while digits < 3 and 10.0 ** -(digits + 1) >= step:
        digits += 1
    return digits
