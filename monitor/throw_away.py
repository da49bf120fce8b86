"""A journal for time that is made up: the same file and the same transactions as the daemon's, gone afterwards.

Nothing of it has to survive a power cut, so nothing waits for the disk, and raw results are not kept: whoever feeds
them has them already. Every word counts as accepted at the moment it was owed, for no channel stands behind it.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from monitor.journal import Batch, Journal
from monitor.rows import to_ms
from monitor.words import Told, read_words

_EVER: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


class ThrowAway(Journal):
    """Opened by `throw_away`."""

    @classmethod
    async def in_folder(cls, folder: Path, site: str) -> Self:
        """Make one in an empty folder."""
        journal = await cls.open(folder, site)
        assert isinstance(journal, cls)
        await journal._do(lambda: journal._db.executescript("PRAGMA synchronous = OFF"))
        return journal

    async def commit(self, batch: Batch, at: datetime) -> None:
        """Write a batch without its results; its words have left at once."""
        await super().commit(replace(batch, results=[]), at)
        if batch.duties or batch.withdrawal is not None:
            await self.transact(lambda db: _send_all(db, at))

    async def words(self) -> Sequence[Told]:
        """Return every word that was owed, in order."""
        return await self.transact(lambda db: read_words([db], self.site, *_EVER))


def _send_all(db: sqlite3.Connection, at: datetime) -> None:
    db.execute("UPDATE outbox SET sent_ms = ? WHERE sent_ms IS NULL AND failed_ms IS NULL", (to_ms(at),))


@asynccontextmanager
async def throw_away(site: str) -> AsyncIterator[tuple[ThrowAway, Path]]:
    """Make a journal in a folder of its own, which goes with it.

    Yields:
        The journal, and the state directory in which it stands.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="thongsuot-replay-"))
    try:
        journal = await ThrowAway.in_folder(folder, site)
        try:
            yield journal, folder
        finally:
            await journal.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
