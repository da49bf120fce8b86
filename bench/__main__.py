"""`make bench`: what probing and the whole daemon cost, beside Debian's blackbox_exporter in the same run.

Prints a table and writes `bench/out/bench.json`. Nothing here judges: figures depend on the machine and on what else
it does, so each row is a median of windows taken in turns, and what travels is the ratio. All traffic is on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import evidence, probing, scale
from bench.daemon import DaemonWindow, Window, run_daemon
from bench.peers import run_blackbox, run_prometheus
from bench.rows import Row, middle, row, say
from bench.targets import EVERY_S, KINDS, Check, Targets
from bench.usage import allow_open_files

OUT: Final = Path(__file__).with_name("out") / "bench.json"
MIX: Final = {"icmp": 800, "tcp": 500, "dns": 300, "http": 400}
FASTER: Final = 5  # times the mixed load: 1,000 a second
ALONE: Final = 2000  # checks of one kind, for the rows by kind
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Times:
    """How long everything is watched, in seconds."""

    rounds: int
    warm_s: float
    window_s: float
    kind_window_s: float  # 0: the kinds are not measured one by one
    prometheus_s: float  # 0: no Prometheus
    faster_rounds: int  # of the load of 1,000 a second


FULL: Final = Times(rounds=3, warm_s=6.0, window_s=15.0, kind_window_s=15.0, prometheus_s=20.0, faster_rounds=2)
QUICK: Final = Times(rounds=1, warm_s=6.0, window_s=15.0, kind_window_s=0.0, prometheus_s=10.0, faster_rounds=1)


def whole_daemon(targets: Targets, times: Times) -> list[Row]:
    """Measure the mixed load: ours and blackbox_exporter in turns, and once a real Prometheus in front of it."""
    load = targets.load(MIX)
    ours: list[DaemonWindow] = []
    peer: list[Window] = []
    for number in range(times.rounds):
        say(f"round {number + 1} of {times.rounds}: thongsuot, then blackbox_exporter")
        ours.append(run_daemon(load, warm_s=times.warm_s, window_s=times.window_s))
        peer.append(run_blackbox(load, warm_s=times.warm_s / 2, window_s=times.window_s))
    stack = None
    if times.prometheus_s:
        say("Prometheus with blackbox_exporter")
        stack = run_prometheus(load, warm_s=times.warm_s + EVERY_S, window_s=times.prometheus_s)
    return rows_of_whole(load, ours, peer, stack)


def rows_of_whole(
    load: Sequence[Check], ours: Sequence[DaemonWindow], peer: Sequence[Window], stack: Window | None
) -> list[Row]:
    """Turn the windows of the mixed load into rows."""
    by_kind = ", ".join(f"{sum(c.kind == kind for c in load)} {kind}" for kind in KINDS)
    what = f"{len(load)} checks every {EVERY_S:g} s: {by_kind}"
    blackbox, both = "blackbox_exporter", "blackbox_exporter + Prometheus"
    cpu = middle(w.cpu_per_probe_us for w in ours)
    memory = middle(w.rss_bytes / MIB for w in ours)
    rows = [
        row(
            "daemon_cpu_per_result",
            "us",
            cpu,
            middle(w.cpu_per_probe_us for w in peer),
            blackbox,
            detail=f"{what}; ours schedules, judges, keeps and shows as well; windows of ours: {spread(ours)}; "
            f"of the peer: {spread(peer)}",
        ),
        row(
            "daemon_probes_per_second",
            "1/s",
            middle(w.probes_per_s for w in ours),
            middle(w.probes_per_s for w in peer),
            blackbox,
            detail=f"good: ours {worst_good(ours):.1%}, peer {worst_good(peer):.1%}",
        ),
        row("daemon_memory", "MB", memory, middle(w.rss_bytes / MIB for w in peer), blackbox),
        row("lateness_p99", "ms", middle(w.lateness_p99_s * 1e3 for w in ours), detail=slots(ours)),
        row("journal_kept_per_result", "bytes", middle(w.kept_bytes for w in ours)),
        row("journal_written_per_result", "bytes", middle(w.written_bytes for w in ours), detail="handed to the disk"),
    ]
    if stack is not None:
        detail = f"both processes; {stack.probes_per_s:.0f} probes a second, good {stack.good_ratio:.1%}"
        rows.insert(1, row("daemon_cpu_per_result_stack", "us", cpu, stack.cpu_per_probe_us, both, detail=detail))
        rows.append(row("daemon_memory_stack", "MB", memory, stack.rss_bytes / MIB, both))
    return rows


def faster(targets: Targets, times: Times) -> list[Row]:
    """Measure five times the mixed load, beside blackbox_exporter and Prometheus in turns."""
    load = targets.load({kind: FASTER * count for kind, count in MIX.items()})
    ours: list[DaemonWindow] = []
    stack: list[Window] = []
    for number in range(times.faster_rounds):
        say(f"{len(load)} checks, round {number + 1} of {times.faster_rounds}: thongsuot, then the peers")
        ours.append(run_daemon(load, warm_s=times.warm_s + EVERY_S, window_s=times.window_s))
        stack.append(run_prometheus(load, warm_s=times.warm_s + EVERY_S, window_s=times.window_s))
    both = "blackbox_exporter + Prometheus"
    detail = (
        f"{len(load)} checks every {EVERY_S:g} s; windows of ours: {spread(ours)}; of the peers: {spread(stack)}; "
        f"good: ours {worst_good(ours):.1%}, peers {worst_good(stack):.1%}; {slots(ours)}"
    )
    name = f"daemon_{round(len(load) / EVERY_S)}"
    return [
        row(
            f"{name}_cpu_per_result_stack",
            "us",
            middle(w.cpu_per_probe_us for w in ours),
            middle(w.cpu_per_probe_us for w in stack),
            both,
            detail=detail,
        ),
        row(
            f"{name}_probes_per_second",
            "1/s",
            middle(w.probes_per_s for w in ours),
            middle(w.probes_per_s for w in stack),
            both,
        ),
        row(
            f"{name}_memory_stack",
            "MB",
            middle(w.rss_bytes / MIB for w in ours),
            middle(w.rss_bytes / MIB for w in stack),
            both,
        ),
        row(f"{name}_lateness_p99", "ms", middle(w.lateness_p99_s * 1e3 for w in ours)),
    ]


def each_kind(targets: Targets, times: Times) -> list[Row]:
    """Measure each kind of probe alone, the whole daemon with all it does around it."""
    rows = []
    for kind in KINDS if times.kind_window_s else ():
        say(f"{kind} alone: thongsuot, then blackbox_exporter")
        load = targets.load({kind: ALONE})
        ours = run_daemon(load, warm_s=times.warm_s, window_s=times.kind_window_s)
        peer = run_blackbox(load, warm_s=times.warm_s / 4, window_s=times.kind_window_s)
        detail = f"whole daemon, {ALONE} checks of this kind every {EVERY_S:g} s; good: ours {ours.good_ratio:.1%}"
        rows.append(
            row(
                f"{kind}_cpu_per_result",
                "us",
                ours.cpu_per_probe_us,
                peer.cpu_per_probe_us,
                "blackbox_exporter",
                detail=f"{detail}, peer {peer.good_ratio:.1%}",
            )
        )
    return rows


def spread(windows: Sequence[Window]) -> str:
    """Return the CPU of each window, so that a reader sees how steady the machine was."""
    return " ".join(f"{w.cpu_per_probe_us:.0f}" for w in windows)


def worst_good(windows: Sequence[Window]) -> float:
    """Return the smallest share of good probes of any window."""
    return min(w.good_ratio for w in windows)


def slots(windows: Sequence[DaemonWindow]) -> str:
    """Return how the slots of all windows ended."""
    ends = {end: sum(w.slots[end] for w in windows) for end in windows[0].slots}
    return "slots " + ", ".join(f"{end} {count}" for end, count in ends.items())


def show(rows: Sequence[Row], facts: Mapping[str, str]) -> None:
    """Print the table."""
    table = Table(title="; ".join(f"{name} {value}" for name, value in facts.items()), title_justify="left")
    for heading in ("name", "unit"):
        table.add_column(heading)
    for heading in ("ours", "peer", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("peer is")
    for one in rows:
        peer, ratio = (f"{one.peer:.1f}" if one.peer else "", f"{one.ratio:.2f}" if one.ratio else "")
        table.add_row(one.name, one.unit, f"{one.ours:.1f}", peer, ratio, one.peer_name)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for one in rows:
        if one.detail:
            console.print(f"{one.name}: {one.detail}", highlight=False, soft_wrap=True)


def facts_of_run(began: float) -> dict[str, str]:
    """Return what a reader needs to judge the figures by."""
    asked = subprocess.run(
        ["prometheus-blackbox-exporter", "--version"], capture_output=True, text=True, timeout=10, check=False
    )
    words = (asked.stdout + asked.stderr).split()
    return {
        "CPUs": str(os.cpu_count()),
        "Python": platform.python_version(),
        "blackbox_exporter": words[2] if len(words) > 2 else "?",
        "load at the end": f"{os.getloadavg()[0]:.1f}",
        "seconds": f"{time.monotonic() - began:.0f}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; `evidence` as the first word measures sealing instead."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["evidence"]:
        return evidence.main(words[1:])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of each part: about two minutes")
    parser.add_argument("--only", choices=("probing", "daemon", "scale"), help="one part of the bench")
    chosen = parser.parse_args(words)
    began = time.monotonic()
    allow_open_files()
    rows: list[Row] = []
    with Targets() as targets:
        if chosen.only in (None, "probing"):
            rows += probing.measured(targets, quick=chosen.quick)
        if chosen.only in (None, "daemon"):
            times = QUICK if chosen.quick else FULL
            rows += [*whole_daemon(targets, times), *faster(targets, times), *each_kind(targets, times)]
        if chosen.only in (None, "scale"):
            rows += scale.measured(targets, quick=chosen.quick)
    show(rows, facts_of_run(began))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n", encoding="utf-8")
    say(f"written to {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
