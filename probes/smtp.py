"""SMTP: does the mail server greet, speak, protect and accept, as a sending server or a mail program needs it?

A session goes as far as the settings ask: banner, EHLO, STARTTLS, login, and whether a recipient would be accepted;
the transaction is then reset, so no mail is ever sent.
Sources: RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 1870 (SIZE), RFC 2034 (enhanced codes).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar

import re2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from probes.base import Fault, Measurement, ProbeError, ProbeType, Value
from probes.mail_dialogue import MAIL_FACTS, MAIL_VALUES, converse, quote
from probes.smtp_dialogue import SMTP_FACTS, SMTP_VALUES, Recipient, Sender, SmtpSession, SmtpSettings, or_


def _expression(pattern: str) -> str:
    try:
        _compiled(pattern)
    except re2.error as exc:
        # The library keeps its message as bytes.
        reason = exc.args[0].decode("utf-8", "replace") if isinstance(exc.args[0], bytes) else str(exc)
        raise ValueError(f"not a valid regular expression (RE2): {reason}") from exc
    return pattern


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # it would write to standard error by itself
    return re2.compile(pattern, options)


ReplyCode = Annotated[int, Field(ge=200, le=599)]


class RecipientCheck(BaseModel):
    """A recipient to ask about; the transaction is reset before any mail could be sent."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")

    recipient: Recipient = Field(description="Address to ask about in RCPT TO")
    sender: Sender = Field(
        default="", description="Address for MAIL FROM; empty is the null sender, as bounces have it"
    )
    codes: Annotated[tuple[ReplyCode, ...], Field(min_length=1)] = Field(
        default=(250, 251), description="Reply codes to accept for the recipient; [550, 554] proves a closed relay"
    )


class Settings(SmtpSettings):
    """What an SMTP check needs."""

    banner: Annotated[str, AfterValidator(_expression)] | None = Field(
        default=None, description="Regular expression (RE2) that must be found in the banner's text"
    )
    rcpt: RecipientCheck | None = Field(
        default=None, description="Recipient to ask about without sending: {recipient, sender, codes}"
    )


class Session(SmtpSession[Settings]):
    """A conversation that ends with the question about a recipient."""

    async def greet(self) -> None:
        """Read the banner, and hold it against the wanted expression."""
        await super().greet()
        if self.s.banner and not _compiled(self.s.banner).search(self.banner.decode("utf-8", "replace")):
            raise ProbeError(
                Fault.CONTENT,
                f"the banner is {quote(self.banner)}, expected it to match {quote(self.s.banner.encode())}",
            )

    async def inspect(self) -> None:
        """Ask about the recipient, then reset the transaction."""
        rcpt = self.s.rcpt
        if rcpt is None:
            return
        await self.ask(f"MAIL FROM:<{rcpt.sender}>", "MAIL FROM", 250)
        reply = await self.ask(f"RCPT TO:<{rcpt.recipient}>", "RCPT TO")
        self.d.m.values["rcpt_code"] = reply.code
        if reply.code not in rcpt.codes:
            raise self.d.refused(reply.words(), or_(rcpt.codes))
        await self.ask("RSET", "RSET", 250)


async def run(s: Settings, m: Measurement) -> None:
    """Hold one SMTP session."""
    await converse(Session, s, m, s.port)


PROBE = ProbeType(
    kind="smtp",
    summary="A mail server that receives: banner, EHLO, STARTTLS, login, a recipient asked about; nothing is sent.",
    settings=Settings,
    run=run,
    values=(
        *SMTP_VALUES,
        Value("rcpt_code", "Reply code for the recipient that was asked about"),
        *MAIL_VALUES,
    ),
    facts=(
        *SMTP_FACTS,
        *MAIL_FACTS,
    ),
)
