"""Is it us? References, uplinks and our own host; and what was not observed is said to be so."""

from __future__ import annotations

from pathlib import Path

from config.plan import RatePeriod
from monitor.model import OWN_FAULT, State
from tests.monitor.builders import MAIL, at, bad, blind, check, good, plan, service, span
from tests.monitor.room import (
    FAR,
    FAR_2,
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

# Is it us?


async def test_the_first_bad_result_asks_the_references_and_what_the_service_needs(tmp_path: Path) -> None:
    services = [
        service("mail", check(SMTP), needs=["data-centre"]),
        service("data-centre", check("data-centre.ping")),
        service("portal", check("portal.web")),
    ]
    async with living(plan(*services, references=[near(), far(FAR)]), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, "data-centre.ping", "portal.web", GATEWAY, FAR)))
        await room.feed(good(FAR, 29.9), bad(SMTP, 30))

        assert {c for c, delay in room.asked if delay == 0.0} == {GATEWAY, FAR, "data-centre.ping"}
        room.asked.clear()
        await room.feed(bad(SMTP, 35, attempt=1))
        assert {c for c, _ in room.asked} == {SMTP}  # asked around once


async def test_a_verdict_waits_for_the_references_and_falls_when_they_are_well(tmp_path: Path) -> None:
    async with living(one_service(near(), far(FAR)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, GATEWAY, FAR)))
        await rounds(room, SMTP, 30, 35, 40)
        assert room.state(SMTP) is State.UP  # nobody asked the references since
        await room.feed(good(GATEWAY, 41))
        assert room.state(SMTP) is State.UP
        await room.feed(good(FAR, 42))

        assert (room.state(SMTP), room.since(SMTP)) == (State.DOWN, 30)
        assert await room.told() == [("opened", "mail")]
        notice = (await room.outbox())[0].notice
        assert (notice.references_good, notice.references_bad) == (2, 0)


async def test_our_own_fault_makes_targets_unknown_from_their_first_bad_result(tmp_path: Path) -> None:
    async with living(one_service(near(), far(FAR)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, GATEWAY, FAR)))
        await lose_uplink(room, GATEWAY, FAR)

        assert room.board.own_fault == "near"
        assert room.board.own_fault_since == at(31)
        assert (room.state(SMTP), room.state("mail"), room.since("mail")) == (State.UNKNOWN, State.UNKNOWN, 30)
        assert room.check(SMTP).detail == "own-fault"
        assert set(room.open_incidents()) == {OWN_FAULT}
        assert await room.told() == [("opened", OWN_FAULT)]
        assert (await room.outbox())[0].notice.cause == "near"
        assert await room.gaps(SMTP) == [(30, None, "own-fault")]
        assert [c.state for c in await room.changes(SMTP)] == [State.UP]
        assert await room.seconds(SMTP, 0, 40) == {"up": 30, "unknown": 10}


async def test_sight_comes_back_with_the_first_good_result_and_failures_after_it_count_anew(tmp_path: Path) -> None:
    async with living(one_service(near(), far(FAR)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, GATEWAY, FAR)))
        await lose_uplink(room, GATEWAY, FAR)
        await room.feed(bad(SMTP, 60))
        assert await room.gaps(SMTP) == [(30, None, "own-fault")]
        for moment in (100, 105):
            await room.feed(good(GATEWAY, moment), good(FAR, moment + 0.5))
        assert room.board.own_fault == ""
        assert (room.state("mail"), room.board.own_fault_since) == (State.UNKNOWN, None)  # nobody has seen it yet
        await room.feed(bad(SMTP, 110))
        assert (room.state(SMTP), room.check(SMTP).suspect) == (State.UP, True)
        await room.feed(good(SMTP, 115, attempt=1))

        assert (room.state("mail"), room.since("mail")) == (State.UP, 110)
        assert await room.gaps(SMTP) == [(30, 110, "own-fault")]
        assert await room.told() == [("opened", OWN_FAULT), ("recovered", OWN_FAULT)]
        own = (await room.incidents())[0]
        assert (own.subject, own.began_at, own.ended_at) == (OWN_FAULT, at(31), at(100.5))
        assert await room.seconds(SMTP, 0, 115) == {"up": 35, "unknown": 80}
        await rounds(room, SMTP, 140, 145)
        await room.feed(good(GATEWAY, 146), good(FAR, 146), bad(SMTP, 150, attempt=2))
        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 140)


