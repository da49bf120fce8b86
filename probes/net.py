"""Names, sockets and streams for every probe: resolve, connect by a path, TLS, bounded lines.

No protocol lives here. Everything is bounded: lines, bodies and waits (the caller's deadline cancels).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import re
import socket
import ssl
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from probes.base import Fault, IpFamily, Measurement, Path, ProbeError, fault_of
from probes.handshake_bound import bounded_handshake
from probes.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINE_LIMIT: Final = 8192  # bytes; chosen: 8 times what RFC 5321 and RFC 9051 ask a client to take
STREAM_LIMIT: Final = 65536  # bytes buffered unread in one connection
NEXT_ADDRESS_AFTER_S: Final = 0.25  # RFC 8305 section 5
ADDRESSES_TRIED: Final = 8  # chosen: two seconds until the last is tried

# ICMP errors as Linux hands them to a socket (icmp_err_convert in the kernel's icmp.c and icmpv6.c); the same numbers
# mean our own host when connect or send returns them at once.
_SAID_BY_NETWORK: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EACCES,
        errno.EPERM,
        errno.EMSGSIZE,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    }
)

# Linux's numbers; the socket module of Python 3.11 lacks the names. linux/in.h, linux/in6.h, linux/errqueue.h.
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
ERROR_NOTES: Final = {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # struct sock_extended_err
_TCP_INFO: Final = struct.Struct(
    "=68xI28xI"
)  # linux/tcp.h, struct tcp_info: tcpi_rtt in microseconds, tcpi_total_retrans


SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class Address(NamedTuple):
    """A resolved address, ready to connect to."""

    family: socket.AddressFamily
    ip: str
    port: int

    @property
    def sockaddr(self) -> SocketAddress:
        """What the socket module wants for connect.

        Raises:
            ProbeError: LOCAL when the address names an interface (`fe80::1%eth0`) that is not there.
        """
        if "%" not in self.ip:
            return self.ip, self.port
        ip, _, scope = self.ip.partition("%")
        try:
            number = int(scope) if re.fullmatch("[0-9]{1,9}", scope) else socket.if_nametoindex(scope)
        except (OSError, UnicodeError) as exc:
            raise ProbeError(Fault.LOCAL, f"there is no interface {scope} here, as {self.ip} wants") from exc
        return ip, self.port, 0, number


async def resolve(m: Measurement, host: str, port: int = 0, family: IpFamily = IpFamily.ANY) -> list[Address]:
    """Turn a host into addresses, timed as phase `resolve`. A literal address costs no look-up.

    Only families that the path's source address can reach are returned.

    Raises:
        ProbeError: NAME when the name does not exist or has no address; LOCAL when our resolver gave no answer.
    """
    if family is IpFamily.ANY and m.path and m.path.source:
        family = IpFamily.IP6 if ":" in m.path.source else IpFamily.IP4
    with m.phase("resolve"):
        found = _literal(host) or await _lookup(m, host, family)
    wanted = family.socket_family
    usable = [Address(_family_of(ip), ip, port) for ip in found]
    if wanted != socket.AF_UNSPEC:
        usable = [a for a in usable if a.family == wanted]
    if not usable:
        raise ProbeError(Fault.NAME, f"{host} has no address of the wanted family ({_family_word(wanted)})")
    return usable


def written_address(host: str, port: int, family: IpFamily, path: Path | None) -> Address | None:
    """Return what `resolve` would, for a host that is an address of the wanted family; None when `resolve` has to."""
    if family is IpFamily.ANY and path and path.source:
        family = IpFamily.IP6 if ":" in path.source else IpFamily.IP4
    found = _literal(host)
    # The number of an interface (`fe80::1%eth0`) may change: looked up each time.
    if not found or "%" in found[0] or family.socket_family not in (socket.AF_UNSPEC, _family_of(found[0])):
        return None
    return Address(_family_of(found[0]), found[0], port)


@lru_cache(maxsize=16384)  # the same hosts at every slot; chosen: as many as questions of DNS are kept
def _literal(host: str) -> Sequence[str]:
    """Return the address that a host is written as, or nothing when it is a name."""
    try:
        return (str(ipaddress.ip_address(host.strip("[]"))),)
    except ValueError:
        return ()


async def _lookup(m: Measurement, host: str, family: IpFamily) -> Sequence[str]:
    resolver = m.tools.of(Resolver)
    return resolver.known(host, family) or await resolver.lookup(host, family, timeout_s=m.timeout_s)


def _family_of(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _family_word(family: socket.AddressFamily) -> str:
    return {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}.get(family, "any")


def bind_to_path(sock: socket.socket, path: Path | None) -> None:
    """Make a socket leave by a path: bind its source address, or its interface by SO_BINDTODEVICE.

    Raises:
        ProbeError: LOCAL when the address or interface is not ours, or the right to bind is missing.
    """
    if path is None:
        return
    try:
        if path.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, path.interface.encode() + b"\0")
        if path.source:
            sock.bind((path.source, 0))
    except OSError as exc:
        where = path.interface or path.source
        raise ProbeError(Fault.LOCAL, f"cannot leave by path {path.id} ({where}): {exc.strerror}") from exc


async def connect(m: Measurement, host: str, port: int, family: IpFamily = IpFamily.ANY) -> socket.socket:
    """Open a TCP connection by the measurement's path, timed as phases `resolve` and `connect`.

    Of several addresses the next is tried as well when one has not answered after 250 ms or has failed, so that a dead
    one cannot eat the deadline; the first that answers wins (RFC 8305) and is kept as the fact `address`. The caller
    owns the socket.

    Raises:
        ProbeError: NAME, LOCAL or UNREACHABLE with the reason.
        OSError: what the last address answered.
    """
    addresses = await resolve(m, host, port, family)
    with m.phase("connect"):
        m.fact("address", addresses[0].ip)
        if len(addresses) == 1:
            address, sock = addresses[0], await _connect_one(m, addresses[0])
        else:
            sock, address = await _race(m, _alternating(addresses)[:ADDRESSES_TRIED])
            m.fact("address", address.ip)
    if address is addresses[0] and (took_s := handshake_s(sock)) is not None:
        m.phases["connect"] = took_s  # by the kernel's clock: a busy loop of ours is not in it
    return sock


def handshake_s(sock: socket.socket) -> float | None:
    """Return the kernel's own measure of a new connection's handshake, SYN to SYN-ACK (tcp(7), TCP_INFO).

    None when it has none, or when the SYN had to be sent again: then the whole wait is what there is to tell.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    rtt_us, sent_again = _TCP_INFO.unpack(info)  # every Linux since 2.6.10 gives as much
    return rtt_us / 1e6 if rtt_us and not sent_again else None


