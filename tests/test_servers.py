"""The in-process servers do what the probes' tests take for granted."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.servers import (
    Certificate,
    Certificates,
    byte_server,
    datagram_server,
    deaf_port,
    drip_server,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
    talk_server,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), "mail.tinh.example.vn")


async def test_a_talk_goes_turn_by_turn_and_ends() -> None:
    async with talk_server(b"220 ready\r\n", b"250 ok\r\n") as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        assert await reader.readline() == b"220 ready\r\n"
        writer.write(b"EHLO x\r\n")
        assert await reader.readline() == b"250 ok\r\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_silent_server_takes_words_and_gives_none() -> None:
    async with silent_server() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.03)
        writer.close()
        await writer.wait_closed()


async def test_a_drip_comes_a_byte_at_a_time() -> None:
    async with drip_server(b"ab", every_s=0.01) as address:
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read(100) == b"a"
        assert await reader.read(100) == b"b"
        writer.close()
        await writer.wait_closed()


async def test_an_endless_line_never_closes() -> None:
    async with endless_line_server(b"220 ") as address:
        reader, writer = await asyncio.open_connection(*address)
        text = await reader.readexactly(200_000)
        assert text.startswith(b"220 aaa")
        assert b"\n" not in text
        writer.close()
        await writer.wait_closed()


async def test_a_refused_port_refuses_and_a_reset_resets() -> None:
    with refused_port() as address, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    async with resetting_server() as address:
        reader, writer = await asyncio.open_connection(*address)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_a_deaf_port_leaves_a_connect_hanging() -> None:
    with deaf_port() as address, pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection(*address), 0.05)


async def test_a_handlers_own_mistake_fails_the_test() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise LookupError("mistake in the test")

    async def visit() -> None:
        async with byte_server(handler) as address:
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    with pytest.raises(LookupError, match="mistake in the test"):
        await visit()


async def test_datagrams_are_answered_or_swallowed() -> None:
    class Client(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.got.put_nowait(data)

    async with datagram_server(lambda data: data.upper() if data != b"hush" else None) as address:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_datagram_endpoint(Client, remote_addr=address)
        transport.sendto(b"hush")
        transport.sendto(b"word")
        assert await asyncio.wait_for(client.got.get(), 1) == b"WORD"
        assert client.got.empty()
        transport.close()
        await asyncio.sleep(0)


async def _handshake(certificates: Certificates, shown: Certificate, name: str = "localhost") -> None:
    async with talk_server(b"hello\r\n", tls=shown.server_context()) as (host, port):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=certificates.client_context(), server_hostname=name
        )
        assert await reader.readline() == b"hello\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "mail.tinh.example.vn"])
async def test_the_good_certificate_holds_for_its_names(certificates: Certificates, name: str) -> None:
    await _handshake(certificates, certificates.good, name)


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("expired", "certificate has expired"),
        ("not_yet_valid", "not yet valid"),
        ("wrong_name", "Hostname mismatch"),
        ("unknown_ca", "unable to get local issuer"),
        ("self_signed", "self-signed certificate|self signed certificate"),
    ],
)
async def test_each_bad_certificate_is_bad_for_its_own_reason(
    certificates: Certificates, which: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        await _handshake(certificates, getattr(certificates, which))
