"""What a process has used: CPU from the kernel's own accounts, memory, bytes written."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
OPEN_FILES: Final = 20_000  # chosen: ten times the checks


@dataclass(frozen=True, slots=True)
class Usage:
    """Accounts of a process, or the sum of several, at a moment."""

    at: float  # monotonic seconds
    cpu_s: float  # user and system, all threads, ended ones included
    rss_bytes: int
    written_bytes: int  # handed to the disk

    def cpu_since(self, before: Usage) -> float:
        """Return the CPU used since, in seconds a second."""
        return (self.cpu_s - before.cpu_s) / (self.at - before.at)


def usage(*pids: int) -> Usage:
    """Read the accounts of processes and add them up. Source: proc_pid_stat(5), proc_pid_io(5)."""
    cpu_s, rss, written = 0.0, 0, 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
        rss += int(fields[21]) * resource.getpagesize()
        lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        written += int(lines["write_bytes"])
    return Usage(time.monotonic(), cpu_s, rss, written)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had resident. Source: proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def waited_s(pid: int) -> float:
    """Return how long a process' first thread was ready to run and had no core. Source: Linux, sched-stats.rst."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def allow_open_files(wanted: int = OPEN_FILES) -> None:
    """Raise this process' limit of open files, and so that of its children, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def cpu_clock_s(pid: int) -> float:
    """Return the CPU used by all threads of a process, ended ones included, to the nanosecond.

    Source: clock_getcpuclockid(3), whose number Linux makes from the process id; posix-timers.h.
    """
    return time.clock_gettime((~pid << 3) | 2)


@contextlib.contextmanager
def held(core: int, *pids: int) -> Iterator[None]:
    """Hold processes with their children to one core meanwhile.

    Args:
        core: which of the cores that we may use, from the first (0) or the last (-1).
        pids: the processes; none is this thread, and so what it starts meanwhile.
    """
    cores = os.sched_getaffinity(0)
    threads = [thread for pid in pids for thread in _threads(pid)] or [0]
    for thread in threads:
        os.sched_setaffinity(thread, {sorted(cores)[core]})
    try:
        yield
    finally:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores)


def _threads(pid: int) -> list[int]:
    process = psutil.Process(pid)
    return [t.id for one in (process, *process.children(recursive=True)) for t in one.threads()]
