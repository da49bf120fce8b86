"""Is it us? Tables of what the references say, by how many there are and how they stand."""

from __future__ import annotations

import pytest

from monitor.judge.observer import Sight, Witness, blind_since, look, quorum
from monitor.model import State
from tests.monitor.builders import at

ASKED = 100.0  # when the references below were asked last
SINCE = at(90)  # a target has been failing since before that

# How a reference stands: "+" answers; "f" failed last time, not yet believed; "D" believed down;
# "r" believed down, answered last time; "n" never asked.
LOOKS = {"+": (State.UP, False), "f": (State.UP, True), "D": (State.DOWN, True), "r": (State.DOWN, False)}


def stand(sign: str, *, near: bool = False, asked: float = ASKED) -> Witness:
    if sign == "n":
        return Witness(near, None, State.UNKNOWN, failing=False, bad_since=None)
    state, failing = LOOKS[sign]
    return Witness(near, at(asked), state, failing, at(95) if failing else None)


def ask(far: str, near: str = "", *, share: float = 1.0, asked: float = ASKED) -> Sight:
    """Look through far and near references that stand so, with this share of other services failing."""
    witnesses = [stand(s, asked=asked) for s in far] + [stand(s, near=True, asked=asked) for s in near]
    return look(witnesses, SINCE, share)


def test_without_references_nothing_speaks_against_us() -> None:
    assert look([], SINCE, 1.0) is Sight.CLEAR
    assert look([], None, 1.0) is Sight.CLEAR


@pytest.mark.parametrize(
    ("far", "share", "sight"),
    [
        ("+", 1.0, Sight.CLEAR),
        ("f", 1.0, Sight.WAIT),
        ("D", 1.0, Sight.BLIND_FAR),
        ("D", 0.5, Sight.BLIND_FAR),
        ("f", 0.5, Sight.WAIT),
        ("D", 0.49, Sight.CLEAR),  # it may be down itself: the other services answer
        ("f", 0.49, Sight.CLEAR),
        ("D", 0.0, Sight.CLEAR),
        ("r", 1.0, Sight.BLIND_FAR),  # one answer is not believed yet
    ],
)
def test_a_single_far_reference_is_believed_only_when_others_fail_with_it(far: str, share: float, sight: Sight) -> None:
    assert ask(far, share=share) is sight


@pytest.mark.parametrize(
    ("far", "near", "share", "sight"),
    [
        ("+", "+", 1.0, Sight.CLEAR),
        ("D", "+", 1.0, Sight.BLIND_FAR),
        ("D", "+", 0.0, Sight.CLEAR),
        ("f", "+", 1.0, Sight.WAIT),
        ("f", "+", 0.0, Sight.CLEAR),
        ("+", "D", 1.0, Sight.CLEAR),  # a gateway that does not answer pings convicts nobody
        ("+", "f", 1.0, Sight.CLEAR),
        ("D", "D", 0.0, Sight.BLIND_NEAR),
        ("D", "D", 1.0, Sight.BLIND_NEAR),
        ("f", "f", 0.0, Sight.WAIT),
        ("f", "D", 0.0, Sight.WAIT),
        ("D", "f", 0.0, Sight.WAIT),
        ("D", "f", 1.0, Sight.BLIND_FAR),
    ],
)
def test_a_far_reference_beside_the_gateway(far: str, near: str, share: float, sight: Sight) -> None:
    assert ask(far, near, share=share) is sight


@pytest.mark.parametrize(
    ("near", "sight"),
    [("+", Sight.CLEAR), ("f", Sight.WAIT), ("D", Sight.BLIND_NEAR), ("D+", Sight.CLEAR), ("DD", Sight.BLIND_NEAR)],
)
def test_the_gateway_alone(near: str, sight: Sight) -> None:
    assert ask("", near, share=0.0) is sight