def _alternating(addresses: Sequence[Address]) -> list[Address]:
    """Put the families in turn, beginning with the resolver's first choice (RFC 8305 section 4)."""
    first = [a for a in addresses if a.family == addresses[0].family]
    other = [a for a in addresses if a.family != addresses[0].family]
    pairs = zip_longest(first, other)
    return [a for pair in pairs for a in pair if a is not None]


async def _race(m: Measurement, addresses: Sequence[Address]) -> tuple[socket.socket, Address]:
    """Connect to one of several addresses, the next being started when its time has come."""
    left = list(addresses)
    running: dict[asyncio.Task[socket.socket], Address] = {}
    errors: list[ProbeError | OSError] = []
    try:
        while left or running:
            if left:
                address = left.pop(0)
                running[asyncio.create_task(_connect_one(m, address))] = address
            done, _ = await asyncio.wait(
                running, timeout=NEXT_ADDRESS_AFTER_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                address = running[task]
                try:
                    sock = task.result()
                except (ProbeError, OSError) as exc:
                    errors.append(exc)
                    del running[task]
                else:
                    del running[task]
                    return sock, address
    finally:
        for task in running:
            task.add_done_callback(_close_unwanted)
            task.cancel()
    raise _most_telling(errors)


def _close_unwanted(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _most_telling(errors: Sequence[ProbeError | OSError]) -> ProbeError | OSError:
    # A family that we have no route for says nothing when the other family's host did answer.
    for exc in reversed(errors):
        if (exc.fault if isinstance(exc, ProbeError) else fault_of(exc)) != Fault.LOCAL:
            return exc
    return errors[-1]


async def _connect_one(m: Measurement, address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bind_to_path(sock, m.path)
        queue_errors(sock, True, address.family)
        await _start_connect(sock, address)
        queue_errors(
            sock, False, address.family
        )  # a connection that stands outlives passing errors (RFC 1122 section 4.2.3.9)
    except BaseException:
        sock.close()
        raise
    return sock


async def _start_connect(sock: socket.socket, address: Address) -> None:
    begun = sock.connect_ex(address.sockaddr)
    if begun not in (0, errno.EINPROGRESS):
        raise connect_error(begun, address)
    if begun == errno.EINPROGRESS:
        await _writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise connect_error(code, address, sock)


def connect_error(code: int, address: Address, sock: socket.socket | None = None) -> ProbeError | OSError:
    """Return the exception for a failed connect, send or receive.

    Args:
        code: the errno.
        address: whom it concerns.
        sock: given when the error came after the call had begun well. Then the network sent it, and the socket's error
            queue tells who (see `queue_errors`); at once it is our own.
    """
    text = f"{os.strerror(code)} ({address.ip} port {address.port})"
    if sock is None or code not in _SAID_BY_NETWORK:
        return OSError(code, text)
    who = next((error.who for error in queued_errors(sock) if error.who), "")
    return ProbeError(Fault.UNREACHABLE, f"{speaker(who)}: {text}")


def speaker(who: str) -> str:
    """Say who sent an ICMP error: a router by its address, or we ourselves, when the next hop does not answer."""
    if not who:
        return "the network answered"
    if ipaddress.ip_address(who).is_loopback:
        return f"{who} answered"
    with socket.socket(_family_of(who), socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((who, 0))
        except OSError:
            return f"{who} answered"
    return "our own host found no way to the next hop"


class QueuedError(NamedTuple):
    """An ICMP error about something that a socket sent."""

    type: int
    code: int
    info: int  # the MTU of "packet too big"
    who: str  # the router or host that sent it; empty when the kernel does not say
    to: str  # where the packet was going
    quoted: bytes  # the packet's payload, as much as was quoted


def queue_errors(sock: socket.socket, on: bool, family: socket.AddressFamily | None = None) -> None:
    """Let a socket hear of every ICMP error about what it sent, and keep who sent it (ip(7), IP_RECVERR).

    Without it Linux keeps unreachable hosts and networks from UDP sockets altogether. A caller that knows the socket's
    family names it: asking the socket makes an enum of a number each time.
    """
    if (family or sock.family) == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, on)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, on)


def queued_errors(sock: socket.socket, limit: int = 16) -> Iterator[QueuedError]:
    """Take at most `limit` errors from a non-blocking socket's queue."""
    for _ in range(limit):
        try:
            quoted, notes, _flags, to = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return
        for level, kind, data in notes:
            if (level, kind) in ERROR_NOTES and len(data) >= _EXTENDED_ERROR.size:
                _, _, icmp_type, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
                who = offender(data[_EXTENDED_ERROR.size :])
                yield QueuedError(icmp_type, code, info, who, to[0] if to else "", quoted)


def offender(sockaddr: bytes) -> str:
    """Read the address of who sent an ICMP error, a sockaddr behind the extended error; empty when nobody is named."""
    family = int.from_bytes(sockaddr[:2], sys.byteorder)
    if family == socket.AF_INET and len(sockaddr) >= 8:
        return socket.inet_ntop(socket.AF_INET, sockaddr[4:8])
    if family == socket.AF_INET6 and len(sockaddr) >= 24:
        return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24])
    return ""


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    number = sock.fileno()  # by which the loop finds it fastest: it writes out a socket, to tell it from a number
    loop.add_writer(number, wake)
    try:
        await ready
    finally:
        loop.remove_writer(number)


