"""The files of the evidence: an hour of everything, as one Parquet file that any reader opens.

One kind of row for results and one for each other record, told apart by the column `kind`. Results come first, sorted
by check, path and time, so that stamps and times pack as small differences and a reader of one check skips the rest;
`docs/evidence.md` explains every column. Knows the body of a result as `monitor.journal` packs it, and no SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from monitor.rows import from_ms
from probes.base import PHASES

FORMAT: Final = 1
METADATA_KEY: Final = b"thongsuot"
RESULT: Final = "result"
GROUP_ROWS: Final = 262_144  # rows of one group: what a reader of one check has to unpack at least
# Measured: the thorough level saves a twentieth of the bytes, and packs durations better as they are; in an hour of
# millions it would cost more time than it is worth.
THOROUGH_LEVEL: Final = 19
BUSY_LEVEL: Final = 3
BUSY_ROWS: Final = 1_000_000
_MOST: Final = 2**32 - 1  # microseconds a column holds: 71 minutes, longer than any time-out may be
_STAMP: Final = pa.timestamp("ms", tz="UTC")
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_PHASE_COLUMNS: Final = tuple(f"{name}_us" for name in PHASES)
SCHEMA: Final = pa.schema(
    [
        ("kind", _TEXT),
        ("subject", _TEXT),
        ("path", _TEXT),
        ("time", _STAMP),
        ("slot", _STAMP),
        ("attempt", pa.int16()),
        ("duration_us", pa.uint32()),
        ("fault", _TEXT),
        ("detail", _TEXT),
        *((name, pa.uint32()) for name in _PHASE_COLUMNS),
        ("rtts_us", pa.list_(pa.field("element", pa.uint32()))),
        ("late_us", pa.uint32()),
        ("numbers", _TEXT),
        ("facts", _TEXT),
        ("state", _TEXT),
        ("end", _STAMP),
        ("id", pa.int64()),
        ("record", pa.string()),
    ]
)
_DICTIONARY: Final = ["kind", "subject", "path", "fault", "detail", "numbers", "facts", "state"]
_DELTA: Final = dict.fromkeys(
    ("time", "slot", "duration_us", *_PHASE_COLUMNS, "rtts_us.list.element", "id", "end"), "DELTA_BINARY_PACKED"
)
_HEAD: Final = pa.schema(
    [
        ("d", pa.string()),
        ("p", pa.struct([(name, pa.int64()) for name in PHASES])),
        ("r", pa.list_(pa.int64())),
        ("l", pa.int64()),
    ]
)
Row = tuple[int, int, int, int, int, str, str]  # check number, slot, start, attempt, duration, fault, body


@dataclass(frozen=True, slots=True)
class Record:
    """Anything but a result: what it is about, when, and the journal's whole row."""

    kind: str
    subject: str
    time_ms: int
    end_ms: int | None
    state: str
    detail: str
    id: int
    row: Mapping[str, Any]


