"""The way to an address, hop by hop: echoes with a growing hop limit, and who says that they died.

Every echo of a trace carries the same identifier and checksum, so that routers which share load keep them on one way
(Augustin et al., "Avoiding traceroute anomalies with Paris traceroute", IMC 2006). All hops are asked almost at once;
those that stay silent are asked again. Needs raw sockets.

Source: RFC 792 and RFC 4443 section 3.3 (time exceeded), RFC 1812 section 5.3.1; raw(7), ip(7), ipv6(7) of Linux.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from probes.base import Fault, ProbeError
from probes.icmp_packet import HEADER_BYTES, Echo, EchoMaker, Refused, parse, reason
from probes.icmp_socket import SO_TIMESTAMPNS_NEW, Flow, open_flow, permission_fix
from probes.net import SocketAddress

HOPS_LIMIT: Final = 64
SIZE_BYTES: Final = 32  # of the payload; small enough for any link
SILENT_END: Final = 8  # hops in a row without an answer at which a trace is not made longer in the first sweep

_TIMESPEC: Final = struct.Struct("=qq")
_READS_AT_ONCE: Final = 64
_TIME_EXCEEDED: Final = {4: (11, 0), 6: (3, 0)}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a trace is made; at most `max_hops` x `sweeps` echoes leave."""

    to: SocketAddress
    max_hops: int
    sweeps: int  # how often a hop is asked at most
    gap_s: float  # between echoes
    wait_s: float  # for answers, after the last echo of a sweep


@dataclass(frozen=True, slots=True)
class Hop:
    """Who answered for one hop limit, and how fast."""

    address: str
    rtt_s: float
    reply: bool = False  # an echo reply: the way ends here
    refusal: str = ""  # an error other than that the hop limit was used up


@dataclass(slots=True)
class Trace:
    """What became of a trace."""

    hops: dict[int, Hop] = field(default_factory=dict)  # by hop limit
    sent: int = 0

    @property
    def end(self) -> int | None:
        """The hop limit at which the destination answered, or a router said that nobody can."""
        return min((limit for limit, hop in self.hops.items() if hop.reply or hop.refusal), default=None)

    def way(self) -> list[Hop | None]:
        """Return the hops in order, up to the end or the last that answered; None is a silent one."""
        last = self.end or max(self.hops, default=0)
        return [self.hops.get(limit) for limit in range(1, last + 1)]


async def trace(flow: Flow, plan: Plan) -> Trace:
    """Ask every hop, and those that were silent again.

    Raises:
        ProbeError: LOCAL when raw sockets are not permitted, or nothing can be sent.
    """
    tracer = _Tracer(flow, plan)
    try:
        for sweep in range(plan.sweeps):
            await tracer.sweep(sweep)
            if not tracer.silent():
                break
    finally:
        tracer.close()
    return tracer.found


class _Tracer:
    """One trace under way."""

    def __init__(self, flow: Flow, plan: Plan) -> None:
        self._version = flow.version
        self._plan = plan
        ident, cookie = secrets.randbelow(0xFFFF) + 1, secrets.token_bytes(8)
        self._sock, raw = open_flow(flow, ident)
        if not raw:
            self._sock.close()
            raise ProbeError(Fault.LOCAL, f"a trace needs raw sockets: {permission_fix()}")
        self._maker = EchoMaker(self._version, ident, cookie, SIZE_BYTES)
        self._base = secrets.randbits(31) & ~0xFFF  # so that the low bits are ours to count with
        self._under_way: dict[int, tuple[int, int, bytes]] = {}  # sequence number: hop limit, when sent (ns), packet
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._read)
        self.found = Trace()

    def close(self) -> None:
        """Give the socket back."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def silent(self) -> list[int]:
        """Return the hop limits that may still have something to say, the nearest first."""
        found = self.found
        last = found.end or min(max(found.hops, default=0) + SILENT_END, self._plan.max_hops)
        return [limit for limit in range(1, last + 1) if limit not in found.hops]

    async def sweep(self, number: int) -> None:
        """Ask all that are silent, then wait a while."""
        limits = list(range(1, self._plan.max_hops + 1)) if number == 0 else self.silent()
        for limit in limits:
            end = self.found.end
            if end is not None and limit > end:
                break
            if limit not in self.found.hops:
                self._send(number, limit)
                await asyncio.sleep(self._plan.gap_s)
        until = self._loop.time() + self._plan.wait_s
        while self._waits() and (left := until - self._loop.time()) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                break
        self._read()  # what the kernel holds already has come in time, however late we look

    def _waits(self) -> bool:
        """Whether an echo is under way that may still tell something."""
        end = self.found.end or self._plan.max_hops
        return any(limit <= end and limit not in self.found.hops for limit, _, _ in self._under_way.values())

    def _send(self, sweep: int, limit: int) -> None:
        serial = self._base + sweep * (HOPS_LIMIT + 1) + limit
        packet = self._maker.make(serial)
        if self._version == 4:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, limit)
        else:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, limit)
        self._under_way[serial & 0xFFFF] = (limit, time.clock_gettime_ns(time.CLOCK_REALTIME), packet)
        try:
            self._sock.sendto(packet, self._plan.to)
        except OSError as exc:
            raise ProbeError(Fault.LOCAL, f"cannot send to {self._plan.to[0]}: {exc.strerror}") from exc
        self.found.sent += 1

    def _read(self) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                packet, notes, _flags, source = self._sock.recvmsg(2048, 128)
            except (BlockingIOError, InterruptedError):
                return
            came_ns = _stamp(notes)
            parsed = parse(self._version, packet, ip_header=self._version == 4)
            if isinstance(parsed, Refused):
                self._died(parsed, source[0], came_ns)
            elif parsed is not None and parsed.reply:
                self._arrived(parsed, source[0], came_ns)

    def _arrived(self, reply: Echo, source: str, came_ns: int) -> None:
        asked = self._under_way.get(reply.seq)
        if asked is not None and reply.body == asked[2][HEADER_BYTES:]:
            self._note(asked, Hop(_bare(source), (came_ns - asked[1]) / 1e9, reply=True))

    def _died(self, error: Refused, source: str, came_ns: int) -> None:
        asked = self._under_way.get(error.seq)
        if asked is None or error.to != _bare(self._plan.to[0]):
            return
        if not asked[2][HEADER_BYTES:].startswith(error.body[:SIZE_BYTES]):
            return  # what a router quotes of an echo must be ours; many quote nothing of the payload
        used_up = (error.type, error.code) == _TIME_EXCEEDED[self._version]
        refusal = "" if used_up else reason(self._version, error)
        self._note(asked, Hop(_bare(source), (came_ns - asked[1]) / 1e9, refusal=refusal))

    def _note(self, asked: tuple[int, int, bytes], hop: Hop) -> None:
        self.found.hops.setdefault(asked[0], hop)
        self._news.set()


def _bare(address: str) -> str:
    return address.partition("%")[0]


def _stamp(notes: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS_NEW and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.clock_gettime_ns(time.CLOCK_REALTIME)
