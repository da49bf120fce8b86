"""A province in which things break at random, lived through by the whole pipeline with its journal in made-up time.

What is broken when is the truth that the laws in `test_pipeline_laws` are checked against; the pipeline sees results.
"""

from __future__ import annotations

import heapq
import random
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from config.plan import OutagePolicy, Plan, ServiceKind, Target
from monitor.journal import FILE_NAME
from monitor.model import Incident, Result
from probes.base import Path as Uplink
from tests.monitor.builders import MAIL, HostSettings, bad, blind, check, good, plan, reference, service
from tests.monitor.room import Room, living

VNPT, MOBI = Uplink("vnpt", "VNPT cáp quang"), Uplink("mobi", "MobiFone 4G")
TROUBLE_S: Final = 1500.0
CALM_S: Final = 1500.0
BURNT_S: Final = 4500.0  # calm after which scattered failures are over
STEP_S: Final = 0.5
QUIET_S: Final = 2.0
CALM_STEP_S: Final = 5.0
BROKEN, BLIND = "broken", "blind"


def _at(name: str, host: str, path: Uplink | None = None, **more: Any) -> Target:
    return replace(check(name, path=path, **more), settings=HostSettings(host=host))


def _by_paths(name: str, host: str) -> list[Target]:
    one_of = name.partition(".")[2]
    return [
        replace(_at(f"{name}@{u.id if u else 'own'}", host, u), one_of=one_of, needed=2) for u in (VNPT, MOBI, None)
    ]


def _reference(name: str, path: Uplink | None = None, *, near: bool = False) -> Target:
    found = reference(name, near=near, path=path, policy=OutagePolicy(bad_rounds=2))
    return replace(found, settings=HostSettings(host=f"{name}.example"))


PROVINCE: Final = plan(
    service("centre", _at("centre.ping", "10.0.0.1"), name="Trung tâm dữ liệu"),
    service("mail", _at("mail.smtp", "10.0.0.2"), _at("mail.imap", "10.0.0.2"), needs=["centre"], name="Thư điện tử"),
    service("portal", _at("portal.web", "10.0.0.3"), needs=["centre"], name="Cổng thông tin"),
    service("forms", _at("forms.web", "10.0.0.3"), needs=["portal"], name="Dịch vụ công"),
    service("archive", _at("archive.web", "10.0.0.3", every_s=60.0), name="Lưu trữ"),
    service("vnpt", _at("vnpt.ping", "10.1.0.1", VNPT), kind=ServiceKind.CARRIER, name="VNPT"),
    service("mobi", _at("mobi.ping", "10.2.0.1", MOBI), kind=ServiceKind.CARRIER, name="MobiFone"),
    service("shop", *_by_paths("shop.web", "10.3.0.1"), at_least=1, name="Trang thương mại"),
    service("bank", _at("bank.tcp", "10.4.0.1", VNPT), name="Ngân hàng"),
    service("quiet", _at("quiet.tcp", "10.5.0.1"), name="Yên ổn"),
    references=[
        _reference("gateway", near=True),
        _reference("far-1"),
        _reference("far-2"),
        _reference("far-3"),
        _reference("by-vnpt", VNPT),
        _reference("by-vnpt-2", VNPT),
        _reference("by-mobi", MOBI),
        _reference("by-mobi-2", MOBI),
    ],
    mail=MAIL,
)

# What can happen: its name, and which checks it hits.
HOSTS: Final = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "10.2.0.1", "10.3.0.1", "10.4.0.1")


@dataclass(frozen=True)
class Happening:
    """Something that is so from one second to another."""

    kind: str  # host | check | path | uplink | fade | local | share | flap
    what: str
    start: float
    end: float

    def of(self, target: Target) -> bool:
        if self.kind == "host":
            return target.settings.endpoint() == self.what
        if self.kind in ("check", "share", "flap"):
            return target.id == self.what
        if self.kind == "path":
            return target.path_id == self.what
        return self.kind in ("uplink", "fade", "local")

    def holds(self, target: Target, now: float) -> bool:
        """Whether a target is hit now: an uplink that fades is lost for one after the other."""
        late = zlib.crc32(target.id.encode()) % 60 if self.kind == "fade" else 0
        return self.start + late <= now < self.end and self.of(target)


def happenings(chance: random.Random, province: Plan) -> list[Happening]:
    """Return a handful of troubles, all over by `TROUBLE_S`."""
    checks = [t.id for t in province.targets() if t.service not in ("quiet", "references")]
    found = []
    for _ in range(chance.randint(2, 9)):
        kind = chance.choice(
            ["host", "host", "host", "check", "check", "path", "uplink", "fade", "local", "share", "flap"]
        )
        what = {"host": chance.choice(HOSTS), "path": chance.choice(["vnpt", "mobi"])}.get(kind, chance.choice(checks))
        start = chance.uniform(0, TROUBLE_S - 300)
        length = chance.choice([8, 25, 45, 90, 240, 400, 700])
        found.append(Happening(kind, what, start, min(start + length, TROUBLE_S)))
    if chance.random() < 0.3:  # what fails with others, within seconds
        start = chance.uniform(0, TROUBLE_S - 300)
        found += [Happening("host", h, start + chance.uniform(0, 20), start + 300) for h in chance.sample(HOSTS, 4)]
    return found


