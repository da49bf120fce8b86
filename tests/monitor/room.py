"""A pipeline with a real journal, a clock of the test's own and results fed by hand; and the way back to its records.

Times are seconds after T0. What one life leaves to the next, by a stop, a crash or a reload, is the journal alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from config.plan import OutagePolicy, Plan, Target, Window
from monitor import availability
from monitor.board import Board, CheckView
from monitor.history import History, open_history
from monitor.journal import Journal
from monitor.model import Change, Gap, Incident, OutboxItem, Result, SlotCount, State
from monitor.pipeline import Pipeline
from probes.base import Path as Uplink
from tests.monitor.builders import MAIL, SITE, T0, at, bad, check, plan, reference, service, span

T = TypeVar("T")


@dataclass
class Room:
    """One life of the monitor."""

    plan: Plan
    folder: Path
    journal: Journal
    board: Board
    pipeline: Pipeline
    results: asyncio.Queue[Result]
    now: float = 0.0
    asked: list[tuple[str, float]] = field(default_factory=list)  # rechecks: check, delay in seconds
    slots: list[SlotCount] = field(default_factory=list)  # what the scheduler would hand over next
    woken: int = 0

    async def feed(self, *results: Result, now: float | None = None) -> None:
        """Put results through; it is then just after the last of them, or `now`."""
        last = max((r.started_at for r in results), default=at(self.now))
        self.now = max(self.now, (last - T0).total_seconds() + 0.05) if now is None else now
        await self.pipeline.put_through(results)

    async def wait(self, now: float) -> None:
        """Let time pass without a result."""
        await self.feed(now=now)

    def check(self, name: str) -> CheckView:
        return self.board.checks[name]

    def state(self, name: str) -> State:
        """What the board shows of a check or of a service."""
        return self.board.checks[name].state if "." in name else self.board.services[name].state

    def since(self, name: str) -> float | None:
        view = self.board.checks[name] if "." in name else self.board.services[name]
        return None if view.since is None else (view.since - T0).total_seconds()

    def open_incidents(self) -> dict[str, Incident]:
        return {i.subject: i for i in self.board.open_incidents.values()}

    def asked_for(self, name: str) -> list[float]:
        return [delay for check, delay in self.asked if check == name]

    # What was recorded.

    async def outbox(self) -> Sequence[OutboxItem]:
        return await self.journal.claim("mail", at(1e9), 1000)

    async def told(self) -> list[tuple[str, str]]:
        """What was said, in order: kind and service."""
        return [(i.notice.kind.value, i.notice.service) for i in await self.outbox()]

    async def read(self, question: Callable[[History], T]) -> T:
        def work() -> T:
            with open_history(self.folder, SITE) as history:
                return question(history)

        return await asyncio.to_thread(work)

    async def changes(self, subject: str) -> list[Change]:
        return list((await self.read(lambda h: h.changes(at(1e9)))).get(subject, []))

    async def gaps(self, check: str) -> list[tuple[float, float | None, str]]:
        found: Mapping[str, list[Gap]] = await self.read(lambda h: h.gaps(span(-1e6, 1e9)))
        return [
            ((g.start - T0).total_seconds(), None if g.end is None else (g.end - T0).total_seconds(), g.cause)
            for g in sorted(found.get(check, []), key=lambda g: g.start)
        ]

    async def incidents(self) -> Sequence[Incident]:
        return await self.read(lambda h: h.incidents(span(-1e6, 1e9)))

    async def seconds(self, check: str, start: float, end: float) -> dict[str, float]:
        """Seconds of each state of a check in a period, as a report would count them."""
        period: Window = span(start, end)
        changes = await self.changes(check)
        gaps = (await self.read(lambda h: h.gaps(period))).get(check, [])
        segments = availability.timeline(changes, gaps, period, known_until=at(self.now))
        return {s.value: x for s, x in availability.seconds_by_state(segments).items() if x}


async def _open(plan: Plan, folder: Path, now: float, reloaded: bool) -> Room:
    journal = await Journal.open(folder, SITE)
    results: asyncio.Queue[Result] = asyncio.Queue()
    board = Board(plan, at(now))
    room: list[Room] = []

    def take_slots() -> Sequence[SlotCount]:
        taken, room[0].slots = room[0].slots, []
        return taken

    def told() -> None:
        room[0].woken += 1

    asked: list[tuple[str, float]] = []
    pipeline = Pipeline(
        plan,
        journal,
        board,
        results,
        request=lambda check, delay: asked.append((check, delay)),
        slot_counts=take_slots,
        told=told,
        clock=lambda: at(room[0].now),
    )
    room.append(Room(plan, folder, journal, board, pipeline, results, now, asked))
    recovered = await journal.begin_run(at(now), plan.digest, "0", plan.text)
    await journal.commit(pipeline.resume(recovered, at(now), reloaded=reloaded), at(now))
    return room[0]


@contextlib.asynccontextmanager
async def living(plan: Plan, folder: Path, now: float = 0.0, *, reloaded: bool = False) -> AsyncIterator[Room]:
    """One life, from `now` on; leaving the block is a crash: nothing is written any more."""
    room = await _open(plan, folder, now, reloaded)
    try:
        yield room
    finally:
        await room.journal.close()


# The small province most tests watch: one service, and references near and far.

SMTP = "mail.smtp"
GATEWAY, FAR, FAR_2 = "references.gateway", "references.vnix", "references.quad"
VNPT = Uplink("vnpt", "VNPT cáp quang", source="192.0.2.10")


def one_service(*references: Target, every_s: float = 30.0, **rule: float) -> Plan:
    policy = OutagePolicy(**rule)  # type: ignore[arg-type]
    return plan(service("mail", check(SMTP, every_s=every_s, policy=policy)), references=references, mail=MAIL)


def far(name: str, **more: object) -> Target:
    return reference(name.partition(".")[2], policy=OutagePolicy(bad_rounds=2), **more)  # type: ignore[arg-type]


def near(name: str = GATEWAY) -> Target:
    return reference(name.partition(".")[2], near=True, policy=OutagePolicy(bad_rounds=2))


async def rounds(room: Room, name: str, *seconds: float, first_attempt: int = 0) -> None:
    """Feed bad results of a check, each in a transaction of its own."""
    for number, moment in enumerate(seconds):
        await room.feed(bad(name, moment, attempt=first_attempt + number))


async def lose_uplink(room: Room, *names: str, start: float = 30.0) -> None:
    """A check's first bad result at `start`, then the references: bad twice each, between the check's rounds."""
    await room.feed(bad(SMTP, start))
    for name in names:
        await room.feed(bad(name, start + 1))
    await room.feed(bad(SMTP, start + 5, attempt=1))
    for name in names:
        await room.feed(bad(name, start + 6, attempt=1))
    await room.feed(bad(SMTP, start + 10, attempt=2))
