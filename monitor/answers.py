"""The results in a file of the evidence, read once for everything that is asked of them.

A group of rows at a time, so that memory is bounded by the group, not by the file; as columns all the way, so that the
interpreter sees a few numbers a check and not every row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitor.asked import Answers, Asked, Bins, Said
from monitor.packets import packets_in
from monitor.segments import RESULT, kinds_in, plain, received

COLUMNS: Final = ["subject", "time", "fault", "duration_us", "connect_us", "rtts_us"]
_BLIND: Final = ("local", "internal")  # faults of our own: they say nothing of the target
_LOST: Final = pa.scalar(2**32 - 1, pa.uint32())  # no time in microseconds is longer
_BIN_BITS: Final = 32


def read(file: Path, asked: Asked) -> Said:
    """Read a file once and answer everything.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    said = Said([[] for _ in asked.bins], {})
    rows: list[pa.Table] = []
    for table in results_in(file):
        for found, wanted in zip(said.bins, asked.bins, strict=True):
            if wanted.end_ms:
                found += in_bins(table, wanted)
        if asked.hours:
            rows.append(_of_checks(table, asked.judged))
    if rows:
        table = pa.concat_tables(rows).unify_dictionaries().combine_chunks()
        for number, (start, end) in asked.hours.items():
            part = _between(table, start, end)
            said.packets[number] = packets_in(part) if len(part) else {}
    return said


def read_answers(file: Path, start_ms: int, end_ms: int, step_ms: int) -> list[Answers]:
    """Sum up the results of a file that started within [start, end), by check and bin; bins begin at `start`.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    return read(file, Asked([Bins(start_ms, end_ms, step_ms)])).bins[0]


def results_in(file: Path, columns: Sequence[str] = COLUMNS) -> Iterator[pa.Table]:
    """Give the results in a file, by groups of rows.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    try:
        with pq.ParquetFile(file, read_dictionary=["kind", "subject", "path", "fault"]) as stored:
            for group in range(stored.num_row_groups):
                kinds = kinds_in(stored.metadata.row_group(group))
                if kinds == (RESULT, RESULT):
                    yield stored.read_row_group(group, columns=columns, use_threads=False)
                elif kinds is None or kinds[0] <= RESULT <= kinds[1]:
                    kind = stored.read_row_group(group, columns=["kind"], use_threads=False).column("kind")
                    wanted = pc.equal(kind.cast(pa.string()), RESULT)
                    if pc.any(wanted, min_count=0).as_py():
                        yield stored.read_row_group(group, columns=columns, use_threads=False).filter(wanted)
    except pa.ArrowException as exc:
        raise OSError(f"{file}: {exc}") from exc


def _of_checks(table: pa.Table, checks: Collection[str]) -> pa.Table:
    subject = plain(table, "subject")
    wanted = pc.is_in(subject.dictionary, pa.array(sorted(checks), pa.string()))
    return table.filter(wanted.take(subject.indices))


def _between(table: pa.Table, start_ms: int, end_ms: int) -> pa.Table:
    times = plain(table, "time").cast(pa.int64())
    ends = pc.min_max(times).as_py()
    if not len(table) or (ends["min"] >= start_ms and ends["max"] < end_ms):
        return table
    return table.filter(pc.and_(pc.greater_equal(times, start_ms), pc.less(times, end_ms)))


def in_bins(table: pa.Table, wanted: Bins) -> list[Answers]:
    """Sum up some results, sorted by check and time, by check and bin."""
    if wanted.checks is not None:
        table = _of_checks(table, wanted.checks)
    table = _between(table, wanted.start_ms, wanted.end_ms)
    if not len(table):
        return []
    subject = plain(table, "subject")
    names = subject.dictionary.to_pylist()
    key, number = _keys(subject.indices, plain(table, "time").cast(pa.int64()), wanted)
    if not pc.all(pc.greater_equal(key[1:], key[:-1]), min_count=0).as_py():
        order = pc.array_sort_indices(key)  # a check that left by two paths
        table, key = table.take(order), key.take(order)
    return _sum_up(table, key, names, number)


