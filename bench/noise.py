"""Paths that are noisy and not congested, of many kinds, with and without true queues laid over them.

None of them was recorded: each kind is a cause of delay that is known, drawn by chance from a seed. They say what the
judge of congestion calls where nothing stands, and what it finds where something does.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from monitor.congestion_record import Path, Timed
from monitor.judge.episode import Cause, Episode

START_S: Final = 1_700_006_400.0
DAY_S: Final = 86400.0
LEARN_DAYS: Final = 2.0
QUEUES_MS: Final = (5, 7, 10, 15, 25, 50)
MINUTES: Final = (10, 15, 30, 120)
LEAST, MOST = 0.8, 1.6  # of the nominal queue, on each packet: it breathes and is never empty
APART_S: Final = 5 * 3600.0  # from the start of one queue to the start of the next
SLACK_S: Final = 900.0  # between a queue and the episode that is called for it

Delay = Callable[[float], float]  # of a packet sent at a moment, seconds; infinite when lost


def _fibre(dice: random.Random) -> Delay:
    """A quiet path: 8 ms and a little processing."""
    draw = dice.expovariate
    return lambda at: 0.008 + draw(3000)


def _mobile(dice: random.Random, sigma: float = 0.5, loss: float = 0.003) -> Delay:
    """A mobile path: lognormal round trips with a median of 50 ms."""
    centre, draw, chance = math.log(0.050), dice.lognormvariate, dice.random
    return lambda at: math.inf if chance() < loss else draw(centre, sigma)


def _held(dice: random.Random, mean_s: float, level: Callable[[], float]) -> Delay:
    """A level that holds for a while of random length, then another."""
    until, now = -math.inf, 0.0

    def at_moment(at: float) -> float:
        nonlocal until, now
        if at >= until:
            until, now = at + dice.expovariate(1 / mean_s), level()
        return now

    return at_moment


def _walking_mobile(dice: random.Random) -> Delay:
    """A mobile path whose cell is busier and quieter for minutes: the same spread, but not independent."""
    slow = _held(dice, 90.0, lambda: dice.gauss(0, 0.3))
    draw = dice.gauss
    return lambda at: 0.050 * math.exp(slow(at) + draw(0, 0.4))


def _lte(dice: random.Random) -> Delay:
    """Uplink grants of LTE: 10 to 40 ms of waiting, alike likely, and a radio that sleeps now and then."""
    chance, uniform = dice.random, dice.uniform
    return lambda at: 0.022 + uniform(0.010, 0.040) + (uniform(0.05, 0.15) if chance() < 0.05 else 0.0)


def _wifi(dice: random.Random) -> Delay:
    """A hall full of people: retries in bursts of seconds to two minutes, in the day more often."""
    busy = (-math.inf, -math.inf)
    draw, chance = dice.expovariate, dice.random

    def delay(at: float) -> float:
        nonlocal busy
        if at > busy[1]:
            gap = 1200.0 if 7 <= at % DAY_S / 3600 < 18 else 6000.0
            begin = at + draw(1 / gap)
            busy = (begin, begin + dice.uniform(5, 120))
        if busy[0] <= at <= busy[1]:
            return math.inf if chance() < 0.05 else 0.004 + draw(25)
        return 0.004 + draw(800)

    return delay


def _satellite(dice: random.Random) -> Delay:
    """A constellation that hands over each 15 s: another slant range each time, and packets lost at the change."""
    number, base = -1, 0.0
    uniform, draw, chance = dice.uniform, dice.expovariate, dice.random

    def delay(at: float) -> float:
        nonlocal number, base
        if int(at // 15) != number:
            number, base = int(at // 15), uniform(0.024, 0.042)
        if at % 15 < 0.3 and chance() < 0.3:
            return math.inf
        return base + draw(200)

    return delay


def _diurnal(dice: random.Random) -> Delay:
    """A path that is 5 ms slower in the evening than in the morning, without a step."""
    draw = dice.expovariate
    return lambda at: 0.015 + 0.0025 * (1 - math.cos(2 * math.pi * at / DAY_S)) + draw(1500)


def _dsl(dice: random.Random) -> Delay:
    """An interleaved DSL: frames of 4 ms, and a retrained line of another depth every five days or so."""
    depth = _held(dice, 5 * DAY_S, lambda: dice.choice((0.0, 0.008, 0.016)))
    uniform, draw = dice.uniform, dice.expovariate
    return lambda at: 0.024 + depth(at) + uniform(0, 0.004) + draw(2000)


def _router(dice: random.Random) -> Delay:
    """A router that answers pings when its processor has time: a scan each minute, a walk of its tables each 5."""
    draw, chance = dice.expovariate, dice.random

    def delay(at: float) -> float:
        busy = at % 60 < 9 or at % 300 < 40
        return 0.006 + draw(1500) + (draw(25) if chance() < (0.8 if busy else 0.15) else 0.0)

    return delay


def _ticking(dice: random.Random) -> Delay:
    """A far end, or a clock, that counts whole milliseconds."""
    draw = dice.expovariate
    return lambda at: round(0.0125 + draw(900), 3)


def _drifting(dice: random.Random) -> Delay:
    """A floor that wanders: 0.5 ms an hour at random, between 20 and 30 ms."""
    hour, level = -1, 0.025

    def delay(at: float) -> float:
        nonlocal hour, level
        if int(at // 3600) != hour:
            hour = int(at // 3600)
            level = min(0.030, max(0.020, level + dice.gauss(0, 0.0005)))
        return level + dice.expovariate(2000)

    return delay


def _lossy(dice: random.Random) -> Delay:
    """A mobile path that loses 3 to 10 % of all packets, another share every few hours."""
    share = _held(dice, 4 * 3600.0, lambda: dice.uniform(0.03, 0.10))
    mobile, chance = _mobile(dice, 0.4, 0.0), dice.random
    return lambda at: math.inf if chance() < share(at) else mobile(at)


def _tailed(dice: random.Random) -> Delay:
    """Heavy tails: most packets near 30 ms, a few at any multiple of it."""
    draw = dice.paretovariate
    return lambda at: min(0.022 + 0.004 * draw(1.1), 3.0)


def _forked(dice: random.Random) -> Delay:
    """Packets take one of two routes, 10 ms apart, by chance."""
    draw, chance = dice.expovariate, dice.random
    return lambda at: 0.020 + (0.010 if chance() < 0.6 else 0.0) + draw(1500)


def _paused(dice: random.Random) -> Delay:
    """A virtual machine that is not run for seconds now and then, at either end."""
    draw, late = dice.expovariate, _held(dice, 4.0, lambda: dice.uniform(0.02, 0.2) if dice.random() < 0.04 else 0.0)
    return lambda at: 0.012 + draw(1500) + late(at)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of noise, as it is probed."""

    name: str
    delay: Callable[[random.Random], Delay]
    every_s: float = 10.0
    count: int = 1  # packets of a round, 0.2 s apart


