"""Mailflow: does a message that is really sent arrive, and how soon?

A run logs in to the mailbox (`find`, IMAP), has a small message accepted (`send`, SMTP), looks until it is in the
mailbox, and removes it. `delivery_s` runs from the server's word that it accepted the message (250) to the first look
that found it; looks begin 50 ms apart, grow with the wait to a tenth of it, and are at most `poll` apart, which is
how exact that number is. Each message carries a token nobody can guess. Only messages that carry our own header are
ever removed, by UID EXPUNGE; on a server without UIDPLUS they are only marked as deleted, for a plain EXPUNGE would
take away whatever else a user has marked. What was left behind by an earlier run is removed by a later one: what this
check has missed at once, any other message of a monitor's after an hour.

At most one message is sent in `least_every`, also across restarts. A run that is asked for sooner, such as a quick
second look after a failure, sends nothing: it looks for the message that is still missing, or, when none is, asks both
servers whether they would take one. A message that comes after its run has ended is a warning: the mail is slow, not
gone. Runs by hand (`once`, `probe`) know of no pause. A service with faster peaks is no place for such a check: give it
one of its own that needs the other.

A login is sent inside TLS only, unless `plaintext_login` says otherwise. No absence notice is due to such a message
(Auto-Submitted), and none of its failures is mailed to the sender where the server offers that (NOTIFY=NEVER).
The time-out must leave ten seconds for the two servers beside `within`.
Sources: RFC 5321 (SMTP), RFC 3461 (NOTIFY), RFC 1870 (SIZE), RFC 3463 (enhanced codes), RFC 6647 (greylisting),
RFC 9051 (IMAP), RFC 4315 (UIDPLUS), RFC 3834 (automatic messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pydantic import Field

from probes.base import (
    Duration,
    Fault,
    Measurement,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Value,
    fault_of,
    utc_now,
)
from probes.mail_dialogue import MAIL_FACTS, MAIL_VALUES, Dialogue, converse
from probes.mailflow_ledger import MailLedger, Sent
from probes.mailflow_mailbox import FindSettings, Mailbox, leftovers
from probes.mailflow_message import build, dotted, new_token
from probes.smtp_dialogue import SMTP_FACTS, SMTP_VALUES, Recipient, Reply, SmtpSession, SmtpSettings

DIALOGUES_S: Final = 10.0  # chosen: least time for opening the mailbox and having a message accepted
REMOVAL_S: Final = 2.0  # chosen: of that, what is kept for removing the message
HINT_S: Final = 1.0  # chosen: of that, the most for asking why a message may not have come
FIRST_LOOK_S: Final = 0.05
EARLY: Final = 0.05  # share of the pause by which a run may come early: slots are not kept to the millisecond


class SendSettings(SmtpSettings):
    """Where a message is given in."""


class Settings(ProbeSettings):
    """What a mailflow check needs."""

    send: SendSettings = Field(description="Server that the message is given to: keys as of an `smtp` check")
    find: FindSettings = Field(description="Server that it is looked for on: keys as of an `imap` check")
    sender: Recipient = Field(description="Address that the message is from")
    recipient: Recipient = Field(description="Address that it is for, whose mailbox `find` opens")
    within: Duration = Field(
        default=45.0, ge=1, le=3600, description="Longest that a delivery may take, from acceptance to being found"
    )
    least_every: Duration = Field(
        default=60.0, ge=60, description="Least time between two messages, restarts or not; never less than 60s"
    )
    poll: Duration = Field(default=2.0, ge=0.1, le=60, description="Longest pause between two looks into the mailbox")

    def endpoint(self) -> str:
        """Return the host that the message is given to."""
        return self.send.host


class _SideError(ProbeError):
    """A fault that already says which side it was."""


@asynccontextmanager
async def _side(name: str, m: Measurement, within_s: float) -> AsyncIterator[asyncio.Timeout]:
    """Say of whatever fails in the block which side it was, and end it in time."""
    deadline = asyncio.timeout(max(0.0, within_s))
    try:
        async with deadline:
            yield deadline
    except _SideError:
        raise
    except ProbeError as exc:
        raise _SideError(exc.fault, f"{name}: {exc.detail}") from exc
    except OSError as exc:  # TimeoutError is one
        if not deadline.expired():
            raise _SideError(fault_of(exc), f"{name}: {exc.strerror or str(exc) or type(exc).__name__}") from exc
        if m.current == "resolve":
            raise _SideError(Fault.LOCAL, f"{name}: our resolver gave no answer within {within_s:.3g} s") from exc
        where = f" in phase {m.current}" if m.current else ""
        raise _SideError(Fault.TIMEOUT, f"{name}: no answer within {within_s:.3g} s{where}") from exc


class _Sender(SmtpSession[SendSettings]):
    """A conversation that hands over a message, or only asks whether one would be taken."""

    def __init__(self, settings: SendSettings, dialogue: Dialogue, work: Callable[[_Sender], Awaitable[None]]) -> None:
        """Args: settings: of the side. dialogue: not begun. work: what is done after the login."""
        super().__init__(settings, dialogue)
        self._work = work

    async def inspect(self) -> None:
        """Do the work."""
        await self._work(self)

    async def name_both(self, sender: str, recipient: str, size: int) -> None:
        """Begin a transaction.

        Raises:
            ProbeError: CONTENT when the server refuses the sender, the recipient or the size.
        """
        announced = f" SIZE={size}" if "SIZE" in self.extensions else ""
        self._good(await self.ask(f"MAIL FROM:<{sender}>{announced}", "MAIL FROM"))
        # Without it each message that cannot be delivered puts a report into the sender's mailbox.
        silent = " NOTIFY=NEVER" if "DSN" in self.extensions else ""
        self._good(await self.ask(f"RCPT TO:<{recipient}>{silent}", "RCPT TO"), 250, 251)

    async def may_send(self) -> None:
        """Ask for the go-ahead; CONTENT when it is refused."""
        self._good(await self.ask("DATA", "DATA"), 354)

    async def hand_over(self, message: bytes) -> Reply:
        """Send the message and return the server's word on it, whatever that is."""
        await self.d.send(dotted(message), "the message")
        return await self.reply()

    def accepted(self, reply: Reply) -> str:
        """Return how the server accepted the message.

        Raises:
            ProbeError: CONTENT when it did not.
        """
        self._good(reply)
        return self.d.said(b" ".join(reply.texts))

    def _good(self, reply: Reply, *codes: int) -> None:
        if reply.code not in (codes or (250,)):
            why = refusal(reply)
            raise ProbeError(Fault.CONTENT, f"{self.d.asked}: {why}: server answered {self.d.said(reply.words())}")


