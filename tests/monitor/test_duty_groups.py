"""What fails together is told once, with its cause, and its end when the last is back."""

from __future__ import annotations

from monitor.duty import SPREAD_WAIT, OwnFault
from monitor.journal import Batch
from monitor.judge.cause import Thing, Use
from monitor.model import OWN_FAULT, Cause, CauseKind, Certainty, Incident
from tests.monitor.builders import MAIL, at, plan, service
from tests.monitor.stage import CONGESTED, DEGRADED, DOWN, ORPHAN_S, UNKNOWN, UP, WAIT_S, Play

SPREAD_S = SPREAD_WAIT.total_seconds()
HOST = Thing(CauseKind.HOST, "10.1.2.3")
FIVE = plan(*(service(n, "web", name=f"Dịch vụ {n.upper()}") for n in "abcde"), mail=MAIL)


def shared(*services: str, users: str = "", good: int = 0) -> Play:
    """A play in which these share a host."""
    play = Play(FIVE)
    for name in services:
        play.stage.by[name] = {HOST}
    play.stage.used[HOST] = Use(frozenset(users or services), good)
    return play


def group(play: Play) -> Incident:
    found = [i for i in play.rows.values() if i.subject.startswith("group:")]
    assert len(found) == 1
    return found[0]


def test_services_that_share_a_host_and_fail_together_are_told_as_one() -> None:
    play = shared("a", "b", "c")
    for n, name in enumerate("abc"):
        play.become(name, DOWN, n * 10)
    assert play.review(30) == ["opened group:host:10.1.2.3"]
    notice = play.last().notice
    assert notice.members == ("Dịch vụ A", "Dịch vụ B", "Dịch vụ C")
    assert notice.still == notice.members
    assert (notice.since, notice.state, notice.why_name) == (at(0), DOWN, "10.1.2.3")
    assert notice.why is not None
    assert (notice.why.kind, notice.why.certainty, notice.why.elsewhere) == (CauseKind.HOST, Certainty.CERTAIN, 2)
    assert {e.check for e in notice.evidence} == {"Dịch vụ A: a 0", "Dịch vụ B: b 0", "Dịch vụ C: c 0"}
    assert play.review(40) == []
    assert {i.parent for i in play.rows.values() if i.subject in "abc"} == {group(play).id}


def test_the_end_is_told_when_the_last_is_back_and_dated_from_it() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 5)
    play.review(10)
    play.become("a", UP, 100)
    assert play.review(101) == []
    assert group(play).ended_at is None
    play.become("b", UP, 140)
    assert play.review(141) == ["recovered group:host:10.1.2.3"]
    assert (group(play).ended_at, play.last().notice.still) == (at(140), ())
    assert play.open() == set()


def test_who_stays_down_longer_is_told_once_as_still_down() -> None:
    play = shared("a", "b", "c")
    for name in "abc":
        play.become(name, DOWN, 0)
    play.review(1)
    play.become("a", UP, 100)
    play.become("b", UP, 100)
    assert play.review(100) == []
    assert play.review(100 + ORPHAN_S) == ["partly group:host:10.1.2.3"]
    assert play.last().notice.still == ("Dịch vụ C",)
    assert play.review(1000) == []
    play.become("c", UP, 1100)
    assert play.review(1101) == ["recovered group:host:10.1.2.3"]


def test_a_later_joiner_goes_on_in_the_thread_of_what_was_told_first() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    assert play.review(10) == ["opened a"]
    first = play.last()
    play.become("b", DOWN, 40)
    assert play.review(55) == []  # gathered first, for one word
    assert play.review(55 + SPREAD_S) == ["spread group:host:10.1.2.3"]
    assert play.last().thread_id == first.thread_id
    assert play.last().message_id != first.message_id
    assert play.review(200) == []
    play.become("a", UP, 300)
    assert play.review(301) == []  # its end is told with the other's
    play.become("b", UP, 310)
    assert play.review(311) == ["recovered group:host:10.1.2.3"]
    assert play.last().thread_id == first.thread_id
    assert len({d.message_id for d in play.duties}) == len(play.duties)


