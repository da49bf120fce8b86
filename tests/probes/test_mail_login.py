"""A login in smtp, imap and pop3: under TLS alone, never repeated in anything we say."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from probes.base import DETAIL_LIMIT, Fault
from probes.mail_dialogue import LEAK_LENGTH, all_forms, quote, repeats_secret
from tests.probes.mail_servers import LOGIN_WORDS, PASSWORD, SCRIPTS, answering, password_file, probe
from tests.servers import Certificates, byte_server

each_kind = pytest.mark.parametrize("kind", tuple(SCRIPTS))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@each_kind
async def test_a_login_over_starttls_goes_inside_tls_alone(
    kind: str, certificates: Certificates, tmp_path: FilePath
) -> None:
    async with answering(kind, starttls=certificates.good.server_context()) as (script, address):
        reading = await probe(
            kind,
            address,
            ca_file=certificates.ca_file,
            username="giam-sat",
            password_file=password_file(tmp_path),
        )
    assert reading.fault is None, reading.detail
    assert LOGIN_WORDS & set(script.commands(inside=True))
    assert not LOGIN_WORDS & set(script.commands(inside=False))
    assert PASSWORD not in repr(reading)


@each_kind
async def test_without_tls_no_login_is_sent_although_starttls_is_optional(kind: str, tmp_path: FilePath) -> None:
    script = SCRIPTS[kind]()
    async with answering(kind, answers={**script.answers, **script.inside}) as (heard, address):
        reading = await probe(kind, address, username="giam-sat", password_file=password_file(tmp_path))
    assert reading.fault is Fault.TLS
    assert reading.detail.endswith("and the login is not sent without TLS")
    assert not LOGIN_WORDS & set(heard.commands())


@each_kind
@pytest.mark.parametrize("starttls", ["never", "optional"])
async def test_a_second_yes_allows_a_login_without_tls(kind: str, starttls: str, tmp_path: FilePath) -> None:
    script = SCRIPTS[kind]()
    async with answering(kind, answers={**script.answers, **script.inside}) as (heard, address):
        reading = await probe(
            kind,
            address,
            starttls=starttls,
            plaintext_login=True,
            username="giam-sat",
            password_file=password_file(tmp_path),
        )
    assert reading.fault is None, reading.detail
    assert LOGIN_WORDS & set(heard.commands(inside=False))


REFUSALS = {
    "smtp": b"535 5.7.8 Bad login",
    "imap": b"%t NO [AUTHENTICATIONFAILED] Bad login",
    "pop3": b"-ERR Bad login",
}


@each_kind
async def test_a_refused_login_is_told_without_the_secret(
    kind: str, certificates: Certificates, tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    refused = dict.fromkeys(LOGIN_WORDS - {b"USER"}, REFUSALS[kind] + b"\r\n")
    script = SCRIPTS[kind]()
    async with answering(kind, inside={**script.inside, **refused}, starttls=certificates.good.server_context()) as (
        heard,
        address,
    ):
        reading = await probe(
            kind,
            address,
            ca_file=certificates.ca_file,
            username="giam-sat",
            password_file=password_file(tmp_path),
        )
    assert reading.fault is Fault.CONTENT
    assert reading.detail == f"login refused: {REFUSALS[kind].decode().removeprefix('%t ')}"
    assert heard.commands()[-1] in (b"QUIT", b"LOGOUT")
    for form in all_forms("giam-sat", SecretStr(PASSWORD)):
        assert form.decode() not in repr(reading) + caplog.text


@each_kind
async def test_a_server_that_repeats_the_login_does_not_make_us_repeat_it(
    kind: str, certificates: Certificates, tmp_path: FilePath
) -> None:
    context = certificates.good.server_context()
    script = SCRIPTS[kind]()
    refusal = {"smtp": b"500 ", "imap": b"a3 BAD ", "pop3": b"-ERR "}[kind]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(script.greeting)
        while line := await reader.readline():
            word = script.word(line.rstrip())
            if word in LOGIN_WORDS - {b"USER"}:
                writer.write(refusal + b"what is " + line)
            else:
                writer.write(script.answer(line, word, True))

    async with byte_server(handler, tls=context) as address:
        reading = await probe(
            kind,
            address,
            tls=True,
            ca_file=certificates.ca_file,
            username="giam-sat",
            password_file=password_file(tmp_path),
        )
    assert reading.fault in (Fault.CONTENT, Fault.PROTOCOL)
    assert "text withheld" in reading.detail
    for form in all_forms("giam-sat", SecretStr(PASSWORD)):
        assert not repeats_secret(repr(reading).encode(), (form,))


@each_kind
async def test_a_missing_password_file_is_our_own_fault(kind: str, certificates: Certificates) -> None:
    async with answering(kind, starttls=certificates.good.server_context()) as (_, address):
        reading = await probe(
            kind, address, ca_file=certificates.ca_file, username="giam-sat", password_file="/nonexistent/password"
        )
    assert reading.fault is Fault.LOCAL


@each_kind
async def test_a_password_with_a_line_break_is_our_own_fault(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THONGSUOT_TEST_PASSWORD", "hai\r\nQUIT")
    script = SCRIPTS[kind]()
    async with answering(kind, answers={**script.answers, **script.inside}) as (heard, address):
        reading = await probe(kind, address, username="a", password_env="THONGSUOT_TEST_PASSWORD", plaintext_login=True)
    assert reading.fault is Fault.LOCAL
    assert not LOGIN_WORDS & set(heard.commands())


@given(st.binary(max_size=400))
def test_a_quote_is_one_short_printable_line(words: bytes) -> None:
    shown = quote(words)
    assert shown.isprintable()
    assert "\n" not in shown
    assert len(shown) <= DETAIL_LIMIT


@given(st.binary(max_size=40), st.text(min_size=LEAK_LENGTH, max_size=30), st.binary(max_size=40))
def test_a_quote_never_holds_the_secret(before: bytes, secret: str, after: bytes) -> None:
    forms = all_forms("giam-sat", SecretStr(secret))
    for form in forms:
        assert "withheld" in quote(before + form + after, forms)
