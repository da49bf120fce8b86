"""Our side: `thongsuot run` as a child on the load, read by its /metrics, the kernel's accounts and its journal."""

from __future__ import annotations

import math
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.targets import Check, configuration
from bench.usage import peak_bytes, usage, waited_s
from monitor.model import SlotEnd
from tests.servers import LOOPBACK
from tests.system.daemon import Daemon
from tests.system.servers import http_get

SCRAPE_EVERY_S: Final = 15.0  # as the Prometheus configuration asks that we ship; what it costs is counted
_SAMPLE: Final = re.compile(r"^(thongsuot_\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of a probing program shows, whoever it is."""

    probes_per_s: float
    good_ratio: float  # share of the probes that found their target well
    cpu_per_probe_us: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class DaemonWindow(Window):
    """What only our daemon tells."""

    slots: Mapping[str, int]  # by how they ended
    lateness_p99_s: float
    kept_bytes: float  # in the journal, a result
    written_bytes: float  # handed to the disk, a result
    cores: float  # CPU seconds a second
    waited: float  # share of the time that it was ready to run and others had its core
    peak_bytes: int  # the most that was ever resident, since the start


@dataclass(frozen=True, slots=True)
class _Scrape:
    at: float
    probes: float
    good: float
    slots: Mapping[str, int]
    lateness: Sequence[tuple[float, float]]  # (upper bound in seconds, results up to it)


class BenchDaemon(Daemon):
    """The daemon, with a start that thousands of checks may need."""

    start_limit_s = 60.0
    stop_limit_s = 10.0


def run_daemon(checks: Sequence[Check], *, warm_s: float, window_s: float) -> DaemonWindow:
    """Run the daemon on the load from a fresh state, wait until it is warm, and watch it for a window."""
    with BenchDaemon(configuration(checks)) as daemon:
        time.sleep(warm_s)
        found = watch(daemon, window_s)
        daemon.stop()
        return replace(found, kept_bytes=_kept_bytes(daemon.state_dir / "journal.db"))


def watch(daemon: Daemon, window_s: float) -> DaemonWindow:
    """Watch a running daemon for a window. What its journal keeps a result is left at NaN: that needs its end."""
    first, before, waited = _scrape(daemon.port), usage(daemon.pid), waited_s(daemon.pid)
    _scrape_now_and_then(daemon.port, before.at, window_s)
    after, last = usage(daemon.pid), _scrape(daemon.port)
    probes = last.probes - first.probes
    rate = probes / (last.at - first.at)
    return DaemonWindow(
        probes_per_s=rate,
        good_ratio=(last.good - first.good) / probes,
        cpu_per_probe_us=after.cpu_since(before) / rate * 1e6,
        rss_bytes=after.rss_bytes,
        slots={end: last.slots[end] - first.slots[end] for end in last.slots},
        lateness_p99_s=_quantile(0.99, _difference(last.lateness, first.lateness)),
        kept_bytes=math.nan,
        written_bytes=(after.written_bytes - before.written_bytes) / (after.at - before.at) / rate,
        cores=after.cpu_since(before),
        peak_bytes=peak_bytes(daemon.pid),
        waited=(waited_s(daemon.pid) - waited) / (time.monotonic() - before.at),
    )


def _scrape_now_and_then(port: int, begins: float, window_s: float) -> None:
    """Wait for the window to end; fetch /metrics in the middle of each span of SCRAPE_EVERY_S."""
    for number in range(int(window_s // SCRAPE_EVERY_S)):
        time.sleep(max(begins + (number + 0.5) * SCRAPE_EVERY_S - time.monotonic(), 0.0))
        _scrape(port)
    time.sleep(max(begins + window_s - time.monotonic(), 0.0))


def _scrape(port: int) -> _Scrape:
    status, page = http_get(LOOPBACK, port, "/metrics", timeout_s=60.0)
    at = time.monotonic()
    if status != 200:
        raise RuntimeError(f"/metrics answered with status {status}")
    probes = good = 0.0
    slots = {end.value: 0 for end in SlotEnd}
    lateness: list[tuple[float, float]] = []
    for name, labels, value in _SAMPLE.findall(page):
        if name == "thongsuot_probes_total":
            probes += float(value)
            good += float(value) if 'fault="none"' in labels else 0.0
        elif name == "thongsuot_slots_total":
            slots[_label(labels, "end")] += int(value)
        elif name == "thongsuot_slot_lateness_seconds_bucket":
            lateness.append((float(_label(labels, "le")), float(value)))
    return _Scrape(at, probes, good, slots, lateness)


def _label(labels: str, name: str) -> str:
    found = re.search(rf'(?:^|,){name}="([^"]*)"', labels)
    assert found is not None, f"no label {name} in {labels}"
    return found[1]


def _difference(
    last: Sequence[tuple[float, float]], first: Sequence[tuple[float, float]]
) -> Sequence[tuple[float, float]]:
    return [(bound, count - before) for (bound, count), (_, before) in zip(last, first, strict=True)]


def _quantile(share: float, cumulative: Sequence[tuple[float, float]]) -> float:
    """Return a quantile of a histogram as Prometheus works it out: linear within the bucket that holds it."""
    wanted = share * cumulative[-1][1]
    low, below = 0.0, 0.0
    for bound, count in cumulative:
        if count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def _kept_bytes(journal: Path) -> float:
    """Return what one result takes in the journal: the results alone, copied into a file of their own."""
    copy = journal.with_name("results.db")
    with sqlite3.connect(journal) as db:
        db.execute("ATTACH ? AS copy", (str(copy),))
        empty = db.execute("PRAGMA copy.page_size").fetchone()[0]
        db.execute("CREATE TABLE copy.results AS SELECT * FROM results")
        rows = db.execute("SELECT count(*) FROM results").fetchone()[0]
        db.commit()
        db.execute("DETACH copy")
    db.close()
    return float((copy.stat().st_size - empty) / max(rows, 1))
