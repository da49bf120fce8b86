"""Words that turned out to be our own fault: what has not left is withdrawn, what has is corrected by one further word.

What has left is known in the journal alone, so it is decided there, within the transaction that finds the fault. A word
may be on its way at that very moment: then the correction lies ready, and is owed once the word is known to have left.
No row is ever deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from monitor.model import EventKind, Notice, Retracted
from monitor.rows import from_ms

WITHDRAWN: Final = "withdrawn: our own fault"
NOT_NEEDED: Final = "withdrawn: nothing that it corrects was sent"
_NOTICE: Final = TypeAdapter(Notice)


def withdraw(db: sqlite3.Connection, site: str, incidents: Sequence[int], at_ms: int) -> list[Retracted]:
    """Withdraw what is owed of some incidents; return what of them has left, oldest first."""
    marks = ",".join("?" * len(incidents))
    where = f"site = ? AND incident IN ({marks}) AND withdrawn_ms IS NULL"
    rows = db.execute(
        # Some of its recipients may have it, or, after a crash, nobody knows.
        f"SELECT notice, thread_id, sent_ms, served, created_ms FROM outbox WHERE {where}"  # noqa: S608  our own text
        " AND (sent_ms IS NOT NULL OR served != '{}' OR handed & 2) ORDER BY id",
        (site, *incidents),
    ).fetchall()
    db.execute(
        f"UPDATE outbox SET withdrawn_ms = ?, failed_ms = ?, last_detail = ? WHERE {where}"  # noqa: S608  our own text
        " AND sent_ms IS NULL AND failed_ms IS NULL",
        (at_ms, at_ms, WITHDRAWN, site, *incidents),
    )
    db.execute(
        f"UPDATE outbox SET withdrawn_ms = ? WHERE {where} AND sent_ms IS NOT NULL",  # noqa: S608
        (at_ms, site, *incidents),
    )
    return [
        _retracted(notice, thread, sent_ms or min(orjson.loads(served).values(), default=created_ms))
        for notice, thread, sent_ms, served, created_ms in rows
    ]


def owe_correction(db: sqlite3.Connection, row: Mapping[str, Any], told: Sequence[Retracted]) -> None:
    """Write the correction: owed when something has left, lying ready otherwise. Args: row: of the outbox."""
    values = dict(row)
    if told:
        values["notice"] = _with(values["notice"], told)
        values["thread_id"] = told[0].thread_id
    else:
        values |= {"failed_ms": row["created_ms"], "withdrawn_ms": row["created_ms"], "last_detail": NOT_NEEDED}
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO outbox ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608  our own names


def left_after_all(db: sqlite3.Connection, item: int) -> None:
    """Owe the correction of a word that was withdrawn while it was on its way, and has left or may have."""
    row = db.execute(
        "SELECT site, channel, withdrawn_ms, notice, thread_id, coalesce(sent_ms, withdrawn_ms) FROM outbox"
        " WHERE id = ? AND withdrawn_ms IS NOT NULL AND kind != ?",
        (item, EventKind.CORRECTED),
    ).fetchone()
    if row is None:
        return
    site, channel, withdrawn_ms, notice, thread_id, sent_ms = row
    db.execute("UPDATE outbox SET failed_ms = NULL WHERE id = ? AND sent_ms IS NOT NULL", (item,))
    ready = db.execute(
        "SELECT id, notice FROM outbox WHERE site = ? AND channel = ? AND kind = ? AND created_ms = ?"
        " AND sent_ms IS NULL",
        (site, channel, EventKind.CORRECTED, withdrawn_ms),
    ).fetchone()
    if ready is None:
        return
    told = _retracted(notice, thread_id, sent_ms)
    known = _NOTICE.validate_json(ready[1]).retracted
    if not any((r.incident, r.kind) == (told.incident, told.kind) for r in known):  # else some had it already
        db.execute(
            "UPDATE outbox SET notice = ?, failed_ms = NULL, withdrawn_ms = NULL, last_detail = '' WHERE id = ?",
            (_with(ready[1], [told]), ready[0]),
        )


def _retracted(notice_json: str, thread_id: str, sent_ms: int) -> Retracted:
    notice = _NOTICE.validate_json(notice_json)
    names = ", ".join(notice.members) or notice.service_name or notice.service
    return Retracted(notice.incident, names, notice.kind, notice.state, notice.since, from_ms(sent_ms), thread_id)


def _with(notice_json: str, told: Sequence[Retracted]) -> str:
    notice = _NOTICE.validate_json(notice_json)
    return _NOTICE.dump_json(replace(notice, retracted=(*notice.retracted, *told))).decode()
