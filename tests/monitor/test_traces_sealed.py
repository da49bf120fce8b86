"""Traces of incidents come back from the evidence alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from monitor import traced
from monitor.history import open_history
from monitor.journal import FILE_NAME
from monitor.traced import Moment, RouteTrace
from tests.monitor.builders import SITE, at, span
from tests.monitor.sealing import HOUR, hours_of, seal_hours, write

CUT = RouteTrace(
    SITE,
    1,
    Moment.OPENED,
    at(31),
    "carrier.ping",
    "203.162.4.191",
    "vnpt",
    reached=False,
    route=("192.0.2.1", "*", "198.51.100.7"),
    times_ms=(0.4, None, 12.25),
    detail="no answer from 203.162.4.191 within 30 hops",
    before=("192.0.2.1", "192.0.2.9", "198.51.100.7", "203.162.4.191"),
    before_at=at(-60),
)
WHOLE = replace(
    CUT, moment=Moment.RECOVERED, at=at(HOUR + 600), reached=True, route=CUT.before, times_ms=(0.4, 1.0, 12.0, 13.0)
)


def keep(state_dir: Path, *found: RouteTrace) -> None:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as db:
        for trace in found:
            traced.write(db, trace)
        db.commit()


def told(state_dir: Path, start: float, end: float) -> Sequence[RouteTrace]:
    with open_history(state_dir, SITE) as history:
        return history.traces(span(start, end))


def test_a_trace_is_the_same_before_and_after_its_hour_is_sealed_and_from_the_evidence_alone(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2), ended=2 * HOUR)
    keep(tmp_path, CUT, WHOLE)
    assert told(tmp_path, 0, 2 * HOUR) == [CUT, WHOLE]
    seal_hours(tmp_path, HOUR)
    assert told(tmp_path, 0, 2 * HOUR) == [CUT, WHOLE]
    seal_hours(tmp_path, 2 * HOUR)
    assert told(tmp_path, 0, 2 * HOUR) == [CUT, WHOLE]
    for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
        (tmp_path / name).unlink(missing_ok=True)

    assert told(tmp_path, 0, 2 * HOUR) == [CUT, WHOLE]
    assert told(tmp_path, 0, HOUR) == [CUT]
    assert told(tmp_path, HOUR, 2 * HOUR) == [WHOLE]
