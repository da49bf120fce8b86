"""Whose turn it is to be written: what the judges of congestion remember, a few checks a transaction.

All bins end at the same moments. What 20,000 quiet checks remember is 100 MB: written at once, every five minutes, it
holds up the results of seconds. Whoever knows of a queue is written at once: that a restart must not forget.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from monitor.journal import Batch
from monitor.track import Track

ROUNDS: Final = 600  # transactions in which all are written: two and a half minutes at four a second, half a bin
AT_LEAST: Final = 20  # in one transaction; chosen: 100 KB


class Keeping:
    """Those whose memory is newer than what is written of it."""

    def __init__(self, checks: int) -> None:
        """Args: checks: how many there are."""
        self._share = max(AT_LEAST, -(-checks // ROUNDS))
        self._waiting: dict[str, Track] = {}

    def note(self, track: Track, at: datetime, batch: Batch) -> None:
        """Note that a check was judged by a result that began at `at`: it is to be written if that closed a bin."""
        if not track.queue.worth_keeping(at):
            return
        if track.queue.episode is not None or track.queue.suspected:
            self._write(track, batch)
        else:
            self._waiting.setdefault(track.target.id, track)

    def fill(self, batch: Batch, *, whole: bool) -> None:
        """Write those who have waited longest; at a stop all of them."""
        for _ in range(len(self._waiting) if whole else min(self._share, len(self._waiting))):
            self._write(self._waiting[next(iter(self._waiting))], batch)

    def _write(self, track: Track, batch: Batch) -> None:
        self._waiting.pop(track.target.id, None)
        batch.queues[track.target.id] = track.kept()
