"""Who is owed a word: told once, with its cause, and never forgotten."""

from __future__ import annotations

from dataclasses import replace

from monitor.duty import EVIDENCE_LINES, OwnFault
from monitor.journal import Duty
from monitor.model import OWN_FAULT
from tests.monitor.builders import MAIL, at, plan, service
from tests.monitor.stage import DEGRADED, DOWN, ORPHAN_S, PROVINCE, UNKNOWN, UP, WAIT_S, Play

# One service.


def test_trouble_opens_an_incident_that_is_told_and_its_end_is_told_with_the_times() -> None:
    play = Play()
    play.become("carrier", DOWN, 10)
    assert play.review(20) == ["opened carrier"]
    opened = play.last().notice
    assert play.review(21) == []
    play.become("carrier", UP, 90)
    assert play.review(95) == ["recovered carrier"]
    recovered = play.last().notice

    assert (opened.since, opened.at, opened.state, opened.service_name) == (at(10), at(20), DOWN, "VNPT")
    assert (opened.references_good, opened.references_bad, opened.ended_at) == (2, 1, None)
    assert [e.check for e in opened.evidence] == ["carrier 0"]
    assert (recovered.since, recovered.ended_at, recovered.state) == (at(10), at(90), UP)
    assert recovered.incident == opened.incident
    assert play.open() == set()
    assert play.rows[1].ended_at == at(90)


def test_unknown_is_no_recovery_and_trouble_seen_again_is_the_same_incident() -> None:
    play = Play()
    play.become("carrier", DOWN)
    play.review(1)
    play.become("carrier", UNKNOWN)
    assert play.review(1000) == []
    play.become("carrier", DOWN, 0)
    assert play.review(1001) == []
    play.become("carrier", UP, 1100)
    assert play.review(1105) == ["recovered carrier"]
    assert len(play.rows) == 1


def test_what_gets_worse_is_told_again_and_what_gets_better_is_not() -> None:
    play = Play()
    play.become("carrier", DEGRADED)
    assert play.review(1) == ["opened carrier"]
    play.become("carrier", DOWN)
    assert play.review(2) == ["worsened carrier"]
    play.become("carrier", DEGRADED)
    assert play.review(3) == []
    play.become("carrier", DOWN)
    assert play.review(4) == []  # as bad as it was before
    play.become("carrier", UP)
    assert play.review(5) == ["recovered carrier"]
    assert play.rows[1].state is DOWN


def test_while_a_service_flaps_its_incident_stays_open_and_silent() -> None:
    play = Play()
    play.become("carrier", DEGRADED)
    play.review(1)
    play.stage.flaps.add("carrier")
    for second, state in enumerate([UP, DOWN, UP, DOWN, UP, UP], 2):
        play.become("carrier", state)
        assert play.review(second) == []
    play.stage.flaps.clear()
    assert play.review(100) == ["recovered carrier"]
    assert len(play.rows) == 1


def test_an_end_dated_before_the_begin_is_not_believed() -> None:
    play = Play()
    play.become("carrier", DOWN, 50)
    play.review(60)
    play.become("carrier", UP, 40)
    play.review(70)
    assert play.rows[1].ended_at == at(50)


def test_the_evidence_in_a_message_is_bounded() -> None:
    play = Play()
    play.stage.lines = 100
    play.become("carrier", DOWN)
    play.review(1)
    assert len(play.last().notice.evidence) == EVIDENCE_LINES


# Consequences.


def test_consequences_are_not_told_but_named_with_their_cause() -> None:
    play = Play()
    for name in ("forms", "mail", "portal", "data-centre"):
        play.become(name, DOWN)
    assert play.review(1) == ["opened data-centre"]

    assert play.last().notice.affected == ("Cổng thông tin", "Dịch vụ công", "Thư điện tử công vụ")
    assert play.open() == {"data-centre", "mail", "portal", "forms"}
    root = play.book.open_incidents()["data-centre"].id
    assert {i.parent for s, i in play.book.open_incidents().items() if s != "data-centre"} == {root}
    for name in ("data-centre", "mail", "portal", "forms"):
        play.become(name, UP, 50)
    assert play.review(55) == ["recovered data-centre"]
    assert play.last().notice.affected == ("Cổng thông tin", "Dịch vụ công", "Thư điện tử công vụ")
    assert play.open() == set()


