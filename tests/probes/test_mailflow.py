"""Mailflow against a mail house in the process: what is found, what is removed, and whose fault it is when it fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Fault, Tools, utc_now
from probes.mailflow import PROBE, Settings, refusal
from probes.mailflow_ledger import MailLedger
from probes.mailflow_message import MARKER, build, new_token
from probes.smtp_dialogue import Reply
from tests.probes.mailflow_house import PASSWORD, House, mail_house
from tests.probes.probing import cancelled_after
from tests.servers import drip_server, endless_line_server, resetting_server, silent_server

LETTER = b"Subject: Lich truc\r\nMessage-ID: <1@example.vn>\r\n\r\n"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with mail_house(tmp_path) as made:
        yield made


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    made = Tools()
    made.put(MailLedger(tmp_path / "mailflow.json"))
    return made


def ours(age_s: float = 0.0) -> bytes:
    return build(new_token(), "a@example.vn", "b@example.vn", "", utc_now() - timedelta(seconds=age_s))


def an_hour_on(tools: Tools, file: Path) -> None:
    """Make the kept times an hour older, and begin anew as a daemon does."""
    kept = json.loads(file.read_text("utf-8"))
    for line in kept["checks"].values():
        line["last"] = line["last"] and line["last"] - 3600
        line["missing"] = [{**sent, "at": sent["at"] - 3600} for sent in line["missing"]]
    file.write_text(json.dumps(kept), "utf-8")
    tools.put(MailLedger(file))


class TestRound:
    async def test_a_message_is_sent_found_timed_and_removed(self, house: House) -> None:
        house.put(LETTER)
        house.delay_s = 0.25
        reading = await house.run()
        assert reading.fault is None, reading.detail
        assert reading.values["sent_count"] == 1
        assert 0.2 < reading.values["delivery_s"] < 0.8
        assert reading.values["looks_count"] >= 2
        assert reading.values["warning_count"] == 0
        assert reading.phases["transfer"] == pytest.approx(reading.values["delivery_s"], abs=0.05)
        assert reading.facts["accepted"] == "2.0.0 Ok: queued as 4F00D"
        assert reading.facts["message_id"].encode() in house.taken[0]
        assert house.subjects() == ["Lich truc"]
        assert reading.detail == ""

    async def test_the_message_goes_from_and_to_whom_it_should_and_no_report_is_wanted(self, house: House) -> None:
        await house.run()
        mail, rcpt = (line for line in house.smtp_heard if line.startswith(("MAIL", "RCPT")))
        assert mail == f"MAIL FROM:<giam-sat@example.vn> SIZE={len(house.taken[0])}"
        assert rcpt == "RCPT TO:<hop-thu@example.vn> NOTIFY=NEVER"

    async def test_a_server_without_extensions_is_asked_for_none(self, house: House) -> None:
        house.ehlo = ()
        assert (await house.run()).fault is None
        assert "MAIL FROM:<giam-sat@example.vn>" in house.smtp_heard
        assert "RCPT TO:<hop-thu@example.vn>" in house.smtp_heard

    async def test_a_server_whose_index_is_behind_is_read_itself(self, house: House) -> None:
        house.put(LETTER)
        house.indexed = False
        reading = await house.run()
        assert reading.fault is None, reading.detail
        assert house.subjects() == ["Lich truc"]

    async def test_a_server_that_cannot_search_headers_is_asked_once(self, house: House) -> None:
        house.delay_s = 0.3
        house.put(LETTER)
        house.searches_headers = False
        reading = await house.run()
        assert reading.fault is None, reading.detail
        assert sum("HEADER Message-ID" in line for line in house.imap_heard) == 1

    async def test_a_search_that_answers_with_everything_harms_nobody(self, house: House) -> None:
        letters = [house.put(LETTER) for _ in range(30)]
        house.finds_everything = True
        reading = await house.run()
        assert reading.fault is None, reading.detail
        assert house.mails == letters

    async def test_without_uidplus_nothing_is_purged(self, house: House) -> None:
        house.put(LETTER).deleted = True
        house.capabilities = b"IMAP4rev1 AUTH=PLAIN SASL-IR"
        reading = await house.run()
        assert reading.fault is None
        assert not reading.warned
        assert reading.detail == "removed messages are only marked as deleted, for the server has no UIDPLUS"
        assert [mail.deleted for mail in house.mails] == [True, True]
        assert not any("EXPUNGE" in line or "CLOSE" in line for line in house.imap_heard)

    async def test_a_message_that_may_not_be_removed_is_a_warning(self, house: House) -> None:
        house.answers["UID STORE"] = b"%t NO [NOPERM] not yours\r\n"
        reading = await house.run()
        assert reading.fault is None
        assert reading.warned
        assert reading.detail == "it could not be removed: NO [NOPERM] not yours"


class TestLeftovers:
    async def test_old_ones_of_any_monitor_go_and_young_ones_stay(self, house: House) -> None:
        house.put(LETTER)
        house.put(ours(age_s=4000))
        young = house.put(ours(age_s=100))
        house.put(f"{MARKER}: something else\r\n\r\n".encode())
        reading = await house.run()
        assert reading.fault is None, reading.detail
        assert reading.values["leftovers_count"] == 1
        assert young in house.mails
        assert len(house.mails) == 3

    async def test_a_full_mailbox_is_cleared_bit_by_bit(self, house: House) -> None:
        for _ in range(50):
            house.put(ours(age_s=4000))
        reading = await house.run()
        assert reading.values["leftovers_count"] == 20
        assert len(house.mails) == 30

    async def test_a_message_id_of_our_form_alone_is_not_removed(self, house: House) -> None:
        house.put(f"Message-ID: <{new_token()}@example.vn>\r\nX-Thongsuot-Mailflow: \r\n\r\n".encode())
        house.finds_everything = True
        await house.run()
        assert len(house.mails) == 1


class TestPause:
    async def test_sooner_than_the_pause_nothing_is_sent_and_both_sides_are_asked(
        self, house: House, tools: Tools
    ) -> None:
        assert (await house.run(tools)).values["sent_count"] == 1
        second = await house.run(tools)
        assert second.fault is None
        assert second.values["sent_count"] == 0
        assert second.detail.startswith("no message sent: the one before was sent 0 s ago, at least 60 s apart")
        assert len(house.taken) == 1
        assert house.smtp_heard[-2:] == ["RSET", "QUIT"]

    async def test_the_pause_outlives_a_restart_and_ends(self, house: House, tools: Tools, tmp_path: Path) -> None:
        await house.run(tools)
        tools.put(MailLedger(tmp_path / "mailflow.json"))
        assert (await house.run(tools)).values["sent_count"] == 0
        an_hour_on(tools, tmp_path / "mailflow.json")
        assert (await house.run(tools)).values["sent_count"] == 1
        assert len(house.taken) == 2

    async def test_a_second_look_finds_what_came_late_and_says_so(self, house: House, tools: Tools) -> None:
        house.delay_s = 1.5
        first = await house.run(tools, timeout_s=2.0)
        assert first.fault is Fault.TIMEOUT
        second = await house.run(tools)
        assert second.fault is None, second.detail
        assert second.warned
        assert second.detail.startswith("the message before came late: found after ")
        assert second.values["delivery_s"] > 1.2
        assert second.values["sent_count"] == 0
        assert len(house.taken) == 1
        assert house.mails == []

    async def test_a_second_look_in_vain_is_the_same_fault_without_a_second_message(
        self, house: House, tools: Tools
    ) -> None:
        house.delay_s = None
        await house.run(tools, timeout_s=2.0)
        second = await house.run(tools, timeout_s=2.0)
        assert second.fault is Fault.TIMEOUT
        assert "(2.0.0 Ok: queued as 4F00D), still not in INBOX after " in second.detail
        assert len(house.taken) == 1

    async def test_what_came_after_the_last_look_is_removed_by_the_next_message_s_run(
        self, house: House, tools: Tools, tmp_path: Path
    ) -> None:
        house.delay_s = None
        await house.run(tools, timeout_s=2.0)
        an_hour_on(tools, tmp_path / "mailflow.json")
        house.put(house.taken[0])
        house.delay_s = 0.0
        reading = await house.run(tools)
        assert reading.fault is None, reading.detail
        assert reading.values["leftovers_count"] == 1
        assert reading.values["sent_count"] == 1
        assert reading.facts["late"].endswith(" UTC came after its run had ended")
        assert house.mails == []
        assert await tools.of(MailLedger).missing(_key(house)) == ()

    async def test_a_message_lost_long_ago_is_not_held_against_the_house(
        self, house: House, tools: Tools, tmp_path: Path
    ) -> None:
        house.delay_s = None
        await house.run(tools, timeout_s=2.0)
        an_hour_on(tools, tmp_path / "mailflow.json")
        house.delay_s = 0.0
        assert (await house.run(tools)).values["sent_count"] == 1
        tools.put(MailLedger(tmp_path / "mailflow.json"))
        third = await house.run(tools)
        assert third.fault is None, third.detail
        assert third.detail.startswith("no message sent")

    async def test_a_refused_message_takes_up_no_pause(self, house: House, tools: Tools) -> None:
        house.replies["MESSAGE"] = b"451 4.3.0 queue file write error\r\n"
        assert (await house.run(tools)).fault is Fault.CONTENT
        del house.replies["MESSAGE"]
        assert (await house.run(tools)).values["sent_count"] == 1

    async def test_a_message_whose_answer_was_lost_is_looked_for(self, house: House, tools: Tools) -> None:
        house.replies["MESSAGE"] = b""
        first = await house.run(tools)
        assert first.fault is Fault.REFUSED
        assert first.detail == "sending: the server closed the connection after the message"
        second = await house.run(tools)
        assert second.fault is None, second.detail
        assert second.values["sent_count"] == 0
        assert house.mails == []

    async def test_what_cannot_be_noted_is_not_sent(self, house: House, tmp_path: Path) -> None:
        tools = Tools()
        tools.put(MailLedger(tmp_path / "no" / "mailflow.json"))
        reading = await house.run(tools)
        assert reading.fault is Fault.LOCAL
        assert "cannot be kept" in reading.detail
        assert house.taken == []

    async def test_a_cancelled_run_leaves_its_message_to_the_next(self, house: House, tools: Tools) -> None:
        house.delay_s = 0.2
        task = asyncio.create_task(house.run(tools))
        await house.took.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        second = await house.run(tools)
        assert second.fault is None, second.detail
        assert house.mails == []
        assert len(house.taken) == 1


def _key(house: House) -> str:
    return f" {house.keys['send']['host']}:{house.keys['send']['port']} {house.keys['recipient']}"


class TestFaults:
    @pytest.mark.parametrize(
        ("command", "reply", "detail"),
        [
            ("BANNER", b"554 go away\r\n", "sending: server answered 554 go away, expected 220"),
            ("MAIL", b"550 5.7.1 no\r\n", "sending: MAIL FROM: refused: server answered 550 5.7.1 no"),
            (
                "RCPT",
                b"450 4.2.0 Greylisted, try later\r\n",
                "sending: RCPT TO: put off by greylisting: server answered 450 4.2.0 Greylisted, try later",
            ),
            (
                "RCPT",
                b"552 5.2.2 Mailbox full\r\n",
                "sending: RCPT TO: the recipient's mailbox is full: server answered 552 5.2.2 Mailbox full",
            ),
            ("DATA", b"503 5.5.1 no\r\n", "sending: DATA: refused: server answered 503 5.5.1 no"),
            (
                "MESSAGE",
                b"554 5.7.1 spam\r\n",
                "sending: the message: refused: server answered 554 5.7.1 spam",
            ),
        ],
    )
    async def test_a_refusal_names_the_sending_side_and_its_kind(
        self, house: House, command: str, reply: bytes, detail: str
    ) -> None:
        house.replies[command] = reply
        reading = await house.run()
        assert (reading.fault, reading.detail) == (Fault.CONTENT, detail)
        assert reading.values["sent_count"] == 0
        assert house.mails == []

    @pytest.mark.parametrize(
        ("code", "text", "kind"),
        [
            (452, b"4.2.2 over quota", "the recipient's mailbox is full"),
            (552, b"too much", "the recipient's mailbox is full"),
            (552, b"5.3.4 message too big", "refused"),
            (451, b"4.7.1 come back", "put off by greylisting"),
            (421, b"busy", "put off for later (greylisting, or trouble that may pass)"),
            (550, b"5.1.1 unknown", "refused"),
            (250, b"", "refused"),  # where 354 was due
        ],
    )
    def test_a_reply_tells_its_kind(self, code: int, text: bytes, kind: str) -> None:
        assert refusal(Reply(code, (text,))) == kind

    async def test_a_message_that_does_not_come_is_told_with_who_accepted_it_and_when(self, house: House) -> None:
        house.delay_s = None
        reading = await house.run(timeout_s=2.0)
        assert reading.fault is Fault.TIMEOUT
        assert reading.detail.startswith(f"delivery: accepted by 127.0.0.1 at {utc_now():%Y-%m-%d %H:}")
        assert "UTC (2.0.0 Ok: queued as 4F00D), not in INBOX after 1." in reading.detail
        assert reading.values["sent_count"] == 1
        assert reading.phases["transfer"] > 1

    async def test_a_full_quota_explains_it(self, house: House) -> None:
        house.delay_s = None
        house.capabilities += b" QUOTA"
        quota = b'* QUOTAROOT "INBOX" "u"\r\n* QUOTA "u" (STORAGE 512 512 MESSAGE 3 1000)\r\n%t OK\r\n'
        house.answers["GETQUOTAROOT"] = quota
        reading = await house.run(timeout_s=2.0)
        assert reading.detail.endswith("; its quota is used up (STORAGE 512 of 512)")

    @pytest.mark.parametrize(
        ("command", "answer", "detail"),
        [
            ("GREETING", b"* BYE overloaded\r\n", "finding: server answered * BYE overloaded, expected * OK"),
            (
                "AUTHENTICATE",
                b"%t NO [AUTHENTICATIONFAILED] no\r\n",
                "finding: login refused: NO [AUTHENTICATIONFAILED] no",
            ),
            ("SELECT", b"%t NO [NONEXISTENT] none\r\n", "finding: mailbox INBOX refused: NO [NONEXISTENT] none"),
            (
                "SELECT",
                b"* 0 EXISTS\r\n%t OK [READ-ONLY] done\r\n",
                "finding: mailbox INBOX is read-only for this user: no message could be removed",
            ),
        ],
    )
    async def test_trouble_of_the_finding_side_is_found_before_anything_is_sent(
        self, house: House, command: str, answer: bytes, detail: str
    ) -> None:
        house.answers[command] = answer
        reading = await house.run()
        assert (reading.fault, reading.detail) == (Fault.CONTENT, detail)
        assert house.smtp_heard == []

    @pytest.mark.parametrize(
        ("answer", "fault", "detail"),
        [
            (b"", Fault.REFUSED, "finding: the server closed the connection after NOOP"),
            (b"x9 OK\r\n", Fault.PROTOCOL, "finding: an answer out of turn came after NOOP: x9 OK"),
            (
                b"* OK {99999999}\r\n",
                Fault.PROTOCOL,
                "finding: a literal of 99999999 bytes came, at most 8192 are read",
            ),
            (b"* 1 EXISTS\r\n" * 101, Fault.PROTOCOL, "finding: more than 100 lines came after NOOP"),
            (b"a" * 9000 + b"\r\n", Fault.PROTOCOL, "finding: a line longer than 8192 bytes came after NOOP"),
            (b"%t BAD no\r\n", Fault.CONTENT, "finding: NOOP: server answered a"),
            (b"* BYE going down\r\n", Fault.CONTENT, "finding: the server ended the session after NOOP: * BYE going"),
        ],
    )
    async def test_a_mailbox_that_fails_while_it_is_watched_is_a_named_fault(
        self, house: House, answer: bytes, fault: Fault, detail: str
    ) -> None:
        house.answers["NOOP"] = answer
        reading = await house.run()
        assert reading.fault is fault
        assert reading.detail.startswith(detail)

    async def test_a_mailbox_that_falls_silent_is_told_with_its_command(self, house: House) -> None:
        house.answers["UID FETCH"] = b"* OK working\r\n"
        house.put(ours(4000))
        reading = await house.run(timeout_s=1.5)
        assert reading.fault is Fault.TIMEOUT
        assert reading.detail.startswith("finding: no complete answer to UID FETCH within 1.5 s")

    async def test_no_secret_is_ever_told(self, house: House) -> None:
        house.answers["AUTHENTICATE"] = f"%t NO {PASSWORD}\r\n".encode()
        assert PASSWORD not in repr(await house.run())


class TestHostile:
    @pytest.mark.parametrize("side", ["send", "find"])
    async def test_whatever_a_server_does_the_end_comes_in_time_and_names_the_side(
        self, house: House, side: str
    ) -> None:
        servers = {
            "silent": silent_server(),
            "drip": drip_server(b"220 " + b"x" * 100, every_s=0.2),
            "endless": endless_line_server(b"220 "),
            "reset": resetting_server(),
        }
        for name, server in servers.items():
            async with server as address:
                keys = {**house.keys[side], "host": address.host, "port": address.port}
                began = time.perf_counter()
                changed: dict[str, Any] = {side: keys}
                reading = await house.run(timeout_s=1.0, **changed)
            assert time.perf_counter() - began < 1.2, name
            assert reading.fault in (Fault.TIMEOUT, Fault.PROTOCOL, Fault.REFUSED), name
            assert reading.detail.startswith({"send": "sending: ", "find": "finding: "}[side]), reading.detail

    @pytest.mark.parametrize(
        ("reply", "fault", "detail"),
        [
            (b"250-more\r\n" * 101, Fault.PROTOCOL, "more than 100 lines came after the message"),
            (b"250 " + b"x" * 9000 + b"\r\n", Fault.PROTOCOL, "a line longer than 8192 bytes came after the message"),
            (b"250-a\r\n550 b\r\n", Fault.PROTOCOL, "codes 250 and 550 came in one answer"),
            (b"xyz\r\n", Fault.PROTOCOL, "the answer to the message is not SMTP: xyz"),
            (b"250-and then nothing\r\n", Fault.TIMEOUT, "no complete answer to the message within "),
        ],
    )
    async def test_an_answer_to_the_message_that_is_none_leaves_it_to_be_looked_for(
        self, house: House, tools: Tools, reply: bytes, fault: Fault, detail: str
    ) -> None:
        house.replies["MESSAGE"] = reply
        house.delay_s = None
        reading = await house.run(tools, timeout_s=1.0)
        assert reading.fault is fault
        assert reading.detail.startswith(f"sending: {detail}")
        pending = await tools.of(MailLedger).pending(_key(house))
        assert pending is not None
        assert pending.taken == ""

    async def test_a_server_that_nobody_listens_at_is_refused_with_its_side(self, house: House) -> None:
        async with silent_server() as address:
            keys = {**house.keys["send"], "port": address.port}
        reading = await house.run(send=keys)
        assert reading.fault is Fault.REFUSED
        assert reading.detail.startswith("sending: Connection refused")

    async def test_it_can_be_cancelled(self) -> None:
        async with silent_server() as address:
            there: dict[str, Any] = {"host": address.host, "port": address.port}
            login = {"username": "u", "password_env": "HOME"}
            await cancelled_after(PROBE, 0.05, send=there, find={**there, **login}, sender="a@b.vn", recipient="a@b.vn")


class TestSettings:
    def settings(self, **changes: Any) -> Settings:
        keys: dict[str, Any] = {
            "send": {"host": "mail.example.vn"},
            "find": {"host": "mail.example.vn", "username": "u", "password_file": "/p"},
            "sender": "a@example.vn",
            "recipient": "b@example.vn",
        }
        return Settings.model_validate_json(json.dumps({**keys, **changes}))

    def test_the_usual_ones_leave_room_for_delivery(self) -> None:
        settings = self.settings()
        assert settings.find.mailbox == "INBOX"
        assert PROBE.least_timeout_s(settings) == settings.within + 10 < PROBE.default_timeout_s
        assert PROBE.least_every_s(settings) == 60
        assert PROBE.least_every_s(self.settings(within="5m")) == 310
        assert PROBE.least_every_s(self.settings(least_every="5m")) == 300
        assert settings.endpoint() == "mail.example.vn"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"least_every": "59s"}, "greater than or equal to 60"),
            ({"find": {"host": "h"}}, "a mailbox needs username"),
            ({"recipient": "nobody"}, "expected an address like"),
            ({"sender": ""}, "expected an address like"),
            ({"sender": "a@b.vn>\r\nRCPT TO:<c@d.vn"}, "expected an address like"),
            (
                {"send": {"host": "h", "starttls": "never", "username": "u", "password_file": "/p"}},
                "credentials over plain text need plaintext_login: true",
            ),
            ({"within": "2h"}, "less than or equal to 3600"),
        ],
    )
    def test_wrong_ones_are_refused(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            self.settings(**changes)
