"""How long raw results stay, which go first when there is no room, and how long the room will last.

Raw results go whole hours at a time, never before a summary of them is signed; summaries and records stay for ever.
Pure but for the sizes of files; `monitor.evidence` does what is decided here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final

from monitor.chain import Link, evidence_folder, read_chain, stand_ins, standing
from monitor.journal import FILE_NAME
from monitor.order import Order
from monitor.rows import to_ms

LEAST_FREE: Final = 0.05  # of the disk; below it a warning, as from this share of the budget on:
EARLY: Final = 0.8
SOON_DAYS: Final = 14.0  # room that ends sooner at the present rate is worth a warning
LEAST_KEPT: Final = 24  # newest segments that only age deletes
AGE, SPACE = "age", "space"  # why raw results go
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
RATE_MS: Final = 7 * DAY_MS  # how far back the present rate is taken from
ORDINARY, EVENT, PEAK = range(3)  # whose raw results go first


@dataclass(frozen=True, slots=True)
class Held:
    """What is taken of the disk, bytes."""

    journal: int
    evidence: int
    free: int
    disk: int

    @classmethod
    def of(cls, state_dir: Path, folder: Path, links: Sequence[Link]) -> Held:
        """Look at the files."""
        kept = sum(link.fields["bytes"] for link in [*standing(links), *stand_ins(links)])
        usage = shutil.disk_usage(folder if folder.exists() else state_dir)
        return cls(journal_bytes(state_dir), kept, usage.free, usage.total)


@dataclass(frozen=True, slots=True)
class Room:
    """How the disk stands."""

    bytes: int  # of journal and evidence
    budget: int  # what they may take: the configured budget, or all of the disk that is theirs or free
    days_left: float | None  # until raw results have to go for want of room; None: not known yet
    warning: str  # in words, "" while there is room


def due(order: Order, links: Sequence[Link], held: Held, *, only_for_room: bool) -> Iterator[tuple[str, list[Link]]]:
    """Give the segments that shall go, a day's of one journal at a time, with the reason.

    What is too old goes when its whole day is. For want of room the oldest ordinary days go first, then the oldest
    days of events, then the peaks of events; always what there is of a day, so that a day has few summaries.
    """
    have = standing(links)
    old = [] if only_for_room else [s for s in have if _day(s) + DAY_MS <= order.keep_from_ms]
    yield from ((AGE, some) for some in _by_day(old))
    over = 0 if only_for_room or not order.budget_bytes else held.journal + held.evidence - order.budget_bytes
    over -= sum(s.fields["bytes"] for s in old)
    if held.free < order.reserve_bytes:
        over = max(over, 2 * order.reserve_bytes - held.free)
    gone = {s.number for s in old}
    left = [s for s in have[:-LEAST_KEPT] if s.number not in gone]
    for rank in (ORDINARY, EVENT, PEAK):
        for some in _by_day([s for s in left if _rank(order, s) == rank]):
            if over <= 0:
                return
            over -= sum(s.fields["bytes"] for s in some)
            yield SPACE, some


def _by_day(some: Sequence[Link]) -> Iterator[list[Link]]:
    for _, links in groupby(some, key=lambda s: (_day(s), s.fields["journal"])):
        yield list(links)


def _hour(segment: Link) -> int:
    return to_ms(datetime.fromisoformat(segment.fields["hour"]))


def _day(segment: Link) -> int:
    hour = _hour(segment)
    return hour - hour % DAY_MS


def _rank(order: Order, segment: Link) -> int:
    hour = _hour(segment)
    if any(start < hour + HOUR_MS and end > hour for start, end in order.peaks):
        return PEAK
    return EVENT if any(start < hour + HOUR_MS and end > hour for start, end in order.events) else ORDINARY


def room(order: Order) -> Room:
    """Say how much is taken, how long the rest will last, and whether that is worth a warning.

    Raises:
        ChainError: the chain cannot be read.
        OSError: the disk cannot be asked.
    """
    state_dir = Path(order.state_dir)
    folder = evidence_folder(state_dir, order.site)
    links = read_chain(folder)
    held = Held.of(state_dir, folder, links)
    taken = held.journal + held.evidence
    free = max(held.free - order.reserve_bytes, 0)
    budget = min(order.budget_bytes, taken + free) if order.budget_bytes else taken + free
    rate = _bytes_a_day(links, order.now_ms)
    days = max(budget - taken, 0) / rate if rate else None
    return Room(taken, budget, days, _warning(order, held, taken, days))


def _warning(order: Order, held: Held, taken: int, days: float | None) -> str:
    if held.free < max(LEAST_FREE * held.disk, 4 * order.reserve_bytes):
        said = f"the disk fills: {held.free >> 20} MB of {held.disk >> 20} MB are free"
    elif order.budget_bytes and taken >= EARLY * order.budget_bytes:
        said = f"journal and evidence take {taken / 1e6:.0f} MB of the {order.budget_bytes / 1e6:.0f} MB they may"
    elif days is not None and days < SOON_DAYS:
        said = f"the disk will fill: {held.free >> 20} MB are free"
    else:
        return ""
    return f"{said}; at the present rate there is room for {days:.0f} days" if days is not None else said


def _bytes_a_day(links: Sequence[Link], now_ms: int) -> float:
    """How fast raw results grow, by the segments of the last days; 0 while there is less than an hour of them."""
    recent = [s for s in links if s.is_segment and s.fields["until_ms"] > now_ms - RATE_MS]
    if not recent:
        return 0.0
    span = max(recent[-1].fields["until_ms"] - _hour(recent[0]), HOUR_MS)
    return float(sum(s.fields["bytes"] for s in recent) * DAY_MS / span)


def journal_bytes(state_dir: Path) -> int:
    """What the journal takes of the disk."""
    files = [state_dir / f"{FILE_NAME}{end}" for end in ("", "-wal")]
    return sum(f.stat().st_size for f in files if f.exists())
