"""What a site's past says of congestion: its packets through the judge, check by check, beside the near references.

Of the evidence alone, so that a report comes out the same whenever it is made: what the daemon believed at the time is
in the changes. Knows no file: whoever reads the past hands on the packets hour by hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from monitor.congestion_record import LEARN_S, TRIALS_LEAST, Path, Timed
from monitor.judge.episode import Episode
from monitor.judge.limit import Limit

if TYPE_CHECKING:  # a plan knows every probe: processes that only judge begin without
    from config.plan import Plan, Target, Window

LEARN: Final = timedelta(seconds=LEARN_S)


def with_learning(period: Window) -> Window:
    """Return a period with the time before it that the floor is learned from."""
    from config.plan import Window

    return Window(period.start - LEARN, period.end)


def near_references(plan: Plan, target: Target) -> list[Target]:
    """Return the references on our own side of a check's path: of the same uplink, or else of none."""
    paths = {r.path_id for r in plan.references}
    path = target.path_id if target.path_id in paths else ""
    return [r for r in plan.references if r.near and r.path_id == path and r.id != target.id]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge found on a path."""

    bins: Sequence[float]  # of each bin with a verdict: start, end, queue in seconds above the floor
    episodes: Sequence[Episode]
    limit: Limit | None  # None: too few quiet stretches to tell
    floor_s: float  # at the end; NaN when nothing was learned
    threshold_s: float


class Span(Protocol):
    """A period of the record."""

    @property
    def start(self) -> datetime:
        """When it begins."""

    @property
    def end(self) -> datetime:
        """When it ends."""


class Judging:
    """Judges the paths of some checks while their packets are read, an hour after the other."""

    def __init__(self, near: Mapping[str, Sequence[str]], period: Span) -> None:
        """Begin.

        Args:
            near: the checks to be judged, each with the near references of its path.
            period: the record goes on to its end.
        """
        self._until = period.end.timestamp()
        length = (period.end - period.start + LEARN) / timedelta(hours=1)
        self._near = {r: Path(hours=length) for references in near.values() for r in references}
        self.paths = {c: Path(hours=length, references=[self._near[r] for r in rs]) for c, rs in near.items()}

    def hear(self, packets: Mapping[str, Timed]) -> None:
        """Take in an hour's packets by check; those of checks that are not asked about too, for all keep one clock."""
        last = max((timed.at[-1] for timed in packets.values() if len(timed.at)), default=None)
        if last is not None:
            self.hear_until(packets, last)

    def hear_until(self, packets: Mapping[str, Timed], last: float) -> None:
        """Take in an hour's packets by check, the last of which, of all checks, was sent at a moment."""
        for name, path in self._near.items():
            if (timed := packets.get(name)) is not None:
                path.feed(timed)
            path.go_on(last)
        for name, path in self.paths.items():
            if (timed := packets.get(name)) is not None:
                path.feed(timed)

    def finish(self) -> Mapping[str, Judged]:
        """Close the record, and say what was found, by check."""
        for path in self.paths.values():
            path.finish(self._until)
        return {
            name: Judged(p.bins, p.episodes, p.limit(TRIALS_LEAST), p.judge.floor_s, p.judge.threshold_s)
            for name, p in self.paths.items()
        }


def judge(
    plan: Plan, targets: Sequence[Target], hours: Iterable[Mapping[str, Timed]], period: Window
) -> Mapping[str, Path]:
    """Judge the paths of some checks, by check.

    Args:
        plan: says which references are near.
        targets: whose paths.
        hours: packets by check, an hour after the other; of the period with its learning, and of `wanted` checks.
        period: the record goes on to its end.
    """
    judging = Judging(beside(plan, targets), period)
    for packets in hours:
        judging.hear(packets)
    judging.finish()
    return judging.paths


def beside(plan: Plan, targets: Iterable[Target]) -> Mapping[str, Sequence[str]]:
    """Return checks with the near references of their paths."""
    return {t.id: [r.id for r in near_references(plan, t)] for t in targets}


def wanted(plan: Plan, targets: Iterable[Target]) -> list[str]:
    """Return the checks whose packets `judge` asks for: those to be judged, and their near references."""
    return sorted({name for t in targets for name in _ids(plan, t)})


def _ids(plan: Plan, target: Target) -> Iterator[str]:
    yield target.id
    for reference in near_references(plan, target):
        yield reference.id
