"""UDP for probes: a socket connected to one server, and a question sent again until it is answered.

Datagrams that answer something else are counted and ignored until the deadline, so that a forged one cannot end a
check. ICMP errors end it with the name of who sent them. Where times matter, arrivals carry the kernel's stamp: a busy
loop of ours does not make an answer late. No protocol lives here.

Source: udp(7), ip(7) and socket(7) of the Linux manual; RFC 8085 section 3.1 (doubling pauses).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from probes.base import Fault, Measurement, ProbeError
from probes.net import Address, bind_to_path, connect_error, queue_errors

T = TypeVar("T")

MARGIN_S: Final = 0.05  # chosen: an exchange ends this much before its deadline, to say itself what came
DATAGRAM_LIMIT: Final = 65535  # bytes
DATAGRAMS_AT_ONCE: Final = 64  # chosen: taken in one turn of the loop, so that a flood leaves time for others

_SO_TIMESTAMPNS_NEW: Final = 64  # asm-generic/socket.h: 64-bit seconds on every architecture
_TIMESPEC: Final = struct.Struct("=qq")


def time_left(m: Measurement, began: float) -> float:
    """Return the seconds left for an exchange, `began` being `time.perf_counter()` at the run's start."""
    return m.timeout_s - min(MARGIN_S, m.timeout_s / 4) - (time.perf_counter() - began)


def doubling(first_s: float, left_s: float, *, most_s: float = 60.0) -> list[float]:
    """Return how long each try is waited for: twice as long each time, up to `most_s`, and `left_s` in all."""
    pauses: list[float] = []
    while left_s > first_s * 1.5:  # a last try that is waited for less than half its time is left out
        pauses.append(first_s)
        left_s -= first_s
        first_s = min(first_s * 2, most_s)
    return [*pauses, max(left_s, 0.0)]


def open_datagram(m: Measurement, address: Address, *, stamped: bool = False, dscp: int = 0) -> socket.socket:
    """Open a UDP socket that leaves by the measurement's path and hears of ICMP errors; the caller closes it.

    Args:
        m: the measurement.
        address: the one peer.
        stamped: whether the kernel notes when each datagram came, for `receive`.
        dscp: class of service in the IP header (RFC 2474).

    Raises:
        ProbeError: LOCAL when nothing can be sent there.
    """
    sock = socket.socket(address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        bind_to_path(sock, m.path)
        queue_errors(sock, True, address.family)
        if stamped:
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW, 1)
        if dscp and address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
        elif dscp:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        _connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: Address) -> None:
    try:
        sock.connect(address.sockaddr)
    except OSError as exc:
        raise ProbeError(Fault.LOCAL, f"cannot send to {address.ip}: {exc.strerror}") from exc


def receive(sock: socket.socket, limit: int = DATAGRAM_LIMIT) -> tuple[bytes, int]:
    """Take one datagram from a stamped socket, with when it came: nanoseconds of the wall clock.

    Raises:
        BlockingIOError: there is none.
        OSError: an ICMP error came.
    """
    wire, notes, _flags, _from = sock.recvmsg(limit, 64)
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS_NEW and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return wire, seconds * 1_000_000_000 + nanoseconds
    return wire, time.clock_gettime_ns(time.CLOCK_REALTIME)


@dataclass(slots=True)  # not frozen: that would treble the cost of making one, once a probe
class Ask(Generic[T]):
    """A question and how its answer is known."""

    write: Callable[[], bytes]  # the datagram of one try, made right before it is sent
    read: Callable[[bytes, int], T | None]  # datagram and when it came (ns, 0 unstamped); None: not our answer
    pauses_s: Sequence[float]  # one a try: how long until the next, or until giving up
    limit: int = DATAGRAM_LIMIT  # bytes of a datagram that are looked at
    stamped: bool = False  # the socket is


