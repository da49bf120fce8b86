"""`thongsuot drill` without a configuration: breaks the demo province, and sees what the daemon makes of it.

The servers are real ones on loopback, the daemon is the real one, and its letters are taken from the demo's mailbox.
Queues are not among the faults: they are judged by minutes, and a drill of minutes has no time for them; a scenario in
simulated time has.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from config import loader
from config.plan import Language, Plan, Window
from exporters import text, text_drill
from monitor.board import Board
from monitor.history import open_history
from monitor.model import State
from monitor.words import Told
from probes.base import utc_now
from thongsuot import daemon, demo
from thongsuot.drill_findings import OPENING, Finding, Injected, back_limit_s, judge, limit_s
from thongsuot.province import Province, open_province
from thongsuot.province_mailbox import Mail
from thongsuot.province_web import Trouble

LIMIT_S: Final = 180.0  # of the whole drill
READY_S: Final = 30.0
POLL_S: Final = 0.1
SETTLE_S: Final = 15.0  # between two faults everything has to be well again
SLOW_OVER_S: Final = 0.5  # for the services that are made slow
SLOW_BY_S: Final = 1.0
DELIVERY_S: Final = 6.0  # the first relay is the mail server itself, which may be what is broken
_USUAL: Final = "defaults: {every: 3s, timeout: 2s, recheck_after: 2s}"
_FASTER: Final = "defaults: {every: 2s, timeout: 2s, recheck_after: 1s}"

Say = Callable[[str], None]
Act = Callable[[], Awaitable[None]]


class DrillError(Exception):
    """There can be no drill; the message says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break the province."""

    id: str
    services: tuple[str, ...]  # that people must be told of; empty: our own fault
    state: State
    breaks: Act
    mends: Act


def faults(province: Province) -> tuple[Fault, ...]:
    """Return every fault, in the order in which they are injected."""

    def site(where: str, trouble: Trouble | None) -> Act:
        async def act() -> None:
            getattr(province, where).trouble = trouble

        return act

    def silent(value: bool) -> Act:
        async def act() -> None:
            province.names.silent = value

        return act

    def parts(names: Iterable[str], verb: str) -> Act:
        async def act() -> None:
            for name in names:
                carriers = list(province.carriers.values())
                for part in carriers if name == "carriers" else [getattr(province, name)]:
                    await getattr(part, verb)()

        return act

    inside = ("data_centre", "mail", "portal", "public_services", "office", "name_server")
    beyond = ("references", "carriers", "conference", *inside)
    viettel = province.carriers["viettel"]
    return (
        Fault("mail", ("mail",), State.DOWN, province.mail.stop, province.mail.start),
        Fault("portal", ("portal",), State.DOWN, site("portal_site", Trouble(delay_s=0.1)), site("portal_site", None)),
        Fault("names", ("name-server",), State.DOWN, silent(True), silent(False)),
        Fault(
            "slow",
            ("public-services",),
            State.DEGRADED,
            site("services_site", Trouble(None, SLOW_BY_S)),
            site("services_site", None),
        ),
        Fault("carrier", ("carrier-viettel",), State.DOWN, viettel.stop, viettel.start),
        Fault("centre", ("data-centre",), State.DOWN, parts(inside, "stop"), parts(inside, "start")),
        Fault("uplink", (), State.UNKNOWN, parts(beyond, "stop"), parts(beyond, "start")),
    )


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What a drill on the demo province found."""

    plan: Plan
    findings: Sequence[Finding]
    words: Sequence[Told]
    untried: int  # faults for which there was no time


