"""The safe stop: when the disk is all but full, raw results are no longer written, and everything else goes on.

Probing, judging, telling and the records of what changed need little room and are worth the most; results are nearly
all that is written. They stop while there is still room for the rest, and that they did is itself on record: as changes
of a subject of its own, which are sealed like all others. Runs on the journal's thread, within its transactions.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from config.plan import Window
from monitor.model import Change, State
from monitor.rows import to_ms

SUBJECT: Final = "own-evidence"  # of the changes: UNKNOWN from where results are not written, UP from where they are
STOP_BYTES: Final = 32 << 20  # free below this: half of what sealing leaves to the journal
STOP_SHARE: Final = 0.05  # or this share of the disk, where that is less
RESUME_TIMES: Final = 2  # so many times as much must be free again
WAL_SHARE: Final = 4  # space that is free within the journal's file counts, but for this part: its log needs the disk
LOOK_S: Final = 5.0
WORDS: Final = "the disk is all but full: raw results are not written; watching, judging and telling go on"


class SafeStop:
    """Decides, for one journal, whether results may be written."""

    def __init__(self, look_s: float = LOOK_S, steady: Callable[[], float] = time.monotonic) -> None:
        self.since: datetime | None = None  # since when results are not written
        self._look_s = look_s
        self._steady = steady
        self._next = -float("inf")

    def resume(self, last_changes: Mapping[str, Change]) -> None:
        """Go on as the run before left it."""
        last = last_changes.get(SUBJECT)
        self.since = last.at if last is not None and last.state is State.UNKNOWN else None

    def look(self, db: sqlite3.Connection, site: str, at: datetime) -> bool:
        """Look at the disk from time to time, put a change on record within this transaction; return if it stops."""
        now = self._steady()
        if now < self._next:
            return self.since is not None
        self._next = now + self._look_s
        room, limit = _room(db)
        if self.since is None and room < limit:
            self._record(db, site, State.UNKNOWN, at)
            self.since = at
        elif self.since is not None and room >= RESUME_TIMES * limit:
            self._record(db, site, State.UP, at)
            self.since = None
        return self.since is not None

    def undone(self, since: datetime | None) -> None:
        """Take back what a transaction that failed has decided, and look again at once."""
        self.since = since
        self._next = -float("inf")

    @staticmethod
    def _record(db: sqlite3.Connection, site: str, state: State, at: datetime) -> None:
        detail = WORDS if state is State.UNKNOWN else ""
        db.execute(
            "INSERT INTO changes (site, subject, state, at_ms, confirmed_ms, earliest_ms, fault, detail, flapping)"
            " VALUES (?, ?, ?, ?, ?, ?, '', ?, 0)",
            (site, SUBJECT, state, *[to_ms(at)] * 3, detail),
        )


def _room(db: sqlite3.Connection) -> tuple[int, float]:
    """Return the bytes that may still be written, and below how many it stops."""
    disk = shutil.disk_usage(Path(db.execute("PRAGMA database_list").fetchone()[2]).parent)
    limit = min(STOP_BYTES, STOP_SHARE * disk.total)
    if disk.free < limit / WAL_SHARE:
        return disk.free, limit
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    size: int = db.execute("PRAGMA page_size").fetchone()[0]
    return disk.free + pages * size, limit


def unrecorded(changes: Sequence[Change], period: Window) -> list[Window]:
    """Return the spans of a period in which results were not written.

    Args:
        changes: of `SUBJECT`, oldest first.
        period: which.
    """
    found: list[Window] = []
    since: datetime | None = None
    for change in [*changes, None]:
        if change is not None and change.state is State.UNKNOWN:
            since = since or change.at
        elif since is not None:
            start, end = max(since, period.start), min(change.at if change else period.end, period.end)
            if start < end:
                found.append(Window(start, end))
            since = None
    return found
