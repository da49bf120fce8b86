"""From counters to load: what happened between two looks at an interface, wraps and restarts told apart. Pure.

Source: RFC 2863 section 3.1.6 (counter size), RFC 2578 sections 7.1.6, 7.1.10 (counters), RFC 3418 (sysUpTime).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

TICKS: Final = 2**32  # sysUpTime begins anew after 497 days; hundredths of a second
LEAST_S: Final = 1.0  # two looks closer together tell nothing: agents refresh their counters that seldom
CLOCK_SLACK: Final = 0.05  # chosen: how much faster or slower an agent's clock may go than ours
CLOCK_SLACK_S: Final = 5.0
KEPT_LIMIT: Final = 20_000  # interfaces remembered


@dataclass(frozen=True, slots=True)
class Look:
    """An interface at one moment."""

    at_s: float  # our monotonic clock
    ticks: int  # sysUpTime
    bits: int  # size of the octet counters: 32 or 64
    octets_in: int
    octets_out: int
    speed_bps: float | None = None  # capacity, when known
    discontinuity: int = 0  # ifCounterDiscontinuityTime
    troubles: tuple[int | None, ...] = ()  # errors and discards, 32 bits each


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through between two looks."""

    seconds: float
    in_bps: float
    out_bps: float
    troubles: tuple[int | None, ...]


def uptime_went_on(before: Look, after: Look) -> bool:
    """Whether the agent ran all the time between two looks: its clock is where ours says it must be."""
    ours_s = after.at_s - before.at_s
    theirs_s = ((after.ticks - before.ticks) % TICKS) / 100
    return abs(theirs_s - ours_s) <= CLOCK_SLACK_S + CLOCK_SLACK * ours_s


def flow(before: Look, after: Look) -> Flow | None:
    """Return what went through, or None when that cannot be known.

    It cannot after a restart of the agent or its counters, when the counters have another size than before, when they
    may have gone round more than once, and when they show more than the interface can carry.
    """
    seconds = ((after.ticks - before.ticks) % TICKS) / 100
    if seconds < LEAST_S or not uptime_went_on(before, after):
        return None
    if before.bits != after.bits or before.discontinuity != after.discontinuity:
        return None
    whole = 2**after.bits
    rates = [
        ((new - old) % whole) * 8 / seconds
        for old, new in ((before.octets_in, after.octets_in), (before.octets_out, after.octets_out))
    ]
    if after.speed_bps:
        # Some agents refresh their counters every few seconds, so that one look may hold more than its own time.
        most = after.speed_bps * (1.1 + 5.0 / seconds)
        if max(rates) > most or (after.bits == 32 and whole * 8 / after.speed_bps <= seconds):
            return None
    elif after.bits == 64 and max(rates) > 1e13:
        return None
    pairs = zip(before.troubles, after.troubles, strict=False)
    troubles = tuple(None if a is None or b is None else (b - a) % 2**32 for a, b in pairs)
    return Flow(seconds, rates[0], rates[1], troubles)


@dataclass(slots=True)
class Looks:
    """The last look at each interface. Get the one of the daemon by `Tools.of(Looks)`."""

    _last: dict[str, Look] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)  # of an interface that was found by its name

    def put(self, key: str, look: Look) -> Flow | None:
        """Remember a look and return what went through since the one before; None for the first.

        One that comes too soon after the last is not remembered: the next will see more.
        """
        before = self._last.pop(key, None)
        if before is not None and look.at_s - before.at_s < LEAST_S and uptime_went_on(before, look):
            self._last[key] = before
            return None
        self._last[key] = look
        while len(self._last) > KEPT_LIMIT:
            del self._last[next(iter(self._last))]
        return flow(before, look) if before is not None else None
