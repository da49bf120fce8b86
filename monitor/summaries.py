"""Summaries of hours whose raw results may go: what is kept for ever of a day, as one Parquet file.

Three sorts of rows. `hour`: a check by one path in one hour, with its counts, its response times at some ranks and all
of them as a histogram whose steps are 2 % wide. `bin`: the same in five minutes, without the histogram, and what the
round-trip times of its packets were, so that the judge of congestion can go over them again. All other records, small
as they are, are carried over word for word. `monitor.summed` reads them back.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitor import answers, segments
from monitor.asked import Answers, Bins
from monitor.congestion_record import Timed
from monitor.judge.bins import OUTAGE_RUN
from monitor.packets import packets_in
from monitor.segments import METADATA_KEY, plain

FORMAT: Final = 1
HOUR, BIN = "hour", "bin"  # the kinds of rows that are not records
HOUR_MS: Final = 3_600_000
BIN_MS: Final = 300_000  # as wide as the judge's own bins
STEP: Final = math.log(1.02)  # of the histogram: its middles are within 1 % of what they stand for
_BETWEEN: Final = "\x1f"  # a check and its path, as one name
_STAMP: Final = pa.timestamp("ms", tz="UTC")
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
COUNTS: Final = ("good", "bad", "blind", "echoes_sent", "echoes_lost")
RANKS: Final = ("low_us", "p50_us", "p95_us", "p99_us", "high_us")
PACKETS: Final = ("packets_sent", "packets_lost", "packets_silent", "rtt_low_us", "rtt_p50_us", "rtt_p95_us")
SCHEMA: Final = pa.schema(
    [
        ("kind", _TEXT),
        ("subject", _TEXT),
        ("path", _TEXT),
        ("time", _STAMP),
        ("end", _STAMP),
        *((name, pa.uint32()) for name in (*COUNTS, *RANKS)),
        ("faults", _TEXT),
        ("steps", pa.list_(pa.field("element", pa.uint16()))),
        ("step_counts", pa.list_(pa.field("element", pa.uint32()))),
        *((name, pa.uint32()) for name in PACKETS),
        ("state", _TEXT),
        ("detail", _TEXT),
        ("id", pa.int64()),
        ("record", pa.string()),
    ]
)
_DELTA: Final = ("time", "end", "id", *RANKS, *PACKETS[3:], "steps.list.element")
_DICTIONARY: Final = ["kind", "subject", "path", "faults", "state", "detail", *COUNTS, *PACKETS[:3]]
Key = tuple[str, int]  # a check and its path as one name; the start of the hour or of the bin, ms


def step_of(micros: int) -> int:
    """Return in which step of the histogram a time falls."""
    return round(math.log(micros) / STEP) if micros > 1 else 0


def rank(count: int, percent: int) -> int:
    """Return where in order the smallest value stands that so many percent do not exceed (RFC 2330 section 11.3)."""
    return max(1, -(-count * percent // 100)) - 1


@dataclass(slots=True)
class _Sum:
    counts: list[int] = field(default_factory=lambda: [0] * len(COUNTS))
    micros: array[int] = field(default_factory=lambda: array("I"))

    def add(self, said: Answers) -> None:
        some = (said.good, said.bad, said.blind, said.echoes_sent, said.echoes_lost)
        self.counts = [a + b for a, b in zip(self.counts, some, strict=True)]
        self.micros.frombytes(said.micros.cast("B"))

    def row(self) -> dict[str, Any]:
        times = sorted(self.micros)
        ranks = [times[rank(len(times), p)] for p in (0, 50, 95, 99, 100)] if times else [None] * len(RANKS)
        return {**dict(zip(COUNTS, self.counts, strict=True)), **dict(zip(RANKS, ranks, strict=True))}


@dataclass(frozen=True, slots=True)
class Source:
    """A segment that is summed up."""

    file: Path
    number: int
    sha256: str


def write(part: Path, sources: Sequence[Source], about: Mapping[str, Any]) -> int:
    """Sum up some segments into one file and return its rows. The same segments give the same bytes.

    Args:
        part: where; written over.
        sources: the segments, oldest first, all of one journal.
        about: what the file says of itself beside its sources.

    Raises:
        OSError: one of them cannot be read, or there is no room.
    """
    said = {**about, "format": FORMAT, "of": [[s.number, s.sha256] for s in sources]}
    rows = 0
    with pq.ParquetWriter(
        part,
        SCHEMA,
        compression="zstd",
        compression_level=segments.THOROUGH_LEVEL,
        use_dictionary=_DICTIONARY,
        column_encoding=dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
        version="2.6",
        data_page_version="2.0",
        store_schema=False,
    ) as writer:
        writer.add_key_value_metadata({METADATA_KEY: orjson.dumps(said, option=orjson.OPT_SORT_KEYS)})
        hours: list[dict[str, Any]] = []
        bins: list[dict[str, Any]] = []
        for source in sources:
            for table in answers.results_in(source.file, [*answers.COLUMNS, "path"]):
                some = list(_rows(table))
                hours += (r for r in some if r["kind"] == HOUR)
                bins += (r for r in some if r["kind"] == BIN)
        for found in (_ordered(hours), _ordered(bins), _records(sources)):
            if found:
                writer.write_table(pa.Table.from_pylist(found, schema=SCHEMA))
                rows += len(found)
    return rows


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda r: (r["subject"], r["path"], r["time"]))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Sum up a group of results. A check whose results lie in two groups gets rows of each: readers add them up."""
    table = _by_way(table)
    ends = pc.min_max(plain(table, "time").cast(pa.int64())).as_py()
    first = ends["min"] - ends["min"] % HOUR_MS
    bins: dict[Key, _Sum] = {}
    hours: dict[Key, _Sum] = {}
    for said in answers.in_bins(table, Bins(first, ends["max"] + 1, BIN_MS)):
        start = first + said.bin * BIN_MS
        bins.setdefault((said.subject, start), _Sum()).add(said)
        hours.setdefault((said.subject, start - start % HOUR_MS), _Sum()).add(said)
    faults = _faults(table)
    for key, found in hours.items():
        steps = sorted(Counter(map(step_of, found.micros)).items())
        more = {
            "faults": orjson.dumps(faults.get(key, {})).decode(),
            "steps": [s for s, _ in steps],
            "step_counts": [n for _, n in steps],
        }
        yield _row(HOUR, key, HOUR_MS, found.row() | more)
    packets = _packets(table)
    for key, found in bins.items():
        row = found.row() | {"p99_us": None} | packets.pop(key, {})
        if rank(row["good"], 95) >= row["good"] - 1:
            row["p95_us"] = None  # it is the greatest: a third of the file's size saved
        yield _row(BIN, key, BIN_MS, row)
    for key, more in packets.items():  # a round that began before a border and sent packets after it
        yield _row(BIN, key, BIN_MS, dict.fromkeys(COUNTS, 0) | more)


