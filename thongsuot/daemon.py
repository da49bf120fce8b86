"""The daemon: builds all parts from a Plan, owns their tasks, and takes them down in order.

Down in this order: stop scheduling, cancel probes, judge and write what is left, a last pass of mail, close.
A part that dies takes the process with it; systemd starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from aiohttp import web

from config.plan import Plan
from exporters import metrics
from exporters.mail import MailChannel
from exporters.web.app import build_app
from monitor.board import Board
from monitor.journal import Journal, JournalBusyError, JournalError
from monitor.model import Result
from monitor.pipeline import Pipeline
from monitor.scheduler import Scheduler
from probes.base import Tools, utc_now
from thongsuot.notify import notify, watchdog_s

log = logging.getLogger(__name__)

RESULTS_LIMIT: Final = 10_000  # results waiting for the pipeline; beyond it probes wait and slots are skipped
LAST_MAIL_S: Final = 5.0  # the last pass of mail at a stop
ALIVE_S: Final = 60.0  # without a sign of life from the pipeline for this long, we are not well
PRUNE_EVERY_S: Final = 5.0
PRUNE_ROWS: Final = 5_000  # small steps: never a long lock in the probing process


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
    reloaded, refused = False, 0
    while not stop.is_set():
        following, refused = await _run_plan(plan, ready, _Signals(stop, reload, load), reloaded, refused)
        if following is None:
            return
        plan, reloaded = following, True


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
    plan: Plan, ready: Callable[[DaemonInfo], None] | None, signals: _Signals, reloaded: bool, refused: int
) -> tuple[Plan | None, int]:
    try:
        parts = await _build(plan, reloaded)
    except (OSError, JournalError, JournalBusyError) as exc:
        raise StartError(f"cannot start: {exc}") from exc
    parts.board.config_reloads_refused = refused
    try:
        async with _serve(parts) as url:
            log.info("watching %d checks of %s; page at %s", len(plan.targets()), plan.site.id, url)
            if ready is not None:
                ready(DaemonInfo(url, parts.board))
            notify(f"READY=1\nSTATUS=watching {len(plan.targets())} checks")
            following = await _watch(parts, signals)
        if following is None:
            notify("STOPPING=1")
            await parts.journal.end_run(utc_now())
        return following, parts.board.config_reloads_refused
    finally:
        parts.tools.close()
        await parts.journal.close()


async def _build(plan: Plan, reloaded: bool) -> _Parts:
    journal = await Journal.open(plan.state_dir, plan.site.id)
    try:
        return await _build_on(journal, plan, reloaded)
    except BaseException:
        await journal.close()
        raise


async def _build_on(journal: Journal, plan: Plan, reloaded: bool) -> _Parts:
    now = utc_now()
    board = Board(plan, now, queue_limit=RESULTS_LIMIT)
    results: asyncio.Queue[Result] = asyncio.Queue(RESULTS_LIMIT)
    tools, wake = Tools(), asyncio.Event()
    scheduler = Scheduler(plan.targets(), results, board, tools)
    pipeline = Pipeline(
        plan,
        journal,
        board,
        results,
        request=scheduler.request,
        slot_counts=scheduler.take_counts,
        told=wake.set,
    )
    program = await asyncio.to_thread(program_version)  # looks through the installed packages' files
    recovered = await journal.begin_run(now, plan.digest, program, plan.text)
    await journal.commit(pipeline.resume(recovered, now, reloaded=reloaded), now)
    mail = MailChannel(plan.mail, plan.site, journal, board) if plan.mail else None
    return _Parts(plan, journal, board, tools, scheduler, pipeline, mail, wake)


@contextlib.asynccontextmanager
async def _serve(parts: _Parts) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    app = build_app(
        parts.board,
        metrics=lambda: metrics.page(parts.board),
        incidents=parts.journal.recent_incidents,
        alive=lambda: loop.time() - parts.pipeline.beat < ALIVE_S,
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
    await runner.setup()
    try:
        host, port = parts.plan.listen_host, parts.plan.listen_port
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            raise StartError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
        address = runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        yield f"http://{shown}:{address[1]}/"
    finally:
        await runner.cleanup()


async def _watch(parts: _Parts, signals: _Signals) -> Plan | None:
    """Run all parts until the stop or a new plan; take them down in order."""
    parts.pipeline.beat = asyncio.get_running_loop().time()
    pacer = asyncio.create_task(parts.scheduler.run(), name="scheduler")
    judge = asyncio.create_task(parts.pipeline.run(), name="pipeline")
    others: list[asyncio.Task[None]] = [_task(_prune(parts), "prune"), _task(_watchdog(parts), "watchdog")]
    if parts.mail is not None:
        others.append(_task(parts.mail.run(parts.wake), "mail"))
    signal_wait = asyncio.create_task(signals.next_plan(parts.board), name="signals")
    everything: list[asyncio.Task[None] | asyncio.Task[Plan | None]] = [pacer, judge, *others, signal_wait]
    try:
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a part that died takes the process with it
        return signal_wait.result()
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
    await asyncio.gather(judge, return_exceptions=True)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if parts.mail is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_MAIL_S):
                await parts.mail.deliver_due()


def _task(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)


async def _prune(parts: _Parts) -> None:
    """Delete raw results that are older than the configuration keeps, in small steps."""
    keep = timedelta(seconds=parts.plan.raw_keep_s)
    while True:
        await asyncio.sleep(PRUNE_EVERY_S)
        try:
            await parts.journal.prune(utc_now() - keep, PRUNE_ROWS)
        except JournalBusyError as exc:
            log.warning("old results cannot be deleted now: %s", exc)


async def _watchdog(parts: _Parts) -> None:
    """Give the service manager its sign of life for as long as the pipeline gives one."""
    every = watchdog_s()
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min((every or 60.0) / 3, 20.0))
        if every is not None and loop.time() - parts.pipeline.beat < max(ALIVE_S, every):
            notify("WATCHDOG=1")
