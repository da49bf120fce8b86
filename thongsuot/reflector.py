"""The other end of quality checks: sends test packets back with its own times (`thongsuot reflector`).

It never sends without being asked, never more than it was sent, and never faster than its limits, so that nobody can
use it against a third party: an answer is exactly as long as its question, strangers can be kept out by address or by
key, and what comes from another reflector is not answered, for two reflectors would keep a packet going for ever.

Source: RFC 8762 sections 4.3 (reflector, stateless and stateful), 5 (operations) and 6 (security); RFC 8972 section 3
(session identifier).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final, NamedTuple

from probes import stamp_packet
from probes.own_clock import clock_state
from probes.stamp_packet import Reflected, Test

log = logging.getLogger(__name__)

REFWAIT_S: Final = 900.0  # RFC 8762 section 3: how long a session without packets is remembered
SESSIONS_KEPT: Final = 10_000  # and sources; chosen: a few megabytes
LEAST_PORT: Final = 1024  # below it are services, never senders
PACKET_LIMIT: Final = 9216  # bytes; chosen: the largest usual frame
BATCH: Final = 64  # chosen: packets in one turn of the loop, so that a flood cannot keep signals waiting
CLOCK_LOOK_S: Final = 10.0  # how long one look at the kernel's clock state is good for

# Linux's numbers; the socket module of Python 3.11 lacks some names. linux/in.h, linux/in6.h, asm-generic/socket.h.
_SO_TIMESTAMPNS_NEW: Final = 64
_IP_PKTINFO, _IP_RECVTTL, _IP_RECVTOS = 8, 12, 13
_TIMESPEC: Final = struct.Struct("=qq")
_IPV4_INFO: Final = struct.Struct("=i4s4s")
_IPV6_INFO: Final = struct.Struct("=16si")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rules:
    """Whom it answers, and how."""

    allow: tuple[_Network, ...] = ()  # empty: everybody
    key: bytes = b""  # packets without its integrity get no answer
    counts: bool = False  # stateful: numbers its own packets, a session each
    source_pps: int = 1000  # packets a second for one address (IPv6: one /64)
    total_pps: int = 20_000  # for all together
    synchronised: bool | None = None  # what to say of our clock; None is what the kernel knows


def make_rules(
    allow: Sequence[str],
    key_file: FilePath | None,
    counts: bool,
    source_pps: int,
    total_pps: int,
    synchronised: bool | None,
) -> Rules:
    """Read what the command line says.

    Raises:
        ValueError: a network is none, or the key is empty.
        OSError: the key cannot be read.
    """
    key = b""
    if key_file is not None:
        key = key_file.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
        if not key:
            raise ValueError(f"--key-file {key_file}: the first line is empty")
    networks = tuple(ipaddress.ip_network(text, strict=False) for text in allow)
    return Rules(networks, key, counts, source_pps, total_pps, synchronised)


class Limiter:
    """Packets a second for each of many: a bucket each that fills evenly and holds a second's worth."""

    def __init__(self, per_second: int, kept: int = SESSIONS_KEPT) -> None:
        """Args: per_second: packets. kept: buckets remembered, the least used being forgotten first."""
        self._per_second = per_second
        self._kept = kept
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()  # level, and when it was right

    def admits(self, who: object, now_s: float) -> bool:
        """Take one packet out of somebody's bucket; False when it is empty."""
        level, since_s = self._buckets.pop(who, (float(self._per_second), now_s))
        level = min(float(self._per_second), level + (now_s - since_s) * self._per_second)
        admitted = level >= 1
        self._buckets[who] = (level - 1 if admitted else level), now_s
        if len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)
        return admitted


class Sessions:
    """How many packets of each session were sent back."""

    def __init__(self, kept: int = SESSIONS_KEPT) -> None:
        """Args: kept: sessions remembered, the least used being forgotten first."""
        self._kept = kept
        self._counts: OrderedDict[object, tuple[int, float]] = OrderedDict()  # next number, and when it was used

    def number(self, session: object, now_s: float) -> int:
        """Return the number of a session's next packet, from 0."""
        count, used_s = self._counts.pop(session, (0, now_s))
        if now_s - used_s > REFWAIT_S:
            count = 0
        self._counts[session] = (count + 1) % 2**32, now_s
        while len(self._counts) > self._kept or self._is_old(now_s):
            self._counts.popitem(last=False)
        return count

    def _is_old(self, now_s: float) -> bool:
        return now_s - next(iter(self._counts.values()))[1] > REFWAIT_S


class Question(NamedTuple):
    """A packet that came, and how."""

    wire: bytes
    host: str
    port: int  # the sender's
    received_ns: int
    ttl: int  # TTL or hop limit that was left; 0 when unknown


class Reflector:
    """Decides on each packet. Pure: times and clocks are arguments."""

    def __init__(self, rules: Rules, own_ports: Sequence[int] = ()) -> None:
        """Args: own_ports: that reflectors listen on; nothing that comes from one is answered."""
        self._rules = rules
        self._not_from = frozenset(own_ports)
        self._each = Limiter(rules.source_pps)
        self._all = Limiter(rules.total_pps, kept=1)
        self._sessions = Sessions()
        self.counts: Counter[str] = Counter()

    def accept(self, question: Question, now_s: float) -> Test | None:
        """Return the test packet when it gets an answer, and count it either way."""
        refusal, test = self._judged(question, now_s)
        self.counts[refusal or "answered"] += 1
        return test

    def _judged(self, question: Question, now_s: float) -> tuple[str, Test | None]:
        if question.port < LEAST_PORT or question.port in self._not_from:
            return "from_a_service", None
        address = ipaddress.ip_address(question.host.partition("%")[0])
        if self._rules.allow and not any(address in network for network in self._rules.allow):
            return "not_allowed", None
        if not self._each.admits(_who(address), now_s) or not self._all.admits("all", now_s):
            return "too_many", None
        test = stamp_packet.parse_test(question.wire, self._rules.key)
        return ("", test) if test is not None else ("no_test_packet", None)

    def answer(self, question: Question, test: Test, *, clock: int, now_s: float) -> bytes:
        """Return what is sent back, exactly as long as what came; the time of sending is left to the last moment.

        Args:
            question: what came.
            test: what it says.
            clock: our error estimate.
            now_s: monotonic time.
        """
        seq = test.seq
        if self._rules.counts:
            seq = self._sessions.number((question.host, question.port, test.session), now_s)
        reflected = Reflected(seq, 0, clock, test.session, question.received_ns, test, question.ttl)
        return reflected.encode(question.wire, self._rules.key)