def _row(kind: str, key: Key, length: int, more: Mapping[str, Any]) -> dict[str, Any]:
    check, _, path = key[0].partition(_BETWEEN)
    return {"kind": kind, "subject": check, "path": path, "time": key[1], "end": key[1] + length, **more}


def _by_way(table: pa.Table) -> pa.Table:
    """Make one name of each check and the path it left by."""
    subject, path = plain(table, "subject"), plain(table, "path")
    paths = path.dictionary.to_pylist()
    names = [f"{s}{_BETWEEN}{p}" for s in subject.dictionary.to_pylist() for p in paths]
    codes = pc.add(pc.multiply(subject.indices, len(paths)), path.indices)
    way = pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))
    return table.set_column(table.schema.get_field_index("subject"), "subject", way)


def _faults(table: pa.Table) -> dict[Key, dict[str, int]]:
    """Count the faults by check and hour."""
    fault, way = plain(table, "fault"), plain(table, "subject")
    times = plain(table, "time").cast(pa.int64())
    hours = pc.multiply(pc.divide(times, HOUR_MS), HOUR_MS)
    plain_table = pa.table({"way": way.indices, "hour": hours, "fault": fault.indices})
    bad = plain_table.filter(pc.not_equal(fault.dictionary, "").take(fault.indices))
    counted = bad.group_by(["way", "hour", "fault"]).aggregate([([], "count_all")]).to_pylist()
    names, words = way.dictionary.to_pylist(), fault.dictionary.to_pylist()
    found: dict[Key, dict[str, int]] = {}
    for row in sorted(counted, key=lambda r: (r["way"], r["hour"], words[r["fault"]])):
        found.setdefault((names[row["way"]], row["hour"]), {})[words[row["fault"]]] = row["count_all"]
    return found


