"""Questions to one name server: by UDP from ports that cannot be guessed, by TCP where an answer was cut.

In ordinary times each look-up has a socket, and so a random port, of its own. When very many wait at once, because
the server is slow or dead, they share a bounded number of sockets: descriptors cannot run out, and nobody has to wait
for another one's answer. Sockets are connected, so that the kernel drops what comes from other addresses.

Source: RFC 1035 section 4.2, RFC 5452 (ports and identifiers), RFC 6891 (EDNS), RFC 8914 (extended errors).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import dns.edns
import dns.exception
import dns.message
import dns.name

from probes import dns_message
from probes.base import Fault, ProbeError
from probes.dns_message import MESSAGE_LIMIT, Answer, Question

SOCKETS: Final = (
    32  # chosen: far more than look-ups wait at once in good times, far fewer than the host has descriptors
)
UDP_SIZE: Final = 1232  # bytes; RFC 9715 section 3.1
DATAGRAMS_AT_ONCE: Final = 64  # chosen: taken in one turn of the loop, so that a flood leaves time for others
ALIASES: Final = 8  # chosen: answers that must be asked for on the way of aliases
_IN: Final = 1
_OPT: Final = 41
_ADDRESS_BYTES: Final = {1: 4, 28: 16}
_NOERROR: Final = 0
_SERVFAIL: Final = 2
_NXDOMAIN: Final = 3
_NO_EDNS: Final = frozenset({1, 4, 16})  # FORMERR, NOTIMP, BADVERS: what those say who do not know EDNS
_EXTENDED_ERROR: Final = 15  # RFC 8914 section 2


class Found(NamedTuple):
    """The name has addresses."""

    ips: tuple[str, ...]
    ttl_s: int
    authoritative: bool


class Missing(NamedTuple):
    """The name does not exist, or has no address of the family asked for."""

    exists: bool


class Alias(NamedTuple):
    """The name is another one's, and that one's addresses did not come along."""

    name: str
    ttl_s: int


class Failed(NamedTuple):
    """The server gave no answer that can be used."""

    why: str
    servfail: bool = False  # the server says that it could not find out


class Again(NamedTuple):
    """The server wants to be asked otherwise: by TCP, or without EDNS, which it will be."""

    by_tcp: bool


Outcome = Found | Missing | Alias | Failed | Again
Hear = Callable[["NameServer", Question, Outcome], None]


class _Waiting(NamedTuple):
    asked: Question
    hear: Hear
    edns: bool


class NameServer:
    """One server of resolv.conf, and how it did lately."""

    def __init__(self, ip: str, port: int = 53) -> None:
        """Args: ip: its address, perhaps with the interface (`fe80::1%eth0`)."""
        self.ip = ip
        self.port = port
        self.shunned = False  # another one answered what this one did not
        self.retry_at_s = 0.0  # on the loop's clock: when one that is shunned is asked beside the others again
        self._edns = True
        self._sockets: list[_Socket] = []

    def ask(self, questions: Sequence[Question], hear: Hear) -> Callable[[], None]:
        """Send questions by UDP and let `hear` know, once each, what came of it; return what ends the waiting.

        `hear` may be called before this returns.
        """
        try:
            on = self._socket()
        except (OSError, ProbeError) as exc:
            for asked in questions:
                hear(self, asked, Failed(f"{self.ip}: {exc.strerror if isinstance(exc, OSError) else exc}"))
            return _nothing
        return on.send([_Waiting(asked, hear, self._edns) for asked in questions])

    def _socket(self) -> _Socket:
        if len(self._sockets) >= SOCKETS:
            return random.choice(self._sockets)  # noqa: S311  each one's port is random already
        made = _Socket(self, self._open(socket.SOCK_DGRAM), self._sockets.remove)
        self._sockets.append(made)
        return made

    def _open(self, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self.ip else socket.AF_INET, kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_DGRAM:
                sock.connect(_sockaddr(self.ip, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def ask_by_tcp(self, asked: Question) -> Outcome:
        """Ask by TCP; the caller bounds the time."""
        loop = asyncio.get_running_loop()
        ident = secrets.randbits(16)
        query = dns_message.encode_query(ident, asked, recursion=True)
        try:
            with self._open(socket.SOCK_STREAM) as sock:
                await loop.sock_connect(sock, _sockaddr(self.ip, self.port))
                await loop.sock_sendall(sock, len(query).to_bytes(2, "big") + query)
                wire = await _exactly(sock, int.from_bytes(await _exactly(sock, 2), "big"))
            answer = dns_message.parse(wire, ident, asked)
            return Failed(f"{self.ip} answers something else by TCP") if answer is None else self.read(asked, answer)
        except (OSError, ProbeError) as exc:
            return Failed(f"{self.ip} by TCP: {exc.strerror or exc if isinstance(exc, OSError) else exc}")

    def read(self, asked: Question, answer: Answer) -> Outcome:
        """Say what an answer means.

        Raises:
            ProbeError: PROTOCOL when it is broken.
        """
        if answer.rcode == _NXDOMAIN:
            return Missing(exists=False)
        if answer.rcode != _NOERROR:
            return _refusal(self.ip, answer)
        if not answer.answers:
            return Missing(exists=True)
        size = _ADDRESS_BYTES[asked.type]
        if all((r.type, r.rdclass, r.end - r.begin) == (asked.type, _IN, size) for r in answer.answers):
            ips = dict.fromkeys(dns_message.text(answer, r) for r in answer.answers)
            return Found(tuple(ips), min(r.ttl_s for r in answer.answers), answer.authoritative)
        return _by_aliases(answer)

    def read_datagram(self, asked: Question, answer: Answer, *, edns: bool) -> Outcome:
        """Say what an answer by UDP means, to a question with EDNS or without.

        Raises:
            ProbeError: PROTOCOL when it is broken.
        """
        if answer.truncated:
            return Again(by_tcp=True)
        if edns and answer.rcode in _NO_EDNS:
            self._edns = False
            return Again(by_tcp=False)
        return self.read(asked, answer)


class _Socket:
    """A connected UDP socket and who waits for answers on it, by identifier; closed when nobody does."""

    def __init__(self, server: NameServer, sock: socket.socket, gone: Callable[[_Socket], None]) -> None:
        self._server = server
        self._sock = sock
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, _Waiting] = {}
        # By number: for a socket the selector makes a text of it first, to say that it does not know it.
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, wanted: Sequence[_Waiting]) -> Callable[[], None]:
        """Send all; return what forgets them."""
        sent = [(self._ident(waiting), waiting) for waiting in wanted]
        try:
            for ident, waiting in sent:
                size = UDP_SIZE if waiting.edns else 512
                self._sock.send(dns_message.encode_query(ident, waiting.asked, recursion=True, udp_size=size))
        except BlockingIOError:
            pass  # a full buffer is a lost datagram: it is asked again
        except OSError as exc:
            self._fail(exc)

        def forget() -> None:
            for ident, waiting in sent:
                self._forget(ident, waiting)

        return forget

    def _ident(self, waiting: _Waiting) -> int:
        ident = secrets.randbits(16)
        while ident in self._waiting:
            ident = secrets.randbits(16)
        self._waiting[ident] = waiting
        return ident

    def _read(self) -> None:
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                wire = self._sock.recv(MESSAGE_LIMIT)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._fail(exc)
                return
            self._take(wire)
            if not self._waiting:
                return

    def _take(self, wire: bytes) -> None:
        ident = int.from_bytes(wire[:2], "big")
        waiting = self._waiting.get(ident)
        if waiting is None:
            return
        server = self._server
        try:
            answer = dns_message.parse(wire, ident, waiting.asked)
            if answer is None:
                return
            outcome = server.read_datagram(waiting.asked, answer, edns=waiting.edns)
        except ProbeError as exc:
            outcome = Failed(f"{server.ip}: {exc}")
        self._forget(ident, waiting)
        waiting.hear(server, waiting.asked, outcome)

    def _fail(self, exc: OSError) -> None:
        """Tell all who wait: an ICMP error is about the server, not about one question."""
        for ident, waiting in list(self._waiting.items()):
            self._forget(ident, waiting)
            why = os.strerror(exc.errno) if exc.errno else str(exc)
            waiting.hear(self._server, waiting.asked, Failed(f"{self._server.ip}: {why}"))

    def _forget(self, ident: int, waiting: _Waiting) -> None:
        if self._waiting.get(ident) is waiting:
            del self._waiting[ident]
            if not self._waiting:
                self._loop.remove_reader(self._sock.fileno())
                self._sock.close()
                self._gone(self)


def _nothing() -> None:
    """Nothing waits."""


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = b""
    while len(got) < size:
        part = await loop.sock_recv(sock, size - len(got))
        if not part:
            raise ProbeError(Fault.PROTOCOL, "it hung up before the whole answer")
        got += part
    return got


def _sockaddr(ip: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    ip, _, scope = ip.partition("%")
    if not scope:
        return ip, port
    return ip, port, 0, int(scope) if scope.isdigit() and len(scope) < 10 else socket.if_nametoindex(scope)


def _refusal(ip: str, answer: Answer) -> Failed:
    """Put an error of the server's into words, with its own reason where it gives one."""
    reasons = ", ".join(dict.fromkeys(_extended_errors(answer)))
    why = f"{ip} says {dns_message.rcode_name(answer.rcode)}" + (f" ({reasons})" if reasons else "")
    return Failed(why, servfail=answer.rcode == _SERVFAIL)


