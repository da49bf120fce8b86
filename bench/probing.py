"""Probing alone, from the schedule to the Result: ours beside blackbox_exporter and fping on the same targets.

Only the probing process is counted. *Saturated* means that one core is asked for more than it can do, in a closed
loop: the probing process is held to one core, everything else to another. *Paced* means 200 probes a second, spread
evenly, and nobody held anywhere. Windows are taken in turns, so that a restless machine troubles all alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from bench.peers import flat_out, paced
from bench.rows import Row, middle, row, say
from bench.targets import EVERY_S, KINDS, MODULES, TLS_KINDS, Check, Targets, TlsPages, configuration, echo_host
from bench.usage import cpu_clock_s, held
from tests.system.servers_metrics import BlackboxExporter

CHECKS: Final = 2000  # of each kind: 200 a second at EVERY_S
SATURATED, PACED = "saturated", "paced"
BLACKBOX, FPING = "blackbox_exporter", "fping"
PROBING_CORE, OTHER_CORE = -1, 0
_COUNTS: Final = re.compile(r"xmt/rcv/%loss = (\d+)/(\d+)/")


@dataclass(frozen=True, slots=True)
class Times:
    """How long is watched, in seconds."""

    rounds: int
    warm_s: float
    window_s: float


FULL: Final = Times(rounds=5, warm_s=1.0, window_s=5.0)
QUICK: Final = Times(rounds=1, warm_s=0.3, window_s=0.8)


@dataclass(frozen=True, slots=True)
class Window:
    """What one window shows."""

    cpu_per_probe_us: float
    probes_per_s: float
    good_ratio: float
    busy: float  # share of one core


def window(cpu_s: float, seconds: float, probes: float, good: float) -> Window:
    """Work a window out."""
    return Window(cpu_s / max(probes, 1.0) * 1e6, probes / seconds, good / max(probes, 1.0), cpu_s / seconds)


class Ours:
    """`bench.prober` as a child, told what to do line by line."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        """Args: child: with pipes to and from it."""
        self._child = child

    def __call__(self, kind: str, load: str, times: Times) -> Window:
        """Probe one kind for a window."""
        with held(PROBING_CORE, self._child.pid) if load == SATURATED else nullcontext():
            self.tell(load, kind)
            time.sleep(times.warm_s)
            count, began, cpu = self.tell("count"), time.monotonic(), cpu_clock_s(self._child.pid)
            time.sleep(times.window_s)
            last, cpu, seconds = self.tell("count"), cpu_clock_s(self._child.pid) - cpu, time.monotonic() - began
            self.tell("idle")
        return window(cpu, seconds, last["probes"] - count["probes"], last["good"] - count["good"])

    def tell(self, *words: str) -> dict[str, float]:
        """Give a command and return the answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        if words:
            self._child.stdin.write(" ".join(words) + "\n")
            self._child.stdin.flush()
        answer: dict[str, float] = json.loads(self._child.stdout.readline())
        return answer


