"""What smtp, imap and pop3 do alike: silence, garbage, floods, TLS of every kind, and a login that does not leak."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes import PROBES
from probes.base import DETAIL_LIMIT, Fault, Path, Tools, measure
from probes.mail_dialogue import shown_list
from tests.probes.mail_servers import (
    LOGIN_WORDS,
    SCRIPTS,
    answering,
    password_file,
    probe,
    serving,
    settings_of,
)
from tests.servers import (
    Address,
    Certificates,
    byte_server,
    drip_server,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
)

KINDS = tuple(SCRIPTS)
PROTOCOL_NAMES = {"smtp": "SMTP", "imap": "IMAP", "pop3": "POP3"}
STARTTLS_WORD = {"smtp": "STARTTLS", "imap": "STARTTLS", "pop3": "STLS"}
GREETING_VALUE = {"smtp": "banner_s", "imap": "greeting_s", "pop3": "greeting_s"}

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@each_kind
async def test_a_plain_server_that_answers_is_well(kind: str) -> None:
    async with answering(kind) as (script, address):
        reading = await probe(kind, address, starttls="never")
    assert reading.fault is None, reading.detail
    assert reading.detail == ""
    assert set(reading.phases) == {"resolve", "connect", "processing"}
    assert 0 < reading.values[GREETING_VALUE[kind]] < 5
    assert reading.facts["address"] == "127.0.0.1"
    assert reading.facts["starttls"] == "no"
    assert script.commands()[-1] in (b"QUIT", b"LOGOUT")
    assert not LOGIN_WORDS & set(script.commands())


@each_kind
async def test_values_and_facts_are_all_declared(kind: str, certificates: Certificates, tmp_path: FilePath) -> None:
    login = {"username": "giam-sat", "password_file": password_file(tmp_path)}
    more: dict[str, dict[str, Any]] = {"smtp": {"rcpt": {"recipient": "a@example.vn"}}, "imap": {"mailbox": "INBOX"}}
    keys: dict[str, Any] = {"ca_file": certificates.ca_file, **login, **more.get(kind, {})}
    async with answering(kind, starttls=certificates.good.server_context()) as (_, address):
        reading = await probe(kind, address, **keys)
    assert reading.fault is None, reading.detail
    declared = PROBES[kind]
    assert set(reading.values) == {v.name for v in declared.values}
    assert set(reading.facts) == {f.name for f in declared.facts}


@each_kind
async def test_the_connection_leaves_by_the_path_and_works_over_ipv6(kind: str) -> None:
    script = SCRIPTS[kind]()
    async with serving(script) as address:
        reading = await probe(kind, address, path=Path("vnpt", "VNPT", source="127.0.0.9"), starttls="never")
        assert reading.fault is None, reading.detail
    assert script.peers == ["127.0.0.9"]
    async with serving(script, host="::1") as address:
        reading = await probe(kind, address, family="ip6", starttls="never")
    assert reading.fault is None, reading.detail
    assert reading.facts["address"] == "::1"


@each_kind
async def test_a_closed_port_is_refused(kind: str) -> None:
    with refused_port() as address:
        reading = await probe(kind, address)
    assert reading.fault is Fault.REFUSED


@each_kind
async def test_silence_ends_in_time_as_a_missing_greeting(kind: str) -> None:
    async with silent_server() as address:
        reading = await probe(kind, address, timeout_s=0.4)
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail.startswith("no complete greeting within")
    assert reading.duration_s < 0.6


@each_kind
async def test_silence_inside_tls_ends_in_time(kind: str, certificates: Certificates) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with byte_server(handler, tls=certificates.good.server_context()) as address:
        reading = await probe(kind, address, timeout_s=0.4, tls=True, ca_file=certificates.ca_file)
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail == "no complete greeting within 0.4 s"
    assert reading.duration_s < 0.6


@each_kind
async def test_silence_after_the_greeting_names_the_command(kind: str) -> None:
    async with answering(kind, answers={}, otherwise=b"") as (script, address):
        reading = await probe(kind, address, timeout_s=0.3)
    assert reading.fault is Fault.TIMEOUT
    command = script.commands()[0].decode()
    assert reading.detail == f"no complete answer to {command} within 0.3 s"
    assert reading.duration_s < 0.5


@each_kind
async def test_one_byte_at_a_time_ends_in_time(kind: str) -> None:
    async with drip_server(SCRIPTS[kind]().greeting.rstrip() * 100, every_s=0.03) as address:
        reading = await probe(kind, address, timeout_s=0.4)
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail.startswith("no complete greeting within")
    assert reading.duration_s < 0.6


@each_kind
async def test_an_endless_line_is_cut_off(kind: str) -> None:
    async with endless_line_server(SCRIPTS[kind]().greeting[:4]) as address:
        reading = await probe(kind, address)
    assert reading.fault is Fault.PROTOCOL
    assert reading.detail == "a line longer than 8192 bytes came in place of a greeting"


@each_kind
async def test_endless_lines_are_cut_off(kind: str) -> None:
    line = {"smtp": b"250-one more\r\n", "imap": b"* OK one more\r\n", "pop3": b"ONE MORE\r\n"}[kind]
    start = b"+OK\r\n" if kind == "pop3" else b""
    word = {"smtp": b"EHLO", "imap": b"CAPABILITY", "pop3": b"CAPA"}[kind]
    async with answering(kind, answers={word: start + line * 5000}) as (_, address):
        reading = await probe(kind, address)
    assert reading.fault is Fault.PROTOCOL
    assert reading.detail == f"more than 100 lines came after {word.decode()}"


@each_kind
@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff\xfe\x00\x01 \xc4\x90\r\n", b"\r\n", b"99\r\n"])
async def test_garbage_is_quoted_safely(kind: str, greeting: bytes) -> None:
    async with answering(kind, greeting=greeting) as (_, address):
        reading = await probe(kind, address)
    assert reading.fault is Fault.PROTOCOL
    assert reading.detail.startswith(f"the greeting is not {PROTOCOL_NAMES[kind]}: ")
    assert reading.detail.isprintable()


@each_kind
async def test_garbage_after_the_greeting_is_named(kind: str) -> None:
    async with answering(kind, answers={}, otherwise=b"xin ch\xe0o\x1b[2J\r\n") as (_, address):
        reading = await probe(kind, address)
    assert reading.fault is Fault.PROTOCOL
    assert f"is not {PROTOCOL_NAMES[kind]}: xin ch\\xe0o\\x1b[2J" in reading.detail


@each_kind
async def test_a_hang_up_is_named_with_its_moment(kind: str) -> None:
    async with resetting_server() as address:
        reading = await probe(kind, address)
    assert reading.fault is Fault.REFUSED
    async with byte_server(_say_and_leave(b"")) as address:
        reading = await probe(kind, address)
    assert (reading.fault, reading.detail) == (
        Fault.REFUSED,
        "the server closed the connection in place of a greeting",
    )
    async with byte_server(_say_and_leave(SCRIPTS[kind]().greeting, lines=1)) as address:
        reading = await probe(kind, address)
    assert reading.fault is Fault.REFUSED
    assert reading.detail.startswith("the server closed the connection after ")


def _say_and_leave(greeting: bytes, lines: int = 0):  # type: ignore[no-untyped-def]  # a Handler
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        for _ in range(lines):
            await reader.readline()

    return handler


@each_kind
async def test_a_plain_check_of_a_tls_port_says_so(kind: str, certificates: Certificates) -> None:
    async with serving(SCRIPTS[kind](), tls=certificates.good.server_context()) as address:
        reading = await probe(kind, address, timeout_s=1.0)
    assert reading.fault is Fault.PROTOCOL
    assert reading.detail == f"the server waits for TLS from the first byte on port {address.port}: set tls: true"
    assert reading.duration_s < 1.0


@each_kind
async def test_a_tls_check_of_a_plain_port_says_so(kind: str) -> None:
    async with answering(kind) as (_, address):
        reading = await probe(kind, address, tls=True)
    assert (reading.fault, reading.detail) == (Fault.TLS, "the server does not speak TLS on this port")


@each_kind
@pytest.mark.parametrize("implicit", [True, False])
async def test_a_good_certificate_is_read(kind: str, implicit: bool, certificates: Certificates) -> None:
    context = certificates.good.server_context()
    script = SCRIPTS[kind](starttls=None if implicit else context)
    async with serving(script, tls=context if implicit else None) as address:
        how = {"tls": True} if implicit else {"starttls": "required", "min_days_left": 1}
        reading = await probe(kind, address, ca_file=certificates.ca_file, **how)
    assert reading.fault is None, reading.detail
    assert reading.facts["starttls"] == ("no" if implicit else "yes")
    assert reading.facts["tls_version"] == "TLSv1.3"
    assert "tls" in reading.phases
    assert reading.values["tls_not_after_timestamp_s"] > reading.values["tls_not_before_timestamp_s"] > 0


@each_kind
@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("expired", "certificate expired on"),
        ("unknown_ca", "issuer is not trusted"),
        ("self_signed", "self-signed"),
        ("wrong_name", "certificate is for khac.example.vn, not 127.0.0.1"),
    ],
)
async def test_a_bad_certificate_fails_and_its_dates_are_read(
    kind: str, implicit: bool, which: str, reason: str, certificates: Certificates, tmp_path: FilePath
) -> None:
    context = getattr(certificates, which).server_context()
    script = SCRIPTS[kind](starttls=None if implicit else context)
    async with serving(script, tls=context if implicit else None) as address:
        reading = await probe(
            kind,
            address,
            ca_file=certificates.ca_file,
            tls=implicit,
            username="giam-sat",
            password_file=password_file(tmp_path),
        )
    assert reading.fault is Fault.TLS
    assert reason in reading.detail
    assert "tls_not_after_timestamp_s" in reading.values
    if which == "expired":
        assert reading.values["tls_not_after_timestamp_s"] == certificates.expired_at.timestamp()
    assert len(script.peers) == 2 if not implicit else True
    assert not LOGIN_WORDS & set(script.commands())


@each_kind
async def test_a_certificate_that_ends_soon_is_not_what_was_expected(kind: str, certificates: Certificates) -> None:
    async with answering(kind, starttls=certificates.issue(f"soon-{kind}", days=(-30, 5)).server_context()) as (
        script,
        address,
    ):
        reading = await probe(kind, address, starttls="required", min_days_left=14, ca_file=certificates.ca_file)
    assert reading.fault is Fault.CONTENT
    assert "at least 14 wanted" in reading.detail
    assert script.commands()[-1] in (b"QUIT", b"LOGOUT")


@each_kind
async def test_a_refused_certificate_is_told_in_time_when_the_second_look_hangs(
    kind: str, certificates: Certificates
) -> None:
    script = SCRIPTS[kind](starttls=certificates.expired.server_context())
    seen: list[str] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append("connection")
        if len(seen) == 1:
            await script.serve(reader, writer)
        else:
            await reader.read()

    async with byte_server(handler) as address:
        reading = await probe(kind, address, timeout_s=0.8, ca_file=certificates.ca_file)
    assert reading.fault is Fault.TLS
    assert "expired" in reading.detail
    assert reading.duration_s < 0.8


@each_kind
async def test_starttls_that_is_required_and_not_offered_is_a_tls_fault(kind: str) -> None:
    script = SCRIPTS[kind]()
    async with serving(SCRIPTS[kind](answers={**script.answers, **script.inside})) as address:
        reading = await probe(kind, address, starttls="required")
    assert reading.fault is Fault.TLS
    assert reading.detail == f"server does not offer {STARTTLS_WORD[kind]}"


@each_kind
async def test_starttls_that_is_offered_and_refused_is_a_tls_fault(kind: str) -> None:
    script = SCRIPTS[kind]()
    refusal = {"smtp": b"454 4.7.0 TLS not available\r\n", "imap": b"%t NO not now\r\n", "pop3": b"-ERR not now\r\n"}
    word = STARTTLS_WORD[kind]
    answers = {**script.answers, word.encode(): refusal[kind]}
    async with answering(kind, answers=answers) as (_, address):
        reading = await probe(kind, address)
    assert reading.fault is Fault.TLS
    assert reading.detail.startswith(f"{word}: server answered ")


@each_kind
async def test_text_smuggled_ahead_of_the_handshake_is_refused(kind: str, certificates: Certificates) -> None:
    script = SCRIPTS[kind]()
    word = STARTTLS_WORD[kind].encode()
    answers = {**script.answers, word: script.answers[word] + script.inside.get(b"EHLO", b"+OK injected\r\n")}
    async with answering(kind, answers=answers) as (_, address):
        reading = await probe(kind, address, ca_file=certificates.ca_file)
    assert reading.fault is Fault.PROTOCOL
    assert "plain text" in reading.detail


@each_kind
async def test_starttls_that_is_agreed_to_and_not_done_is_a_tls_fault(kind: str) -> None:
    script = SCRIPTS[kind]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(script.greeting)
        while script.word(line := (await reader.readline()).rstrip()) not in (b"STARTTLS", b"STLS"):
            writer.write(script.answer(line, script.word(line), False))
        writer.write(script.answer(line, script.word(line), False))
        await reader.read(1)  # of the handshake
        writer.write(script.otherwise)
        await reader.read()

    async with byte_server(handler) as address:
        reading = await probe(kind, address)
    assert reading.fault is Fault.TLS
    assert reading.detail == f"the server agreed to {STARTTLS_WORD[kind]} and then did not speak TLS"


@each_kind
async def test_a_slow_goodbye_does_not_fail_the_check(kind: str) -> None:
    script = SCRIPTS[kind]()
    answers = {**script.answers, b"QUIT": b"", b"LOGOUT": b""}

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mute = SCRIPTS[kind](answers=answers)
        await mute.serve(reader, writer)
        await reader.read()

    async with byte_server(handler) as address:
        reading = await probe(kind, address, timeout_s=0.4, starttls="never")
    assert reading.fault is None, reading.detail
    assert reading.duration_s < 0.4


@each_kind
async def test_a_cancelled_run_closes_its_connection(kind: str) -> None:
    async with answering(kind, answers={}, otherwise=b"") as (script, address):
        tools = Tools()
        run = asyncio.ensure_future(
            measure(PROBES[kind], settings_of(kind, address), timeout_s=5, path=None, tools=tools)
        )
        await asyncio.wait_for(script.spoken_to.wait(), 1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await asyncio.wait_for(script.hung_up.wait(), 1)
        tools.close()


@each_kind
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"username": "a", "password_env": "B", "starttls": "never"},
            "credentials over plain text need plaintext_login: true",
        ),
        ({"tls": True, "starttls": "required"}, "tls: true is TLS from the first byte; leave starttls out"),
        ({"min_days_left": 3}, "min_days_left needs tls: true or starttls: required"),
        ({"username": "a"}, "username and one of password_file, password_env go together"),
        ({"username": "a\r\nQUIT", "password_env": "B"}, "String should match pattern"),
        ({"host": "mail example"}, "String should match pattern"),
        ({"user": "a"}, "Extra inputs are not permitted"),
    ],
)
def test_contradictory_settings_are_refused(kind: str, keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(kind, Address("mail.example.vn", 25), **keys)


@pytest.mark.parametrize(
    ("kind", "plain", "tls"), [("smtp", 25, 465), ("imap", 143, 993), ("pop3", 110, 995)], ids=KINDS
)
def test_the_port_follows_from_tls(kind: str, plain: int, tls: int) -> None:
    validate = PROBES[kind].settings.model_validate_json
    assert getattr(validate('{"host": "a.vn"}'), "port") == plain  # noqa: B009  settings differ by kind
    assert getattr(validate('{"host": "a.vn", "tls": true}'), "port") == tls  # noqa: B009


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=60), max_size=80))
def test_a_list_of_words_stays_short_and_counts_the_rest(words: list[str]) -> None:
    shown = shown_list(words)
    assert len(shown) <= DETAIL_LIMIT
    if not shown.endswith(")"):
        assert shown.split() == words
