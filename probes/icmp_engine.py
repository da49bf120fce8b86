"""Echoes for thousands of targets through one socket a flow: raw where allowed, the kernel's ping sockets otherwise.

No task and no thread for an echo: a timer sends, one reader takes in everything that came. The round-trip time is the
difference of two stamps of the kernel's, made when the driver took the request and when the reply came in; so neither
a busy loop of ours nor the way through our own host looks like a slow network. Where the kernel gives no stamp of
sending, our own clock just before the call serves; where the wall clock, by which the kernel stamps, was set
meanwhile, only the monotonic one counts.

Source: RFC 792 and RFC 4443; raw(7), icmp(7) and socket(7) of the Linux manual for stamps, filters and error queues.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import secrets
import select
import socket
import struct
import sys
import time
from collections import deque
from typing import Final

from probes import icmp_packet
from probes.deadlines import Deadlines
from probes.icmp_round import Ended, Outcome, Plan, Round, Sent
from probes.icmp_socket import (
    IPV6_HOPLIMIT,
    SO_MEMINFO,
    SO_TIMESTAMPING_NEW,
    SO_TIMESTAMPNS_NEW,
    Flow,
    open_flow,
    stamp_both_ways,
)
from probes.net import ERROR_NOTES, SocketAddress, offender

_HOP_MESSAGES: Final = {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, IPV6_HOPLIMIT)}
_STAMP_KINDS: Final = (SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS_NEW)  # both begin with the stamp that the kernel made
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # linux/errqueue.h
_SAID_BY_STAMP: Final = 4  # SO_EE_ORIGIN_TIMESTAMPING
_NOTES_BYTES: Final = 160
_QUEUE_NOTES_BYTES: Final = 256
_TIMESPEC: Final = struct.Struct("=qq")
_MEMORY_INFO: Final = struct.Struct("=9I")  # sock_diag.h: the last is SK_MEMINFO_DROPS

_READS_AT_ONCE: Final = 512  # chosen: one wake-up may not hold the loop longer than some 5 ms
_LATE_KEPT: Final = 4096  # lost echoes remembered for each socket, so that a late answer can be told from none
_STAMP_LATEST_NS: Final = 1_000_000_000  # chosen: a stamp of sending this long after the call is none of that call
_BURST_BYTES: Final = 256 * 1024  # chosen: a quarter of the receive buffer is sent at most before what came is read
_KERNEL_BYTES: Final = 768  # what the kernel counts for a small packet besides its bytes, about
_CLOCK_STEP_NS: Final = 2_000_000  # chosen: slewing is at most 0.5 ms a second (adjtimex(2)), so more is a step


_Notes = list[tuple[int, int, bytes]]  # of recvmsg: level, type, data


class _Link:
    """One socket, and every echo that left by it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, flow: Flow, links: dict[Flow, _Link], deadlines: Deadlines
    ) -> None:
        self.loop = loop
        self._links = links  # the engine's, in which this one stands until it is retired
        self.flow = flow
        self.deadlines = deadlines
        self.rounds: set[Round] = set()
        self._to_send: list[Round] = []  # at the end of this turn, one entry an echo
        self.retired = False
        self.late: dict[str, int] = {}  # address -> late answers nobody was told of yet
        self._sent: dict[int, Sent] = {}  # by sequence number
        self._lost: deque[tuple[int, Sent]] = deque()
        self._makers: dict[int, icmp_packet.EchoMaker] = {}
        self._ident = secrets.randbelow(0xFFFF) + 1
        self._cookie = secrets.token_bytes(8)
        self._serial = secrets.randbits(32)
        self._read_bytes = 2048
        self._sock, self._raw = open_flow(flow, self._ident)
        self._with_header = self._raw and flow.family == socket.AF_INET
        self._reply_head = bytes((icmp_packet.ECHO_REPLY[flow.version], 0))
        self._stamping = stamp_both_ways(self._sock)
        self._stamp_number = 0  # of the next packet sent
        self._unstamped: dict[int, Sent] = {}  # by that number: sent, and the stamp not seen yet
        self._now_ns = self._wall_ns = 0  # when the reading under way began, by both clocks
        self._unread_bytes = 0  # sent since the last reading: as much may have come back
        self._drops, self._dropped_at = 0, -math.inf  # packets that our receive buffer had no room for, by the kernel
        # A stamp or an ICMP error in the error queue counts as an error of the socket, at which uvloop's reader gives
        # up for good (libuv, uv__poll_io). Asked through an epoll of its own, it is a reason to read like any other.
        try:
            self._ready = select.epoll()
        except OSError:  # no descriptor left
            self._sock.close()
            raise
        self._ready.register(self._sock, select.EPOLLIN)
        loop.add_reader(self._ready, self.read)

    def maker(self, size_bytes: int) -> icmp_packet.EchoMaker:
        """Return the maker of echoes with this payload."""
        found = self._makers.get(size_bytes)
        if found is None:
            found = icmp_packet.EchoMaker(self.flow.version, self._ident, self._cookie, size_bytes)
            self._makers[size_bytes] = found
            self._read_bytes = max(self._read_bytes, size_bytes + 128)
        return found

    def overflowed_since(self, began: float) -> bool:
        """Say whether our own receive buffer had no room for a packet since a moment of the loop's clock."""
        self._note_drops()
        return self._dropped_at >= began

    def _note_drops(self) -> None:
        info = self._sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMORY_INFO.size)
        if (drops := int(_MEMORY_INFO.unpack(info)[-1])) != self._drops:
            self._drops, self._dropped_at = drops, self.loop.time()

    def ask_to_send(self, of: Round) -> None:
        """Let a round send its next echo at the end of this turn, together with all others that ask in it."""
        if not self._to_send:
            self.loop.call_soon(self._send_all)
        self._to_send.append(of)

    def _send_all(self) -> None:
        """Send what was asked for, then take in the stamps of it and what near hosts have answered already."""
        asking, self._to_send = self._to_send, []
        for one in asking:
            if self._unread_bytes > _BURST_BYTES:
                self.read()
            one.send_one()
        self.read()

    def send(self, of: Round, index: int, maker: icmp_packet.EchoMaker) -> int:
        """Send one echo and return its sequence number.

        Raises:
            OSError: our own host could not send it.
        """
        self._unread_bytes += of.plan.size_bytes + _KERNEL_BYTES
        serial = self._serial = (self._serial + 1) & 0xFFFFFFFF
        if serial & 0xFFFF in self._sent:
            serial = self._next_serial()
        seq = serial & 0xFFFF
        packet = maker.make(serial)
        echo = self._sent[seq] = Sent(of, index, packet[icmp_packet.HEADER_BYTES :])
        try:
            self._sock.sendto(packet, of.plan.to)
        except OSError as exc:
            self._not_sent(exc, seq, packet, of.plan.to)
        if self._stamping:
            number = echo.number = self._stamp_number
            self._unstamped[number] = echo
            self._stamp_number = (number + 1) & 0xFFFFFFFF
        return seq

    def _not_sent(self, exc: OSError, seq: int, packet: bytes, to: SocketAddress) -> None:
        """Try once more where that may help, and otherwise raise what the sending raised."""
        if self._stamping:
            # Whether the kernel counted this one differs between versions: count anew.
            self._read_errors()
            self._unstamped.clear()
            self._stamping, self._stamp_number = stamp_both_ways(self._sock), 0
        try:
            if self._raw:
                raise exc
            # A ping socket hands an earlier echo's ICMP error to the next call: take it in, then try again.
            self._read_errors()
            self._sock.sendto(packet, to)
        except OSError:
            del self._sent[seq]
            raise

    def _next_serial(self) -> int:
        for _ in range(0x10000):
            busy = self._sent.get(self._serial & 0xFFFF)
            if busy is None or busy.round.ended:
                return self._serial
            self._serial = (self._serial + 1) & 0xFFFFFFFF
        raise OSError(errno.ENOBUFS, "65536 echoes are under way on one socket")

    def read(self) -> None:
        """Take in every packet that has come, up to a bound; the loop calls again while there are more."""
        if self._unstamped or not self._raw:
            self._read_errors()  # stamps first: the replies below are measured from them
        self._now_ns, self._wall_ns = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_REALTIME)
        self._unread_bytes = 0
        receive, read_bytes = self._sock.recvmsg, self._read_bytes
        for _ in range(_READS_AT_ONCE):
            try:
                packet, notes, _flags, source = receive(read_bytes, _NOTES_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # a ping socket's pending error; what it is about stands in the error queue
                self._read_errors()
                continue
            self._take(packet, notes, source[0])
        self._note_drops()

    def _take(self, packet: bytes, notes: _Notes, source: str) -> None:
        begin = (packet[0] & 0x0F) * 4 if self._with_header else 0
        if packet[begin : begin + 2] == self._reply_head:
            seq = int.from_bytes(packet[begin + 6 : begin + 8], "big")
            echo = self._sent.get(seq)
            # Compared whole: a damaged, cut or foreign payload is no answer to this echo.
            if echo is None or packet[begin + icmp_packet.HEADER_BYTES :] != echo.body:
                return
            hops = packet[8] if self._with_header else None
            if echo.round.ended or not self._replied(echo, notes, source, hops):
                self._late_reply(seq, echo)
            return
        parsed = icmp_packet.parse(self.flow.version, packet, ip_header=self._with_header)
        if isinstance(parsed, icmp_packet.Refused):
            self._refused(parsed, source)

    def _replied(self, echo: Sent, notes: _Notes, source: str, hops: int | None) -> bool:
        """Give a reply to its round; False when by its stamp it came after the round's end."""
        stamp_ns = sys.maxsize
        for level, kind, data in notes:
            if kind in _STAMP_KINDS and level == socket.SOL_SOCKET:
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
            elif (level, kind) in _HOP_MESSAGES:
                hops = int.from_bytes(data[:4], sys.byteorder)
        if stamp_ns > self._wall_ns:
            # It came while others were read, or the kernel gave no stamp.
            self._now_ns, self._wall_ns = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_REALTIME)
        rtt_ns = stamp_ns - echo.wall_ns
        elapsed_ns = self._now_ns - echo.sent_ns
        step_ns = self._wall_ns - self._now_ns - echo.offset_ns
        if not (0 < rtt_ns <= elapsed_ns and -_CLOCK_STEP_NS <= step_ns <= _CLOCK_STEP_NS):
            rtt_ns = elapsed_ns  # the stamps cannot be compared: by the monotonic clock
        if echo.sent_ns + rtt_ns > echo.round.ends_ns:
            return False
        echo.round.answered(echo.index, rtt_ns / 1e9, source, hops)
        return True

    def _late_reply(self, seq: int, echo: Sent) -> None:
        del self._sent[seq]
        to = echo.round.plan.to[0]
        if len(self.late) < _LATE_KEPT or to in self.late:
            self.late[to] = self.late.get(to, 0) + 1

    def _refused(self, error: icmp_packet.Refused, router: str) -> None:
        echo = self._sent.get(error.seq)
        if echo is None or (self._raw and error.ident != self._ident):
            return
        quoted = error.body[: icmp_packet.LEAST_PAYLOAD_BYTES]
        if not echo.body.startswith(quoted) or not _same_address(error.to, echo.round.plan.to[0]):
            return
        if not echo.round.ended and echo.round.outcome.rtts_s[echo.index] is None:
            del self._sent[error.seq]
            echo.round.refused(router, icmp_packet.reason(self.flow.version, error))

    def _read_errors(self, most: int = _READS_AT_ONCE) -> None:
        """Take in stamps of sending, and the ICMP errors that a ping socket has queued."""
        for _ in range(most):
            try:
                quoted, notes, _flags, to = self._sock.recvmsg(
                    0 if self._raw else 2048, _QUEUE_NOTES_BYTES, socket.MSG_ERRQUEUE
                )
            except OSError:
                return
            stamp = b""
            for level, kind, data in notes:
                if level == socket.SOL_SOCKET:
                    stamp = data if kind in _STAMP_KINDS else stamp
                elif (level, kind) in ERROR_NOTES and len(data) >= _EXTENDED_ERROR.size:
                    _, origin, icmp_type, code, _, info, number = _EXTENDED_ERROR.unpack_from(data)
                    if origin == _SAID_BY_STAMP:
                        self._stamped(number, stamp)
                    elif len(quoted) >= icmp_packet.HEADER_BYTES:
                        seq, body = int.from_bytes(quoted[6:8], "big"), quoted[icmp_packet.HEADER_BYTES :]
                        refused = icmp_packet.Refused(icmp_type, code, info, 0, seq, to[0] if to else "", body)
                        self._refused(refused, offender(data[_EXTENDED_ERROR.size :]))

    def _stamped(self, number: int, stamp: bytes) -> None:
        echo = self._unstamped.pop(number, None)
        if echo is None or not stamp:
            return
        seconds, nanoseconds = _TIMESPEC.unpack_from(stamp)
        stamp_ns = seconds * 1_000_000_000 + nanoseconds
        if 0 <= stamp_ns - echo.wall_ns < _STAMP_LATEST_NS:
            echo.wall_ns = stamp_ns

    def release(self, of: Round) -> None:
        """Forget a round's echoes that need no more care, and close a retired socket with its last round."""
        self.rounds.discard(of)
        for seq, rtt_s in zip(of.seqs, of.outcome.rtts_s, strict=True):
            echo = self._sent.get(seq)
            if echo is None or echo.round is not of:
                continue
            self._unstamped.pop(echo.number, None)
            if rtt_s is None:
                self._lost.append((seq, echo))
            else:
                del self._sent[seq]
        while len(self._lost) > _LATE_KEPT:
            seq, echo = self._lost.popleft()
            if self._sent.get(seq) is echo:
                del self._sent[seq]
        if self.retired and not self.rounds:
            self.close()

    def retire(self) -> None:
        """Take no more rounds, and close with the last one under way."""
        if self._links.get(self.flow) is self:
            del self._links[self.flow]
        self.retired = True
        if not self.rounds:
            self.close()

    def close(self) -> None:
        """Close the socket; rounds under way end as cancelled."""
        if self._sock.fileno() < 0:
            return
        if not self.loop.is_closed():
            self.loop.remove_reader(self._ready)
        self._ready.close()
        self._sock.close()
        for one in tuple(self.rounds):
            one.abandon()


