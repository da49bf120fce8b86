"""The past for reports: the journal, beside a daemon that may be writing it, and what has left it for the evidence.

One history over both, so that no figure changes when an hour is sealed. Read-only; knows no judge.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson

from config.plan import Window
from monitor import asked as asking
from monitor import register
from monitor.announced import Announcement
from monitor.archive import Archive, empty_journal
from monitor.chain import CHAIN_FILE, evidence_folder
from monitor.congestion_record import Timed
from monitor.corrections import Correction
from monitor.journal import FILE_NAME, JournalError, migrations
from monitor.model import Change, Gap, Incident, Result, SlotCount
from monitor.register import Last
from monitor.responses import Responses as Responses  # history hands them out
from monitor.rows import change_from_row, from_ms, incident_from_row, to_ms
from monitor.series import Bins, Point, Tally
from monitor.traced import RouteTrace, traces_from
from monitor.words import Told, read_words

# A result is written when it ends, at most a time-out after it started, so rows are sorted by start within this.
_DISORDER: Final = timedelta(minutes=10)
_MOST: Final = 2**32 - 1  # microseconds: longer than any time-out may be
_BLIND: Final = frozenset({"local", "internal"})  # faults of our own: they say nothing of the target


@dataclass(frozen=True, slots=True)
class Run:
    """One life of the daemon."""

    started: datetime
    alive: datetime  # its last transaction
    stopped: datetime | None  # None: it was cut off
    config_digest: str
    version: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What one pass over the results of the past shall find out."""

    period: Window | None = None  # whose responses
    charts: Sequence[tuple[Window, timedelta]] = ()  # whose points, in bins so wide
    charted: Collection[str] | None = None  # of which checks; None: of all
    judged: Sequence[str] = ()  # of which checks the packets
    hours: Window | None = None  # of when


