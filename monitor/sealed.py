"""What the journal knows of its sealed part: lines of the chain, rows that may go, the clock. Small transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.chain import Link, parse_line
from monitor.journal import JournalError


@dataclass(slots=True)
class Drop:
    """Sealed rows that are still in the journal."""

    number: int  # of the line that says they are sealed
    row: int  # next row to look at
    through: int  # last row to look at
    until_ms: int  # those that started before are sealed


def note(db: sqlite3.Connection, site: str, link: Link, slots: Sequence[Sequence[Any]], now_ms: int) -> bool:
    """Keep a line of the chain, and take the slots that it seals off the ledger; once, however often it is called."""
    added = db.execute(
        "INSERT INTO segments (site, number, line, recorded_ms, dropped) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (site, link.number, link.text, now_ms, int(not link.is_segment or link.fields["journal"] != identity(db))),
    ).rowcount
    if added:
        # Counts that came since stay: they go with the next segment.
        db.executemany(
            "UPDATE slots SET done = done - ?, late = late - ?, skipped = skipped - ?, lost = lost - ?"
            " WHERE site = ? AND check_name = ? AND hour_ms = ?",
            [(done, late, skipped, lost, site, check, hour) for check, hour, done, late, skipped, lost in slots],
        )
        db.executemany(
            "DELETE FROM slots WHERE site = ? AND check_name = ? AND hour_ms = ?"
            " AND done = 0 AND late = 0 AND skipped = 0 AND lost = 0",
            [(site, check, hour) for check, hour, *_ in slots],
        )
    return bool(added)


def identity(db: sqlite3.Connection) -> str:
    """Return the id of this journal."""
    uid: str = db.execute("SELECT uid FROM identity").fetchone()[0]
    return uid


def last_line(db: sqlite3.Connection, site: str) -> str | None:
    """Return the newest line of the chain that was noted."""
    row = db.execute("SELECT line FROM segments WHERE site = ? ORDER BY number DESC LIMIT 1", (site,)).fetchone()
    return row[0] if row else None


def lines(db: sqlite3.Connection, site: str) -> list[str]:
    """Return all lines of the chain that were noted, in order."""
    rows = db.execute("SELECT line FROM segments WHERE site = ? ORDER BY number", (site,))
    return [row[0] for row in rows]


def noted_lines(file: Path, site: str) -> list[str]:
    """Read the noted lines of the chain from the file of a journal, beside a daemon or without one.

    Raises:
        JournalError: it cannot be read.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)) as db:
            return lines(db, site)
    except sqlite3.Error as exc:
        raise JournalError(f"{file} cannot be read: {exc}") from exc


def to_drop(db: sqlite3.Connection, site: str) -> list[Drop]:
    """Return what is sealed, noted, and not yet deleted."""
    rows = db.execute("SELECT line FROM segments WHERE site = ? AND dropped = 0 ORDER BY number", (site,)).fetchall()
    first = db.execute("SELECT coalesce(min(rowid), 1) FROM results").fetchone()[0]
    found = [parse_line(row[0]) for row in rows]
    return [Drop(n.number, first, n.fields["through"]["results"], n.fields["until_ms"]) for n in found]


def drop(db: sqlite3.Connection, site: str, what: Drop, rows: int) -> int:
    """Delete the sealed ones among the next so many rows, and move on; return how many went.

    The newest row of all stays, sealed or not, so that no number is ever given to another row.
    """
    last = min(what.row + rows - 1, what.through)
    gone = db.execute(
        "DELETE FROM results WHERE rowid BETWEEN ? AND ? AND started_ms < ?"
        " AND rowid < (SELECT max(rowid) FROM results) AND check_no IN (SELECT no FROM checks WHERE site = ?)",
        (what.row, last, what.until_ms, site),
    ).rowcount
    following = db.execute("SELECT min(rowid) FROM results WHERE rowid > ?", (last,)).fetchone()[0]
    what.row = max(last + 1, following if following is not None else what.through + 1)
    return gone


def dropped(db: sqlite3.Connection, site: str, number: int) -> None:
    """Note that the rows of a line are gone."""
    db.execute("UPDATE segments SET dropped = 1 WHERE site = ? AND number = ?", (site, number))


def clock_at_start(db: sqlite3.Connection, site: str, wall_ms: int, steady_ms: int) -> int:
    """Keep how the clock stands at a start; return by how much it stands before the run before (negative), or 0."""
    alive = db.execute(
        "SELECT max(alive_ms) FROM (SELECT alive_ms FROM runs WHERE site = ? ORDER BY id DESC LIMIT 1 OFFSET 1)",
        (site,),
    ).fetchone()[0]
    step = min(wall_ms - alive, 0) if alive is not None else 0
    clock_row(db, (site, wall_ms, steady_ms, step, "start"))
    return int(step)


def clock_row(db: sqlite3.Connection, row: tuple[str, int, int, int, str]) -> int:
    """Keep how the clock stands: site, wall, steady, step in milliseconds, cause; return the step."""
    db.execute("INSERT INTO clock (site, at_ms, steady_ms, step_ms, cause) VALUES (?, ?, ?, ?, ?)", row)
    return row[3]
