"""Recorded packets through the judge of congestion: what it would have said, what it saw, and what it could have seen.

The one road for reports, replays and scores. Pure: no clock, no input or output. Nothing looks ahead: packets are fed
in order of time, and a bin is judged when it ends. All of it follows from the packets, so the same packets give the
same figures.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT, Episode, Saying, Settings, Standing, Word
from monitor.judge.limit import MINUTES, TRIALS, Limit, Packet, Quiet, detection_limit

LEARN_S: Final = 48 * 3600.0  # of record before a period, to learn the floor from: as long as the floor remembers
QUIET_FOR_S: Final = 5400.0  # length of a quiet stretch: an hour of queue, what may shift it, and what follows
TRIALS_LEAST: Final = 12  # quiet stretches without which nothing is claimed of what would have been found
STRETCHES: Final = 2 * TRIALS  # that a long record is asked for: not all of them stay quiet
_GOLDEN: Final = (math.sqrt(5) - 1) / 2  # its multiples lie evenly between 0 and 1, wherever one stops


@dataclass(slots=True)
class Timed:
    """Packets of one path in order of time: when each was sent (seconds since 1970), its RTT, infinite when lost."""

    at: Sequence[float] = field(default_factory=lambda: array("d"))
    rtt_s: Sequence[float] = field(default_factory=lambda: array("d"))

    def pairs(self) -> Iterator[tuple[float, float]]:
        """Give them one by one."""
        return zip(self.at, self.rtt_s, strict=True)

    @classmethod
    def of(cls, packets: Sequence[Packet]) -> Timed:
        """Pack single packets."""
        return cls(
            array("d", [p.at for p in packets]),
            array("d", [math.inf if p.rtt_s is None else p.rtt_s for p in packets]),
        )


@dataclass(slots=True)
class _Stretch:
    """A stretch that has been quiet so far."""

    state: bytes
    begins: float
    at: array[float] = field(default_factory=lambda: array("d"))
    rtt_s: array[float] = field(default_factory=lambda: array("d"))

    def quiet(self) -> Quiet:
        packets = [Packet(at, rtt if rtt < math.inf else None) for at, rtt in zip(self.at, self.rtt_s, strict=True)]
        return Quiet(orjson.loads(self.state), packets)


class Path:
    """The record of one path. Feed packets in order of time with `feed`; `finish` at the end."""

    def __init__(self, settings: Settings = DEFAULT, *, hours: float = 0.0, references: Sequence[Path] = ()) -> None:
        """Begin a record.

        Args:
            settings: what the judge goes by.
            hours: how long the record is; the longer, the farther apart are the stretches that are kept for the
                detection limit.
            references: near references of the same path; feed them before this one, up to the same moment.
        """
        self.judge = Judge(settings)
        self.episodes: list[Episode] = []
        self.said: list[Saying] = []
        self.bins = array("d")  # of each bin with a verdict: start, end, queue in seconds above the floor
        self._references = references
        self._beside = False  # whether it is a reference of others
        for reference in references:
            reference._beside = True
        self._standings: list[Standing] = []  # after each of its bins, for those it is a reference of
        self._stood_at = array("d")  # when each of them was
        self._now = -math.inf
        self._chance = STRETCHES / max(hours * 3600 / settings.hour_s, STRETCHES)
        self._length = QUIET_FOR_S * settings.bin_s / DEFAULT.bin_s
        self._open: list[_Stretch] = []
        self._quiet: list[_Stretch] = []

    def feed(self, packets: Timed) -> None:
        """Take in what follows."""
        at, rtts, width = packets.at, packets.rtt_s, self.judge.settings.bin_s
        place, count = 0, len(at)
        while place < count:
            first = at[place]
            number = math.floor(first / width)
            if number * width > self._now:
                for moment in _bin_ends(self._now, first, width):
                    self._advance(moment)
            end = bisect_left(at, (number + 1) * width, place)
            if not self.judge.add_calm(first, at[end - 1], rtts[place:end]):
                self._take(at, rtts, place, end)
            self._now = at[end - 1]
            if self._open:
                self._keep(packets, place, end)
            place = end

    def _take(self, at: Sequence[float], rtts: Sequence[float], place: int, end: int) -> None:
        """Take in the packets of one bin: those that are slow one by one, what is calm between them at once."""
        judge = self.judge
        while place < end:
            self._add(at[place], rtts[place])
            place, line_s = place + 1, judge.line_s
            calm = place
            while calm < end and rtts[calm] <= line_s:
                calm += 1
            if calm > place and judge.add_calm(at[place], at[calm - 1], rtts[place:calm]):
                place = calm

    def _add(self, at: float, rtt_s: float) -> None:
        self.judge.add(at, rtt_s if rtt_s < math.inf else None)
        self._hear(self.judge.advance(at))  # no bin ends here, so that no reference is asked

    def finish(self, until: float | None = None) -> None:
        """Let the clock go on to a moment, or to the end of the last packet's bin."""
        if math.isfinite(self._now):
            width = self.judge.settings.bin_s
            for moment in _bin_ends(self._now, until or (math.floor(self._now / width) + 1) * width, width):
                self._advance(moment)
        if self.judge.episode is not None:
            self.episodes.append(self.judge.episode)

    def go_on(self, until: float) -> None:
        """Close the bins that have ended by a moment: how a reference stands then, without a packet since."""
        for moment in _bin_ends(self._now, until, self.judge.settings.bin_s):
            self._advance(moment)
        self._now = max(self._now, until)

    def _advance(self, moment: float) -> None:
        said = self.judge.advance(moment, self._near(moment) if self._references else ())
        if said:
            self._hear(said)
        self._note_bin()
        if not moment % self.judge.settings.hour_s:
            self._begin_stretch(moment)

    def _hear(self, said: Sequence[Saying]) -> None:
        if not said:
            return
        self.said += said
        self.episodes += [s.episode for s in said if s.word is Word.CLOSED and s.episode]
        self._open.clear()

    def _note_bin(self) -> None:
        last = self.judge.last_bin
        if last is None or (self.bins and last.start <= self.bins[-3]):
            return
        if math.isnan(last.queue_s):
            self._open.clear()  # what nobody could have seen is no trial of the method: it is missing coverage
            return
        self.bins.extend((last.start, last.end, last.queue_s))
        if self._beside and (standing := self.judge.standing()):
            self._standings.append(standing)
            self._stood_at.append(standing.at)

    def _near(self, moment: float) -> list[Standing]:
        """How the references stood at a moment, as far as their bins had ended."""
        found = []
        for reference in self._references:
            place = bisect_right(reference._stood_at, moment)
            found += reference._standings[place - 1 : place] if place else []
        return found

    # Quiet stretches.

    def _begin_stretch(self, moment: float) -> None:
        judge, hour_s = self.judge, self.judge.settings.hour_s
        if round(moment / hour_s) * _GOLDEN % 1.0 >= self._chance:
            return  # spread evenly over the record and over the hours of a day
        if not judge.learning and judge.suspected_at is None and judge.episode is None:
            self._open.append(_Stretch(orjson.dumps(judge.state()), moment))

    def _keep(self, packets: Timed, place: int, end: int) -> None:
        at, rtt_s = packets.at, packets.rtt_s
        for stretch in self._open:
            stretch.at.extend(at[place:end])
            stretch.rtt_s.extend(rtt_s[place:end])
        while self._open and self._now >= self._open[0].begins + self._length:
            self._quiet.append(self._open.pop(0))

    def quiet(self) -> list[Quiet]:
        """Return quiet stretches, spread over the record."""
        step = max(1, len(self._quiet) // TRIALS)
        return [s.quiet() for s in self._quiet[::step][:TRIALS]]

    def limit(self, trials_least: int = 1) -> Limit | None:
        """Return which queue would have been found on this path; None without quiet stretches enough to tell."""
        found = self.quiet()
        scale = self.judge.settings.bin_s / DEFAULT.bin_s
        return (
            detection_limit(found, self.judge.threshold_s, [m * scale for m in MINUTES])
            if len(found) >= trials_least
            else None
        )


def _bin_ends(before: float, now: float, width: float) -> Iterator[float]:
    """Give the ends of bins after a moment: the first, and the last up to `now` when more have passed."""
    last = math.floor(now / width) * width
    if last <= before:
        return
    first = (math.floor(before / width) + 1) * width if math.isfinite(before) else last
    if first < last:
        yield first
    yield last


def judge_packets(packets: Sequence[Packet], references: Sequence[Packet] = (), settings: Settings = DEFAULT) -> Path:
    """Judge a whole record of one path, and beside it that of a reference on our side."""
    hours = (packets[-1].at - packets[0].at) / 3600 if packets else 0.0
    beside = Path(settings, hours=hours)
    path = Path(settings, hours=hours, references=(beside,))
    timed, near = Timed.of(packets), Timed.of(references)
    if references and packets:
        width = settings.bin_s
        beside.feed(near)
        beside.go_on((math.floor(max(packets[-1].at, references[-1].at) / width) + 1) * width)
    path.feed(timed)
    path.finish()
    return path
