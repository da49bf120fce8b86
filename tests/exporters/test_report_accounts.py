"""Accounts of windows: parts add up, bounds hold the truth, and no figure is finer than its resolution."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import text_report as words
from monitor import availability
from monitor.availability import Account, account, failure_bound, percent_digits
from monitor.model import Change, State
from tests.exporters.report_sample import DAY, figures
from tests.monitor.builders import change, span

UP, DOWN = State.UP, State.DOWN
MINUTE_60S_IN_9_DAYS = (60.0, 9 * DAY)


def made(*down: tuple[float, float, float], until: float = 1000.0) -> tuple[list[Change], Account]:
    """Outages as (first bad, first good, interval): seen once an interval."""
    found = [change("mail.smtp", UP, 0, confirmed=0, earliest=0)]
    for start, end, every in down:
        found.append(change("mail.smtp", DOWN, start, confirmed=start, earliest=start - every))
        found.append(change("mail.smtp", UP, end, confirmed=end, earliest=end - every))
    period = span(0, until)
    segments = availability.timeline(found, [], period, period.end)
    return found, account(segments, availability.outages(segments, found, period), period)


def test_an_outage_is_at_least_first_bad_to_last_bad_and_at_most_last_good_to_first_good() -> None:
    _, found = made((100, 200, 30))
    assert (found.down_least_s, found.down_most_s, found.half_width_s) == (70.0, 130.0, 30.0)
    assert found.seconds[DOWN] == 100.0


def test_the_mean_repair_time_needs_five_outages() -> None:
    four = [(100.0 * i, 100.0 * i + 10, 5.0) for i in range(1, 5)]
    assert made(*four)[1].mean_repair_s is None
    assert made(*four, (500.0, 510.0, 5.0))[1].mean_repair_s == 10.0


@pytest.mark.parametrize(
    ("rounds", "share"),
    [(9 * 1440, 0.99977), (7 * 1440, 0.99970), (7 * 2880, 0.99985), (30 * 1440, 0.99993)],
    ids=["9 days at 60 s", "7 days at 60 s", "7 days at 30 s", "30 days at 60 s"],
)
def test_no_failure_in_so_many_rounds_proves_so_much(rounds: int, share: float) -> None:
    assert 1 - failure_bound(rounds) == pytest.approx(share, abs=5e-6)
    assert failure_bound(rounds) == pytest.approx(3 / rounds, rel=0.002)  # the rule of three


def test_without_a_round_nothing_is_proven() -> None:
    assert failure_bound(0) == 1.0


@pytest.mark.parametrize(
    ("every_s", "window_s", "digits"),
    [(*MINUTE_60S_IN_9_DAYS, 2), (60, DAY, 1), (30, 7200, 0), (5, 7200, 1), (10, 30 * DAY, 3), (3600, DAY, 0)],
)
def test_a_percentage_has_no_more_decimals_than_the_interval_carries(
    every_s: float, window_s: float, digits: int
) -> None:
    assert percent_digits(every_s, window_s) == digits


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 60), st.integers(0, 30)), max_size=8),
    st.lists(st.integers(1, 999), max_size=5, unique=True),
)
def test_splitting_a_period_and_adding_the_parts_gives_the_whole(
    spans: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    at, outages = 0.0, []
    for pause, length, every in spans:
        start = at + pause + every
        outages.append((start, start + length, float(min(every, length))))
        at = start + length
    found, whole = made(*[(s, e, v) for s, e, v in outages if e < 990])
    period = span(0, 1000)
    segments = availability.timeline(found, [], period, period.end)
    down = availability.outages(segments, found, period)
    edges = [0.0, *sorted(float(c) for c in cuts), 1000.0]
    parts = [account(segments, down, span(a, b)) for a, b in pairwise(edges)]
    for state in State:
        assert sum(p.seconds[state] for p in parts) == pytest.approx(whole.seconds[state])
    assert sum(sum(p.seconds.values()) for p in parts) == pytest.approx(1000.0)
    assert sum(p.down_least_s for p in parts) == pytest.approx(whole.down_least_s)
    assert sum(p.down_most_s for p in parts) == pytest.approx(whole.down_most_s)
    assert whole.down_least_s <= whole.seconds[DOWN] <= whole.down_most_s


# As they are printed.


def test_without_an_outage_the_share_is_what_the_rounds_prove_and_never_a_hundred_percent() -> None:
    found = figures(down=None, blind_s=0.0)
    mail = found.plan.service("mail")
    cell = words.availability(found.services["mail"].account(found.period), 30.0, found.rounds(mail))
    assert cell == "≥ 99,9%"  # 5003 rounds prove 99.94 %; 30 s in two days carry one decimal


def test_time_that_was_not_observed_widens_the_printed_interval() -> None:
    found = figures(blind_s=3600.0)
    cell = words.availability(found.services["mail"].account(found.period), 30.0, 5000)
    # Down 1200 s of 169 200 observed; with the unknown hour 1200 or 4800 of 172 800.
    assert cell == "99,2%\n[97,2% – 99,4%]"


def test_under_95_percent_coverage_there_is_no_grade() -> None:
    found = figures(blind_s=0.06 * 2 * DAY)
    account_of = found.services["mail"].account(found.period)
    assert words.availability(account_of, 30.0, 5000).startswith("không đủ căn cứ\n[")
    assert words.coverage(account_of) == "94,00%"


@given(st.floats(0, 1), st.integers(0, 3))
def test_a_printed_interval_holds_the_computed_one(value: float, digits: int) -> None:
    def read(text: str) -> float:
        return float(text.rstrip("%").replace(",", ".")) / 100

    assert read(words.at_least(value, digits)) <= value + 1e-9
    assert read(words.at_most(value, digits)) >= value - 1e-9


def test_an_outage_is_printed_with_the_doubt_of_both_its_edges() -> None:
    found = figures()
    assert words.outage_length(found.services["mail"].outages[0]) == "20 phút ± 30 giây"