def _keys(subjects: pa.Array, times: pa.Array, wanted: Bins) -> tuple[pa.Array, int | None]:
    """Number checks and bins together; all of one bin, as of an hour's file most are, by the check and that bin."""
    ends = pc.min_max(times).as_py()
    first, last = ((ends[end] - wanted.start_ms) // wanted.step_ms for end in ("min", "max"))
    if first == last:
        return subjects, first
    bins = pc.divide(pc.subtract(times, wanted.start_ms), wanted.step_ms)
    return pc.add(pc.multiply(subjects.cast(pa.int64()), 1 << _BIN_BITS), bins), None


def _sum_up(table: pa.Table, key: pa.Array, names: Sequence[str], number: int | None) -> list[Answers]:
    """Count by key, whose equal values stand together, and cut the response times at the same places.

    Args:
        table: results.
        key: of each; as `_keys` makes them.
        names: of the checks, by their numbers in the keys.
        number: of the bin that all are in; None: the keys hold it.
    """
    fault, rtts = plain(table, "fault"), plain(table, "rtts_us")
    blind = pc.is_in(fault.dictionary, pa.array(_BLIND)).take(fault.indices)
    good = pc.equal(fault.dictionary, "").take(fault.indices)
    sent, came = received(rtts)
    micros = _response(rtts, sent, came, plain(table, "duration_us")).filter(good)
    runs = pc.run_end_encode(key, run_end_type=pa.int64())
    last = pc.subtract(runs.run_ends, 1)
    if pc.any(blind, min_count=0).as_py():
        seen = pc.invert(blind).cast(pa.int64())
        sent, came = pc.multiply(sent, seen), pc.multiply(came, seen)
    sums = [
        pc.cumulative_sum(column).take(last).to_pylist()
        for column in (good.cast(pa.int64()), blind.cast(pa.int64()), sent, came)
    ]
    times = memoryview(micros.buffers()[1]).cast("B")[4 * micros.offset : 4 * (micros.offset + len(micros))].cast("I")
    keys = runs.values.to_pylist()
    names_of = (divmod(k, 1 << _BIN_BITS) for k in keys) if number is None else ((k, number) for k in keys)
    found, done = [], 0
    for (code, place), rows, goods, blinds, sents, cames in zip(
        names_of, *map(_parts, [runs.run_ends.to_pylist(), *sums]), strict=True
    ):
        some = times[done : done + goods]
        done += goods
        found.append(Answers(names[code], place, goods, rows - goods - blinds, blinds, sents, sents - cames, some))
    return found


def _parts(sums: Sequence[int]) -> list[int]:
    """Return what each running sum adds to the one before."""
    return [after - before for before, after in pairwise([0, *sums])]


def _response(rtts: pa.ListArray, sent: pa.Array, came: pa.Array, duration: pa.Array) -> pa.Array:
    """The lower median of the echoes that came back, or the whole duration where there were none."""
    response = duration
    for length in pc.unique(sent).to_pylist():
        mask = pc.and_(pc.equal(sent, length), pc.greater(came, 0))
        if length == 0:
            continue
        some, back = rtts.filter(mask), came.filter(mask)
        ranked = _ranked(_across(pc.fill_null(pc.list_flatten(some), _LOST), length), (length + 1) // 2)
        middle = pc.divide(pc.subtract(back, 1), 2)
        response = pc.replace_with_mask(response, mask, pc.choose(middle, *ranked))
    return response


def _across(values: pa.Array, length: int) -> list[pa.Array]:
    """Return the first of each so many values, the second, and so on; none of them is null."""
    held = memoryview(values.buffers()[1]).cast("B")[4 * values.offset : 4 * (values.offset + len(values))].cast("I")
    count = len(held) // length
    return [
        pa.Array.from_buffers(pa.uint32(), count, [None, pa.py_buffer(held[place::length].tobytes())])
        for place in range(length)
    ]


def _ranked(columns: list[pa.Array], count: int) -> list[pa.Array]:
    """Sort columns across, by comparisons of whole ones, and return the first so many: the lost echoes sink."""
    rest, found = columns, []
    for _ in range(count):
        least, greater = rest[0], []
        for column in rest[1:]:
            greater.append(pc.max_element_wise(least, column))
            least = pc.min_element_wise(least, column)
        found.append(least)
        rest = greater
    return found
