"""What the judge of congestion goes by, keeps in mind and says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from monitor.judge.bins import Bin
from monitor.judge.loss import wilson

HOURS_MOST: Final = 48  # hours of an open episode that are remembered
MODERATE_S: Final = 0.020  # standing queue from which an episode is moderate
SEVERE_S: Final = 0.050  # and severe
SEVERE_LOSS: Final = 0.01  # or loss, proved, of which a person notices


class Cause(StrEnum):
    """What a raised delay, or loss, was found to be."""

    CONGESTION = "congestion"  # a queue, or loss, beyond the references
    NEAR_SIDE = "near-side"  # the references queue with it: it is on our side
    ROUTE_CHANGE = "route-change"  # a constant shift: another path, not a queue


class Severity(StrEnum):
    """How bad an episode is, for people."""

    LIGHT = "light"
    MODERATE = "moderate"
    SEVERE = "severe"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the judge goes by. Times and delays in seconds."""

    bin_s: float = 300.0
    hour_s: float = 3600.0
    learn_hours: int = 6  # hours of data before the first verdict
    rise_s: float = 0.007  # a smaller queue is never called; CAIDA's figure for interdomain links
    noise_times: float = 6.0  # and none smaller than so many standard deviations of the path's own minima
    stand_s: float = 900.0  # a queue that stands so long is confirmed
    evidence: float = 11.0  # or sooner, when its bins' (queue / threshold)² sum to this: one of 3.3, two of 2.3
    build_times: float = 2.0  # it began to build up where the median had risen by so many thresholds
    ease_s: float = 2700.0  # an episode has ended when no queue has stood for so long
    flat_s: float = 3600.0  # how long a shift must be constant to be a route
    flat_share: float = 0.10  # of the rise, within which half of the minima must lie
    drop_s: float = 0.003  # a floor that is lower by more than this for `flat_s` is another route
    near_share: float = 0.5  # a reference with this share of the queue has it on our side
    near_least_s: float = 0.003  # and at least this much
    loss_least: float = 0.02  # loss that is congestion by itself, when even its lower bound is as large
    loss_packets: int = 90  # packets without which nothing is said of loss

    def scaled(self, factor: float) -> Settings:
        """Return the same rule for a world that runs `factor` times faster: drills, and tests on real queues."""
        return replace(
            self,
            bin_s=self.bin_s / factor,
            hour_s=self.hour_s / factor,
            stand_s=self.stand_s / factor,
            ease_s=self.ease_s / factor,
            flat_s=self.flat_s / factor,
        )

    def peak(self) -> Settings:
        """Return the fast tier for peaks with a higher rate: a third of the windows, a threshold of 10 ms.

        What it finds is suspected, not confirmed: on a link with small queues such windows gave five times as many
        short episodes.
        """
        return replace(self.scaled(3), hour_s=self.hour_s, rise_s=max(0.010, self.rise_s))


DEFAULT: Final = Settings()


@dataclass(frozen=True, slots=True)
class Standing:
    """A path as it stands after its last bin; what a reference says of our own side."""

    at: float  # end of the bin, seconds since 1970
    queue_s: float  # standing above the floor
    threshold_s: float
    loss: float  # ratio over the last window


@dataclass(frozen=True, slots=True)
class Episode:
    """Raised delay or loss, from its first bin. Times in seconds since 1970, delays in seconds."""

    start: float
    end: float  # the last moment at which it stood, so far
    suspected_at: float
    alarm_at: float  # when it was confirmed
    cause: Cause
    severity: Severity
    floor_s: float
    threshold_s: float
    noise_s: float
    peak_s: float  # largest standing queue; for a route change the shift, negative when the path became shorter
    sent: int
    lost: int
    by_loss: bool  # loss alone showed it

    @property
    def loss(self) -> float:
        """Share of its packets that were lost."""
        return self.lost / self.sent if self.sent else 0.0


class Word(StrEnum):
    """What the judge has to say."""

    SUSPECTED = "suspected"
    CLEARED = "cleared"  # a suspicion came to nothing
    OPENED = "opened"
    CHANGED = "changed"  # the cause is known better now
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Saying:
    """One thing the judge says, at the moment it can be known."""

    word: Word
    at: float
    episode: Episode | None = None


