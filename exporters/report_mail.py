"""Reports by mail: takes what the agenda owes, has it made, and sends it with its files through the relays in order.

Sending, retries and partly refused recipients are the mail channel's own. The report is made by another process, handed
in as `make`; it is kept for the next try, and made again after a restart, to the byte.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import Final

from config.plan import Plan, ReportSchedule
from exporters.mail import Letter, MailChannel, NobodyAsksError, Outbox, finished, headed
from exporters.text_morning import Told, unmade
from monitor.agenda import CHANNEL, LATE
from monitor.board import Board
from monitor.model import OutboxItem, State
from probes.base import one_line, utc_now

log = logging.getLogger(__name__)

UNMADE_AFTER: Final = 4  # tries to make a report, some two minutes, before a mail says that there is none
KEPT: Final = 8  # reports kept for another try
FILES_LIMIT: Final = 10_000_000  # bytes of all files together; relays seldom take more than 20 MB
_TYPES: Final = {
    ".docx": ("application", "vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ".xlsx": ("application", "vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ".pdf": ("application", "pdf"),
    ".json": ("application", "json"),
    ".csv": ("text", "csv"),
}


class UnmadeError(Exception):
    """A report could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """A report that is ready to be sent."""

    subject: str
    text: str
    files: tuple[tuple[str, bytes], ...] = ()  # name and content


Maker = Callable[[Plan, OutboxItem, ReportSchedule, str], Awaitable[Made]]


class ReportChannel(MailChannel):
    """Sends the reports that the outbox owes."""

    channel = CHANNEL

    def __init__(
        self, plan: Plan, outbox: Outbox, board: Board, make: Maker, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Args: make: makes a report; raises UnmadeError."""
        assert plan.mail is not None  # or the configuration was refused
        super().__init__(plan.mail, plan.site, outbox, board, clock=clock)
        self._whole = plan
        self._make = make
        self._made: dict[int, Letter] = {}

    async def _letter(self, item: OutboxItem) -> Letter:
        schedule = next((s for s in self._whole.schedules if s.id == item.notice.service), None)
        if schedule is None:
            raise NobodyAsksError(f"the configuration has no report {item.notice.service} any more")
        if item.id in self._made:
            return self._made[item.id]
        head = self._board.chain_head
        try:
            made = await self._make(self._whole, item, schedule, head)
        except UnmadeError as exc:
            log.warning("the report %s could not be made: %s", schedule.id, exc)
            if item.attempts < UNMADE_AFTER:
                raise
            made = self._without(item, schedule, str(exc))
        letter = self._write(item, schedule, made)
        while len(self._made) >= KEPT:
            self._made.pop(next(iter(self._made)))
        self._made[item.id] = letter
        return letter

    async def _deliver(self, item: OutboxItem, dead: set[int]) -> bool:
        sent = await super()._deliver(item, dead)
        if sent:
            self._made.pop(item.id, None)
        return sent

    def _write(self, item: OutboxItem, schedule: ReportSchedule, made: Made) -> Letter:
        plan = replace(self._plan, to=schedule.to)
        text, files = _fitting(made)
        message, identity = headed(item.message_id, plan, self._site, one_line(made.subject), self._clock())
        message["X-Thongsuot-Report"] = schedule.id
        message.set_content(text, cte="quoted-printable")
        day = item.notice.at.astimezone(self._site.timezone)
        for name, content in files:
            path = PurePath(name)
            main, sub = _TYPES.get(path.suffix, ("application", "octet-stream"))
            shown = f"{path.stem}-{day:%Y-%m-%d}{path.suffix}"
            message.add_attachment(content, maintype=main, subtype=sub, filename=shown)
        return Letter(finished(message, identity) if files else message.as_bytes(), schedule.to)

    def _without(self, item: OutboxItem, schedule: ReportSchedule, trouble: str) -> Made:
        """Write what stands in for a report that cannot be made."""
        board = self._board
        names = [v.plan.name for v in board.services.values() if v.incident is not None]
        down = [v.plan.name for v in board.services.values() if v.state is State.DOWN]
        told = Told(schedule.kind, item.notice.at, item.notice.reason == LATE, board.chain_head)
        letter = unmade(self._whole, told, trouble, names, down)
        return Made(letter.subject, letter.text)


def _fitting(made: Made) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """Leave out the largest files until the rest fits into a mail, and say so."""
    files, left = list(made.files), []
    while sum(len(content) for _, content in files) > FILES_LIMIT:
        largest = max(files, key=lambda f: len(f[1]))
        files.remove(largest)
        left.append(largest[0])
    note = f"\nKhông kèm theo vì quá lớn: {', '.join(sorted(left))}. Lập lại bằng lệnh thongsuot report.\n"
    return made.text + (note if left else ""), tuple(files)
