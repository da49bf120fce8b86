"""What a report knows of congestion, and what it may therefore say: made from the evidence, empty when nobody judged.

"No congestion" is only a claim above a stated detection limit, about the time and the paths that were observed. The
words a report may use follow from what stands here (`verdict`), and from nothing else.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from config.plan import Plan, ServiceKind, ServicePlan, Target, Window
from monitor.availability import NOT_ENOUGH

CONGESTION: Final = "congestion"
NEAR_SIDE: Final = "near-side"
ROUTE_CHANGE: Final = "route-change"
_NETWORKS: Final = frozenset({ServiceKind.CARRIER, ServiceKind.NETWORK})


@dataclass(frozen=True, slots=True)
class DetectionLimit:
    """The smallest queue that the method finds with certainty, as measured on a path's own quiet hours."""

    queue_ms: float
    minutes: float
    trials: int  # quiet stretches over which such a queue was laid; it was found in every one


@dataclass(frozen=True, slots=True)
class CongestionEpisode:
    """A raised delay or loss that was confirmed."""

    start: datetime
    end: datetime
    cause: str  # CONGESTION | NEAR_SIDE | ROUTE_CHANGE
    peak_ms: float  # largest standing queue; of another route the shift, negative when it became shorter
    floor_ms: float
    threshold_ms: float
    severity: str  # light | moderate | severe
    sent: int = 0
    lost: int = 0
    by_loss: bool = False  # loss alone showed it


@dataclass(frozen=True, slots=True)
class Queues:
    """The queueing delay of each bin: its fastest answer above the floor."""

    starts: Sequence[float] = field(default_factory=lambda: array("d"))  # seconds since 1970
    ms: Sequence[float] = field(default_factory=lambda: array("d"))

    def points(self, step_s: float, origin: datetime) -> Iterator[tuple[datetime, float]]:
        """Give the largest of every so many seconds from a moment on, in milliseconds."""
        first, at, most = origin.timestamp(), None, 0.0
        for start, ms in zip(self.starts, self.ms, strict=True):
            number = int((start - first) // step_s)
            if at is not None and number != at:
                yield datetime.fromtimestamp(first + at * step_s, UTC), most
                most = 0.0
            at, most = number, max(most, ms)
        if at is not None:
            yield datetime.fromtimestamp(first + at * step_s, UTC), most

    def most(self) -> tuple[float, datetime] | None:
        """Return the largest, and when; None without any."""
        if not self.ms:
            return None
        ms, start = max(zip(self.ms, (-s for s in self.starts), strict=True))
        return ms, datetime.fromtimestamp(-start, UTC)

    def at_most(self, share: float) -> float | None:
        """Return what so large a share of the bins does not exceed, in milliseconds (RFC 2330 section 11.3)."""
        ordered = sorted(self.ms)
        return ordered[max(1, -(-len(ordered) * round(share * 100) // 100)) - 1] if ordered else None


@dataclass(frozen=True, slots=True)
class PathCongestion:
    """What was found on the path of one check. A bin is usable when it had answers enough to be judged."""

    check: str  # Target.id
    expected: int  # bins that the period has
    usable: Sequence[Window]  # spans judged, sorted and apart
    episodes: Sequence[CongestionEpisode] = ()
    queues: Queues = field(default_factory=Queues)
    limit: DetectionLimit | None = None  # None: not known, so that absence proves nothing
    floor_ms: float | None = None  # at the end of the period
    threshold_ms: float | None = None

    def coverage(self, window: Window) -> float:
        """Return the share of a window that was judged."""
        whole = (window.end - window.start).total_seconds()
        judged = sum(
            max((min(u.end, window.end) - max(u.start, window.start)).total_seconds(), 0.0) for u in self.usable
        )
        return judged / whole if whole > 0 else 0.0

    def seconds(self, cause: str, window: Window) -> float:
        """Return how long episodes of a cause lasted within a window."""
        return sum(
            (min(e.end, window.end) - max(e.start, window.start)).total_seconds()
            for e in self.episodes
            if e.cause == cause and touches(e, window)
        )


@dataclass(frozen=True, slots=True)
class CongestionFigures:
    """The assessment of a period."""

    paths: Mapping[str, PathCongestion]  # by check

    @property
    def limit(self) -> DetectionLimit | None:
        """What would have been found on every path: the widest of their limits; None when one is not known."""
        limits = [p.limit for p in self.paths.values()]
        known = [found for found in limits if found is not None]
        if not known or len(known) < len(limits):
            return None
        return DetectionLimit(
            max(k.queue_ms for k in known), max(k.minutes for k in known), min(k.trials for k in known)
        )


def main_check(service: ServicePlan) -> Target:
    """Return the check that stands for a service in a chart: echoes where it has them, else its first."""
    return next((t for t in service.targets if t.probe.kind == "icmp"), service.targets[0])


def judged_checks(plan: Plan) -> Mapping[str, ServicePlan]:
    """Return the checks that congestion is judged by: the echoes of each network, or each service's main check."""
    networks = [s for s in plan.services if s.kind in _NETWORKS]
    found: dict[str, ServicePlan] = {}
    for service in networks or plan.services:
        echoes = [t for t in service.targets if t.probe.kind == "icmp"] if networks else []
        found |= {t.id: service for t in echoes or [main_check(service)]}
    return found


class Verdict(StrEnum):
    """What may be said of congestion."""

    NOT_ASSESSED = "not-assessed"  # nobody judged, or the limit is not known
    NOT_ENOUGH = "not-enough"  # no episode was seen, and too little was observed to say that there was none
    NONE_FOUND = "none-found"  # observed well enough, and nothing above the limit
    FOUND = "found"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why absence cannot be claimed: too little of a window was judged, or our own side queued in it."""

    check: str
    window: Window
    coverage: float  # of the window
    near_side: bool


def obstacles(found: CongestionFigures, checks: Sequence[str], windows: Sequence[Window]) -> list[Obstacle]:
    """List what stands against claiming that there was no congestion."""
    listed = []
    for path in (found.paths[c] for c in checks if c in found.paths):
        for window in windows:
            coverage = path.coverage(window)
            near = any(e.cause == NEAR_SIDE and touches(e, window) for e in path.episodes)
            if coverage < NOT_ENOUGH or near:
                listed.append(Obstacle(path.check, window, coverage, near))
    return listed


def verdict(found: CongestionFigures | None, checks: Sequence[str], windows: Sequence[Window]) -> Verdict:
    """Say what may be said of some checks over every one of some windows: the whole event, and each of its peaks.

    A single path or peak that was not observed well enough takes the word "none" from all of them.
    """
    if found is None or not checks:
        return Verdict.NOT_ASSESSED
    paths = [found.paths[c] for c in checks if c in found.paths]
    if any(touches(e, w) for p in paths for e in p.episodes if e.cause == CONGESTION for w in windows):
        return Verdict.FOUND
    if len(paths) < len(checks) or any(p.limit is None for p in paths):
        return Verdict.NOT_ASSESSED
    return Verdict.NOT_ENOUGH if obstacles(found, checks, windows) else Verdict.NONE_FOUND


def touches(episode: CongestionEpisode, window: Window) -> bool:
    """Whether an episode reaches into a window."""
    return episode.start < window.end and episode.end > window.start
