"""The daemon's pipeline in time that is made up: a clock that a feed of results moves, and no channel behind it.

Everything that judges, groups and owes a word is the daemon's own code; what `simulate event`, `replay journal` and
`drill` have in common is only how results come to it and how time passes between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from config.plan import Plan
from monitor.announcer import Announcer
from monitor.board import Board
from monitor.journal import Journal
from monitor.judge.congestion import Judge
from monitor.judge.episode import Settings
from monitor.model import Result, SlotCount, State
from monitor.own_watch import Lapse, OwnWatch
from monitor.pipeline import GATHER_S, Pipeline

GATHER_CALM_S: Final = 20.0  # good results of this long go through together; a bad one goes through at once
TICK_S: Final = 0.5  # as the daemon: while something is unsettled it is reviewed this often
UNSETTLED_S: Final = 90.0  # longer than any wait of the duty book, after which nothing moves without a result


class Feed(Protocol):
    """Where results come from, and the clock that goes with them."""

    now: datetime

    async def due(self) -> datetime | None:
        """Return when the next result comes; None when there is none any more."""

    def take(self) -> Result:
        """Return the next result, and move the clock to it."""

    def request(self, check: str, delay_s: float) -> None:
        """Be asked for one more run of a check after some seconds."""

    def take_counts(self) -> Sequence[SlotCount]:
        """Return the ledger of slots since the last call."""


class RecordedWatch(OwnWatch):
    """Times in which we stood still, slept or had our clock set, given back when a feed's clock has reached them."""

    def __init__(self, lapses: Sequence[Lapse], now: Callable[[], datetime]) -> None:
        """Args: lapses: by their ends. now: the feed's clock. Reads no clock of this machine."""
        self._waiting = list(lapses)
        self._now = now

    def take(self) -> list[Lapse]:
        """Return what is over by now, oldest first."""
        found = [lapse for lapse in self._waiting if lapse.end <= self._now()]
        self._waiting = self._waiting[len(found) :]
        return found


@dataclass(frozen=True, slots=True)
class Manner:
    """How a life is lived."""

    version: str  # what the run says of itself
    ticks: bool = True  # review as often as the daemon while something is unsettled, with or without a result
    reloaded: bool = False  # the process before goes on with another configuration: no time has passed unobserved
    lapses: Sequence[Lapse] = ()
    congestion: Settings | None = None  # other settings for the judge of queues


class _Life:
    def __init__(self, plan: Plan, journal: Journal, feed: Feed, manner: Manner) -> None:
        self.feed = feed
        self.manner = manner
        self.board = Board(plan, feed.now)
        self.pipeline = Pipeline(
            plan,
            journal,
            self.board,
            asyncio.Queue(),
            request=feed.request,
            slot_counts=feed.take_counts,
            told=lambda: None,
            clock=lambda: feed.now,
            own_watch=RecordedWatch(manner.lapses, lambda: feed.now) if manner.lapses else None,
        )
        self._batch: list[Result] = []
        self._through = feed.now  # when something went through last
        self._until = feed.now  # unsettled until then

    async def run(self, end: datetime) -> None:
        feed = self.feed
        while (due := await feed.due()) is not None and due < end:
            if (wanted := self._next_review()) is not None and wanted < due:
                feed.now = wanted
                await self._put_through()
                continue
            if self._batch and (due - self._batch[0].started_at).total_seconds() > GATHER_CALM_S:
                await self._put_through()
            result = feed.take()
            self._batch.append(result)
            if result.reading.fault is not None:
                await self._bad(result)
        while (wanted := self._next_review()) is not None and wanted < end:
            feed.now = wanted
            await self._put_through()
        await self._put_through()
        feed.now = max(end, feed.now)
        self.pipeline.stop()
        await self.pipeline.run()

    def _next_review(self) -> datetime | None:
        """Return when the daemon would look again though nothing came; None when there is nothing to look for."""
        if not self.manner.ticks or self._through >= self._until:
            return None
        return self._through + timedelta(seconds=TICK_S)

    async def _bad(self, result: Result) -> None:
        view = self.board.checks.get(result.check)
        if self.manner.ticks and (view is None or view.state is not State.DOWN):
            # The daemon gathers for a moment before it judges; good answers of that moment count first.
            self._until = self.feed.now + timedelta(seconds=UNSETTLED_S)
            self._through = self.feed.now + timedelta(seconds=GATHER_S - TICK_S)
        else:
            await self._put_through()

    async def _put_through(self) -> None:
        version = self.board.version
        await self.pipeline.put_through(self._batch)
        self._batch = []
        self._through = self.feed.now
        if self.board.version != version:
            self._until = self.feed.now + timedelta(seconds=UNSETTLED_S)


async def live(plan: Plan, journal: Journal, feed: Feed, end: datetime, manner: Manner) -> None:
    """Live from the feed's clock to the end: one run of the daemon, from its start to its stop.

    Raises:
        JournalBusyError: the journal cannot be written.
    """
    life = _Life(plan, journal, feed, manner)
    recovered = await journal.begin_run(feed.now, plan.digest, manner.version, plan.text)
    announcer = Announcer(plan, journal, life.pipeline.book, lambda: feed.now)
    await announcer.begin()
    await journal.commit(life.pipeline.resume(recovered, feed.now, reloaded=manner.reloaded), feed.now)
    if manner.congestion is not None:
        for check, track in life.pipeline.tracks.items():
            if check not in recovered.queues:
                track.queue.judge = Judge(manner.congestion)
    await life.run(end)
    await journal.end_run(feed.now)
