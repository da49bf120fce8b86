"""Bounds of availability: what was not seen can lie anywhere within them. And how others would count the same past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.availability import Doubt, account, hidden_s, outages, seconds_by_state, share, timeline
from monitor.model import State
from tests.monitor.builders import at, change, gap, span

UP, DOWN, UNKNOWN = State.UP, State.DOWN, State.UNKNOWN
HOUR = span(0, 3600)


def test_what_may_have_been_missed_is_four_and_a_half_intervals() -> None:
    assert hidden_s(0, 60.0) == 0.0
    assert hidden_s(1, 60.0) == pytest.approx(59.4)
    assert hidden_s(43_200, 60.0) == pytest.approx(4.605 * 60, rel=1e-3)


@pytest.mark.parametrize(
    ("doubt", "least", "most"),
    [
        (Doubt(), 0.8, 0.9),
        (Doubt(longer_s=36.0), 0.79, 0.9),
        (Doubt(shorter_s=36.0), 0.8, 0.91),
        (Doubt(hidden_s=360.0), 0.7, 0.9),
        (Doubt(36.0, 36.0, 360.0), 0.69, 0.91),
        (Doubt(99_999.0, 99_999.0, 0.0), 0.0, 1.0),
    ],
)
def test_doubt_widens_the_bounds_and_never_the_value(doubt: Doubt, least: float, most: float) -> None:
    seconds = dict.fromkeys(State, 0.0) | {UP: 2880.0, DOWN: 360.0, UNKNOWN: 360.0}
    found = share(seconds, doubt)
    assert found.coverage == 0.9
    assert found.value == pytest.approx(2880 / 3240)
    assert found.least == pytest.approx(least)
    assert found.most == pytest.approx(most)


def test_the_edges_of_outages_widen_an_account() -> None:
    changes = [change("a", UP, 0), change("a", DOWN, 1800, earliest=1770), change("a", UP, 2160, earliest=2150)]
    segments = timeline(changes, [], HOUR, at(3600))
    found = account(segments, outages(segments, changes, HOUR), HOUR, unseen_s=6.0).share
    assert found.value == 0.9
    assert found.least == pytest.approx(0.9 - 36 / 3600)
    assert found.most == pytest.approx(0.9 + 10 / 3600)


DAY = 86_400.0


@dataclass(frozen=True)
class Sla:
    """A past as Icinga DB's `get_sla_ok_percent` is explained by, and what each of us makes of it."""

    says: str
    changes: Sequence[tuple[State, float]]
    gaps: Sequence[tuple[float, float]]
    value: float | None
    coverage: float


@pytest.mark.parametrize(
    "case",
    [
        Sla("up all the time", [(UP, -1)], [], 1.0, 1.0),
        Sla("down all the time", [(DOWN, -1)], [], 0.0, 1.0),
        Sla("a problem of a tenth", [(UP, -1), (DOWN, 0.1 * DAY), (UP, 0.2 * DAY)], [], 0.9, 1.0),
        Sla("a problem that began before", [(DOWN, -DAY), (UP, 0.25 * DAY)], [], 0.75, 1.0),
        Sla("a problem that goes on", [(UP, -1), (DOWN, 0.75 * DAY)], [], 0.75, 1.0),
        # A pending check leaves the denominator there and here.
        Sla("pending for half of the time", [(UP, 0.5 * DAY)], [], 1.0, 0.5),
        Sla("pending, then down for half of the rest", [(DOWN, 0.5 * DAY), (UP, 0.75 * DAY)], [], 0.5, 0.5),
        Sla("never checked", [], [], None, 0.0),
        # There a monitor that does not run keeps the last state, 1.0 and 0.5; here nobody knows.
        Sla("up, then off for half of the time", [(UP, -1)], [(0.5 * DAY, DAY)], 1.0, 0.5),
        Sla("down, then off", [(UP, -1), (DOWN, 0.5 * DAY)], [(0.6 * DAY, DAY)], 5 / 6, 0.6),
        # There UNKNOWN counts as a problem, 0.9; here it is not observed.
        Sla("unknown for a tenth", [(UP, -1)], [(0.5 * DAY, 0.6 * DAY)], 1.0, 0.9),
    ],
    ids=lambda case: case.says,
)
def test_pasts_by_which_icinga_explains_its_sla(case: Sla) -> None:
    changes = [change("a", state, second) for state, second in case.changes]
    gaps = [gap("a", start, end) for start, end in case.gaps]
    found = share(seconds_by_state(timeline(changes, gaps, span(0, DAY), at(DAY))))
    assert found.value == (None if case.value is None else pytest.approx(case.value))
    assert found.coverage == pytest.approx(case.coverage)


@given(st.lists(st.floats(1, DAY - 1), max_size=8, unique=True), st.floats(1, DAY - 1), st.floats(0.5, 300))
def test_the_parts_of_a_period_add_up_to_the_whole(flips: list[float], cut: float, doubt_s: float) -> None:
    states = (UP, DOWN)
    changes = [change("a", UP, -1)] + [
        change("a", states[(i + 1) % 2], second, earliest=second - doubt_s) for i, second in enumerate(sorted(flips))
    ]
    whole = span(0, DAY)
    segments = timeline(changes, [], whole, at(DAY))
    down = outages(segments, changes, whole)
    parts = [account(segments, down, window) for window in (span(0, cut), span(cut, DAY))]
    found = account(segments, down, whole)
    for state in State:
        assert sum(p.seconds[state] for p in parts) == pytest.approx(found.seconds[state], abs=1e-5)
    assert sum(p.down_least_s for p in parts) == pytest.approx(found.down_least_s, abs=1e-5)
    assert sum(p.down_most_s for p in parts) == pytest.approx(found.down_most_s, abs=1e-5)
    assert found.share.least is not None
    assert found.share.value is not None
    assert found.share.most is not None
    assert found.share.least <= found.share.value <= found.share.most
