"""The daemon: builds all parts from a Plan, owns their tasks, and takes them down in order.

Down in this order: stop scheduling, cancel probes, judge and write what is left, a last pass of mail, close.
A part that dies takes the process with it; systemd starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import logging
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from config.plan import Plan
from exporters import metrics
from exporters.blackbox import Probing
from exporters.mail import MailChannel
from exporters.report_mail import ReportChannel
from exporters.web.app import build_app
from monitor.agenda import Agenda
from monitor.announcer import Announcer
from monitor.board import Board
from monitor.journal import Journal, JournalBusyError, JournalError
from monitor.model import Result
from monitor.own_watch import OwnWatch
from monitor.pipeline import Pipeline
from monitor.scheduler import CONCURRENCY, Scheduler
from monitor.sealer import Sealer
from monitor.stamper import Stamper
from monitor.tracing import Tracer
from probes import heartbeat
from probes.approved_pages import ApprovedPages
from probes.base import Tools, utc_now
from probes.byte_budget import ByteBudget
from probes.heartbeat_ledger import Heartbeats
from probes.mailflow_ledger import MailLedger
from thongsuot.front_door import FrontDoor
from thongsuot.notify import keep_alive, notify
from thongsuot.report_process import make as make_report

log = logging.getLogger(__name__)

RESULTS_LIMIT: Final = 10_000  # results waiting for the pipeline; beyond it probes wait and slots are skipped
LAST_MAIL_S: Final = 5.0  # the last pass of mail at a stop
ALIVE_S: Final = 60.0  # without a sign of life from the pipeline for this long, we are not well
DESCRIPTORS_KEPT: Final = 128  # of this process, for the page's clients, mail, journal and sockets that probes share
UNRECORDED_S: Final = 30.0  # without a transaction for this long, we are not well either


class StartError(Exception):
    """The daemon cannot start; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What a running daemon tells whoever started it."""

    url: str  # address of the live page
    board: Board


def program_version() -> str:
    """Return this program's version."""
    try:
        return version("thongsuot")
    except PackageNotFoundError:
        return "0+unknown"


@dataclass(slots=True)
class _Parts:
    plan: Plan
    journal: Journal
    board: Board
    tools: Tools
    scheduler: Scheduler
    pipeline: Pipeline
    mail: MailChannel | None
    wake: asyncio.Event
    own_watch: OwnWatch
    announcer: Announcer


async def run(
    plan: Plan,
    *,
    ready: Callable[[DaemonInfo], None] | None = None,
    stop: asyncio.Event,
    reload: asyncio.Event | None = None,
    load: Callable[[], Awaitable[Plan | None]] | None = None,
) -> None:
    """Watch until `stop` is set.

    Args:
        plan: what to watch.
        ready: called once the page answers, and again after each reload.
        stop: ends the daemon in order.
        reload: asks for the configuration to be read again.
        load: reads it; None means that it was refused and the old one stays.

    Raises:
        StartError: the journal or the listening address cannot be had.
        Exception: whatever ended one of the parts.
    """
    before: Plan | None = None  # the one that ran last, unless what it measured could not be written
    fallback: Plan | None = None  # taken when this one cannot start
    refused = 0
    lasting = _Lasting()
    with contextlib.closing(lasting.door):
        while not stop.is_set():
            try:
                end = await _run_plan(plan, ready, _Signals(stop, reload, load), before, refused, lasting)
            except StartError as exc:
                if fallback is None:
                    raise
                log.warning("the new configuration cannot be used, the old one stays: %s", exc)
                plan, fallback, refused = fallback, None, refused + 1
                continue
            if end.following is None:
                return
            plan, before, fallback, refused = end.following, plan if end.recorded else None, plan, end.refused


@dataclass(slots=True)
class _Lasting:
    """What outlives a configuration: whoever calls in hears nothing of a reload."""

    door: FrontDoor = field(default_factory=FrontDoor)
    heartbeats: Heartbeats | None = None

    async def heartbeats_of(self, plan: Plan) -> Heartbeats:
        """Return the ledger of what calls in, with what it knew before a restart."""
        file = plan.state_dir / "heartbeats.json"
        ledger = self.heartbeats
        if ledger is None or ledger.file != file:
            ledger = Heartbeats(file)
        targets = {t.id: t.settings for t in plan.targets()}
        ledger.expect({n: s.token for n, s in targets.items() if isinstance(s, heartbeat.Settings)})
        if ledger is not self.heartbeats:
            await ledger.begin()
            self.heartbeats = ledger
        return ledger


@dataclass(frozen=True, slots=True)
class _End:
    """How one configuration's run ended."""

    following: Plan | None  # the next configuration; None is the stop
    refused: int  # reloads so far that were refused
    recorded: bool  # whether all that was measured is written


