"""It is us, found after the fact: what was believed is taken back, what was told is withdrawn or corrected."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from monitor.journal import FILE_NAME
from monitor.model import OWN_FAULT, OutboxItem, State
from tests.monitor.builders import at, bad, check, good, plan, service
from tests.monitor.room import FAR, FAR_2, SMTP, VNPT, Room, far, living, one_service, rounds

FAR_3 = "references.third"
FARS = (FAR, FAR_2, FAR_3)


async def believe_down(room: Room, *checks: str) -> None:
    """One reference of three fails, then the services for good: two references answered all the while."""
    await room.feed(*(good(n, 0) for n in (*checks, *FARS)))
    await room.feed(bad(FAR, 28))
    for moment, attempt in ((30, 0), (35, 1), (40, 2)):
        for name in checks:
            await room.feed(bad(name, moment, attempt=attempt))
        await room.feed(bad(FAR, moment + 1), good(FAR_2, moment + 1), good(FAR_3, moment + 1))
    await room.feed(*(bad(name, 41.5) for name in checks))


async def lose_the_rest(room: Room) -> None:
    for moment in (45, 50):
        await room.feed(bad(FAR_2, moment), bad(FAR_3, moment))


async def deliver(room: Room, now: float) -> list[OutboxItem]:
    """Let the relay take all that is due."""
    items = list(await room.journal.claim("mail", at(now), 100))
    for item in items:
        await room.journal.mark_sent(item.id, at(now), "250 taken")
    return items


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / FILE_NAME) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


async def test_an_outage_since_the_first_sign_of_our_own_fault_is_taken_back_and_its_word_withdrawn(
    tmp_path: Path,
) -> None:
    async with living(one_service(*map(far, FARS)), tmp_path) as room:
        await believe_down(room, SMTP)
        assert room.state("mail") is State.DOWN
        assert await room.told() == [("opened", "mail")]
        await lose_the_rest(room)

        assert room.board.own_fault == "far"
        assert (room.state(SMTP), room.state("mail"), room.since("mail")) == (State.UNKNOWN, State.UNKNOWN, 30)
        assert set(room.open_incidents()) == {OWN_FAULT}
        assert await room.told() == [("opened", OWN_FAULT)]  # what was owed of the service is owed no more
        never = (await room.incidents())[0]
        assert (never.subject, never.withdrawn, never.ended_at is not None) == ("mail", True, True)
        assert await room.seconds(SMTP, 0, 50) == {"up": 30, "unknown": 20}
        assert [(c.state, c.at) for c in await room.changes(SMTP)][-2:] == [
            (State.DOWN, at(30)),
            (State.UNKNOWN, at(30)),
        ]
        query = "SELECT kind, sent_ms, failed_ms IS NULL, last_detail FROM outbox ORDER BY kind, id"
        assert await asyncio.to_thread(rows, tmp_path, query) == [
            ("corrected", None, 0, "withdrawn: nothing that it corrects was sent"),
            ("opened", None, 0, "withdrawn: our own fault"),
            ("opened", None, 1, ""),
        ]


async def test_what_was_told_already_is_corrected_by_one_word_in_its_threads(tmp_path: Path) -> None:
    checks = ["mail.smtp", "portal.web"]
    province = plan(
        service("mail", check("mail.smtp")),
        service("portal", check("portal.web"), name="Cổng thông tin"),
        references=[far(n) for n in FARS],
        mail=one_service().mail,
    )
    async with living(province, tmp_path) as room:
        await believe_down(room, *checks)
        await room.wait(70)
        told = await deliver(room, 71)
        assert told
        await lose_the_rest(room)

        owed = await room.outbox()
        assert sorted(i.notice.kind.value for i in owed) == ["corrected", "opened"]
        (correction,) = (i for i in owed if i.notice.kind.value == "corrected")
        assert {r.incident for r in correction.notice.retracted} == {i.notice.incident for i in told}
        assert all(r.told_at == at(71) for r in correction.notice.retracted)
        assert correction.thread_id == told[0].thread_id
        await deliver(room, 80)
        for moment in (90, 95):
            await room.feed(*(good(n, moment) for n in (*FARS, *checks)))
        assert [i.notice.kind.value for i in await deliver(room, 100)] == ["recovered"]  # of ourselves alone
        assert {room.state("mail"), room.state("portal")} == {State.UP}


async def test_two_uplinks_lost_within_a_second_take_back_what_each_of_them_hid(tmp_path: Path) -> None:
    by_vnpt = [f"references.vnpt-{n}" for n in (1, 2, 3)]
    province = plan(
        service("mail", check("mail.smtp")),
        service("carrier", check("carrier.ping", path=VNPT)),
        references=[*map(far, FARS), *(far(n, path=VNPT) for n in by_vnpt)],
        mail=one_service().mail,
    )
    async with living(province, tmp_path) as room:
        await room.feed(*(good(n, 0) for n in by_vnpt))
        await room.feed(bad(by_vnpt[0], 28), bad(by_vnpt[0], 33))
        for moment in (31, 36, 41):
            await room.feed(*(good(n, moment) for n in by_vnpt[1:]))
        await believe_down(room, "mail.smtp", "carrier.ping")
        await room.feed(*(good(n, 42) for n in by_vnpt[1:]))
        await room.wait(42.2)
        await room.feed(*(bad(n, 42.4) for n in ("mail.smtp", "carrier.ping")))
        assert {room.state("mail"), room.state("carrier")} == {State.DOWN}
        await room.wait(70)
        told = await deliver(room, 70)
        for moment in (75, 80):
            await room.feed(*(bad(n, moment) for n in by_vnpt[1:]), now=moment + 0.1)
            await room.feed(*(bad(n, moment) for n in FARS[1:]), now=moment + 0.6)

        corrections = [i for i in await room.outbox() if i.notice.kind.value == "corrected"]
        assert {r.incident for c in corrections for r in c.notice.retracted} == {i.notice.incident for i in told}
        assert len(corrections) == 2


async def test_a_word_that_was_on_its_way_when_it_was_withdrawn_is_corrected_once_it_has_left(tmp_path: Path) -> None:
    async with living(one_service(*map(far, FARS)), tmp_path) as room:
        await believe_down(room, SMTP)
        (item,) = await room.outbox()
        assert await room.journal.take_up(item.id)
        await lose_the_rest(room)
        assert not await room.journal.take_up(item.id)
        await room.journal.mark_sent(item.id, at(52), "250 taken")

        assert sorted(await room.told()) == [("corrected", OWN_FAULT), ("opened", OWN_FAULT)]
        (correction,) = (i for i in await room.outbox() if i.notice.kind.value == "corrected")
        assert [r.told_at for r in correction.notice.retracted] == [at(52)]


async def test_a_word_that_only_some_have_when_it_is_withdrawn_is_corrected_for_them(tmp_path: Path) -> None:
    async with living(one_service(*map(far, FARS)), tmp_path) as room:
        await believe_down(room, SMTP)
        (item,) = await room.outbox()
        await room.journal.take_up(item.id)
        await room.journal.note_served(item.id, ["truc@example.vn"], at(43))
        await room.journal.mark_retry(item.id, at(300), "450 greylisted")
        await lose_the_rest(room)

        assert sorted(await room.told()) == [("corrected", OWN_FAULT), ("opened", OWN_FAULT)]
        (correction,) = (i for i in await room.outbox() if i.notice.kind.value == "corrected")
        assert [(r.incident, r.told_at) for r in correction.notice.retracted] == [(item.notice.incident, at(43))]


async def test_a_word_that_is_withdrawn_while_some_get_it_is_corrected_once(tmp_path: Path) -> None:
    async with living(one_service(*map(far, FARS)), tmp_path) as room:
        await believe_down(room, SMTP)
        (item,) = await room.outbox()
        await room.journal.take_up(item.id)
        await room.journal.note_served(item.id, ["truc@example.vn"], at(43))
        await lose_the_rest(room)
        await room.journal.mark_sent(item.id, at(52), "250 taken")

        (correction,) = (i for i in await room.outbox() if i.notice.kind.value == "corrected")
        assert [r.incident for r in correction.notice.retracted] == [item.notice.incident]


@pytest.mark.parametrize("crash_first", [True, False])
async def test_a_word_whose_note_of_leaving_a_crash_took_is_corrected_all_the_same(
    crash_first: bool, tmp_path: Path
) -> None:
    async with living(one_service(*map(far, FARS)), tmp_path) as room:
        await believe_down(room, SMTP)
        (item,) = await room.outbox()
        assert await room.journal.take_up(item.id)  # the relay takes it, and we are gone before the note of it
        if not crash_first:
            await lose_the_rest(room)
            assert sorted(await room.told()) == [("opened", OWN_FAULT)]
    async with living(one_service(*map(far, FARS)), tmp_path, now=44.0) as room:
        if crash_first:
            assert await room.told() == [("opened", "mail")]  # it goes out again, under the same name
            await lose_the_rest(room)

        assert sorted(await room.told()) == [("corrected", OWN_FAULT), ("opened", OWN_FAULT)]
        (correction,) = (i for i in await room.outbox() if i.notice.kind.value == "corrected")
        assert [r.incident for r in correction.notice.retracted] == [item.notice.incident]


async def test_an_outage_from_before_the_first_sign_stays_one(tmp_path: Path) -> None:
    async with living(one_service(*map(far, FARS)), tmp_path) as room:
        await room.feed(*(good(n, 0) for n in (SMTP, *FARS)))
        for moment, attempt in ((30, 0), (35, 1), (40, 2)):
            await room.feed(bad(SMTP, moment, attempt=attempt))
            await room.feed(*(good(n, moment + 1) for n in FARS))
        await rounds(room, SMTP, 42)
        assert room.state("mail") is State.DOWN
        for moment in (120, 125):
            await room.feed(*(bad(n, moment) for n in FARS))

        assert room.board.own_fault == "far"
        assert set(room.open_incidents()) == {OWN_FAULT, "mail"}
        assert not any(i.withdrawn for i in await room.incidents())
        assert (await room.seconds(SMTP, 0, 60))["down"] == 30