async def test_a_target_that_is_down_stays_an_incident_through_our_own_fault(tmp_path: Path) -> None:
    async with living(one_service(near(), far(FAR)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, GATEWAY, FAR)))
        await rounds(room, SMTP, 30, 35)
        await room.feed(good(GATEWAY, 36), good(FAR, 36), bad(SMTP, 40, attempt=2))
        assert room.state("mail") is State.DOWN
        await lose_uplink(room, GATEWAY, FAR, start=60)
        assert room.state("mail") is State.UNKNOWN
        assert set(room.open_incidents()) == {OWN_FAULT, "mail"}  # unknown is no recovery
        await room.feed(*(good(n, t) for t in (100, 105) for n in (GATEWAY, FAR)))
        await room.feed(bad(SMTP, 120))

        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 30)
        assert [k for k, s in await room.told() if s == "mail"] == ["opened"]
        assert [i.subject for i in await room.incidents()] == ["mail", OWN_FAULT]
        assert (await room.seconds(SMTP, 0, 120))["unknown"] >= 50


async def test_a_single_far_reference_convicts_us_only_together_with_half_of_the_services(tmp_path: Path) -> None:
    services = [service(n.partition(".")[0], check(n)) for n in (SMTP, "portal.web", "office.web")]
    async with living(plan(*services, references=[far(FAR)], mail=MAIL), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, "portal.web", "office.web", FAR)))
        await lose_uplink(room, FAR)
        await room.feed(good("portal.web", 41))
        assert room.board.own_fault == ""
        assert room.state("mail") is State.DOWN  # the others answer: the reference is down itself
        await room.feed(bad("portal.web", 60))
        await room.feed(bad("portal.web", 65, attempt=1))
        await room.feed(bad("portal.web", 70, attempt=2))

        assert room.board.own_fault == "far"
        assert room.state("portal") is State.UNKNOWN
        assert await room.gaps("portal.web") == [(41, None, "own-fault")]  # nobody saw it well since the first sign


async def test_one_failing_far_reference_of_three_convicts_nobody(tmp_path: Path) -> None:
    names = ["references.a", "references.b", "references.c"]
    async with living(one_service(*map(far, names)), tmp_path) as room:
        await room.feed(good(SMTP, 0), *(good(n, 0) for n in names))
        await rounds(room, names[0], 10, 15)
        await rounds(room, SMTP, 30, 35)
        await room.feed(*(good(n, 36) for n in names[1:]), bad(names[0], 36), bad(SMTP, 40, attempt=2))

        assert room.board.own_fault == ""
        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 30)


async def test_references_of_an_uplink_speak_for_the_checks_that_leave_by_it(tmp_path: Path) -> None:
    services = [
        service("carrier", check("carrier.ping", path=VNPT)),
        service("mail", check(SMTP)),
    ]
    references = [far(FAR), far(FAR_2, path=VNPT)]
    async with living(plan(*services, references=references, mail=MAIL), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in ("carrier.ping", SMTP, FAR, FAR_2)))
        for moment in (30, 35, 40):
            await room.feed(
                bad("carrier.ping", moment), bad(FAR_2, moment + 1), good(FAR, moment + 1), bad(SMTP, moment)
            )

        own = room.open_incidents()[f"{OWN_FAULT}:vnpt"]
        assert own.began_at == at(31)
        assert room.state("carrier") is State.UNKNOWN
        assert room.state("mail") is State.DOWN  # the system's own route is well
        notice = next(i.notice for i in await room.outbox() if i.notice.service == OWN_FAULT)
        assert notice.service_name == "VNPT cáp quang"
        for moment in (60, 65):
            await room.feed(good(FAR_2, moment), good("carrier.ping", moment + 1))
        assert room.state("carrier") is State.UP
        over = next(i.notice for i in await room.outbox() if i.notice.kind.value == "recovered")
        assert (over.service, over.service_name) == (OWN_FAULT, "VNPT cáp quang")


