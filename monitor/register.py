"""The register: announced work and corrections as rows of the journal. Rows are added, and nothing else.

The daemon reads and writes it on the journal's own thread; the command line opens it beside the daemon.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from config.plan import Window
from monitor.announced import PERSON, Announcement
from monitor.corrections import APPROVED, PROPOSED, REJECTED, Attachment, Correction, same_person
from monitor.journal import FILE_NAME, JournalError
from monitor.model import State
from monitor.rows import from_ms, to_ms
from monitor.schema import migrations

BUSY_S: Final = 10.0  # how long the command line waits for its turn beside the daemon
ANNOUNCED, CANCELLED = "announced", "cancelled"


class RegisterError(Exception):
    """What was asked for cannot be put on record; the message says why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who puts something on record, and when."""

    author: str
    account: str  # who is logged in
    at: datetime


@dataclass(frozen=True, slots=True)
class Last:
    """The newest record of its kind: what a report was made with."""

    number: int
    at: datetime


def announcements(db: sqlite3.Connection, site: str) -> list[Announcement]:
    """Return all announced work of a site, oldest first."""
    found: dict[int, Announcement] = {}
    for row in _rows(db, "announcements", site):
        if row["act"] == ANNOUNCED:
            window, at = Window(from_ms(row["from_ms"]), from_ms(row["to_ms"])), from_ms(row["at_ms"])
            found[row["id"]] = Announcement(
                row["id"], row["subject"], window, row["reason"], row["author"], row["account"], row["source"], at
            )
        elif row["announcement"] in found:
            ended = found[row["announcement"]]
            found[ended.id] = replace(
                ended, cancelled_at=from_ms(row["at_ms"]), cancelled_by=row["author"], cancelled_why=row["reason"]
            )
    return list(found.values())


def announce(  # noqa: PLR0913, PLR0917  each is a column
    db: sqlite3.Connection, site: str, subject: str, window: Window, reason: str, by: Signature, source: str = PERSON
) -> int:
    """Put announced work on record; return its number."""
    return _add(
        db,
        "announcements",
        {
            "site": site,
            "act": ANNOUNCED,
            "announcement": None,
            "subject": subject,
            "from_ms": to_ms(window.start),
            "to_ms": to_ms(window.end),
            "reason": reason,
            "author": by.author,
            "account": by.account,
            "source": source,
            "at_ms": to_ms(by.at),
        },
    )


def cancel(
    db: sqlite3.Connection, site: str, what: Announcement, reason: str, by: Signature, source: str = PERSON
) -> int:
    """Put on record that announced work ends now, or never begins; return the number of the record.

    Raises:
        RegisterError: it is over, or was cancelled before.
    """
    if what.cancelled_at is not None:
        raise RegisterError(f"announcement {what.id} was cancelled before")
    if what.planned.end <= by.at:
        raise RegisterError(f"announcement {what.id} is over: it can no longer be cancelled")
    try:
        return _add(
            db,
            "announcements",
            {
                "site": site,
                "act": CANCELLED,
                "announcement": what.id,
                "subject": what.subject,
                "from_ms": to_ms(what.planned.start),
                "to_ms": to_ms(what.planned.end),
                "reason": reason,
                "author": by.author,
                "account": by.account,
                "source": source,
                "at_ms": to_ms(by.at),
            },
        )
    except sqlite3.IntegrityError as exc:
        raise RegisterError(f"announcement {what.id} was cancelled before") from exc


def corrections(db: sqlite3.Connection, site: str) -> list[Correction]:
    """Return all corrections of a site with what was decided on them, oldest first."""
    found: dict[int, Correction] = {}
    for row in _rows(db, "corrections", site):
        at = from_ms(row["at_ms"])
        if row["act"] == PROPOSED:
            window = Window(from_ms(row["from_ms"]), from_ms(row["to_ms"]))
            shown = Attachment(**orjson.loads(row["evidence"])) if row["evidence"] else None
            found[row["id"]] = Correction(
                row["id"],
                row["subject"],
                window,
                State(row["state"]),
                row["reason"],
                row["author"],
                row["account"],
                at,
                shown,
            )
        elif row["proposal"] in found:
            proposal = found[row["proposal"]]
            if row["act"] == APPROVED and same_person(row["author"], proposal.author):
                continue  # written past the command line: nobody approves his own
            found[proposal.id] = replace(
                proposal,
                status=row["act"],
                decided_by=row["author"],
                decided_at=at,
                decision=row["reason"],
                decision_no=row["id"],
            )
    return list(found.values())


def propose(  # noqa: PLR0913, PLR0917  each is a column
    db: sqlite3.Connection,
    site: str,
    subject: str,
    span: Window,
    state: State,
    reason: str,
    by: Signature,
    evidence: Attachment | None = None,
) -> int:
    """Put a proposed correction on record; return its number."""
    return _add(
        db,
        "corrections",
        {
            "site": site,
            "act": PROPOSED,
            "proposal": None,
            "subject": subject,
            "from_ms": to_ms(span.start),
            "to_ms": to_ms(span.end),
            "state": state.value,
            "reason": reason,
            "author": by.author,
            "account": by.account,
            "evidence": orjson.dumps(asdict(evidence)).decode() if evidence else "",
            "at_ms": to_ms(by.at),
        },
    )


def decide(db: sqlite3.Connection, site: str, what: Correction, act: str, reason: str, by: Signature) -> int:
    """Put the approval or the rejection of a correction on record; return the number of the record.

    Raises:
        RegisterError: it was decided on before, or its author would approve it.
    """
    if what.status != PROPOSED:
        raise RegisterError(f"correction {what.id} is {what.status} by {what.decided_by}: that stands")
    if act == APPROVED and same_person(by.author, what.author):
        raise RegisterError(
            f"correction {what.id} is by {what.author}: somebody else has to approve it "
            "(of two people with the same name, give the unit too)"
        )
    try:
        return _add(
            db,
            "corrections",
            {
                "site": site,
                "act": act,
                "proposal": what.id,
                "subject": what.subject,
                "from_ms": to_ms(what.window.start),
                "to_ms": to_ms(what.window.end),
                "state": what.state.value,
                "reason": reason,
                "author": by.author,
                "account": by.account,
                "evidence": "",
                "at_ms": to_ms(by.at),
            },
        )
    except sqlite3.IntegrityError as exc:
        raise RegisterError(f"correction {what.id} was decided on meanwhile") from exc


def approve(db: sqlite3.Connection, site: str, what: Correction, reason: str, by: Signature) -> int:
    """Approve a correction; see `decide`."""
    return decide(db, site, what, APPROVED, reason, by)


def reject(db: sqlite3.Connection, site: str, what: Correction, reason: str, by: Signature) -> int:
    """Reject a correction, or withdraw one's own; see `decide`."""
    return decide(db, site, what, REJECTED, reason, by)


