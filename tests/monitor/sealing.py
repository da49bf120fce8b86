"""Journals of a few hours, sealed as the daemon would seal them; for tests of the evidence."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from config.plan import Window
from monitor import sealed
from monitor.chain import Link, evidence_folder, parse_line, read_chain
from monitor.evidence import Hook, Order, seal
from monitor.history import History, open_history
from monitor.journal import FILE_NAME, Batch, Journal, to_ms
from monitor.model import Result, SlotCount, State
from probes.base import Fault, Reading
from tests.monitor.builders import SITE, at, change, duty, gap, incident, result

HOUR = 3600
NAMES = ("mail.smtp", "portal.home", "carrier.ping")


def answer(name: str, seconds: float, r: random.Random) -> Result:
    """What a check of that name might have said: echoes, phases, or a fault."""
    if r.random() < 0.05:
        reading = Reading(
            r.choice([Fault.TIMEOUT, Fault.LOCAL, Fault.REFUSED]), 'no "answer" within 10 s, {"v":{', 10.0
        )
    elif name.endswith("ping"):
        rtts = tuple(None if r.random() < 0.1 else round(r.uniform(0.004, 0.02), 6) for _ in range(3))
        lost = all(x is None for x in rtts)
        fault = Fault.TIMEOUT if lost else None
        reading = Reading(fault, "", 0.5, values={"sent_count": 3, "reply_ttl_count": 57}, rtts_s=rtts)
    else:
        phases = {name: round(r.uniform(0.0001, 0.03), 6) for name in ("resolve", "connect", "tls", "processing")}
        facts = {"address": "192.0.2.7", "title": 'Cổng "thông tin", "f":{'}
        reading = Reading(None, "", sum(phases.values()) + 0.001, phases, {"status_code": 200.0}, facts)
    return result(name, seconds, reading, path="vnpt" if name.endswith("ping") and r.random() < 0.5 else "")


def hours_of(count: int, *, every_s: float = 60.0, seed: int = 1, names: Sequence[str] = NAMES) -> list[Batch]:
    """Batches of so many hours from T0 on, with something of every kind in them."""
    r = random.Random(seed)
    batches = []
    for hour in range(count):
        start = hour * HOUR
        steps = int(HOUR / every_s)
        results = [answer(n, start + i * every_s + 7 * k + 0.25, r) for i in range(steps) for k, n in enumerate(names)]
        batch = Batch(results=results)
        batch.slots = [SlotCount(n, at(start), done=steps - 2, late=1, skipped=1) for n in names]
        batch.changes = [change(names[0], State.DOWN if hour % 2 else State.UP, start + 5, detail="từ chối")]
        batch.gaps = [gap(names[1], start + 100, None), gap(names[0], start + 10, start + 20, "missed")]
        batch.incidents = {hour + 1: incident(hour + 1, f"s{hour}", start + 30, ended=start + 600)}
        batch.duties = [duty(f"opened-{hour + 1}", hour + 1)]
        batches += [batch, Batch(gaps_closed={names[1]: at(start + 200)})]
    return batches


def write(state_dir: Path, batches: Sequence[Batch], *, started: float = 0, ended: float | None = None) -> None:
    """Let a daemon live that commits these."""

    async def live() -> None:
        journal = await Journal.open(state_dir, SITE)
        await journal.begin_run(at(started), "d1", "0.1.0", "site: {}\n")
        for batch in batches:
            newest = max((r.started_at for r in batch.results), default=at(started))
            await journal.commit(batch, newest)
        if ended is not None:
            await journal.end_run(at(ended))
        await journal.close()

    asyncio.run(live())


def order(state_dir: Path, closed: float, **more: object) -> Order:
    """An order to seal the hours that end up to `closed` seconds after T0; the disk may be small."""
    base: dict[str, object] = {"now_ms": to_ms(at(closed + 90)), "closed_ms": to_ms(at(closed)), "reserve_bytes": 0}
    return Order(str(state_dir), SITE, **{**base, **more})  # type: ignore[arg-type]


def seal_hours(state_dir: Path, closed: float, *, reached: Hook = lambda _: None, **more: object) -> list[Link]:
    """Seal, note and tidy, as the daemon's task does; return the new lines."""
    done = []
    for outcome in seal(order(state_dir, closed, **more), reached):
        note(state_dir, outcome.line, outcome.slots)
        done.append(parse_line(outcome.line))
    tidy(state_dir)
    return done


def note(state_dir: Path, line: str, slots: Sequence[Sequence[object]]) -> None:
    with sqlite3.connect(state_dir / FILE_NAME) as db:
        sealed.note(db, SITE, parse_line(line), slots, 0)
    db.close()


def tidy(state_dir: Path) -> None:
    with sqlite3.connect(state_dir / FILE_NAME) as db:
        for what in sealed.to_drop(db, SITE):
            while what.row <= what.through:
                sealed.drop(db, SITE, what, 50)
            sealed.dropped(db, SITE, what.number)
    db.close()


def folder(state_dir: Path) -> Path:
    return evidence_folder(state_dir, SITE)


def chain(state_dir: Path) -> list[Link]:
    return read_chain(folder(state_dir))


def rows_left(state_dir: Path) -> int:
    db = sqlite3.connect(state_dir / FILE_NAME)
    count: int = db.execute("SELECT count(*) FROM results").fetchone()[0]
    db.close()
    return count


def everything_known(state_dir: Path, period: Window) -> dict[str, object]:
    """All that a report may ask of the past."""
    from datetime import timedelta

    with open_history(state_dir, SITE) as history:
        return _ask(history, period, timedelta(minutes=7))


def _ask(history: History, period: Window, step: object) -> dict[str, object]:
    responses = {
        name: (r.good, r.bad, r.blind, sorted(r.seconds), r.echoes_sent, r.echoes_lost)
        for name, r in sorted(history.responses(period).items())
    }
    return {
        "responses": responses,
        "series": {name: list(points) for name, points in sorted(history.series(period, step).items())},  # type: ignore[arg-type]
        "slots": dict(sorted(history.slots(period).items())),
        "changes": history.changes(period.end),
        "gaps": history.gaps(period),
        "incidents": history.incidents(period),
        "runs": history.runs(),
    }