def _extended_errors(answer: Answer) -> Iterator[str]:
    for record in answer.additional:
        at = record.begin if record.type == _OPT else record.end
        while at + 4 <= record.end:
            option, size = (int.from_bytes(answer.wire[i : i + 2], "big") for i in (at, at + 2))
            data = answer.wire[at + 4 : min(at + 4 + size, record.end)]
            at += 4 + size
            if option == _EXTENDED_ERROR and len(data) >= 2:
                yield _error_name(int.from_bytes(data[:2], "big"))


def _error_name(code: int) -> str:
    name = dns.edns.EDECode.make(code).name
    return f"extended error {code}" if name.isdecimal() else name.lower().replace("_", " ")


def _by_aliases(answer: Answer) -> Outcome:
    """Follow the aliases within one answer.

    Raises:
        ProbeError: PROTOCOL when it is broken.
    """
    try:
        message = dns.message.from_wire(answer.wire)
        chain = message.resolve_chaining() if isinstance(message, dns.message.QueryMessage) else None
    except dns.message.ChainTooLong:
        return Missing(exists=True)
    except (dns.exception.DNSException, ValueError) as exc:
        raise ProbeError(Fault.PROTOCOL, f"an answer that cannot be read: {exc}") from exc
    if chain is None:
        raise ProbeError(Fault.PROTOCOL, "an answer that is none to a question")
    if chain.answer is not None:
        ips = tuple(str(ipaddress.ip_address(r.address)) for r in chain.answer)
        return Found(ips, chain.minimum_ttl, answer.authoritative)
    if chain.cnames and not answer.authority:
        return Alias(str(chain.canonical_name), chain.minimum_ttl)
    return Missing(exists=True)
