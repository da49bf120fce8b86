"""Between the types that travel and the columns of the journal's tables. Pure; knows no file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from monitor.model import Cause, Change, Incident, State
from probes.base import Reading

_CAUSE: Final = TypeAdapter(Cause)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What follows from the echoes themselves, which are kept.
_FROM_ECHOES: Final = frozenset({"rtt_min_s", "rtt_median_s", "rtt_mean_s", "rtt_max_s", "jitter_s", "loss_ratio"})


def to_ms(moment: datetime) -> int:
    """Turn an aware datetime into milliseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Turn milliseconds since 1970 UTC into an aware datetime."""
    return _EPOCH + timedelta(milliseconds=ms)


def pack_body(reading: Reading) -> bytes:
    """Encode what a reading holds beyond its own columns; times in whole microseconds, empty parts left out."""
    body: dict[str, Any] = {}
    if reading.detail:
        body["d"] = reading.detail
    if reading.phases:
        body["p"] = {k: round(v * 1e6) for k, v in reading.phases.items()}
    if reading.rtts_s:
        body["r"] = [None if r is None else round(r * 1e6) for r in reading.rtts_s]
    if reading.late_s:
        body["l"] = round(reading.late_s * 1e6)
    left_out = _FROM_ECHOES if reading.rtts_s else frozenset()
    if values := {k: _short(k, v) for k, v in reading.values.items() if k not in left_out}:
        body["v"] = values
    if reading.facts:
        body["f"] = dict(reading.facts)
    return orjson.dumps(body)


def _short(name: str, value: float) -> float:
    """Round seconds to whole microseconds: more digits are noise, and cost bytes in every result."""
    return round(value, 6) if name.endswith("_s") else value


CHANGE_COLUMNS: Final = "site, subject, state, at_ms, confirmed_ms, earliest_ms, fault, detail, flapping"


def change_row(c: Change) -> tuple[object, ...]:
    """Return the columns of a Change in the table's order, without the id."""
    times = (to_ms(c.at), to_ms(c.confirmed_at), to_ms(c.earliest))
    return (c.site, c.subject, c.state, *times, c.fault, c.detail, int(c.flapping))


def change_from_row(row: Sequence[Any]) -> Change:
    """Build a Change from its columns in the table's order, without the id."""
    site, subject, state, at, confirmed, earliest, fault, detail, flapping = row
    return Change(
        site, subject, State(state), from_ms(at), from_ms(confirmed), from_ms(earliest), fault, detail, bool(flapping)
    )


def incident_row(i: Incident) -> tuple[object, ...]:
    """Return the columns of an Incident in the table's order."""
    ended = to_ms(i.ended_at) if i.ended_at else None
    times = (to_ms(i.began_at), to_ms(i.confirmed_at), ended)
    cause = _CAUSE.dump_json(i.cause, exclude_defaults=True).decode() if i.cause else ""
    return (i.id, i.site, i.subject, i.state, *times, i.parent, int(i.told), i.detail, cause)


def incident_from_row(row: Sequence[Any]) -> Incident:
    """Build an Incident from its columns in the table's order."""
    ident, site, subject, state, began, confirmed, ended, parent, told, detail, cause = row
    return Incident(
        ident,
        site,
        subject,
        State(state),
        from_ms(began),
        from_ms(confirmed),
        from_ms(ended) if ended is not None else None,
        parent,
        bool(told),
        detail,
        _CAUSE.validate_json(cause) if cause else None,
    )
