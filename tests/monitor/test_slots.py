"""Where slots lie: on a grid of their own, for ever the same, and spread."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.scheduler import TICK_S, next_slot, phase


@given(
    name=st.text(min_size=1, max_size=20),
    every_ticks=st.integers(1, 8_640_000),
    after=st.floats(0, 1e9, allow_nan=False),
)
def test_the_next_slot_is_later_on_the_grid_and_at_most_one_interval_away(
    name: str, every_ticks: int, after: float
) -> None:
    every = every_ticks * TICK_S

    slot = next_slot(name, every, after)

    assert slot > after
    assert slot - after <= every + TICK_S
    k = (slot - phase(name, every)) / every
    assert abs(k - round(k)) * every < 1e-5


@given(
    name=st.text(min_size=1, max_size=20),
    every_ticks=st.integers(2, 8_640_000),
    after=st.floats(0, 1e9, allow_nan=False),
)
def test_going_from_slot_to_slot_never_repeats_and_never_leaves_one_out(
    name: str, every_ticks: int, after: float
) -> None:
    every = every_ticks * TICK_S
    slots = [next_slot(name, every, after)]
    for _ in range(20):
        slots.append(next_slot(name, every, slots[-1]))

    for one, two in pairwise(slots):
        assert two - one == pytest.approx(every, abs=1e-5)


def test_phases_stay_the_same_from_run_to_run_and_spread_evenly() -> None:
    assert phase("mail.smtp", 30.0) == phase("mail.smtp", 30.0)
    assert round(phase("mail.smtp", 30.0) / TICK_S) == 2204  # a change here moves every check of every daemon
    tenths = Counter(int(phase(f"service-{n}.check", 10.0)) for n in range(10_000))
    assert len(tenths) == 10
    assert all(850 < count < 1150 for count in tenths.values())