_ENHANCED: Final = re.compile(rb"[245]\.(\d{1,3})\.(\d{1,3})(?= |$)")


def refusal(reply: Reply) -> str:
    """Say what kind of refusal a reply is, by its code, its enhanced code (RFC 3463), and its words."""
    text = b" ".join(reply.texts).lower()
    found = _ENHANCED.match(text)
    detail = (int(found[1]), int(found[2])) if found else None
    if detail == (2, 2) or (detail is None and reply.code == 552):
        return "the recipient's mailbox is full"
    if reply.code >= 500 or reply.code < 400:
        return "refused"
    if b"greylist" in text or b"graylist" in text or detail == (7, 1):
        return "put off by greylisting"
    return "put off for later (greylisting, or trouble that may pass)"


class _Run:
    """One run: what was found out so far, and what is to be done about it."""

    def __init__(self, s: Settings, m: Measurement) -> None:
        self.s = s
        self.m = m
        self.ledger = m.tools.of(MailLedger)
        self.key = f"{m.check} {s.send.host}:{s.send.port} {s.recipient}"
        self.began = time.perf_counter()
        enough = m.timeout_s >= s.within + DIALOGUES_S
        self.wait_s = s.within if enough else m.timeout_s * 0.6  # of a run by hand with less time than it needs
        self.spare_s = min(REMOVAL_S, m.timeout_s * 0.1)
        self.opening_s = m.timeout_s - self.wait_s - self.spare_s
        self.opened: asyncio.Timeout | None = None
        self.where = f"{s.find.mailbox}"

    def left_s(self) -> float:
        """Return the seconds left."""
        return self.began + self.m.timeout_s - time.perf_counter()

    async def go(self) -> None:
        """Open the mailbox and do the rest with it open."""
        s, m = self.s, self.m
        m.values["sent_count"] = 0
        side = Measurement(self.opening_s, m.path, m.tools, check=m.check)
        try:
            async with _side("finding", side, self.opening_s) as self.opened:
                await converse(lambda settings, d: Mailbox(settings, d, self._with), s.find, side, s.find.port)
        finally:
            for name in ("address", "starttls", "tls_version"):
                if name in side.facts:
                    m.fact(f"mailbox_{name}", side.facts[name])
            if "tls_not_after_timestamp_s" in side.values:
                m.values["mailbox_tls_not_after_timestamp_s"] = side.values["tls_not_after_timestamp_s"]

    async def _with(self, mailbox: Mailbox) -> None:
        """Do what the time since the last message allows."""
        self.m.values["mailbox_open_s"] = time.perf_counter() - self.began
        assert self.opened is not None
        self.opened.reschedule(None)
        mailbox.d.extend(self.m.timeout_s)
        missing = await self.ledger.missing(self.key)
        since_s = await self.ledger.since_last_s(self.key)
        pending = await self.ledger.pending(self.key)
        late = await self._tidy(mailbox, missing)
        pause_s = 0.0 if since_s is None else self.s.least_every * (1 - EARLY) - since_s
        if pause_s <= 0:
            await self._send_and_find(mailbox)
        elif pending is None:
            await self._ask_only(since_s or 0.0)
        elif pending in late:
            self._came_late(pending)
        else:
            await self._look_on(mailbox, pending, pause_s)

    async def _tidy(self, mailbox: Mailbox, missing: tuple[Sent, ...]) -> list[Sent]:
        """Remove what earlier runs left behind; return the missing messages that have come meanwhile."""
        marks = await mailbox.own()
        gone = leftovers(marks, (sent.token for sent in missing), utc_now())
        if gone:
            await self._remove(mailbox, gone)
        self.m.values["leftovers_count"] = len(gone)
        tokens = {marks[uid].token for uid in gone}
        late = [sent for sent in missing if sent.token in tokens]
        if late:
            self.m.fact("late", f"a message of {late[-1].at:%Y-%m-%d %H:%M:%S} UTC came after its run had ended")
            await self.ledger.found(self.key, *tokens)
        return late

    async def _remove(self, mailbox: Mailbox, uids: Sequence[int]) -> None:
        """Remove messages, and say what keeps them: mail flows, and the mailbox fills."""
        trouble = await mailbox.remove(uids)
        if trouble:
            self.m.values["warning_count"] = 1
            self.m.remark = f"{self.m.remark}; {trouble}" if self.m.remark else trouble
        elif not mailbox.purges and not self.m.remark:  # no news, and nobody's to mend tonight: no warning
            self.m.remark = "removed messages are only marked as deleted, for the server has no UIDPLUS"

    # A run that sends.

    async def _send_and_find(self, mailbox: Mailbox) -> None:
        token = new_token()
        try:
            await self._over_smtp(lambda sender: self._hand_over(sender, token))
            accepted = time.perf_counter()
            with self.m.phase("transfer"):
                uid = await self._wait(lambda: mailbox.fresh(token), accepted, self.wait_s)
            if uid is None:
                await self._not_there(mailbox, token, accepted)
                return
        finally:
            if self.m.values["sent_count"]:
                await asyncio.shield(self.ledger.found(self.key))  # keeps what the server said of it
        self.m.values["delivery_s"] = time.perf_counter() - accepted
        await self._remove(mailbox, [uid])
        await self.ledger.found(self.key, token)

    async def _over_smtp(self, work: Callable[[_Sender], Awaitable[None]]) -> None:
        """Hold the SMTP conversation, in what is left of the time for conversations."""
        s, m = self.s, self.m
        within_s = max(0.0, self.opening_s - (time.perf_counter() - self.began))
        # The same notes: phases, values and facts of a check are those of the side that takes the message.
        side = Measurement(within_s, m.path, m.tools, m.phases, m.values, m.facts, check=m.check)
        async with _side("sending", side, within_s):
            await converse(lambda settings, d: _Sender(settings, d, work), s.send, side, s.send.port)

    async def _hand_over(self, sender: _Sender, token: str) -> None:
        s, m = self.s, self.m
        message = build(token, s.sender, s.recipient, m.check, utc_now())
        await sender.name_both(s.sender, s.recipient, len(message))
        await sender.may_send()
        m.fact("message_id", f"<{token}@{s.sender.rpartition('@')[2]}>")
        await self.ledger.sending(self.key, token)
        reply = await sender.hand_over(message)
        try:
            words = sender.accepted(reply)
        except ProbeError:
            await self.ledger.refused(self.key, token)
            raise
        m.values["sent_count"] = 1
        m.values["accept_s"] = time.perf_counter() - sender.d.began
        m.fact("accepted", words)
        self.ledger.taken(self.key, token, words)

    async def _wait(self, look: Callable[[], Awaitable[int | None]], since: float, within_s: float) -> int | None:
        """Look again and again until the message is there or the time is over; the last look is at the very end."""
        ends = since + within_s
        looks = 0
        try:
            while True:
                looks += 1
                if (uid := await look()) is not None:
                    return uid
                now = time.perf_counter()
                if now >= ends:
                    return None
                await asyncio.sleep(min(max(FIRST_LOOK_S, (now - since) * 0.1), self.s.poll, ends - now))
        finally:
            self.m.values["looks_count"] = looks

    async def _not_there(self, mailbox: Mailbox, token: str, accepted: float) -> None:
        waited_s = time.perf_counter() - accepted
        sent = next(s for s in await self.ledger.missing(self.key) if s.token == token)
        raise await self._missing(mailbox, sent, f"not in {self.where} after {waited_s:.3g} s")

    async def _missing(self, mailbox: Mailbox, sent: Sent, verdict: str) -> _SideError:
        """Make the fault of a message that did not come, with what may explain it."""
        full = ""
        with contextlib.suppress(OSError, ProbeError):  # TimeoutError is an OSError; this is no more than a hint
            async with asyncio.timeout(HINT_S):
                full = await mailbox.fullness()
        taken = f"accepted by {self.s.send.host}" if sent.taken else f"given to {self.s.send.host}, its answer lost,"
        words = f" ({sent.taken[:60]})" if sent.taken else ""
        why = f"; {full}" if full else ""
        return _SideError(Fault.TIMEOUT, f"delivery: {taken} at {sent.at:%Y-%m-%d %H:%M:%S} UTC{words}, {verdict}{why}")

    # A run that comes before the pause is over.

    async def _look_on(self, mailbox: Mailbox, sent: Sent, pause_s: float) -> None:
        """Look for the message of the run before, until the next may be sent."""
        now = time.perf_counter()
        within_s = min(pause_s, self.s.within, self.left_s() - self.spare_s)
        with self.m.phase("transfer"):
            uid = await self._wait(lambda: mailbox.late(sent.token), now, within_s)
        age_s = time.perf_counter() - sent.clock_s
        if uid is None:
            raise await self._missing(mailbox, sent, f"still not in {self.where} after {age_s:.3g} s")
        self._came_late(sent)
        await self._remove(mailbox, [uid])
        await self.ledger.found(self.key, sent.token)

    def _came_late(self, sent: Sent) -> None:
        age_s = time.perf_counter() - sent.clock_s
        m = self.m
        m.values["delivery_s"] = age_s
        m.values["warning_count"] = 1
        m.remark = f"the message before came late: found after {age_s:.3g} s, expected within {self.s.within:g} s"

    async def _ask_only(self, since_s: float) -> None:
        """Ask whether a message would be taken, and send none."""
        s, m = self.s, self.m

        async def ask(sender: _Sender) -> None:
            await sender.name_both(s.sender, s.recipient, 2000)
            await sender.ask("RSET", "RSET", 250)

        await self._over_smtp(ask)
        m.remark = m.remark or (
            f"no message sent: the one before was sent {since_s:.0f} s ago, at least {s.least_every:g} s apart; both"
            " servers answer"
        )


