"""Who called in, and when: what the web page's server hands over and the probe `heartbeat` looks at.

The last call of each check, and when we listened, are kept in a small file, so that a restart forgets nobody. Ages are
measured by a clock that nobody can set; only the time in which we were not running is told by the wall clock.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
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
NOTED_EVERY_S: Final = 30.0  # how often it is written down that we still listen
BREAK_PART: Final = 60  # a break shorter than this part of the patience is none; chosen: callers try again
BREAK_MOST_S: Final = 60.0  # nor is a longer one than this ever overlooked
SPANS_KEPT: Final = 20
_OWN: Final = ""  # the file's entry about ourselves; a check's name is never empty

Token = Callable[[], Awaitable[SecretStr]]


@dataclass(frozen=True, slots=True)
class Beat:
    """One call."""

    at: datetime
    clock_s: float  # monotonic
    well: bool = True
    note: str = ""
    source: str = ""  # the caller's address


@dataclass(slots=True)
class _Span:
    """A time in which we listened, by the monotonic clock of this process."""

    began_s: float
    ended_s: float


class Heartbeats:
    """The last call of each check. The daemon's own one hears calls; any other is deaf."""

    def __init__(self, file: FilePath | None = None) -> None:
        """Args: file: where the last calls are kept across restarts; without one, only in memory."""
        self.file = file
        self._file = KeptFile(file)
        self._tokens: dict[str, Token] = {}
        self._last: dict[str, Beat] = {}
        self._counts: dict[str, int] = {}
        self._expected: dict[str, float] = {}  # since when a check's calls are waited for, monotonic
        self._spans: list[_Span] = []  # oldest first; the last one goes on
        self._hears = False
        self._dirty = False
        self._writing = asyncio.Lock()

    def expect(self, tokens: Mapping[str, Token]) -> None:
        """Say which checks are called for from now on, and how the token of each is read."""
        self._tokens = dict(tokens)
        if self._hears:
            self._expect_from(time.perf_counter())

    async def begin(self) -> None:
        """Read what was known before, and hear from now on."""
        now, clock_s = utc_now(), time.perf_counter()
        kept = await self._file.read()
        for check, data in kept.items():
            beat = _beat(data, now, clock_s)
            if beat is not None and check in self._tokens:
                self._last[check] = beat
        behind_s = now.timestamp() - clock_s  # from the wall clock to ours
        own = kept.get(_OWN)
        if isinstance(own, dict):
            self._spans = _spans(own.get("listened"), behind_s, clock_s)
            self._expected = {n: min(at - behind_s, clock_s) for n, at in _moments(own.get("expected")).items()}
        self._spans.append(_Span(clock_s, clock_s))
        self._hears = True
        self._expect_from(clock_s)

    def _expect_from(self, clock_s: float) -> None:
        self._expected = {check: self._expected.get(check, clock_s) for check in self._tokens}
        self._last = {check: beat for check, beat in self._last.items() if check in self._tokens}

    async def run(self) -> None:
        """Write down for ever that we still listen."""
        while True:
            await self.note_time()
            await asyncio.sleep(NOTED_EVERY_S)

    async def note_time(self) -> None:
        """Write down that we listen, if anybody is expected to call."""
        if self._hears and self._tokens:
            async with self._writing:
                await self._keep()

    @property
    def hears(self) -> bool:
        """Whether calls are heard here at all."""
        return self._hears

    def silence_s(self, check: str, patience_s: float) -> float:
        """Return the longest silence of a check since its last call that we have listened to.

        A restart begins it anew, unless it was short beside the patience: a call may have come while nobody listened.
        """
        overlooked_s = min(BREAK_MOST_S, patience_s / BREAK_PART)
        last = self._last.get(check)
        since_s = self._expected.get(check, time.perf_counter()) if last is None else last.clock_s
        longest_s, began_s, ended_s = 0.0, -float("inf"), -float("inf")
        for span in self._until_now():
            if span.began_s - ended_s > overlooked_s:
                began_s = span.began_s
            ended_s = span.ended_s
            longest_s = max(longest_s, ended_s - max(began_s, since_s))
        return longest_s

    def _until_now(self) -> list[_Span]:
        if self._spans and self._hears:
            self._spans[-1].ended_s = time.perf_counter()
        return self._spans

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
        # A name that nobody expects costs as much as one that somebody does: time must not tell which there are.
        read = self._tokens.get(check) or next(iter(self._tokens.values()), None)
        if read is None or not await _is(read, token) or check not in self._tokens:
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
            await self._file.write(self._whole())
        except OSError as exc:
            self._dirty = True
            log.warning("heartbeats cannot be kept for the next start: %s", exc)

    def _whole(self) -> dict[str, Any]:
        behind_s = utc_now().timestamp() - time.perf_counter()
        spans = self._until_now()[-SPANS_KEPT:]
        own = {
            "listened": [[span.began_s + behind_s, span.ended_s + behind_s] for span in spans],
            "expected": {check: since_s + behind_s for check, since_s in self._expected.items()},
        }
        return {_OWN: own, **{name: _kept(beat) for name, beat in self._last.items()}}


async def _is(read: Token, token: str) -> bool:
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


def _spans(data: object, behind_s: float, clock_s: float) -> list[_Span]:
    """Read the times in which we listened; none of them ends after now, whatever the wall clock says."""
    found: list[_Span] = []
    for entry in data if isinstance(data, list) else []:
        match entry:
            case [float(began), float(ended)] if 0 <= began <= ended < 1e11:
                found.append(_Span(min(began - behind_s, clock_s), min(ended - behind_s, clock_s)))
    return found[-SPANS_KEPT:]


def _moments(data: object) -> dict[str, float]:
    items = data.items() if isinstance(data, dict) else ()
    return {str(name): at for name, at in items if isinstance(at, float) and 0 <= at < 1e11}