class _Drill:
    def __init__(self, plan: Plan, province: Province, board: Board, say: Say, lang: Language) -> None:
        self.plan = plan
        self.province = province
        self.board = board
        self.say = say
        self.lang = lang
        self.injected: list[Injected] = []

    def tell(self, key: str, **values: object) -> None:
        at = text.local_clock(utc_now(), self.plan.site.timezone)
        self.say(text_drill.label(key, self.lang, at=at, **values))

    async def ready(self) -> None:
        began = asyncio.get_running_loop().time()
        well = await _until(self._all_up, READY_S)
        took = text.duration_words(asyncio.get_running_loop().time() - began, self.lang)
        if not well:
            names = ", ".join(v.plan.name for v in self.board.services.values() if v.state is not State.UP)
            raise DrillError(text_drill.label("not-ready", self.lang, took=took, names=names))

    def _all_up(self) -> bool:
        references = (self.board.checks[t.id].state for t in self.plan.references)
        services = (v.state for v in self.board.services.values())
        return all(s is State.UP for s in (*references, *services)) and not self.board.open_incidents

    async def one(self, fault: Fault, number: int, count: int) -> None:
        """Break, wait for the word, mend, wait for the word of that."""
        self.tell("injecting", number=number, count=count, name=text_drill.fault_name(fault.id, self.lang))
        at, seen = utc_now(), self.province.mailbox.accepted
        limits = self._limits(fault, at)
        await fault.breaks()
        try:
            word = await self._word({kind.value for kind in OPENING}, seen, limits[0], "")
            took = text.duration_words((utc_now() - at).total_seconds(), self.lang)
            if word is None:
                self.tell("not-told-yet", took=took)
            else:
                self.tell("told", took=took, subject=word.header("Subject"))
        finally:
            await fault.mends()
        mended = utc_now()
        self.tell("mended")
        incident = word.header("X-Thongsuot-Incident") if word is not None else ""
        if word is not None:
            await self._word({"recovered", "passed"}, seen, limits[1], incident)
        await _until(self._all_up, SETTLE_S)
        name = text_drill.fault_name(fault.id, self.lang)
        self.injected.append(Injected(fault.id, name, fault.services, fault.state, at, mended, *limits))

    def _limits(self, fault: Fault, at: datetime) -> tuple[float, float]:
        by_id = self.plan.by_id()
        targets = [t for s in fault.services for t in by_id[s].targets] or list(self.plan.references)
        return limit_s(targets, at, DELIVERY_S), back_limit_s(targets, at, DELIVERY_S)

    async def _word(self, kinds: set[str], after: int, limit_s: float, incident: str) -> Mail | None:
        """Wait for a letter of these kinds, of an incident if one is given."""

        def found() -> Mail | None:
            for mail in self.province.mailbox.mails:
                fits = mail.number > after and mail.header("X-Thongsuot-Event") in kinds
                if fits and incident in ("", mail.header("X-Thongsuot-Incident")):
                    return mail
            return None

        await _until(lambda: found() is not None, limit_s)
        return found()


async def _until(well: Callable[[], bool], limit_s: float) -> bool:
    """Wait until something is so, at most for a while; say whether it is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while not well() and loop.time() < end:  # noqa: ASYNC110  a mailbox and a board that know nothing of a drill
        await asyncio.sleep(POLL_S)
    return well()


async def drill_demo(only: Sequence[str], say: Say, lang: Language) -> DemoOutcome:
    """Start the province and the daemon on it, inject the faults one after the other, and judge.

    Args:
        only: ids of faults; empty for all.
        say: prints one line of progress for people.
        lang: for people.

    Raises:
        DrillError: the province is not well to begin with.
        OSError: a server of the province cannot start.
        StartError: the daemon cannot.
    """
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    say(text_drill.label("demo-title", lang))
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="thongsuot-drill-"))
    try:
        province = await open_province(folder)
        try:
            plan = await asyncio.to_thread(_configure, province, folder)
            return await _watched(plan, province, only, say, lang)
        finally:
            await province.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _configure(province: Province, folder: Path) -> Plan:
    file = folder / "drill.yaml"
    icmp = demo.icmp_hindrance() is None
    written = demo.render(province, folder, "127.0.0.1:0", icmp=icmp, now=utc_now())
    file.write_text(written.replace(_USUAL, _FASTER), "utf-8")
    plan = loader.load(file)
    services = []
    for service in plan.services:
        slow = service.id == "public-services"
        targets = tuple(
            replace(t, policy=replace(t.policy, slow_over_s=SLOW_OVER_S)) if slow else t for t in service.targets
        )
        services.append(replace(service, targets=targets))
    return replace(plan, services=tuple(services))


async def _watched(plan: Plan, province: Province, only: Sequence[str], say: Say, lang: Language) -> DemoOutcome:
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    watch = asyncio.create_task(daemon.run(plan, ready=lambda info: started.set_result(info.board), stop=stop))
    try:
        await asyncio.wait([watch, started], return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            await watch  # raises what ended it
        drill = _Drill(plan, province, started.result(), say, lang)
        untried = await _all(drill, [f for f in faults(province) if not only or f.id in only])
    finally:
        stop.set()
        await asyncio.gather(watch, return_exceptions=True)
    arrived = {m.header("Message-ID"): m.arrived for m in province.mailbox.mails}
    return await asyncio.to_thread(_judged, plan, drill.injected, arrived, untried)


async def _all(drill: _Drill, chosen: Sequence[Fault]) -> int:
    """Inject the faults; return how many there was no time for."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await drill.ready()
    drill.tell("ready", took=text.duration_words(loop.time() - began, drill.lang), count=len(chosen))
    for number, fault in enumerate(chosen, 1):
        needed = sum(drill._limits(fault, utc_now()))
        if number > 1 and loop.time() - began + needed / 2 > LIMIT_S:
            return len(chosen) - number + 1
        await drill.one(fault, number, len(chosen))
    return 0


def _judged(plan: Plan, injected: Sequence[Injected], arrived: dict[str, datetime], untried: int) -> DemoOutcome:
    if not injected:
        return DemoOutcome(plan, (), (), untried)
    period = Window(injected[0].at, utc_now())
    with open_history(plan.state_dir, plan.site.id) as history:
        words = history.words(period)
        changes = {name: list(found) for name, found in history.changes(period.end).items()}
        incidents = history.incidents(period)
    findings = judge(injected, changes, incidents, [(w, arrived.get(w.message_id)) for w in words])
    return DemoOutcome(plan, findings, words, untried)
