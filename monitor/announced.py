"""A record of announced work. Pure data; what it means for time and services is in `monitor.maintenance`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.plan import Window

CONFIGURATION: Final = "configuration"
PERSON: Final = "person"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A window of work on a service or a check, as it was announced, and how it ended."""

    id: int
    subject: str  # id of a service, or service.check
    planned: Window
    reason: str
    author: str  # "" for the configuration
    account: str  # who was logged in
    source: str  # CONFIGURATION or PERSON
    at: datetime  # when it was put on record
    cancelled_at: datetime | None = None
    cancelled_by: str = ""
    cancelled_why: str = ""

    @property
    def window(self) -> Window | None:
        """The time that it takes: of the plan, what came after the announcement and before a cancellation."""
        start = max(self.planned.start, self.at)
        end = self.planned.end if self.cancelled_at is None else min(self.planned.end, self.cancelled_at)
        return Window(start, end) if start < end else None

    @property
    def late(self) -> bool:
        """Whether it was announced when it had already begun: the part before is no maintenance."""
        return self.at > self.planned.start
