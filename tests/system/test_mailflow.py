"""Mailflow against the real postfix and dovecot: a message goes round, and nothing of it is left."""

from __future__ import annotations

import imaplib
import json
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from probes.base import Fault, Reading, Tools, utc_now
from probes.mailflow import PROBE
from probes.mailflow_ledger import MailLedger
from probes.mailflow_message import build, new_token
from tests.probes.probing import run_probe
from tests.servers import LOOPBACK, Certificates
from tests.system.servers_mail import Dovecot, Postfix

USER = "truc@tinh.example.vn"
SENDER = "giam-sat@tinh.example.vn"


class House:
    """postfix and dovecot over the same mailboxes."""

    def __init__(self, postfix: Postfix, dovecot: Dovecot, keys: dict[str, Any]) -> None:
        self.postfix = postfix
        self.dovecot = dovecot
        self.keys = keys

    async def run(self, tools: Tools | None = None, timeout_s: float = 20.0, **changes: Any) -> Reading:
        keys = {**self.keys, **changes}
        return await run_probe(PROBE, timeout_s=timeout_s, tools=tools, **keys)

    def give(self, raw: bytes) -> None:
        before = len(self.postfix.mails(USER))
        with smtplib.SMTP(LOOPBACK, self.postfix.port, local_hostname="thu.example.vn") as client:
            client.sendmail(SENDER, [USER], raw)
        self.postfix.wait_for_mails(before + 1, user=USER)

    def mark_deleted(self, number: str) -> None:
        """Mark a message as somebody's mail program does, and purge nothing."""
        with imaplib.IMAP4(LOOPBACK, self.dovecot.imap_port, timeout=5) as client:
            client.authenticate("PLAIN", lambda _: f"\0{USER}\0{self.dovecot.password}".encode())
            client.select("INBOX")
            client.store(number, "+FLAGS", r"(\Deleted)")