@dataclass
class World:
    """Runs the checks of a plan as the scheduler would, against what is so."""

    plan: Plan
    happenings: Sequence[Happening]
    chance: random.Random
    room: Room = field(init=False)
    now: float = 0.0
    breaks: list[tuple[float, float]] = field(default_factory=list)  # in which the daemon was off
    _due: list[tuple[float, int, str, int]] = field(default_factory=list)
    _asked: dict[str, tuple[float, int]] = field(default_factory=dict)
    _attempts: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Plan the slots from now on."""
        self.targets = {t.id: t for t in self.plan.targets()}
        spread = random.Random(7)
        phases = {name: spread.random() for name in self.targets}
        self._due = []
        for name, target in self.targets.items():
            first = phases[name] * target.every_s
            while first < self.now:
                first += target.every_s
            heapq.heappush(self._due, (first, 0, name, 0))
        self._attempts.clear()

    def so(self, target: Target, now: float) -> str:
        """Return what a check meets at a moment: nothing, a broken target, or our own inability to measure."""
        found = ""
        for one in self.happenings:
            if not one.holds(target, now):
                continue
            if one.kind == "local":
                return BLIND
            if one.kind == "share" and self.chance.random() > 0.3:
                continue
            if one.kind == "flap" and int(now / 70) % 2:
                continue
            found = BROKEN
        return found

    def _run(self, name: str, attempt: int) -> Result:
        target = self.targets[name]
        met = self.so(target, self.now)
        if met == BLIND:
            return blind(name, self.now, attempt=attempt)
        if met == BROKEN:
            return bad(name, self.now, attempt=attempt, path=target.path_id)
        return good(name, self.now, attempt=attempt, path=target.path_id)

    async def step(self) -> None:
        """Live until half a second is over in which something came, or for two without a result; in the calm faster."""
        following = max(self._due[0][0], self.now) if self._due else self.now
        calm = self.now > TROUBLE_S + 300
        self.now += CALM_STEP_S if calm else min(following + STEP_S - self.now, QUIET_S)
        results = []
        while self._due and self._due[0][0] <= self.now:
            _, asked, name, attempt = heapq.heappop(self._due)
            target = self.targets[name]
            if asked:
                if self._attempts.get(name) != asked:
                    continue  # asked for again meanwhile, or a slot came first
            else:
                heapq.heappush(self._due, (self.now + target.every_s, 0, name, 0))
            self._attempts.pop(name, None)
            results.append(self._run(name, attempt))
        await self.room.feed(*results, now=self.now + 0.05)
        for name, delay in self.room.asked:
            number = len(self.room.asked) + int(self.now * 10) * 1000
            self._attempts[name] = number
            heapq.heappush(self._due, (self.now + max(delay, 0.0), number, name, 1))
        self.room.asked.clear()

    async def deliver(self) -> None:
        """Let the relay take what is due."""
        for item in await self.room.journal.claim("mail", self.room.pipeline._clock(), 20):
            await self.room.journal.mark_sent(item.id, self.room.pipeline._clock(), "250 taken")


async def live(
    folder: Path, seed: int, look: Callable[[World], None], province: Plan = PROVINCE, *, restarts: bool = True
) -> World:
    """Live through a random history and the calm after it. Args: look: called every few seconds."""
    chance = random.Random(seed)
    world = World(province, happenings(chance, province), chance)
    stops = sorted(chance.uniform(30, TROUBLE_S) for _ in range(chance.randint(0, 4))) if restarts else []
    end = TROUBLE_S + (BURNT_S if any(h.kind in ("share", "flap") for h in world.happenings) else CALM_S)
    reloaded = False
    while True:
        async with AsyncExitStack() as stack:
            world.room = await stack.enter_async_context(living(province, folder, world.now, reloaded=reloaded))
            world.begin()
            until = stops.pop(0) if stops else end
            while world.now < until:
                await world.step()
                if chance.random() < 0.2:
                    await world.deliver()
                look(world)
            if until > TROUBLE_S:
                await world.deliver()
                look(world)
                return world
        reloaded = chance.random() < 0.3
        off = 0.0 if reloaded else chance.choice([0.0, 1.0, 20.0, 120.0])
        world.breaks.append((world.now, world.now + off))
        world.now += off
        stops = [s for s in stops if s > world.now]


def words(folder: Path) -> list[dict[str, Any]]:
    """Return the outbox, oldest first."""
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute("SELECT * FROM outbox ORDER BY id")]
    db.close()
    return found


def root_of(incident: Incident, known: dict[int, Incident]) -> Incident:
    """Return the open incident at the top of what an incident follows from."""
    while not incident.told and incident.parent is not None and incident.parent in known:
        incident = known[incident.parent]
    return incident
