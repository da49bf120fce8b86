"""Round-trip times of made-up paths: a floor, some noise, and what is laid over it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT, Episode, Saying, Settings, Standing, Word
from monitor.judge.limit import Packet

T0 = 1_700_000_100.0  # a whole number of bins of five minutes
HOUR = 3600.0


def path(hours: float, *, floor_ms: float = 8.0, every_s: float = 10.0, seed: int = 1) -> list[Packet]:
    """Return a quiet path: exponential noise of 0.5 ms above the floor, now and then a slow packet."""
    dice = random.Random(seed)
    packets, at = [], T0
    while at < T0 + hours * HOUR:
        slow = dice.expovariate(1 / 20) if dice.random() < 0.03 else 0.0
        packets.append(Packet(at, (floor_ms + dice.expovariate(2) + slow) / 1000))
        at += every_s
    return packets


def lay(
    packets: list[Packet], start_h: float, minutes: float, change: Callable[[Packet], float | None]
) -> list[Packet]:
    """Replace the round-trip time of each packet in a span by what `change` makes of it."""
    start = T0 + start_h * HOUR
    inside = [start <= p.at < start + minutes * 60 for p in packets]
    return [replace(p, rtt_s=change(p)) if i else p for p, i in zip(packets, inside, strict=True)]


def queue(ms: float, seed: int = 5) -> Callable[[Packet], float | None]:
    """Return a queue that breathes between 0.8 and 1.6 of its size and is never empty."""
    dice = random.Random(seed)
    return lambda p: None if p.rtt_s is None else p.rtt_s + ms * dice.uniform(0.8, 1.6) / 1000


def shift(ms: float) -> Callable[[Packet], float | None]:
    """Return a longer, or shorter, route."""
    return lambda p: None if p.rtt_s is None else p.rtt_s + ms / 1000


def losing(share: float, seed: int = 7) -> Callable[[Packet], float | None]:
    """Return loss of a share of the packets, each by itself."""
    dice = random.Random(seed)
    return lambda p: None if dice.random() < share else p.rtt_s


def silent(packet: Packet) -> float | None:
    """Lose every packet."""
    return None


@dataclass(slots=True)
class Watched:
    """What a judge said."""

    judge: Judge
    said: list[Saying]

    @property
    def episodes(self) -> list[Episode]:
        """Closed ones, and the open one last."""
        closed = [s.episode for s in self.said if s.word is Word.CLOSED and s.episode]
        return closed + ([self.judge.episode] if self.judge.episode else [])

    @property
    def spans(self) -> list[tuple[str, float, float]]:
        """Cause, and start and end in minutes since T0, rounded."""
        return [(e.cause.value, round((e.start - T0) / 60), round((e.end - T0) / 60)) for e in self.episodes]


def moments(packets: list[Packet], width: float = DEFAULT.bin_s) -> Iterator[tuple[float, list[Packet]]]:
    """Give the packets of each bin with its end."""
    held: list[Packet] = []
    end = packets[0].at // width * width + width
    for packet in packets:
        while packet.at >= end:
            yield end, held
            held, end = [], end + width
        held.append(packet)
    yield end, held


def watch(
    packets: list[Packet],
    references: list[Packet] | None = None,
    settings: Settings = DEFAULT,
    judge: Judge | None = None,
    finish: bool = True,
) -> Watched:
    """Feed a judge as a daemon with a clock does, and one beside it with what the reference answered."""
    judge, beside = judge or Judge(settings), Judge(settings)
    said: list[Saying] = []
    near = dict(moments(references, settings.bin_s)) if references else {}
    for end, held in moments(packets, settings.bin_s):
        for packet in held:
            judge.add(packet.at, packet.rtt_s)
            said += judge.advance(packet.at, _of(beside))
        for packet in near.get(end, []):
            beside.add(packet.at, packet.rtt_s)
        if not finish and end > packets[-1].at:
            break
        beside.advance(end)
        said += judge.advance(end, _of(beside))
    return Watched(judge, said)


def _of(judge: Judge) -> tuple[Standing, ...]:
    standing = judge.standing()
    return (standing,) if standing else ()
