"""Our own clock: what the kernel knows of its error, and readings that can be laid beside packets.

No protocol lives here. Source: adjtimex(2) and clock_gettime(2) of the Linux manual; RFC 5905 section 6 (time stamps on
the wire).
"""

from __future__ import annotations

import ctypes
import time
from typing import Final, NamedTuple

_TIME_ERROR: Final = 5  # adjtimex(2): nobody keeps this clock
_NANOSECONDS: Final = 0x2000  # STA_NANO: `offset` is in nanoseconds, else in microseconds
_STEP_NS: Final = 10_000_000  # chosen: what slewing at 500 ppm does in 20 s; more is a step
_UNIX_EPOCH_S: Final = 2_208_988_800  # 1970 in seconds since 1900; RFC 5905 figure 4
_STAMP_S: Final = 2.0**-32  # unit of a time stamp on the wire
_TURN: Final = 1 << 64  # stamps go round in 2036, and their differences with them
_libc: Final = ctypes.CDLL(None)


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 400),  # chosen: longer than what follows on any architecture
    )


class ClockState(NamedTuple):
    """What the kernel says of the wall clock."""

    synchronised: bool | None  # some program keeps it in step with the world's; None: the kernel may not be asked
    error_s: float  # greatest error claimed; only of worth when synchronised
    offset_s: float = 0.0  # what the kernel is still slewing away; 0 with a program that slews by itself (chrony)

    @property
    def words(self) -> str:
        """Say it in a word or two."""
        return {True: "synchronised", False: "not synchronised", None: "unknown"}[self.synchronised]


def clock_state() -> ClockState:
    """Ask the kernel, changing nothing. Under systemd's ProtectClock= even that is forbidden."""
    buffer = _Timex()
    code = int(_libc.adjtimex(ctypes.byref(buffer)))
    if code < 0:
        return ClockState(None, 0.0)
    unit_s = 1e-9 if buffer.status & _NANOSECONDS else 1e-6
    return ClockState(code < _TIME_ERROR, max(0, int(buffer.maxerror)) / 1e6, int(buffer.offset) * unit_s)


class Moment(NamedTuple):
    """One instant on both clocks, in nanoseconds."""

    wall_ns: int
    steady_ns: int


def read_clocks() -> Moment:
    """Read the wall clock, which packets carry, and the monotonic one, which tells when the other was set."""
    return Moment(time.clock_gettime_ns(time.CLOCK_REALTIME), time.monotonic_ns())


def was_set(since: Moment, now: Moment | None = None) -> bool:
    """Say whether somebody set the wall clock since a moment."""
    now = now or read_clocks()
    return abs((now.wall_ns - since.wall_ns) - (now.steady_ns - since.steady_ns)) > _STEP_NS


def stamp_of(wall_ns: int) -> int:
    """Return Unix nanoseconds as an NTP time stamp: 2^-32 s since 1900, going round."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return ((seconds + _UNIX_EPOCH_S) << 32 | (rest << 32) // 1_000_000_000) % _TURN


def wall_ns_of(stamp: int) -> int:
    """Return an NTP time stamp as Unix nanoseconds; right from 1970 to 2106."""
    since_1970 = (stamp - (_UNIX_EPOCH_S << 32)) % _TURN
    return (since_1970 * 1_000_000_000 + (1 << 31)) >> 32


def seconds_between(earlier: int, later: int) -> float:
    """Return how much later one time stamp is, in seconds; right within 68 years, also across 2036."""
    steps = (later - earlier) % _TURN
    return (steps - _TURN if steps >= _TURN // 2 else steps) * _STAMP_S
