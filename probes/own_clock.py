"""Our own clock: what the kernel knows of its error, and readings that can be laid beside packets.

No protocol lives here. Source: adjtimex(2) and clock_gettime(2) of the Linux manual.
"""

from __future__ import annotations

import ctypes
import time
from typing import Final, NamedTuple

_TIME_ERROR: Final = 5  # adjtimex(2): nobody keeps this clock
_STEP_NS: Final = 10_000_000  # chosen: what slewing at 500 ppm does in 20 s; more is a step
_libc: Final = ctypes.CDLL(None)


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("rest", ctypes.c_char * 400),  # chosen: longer than what follows on any architecture
    )


class ClockState(NamedTuple):
    """What the kernel says of the wall clock."""

    synchronised: bool  # some program keeps it in step with the world's
    error_s: float  # greatest error claimed; only of worth when synchronised


def clock_state() -> ClockState:
    """Ask the kernel, changing nothing."""
    buffer = _Timex()
    code = int(_libc.adjtimex(ctypes.byref(buffer)))
    return ClockState(0 <= code < _TIME_ERROR, max(0, int(buffer.maxerror)) / 1e6)


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