def test_a_consequence_that_outlives_its_cause_is_told_once_after_its_time() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("mail", DOWN)
    play.review(1)
    play.become("data-centre", UP, 100)
    assert play.review(100) == ["recovered data-centre"]
    assert play.review(100 + ORPHAN_S - 1) == []
    assert play.review(100 + ORPHAN_S) == ["opened mail"]
    assert play.last().notice.since == at(0)
    assert play.review(101 + ORPHAN_S) == []
    play.become("mail", UP, 300)
    assert play.review(301) == ["recovered mail"]


def test_a_consequence_that_ends_soon_after_its_cause_is_never_told() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("mail", DOWN)
    play.review(1)
    play.become("data-centre", UP, 100)
    play.review(100)
    play.become("mail", UP, 130)
    assert play.review(131) == []
    assert play.open() == set()


def test_a_consequence_is_not_told_while_nobody_sees_it() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("mail", DOWN)
    play.review(1)
    play.become("data-centre", UP, 100)
    play.review(100)
    play.become("mail", UNKNOWN, 110)
    assert play.review(100 + ORPHAN_S + 10) == []
    play.become("mail", DOWN, 0)
    assert play.review(300) == ["opened mail"]


def test_a_cause_that_comes_back_takes_its_consequences_again() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("mail", DOWN)
    play.review(1)
    play.become("data-centre", UP, 100)
    play.review(100)
    play.become("data-centre", DOWN, 130)
    assert play.review(130) == ["opened data-centre"]
    assert play.review(100 + ORPHAN_S + 1) == []
    play.become("data-centre", UP, 200)
    play.review(200)
    assert play.review(199 + ORPHAN_S) == []
    assert play.review(200 + ORPHAN_S) == ["opened mail"]


def test_trouble_waits_while_what_it_needs_is_in_doubt() -> None:
    play = Play()
    play.stage.suspects.add("data-centre")
    play.become("mail", DOWN)
    assert play.review(1) == []
    assert play.open() == {"mail"}
    play.stage.suspects.clear()
    play.become("data-centre", DOWN)
    assert play.review(10) == ["opened data-centre"]
    assert play.last().notice.affected == ("Thư điện tử công vụ",)


def test_trouble_does_not_wait_for_doubt_for_ever() -> None:
    play = Play()
    play.stage.suspects.add("data-centre")
    play.become("forms", DOWN)
    assert play.review(1) == []
    assert play.review(WAIT_S) == []
    assert play.review(1 + WAIT_S) == ["opened forms"]


def test_doubt_that_clears_frees_the_message_at_once() -> None:
    play = Play()
    play.stage.suspects.add("data-centre")
    play.become("mail", DOWN)
    play.review(1)
    play.stage.suspects.clear()
    assert play.review(3) == ["opened mail"]


def test_a_needed_service_that_is_only_slow_is_no_cause() -> None:
    play = Play()
    play.become("data-centre", DEGRADED)
    play.become("mail", DOWN)
    assert play.review(1) == ["opened data-centre", "opened mail"]


def test_a_cause_that_answers_again_but_badly_hides_nothing_that_fails_later() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    assert play.review(1) == ["opened data-centre"]
    play.become("data-centre", DEGRADED, 300)  # the incident stays open, and was once one of an outage
    assert play.review(300) == []
    play.become("mail", DOWN, 4000)
    assert play.review(4000) == ["opened mail"]


def test_what_a_cause_took_along_and_stays_away_is_told_though_the_cause_answers_only_badly() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("mail", DOWN)
    assert play.review(1) == ["opened data-centre"]
    play.become("data-centre", DEGRADED, 300)
    assert play.review(300) == []
    assert play.review(300 + ORPHAN_S) == ["opened mail"]


def test_a_cause_that_nobody_was_told_of_and_that_is_over_hides_nothing() -> None:
    play = Play()
    play.become("data-centre", DOWN)
    play.become("portal", DOWN)
    play.review(1)
    play.become("data-centre", UP, 50)
    play.become("portal", UP, 50)
    play.stage.flaps.add("portal")  # its incident stays open, and silent
    assert play.review(50) == ["recovered data-centre"]
    play.become("forms", DOWN, 60)
    assert play.review(61) == ["opened forms"]


