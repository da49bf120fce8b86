"""Asks a time-stamp authority, so often at most, for a stamp of the newest line of the chain. Never holds up sealing.

A failure is tried again; one that lasts is a warning on the page. Source: RFC 3161 section 3.4 (over HTTP).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import aiohttp

from config.plan import Plan, StampPlan
from monitor import sealed, timestamps
from monitor.chain import ChainError, Link, evidence_folder, parse_line
from monitor.journal import Journal, JournalBusyError
from monitor.timestamps import TOKEN_LIMIT, Question, StampError
from probes.base import one_line, utc_now

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 60.0
RETRY_S: Final = 600.0
TIMEOUT_S: Final = 30.0
WARN_AFTER: Final = timedelta(hours=6)  # without a stamp that is due


class Stamper:
    """One task of the daemon."""

    def __init__(
        self,
        plan: Plan,
        authority: StampPlan,
        journal: Journal,
        warn: Callable[[str], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Args: warn: told what has gone wrong for a while, or "" when all is well."""
        self._plan = plan
        self._authority = authority
        self._journal = journal
        self._warn = warn
        self._clock = clock
        self._folder = evidence_folder(plan.state_dir, plan.site.id)
        self._failing_since: datetime | None = None

    async def run(self) -> None:
        """Ask when it is time, until cancelled."""
        while True:
            well = await self.step()
            await asyncio.sleep(LOOK_EVERY_S if well else RETRY_S)

    async def step(self) -> bool:
        """Get a stamp if one is due; return whether all is well."""
        try:
            await self._stamp_if_due()
        except (
            StampError,
            ChainError,
            JournalBusyError,
            OSError,
            TimeoutError,
            aiohttp.ClientError,
            ValueError,
        ) as exc:
            trouble = one_line(f"no time stamp from {self._authority.url}: {str(exc) or type(exc).__name__}")
            log.warning("%s; trying again in %g s", trouble, RETRY_S)
            now = self._clock()
            self._failing_since = self._failing_since or now
            if now - self._failing_since >= WARN_AFTER:
                self._warn(trouble)
            return False
        self._failing_since = None
        self._warn("")
        return True

    async def _stamp_if_due(self) -> None:
        site = self._plan.site.id
        line = await self._journal.transact(lambda db: sealed.last_line(db, site))
        if line is None:
            return
        link = parse_line(line)
        before = await asyncio.to_thread(timestamps.newest, self._folder)
        if before is not None and not self._due(link, *before):
            return
        roots = await asyncio.to_thread(timestamps.load_roots, self._authority.ca_file)
        question = timestamps.ask(link.number, link.text)
        answer = await self._ask(question)
        at = await asyncio.to_thread(timestamps.accept, question, answer, roots)
        await asyncio.to_thread(timestamps.keep, self._folder, question, answer)
        log.info("evidence: line %d of the chain is stamped with %s", link.number, at.isoformat())

    def _due(self, link: Link, number: int, at: datetime) -> bool:
        return link.number > number and (self._clock() - at).total_seconds() >= self._authority.every_s

    async def _ask(self, question: Question) -> bytes:
        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.post(self._authority.url, data=question.body, headers=headers, allow_redirects=False) as reply,
        ):
            if reply.status != 200:
                raise StampError(f"status {reply.status}, expected 200")
            body = await reply.content.read(TOKEN_LIMIT + 1)
            while body and len(body) <= TOKEN_LIMIT and (more := await reply.content.read(TOKEN_LIMIT)):
                body += more
            if len(body) > TOKEN_LIMIT:
                raise StampError(f"an answer of more than {TOKEN_LIMIT} bytes")
            return body
