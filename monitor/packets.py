"""The packets in a file of the evidence that time the network: echoes and handshakes, check by check.

`monitor.queues.packets` says which they are; this says the same of whole files at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from monitor.congestion_record import Timed
from monitor.segments import RESULT, plain, read_columns, received

_STAMP: Final = pa.timestamp("ms", tz="UTC")
_COLUMNS: Final = ["subject", "time", "fault", "duration_us", "connect_us", "rtts_us"]
_LOST: Final = float("inf")


def read_packets(file: Path, checks: Sequence[str], start_ms: int, end_ms: int) -> Mapping[str, Timed]:
    """Return the packets of some checks whose results started within [start, end), by check, in order of time.

    Raises:
        OSError: the file is not there, or is not a file of ours.
    """
    bounds = [pa.scalar(moment, pa.int64()).cast(_STAMP) for moment in (start_ms, end_ms)]
    wanted = (pc.field("kind") == RESULT) & pc.field("subject").isin(checks)
    wanted &= (pc.field("time") >= bounds[0]) & (pc.field("time") < bounds[1])
    wanted &= ~pc.field("fault").isin(["local", "internal"])
    table = read_columns(file, _COLUMNS, wanted)
    if not len(table):
        return {}
    names = plain(table, "subject").dictionary_encode()
    table = table.set_column(0, "subject", names.indices)
    echoes = plain(table, "rtts_us")
    several = pc.greater(pc.fill_null(pc.list_value_length(echoes), 0), 0)
    answered = pc.and_(several, pc.greater(received(echoes), 0))
    opened = pc.and_(pc.equal(plain(table, "fault").cast(pa.string()), ""), pc.is_valid(table.column("connect_us")))
    found = pa.concat_tables(
        [_echoes(table.filter(answered)), _handshakes(table.filter(pc.and_not(opened, several)))]
    ).combine_chunks()
    found = found.sort_by([("subject", "ascending"), ("at", "ascending")])
    return _by_check(found, names.dictionary.to_pylist())


def _echoes(table: pa.Table) -> pa.Table:
    """Give every echo a row: sent one after another over the time that the probe took."""
    lists = plain(table, "rtts_us")
    lengths = pc.list_value_length(lists).cast(pa.int64())
    rows = pc.list_parent_indices(lists)
    values = pc.list_flatten(lists)
    ones = pa.repeat(pa.scalar(1, pa.int64()), len(values))
    before = pc.subtract(pc.cumulative_sum(lengths), lengths)
    number = pc.subtract(pc.subtract(pc.cumulative_sum(ones), 1), before.take(rows))
    step_s = pc.divide(pc.divide(plain(table, "duration_us").cast(pa.float64()), 1e6), lengths.cast(pa.float64()))
    at = pc.add(_seconds(table).take(rows), pc.multiply(number.cast(pa.float64()), step_s.take(rows)))
    rtts = pc.fill_null(pc.divide(values.cast(pa.float64()), 1e6), _LOST)
    return pa.table({"subject": plain(table, "subject").take(rows), "at": at, "rtt_s": rtts})


def _handshakes(table: pa.Table) -> pa.Table:
    rtts = pc.divide(plain(table, "connect_us").cast(pa.float64()), 1e6)
    return pa.table({"subject": plain(table, "subject"), "at": _seconds(table), "rtt_s": rtts})


def _seconds(table: pa.Table) -> pa.Array:
    return pc.divide(plain(table, "time").cast(pa.int64()).cast(pa.float64()), 1000.0)


def _by_check(found: pa.Table, names: Sequence[str]) -> Mapping[str, Timed]:
    at, rtt_s = (_floats(plain(found, name)) for name in ("at", "rtt_s"))
    sizes = pc.value_counts(plain(found, "subject")).to_pylist()  # in the order in which they come: sorted
    by_check, start = {}, 0
    for entry in sizes:
        end = start + entry["counts"]
        by_check[names[entry["values"]]] = Timed(at[start:end], rtt_s[start:end])
        start = end
    return by_check


def _floats(column: pa.Array) -> memoryview[float]:
    data = memoryview(column.buffers()[1]).cast("B")[8 * column.offset : 8 * (column.offset + len(column))]
    return data.cast("d")
