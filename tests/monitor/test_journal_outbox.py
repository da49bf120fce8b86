"""The outbox: a duty to tell is owed until its message was accepted, over restarts and full disks."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from monitor.journal import Batch, Journal, to_ms
from monitor.model import EventKind
from tests.monitor.builders import at, duty, notice
from tests.monitor.journals import ask, begin, fill_up, make_room, opened


async def owing(journal: Journal, *messages: str, created: float = 10) -> None:
    await journal.commit(Batch(duties=[duty(m) for m in messages]), at(created))


async def test_a_duty_is_claimed_as_it_was_written_oldest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(duties=[duty("first", 7), duty("second", 7, kind=EventKind.RECOVERED)]), at(10))
        first, second = await journal.claim("mail", at(10), 10)
        assert (first.message_id, first.thread_id, first.attempts) == ("<first@lang-son>", "<7@lang-son>", 0)
        assert (first.notice, first.created_at) == (notice(7), at(10))
        assert second.notice == notice(7, kind=EventKind.RECOVERED)
        assert [i.id for i in await journal.claim("mail", at(11), 1)] == [first.id]
        assert await journal.claim("sms", at(11), 10) == []
        assert await journal.waiting("mail") == 2
        assert await journal.waiting("sms") == 0


async def test_a_duty_stays_owed_until_its_message_was_accepted(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one", "two")
        one, two = await journal.claim("mail", at(10), 10)
        assert await journal.claim("mail", at(10), 10) == [one, two]
        await journal.mark_sent(one.id, at(12), "250 queued")
        assert await journal.claim("mail", at(13), 10) == [two]
        assert await journal.waiting("mail") == 1
    assert await ask(tmp_path, "SELECT sent_ms, attempts, last_detail FROM outbox ORDER BY id") == [
        (to_ms(at(12)), 1, "250 queued"),
        (None, 0, ""),
    ]


async def test_a_duty_that_failed_for_now_is_due_again_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one")
        (item,) = await journal.claim("mail", at(10), 10)
        await journal.mark_retry(item.id, at(70), "connection refused")
        assert await journal.claim("mail", at(69.999), 10) == []
        assert await journal.waiting("mail") == 1
        (again,) = await journal.claim("mail", at(70), 10)
        assert (again.message_id, again.attempts) == (item.message_id, 1)


async def test_a_new_word_about_an_incident_does_not_overtake_one_that_waits_for_its_next_try(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await journal.commit(Batch(duties=[duty("opened", 7), duty("other", 8)]), at(10))
        begun, other = await journal.claim("mail", at(10), 10)
        for item in (begun, other):
            await journal.mark_retry(item.id, at(310), "no way out")
        await journal.commit(Batch(duties=[duty("recovered", 7, kind=EventKind.RECOVERED)]), at(60))

        due = await journal.claim("mail", at(60), 10)
        assert [i.message_id for i in due] == ["<opened@lang-son>", "<recovered@lang-son>"]
        for item, pause in zip(due, (300, 5), strict=True):
            await journal.mark_retry(item.id, at(60 + pause), "still no way out")
        assert await journal.claim("mail", at(64), 10) == []
        assert [i.id for i in await journal.claim("mail", at(65), 10)] == [i.id for i in due]
        assert len(await journal.claim("mail", at(310), 10)) == 3


async def test_a_mark_is_written_though_whoever_asked_for_it_was_stopped(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one")
        (item,) = await journal.claim("mail", at(10), 10)
        gate = threading.Event()
        busy = asyncio.create_task(journal.transact(lambda _: gate.wait(5)))
        marking = asyncio.create_task(journal.mark_sent(item.id, at(12), "250 queued"))
        await asyncio.sleep(0)
        marking.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(marking, busy, return_exceptions=True)

        assert marking.cancelled()
        assert await journal.waiting("mail") == 0


async def test_who_has_a_message_already_is_known_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one")
        (item,) = await journal.claim("mail", at(10), 10)
        assert item.served == frozenset()
        await journal.note_served(item.id, ["a@example.vn"], at(11))
        await journal.note_served(item.id, ["b@example.vn", "a@example.vn"], at(20))
        await journal.mark_retry(item.id, at(30), "450 greylisted")
    async with opened(tmp_path) as journal:
        await begin(journal, 100)
        (item,) = await journal.claim("mail", at(100), 10)
        assert item.served == {"a@example.vn", "b@example.vn"}
    assert await ask(tmp_path, "SELECT json_extract(served, '$.\"a@example.vn\"') FROM outbox") == [(to_ms(at(11)),)]


async def test_a_full_disk_keeps_no_word_from_going_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one", "two")
        one, two = await journal.claim("mail", at(10), 10)
        await journal.mark_failed(two.id, at(11), "withdrawn")
        db = journal._db
        await journal._do(lambda: db.execute("PRAGMA query_only = 1").fetchone())
        assert await journal.take_up(one.id)
        assert not await journal.take_up(two.id)


async def test_a_duty_that_can_never_go_through_is_owed_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one")
        (item,) = await journal.claim("mail", at(10), 10)
        await journal.mark_failed(item.id, at(11), "550 no such user")
        assert await journal.claim("mail", at(9999), 10) == []
        assert await journal.waiting("mail") == 0
    assert await ask(tmp_path, "SELECT failed_ms, last_detail FROM outbox") == [(to_ms(at(11)), "550 no such user")]


async def test_duties_outlive_the_daemon(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one")
    async with opened(tmp_path) as journal:
        await begin(journal, 100)
        assert [i.message_id for i in await journal.claim("mail", at(100), 10)] == ["<one@lang-son>"]


async def test_a_mark_waits_for_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.journal.BUSY_PAUSE_S", 0.001)
    async with opened(tmp_path) as journal:
        await begin(journal)
        await owing(journal, "one")
        (item,) = await journal.claim("mail", at(10), 10)
        await fill_up(journal)
        mark = asyncio.create_task(journal.mark_sent(item.id, at(12), "x" * 50_000))
        await asyncio.sleep(0.03)
        assert not mark.done()
        assert await journal.waiting("mail") == 1
        await make_room(journal)
        await mark
        assert await journal.waiting("mail") == 0