@pytest.mark.parametrize(
    ("far", "sight"),
    [
        ("++", Sight.CLEAR),
        ("f+", Sight.CLEAR),
        ("D+", Sight.CLEAR),
        ("ff", Sight.WAIT),
        ("Df", Sight.WAIT),
        ("DD", Sight.BLIND_FAR),
        ("rD", Sight.BLIND_FAR),
        ("+++", Sight.CLEAR),
        ("D++", Sight.CLEAR),
        ("f++", Sight.CLEAR),
        ("ff+", Sight.WAIT),
        ("DD+", Sight.BLIND_FAR),
        ("Df+", Sight.WAIT),
        ("DDD", Sight.BLIND_FAR),
        ("DD++", Sight.CLEAR),
        ("DDD+", Sight.BLIND_FAR),
    ],
)
def test_several_far_references_decide_by_two_thirds_whatever_the_services_say(far: str, sight: Sight) -> None:
    assert ask(far, share=0.0) is sight
    assert ask(far, "+", share=1.0) is sight


def test_a_lost_gateway_needs_only_one_far_reference_to_be_believed() -> None:
    assert ask("D++", "D", share=0.0) is Sight.BLIND_NEAR
    assert ask("f++", "D", share=0.0) is Sight.WAIT
    assert ask("+++", "D", share=1.0) is Sight.CLEAR


def test_one_of_two_gateways_is_enough_to_see_by() -> None:
    assert ask("D++", "D+", share=0.0) is Sight.CLEAR
    assert ask("D++", "DD", share=0.0) is Sight.BLIND_NEAR


def test_references_asked_before_the_failure_prove_nothing() -> None:
    assert ask("++", "+", asked=89.9) is Sight.WAIT
    assert ask("++", "+", asked=90.0) is Sight.CLEAR


def test_every_reference_has_to_be_asked_since() -> None:
    late, early = stand("+"), stand("+", asked=80)
    assert look([late, early], SINCE, 0.0) is Sight.WAIT
    assert look([late, late, stand("n")], SINCE, 0.0) is Sight.WAIT


def test_what_is_believed_already_need_not_be_asked_again() -> None:
    assert ask("DD", asked=10.0) is Sight.BLIND_FAR
    assert ask("D", "D", asked=10.0) is Sight.BLIND_NEAR


def test_without_a_moment_only_the_present_belief_counts() -> None:
    assert look([stand("+", asked=1), stand("n")], None, 1.0) is Sight.CLEAR
    assert look([stand("f"), stand("f")], None, 1.0) is Sight.WAIT
    assert look([stand("D"), stand("D")], None, 0.0) is Sight.BLIND_FAR


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)])
def test_two_thirds_rounded_up(count: int, needed: int) -> None:
    assert quorum(count) == needed


def test_only_the_two_blind_answers_are_blind() -> None:
    assert [s for s in Sight if s.blind] == [Sight.BLIND_NEAR, Sight.BLIND_FAR]


def bad(since: float | None, *, near: bool = False, failing: bool = True) -> Witness:
    return Witness(near, at(99), State.DOWN, failing, None if since is None else at(since))


def test_we_are_blind_since_as_many_far_references_fail_together_as_convict_us() -> None:
    well = stand("+")
    assert blind_since([bad(7), bad(3)]) == at(7)
    assert blind_since([bad(7), bad(3), well]) == at(7)
    assert blind_since([bad(3)]) == at(3)
    assert blind_since([bad(7), bad(3), stand("+", near=True)]) == at(7)


def test_a_reference_dead_for_long_does_not_make_us_blind_for_long() -> None:
    assert blind_since([bad(-250_000), bad(90)]) == at(90)
    assert blind_since([bad(-250_000), bad(90), bad(80)]) == at(80)


def test_a_lost_gateway_needs_one_far_reference_to_date_our_blindness() -> None:
    assert blind_since([bad(5, near=True), bad(8), stand("+"), stand("+")]) == at(8)
    assert blind_since([bad(5, near=True), bad(2), stand("+"), stand("+")]) == at(5)
    assert blind_since([bad(5, near=True), bad(9, near=True)]) == at(9)
    assert blind_since([bad(5, near=True), bad(1), bad(2)]) == at(2)


def test_a_reference_that_has_answered_once_still_dates_our_blindness() -> None:
    assert blind_since([bad(3), bad(7, failing=False)]) == at(7)


def test_too_few_bad_references_date_nothing() -> None:
    assert blind_since([]) is None
    assert blind_since([bad(3), stand("+")]) is None
    assert blind_since([bad(None), bad(None)]) is None
