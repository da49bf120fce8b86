"""Recorded results as they were when they ended, from the rows of a journal or a file of the evidence.

`monitor.history` gives them hour by hour; `in_order` brings the hours into one order, that of their ends, which is the
order in which the pipeline got them. What is held is an hour as columns and what runs over its end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from monitor.model import Result
from monitor.rows import from_ms
from monitor.segments import RESULT, read_columns
from probes.base import PHASES, Fault, Reading

_STAMP: Final = pa.timestamp("ms", tz="UTC")
_CHUNK: Final = 5_000  # rows turned into results at a time
_PHASES: Final = {name: f"{name}_us" for name in PHASES}
_COLUMNS: Final = [
    "subject", "path", "time", "slot", "attempt", "duration_us", "fault", "detail",
    *_PHASES.values(), "rtts_us", "late_us", "numbers", "facts",
]  # fmt: skip
Ended = tuple[float, Result]  # when it ended, seconds since 1970


def from_row(site: str, name: str, path: str, row: Sequence[Any]) -> Ended:
    """Rebuild a result from a row of the journal: slot, start, lateness, attempt, duration, fault, body."""
    slot, started, lateness, attempt, duration, fault, body = row
    held: Mapping[str, Any] = orjson.loads(body)
    reading = Reading(
        Fault(fault) if fault else None,
        held.get("d", ""),
        duration / 1e6,
        {k: v / 1e6 for k, v in held.get("p", {}).items()},
        held.get("v", {}),
        held.get("f", {}),
        _echoes(held.get("r")),
        held.get("l", 0) / 1e6,
    )
    found = Result(site, name, path, from_ms(slot), from_ms(started), lateness / 1e6, attempt, reading)
    return started / 1000 + duration / 1e6, found


def read_results(file: Path, site: str, start_ms: int, end_ms: int) -> Iterator[Ended]:
    """Give the results of a file of the evidence that started within [start, end), in the order of their ends.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    bounds = [pa.scalar(moment, pa.int64()).cast(_STAMP) for moment in (start_ms, end_ms)]
    wanted = (pc.field("kind") == RESULT) & (pc.field("time") >= bounds[0]) & (pc.field("time") < bounds[1])
    table = read_columns(file, _COLUMNS, wanted)
    for name in ("time", "slot"):
        table = table.set_column(table.column_names.index(name), name, table.column(name).cast(pa.int64()))
    ended = pc.add(pc.multiply(table.column("time"), 1000), table.column("duration_us").cast(pa.int64()))
    table = table.append_column("ended", ended)
    order = pc.sort_indices(table, sort_keys=[("ended", "ascending"), ("time", "ascending")])
    for start in range(0, len(order), _CHUNK):
        for row in table.take(order.slice(start, _CHUNK)).to_pylist():
            yield _from_columns(site, row)


def _from_columns(site: str, row: Mapping[str, Any]) -> Ended:
    reading = Reading(
        Fault(row["fault"]) if row["fault"] else None,
        row["detail"] or "",
        row["duration_us"] / 1e6,
        {name: row[column] / 1e6 for name, column in _PHASES.items() if row[column] is not None},
        orjson.loads(row["numbers"]) if row["numbers"] else {},
        orjson.loads(row["facts"]) if row["facts"] else {},
        _echoes(row["rtts_us"]),
        (row["late_us"] or 0) / 1e6,
    )
    started, slot = row["time"], row["slot"]
    late = max(started - slot, 0) / 1000
    found = Result(
        site, row["subject"], row["path"] or "", from_ms(slot), from_ms(started), late, row["attempt"], reading
    )
    return row["ended"] / 1e6, found


def _echoes(microseconds: Sequence[int | None] | None) -> tuple[float | None, ...]:
    return tuple(None if echo is None else echo / 1e6 for echo in microseconds or ())


def in_order(hours: Iterable[tuple[float, Sequence[Iterator[Ended]]]]) -> Iterator[Result]:
    """Give the results of several hours in the order in which they ended.

    Args:
        hours: when each ends, seconds since 1970, and what its sources give, each in the order of ends.
    """
    over: list[Ended] = []  # started in the hour before, and not ended with it
    for end, sources in hours:
        later: list[Ended] = []
        for ended in heapq.merge(iter(over), *sources, key=_key):
            if ended[0] >= end:
                later.append(ended)
            else:
                yield ended[1]
        over = later
    for _, result in over:
        yield result


def _key(ended: Ended) -> float:
    return ended[0]


def ended_at(result: Result) -> datetime:
    """Return when a result was there: its start and what it took."""
    return result.started_at + timedelta(seconds=result.reading.duration_s)
