"""The mail probes against the real postfix and dovecot: what a province's mail house answers."""

from __future__ import annotations

import asyncio
import smtplib
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from probes.base import Fault, Reading
from tests.probes.mail_servers import probe
from tests.servers import LOOPBACK, Address, Certificates
from tests.system.servers_mail import Dovecot, Postfix

USER = "truc@tinh.example.vn"


@pytest.fixture
def login(shared_dovecot: Dovecot, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "password"
    file.write_text(f"{shared_dovecot.password}\n", encoding="utf-8")
    return {"username": shared_dovecot.username, "password_file": file}


@pytest.fixture
def wrong_login(shared_dovecot: Dovecot, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "wrong"
    file.write_text("không phải\n", encoding="utf-8")
    return {"username": shared_dovecot.username, "password_file": file}


def send(port: int, subject: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "giam-sat@example.vn", USER, subject
    with smtplib.SMTP(LOOPBACK, port, local_hostname="thu.example.vn") as client:
        client.send_message(mail)


class TestSmtp:
    async def test_starttls_login_and_recipient_and_no_mail_is_left(
        self, shared_postfix: Postfix, certificates: Certificates, login: dict[str, Any]
    ) -> None:
        before = len(shared_postfix.mails())
        reading = await probe(
            "smtp",
            Address("localhost", shared_postfix.port),
            starttls="required",
            min_days_left=1,
            ca_file=certificates.ca_file,
            banner=r"^mail\.tinh\.example\.vn ESMTP Postfix",
            rcpt={"recipient": USER, "sender": "giam-sat@example.vn"},
            **login,
        )
        assert reading.fault is None, reading.detail
        assert reading.values["login_code"] == 235
        assert reading.values["rcpt_code"] == 250
        assert reading.values["size_limit_bytes"] == 10_240_000
        assert {"PIPELINING", "SIZE", "AUTH", "ENHANCEDSTATUSCODES"} <= set(reading.facts["extensions"].split())
        assert reading.facts["starttls"] == "yes"
        assert shared_postfix.queued() == 0
        assert len(shared_postfix.mails()) == before

    async def test_tls_from_the_first_byte(self, shared_postfix: Postfix, certificates: Certificates) -> None:
        address = Address(LOOPBACK, shared_postfix.tls_port)
        good = await probe("smtp", address, tls=True, ca_file=certificates.ca_file)
        assert good.fault is None, good.detail
        assert good.facts["tls_version"].startswith("TLSv1.")
        plain = await probe("smtp", address, timeout_s=1.0)
        assert plain.fault is Fault.PROTOCOL
        assert plain.detail.endswith("set tls: true")

    async def test_a_wrong_password_and_a_strange_recipient_are_refused(
        self, shared_postfix: Postfix, certificates: Certificates, wrong_login: dict[str, Any]
    ) -> None:
        address = Address(LOOPBACK, shared_postfix.port)
        login = await probe("smtp", address, ca_file=certificates.ca_file, **wrong_login)
        assert login.fault is Fault.CONTENT
        assert login.detail.startswith("login refused: 535 5.7.8 ")
        stranger = await probe("smtp", address, starttls="never", rcpt={"recipient": "la@tinh.example.vn"})
        assert stranger.fault is Fault.CONTENT
        assert stranger.detail.startswith("RCPT TO: server answered 550 ")

    async def test_a_server_without_starttls_gets_no_login(self, certificates: Certificates) -> None:
        with Postfix(certificates.good, starttls=False) as server:
            address = Address(LOOPBACK, server.port)
            required = await probe("smtp", address, starttls="required")
            optional = await probe("smtp", address)
            server.kill()
            gone = await probe("smtp", address)
        assert (required.fault, required.detail) == (Fault.TLS, "server does not offer STARTTLS")
        assert optional.fault is None, optional.detail
        assert gone.fault is Fault.REFUSED


class TestMailboxes:
    async def test_a_delivered_mail_is_counted_over_imap_and_pop3(self, certificates: Certificates) -> None:
        with Postfix(certificates.good) as postfix, Dovecot(certificates.good, maildirs=postfix.maildirs) as dovecot:
            send(postfix.port, "một")
            send(postfix.port, "hai")
            postfix.wait_for_mails(2)
            file = dovecot.write("password", f"{dovecot.password}\n", mode=0o600)
            keys = {"username": USER, "password_file": file, "ca_file": certificates.ca_file}
            imap = await self._imap(dovecot, keys, mailbox="INBOX")
            pop3 = await self._pop3(dovecot, keys)
            missing = await self._imap(dovecot, keys, mailbox="Thư đến")
        assert imap.fault is None, imap.detail
        assert imap.values["messages_count"] == 2
        assert imap.facts["greeting"].endswith("Hộp thư công vụ")
        assert pop3.fault is None, pop3.detail
        assert pop3.values["messages_count"] == 2
        assert pop3.values["mailbox_bytes"] > 400
        assert missing.fault is Fault.CONTENT
        assert missing.detail.startswith("mailbox Thư đến refused: NO ")

    @staticmethod
    async def _imap(server: Dovecot, keys: dict[str, Any], **more: Any) -> Reading:
        return await probe("imap", Address("localhost", server.imap_port), starttls="required", **keys, **more)

    @staticmethod
    async def _pop3(server: Dovecot, keys: dict[str, Any]) -> Reading:
        return await probe("pop3", Address("localhost", server.pop3_port), starttls="required", **keys)

    @pytest.mark.parametrize(("kind", "port"), [("imap", "imaps_port"), ("pop3", "pop3s_port")])
    async def test_tls_from_the_first_byte(
        self, kind: str, port: str, shared_dovecot: Dovecot, certificates: Certificates, login: dict[str, Any]
    ) -> None:
        address = Address(LOOPBACK, getattr(shared_dovecot, port))
        good = await probe(kind, address, tls=True, ca_file=certificates.ca_file, **login)
        assert good.fault is None, good.detail
        plain = await probe(kind, address, timeout_s=1.0)
        assert plain.fault is Fault.PROTOCOL
        assert plain.detail.endswith("set tls: true")

    @pytest.mark.parametrize(("kind", "port"), [("imap", "imap_port"), ("pop3", "pop3_port")])
    async def test_a_wrong_password_is_refused(
        self, kind: str, port: str, shared_dovecot: Dovecot, certificates: Certificates, wrong_login: dict[str, Any]
    ) -> None:
        address = Address(LOOPBACK, getattr(shared_dovecot, port))
        reading = await probe(kind, address, ca_file=certificates.ca_file, **wrong_login)
        assert reading.fault is Fault.CONTENT
        assert "[AUTH" in reading.detail
        assert "không phải" not in repr(reading)

    async def test_a_login_that_the_server_forbids_without_tls(
        self, certificates: Certificates, login: dict[str, Any]
    ) -> None:
        with Dovecot(certificates.good, tls_only=True, host="127.0.0.2") as server:
            keys = {"starttls": "never", "plaintext_login": True, **login}
            reading = await probe("imap", Address(server.host, server.imap_port), **keys)
        assert reading.fault is Fault.CONTENT
        assert "LOGINDISABLED" in reading.detail


async def test_an_expired_certificate_is_told_with_its_date_by_all_three(certificates: Certificates) -> None:
    with Postfix(certificates.expired) as postfix, Dovecot(certificates.expired) as dovecot:
        ports = [("smtp", postfix.port), ("imap", dovecot.imap_port), ("pop3", dovecot.pop3_port)]
        readings = await asyncio.gather(
            *(probe(kind, Address(LOOPBACK, port), ca_file=certificates.ca_file) for kind, port in ports)
        )
    for reading in readings:
        assert reading.fault is Fault.TLS
        assert reading.detail.startswith("certificate expired on ")
        assert reading.values["tls_not_after_timestamp_s"] == certificates.expired_at.timestamp()
