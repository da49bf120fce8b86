"""IMAP against scripted bytes: greetings, literals, logins, mailboxes."""

from __future__ import annotations

import base64
import re
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.base import Fault, Reading
from probes.imap_dialogue import command_pieces, encode_mailbox, literal_size, parse_capabilities, parse_response
from tests.probes.mail_servers import PASSWORD, Script, answering, imap_script, password_file, probe, settings_of
from tests.servers import Address

USER = "giam-sat"
CAPABLE = b"* CAPABILITY IMAP4rev1 %s\r\n%%t OK done\r\n"


async def log_in(tmp_path: FilePath, answers: dict[bytes, bytes], **keys: Any) -> tuple[Reading, Script]:
    async with answering("imap", answers={**imap_script().answers, **answers}) as (script, address):
        reading = await probe(
            "imap", address, plaintext_login=True, username=USER, password_file=password_file(tmp_path), **keys
        )
    return reading, script


async def test_the_mailbox_is_opened_read_only_and_counted(tmp_path: FilePath) -> None:
    answers = {b"CAPABILITY": CAPABLE % b"AUTH=PLAIN SASL-IR"}
    reading, script = await log_in(tmp_path, answers, mailbox="INBOX")
    assert reading.fault is None, reading.detail
    assert reading.values["messages_count"] == 23
    token = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
    assert [line for _, line in script.heard] == [
        b"a1 CAPABILITY",
        b"a2 AUTHENTICATE PLAIN " + token,
        b'a3 EXAMINE "INBOX"',
        b"z LOGOUT",
    ]


async def test_without_sasl_ir_the_login_waits_for_the_servers_go_ahead(tmp_path: FilePath) -> None:
    token = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
    answers = {
        b"CAPABILITY": CAPABLE % b"AUTH=PLAIN",
        b"AUTHENTICATE": b"+ \r\n",
        token.upper(): b"a2 OK in\r\n",
    }
    reading, script = await log_in(tmp_path, answers)
    assert reading.fault is None, reading.detail
    assert [line for _, line in script.heard][1:3] == [b"a2 AUTHENTICATE PLAIN", token]


async def test_a_plain_login_sends_a_vietnamese_password_as_a_literal(tmp_path: FilePath) -> None:
    secret = PASSWORD.encode()
    answers = {
        b"CAPABILITY": CAPABLE % b"",
        b"LOGIN": b"+ go on\r\n",
        secret.split()[1].upper(): b"a2 OK in\r\n",
    }
    reading, script = await log_in(tmp_path, answers)
    assert reading.fault is None, reading.detail
    assert [line for _, line in script.heard][1:3] == [b'a2 LOGIN "giam-sat" {%d}' % len(secret), secret]


async def test_a_forbidden_login_is_not_sent(tmp_path: FilePath) -> None:
    reading, script = await log_in(tmp_path, {b"CAPABILITY": CAPABLE % b"LOGINDISABLED"})
    assert reading.fault is Fault.CONTENT
    assert "LOGINDISABLED" in reading.detail
    assert b"LOGIN" not in script.commands()


@pytest.mark.parametrize("answer", [b"NO [AUTHENTICATIONFAILED] sai", b"BAD no such thing"])
async def test_a_refusal_at_the_literal_ends_the_login(answer: bytes, tmp_path: FilePath) -> None:
    answers = {b"CAPABILITY": CAPABLE % b"", b"LOGIN": b"%t " + answer + b"\r\n"}
    reading, script = await log_in(tmp_path, answers)
    assert reading.fault is Fault.CONTENT
    assert reading.detail == f"login refused: {answer.decode()}"
    assert script.commands()[-1] == b"LOGOUT"


async def test_a_missing_mailbox_is_named(tmp_path: FilePath) -> None:
    answers = {b"CAPABILITY": CAPABLE % b"AUTH=PLAIN SASL-IR", b"EXAMINE": b"%t NO [NONEXISTENT] no such box\r\n"}
    reading, script = await log_in(tmp_path, answers, mailbox="Thư đến")
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "mailbox Thư đến refused: NO [NONEXISTENT] no such box"
    assert (False, b'a3 EXAMINE "Th&AbA- &AREevw-n"') in script.heard


async def test_a_mailbox_without_a_count_is_not_imap(tmp_path: FilePath) -> None:
    answers = {b"CAPABILITY": CAPABLE % b"AUTH=PLAIN SASL-IR", b"EXAMINE": b"%t OK\r\n"}
    reading, _ = await log_in(tmp_path, answers, mailbox="INBOX")
    assert reading.fault is Fault.PROTOCOL


async def test_unasked_lines_and_literals_are_read_over(tmp_path: FilePath) -> None:
    noise = b"* 5 RECENT\r\n* LIST () NIL {7}\r\na\r\nb\r\nc (x)\r\n* OK {3}\r\nxyz\r\n"
    examined = noise + b"* 4 EXISTS\r\n" + noise + b"* 5 EXISTS\r\n%t OK\r\n"
    answers = {b"CAPABILITY": CAPABLE % b"AUTH=PLAIN SASL-IR", b"EXAMINE": examined}
    reading, _ = await log_in(tmp_path, answers, mailbox="INBOX")
    assert reading.fault is None, reading.detail
    assert reading.values["messages_count"] == 5


