"""Who called in, and when: what the web page's server hands over and the probe `heartbeat` looks at.

The last call of each check is kept in a small file, so that a restart forgets nobody. Ages are measured by a clock that
nobody can set; only the time in which we were not running is told by the wall clock.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import SecretStr

from probes.base import ProbeError, one_line, utc_now
from probes.kept_file import KeptFile

log = logging.getLogger(__name__)

LEAST_TOKEN: Final = 16  # characters; chosen: what cannot be guessed over a network
TOKEN_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Beat:
    """One call."""

    at: datetime
    clock_s: float  # monotonic
    well: bool = True
    note: str = ""
    source: str = ""  # the caller's address


class Heartbeats:
    """The last call of each check. The daemon's own one hears calls; any other is deaf."""

    def __init__(self, file: FilePath | None = None) -> None:
        """Args: file: where the last calls are kept across restarts; without one, only in memory."""
        self._file = KeptFile(file)
        self._tokens: dict[str, Callable[[], Awaitable[SecretStr]]] = {}
        self._last: dict[str, Beat] = {}
        self._counts: dict[str, int] = {}
        self._began_s: float | None = None
        self._dirty = False
        self._writing = asyncio.Lock()

    def expect(self, check: str, token: Callable[[], Awaitable[SecretStr]]) -> None:
        """Say that a check is called for, and how its token is read."""
        self._tokens[check] = token

    async def begin(self) -> None:
        """Read what was known before, and hear from now on."""
        now, clock_s = utc_now(), time.perf_counter()
        for check, data in (await self._file.read()).items():
            beat = _beat(data, now, clock_s)
            if beat is not None and check in self._tokens:
                self._last[check] = beat
        self._began_s = clock_s

    @property
    def listening_s(self) -> float | None:
        """How long calls have been heard without a break; None where none are heard."""
        return None if self._began_s is None else time.perf_counter() - self._began_s

    def last(self, check: str) -> Beat | None:
        """Return the last call of a check, or None."""
        return self._last.get(check)

    def count(self, check: str) -> int:
        """Return how many calls of a check were heard since the start."""
        return self._counts.get(check, 0)

    async def accept(self, check: str, token: str, *, well: bool, note: str, source: str) -> bool:
        """Take a call in.

        Returns:
            Whether it was taken; not with a wrong token, and not for a check that nobody expects calls of.
        """
        read = self._tokens.get(check)
        if read is None or not await _is(read, token):
            return False
        self._last[check] = Beat(utc_now(), time.perf_counter(), well, one_line(note), one_line(source, 50))
        self._counts[check] = self.count(check) + 1
        self._dirty = True
        async with self._writing:
            if self._dirty:  # else whoever wrote before us has written this as well
                self._dirty = False
                await self._keep()
        return True

    async def _keep(self) -> None:
        try:
            await self._file.write({name: _kept(beat) for name, beat in self._last.items()})
        except OSError as exc:
            self._dirty = True
            log.warning("heartbeats cannot be kept for the next start: %s", exc)


async def _is(read: Callable[[], Awaitable[SecretStr]], token: str) -> bool:
    try:
        wanted = (await read()).get_secret_value()
    except ProbeError:  # the check itself says that its token cannot be read
        return False
    return (
        len(wanted) >= LEAST_TOKEN
        and len(token) <= TOKEN_LIMIT
        and hmac.compare_digest(wanted.encode(), token.encode("utf-8", "replace"))
    )


def _kept(beat: Beat) -> dict[str, Any]:
    return {"at": beat.at.timestamp(), "well": beat.well, "note": beat.note, "source": beat.source}


def _beat(data: object, now: datetime, clock_s: float) -> Beat | None:
    """Read a kept call; None when it is none."""
    match data:
        case {"at": float(at), "well": bool(well), "note": str(note), "source": str(source)} if 0 <= at < 1e11:
            age_s = max(0.0, now.timestamp() - at)
            moment = datetime.fromtimestamp(at, UTC)
            return Beat(moment, clock_s - age_s, well, one_line(note), one_line(source, 50))
    return None
