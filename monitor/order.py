"""What the daemon asks of the process that seals: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RESERVE_BYTES: Final = 64 << 20  # left on the disk for the journal: probing goes before sealing


@dataclass(frozen=True, slots=True)
class Order:
    """What the daemon asks for. Times in milliseconds since 1970 UTC."""

    state_dir: str
    site: str
    now_ms: int
    closed_ms: int  # hours that end by then are closed: no result of them can still come
    keep_from_ms: int = 0  # segments that end before are deleted
    budget_bytes: int = 0  # of evidence and journal together; 0 is none
    reserve_bytes: int = RESERVE_BYTES
    simulated: bool = False
    key_file: str = ""
    most: int = 1000  # segments made at one go
    events: Sequence[Sequence[int]] = ()  # spans, ms, whose raw results go after those of ordinary days
    peaks: Sequence[Sequence[int]] = ()  # of them, whose raw results go last
