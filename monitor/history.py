"""The past for reports: the journal, beside a daemon that may be writing it, and what has left it for the evidence.

One history over both, so that no figure changes when an hour is sealed. Read-only; knows no judge.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from config.plan import Window
from monitor.archive import Archive, empty_journal
from monitor.chain import CHAIN_FILE, evidence_folder
from monitor.congestion_record import Timed
from monitor.journal import FILE_NAME, JournalError, migrations
from monitor.model import Change, Gap, Incident, Result, SlotCount
from monitor.rows import change_from_row, from_ms, incident_from_row, to_ms
from monitor.series import Bins, Point, Tally
from monitor.traced import RouteTrace, traces_from
from monitor.words import Told, read_words

if TYPE_CHECKING:
    from monitor.segments import Answers

# A result is written when it ends, at most a time-out after it started, so rows are sorted by start within this.
_DISORDER: Final = timedelta(minutes=10)
_BLIND: Final = frozenset({"local", "internal"})  # faults of our own: they say nothing of the target


@dataclass(frozen=True, slots=True)
class Run:
    """One life of the daemon."""

    started: datetime
    alive: datetime  # its last transaction
    stopped: datetime | None  # None: it was cut off
    config_digest: str
    version: str


@dataclass(slots=True)
class Responses:
    """What the results of one check said within a period."""

    good: int
    bad: int
    blind: int
    seconds: MutableSequence[float] = field(
        default_factory=lambda: array("d")
    )  # response times of the good ones, in no order
    echoes_sent: int = 0
    echoes_lost: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.seconds, array):
            self.seconds = array("d", self.seconds)  # a quarter of the memory: there may be tens of millions


class History:
    """Questions about a site's past. Blocking: not for the event loop."""

    def __init__(self, db: sqlite3.Connection, site: str, archive: Archive | None = None) -> None:
        self._db = db
        self._site = site
        self._archive = archive or Archive(Path(), (), "", frozenset())
        self._sources = [*self._archive.pasts(), db]  # journals, oldest first
        self._disorder = _DISORDER + self._greatest_step_back()

    def _greatest_step_back(self) -> timedelta:
        """How far the clock was set back at most: rows of both passes of that time lie among each other."""
        row = self._db.execute("SELECT min(step_ms) FROM clock WHERE site = ?", (self._site,)).fetchone()
        return timedelta(milliseconds=-min(row[0] or 0, 0))

    def changes(self, until: datetime) -> Mapping[str, list[Change]]:
        """Return all changes dated before a moment, by subject, in the order in which they were recorded."""
        rows = self._rows(
            "SELECT site, subject, state, at_ms, confirmed_ms, earliest_ms, fault, detail, flapping FROM changes"
            " WHERE site = ? AND at_ms < ? ORDER BY id",
            (self._site, to_ms(until)),
        )
        found: dict[str, list[Change]] = {}
        for change in map(change_from_row, rows):
            found.setdefault(change.subject, []).append(change)
        return found

    def gaps(self, period: Window) -> Mapping[str, list[Gap]]:
        """Return the spans without observation that touch a period, by check, oldest first."""
        rows = self._rows(
            "SELECT check_name, start_ms, end_ms, cause FROM gaps"
            " WHERE site = ? AND start_ms < ? AND (end_ms IS NULL OR end_ms > ?) ORDER BY start_ms, id",
            (self._site, to_ms(period.end), to_ms(period.start)),
        )
        found: dict[str, list[Gap]] = {}
        for name, start, end, cause in rows:
            gap = Gap(self._site, name, from_ms(start), from_ms(end) if end is not None else None, cause)
            found.setdefault(name, []).append(gap)
        return found

    def runs(self) -> Sequence[Run]:
        """Return the daemon's lives, oldest first."""
        rows = self._rows(
            "SELECT started_ms, alive_ms, stopped_ms, config_digest, version FROM runs WHERE site = ? ORDER BY id",
            (self._site,),
        )
        return [
            Run(from_ms(started), from_ms(alive), from_ms(stopped) if stopped is not None else None, digest, version)
            for started, alive, stopped, digest, version in rows
        ]

    def incidents(self, period: Window) -> Sequence[Incident]:
        """Return the incidents that touch a period, oldest first."""
        rows = self._rows(
            "SELECT * FROM incidents WHERE site = ? AND began_ms < ? AND (ended_ms IS NULL OR ended_ms > ?)"
            " ORDER BY began_ms, id",
            (self._site, to_ms(period.end), to_ms(period.start)),
        )
        return [incident_from_row(row) for row in rows]

    def traces(self, period: Window) -> Sequence[RouteTrace]:
        """Return the ways that were traced within a period, oldest first."""
        rows = self._rows(
            "SELECT body FROM traces WHERE site = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms, id",
            (self._site, to_ms(period.start), to_ms(period.end)),
        )
        return traces_from(rows)

    def slots(self, period: Window) -> Mapping[str, SlotCount]:
        """Return the ledger by check, summed over the hours that a period touches."""
        rows = self._rows(
            "SELECT check_name, hour_ms, done, late, skipped, lost FROM slots"
            " WHERE site = ? AND hour_ms >= ? AND hour_ms < ?",
            (self._site, to_ms(period.start - timedelta(hours=1)) + 1, to_ms(period.end)),
        )
        found: dict[str, SlotCount] = {}
        for name, hour_ms, *ends in [*rows, *self._archive.slots(period)]:
            hour, had = from_ms(hour_ms), found.get(name)
            if had is None:
                found[name] = SlotCount(name, hour, *ends)
            else:
                sums = (a + b for a, b in zip((had.done, had.late, had.skipped, had.lost), ends, strict=True))
                found[name] = SlotCount(name, min(had.hour, hour), *sums)
        return found

    def responses(self, period: Window) -> Mapping[str, Responses]:
        """Return what the raw results within a period said, by check; one pass over the rows in question."""
        found: dict[str, Responses] = {}
        self._sealed_responses(period, found)
        names = self._names()
        where, values = self._archive.unsealed()
        rows = self._db.execute(
            "SELECT check_no, duration_us, fault,"  # noqa: S608  our own text
            " CASE WHEN instr(body, '\"r\":') THEN body END"
            f" FROM results WHERE rowid >= ? AND started_ms >= ? AND started_ms < ? AND {where}",
            (self._first_row(period.start - self._disorder), to_ms(period.start), to_ms(period.end), *values),
        )
        for number, duration_us, fault, body in rows:
            name = names.get(number)
            if name is None:
                continue
            entry = found.get(name)
            if entry is None:
                entry = found[name] = Responses(0, 0, 0)
            _count(entry, duration_us, fault, body)
        return found

    def series(self, period: Window, step: timedelta) -> Mapping[str, Sequence[Point]]:
        """Return the results within a period as points of bins that begin at its start, by check."""
        names = self._names()
        bins = Bins(period, step, self._disorder)
        self._sealed_bins(period, step, bins)
        where, values = self._archive.unsealed()
        rows = self._db.execute(
            "SELECT check_no, started_ms, duration_us, fault,"  # noqa: S608  our own text
            " CASE WHEN instr(body, '\"r\":') THEN body END"
            f" FROM results WHERE rowid >= ? AND started_ms >= ? AND started_ms < ? AND {where}",
            (self._first_row(period.start - self._disorder), to_ms(period.start), to_ms(period.end), *values),
        )
        for number, started_ms, duration_us, fault, body in rows:
            name = names.get(number)
            if name is not None:
                _count(bins.tally(name, from_ms(started_ms)), duration_us, fault, body)
        return bins.points()

    def packets(self, checks: Sequence[str], period: Window) -> Iterator[Mapping[str, Timed]]:
        """Give the packets of some checks that time the network, by check, an hour at a time, oldest first.

        Within an hour each check's packets are in order of time; no more than some hours are held at once.
        """
        hours = list(_hours(period))
        names = {n: name for n, name in self._names().items() if name in checks}
        for hour, sealed in zip(hours, self._archive.packets(sorted(checks), hours), strict=True):
            yield _merged([*sealed, self._unsealed_packets(names, hour)])

    def words(self, period: Window) -> Sequence[Told]:
        """Return what came to be owed to people within a period, in that order; evidence alone does not hold it."""
        return read_words(self._sources, self._site, period.start, period.end)

    def results(self, period: Window) -> Iterator[Result]:
        """Give all results that started within a period in the order in which they ended, an hour held at a time."""
        from monitor.recorded import in_order  # the library behind it is large, and the daemon does without

        hours = list(_hours(period))
        sources = ([*self._archive.results(self._site, h), self._unsealed_results(h)] for h in hours)
        return in_order(zip((h.end.timestamp() for h in hours), sources, strict=True))

    def _unsealed_results(self, hour: Window) -> Iterator[tuple[float, Result]]:
        from monitor.recorded import from_row

        where, values = self._archive.unsealed()
        checks = {n: (c, p) for n, c, p in self._db.execute("SELECT no, name, path FROM checks")}
        rows = self._db.execute(
            "SELECT check_no, slot_ms, started_ms, lateness_us, attempt, duration_us, fault, body FROM results"  # noqa: S608  our own text
            f" WHERE rowid >= ? AND rowid < ? AND started_ms >= ? AND started_ms < ? AND {where}"
            " AND check_no IN (SELECT no FROM checks WHERE site = ?) ORDER BY started_ms * 1000 + duration_us, rowid",
            (
                self._first_row(hour.start - self._disorder),
                self._first_row(hour.end + self._disorder),
                to_ms(hour.start),
                to_ms(hour.end),
                *values,
                self._site,
            ),
        )
        for number, *row in rows:
            yield from_row(self._site, *checks[number], row)

    def _unsealed_packets(self, names: Mapping[int, str], hour: Window) -> Mapping[str, Timed]:
        where, values = self._archive.unsealed()
        marks = ", ".join("?" * len(names))
        rows = self._db.execute(
            "SELECT check_no, started_ms, duration_us, fault, body FROM results"  # noqa: S608  our own text
            f" WHERE rowid >= ? AND rowid < ? AND started_ms >= ? AND started_ms < ? AND check_no IN ({marks})"
            f" AND {where} ORDER BY started_ms, rowid",
            (
                self._first_row(hour.start - self._disorder),
                self._first_row(hour.end + self._disorder),
                to_ms(hour.start),
                to_ms(hour.end),
                *names,
                *values,
            ),
        )
        found: dict[str, list[tuple[float, float]]] = {}
        for number, started_ms, duration_us, fault, body in rows:
            if fault not in _BLIND:
                found.setdefault(names[number], []).extend(_packets(started_ms, duration_us, fault, body))
        return {name: _timed(packets) for name, packets in found.items()}

    def _names(self) -> Mapping[int, str]:
        return dict(self._db.execute("SELECT no, name FROM checks WHERE site = ?", (self._site,)).fetchall())

    def _sealed_responses(self, period: Window, found: dict[str, Responses]) -> None:
        for answers in self._archive.answers(period):
            for said in answers:
                _add(found.setdefault(said.subject, Responses(0, 0, 0)), said)

    def _sealed_bins(self, period: Window, step: timedelta, bins: Bins) -> None:
        for answers in self._archive.answers(period, step):
            # A file stands by check; bins want the order of time.
            for said in sorted(answers, key=lambda a: a.bin):
                _add(bins.tally(said.subject, period.start + said.bin * step), said)

    def _rows(self, query: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        """Ask every journal of this site's past, oldest first."""
        for db in self._sources:
            yield from db.execute(query, values)

    def _first_row(self, moment: datetime) -> int:
        """Find by halving the first row that was started at or after a moment; rows have no index by time."""
        low, high = self._db.execute(
            # Each by itself: SQLite looks both up at once by going through the whole table.
            "SELECT coalesce((SELECT min(rowid) FROM results), 1), coalesce((SELECT max(rowid) FROM results), 0) + 1"
        ).fetchone()
        wanted = to_ms(moment)
        while low < high:
            middle = (low + high) // 2
            row = self._db.execute(
                "SELECT rowid, started_ms FROM results WHERE rowid >= ? ORDER BY rowid LIMIT 1", (middle,)
            ).fetchone()
            if row is None or row[1] >= wanted:
                high = middle
            else:
                low = row[0] + 1
        first: int = low
        return first


def _add(entry: Responses | Tally, said: Answers) -> None:
    entry.good += said.good
    entry.bad += said.bad
    entry.blind += said.blind
    entry.echoes_sent += said.echoes_sent
    entry.echoes_lost += said.echoes_lost
    entry.seconds.extend(said.seconds)


def _hours(period: Window) -> Iterator[Window]:
    """Cut a period at the whole hours, as the files of the evidence are."""
    start = period.start
    while start < period.end:
        end = min(start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1), period.end)
        yield Window(start, end)
        start = end


