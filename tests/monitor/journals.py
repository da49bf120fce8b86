"""Opens journals as a daemon would, asks their files as a person would, and fills the disk under them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from monitor.journal import FILE_NAME, Batch, Journal, Recovered
from monitor.judge.outage import Memory
from monitor.model import SlotCount, State
from probes.base import Fault
from tests.monitor.builders import SITE, at, bad, change, duty, gap, good, incident


@contextlib.asynccontextmanager
async def opened(state_dir: Path, site: str = SITE) -> AsyncIterator[Journal]:
    journal = await Journal.open(state_dir, site)
    try:
        yield journal
    finally:
        await journal.close()


async def begin(journal: Journal, seconds: float = 0, digest: str = "d1", text: str = "site: {}\n") -> Recovered:
    return await journal.begin_run(at(seconds), digest, "0.1.0", text)


async def recovered(state_dir: Path, seconds: float = 1000) -> Recovered:
    async with opened(state_dir) as journal:
        return await begin(journal, seconds)


def rows(state_dir: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask the file itself, as somebody with the sqlite3 shell would."""
    with contextlib.closing(sqlite3.connect(state_dir / FILE_NAME)) as db:
        return db.execute(sql).fetchall()


async def ask(state_dir: Path, sql: str) -> list[tuple[object, ...]]:
    return await asyncio.to_thread(rows, state_dir, sql)


def everything() -> Batch:
    """A batch with something of every kind in it."""
    return Batch(
        results=[
            good("mail.smtp", 0, took_s=0.025),
            bad("mail.smtp", 30, Fault.REFUSED, detail="từ chối", path="vnpt"),
        ],
        changes=[change("mail.smtp", State.DOWN, 30, confirmed=40, earliest=0, fault="refused", detail="từ chối")],
        gaps=[gap("portal.home", 5, None), gap("mail.smtp", 1, 2, "missed")],
        memories={"mail.smtp": Memory(state=State.DOWN, since=at(30), bad=3, first_bad=at(30), history="uud")},
        incidents={1: incident(1, "mail", 30, detail="SMTP: từ chối")},
        duties=[duty("opened-1")],
        slots=[SlotCount("mail.smtp", at(0), done=2, late=1, skipped=0, lost=4)],
    )


async def fill_up(journal: Journal) -> None:
    """Make the journal's own connection believe that the disk is full."""
    db = journal._db

    def work() -> None:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")

    await journal._do(work)


async def make_room(journal: Journal) -> None:
    db = journal._db
    await journal._do(lambda: db.execute("PRAGMA max_page_count = 1000000").fetchone())
