"""What a line of the chain must have for `thongsuot verify` to go by it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from monitor.chain import ChainError, Link

_FIELDS: Final[Mapping[str, Mapping[str, type]]] = {
    "segment": {
        "site": str, "file": str, "sha256": str, "rows": int, "results": int, "late": int, "first": str, "last": str,
        "hour": str, "sealed": str, "simulated": bool, "until_ms": int, "journal": str, "previous": str, "key": str,
    },
    "summary": {
        "site": str, "file": str, "sha256": str, "rows": int, "first": str, "last": str, "sealed": str,
        "simulated": bool, "journal": str, "of": list, "previous": str, "key": str,
    },
    "deleted": {"site": str, "segments": list, "sealed": str, "previous": str, "key": str},
}  # fmt: skip


def whole(link: Link) -> Link:
    """Refuse a line without one of the members that everything else relies on.

    Raises:
        ChainError: it lacks one, or has it in another shape.
    """
    for name, kind in _FIELDS[link.fields["kind"]].items():
        if not isinstance(link.fields.get(name), kind):
            raise ChainError(f"no {name} in it")
    for name in ("first", "last", "hour", "sealed"):
        if name in link.fields:
            when(link.fields[name])
    file = Path(str(link.fields.get("file", "x")))
    if file.is_absolute() or ".." in file.parts:
        raise ChainError(f"{file} leads out of the folder")
    for entry in link.fields.get("segments", ()):
        if not (isinstance(entry, dict) and isinstance(entry.get("number"), int) and "sha256" in entry):
            raise ChainError("a deleted segment without number and sha256")
    for entry in link.fields.get("of", ()):
        if not (isinstance(entry, list) and [type(e) for e in entry] == [int, str]):
            raise ChainError("a summed segment without number and sha256")
    return link


def reached(link: Link) -> dict[str, int]:
    """Return through which rows of each table a segment goes; nothing of what is no number."""
    through = link.fields["through"]
    return {k: v for k, v in through.items() if isinstance(v, int)} if isinstance(through, dict) else {}


def when(text: str) -> datetime:
    """Read a time.

    Raises:
        ChainError: it is none, or without a zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ChainError(f"{text!r} is no time") from exc
    if moment.tzinfo is None:
        raise ChainError(f"{text!r} is a time without a zone")
    return moment