def _packets(started_ms: int, duration_us: int, fault: str, body: str) -> Iterator[tuple[float, float]]:
    """Give the packets of a row as `monitor.queues.packets` does those of a result; lost ones are infinite."""
    held, began = orjson.loads(body), started_ms / 1000
    echoes = held.get("r")
    if echoes:
        if any(e is not None for e in echoes):
            step = duration_us / 1e6 / len(echoes)
            for number, echo in enumerate(echoes):
                yield began + number * step, math.inf if echo is None else echo / 1e6
    elif not fault and "connect" in held.get("p", ()):
        yield began, held["p"]["connect"] / 1e6


def _timed(packets: Sequence[tuple[float, float]]) -> Timed:
    ordered = sorted(packets)
    return Timed(array("d", (at for at, _ in ordered)), array("d", (rtt for _, rtt in ordered)))


def _merged(parts: Sequence[Mapping[str, Timed]]) -> Mapping[str, Timed]:
    """Put together what several sources have of the same hour."""
    found = dict(parts[0])
    for part in parts[1:]:
        for name, timed in part.items():
            had = found.get(name)
            found[name] = timed if had is None else _timed([*had.pairs(), *timed.pairs()])
    return found


def _count(entry: Responses | Tally, duration_us: int, fault: str, body: str | None) -> None:
    if fault in _BLIND:
        entry.blind += 1
        return
    echoes = orjson.loads(body).get("r") if body else None
    if echoes:
        entry.echoes_sent += len(echoes)
        entry.echoes_lost += sum(e is None for e in echoes)
    if fault:
        entry.bad += 1
        return
    entry.good += 1
    if echoes:
        back = sorted(e for e in echoes if e is not None)
        entry.seconds.append(back[(len(back) - 1) // 2] / 1e6)
    else:
        entry.seconds.append(duration_us / 1e6)


@contextlib.contextmanager
def open_history(state_dir: Path, site: str) -> Iterator[History]:
    """Open the journal and the evidence of a state directory for reading; evidence alone will do.

    Raises:
        JournalError: there is neither, or they cannot be read.
    """
    file = state_dir / FILE_NAME
    has_chain = (evidence_folder(state_dir, site) / CHAIN_FILE).is_file()
    if not file.is_file() and not has_chain:
        raise JournalError(f"there is no journal in {state_dir}: the daemon has not run with this state directory")
    db = _open_journal(file) if file.is_file() else empty_journal()
    try:
        # One view of the past for the whole report, whatever the daemon writes meanwhile. It begins with the first
        # reading: of the lines of the chain, so that what has been dropped by then is known to be sealed.
        db.execute("BEGIN")
        yield History(db, site, Archive.beside(db, state_dir, site))
    except (sqlite3.DatabaseError, OSError) as exc:
        raise JournalError(f"{file} cannot be read: {exc}") from exc
    finally:
        db.close()


def _open_journal(file: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
    except sqlite3.Error as exc:
        raise JournalError(f"{file} cannot be opened: {exc}") from exc
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as exc:
        db.close()
        raise JournalError(f"{file} cannot be read: {exc}") from exc
    newest = migrations()[-1][0]
    if version != newest:
        db.close()
        raise JournalError(f"{file} is of version {version}, this program reads {newest}: start the daemon on it once")
    return db
