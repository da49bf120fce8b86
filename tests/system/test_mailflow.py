"""Mailflow against the real postfix and dovecot: a message goes round, and nothing of it is left."""

from __future__ import annotations

import imaplib
import json
import smtplib
import subprocess
from collections.abc import Iterator
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
    with Postfix(certificates.good, users=(USER, SENDER)) as postfix:
        # Two instances: whose users log in to postfix must be up before it.
        with Dovecot(certificates.good, maildirs=postfix.maildirs, users=(USER, SENDER)) as dovecot:
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
    house.postfix.forget_mails()
    print(reading)
