"""In-process servers on loopback for unit tests: they speak bytes, so every misbehaviour is one small handler.

All listen on a free port, yield an Address and are gone, with their connections and tasks, when the block ends.
A handler that raises anything but a lost connection fails the test that started the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple, cast

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from probes.base import utc_now

LOOPBACK: Final = "127.0.0.1"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DatagramHandler = Callable[[bytes], bytes | None]


class Address(NamedTuple):
    """Where a server listens; unpacks as `host, port`."""

    host: str
    port: int


class _Connections:
    """Every connection of one server and the task that serves it."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.failures: list[BaseException] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handler(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError):
            writer.transport.abort()  # the client went away: often the very thing under test
        except Exception as exc:  # noqa: BLE001  kept, and raised where the test can see it
            self.failures.append(exc)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def end(self) -> None:
        tasks = dict(self._tasks)
        for task, writer in tasks.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def byte_server(
    handler: Handler, *, host: str = LOOPBACK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Address]:
    """Serve each connection with `handler(reader, writer)`; the connection is closed when it returns."""
    connections = _Connections(handler)
    server = await asyncio.start_server(connections.accept, host, 0, ssl=tls)
    try:
        yield Address(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await connections.end()
        await server.wait_closed()
    if connections.failures:
        raise connections.failures[0]


def silent_server(*, host: str = LOOPBACK) -> contextlib.AbstractAsyncContextManager[Address]:
    """Accept, read whatever comes and never say a word."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    return byte_server(handler, host=host)


def drip_server(data: bytes, *, every_s: float = 1.0) -> contextlib.AbstractAsyncContextManager[Address]:
    """Send `data` one byte every `every_s` seconds, then close: alive at each moment, useless as a whole."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every_s)

    return byte_server(handler)


def endless_line_server(start: bytes = b"", filler: bytes = b"a") -> contextlib.AbstractAsyncContextManager[Address]:
    """Send `start`, then `filler` as fast as the client reads and without end: no line ever closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        block = filler * (8192 // len(filler))
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0)  # drain does not yield while the buffer is low

    return byte_server(handler)


def talk_server(
    *turns: bytes, tls: ssl.SSLContext | None = None, host: str = LOOPBACK
) -> contextlib.AbstractAsyncContextManager[Address]:
    """Send the first turn on connecting and each later one after a line from the client; then close.

    An empty turn says nothing, for protocols in which the client speaks first.
    """

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, turn in enumerate(turns):
            if number and not await reader.readline():
                return
            writer.write(turn)
            await writer.drain()

    return byte_server(handler, tls=tls, host=host)


def resetting_server() -> contextlib.AbstractAsyncContextManager[Address]:
    """Accept and hang up at once with a reset."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return byte_server(handler)


@contextlib.contextmanager
def refused_port(host: str = LOOPBACK) -> Iterator[Address]:
    """Hold a port on which nothing listens: bound, so that nobody else takes it, and every connect is refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as holder:
        holder.bind((host, 0))
        yield Address(host, holder.getsockname()[1])


@contextlib.contextmanager
def deaf_port() -> Iterator[Address]:
    """Hold a port whose queue of new connections is full: a connect neither succeeds nor fails (Linux)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        address = Address(LOOPBACK, listener.getsockname()[1])
        for _ in range(4):  # a backlog of 0 holds one; the rest make sure of it
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: DatagramHandler, failures: list[BaseException]) -> None:
        self._answer = answer
        self._failures = failures
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # no common base class before Python 3.12

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        assert self._transport is not None
        try:
            reply = self._answer(data)
        except Exception as exc:  # noqa: BLE001  kept, and raised where the test can see it
            self._failures.append(exc)
            return
        if reply is not None:
            self._transport.sendto(reply, addr)


@contextlib.asynccontextmanager
async def datagram_server(answer: DatagramHandler, *, host: str = LOOPBACK, port: int = 0) -> AsyncIterator[Address]:
    """Answer each UDP datagram with `answer(data)`; None keeps silent."""
    failures: list[BaseException] = []
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(answer, failures), local_addr=(host, port))
    try:
        yield Address(host, transport.get_extra_info("sockname")[1])
    finally:
        transport.close()
        await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop
    if failures:
        raise failures[0]


@dataclass(frozen=True, slots=True)
class Certificate:
    """One server certificate: files for real servers, a context for in-process ones."""

    chain_file: Path  # certificate, then whatever signed it, PEM
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a new context for a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        return context


class Certificates:
    """A certificate authority of the tests' own, and what it signed, well and badly, as files in `folder`."""

    names: Final = ("localhost", LOOPBACK, "::1")

    def __init__(self, folder: Path, *more_names: str) -> None:
        """Args: folder: where the PEM files go. more_names: names and addresses the certificates shall also hold."""
        self._folder = folder
        self._identities = (*self.names, *more_names)
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        now = utc_now().replace(microsecond=0)  # certificates hold whole seconds
        self.expired_at = now - timedelta(days=1)
        self.valid_from = now + timedelta(days=1)
        self.good = self._issue("good", self._identities)
        self.expired = self._issue("expired", self._identities, days=(-30, -1))
        self.not_yet_valid = self._issue("not-yet-valid", self._identities, days=(1, 30))
        self.wrong_name = self._issue("wrong-name", ("khac.example.vn",))
        self.unknown_ca = self._write("unknown-ca", trustme.CA().issue_cert(*self._identities))
        self.self_signed = self._self_signed()

    def client_context(self) -> ssl.SSLContext:
        """Return a new context for a client that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def issue(self, name: str, *identities: str, days: tuple[float, float] | None = None) -> Certificate:
        """Sign one more certificate, valid between `days` from now (negative is the past)."""
        return self._issue(name, identities or self._identities, days=days)

    def _issue(self, name: str, identities: tuple[str, ...], days: tuple[float, float] | None = None) -> Certificate:
        if days is None:
            return self._write(name, self._ca.issue_cert(*identities))
        now = utc_now().replace(microsecond=0)
        begin, end = (now + timedelta(days=d) for d in days)
        return self._write(name, self._ca.issue_cert(*identities, not_before=begin, not_after=end))

    def _write(self, name: str, leaf: trustme.LeafCert) -> Certificate:
        files = self._files(name)
        for number, pem in enumerate(leaf.cert_chain_pems):
            pem.write_to_path(str(files.chain_file), append=number > 0)
        leaf.private_key_pem.write_to_path(str(files.key_file))
        return files

    def _files(self, name: str) -> Certificate:
        return Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")

    def _self_signed(self) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = utc_now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName([_general_name(i) for i in self._identities]), critical=False)
            .sign(key, hashes.SHA256())
        )
        files = self._files("self-signed")
        files.chain_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


def _general_name(identity: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(identity))
    except ValueError:
        return x509.DNSName(identity)
