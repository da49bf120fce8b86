"""`python -m bench evidence`: what sealing costs, what it leaves on the disk, and what a report of it costs.

Sealing is measured where it happens: beside a scheduler, a pipeline and a journal that take 1,000 results a second. The
results are made up, half echoes (three a result) and half web answers (five phases), all to the microsecond.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb
import orjson
import psutil

from bench.past import SITE, Past, write_past
from bench.results import HOUR_MS, made_up
from config.plan import Language, OutagePolicy, Plan, ServiceKind, ServicePlan, SitePlan, Target
from monitor import sealer as sealing
from monitor.board import Board
from monitor.chain import evidence_folder, read_chain
from monitor.journal import FILE_NAME, Journal
from monitor.model import Result
from monitor.pipeline import Pipeline
from monitor.rows import to_ms
from monitor.scheduler import Scheduler
from probes.base import Measurement, ProbeSettings, ProbeType, Tools, utc_now

RATE: Final = 1000  # results a second, of so many checks
ENOUGH: Final = "1e6,1e7,4.3e7,1e8"  # results of the pasts of a whole run
QUICK: Final = "1e6,4e6"

Figure = tuple[str, str, float, str]  # name, unit, value, detail


# Sealing an hour of 1,000 results a second beside a daemon that takes as many.


class _NoSettings(ProbeSettings):
    pass


async def _answer(_: Any, measurement: Measurement) -> None:
    with measurement.phase("connect"):
        await asyncio.sleep(0.001)


def bench_plan(state_dir: Path) -> Plan:
    """A province of checks that cost nothing, once a second each."""
    probe = ProbeType(kind="bench", summary="answers after a millisecond", settings=_NoSettings, run=_answer)
    targets = tuple(
        Target(SITE, "s", f"c{n}", f"c{n}", probe, _NoSettings(), None, 1.0, 1.0, OutagePolicy()) for n in range(RATE)
    )
    return Plan(
        site=SitePlan(SITE, SITE, ZoneInfo("UTC"), Language.EN),
        services=(ServicePlan("s", "s", ServiceKind.SERVICE, (), 1, targets),),
        references=(),
        events=(),
        mail=None,
        state_dir=state_dir,
        raw_keep_s=1e9,
        listen_host="127.0.0.1",
        listen_port=0,
        digest="0" * 64,
        text="",
    )


async def _fill(state_dir: Path, start_ms: int) -> None:
    journal = await Journal.open(state_dir, SITE)
    await journal.close()

    def work() -> None:
        with contextlib.closing(sqlite3.connect(state_dir / FILE_NAME)) as db:
            names = [(n + 1, SITE, f"old.c{n}", "") for n in range(RATE)]
            db.executemany("INSERT INTO checks VALUES (?, ?, ?, ?)", names)
            rows = ((c, s, t, (t - s) * 1000, a, d, f, b) for c, s, t, a, d, f, b in made_up(start_ms, RATE, 1000, 1))
            db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.commit()

    await asyncio.to_thread(work)


class _Late(asyncio.Queue[Result]):
    """The results' queue, which also keeps how late each probe started."""

    def __init__(self) -> None:
        super().__init__(10_000)
        self.seen: list[float] = []

    def put_nowait(self, item: Result) -> None:
        self.seen.append(item.lateness_s)
        super().put_nowait(item)


@contextlib.asynccontextmanager
async def _daemon(plan: Plan, results: _Late) -> AsyncIterator[tuple[Journal, Board]]:
    """Run the parts of the daemon that probing needs."""
    journal, tools = await Journal.open(plan.state_dir, SITE), Tools()
    board = Board(plan, utc_now())
    scheduler = Scheduler(plan.targets(), results, board, tools)
    pipeline = Pipeline(
        plan,
        journal,
        board,
        results,
        request=scheduler.request,
        slot_counts=scheduler.take_counts,
        told=lambda: None,
    )
    recovered = await journal.begin_run(utc_now(), plan.digest, "bench", plan.text)
    await journal.commit(pipeline.resume(recovered, utc_now()), utc_now())
    pacer, judge = asyncio.create_task(scheduler.run()), asyncio.create_task(pipeline.run())
    try:
        yield journal, board
    finally:
        pacer.cancel()
        await asyncio.gather(pacer, return_exceptions=True)
        pipeline.stop()
        await asyncio.gather(judge, return_exceptions=True)
        tools.close()
        await journal.close()


