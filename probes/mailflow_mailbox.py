"""The finding side of `mailflow`: a mailbox opened for writing, our messages found in it and removed, nobody else's.

A message is removed only after its own headers were read back and hold our marker: a server that answers a search with
other people's messages does them no harm. Sources: RFC 9051 (SEARCH, FETCH, STORE), RFC 4315 (UIDPLUS), RFC 9208
(QUOTA).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from pydantic import Field, model_validator

from probes.base import Fault, ProbeError
from probes.imap_dialogue import (
    ImapSession,
    ImapSettings,
    MailboxName,
    Response,
    command_pieces,
    encode_mailbox,
    without_tag,
)
from probes.mail_dialogue import Dialogue, quote
from probes.mailflow_message import HEADER_LIMIT, MARKER, Mark, parse_fetch, parse_mark, parse_search

WINDOW: Final = 500  # newest messages that are searched for ours; bounds the server's work and the answer's length
LOOKED_AT_ONCE: Final = 20  # messages whose headers are read in one go
REMOVED_AT_ONCE: Final = 20  # leftovers removed in one run; what is left waits for the next
LEFTOVER_S: Final = 3600.0  # age from which any message of ours is a leftover: another monitor's run is over by then


class FindSettings(ImapSettings):
    """Where a message is looked for."""

    mailbox: MailboxName = Field(default="INBOX", description="Mailbox that the messages arrive in")

    @model_validator(mode="after")
    def _needs_a_login(self) -> FindSettings:
        if self.username is None:
            raise ValueError("a mailbox needs username and password_file or password_env")
        return self


class Mailbox(ImapSession[FindSettings]):
    """A conversation that opens the mailbox and then does what it was made for."""

    def __init__(self, settings: FindSettings, dialogue: Dialogue, work: Callable[[Mailbox], Awaitable[None]]) -> None:
        """Args: settings: of the side. dialogue: not begun. work: what is done with the open mailbox."""
        super().__init__(settings, dialogue)
        self._work = work
        self._next_uid: int | None = None  # what comes from now on has this UID or a higher one
        self._exists = 0
        self._searches_headers = True  # until it says that it cannot
        self._looked: set[int] = set()  # UIDs whose headers were read and are not ours

    async def inspect(self) -> None:
        """Open the mailbox for writing, then do the work."""
        await self.learn()  # after the login servers tell more, UIDPLUS for one
        await self._open()
        await self._work(self)

    async def ask(self, name: str, pieces: Sequence[bytes]) -> tuple[Response, list[Response]]:
        """Send a command and read its answer, as `ImapSession.ask`; notes how many messages there are."""
        answer, untagged = await super().ask(name, pieces)
        for response in untagged:
            if response.word == "EXISTS" and response.number is not None:
                self._exists = response.number
            elif response.word == "EXPUNGE" and self._exists:
                self._exists -= 1
        return answer, untagged

    async def _open(self) -> None:
        name = encode_mailbox(self.s.mailbox).encode("ascii")
        answer, untagged = await self.ask("SELECT", command_pieces(b"SELECT", [name]))
        wanted = quote(self.s.mailbox.encode())
        if answer.word != "OK":
            raise ProbeError(Fault.CONTENT, f"mailbox {wanted} refused: {without_tag(answer, self.d)}")
        if answer.rest.upper().startswith(b"[READ-ONLY]"):
            words = f"mailbox {wanted} is read-only for this user: no message could be removed"
            raise ProbeError(Fault.CONTENT, words)
        for response in untagged:
            if found := re.match(rb"\[UIDNEXT (\d{1,10})\]", response.rest, re.IGNORECASE):
                self._next_uid = int(found[1])

    async def _search(self, keys: bytes) -> list[int] | None:
        """Return the UIDs that a search finds, ascending; None when the server does not take it."""
        answer, untagged = await self.ask("UID SEARCH", [b"UID SEARCH " + keys])
        if answer.word != "OK":
            return None
        found = [uid for r in untagged if r.word == "SEARCH" for uid in parse_search(r.rest)]
        return sorted(set(found))

    @property
    def _window(self) -> bytes:
        """The newest messages, by their numbers in the mailbox."""
        return b"%d:%d" % (max(1, self._exists - WINDOW + 1), self._exists)

    async def _marks(self, uids: Sequence[int]) -> dict[int, Mark]:
        """Read the headers of messages and return what ours say, by UID."""
        if not uids:
            return {}
        wanted = b",".join(b"%d" % uid for uid in uids)
        fields = b"BODY.PEEK[HEADER.FIELDS (MESSAGE-ID %s)]<0.%d>" % (MARKER.upper().encode(), HEADER_LIMIT)
        answer, untagged = await self.ask("UID FETCH", [b"UID FETCH " + wanted + b" (UID " + fields + b")"])
        if answer.word != "OK":
            raise self.d.refused(answer.raw, "OK")
        read = (parse_fetch(r.rest) for r in untagged if r.word == "FETCH")
        marks = ((uid, parse_mark(text)) for uid, text in filter(None, read) if uid in uids)
        return {uid: mark for uid, mark in marks if mark is not None}

    async def own(self) -> dict[int, Mark]:
        """Return messages of any monitor like us among the newest, at most `LOOKED_AT_ONCE`, by UID."""
        if not self._exists:
            return {}
        found = await self._search(self._window + b' UNDELETED HEADER %s ""' % MARKER.encode())
        return await self._marks((found or [])[:LOOKED_AT_ONCE])

    async def fresh(self, token: str) -> int | None:
        """Look for a message that came since the mailbox was opened; None when it is not there (yet).

        The server is asked for it, and what else came is read: an index of headers may be behind.
        """
        await self._look_again()
        since = b"UID %d:*" % self._next_uid if self._next_uid else self._window
        found = await self._with_token(since, token)
        if found is not None or not self._exists:
            return found
        came = await self._search(since)
        if came is None:
            return None
        unread = [uid for uid in came if uid not in self._looked][-LOOKED_AT_ONCE:]
        return self._pick(await self._marks(unread), unread, token)

    async def late(self, token: str) -> int | None:
        """Look for a message that may have come at any time; None when it is not there (yet)."""
        await self._look_again()
        return await self._with_token(self._window, token)

    async def _look_again(self) -> None:
        answer, _ = await self.ask("NOOP", [b"NOOP"])
        if answer.word != "OK":
            raise self.d.refused(answer.raw, "OK")

    async def _with_token(self, where: bytes, token: str) -> int | None:
        if not self._exists or not self._searches_headers:
            return None
        found = await self._search(where + b' HEADER Message-ID "%s"' % token.encode())
        self._searches_headers = found is not None
        unread = [uid for uid in found or () if uid not in self._looked][-LOOKED_AT_ONCE:]
        return self._pick(await self._marks(unread), unread, token)

    def _pick(self, marks: dict[int, Mark], read: Iterable[int], token: str) -> int | None:
        ours = [uid for uid, mark in marks.items() if mark.token == token]
        self._looked.update(uid for uid in read if uid not in ours)
        return ours[0] if ours else None

    @property
    def purges(self) -> bool:
        """Whether the server can take away chosen messages alone (RFC 4315; part of RFC 9051)."""
        return bool({"UIDPLUS", "IMAP4REV2"} & set(self.capabilities))

    async def remove(self, uids: Sequence[int]) -> str:
        """Remove messages of ours for good, and only these; return why they could not be, or nothing.

        Without UIDPLUS they are marked and left to the user's own program: a plain EXPUNGE takes away whatever else
        is marked.
        """
        which = b",".join(b"%d" % uid for uid in uids)
        answer, _ = await self.ask("UID STORE", [b"UID STORE " + which + rb" +FLAGS.SILENT (\Deleted)"])
        if answer.word != "OK":
            return f"it could not be removed: {without_tag(answer, self.d)}"
        if not self.purges:
            return ""
        answer, _ = await self.ask("UID EXPUNGE", [b"UID EXPUNGE " + which])
        return "" if answer.word == "OK" else f"it could not be removed: {without_tag(answer, self.d)}"

    async def fullness(self) -> str:
        """Say which quota of the mailbox is used up; nothing when none is, or none is told."""
        if "QUOTA" not in self.capabilities:
            return ""
        name = encode_mailbox(self.s.mailbox).encode("ascii")
        _, untagged = await self.ask("GETQUOTAROOT", command_pieces(b"GETQUOTAROOT", [name]))
        for response in untagged:
            if response.word == "QUOTA":
                for kind, used, limit in re.findall(rb"([A-Z]{1,20}) (\d{1,18}) (\d{1,18})(?=[ )])", response.rest):
                    if int(limit) > 0 and int(used) * 100 >= int(limit) * 99:
                        return f"its quota is used up ({kind.decode()} {int(used)} of {int(limit)})"
        return ""


def leftovers(marks: dict[int, Mark], missing: Iterable[str], now: datetime) -> list[int]:
    """Choose what to remove: messages that this check has missed, and any of ours that are old."""
    tokens = set(missing)
    old = [uid for uid, mark in marks.items() if mark.token in tokens or _is_old(mark, now)]
    return old[:REMOVED_AT_ONCE]


def _is_old(mark: Mark, now: datetime) -> bool:
    # A Message-ID of our form alone does not prove that a message is a monitor's.
    return mark.sent is not None and (now - mark.sent).total_seconds() > LEFTOVER_S