@dataclass(frozen=True, slots=True)
class Survey:
    """What it found."""

    responses: Mapping[str, Responses]
    charts: Sequence[Mapping[str, Sequence[Point]]]


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

    def announcements(self) -> Sequence[Announcement]:
        """Return all announced work, oldest first; numbers are each journal's own."""
        return [a for db in self._sources for a in register.announcements(db, self._site)]

    def corrections(self, period: Window | None = None) -> Sequence[Correction]:
        """Return all corrections, or those that touch a period, oldest first; numbers are each journal's own."""
        found = [c for db in self._sources for c in register.corrections(db, self._site)]
        return [c for c in found if period is None or (c.window.start < period.end and c.window.end > period.start)]

    def last_correction(self) -> Last | None:
        """Return the newest record of corrections: those that a report was made with."""
        return next((last for db in self._sources[::-1] if (last := register.last_correction(db, self._site))), None)

    def slots(self, period: Window) -> Mapping[str, SlotCount]:
        """Return the ledger by check, summed over the hours that a period touches."""
        rows = self._rows(
            "SELECT check_name, hour_ms, done, late, skipped, lost FROM slots"
            " WHERE site = ? AND hour_ms >= ? AND hour_ms < ?",
            (self._site, to_ms(period.start - timedelta(hours=1)) + 1, to_ms(period.end)),
        )
        found: dict[str, list[int]] = {}  # the first hour, and the sums
        for name, hour_ms, done, late, skipped, lost in chain(rows, self._archive.slots(period)):
            sums = found.get(name)
            if sums is None:
                sums = found[name] = [hour_ms, 0, 0, 0, 0]
            elif hour_ms < sums[0]:
                sums[0] = hour_ms
            sums[1] += done
            sums[2] += late
            sums[3] += skipped
            sums[4] += lost
        return {name: SlotCount(name, from_ms(hour_ms), *ends) for name, (hour_ms, *ends) in found.items()}

    def summed(self, period: Window) -> Sequence[Window]:
        """Return the spans of a period whose results are gone, and of which summaries tell."""
        return self._archive.summed(period)

    def responses(self, period: Window) -> Mapping[str, Responses]:
        """Return what the raw results within a period said, by check."""
        return self.survey(Wish(period)).responses

    def series(
        self, period: Window, step: timedelta, checks: Collection[str] | None = None
    ) -> Mapping[str, Sequence[Point]]:
        """Return the results within a period as points of bins that begin at its start, by check."""
        return self.survey(Wish(charts=[(period, step)], charted=checks)).charts[0]

    def packets(self, checks: Sequence[str], period: Window) -> Iterator[Mapping[str, Timed]]:
        """Give the packets of some checks that time the network, by check, an hour at a time, oldest first.

        Within an hour each check's packets are in order of time; no more than some hours are held at once.
        """
        yield from self._pass(Wish(judged=checks, hours=period), {}, [])

    def survey(self, wish: Wish, hear: Callable[[Mapping[str, Timed]], None] = lambda _: None) -> Survey:
        """Read the results once, and answer everything that is wished.

        Args:
            wish: what.
            hear: is given the packets, as `packets` gives them.
        """
        found: dict[str, Responses] = {}
        charts = [Bins(window, step, self._disorder) for window, step in wish.charts]
        for packets in self._pass(wish, found, charts):
            hear(packets)
        if wish.period is not None:
            for name, _, duration_us, fault, body in self._unsealed(wish.period):
                _count(found.setdefault(name, Responses(0, 0, 0)), duration_us, fault, body)
        for (window, _), bins in zip(wish.charts, charts, strict=True):
            for name, started_ms, duration_us, fault, body in self._unsealed(window):
                if wish.charted is None or name in wish.charted:
                    _count(bins.tally(name, from_ms(started_ms)), duration_us, fault, body)
        return Survey(found, [bins.points() for bins in charts])

    def _pass(self, wish: Wish, found: dict[str, Responses], charts: Sequence[Bins]) -> Iterator[Mapping[str, Timed]]:
        """Take what is sealed into responses and charts, and give the packets of all hours."""
        asked = [asking.Bins(to_ms(w.start), to_ms(w.end), _ms(s), wish.charted) for w, s in wish.charts]
        if wish.period is not None:
            period = wish.period
            asked.append(asking.Bins(to_ms(period.start), to_ms(period.end), _ms(period.end - period.start) or 1))
        hours = list(_hours(wish.hours)) if wish.hours else []
        names = {n: name for n, name in self._names().items() if name in wish.judged}
        held: dict[int, list[Mapping[str, Timed]]] = {}
        told = 0
        for said, ended in self._archive.read(asked, wish.judged, hours) if asked or hours else ():
            for number, packets in said.packets.items():
                held.setdefault(number, []).append(packets)
            _take(said, wish, found, charts)
            while told < ended:
                yield _merged([*held.pop(told, ()), self._unsealed_packets(names, hours[told])])
                told += 1
        for number in range(told, len(hours)):
            yield _merged([*held.pop(number, ()), self._unsealed_packets(names, hours[number])])

    def _unsealed(self, period: Window) -> Iterator[tuple[str, int, int, str, str | None]]:
        """Give what the journal alone has: check, start, duration, fault, and the body where there are echoes in it."""
        names = self._names()
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
                yield name, started_ms, duration_us, fault, body

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
        if not names:
            return {}
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


def _take(said: asking.Said, wish: Wish, found: dict[str, Responses], charts: Sequence[Bins]) -> None:
    """Take what a file says into charts and responses."""
    for (window, step), bins, some in zip(wish.charts, charts, said.bins, strict=False):
        # A file stands by check; bins want the order of time.
        for one in sorted(some, key=lambda a: a.bin):
            _add(bins.tally(one.subject, window.start + one.bin * step), one)
    for one in said.bins[-1] if wish.period is not None else ():
        if one.subject not in found:
            found[one.subject] = Responses(0, 0, 0)
        _add(found[one.subject], one)


def _add(entry: Responses | Tally, said: asking.Answers) -> None:
    entry.good += said.good
    entry.bad += said.bad
    entry.blind += said.blind
    entry.echoes_sent += said.echoes_sent
    entry.echoes_lost += said.echoes_lost
    entry.micros.frombytes(said.micros.cast("B"))


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)


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
        entry.micros.append(min(back[(len(back) - 1) // 2], _MOST))
    else:
        entry.micros.append(min(duration_us, _MOST))


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
