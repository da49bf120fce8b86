"""The judge of outages, played as scripts of samples, and the laws it must keep over any script."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from config.plan import OutagePolicy
from monitor.judge.outage import (
    FLAP_STATES,
    Memory,
    Sample,
    Verdict,
    believe,
    flap_share,
    forget_streak,
    observe,
    settle,
    verdict,
    wants_recheck,
)
from monitor.model import State
from tests.monitor.builders import at

SAMPLES = {"+": Sample.GOOD, "~": Sample.SLOW, "-": Sample.BAD, "?": Sample.BLIND}
POLICY = OutagePolicy(bad_rounds=3, good_rounds=2, recheck_s=5.0)
WITHOUT_HABITS = replace(POLICY, recheck_s=0.0)  # bursts of loss ask for no more rounds where none follow fast
MEMORY = TypeAdapter(Memory)
Found = list[tuple[str, float, float]]


def watch(script: str, policy: OutagePolicy = POLICY, every_s: float = 10.0) -> tuple[Memory, list[Verdict]]:
    """Play one sample every `every_s` seconds from T0 on; blanks are slots without a sample."""
    memory, found = Memory(), []
    for number, sign in enumerate(script):
        if sign == " ":
            continue
        memory = observe(memory, policy, SAMPLES[sign], at(number * every_s))
        while told := verdict(memory, policy):
            memory = believe(memory, told)
            found.append(told)
    return memory, found


def play(script: str, policy: OutagePolicy = POLICY, every_s: float = 10.0) -> Found:
    """Return the verdicts of a script as (state, seconds of its date, seconds of the earliest it can have begun)."""
    return [
        (v.state.value, (v.at - at(0)).total_seconds(), (v.earliest - at(0)).total_seconds())
        for v in watch(script, policy, every_s)[1]
    ]


def test_nothing_is_believed_of_a_check_never_seen() -> None:
    assert play("") == []
    assert verdict(Memory(), POLICY) is None


def test_one_good_answer_is_enough_for_the_first_verdict() -> None:
    assert play("+++++") == [("up", 0, 0)]


def test_the_first_verdict_may_be_down_and_takes_as_many_rounds_as_any() -> None:
    assert play("--") == []
    assert play("---") == [("down", 0, 0)]


def test_down_is_dated_from_the_first_bad_round_and_began_after_the_last_good_one() -> None:
    assert play("++---") == [("up", 0, 0), ("down", 20, 10)]


def test_two_bad_rounds_of_three_are_forgiven() -> None:
    assert play("++--+--+") == [("up", 0, 0)]


def test_a_good_answer_starts_the_count_of_bad_rounds_anew() -> None:
    assert play("++--+---") == [("up", 0, 0), ("down", 50, 40)]


def test_up_again_takes_two_good_rounds_and_is_dated_from_the_first() -> None:
    assert play("+---+") == [("up", 0, 0), ("down", 10, 0)]
    assert play("+---++") == [("up", 0, 0), ("down", 10, 0), ("up", 40, 30)]


def test_one_good_answer_within_an_outage_does_not_end_it() -> None:
    assert play("+---+-+-+--++") == [("up", 0, 0), ("down", 10, 0), ("up", 110, 100)]


def test_more_bad_rounds_tell_nothing_new() -> None:
    assert play("+" + "-" * 50) == [("up", 0, 0), ("down", 10, 0)]


def test_a_check_may_be_believed_down_at_once_and_up_at_once() -> None:
    assert play("+-+-", OutagePolicy(bad_rounds=1, good_rounds=1)) == [
        ("up", 0, 0),
        ("down", 10, 0),
        ("up", 20, 10),
        ("down", 30, 20),
    ]


@pytest.mark.parametrize(
    ("every_s", "rounds_needed"),
    [(5.0, 3), (4.5, 3), (4.4, 5), (2.0, 7), (1.0, 11), (0.5, 19)],
)
def test_rounds_nearer_than_nine_tenths_of_the_recheck_pause_count_once(every_s: float, rounds_needed: int) -> None:
    assert play("+" + "-" * (rounds_needed - 1), every_s=every_s) == [("up", 0, 0)]
    assert play("+" + "-" * rounds_needed, every_s=every_s)[1:] == [("down", every_s, 0)]


def test_a_round_that_does_not_count_still_moves_the_end_of_the_outage() -> None:
    memory = watch("+---")[0]
    memory = observe(memory, POLICY, Sample.BAD, at(31))
    assert memory.last_bad == at(31)
    assert memory.counted_bad == at(30)


def test_a_good_answer_between_two_near_rounds_makes_them_two_streaks() -> None:
    memory = Memory()
    for seconds, sign in [(0.0, "+"), (10.0, "-"), (11.0, "+"), (12.0, "-")]:
        memory = observe(memory, POLICY, SAMPLES[sign], at(seconds))
    assert (memory.bad, memory.first_bad) == (1, at(12))


def test_samples_in_which_we_could_not_measure_change_nothing() -> None:
    assert play("++?-?-??-?") == [("up", 0, 0), ("down", 30, 10)]
    assert play("+---?+?+") == [("up", 0, 0), ("down", 10, 0), ("up", 50, 30)]
    assert play("?????") == []


def test_a_streak_of_slow_answers_is_degraded_from_the_first_of_them() -> None:
    assert play("++~~") == [("up", 0, 0)]
    assert play("++~~~") == [("up", 0, 0), ("degraded", 20, 20)]


def test_fast_answers_end_a_degradation_from_the_first_of_them() -> None:
    assert play("~~~+") == [("up", 0, 0), ("degraded", 0, 0)]
    assert play("~~~++") == [("up", 0, 0), ("degraded", 0, 0), ("up", 30, 30)]


def test_fast_answers_with_a_slow_one_between_do_not_end_a_degradation() -> None:
    assert play("~~~+~+~+") == [("up", 0, 0), ("degraded", 0, 0)]
    assert play("~~~+~+~++")[2:] == [("up", 70, 70)]


def test_one_slow_answer_may_end_an_outage_and_be_too_slow_at_once() -> None:
    hasty = OutagePolicy(bad_rounds=1, good_rounds=1)
    assert play("-~", hasty) == [("down", 0, 0), ("up", 10, 0), ("degraded", 10, 0)]


def test_a_fast_answer_starts_the_count_of_slow_ones_anew() -> None:
    assert play("+~~+~~+~~") == [("up", 0, 0)]


def test_a_bad_answer_starts_the_count_of_slow_ones_anew() -> None:
    assert play("+~~-~~") == [("up", 0, 0)]
    assert play("+~~-~~~")[1:] == [("degraded", 40, 30)]


def test_a_degraded_check_can_go_down_and_a_slow_answer_ends_the_outage() -> None:
    assert play("~~~---") == [("up", 0, 0), ("degraded", 0, 0), ("down", 30, 20)]
    assert play("~~~---~~")[3:] == [("up", 60, 50)]


def test_an_outage_that_ends_in_slow_answers_keeps_the_doubt_about_its_end() -> None:
    assert play("+---~~~")[2:] == [("up", 40, 30), ("degraded", 40, 30)]


def test_slow_answers_that_follow_fast_ones_leave_no_doubt_from_an_outage_long_past() -> None:
    assert play("+---++~~~")[3:] == [("degraded", 60, 60)]


def test_suspect_is_a_bad_streak_that_is_not_believed_yet() -> None:
    assert not watch("++")[0].suspect
    assert watch("++-")[0].suspect
    assert watch("++--")[0].suspect
    assert not watch("++---")[0].suspect
    assert not watch("++--+")[0].suspect


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("", False),
        ("+", False),
        ("+-", True),
        ("+--", True),
        ("+---", False),  # believed
        ("+----", False),
        ("+---+", True),  # a recovery not yet believed
        ("+---++", False),
        ("+---+-", False),
        ("-", True),
        ("+~~", False),
        ("~~~+", False),
    ],
)
def test_a_fast_recheck_is_wanted_while_it_brings_a_verdict_nearer(script: str, wanted: bool) -> None:
    assert wants_recheck(watch(script)[0], POLICY) is wanted


def test_a_verdict_that_is_held_back_wants_no_more_rechecks() -> None:
    memory = Memory()
    for number in range(3):
        memory = observe(memory, POLICY, Sample.BAD, at(number * 5))
    assert verdict(memory, POLICY) is not None
    assert not wants_recheck(memory, POLICY)


def test_a_forgotten_streak_has_to_begin_again() -> None:
    memory = forget_streak(watch("++--")[0])
    assert not memory.suspect
    assert memory.last_good == at(10)
    for number in (4, 5):
        memory = observe(memory, POLICY, Sample.BAD, at(number * 10))
        assert verdict(memory, POLICY) is None
    memory = observe(memory, POLICY, Sample.BAD, at(60))
    assert verdict(memory, POLICY) == Verdict(State.DOWN, at(40), at(10))


def test_a_forgotten_streak_of_a_check_that_is_down_leaves_it_down() -> None:
    memory = forget_streak(watch("+---")[0])
    assert memory.state is State.DOWN
    assert verdict(observe(memory, POLICY, Sample.BAD, at(100)), POLICY) is None


def test_a_streak_of_two_stays_a_streak_of_two_over_a_restart() -> None:
    memory = watch("++--")[0]
    kept = MEMORY.validate_json(MEMORY.dump_json(memory))
    assert kept == memory
    assert verdict(observe(kept, POLICY, Sample.BAD, at(40)), POLICY) == Verdict(State.DOWN, at(20), at(10))


# Flapping.


def by_hand(history: str) -> float:
    """The rule in the words of Nagios' source: 20 changes, the oldest weighs 0.75, the newest 1.25."""
    states = history.rjust(21, history[0]) if history else "u" * 21
    total = 0.0
    for x in range(1, 21):
        if states[x - 1] != states[x]:
            total += (x - 1) * (1.25 - 0.75) / 19 + 0.75
    return total / 20