@dataclass(frozen=True, slots=True)
class _Signals:
    stop: asyncio.Event
    reload: asyncio.Event | None
    load: Callable[[], Awaitable[Plan | None]] | None

    async def next_plan(self, board: Board) -> Plan | None:
        """Wait for the stop (None) or for a new configuration that is good."""
        while True:
            waits = [asyncio.ensure_future(e.wait()) for e in (self.stop, self.reload) if e is not None]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self.stop.is_set() or self.reload is None or self.load is None:
                return None
            self.reload.clear()
            notify("RELOADING=1")
            plan = await self.load()
            if plan is not None:
                return plan
            board.config_reloads_refused += 1
            board.version += 1
            notify("READY=1\nSTATUS=the new configuration was refused; the old one stays")


async def _run_plan(
    plan: Plan,
    ready: Callable[[DaemonInfo], None] | None,
    signals: _Signals,
    before: Plan | None,
    refused: int,
    lasting: _Lasting,
) -> _End:
    """Run one configuration, after `before` in the same process or as the first."""
    async with _alone_in(plan.state_dir):
        # In another journal the time since its last record was not observed.
        same = before is not None and (before.state_dir, before.site.id) == (plan.state_dir, plan.site.id)
        try:
            parts = await _build(plan, same, await lasting.heartbeats_of(plan))
        except (OSError, JournalError, JournalBusyError) as exc:
            raise StartError(f"cannot start: {exc}") from exc
        parts.board.config_reloads_refused = refused
        following = await _run_parts(parts, lasting.door, ready, signals)
        return _End(following, parts.board.config_reloads_refused, not parts.pipeline.gave_up)


@contextlib.asynccontextmanager
async def _alone_in(state_dir: Path) -> AsyncIterator[None]:
    """Keep any other daemon out of a state directory: two of them would double every result and every mail."""
    try:
        lock = await asyncio.to_thread(_lock, state_dir)
    except BlockingIOError as exc:
        raise StartError(f"cannot start: another daemon runs with the state directory {state_dir}") from exc
    except OSError as exc:
        raise StartError(f"cannot start: the state directory {state_dir} cannot be used: {exc.strerror}") from exc
    try:
        yield
    finally:
        os.close(lock)


def _lock(state_dir: Path) -> int:
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        # The kernel gives it back however the process ends.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


async def _run_parts(
    parts: _Parts, door: FrontDoor, ready: Callable[[DaemonInfo], None] | None, signals: _Signals
) -> Plan | None:
    plan = parts.plan
    try:
        async with _serve(parts, door) as url:
            log.info("watching %d checks of %s; page at %s", len(plan.targets()), plan.site.id, url)
            if ready is not None:
                ready(DaemonInfo(url, parts.board))
            notify(f"READY=1\nSTATUS=watching {len(plan.targets())} checks")
            following = await _watch(parts, signals)
        if following is None and not parts.pipeline.gave_up:  # else the last transaction is the last sign of life
            await _note_stop(parts.journal)
        return following
    finally:
        await parts.tools.of(Heartbeats).note_time()
        parts.tools.close()
        await parts.journal.close()


async def _note_stop(journal: Journal) -> None:
    try:
        await journal.end_run(utc_now())
    except JournalBusyError as exc:
        log.warning("the stop could not be noted in the journal: %s", exc)


async def _build(plan: Plan, reloaded: bool, heartbeats: Heartbeats) -> _Parts:
    journal = await Journal.open(plan.state_dir, plan.site.id)
    try:
        parts = await _build_on(journal, plan, reloaded, heartbeats)
    except BaseException:
        await journal.close()
        raise
    # The plan and all modules stay: looking through them for garbage again and again was a fifth of a probe's cost.
    # What an earlier plan left behind is let go first.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _give_back_memory()
    # A probe leaves no cycles behind; looking for some after each 700 objects was a twentieth of its cost.
    gc.set_threshold(50_000, 20, 20)
    return parts


def _give_back_memory() -> None:
    """Give what reading the configuration and the journal took back to the system; only glibc keeps it.

    Source: malloc_trim(3). With 22,000 checks that is 110 MB.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


async def _build_on(journal: Journal, plan: Plan, reloaded: bool, heartbeats: Heartbeats) -> _Parts:
    now = utc_now()
    board = Board(plan, now, queue_limit=RESULTS_LIMIT)
    results: asyncio.Queue[Result] = asyncio.Queue(RESULTS_LIMIT)
    tools, wake = Tools(), asyncio.Event()
    tools.put(ByteBudget(plan.state_dir / "byte-budget.json"))
    tools.put(MailLedger(plan.state_dir / "mailflow.json"))
    tools.put(heartbeats)
    tools.put(ApprovedPages.of(plan.state_dir))
    scheduler = Scheduler(plan.targets(), results, board, tools, concurrency=_probes_at_once())
    own_watch = OwnWatch(board)
    pipeline = Pipeline(
        plan,
        journal,
        board,
        results,
        request=scheduler.request,
        slot_counts=scheduler.take_counts,
        told=wake.set,
        own_watch=own_watch,
    )
    program = await asyncio.to_thread(program_version)  # looks through the installed packages' files
    recovered = await journal.begin_run(now, plan.digest, program, plan.text)
    announcer = Announcer(plan, journal, pipeline.book)
    await announcer.begin()
    await journal.commit(pipeline.resume(recovered, now, reloaded=reloaded), now)
    mail = MailChannel(plan.mail, plan.site, journal, board) if plan.mail else None
    return _Parts(plan, journal, board, tools, scheduler, pipeline, mail, wake, own_watch, announcer)


def _probing(parts: _Parts) -> Probing:
    """Build what answers `/probe`: whoever is checked may also be probed on demand."""
    hosts = (target.settings.endpoint() for target in parts.plan.targets())
    return Probing.of(parts.plan.blackbox, hosts, parts.tools)


def _records(board: Board) -> bool:
    """Whether results are being recorded; a lock of some seconds, by a backup for one, is no trouble yet."""
    since = board.journal_trouble_since
    return since is None or (utc_now() - since).total_seconds() < UNRECORDED_S


def _probes_at_once() -> int:
    """Return how many probes may be under way, so that page, mail and journal always find a free descriptor.

    Takes the whole of what the system allows: the soft limit of a login shell is 1,024 at most.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return max(1, min(CONCURRENCY, most - DESCRIPTORS_KEPT))


