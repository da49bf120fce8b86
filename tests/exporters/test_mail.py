"""The mail channel against real relays on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from email.header import decode_header, make_header

import pytest

from config.plan import Relay
from exporters.mail import MailChannel, outcome_line, retry_pause_s, send_test, write_message
from monitor.board import Board
from monitor.model import EventKind, OutboxItem
from tests.exporters.builders import NOW, SITE_NAME, mail_plan, notice, outbox_item, province, site
from tests.exporters.relays import Behaviour, MemoryOutbox, relay_server
from tests.servers import refused_port, silent_server

TWO = ("truc@example.vn", "lanh-dao@example.vn")


def plain(port: int, timeout_s: float = 5.0) -> Relay:
    return Relay(host="127.0.0.1", port=port, starttls="never", timeout_s=timeout_s)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def channel(
    outbox: MemoryOutbox, relays: Sequence[Relay], *, to: Sequence[str] = TWO[:1], clock: Clock | None = None
) -> tuple[MailChannel, Board]:
    board = province()
    return MailChannel(mail_plan(relays, to), site(), outbox, board, clock=clock or Clock()), board


def shown_sender(raw: bytes) -> str:
    """Decode the From line by RFC 2047; the parser of Python 3.11 puts a space between two encoded words."""
    return str(make_header(decode_header(message_from_bytes(raw)["From"])))


@pytest.fixture
def dead_port() -> Iterator[int]:
    with refused_port() as address:
        yield address.port


async def test_an_accepted_message_is_marked_sent_with_the_servers_reply() -> None:
    outbox, relay = MemoryOutbox(outbox_item()), Behaviour()
    async with relay_server(relay) as port:
        mail, board = channel(outbox, [plain(port)])
        assert await mail.deliver_due() == 1
    assert outbox.sent == {1: f"127.0.0.1:{port}: 2.0.0 Ok: queued as TEST1"}
    assert relay.received[0].sender == "giam-sat@example.vn"
    assert relay.received[0].to == ("truc@example.vn",)
    assert board.alerts == {("mail", "sent"): 1}
    assert board.outbox_waiting == 0


async def test_a_message_holds_the_head_of_the_chain_of_evidence_for_whoever_keeps_it() -> None:
    head = f"12:{'0af1' * 16}"
    outbox, relay = MemoryOutbox(outbox_item()), Behaviour()
    async with relay_server(relay) as port:
        mail, board = channel(outbox, [plain(port)])
        board.chain_head = head
        await mail.deliver_due()
    parts = [part.get_content() for part in relay.received[0].message.iter_parts()]
    assert [f"xin giữ để đối chiếu: {head}" in part for part in parts] == [True, True]


async def test_the_message_carries_the_headers_that_make_a_thread() -> None:
    outbox, relay = MemoryOutbox(outbox_item(7), outbox_item(1)), Behaviour()
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)], to=TWO)
        await mail.deliver_due()
    later, first = (received.message for received in relay.received)
    assert later["Message-ID"] == "<7.12@lang-son.thongsuot>"
    assert later["References"] == later["In-Reply-To"] == "<1.12@lang-son.thongsuot>"
    assert first["References"] is None
    assert first["In-Reply-To"] is None
    assert shown_sender(relay.received[1].raw) == f"{SITE_NAME} <giam-sat@example.vn>"
    assert [a.addr_spec for a in first["To"].addresses] == list(TWO)
    assert first["Subject"] == "[Thông Suốt][Lạng Sơn] GIÁN ĐOẠN: Thư điện tử công vụ từ 00:00"
    assert first["Date"].datetime == NOW
    assert first["Date"].endswith("+0700")
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["X-Thongsuot-Incident"] == "12"
    text, html = first.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert "đang bị gián đoạn" in text.get_content()
    assert "đang bị gián đoạn" in html.get_content()
    assert b"\n" not in relay.received[0].raw.replace(b"\r\n", b"")
    assert relay.received[0].raw.isascii()  # passes relays that know no 8BITMIME


async def test_a_dead_relay_is_passed_over_for_the_next() -> None:
    outbox, relay = MemoryOutbox(outbox_item()), Behaviour()
    with refused_port() as dead:
        async with relay_server(relay) as port:
            mail, _ = channel(outbox, [plain(dead.port), plain(port)])
            assert await mail.deliver_due() == 1
    assert outbox.sent[1].startswith(f"127.0.0.1:{dead.port}: ")
    assert outbox.sent[1].endswith("queued as TEST1")


async def test_a_silent_relay_costs_its_time_out_once_in_a_pass() -> None:
    outbox, relay = MemoryOutbox(*(outbox_item(n) for n in range(1, 6))), Behaviour()
    loop = asyncio.get_running_loop()
    async with silent_server() as silent, relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(silent.port, timeout_s=0.3), plain(port)])
        began = loop.time()
        assert await mail.deliver_due() == 5
        assert loop.time() - began < 1.4
    assert "no answer within 0.3 s" in outbox.sent[1]
    assert "skipped" in outbox.sent[5]


async def test_a_relay_that_hangs_after_data_is_left_and_the_next_one_asked() -> None:
    outbox, stuck, relay = MemoryOutbox(outbox_item()), Behaviour(hang=True), Behaviour()
    async with relay_server(stuck) as first, relay_server(relay) as second:
        mail, _ = channel(outbox, [plain(first, timeout_s=0.2), plain(second)])
        assert await mail.deliver_due() == 1
    assert len(relay.received) == 1


async def test_a_relay_skipped_in_one_pass_is_asked_again_in_the_next(dead_port: int) -> None:
    outbox, clock = MemoryOutbox(outbox_item(1), outbox_item(2)), Clock()
    mail, board = channel(outbox, [plain(dead_port)], clock=clock)
    assert await mail.deliver_due() == 0
    assert [what for _, _, what in outbox.retries if "skipped" in what] == [outbox.retries[1][2]]
    clock.now += timedelta(seconds=5)
    await mail.deliver_due()
    assert "skipped" not in outbox.retries[2][2]
    assert board.alerts == {("mail", "retry"): 4}
    assert board.outbox_waiting == 2


async def test_without_any_relay_the_pauses_grow_to_five_minutes_and_never_end(dead_port: int) -> None:
    outbox, clock = MemoryOutbox(outbox_item()), Clock()
    mail, _ = channel(outbox, [plain(dead_port)], clock=clock)
    pauses = []
    for _ in range(9):
        await mail.deliver_due()
        next_try = outbox.retries[-1][1]
        pauses.append((next_try - clock.now).total_seconds())
        clock.now = next_try
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert 1 in outbox.due
    assert retry_pause_s(100_000) == 300


async def test_an_item_that_is_not_due_is_left_alone(dead_port: int) -> None:
    outbox, clock = MemoryOutbox(outbox_item()), Clock()
    mail, _ = channel(outbox, [plain(dead_port)], clock=clock)
    await mail.deliver_due()
    await mail.deliver_due()
    assert len(outbox.retries) == 1


async def test_a_4xx_for_the_message_is_tried_again_and_does_not_stop_the_relay_for_others() -> None:
    outbox, relay = MemoryOutbox(outbox_item(1), outbox_item(2)), Behaviour(data="451 4.3.0 try later")
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)])
        assert await mail.deliver_due() == 0
    assert relay.connections == 2
    assert [item for item, _, _ in outbox.retries] == [1, 2]
    assert "451 4.3.0 try later" in outbox.retries[0][2]


async def test_a_5xx_of_every_relay_is_given_up_and_counted() -> None:
    outbox = MemoryOutbox(outbox_item())
    async with (
        relay_server(Behaviour(data="554 5.7.1 refused as spam")) as first,
        relay_server(Behaviour(mail="550 5.1.8 sender unknown")) as second,
    ):
        mail, board = channel(outbox, [plain(first), plain(second)])
        assert await mail.deliver_due() == 0
    assert outbox.failed == {
        1: f"127.0.0.1:{first}: 554 5.7.1 refused as spam; 127.0.0.1:{second}: 550 5.1.8 sender unknown"
    }
    assert board.alerts == {("mail", "failed"): 1}


async def test_a_5xx_of_one_relay_and_silence_of_the_other_is_no_reason_to_give_up(dead_port: int) -> None:
    outbox = MemoryOutbox(outbox_item())
    async with relay_server(Behaviour(data="554 5.7.1 no")) as port:
        mail, _ = channel(outbox, [plain(port), plain(dead_port)])
        await mail.deliver_due()
    assert outbox.failed == {}
    assert len(outbox.retries) == 1


async def test_a_421_while_the_message_is_handed_over_only_postpones() -> None:
    outbox = MemoryOutbox(outbox_item())
    async with relay_server(Behaviour(data="421 4.3.2 shutting down")) as port:
        mail, _ = channel(outbox, [plain(port)])
        await mail.deliver_due()
    assert len(outbox.retries) == 1


async def test_all_recipients_refused_for_good_is_given_up() -> None:
    outbox = MemoryOutbox(outbox_item())
    async with relay_server(Behaviour(rcpt=dict.fromkeys(TWO, "550 5.1.1 no such user"))) as port:
        mail, _ = channel(outbox, [plain(port)], to=TWO)
        await mail.deliver_due()
    assert "lanh-dao@example.vn refused: 550 5.1.1 no such user" in outbox.failed[1]


async def test_a_recipient_refused_by_one_relay_is_served_by_the_next() -> None:
    outbox, first, second = (
        MemoryOutbox(outbox_item()),
        Behaviour(rcpt={TWO[1]: "550 5.7.1 relaying denied"}),
        Behaviour(),
    )
    async with relay_server(first) as port1, relay_server(second) as port2:
        mail, board = channel(outbox, [plain(port1), plain(port2)], to=TWO)
        assert await mail.deliver_due() == 1
    assert first.received[0].to == (TWO[0],)
    assert second.received[0].to == (TWO[1],)
    assert board.alerts == {("mail", "sent"): 1}


async def test_a_recipient_refused_for_good_by_all_is_recorded_and_counted_and_the_others_are_told() -> None:
    outbox, relay = MemoryOutbox(outbox_item()), Behaviour(rcpt={TWO[1]: "550 5.1.1 no such user"})
    async with relay_server(relay) as port:
        mail, board = channel(outbox, [plain(port)], to=TWO)
        assert await mail.deliver_due() == 1
    assert f"{TWO[1]} refused: 550 5.1.1 no such user" in outbox.sent[1]
    assert board.alerts == {("mail", "sent"): 1, ("mail", "recipient-refused"): 1}


async def test_a_greylisted_recipient_is_tried_again_and_the_others_get_no_second_copy() -> None:
    outbox, relay, clock = MemoryOutbox(outbox_item()), Behaviour(rcpt={TWO[1]: "450 4.2.0 greylisted"}), Clock()
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)], to=TWO, clock=clock)
        await mail.deliver_due()
        assert outbox.sent == {}
        relay.rcpt.clear()
        clock.now += timedelta(seconds=5)
        assert await mail.deliver_due() == 1
    assert [received.to for received in relay.received] == [(TWO[0],), (TWO[1],)]
    assert relay.received[0].message["Message-ID"] == relay.received[1].message["Message-ID"]


async def test_who_was_served_before_a_restart_gets_no_second_copy_and_new_recipients_get_theirs() -> None:
    outbox, relay, clock = MemoryOutbox(outbox_item()), Behaviour(rcpt={TWO[1]: "450 4.2.0 greylisted"}), Clock()
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)], to=TWO, clock=clock)
        await mail.deliver_due()
        relay.rcpt.clear()
        clock.now += timedelta(seconds=5)
        again, _ = channel(outbox, [plain(port)], to=(*TWO, "moi@example.vn"), clock=clock)
        assert await again.deliver_due() == 1
    assert [received.to for received in relay.received] == [(TWO[0],), (TWO[1], "moi@example.vn")]


async def test_who_was_served_is_noted_before_the_next_relay_is_asked() -> None:
    outbox, first = MemoryOutbox(outbox_item()), Behaviour(rcpt={TWO[1]: "450 4.2.0 greylisted"})
    second = Behaviour(hang=True)
    async with relay_server(first) as port1, relay_server(second) as port2:
        mail, _ = channel(outbox, [plain(port1), plain(port2)], to=TWO)
        task = asyncio.create_task(mail.deliver_due())
        async with asyncio.timeout(2):
            while not second.connections:  # noqa: ASYNC110  the relay has no event for it
                await asyncio.sleep(0.005)
        task.cancel()  # as a crash would end it
        await asyncio.gather(task, return_exceptions=True)
    assert outbox.due[1][1].served == {TWO[0]}


async def test_a_recipient_greylisted_for_an_hour_is_let_go_with_a_note() -> None:
    outbox, relay, clock = MemoryOutbox(outbox_item()), Behaviour(rcpt={TWO[1]: "452 4.2.2 mailbox full"}), Clock()
    async with relay_server(relay) as port:
        mail, board = channel(outbox, [plain(port)], to=TWO, clock=clock)
        await mail.deliver_due()
        clock.now += timedelta(hours=1)
        await mail.deliver_due()
    assert "mailbox full" in outbox.sent[1]
    assert board.alerts[("mail", "recipient-refused")] == 1


async def test_more_than_a_batch_goes_out_in_one_pass() -> None:
    outbox, relay = MemoryOutbox(*(outbox_item(n) for n in range(1, 46))), Behaviour()
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)])
        assert await mail.deliver_due() == 45
    assert len(relay.received) == 45


async def test_an_item_that_cannot_be_written_neither_stops_the_others_nor_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = outbox_item(1, replace(notice(), since=None))  # type: ignore[arg-type]  # a damaged row
    outbox, relay = MemoryOutbox(broken, outbox_item(2)), Behaviour()
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)])
        assert await mail.deliver_due() == 1
    assert list(outbox.sent) == [2]
    assert outbox.retries[0][0] == 1
    assert "outbox item 1 could not be prepared" in caplog.text


def header_block(item: OutboxItem, name: str = SITE_NAME) -> bytes:
    return write_message(item, mail_plan(to=TWO), site(name=name), NOW).split(b"\r\n\r\n", 1)[0]


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: evil@example.net", "x\nBcc: evil@example.net", "x\r\n\r\nbody", "x\x00\x85y"]
)
def test_no_text_can_add_a_header_or_a_line(evil: str) -> None:
    told = replace(notice(name=evil), site_name=evil, cause=evil)
    item = replace(outbox_item(1, told), message_id=evil, thread_id=f"t{evil}")
    head = header_block(item, name=evil)
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    assert b"Bcc" not in names
    assert len(names) == len(set(names)) == 12


def test_an_id_without_brackets_becomes_one_and_stays_the_same_at_every_try() -> None:
    item = replace(outbox_item(), message_id="incident 12/opened")
    assert b"Message-ID: <incident-12-opened@example.vn>" in header_block(item)
    assert header_block(item) == header_block(item)


async def test_the_test_message_goes_through_every_relay_by_itself() -> None:
    good, bad = Behaviour(), Behaviour(data="554 5.7.1 no")
    with refused_port() as dead:
        async with relay_server(good) as port1, relay_server(bad) as port2:
            relays = [plain(port1), plain(dead.port), plain(port2), plain(port1)]
            outcomes = await send_test(mail_plan(relays), site(), NOW)
    assert [(o.relay, o.ok) for o in outcomes] == [
        (f"127.0.0.1:{port1}", True),
        (f"127.0.0.1:{dead.port}", False),
        (f"127.0.0.1:{port2}", False),
        (f"127.0.0.1:{port1}", True),
    ]
    assert outcomes[0].detail == "2.0.0 Ok: queued as TEST1"
    assert outcomes[2].detail == "554 5.7.1 no"
    assert all("THƯ THỬ" in received.message["Subject"] for received in good.received)
    assert len({received.message["Message-ID"] for received in good.received}) == 2
    line = outcome_line(outcomes[2], site(), NOW)
    assert line.startswith(f"FAIL 127.0.0.1:{port2}  06/02/2027 00:10:00  ")
    assert line.endswith("554 5.7.1 no")


async def test_run_delivers_at_once_when_woken() -> None:
    outbox, relay, wake = MemoryOutbox(), Behaviour(), asyncio.Event()
    async with relay_server(relay) as port:
        mail, _ = channel(outbox, [plain(port)])
        task = asyncio.create_task(mail.run(wake))
        await asyncio.sleep(0.01)
        outbox.due[1] = (NOW, outbox_item(1, notice(EventKind.WORSENED)))
        wake.set()
        async with asyncio.timeout(2):
            await outbox.something_sent.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert relay.received[0].message["X-Thongsuot-Event"] == "worsened"
