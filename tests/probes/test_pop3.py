"""POP3 against scripted bytes: greetings, capabilities, logins, counts."""

from __future__ import annotations

import base64
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes.base import Fault, Reading
from probes.pop3 import parse_capabilities, parse_stat, parse_status
from tests.probes.mail_servers import PASSWORD, Script, answering, password_file, pop3_script, probe

USER = "giam-sat"
TOKEN = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())


async def log_in(tmp_path: FilePath, answers: dict[bytes, bytes], **keys: Any) -> tuple[Reading, Script]:
    async with answering("pop3", answers={**pop3_script().answers, **answers}) as (script, address):
        reading = await probe(
            "pop3",
            address,
            starttls="never",
            plaintext_login=True,
            username=USER,
            password_file=password_file(tmp_path),
            **keys,
        )
    return reading, script


async def test_the_messages_are_counted_after_the_login(tmp_path: FilePath) -> None:
    reading, script = await log_in(tmp_path, {})
    assert reading.fault is None, reading.detail
    assert (reading.values["messages_count"], reading.values["mailbox_bytes"]) == (7, 12345)
    assert [line for _, line in script.heard] == [
        b"CAPA",
        b"USER giam-sat",
        f"PASS {PASSWORD}".encode(),
        b"STAT",
        b"QUIT",
    ]


async def test_a_server_with_auth_plain_alone_gets_that(tmp_path: FilePath) -> None:
    reading, script = await log_in(tmp_path, {b"CAPA": b"+OK\r\nSASL plain\r\n.\r\n"})
    assert reading.fault is None, reading.detail
    assert (False, b"AUTH PLAIN " + TOKEN) in script.heard


@pytest.mark.parametrize("agreed", [True, False])
async def test_a_very_long_auth_waits_for_the_servers_go_ahead(agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "x" * 400
    monkeypatch.setenv("THONGSUOT_TEST_PASSWORD", secret)
    token = base64.b64encode(f"\0{USER}\0{secret}".encode())
    answers = {
        **pop3_script().answers,
        b"CAPA": b"+OK\r\nSASL PLAIN\r\n.\r\n",
        b"AUTH": b"+ \r\n" if agreed else b"-ERR no\r\n",
        token.upper(): b"+OK\r\n",
    }
    async with answering("pop3", answers=answers) as (script, address):
        reading = await probe(
            "pop3",
            address,
            plaintext_login=True,
            starttls="never",
            username=USER,
            password_env="THONGSUOT_TEST_PASSWORD",
        )
    assert reading.fault is (None if agreed else Fault.CONTENT), reading.detail
    assert ((False, token) in script.heard) is agreed


async def test_a_server_without_capa_is_well_and_has_no_stls(tmp_path: FilePath) -> None:
    answers = {b"CAPA": b"-ERR what?\r\n"}
    reading, _ = await log_in(tmp_path, answers)
    assert reading.fault is None, reading.detail
    assert reading.facts["capabilities"] == ""
    async with answering("pop3", answers=answers) as (_, address):
        reading = await probe("pop3", address, starttls="required")
    assert (reading.fault, reading.detail) == (Fault.TLS, "server does not offer STLS")


async def test_a_greeting_that_is_no_welcome_is_quoted() -> None:
    async with answering("pop3", greeting=b"-ERR [SYS/TEMP] qu\xc3\xa1 t\xe1\xba\xa3i\r\n") as (_, address):
        reading = await probe("pop3", address)
    assert (reading.fault, reading.detail) == (
        Fault.CONTENT,
        "server answered -ERR [SYS/TEMP] quá tải, expected +OK",
    )


async def test_a_locked_mailbox_is_a_refused_login(tmp_path: FilePath) -> None:
    reading, script = await log_in(tmp_path, {b"PASS": b"-ERR [IN-USE] Mailbox is locked\r\n"})
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "login refused: -ERR [IN-USE] Mailbox is locked")
    assert script.commands()[-1] == b"QUIT"


@pytest.mark.parametrize(
    ("answer", "fault", "reason"),
    [
        (b"-ERR no\r\n", Fault.CONTENT, "STAT: server answered -ERR no, expected +OK"),
        (b"+OK\r\n", Fault.PROTOCOL, "the answer to STAT is not two numbers: +OK"),
        (b"+OK 1 -2\r\n", Fault.PROTOCOL, "the answer to STAT is not two numbers: +OK 1 -2"),
        (b"OK 1 2\r\n", Fault.PROTOCOL, "the answer to STAT is not POP3: OK 1 2"),
    ],
)
async def test_a_wrong_count_has_its_name(answer: bytes, fault: Fault, reason: str, tmp_path: FilePath) -> None:
    reading, _ = await log_in(tmp_path, {b"STAT": answer})
    assert (reading.fault, reading.detail) == (fault, reason)
    assert "messages_count" not in reading.values


@given(st.binary(max_size=80))
@example(b"+OK")
@example(b"-ERR")
@example(b"+OKAY")
@example(b"+ ")
def test_any_bytes_are_a_status_or_refused(line: bytes) -> None:
    try:
        good, text = parse_status(line)
    except ValueError:
        return
    assert good == line.startswith(b"+")
    assert line.endswith(text)


@given(st.integers(0, 2**40), st.integers(0, 2**53), st.sampled_from([b"", b" octets", b" in all"]))
def test_a_count_reads_as_it_was_written(count: int, size_bytes: int, more: bytes) -> None:
    assert parse_stat(b"%d %d%s" % (count, size_bytes, more)) == (count, size_bytes)


@pytest.mark.parametrize("text", [b"", b"1", b"1 2x", b"a b", b"-1 2", b"1 99999999999999999", b"1  2"])
def test_what_is_not_two_numbers_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not two numbers"):
        parse_stat(text)


@given(st.lists(st.binary(max_size=60), max_size=40))
def test_any_lines_are_capabilities_or_left_out(lines: list[bytes]) -> None:
    found = parse_capabilities(lines)
    assert all(keyword.isascii() and keyword.isprintable() and keyword == keyword.upper() for keyword in found)


def test_capabilities_are_read_with_their_parameters() -> None:
    lines = [b"USER", b"sasl PLAIN LOGIN", b"", b"IMPLEMENTATION Dovecot 2.3", b"\xff"]
    assert parse_capabilities(lines) == {"USER": (), "SASL": ("PLAIN", "LOGIN"), "IMPLEMENTATION": ("DOVECOT", "2.3")}
