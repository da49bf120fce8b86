"""The TLS probe against servers that are right, and wrong in every way a certificate can be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.base import Fault, Path, Reading
from tests.probes.web_servers import probe, settings_of
from tests.servers import (
    Address,
    Certificate,
    Certificates,
    byte_server,
    deaf_port,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
    talk_server,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1024):
        pass


@asynccontextmanager
async def tls_server(shown: Certificate | ssl.SSLContext, host: str = "127.0.0.1") -> AsyncIterator[Address]:
    context = shown.server_context() if isinstance(shown, Certificate) else shown
    async with byte_server(listen, tls=context, host=host) as address:
        yield address


async def ask(address: Address, certificates: Certificates, **more: Any) -> Reading:
    more.setdefault("host", address.host)
    return await probe("tls", port=address.port, ca_file=certificates.ca_file, **more)


async def test_a_good_certificate_is_well_and_its_dates_are_values(certificates: Certificates) -> None:
    good = certificates.issue("dated", days=(-10, 20))
    async with tls_server(good) as address:
        reading = await ask(address, certificates, host="localhost")

    assert reading.fault is None, reading.detail
    start = reading.values["tls_not_before_timestamp_s"]
    assert reading.values["tls_not_after_timestamp_s"] == pytest.approx(start + 30 * 86400)
    assert start == pytest.approx(certificates.expired_at.timestamp() - 9 * 86400, abs=60)
    assert reading.facts["tls_version"] == "TLSv1.3"
    assert "localhost" in reading.facts["certificate_names"]
    assert len(reading.facts["certificate_sha256"]) == 64
    assert {"tls_cipher", "certificate_subject", "certificate_issuer", "address"} <= set(reading.facts)
    assert set(reading.phases) == {"resolve", "connect", "tls"}


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("expired", "certificate expired on"),
        ("not_yet_valid", "certificate is valid only from"),
        ("wrong_name", "certificate is for khac.example.vn, not localhost"),
        ("unknown_ca", "issuer is not trusted"),
        ("self_signed", "certificate is self-signed (localhost)"),
    ],
)
async def test_a_bad_certificate_is_refused_with_its_reason_and_read(
    certificates: Certificates, which: str, says: str
) -> None:
    async with tls_server(getattr(certificates, which)) as address:
        reading = await ask(address, certificates, host="localhost")

    assert reading.fault is Fault.TLS
    assert reading.detail.startswith(says)
    assert "tls_not_after_timestamp_s" in reading.values
    assert "certificate_issuer" in reading.facts


async def test_an_expired_certificate_tells_when_it_ended(certificates: Certificates) -> None:
    async with tls_server(certificates.expired) as address:
        reading = await ask(address, certificates)

    assert reading.values["tls_not_after_timestamp_s"] == certificates.expired_at.timestamp()
    assert f"{certificates.expired_at:%Y-%m-%d %H:%M}" in reading.detail


async def test_a_certificate_that_the_system_does_not_trust_is_refused(certificates: Certificates) -> None:
    async with tls_server(certificates.good) as address:
        reading = await probe("tls", host="localhost", port=address.port)

    assert reading.fault is Fault.TLS
    assert reading.detail.startswith("issuer is not trusted")


@pytest.mark.parametrize("which", ["expired", "wrong_name", "unknown_ca", "self_signed"])
async def test_without_verifying_any_certificate_is_taken_and_read(certificates: Certificates, which: str) -> None:
    async with tls_server(getattr(certificates, which)) as address:
        reading = await probe("tls", host="localhost", port=address.port, verify=False)

    assert reading.fault is None
    assert "tls_not_after_timestamp_s" in reading.values


async def test_another_name_can_be_asked_for(certificates: Certificates) -> None:
    asked: list[str | None] = []
    context = certificates.wrong_name.server_context()
    context.sni_callback = lambda _session, name, _context: asked.append(name)
    async with tls_server(context) as address:
        reading = await ask(address, certificates, server_name="khac.example.vn")

    assert reading.fault is None, reading.detail
    assert asked == ["khac.example.vn"]


async def test_fewer_days_left_than_wanted_is_a_matter_of_content(certificates: Certificates) -> None:
    ending = certificates.issue("ending", days=(-80, 9.51))
    async with tls_server(ending) as address:
        early = await ask(address, certificates, min_days_left=14)
        late = await ask(address, certificates, min_days_left=9)

    assert early.fault is Fault.CONTENT
    assert early.detail.endswith("in 9.5 days; at least 14 wanted")
    assert late.fault is None


async def test_an_old_version_is_named(certificates: Certificates) -> None:
    old = certificates.good.server_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_server(old) as address:
        refused = await ask(address, certificates, min_version="1.3")
        taken = await ask(address, certificates, min_version="1.2")

    assert refused.fault is Fault.TLS
    assert refused.detail == "server offers TLS 1.2, at least 1.3 is wanted"
    assert "tls_not_after_timestamp_s" in refused.values
    assert taken.facts["tls_version"] == "TLSv1.2"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
async def test_a_server_that_knows_only_tls_1_0_is_told_from_a_dead_one(certificates: Certificates) -> None:
    ancient = certificates.good.server_context()
    ancient.set_ciphers("ALL:@SECLEVEL=0")
    ancient.minimum_version = ancient.maximum_version = ssl.TLSVersion.TLSv1
    async with tls_server(ancient) as address:
        refused = await ask(address, certificates)
        refused_too = await ask(address, certificates, min_version="1.1")
        taken = await ask(address, certificates, min_version="1.0")

    assert refused.detail == "server offers TLS 1.0, at least 1.2 is wanted"
    assert refused_too.detail == "server offers TLS 1.0, at least 1.1 is wanted"
    assert refused.fault is refused_too.fault is Fault.TLS
    assert taken.fault is None


async def test_the_protocol_chosen_by_alpn_is_a_fact(certificates: Certificates) -> None:
    context = certificates.good.server_context()
    context.set_alpn_protocols(["http/1.1"])
    async with tls_server(context) as address:
        chosen = await ask(address, certificates, alpn=["h2", "http/1.1"])
        none = await ask(address, certificates, alpn=["imap"])

    assert chosen.facts["alpn"] == "http/1.1"
    assert none.fault is not None


async def test_a_server_without_alpn_chooses_nothing(certificates: Certificates) -> None:
    async with tls_server(certificates.good) as address:
        reading = await ask(address, certificates, alpn=["h2"])

    assert reading.fault is Fault.CONTENT
    assert reading.detail == "the server chose no protocol by ALPN, expected one of h2"


async def test_ipv6_works_and_its_address_is_verified(certificates: Certificates) -> None:
    async with tls_server(certificates.good, host="::1") as address:
        reading = await ask(address, certificates)

    assert reading.fault is None, reading.detail
    assert reading.facts["address"] == "::1"


async def test_both_connections_leave_by_the_path(certificates: Certificates) -> None:
    seen: list[str] = []
    context = certificates.self_signed.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the server is done before the client, so the handler ends

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await writer.start_tls(context)
        await reader.read()

    async with byte_server(look) as address:
        reading = await ask(address, certificates, path=Path("vnpt", "VNPT", source="127.0.0.9"))

    assert reading.fault is Fault.TLS
    assert "certificate_sha256" in reading.facts
    assert seen == ["127.0.0.9"] * 2


async def test_a_refused_port_is_refused() -> None:
    with refused_port() as address:
        reading = await probe("tls", host=address.host, port=address.port)

    assert reading.fault is Fault.REFUSED


async def test_silence_lasts_until_the_deadline() -> None:
    async with silent_server() as address:
        reading = await probe("tls", host=address.host, port=address.port, timeout_s=0.1)

    assert reading.fault is Fault.TIMEOUT
    assert reading.detail == "no answer within 0.1 s in phase tls"


async def test_a_connection_that_nobody_takes_times_out() -> None:
    with deaf_port() as address:
        reading = await probe("tls", host=address.host, port=address.port, timeout_s=0.1)

    assert reading.fault is Fault.TIMEOUT
    assert reading.detail.endswith("in phase connect")


async def test_a_byte_a_second_ends_at_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        for byte in b"\x16\x03\x03\x40\x00" + bytes(100):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.03)

    async with byte_server(drip) as address:
        reading = await probe("tls", host=address.host, port=address.port, timeout_s=0.1)

    assert reading.fault is Fault.TIMEOUT


@pytest.mark.parametrize("greeting", [b"220 mail.example.vn ESMTP\r\n", b"* OK IMAP ready\r\n", b"\0" * 64])
async def test_a_server_that_speaks_plain_text_is_told_so(greeting: bytes) -> None:
    async with talk_server(greeting) as address:
        reading = await probe("tls", host=address.host, port=address.port)

    assert reading.fault is Fault.TLS
    assert reading.detail == "the server does not speak TLS on this port"


@pytest.mark.parametrize(
    ("alert", "says"),
    [
        (40, "the server refused the handshake: no version, cipher or certificate suits both"),
        (70, "the server refused the handshake: no version of TLS suits both"),
        (71, "the server refused the handshake: it wants stronger ciphers"),
        (112, "the server has no certificate for localhost"),
        (120, "the server speaks none of the protocols offered by ALPN"),
        (80, "TLS failed: tlsv1 alert internal error"),
    ],
)
async def test_an_alert_is_put_into_plain_words(alert: int, says: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(bytes([21, 3, 3, 0, 2, 2, alert]))

    async with byte_server(refuse) as address:
        reading = await probe("tls", host="localhost", port=address.port)

    assert reading.fault is Fault.TLS
    assert reading.detail == says


async def test_a_server_that_hangs_up_is_told_so() -> None:
    async with resetting_server() as reset, talk_server(b"") as closed:
        for address in (reset, closed):
            reading = await probe("tls", host=address.host, port=address.port)

            assert reading.fault in (Fault.TLS, Fault.REFUSED)
            assert reading.detail


async def test_an_endless_flood_is_not_waited_for() -> None:
    async with endless_line_server() as address:
        reading = await probe("tls", host=address.host, port=address.port)

    assert reading.fault is Fault.TLS


async def test_a_reason_is_told_even_if_the_second_look_hangs(certificates: Certificates) -> None:
    context = certificates.expired.server_context()
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await writer.start_tls(context)
        await asyncio.sleep(60)

    async with byte_server(once) as address:
        reading = await ask(address, certificates, timeout_s=0.3)

    assert connections == 2
    assert reading.fault is Fault.TLS
    assert reading.detail == "the certificate is refused: certificate has expired"


async def test_cancelling_closes_the_connection() -> None:
    accepted, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        try:
            while await reader.read(1024):
                pass
        finally:
            gone.set()

    async with byte_server(wait) as address:
        running = asyncio.create_task(probe("tls", host=address.host, port=address.port))
        await accepted.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(2):
            await gone.wait()


@given(st.binary(max_size=300))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_bytes_are_a_named_fault(data: bytes) -> None:
    async def play() -> Reading:
        async with talk_server(data) as address:
            return await probe("tls", host=address.host, port=address.port, timeout_s=2)

    assert asyncio.run(play()).fault in (Fault.TLS, Fault.REFUSED)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"port": 0}, "greater than or equal to 1"),
        ({"min_version": "1.4"}, "'1.0', '1.1', '1.2' or '1.3'"),
        ({"min_version": True}, "'1.0', '1.1', '1.2' or '1.3'"),
        ({"server_name": "a b"}, "match pattern"),
        ({"alpn": ["a b"]}, "match pattern"),
        ({"min_days_left": -1}, "greater than or equal to 0"),
        ({"ca_file": "/x", "verify": False}, "ca_file has no use with verify: false"),
        ({"cafile": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings_of("tls", **{"host": "a.example.vn", **wrong})


@pytest.mark.parametrize("written", ["1.3", 1.3])
def test_a_version_may_be_written_as_a_number(written: object) -> None:
    assert settings_of("tls", host="a", min_version=written).model_dump()["min_version"] == "1.3"


async def test_a_missing_file_of_authorities_is_our_own_fault(certificates: Certificates, tmp_path: FilePath) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    async with tls_server(certificates.good) as address:
        missing = await probe("tls", host=address.host, port=address.port, ca_file=tmp_path / "none.pem")
        useless = await probe("tls", host=address.host, port=address.port, ca_file=empty)

    assert missing.fault is useless.fault is Fault.LOCAL
    assert missing.detail.endswith("cannot be read: No such file or directory")
    assert useless.detail.endswith("holds no usable certificate")
