"""Is it us? The references are asked before a target is called down. Pure: no clock, no input or output.

References are neutral points: near ones (the gateway) stand on our side of the uplink, far ones (national exchange,
public resolvers) beyond it. When enough of them fail together with the targets, it is we who cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from monitor.model import State

SIGN: Final = timedelta(seconds=60)  # chosen: a reference gone for longer than this was no sign of what followed


class Sight(StrEnum):
    """What the references say about ourselves."""

    CLEAR = "clear"
    WAIT = "wait"  # they have not all been asked since, or fail but are not yet sure
    BLIND_NEAR = "near"  # not even our gateway answers
    BLIND_FAR = "far"  # our gateway answers, nothing beyond the uplink does

    @property
    def blind(self) -> bool:
        """Whether what fails now says nothing about the targets."""
        return self in (Sight.BLIND_NEAR, Sight.BLIND_FAR)


@dataclass(frozen=True, slots=True)
class Witness:
    """A reference as it stands."""

    near: bool
    asked: datetime | None  # start of its last finished run
    state: State  # believed
    failing: bool  # its last result was not good
    bad_since: datetime | None  # first bad result of the streak or of the believed outage


def quorum(count: int) -> int:
    """Return how many of `count` far references must fail before it is believed to be us: two thirds, rounded up."""
    return math.ceil(2 * count / 3)


def look(witnesses: Sequence[Witness], since: datetime | None, failing_share: float) -> Sight:
    """Say whether we can see, for a target that has been failing since `since`.

    Args:
        witnesses: the references that leave by the target's path, or all without a path.
        since: start of the target's first bad result: references asked before it prove nothing. None asks only
            for what is believed now.
        failing_share: share (0…1) of other services whose last result is bad. A single far reference is believed
            only when at least half of them fail with it, for it may be down itself.
    """
    if not witnesses:
        return Sight.CLEAR
    near = [w for w in witnesses if w.near]
    far = [w for w in witnesses if not w.near]
    near_lost = bool(near) and all(w.state is State.DOWN for w in near)
    if _lost(far, near, near_lost=near_lost, failing_share=failing_share, believed=True):
        return Sight.BLIND_NEAR if near_lost else Sight.BLIND_FAR
    if since is not None and any(w.asked is None or w.asked < since for w in witnesses):
        return Sight.WAIT
    near_failing = bool(near) and all(w.failing for w in near)
    if _lost(far, near, near_lost=near_failing, failing_share=failing_share, believed=False):
        return Sight.WAIT
    return Sight.CLEAR


def _lost(
    far: Sequence[Witness], near: Sequence[Witness], *, near_lost: bool, failing_share: float, believed: bool
) -> bool:
    def bad(w: Witness) -> bool:
        return w.state is State.DOWN if believed else w.failing

    if not far:
        return near_lost
    failed = sum(bad(w) for w in far)
    if len(far) == 1 and not near_lost:
        return failed == 1 and failing_share >= 0.5
    if near_lost:
        # A gateway that does not answer pings is common; it convicts us only together with a far reference.
        return failed > 0
    return failed >= quorum(len(far))


def blind_since(witnesses: Sequence[Witness]) -> datetime | None:
    """Return since when enough references have failed together; one that was dead long before moves nothing."""
    near = [w for w in witnesses if w.near]
    far = [w for w in witnesses if not w.near]
    near_bad, far_bad = _bad_since(near), _bad_since(far)
    found: list[datetime] = []
    if near and len(near_bad) == len(near) and (far_bad or not far):
        found.append(max(near_bad[-1], far_bad[0]) if far else near_bad[-1])
    if far and len(far_bad) >= quorum(len(far)):
        found.append(far_bad[quorum(len(far)) - 1])
    return min(found, default=None)


def first_sign(witnesses: Sequence[Witness]) -> datetime | None:
    """Return when the first of the references failed that are lost now, shortly before or with enough of them.

    An uplink seldom fails at once for all: what was believed of a target after the first of them was gone is in doubt.
    """
    since = blind_since(witnesses)
    if since is None:
        return None
    return min((at for at in _bad_since(witnesses) if at >= since - SIGN), default=since)


def _bad_since(witnesses: Sequence[Witness]) -> list[datetime]:
    return sorted(w.bad_since for w in witnesses if w.bad_since and (w.failing or w.state is State.DOWN))
