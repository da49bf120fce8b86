"""The journal: everything the monitor must not forget, in one SQLite file. The only writer, on a thread of its own.

One transaction holds the results of a moment, the changes they caused and the duties to tell that follow, so that a
crash can neither lose a mail nor invent one. All SQL of the house is here, in `history`, in the modules of
the evidence and in `migrations/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from pydantic import TypeAdapter

from monitor import handing_over, withdrawal
from monitor.journal_file import FILE_NAME as FILE_NAME
from monitor.journal_file import JournalError as JournalError
from monitor.journal_file import keep_configuration, open_file
from monitor.judge.outage import Memory
from monitor.model import Change, Gap, Incident, Notice, OutboxItem, Result, SlotCount
from monitor.rows import (
    CHANGE_COLUMNS,
    change_from_row,
    change_row,
    incident_from_row,
    incident_row,
)
from monitor.rows import from_ms as from_ms
from monitor.rows import pack_body as pack_body
from monitor.rows import to_ms as to_ms
from monitor.safe_stop import SafeStop
from monitor.schema import migrations as migrations

T = TypeVar("T")

log = logging.getLogger(__name__)

BUSY_PAUSE_S: Final = 2.0
# Troubles of the disk or of another reader, which may pass; a missing table or a damaged file never does.
_MAY_PASS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_DUTY_COLUMNS: Final = (
    "site",
    "incident",
    "kind",
    "channel",
    "message_id",
    "thread_id",
    "notice",
    "created_ms",
    "next_try_ms",
)
_MEMORY: Final = TypeAdapter(Memory)
_NOTICE: Final = TypeAdapter(Notice)


class JournalBusyError(Exception):
    """This transaction could not be written now (disk full, file locked); it may be tried again as it is."""


@dataclass(frozen=True, slots=True)
class Duty:
    """A notice that is owed, with the names its messages go by."""

    notice: Notice
    channel: str
    message_id: str
    thread_id: str


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Incidents that were our own fault, and the word that corrects what was told of them, if anything was."""

    incidents: tuple[int, ...]
    correction: Duty


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    results: list[Result] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)  # opened (end None) or complete
    gaps_closed: dict[str, datetime] = field(default_factory=dict)  # check -> end of its open gap
    memories: dict[str, Memory] = field(default_factory=dict)
    queues: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # what the judges of congestion remember
    incidents: dict[int, Incident] = field(default_factory=dict)
    duties: list[Duty] = field(default_factory=list)
    slots: Sequence[SlotCount] = ()
    withdrawal: Withdrawal | None = None
    due_now: datetime | None = None  # the clock was set back: what waits for a next try waits no longer than this


class _Packed(Mapping[str, Mapping[str, Any]]):
    """JSON that is read when it is asked for: that of 20,000 checks at once would take half a gigabyte."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self._bodies = {name: zlib.compress(body.encode(), 1) for name, body in rows}

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = orjson.loads(zlib.decompress(self._bodies[name]))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._bodies)

    def __len__(self) -> int:
        return len(self._bodies)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was known when the daemon last wrote."""

    memories: Mapping[str, Memory]
    open_gaps: Mapping[str, Gap]
    open_incidents: Mapping[int, Incident]
    recent_incidents: Sequence[Incident]
    last_changes: Mapping[str, Change]  # by subject
    next_incident: int
    alive: datetime | None  # last transaction of the run before; None when there was none
    stopped: bool  # whether that run ended by itself
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what the judges of congestion remember


