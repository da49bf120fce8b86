"""When a check last sent a message, and which of its messages were never found: kept across restarts.

A run notes its message before the first byte of it leaves: a crash in the middle counts as sent. Pauses are measured by
a clock that nobody can set; only the time in which we were not running is told by the wall clock.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any, Final

from probes.base import Fault, ProbeError, one_line, utc_now
from probes.kept_file import KeptFile

KEYS_LIMIT: Final = 10_000  # chosen: more checks than a province has
MISSING_LIMIT: Final = 20  # messages of one check; an older one is known by its marker when it comes at last


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was given to a server and not found yet."""

    token: str
    at: datetime  # UTC
    clock_s: float  # the same moment, monotonic
    taken: str = ""  # who accepted it, and in which words; empty when no answer was heard


@dataclass(slots=True)
class _Line:
    """What is known of one check."""

    last: tuple[datetime, float] | None = None  # when its last message was sent: UTC, and monotonic
    missing: list[Sent] = field(default_factory=list)  # oldest first


class MailLedger:
    """The messages of all checks; `Tools.of(MailLedger)` remembers until the process ends."""

    def __init__(self, file: FilePath | None = None) -> None:
        """Args: file: where it is kept across restarts; without one, only in memory."""
        self._file = KeptFile(file)
        self._lines: dict[str, _Line] | None = None  # not read yet
        self._writing = asyncio.Lock()

    async def since_last_s(self, key: str) -> float | None:
        """Return the seconds since a check's last message was sent; None before its first."""
        line = (await self._all()).get(key)
        return None if line is None or line.last is None else time.perf_counter() - line.last[1]

    async def missing(self, key: str) -> tuple[Sent, ...]:
        """Return the messages of a check that nobody has seen in the mailbox yet, oldest first."""
        line = (await self._all()).get(key)
        return () if line is None else tuple(line.missing)

    async def pending(self, key: str) -> Sent | None:
        """Return the last message of a check unless it was found: an older one that is lost says nothing of today."""
        line = (await self._all()).get(key)
        if line is None or line.last is None or not line.missing:
            return None
        newest = line.missing[-1]
        return newest if newest.at == line.last[0] else None

    async def sending(self, key: str, token: str) -> Sent:
        """Note a message before it leaves.

        Raises:
            ProbeError: LOCAL when that cannot be kept: what was sent would be forgotten by the next start.
        """
        lines = await self._all()
        line = lines.pop(key, None) or _Line()
        lines[key] = line  # at the end: the first is the one not used for longest
        while len(lines) > KEYS_LIMIT:
            del lines[next(iter(lines))]
        sent = Sent(token, utc_now(), time.perf_counter())
        line.missing = [*line.missing, sent][-MISSING_LIMIT:]
        before, line.last = line.last, (sent.at, sent.clock_s)
        try:
            await self._keep()
        except ProbeError:
            line.missing.remove(sent)
            line.last = before
            raise
        return sent

    async def refused(self, key: str, token: str) -> None:
        """Forget a message that the server refused for certain: it takes up no room and counts for no pause."""
        line = (await self._all()).get(key)
        if line is not None:
            line.last = None  # the one before it is a pause ago, or this one had not been sent
            await self.found(key, token)

    def taken(self, key: str, token: str, words: str) -> None:
        """Note who accepted a message; kept with whatever is kept next."""
        line = (self._lines or {}).get(key)
        if line is not None:
            line.missing = [replace(s, taken=one_line(words)) if s.token == token else s for s in line.missing]

    async def found(self, key: str, *tokens: str) -> None:
        """Note that messages are no longer missing, and keep all that was noted.

        Raises:
            ProbeError: LOCAL when that cannot be kept.
        """
        line = (await self._all()).get(key)
        if line is not None:
            line.missing = [s for s in line.missing if s.token not in tokens]
            await self._keep()

    async def _keep(self) -> None:
        async with self._writing:
            lines = await self._all()
            try:
                await self._file.write({"checks": {key: _kept(line) for key, line in lines.items()}})
            except OSError as exc:
                words = f"what was sent cannot be kept, so nothing is: {exc.strerror or exc}"
                raise ProbeError(Fault.LOCAL, words) from exc

    async def _all(self) -> dict[str, _Line]:
        if self._lines is None:
            read = _checked(await self._file.read())
            if self._lines is None:  # nobody else was faster
                self._lines = read
        return self._lines


def _kept(line: _Line) -> dict[str, Any]:
    return {
        "last": None if line.last is None else line.last[0].timestamp(),
        "missing": [{"token": s.token, "at": s.at.timestamp(), "taken": s.taken} for s in line.missing],
    }


def _checked(data: dict[str, Any]) -> dict[str, _Line]:
    """Take from a file what is of the right kind; the rest is left out."""
    found: dict[str, _Line] = {}
    kept = data.get("checks")
    for key, line in kept.items() if isinstance(kept, dict) else ():
        if isinstance(line, dict):
            missing = line.get("missing")
            entries = missing[-MISSING_LIMIT:] if isinstance(missing, list) else []
            read = (_sent(entry) for entry in entries)
            found[key] = _Line(_moment(line.get("last")), [sent for sent in read if sent is not None])
    return found


def _moment(at: object) -> tuple[datetime, float] | None:
    """Read a kept moment as UTC and on our monotonic clock; one that seems to lie ahead is taken for now."""
    if not isinstance(at, float) or not 0 <= at < 1e11:
        return None
    moment = datetime.fromtimestamp(at, UTC)
    return moment, time.perf_counter() - max(0.0, (utc_now() - moment).total_seconds())


def _sent(entry: object) -> Sent | None:
    match entry:
        case {"token": str(token), "at": float(at), "taken": str(taken)} if len(token) <= 64:
            moment = _moment(at)
            return None if moment is None else Sent(token, *moment, one_line(taken))
    return None