def _packets(table: pa.Table) -> dict[Key, dict[str, Any]]:
    by_way = packets_in(table).items()
    return {(way, start): row for way, timed in by_way for start, row in packet_bins(timed).items()}


def packet_bins(timed: Timed) -> dict[int, dict[str, Any]]:
    """Say of each bin what its packets that time the network were, as the judge of congestion counts them.

    Returns:
        What a row of the bin has of them, by the bin's start in milliseconds.
    """
    found: dict[int, dict[str, Any]] = {}
    rtts = timed.rtt_s
    silent = _silent(rtts)
    start, width = 0, BIN_MS / 1000
    while start < len(rtts):
        begins = math.floor(timed.at[start] / width)
        end = bisect_left(timed.at, (begins + 1) * width, start)
        came = sorted(r for r in rtts[start:end] if r < math.inf)
        mute = sum(silent[start:end]) if silent else 0
        found[begins * BIN_MS] = _of_packets(end - start, mute, came)
        start = end
    return found


def _of_packets(sent: int, silent: int, came: Sequence[float]) -> dict[str, Any]:
    # The ranks are those of `monitor.judge.bins`.
    places = (0, len(came) // 2, math.ceil(0.95 * len(came)) - 1)
    times = [round(came[p] * 1e6) for p in places] if came else [None] * len(places)
    return dict(zip(PACKETS, [sent, sent - len(came) - silent, silent, *times], strict=True))


def _silent(rtts: Sequence[float]) -> bytearray:
    """Mark the packets that were lost in long runs: outages, not the loss of a queue; nothing where none was lost."""
    if len(rtts) == 0 or max(rtts) < math.inf:
        return bytearray()
    marks, begun = bytearray(len(rtts)), 0
    for place, rtt in enumerate([*rtts, 0.0]):
        if rtt < math.inf:
            if place - begun > OUTAGE_RUN:
                marks[begun:place] = b"\x01" * (place - begun)
            begun = place + 1
    return marks


def _records(sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Carry over every other record: of those that were sealed more than once, the newest."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    names = ["kind", "subject", "time", "end", "state", "detail", "id", "record"]
    for source in sources:
        table = segments.read_columns(source.file, names, pc.field("kind") != segments.RESULT)
        for row in table.to_pylist():
            # The ledger of slots has no numbers: each of its rows counts by itself.
            ledger = f"{source.number} {row['record']}" if row["kind"] == "slots" else ""
            which = (row["kind"], row["id"], ledger)
            found.pop(which, None)
            found[which] = row
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Told:
    """What a file says of itself."""

    rows: int
    of: Sequence[Sequence[Any]]  # numbers and hashes of the segments that it sums up


def look(file: Path) -> Told:
    """Look into a file.

    Raises:
        OSError: it is not a file of ours.
    """
    try:
        held = pq.read_metadata(file)
    except pa.ArrowException as exc:
        raise OSError(f"{file}: {exc}") from exc
    said = orjson.loads((held.metadata or {}).get(METADATA_KEY, b"{}"))
    return Told(held.num_rows, said.get("of", []))