@given(st.text("ud", max_size=FLAP_STATES))
def test_the_share_of_changes_is_weighed_as_nagios_weighs_it(history: str) -> None:
    assert flap_share(history) == pytest.approx(by_hand(history))


def test_changes_all_the_time_are_a_share_of_one_and_newer_changes_weigh_more() -> None:
    assert flap_share("ud" * 10 + "u") == pytest.approx(1.0)
    assert flap_share("u" * 20 + "d") == pytest.approx(1.25 / 20)
    assert flap_share("d" + "u" * 20) == pytest.approx(0.75 / 20)


def lived(states: str, memory: Memory | None = None) -> Memory:
    """Let a check be believed in these states, one scheduled result each."""
    memory = memory or Memory()
    for sign in states:
        memory = settle(replace(memory, state=State.DOWN if sign == "d" else State.UP))
    return memory


def test_a_check_flaps_from_thirty_percent_on_and_until_twenty() -> None:
    memory, shares = lived("u" * 21), []
    for sign in "dudududu":
        memory = lived(sign, memory)
        shares.append((flap_share(memory.history) >= 0.30, memory.flapping))
    assert shares[0] == (False, False)
    assert shares[-1] == (True, True)
    assert all(high == flaps for high, flaps in shares)
    while flap_share(memory.history) > 0.20:
        assert memory.flapping
        memory = lived("u", memory)
    assert not memory.flapping
    assert flap_share(memory.history) > 0.10  # it stopped on its way down, not at rest


