"""Keeps the pipeline's book of announced work in step with the register.

What the configuration announces is put on record before it begins; what people announce is taken up within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from config.maintenance import occurrences
from config.plan import Plan, Window
from monitor import register
from monitor.announced import CONFIGURATION
from monitor.journal import Journal, JournalBusyError
from monitor.maintenance import WorkBook
from monitor.register import Signature
from probes.base import utc_now

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0  # how soon the daemon knows of what another process put on record
# Weekly work is on record this far ahead, so that a stop of weeks loses none of it; and is looked after this often.
AHEAD: Final = timedelta(days=35)
EXTEND_EVERY: Final = timedelta(hours=1)


class Announcer:
    """Owns the records that the configuration makes, and hands all of them to the book."""

    def __init__(self, plan: Plan, journal: Journal, book: WorkBook, clock: Callable[[], datetime] = utc_now) -> None:
        self._plan = plan
        self._journal = journal
        self._book = book
        self._clock = clock
        self._known = -1  # number of the newest record that the book has
        self._extended: datetime | None = None

    async def begin(self) -> None:
        """Put on record what the configuration announces, and fill the book.

        Raises:
            JournalBusyError: it cannot be written now.
        """
        now = self._clock()
        await self._journal.transact(lambda db: record(db, self._plan, now))
        self._extended = now
        await self.look()

    async def look(self) -> None:
        """Take up what is new on record.

        Raises:
            JournalBusyError: it cannot be read now.
        """
        site = self._plan.site.id
        newest = await self._journal.transact(lambda db: register.newest(db, site))
        if newest != self._known:
            found = await self._journal.transact(lambda db: register.announcements(db, site))
            self._book.take([a for a in found if a.planned.end > self._clock() - AHEAD])
            self._known = newest

    async def run(self) -> None:
        """Go on looking, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._extended is None or abs(self._clock() - self._extended) >= EXTEND_EVERY:
                    await self.begin()
                await self.look()
            except JournalBusyError as exc:
                log.warning("announced work cannot be read or written now: %s", exc)


def record(db: sqlite3.Connection, plan: Plan, now: datetime) -> int:
    """Put on record what a configuration announces and no record says yet, and end what it no longer announces.

    Returns:
        How many records were added.
    """
    site, by = plan.site.id, Signature("", "", now)
    wanted = {
        (subject, window): work.reason
        for work in plan.maintenance
        for window in occurrences(work, Window(now, now + AHEAD), plan.site.timezone)
        for subject in work.subjects
    }
    added = 0
    for known in register.announcements(db, site):
        if known.source != CONFIGURATION or known.cancelled_at is not None or known.planned.end <= now:
            continue
        if (known.subject, known.planned) in wanted:
            del wanted[known.subject, known.planned]
        else:
            register.cancel(db, site, known, "", by, CONFIGURATION)
            added += 1
    for (subject, window), reason in wanted.items():
        register.announce(db, site, subject, window, reason, by, CONFIGURATION)
        added += 1
    return added
