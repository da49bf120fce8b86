"""What would have been told beside what was: pairs of words, and how far apart they are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from monitor.model import EventKind
from monitor.words import Told

SAME_S: Final = 3.0  # chosen: the daemon itself takes up to a second from a result to its word
NEAR_S: Final = (
    1800.0  # words of the same kind about the same thing that begin within this are one word, told otherwise
)


class Mark(StrEnum):
    """How a word of the replay stands to what was told."""

    SAME = "same"
    EARLIER = "earlier"
    LATER = "later"
    NOW_ONLY = "now-only"  # it would be told now, and was not told then
    THEN_ONLY = "then-only"  # it was told then, and would not be now


@dataclass(frozen=True, slots=True)
class Pair:
    """A word now, a word then, or both."""

    now: Told | None
    then: Told | None
    missing: int = 0  # rechecks that the replay asked for and that never happened: it may have come sooner, or never

    @property
    def word(self) -> Told:
        """The word now, or else the one then."""
        found = self.now or self.then
        assert found is not None  # of a pair one is there
        return found

    @property
    def delta_s(self) -> float | None:
        """How much later it comes now, seconds."""
        if self.now is None or self.then is None:
            return None
        return (self.now.created_at - self.then.created_at).total_seconds()

    @property
    def mark(self) -> Mark:
        """How the two stand to each other."""
        delta_s = self.delta_s
        if delta_s is None:
            return Mark.NOW_ONLY if self.then is None else Mark.THEN_ONLY
        if abs(delta_s) <= SAME_S:
            return Mark.SAME
        return Mark.LATER if delta_s > 0 else Mark.EARLIER


def _about(word: Told) -> tuple[str, str, str]:
    notice = word.notice
    state = notice.state.value if notice.kind in (EventKind.OPENED, EventKind.WORSENED) else ""
    return notice.service, notice.kind.value, state


def pair_up(now: Sequence[Told], then: Sequence[Told]) -> list[Pair]:
    """Find for each word the nearest of the same kind about the same thing; each is taken once.

    Returns:
        Pairs in order of time.
    """
    distances = sorted(
        (abs((a.created_at - b.created_at).total_seconds()), i, j)
        for i, a in enumerate(now)
        for j, b in enumerate(then)
        if _about(a) == _about(b) and _near(a, b)
    )
    mine: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in distances:
        if i not in mine and j not in taken:
            mine[i] = j
            taken.add(j)
    pairs = [Pair(word, then[mine[i]] if i in mine else None) for i, word in enumerate(now)]
    pairs += [Pair(None, word) for j, word in enumerate(then) if j not in taken]
    return sorted(pairs, key=lambda p: p.word.created_at)


def _near(a: Told, b: Told) -> bool:
    """Whether two words may be of one trouble: told or begun at nearly the same time."""
    gaps = ((a.created_at, b.created_at), (a.notice.since, b.notice.since))
    return any(abs((x - y).total_seconds()) <= NEAR_S for x, y in gaps)


def counts(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return how many pairs have each mark."""
    found = dict.fromkeys(Mark, 0)
    for pair in pairs:
        found[pair.mark] += 1
    return {mark.value: number for mark, number in found.items()}


def as_json(pair: Pair, iso: Any, subject: str) -> dict[str, Any]:
    """Return a pair for machines. Args: iso: writes a moment. subject: of its letter."""
    notice = pair.word.notice

    def moment(word: Told | None) -> str | None:
        return iso(word.created_at) if word is not None else None

    def begin(at: datetime) -> str:
        text: str = iso(at)
        return text

    return {
        "mark": pair.mark.value,
        "told_now": moment(pair.now),
        "told_then": moment(pair.then),
        "later_s": pair.delta_s,
        "kind": notice.kind.value,
        "service": notice.service,
        "service_name": notice.service_name,
        "state": notice.state.value,
        "since": begin(notice.since),
        "cause": notice.why.kind.value if notice.why else None,
        "subject": subject,
        "withdrawn_then": pair.then.withdrawn if pair.then is not None else None,
        "rechecks_missing": pair.missing,
    }
