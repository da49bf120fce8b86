"""Who is told of trouble in announced work: nobody of what begins in it, everybody of what outlasts it."""

from __future__ import annotations

from datetime import timedelta

from monitor.journal import Batch
from monitor.model import EventKind
from tests.monitor.builders import at
from tests.monitor.stage import DEGRADED, DOWN, ORPHAN_S, UP, WAIT_S, Play


def play_with(service: str, start: float, end: float) -> Play:
    play = Play()
    play.stage.work[service] = [(at(start), at(end))]
    return play


def test_trouble_that_begins_and_ends_in_the_work_is_nobodys() -> None:
    play = play_with("mail", 100, 500)
    play.become("mail", DOWN, 150)
    assert play.review(160) == []
    assert play.open() == set()
    play.become("mail", UP, 400)
    assert play.review(410) == []
    assert play.review(600) == []
    assert play.rows == {}


def test_what_outlasts_the_work_is_told_when_it_ends_and_counts_from_there() -> None:
    play = play_with("mail", 100, 500)
    play.become("mail", DOWN, 150)
    assert play.review(499.9) == []
    assert play.review(500) == ["opened mail"]
    notice = play.last().notice
    assert (notice.since, notice.failing_since) == (at(500), at(150))
    play.become("mail", UP, 700)
    assert play.review(700) == ["recovered mail"]
    assert play.last().notice.failing_since is None


def test_an_alarm_from_before_the_work_stays_and_says_nothing_new_but_its_end() -> None:
    play = play_with("mail", 100, 500)
    play.become("mail", DEGRADED, 50)
    assert play.review(60) == ["opened mail"]
    play.become("mail", DOWN, 200)
    assert play.review(210) == []
    assert play.open() == {"mail"}
    play.become("mail", UP, 300)
    assert play.review(310) == ["recovered mail"]
    # From here on it is the work's again.
    play.become("mail", DOWN, 320)
    assert play.review(330) == []


def test_what_got_worse_in_the_work_is_told_after_it() -> None:
    play = play_with("mail", 100, 500)
    play.become("mail", DEGRADED, 50)
    play.review(60)
    play.become("mail", DOWN, 200)
    assert play.review(450) == []
    assert play.review(500) == ["worsened mail"]


def test_trouble_that_began_before_the_work_is_told_also_when_it_is_confirmed_in_it() -> None:
    play = play_with("mail", 100, 500)
    play.become("mail", DOWN, 95)
    assert play.review(105) == ["opened mail"]
    assert play.last().notice.since == at(95)


def test_what_needs_a_service_under_work_is_not_told_while_that_is_down() -> None:
    play = play_with("data-centre", 100, 500)
    play.become("data-centre", DOWN, 150)
    play.become("mail", DOWN, 155)
    play.become("portal", DOWN, 156)
    assert play.review(160) == []
    assert play.review(160 + WAIT_S) == []
    assert play.review(400) == []
    # It is down all the same, for its own figures.
    assert play.open() == {"mail", "portal"}
    play.review(449)
    play.become("data-centre", UP, 450)
    play.become("mail", UP, 455)
    assert play.review(460) == []
    # The portal stays away: after a while that is a trouble of its own.
    assert play.review(449 + ORPHAN_S) == ["opened portal"]


def test_what_needs_a_service_that_stays_down_after_its_work_is_told_with_it() -> None:
    play = play_with("data-centre", 100, 500)
    play.become("data-centre", DOWN, 150)
    play.become("mail", DOWN, 155)
    play.review(160)
    play.review(490)
    assert play.review(500) == ["opened data-centre"]
    assert "Thư điện tử công vụ" in play.last().notice.affected
    assert play.review(500 + 2 * ORPHAN_S) == []


def test_trouble_of_its_own_is_told_while_the_needed_service_is_up_in_its_work() -> None:
    play = play_with("data-centre", 100, 500)
    play.become("mail", DOWN, 155)
    assert play.review(160) == ["opened mail"]


def test_a_restart_in_the_work_tells_nobody_either() -> None:
    play = play_with("data-centre", 100, 500)
    play.become("data-centre", DOWN, 150)
    play.become("mail", DOWN, 155)
    play.review(160)
    play.restart()
    assert play.review(200) == []
    assert play.review(400) == []


def test_work_on_one_service_keeps_no_other_quiet() -> None:
    play = play_with("mail", 100, 500)
    play.become("carrier", DOWN, 150)
    play.become("mail", DOWN, 150)
    told = play.review(160)
    assert told == ["opened carrier"]
    assert play.last().notice.kind is EventKind.OPENED


def test_a_clock_set_back_does_not_excuse_a_consequence_of_the_work_for_longer() -> None:
    play = play_with("data-centre", 4000, 5000)
    play.become("data-centre", DOWN, 4100)
    play.become("mail", DOWN, 4101)
    assert play.review(4110) == []
    play.stage.work.clear()
    play.become("data-centre", UP, 4120)
    assert play.review(4120) == []
    batch = Batch()
    play.book.follow_clock(timedelta(seconds=-3600), at(520), batch)
    assert play.review(521) == []
    assert play.review(510 + ORPHAN_S + WAIT_S) == ["opened mail"]