def test_one_long_outage_is_no_flapping() -> None:
    assert not lived("u" * 21 + "d" * 30 + "u" * 30).flapping


def test_only_down_counts_as_the_other_state_of_flapping() -> None:
    memory = Memory()
    for state in (State.UP, State.DEGRADED, State.CONGESTED) * 10:
        memory = settle(replace(memory, state=state))
    assert set(memory.history) == {"u"}
    assert not memory.flapping


@given(st.text("ud", min_size=1, max_size=60))
def test_a_memory_that_keeps_one_letter_of_steady_times_weighs_like_the_whole(states: str) -> None:
    whole = ("u" * FLAP_STATES + states)[-FLAP_STATES:]

    assert flap_share(lived("u" * FLAP_STATES + states).history) == flap_share(whole)


def test_a_steady_check_is_the_same_memory_after_every_result() -> None:
    memory = lived("u" * FLAP_STATES)
    assert settle(memory) is memory


# Laws.

scripts = st.text("+~-?", max_size=80)
policies = st.builds(
    OutagePolicy,
    bad_rounds=st.integers(1, 5),
    good_rounds=st.integers(1, 4),
    recheck_s=st.sampled_from([0.0, 1.0, 5.0, 10.0, 25.0]),
)
pauses = st.lists(st.sampled_from([0.001, 0.5, 4.4, 4.5, 5.0, 10.0, 300.0]), min_size=80, max_size=80)