class _Names:
    """Texts that come again and again, as numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def code(self, texts: Iterable[str]) -> pa.Array:
        numbers = self.numbers
        return pa.array([numbers.setdefault(text, len(numbers)) for text in texts], pa.int32())

    def array(self, indices: pa.Array) -> pa.Array:
        return pa.DictionaryArray.from_arrays(indices, pa.array(list(self.numbers), pa.string()))


@dataclass(slots=True)
class ResultColumns:
    """Results gathered from the journal in chunks, as columns."""

    names: Mapping[int, tuple[str, str]]  # check number -> (name, path)
    chunks: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    _faults: _Names = field(default_factory=_Names)
    _details: _Names = field(default_factory=_Names)
    _numbers: _Names = field(default_factory=_Names)
    _facts: _Names = field(default_factory=_Names)

    def add(self, rows: Sequence[Row]) -> None:
        """Take a chunk of rows of the journal."""
        if not rows:
            return
        check, slot, started, attempt, duration, fault, body = zip(*rows, strict=True)
        heads, numbers, facts = _cut(body)
        head = _parse(heads)
        phases = head.column("p").combine_chunks()
        columns: dict[str, Any] = {
            "check": pa.array(check, pa.int32()),
            "slot": pa.array(slot, pa.int64()),
            "time": pa.array(started, pa.int64()),
            "attempt": pa.array(attempt, pa.int16()),
            "duration_us": _bounded(pa.array(duration, pa.int64())),
            "fault": self._faults.code(fault),
            "detail": self._details.code(head.column("d").fill_null("").to_pylist()),
            "rtts_us": _echoes(head.column("r").combine_chunks()),
            "late_us": _bounded(head.column("l").combine_chunks()),
            "numbers": self._numbers.code(numbers),
            "facts": self._facts.code(facts),
        }
        for name in PHASES:
            columns[f"{name}_us"] = _bounded(pc.struct_field(phases, name))
        self.chunks.append(pa.table(columns))
        self.rows += len(rows)

    def first_last_ms(self) -> tuple[int, int] | None:
        """Return when the first and the last of them started."""
        if not self.rows:
            return None
        ends = [pc.min_max(chunk.column("time")).as_py() for chunk in self.chunks]
        return min(e["min"] for e in ends), max(e["max"] for e in ends)

    def groups(self) -> Iterable[pa.Table]:
        """Give back all of them in the order and the shape of the file, a group at a time; empties itself."""
        if not self.rows:
            return
        whole = pa.concat_tables(self.chunks).combine_chunks()
        self.chunks.clear()
        places = sorted(self.names, key=lambda number: (self.names[number], number))
        subjects, paths = _Names(), _Names()
        ranks = {number: rank for rank, number in enumerate(places)}
        codes = (
            subjects.code(self.names[number][0] for number in places),
            paths.code(self.names[number][1] for number in places),
        )
        rank = pc.index_in(whole.column("check"), pa.array(list(ranks), pa.int32())).combine_chunks()
        # One number to sort by: a check's rank, then the time.
        earliest = pc.min(whole.column("time"))
        key = pc.add(pc.multiply(rank.cast(pa.int64()), 1 << 44), pc.subtract(whole.column("time"), earliest))
        order = pc.array_sort_indices(key.combine_chunks() if isinstance(key, pa.ChunkedArray) else key)
        for start in range(0, whole.num_rows, GROUP_ROWS):
            taken = order.slice(start, GROUP_ROWS)
            yield self._shape(whole.take(taken), rank.take(taken), subjects.array(codes[0]), paths.array(codes[1]))

    def _shape(self, part: pa.Table, rank: pa.Array, subjects: pa.Array, paths: pa.Array) -> pa.Table:
        columns: dict[str, Any] = {
            "kind": pa.array([RESULT], pa.string())
            .dictionary_encode()
            .take(pa.nulls(len(part), pa.int32()).fill_null(0)),
            "subject": subjects.take(rank),
            "path": paths.take(rank),
        }
        coded = {"fault": self._faults, "detail": self._details, "numbers": self._numbers, "facts": self._facts}
        for name in part.column_names:
            values = part.column(name).combine_chunks()
            columns[name] = coded[name].array(values) if name in coded else values
        return _conform(columns, len(part))


def _cut(bodies: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Split packed bodies at their members `v` and `f`, as texts.

    A quote inside a JSON string is always escaped, so these two marks stand nowhere but where the members begin.
    """
    heads, numbers, facts = [], [], []
    for body in bodies:
        rest, mark, fact = body.partition('"f":{')
        facts.append("{" + fact[:-1] if mark else "")
        head, mark2, number = rest.partition('"v":{')
        numbers.append(("{" + (number.removesuffix(",") if mark else number[:-1])) if mark2 else "")
        heads.append(f"{head.removesuffix(',')}}}" if mark or mark2 else head)
    return heads, numbers, facts


def _parse(heads: Sequence[str]) -> pa.Table:
    text = "\n".join(heads).encode()
    return pj.read_json(
        pa.BufferReader(text),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(text) + 16),
        parse_options=pj.ParseOptions(explicit_schema=_HEAD, unexpected_field_behavior="error"),
    )


def _bounded(values: pa.Array) -> pa.Array:
    return pc.min_element_wise(pc.max_element_wise(values, 0, skip_nulls=False), _MOST, skip_nulls=False).cast(
        pa.uint32()
    )


def _echoes(lists: pa.ListArray) -> pa.Array:
    return pa.ListArray.from_arrays(
        lists.offsets, _bounded(lists.values), mask=lists.is_null() if lists.null_count else None
    )


def _conform(columns: Mapping[str, Any], rows: int) -> pa.Table:
    arrays = []
    for wanted in SCHEMA:
        found = columns.get(wanted.name)
        if found is None:
            arrays.append(pa.nulls(rows, wanted.type))
        else:
            arrays.append(found if found.type == wanted.type else found.cast(wanted.type))
    return pa.table(arrays, schema=SCHEMA)


def _record_table(records: Sequence[Record]) -> pa.Table:
    def text(values: Iterable[str]) -> pa.Array:
        return pa.array(list(values), pa.string()).dictionary_encode()

    columns: dict[str, Any] = {
        "kind": text(r.kind for r in records),
        "subject": text(r.subject for r in records),
        "time": pa.array([r.time_ms for r in records], pa.int64()),
        "end": pa.array([r.end_ms for r in records], pa.int64()),
        "state": text(r.state for r in records),
        "detail": text(r.detail for r in records),
        "id": pa.array([r.id for r in records], pa.int64()),
        "record": pa.array([orjson.dumps(r.row).decode() for r in records], pa.string()),
    }
    return _conform(columns, len(records))


