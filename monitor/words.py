"""What people were told, as the outbox has it: for whoever asks later what was said when. Read-only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from monitor.model import Notice
from monitor.rows import from_ms, to_ms

_NOTICE: Final = TypeAdapter(Notice)


@dataclass(frozen=True, slots=True)
class Told:
    """One word of the outbox."""

    notice: Notice
    message_id: str
    thread_id: str
    created_at: datetime
    sent_at: datetime | None  # when a server accepted it; None: not yet, or never
    withdrawn: bool  # found to be our own fault

    @property
    def unneeded(self) -> bool:
        """Whether it was taken back before anybody got it."""
        return self.withdrawn and self.sent_at is None


def read_words(sources: Iterable[sqlite3.Connection], site: str, start: datetime, end: datetime) -> list[Told]:
    """Return the words that came to be owed within [start, end), in the order in which they did."""
    query = (
        "SELECT notice, message_id, thread_id, created_ms, sent_ms, withdrawn_ms FROM outbox"
        " WHERE site = ? AND created_ms >= ? AND created_ms < ? ORDER BY id"
    )
    return [
        Told(
            _NOTICE.validate_json(notice),
            message_id,
            thread_id,
            from_ms(created),
            from_ms(sent) if sent is not None else None,
            withdrawn is not None,
        )
        for db in sources
        for notice, message_id, thread_id, created, sent, withdrawn in db.execute(
            query, (site, to_ms(start), to_ms(end))
        )
    ]