def test_of_many_later_joiners_at_most_one_further_word_is_said_until_they_double() -> None:
    play = shared("a", "b", "c", "d", "e")
    play.stage.used[HOST] = Use(frozenset("ab"))
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 0)
    assert play.review(1) == ["opened group:host:10.1.2.3"]
    play.become("c", DOWN, 300)
    play.review(310)
    assert play.review(310 + SPREAD_S) == ["spread group:host:10.1.2.3"]
    play.become("d", DOWN, 600)
    play.review(610)
    assert play.review(700) == []
    play.become("e", DOWN, 900)
    assert play.review(1000) == []
    cause = group(play).cause
    assert cause is not None
    assert set(cause.members) == set("abcde")


def test_a_group_that_gets_worse_is_told_again() -> None:
    play = shared("a", "b")
    play.become("a", DEGRADED, 0)
    play.become("b", DEGRADED, 0)
    play.review(1)
    play.become("b", DOWN, 0)
    assert play.review(20) == ["worsened group:host:10.1.2.3"]
    assert group(play).state is DOWN
    play.become("a", CONGESTED, 0)
    assert play.review(30) == []


def test_what_is_alone_is_told_at_once_and_waits_only_for_company_in_doubt() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.stage.suspects.add("e")  # shares nothing with it
    assert play.review(1) == ["opened a"]

    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.stage.suspects.add("b")
    assert play.review(1) == []
    assert play.review(WAIT_S) == []
    assert play.review(1 + WAIT_S) == ["opened a"]


def test_company_that_turns_out_to_fail_too_is_told_with_it() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.stage.suspects.add("b")
    assert play.review(1) == []
    play.stage.suspects.clear()
    play.become("b", DOWN, 3)
    assert play.review(8) == ["opened group:host:10.1.2.3"]


def test_three_at_once_that_share_nothing_known_are_one_incident() -> None:
    play = Play(FIVE)
    for n, name in enumerate("abc"):
        play.become(name, DOWN, n * 30)
    assert play.review(100) == [f"opened {group(play).subject}"]
    assert group(play).subject == "group:coincidence:4"
    cause = group(play).cause
    assert cause is not None
    assert (cause.kind, cause.certainty) == (CauseKind.COINCIDENCE, Certainty.POSSIBLE)
    assert cause.chance < 1e-4
    play.become("d", DOWN, 1000)
    assert play.review(1001) == ["opened d"]


def test_two_at_once_that_share_nothing_are_two() -> None:
    play = Play(FIVE)
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 0)
    assert play.review(60) == ["opened a", "opened b"]


def test_services_that_fail_often_by_themselves_are_not_joined_by_chance() -> None:
    play = Play(FIVE)
    for n in range(120):
        for m, name in enumerate("abc"):
            play.become(name, DOWN, n * 1800 + m * 600)
            play.review(n * 1800 + m * 600 + 10)
            play.become(name, UP, n * 1800 + m * 600 + 100)
            play.review(n * 1800 + m * 600 + 110)
    for name in "abc":
        play.become(name, DOWN, 220_000)
    assert play.review(220_060) == ["opened a", "opened b", "opened c"]


def test_a_restart_in_the_middle_of_a_group_goes_on_with_it() -> None:
    play = shared("a", "b", "c")
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 0)
    play.review(1)
    play.restart()
    assert play.review(20) == []
    play.become("c", DOWN, 60)
    assert play.review(70) == []
    play.restart()
    assert play.review(80) == []
    assert play.review(80 + SPREAD_S) == ["spread group:host:10.1.2.3"]
    for name in "abc":
        play.become(name, UP, 400)
    play.restart()
    assert play.review(401) == ["recovered group:host:10.1.2.3"]
    assert play.last().notice.members == ("Dịch vụ A", "Dịch vụ B", "Dịch vụ C")


def test_a_member_that_fails_again_while_the_others_do_is_the_same_incident() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 0)
    play.review(1)
    play.become("a", UP, 20)
    play.review(21)
    play.become("a", DOWN, 50)
    assert play.review(51) == []
    assert play.review(300) == []
    for name in "ab":
        play.become(name, UP, 400)
    assert play.review(401) == ["recovered group:host:10.1.2.3"]


