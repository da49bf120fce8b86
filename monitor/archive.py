"""The sealed part of the past, as `monitor.history` reads it: which rows have left the journal, and what they said.

The journal keeps what is small for ever; results and the ledger of slots are in the segments alone. Of segments that
another journal made (the disk was lost, or there is only the evidence) everything is read from the files.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.plan import Window
from monitor import sealed
from monitor.asked import Asked, Bins, Said
from monitor.chain import ChainError, Link, evidence_folder, frontier, parse_line, read_chain, stand_ins, standing
from monitor.journal import JournalError, migrations
from monitor.rows import from_ms, to_ms

if TYPE_CHECKING:
    from monitor.model import Result

READERS = 2  # files read at a time: most of the work is outside of the interpreter
_HOUR_MS = 3_600_000
_TABLES = {
    "run": "runs",
    "clock": "clock",
    "change": "changes",
    "gap": "gaps",
    "incident": "incidents",
    "trace": "traces",
    "announcement": "announcements",
    "correction": "corrections",
}


class Archive:
    """A site's sealed segments beside the journal that is open."""

    def __init__(self, folder: Path, links: Sequence[Link], journal: str, noted: Collection[int]) -> None:
        """Args: journal: the open one's id. noted: numbers of the lines that it knows, and whose rows it may drop."""
        self._folder = folder
        self._standing = standing(links)  # whose results are there
        self._summaries = stand_ins(links)  # of those whose results are gone
        of = {number for link in self._summaries for number, _ in link.fields["of"]}
        self._summed = [link for link in links if link.number in of]
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

    def read(
        self, bins: Sequence[Bins], judged: Sequence[str] = (), hours: Sequence[Window] = ()
    ) -> Iterator[tuple[Said, int]]:
        """Read each file once for everything that is asked of it, oldest first.

        Args:
            bins: whose sums.
            judged: of which checks the packets.
            hours: whose packets, sorted and apart.

        Yields:
            What a file says, and how many of the hours no later file says anything of.
        """
        from monitor import answers, summed  # the library behind them is large, and the daemon does without

        spans = [(to_ms(h.start), to_ms(h.end)) for h in hours]
        files = list(self._asked(bins, judged, spans))
        rest = [len(spans)]
        for _, asked in reversed(files[1:]):
            rest.append(min([rest[-1], *asked.hours]))
        with ThreadPoolExecutor(READERS) as pool:
            ahead: deque[Future[Said]] = deque()
            for link, asked in files:
                read = summed.read if link.is_summary else answers.read
                ahead.append(pool.submit(read, self._file(link), asked))
                if len(ahead) > 2 * READERS:
                    yield ahead.popleft().result(), rest.pop()
            while ahead:
                yield ahead.popleft().result(), rest.pop()

    def _asked(
        self, bins: Sequence[Bins], judged: Sequence[str], spans: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Link, Asked]]:
        """Say what is asked of each file of which anything is."""
        for link in sorted([*self._standing, *self._summaries], key=_begins):
            first, last = (_ms(link.fields[name]) for name in ("first", "last"))
            # Bins that a file has nothing of are asked for without a moment, so that every answer keeps its place.
            mine = [b if b.start_ms <= last and b.end_ms > first else Bins(0, 0, 1, ()) for b in bins]
            low = bisect_right(spans, first, key=lambda s: s[1])
            touched = {n: spans[n] for n in range(low, len(spans)) if spans[n][0] <= last} if judged else {}
            if touched or any(b.end_ms for b in mine):
                yield link, Asked(mine, touched, judged)

    def results(self, site: str, span: Window) -> list[Iterator[tuple[float, Result]]]:
        """Return the sealed results that started within a span: of each file in the order of their ends."""
        from monitor import recorded

        start, end = to_ms(span.start), to_ms(span.end)
        links = [k for k in self._standing if _ms(k.fields["first"]) < end and _ms(k.fields["last"]) >= start]
        return [recorded.read_results(self._file(link), site, start, end) for link in links]

    def summed(self, period: Window) -> list[Window]:
        """Return the hours of a period of which there are only summaries, those that touch one another together."""
        hours = sorted({_ms(link.fields["hour"]) // _HOUR_MS for link in self._summed})
        found: list[Window] = []
        for hour in hours:
            span = Window(from_ms(hour * _HOUR_MS), from_ms((hour + 1) * _HOUR_MS))
            if span.end <= period.start or span.start >= period.end:
                continue
            if found and found[-1].end >= span.start:
                span = Window(found.pop().start, span.end)
            found.append(span)
        return found

    def slots(self, period: Window) -> Iterator[tuple[str, int, int, int, int, int]]:
        """Give the sealed ledger of the hours that touch a period: check, hour_ms, done, late, skipped, lost."""
        start, end = to_ms(period.start) - _HOUR_MS, to_ms(period.end)
        for link in self._standing:
            until = link.fields["until_ms"]
            ours_unnoted = link.fields["journal"] == self._journal and link.number not in self._noted
            near = until > start and (until - _HOUR_MS < end or link.fields["late"])
            if ours_unnoted or not near:
                continue  # what is not noted yet still stands in the journal's own ledger
            yield from self._slots_in(link, start, end)
        for link in self._summaries:
            # Its first result may have come late, a day before; its ledger reaches to the end of its last hour.
            if _ms(link.fields["last"]) + _HOUR_MS > start and _ms(link.fields["first"]) - _HOUR_MS < end:
                yield from self._slots_in(link, start, end)

    def _slots_in(self, link: Link, start: int, end: int) -> Iterator[tuple[str, int, int, int, int, int]]:
        from monitor import segments

        for _, r in segments.read_records(self._file(link), {"slots"}):
            if start < r["hour_ms"] < end:
                yield r["check_name"], r["hour_ms"], r["done"], r["late"], r["skipped"], r["lost"]

    def pasts(self) -> list[sqlite3.Connection]:
        """Rebuild in memory what other journals knew, oldest first: their records as they were sealed last."""
        found: dict[str, sqlite3.Connection] = {}
        for link in sorted([*self._standing, *self._summaries], key=_written):
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


def _begins(link: Link) -> tuple[int, int]:
    """When the first result of a file started, for an order of time."""
    return _ms(link.fields["first"]), link.number


def _written(link: Link) -> int:
    """The number of the line that a file, or what it stands for, was first named by."""
    return min(number for number, _ in link.fields["of"]) if link.is_summary else link.number


def _ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))
