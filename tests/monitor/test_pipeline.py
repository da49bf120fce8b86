"""The road of a result: judged, dated, written as one, then shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from config.plan import OutagePolicy
from monitor.model import SlotCount, State
from probes.base import Fault
from tests.monitor.builders import T0, at, bad, check, good, plan, service, span
from tests.monitor.room import (
    SMTP,
    living,
    one_service,
    rounds,
)

# One check.


async def test_the_first_good_result_makes_a_check_and_its_service_up(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 3))

        assert (room.state(SMTP), room.since(SMTP)) == (State.UP, 3)
        assert (room.state("mail"), room.since("mail")) == (State.UP, 3)
        assert [c.state for c in await room.changes(SMTP)] == [State.UP]
        assert [c.state for c in await room.changes("mail")] == [State.UP]
        assert await room.told() == []


async def test_down_comes_after_the_rounds_and_is_dated_from_the_first_bad_result(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await room.feed(bad(SMTP, 30))
        assert (room.state(SMTP), room.check(SMTP).suspect) == (State.UP, True)
        await room.feed(bad(SMTP, 35, attempt=1))
        assert room.state(SMTP) is State.UP
        assert room.open_incidents() == {}
        await room.feed(bad(SMTP, 40, Fault.REFUSED, detail="nothing listens there", attempt=2))

        assert (room.state(SMTP), room.since(SMTP), room.check(SMTP).suspect) == (State.DOWN, 30, False)
        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 30)
        assert room.check(SMTP).detail == "nothing listens there"
        change = (await room.changes(SMTP))[-1]
        assert (change.state, change.at, change.earliest) == (State.DOWN, at(30), at(0))
        assert (change.fault, change.detail) == ("refused", "nothing listens there")
        assert change.confirmed_at == at(40.05)
        incident = room.open_incidents()["mail"]
        assert (incident.began_at, incident.told) == (at(30), True)
        assert room.board.services["mail"].incident == incident.id
        assert await room.told() == [("opened", "mail")]
        assert room.woken == 1
        assert await room.seconds(SMTP, 0, 40) == {"up": 30, "down": 10}


async def test_a_recheck_is_asked_for_at_its_time_after_the_start_of_the_bad_result(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        assert room.asked == []
        await room.feed(bad(SMTP, 30), now=33.0)  # it took three seconds to fail
        assert room.asked_for(SMTP) == [2.0]
        await room.feed(bad(SMTP, 35, attempt=1), now=45.0)
        assert room.asked_for(SMTP) == [2.0, -5.0]  # at once
        await room.feed(bad(SMTP, 46, attempt=2))
        assert len(room.asked) == 2  # judged: the schedule goes on
        await room.feed(good(SMTP, 60))
        assert len(room.asked) == 3  # a recovery is made sure of as fast
        await room.feed(good(SMTP, 65, attempt=1))
        assert len(room.asked) == 3


async def test_up_comes_after_two_good_results_and_is_dated_from_the_first(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35, 40)
        await room.feed(bad(SMTP, 60))
        await room.feed(good(SMTP, 90))
        assert room.state(SMTP) is State.DOWN
        await room.feed(good(SMTP, 95, attempt=1))

        assert (room.state("mail"), room.since("mail")) == (State.UP, 90)
        change = (await room.changes(SMTP))[-1]
        assert (change.state, change.at, change.earliest, change.fault) == (State.UP, at(90), at(60), "")
        incident = (await room.incidents())[0]
        assert (incident.began_at, incident.ended_at) == (at(30), at(90))
        assert list(room.board.closed_incidents) == [incident]
        assert await room.told() == [("opened", "mail"), ("recovered", "mail")]
        assert await room.seconds(SMTP, 0, 95) == {"up": 35, "down": 60}


async def test_one_lost_round_is_forgotten(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35)
        await room.feed(good(SMTP, 40, attempt=2))
        await rounds(room, SMTP, 60, 65)

        assert room.state(SMTP) is State.UP
        assert await room.told() == []
        assert await room.incidents() == []


async def test_many_results_in_one_transaction_are_judged_in_their_order(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        story = [good(SMTP, 0), bad(SMTP, 30), bad(SMTP, 35), bad(SMTP, 40), good(SMTP, 60), good(SMTP, 65)]
        await room.feed(*story)

        assert [(c.state, c.at) for c in await room.changes(SMTP)] == [
            (State.UP, at(0)),
            (State.DOWN, at(30)),
            (State.UP, at(60)),
        ]
        assert room.state("mail") is State.UP
        assert await room.seconds(SMTP, 0, 65) == {"up": 35, "down": 30}


async def test_a_service_is_dated_from_the_change_that_made_it_so(tmp_path: Path) -> None:
    checks = [check("mail.smtp"), check("mail.imap")]
    province = plan(service("mail", *checks, at_least=1))
    async with living(province, tmp_path) as room:
        await room.feed(good("mail.smtp", 0), good("mail.imap", 1))
        await room.feed(*(bad("mail.smtp", t) for t in (30, 35, 40)))
        assert (room.state("mail"), room.since("mail")) == (State.DEGRADED, 30)
        await room.feed(*(bad("mail.imap", t) for t in (61, 66, 71)))
        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 61)
        assert room.open_incidents()["mail"].began_at == at(30)
        await room.feed(good("mail.imap", 91), good("mail.imap", 96))
        assert (room.state("mail"), room.since("mail")) == (State.DEGRADED, 91)
        await room.feed(good("mail.smtp", 120), good("mail.smtp", 125))
        assert (room.state("mail"), room.since("mail")) == (State.UP, 120)

        assert [(c.state, c.at) for c in await room.changes("mail")] == [
            (State.UP, at(0)),
            (State.DEGRADED, at(30)),
            (State.DOWN, at(61)),
            (State.DEGRADED, at(91)),
            (State.UP, at(120)),
        ]


async def test_two_checks_that_failed_in_turn_date_the_service_from_the_second(tmp_path: Path) -> None:
    checks = [check("mail.smtp"), check("mail.imap", policy=OutagePolicy(bad_rounds=2))]
    async with living(plan(service("mail", *checks, at_least=1)), tmp_path) as room:
        await room.feed(good("mail.smtp", 0), good("mail.imap", 1))
        # imap is believed first, though it began to fail after smtp.
        await room.feed(bad("mail.smtp", 30), bad("mail.imap", 31), bad("mail.smtp", 35), bad("mail.imap", 36))
        await room.feed(bad("mail.smtp", 40))

        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 31)
        assert await room.seconds("mail.smtp", 0, 40) == {"up": 30, "down": 10}


async def test_slow_answers_make_a_service_degraded_and_not_down(tmp_path: Path) -> None:
    async with living(one_service(slow_over_s=1.0), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        for moment in (30, 60, 90):
            await room.feed(good(SMTP, moment, took_s=3.0))

        assert (room.state("mail"), room.since("mail")) == (State.DEGRADED, 30)
        assert [i.state for i in await room.incidents()] == [State.DEGRADED]


# Writing.


async def test_a_journal_that_cannot_be_written_for_a_while_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35)
        # The disk is full from here on: the file may not grow by a single page.
        pages = await room.journal._do(lambda: room.journal._db.execute("PRAGMA page_count").fetchone()[0])
        await room.journal._do(lambda: room.journal._db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        room.now = 40
        many = [bad(SMTP, 40 + n / 1000, detail="x" * 190, attempt=2) for n in range(400)]
        writing = asyncio.create_task(room.pipeline.put_through(many))
        async with asyncio.timeout(5):
            while "cannot be written" not in caplog.text:  # noqa: ASYNC110  a log has no event to wait for
                await asyncio.sleep(0.01)
        assert room.state("mail") is State.UP  # the board shows only what is written
        assert room.woken == 0
        await room.journal._do(lambda: room.journal._db.execute("PRAGMA max_page_count = 1000000").fetchone())
        await writing

        assert room.state("mail") is State.DOWN
        assert await room.told() == [("opened", "mail")]
        rows = await room.read(lambda h: h.responses(span(-1, 100)))
        assert (rows[SMTP].good, rows[SMTP].bad) == (1, 402)


async def test_slots_are_written_with_the_results_and_once(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        room.slots = [SlotCount(SMTP, T0, done=3, skipped=1)]
        await room.feed(good(SMTP, 0))
        await room.feed(good(SMTP, 30))

        counts = await room.read(lambda h: h.slots(span(-10, 3600)))
        assert counts[SMTP] == SlotCount(SMTP, T0, done=3, skipped=1)
        assert room.slots == []


async def test_a_result_of_a_check_that_is_not_in_the_plan_any_more_is_kept_and_not_judged(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good("gone.x", 0), good(SMTP, 1))

        rows = await room.read(lambda h: h.responses(span(-1, 10)))
        assert set(rows) == {"gone.x", SMTP}
        assert room.state("mail") is State.UP


async def test_a_stop_puts_through_what_is_in_the_queue(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        running = asyncio.create_task(room.pipeline.run())
        await asyncio.sleep(0)
        for moment in (0, 30, 35, 40):
            room.results.put_nowait(good(SMTP, moment) if moment == 0 else bad(SMTP, moment))
        room.slots = [SlotCount(SMTP, T0, done=4)]
        room.pipeline.stop()
        await running

        assert room.state("mail") is State.DOWN
        assert await room.told() == [("opened", "mail")]
        assert (await room.read(lambda h: h.slots(span(-10, 3600))))[SMTP].done == 4
        assert room.pipeline.beat > 0


async def test_a_service_broken_when_watching_begins_has_no_seen_begin_and_keeps_its_reason(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await rounds(room, SMTP, 0, 5, 10)
        (opened,) = await room.outbox()
        await room.feed(good(SMTP, 30))
        await room.feed(good(SMTP, 35, attempt=1))
        await rounds(room, SMTP, 60, 65, 70)
        later = (await room.outbox())[-1]

    assert opened.notice.begin_unseen
    assert opened.notice.reason
    assert not later.notice.begin_unseen
