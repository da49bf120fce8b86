"""SMTP against aiosmtpd where a whole server is wanted, against scripted bytes where it has to misbehave."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from aiosmtpd.smtp import Session as ServerSession
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.base import Fault
from probes.smtp_dialogue import parse_extensions, parse_reply_line, size_limit
from tests.probes.mail_servers import PASSWORD, answering, password_file, probe, settings_of, smtp_script
from tests.servers import Address, Certificates

USER = "giam-sat"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class House:
    """A mail house with one mailbox, which counts the mails it gets."""

    def __init__(self) -> None:
        self.mails = 0
        self.helos: list[str] = []

    async def handle_EHLO(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: ServerSession, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.helos.append(hostname)
        return responses

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: ServerSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address != "truc@example.vn":
            return "550 5.1.1 Không có hộp thư này"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: ServerSession, envelope: Envelope) -> str:  # noqa: N802
        self.mails += 1
        return "250 Ok"


def _authenticate(server: SMTP, session: ServerSession, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    known = data.login == USER.encode() and data.password == PASSWORD.encode()
    return AuthResult(success=known, handled=False)


@asynccontextmanager
async def mail_house(certificates: Certificates, **keys: Any) -> AsyncIterator[tuple[House, Address]]:
    house = House()
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            house,
            hostname="mail.example.vn",
            loop=loop,
            enable_SMTPUTF8=True,
            tls_context=certificates.good.server_context(),
            authenticator=_authenticate,
            auth_require_tls=True,
            **keys,
        )

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        yield house, Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


async def test_a_whole_session_with_starttls_login_and_recipient(
    certificates: Certificates, tmp_path: FilePath
) -> None:
    async with mail_house(certificates, data_size_limit=10_240_000) as (house, address):
        reading = await probe(
            "smtp",
            address,
            starttls="required",
            ca_file=certificates.ca_file,
            banner="mail[.]example[.]vn",
            username=USER,
            password_file=password_file(tmp_path),
            rcpt={"recipient": "truc@example.vn", "sender": "giam-sat@example.vn"},
        )
    assert reading.fault is None, reading.detail
    assert reading.values["banner_code"] == 220
    assert reading.values["login_code"] == 235
    assert reading.values["rcpt_code"] == 250
    assert reading.values["size_limit_bytes"] == 10_240_000
    assert {"SIZE", "AUTH"} <= set(reading.facts["extensions"].split())
    assert reading.facts["starttls"] == "yes"
    assert set(reading.phases) == {"resolve", "connect", "tls", "processing"}
    assert house.mails == 0
    assert house.helos == ["[127.0.0.1]", "[127.0.0.1]"]


async def test_a_wrong_password_is_refused(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THONGSUOT_TEST_PASSWORD", "mật khẩu sai")
    async with mail_house(certificates) as (_, address):
        reading = await probe(
            "smtp",
            address,
            ca_file=certificates.ca_file,
            username=USER,
            password_env="THONGSUOT_TEST_PASSWORD",
        )
    assert reading.fault is Fault.CONTENT
    assert reading.detail.startswith("login refused: 535 ")
    assert reading.values["login_code"] == 535


@pytest.mark.parametrize(
    ("codes", "fault"), [((250, 251), Fault.CONTENT), ((550,), None)], ids=["expected", "refusal-expected"]
)
async def test_a_recipient_is_held_against_the_expected_codes(
    codes: tuple[int, ...], fault: Fault | None, certificates: Certificates
) -> None:
    async with mail_house(certificates) as (_, address):
        reading = await probe(
            "smtp", address, starttls="never", rcpt={"recipient": "la@example.vn", "codes": list(codes)}
        )
    assert reading.fault is fault, reading.detail
    assert reading.values["rcpt_code"] == 550
    if fault:
        assert reading.detail == "RCPT TO: server answered 550 5.1.1 Không có hộp thư này, expected 250 or 251"


async def test_a_recipient_is_asked_about_and_the_transaction_reset() -> None:
    async with answering("smtp") as (script, address):
        reading = await probe("smtp", address, starttls="never", rcpt={"recipient": "truc@example.vn"}, helo="a.vn")
    assert reading.fault is None, reading.detail
    assert [line for _, line in script.heard] == [
        b"EHLO a.vn",
        b"MAIL FROM:<>",
        b"RCPT TO:<truc@example.vn>",
        b"RSET",
        b"QUIT",
    ]


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (b"421 4.3.2 Service shutting down\r\n", 421),
        (b"554 5.7.1 Kh\xc3\xb4ng ti\xe1\xba\xbfp\r\n", 554),
        (b"250 well\r\n", 250),
    ],
)
async def test_a_greeting_that_is_no_welcome_is_quoted(greeting: bytes, code: int) -> None:
    async with answering("smtp", greeting=greeting) as (script, address):
        reading = await probe("smtp", address)
    assert reading.fault is Fault.CONTENT
    assert reading.detail == f"server answered {greeting.decode().strip()}, expected 220"
    assert reading.values["banner_code"] == code
    assert script.commands() == [b"QUIT"]


async def test_a_greeting_on_several_lines_is_read_whole() -> None:
    async with answering("smtp", greeting=b"220-Xin \r\n220-cho\r\n220 mail.example.vn ESMTP\r\n") as (_, address):
        good = await probe("smtp", address, starttls="never", banner="(?m)^mail[.]example")
        bad = await probe("smtp", address, starttls="never", banner="Postfix")
    assert good.fault is None, good.detail
    assert good.facts["banner"] == "Xin cho mail.example.vn ESMTP"
    assert bad.fault is Fault.CONTENT
    assert bad.detail.endswith("expected it to match Postfix")


async def test_codes_that_disagree_are_not_smtp() -> None:
    async with answering("smtp", greeting=b"220-one\r\n554 two\r\n") as (_, address):
        reading = await probe("smtp", address)
    assert (reading.fault, reading.detail) == (Fault.PROTOCOL, "codes 220 and 554 came in one answer")


async def test_an_old_server_is_asked_with_helo() -> None:
    async with answering("smtp", answers={b"HELO": b"250 mail\r\n", b"QUIT": b"221\r\n"}) as (script, address):
        reading = await probe("smtp", address)
    assert reading.fault is None, reading.detail
    assert script.commands() == [b"EHLO", b"HELO", b"QUIT"]


async def test_a_refused_ehlo_is_a_wrong_answer() -> None:
    async with answering("smtp", answers={b"EHLO": b"550 5.7.1 Go away\r\n"}) as (_, address):
        reading = await probe("smtp", address)
    assert (reading.fault, reading.detail) == (
        Fault.CONTENT,
        "EHLO: server answered 550 5.7.1 Go away, expected 250",
    )


@pytest.mark.parametrize(
    ("offered", "heard"),
    [
        (b"AUTH LOGIN", [b"AUTH LOGIN", base64.b64encode(USER.encode()), base64.b64encode(PASSWORD.encode())]),
        (b"AUTH=LOGIN", [b"AUTH LOGIN", base64.b64encode(USER.encode()), base64.b64encode(PASSWORD.encode())]),
        (b"AUTH CRAM-MD5 plain", [b"AUTH PLAIN " + base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())]),
    ],
)
async def test_the_login_follows_what_is_offered(offered: bytes, heard: list[bytes], tmp_path: FilePath) -> None:
    turns = dict.fromkeys((b.upper() for b in heard), b"334 \r\n")
    answers = {
        **smtp_script().answers,
        **turns,
        b"EHLO": b"250-mail\r\n250 " + offered + b"\r\n",
        b"AUTH": b"334 VXNlcm5hbWU6\r\n" if len(heard) > 1 else b"235 ok\r\n",
        heard[-1].upper(): b"235 ok\r\n",
    }
    async with answering("smtp", answers=answers) as (script, address):
        reading = await probe(
            "smtp", address, plaintext_login=True, username=USER, password_file=password_file(tmp_path)
        )
    assert reading.fault is None, reading.detail
    assert [line for _, line in script.heard][1:-1] == heard


async def test_a_very_long_login_waits_for_the_servers_go_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "x" * 600
    monkeypatch.setenv("THONGSUOT_TEST_PASSWORD", secret)
    message = base64.b64encode(f"\0{USER}\0{secret}".encode())
    answers = {
        **smtp_script().answers,
        b"EHLO": b"250-mail\r\n250 AUTH PLAIN\r\n",
        b"AUTH": b"334 \r\n",
        message.upper(): b"235 ok\r\n",
    }
    async with answering("smtp", answers=answers) as (script, address):
        reading = await probe(
            "smtp", address, plaintext_login=True, username=USER, password_env="THONGSUOT_TEST_PASSWORD"
        )
    assert reading.fault is None, reading.detail
    assert (False, message) in script.heard


async def test_a_server_without_a_known_login_says_what_it_offers(tmp_path: FilePath) -> None:
    answers = {**smtp_script().answers, b"EHLO": b"250-mail\r\n250 AUTH CRAM-MD5\r\n"}
    async with answering("smtp", answers=answers) as (_, address):
        reading = await probe(
            "smtp", address, plaintext_login=True, username=USER, password_file=password_file(tmp_path)
        )
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "server offers no login by PLAIN or LOGIN (offered: CRAM-MD5)"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"banner": "("}, "not a valid regular expression"),
        ({"helo": "a b"}, "String should match pattern"),
        ({"rcpt": {"recipient": "a@b.vn>\r\nDATA"}}, "expected an address like"),
        ({"rcpt": {"recipient": "trực@example.vn"}}, "expected an address like"),
        ({"rcpt": {"recipient": "a@b.vn", "sender": "x"}}, "expected an address like"),
        ({"rcpt": {"recipient": "a@b.vn", "codes": []}}, "at least 1 item"),
        ({"rcpt": {"recipient": "a@b.vn", "code": [250]}}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of("smtp", Address("mail.example.vn", 25), **keys)


@given(st.integers(200, 559).filter(lambda c: c // 10 % 10 < 6), st.booleans(), st.binary(max_size=80))
def test_a_reply_line_reads_as_it_was_written(code: int, more: bool, text: bytes) -> None:
    assert parse_reply_line(b"%d%s%s" % (code, b"-" if more else b" ", text)) == (code, more, text)


@given(st.binary(max_size=80))
@example(b"220")
@example(b"199 a")
@example(b"600 a")
@example(b"260 a")
@example(b"220_a")
def test_any_bytes_are_a_reply_line_or_refused(line: bytes) -> None:
    try:
        code, more, text = parse_reply_line(line)
    except ValueError:
        return
    assert 200 <= code <= 559
    assert line.startswith(str(code).encode())
    assert line.endswith(text)
    assert more == (line[3:4] == b"-")


@given(st.lists(st.binary(max_size=60), max_size=120))
def test_any_lines_are_extensions_or_left_out(texts: list[bytes]) -> None:
    found = parse_extensions(texts)
    assert len(found) <= 64
    assert all(keyword == keyword.upper() and keyword.isascii() for keyword in found)
    limit = size_limit(found)
    assert limit is None or limit > 0


def test_extensions_are_read_with_their_parameters() -> None:
    texts = [b"mail.example.vn", b"SIZE 10240000", b"8BITMIME", b"auth PLAIN", b"AUTH=LOGIN", b"Xin ch\xc3\xa0o b"]
    found = parse_extensions(texts)
    assert found == {"SIZE": "10240000", "8BITMIME": "", "AUTH": "PLAIN LOGIN", "XIN": "chào b"}
    assert size_limit(found) == 10_240_000
    assert size_limit({"SIZE": "0"}) is None
    assert size_limit({"SIZE": "lớn"}) is None
