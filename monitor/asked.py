"""What is asked of a file of the evidence, and what it says: plain data, without the library that reads the files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.congestion_record import Timed


@dataclass(slots=True)
class Answers:
    """What the results of one check in one bin said."""

    subject: str
    bin: int
    good: int
    bad: int
    blind: int
    echoes_sent: int
    echoes_lost: int
    micros: memoryview  # response times of the good ones, microseconds, of 32 bits each


@dataclass(frozen=True, slots=True)
class Bins:
    """Answers asked for in bins from a moment on."""

    start_ms: int
    end_ms: int
    step_ms: int
    checks: Collection[str] | None = None  # None: of all


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a file."""

    bins: Sequence[Bins] = ()
    hours: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # whose packets: start and end by number
    judged: Sequence[str] = ()  # of which checks


@dataclass(slots=True)
class Said:
    """What a file says."""

    bins: list[list[Answers]]  # for each of the bins asked for
    packets: dict[int, Mapping[str, Timed]]  # by hour, by check
