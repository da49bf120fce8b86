"""Sealing: closed hours leave the journal as signed files. Run as a process of its own, at low priority.

It reads the journal in short steps and writes nothing into it; what it has done it prints, and the daemon notes it and
deletes the rows (`monitor.sealer`). In this order, so that a cut at any point loses nothing and seals nothing twice:
the file is written beside its place and synced, takes its name, and then its line is added to the chain and synced. The
line says which rows of which journal are in it: from there on they are sealed, whatever the journal still holds.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa

from monitor import retention, segments, summaries
from monitor.chain import (
    GENESIS,
    ChainError,
    Link,
    SealingLock,
    append,
    evidence_folder,
    frontier,
    make_line,
    parse_line,
    read_chain,
    signing_key,
    sync_folder,
)
from monitor.journal import FILE_NAME
from monitor.order import Order as Order
from monitor.record_tables import TABLES
from monitor.rows import from_ms
from monitor.segments import Record, ResultColumns

HOUR_MS: Final = 3_600_000
STEP_ROWS: Final = 2_000  # of the journal read at a time: small enough to stay in the processor's cache
DISORDER_MS: Final = 600_000  # how much later than its neighbours a row may come and still be found at once
SETTLED_MS: Final = 2 * HOUR_MS  # records that ended this long before the last sealing are in it as they stay

Hook = Callable[[str], None]
Slot = tuple[str, int, int, int, int, int]  # of the ledger: check, hour_ms, done, late, skipped, lost


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line that the journal has not noted yet."""

    line: str
    slots: Sequence[Slot]  # that it seals


class SealError(Exception):
    """Nothing can be sealed now; the message says why."""


def seal(order: Order, reached: Hook = lambda _: None) -> Iterator[Outcome]:
    """Seal every closed hour, and delete what is too old. Safe to cut at any point, and to repeat.

    Args:
        order: what is asked for.
        reached: told the name of each step that is done.

    Raises:
        SealError: the disk has no room, the chain is damaged, the key is lost, another sealer is at work.
    """
    site = _Site(order, reached)
    try:
        site.folder.mkdir(parents=True, exist_ok=True)
        with SealingLock(site.folder), contextlib.closing(site.open()):
            yield from site.run()
    except ChainError as exc:
        raise SealError(str(exc)) from exc
    except (OSError, sqlite3.Error) as exc:
        raise SealError(f"{type(exc).__name__}: {exc}") from exc