async def test_references_that_cannot_even_be_asked_are_lost_to_us(tmp_path: Path) -> None:
    # The default route went away: references get "network is unreachable", the targets time out on the way.
    async with living(one_service(far(FAR), far(FAR_2)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, FAR, FAR_2)))
        await room.feed(bad(SMTP, 30))
        await room.feed(blind(FAR, 31), blind(FAR_2, 31))
        await room.feed(bad(SMTP, 35, attempt=1))
        await room.feed(blind(FAR, 41), blind(FAR_2, 41))
        await room.feed(bad(SMTP, 42, attempt=2))

        assert room.board.own_fault == "far"
        assert room.board.own_fault_since == at(31)
        assert room.state("mail") is State.UNKNOWN
        assert await room.gaps(SMTP) == [(30, None, "own-fault")]
        await room.feed(good(FAR, 60), good(FAR_2, 60), good(SMTP, 61))
        assert room.board.own_fault == ""
        assert room.state("mail") is State.UP
        assert await room.told() == [("opened", OWN_FAULT), ("recovered", OWN_FAULT)]


# What we could not measure.


async def test_a_local_result_is_a_gap_from_its_start_to_the_next_observation(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await room.feed(blind(SMTP, 30))
        assert (room.state("mail"), room.check(SMTP).detail) == (State.UNKNOWN, "Network is unreachable")
        await room.feed(blind(SMTP, 60))
        await room.feed(good(SMTP, 90))

        assert (room.state("mail"), room.since("mail")) == (State.UP, 90)
        assert await room.gaps(SMTP) == [(30, 90, "local")]
        assert await room.told() == []
        assert room.board.coverage(SMTP) == 0.5


async def test_a_gap_that_opens_and_closes_in_one_transaction_is_one_record(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0), blind(SMTP, 30), good(SMTP, 60), blind(SMTP, 90), good(SMTP, 120))

        assert await room.gaps(SMTP) == [(30, 60, "local"), (90, 120, "local")]


async def test_a_streak_from_before_a_local_gap_belongs_to_our_own_fault_as_well(tmp_path: Path) -> None:
    async with living(one_service(near(), far(FAR)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, GATEWAY, FAR)))
        await room.feed(bad(SMTP, 30), bad(GATEWAY, 31), bad(FAR, 31))
        await room.feed(blind(SMTP, 35, attempt=1))
        await room.feed(bad(GATEWAY, 36), bad(FAR, 36))
        await room.feed(good(GATEWAY, 60), good(FAR, 60), good(GATEWAY, 65), good(FAR, 65), good(SMTP, 66))

        assert await room.seconds(SMTP, 0, 66) == {"up": 30, "unknown": 36}


async def test_when_half_of_all_checks_cannot_be_measured_it_is_our_host(tmp_path: Path) -> None:
    names = [f"s{n}.x" for n in range(6)]
    province = plan(*(service(n.partition(".")[0], check(n)) for n in names), mail=MAIL)
    async with living(province, tmp_path) as room:
        await room.feed(*(good(n, 0) for n in names))
        await room.feed(*(blind(n, 30) for n in names[:3]))
        assert room.board.own_fault == ""  # once is no habit
        await room.feed(*(blind(n, 60) for n in names[:3]))
        assert (room.board.own_fault, room.board.own_fault_since) == ("local", at(30))
        await room.feed(bad(names[5], 61))
        assert room.state("s5") is State.UNKNOWN
        await room.feed(*(good(n, 90) for n in names))

        assert room.board.own_fault == ""
        assert {room.state(f"s{n}") for n in range(6)} == {State.UP}
        assert await room.told() == [("opened", OWN_FAULT), ("recovered", OWN_FAULT)]


async def test_slots_without_a_result_are_a_gap_from_when_the_next_was_due(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await room.feed(good(SMTP, 44))  # late, but no slot was missed
        await room.feed(good(SMTP, 134))

        assert await room.gaps(SMTP) == [(74, 134, "missed")]
        assert await room.seconds(SMTP, 0, 134) == {"up": 74, "unknown": 60}


async def test_the_edges_of_a_peak_are_no_gap(tmp_path: Path) -> None:
    target = check(SMTP, every_s=60.0, rates=[RatePeriod(span(100, 200), 5.0)])
    async with living(plan(service("mail", target)), tmp_path) as room:
        for moment in (0, 60, 103, 108, *range(113, 199, 5), 240, 300):
            await room.feed(good(SMTP, moment))

        assert await room.gaps(SMTP) == []
