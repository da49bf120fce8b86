"""The packets in a file of the evidence that time the network: echoes and handshakes, check by check.

`monitor.queues.packets` says which they are; this says the same of whole files at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from monitor.congestion_record import Timed
from monitor.segments import plain, received

_BLIND: Final = pa.array(["local", "internal"])
_LOST: Final = float("inf")


def packets_in(table: pa.Table) -> Mapping[str, Timed]:
    """Return the packets of results, by check, in order of time.

    Args:
        table: results, with the columns `subject` and `fault` (as dictionaries), `time`, `duration_us`, `connect_us`
            and `rtts_us`.
    """
    names, faults = plain(table, "subject"), plain(table, "fault")
    blind = pc.is_in(faults.dictionary, _BLIND).take(faults.indices)
    echoes = plain(table, "rtts_us")
    sent, came = received(echoes)
    several = pc.greater(sent, 0)
    answered = pc.and_not(pc.greater(came, 0), blind)
    opened = pc.and_(pc.equal(faults.dictionary, "").take(faults.indices), pc.is_valid(plain(table, "connect_us")))
    table = table.set_column(table.schema.get_field_index("subject"), "subject", names.indices)
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
