"""Making a report by schedule, in a process of its own and at low priority, so that probing is not disturbed.

The daemon's side, `make`, starts the process and reads what it wrote; `main` is the process. What is made follows from
the order and the evidence alone: made again after a crash, it is the same to the byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from config import loader
from config.loader import ConfigError
from config.plan import EventPlan, Plan, ReportKind, ReportSchedule, Window
from exporters.report import material, papers, peak_past
from exporters.report_mail import Made, UnmadeError
from exporters.text_morning import Told, compose
from monitor.agenda import LATE
from monitor.history import open_history
from monitor.journal import JournalError
from monitor.model import OutboxItem
from monitor.rows import from_ms, to_ms
from probes.base import one_line

PROCESS_S: Final = 600.0  # longest run: a week of 500 checks takes some ten seconds
ANSWER_LIMIT: Final = 1 << 20  # of what the process prints
FOLDER: Final = "reports"  # in the state directory, while a report is made


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made. Times in milliseconds since 1970 UTC."""

    config: str
    state_dir: str
    kind: str
    event: str
    start_ms: int
    end_ms: int
    due_ms: int
    late: bool
    formats: Sequence[str]
    head: str
    out: str


async def make(plan: Plan, item: OutboxItem, schedule: ReportSchedule, head: str) -> Made:
    """Have a report made.

    Raises:
        UnmadeError: it could not be; the message says why.
    """
    if plan.source is None:
        raise UnmadeError("the configuration did not come from a file")
    notice = item.notice
    out = plan.state_dir / FOLDER
    order = Order(
        config=str(plan.source),
        state_dir=str(plan.state_dir),
        kind=schedule.kind.value,
        event=schedule.event,
        start_ms=to_ms(notice.since),
        end_ms=to_ms(notice.ended_at or notice.at),
        due_ms=to_ms(notice.at),
        late=notice.reason == LATE,
        formats=schedule.formats,
        head=head,
        out=str(out),
    )
    try:
        await asyncio.to_thread(_clear, out)
        answer = await _ask(order)
        return await asyncio.to_thread(_read, answer)
    except OSError as exc:
        raise UnmadeError(f"{type(exc).__name__}: {exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_clear, out)


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


async def _ask(order: Order) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # nothing from the working directory
        "-m",
        "thongsuot.report_process",
        orjson.dumps(asdict(order)).decode(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=ANSWER_LIMIT,
    )
    try:
        async with asyncio.timeout(PROCESS_S):
            said, _ = await process.communicate()
    except TimeoutError as exc:
        raise UnmadeError(f"it took longer than {PROCESS_S:g} s") from exc
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    answer = orjson.loads(said.splitlines()[-1]) if said else {}
    if process.returncode or "trouble" in answer:
        raise UnmadeError(answer.get("trouble") or f"the process ended with {process.returncode}; see the log")
    return dict(answer)


def _read(answer: dict[str, Any]) -> Made:
    files = tuple((Path(f).name, Path(f).read_bytes()) for f in answer["files"])
    return Made(answer["subject"], answer["text"], files)


# The process.


def produce(order: Order) -> dict[str, Any]:
    """Write a report's files, and return its mail and their names.

    Raises:
        ConfigError, JournalError, OSError: it cannot be made.
        UnmadeError: its event is gone from the configuration.
    """
    plan = replace(loader.load(Path(order.config)), state_dir=Path(order.state_dir))
    kind, due = ReportKind(order.kind), from_ms(order.due_ms)
    period = Window(from_ms(order.start_ms), from_ms(order.end_ms))
    event = _event(plan, order.event) if kind is ReportKind.EVENT else None
    zone = plan.site.timezone
    title = event.name if event else f"từ {period.start.astimezone(zone):%d/%m/%Y} đến {due.astimezone(zone):%d/%m/%Y}"
    with open_history(plan.state_dir, plan.site.id) as history:
        found = material.collect(plan, history, period, title, event)
        if event is not None:
            pasts = peak_past.read_pasts(plan, history, period, found.figures.peaks)
            found = replace(found, pasts=pasts)
    found = replace(found, kind=kind, draft=event is not None, dated=None if event else due)
    letter = compose(found.figures, Told(kind, due, order.late, order.head))
    files = papers.write(found, Path(order.out), order.formats)
    return {"subject": letter.subject, "text": letter.text, "files": [str(f) for f in files]}


def _event(plan: Plan, name: str) -> EventPlan:
    found = next((e for e in plan.events if e.id == name), None)
    if found is None:
        raise UnmadeError(f"the configuration has no event {name} any more")
    return found


def main() -> int:
    """Make what the order in the first argument says; print the mail, or what went wrong, as a line of JSON."""
    with contextlib.suppress(OSError):
        os.nice(19)  # refused where the service may not set priorities
    try:
        answer = produce(Order(**orjson.loads(sys.argv[1])))
    except (ConfigError, JournalError, UnmadeError, OSError) as exc:
        answer = {"trouble": one_line(str(exc), 500)}
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    return 1 if "trouble" in answer else 0


if __name__ == "__main__":
    raise SystemExit(main())