class _Site:
    def __init__(self, order: Order, reached: Hook) -> None:
        self.order = order
        self.state_dir = Path(order.state_dir)
        self.folder = evidence_folder(self.state_dir, order.site)
        self.reached = reached
        self.links: list[Link] = []
        self.fresh: dict[int, Sequence[Slot]] = {}  # the ledger in lines that the journal may not have noted yet

    def open(self) -> sqlite3.Connection:
        self.db = sqlite3.connect(f"{(self.state_dir / FILE_NAME).resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
        return self.db

    def run(self) -> Iterator[Outcome]:
        order = self.order
        self.key = signing_key(self.state_dir, order.site, Path(order.key_file) if order.key_file else None)
        self.journal: str = self.db.execute("SELECT uid FROM identity").fetchone()[0]
        noted = self._settle()
        for link in self.links:
            if link.number not in noted:
                self.fresh[link.number] = self._slots_of(link)
                yield Outcome(link.text, self.fresh[link.number])
        yield from self._expire(only_for_room=True)
        for _ in range(order.most):
            outcome = self._seal_next()
            if outcome is None:
                break
            yield outcome
        yield from self._expire()

    def _settle(self) -> set[int]:
        """Read the chain, put back lines at its end that only the journal still has, and clear what was left over."""
        self.links = read_chain(self.folder)
        rows = self.db.execute("SELECT number, line FROM segments WHERE site = ? ORDER BY number", (self.order.site,))
        noted = dict(rows.fetchall())
        have = {link.number: link.text for link in self.links}
        for number, line in noted.items():
            if number in have and have[number] != line:
                raise ChainError(f"line {number} of the chain is not the one that was written: run thongsuot verify")
            if number not in have:
                append(self.folder, line)
                self.links.append(parse_line(line))
        for entry in (e for link in self.links for e in link.deleted):
            (self.folder / entry["file"]).unlink(missing_ok=True)
        return set(noted)

    def _slots_of(self, link: Link) -> list[Slot]:
        if not link.is_segment or link.fields["journal"] != self.journal:
            return []
        return [_slot(r) for _, r in segments.read_records(self.folder / link.fields["file"], {"slots"})]

    # One segment.

    def _seal_next(self) -> Outcome | None:
        pairs = frontier(self.links, self.journal)
        until = self._next_until(pairs)
        if until is None:
            return None
        self._make_room()
        results, row = self._read_results(pairs, until)
        ends = results.first_last_ms()
        if ends is None:
            return None
        records, through = self._read_records(until)
        late = sum(_before(chunk.column("time"), until - HOUR_MS) for chunk in results.chunks)
        count = results.rows
        file, digest, size, rows = self._write(until - HOUR_MS, results, records)
        fields = {
            "file": file,
            "sha256": digest,
            "rows": rows,
            "results": count,
            "late": late,
            "first": _iso(ends[0]),
            "last": _iso(ends[1]),
            "hour": _iso(until - HOUR_MS),
            "sealed": _iso(self.order.now_ms),
            "simulated": self.order.simulated,
            "bytes": size,
            "journal": self.journal,
            "until_ms": until,
            "through": {"results": row, **through},
        }
        line = self._add("segment", fields)
        slots = self.fresh[self.links[-1].number] = [_slot(r.row) for r in records if r.kind == "slots"]
        return Outcome(line, slots)

    def _next_until(self, pairs: Sequence[tuple[int, int]]) -> int | None:
        where, values = _unsealed(pairs)
        mine, of_site = self._of_site()
        oldest = self.db.execute(
            f"SELECT min(started_ms) FROM (SELECT started_ms FROM results WHERE {where}"  # noqa: S608  our own text
            f" AND {mine} ORDER BY rowid LIMIT 20000)",
            (*values, *of_site),
        ).fetchone()[0]
        if oldest is None:
            return None
        until: int = oldest - oldest % HOUR_MS + HOUR_MS
        last = max((u for _, u in pairs), default=0)
        if until <= last and self.order.now_ms >= last:
            until = last + HOUR_MS  # results that came late go with the hour after
        return until if until <= self.order.closed_ms else None

    def _make_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < self.order.reserve_bytes:
            raise SealError(f"only {free >> 20} MB are free on the disk; they are left to the journal")

    def _read_results(self, pairs: Sequence[tuple[int, int]], until: int) -> tuple[ResultColumns, int]:
        db = self.db
        low, high = db.execute("SELECT coalesce(min(rowid), 1), coalesce(max(rowid), 0) FROM results").fetchone()
        names = db.execute("SELECT no, name, path FROM checks WHERE site = ?", (self.order.site,)).fetchall()
        results = ResultColumns({number: (name, path) for number, name, path in names})
        where, values = _unsealed(pairs)
        mine, of_site = self._of_site()
        query = (
            "SELECT check_no, slot_ms, started_ms, attempt, duration_us, fault, body FROM results"  # noqa: S608
            f" WHERE rowid BETWEEN ? AND ? AND started_ms < ? AND {where} AND {mine} ORDER BY rowid"
        )
        row = low - 1
        while row < high:
            last = min(row + STEP_ROWS, high)
            # Each step is a transaction of its own, so that the journal can be tidied meanwhile.
            found = db.execute(query, (row + 1, last, until, *values, *of_site)).fetchall()
            results.add(found)
            earliest = None if found else self._earliest(row + 1, last)
            row = last
            if earliest is not None and earliest >= until + DISORDER_MS:
                break
        return results, row

    def _earliest(self, low: int, high: int) -> int | None:
        query = "SELECT min(started_ms) FROM results WHERE rowid BETWEEN ? AND ?"
        earliest: int | None = self.db.execute(query, (low, high)).fetchone()[0]
        return earliest

    def _of_site(self) -> tuple[str, tuple[str, ...]]:
        """SQL for the rows of this site, and its values; asked of each row only where there are others."""
        if self.db.execute("SELECT 1 FROM checks WHERE site != ? LIMIT 1", (self.order.site,)).fetchone() is None:
            return "1", ()
        return "check_no IN (SELECT no FROM checks WHERE site = ?)", (self.order.site,)

    def _read_records(self, until: int) -> tuple[list[Record], dict[str, int]]:
        before = [n for n in self.links if n.is_segment and n.fields["journal"] == self.journal]
        through = before[-1].fields["through"] if before else {}
        settled = max((n.fields["until_ms"] for n in before), default=0) - SETTLED_MS
        records: list[Record] = []
        reached: dict[str, int] = {}
        for table in TABLES:
            low = int(through.get(table.name, 0))
            more = f", {table.more}" if table.more else ""
            rows = self._rows(
                f"SELECT *{more} FROM {table.name}"  # noqa: S608  our own text
                f" WHERE site = :site AND (id > :low OR {table.open}) ORDER BY id",
                {"site": self.order.site, "low": low, "settled": settled},
            )
            records += [table.record(r) for r in rows]
            reached[table.name] = max([low, *(r["id"] for r in rows)])
        ledger = self._read_ledger(until)
        records += [
            Record("slots", r["check_name"], r["hour_ms"], r["hour_ms"] + HOUR_MS, "", "", 0, r) for r in ledger
        ]
        return records, reached

    def _read_ledger(self, until: int) -> list[dict[str, Any]]:
        """Read the slots that no segment has: the journal's, without those of lines that it has not noted yet."""
        values = {"site": self.order.site, "until": until}
        # One view of both, for the daemon may be noting lines right now.
        self.db.execute("BEGIN")
        try:
            noted = {r["number"] for r in self._rows("SELECT number FROM segments WHERE site = :site", values)}
            rows = self._rows(
                "SELECT * FROM slots WHERE site = :site AND hour_ms < :until ORDER BY check_name, hour_ms", values
            )
        finally:
            self.db.execute("ROLLBACK")
        by_hour = {(r["check_name"], r["hour_ms"]): r for r in rows}
        for number, slots in self.fresh.items():
            for check, hour, *counts in () if number in noted else slots:
                row = by_hour[check, hour]
                for name, count in zip(_ENDS, counts, strict=True):
                    row[name] -= count
        return [r for r in rows if any(r[name] for name in _ENDS)]

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        cursor = self.db.execute(query, values)
        names = [d[0] for d in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _write(self, hour: int, results: ResultColumns, records: Sequence[Record]) -> tuple[str, str, int, int]:
        start = from_ms(hour)
        day = self.folder / f"{start:%Y}/{start:%m}/{start:%d}"
        day.mkdir(parents=True, exist_ok=True)
        known = {link.fields["file"] for link in self.links if link.is_segment}
        for leftover in [*day.glob(".*.part"), *day.glob(f"{start:%H}-*.parquet")]:
            # Of a sealing that was cut off before its line was in the chain.
            if str(leftover.relative_to(self.folder)) not in known:
                leftover.unlink()
        part = day / f".{start:%H}.part"
        about = {"site": self.order.site, "hour": _iso(hour), "simulated": self.order.simulated}
        return self._keep(part, f"{start:%H}", lambda: segments.write(part, results, records, about))

    def _keep(self, part: Path, name: str, write: Callable[[], int]) -> tuple[str, str, int, int]:
        """Write a file beside its place, and give it its name with its hash; return file, hash, bytes and rows."""
        try:
            rows = write()
            self.reached("written")
            digest, size = _sync_and_hash(part)
            self.reached("synced")
            file = part.parent / f"{name}-{digest[:12]}.parquet"
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        folder = part.parent
        while folder != self.folder.parent:
            sync_folder(folder)
            folder = folder.parent
        self.reached("named")
        return str(file.relative_to(self.folder)), digest, size, rows

    def _add(self, kind: str, fields: Mapping[str, Any]) -> str:
        last = self.links[-1] if self.links else None
        numbered = {"number": last.number + 1 if last else 1, "kind": kind, "site": self.order.site, **fields}
        link = make_line(numbered, last.digest if last else GENESIS, self.key)
        append(self.folder, link.text)
        self.links.append(link)
        self.reached("chained")
        return link.text

    # What is too old.

    def _expire(self, *, only_for_room: bool = False) -> Iterator[Outcome]:
        """Delete the raw results that may go, a day's at a time, once their summary is signed.

        Args:
            only_for_room: leave alone what is merely old: nothing is deleted unless the disk itself is full.
        """
        held = retention.Held.of(self.state_dir, self.folder, self.links)
        for reason, some in retention.due(self.order, self.links, held, only_for_room=only_for_room):
            yield from self._delete(reason, some)

    def _delete(self, reason: str, some: Sequence[Link]) -> Iterator[Outcome]:
        whole = [link for link in some if self._is_whole(link)]
        if not whole:
            return  # missing or changed: it stands until somebody has looked, and `verify` names it
        of = [[link.number, link.fields["sha256"]] for link in whole]
        summary = next((n for n in self.links if n.is_summary and n.fields["of"] == of), None)
        if summary is None:
            yield Outcome(self._sum_up(whole, of), [])
            summary = self.links[-1]
        named = [{k: link.fields[k] for k in ("number", "file", "sha256", "rows")} for link in whole]
        fields = {
            "reason": reason,
            "summary": summary.number,
            "segments": named,
            "sealed": _iso(self.order.now_ms),
        }
        line = self._add("deleted", fields)
        for link in whole:
            (self.folder / link.fields["file"]).unlink(missing_ok=True)
        self.reached("deleted")
        yield Outcome(line, [])

    def _is_whole(self, link: Link) -> bool:
        try:
            digest, _ = _sync_and_hash(self.folder / link.fields["file"])
        except OSError:
            return False
        return digest == str(link.fields["sha256"])

    def _sum_up(self, whole: Sequence[Link], of: Sequence[Sequence[Any]]) -> str:
        """Write what is kept for ever of some segments of a day, and its line."""
        first = whole[0].fields
        day = first["hour"][:10]
        simulated = any(link.fields["simulated"] for link in whole)
        about = {"site": self.order.site, "day": day, "simulated": simulated}
        sources = [summaries.Source(self.folder / n.fields["file"], n.number, n.fields["sha256"]) for n in whole]
        folder = self.folder / "summaries" / day[:4]
        folder.mkdir(parents=True, exist_ok=True)
        known = {link.fields["file"] for link in self.links if link.is_summary}
        for leftover in [*folder.glob(".*.part"), *folder.glob(f"{day}-*.parquet")]:
            if str(leftover.relative_to(self.folder)) not in known:
                leftover.unlink()
        part = folder / f".{day}.part"
        file, digest, size, rows = self._keep(part, day, lambda: summaries.write(part, sources, about))
        fields = {
            "file": file,
            "sha256": digest,
            "rows": rows,
            "bytes": size,
            "results": sum(link.fields["results"] for link in whole),
            "first": min(link.fields["first"] for link in whole),
            "last": max(link.fields["last"] for link in whole),
            "sealed": _iso(self.order.now_ms),
            "simulated": simulated,
            "journal": first["journal"],
            "of": of,
        }
        return self._add("summary", fields)


_ENDS: Final = ("done", "late", "skipped", "lost")


def _unsealed(pairs: Sequence[tuple[int, int]]) -> tuple[str, tuple[int, ...]]:
    """SQL for the rows that no pair of the frontier covers, and its values."""
    where = " AND ".join("NOT (results.rowid <= ? AND started_ms < ?)" for _ in pairs)
    return where or "1", tuple(number for pair in pairs for number in pair)


def _slot(row: Mapping[str, Any]) -> Slot:
    return (row["check_name"], row["hour_ms"], row["done"], row["late"], row["skipped"], row["lost"])


def _before(times: pa.ChunkedArray, moment: int) -> int:
    return int(pa.compute.sum(pa.compute.less(times, moment)).as_py() or 0)


def _iso(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sync_and_hash(file: Path) -> tuple[str, int]:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return digest, stream.tell()


def main() -> int:
    """Seal as the order in the first argument says; print each outcome as a line of JSON, and how it ended."""
    with contextlib.suppress(OSError):
        os.nice(19)  # refused where the service may not set priorities; the steps are short all the same
    gc.disable()  # millions of short-lived rows, no cycles; the process ends with the work
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    order = Order(**orjson.loads(sys.argv[1]))
    trouble, room = "", None
    try:
        for outcome in seal(order):
            _print(asdict(outcome))
    except (SealError, ChainError, OSError) as exc:
        trouble = str(exc)
    with contextlib.suppress(ChainError, OSError):
        room = retention.room(order)
    _print({"trouble": trouble, "warning": room.warning if room else "", "room": asdict(room) if room else None})
    return 1 if trouble else 0


def _print(message: Mapping[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(message).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