def newest(db: sqlite3.Connection, site: str, table: str = "announcements") -> int:
    """Return the number of the newest record of a table; 0 without any."""
    found: int = db.execute(f"SELECT coalesce(max(id), 0) FROM {table} WHERE site = ?", (site,)).fetchone()[0]  # noqa: S608
    return found


def last_correction(db: sqlite3.Connection, site: str) -> Last | None:
    """Return the newest record of corrections, proposals and decisions alike."""
    row = db.execute("SELECT id, at_ms FROM corrections WHERE site = ? ORDER BY id DESC LIMIT 1", (site,)).fetchone()
    return Last(row[0], from_ms(row[1])) if row else None


def _rows(db: sqlite3.Connection, table: str, site: str) -> Iterator[dict[str, Any]]:
    cursor = db.execute(f"SELECT * FROM {table} WHERE site = ? ORDER BY id", (site,))  # noqa: S608  our own names
    names = [d[0] for d in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _add(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    cursor = db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608  our own names
    return cursor.lastrowid or 0


@contextlib.contextmanager
def open_register(state_dir: Path) -> Iterator[sqlite3.Connection]:
    """Open the journal of a state directory to put something on record, beside a daemon or without one.

    One transaction: it is written whole when the block ends, and not at all when it raises.

    Raises:
        JournalError: there is no journal yet, or it cannot be read or written.
    """
    file = state_dir / FILE_NAME
    if not file.is_file():
        raise JournalError(f"there is no journal in {state_dir}: the daemon has not run with this state directory")
    try:
        db = sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None)
    except sqlite3.Error as exc:
        raise JournalError(f"{file} cannot be opened: {exc}") from exc
    try:
        version, newest_version = db.execute("PRAGMA user_version").fetchone()[0], migrations()[-1][0]
        if version != newest_version:
            raise JournalError(
                f"{file} is of version {version}, this program writes {newest_version}: start the daemon on it once"
            )
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as exc:
        raise JournalError(f"{file} cannot be written: {exc}") from exc
    finally:
        db.close()