def write(part: Path, results: ResultColumns, records: Sequence[Record], about: Mapping[str, Any]) -> int:
    """Write a file and return its rows. The same content gives the same bytes.

    Args:
        part: where; written over.
        results: the hour's results; emptied.
        records: everything else, in the order in which it shall stand.
        about: what the file says of itself: site, hour, whether it is simulated.
    """
    said = orjson.dumps({**about, "format": FORMAT}, option=orjson.OPT_SORT_KEYS)
    rows, busy = 0, results.rows > BUSY_ROWS
    with pq.ParquetWriter(
        part,
        SCHEMA,
        compression="zstd",
        compression_level=BUSY_LEVEL if busy else THOROUGH_LEVEL,
        use_dictionary=_DICTIONARY,
        column_encoding={k: v for k, v in _DELTA.items() if busy or k != "duration_us"},
        version="2.6",
        data_page_version="2.0",
        write_page_index=False,
        store_schema=False,
    ) as writer:
        writer.add_key_value_metadata({METADATA_KEY: said})
        for group in results.groups():
            writer.write_table(group, row_group_size=GROUP_ROWS)
            rows += len(group)
        if records:
            writer.write_table(_record_table(records))
            rows += len(records)
    return rows


# Reading.


def read_records(file: Path, kinds: Collection[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Return the records in a file as (kind, row of the journal): of some kinds, or all but the results.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    try:
        with pq.ParquetFile(file, read_dictionary=["kind"]) as stored:
            for group in range(stored.num_row_groups):
                if kinds_in(stored.metadata.row_group(group)) != (RESULT, RESULT):
                    table = stored.read_row_group(group, columns=["kind", "record"], use_threads=False)
                    found += _records_in(table, kinds)
    except pa.ArrowException as exc:
        raise OSError(f"{file}: {exc}") from exc
    return found


def _records_in(table: pa.Table, kinds: Collection[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    kind = plain(table, "kind")
    names = kind.dictionary.to_pylist()
    mask = pa.array([name in kinds if kinds else name != RESULT for name in names], pa.bool_()).take(kind.indices)
    some = table.filter(mask)
    rows: list[dict[str, Any]] = orjson.loads(f"[{','.join(some.column('record').to_pylist())}]")
    return zip(some.column("kind").to_pylist(), rows, strict=True)


def kinds_in(group: Any) -> tuple[str, str] | None:
    """Return the least and the greatest kind in a group of rows; None when the file does not say.

    Raises:
        OSError: it is not of a file of ours.
    """
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema == "kind":
            held = column.statistics
            return (held.min, held.max) if held is not None and held.has_min_max else None
    raise OSError("there is no column `kind`")


def read_columns(file: Path, columns: Sequence[str], wanted: pc.Expression) -> pa.Table:
    """Read some columns of the rows that are wanted.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    try:
        return pq.read_table(file, columns=columns, filters=wanted, partitioning=None, use_threads=False)
    except pa.ArrowException as exc:
        raise OSError(f"{file}: {exc}") from exc


def plain(table: pa.Table, name: str) -> pa.Array:
    """Return a column in one piece."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def received(rtts: pa.ListArray) -> tuple[pa.Array, pa.Array]:
    """Return how many echoes each result sent, and how many came back."""
    sent = pc.fill_null(pc.list_value_length(rtts), 0).cast(pa.int64())
    values = pc.list_flatten(rtts)
    if not values.null_count:
        return sent, sent
    lost = pc.cumulative_sum(pa.concat_arrays([pa.array([0], pa.int64()), values.is_null().cast(pa.int64())]))
    ends = pc.cumulative_sum(sent)
    return sent, pc.subtract(sent, pc.subtract(lost.take(ends), lost.take(pc.subtract(ends, sent))))


@dataclass(frozen=True, slots=True)
class Summary:
    """What a file holds, as its line of the chain should say."""

    rows: int
    results: int
    first: str
    last: str
    clock_steps: Sequence[tuple[str, int]]  # when the clock was moved, and by how many milliseconds


def summary(file: Path) -> Summary:
    """Look through a file.

    Raises:
        OSError: it is not a file of ours.
    """
    times = read_columns(file, ["time"], pc.field("kind") == RESULT)
    rows, steps = 0, []
    for kind, row in read_records(file):
        rows += 1
        if kind == "clock":
            steps.append((_text_of(row["at_ms"]), row["step_ms"]))
    ends = pc.min_max(times.column("time").cast(pa.int64())).as_py()
    first, last = (_text_of(ends[k]) if ends[k] is not None else "" for k in ("min", "max"))
    return Summary(rows + len(times), len(times), first, last, tuple(steps))


def _text_of(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