async def seal_beside_probing(state_dir: Path, tidy_s: float) -> list[Figure]:
    """Seal an hour while probes run; then watch the tidying for a while."""
    now = to_ms(utc_now())
    start_ms = now - now % HOUR_MS - 2 * HOUR_MS
    closing = datetime.fromtimestamp((start_ms + HOUR_MS) / 1000, UTC) + timedelta(minutes=5)
    await _fill(state_dir, start_ms)
    plan, results = bench_plan(state_dir), _Late()
    figures: list[Figure] = []
    async with _daemon(plan, results) as (journal, board):
        await asyncio.sleep(5)
        figures.append(_lateness("evidence_lateness_p99_before", results.seen, "nothing but probing"))
        results.seen.clear()
        sealer = sealing.Sealer(plan, journal, board, clock=lambda: closing)
        cpu, began = _children_s(), time.monotonic()
        step = asyncio.create_task(sealer.step())
        while not board.chain_head and not step.done():  # noqa: ASYNC110  the board is what others look at, too
            await asyncio.sleep(0.02)
        figures.append(("evidence_seal_wall", "s", time.monotonic() - began, "an hour of 3.6 million results"))
        figures.append(("evidence_seal_cpu", "s", _children_s() - cpu, "of the sealing process, all of its life"))
        figures.append(_lateness("evidence_lateness_p99_sealing", results.seen, "while sealing"))
        results.seen.clear()
        await asyncio.sleep(tidy_s)
        figures.append(_lateness("evidence_lateness_p99_tidying", results.seen, "while sealed rows are deleted"))
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
    (line,) = read_chain(evidence_folder(state_dir, SITE))
    size = line.fields["bytes"] / line.fields["results"]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    figures.append(("evidence_bytes_per_result_busy", "bytes", size, f"{line.fields['results']} results in an hour"))
    figures.append(("evidence_seal_memory", "MB", memory, "most of the sealing process"))
    return figures


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _lateness(name: str, seen: Sequence[float], what: str) -> Figure:
    ordered = sorted(seen)
    p99 = ordered[int(len(ordered) * 0.99)] if ordered else 0.0
    return name, "ms", 1000 * p99, f"{what}; {len(ordered)} probes, worst {1000 * max(ordered, default=0.0):.0f} ms"


# A long past: files of the demo's shape, and questions to them.