@given(scripts, policies, pauses)
def test_laws_of_verdicts_over_any_script(script: str, policy: OutagePolicy, steps: list[float]) -> None:
    memory, last, now = Memory(), None, at(0)
    for sign, step in zip(script, steps, strict=False):
        now += timedelta(seconds=step)
        memory = observe(memory, policy, SAMPLES[sign], now)
        assert memory.bad <= policy.bad_rounds
        assert memory.good <= policy.good_rounds
        assert memory.slow <= policy.bad_rounds
        proven = []
        while found := verdict(memory, policy):
            assert found.state is not memory.state, "verdicts alternate"
            assert found.earliest <= found.at <= now, "dated from a result that was seen"
            assert last is None or found.at >= last.at, "never before the verdict that it follows"
            memory = believe(memory, found)
            assert (memory.state, memory.since) == (found.state, found.at)
            last = found
            proven.append(found.state)
        assert len(proven) <= 1 or proven == [State.UP, State.DEGRADED], "one result proves one thing"


@given(scripts, policies)
def test_a_blind_sample_anywhere_is_as_if_it_had_not_been(script: str, policy: OutagePolicy) -> None:
    memory, found = watch(script, policy)
    assert observe(memory, policy, Sample.BLIND, at(10_000)) is memory
    assert watch(script.replace("?", " "), policy) == (memory, found)


@given(scripts, policies)
def test_a_restart_anywhere_changes_no_verdict(script: str, policy: OutagePolicy) -> None:
    memory = Memory()
    found = []
    for number, sign in enumerate(script):
        memory = MEMORY.validate_json(MEMORY.dump_json(memory))
        memory = observe(memory, policy, SAMPLES[sign], at(number * 10))
        while told := verdict(memory, policy):
            memory = believe(memory, told)
            found.append(told)
        memory = settle(memory)
        assert len(memory.history) <= FLAP_STATES
    assert found == watch(script, policy)[1]


@given(scripts)
def test_an_outage_is_believed_exactly_when_enough_bad_rounds_stand_in_a_row(script: str) -> None:
    """Without rounds too near to count and habits of loss, the rule is a count that anyone can do with a pencil."""
    signs = script.replace("?", "").replace("~", "+")
    downs = sum(v[0] == "down" for v in play(signs, WITHOUT_HABITS))
    expected, state, rest = 0, "u", signs
    while rest:
        cut = rest.find("---" if state == "u" else "++")
        if cut < 0:
            break
        state = "d" if state == "u" else "u"
        expected += state == "d"
        rest = rest[cut:]
    assert downs == expected