class Journal:
    """Open with `await Journal.open(...)`; every method is a transaction of its own on the writer's thread."""

    def __init__(self, site: str, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self.site = site
        self._db = connection
        self._thread = thread
        self._check_no: dict[tuple[str, str], int] = {}
        self._run = 0
        self.safe_stop = SafeStop()

    @classmethod
    async def open(cls, state_dir: Path, site: str) -> Journal:
        """Open or create the journal, bring it to this version and check it.

        Raises:
            JournalError: with what to do, when the file cannot serve.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(thread, open_file, state_dir)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(site, connection, thread)

    async def _do(self, work: Callable[[], T]) -> T:
        # Whoever asked may be cancelled, by a stop for one; what was asked for is done all the same. Else a message
        # that a relay has taken would stay unmarked, and go out again.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def close(self) -> None:
        """Close the file after everything asked for has been written."""
        await self._do(self._db.close)
        self._thread.shutdown(wait=False)  # its last work is done; joining it would hold the loop up

    async def begin_run(self, at: datetime, digest: str, version: str, config_text: str) -> Recovered:
        """Note that a daemon starts, keep its configuration, and return what the one before knew.

        Raises:
            JournalBusyError: the start could not be noted.
            OSError: the configuration could not be kept.
        """
        return await self._do(lambda: self._begin_run(at, digest, version, config_text))

    def _begin_run(self, at: datetime, digest: str, version: str, config_text: str) -> Recovered:
        keep_configuration(self._path().parent, digest, config_text)
        recovered = self._recover()
        self.safe_stop.resume(recovered.last_changes)
        with self._writing():
            handing_over.after_a_break(self._db, self.site)
            cursor = self._db.execute(
                "INSERT INTO runs (site, started_ms, alive_ms, config_digest, version) VALUES (?, ?, ?, ?, ?)",
                (self.site, to_ms(at), to_ms(at), digest, version),
            )
        self._run = cursor.lastrowid or 0
        return recovered

    def _path(self) -> Path:
        return Path(self._db.execute("PRAGMA database_list").fetchone()[2])

    async def end_run(self, at: datetime) -> None:
        """Note that this daemon stopped by itself."""

        def work() -> None:
            with self._writing():
                self._db.execute(
                    "UPDATE runs SET stopped_ms = ?, alive_ms = ? WHERE id = ?", (to_ms(at), to_ms(at), self._run)
                )

        await self._do(work)

    async def commit(self, batch: Batch, at: datetime) -> None:
        """Write a batch as one transaction.

        Raises:
            JournalBusyError: nothing of it was written; the same batch may be tried again.
            sqlite3.Error: the file is damaged; the process should end.
        """

        def work() -> None:
            since = self.safe_stop.since
            try:
                with self._writing():
                    self._write(batch, at)
            except BaseException:
                self.safe_stop.undone(since)
                raise

        await self._do(work)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; a trouble that may pass (disk full, file locked) becomes JournalBusyError."""
        try:
            with self._db:
                yield
        except sqlite3.Error as exc:
            # A check's number taken in the transaction that failed is not in the file.
            self._check_no.clear()
            if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _MAY_PASS:
                raise JournalBusyError(str(exc)) from exc
            raise

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a small piece of work of another keeper of records as one transaction on the writer's thread.

        Raises:
            JournalBusyError: nothing of it was written; it may be tried again.
        """

        def whole() -> T:
            with self._writing():
                return work(self._db)

        return await self._do(whole)

    async def _insist(self, work: Callable[[], None]) -> None:
        """Do a small write again until it goes through: what it notes has already happened outside."""
        while True:
            try:
                return await self._do(work)
            except JournalBusyError as exc:
                log.warning("the journal cannot be written (%s); trying again in %g s", exc, BUSY_PAUSE_S)
                await asyncio.sleep(BUSY_PAUSE_S)

    def _write(self, batch: Batch, at: datetime) -> None:
        db, site = self._db, self.site
        if not self.safe_stop.look(db, site, at) and batch.results:
            db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [self._row(r) for r in batch.results])
        for check, end in batch.gaps_closed.items():
            db.execute(
                "UPDATE gaps SET end_ms = max(?, start_ms) WHERE site = ? AND check_name = ? AND end_ms IS NULL",
                (to_ms(end), site, check),
            )
        db.executemany(
            "INSERT INTO gaps (site, check_name, start_ms, end_ms, cause) VALUES (?, ?, ?, ?, ?)",
            [(g.site, g.check, to_ms(g.start), to_ms(g.end) if g.end else None, g.cause) for g in batch.gaps],
        )
        db.executemany(
            "INSERT INTO changes (site, subject, state, at_ms, confirmed_ms, earliest_ms, fault, detail, flapping)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [change_row(c) for c in batch.changes],
        )
        db.executemany(
            "INSERT OR REPLACE INTO memories VALUES (?, ?, ?)",
            [(site, check, _MEMORY.dump_json(m).decode()) for check, m in batch.memories.items()],
        )
        db.executemany(
            "INSERT OR REPLACE INTO queues VALUES (?, ?, ?)",
            [(site, check, orjson.dumps(state).decode()) for check, state in batch.queues.items()],
        )
        db.executemany(
            # Not OR REPLACE: that would let a second open incident of a subject delete the first.
            "INSERT INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " state = excluded.state, began_ms = excluded.began_ms, confirmed_ms = excluded.confirmed_ms,"
            " ended_ms = excluded.ended_ms, parent = excluded.parent, told = excluded.told, detail = excluded.detail,"
            " cause = excluded.cause",
            [incident_row(i) for i in sorted(batch.incidents.values(), key=lambda i: i.ended_at is None)],
        )
        columns = ", ".join(_DUTY_COLUMNS)
        db.executemany(
            f"INSERT INTO outbox ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  our own names
            [self._duty_row(d, at) for d in batch.duties],
        )
        if batch.withdrawal is not None:
            told = withdrawal.withdraw(db, site, batch.withdrawal.incidents, to_ms(at))
            row = dict(zip(_DUTY_COLUMNS, self._duty_row(batch.withdrawal.correction, at), strict=True))
            withdrawal.owe_correction(db, row, told)
        for duty in batch.duties:
            self._bring_forward("incident = ? AND channel = ?", (duty.notice.incident, duty.channel), at)
        if batch.due_now is not None:
            self._bring_forward("1", (), batch.due_now)
        db.executemany(
            "INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (site, check_name, hour_ms) DO UPDATE SET"
            " done = done + excluded.done, late = late + excluded.late,"
            " skipped = skipped + excluded.skipped, lost = lost + excluded.lost",
            [(site, s.check, to_ms(s.hour), s.done, s.late, s.skipped, s.lost) for s in batch.slots],
        )
        db.execute("UPDATE runs SET alive_ms = ? WHERE id = ?", (to_ms(at), self._run))

    def _row(self, r: Result) -> tuple[object, ...]:
        key = (r.check, r.path)
        number = self._check_no.get(key)
        if number is None:
            number = self._check_no[key] = self._number(*key)
        reading = r.reading
        return (
            number,
            to_ms(r.slot),
            to_ms(r.started_at),
            round(r.lateness_s * 1e6),
            r.attempt,
            round(reading.duration_s * 1e6),
            reading.fault or "",
            pack_body(reading).decode(),
        )

    def _number(self, check: str, path: str) -> int:
        self._db.execute(
            "INSERT INTO checks (site, name, path) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (self.site, check, path)
        )
        row = self._db.execute(
            "SELECT no FROM checks WHERE site = ? AND name = ? AND path = ?", (self.site, check, path)
        ).fetchone()
        number: int = row[0]
        return number

    def _duty_row(self, duty: Duty, at: datetime) -> tuple[object, ...]:
        notice = duty.notice
        text = _NOTICE.dump_json(notice).decode()
        ids = (duty.message_id, duty.thread_id)
        return (self.site, notice.incident, notice.kind, duty.channel, *ids, text, to_ms(at), to_ms(at))

    def _bring_forward(self, which: str, values: tuple[object, ...], moment: datetime) -> None:
        """Make waiting duties due by a moment, so that no recovery overtakes the word of the begin."""
        self._db.execute(
            "UPDATE outbox SET next_try_ms = min(next_try_ms, ?) WHERE site = ? AND sent_ms IS NULL"  # noqa: S608
            f" AND failed_ms IS NULL AND {which}",
            (to_ms(moment), self.site, *values),
        )

    def _recover(self) -> Recovered:
        db, site = self._db, self.site
        run = db.execute(
            "SELECT alive_ms, stopped_ms FROM runs WHERE site = ? ORDER BY id DESC LIMIT 1", (site,)
        ).fetchone()
        memories = db.execute("SELECT check_name, body FROM memories WHERE site = ?", (site,)).fetchall()
        queues = db.execute("SELECT check_name, body FROM queues WHERE site = ?", (site,))
        gaps = db.execute(
            "SELECT check_name, start_ms, cause FROM gaps WHERE site = ? AND end_ms IS NULL", (site,)
        ).fetchall()
        changes = db.execute(
            f"SELECT {CHANGE_COLUMNS} FROM changes WHERE id IN"  # noqa: S608  our own constant
            " (SELECT max(id) FROM changes WHERE site = ? GROUP BY subject)",
            (site,),
        ).fetchall()
        return Recovered(
            memories={name: _MEMORY.validate_json(body) for name, body in memories},
            open_gaps={name: Gap(site, name, from_ms(start), None, cause) for name, start, cause in gaps},
            open_incidents={i.id: i for i in self._incidents("ended_ms IS NULL", -1)},
            recent_incidents=self._incidents("ended_ms IS NOT NULL", 100),
            last_changes={c.subject: c for c in map(change_from_row, changes)},
            next_incident=db.execute("SELECT coalesce(max(id), 0) + 1 FROM incidents").fetchone()[0],
            alive=from_ms(run[0]) if run else None,
            stopped=bool(run and run[1] is not None),
            queues=_Packed(queues),
        )

    def _incidents(self, where: str, limit: int) -> list[Incident]:
        rows = self._db.execute(
            f"SELECT * FROM incidents WHERE site = ? AND {where} ORDER BY id DESC LIMIT ?",  # noqa: S608  our own text
            (self.site, limit),
        )
        return [incident_from_row(row) for row in rows]

    async def recent_incidents(self, limit: int) -> Sequence[Incident]:
        """Return the newest incidents, open ones included, newest first."""
        return await self._do(lambda: self._incidents("1", limit))

    async def owe_once(self, duty: Duty, at: datetime, due: datetime) -> bool:
        """Owe a duty from a moment on, unless one of its name was owed before; return whether it is new.

        Raises:
            JournalBusyError: nothing was written; try again later.
        """
        row, columns = (*self._duty_row(duty, at)[:-1], to_ms(due)), ", ".join(_DUTY_COLUMNS)
        text = f"INSERT INTO outbox ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  our own names
        return await self.transact(lambda db: bool(db.execute(text + " ON CONFLICT DO NOTHING", row).rowcount))

    # The outbox, as channels see it.

    async def claim(self, channel: str, now: datetime, limit: int) -> Sequence[OutboxItem]:
        """Return duties of a channel that are due, oldest first; they stay owed until marked."""

        def work() -> list[OutboxItem]:
            rows = self._db.execute(
                "SELECT id, channel, message_id, thread_id, notice, attempts, created_ms, served FROM outbox"
                " WHERE channel = ? AND site = ? AND sent_ms IS NULL AND failed_ms IS NULL AND next_try_ms <= ?"
                " ORDER BY id LIMIT ?",
                (channel, self.site, to_ms(now), limit),
            )
            return [
                OutboxItem(i, c, m, t, _NOTICE.validate_json(n), tries, from_ms(at), frozenset(orjson.loads(served)))
                for i, c, m, t, n, tries, at, served in rows
            ]

        return await self._do(work)

    async def mark_sent(self, item_id: int, at: datetime, detail: str) -> None:
        """Note that the server accepted the message."""
        await self._mark("sent_ms = ?", item_id, at, detail)

    async def take_up(self, item_id: int) -> bool:
        """Note that a duty is being done; return False when it was withdrawn since it was claimed."""

        def work() -> bool:
            try:
                with self._writing():
                    return handing_over.take_up(self._db, item_id)
            except JournalBusyError:  # a full disk must not keep the word of it from going out
                return not self._db.execute("SELECT failed_ms FROM outbox WHERE id = ?", (item_id,)).fetchone()[0]

        return await self._do(work)

    async def note_served(self, item_id: int, recipients: Sequence[str], at: datetime) -> None:
        """Note which recipients have a message that others wait for still."""

        def work() -> None:
            with self._writing():
                handing_over.note_served(self._db, item_id, recipients, to_ms(at))

        await self._insist(work)

    async def mark_retry(self, item_id: int, next_try: datetime, detail: str) -> None:
        """Note that it did not go through and when to try again."""
        await self._mark("next_try_ms = ?", item_id, next_try, detail, brings_forward=True)

    async def mark_failed(self, item_id: int, at: datetime, detail: str) -> None:
        """Note that it can never go through."""
        await self._mark("failed_ms = ?", item_id, at, detail)

    async def _mark(
        self, column: str, item_id: int, moment: datetime, detail: str, *, brings_forward: bool = False
    ) -> None:
        def work() -> None:
            with self._writing():
                self._db.execute(
                    f"UPDATE outbox SET {column}, attempts = attempts + 1, last_detail = ?, handed = handed & 2"  # noqa: S608
                    " WHERE id = ?",
                    (to_ms(moment), detail, item_id),
                )
                if column.startswith("sent_ms"):
                    withdrawal.left_after_all(self._db, item_id)
                if brings_forward:
                    older = "id < ? AND (incident, channel) = (SELECT incident, channel FROM outbox WHERE id = ?)"
                    self._bring_forward(older, (item_id, item_id), moment)

        await self._insist(work)

    async def waiting(self, channel: str) -> int:
        """Return how many duties of a channel are still owed."""

        def work() -> int:
            row = self._db.execute(
                "SELECT count(*) FROM outbox WHERE channel = ? AND site = ? AND sent_ms IS NULL AND failed_ms IS NULL",
                (channel, self.site),
            ).fetchone()
            count: int = row[0]
            return count

        return await self._do(work)
