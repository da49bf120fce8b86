"""The sealed part of the past, as `monitor.history` reads it: which rows have left the journal, and what they said.

The journal keeps what is small for ever; results and the ledger of slots are in the segments alone. Of segments that
another journal made (the disk was lost, or there is only the evidence) everything is read from the files.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.plan import Window
from monitor import sealed
from monitor.chain import ChainError, Link, evidence_folder, frontier, parse_line, read_chain, standing
from monitor.journal import JournalError, migrations
from monitor.rows import to_ms

if TYPE_CHECKING:
    from monitor.congestion_record import Timed
    from monitor.model import Result
    from monitor.segments import Answers

READERS = 2  # files read at a time: most of the work is outside of the interpreter
_HOUR_MS = 3_600_000
_TABLES = {"run": "runs", "clock": "clock", "change": "changes", "gap": "gaps"}
_TABLES |= {"incident": "incidents", "trace": "traces"}


class Archive:
    """A site's sealed segments beside the journal that is open."""

    def __init__(self, folder: Path, links: Sequence[Link], journal: str, noted: Collection[int]) -> None:
        """Args: journal: the open one's id. noted: numbers of the lines that it knows, and whose rows it may drop."""
        self._folder = folder
        self._standing = standing(links)
        self._journal = journal
        self._noted = noted
        self.pairs = frontier(links, journal)

    @classmethod
    def beside(cls, db: sqlite3.Connection, state_dir: Path, site: str) -> Archive:
        """Open the evidence of a state directory beside its journal.

        Raises:
            JournalError: the chain cannot be read.
        """
        folder = evidence_folder(state_dir, site)
        # The journal first: it may know lines that the chain file has lost, and the chain newer ones than it.
        links = [parse_line(line) for line in sealed.lines(db, site)]
        noted = {link.number for link in links}
        try:
            links += [link for link in read_chain(folder) if link.number not in noted]
        except ChainError as exc:
            raise JournalError(str(exc)) from exc
        return cls(folder, links, sealed.identity(db), noted)

    def unsealed(self) -> tuple[str, tuple[int, ...]]:
        """SQL for the results that are in no segment, and its values."""
        where = " AND ".join("NOT (rowid <= ? AND started_ms < ?)" for _ in self.pairs)
        return where or "1", tuple(number for pair in self.pairs for number in pair)

    def answers(self, period: Window, step: timedelta | None = None) -> Iterator[list[Answers]]:
        """Sum up the sealed results of a period by check and bin of this width, a file at a time, oldest first."""
        from monitor import segments  # the library behind it is large, and the daemon does without

        start, end = to_ms(period.start), to_ms(period.end)
        width = max(end - start, 1) if step is None else step // timedelta(milliseconds=1)
        files = []
        for link in self._standing:
            first, last = (_ms(link.fields[name]) for name in ("first", "last"))
            if first < end and last >= start:
                files.append(self._file(link))
        with ThreadPoolExecutor(READERS) as pool:
            ahead: deque[Future[list[Answers]]] = deque()
            for file in files:
                ahead.append(pool.submit(segments.read_answers, file, start, end, width))
                if len(ahead) > 2 * READERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def packets(self, checks: Sequence[str], spans: Sequence[Window]) -> Iterator[list[Mapping[str, Timed]]]:
        """Give what the sealed files hold of the packets of some checks, span by span: one mapping a file."""
        from monitor import packets

        links = [(_ms(link.fields["first"]), _ms(link.fields["last"]), link) for link in self._standing]
        with ThreadPoolExecutor(READERS) as pool:
            ahead: deque[list[Future[Mapping[str, Timed]]]] = deque()
            for span in spans:
                start, end = to_ms(span.start), to_ms(span.end)
                files = [self._file(link) for first, last, link in links if first < end and last >= start]
                ahead.append([pool.submit(packets.read_packets, file, checks, start, end) for file in files])
                if len(ahead) > 2 * READERS:
                    yield [f.result() for f in ahead.popleft()]
            while ahead:
                yield [f.result() for f in ahead.popleft()]

    def results(self, site: str, span: Window) -> list[Iterator[tuple[float, Result]]]:
        """Return the sealed results that started within a span: of each file in the order of their ends."""
        from monitor import recorded

        start, end = to_ms(span.start), to_ms(span.end)
        links = [k for k in self._standing if _ms(k.fields["first"]) < end and _ms(k.fields["last"]) >= start]
        return [recorded.read_results(self._file(link), site, start, end) for link in links]

    def slots(self, period: Window) -> Iterator[tuple[str, int, int, int, int, int]]:
        """Give the sealed ledger of the hours that touch a period: check, hour_ms, done, late, skipped, lost."""
        from monitor import segments

        start, end = to_ms(period.start) - _HOUR_MS, to_ms(period.end)
        for link in self._standing:
            until = link.fields["until_ms"]
            ours_unnoted = link.fields["journal"] == self._journal and link.number not in self._noted
            near = until > start and (until - _HOUR_MS < end or link.fields["late"])
            if ours_unnoted or not near:
                continue  # what is not noted yet still stands in the journal's own ledger
            for _, r in segments.read_records(self._file(link), {"slots"}):
                if start < r["hour_ms"] < end:
                    yield r["check_name"], r["hour_ms"], r["done"], r["late"], r["skipped"], r["lost"]

    def pasts(self) -> list[sqlite3.Connection]:
        """Rebuild in memory what other journals knew, oldest first: their records as they were sealed last."""
        found: dict[str, sqlite3.Connection] = {}
        for link in self._standing:
            uid = link.fields["journal"]
            if uid != self._journal:
                if uid not in found:
                    found[uid] = empty_journal()
                self._fill(found[uid], link)
        return list(found.values())

    def _fill(self, db: sqlite3.Connection, link: Link) -> None:
        from monitor import segments

        for kind, row in segments.read_records(self._file(link), _TABLES):
            table = _TABLES[kind]
            columns = {r[1] for r in db.execute(f"PRAGMA table_info({table})")}
            values: dict[str, Any] = {k: v for k, v in row.items() if k in columns}
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            query = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  names of our own tables
            db.execute(query, tuple(values.values()))

    def _file(self, link: Link) -> Path:
        file = self._folder / str(link.fields["file"])
        if not file.is_file():
            raise JournalError(f"{file} of the evidence is missing: run thongsuot verify {self._folder}")
        return file


def empty_journal() -> sqlite3.Connection:
    """Make a journal in memory, without a row."""
    db = sqlite3.connect(":memory:")
    for _, sql in migrations():
        db.executescript(sql)
    return db


def _ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))