async def run(s: Settings, m: Measurement) -> None:
    """Send a message, find it and remove it; sooner than `least_every`, only look.

    Raises:
        ProbeError: CONTENT for a refused login, sender, recipient or message, and for a mailbox that cannot be opened
            for writing; TIMEOUT for a message that was accepted and did not come; the servers' other faults as in
            `probes.smtp` and `probes.imap`; LOCAL when what is sent cannot be noted. `sending:`, `finding:` or
            `delivery:` says which part it was.
    """
    m.values["warning_count"] = 0
    await _Run(s, m).go()


def _least_timeout_s(s: Settings) -> float:
    return s.within + DIALOGUES_S


PROBE = ProbeType(
    kind="mailflow",
    summary="A message really sent by SMTP and found by IMAP: its delay is measured, then it is removed.",
    settings=Settings,
    run=run,
    values=(
        Value("delivery_s", "Time from the acceptance of the message to the look that found it"),
        Value("accept_s", "Time from opening the connection to the server's word that it accepted the message"),
        Value("sent_count", "1 when a message was sent and accepted; 0 when the run only looked, or sending failed"),
        Value("looks_count", "How many times the mailbox was looked at for the message"),
        Value("leftovers_count", "Messages of earlier runs that were found in the mailbox and removed"),
        Value("warning_count", "1 when a message came late or could not be removed; a streak makes the check degraded"),
        Value("mailbox_open_s", "Time from the start of the run to the open mailbox, login included"),
        Value("mailbox_tls_not_after_timestamp_s", "When a certificate of the finding side ends first, Unix time"),
        *SMTP_VALUES,
        *MAIL_VALUES,
    ),
    facts=(
        Value("message_id", "Message-ID of the message that was sent, to look for in the servers' logs"),
        Value("accepted", "How the server accepted the message; its own number in the queue often stands here"),
        Value("late", "That a message given up for lost has come after all, and when it was sent"),
        Value("mailbox_address", "The address of the finding side that was connected to"),
        Value("mailbox_starttls", "yes when that connection became TLS by STARTTLS, otherwise no"),
        Value("mailbox_tls_version", "Version of TLS on that connection"),
        *SMTP_FACTS,
        *MAIL_FACTS,
    ),
    rounds_to_down=3,
    least_every_s=lambda s: max(s.least_every, _least_timeout_s(s)),
    least_timeout_s=_least_timeout_s,
    default_timeout_s=60.0,
)