@dataclass(slots=True)
class Stream:
    """A connection with bounded reads. Owned by `open_stream`, which closes it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_line(self, limit: int = LINE_LIMIT) -> bytes:
        """Read one line and return it without its line end.

        Raises:
            ProbeError: PROTOCOL when the line is longer than `limit`; REFUSED when the peer hung up.
        """
        try:
            line = await self.reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as exc:
            got = f" after {len(exc.partial)} bytes" if exc.partial else ""
            raise ProbeError(Fault.REFUSED, f"the server closed the connection{got}") from exc
        except asyncio.LimitOverrunError as exc:
            raise ProbeError(Fault.PROTOCOL, f"a line longer than {limit} bytes came") from exc
        if len(line) > limit:
            raise ProbeError(Fault.PROTOCOL, f"a line longer than {limit} bytes came")
        return line.rstrip(b"\r\n")

    async def read_some(self, limit: int = STREAM_LIMIT) -> bytes:
        """Read what has come, at most `limit` bytes; empty at the end of the stream."""
        return await self.reader.read(limit)

    async def write(self, data: bytes) -> None:
        """Send bytes and wait until the buffer has room again."""
        self.writer.write(data)
        await self.writer.drain()

    async def start_tls(self, m: Measurement, context: ssl.SSLContext, server_name: str) -> None:
        """Turn this plain connection into TLS, timed as phase `tls`.

        Raises:
            ProbeError: PROTOCOL when the server sent bytes ahead of the handshake (CVE-2011-0411: injected text); TLS
                when the handshake does not come to its end.
            ssl.SSLError: the handshake failed; ssl.SSLCertVerificationError when only the certificate did.
        """
        # A line already buffered in plain text would be taken for an answer inside TLS.
        if self.reader._buffer:  # type: ignore[attr-defined]
            raise ProbeError(Fault.PROTOCOL, "the server sent plain text after agreeing to start TLS")
        with m.phase("tls"):
            async with bounded_handshake(self.writer.transport):
                await self.writer.start_tls(context, server_hostname=server_name, ssl_handshake_timeout=m.timeout_s)

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, once there is one."""
        found: ssl.SSLObject | None = self.writer.get_extra_info("ssl_object")
        return found

    @property
    def peer(self) -> tuple[Any, ...]:
        """Address and port of the other side."""
        return self.writer.get_extra_info("peername") or ()

    @property
    def own(self) -> tuple[Any, ...]:
        """Address and port of this side."""
        return self.writer.get_extra_info("sockname") or ()


@asynccontextmanager
async def open_stream(
    m: Measurement,
    host: str,
    port: int,
    *,
    family: IpFamily = IpFamily.ANY,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> AsyncIterator[Stream]:
    """Connect, optionally with TLS from the first byte, and close the connection at the end, also when cancelled.

    Raises:
        ProbeError: see `connect`.
        OSError: see `connect`; ssl.SSLError when the handshake failed.
    """
    sock = await connect(m, host, port, family)
    try:
        reader, writer = await asyncio.open_connection(sock=sock, limit=STREAM_LIMIT)
    except BaseException:
        sock.close()
        raise
    stream = Stream(reader, writer)
    try:
        if tls is not None:
            await stream.start_tls(m, tls, server_name or host)
        yield stream
    finally:
        # abort, not close: a graceful TLS goodbye would wait for a peer that may never answer.
        writer.transport.abort()