@contextmanager
def our_prober(checks: Sequence[Check]) -> Iterator[Ours]:
    """Start our side on a load, and wait until it has read it."""
    with tempfile.TemporaryDirectory(prefix="thongsuot-bench-") as folder:
        file = Path(folder) / "province.yaml"
        file.write_text(configuration(checks), encoding="utf-8")
        words = [sys.executable, "-m", "bench.prober", str(file)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            try:
                ours = Ours(child)
                ours.tell()
                yield ours
                child.communicate(timeout=5.0)  # it ends with its standard input
            finally:
                child.kill()


class Blackbox:
    """Two blackbox_exporters: Go decides at its start how many cores it uses."""

    def __init__(self, all_cores: BlackboxExporter, one_core: BlackboxExporter, checks: Sequence[Check]) -> None:
        """Args: all_cores, one_core: where each runs. checks: of all kinds."""
        self._exporters = {PACED: all_cores, SATURATED: one_core}
        self._checks = checks

    def __call__(self, kind: str, load: str, times: Times) -> Window:
        """Have one kind probed for a window, by a client whose CPU is not counted."""
        checks = [c for c in self._checks if c.kind == kind]
        with held(OTHER_CORE) if load == SATURATED else nullcontext():
            return uvloop.run(self._watched(self._exporters[load], checks, load, times))

    @staticmethod
    async def _watched(exporter: BlackboxExporter, checks: Sequence[Check], load: str, times: Times) -> Window:
        asking = flat_out if load == SATURATED else paced
        async with asking(exporter.port, checks) as count:
            await asyncio.sleep(times.warm_s)
            probes, good, began, cpu = count.probes, count.good, time.monotonic(), cpu_clock_s(exporter.pid)
            await asyncio.sleep(times.window_s)
            cpu, seconds = cpu_clock_s(exporter.pid) - cpu, time.monotonic() - began
            return window(cpu, seconds, count.probes - probes, count.good - good)


def run_fping(kind: str, load: str, times: Times) -> Window:
    """Run fping from start to end, its start counted: flat out (`-i 0`) until the window is over, or 200 a second."""
    assert kind == "icmp"
    if load == PACED:
        rate = CHECKS / EVERY_S
        return window(*_fping(round(times.window_s * rate), "-c", "1", "-i", f"{1000 / rate:g}"))
    total = (0.0, 0.0, 0.0, 0.0)
    with held(PROBING_CORE):
        while total[1] < times.window_s:
            # No more in one run: fping 5.1 has 65,536 sequence numbers for 10 seconds.
            run = _fping(CHECKS, "-c", "30", "-i", "0", "-p", "10")
            total = (total[0] + run[0], total[1] + run[1], total[2] + run[2], total[3] + run[3])
    return window(*total)


def _fping(hosts: int, *words: str) -> tuple[float, float, float, float]:
    """Run fping once: CPU seconds, seconds, echoes sent, echoes answered."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        addresses = map(echo_host, range(hosts))
        command = ["fping", "-4", "-q", "-r", "0", "-t", "500", *words, *addresses]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        said.seek(0)
        counts = _COUNTS.findall(said.read())
    sent, came = (sum(int(pair[i]) for pair in counts) for i in (0, 1))
    return used.ru_utime + used.ru_stime, seconds, sent, came


Measure = Callable[[str, str, Times], Window]


def measured(targets: Targets, *, quick: bool) -> list[Row]:
    """Measure every kind under both loads, and return the rows."""
    times = QUICK if quick else FULL
    with ExitStack() as stack:
        pages = stack.enter_context(TlsPages())
        checks = [*targets.load(dict.fromkeys(KINDS, CHECKS))]
        for kind in TLS_KINDS:
            checks += pages.load(kind, CHECKS)
        modules = MODULES + pages.modules()
        all_cores = stack.enter_context(BlackboxExporter(modules))
        with held(PROBING_CORE):
            one_core = stack.enter_context(BlackboxExporter(modules))
        ours = stack.enter_context(our_prober(checks))
        blackbox = Blackbox(all_cores, one_core, checks)
        rows: list[Row] = []
        for kind in (*KINDS, *TLS_KINDS):
            peers: dict[str, Measure] = {BLACKBOX: blackbox}
            if kind == "icmp":
                peers[FPING] = run_fping
            for load in (SATURATED, PACED):
                say(f"probing alone: {kind}, {load}")
                with held(OTHER_CORE, targets.pid, pages.pid) if load == SATURATED else nullcontext():
                    rows += rows_of(kind, load, in_turns(kind, load, ours, peers, times))
    return rows


def in_turns(
    kind: str, load: str, ours: Measure, peers: Mapping[str, Measure], times: Times
) -> dict[str, list[Window]]:
    """Take the windows of all programs one after the other, as many rounds as wanted."""
    programs = {"": ours, **peers}
    found: dict[str, list[Window]] = {name: [] for name in programs}
    for _ in range(times.rounds):
        for name, measure in programs.items():
            found[name].append(measure(kind, load, times))
    return found


def rows_of(kind: str, load: str, windows: Mapping[str, Sequence[Window]]) -> list[Row]:
    """Turn windows into a row for each peer."""
    ours = windows[""]
    rows = []
    for name, peer in windows.items():
        if name:
            suffix = "" if name == BLACKBOX else f"_{name}"
            rows.append(
                row(
                    f"probing_{kind.replace('-', '_')}_{load}{suffix}",
                    "us",
                    middle(w.cpu_per_probe_us for w in ours),
                    middle(w.cpu_per_probe_us for w in peer),
                    name,
                    detail=f"ours {told(ours)}; {name} {told(peer)}",
                )
            )
    return rows


def told(windows: Sequence[Window]) -> str:
    """Return each window's CPU, and how much was probed how well."""
    each = " ".join(f"{w.cpu_per_probe_us:.0f}" for w in windows)
    rate, busy = middle(w.probes_per_s for w in windows), middle(w.busy for w in windows)
    return f"{each} at {rate:.0f}/s, core {busy:.0%} busy, good {min(w.good_ratio for w in windows):.1%}"
