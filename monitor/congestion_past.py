"""What a site's past says of congestion: its packets through the judge, check by check, beside the near references.

Of the evidence alone, so that a report comes out the same whenever it is made: what the daemon believed at the time is
in the changes. Knows no file: whoever reads the past hands on the packets hour by hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from config.plan import Plan, Target, Window
from monitor.congestion_record import LEARN_S, Path, Timed

LEARN: Final = timedelta(seconds=LEARN_S)


def with_learning(period: Window) -> Window:
    """Return a period with the time before it that the floor is learned from."""
    return Window(period.start - LEARN, period.end)


def near_references(plan: Plan, target: Target) -> list[Target]:
    """Return the references on our own side of a check's path: of the same uplink, or else of none."""
    paths = {r.path_id for r in plan.references}
    path = target.path_id if target.path_id in paths else ""
    return [r for r in plan.references if r.near and r.path_id == path and r.id != target.id]


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
    length = (period.end - period.start + LEARN) / timedelta(hours=1)
    near = {r.id: Path(hours=length) for t in targets for r in near_references(plan, t)}
    paths = {t.id: Path(hours=length, references=[near[r.id] for r in near_references(plan, t)]) for t in targets}
    for packets in hours:
        last = max((timed.at[-1] for timed in packets.values() if len(timed.at)), default=None)
        if last is None:
            continue
        for name, path in near.items():
            if (timed := packets.get(name)) is not None:
                path.feed(timed)
            path.go_on(last)
        for name, path in paths.items():
            if (timed := packets.get(name)) is not None:
                path.feed(timed)
    for path in paths.values():
        path.finish(period.end.timestamp())
    return paths


def wanted(plan: Plan, targets: Iterable[Target]) -> list[str]:
    """Return the checks whose packets `judge` asks for: those to be judged, and their near references."""
    return sorted({name for t in targets for name in _ids(plan, t)})


def _ids(plan: Plan, target: Target) -> Iterator[str]:
    yield target.id
    for reference in near_references(plan, target):
        yield reference.id
