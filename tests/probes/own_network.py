"""A loopback network of a test's own: a thread in a fresh network namespace, and a host there that answers at will.

The kernel's own answers to echoes are off, so that a test decides on every reply. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from probes import icmp_packet
from probes.icmp_packet import Echo

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IP_PKTINFO: Final = 8
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_NET_RAW: Final = 13
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Heard(NamedTuple):
    """An echo request that reached the host."""

    echo: Echo
    source: str
    to: str
    packet: bytes  # as quoted by an ICMP error: IP header and all


Answer = tuple[bytes, str]  # an ICMP message, and the address it comes from
Script = Callable[[Heard], Sequence[Answer]]


def reply(heard: Heard, *, ident: int | None = None, seq: int | None = None, body: bytes | None = None) -> Answer:
    """Return the right reply, or one with changes."""
    was = heard.echo
    echo = Echo(
        reply=True,
        ident=was.ident if ident is None else ident,
        seq=was.seq if seq is None else seq,
        body=was.body if body is None else body,
    )
    return icmp_packet.encode(6 if ":" in heard.to else 4, echo), heard.to


def error(heard: Heard, kind: int, code: int, who: str, *, quoted_bytes: int = 576) -> Answer:
    """Return an ICMP error about a request."""
    head = struct.pack("!BBHI", kind, code, 0, 0)
    whole = head + heard.packet[:quoted_bytes]
    if ":" not in heard.to:
        whole = whole[:2] + icmp_packet.checksum(whole).to_bytes(2, "big") + whole[4:]
    return whole, who


@dataclass
class Host:
    """Whoever answers echoes on loopback."""

    script: Script
    heard: list[Heard] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)  # of the script, raised at the end

    def open(self) -> None:
        """Open the raw sockets of both families."""
        for family, protocol in ((socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6)):
            sock = socket.socket(family, socket.SOCK_RAW, protocol)
            sock.setblocking(False)
            self.sockets.append(sock)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Answer while the block runs."""
        loop = asyncio.get_running_loop()
        for sock in self.sockets:
            loop.add_reader(sock, self._serve, sock)
        try:
            yield
        finally:
            for sock in self.sockets:
                loop.remove_reader(sock)
                sock.close()
        if self.failures:
            raise self.failures[0]

    def _serve(self, sock: socket.socket) -> None:
        try:
            self._read(sock)
        except Exception as exc:  # noqa: BLE001  kept, and raised where the test can see it
            self.failures.append(exc)

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (source, *_) = sock.recvfrom(70000)
                heard = self._understood(sock.family, packet, source)
                if heard is not None:
                    self.heard.append(heard)
                    self.send(*self.script(heard), to=source)

    def _understood(self, family: int, packet: bytes, source: str) -> Heard | None:
        v4 = family == socket.AF_INET
        parsed = icmp_packet.parse(4 if v4 else 6, packet, ip_header=v4)
        if not isinstance(parsed, Echo) or parsed.reply:
            return None
        if v4:
            return Heard(parsed, source, socket.inet_ntoa(packet[16:20]), packet)
        inner = struct.pack("!IHBB", 6 << 28, len(packet), 58, 64) + socket.inet_pton(socket.AF_INET6, source)
        return Heard(parsed, source, "::1", inner + socket.inet_pton(socket.AF_INET6, "::1") + packet)

    def send(self, *answers: Answer, to: str) -> None:
        """Send ICMP messages."""
        for message, source in answers:
            if ":" in to:
                self.sockets[1].sendto(message, (to, 0))
            else:
                info = struct.pack("=I4s4s", 0, socket.inet_aton(source), bytes(4))
                self.sockets[0].sendmsg([message], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, (to, 0))


def silent(_: Heard) -> Sequence[Answer]:
    """Say nothing."""
    return ()


def in_own_network(
    scenario: Callable[[Host], Awaitable[None]],
    script: Script = silent,
    *,
    may_open_raw: bool = True,
    ping_sockets: bool = False,
    kernel_answers: bool = False,
    on_uvloop: bool = False,
) -> None:
    """Run a coroutine in a loop in a thread in a network namespace; what it raises is raised here.

    Args:
        scenario: gets the host that answers by `script`.
        script: what the host says to each echo.
        may_open_raw: whether the thread keeps the right to raw sockets.
        ping_sockets: whether the kernel's ping sockets are permitted.
        kernel_answers: whether the kernel answers echoes itself.
        on_uvloop: whether the loop is the one that the daemon prefers.
    """
    errors: list[BaseException] = []

    async def main(host: Host) -> None:
        with host.listening():
            await scenario(host)

    def thread() -> None:
        try:
            _unshare()
            ignore = "0" if kernel_answers else "1"
            Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text(ignore)
            Path("/proc/sys/net/ipv6/icmp/echo_ignore_all").write_text(ignore)
            Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647" if ping_sockets else "1 0")
            host = Host(script)
            host.open()
            if not may_open_raw:
                _drop_net_raw()
            with asyncio.Runner(debug=True, loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
                runner.run(main(host))
        except BaseException as exc:  # noqa: BLE001  carried to the test's own thread
            errors.append(exc)

    runner = threading.Thread(target=thread, name="own network")
    runner.start()
    runner.join()
    if errors:
        raise errors[0]


def _unshare() -> None:
    if _libc.unshare(_CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def _drop_net_raw() -> None:
    """Take CAP_NET_RAW from this thread, and from no other (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    assert _libc.capget(header, data) == 0
    data[0] &= ~(1 << _CAP_NET_RAW)
    assert _libc.capset(header, data) == 0