class Engine:
    """The sockets of all echoes, one a flow, opened at first use. Get the one of the daemon by `Tools.of(Engine)`."""

    def __init__(self) -> None:
        self._links: dict[Flow, _Link] = {}
        self._deadlines = Deadlines()

    def begin(self, flow: Flow, plan: Plan, ended: Ended) -> Round:
        """Begin a round of echoes; `ended` is told once what became of it, unless the round is closed first.

        Never told within this call. The echoes leave at the end of the loop's turn.

        Raises:
            ProbeError: LOCAL when no socket can be opened; the text says what to mend.
        """
        link = self._link(flow)
        one = Round(link, plan, ended)
        link.rounds.add(one)
        one.ask_to_send()
        return one

    async def round(self, flow: Flow, plan: Plan) -> Outcome:
        """Send a round of echoes and wait for what becomes of them; ends early when all are answered.

        Raises:
            ProbeError: LOCAL when no socket can be opened; the text says what to mend.
        """
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def tell(outcome: Outcome | None) -> None:
            if outcome is None:
                done.cancel()
            elif not done.done():
                done.set_result(outcome)

        one = self.begin(flow, plan, tell)
        try:
            return await done
        finally:
            one.close()

    def _link(self, flow: Flow) -> _Link:
        loop = asyncio.get_running_loop()
        found = self._links.get(flow)
        if found is not None and found.loop is not loop:
            found.close()
            found = None
        if found is None:
            found = self._links[flow] = _Link(loop, flow, self._links, self._deadlines)
        return found

    def close(self) -> None:
        """Close every socket."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._deadlines.close()


def _same_address(one: str, other: str) -> bool:
    return ipaddress.ip_address(one.partition("%")[0]) == ipaddress.ip_address(other.partition("%")[0])
