"""What fails together has one cause; what fails by chance at the same time has not."""

from __future__ import annotations

import itertools
import math
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.groups import Rates
from monitor.judge import cause as causes
from monitor.judge.cause import BLIND_CHANCE, PRIOR_S, WINDOW_S, Failure, Surroundings, Thing, Use, chance, own_rate
from monitor.model import Cause, CauseKind, Certainty, Incident, State
from tests.monitor.builders import at, incident, plan, service

HOST = Thing(CauseKind.HOST, "10.1.2.3")
PATH = Thing(CauseKind.PATH, "vnpt")
CARRIER = Thing(CauseKind.CARRIER, "carrier-vnpt")
RESOLVER = Thing(CauseKind.RESOLVER, "")
TEN = tuple(f"s{n}" for n in range(10))


def fail(service: str, seconds: float = 0.0, *by: Thing, every_s: float = 30.0) -> Failure:
    return Failure(service, at(seconds), every_s, frozenset(by))


def around(
    *services: str, uses: dict[Thing, Use] | None = None, rate: float = 1 / PRIOR_S, well: tuple[str, ...] = ()
) -> Surroundings:
    names = services or TEN
    return Surroundings(names, uses or {}, frozenset(well), dict.fromkeys(names, rate))


def use(*services: str, good: int = 0) -> Use:
    return Use(frozenset(services), good)


def only(found: list[Cause]) -> Cause:
    assert len(found) == 1
    return found[0]


# The chance of it.


@pytest.mark.parametrize(
    ("count", "least", "expected"),
    [(1, 1, 0.5), (2, 1, 0.75), (2, 2, 0.25), (3, 2, 0.5), (4, 5, 0.0), (0, 1, 0.0), (3, 0, 1.0)],
)
def test_equal_services_fail_together_as_the_binomial_distribution_says(
    count: int, least: int, expected: float
) -> None:
    assert chance([math.log(2)] * count, 1.0, least) == pytest.approx(expected)


def test_a_chance_of_thousands_is_bounded_from_above_and_does_not_take_seconds() -> None:
    rates = [1 / PRIOR_S] * 5000
    assert chance(rates, WINDOW_S, 64) <= chance(rates[:100], WINDOW_S, 2)
    assert chance(rates[:400], 6000.0, 60) <= causes._chernoff(rates[:400], 6000.0, 60) < 1e-30
    began = time.perf_counter()
    assert 0.0 < chance(rates, WINDOW_S, 100) < causes.NEVER
    assert chance(rates, WINDOW_S, 5001) < causes.NEVER
    assert time.perf_counter() - began < 1.0  # counted out, it takes more than five
    # Where so many are to be expected, nothing is bounded away.
    assert chance([0.01] * 200, 100.0, 70) > 0.99


@given(st.lists(st.floats(1e-6, 0.5), max_size=6), st.integers(0, 6))
def test_the_chance_is_that_of_counting_every_outcome(rates: list[float], least: int) -> None:
    p = [1 - math.exp(-r * 2.0) for r in rates]
    counted = 0.0
    for outcome in itertools.product([False, True], repeat=len(p)):
        if sum(outcome) >= least:
            counted += math.prod(q if hit else 1 - q for q, hit in zip(p, outcome, strict=True))
    assert chance(rates, 2.0, least) == pytest.approx(counted, abs=1e-9)


@given(st.integers(0, 1000), st.floats(0, 1e8))
def test_a_service_that_was_never_watched_is_not_taken_for_perfect(failures: int, watched_s: float) -> None:
    assert own_rate(0, 0.0) == 1 / PRIOR_S
    assert own_rate(failures + 1, watched_s) > own_rate(failures, watched_s) > 0


# What is shared.


def test_a_host_on_which_all_fails_is_the_cause_and_is_certain_from_three_on() -> None:
    hit = [fail("s0", 0, HOST), fail("s1", 12, HOST), fail("s2", 35, HOST)]
    found = only(causes.find(hit, around(uses={HOST: use("s0", "s1", "s2")}, well=TEN[3:])))
    assert (found.kind, found.subject, found.certainty) == (CauseKind.HOST, "10.1.2.3", Certainty.CERTAIN)
    assert found.members == ("s0", "s1", "s2")
    assert (found.of, found.good, found.elsewhere, found.span_s) == (3, 0, 7, 35.0)
    assert found.chance < BLIND_CHANCE


@pytest.mark.parametrize(
    ("hit", "users", "good", "well", "certainty"),
    [
        (2, 2, 0, 5, Certainty.LIKELY),
        (3, 3, 0, 5, Certainty.CERTAIN),
        (3, 3, 0, 0, Certainty.LIKELY),  # nothing else is well: it may be something greater
        (3, 4, 0, 5, Certainty.LIKELY),
        (3, 3, 1, 5, Certainty.POSSIBLE),  # one check through it answers
    ],
)
def test_how_sure_a_shared_thing_is(hit: int, users: int, good: int, well: int, certainty: Certainty) -> None:
    failures = [fail(s, n, HOST) for n, s in enumerate(TEN[:hit])]
    uses = {HOST: use(*TEN[:users], good=good)}
    assert only(causes.find(failures, around(uses=uses, well=TEN[10 - well :]))).certainty is certainty


def test_two_of_many_that_use_a_carrier_do_not_blame_it() -> None:
    hit = [fail("s0", 0, CARRIER), fail("s1", 5, CARRIER)]
    assert causes.find(hit, around(uses={CARRIER: use(*TEN[:5])})) == []
    assert only(causes.find(hit, around(uses={CARRIER: use(*TEN[:4])}))).kind is CauseKind.CARRIER


