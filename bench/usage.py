"""What a process has used: CPU from the kernel's own accounts, memory, bytes written."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


def allow_open_files(wanted: int = OPEN_FILES) -> None:
    """Raise this process' limit of open files, and so that of its children, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
