"""IMAP: does the mailbox server greet, protect, let a user in and open a mailbox?

The mailbox is opened read-only by EXAMINE, so nothing is marked as read.
Sources: RFC 9051 (IMAP4rev2), RFC 3501 (IMAP4rev1, and its modified UTF-7 for names), RFC 2595 (STARTTLS),
RFC 4959 (SASL-IR), RFC 4616 (PLAIN).
"""

from __future__ import annotations

from pydantic import Field, model_validator

from probes.base import Fault, Measurement, ProbeError, ProbeType, Value
from probes.imap_dialogue import (
    ImapSession,
    ImapSettings,
    MailboxName,
    command_pieces,
    encode_mailbox,
    without_tag,
)
from probes.mail_dialogue import MAIL_FACTS, MAIL_VALUES, converse, quote


class Settings(ImapSettings):
    """What an IMAP check needs."""

    mailbox: MailboxName | None = Field(
        default=None, description="Mailbox to open read-only after the login, like INBOX; its messages are counted"
    )

    @model_validator(mode="after")
    def _mailbox_needs_a_login(self) -> Settings:
        if self.mailbox is not None and self.username is None:
            raise ValueError("mailbox needs username and password_file or password_env")
        return self


class Session(ImapSession[Settings]):
    """A conversation that ends with a look at a mailbox."""

    async def inspect(self) -> None:
        """Open the mailbox read-only and count its messages."""
        if self.s.mailbox is None:
            return
        name = encode_mailbox(self.s.mailbox).encode("ascii")
        answer, untagged = await self.ask("EXAMINE", command_pieces(b"EXAMINE", [name]))
        if answer.word != "OK":
            wanted = quote(self.s.mailbox.encode())
            raise ProbeError(Fault.CONTENT, f"mailbox {wanted} refused: {without_tag(answer, self.d)}")
        counts = [r.number for r in untagged if r.word == "EXISTS" and r.number is not None]
        if not counts:
            raise ProbeError(Fault.PROTOCOL, "no count of messages (EXISTS) came after EXAMINE")
        self.d.m.values["messages_count"] = counts[-1]


async def run(s: Settings, m: Measurement) -> None:
    """Hold one IMAP session."""
    await converse(Session, s, m, s.port)


PROBE = ProbeType(
    kind="imap",
    summary="A mailbox server by IMAP: greeting, TLS, login, and the count of messages in a mailbox opened read-only.",
    settings=Settings,
    run=run,
    values=(
        Value("greeting_s", "Time from the open connection (after TLS from the first byte) to the greeting"),
        Value("messages_count", "Messages in the mailbox that was opened"),
        *MAIL_VALUES,
    ),
    facts=(
        Value("greeting", "The server's greeting without its response code, the start of a long one"),
        Value("capabilities", "What the server says it can do, the first words of many"),
        *MAIL_FACTS,
    ),
)
