"""One conversation with a relay: encryption, certificates, logins, secrets."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from config.plan import Relay
from exporters.mail_relay import DeliveryError, Envelope, hand_over
from tests.exporters.relays import Behaviour, relay_server
from tests.servers import Certificates, byte_server, drip_server, resetting_server, talk_server

SECRET = "mat-khau-rat-bi-mat"
LETTER = Envelope("giam-sat@example.vn", ("truc@example.vn",), b"Subject: x\r\n\r\nx\r\n")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "relay"
    file.write_text(f"{SECRET}\n", "utf-8")
    return file


async def test_required_starttls_encrypts_with_a_verified_certificate(certificates: Certificates) -> None:
    relay = Behaviour()
    async with relay_server(relay, starttls=certificates.good.server_context()) as port:
        await hand_over(
            Relay("localhost", port, starttls="required", ca_file=certificates.ca_file, timeout_s=5), LETTER
        )
    assert relay.encrypted == [True]


async def test_required_starttls_refuses_a_certificate_nobody_vouches_for(certificates: Certificates) -> None:
    relay = Behaviour()
    async with relay_server(relay, starttls=certificates.good.server_context()) as port:
        with pytest.raises(DeliveryError, match=r"(?i)certificate verify failed") as caught:
            await hand_over(Relay("localhost", port, starttls="required", timeout_s=5), LETTER)
    assert caught.value.relay_down
    assert not caught.value.permanent
    assert relay.received == []


async def test_required_starttls_refuses_a_relay_that_does_not_offer_it() -> None:
    relay = Behaviour()
    async with relay_server(relay) as port:
        with pytest.raises(DeliveryError, match="STARTTLS is required and not offered"):
            await hand_over(Relay("127.0.0.1", port, starttls="required", timeout_s=5), LETTER)
    assert relay.received == []


async def test_optional_starttls_takes_any_certificate_rather_than_plain_text(certificates: Certificates) -> None:
    relay = Behaviour()
    async with relay_server(relay, starttls=certificates.self_signed.server_context()) as port:
        await hand_over(Relay("localhost", port, starttls="optional", timeout_s=5), LETTER)
    assert relay.encrypted == [True]


async def test_optional_starttls_sends_in_plain_text_where_none_is_offered() -> None:
    relay = Behaviour()
    async with relay_server(relay) as port:
        await hand_over(Relay("127.0.0.1", port, starttls="optional", timeout_s=5), LETTER)
    assert relay.encrypted == [False]


async def test_starttls_never_sends_in_plain_text_even_where_it_is_offered(certificates: Certificates) -> None:
    relay = Behaviour()
    async with relay_server(relay, starttls=certificates.good.server_context()) as port:
        await hand_over(Relay("localhost", port, starttls="never", timeout_s=5), LETTER)
    assert relay.encrypted == [False]


async def test_tls_from_the_first_byte_is_verified(certificates: Certificates) -> None:
    relay = Behaviour()
    async with relay_server(relay, tls=certificates.good.server_context()) as port:
        await hand_over(Relay("localhost", port, tls=True, ca_file=certificates.ca_file, timeout_s=5), LETTER)
        with pytest.raises(DeliveryError, match=r"(?i)certificate verify failed"):
            await hand_over(Relay("localhost", port, tls=True, timeout_s=5), LETTER)
    assert len(relay.received) == 1


async def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    async with relay_server(Behaviour()) as port:
        with pytest.raises(DeliveryError, match="No such file") as caught:
            await hand_over(Relay("127.0.0.1", port, tls=True, ca_file=tmp_path / "none", timeout_s=5), LETTER)
    assert caught.value.relay_down


async def test_a_login_is_made_under_tls(certificates: Certificates, password_file: Path) -> None:
    relay = Behaviour(users={"giam-sat": SECRET})
    async with relay_server(relay, starttls=certificates.good.server_context()) as port:
        await hand_over(
            Relay(
                "localhost",
                port,
                starttls="required",
                username="giam-sat",
                password_file=password_file,
                ca_file=certificates.ca_file,
                timeout_s=5,
            ),
            LETTER,
        )
    assert relay.logins == [("giam-sat", True)]
    assert len(relay.received) == 1


async def test_no_password_is_sent_in_plain_text_unless_allowed_twice(password_file: Path) -> None:
    relay = Behaviour(users={"giam-sat": SECRET})
    async with relay_server(relay) as port:
        careful = Relay("127.0.0.1", port, username="giam-sat", password_file=password_file, timeout_s=5)
        with pytest.raises(DeliveryError, match="not encrypted"):
            await hand_over(careful, LETTER)
        assert relay.logins == []
        bold = Relay(
            "127.0.0.1", port, username="giam-sat", password_file=password_file, plaintext_login=True, timeout_s=5
        )
        await hand_over(bold, LETTER)
    assert relay.logins == [("giam-sat", False)]


async def test_no_password_is_sent_to_a_relay_whose_certificate_proves_nothing(
    certificates: Certificates, password_file: Path
) -> None:
    relay = Behaviour(users={"giam-sat": SECRET})
    async with relay_server(relay, starttls=certificates.self_signed.server_context()) as port:
        with pytest.raises(DeliveryError, match=r"(?i)certificate"):
            await hand_over(
                Relay("localhost", port, username="giam-sat", password_file=password_file, timeout_s=5), LETTER
            )
    assert relay.logins == []


async def test_a_refused_login_postpones_and_tells_no_secret(
    password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    relay = Behaviour(users={"giam-sat": "another"})
    async with relay_server(relay) as port:
        with pytest.raises(DeliveryError, match="login as giam-sat refused: 535") as caught:
            await hand_over(
                Relay(
                    "127.0.0.1",
                    port,
                    starttls="never",
                    username="giam-sat",
                    password_file=password_file,
                    plaintext_login=True,
                    timeout_s=5,
                ),
                LETTER,
            )
    assert caught.value.relay_down
    assert not caught.value.permanent
    assert SECRET not in caplog.text + str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_relay_that_echoes_the_password_does_not_get_it_into_a_detail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RELAY_PASSWORD", SECRET)
    script = talk_server(b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN\r\n", f"535 bad {SECRET}\r\n".encode())
    async with script as address:
        with pytest.raises(DeliveryError, match=r"535 bad \*\*\*"):
            await hand_over(
                Relay(
                    "127.0.0.1",
                    address.port,
                    starttls="never",
                    username="giam-sat",
                    password_env="RELAY_PASSWORD",
                    plaintext_login=True,
                    timeout_s=5,
                ),
                LETTER,
            )


async def test_an_unset_password_variable_is_named_and_nobody_is_asked() -> None:
    relay = Behaviour()
    async with relay_server(relay) as port:
        with pytest.raises(DeliveryError, match="NOT_SET_ANYWHERE") as caught:
            await hand_over(
                Relay("127.0.0.1", port, username="x", password_env="NOT_SET_ANYWHERE", timeout_s=5), LETTER
            )
    assert caught.value.relay_down
    assert relay.connections == 0


async def test_a_relay_that_resets_or_drips_only_postpones() -> None:
    async with resetting_server() as address:
        with pytest.raises(DeliveryError) as reset:
            await hand_over(Relay("127.0.0.1", address.port, starttls="never", timeout_s=2), LETTER)
    async with drip_server(b"220 relay", every_s=0.05) as address:
        with pytest.raises(DeliveryError, match=r"no answer within 0\.2 s") as drip:
            await hand_over(Relay("127.0.0.1", address.port, starttls="never", timeout_s=0.2), LETTER)
    assert reset.value.relay_down
    assert drip.value.relay_down
    assert not reset.value.permanent
    assert not drip.value.permanent


async def test_an_acceptance_stands_and_waits_for_no_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        for answer in (b"250 OK\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go\r\n"):
            await reader.readline()
            writer.write(answer)
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 queued\r\n")
        await reader.read()  # QUIT, and then nothing

    monkeypatch.setattr("exporters.mail_relay.GOODBYE_S", 0.4)
    async with byte_server(relay) as address:
        taken = await hand_over(Relay("127.0.0.1", address.port, starttls="never", timeout_s=0.2), LETTER)
        (goodbye,) = (task for task in asyncio.all_tasks() if task.get_name() == "goodbye")
        await goodbye
    assert taken.reply == "queued"