def test_two_that_share_and_fail_often_are_left_to_chance() -> None:
    hit = [fail("s0", 0, HOST), fail("s1", 5, HOST)]
    uses = {HOST: use("s0", "s1")}
    assert causes.find(hit, around(uses=uses, rate=1 / 3600)) == []
    assert causes.find(hit, around(uses=uses, rate=1 / 86_400))


@pytest.mark.parametrize(
    ("things", "kind"),
    [
        ((HOST, PATH, CARRIER), CauseKind.HOST),
        ((PATH, CARRIER), CauseKind.PATH),
        ((RESOLVER, HOST), CauseKind.RESOLVER),
    ],
)
def test_of_things_that_explain_the_same_the_narrowest_is_named(things: tuple[Thing, ...], kind: CauseKind) -> None:
    hit = [fail("s0", 0, *things), fail("s1", 5, *things)]
    assert only(causes.find(hit, around(uses={t: use("s0", "s1") for t in things}))).kind is kind


def test_the_thing_that_explains_most_is_named_before_a_narrower_one() -> None:
    hit = [fail("s0", 0, HOST, PATH), fail("s1", 5, HOST, PATH), fail("s2", 9, PATH)]
    found = only(causes.find(hit, around(uses={HOST: use("s0", "s1"), PATH: use("s0", "s1", "s2")})))
    assert (found.kind, found.members) == (CauseKind.PATH, ("s0", "s1", "s2"))


def test_two_hosts_that_fail_at_once_are_two_causes() -> None:
    other = Thing(CauseKind.HOST, "10.9.9.9")
    hit = [fail("s0", 0, HOST), fail("s1", 1, HOST), fail("s2", 2, other), fail("s3", 3, other)]
    found = causes.find(hit, around(uses={HOST: use("s0", "s1"), other: use("s2", "s3")}))
    assert [c.members for c in found] == [("s0", "s1"), ("s2", "s3")]


# Nothing shared.


def test_three_at_once_without_anything_shared_are_one_and_only_possible() -> None:
    found = only(causes.find([fail(s, n * 20) for n, s in enumerate(TEN[:3])], around()))
    assert (found.kind, found.subject, found.certainty) == (CauseKind.COINCIDENCE, "", Certainty.POSSIBLE)
    assert found.chance < BLIND_CHANCE


def test_two_without_anything_shared_never_are() -> None:
    assert causes.find([fail("s0"), fail("s1")], around(rate=1e-12)) == []


def test_three_of_services_that_fail_every_hour_are_chance() -> None:
    assert causes.find([fail(s) for s in TEN[:3]], around(rate=1 / 3600)) == []


@pytest.mark.parametrize(("apart_s", "joined"), [(WINDOW_S + 30, True), (WINDOW_S + 31, False)])
def test_failing_together_is_within_two_minutes_and_one_interval(apart_s: float, joined: bool) -> None:
    hit = [fail("s0", 0, HOST), fail("s1", apart_s, HOST)]
    assert bool(causes.find(hit, around(uses={HOST: use("s0", "s1")}))) is joined


# Later ones.


def test_a_later_failure_joins_when_the_shared_thing_explains_it_whenever_it_comes() -> None:
    cause = only(causes.find([fail("s0", 0, HOST), fail("s1", 5, HOST)], around(uses={HOST: use("s0", "s1")})))
    members = [fail("s0", 0, HOST), fail("s1", 5, HOST)]
    assert causes.joins(cause, members, fail("s2", 7200, HOST))
    assert not causes.joins(cause, members, fail("s2", 6, PATH))
    wider = causes.grown(cause, [*members, fail("s2", 7200, HOST)], around(uses={HOST: use("s0", "s1", "s2")}))
    assert (wider.members, wider.of) == (("s0", "s1", "s2"), 3)


def test_a_later_failure_joins_a_coincidence_only_in_its_time() -> None:
    members = [fail(s, n * 20) for n, s in enumerate(TEN[:3])]
    cause = only(causes.find(members, around()))
    assert causes.joins(cause, members, fail("s5", 150))
    assert not causes.joins(cause, members, fail("s5", 300))
    assert causes.grown(cause, [*members, fail("s5", 150)], around()).members == ("s0", "s1", "s2", "s5")


def test_what_was_our_own_fault_teaches_nothing_of_a_service() -> None:
    watched, services = plan(service("mail", "smtp")), ["mail"]
    failed = incident(1, "mail", 0, ended=60)
    taken_back = replace(incident(2, "mail", 100, ended=160), state=State.UNKNOWN)

    def rate(*recent: Incident) -> float:
        return Rates(recent).around(watched, {}, services, at(1000)).rate("mail")

    assert taken_back.withdrawn
    assert rate(failed, taken_back) == rate(failed) == 2 * rate(replace(failed, parent=7))


@given(seed=st.integers(0, 2**32))
def test_every_failure_is_in_at_most_one_cause_and_the_order_of_asking_changes_nothing(seed: int) -> None:
    dice = random.Random(seed)
    things = [HOST, PATH, CARRIER, RESOLVER]
    hit = [
        fail(s, dice.uniform(0, 600), *dice.sample(things, dice.randrange(3)))
        for s in dice.sample(TEN, dice.randrange(8))
    ]
    uses = {t: use(*(f.service for f in hit if t in f.by), *dice.sample(TEN, 2)) for t in things}
    found = causes.find(hit, around(uses=uses))
    members = [m for c in found for m in c.members]
    assert len(members) == len(set(members))
    assert set(members) <= {f.service for f in hit}
    dice.shuffle(hit)
    assert causes.find(hit, around(uses=uses)) == found
