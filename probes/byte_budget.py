"""How many bytes were fetched for measuring, so that a measurement cannot eat up somebody's data plan.

A run sets aside the most it may fetch before it begins and gives back what it did not need: a crash in the middle
counts as if all had been fetched. What counts is any 24 hours, kept by the hour, so that it does not matter when the
day of a carrier begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path as FilePath
from typing import Any, Final

from probes.base import Fault, ProbeError, utc_now
from probes.kept_file import KeptFile

HOURS: Final = 24
KEYS_LIMIT: Final = 10_000  # chosen: more checks than a province has

Hours = dict[int, int]  # hour since 1970 UTC: bytes


class Share:
    """What one run has set aside; `used` is what it really took, to be filled in by the run."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = most


class ByteBudget:
    """The bytes of all measurements, by whose they are; `Tools.of(ByteBudget)` remembers until the process ends."""

    def __init__(self, file: FilePath | None = None) -> None:
        """Args: file: where it is kept across restarts; without one, only in memory."""
        self._file = KeptFile(file)
        self._spent: dict[str, Hours] | None = None  # not read yet
        self._writing = asyncio.Lock()
        self._lines: dict[str, asyncio.Lock] = {}

    def line(self, path: str) -> asyncio.Lock:
        """Return the lock of a path: two downloads at the same time would each measure half of it."""
        return self._lines.setdefault(path, asyncio.Lock())

    async def spent(self, key: str, now: datetime) -> int:
        """Return the bytes of the last 24 hours, the hour that has begun and the one 24 hours ago included."""
        return sum(_recent((await self._all()).get(key, {}), now).values())

    @asynccontextmanager
    async def share(self, key: str, most: int, daily: int) -> AsyncIterator[Share]:
        """Set bytes aside for a run, and count what it used when the block ends, however it ends.

        Raises:
            ProbeError: LOCAL when less than `most` is left of `daily`, or when the count cannot be kept.
        """
        now = utc_now()
        spent = await self.spent(key, now)
        if spent + most > daily:
            raise ProbeError(
                Fault.LOCAL,
                f"daily budget spent: {_shown(spent)} of {_shown(daily)} fetched in 24 hours, {_shown(most)} more not"
                " allowed",
            )
        share = Share(most)
        await self._add(key, most, now)
        try:
            yield share
        finally:
            await asyncio.shield(self._add(key, share.used - most, now))

    async def _add(self, key: str, count: int, now: datetime) -> None:
        async with self._writing:
            spent = await self._all()
            hours = _recent(spent.pop(key, {}), now)
            hour = _hour(now)
            hours[hour] = max(0, hours.get(hour, 0) + count)
            spent[key] = hours  # at the end: the first is the one not used for longest
            while len(spent) > KEYS_LIMIT:
                del spent[next(iter(spent))]
            try:
                await self._file.write({"bytes": spent})
            except OSError as exc:
                raise ProbeError(Fault.LOCAL, f"the byte budget cannot be kept: {exc.strerror or exc}") from exc

    async def _all(self) -> dict[str, Hours]:
        if self._spent is None:
            read = _checked(await self._file.read())
            if self._spent is None:  # nobody else was faster
                self._spent = read
        return self._spent


def _checked(data: dict[str, Any]) -> dict[str, Hours]:
    """Take from a file what is of the right kind; the rest is left out."""
    found: dict[str, Hours] = {}
    kept = data.get("bytes")
    for key, hours in kept.items() if isinstance(kept, dict) else ():
        if isinstance(hours, dict):
            found[key] = {
                int(hour): count
                for hour, count in hours.items()
                if len(hour) < 10 and hour.isdecimal() and isinstance(count, int) and count >= 0
            }
    return found


def _hour(now: datetime) -> int:
    return int(now.timestamp()) // 3600


def _recent(hours: Hours, now: datetime) -> Hours:
    # An hour that seems to lie ahead, after our clock was set back, counts as well.
    return {hour: count for hour, count in hours.items() if hour >= _hour(now) - HOURS}


def _shown(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1_000_000_000 else f"{count / 1e6:.3g} MB"
