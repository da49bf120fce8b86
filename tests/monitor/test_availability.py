"""Time accounting: every second is exactly one state, and what is not known is neither up nor down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.availability import (
    Outage,
    Segment,
    in_force,
    outages,
    seconds_by_state,
    service_outages,
    service_timeline,
    share,
    timeline,
)
from monitor.judge.service import USABLE, combine
from monitor.model import Change, Gap, State
from tests.monitor.builders import at, change, gap, span

UP, DOWN, UNKNOWN, SLOW, JAM = State.UP, State.DOWN, State.UNKNOWN, State.DEGRADED, State.CONGESTED
LETTERS = {UP: "U", DOWN: "D", UNKNOWN: "?", SLOW: "s", JAM: "c"}
HOUR = span(0, 3600)


def seconds(moment: datetime) -> float:
    return (moment - at(0)).total_seconds()


def written(segments: Sequence[Segment]) -> str:
    """Write segments as `U0-10 D10-20`, in seconds after T0."""
    return " ".join(f"{LETTERS[s.state]}{seconds(s.start):g}-{seconds(s.end):g}" for s in segments)


def laid(
    changes: Sequence[tuple[State, float]],
    gaps: Sequence[tuple[float, float | None]] = (),
    *,
    until: float = 100,
    known: float = 1e6,
) -> str:
    """Lay out one check over [0, until)."""
    segments = timeline(
        [change("mail.smtp", state, second) for state, second in changes],
        [gap("mail.smtp", start, end) for start, end in gaps],
        span(0, until),
        at(known),
    )
    return written(segments)


def test_without_any_record_the_whole_period_is_unknown() -> None:
    assert laid([]) == "?0-100"


def test_time_before_the_first_verdict_is_unknown() -> None:
    assert laid([(UP, 30)]) == "?0-30 U30-100"


def test_the_state_before_the_period_is_taken_over_into_it() -> None:
    assert laid([(UP, -500), (DOWN, -10)]) == "D0-100"


def test_a_check_still_down_at_the_end_is_down_to_the_end() -> None:
    assert laid([(UP, -1), (DOWN, 90)]) == "U0-90 D90-100"


def test_changes_exactly_on_the_edges_belong_to_the_period_that_begins_with_them() -> None:
    assert laid([(DOWN, 0), (UP, 100)]) == "D0-100"
    assert laid([(UP, -5), (DOWN, 0)]) == "D0-100"


def test_changes_after_the_period_do_not_reach_into_it() -> None:
    assert laid([(UP, -5), (DOWN, 150), (UP, 160)]) == "U0-100"


def test_a_back_dated_change_overrides_what_was_recorded_before_it() -> None:
    # Believed up at 40 and down at 60; then found to have been degraded since 20.
    assert laid([(UP, 0), (DOWN, 60), (UP, 80), (SLOW, 20)]) == "U0-20 s20-100"
    assert laid([(UP, 40), (DOWN, 40)]) == "?0-40 D40-100"


def test_repeated_changes_to_one_state_are_one_segment() -> None:
    assert laid([(UP, 0), (UP, 30), (UP, 60)]) == "U0-100"


def test_time_that_was_not_observed_lies_over_any_state() -> None:
    assert laid([(UP, 0), (DOWN, 50)], [(40, 60)]) == "U0-40 ?40-60 D60-100"
    assert laid([(DOWN, 0)], [(20, 30)]) == "D0-20 ?20-30 D30-100"


def test_gaps_may_overlap_touch_and_come_in_any_order() -> None:
    assert laid([(UP, 0)], [(50, 60), (10, 20), (15, 30), (30, 40), (12, 14)]) == "U0-10 ?10-40 U40-50 ?50-60 U60-100"


def test_gaps_are_cut_at_the_edges_of_the_period() -> None:
    assert laid([(UP, -50)], [(-20, 5), (95, 300), (-9, -3), (200, 210)]) == "?0-5 U5-95 ?95-100"


def test_an_open_gap_lasts_to_the_end() -> None:
    assert laid([(UP, 0)], [(70, None)]) == "U0-70 ?70-100"


def test_a_gap_of_no_length_is_none() -> None:
    assert laid([(UP, 0)], [(50, 50), (70, 60)]) == "U0-100"


def test_nothing_is_known_after_the_last_sign_of_life() -> None:
    assert laid([(UP, 0)], known=80) == "U0-80 ?80-100"
    assert laid([(UP, 0), (DOWN, 90)], known=80) == "U0-80 ?80-100"
    assert laid([(UP, -9)], known=-5) == "?0-100"
    assert laid([(UP, 0)], known=100) == "U0-100"


def test_a_period_of_no_length_has_no_segments() -> None:
    assert laid([(UP, -1)], [(0, None)], until=0, known=-5) == ""


def test_changes_that_lost_their_place_are_no_longer_in_force() -> None:
    recorded = [change("a", UP, 10), change("a", DOWN, 40), change("a", SLOW, 20), change("a", UP, 30)]
    assert in_force(recorded) == [recorded[0], recorded[2], recorded[3]]


# Shares.


def test_availability_is_observed_time_that_was_not_down() -> None:
    segments = timeline([change("a", UP, 0), change("a", DOWN, 1800), change("a", UP, 2160)], [], HOUR, at(3600))
    found = share(seconds_by_state(segments))
    assert (found.value, found.least, found.most, found.coverage, found.enough) == (0.9, 0.9, 0.9, 1.0, True)


def test_unknown_time_widens_the_bounds_and_not_the_value() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 900), change("a", UP, 1800)]
    found = share(seconds_by_state(timeline(changes, [gap("a", 2700, 3600)], HOUR, at(3600))))
    assert found.value == pytest.approx(2 / 3)
    assert (found.least, found.most, found.coverage, found.enough) == (0.5, 0.75, 0.75, False)


def test_without_observation_there_is_no_value_and_anything_is_possible() -> None:
    found = share(seconds_by_state(timeline([], [], HOUR, at(3600))))
    assert (found.value, found.least, found.most, found.coverage) == (None, 0.0, 1.0, 0.0)


def test_a_period_of_no_length_has_no_share_at_all() -> None:
    found = share(seconds_by_state([]))
    assert (found.value, found.least, found.most, found.coverage) == (None, None, None, 0.0)


def test_slow_and_congested_time_was_usable() -> None:
    changes = [change("a", SLOW, 0), change("a", JAM, 900), change("a", DOWN, 1800)]
    assert share(seconds_by_state(timeline(changes, [], HOUR, at(3600)))).value == 0.5


def test_down_all_the_time_is_nothing_available() -> None:
    found = share(seconds_by_state(timeline([change("a", DOWN, -1)], [], HOUR, at(3600))))
    assert (found.value, found.least, found.most) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("unseen_s", "enough"), [(180, True), (181, False)])
def test_under_ninety_five_percent_of_coverage_no_grade_is_given(unseen_s: float, enough: bool) -> None:
    segments = timeline([change("a", UP, 0)], [gap("a", 0, unseen_s)], HOUR, at(3600))
    assert share(seconds_by_state(segments)).enough is enough


# Services.


def test_a_service_follows_its_rule_second_by_second() -> None:
    first = timeline([change("a", UP, 0), change("a", DOWN, 20), change("a", UP, 50)], [], span(0, 100), at(100))
    second = timeline([change("b", UP, 10), change("b", DOWN, 40), change("b", UP, 60)], [], span(0, 100), at(100))
    both = [first, second]
    assert written(service_timeline(both, 2, span(0, 100))) == "?0-10 U10-20 D20-60 U60-100"
    assert written(service_timeline(both, 1, span(0, 100))) == "U0-20 s20-40 D40-50 s50-60 U60-100"


def test_a_service_has_no_segments_in_a_period_of_no_length() -> None:
    assert service_timeline([[], []], 1, span(50, 50)) == []


# Outages.


class Told(NamedTuple):
    """An outage, in seconds after T0."""

    start: float
    end: float
    earliest_start: float
    earliest_end: float
    open_start: bool = False
    open_end: bool = False


def told(found: Sequence[Outage]) -> list[Told]:
    return [
        Told(
            seconds(o.start),
            seconds(o.end),
            seconds(o.earliest_start),
            seconds(o.earliest_end),
            o.open_start,
            o.open_end,
        )
        for o in found
    ]


def fell(changes: Sequence[Change], gaps: Sequence[Gap] = (), known: float = 1e6) -> list[Outage]:
    """List the outages of one check over [0, 100)."""
    return outages(timeline(changes, gaps, span(0, 100), at(known)), changes, span(0, 100))


def test_an_outage_has_its_edges_their_doubt_and_its_reason() -> None:
    found = fell(
        [
            change("a", UP, -50),
            change("a", DOWN, 20, earliest=15, fault="refused", detail="connection refused"),
            change("a", UP, 60, earliest=52),
        ]
    )
    assert told(found) == [Told(20, 60, 15, 52)]
    assert (found[0].fault, found[0].detail) == ("refused", "connection refused")


def test_an_outage_that_had_begun_before_the_period_is_open_at_its_start() -> None:
    assert told(fell([change("a", DOWN, -30, earliest=-35), change("a", UP, 40, earliest=38)])) == [
        Told(0, 40, 0, 38, open_start=True)
    ]


def test_an_outage_that_goes_on_after_the_period_is_open_at_its_end() -> None:
    for later in ([], [change("a", UP, 100, earliest=98)], [change("a", UP, 200)]):
        found = fell([change("a", UP, 0), change("a", DOWN, 70, earliest=65), *later])
        assert [(o.start, o.end, o.open_end) for o in found] == [(at(70), at(100), True)]


def test_an_outage_whose_doubt_reaches_before_the_period_is_cut_there() -> None:
    assert told(fell([change("a", UP, -50), change("a", DOWN, 5, earliest=-3), change("a", UP, 9, earliest=2)])) == [
        Told(5, 9, 0, 5)
    ]


def test_an_outage_seen_on_both_sides_of_a_gap_is_one_for_each() -> None:
    changes = [
        change("a", UP, 0),
        change("a", DOWN, 20, earliest=15, fault="timeout"),
        change("a", UP, 80, earliest=75),
    ]
    found = fell(changes, [gap("a", 40, 50)])
    assert told(found) == [Told(20, 40, 15, 40, open_end=True), Told(50, 80, 40, 75, open_start=True)]
    assert [o.fault for o in found] == ["timeout", "timeout"]


def test_an_outage_that_was_cut_off_with_the_daemon_is_open_at_its_end() -> None:
    assert told(fell([change("a", UP, 0), change("a", DOWN, 20)], known=60)) == [Told(20, 60, 20, 60, open_end=True)]


def test_an_outage_that_ends_in_slow_answers_ends_there() -> None:
    changes = [change("a", DOWN, 20), change("a", UP, 50, earliest=45), change("a", SLOW, 50, earliest=45)]
    assert told(fell(changes)) == [Told(20, 50, 20, 45, open_start=True)]


def test_the_first_verdict_may_be_an_outage_nobody_saw_begin() -> None:
    assert told(fell([change("a", DOWN, 20), change("a", UP, 30)])) == [Told(20, 30, 20, 30, open_start=True)]


def test_a_period_without_outages_lists_none() -> None:
    assert fell([change("a", UP, 0), change("a", SLOW, 30)]) == []
    assert fell([]) == []


def service_fell(checks: Sequence[Sequence[Change]], at_least: int, gaps: Sequence[Sequence[Gap]] = ()) -> list[Outage]:
    """List the outages over [0, 100) of a service whose checks changed so."""
    period = span(0, 100)
    blind = gaps or [()] * len(checks)
    lines = [timeline(c, g, period, at(1000)) for c, g in zip(checks, blind, strict=True)]
    pairs = [(line, outages(line, c, period)) for line, c in zip(lines, checks, strict=True)]
    return service_outages(service_timeline(lines, at_least, period), pairs, at_least, period)


FIRST = [change("a", UP, 0), change("a", DOWN, 20, earliest=15, fault="refused"), change("a", UP, 60, earliest=55)]
SECOND = [change("b", UP, 0), change("b", DOWN, 30, earliest=10, fault="tls"), change("b", UP, 50, earliest=48)]


def test_a_service_that_needs_all_may_have_fallen_with_the_earliest_of_its_checks() -> None:
    found = service_fell([FIRST, SECOND], 2)
    assert told(found) == [Told(20, 60, 10, 55)]  # the second may have failed at 10, though it was seen at 30
    assert found[0].fault == "refused"


def test_a_service_that_needs_any_falls_with_the_last_of_its_checks() -> None:
    found = service_fell([FIRST, SECOND], 1)
    assert told(found) == [Told(30, 50, 15, 48)]  # not before both were down: the first at 15 at the earliest
    assert found[0].fault == "tls"


def test_a_service_already_down_names_the_check_that_is() -> None:
    healthy = [change("b", UP, 5)]
    down_before = [change("a", DOWN, -10, earliest=-20, fault="timeout", detail="no answer")]
    found = service_fell([down_before, healthy], 2)
    assert told(found) == [Told(0, 100, 0, 100, open_start=True, open_end=True)]
    assert (found[0].fault, found[0].detail) == ("timeout", "no answer")


def test_one_check_taking_over_the_outage_of_another_keeps_the_last_certain_moment() -> None:
    first = [change("a", UP, 0), change("a", DOWN, 10, earliest=5), change("a", UP, 30, earliest=20)]
    second = [change("b", UP, 0), change("b", DOWN, 30, earliest=25), change("b", UP, 50, earliest=45)]
    assert told(service_fell([first, second], 2)) == [Told(10, 50, 5, 45)]


def test_an_outage_of_a_service_does_not_begin_before_the_one_before_it_ended() -> None:
    flaps = [
        change("a", UP, 0),
        change("a", DOWN, 10, earliest=8),
        change("a", UP, 20, earliest=15),
        change("a", DOWN, 30, earliest=20),
        change("a", UP, 40, earliest=39),
    ]
    assert told(service_fell([flaps], 1)) == [Told(10, 20, 8, 15), Told(30, 40, 20, 39)]


def test_a_service_outage_interrupted_by_a_gap_is_one_for_each_side() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 20, earliest=15, fault="timeout")]
    found = service_fell([changes, [change("b", UP, 0)]], 2, [[gap("a", 40, 50)], []])
    assert told(found) == [Told(20, 40, 15, 40, open_end=True), Told(50, 100, 40, 100, open_start=True, open_end=True)]
    assert [o.fault for o in found] == ["timeout", "timeout"]


# Laws, over random records of a hundred seconds.

SECONDS = 100
moments = st.integers(-20, SECONDS + 20)
records = st.lists(
    st.builds(lambda state, second: change("a", state, second), st.sampled_from(list(State)[1:]), moments), max_size=12
)
blindness = st.lists(
    st.builds(
        lambda start, length: gap("a", start, None if length is None else start + length),
        moments,
        st.none() | st.integers(0, 40),
    ),
    max_size=5,
)


def by_hand(changes: Sequence[Change], gaps: Sequence[Gap], known: float) -> list[State]:
    """What each second of [0, 100) was: the last record that speaks of it, unless it was not observed."""
    found = []
    for second in range(SECONDS):
        moment = at(second)
        states = [c.state for c in changes if c.at <= moment]
        unseen = second >= known or any(g.start <= moment and (g.end is None or moment < g.end) for g in gaps)
        found.append(states[-1] if states and not unseen else UNKNOWN)
    return found


def by_second(segments: Sequence[Segment]) -> list[State]:
    return [s.state for s in segments for _ in range(int(s.seconds))]


@given(records, blindness, st.integers(-10, SECONDS + 10))
def test_a_timeline_is_what_each_second_was(changes: list[Change], gaps: list[Gap], known: int) -> None:
    segments = timeline(changes, gaps, span(0, SECONDS), at(known))
    assert by_second(segments) == by_hand(changes, gaps, known)
    assert (segments[0].start, segments[-1].end) == (at(0), at(SECONDS))
    for before, after in pairwise(segments):
        assert before.end == after.start
        assert before.state is not after.state


@given(records, blindness, st.integers(0, SECONDS), st.integers(-10, SECONDS + 10))
def test_a_period_cut_in_two_is_the_whole(changes: list[Change], gaps: list[Gap], cut: int, known: int) -> None:
    whole, left, right = (
        seconds_by_state(timeline(changes, gaps, window, at(known)))
        for window in (span(0, SECONDS), span(0, cut), span(cut, SECONDS))
    )
    assert whole == {state: left[state] + right[state] for state in State}


@given(st.lists(st.integers(0, 10**9), max_size=30), st.lists(st.integers(0, 10**9), max_size=6))
def test_the_segments_sum_to_the_period_to_the_microsecond(changed_us: list[int], blind_us: list[int]) -> None:
    period = span(0, 1000.000001)
    changes = [change("a", (UP, DOWN)[i % 2], us / 1e6) for i, us in enumerate(sorted(changed_us))]
    gaps = [gap("a", us / 1e6, us / 1e6 + 3.3) for us in blind_us]
    segments = timeline(changes, gaps, period, at(999.9))
    assert sum((s.end - s.start for s in segments), timedelta()) == period.end - period.start
    assert sum(seconds_by_state(segments).values()) == pytest.approx(1000.000001, abs=1e-9)


truths = st.lists(st.sampled_from([UP, SLOW, JAM, DOWN]), min_size=SECONDS, max_size=SECONDS)


@given(truths, blindness)
def test_the_bounds_hold_the_truth_whatever_was_not_observed(truth: list[State], gaps: list[Gap]) -> None:
    changes = [change("a", state, second) for second, state in enumerate(truth)]
    found = share(seconds_by_state(timeline(changes, gaps, span(0, SECONDS), at(SECONDS))))
    true_share = sum(s in USABLE for s in truth) / SECONDS
    assert found.least is not None
    assert found.most is not None
    assert found.least - 1e-9 <= true_share <= found.most + 1e-9
    if found.value is not None:
        assert found.least - 1e-9 <= found.value <= found.most + 1e-9
    assert found.most - found.least == pytest.approx(1 - found.coverage)


lines = st.lists(st.tuples(records, blindness), min_size=1, max_size=4)


@given(lines, st.data())
def test_a_service_timeline_is_its_rule_at_each_second(
    checks: list[tuple[list[Change], list[Gap]]], data: st.DataObject
) -> None:
    at_least = data.draw(st.integers(1, len(checks)))
    whole = span(0, SECONDS)
    segments = service_timeline([timeline(c, g, whole, at(SECONDS)) for c, g in checks], at_least, whole)
    columns = zip(*(by_hand(c, g, SECONDS) for c, g in checks), strict=True)
    assert by_second(segments) == [combine(column, at_least) for column in columns]


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Change], list[int]]:
    """A check that goes down and comes up, each time with doubt; and when it truly did."""
    changes, truth = [change("a", UP, -30)], [-30]
    second, state = -20, DOWN
    for _ in range(draw(st.integers(0, 6))):
        doubt = draw(st.integers(0, 12))
        earliest = second + draw(st.integers(0, 20))
        second = earliest + doubt
        if second >= SECONDS:
            break  # what is only found out after the period is not in its report
        changes.append(change("a", state, second, earliest=earliest))
        truth.append(earliest + draw(st.integers(0, doubt)))
        state = UP if state is DOWN else DOWN
        second += 1
    return changes, truth


@given(st.lists(lives(), min_size=1, max_size=4), st.data())
def test_the_doubt_about_a_services_outages_holds_the_truth(
    checks: list[tuple[list[Change], list[int]]], data: st.DataObject
) -> None:
    at_least = data.draw(st.integers(1, len(checks)))
    true_states = []
    for second in range(SECONDS):
        past = [[c for c, true in zip(changes, truth, strict=True) if true <= second] for changes, truth in checks]
        true_states.append(combine([mine[-1].state for mine in past], at_least))
    ended = 0.0  # where the outage before this one ended
    for outage in told(service_fell([changes for changes, _ in checks], at_least)):
        if outage.earliest_start > ended:
            assert true_states[int(outage.earliest_start) - 1] is not DOWN, "not down before the earliest start"
        if outage.earliest_end > outage.start:
            assert true_states[int(outage.earliest_end) - 1] is DOWN, "down up to the earliest end"
        ended = outage.end


@given(lines, st.data())
def test_outages_are_the_down_segments_with_edges_in_order(
    checks: list[tuple[list[Change], list[Gap]]], data: st.DataObject
) -> None:
    at_least = data.draw(st.integers(1, len(checks)))
    whole = span(0, SECONDS)
    own = [timeline(c, g, whole, at(SECONDS)) for c, g in checks]
    pairs = [(line, outages(line, c, whole)) for line, (c, _) in zip(own, checks, strict=True)]
    service = service_timeline(own, at_least, whole)
    for line, found in [*pairs, (service, service_outages(service, pairs, at_least, whole))]:
        assert [(o.start, o.end) for o in found] == [(s.start, s.end) for s in line if s.state is DOWN]
        for outage in found:
            assert whole.start <= outage.earliest_start <= outage.start <= outage.earliest_end <= outage.end