@contextlib.asynccontextmanager
async def _serve(parts: _Parts, door: FrontDoor) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    probing = _probing(parts)
    refused = parts.board.config_reloads_refused

    async def figures() -> tuple[AsyncIterator[bytes], str]:
        found = await metrics.pieces(parts.board)

        async def all_pieces() -> AsyncIterator[bytes]:
            async for piece in found:
                yield piece
            yield probing.metrics(reloaded_well=parts.board.config_reloads_refused == refused)

        return all_pieces(), metrics.CONTENT_TYPE

    app = build_app(
        parts.board,
        metrics=figures,
        incidents=parts.journal.recent_incidents,
        alive=lambda: loop.time() - parts.pipeline.beat < ALIVE_S and _records(parts.board),
        probing=probing,
        heartbeat=parts.tools.of(Heartbeats).accept,
    )
    host, port = parts.plan.listen_host, parts.plan.listen_port
    async with contextlib.AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(door.serving(app, host, port))
        except OSError as exc:
            raise StartError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
        yield url


async def _watch(parts: _Parts, signals: _Signals) -> Plan | None:
    """Run all parts until the stop or a new plan; take them down in order."""
    parts.pipeline.beat = asyncio.get_running_loop().time()
    pacer = asyncio.create_task(parts.scheduler.run(), name="scheduler")
    judge = asyncio.create_task(parts.pipeline.run(), name="pipeline")
    others: list[asyncio.Task[None]] = [_task(_sign_of_life(parts), "watchdog")]
    others.append(_task(parts.own_watch.run(), "own watch"))
    others.append(_task(parts.announcer.run(), "announcer"))
    others.append(_task(parts.tools.of(Heartbeats).run(), "heartbeats"))
    sealer = Sealer(parts.plan, parts.journal, parts.board)
    others.append(_task(sealer.run(), "sealer"))
    if parts.plan.stamps is not None:
        stamper = Stamper(parts.plan, parts.plan.stamps, parts.journal, sealer.unstamped)
        others.append(_task(stamper.run(), "time stamps"))
    others.append(_task(Tracer(parts.board, parts.journal, parts.tools).run(), "tracer"))
    if parts.mail is not None:
        others.append(_task(parts.mail.run(parts.wake), "mail"))
    if parts.plan.schedules:
        owed = asyncio.Event()
        reports = ReportChannel(parts.plan, parts.journal, parts.board, make_report)
        others.append(_task(Agenda(parts.plan, parts.journal, owed.set).run(), "agenda"))
        others.append(_task(reports.run(owed), "reports"))
    signal_wait = asyncio.create_task(signals.next_plan(parts.board), name="signals")
    everything: list[asyncio.Task[None] | asyncio.Task[Plan | None]] = [pacer, judge, *others, signal_wait]
    try:
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a part that died takes the process with it
        following = signal_wait.result()
        if following is None:
            notify("STOPPING=1")
        return following
    finally:
        await _take_down(parts, pacer, judge, [*others, signal_wait])


async def _take_down(
    parts: _Parts,
    pacer: asyncio.Task[None],
    judge: asyncio.Task[None],
    others: list[asyncio.Task[None] | asyncio.Task[Plan | None]],
) -> None:
    pacer.cancel()
    await asyncio.gather(pacer, return_exceptions=True)
    parts.pipeline.stop()
    died_before = judge.done()
    await asyncio.gather(judge, return_exceptions=True)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if parts.mail is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_MAIL_S):
                await parts.mail.deliver_due()
    if not died_before:
        judge.result()  # what could not be written at the end must not look like a stop in order


def _task(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)


async def _sign_of_life(parts: _Parts) -> None:
    loop = asyncio.get_running_loop()
    await keep_alive(lambda: loop.time() - parts.pipeline.beat, ALIVE_S)
