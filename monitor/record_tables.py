"""Which tables of the journal are sealed beside the results, and as what kind of record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from monitor.segments import Record


@dataclass(frozen=True, slots=True)
class Table:
    """A table of records that are sealed when they are new, and again for as long as they may still change."""

    name: str
    kind: str
    columns: tuple[str, str, str, str, str]  # subject, time, end, state, detail; "" where there is none
    more: str = ""  # SQL: columns that the table itself has not
    open: str = "0"  # SQL: a record that was sealed before may have changed since

    def record(self, row: Mapping[str, Any]) -> Record:
        """Make a record of a row."""
        subject, time, end, state, detail = (row[name] if name else None for name in self.columns)
        return Record(self.kind, str(subject), int(time or 0), end, state or "", str(detail or ""), row["id"], row)


TABLES: Final = (
    Table(
        "runs",
        "run",
        ("version", "started_ms", "stopped_ms", "state", "config_digest"),
        "CASE WHEN stopped_ms IS NULL THEN '' ELSE 'stopped' END AS state",
        "id >= :low",
    ),
    Table("clock", "clock", ("cause", "at_ms", "", "", "detail"), "step_ms || ' ms' AS detail"),
    Table("changes", "change", ("subject", "at_ms", "", "state", "detail")),
    Table(
        "gaps",
        "gap",
        ("check_name", "start_ms", "end_ms", "state", "cause"),
        "'unknown' AS state",
        "end_ms IS NULL OR end_ms >= :settled",
    ),
    Table(
        "incidents",
        "incident",
        ("subject", "began_ms", "ended_ms", "state", "detail"),
        open="ended_ms IS NULL OR ended_ms >= :settled",
    ),
    Table("traces", "trace", ("check_name", "at_ms", "", "moment", "detail")),
    Table(
        "outbox",
        "alert",
        ("channel", "created_ms", "ended_ms", "state", "last_detail"),
        "coalesce(sent_ms, failed_ms) AS ended_ms, CASE WHEN sent_ms IS NOT NULL THEN 'sent'"
        " WHEN failed_ms IS NOT NULL THEN 'failed' ELSE 'waiting' END AS state",
        "coalesce(sent_ms, failed_ms) IS NULL OR coalesce(sent_ms, failed_ms) >= :settled",
    ),
    Table("announcements", "announcement", ("subject", "at_ms", "to_ms", "state", "reason"), "act AS state"),
    Table("corrections", "correction", ("subject", "at_ms", "to_ms", "state", "reason")),
)