async def exchange(m: Measurement, sock: socket.socket, address: Address, ask: Ask[T]) -> T:
    """Send a question, again when no answer came, and return the answer.

    Adds to the values `sent_count` and `foreign_count`, whatever the end.

    Raises:
        ProbeError: TIMEOUT without an answer, PROTOCOL when only others came, UNREACHABLE when the network said so,
            and what `ask.read` raises.
        OSError: the host refused.
    """
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def tell(answer: T | None, exc: Exception | None) -> None:
        if exc is not None:
            done.set_exception(exc)
        else:
            done.set_result(cast(T, answer))

    running = Exchange(m, sock, address, ask, tell)
    running.begin()
    try:
        return await done
    finally:
        running.close()


class Exchange(Generic[T]):
    """A question on its way: sent, sent again, answered or not. `exchange` is its whole life for those with a task."""

    __slots__ = (
        "_address",
        "_ask",
        "_foreign",
        "_loop",
        "_m",
        "_number",
        "_sent",
        "_silent",
        "_sock",
        "_tell",
        "_timer",
    )

    def __init__(
        self,
        m: Measurement,
        sock: socket.socket,
        address: Address,
        ask: Ask[T],
        tell: Callable[[T | None, Exception | None], None],
    ) -> None:
        """Args: tell: is given the answer, or why there is none; once, unless closed before."""
        self._m = m
        self._sock = sock
        self._number = sock.fileno()  # by which the loop finds it fastest
        self._silent = not m.values.get("sent_count")  # nothing was sent by this socket yet
        self._address = address
        self._ask = ask
        self._tell: Callable[[T | None, Exception | None], None] | None = tell
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._foreign = 0  # datagrams that were not the answer
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Send for the first time; what fails at once is told as well."""
        self._loop.add_reader(self._number, self._read)
        self._send()

    def _send(self) -> None:
        if self._sent == len(self._ask.pauses_s):
            self._read()  # what the kernel holds already has come in time, however late we look
            self._fail(self._nothing())
            return
        self._timer = self._loop.call_later(self._ask.pauses_s[self._sent], self._send)
        try:
            self._sock.send(self._ask.write())
        except OSError as exc:
            # An error that the network sent for an earlier try is reported by the next send.
            self._fail(connect_error(exc.errno or 0, self._address, None if self._silent else self._sock))
            return
        self._silent = False
        self._sent += 1

    def _read(self) -> None:
        ask = self._ask
        for _ in range(DATAGRAMS_AT_ONCE):
            if self._tell is None:
                return
            try:
                if ask.stamped:
                    wire, at_ns = receive(self._sock, ask.limit)
                else:
                    wire, at_ns = self._sock.recv(ask.limit), 0
                answer = ask.read(wire, at_ns)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._fail(connect_error(exc.errno or 0, self._address, self._sock))
                return
            except Exception as exc:  # noqa: BLE001  a bug in reading is told as one: in a callback it would look like silence
                self._fail(exc)
                return
            if answer is None:
                self._foreign += 1
            else:
                self._end(answer, None)

    def _nothing(self) -> ProbeError:
        times = f" to {self._sent} queries" if self._sent > 1 else ""
        if self._foreign:
            return ProbeError(
                Fault.PROTOCOL, f"no answer{times}, only {self._foreign} datagrams that do not answer our question"
            )
        return ProbeError(Fault.TIMEOUT, f"no answer{times} from {self._address.ip} port {self._address.port}")

    def _fail(self, exc: Exception) -> None:
        self._end(None, exc)

    def _end(self, answer: T | None, exc: Exception | None) -> None:
        tell = self._tell
        if tell is not None:
            self.close()
            tell(answer, exc)

    def close(self) -> None:
        """Stop listening and sending; note how much was sent and came."""
        if self._tell is None:
            return
        self._tell = None
        self._loop.remove_reader(self._number)
        if self._timer is not None:
            self._timer.cancel()
        values = self._m.values
        values["sent_count"] = values.get("sent_count", 0.0) + self._sent
        values["foreign_count"] = values.get("foreign_count", 0.0) + self._foreign
