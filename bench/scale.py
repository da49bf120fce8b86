"""How the daemon grows on one core: to 20,000 ICMP targets every 10 s and 2,000 service checks every 30 s.

The daemon, its threads and what it starts are held to the first core; what it probes stands on the last. Its journal
is that of two days: the judge of every path knows its floor and takes the memory that it takes in real life.
The largest load is watched twice: between two edges of five minutes, and over one, where each judge closes a bin and
writes down what it knows.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from bench.daemon import BenchDaemon, DaemonWindow, watch
from bench.rows import Row, row, say
from bench.targets import Check, Targets, configuration
from bench.usage import held
from monitor.journal import Batch, Journal
from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT
from monitor.judge.outage import Memory
from monitor.model import State
from probes.base import utc_now

POINTS: Final = (1000, 2000, 5000, 10_000, 20_000)  # ICMP targets
POINTS_QUICK: Final = (1000, 20_000)
SERVICE_SHARE: Final = {"tcp": 0.04, "dns": 0.03, "http": 0.03}  # of as many ICMP targets
SERVICES_EVERY_S: Final = 30.0
WARM_S: Final = 20.0  # chosen: every ICMP check has run, and the gaps of the restart are closed
WINDOW_S: Final = 30.0
EDGE_S: Final = DEFAULT.bin_s
BEFORE_EDGE_S: Final = 8.0  # of the window that lies over an edge
TALKS_S: Final = 70.0  # chosen: what the largest load needs from its start to the end of its first window
PAST_H: Final = 49  # hours that each judge has seen: more than it keeps
VARIANTS: Final = 16  # different pasts
MIB: Final = 1 << 20


class Seasoned(BenchDaemon):
    """The daemon, restarted: its journal is that of one that ran for two days and stopped a moment ago."""

    start_limit_s = 120.0

    def __init__(self, checks: Sequence[Check]) -> None:
        super().__init__(configuration(checks))
        self._checks = checks

    def prepare(self) -> None:
        """Write configuration and journal."""
        super().prepare()
        asyncio.run(self._season())

    async def _season(self) -> None:
        now = utc_now()
        since = now - timedelta(hours=PAST_H)
        pasts = [past(now.timestamp(), seed) for seed in range(VARIANTS)]
        memory = Memory(state=State.UP, since=since, last_good=now)
        queues = {c.id: pasts[n % VARIANTS] for n, c in enumerate(self._checks) if c.kind != "dns"}
        journal = await Journal.open(self.state_dir, "bench")
        try:
            await journal.begin_run(since, "0" * 64, "bench", "")
            await journal.commit(Batch(memories={c.id: memory for c in self._checks}, queues=queues), now)
            await journal.end_run(now)
        finally:
            await journal.close()


def past(until: float, seed: int) -> Mapping[str, Any]:
    """Return what a judge knows of a quiet path that it watched for days."""
    r, judge = random.Random(seed), Judge()
    at = until - PAST_H * 3600.0
    while at < until:
        judge.advance(at)
        judge.add(at, round(0.0001 + r.expovariate(1 / 0.0005), 9))
        at += 10.0
    return judge.state()


def load(targets: Targets, count: int) -> list[Check]:
    """Return so many ICMP targets and the service checks beside them."""
    services = {kind: round(share * count) for kind, share in SERVICE_SHARE.items()}
    found = targets.load({"icmp": count, **services})
    return [c if c.kind == "icmp" else replace(c, every_s=SERVICES_EVERY_S) for c in found]


def measured(targets: Targets, *, quick: bool) -> list[Row]:
    """Measure each load; the largest when the next edge of five minutes leaves it little to wait for."""
    if len(os.sched_getaffinity(0)) < 2:
        say("scale: left out, for it needs a core for the daemon and one for what it probes")
        return []
    smaller, largest = list((POINTS_QUICK if quick else POINTS)[:-1]), POINTS[-1]
    rows: list[Row] = []
    found: dict[int, DaemonWindow] = {}
    over: DaemonWindow | None = None
    while smaller or over is None:
        if over is None and (not smaller or 0.0 < _until_edge() - BEFORE_EDGE_S - TALKS_S < WINDOW_S + WARM_S):
            found[largest], over = _run(targets, largest, over_edge=True)
        else:
            count = smaller.pop(0)
            found[count], _ = _run(targets, count, over_edge=False)
    for count in sorted(found):
        rows += _rows(f"scale_{count}", count, found[count])
    return rows + _rows(f"scale_{largest}_edge", largest, over, "over an edge of five minutes, where all bins close; ")


def _until_edge() -> float:
    return EDGE_S - utc_now().timestamp() % EDGE_S


def _run(targets: Targets, count: int, *, over_edge: bool) -> tuple[DaemonWindow, DaemonWindow | None]:
    say(f"{count} ICMP targets and {round(count * sum(SERVICE_SHARE.values()))} service checks on one core")
    daemon = Seasoned(load(targets, count))
    with held(-1, targets.pid), held(0), daemon:
        time.sleep(WARM_S)
        if over_edge and _until_edge() < WINDOW_S + BEFORE_EDGE_S:
            time.sleep(_until_edge() + WARM_S)
        found = watch(daemon, WINDOW_S)
        if not over_edge:
            return found, None
        time.sleep(max(_until_edge() - BEFORE_EDGE_S, 0.0))
        return found, watch(daemon, WINDOW_S)


def _rows(name: str, count: int, found: DaemonWindow, when: str = "") -> list[Row]:
    ends = ", ".join(f"{end} {number}" for end, number in found.slots.items())
    what = (
        f"{when}{found.probes_per_s:.0f} results a second, good {found.good_ratio:.2%}; slots {ends}; "
        f"{found.waited:.0%} of the time others had its core"
    )
    return [
        row(f"{name}_cpu", "% core", found.cores * 100, detail=what),
        row(f"{name}_cpu_per_result", "us", found.cpu_per_probe_us),
        row(f"{name}_lateness_p99", "ms", found.lateness_p99_s * 1e3),
        row(
            f"{name}_memory",
            "MB",
            found.rss_bytes / MIB,
            detail=f"at most {found.peak_bytes / MIB:.0f} since the start",
        ),
        row(f"{name}_unseen_slots", "slots", found.slots["lost"] + found.slots["skipped"]),
    ]