@pytest.fixture(scope="module")
def house(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Mail house of these tests alone: messages come and go in it."""
    folder = tmp_path_factory.mktemp("mailflow")
    file = folder / "password"
    with (
        Postfix(certificates.good, users=(USER, SENDER)) as postfix,
        Dovecot(certificates.good, maildirs=postfix.maildirs, users=(USER, SENDER)) as dovecot,
    ):
        file.write_text(dovecot.password + "\n", encoding="utf-8")
        ca = str(certificates.ca_file)
        keys = {
            "send": {"host": "localhost", "port": postfix.port, "starttls": "required", "ca_file": ca},
            "find": {
                "host": "localhost",
                "port": dovecot.imaps_port,
                "tls": True,
                "ca_file": ca,
                "username": USER,
                "password_file": str(file),
            },
            "sender": SENDER,
            "recipient": USER,
            "within": "8s",
        }
        yield House(postfix, dovecot, keys)


async def test_a_message_goes_round_and_is_removed_alone(house: House) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = SENDER, USER, "Lịch trực Tết"
    letter.set_content("Xin xem kèm theo.\n")
    house.give(letter.as_bytes())
    house.mark_deleted("1")
    reading = await house.run()
    assert reading.fault is None, reading.detail
    assert reading.values["sent_count"] == 1
    assert 0 < reading.values["delivery_s"] < 5
    assert [m["Subject"] for m in house.postfix.mails(USER)] == ["Lịch trực Tết"]
    assert reading.values["warning_count"] == 0  # dovecot has UIDPLUS, and says so only after the login
    assert "queued as" in reading.facts["accepted"]
    assert (reading.facts["starttls"], reading.facts["mailbox_starttls"]) == ("yes", "no")
    assert reading.values["mailbox_tls_not_after_timestamp_s"] > utc_now().timestamp()
    house.postfix.forget_mails()


async def test_a_message_that_waits_in_the_queue_is_missing_then_late_and_never_sent_twice(
    house: House, tmp_path: Path
) -> None:
    tools = Tools()
    tools.put(MailLedger(tmp_path / "mailflow.json"))
    assert (await house.run()).fault is None  # from then on there is a Maildir
    incoming = house.postfix.maildirs / "tinh.example.vn" / "truc" / "tmp"
    incoming.chmod(0o500)
    first = await house.run(tools, timeout_s=11.5, within="1s")
    assert first.fault is Fault.TIMEOUT
    assert re.fullmatch(
        r"delivery: accepted by localhost at \S+ \S+ UTC \(2\.0\.0 Ok: queued as \w+\), not in INBOX after 1(\.\d+)? s",
        first.detail,
    )
    incoming.chmod(0o700)
    tools.put(MailLedger(tmp_path / "mailflow.json"))  # as after a restart
    second = await house.run(tools, within="10s")
    assert second.fault is None, second.detail
    assert second.warned
    assert second.detail.startswith("the message before came late: found after ")
    assert second.values["sent_count"] == 0
    assert house.postfix.mails(USER) == []
    assert house.postfix.queued() == 0


async def test_leftovers_of_a_killed_monitor_are_cleared(house: House) -> None:
    old = utc_now() - timedelta(hours=2)
    house.give(build(new_token(), SENDER, USER, "mail.thu", old))
    house.give(build(new_token(), SENDER, USER, "mail.thu", utc_now()))
    reading = await house.run()
    assert reading.fault is None, reading.detail
    assert reading.values["leftovers_count"] == 1
    assert len(house.postfix.mails(USER)) == 1
    house.postfix.forget_mails()


async def test_a_strange_recipient_a_wrong_password_and_a_missing_mailbox_say_which_side(
    house: House, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("không phải\n", encoding="utf-8")
    find = house.keys["find"]
    stranger = await house.run(recipient="ai-do@tinh.example.vn")
    login = await house.run(find={**find, "password_file": str(wrong)})
    mailbox = await house.run(find={**find, "mailbox": "Giám sát"})
    assert {r.fault for r in (stranger, login, mailbox)} == {Fault.CONTENT}
    assert stranger.detail.startswith("sending: RCPT TO: refused: server answered 550 5.1.1 ")
    assert login.detail.startswith("finding: login refused: NO [AUTHENTICATIONFAILED]")
    assert mailbox.detail.startswith("finding: mailbox Giám sát refused: NO ")
    assert "không phải" not in repr(login)
    assert house.postfix.mails(USER) == []


async def test_a_login_on_both_sides(
    shared_postfix: Postfix, shared_dovecot: Dovecot, certificates: Certificates, tmp_path: Path
) -> None:
    # This postfix and this dovecot have mailboxes apart: the message is accepted, and cannot come.
    file = tmp_path / "password"
    file.write_text(shared_dovecot.password + "\n", encoding="utf-8")
    login = {"username": USER, "password_file": str(file), "ca_file": str(certificates.ca_file)}
    reading = await run_probe(
        PROBE,
        timeout_s=11.5,
        send={"host": "localhost", "port": shared_postfix.port, "starttls": "required", **login},
        find={"host": "localhost", "port": shared_dovecot.imap_port, "starttls": "required", **login},
        sender=SENDER,
        recipient=USER,
        within="1s",
    )
    shared_postfix.forget_mails()
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail.startswith("delivery: accepted by localhost at ")
    assert reading.values["login_code"] == 235
    assert reading.facts["mailbox_starttls"] == "yes"


def test_a_duty_officer_asks_by_hand(house: House) -> None:
    words = [f"{side}.{key}={value}" for side in ("send", "find") for key, value in house.keys[side].items()]
    words += [f"{key}={house.keys[key]}" for key in ("sender", "recipient", "within")]
    done = subprocess.run(
        [sys.executable, "-m", "thongsuot", "probe", "mailflow", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["values"]["delivery_s"] > 0
    assert house.postfix.mails(USER) == []