AS_OF: Final = """
import datetime, sys
from thongsuot import cli
now = datetime.datetime.fromisoformat(sys.argv.pop(1))
cli.utc_now = lambda: now  # the event lies in the future of this machine
cli.app(prog_name="thongsuot")
"""
ASK: Final = """
import resource, sys, time, duckdb
files, threads = sys.argv[1], sys.argv[2]
began = time.perf_counter()
with duckdb.connect(config={"threads": threads}) as db:
    db.execute("SET enable_progress_bar = false")
    rows = db.execute(
        f"SELECT subject, count(*), avg((fault = '')::int),"
        f" quantile_disc(duration_us, 0.95) FROM '{files}' WHERE kind = 'result' GROUP BY subject"
    ).fetchall()
assert len(rows) == 500, len(rows)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def ask_past(rows: int) -> list[Figure]:
    """Write a past of so many results; ask DuckDB for one aggregate over all of it, and us for the whole report."""
    millions = f"{rows / 1e6:g}M"
    with tempfile.TemporaryDirectory(prefix="thongsuot-bench-") as folder:
        began = time.monotonic()
        past = write_past(Path(folder), rows)
        took = time.monotonic() - began
        files = evidence_folder(past.state_dir, SITE) / "*/*/*/*.parquet"
        asked = subprocess.run([sys.executable, "-c", ASK, str(files), "2"], capture_output=True, text=True, check=True)
        report = _report(past)
    seconds, memory = map(float, asked.stdout.split())
    done, size = past.results, past.size
    return [
        (f"evidence_bytes_per_result_{millions}", "bytes", size / done, f"{done} results in {size / 1e6:.1f} MB"),
        (f"evidence_write_{millions}", "s", took, "files alone, from columns, two processes"),
        (f"evidence_aggregate_{millions}", "s", seconds, f"DuckDB {duckdb.__version__}, 2 threads, by check"),
        (f"evidence_aggregate_memory_{millions}", "MB", memory, "the whole process"),
        (f"report_wall_{millions}", "s", report.wall_s, f"every format with charts; load {os.getloadavg()[0]:.1f}"),
        (f"report_cpu_{millions}", "s", report.cpu_s, "of all its processes"),
        (f"report_memory_{millions}", "MB", report.memory_mb, "of all its processes together, at most"),
    ]


@dataclass(frozen=True, slots=True)
class Report:
    """What a report cost."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def _report(past: Past) -> Report:
    """Write the report of a past's event, as a user does."""
    words = ["report", str(past.config), "--event", "tet", "--state-dir", str(past.state_dir)]
    out = past.state_dir / "report"
    before = _children_s()
    began, most = time.monotonic(), 0
    with subprocess.Popen(
        [sys.executable, "-c", AS_OF, past.end.isoformat(), *words, "--out", str(out), "--format",
         "csv,json,xlsx,docx,pdf"], stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, _resident(watched))
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"the report ended with {process.returncode}")
    return Report(time.monotonic() - began, _children_s() - before, most / 2**20)


def _resident(process: psutil.Process) -> int:
    """What a process and its children hold; pages that they share count in each."""
    held = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                held += one.memory_info().rss
    return held


def measure(pasts: Sequence[int], tidy_s: float, *, seal: bool = True) -> list[Figure]:
    """Run all of it."""
    figures: list[Figure] = []
    if seal:
        folder = Path(tempfile.mkdtemp(prefix="thongsuot-bench-"))
        try:
            figures += asyncio.run(seal_beside_probing(folder, tidy_s))
        finally:
            shutil.rmtree(folder)
    for rows in pasts:
        figures += ask_past(rows)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures, and write them beside those of the daemon."""
    parser = argparse.ArgumentParser(prog="bench evidence", description=__doc__)
    parser.add_argument("--rows", help=f"sizes of the past, {ENOUGH} without it; 1 GB of disk and 5 minutes each 1e8")
    parser.add_argument(
        "--quick", action="store_true", help=f"the past of {QUICK} results, and a short look at tidying"
    )
    parser.add_argument("--no-seal", action="store_true", help="leave out sealing beside probing")
    parser.add_argument("--tidy", type=float, help="seconds to watch the tidying")
    chosen = parser.parse_args(argv)
    sizes = chosen.rows or (QUICK if chosen.quick else ENOUGH)
    tidy_s = chosen.tidy if chosen.tidy is not None else 5.0 if chosen.quick else 20.0
    figures = measure([round(float(n)) for n in sizes.split(",") if n], tidy_s, seal=not chosen.no_seal)
    for name, unit, value, detail in figures:
        print(f"{name:38} {value:10.2f} {unit:6} {detail}")
    out = Path(__file__).with_name("out") / "evidence.json"
    out.parent.mkdir(exist_ok=True)
    blank = {"peer": None, "peer_name": "", "ratio": None}
    rows = [{"name": n, "unit": u, "ours": v, **blank, "detail": d} for n, u, v, d in figures]
    out.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
