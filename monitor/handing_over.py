"""A word between the relay and our note of it: who has it already, and whether it may have left without a note.

What was being handed over when the daemon ended may have left. It is sent again under the same Message-ID; if it was or
is withdrawn instead, it counts as left and is corrected: a correction too many harms nobody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import orjson

from monitor import withdrawal

UNDER_WAY: Final = 1
LOST: Final = 2


def take_up(db: sqlite3.Connection, item: int) -> bool:
    """Note that a word is being handed over; return False when it was withdrawn since it was claimed."""
    text = f"UPDATE outbox SET handed = handed | {UNDER_WAY} WHERE id = ? AND sent_ms IS NULL AND failed_ms IS NULL"  # noqa: S608
    return bool(db.execute(text, (item,)).rowcount)


def note_served(db: sqlite3.Connection, item: int, recipients: Iterable[str], at_ms: int) -> None:
    """Note for whom a relay has taken a word that others wait for still."""
    row = db.execute("SELECT served FROM outbox WHERE id = ?", (item,)).fetchone()
    if row is not None:
        served = dict.fromkeys(recipients, at_ms) | orjson.loads(row[0])
        db.execute("UPDATE outbox SET served = ? WHERE id = ?", (orjson.dumps(served).decode(), item))


def after_a_break(db: sqlite3.Connection, site: str) -> None:
    """Settle what was being handed over when the run before ended: what was withdrawn meanwhile is corrected."""
    lost = [i for (i,) in db.execute(f"SELECT id FROM outbox WHERE site = ? AND handed & {UNDER_WAY}", (site,))]  # noqa: S608
    for item in lost:
        db.execute("UPDATE outbox SET handed = ? WHERE id = ?", (LOST, item))
        withdrawal.left_after_all(db, item)