def test_after_the_word_that_some_are_back_one_that_fails_again_is_news() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 0)
    play.review(1)
    play.become("a", UP, 100)
    play.review(100)
    assert play.review(100 + ORPHAN_S) == ["partly group:host:10.1.2.3"]
    play.become("a", DOWN, 500)
    play.review(501)
    assert play.review(501 + SPREAD_S) == ["spread group:host:10.1.2.3"]
    play.become("a", UP, 600)
    assert play.review(1000) == []  # said once


def test_what_needs_a_member_is_named_as_hit_and_is_no_member() -> None:
    play = Play(plan(service("a", "x"), service("b", "x"), service("c", "x", needs=["a"]), mail=MAIL))
    for name in "ab":
        play.stage.by[name] = {HOST}
    play.stage.used[HOST] = Use(frozenset("ab"))
    for name in "abc":
        play.become(name, DOWN, 0)
    assert play.review(1) == ["opened group:host:10.1.2.3"]
    assert play.last().notice.members == ("Dịch vụ a", "Dịch vụ b")
    assert play.last().notice.affected == ("Dịch vụ c",)


def test_a_declared_cause_is_kept_with_its_members() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("mail", DOWN)
    play.become("portal", DOWN)
    play.review(1)
    cause = play.book.open_incidents()["data-centre"].cause
    assert cause is not None
    assert (cause.kind, cause.certainty, cause.members) == (CauseKind.NEEDS, Certainty.CERTAIN, ("mail", "portal"))


def test_a_member_that_left_the_configuration_does_not_hold_the_group_open() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 0)
    play.review(1)
    play.restart(plan(service("a", "web"), mail=MAIL))
    play.become("a", UP, 50)
    assert play.review(60) == ["recovered group:host:10.1.2.3"]
    assert play.open() == set()


def test_without_mail_there_is_a_group_and_nobody_is_told() -> None:
    play = Play(plan(service("a", "web"), service("b", "web"), service("c", "web")))
    for name in "abc":
        play.become(name, DOWN, 0)
    assert play.review(1) == []
    assert not group(play).told
    for name in "abc":
        play.become(name, UP, 50)
    assert play.review(51) == []
    assert play.open() == set()


def test_who_is_not_seen_is_not_back_and_who_stays_away_unseen_is_not_told_again() -> None:
    play = shared("a", "b")
    play.become("a", DOWN, 0)
    play.become("b", DOWN, 5)
    assert len(play.review(10)) == 1
    play.become("a", UP, 100)
    play.review(101)
    play.become("a", UNKNOWN, 110)  # back, and out of sight since
    assert play.review(101 + 2 * ORPHAN_S) == []
    play.become("a", UP, 300)
    play.become("b", UNKNOWN, 300)
    assert play.review(301) == play.review(301 + 2 * ORPHAN_S) == []
    play.become("b", DOWN, 500)
    assert play.review(501) == []
    assert play.review(501 + ORPHAN_S) == ["partly group:host:10.1.2.3"]


def test_what_was_taken_back_is_no_part_of_a_group_any_more() -> None:
    play = shared("a", "b", "c")
    for name in "abc":
        play.become(name, DOWN, 0)
    play.review(10)
    play.become("b", UNKNOWN, 20)
    play.stage.faults[OWN_FAULT] = OwnFault(OWN_FAULT, "far", at(0))
    batch = Batch()
    play.book.take_back(["b"], play.stage, at(20), batch)
    play.rows |= batch.incidents
    found = group(play).cause
    assert found is not None
    assert (found.members, group(play).ended_at) == (("a", "c"), None)


def test_a_path_that_was_to_blame_alone_is_not_blamed_when_all_of_them_fail() -> None:
    play = Play(FIVE)
    play.stage.paths["a"] = Cause(CauseKind.PATH, "vnpt", Certainty.CERTAIN, ("a",), of=1, paths=2)
    play.become("a", DEGRADED, 0)
    assert play.review(1) == ["opened a"]
    assert play.last().notice.why == play.stage.paths["a"]
    play.stage.paths.clear()
    play.become("a", DOWN, 100)
    assert play.review(101) == ["worsened a"]
    assert play.last().notice.why is None