@dataclass(slots=True)
class Run:
    """Packets in a row that were all slower than the line, and what the bins among them weigh."""

    since: float = -math.inf  # the last packet that was not slow, or the first seen
    first: float = 0.0
    last: float = 0.0
    count: int = 0
    least_s: float = math.inf
    bins: int = 0  # whole bins in which the queue stood
    near: int = 0  # of them, those in which a reference had it too
    evidence: float = 0.0
    peak_s: float = 0.0

    def see(self, at: float, rtt_s: float) -> None:
        """Take in one more slow packet."""
        if not self.count:
            self.first = at
        self.last = at
        self.count += 1
        self.least_s = min(self.least_s, rtt_s)

    def state(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return _finite(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Run:
        """Go on from what `state` returned."""
        return cls(**_without_none(state))

    def weigh(self, queue_s: float, threshold_s: float, *, near: bool) -> None:
        """Take in a whole bin."""
        if queue_s <= threshold_s:
            self.bins, self.near, self.evidence, self.peak_s = 0, 0, 0.0, 0.0
            return
        self.bins += 1
        self.near += near
        self.evidence += (queue_s / threshold_s) ** 2
        self.peak_s = max(self.peak_s, queue_s)


@dataclass(slots=True)
class Open:
    """An episode under way."""

    start: float
    stood_from: float  # `start` may lie before it, where the queue was building up
    end: float
    suspected_at: float
    alarm_at: float
    floor_s: float
    threshold_s: float
    noise_s: float
    by_loss: bool = False
    stood: bool = False  # for the whole time of a confirmation
    peak_s: float = 0.0
    sent: int = 0
    lost: int = 0
    bins: int = 0
    near: int = 0
    cause: Cause = Cause.CONGESTION
    waiting_sent: int = 0  # packets since `end`: the episode's if it stands again
    waiting_lost: int = 0
    hour: int = -1
    hour_least: float = math.inf
    hours: list[float] = field(default_factory=list)  # least rise of each whole hour, at most HOURS_MOST

    @property
    def blame(self) -> Cause:
        """Whose queue it is, by most of its bins."""
        return Cause.NEAR_SIDE if 2 * self.near > self.bins else Cause.CONGESTION

    def count(self, found: Bin) -> None:
        """Take in the packets of a bin; they are the episode's once it stands again."""
        self.waiting_sent += found.sent - found.silent
        self.waiting_lost += found.lost

    def stands(self, until: float) -> None:
        """Let it reach up to a moment."""
        self.end = until
        self.sent += self.waiting_sent
        self.lost += self.waiting_lost
        self.waiting_sent = self.waiting_lost = 0

    def see_hour(self, start: float, rise: float, hour_s: float) -> None:
        """Take in how far a bin's minimum lies above the floor."""
        hour = int(start // hour_s)
        if hour != self.hour:
            if self.hour >= 0:
                self.hours = [*self.hours[1 - HOURS_MOST :], self.hour_least]
            self.hour, self.hour_least = hour, rise
        else:
            self.hour_least = min(self.hour_least, rise)

    def state(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return _finite(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Open:
        """Go on from what `state` returned."""
        return cls(**{**_without_none(state), "cause": Cause(state["cause"])})

    def told(self) -> Episode:
        """Return it as it stands."""
        low = wilson(self.lost, self.sent)[0]
        severe = self.peak_s >= SEVERE_S or low >= SEVERE_LOSS
        return Episode(
            self.start,
            self.end,
            self.suspected_at,
            self.alarm_at,
            self.cause,
            Severity.SEVERE if severe else Severity.MODERATE if self.peak_s >= MODERATE_S else Severity.LIGHT,
            self.floor_s,
            self.threshold_s,
            self.noise_s,
            self.peak_s,
            self.sent,
            self.lost,
            self.by_loss,
        )


def _finite(part: Run | Open) -> dict[str, Any]:
    """Return its fields, with None for the infinities that JSON cannot hold."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(part).items()}


def _without_none(state: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the infinities: the type begins with them."""
    return {k: v for k, v in state.items() if v is not None}