KINDS: Final = (
    Kind("quiet fibre", _fibre),
    Kind("quiet fibre, 1 packet a minute", _fibre, 60.0),
    Kind("mobile", _mobile),
    Kind("mobile, 1 packet a minute", _mobile, 60.0),
    Kind("mobile, 3 packets in 30 s", _mobile, 30.0, 3),
    Kind("mobile, wider spread", lambda dice: _mobile(dice, 0.6, 0.01), 60.0),
    Kind("mobile, a cell that breathes", _walking_mobile, 30.0),
    Kind("mobile, 3-10 % lost", _lossy),
    Kind("LTE grants", _lte),
    Kind("LTE grants, 1 packet a minute", _lte, 60.0),
    Kind("Wi-Fi of a venue", _wifi),
    Kind("satellite, handovers", _satellite),
    Kind("daily drift of 5 ms", _diurnal),
    Kind("DSL, interleaved", _dsl),
    Kind("router with a slow path", _router),
    Kind("clock of 1 ms", _ticking),
    Kind("floor that wanders", _drifting),
    Kind("heavy tails", _tailed, 30.0),
    Kind("two routes by packet", _forked, 60.0),
    Kind("machine that pauses", _paused, 30.0, 3),
    Kind("mobile, 1 packet in 4 minutes", _mobile, 240.0),
)


@dataclass(frozen=True, slots=True)
class Laid:
    """A true queue: from when to when, and its nominal size."""

    start: float
    end: float
    queue_s: float


def queues(days: float, dice: random.Random) -> list[Laid]:
    """Lay every size and length over a record, in random order, again and again."""
    laid: list[Laid] = []
    at = START_S + LEARN_DAYS * DAY_S
    pool: list[tuple[int, int]] = []
    while at + 3 * 3600 < START_S + days * DAY_S:
        if not pool:
            pool = [(q, m) for q in QUEUES_MS for m in MINUTES]
            dice.shuffle(pool)
        queue, minutes = pool.pop()
        start = at + dice.uniform(0, 3600)
        laid.append(Laid(start, start + minutes * 60, queue / 1000))
        at += APART_S
    return laid