def test_what_was_told_before_its_cause_was_known_has_its_own_end() -> None:
    play = Play()
    play.become("mail", DOWN)
    assert play.review(1) == ["opened mail"]
    play.become("data-centre", DOWN)
    assert play.review(30) == ["opened data-centre"]
    play.become("data-centre", UP, 60)
    play.become("mail", UP, 61)
    assert sorted(play.review(62)) == ["recovered data-centre", "recovered mail"]


# Ourselves.


def test_our_own_fault_is_told_with_its_kind_and_who_is_not_seen() -> None:
    play = Play()
    play.stage.faults[OWN_FAULT] = OwnFault(OWN_FAULT, "near", at(5))
    play.become("mail", UNKNOWN)
    assert play.review(10) == [f"opened {OWN_FAULT}"]
    notice = play.last().notice
    assert (notice.cause, notice.since, notice.state) == ("near", at(5), UNKNOWN)
    assert notice.affected == ("Thư điện tử công vụ",)
    assert [e.check for e in notice.evidence] == ["vnix"]
    play.stage.faults.clear()
    assert play.review(11) == []  # not seen yet when it ended
    play.stage.ended[OWN_FAULT] = at(60)
    assert play.review(61) == [f"recovered {OWN_FAULT}"]
    assert play.rows[1].ended_at == at(60)


def test_an_uplinks_fault_and_its_end_name_the_uplink() -> None:
    play = Play()
    subject = f"{OWN_FAULT}:vnpt"
    play.stage.faults[subject] = OwnFault(subject, "far", at(5))
    play.review(10)
    play.stage.faults.clear()
    play.stage.ended[subject] = at(60)
    play.restart()
    play.review(61)
    assert [d.notice.service_name for d in play.duties] == ["VNPT cáp quang"] * 2


def test_a_service_whose_name_begins_like_our_own_fault_is_a_service() -> None:
    play = Play(plan(service("own-faults", "x"), mail=MAIL))
    play.become("own-faults", DOWN)
    assert play.review(1) == ["opened own-faults"]
    play.become("own-faults", UP)
    assert play.review(2) == ["recovered own-faults"]


# Changes of plan, and restarts.


def test_a_service_that_left_the_plan_is_closed_and_never_told() -> None:
    play = Play()
    play.stage.suspects.add("data-centre")
    play.become("mail", DOWN)
    play.review(1)  # waits for its cause
    play.restart(plan(service("carrier", "ping"), mail=MAIL))
    assert play.review(5) == []
    assert play.open() == set()
    assert (play.rows[1].ended_at, play.rows[1].detail) == (at(5), "no longer in the configuration")


def test_without_mail_there_are_incidents_and_no_duties() -> None:
    play = Play(replace(PROVINCE, mail=None))
    play.become("carrier", DOWN)
    assert play.review(1) == []
    assert play.open() == {"carrier"}
    play.become("carrier", UP)
    assert play.review(2) == []
    assert play.open() == set()


def test_a_restart_tells_nothing_twice_and_keeps_consequences_with_their_cause() -> None:
    play = Play()
    for name in ("data-centre", "mail"):
        play.become(name, DOWN)
    play.review(1)
    play.restart()
    assert play.review(10) == []
    play.become("data-centre", UP, 50)
    assert play.review(50) == ["recovered data-centre"]
    assert play.last().notice.affected == ("Thư điện tử công vụ",)
    play.restart()
    assert play.review(60) == []
    assert play.review(60 + ORPHAN_S) == ["opened mail"]


def test_message_ids_are_made_from_the_event_and_threads_hold_an_incident_together() -> None:
    def act() -> list[Duty]:
        play = Play()
        play.become("carrier", DEGRADED, 5)
        play.review(10)
        play.become("carrier", DOWN, 20)
        play.review(30)
        play.become("carrier", UP, 40)
        play.review(50)
        play.become("carrier", DOWN, 60)
        play.review(70)
        return play.duties

    first, second = act(), act()

    ids = [d.message_id for d in first]
    assert ids == [d.message_id for d in second]
    assert len(set(ids)) == 4
    assert len({d.thread_id for d in first[:3]}) == 1
    assert first[0].message_id == first[0].thread_id
    assert first[3].thread_id != first[0].thread_id
    assert all(i.startswith("<lang-son.") and i.endswith("@example.vn>") for i in ids)
