"""What a report needs to know before it may speak of congestion; made by whoever judges, empty when nobody did.

"No congestion" is only a claim above a stated detection limit, about the time and the paths that were observed. The
words a report may use follow from what stands here (`verdict`), and from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.plan import Window
from monitor.availability import NOT_ENOUGH


@dataclass(frozen=True, slots=True)
class DetectionLimit:
    """The smallest queue that the method finds with certainty, as measured."""

    queue_ms: float
    minutes: float


@dataclass(frozen=True, slots=True)
class CongestionEpisode:
    """A raised delay or loss that was confirmed."""

    start: datetime
    end: datetime
    cause: str  # "congestion" | "near-side" | "route-change"
    peak_ms: float  # largest standing queue
    floor_ms: float
    sent: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class QueuePoint:
    """The queueing delay of one bin: the fastest answer above the floor."""

    start: datetime
    queue_ms: float


@dataclass(frozen=True, slots=True)
class PathCongestion:
    """What was found on the path of one check. A bin is usable when it had answers enough to be judged."""

    check: str  # Target.id
    expected: int  # bins that the period has
    usable: Sequence[Window]  # spans judged, sorted and apart
    episodes: Sequence[CongestionEpisode] = ()
    queues: Sequence[QueuePoint] = ()

    def coverage(self, window: Window) -> float:
        """Return the share of a window that was judged."""
        whole = (window.end - window.start).total_seconds()
        judged = sum(
            max((min(u.end, window.end) - max(u.start, window.start)).total_seconds(), 0.0) for u in self.usable
        )
        return judged / whole if whole > 0 else 0.0


@dataclass(frozen=True, slots=True)
class CongestionFigures:
    """The assessment of a period."""

    limit: DetectionLimit | None  # None: the method's limit is not known, so absence proves nothing
    paths: Mapping[str, PathCongestion]  # by check


class Verdict(StrEnum):
    """What may be said of congestion."""

    NOT_ASSESSED = "not-assessed"  # nobody judged, or the limit is not known
    NOT_ENOUGH = "not-enough"  # no episode was seen, and too little was observed to say that there was none
    NONE_FOUND = "none-found"  # observed well enough, and nothing above the limit
    FOUND = "found"


def verdict(found: CongestionFigures | None, checks: Sequence[str], windows: Sequence[Window]) -> Verdict:
    """Say what may be said of some checks over every one of some windows: the whole event, and each of its peaks.

    A single path or peak that was not observed well enough takes the word "none" from all of them.
    """
    if found is None or not checks:
        return Verdict.NOT_ASSESSED
    paths = [found.paths[c] for c in checks if c in found.paths]
    if any(_touches(e, w) for p in paths for e in p.episodes if e.cause == "congestion" for w in windows):
        return Verdict.FOUND
    if found.limit is None or len(paths) < len(checks):
        return Verdict.NOT_ASSESSED
    enough = all(p.coverage(w) >= NOT_ENOUGH for p in paths for w in windows)
    unexplained = any(_touches(e, w) for p in paths for e in p.episodes if e.cause == "near-side" for w in windows)
    return Verdict.NONE_FOUND if enough and not unexplained else Verdict.NOT_ENOUGH


def _touches(episode: CongestionEpisode, window: Window) -> bool:
    return episode.start < window.end and episode.end > window.start
