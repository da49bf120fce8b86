"""One check under watch: what its results mean, what of it is written, and what of it is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.plan import OutagePolicy
from monitor.board import CheckView
from monitor.judge.outage import Memory, Sample
from monitor.judge.service import Since
from monitor.model import Result, State
from monitor.track import Track, sample_of
from probes.base import Fault, Reading
from tests.monitor.builders import at, bad, blind, check, gap, good, reference, result

UP, DOWN, UNKNOWN = State.UP, State.DOWN, State.UNKNOWN
PATIENT = OutagePolicy(slow_over_s=0.5)


def echoes(*rtts_s: float | None, fault: Fault | None = None) -> Result:
    return result("vnpt.ping", 0, Reading(fault, "", 2.2, rtts_s=rtts_s))


@pytest.mark.parametrize(
    ("finished", "means"),
    [
        (good("a.b", 0, took_s=0.5), Sample.GOOD),
        (good("a.b", 0, took_s=0.501), Sample.SLOW),
        (result("a.b", 0, Reading(None, "", 0.6, late_s=0.2)), Sample.GOOD),  # it may be we who were slow
        (result("a.b", 0, Reading(None, "", 0.6, late_s=0.03)), Sample.SLOW),  # a twentieth of it, no more
        (result("a.b", 0, Reading(None, "", 2.2, rtts_s=(0.6,), late_s=0.9)), Sample.SLOW),  # by the kernel's stamps
        (result("a.b", 0, Reading(Fault.REFUSED, "", 0.1, late_s=0.09)), Sample.BAD),  # an answer all the same
        (echoes(0.1, 0.2, 9.0), Sample.GOOD),  # by its median echo, not by the pauses between them
        (echoes(0.1, 0.6, 0.7), Sample.SLOW),
        (echoes(None, None, fault=Fault.TIMEOUT), Sample.BAD),
        (bad("a.b", 0), Sample.BAD),
        (blind("a.b", 0), Sample.BLIND),
        (bad("a.b", 0, Fault.INTERNAL), Sample.BLIND),
    ],
)
def test_what_a_result_means(finished: Result, means: Sample) -> None:
    assert sample_of(finished, PATIENT) is means


@pytest.mark.parametrize("fault", [f for f in Fault if f not in (Fault.LOCAL, Fault.INTERNAL)])
def test_every_fault_of_the_target_is_bad(fault: Fault) -> None:
    assert sample_of(bad("a.b", 0, fault), PATIENT) is Sample.BAD


def test_without_a_bound_nothing_is_slow() -> None:
    assert sample_of(good("a.b", 0, took_s=9.9), OutagePolicy()) is Sample.GOOD


def tracked(state: State = UNKNOWN, since: float | None = None) -> Track:
    memory = Memory(state=state, since=None if since is None else at(since))
    return Track(check("a.b"), memory=memory)


def test_a_check_is_unknown_while_it_is_not_observed() -> None:
    track = tracked(UP, 0)
    assert track.state is UP
    track.gap = gap("a.b", 10, None)
    assert track.state is UNKNOWN


def test_only_references_are_references() -> None:
    assert Track(reference("gateway")).is_reference
    assert not tracked().is_reference


def test_a_memory_is_written_when_a_restart_would_miss_the_difference() -> None:
    track = tracked()
    assert not track.memory_changed()
    track.memory = replace(track.memory, bad=1, first_bad=at(1), counted_bad=at(1))
    assert track.memory_changed()
    assert not track.memory_changed()
    track.memory = replace(track.memory, last_good=at(50), last_bad=at(60))
    assert not track.memory_changed()
    track.memory = replace(track.memory, counted_bad=at(60))
    assert track.memory_changed()


def test_a_long_outage_writes_its_memory_once() -> None:
    track = tracked(DOWN, 0)
    assert track.memory_changed()
    track.memory = replace(track.memory, counted_bad=at(60), last_bad=at(60))
    assert not track.memory_changed()


def test_what_is_shown_changes_only_with_the_state() -> None:
    track = tracked(UP, 5)
    track.show(at(7))
    assert track.shown == Since(UP, at(5), UNKNOWN)
    track.memory = replace(track.memory, since=at(6))
    track.show(at(8))
    assert track.shown == Since(UP, at(5), UNKNOWN)


def test_a_check_never_judged_is_shown_unknown_since_the_first_look() -> None:
    track = tracked()
    track.show(at(7))
    assert track.shown == Since(UNKNOWN, at(7), UNKNOWN)


def test_an_outage_is_shown_since_its_first_bad_result() -> None:
    track = tracked(UP, 0)
    track.show(at(1))
    track.memory = Memory(state=DOWN, since=at(20))
    track.show(at(30))
    assert track.shown == Since(DOWN, at(20), UP)


def test_a_check_seen_again_is_up_since_it_was_seen_and_down_since_it_fell() -> None:
    for state, since in ((UP, 90), (DOWN, 20)):
        track = tracked(state, 20)
        track.show(at(30))
        track.gap = gap("a.b", 50, None)
        track.show(at(51))
        assert track.shown == Since(UNKNOWN, at(50), state)
        track.gap, track.last_started = None, at(90)
        track.show(at(91))
        assert track.shown == Since(state, at(since), UNKNOWN)


def test_the_board_learns_state_doubt_and_flapping() -> None:
    track, view = tracked(UP, 5), CheckView(check("a.b"))
    track.show(at(6))
    assert track.show_state(view)
    assert (view.state, view.since, view.suspect, view.flapping) == (UP, at(5), False, False)
    assert not track.show_state(view)
    track.memory = replace(track.memory, bad=1, flapping=True)
    assert track.show_state(view)
    assert (view.suspect, view.flapping) == (True, True)


def test_a_check_not_shown_yet_is_unknown_on_the_board() -> None:
    view = CheckView(check("a.b"))
    assert not tracked().show_state(view)
    assert (view.state, view.since) == (UNKNOWN, None)


def test_the_reason_is_what_the_last_result_said() -> None:
    track = tracked(DOWN, 0)
    track.because = "connection refused"
    assert track.reason() == "connection refused"
    track.last = bad("a.b", 5, detail="no answer within 10 s")
    assert track.reason() == "no answer within 10 s"
    track.last = bad("a.b", 5, Fault.REFUSED, detail="")
    assert track.reason() == "refused"
    track.last = good("a.b", 9)
    assert track.reason() == "connection refused"
    track.memory = Memory(state=UP, since=at(9))
    assert track.reason() == ""


def test_the_reason_of_time_not_observed_is_its_cause() -> None:
    track = tracked(UP, 0)
    track.last = bad("a.b", 5, detail="no answer within 10 s")
    track.gap = gap("a.b", 5, None, "own-fault")
    assert track.reason() == "own-fault"
    track.last, track.gap = blind("a.b", 9), gap("a.b", 9, None, "local")
    assert track.reason() == "Network is unreachable"


def test_results_are_counted_on_the_board_by_fault_and_by_echo() -> None:
    track, view = tracked(), CheckView(check("a.b"))
    for finished, seen in (
        (good("a.b", 0, took_s=0.003), True),
        (bad("a.b", 5, attempt=1), True),
        (blind("a.b", 10), False),
        (echoes(0.003, None, 0.02), True),
    ):
        track.show_result(view, finished, seen=seen)
    assert view.faults == {"none": 2, "timeout": 1, "local": 1}
    assert (view.sent, view.lost) == (3, 1)
    assert sum(view.rtt.counts) == 3
    assert view.rtt.total == pytest.approx(0.026)
    assert list(view.recent) == [True, False, True]  # rechecks are no slots
    assert view.last is not None
    assert view.last.started_at == at(0)


def test_a_reference_stands_as_its_memory_says() -> None:
    track = Track(reference("gateway", near=True), memory=Memory(state=UP, since=at(0)), last_started=at(30))
    well = track.witness()
    assert (well.near, well.asked, well.state, well.failing, well.bad_since) == (True, at(30), UP, False, None)
    track.failing, track.memory = True, Memory(state=UP, since=at(0), bad=1, first_bad=at(30))
    assert (track.witness().failing, track.witness().bad_since) == (True, at(30))
    track.memory = Memory(state=DOWN, since=at(30), bad=3)
    assert (track.witness().state, track.witness().bad_since) == (DOWN, at(30))


def test_a_reference_that_fails_undated_fails_since_it_was_asked() -> None:
    track = Track(reference("vnix"), memory=Memory(state=UP, since=at(0)), last_started=at(30), failing=True)
    assert track.witness().bad_since == at(30)