def record(kind: Kind, days: float, seed: int, laid: Sequence[Laid] = ()) -> Timed:
    """Draw a path's packets."""
    dice = random.Random(f"{kind.name} {seed}")
    delay = kind.delay(dice)
    ats, rtts = array("d"), array("d")
    waiting = list(reversed(laid))
    slot, end = START_S, START_S + days * DAY_S
    while slot < end:
        begin = slot + dice.uniform(0, 0.2) * kind.every_s
        for number in range(kind.count):
            at = begin + 0.2 * number
            rtt = delay(at)
            while waiting and at >= waiting[-1].end:
                waiting.pop()
            if waiting and at >= waiting[-1].start:
                rtt += waiting[-1].queue_s * dice.uniform(LEAST, MOST)
            ats.append(at)
            rtts.append(rtt)
        slot += kind.every_s
    return Timed(ats, rtts)


@dataclass(slots=True)
class Found:
    """What the judge made of one kind."""

    kind: Kind
    false: list[Episode] = field(default_factory=list)  # told as congestion where no queue stood
    shares: dict[tuple[int, int], list[bool]] = field(default_factory=dict)  # by size in ms and minutes
    limit: tuple[float, float] | None = None  # ms and minutes


def judged(packets: Timed, days: float) -> Path:
    path = Path(hours=days * 24)
    path.feed(packets)
    path.finish()
    return path


def _told(path: Path) -> list[Episode]:
    return [e for e in path.episodes if e.cause is not Cause.ROUTE_CHANGE]


def measure(kind: Kind, days: float, seed: int) -> Found:
    """Judge a kind of noise by itself, and with queues laid over it."""
    alone = judged(record(kind, days, seed), days)
    found = Found(kind, _told(alone))
    laid = queues(days, random.Random(seed))
    episodes = _told(judged(record(kind, days, seed, laid), days))
    for queue in laid:
        key = round(queue.queue_s * 1000), round((queue.end - queue.start) / 60)
        seen = any(e.start < queue.end + SLACK_S and e.end > queue.start - SLACK_S for e in episodes)
        found.shares.setdefault(key, []).append(seen)
    limit = alone.limit(trials_least=12)
    found.limit = (limit.queue_s * 1000, limit.minutes) if limit else None
    return found


def share(found: Found, least_ms: int, most_ms: int, least_minutes: int) -> tuple[int, int]:
    """Return how many of the laid queues of some sizes, and of so many minutes or more, were found."""
    hits = [
        h for (q, m), all_of in found.shares.items() if least_ms <= q <= most_ms and m >= least_minutes for h in all_of
    ]
    return sum(hits), len(hits)


def rows(days: float = 30.0, seed: int = 1) -> list[dict[str, Any]]:
    """Measure every kind; a row each."""
    return [_row(measure(kind, days, seed), days) for kind in KINDS]


def _row(found: Found, days: float) -> dict[str, Any]:
    large = share(found, 15, 50, 15)
    limit = found.limit
    return {
        "series": f"noise: {found.kind.name}",
        "events_found": large[0],  # queues of 15 ms and more that stood for 15 minutes and more
        "events": large[1],
        "spurious": round(len(found.false) * 30 / days, 2),  # told as congestion where none stood, in 30 days
        "found_by_ms": {str(q): "{} of {}".format(*share(found, q, q, 15)) for q in QUEUES_MS},
        "within_limit": "{} of {}".format(*_within(found)),
        "detection_limit": {"queue_ms": limit[0], "minutes": limit[1]} if limit else None,
    }


def _within(found: Found) -> tuple[int, int]:
    """Return how many of the queues above the path's own detection limit were found."""
    if found.limit is None:
        return 0, 0
    queue, minutes = found.limit
    hits = [h for (q, m), all_of in found.shares.items() if q >= queue and m >= minutes for h in all_of]
    return sum(hits), len(hits)


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print a table of what `rows` returned."""
    sizes = "".join(f"{f'{q} ms':>10}" for q in QUEUES_MS)
    print(f"{'noise, 30 days of each':32}{'false':>6}{sizes}{'limit':>16}{'above it':>12}")
    for row in found:
        limit = row["detection_limit"]
        said = f"{limit['queue_ms']:.0f} ms, {limit['minutes']:.0f} min" if limit else "none"
        hits = "".join(f"{v:>10}" for v in row["found_by_ms"].values())
        print(
            f"{row['series'].removeprefix('noise: '):32}{row['spurious']:>6}{hits}{said:>16}{row['within_limit']:>12}"
        )


if __name__ == "__main__":
    show(rows())