@pytest.mark.parametrize(
    ("answer", "fault", "reason"),
    [
        (b"* OK {9999999}\r\n", Fault.PROTOCOL, "a literal of 9999999 bytes came, at most 8192 are read"),
        (b"b7 OK done\r\n", Fault.PROTOCOL, "an answer out of turn came after CAPABILITY: b7 OK done"),
        (b"+ go on\r\n", Fault.PROTOCOL, "an answer out of turn came after CAPABILITY: + go on"),
        (b"* BYE qu\xe1 t\xe1\xba\xa3i\r\n", Fault.CONTENT, "the server ended the session after CAPABILITY: * BYE"),
        (b"%t OK\r\n", Fault.PROTOCOL, "the server announces neither IMAP4rev1 nor IMAP4rev2"),
        (b"%t BAD no\r\n", Fault.CONTENT, "CAPABILITY: server answered a1 BAD no, expected OK"),
        (b"* 99999999999 EXISTS\r\n", Fault.PROTOCOL, "the answer to CAPABILITY is not IMAP: * 99999999999 EXISTS"),
    ],
)
async def test_a_wrong_answer_has_its_name(answer: bytes, fault: Fault, reason: str) -> None:
    async with answering("imap", answers={b"CAPABILITY": answer}) as (_, address):
        reading = await probe("imap", address)
    assert reading.fault is fault
    assert reading.detail.startswith(reason)


async def test_a_literal_that_is_cut_off_is_a_hang_up() -> None:
    answers = {b"CAPABILITY": b"* OK {5}\r\nab", b"LOGOUT": b""}
    async with answering("imap", answers=answers) as (_, address):
        reading = await probe("imap", address, timeout_s=0.3)
    assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no complete answer to CAPABILITY within 0.3 s")


async def test_a_bye_instead_of_a_greeting_is_a_refusal() -> None:
    async with answering("imap", greeting=b"* BYE Too many connections\r\n") as (_, address):
        reading = await probe("imap", address)
    assert (reading.fault, reading.detail) == (
        Fault.CONTENT,
        "server answered * BYE Too many connections, expected * OK",
    )


async def test_a_preauth_greeting_is_well_until_tls_or_a_login_is_wanted(tmp_path: FilePath) -> None:
    answers = {**imap_script().answers, b"CAPABILITY": CAPABLE % b"STARTTLS AUTH=PLAIN SASL-IR"}
    async with answering("imap", greeting=b"* PREAUTH in\r\n", answers=answers) as (script, address):
        assert (await probe("imap", address)).fault is None
        required = await probe("imap", address, starttls="required")
        login = await probe("imap", address, username=USER, password_file=password_file(tmp_path))
    assert (required.fault, login.fault) == (Fault.TLS, Fault.TLS)
    assert b"AUTHENTICATE" not in script.commands()
    reading, _ = await _preauth_with_login(tmp_path)
    assert (reading.fault, reading.detail) == (
        Fault.CONTENT,
        "the server greeted with PREAUTH: it asks for no login",
    )


async def _preauth_with_login(tmp_path: FilePath) -> tuple[Reading, Script]:
    async with answering("imap", greeting=b"* PREAUTH in\r\n") as (script, address):
        keys: dict[str, Any] = {"username": USER, "password_file": password_file(tmp_path), "plaintext_login": True}
        return await probe("imap", address, **keys), script


def test_a_mailbox_needs_a_login() -> None:
    with pytest.raises(ValidationError, match="mailbox needs username"):
        settings_of("imap", Address("mail.example.vn", 143), mailbox="INBOX")


@given(st.binary(max_size=120))
@example(b"+")
@example(b"* ")
@example(b"* OK")
@example(b"* 1 EXISTS")
@example(b"a1 OK")
def test_any_bytes_are_a_response_or_refused(raw: bytes) -> None:
    try:
        found = parse_response(raw)
    except ValueError:
        return
    assert found.raw == raw
    assert found.word == found.word.upper()
    assert raw.endswith(found.rest)
    assert found.tag in ("+", "*") or found.word in ("OK", "NO", "BAD")


@given(st.integers(0, 2**32 - 1))
def test_a_count_reads_as_it_was_written(number: int) -> None:
    found = parse_response(b"* %d exists" % number)
    assert (found.word, found.number) == ("EXISTS", number)


@given(st.binary(max_size=60), st.integers(0, 10**9))
def test_a_literal_is_found_at_the_end_of_a_line_alone(before: bytes, size: int) -> None:
    assert literal_size(before + b"{%d}" % size) == size
    assert literal_size(before + b"{%d} " % size) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_capabilities_or_left_out(rest: bytes) -> None:
    found = parse_capabilities(rest)
    assert len(set(found)) == len(found)
    assert all(word.isascii() and word.isprintable() for word in found)


def _decode_mailbox(name: str) -> str:
    def unpack(match: re.Match[str]) -> str:
        packed = match[1].replace(",", "/")
        return base64.b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-16-be") if packed else "&"

    return re.sub(r"&([A-Za-z0-9+,]*)-", unpack, name)


@given(st.text(max_size=60))
def test_a_mailbox_name_survives_modified_utf7(name: str) -> None:
    encoded = encode_mailbox(name)
    assert encoded.isascii()
    assert all(c.isprintable() for c in encoded)
    assert _decode_mailbox(encoded) == name


def test_the_standards_own_mailbox_name_is_encoded_as_it_says() -> None:
    # RFC 3501 section 5.1.3
    assert encode_mailbox("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_arguments_are_quoted_or_sent_as_literals(arguments: list[bytes]) -> None:
    pieces = command_pieces(b"LOGIN", arguments)
    assert b"\r" not in pieces[0]
    assert b"\n" not in pieces[0]
    read: list[bytes] = []
    rest = pieces[0].removeprefix(b"LOGIN")
    following = iter(pieces[1:])
    while rest:
        if quoted := re.match(rb' "((?:[^"\\]|\\.)*)"', rest):
            read.append(re.sub(rb"\\(.)", rb"\1", quoted[1]))
            rest = rest[quoted.end() :]
        else:
            size = literal_size(rest)
            assert size is not None
            piece = next(following)
            read.append(piece[:size])
            rest = piece[size:]
    assert read == arguments
