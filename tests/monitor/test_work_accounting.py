"""Six states of time: announced work lies over everything, counts for nobody, and always adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.plan import Window
from monitor import adjusted, availability, maintenance
from monitor.announced import PERSON, Announcement
from monitor.availability import Segment, account, outages, seconds_by_state, timeline, with_work
from monitor.corrections import APPROVED, REJECTED, Correction
from monitor.model import JUDGED, Change, Gap, State
from tests.monitor.builders import at, change, gap, span

UP, DOWN, UNKNOWN, WORK = State.UP, State.DOWN, State.UNKNOWN, State.MAINTENANCE
SECONDS = 100


def announced(
    start: float, end: float, said: float = -1000, cancelled: float | None = None, subject: str = "mail"
) -> Announcement:
    ended = None if cancelled is None else at(cancelled)
    return Announcement(1, subject, span(start, end), "Vá lỗi", "Lan", "lan", PERSON, at(said), ended)


def corrected(start: float, end: float, state: State, no: int = 1, status: str = APPROVED) -> Correction:
    asked = Correction(no, "mail", span(start, end), state, "Biên bản", "Lan", "lan", at(0))
    return replace(asked, status=status, decision_no=no)


def laid(segments: Sequence[Segment]) -> list[tuple[float, float, State]]:
    return [((s.start - at(0)).total_seconds(), (s.end - at(0)).total_seconds(), s.state) for s in segments]


@pytest.mark.parametrize(
    ("start", "end", "said", "cancelled", "takes"),
    [
        (10, 20, 0, None, (10, 20)),
        (10, 20, 10, None, (10, 20)),  # at the very moment
        (10, 20, 15, None, (15, 20)),  # announced late: what came before is no maintenance
        (10, 20, 20, None, None),  # afterwards: that is a correction
        (10, 20, 25, None, None),
        (10, 20, 0, 14, (10, 14)),  # cancelled under way: it ends then, and what has passed stays
        (10, 20, 0, 5, None),  # cancelled before: it never begins
        (10, 20, 12, 14, (12, 14)),
    ],
)
def test_work_takes_what_comes_after_its_announcement_and_before_its_cancellation(
    start: float, end: float, said: float, cancelled: float | None, takes: tuple[float, float] | None
) -> None:
    found = announced(start, end, said, cancelled)
    assert found.window == (span(*takes) if takes else None)
    assert found.late == (said > start)


def test_work_lies_over_what_was_measured_and_over_what_was_not_observed() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 30), change("a", UP, 60)]
    measured = timeline(changes, [gap("a", 70, 80)], span(0, 100), at(90))
    assert laid(with_work(measured, [span(20, 40), span(75, 95)])) == [
        (0, 20, UP),
        (20, 40, WORK),
        (40, 60, DOWN),
        (60, 70, UP),
        (70, 75, UNKNOWN),
        (75, 95, WORK),
        (95, 100, UNKNOWN),
    ]


def test_the_figures_leave_work_out_of_numerator_and_denominator() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 20), change("a", UP, 60)]
    segments = with_work(timeline(changes, [gap("a", 80, 90)], span(0, 100), at(100)), [span(10, 50)])
    found = account(segments, outages(segments, changes, span(0, 100)), span(0, 100))
    assert found.seconds == {UP: 40, DOWN: 10, UNKNOWN: 10, WORK: 40, State.DEGRADED: 0, State.CONGESTED: 0}
    assert found.share.value == 40 / 50
    assert found.share.coverage == 50 / 60
    assert (found.share.least, found.share.most) == (40 / 60, 50 / 60)


def test_a_window_over_the_edges_of_a_period_is_cut_there() -> None:
    segments = with_work(timeline([change("a", UP, -50)], [], span(0, 100), at(100)), [span(-30, 10), span(90, 200)])
    assert laid(segments) == [(0, 10, WORK), (10, 90, UP), (90, 100, WORK)]


def test_a_period_that_is_all_work_is_neither_good_nor_unseen() -> None:
    segments = with_work(timeline([change("a", DOWN, -50)], [], span(0, 100), at(100)), [span(-30, 200)])
    found = account(segments, [], span(0, 100))
    assert found.all_work
    assert found.share.value is None


def test_windows_that_overlap_are_one() -> None:
    segments = with_work(timeline([change("a", UP, 0)], [], span(0, 100), at(100)), [span(20, 60), span(10, 30)])
    assert laid(segments) == [(0, 10, UP), (10, 60, WORK), (60, 100, UP)]


def test_an_outage_that_work_cuts_has_a_sharp_edge_there() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 30, earliest=25), change("a", UP, 70, earliest=65)]
    segments = with_work(timeline(changes, [], span(0, 100), at(100)), [span(40, 50)])
    before, after = outages(segments, changes, span(0, 100))
    assert (before.earliest_start, before.start, before.earliest_end, before.end) == (at(25), at(30), at(40), at(40))
    assert (after.earliest_start, after.start, after.earliest_end, after.end) == (at(50), at(50), at(65), at(70))
    assert not after.open_start


def test_an_outage_whose_end_was_seen_in_the_work_may_have_ended_before_it() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 30, earliest=25), change("a", UP, 45, earliest=35)]
    segments = with_work(timeline(changes, [], span(0, 100), at(100)), [span(40, 50)])
    (found,) = outages(segments, changes, span(0, 100))
    assert (found.earliest_end, found.end) == (at(35), at(40))


def test_work_on_one_of_two_needed_checks_is_the_services_and_of_two_alike_it_is_not() -> None:
    up = timeline([change("a", UP, 0)], [], span(0, 100), at(100))
    work = with_work(up, [span(10, 20)])
    assert laid(availability.service_timeline([work, up], 2, span(0, 100))) == [
        (0, 10, UP),
        (10, 20, WORK),
        (20, 100, UP),
    ]
    assert laid(availability.service_timeline([work, up], 1, span(0, 100))) == [(0, 100, UP)]


def test_a_service_falls_when_the_work_on_it_ends_and_it_is_still_down() -> None:
    period, changes = span(0, 100), [change("a", UP, 0), change("a", DOWN, 30)]
    check = with_work(timeline(changes, [], period, at(100)), [span(20, 60)])
    service = availability.service_timeline([check], 1, period)
    (found,) = availability.service_outages(service, [(check, outages(check, changes, period))], 1, period)
    assert (found.earliest_start, found.start, found.end) == (at(60), at(60), at(100))


# Corrections.


def test_later_approvals_lie_over_earlier_ones_and_the_unapproved_change_nothing() -> None:
    measured = timeline([change("a", DOWN, 0)], [], span(0, 100), at(100))
    spans = adjusted.laid_over(
        [
            corrected(10, 60, WORK, no=5),
            corrected(40, 50, UP, no=9),
            corrected(0, 100, UP, no=11, status=REJECTED),
            corrected(0, 100, UP, no=12, status="proposed"),
            replace(corrected(0, 100, UP, no=13), subject="portal"),
        ],
        "mail",
    )
    assert laid(availability.with_states(measured, spans)) == [
        (0, 10, DOWN),
        (10, 40, WORK),
        (40, 50, UP),
        (50, 60, WORK),
        (60, 100, DOWN),
    ]


def test_an_edge_that_was_measured_keeps_its_doubt_and_a_corrected_one_has_none() -> None:
    changes = [
        change("a", UP, 0),
        change("a", DOWN, 30, earliest=25, fault="timeout"),
        change("a", UP, 70, earliest=65),
    ]
    measured = timeline(changes, [], span(0, 100), at(100))
    down = outages(measured, changes, span(0, 100))
    segments = availability.with_states(measured, adjusted.laid_over([corrected(50, 60, UP)], "mail"))
    first, second = adjusted.adjusted_outages(segments, down)
    assert (first.earliest_start, first.start, first.earliest_end, first.end) == (at(25), at(30), at(50), at(50))
    assert (second.earliest_start, second.start, second.earliest_end, second.end) == (at(60), at(60), at(65), at(70))
    assert first.fault == second.fault == "timeout"


# Laws, over random records of a hundred seconds.

moments = st.integers(-20, SECONDS + 20)
records = st.lists(st.builds(lambda s, t: change("a", s, t), st.sampled_from(JUDGED), moments), max_size=12)
blindness = st.lists(st.builds(lambda s, n: gap("a", s, s + n), moments, st.integers(0, 40)), max_size=4)
announcements = st.lists(
    st.builds(
        lambda start, length, said, ended: announced(start, start + length, said, ended),
        moments,
        st.integers(1, 50),
        moments,
        st.none() | moments,
    ),
    max_size=6,
)


def windows(works: Sequence[Announcement]) -> list[Window]:
    return maintenance.windows(works).get("mail", [])


@given(records, blindness, announcements)
def test_every_second_is_in_one_of_six_states_as_a_look_at_each_says(
    changes: list[Change], gaps: list[Gap], works: list[Announcement]
) -> None:
    measured = timeline(changes, gaps, span(0, SECONDS), at(SECONDS))
    segments = with_work(measured, windows(works))
    assert sum(seconds_by_state(segments).values()) == SECONDS
    for before, after in pairwise(segments):
        assert before.end == after.start
        assert before.state is not after.state
    by_second = [s.state for s in segments for _ in range(int(s.seconds))]
    truth = [s.state for s in measured for _ in range(int(s.seconds))]
    for second, state in enumerate(by_second):
        covered = any(
            max(a.planned.start, a.at) <= at(second) < min(a.planned.end, a.cancelled_at or a.planned.end)
            for a in works
        )
        assert state is (WORK if covered else truth[second])


@given(records, blindness, announcements, st.integers(0, SECONDS))
def test_a_period_cut_in_two_is_the_whole_with_work_in_it(
    changes: list[Change], gaps: list[Gap], works: list[Announcement], cut: int
) -> None:
    whole, left, right = (
        with_work(timeline(changes, gaps, window, at(SECONDS)), windows(works)) if window.start < window.end else []
        for window in (span(0, SECONDS), span(0, cut), span(cut, SECONDS))
    )
    total, parts = seconds_by_state(whole), [seconds_by_state(left), seconds_by_state(right)]
    assert total == {state: sum(p[state] for p in parts) for state in State}


@given(records, blindness, announcements)
def test_no_down_time_counts_in_work_and_bounds_hold_with_it(
    changes: list[Change], gaps: list[Gap], works: list[Announcement]
) -> None:
    period = span(0, SECONDS)
    segments = with_work(timeline(changes, gaps, period, at(SECONDS)), windows(works))
    down = outages(segments, changes, period)
    found = account(segments, down, period)
    assert sum((o.end - o.start).total_seconds() for o in down) == found.seconds[DOWN]
    assert found.down_least_s <= found.seconds[DOWN] <= found.down_most_s
    for outage in down:
        for window in windows(works):
            assert outage.end <= window.start or outage.start >= window.end
            assert outage.end <= window.start or outage.earliest_start >= window.end
    share = found.share
    if share.value is not None and share.least is not None and share.most is not None:
        assert share.least <= share.value <= share.most


@given(records, st.lists(st.tuples(moments, st.integers(1, 60), st.sampled_from(State)), max_size=5))
def test_corrected_time_adds_up_too(changes: list[Change], spans: list[tuple[int, int, State]]) -> None:
    measured = timeline(changes, [], span(0, SECONDS), at(SECONDS))
    made = [corrected(start, start + length, state, no) for no, (start, length, state) in enumerate(spans)]
    segments = availability.with_states(measured, adjusted.laid_over(made, "mail"))
    assert sum(seconds_by_state(segments).values()) == SECONDS
    down = adjusted.adjusted_outages(segments, outages(measured, changes, span(0, SECONDS)))
    assert sum((o.end - o.start).total_seconds() for o in down) == seconds_by_state(segments)[DOWN]
