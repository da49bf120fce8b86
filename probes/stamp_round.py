"""What a round of test packets tells: loss and variation each way, delays, and how a voice would sound. No sockets.

Source: RFC 8762 section 4 (whose number is whose), RFC 3393 and RFC 5481 section 4.2 (PDV: delay less the least delay),
RFC 4737 section 3 (reordering), RFC 7679 (one-way delay); voice in `probes.voice`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Final

from probes import voice
from probes.stamp_packet import Reflected
from probes.voice import Codec

PDV_SHARE: Final = 0.95  # of the packets that vary no more than the PDV told; chosen: usual in service agreements
_CLOCK_SLACK_NS: Final = 1_000_000  # chosen: more than clocks differ in speed while a packet is held
_ONE_WAY_MOST_S: Final = 10.0  # a one-way delay above this is a difference of clocks; chosen


@dataclass(frozen=True, slots=True)
class Reply:
    """One test packet that came back."""

    seq: int  # the sender's
    sent_ns: int
    came_ns: int
    packet: Reflected

    @property
    def rtt_s(self) -> float:
        """Both ways, without the reflector's own time."""
        return (self.came_ns - self.sent_ns - self.packet.held_ns) / 1e9

    @property
    def is_possible(self) -> bool:
        """Whether the reflector's times fit into ours."""
        return -_CLOCK_SLACK_NS <= self.packet.held_ns <= self.came_ns - self.sent_ns + _CLOCK_SLACK_NS

    @property
    def forward_s(self) -> float:
        """The way there by both clocks; their difference is in it."""
        return (self.packet.received_ns - self.sent_ns) / 1e9

    @property
    def backward_s(self) -> float:
        """The way back by both clocks; their difference is in it."""
        return (self.came_ns - self.packet.sent_ns) / 1e9


@dataclass(slots=True)
class Round:
    """All that was sent and came."""

    sent: int = 0
    first: dict[int, Reply] = field(default_factory=dict)  # the first reply to each number, in order of arrival
    duplicates: int = 0
    doubled_there: int = 0  # duplicates that the reflector counted twice: they arose on the way there
    reordered: int = 0
    foreign: int = 0
    lateness_s: float = 0.0  # greatest delay of our own sending
    _highest: int = -1

    def take(self, reply: Reply) -> None:
        """Note a reply."""
        earlier = self.first.get(reply.seq)
        if earlier is not None:
            self.duplicates += 1
            self.doubled_there += reply.packet.seq not in (earlier.packet.seq, reply.seq)
            return
        self.first[reply.seq] = reply
        if reply.seq < self._highest:
            self.reordered += 1
        self._highest = max(self._highest, reply.seq)

    @property
    def replies(self) -> list[Reply]:
        """The first replies, in order of sending."""
        return [self.first[seq] for seq in sorted(self.first)]

    @property
    def loss_ratio(self) -> float:
        """Share that did not come back."""
        return 1 - len(self.first) / self.sent if self.sent else 0.0

    @property
    def longest_loss(self) -> int:
        """Length of the longest run of lost packets."""
        return max(self._runs(), default=0)

    @property
    def burst_ratio(self) -> float:
        """How much longer runs of loss are than chance would make them, at least 1 (G.107 clause 7.5)."""
        runs = self._runs()
        if not runs or not self.first:
            return 1.0
        return max(1.0, sum(runs) / len(runs) * (1 - self.loss_ratio))

    def _runs(self) -> list[int]:
        return [len(list(run)) for lost, run in groupby(seq not in self.first for seq in range(self.sent)) if lost]


@dataclass(frozen=True, slots=True)
class Way:
    """One direction: what was lost on it and how its delay varied."""

    loss_ratio: float | None  # None: the reflector does not tell
    pdv_s: float
    jitter_s: float | None
    spread_s: Sequence[float]  # delay of each packet above the least


def losses(done: Round, *, counts: bool) -> tuple[float | None, float | None]:
    """Tell loss there from loss back, up to the last packet that came back, by the reflector's own count.

    Args:
        done: the round.
        counts: whether the reflector is said to count its own packets from 0. Without that it is believed only
            when its numbers cannot be ours repeated.
    """
    if not done.first:
        return None, None
    if len(done.first) == done.sent:
        return 0.0, 0.0
    last = max(done.first)
    reflected = max(reply.packet.seq for reply in done.first.values()) + 1
    own_count = any(reply.packet.seq != seq for seq, reply in done.first.items())
    if not (counts or own_count) or reflected > last + 1 + done.doubled_there or reflected < len(done.first):
        return None, None
    arrived = reflected - done.doubled_there
    return max(0, last + 1 - arrived) / (last + 1), max(0, arrived - len(done.first)) / arrived


def way(delays_s: Sequence[float], loss_ratio: float | None, seqs: Sequence[int]) -> Way:
    """Describe one direction from its delays, of which only differences count, and the numbers of their packets."""
    least = min(delays_s)
    spread = [delay - least for delay in delays_s]
    return Way(loss_ratio, quantile(spread, PDV_SHARE), jitter(delays_s, seqs), spread)


def jitter(delays_s: Sequence[float], seqs: Sequence[int]) -> float | None:
    """Return the mean absolute difference of delay between packets sent one after the other; None without any."""
    pairs = zip(pairwise(delays_s), pairwise(seqs), strict=True)
    steps = [abs(later - earlier) for (earlier, later), (one, next_) in pairs if next_ == one + 1]
    return sum(steps) / len(steps) if steps else None


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def clocks_agree(replies: Sequence[Reply]) -> bool:
    """Say whether one-way delays can be told: the reflector vouches for its clock, and none is negative or absurd."""
    return all(
        reply.packet.synchronised
        and reply.packet.received_ns
        and 0 <= reply.forward_s < _ONE_WAY_MOST_S
        and 0 <= reply.backward_s < _ONE_WAY_MOST_S
        for reply in replies
    )


def voice_rating(done: Round, one: Way, delay_s: float, *, codec: Codec, buffer_s: float) -> float:
    """Rate how a voice would sound over one direction, played from a jitter buffer of fixed length.

    Args:
        done: the round; its loss counts where the direction's own is not known, so that the rating errs to the worse.
        one: the direction.
        delay_s: its least delay.
        codec: how voice is coded.
        buffer_s: how long the receiver holds packets back; what is later than that cannot be played.
    """
    loss = done.loss_ratio if one.loss_ratio is None else one.loss_ratio
    too_late = sum(spread > buffer_s for spread in one.spread_s) / len(one.spread_s)
    mouth_to_ear_s = delay_s + buffer_s + voice.codec_delay_s(codec)
    unplayed = loss + (1 - loss) * too_late
    return voice.rating(mouth_to_ear_s, unplayed, codec=codec, burst_ratio=done.burst_ratio)