def _who(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> object:
    # Whoever has one address of IPv6 has the 2^64 beside it.
    return address if address.version == 4 else int(address) >> 64


class _Listener:
    """One socket: takes packets in with what the kernel knows of them, and sends answers from where they came to."""

    def __init__(self, reflector: Reflector, sock: socket.socket, clock: Callable[[], int], key: bytes) -> None:
        self._reflector = reflector
        self._key = key
        self._sock = sock
        self._clock = clock

    def read(self) -> None:
        """Answer what has come, at most a batch."""
        for _ in range(BATCH):
            try:
                wire, notes, flags, source = self._sock.recvmsg(PACKET_LIMIT, 256)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                log.debug("receive: %s", exc)
                return
            if not flags & socket.MSG_TRUNC:
                self._take(wire, notes, source)

    def _take(self, wire: bytes, notes: Sequence[tuple[int, int, bytes]], source: tuple[str, int]) -> None:
        received_ns, ttl = time.clock_gettime_ns(time.CLOCK_REALTIME), 0
        for level, kind, data in notes:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS_NEW:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                received_ns = seconds * 1_000_000_000 + nanoseconds
            elif (level, kind) in _TTLS:
                ttl = data[0] if len(data) == 1 else int(struct.unpack("=i", data)[0])
        question = Question(wire, source[0], source[1], received_ns, ttl)
        now_s = time.monotonic()
        test = self._reflector.accept(question, now_s)
        if test is None:
            return
        reply = bytearray(self._reflector.answer(question, test, clock=self._clock(), now_s=now_s))
        back = list(_back(notes))
        stamp_packet.stamp_in_place(reply, time.clock_gettime_ns(time.CLOCK_REALTIME), self._key)
        try:
            self._sock.sendmsg([reply], back, 0, source)
        except OSError as exc:
            self._reflector.counts["not_sent"] += 1
            log.debug("send to %s: %s", source[0], exc)


_TTLS: Final = {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}


def _back(notes: Sequence[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    """Make a reply leave from the address that was asked, in the class of service that was asked in."""
    for level, kind, data in notes:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, local, _ = _IPV4_INFO.unpack(data)
            yield level, kind, _IPV4_INFO.pack(0, local, bytes(4))
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            local, interface = _IPV6_INFO.unpack(data)
            link_local = local[0] == 0xFE and local[1] & 0xC0 == 0x80
            yield level, kind, _IPV6_INFO.pack(local, interface if link_local else 0)
        elif (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS):
            yield level, kind, struct.pack("=i", data[0] & 0xFC)
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_TCLASS):
            yield level, kind, struct.pack("=i", struct.unpack("=i", data)[0] & 0xFC)


def open_socket(host: str, port: int) -> socket.socket:
    """Open a socket that listens and is told when, where and how packets came.

    Raises:
        OSError: the address is not ours, the port is taken or not permitted.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW, 1)
        if family == socket.AF_INET6:
            for option in (
                socket.IPV6_V6ONLY,
                socket.IPV6_RECVPKTINFO,
                socket.IPV6_RECVHOPLIMIT,
                socket.IPV6_RECVTCLASS,
            ):
                sock.setsockopt(socket.IPPROTO_IPV6, option, 1)
        else:
            for option in (_IP_PKTINFO, _IP_RECVTTL, _IP_RECVTOS):
                sock.setsockopt(socket.IPPROTO_IP, option, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


class _OwnClock:
    """Our error estimate, asked of the kernel now and then."""

    def __init__(self, synchronised: bool | None) -> None:
        self._synchronised = synchronised
        self._looked_s = -CLOCK_LOOK_S
        self._estimate = 0

    def __call__(self) -> int:
        now_s = time.monotonic()
        if now_s - self._looked_s >= CLOCK_LOOK_S:
            self._looked_s = now_s
            self._estimate = stamp_packet.error_estimate(clock_state(), synchronised=self._synchronised)
        return self._estimate


@contextlib.contextmanager
def reflecting(sockets: Sequence[socket.socket], rules: Rules) -> Iterator[Reflector]:
    """Answer on these sockets while the block runs, in the running loop; closes them at the end."""
    loop = asyncio.get_running_loop()
    reflector = Reflector(rules, [sock.getsockname()[1] for sock in sockets])
    clock = _OwnClock(rules.synchronised)
    for sock in sockets:
        loop.add_reader(sock, _Listener(reflector, sock, clock, rules.key).read)
    try:
        yield reflector
    finally:
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()


async def serve(sockets: Sequence[socket.socket], rules: Rules, stop: asyncio.Event) -> Counter[str]:
    """Answer until told to stop; return how many packets were answered, and why others were not."""
    with reflecting(sockets, rules) as reflector:
        await stop.wait()
    return reflector.counts
