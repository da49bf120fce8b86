"""Going on after a stop, a crash or a reload: nothing known is forgotten, nothing unseen is claimed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from monitor.model import OWN_FAULT, State
from tests.monitor.builders import MAIL, at, bad, blind, check, good, plan, service, span
from tests.monitor.room import (
    FAR,
    GATEWAY,
    SMTP,
    VNPT,
    far,
    living,
    lose_uplink,
    near,
    one_service,
    rounds,
)


async def test_a_streak_of_two_stays_a_streak_of_two(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35)
    async with living(one_service(), tmp_path, now=38.0) as room:
        assert (room.state("mail"), room.check(SMTP).suspect) == (State.UNKNOWN, True)
        await room.feed(bad(SMTP, 41))

        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 30)
        assert await room.told() == [("opened", "mail")]
        assert await room.gaps(SMTP) == [(35.05, 41, "off")]


async def test_the_time_between_is_not_observed_until_the_first_result(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await room.wait(20)
    async with living(one_service(), tmp_path, now=100.0) as room:
        assert (room.state("mail"), room.check(SMTP).detail) == (State.UNKNOWN, "off")
        assert await room.seconds(SMTP, 0, 100) == {"up": 20, "unknown": 80}
        await room.feed(good(SMTP, 103))

        assert (room.state("mail"), room.since("mail")) == (State.UP, 103)
        assert await room.gaps(SMTP) == [(20, 103, "off")]


async def test_a_verdict_dated_before_the_stop_does_not_fill_the_time_between(tmp_path: Path) -> None:
    # The check had never been judged when the daemon was cut off.
    async with living(one_service(), tmp_path) as room:
        await rounds(room, SMTP, 0, 5)
    async with living(one_service(), tmp_path, now=3600.0) as room:
        await room.feed(bad(SMTP, 3601))

        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 0)
        assert await room.seconds(SMTP, 0, 3601) == pytest.approx({"down": 5.05, "unknown": 3595.95})


async def test_an_open_incident_goes_on_and_is_told_once(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35, 40)
        before = room.open_incidents()["mail"]
    async with living(one_service(), tmp_path, now=100.0) as room:
        assert room.open_incidents() == {"mail": before}
        await room.feed(bad(SMTP, 103))
        assert room.open_incidents() == {"mail": before}
        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 30)
        await room.feed(good(SMTP, 133), good(SMTP, 138))

        assert await room.told() == [("opened", "mail"), ("recovered", "mail")]
        ids = {(i.message_id, i.thread_id) for i in await room.outbox()}
        assert len({m for m, _ in ids}) == 2
        assert len({t for _, t in ids}) == 1


async def test_an_outage_that_ended_while_we_were_off_ends_when_it_is_seen_to_be_over(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35, 40)
    async with living(one_service(), tmp_path, now=1000.0) as room:
        await room.feed(good(SMTP, 1003))
        await room.feed(good(SMTP, 1008))

        incident = (await room.incidents())[0]
        assert incident.ended_at == at(1003)
        assert await room.seconds(SMTP, 30, 1008) == pytest.approx({"down": 10.05, "unknown": 962.95, "up": 5})


async def test_our_own_fault_goes_on_over_a_stop_and_ends_once_we_see(tmp_path: Path) -> None:
    province = one_service(near(), far(FAR))
    async with living(province, tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, GATEWAY, FAR)))
        await lose_uplink(room, GATEWAY, FAR)
    async with living(province, tmp_path, now=100.0) as room:
        assert room.board.own_fault == "near"
        await room.wait(101)
        await room.feed(bad(SMTP, 102), bad(GATEWAY, 103), bad(FAR, 103))
        assert await room.told() == [("opened", OWN_FAULT)]
        assert room.state("mail") is State.UNKNOWN
        await room.feed(good(GATEWAY, 110), good(FAR, 110), good(GATEWAY, 115), good(FAR, 115), good(SMTP, 116))

        assert room.board.own_fault == ""
        assert await room.told() == [("opened", OWN_FAULT), ("recovered", OWN_FAULT)]
        assert (await room.incidents())[0].ended_at == at(110)
        assert await room.gaps(SMTP) == [(30, 116, "own-fault")]


async def test_a_fault_of_our_host_is_not_over_because_nobody_has_asked_yet(tmp_path: Path) -> None:
    names = [f"s{n}.x" for n in range(4)]
    province = plan(*(service(n.partition(".")[0], check(n)) for n in names), mail=MAIL)
    async with living(province, tmp_path) as room:
        await room.feed(*(good(n, 0) for n in names))
        await room.feed(*(blind(n, t) for t in (30, 60) for n in names))
        assert room.board.own_fault == "local"
    async with living(province, tmp_path, now=100.0) as room:
        await room.wait(101)
        await room.feed(good(names[0], 102))
        await room.feed(*(blind(n, 103) for n in names[1:]))
        assert room.board.own_fault == "local"
        await room.feed(*(good(n, 140) for n in names))

        assert room.board.own_fault == ""
        assert await room.told() == [("opened", OWN_FAULT), ("recovered", OWN_FAULT)]


async def test_a_single_far_reference_keeps_its_word_over_a_stop(tmp_path: Path) -> None:
    services = [service("mail", check(SMTP)), service("portal", check("portal.web"))]
    province = plan(*services, references=[far(FAR)], mail=MAIL)
    async with living(province, tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, "portal.web", FAR)))
        for moment in (30, 35, 40):
            await room.feed(bad(SMTP, moment), bad("portal.web", moment), bad(FAR, moment + 1))
        assert room.board.own_fault == "far"
    async with living(province, tmp_path, now=100.0) as room:
        await room.feed(bad(FAR, 101))
        await room.feed(bad(SMTP, 102))
        await room.feed(bad("portal.web", 103))

        assert room.board.own_fault == "far"
        assert await room.told() == [("opened", OWN_FAULT)]


async def test_our_own_fault_by_an_uplink_ends_when_the_uplink_leaves_the_plan(tmp_path: Path) -> None:
    province = plan(service("carrier", check("carrier.ping", path=VNPT)), references=[far(FAR, path=VNPT)], mail=MAIL)
    async with living(province, tmp_path) as room:
        await room.feed(good("carrier.ping", 0), good(FAR, 0))
        for moment in (30, 35):
            await room.feed(bad(FAR, moment), bad("carrier.ping", moment))
        assert set(room.open_incidents()) == {f"{OWN_FAULT}:vnpt"}
    fewer = plan(service("carrier", check("carrier.ping", path=VNPT)), mail=MAIL)
    async with living(fewer, tmp_path, now=60.0, reloaded=True) as room:
        for moment in (61, 66, 71, 76):
            await room.feed(bad("carrier.ping", moment))

        assert room.board.own_fault == ""
        assert room.since("carrier") == 66  # the first one after the fault had lost its ground
        assert set(room.open_incidents()) == {"carrier"}


async def test_a_check_that_was_never_measured_is_seen_after_the_next_start(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(blind(SMTP, 0))
    async with living(one_service(), tmp_path, now=50.0) as room:
        await room.feed(good(SMTP, 51))
        await room.wait(81)

        assert await room.gaps(SMTP) == [(0, 51, "local")]
        assert await room.seconds(SMTP, 51, 81) == {"up": 30}


async def test_a_check_that_leaves_the_plan_is_unknown_and_seen_again_when_it_comes_back(tmp_path: Path) -> None:
    both = plan(service("mail", check(SMTP)), service("portal", check("portal.web")), mail=MAIL)
    without = plan(service("mail", check(SMTP)), mail=MAIL)
    async with living(both, tmp_path) as room:
        await room.feed(good(SMTP, 0), good("portal.web", 0))
        await rounds(room, "portal.web", 30, 35, 40)
        assert set(room.open_incidents()) == {"portal"}
    async with living(without, tmp_path, now=50.0, reloaded=True) as room:
        await room.feed(good(SMTP, 60))
        assert room.open_incidents() == {}
        assert (await room.incidents())[0].detail == "no longer in the configuration"
        assert await room.gaps("portal.web") == [(40.05, None, "removed")]
    async with living(without, tmp_path, now=100.0) as room:
        assert await room.gaps("portal.web") == [(40.05, None, "removed")]
    async with living(both, tmp_path, now=200.0, reloaded=True) as room:
        assert room.state("portal") is State.UNKNOWN
        await room.feed(good("portal.web", 201), good("portal.web", 206))

        assert room.state("portal") is State.UP
        assert await room.gaps("portal.web") == [(40.05, 201, "removed")]
        assert await room.told() == [("opened", "portal")]


async def test_a_reload_makes_no_gap(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35)
    async with living(one_service(), tmp_path, now=37.0, reloaded=True) as room:
        assert (room.state("mail"), room.since("mail")) == (State.UP, 0)
        await room.feed(bad(SMTP, 40))

        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 30)
        assert await room.gaps(SMTP) == []
        assert await room.seconds(SMTP, 0, 40) == {"up": 30, "down": 10}


async def test_a_second_start_before_any_result_makes_no_second_gap(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
    for now in (10.0, 20.0, 30.0):
        async with living(one_service(), tmp_path, now=now) as room:
            await room.wait(now + 1)
    async with living(one_service(), tmp_path, now=40.0) as room:
        await room.feed(good(SMTP, 41))

        assert await room.gaps(SMTP) == [(0.05, 41, "off")]


async def test_nothing_of_a_moment_is_kept_when_its_transaction_is_cut(tmp_path: Path) -> None:
    # What a crash before the commit leaves: neither the results nor what followed from them.
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await rounds(room, SMTP, 30, 35)
        await room.journal._do(
            lambda: room.journal._db.execute(
                "CREATE TEMP TRIGGER cut BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'cut'); END"
            )
        )
        with pytest.raises(sqlite3.IntegrityError):
            await room.feed(bad(SMTP, 40, attempt=2))
        assert room.state("mail") is State.UP
    async with living(one_service(), tmp_path, now=50.0) as room:
        assert await room.incidents() == []
        assert [c.state for c in await room.changes(SMTP)] == [State.UP]
        rows = await room.read(lambda h: h.responses(span(-1, 100)))
        assert rows[SMTP].bad == 2
        await room.feed(bad(SMTP, 52))

        assert await room.told() == [("opened", "mail")]
