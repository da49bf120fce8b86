"""From the states of checks to the state of a service, and since when."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.judge.service import NEVER, USABLE, Since, began, combine
from monitor.model import JUDGED, State
from tests.monitor.builders import at

UP, DOWN, UNKNOWN = State.UP, State.DOWN, State.UNKNOWN
SLOW, JAM, WORK = State.DEGRADED, State.CONGESTED, State.MAINTENANCE
LETTERS = {"U": UP, "D": DOWN, "?": UNKNOWN, "s": SLOW, "c": JAM, "W": WORK}
DEFINITE = (UP, SLOW, JAM, DOWN)


def states(letters: str) -> list[State]:
    return [LETTERS[sign] for sign in letters]


@pytest.mark.parametrize(
    ("checks", "together"),
    [
        ("UU", UP),
        ("UD", DOWN),
        ("U?", UNKNOWN),
        ("D?", DOWN),  # whatever the other is
        ("DD", DOWN),
        ("??", UNKNOWN),
        ("Us", SLOW),
        ("Uc", JAM),
        ("sc", JAM),
        ("s?", UNKNOWN),
        ("c?", UNKNOWN),
        ("sD", DOWN),
        ("cD", DOWN),
        ("ss", SLOW),
    ],
)
def test_all_checks_needed(checks: str, together: State) -> None:
    assert combine(states(checks), 2) is together
    assert combine(states(checks[::-1]), 2) is together


@pytest.mark.parametrize(
    ("checks", "together"),
    [
        ("UU", UP),
        ("UD", SLOW),  # works, with part of it failing
        ("U?", UP),
        ("D?", UNKNOWN),  # the other decides
        ("DD", DOWN),
        ("??", UNKNOWN),
        ("Us", SLOW),
        ("Uc", JAM),
        ("s?", SLOW),
        ("c?", JAM),
        ("sD", SLOW),
    ],
)
def test_any_check_is_enough(checks: str, together: State) -> None:
    assert combine(states(checks), 1) is together
    assert combine(states(checks[::-1]), 1) is together


@pytest.mark.parametrize(
    ("checks", "together"),
    [
        ("UUU", UP),
        ("UUD", SLOW),
        ("UU?", UP),
        ("UDD", DOWN),
        ("UD?", UNKNOWN),
        ("U??", UNKNOWN),
        ("D??", UNKNOWN),
        ("DD?", DOWN),
        ("DDD", DOWN),
        ("UUs", SLOW),
        ("Us?", SLOW),
        ("Uc?", JAM),
        ("UcD", JAM),
        ("c?D", UNKNOWN),
    ],
)
def test_two_of_three_checks_needed(checks: str, together: State) -> None:
    for order in itertools.permutations(checks):
        assert combine(states("".join(order)), 2) is together


def test_a_service_of_one_check_is_what_its_check_is() -> None:
    for state in State:
        assert combine([state], 1) is state


mixtures = st.lists(st.sampled_from(JUDGED), min_size=1, max_size=6)


@given(mixtures, st.data())
def test_finding_out_what_was_unknown_never_contradicts_a_definite_answer(
    mix: list[State], data: st.DataObject
) -> None:
    at_least = data.draw(st.integers(1, len(mix)))
    before = combine(mix, at_least)
    found = [data.draw(st.sampled_from(DEFINITE)) if s is UNKNOWN else s for s in mix]
    after = combine(found, at_least)
    if before is DOWN:
        assert after is DOWN
    if before in USABLE:
        assert after in USABLE


@given(mixtures, st.data())
def test_unknown_is_said_exactly_when_what_is_unknown_decides(mix: list[State], data: st.DataObject) -> None:
    at_least = data.draw(st.integers(1, len(mix)))
    worst = combine([DOWN if s is UNKNOWN else s for s in mix], at_least)
    best = combine([UP if s is UNKNOWN else s for s in mix], at_least)
    decides = (worst is DOWN) != (best is DOWN)
    assert (combine(mix, at_least) is UNKNOWN) == decides


@given(mixtures, st.data())
def test_a_check_that_comes_up_never_takes_its_service_down(mix: list[State], data: st.DataObject) -> None:
    at_least = data.draw(st.integers(1, len(mix)))
    which = data.draw(st.integers(0, len(mix) - 1))
    before = combine(mix, at_least)
    after = combine([*mix[:which], UP, *mix[which + 1 :]], at_least)
    assert (after in USABLE) >= (before in USABLE)
    assert (after is DOWN) <= (before is DOWN)


# Since when.


def by_hand(checks: list[Since], at_least: int) -> float:
    """Walk the seconds from now back to the first change: the earliest from which on the answer stayed the same."""
    seconds = sorted({(c.at - at(0)).total_seconds() for c in checks})
    now = combine([c.state for c in checks], at_least)
    answer = seconds[-1]
    for second in reversed(seconds):
        held = combine([c.state if c.at <= at(second) else c.before for c in checks], at_least)
        if held is not now:
            break
        answer = second
    return answer


def test_a_service_of_one_check_began_with_its_check() -> None:
    assert began([Since(DOWN, at(7), UP)], 1) == at(7)


def test_a_service_that_needs_all_is_down_since_the_first_of_its_checks() -> None:
    assert began([Since(DOWN, at(20), UP), Since(DOWN, at(10), UP)], 2) == at(10)


def test_a_service_that_needs_any_is_down_since_the_last_of_its_checks() -> None:
    assert began([Since(DOWN, at(20), UP), Since(DOWN, at(10), UP)], 1) == at(20)


def test_a_service_is_up_again_since_the_last_of_the_checks_it_needs() -> None:
    assert began([Since(UP, at(20), DOWN), Since(UP, at(30), DOWN), Since(UP, at(1), UNKNOWN)], 3) == at(30)


def test_a_change_that_makes_no_difference_does_not_date_the_service() -> None:
    # Degraded since one check is slow, whatever another one did before and after.
    assert began([Since(SLOW, at(20), UP), Since(SLOW, at(10), UP), Since(UP, at(5), DOWN)], 1) == at(10)


def test_two_changes_at_one_moment_are_one_change() -> None:
    # One check took over from the other at that very moment: the service was never down.
    both = [Since(UP, at(10), DOWN), Since(DOWN, at(10), UP), Since(DOWN, at(4), UP)]
    assert began(both, 1) == at(4)
    assert began(both[::-1], 1) == at(4)


def test_a_check_never_seen_says_only_that_it_was_never_known() -> None:
    assert began([Since(UNKNOWN, NEVER, UNKNOWN), Since(DOWN, at(3), UP)], 2) == at(3)


sinces = st.lists(
    st.builds(
        lambda state, second, before: Since(state, at(second), before),
        st.sampled_from(list(State)),
        st.integers(0, 4),
        st.sampled_from(list(State)),
    ),
    min_size=1,
    max_size=6,
)


@given(sinces, st.data())
def test_the_beginning_is_what_a_walk_over_every_moment_finds(checks: list[Since], data: st.DataObject) -> None:
    at_least = data.draw(st.integers(1, len(checks)))
    assert began(checks, at_least) == at(by_hand(checks, at_least))


@pytest.mark.parametrize(
    ("checks", "at_least", "together"),
    [
        ("W", 1, WORK),
        ("WU", 2, WORK),
        ("WU", 1, UP),  # the other one is enough
        ("Wc", 1, JAM),
        ("WD", 1, WORK),  # with the one at work it would do
        ("WD", 2, DOWN),  # down whatever is being worked on
        ("WUU", 2, UP),
        ("WU?", 2, WORK),
        ("W?", 1, WORK),
        ("W??", 3, WORK),
    ],
)
def test_announced_work_on_a_check_is_the_services_where_it_can_make_the_difference(
    checks: str, at_least: int, together: State
) -> None:
    for order in itertools.permutations(checks):
        assert combine(states("".join(order)), at_least) is together
