"""A round of echoes: when each is due, what became of it, and when the whole is over. A link sends them.

No socket and no bytes live here.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from probes import icmp_packet
from probes.deadlines import Deadlines
from probes.net import SocketAddress


class Link(Protocol):
    """The socket that echoes leave by."""

    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    late: dict[str, int]  # address -> late answers nobody was told of yet

    def maker(self, size_bytes: int) -> icmp_packet.EchoMaker:
        """Return the maker of echoes with this payload."""

    def ask_to_send(self, of: Round) -> None:
        """Let a round send its next echo at the end of this turn."""

    def send(self, of: Round, index: int, maker: icmp_packet.EchoMaker) -> int:
        """Send one echo and return its sequence number."""

    def read(self) -> None:
        """Take in every packet that has come."""

    def overflowed_since(self, began: float) -> bool:
        """Say whether our own receive buffer had no room for a packet since a moment of the loop's clock."""

    def release(self, of: Round) -> None:
        """Forget a round's echoes."""

    def retire(self) -> None:
        """Take no more rounds."""


class Plan(NamedTuple):
    """One round of echoes."""

    to: SocketAddress
    echoes: int
    gap_s: float
    wait_s: float  # how long an echo is waited for, from the sending of the last
    size_bytes: int  # of the payload


@dataclass(slots=True)
class Outcome:
    """What became of a round."""

    rtts_s: list[float | None] = field(default_factory=list)  # one an echo sent; None is lost
    duplicates: int = 0
    late: int = 0  # echoes of earlier rounds to the same address, answered since the last round began
    hops: int | None = None  # TTL or hop limit left in the last reply
    answered_by: str = ""  # the address that replied, when it is not the one asked
    refusals: list[tuple[str, str]] = field(default_factory=list)  # (who, what) of ICMP errors, one an echo
    send_error: OSError | None = None  # why the round ended before all were sent
    overflowed: bool = False  # our own receive buffer dropped packets meanwhile


class Sent:
    """One echo under way, or lost and remembered for a while."""

    __slots__ = ("body", "index", "number", "offset_ns", "round", "sent_ns", "wall_ns")

    def __init__(self, of: Round, index: int, body: bytes) -> None:
        self.round = of
        self.index = index
        self.body = body  # the payload, as it must come back
        self.number = -1  # the kernel's, of its stamp of sending; -1 when none is due
        self.sent_ns = time.monotonic_ns()
        self.wall_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)  # ours, until the kernel's stamp of sending is there
        self.offset_ns = self.wall_ns - self.sent_ns


Ended = Callable[[Outcome | None], None]  # None: the socket was closed under the round


class Round:
    """The echoes of one call: sends by timer, ends when all have an answer or the wait is over."""

    __slots__ = (
        "_began",
        "_ended",
        "_grain",
        "_maker",
        "_settled",
        "_timer",
        "_to_send",
        "ended",
        "ends_ns",
        "link",
        "outcome",
        "plan",
        "seqs",
    )

    def __init__(self, link: Link, plan: Plan, ended: Ended) -> None:
        self.link = link
        self.plan = plan
        self.outcome = Outcome()
        self.seqs: list[int] = []
        self._maker = link.maker(plan.size_bytes)
        self._settled = 0  # echoes with a reply or an ICMP error
        self._began = link.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._grain = 0  # of the wait's end, once the last echo is on its way
        self.ends_ns = sys.maxsize  # the same by the monotonic clock
        self._to_send = plan.echoes
        self._ended: Ended | None = ended  # None once called
        self.ended = False

    def ask_to_send(self) -> None:
        """Put the next echo, or all that are left when there is no gap, with what is sent at the end of this turn."""
        plan = self.plan
        if plan.gap_s and self._to_send > 1:
            self._to_send -= 1
            self.link.ask_to_send(self)
            sent = plan.echoes - self._to_send
            self._timer = self.link.loop.call_at(self._began + sent * plan.gap_s, self.ask_to_send)
            return
        while self._to_send:
            self._to_send -= 1
            self.link.ask_to_send(self)

    def send_one(self) -> None:
        """Send the next echo: the link's turn to send has come."""
        outcome = self.outcome
        if self.ended or outcome.send_error is not None:
            return
        try:
            self.seqs.append(self.link.send(self, len(self.seqs), self._maker))
        except OSError as exc:
            self._cannot_send(exc)
            return
        outcome.rtts_s.append(None)
        if len(self.seqs) == self.plan.echoes:
            self._wait()

    def _cannot_send(self, exc: OSError) -> None:
        self.outcome.send_error = exc
        if self._timer is not None:
            self._timer.cancel()
        self._to_send = 0
        if self._settled < len(self.seqs):
            self._wait()
        else:
            # Whoever asked has not come back from asking yet, or reads others' replies.
            self.link.loop.call_soon(self._finish)

    def _wait(self) -> None:
        wait_s = self.plan.wait_s
        self._grain = self.link.deadlines.add(self.link.loop, self, wait_s)
        self.ends_ns = time.monotonic_ns() + int(wait_s * 1e9)

    def answered(self, index: int, rtt_s: float, source: str, hops: int | None) -> None:
        """Take a reply in."""
        outcome = self.outcome
        if outcome.rtts_s[index] is not None:
            outcome.duplicates += 1
            return
        outcome.rtts_s[index] = rtt_s
        outcome.hops = hops
        if source != self.plan.to[0] and (source := source.partition("%")[0]) != self.plan.to[0]:
            outcome.answered_by = source
        self._settled += 1
        self._finish_if_settled()

    def refused(self, who: str, what: str) -> None:
        """Take an ICMP error about one of the echoes in."""
        self.outcome.refusals.append((who, what))
        self._settled += 1
        self._finish_if_settled()

    def _finish_if_settled(self) -> None:
        if self._settled >= self.plan.echoes or (
            self.outcome.send_error is not None and self._settled >= len(self.seqs)
        ):
            self._finish()

    def expire(self) -> None:
        """End the round: the wait is over."""
        self.link.read()  # what the kernel holds may have come in time, however late we look: its stamp tells
        self._finish()

    def _finish(self) -> None:
        ended = self._ended
        if self.ended or ended is None:
            return
        outcome = self.outcome
        if None in outcome.rtts_s:
            outcome.overflowed = self.link.overflowed_since(self._began)
        link = self.link
        self.close()
        if link.late:
            outcome.late = link.late.pop(self.plan.to[0], 0)
        if outcome.send_error is not None:
            # The socket may be bound to an interface or address that has gone; the next round opens a new one.
            link.retire()
        ended(outcome)

    def abandon(self) -> None:
        """End without an outcome: the socket is closed."""
        ended = self._ended
        self.close()
        if ended is not None:
            ended(None)

    def close(self) -> None:
        """Stop timers and forget the echoes; lost ones are kept a while, to know a late answer."""
        if self.ended:
            return
        self.ended = True
        self._ended = None
        if self._timer is not None:
            self._timer.cancel()
        self.link.deadlines.drop(self, self._grain)
        self.link.release(self)
