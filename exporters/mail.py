"""Alerts by mail: claims what is owed from the outbox and hands it to the first relay that takes it.

An item is marked sent only after a relay accepted it; a crash in between sends it twice with the same Message-ID,
never zero times. Trouble of a relay (silent, refusing logins, bad certificate) only postpones; a message is given
up only when every relay answered 5xx for the message itself. Talking to a relay is in `mail_relay`.
Sources: RFC 5322 (headers, threads), RFC 3834 (Auto-Submitted).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Final, Protocol

from config.plan import MailPlan, Relay, ServiceKind, SitePlan
from exporters.mail_folding import MAIL_POLICY
from exporters.mail_relay import DeliveryError, Envelope, hand_over, refusal_notes, relay_name
from exporters.text import local_time
from exporters.text_mail import compose
from monitor.board import Board
from monitor.model import EventKind, Notice, OutboxItem, State
from probes.base import one_line, utc_now

log = logging.getLogger(__name__)

CHANNEL: Final = "mail"
BATCH: Final = 20  # items claimed at once; chosen: small enough to be marked before a lease could end
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
POLL_S: Final = 3.0  # how often the outbox is looked into when nobody wakes us
PARTLY_REFUSED_FOR_S: Final = 3600.0  # how long recipients refused with 4xx (greylisting) are tried again
DETAIL_LIMIT: Final = 500  # characters kept of what the relays said


class Outbox(Protocol):
    """Where duties to tell are kept until they are done; satisfied by the journal."""

    async def claim(self, channel: str, now: datetime, limit: int) -> Sequence[OutboxItem]:
        """Return items due at `now`, oldest first; `attempts` counts the tries before this one."""

    async def take_up(self, item_id: int) -> bool:
        """Note that an item is being handed over; False when it was withdrawn since it was claimed."""

    async def note_served(self, item_id: int, recipients: Sequence[str], at: datetime) -> None:
        """Record which recipients have an item that others wait for still."""

    async def mark_sent(self, item_id: int, at: datetime, detail: str) -> None:
        """Record that a server accepted the item, with its reply."""

    async def mark_retry(self, item_id: int, next_try: datetime, detail: str) -> None:
        """Record a failed try and when the next is due."""

    async def mark_failed(self, item_id: int, at: datetime, detail: str) -> None:
        """Record that the item is given up."""

    async def waiting(self, channel: str) -> int:
        """Return how many items are neither sent nor given up."""


@dataclass(frozen=True, slots=True)
class RelayOutcome:
    """What one relay did with a test message."""

    relay: str  # host:port
    ok: bool
    detail: str  # the server's reply, or why not
    duration_s: float


@dataclass(slots=True)
class _Item:
    """An item on its way through the relays. `open` are the recipients nobody has accepted yet."""

    id: int
    to: tuple[str, ...]
    open: list[str]
    notes: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # last answer for each open recipient
    temporary: bool = False  # some relay may take it later


def retry_pause_s(attempts: int) -> float:
    """Return the pause after a failed try: 5, 10, 20, 40 s … and never more than five minutes."""
    return float(min(FIRST_PAUSE_S * 2 ** min(attempts, 16), LONGEST_PAUSE_S))


class NobodyAsksError(Exception):
    """What is owed is asked for no more; the message says why."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A whole message, and who is to get it."""

    message: bytes
    to: tuple[str, ...]


class MailChannel:
    """Sends what the outbox owes by mail."""

    channel = CHANNEL  # whose duties these are

    def __init__(
        self,
        plan: MailPlan,
        site: SitePlan,
        outbox: Outbox,
        board: Board,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._plan = plan
        self._site = site
        self._outbox = outbox
        self._board = board
        self._clock = clock
        self._waiting = 0

    async def run(self, wake: asyncio.Event) -> None:
        """Deliver for ever: at once after `wake`, otherwise every few seconds."""
        while True:
            wake.clear()
            await self.deliver_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await wake.wait()

    async def deliver_due(self) -> int:
        """Try everything that is due once; return how many messages were accepted."""
        now = self._clock()
        dead: set[int] = set()  # relays not asked again in this pass
        sent = 0
        while items := await self._outbox.claim(self.channel, now, BATCH):
            for item in items:
                if not await self._outbox.take_up(item.id):
                    self._count("withdrawn")
                    continue
                sent += await self._deliver(item, dead)
            if len(items) < BATCH:
                break
        waiting, before = await self._outbox.waiting(self.channel), self._waiting
        self._waiting = waiting
        self._board.outbox_waiting += waiting - before  # other channels have theirs in it
        return sent

    async def _deliver(self, item: OutboxItem, dead: set[int]) -> bool:
        try:
            letter = await self._letter(item)
            work = _Item(item.id, letter.to, open=[to for to in letter.to if to not in item.served])
            for number, relay in enumerate(self._plan.relays):
                if number in dead:
                    work.temporary = True
                    work.notes.append(f"{relay_name(relay)}: skipped, no answer a moment ago")
                elif work.open:
                    await self._try_relay(relay, letter.message, work, dead, number)
        except NobodyAsksError as exc:
            log.warning("mail for outbox item %d is not sent: %s", item.id, exc)
            await self._outbox.mark_failed(item.id, self._clock(), str(exc))
            self._count("withdrawn")
            return False
        except Exception as exc:  # a message that cannot be written must not hold up the others, nor be lost
            log.exception("mail for outbox item %d could not be prepared", item.id)
            await self._retry(item, one_line(f"{type(exc).__name__}: {exc}"))
            return False
        return await self._settle(item, work)

    async def _try_relay(self, relay: Relay, message: bytes, work: _Item, dead: set[int], number: int) -> None:
        try:
            taken = await hand_over(relay, Envelope(_envelope_sender(self._plan), tuple(work.open), message))
        except DeliveryError as exc:
            work.notes.append(f"{relay_name(relay)}: {exc}")
            work.temporary |= not exc.permanent
            if exc.relay_down:
                dead.add(number)
                log.warning("mail relay %s did not serve: %s", relay_name(relay), exc)
            return
        work.notes.append(f"{relay_name(relay)}: {taken.reply}")
        served = [address for address in work.open if address not in taken.refused]
        work.open = [address for address in work.open if address in taken.refused]
        if served and work.open:  # at once: the next relay may take its time, and a crash must send no second copy
            await self._outbox.note_served(work.id, served, self._clock())
        work.refusals = dict(taken.refused)

    async def _settle(self, item: OutboxItem, work: _Item) -> bool:
        """Write down what became of the item; true when somebody got it now or before."""
        someone_has_it = len(work.open) < len(work.to)
        detail = one_line("; ".join((*work.notes, *refusal_notes(work.refusals))), DETAIL_LIMIT)
        if someone_has_it and (not work.open or not self._worth_another_try(item, work)):
            if work.open:
                self._count("recipient-refused", len(work.open))
                log.warning(
                    "mail for incident %d: %d recipient(s) refused: %s", item.notice.incident, len(work.open), detail
                )
            await self._outbox.mark_sent(item.id, self._clock(), detail)
            self._count("sent")
        elif someone_has_it or work.temporary:
            await self._retry(item, detail)
            return False
        else:
            log.warning("mail for incident %d given up: %s", item.notice.incident, detail)
            await self._outbox.mark_failed(item.id, self._clock(), detail)
            self._count("failed")
        return someone_has_it

    def _worth_another_try(self, item: OutboxItem, work: _Item) -> bool:
        """Whether recipients that are still open may be served later: refused with 4xx, and not for too long."""
        young = (self._clock() - item.created_at).total_seconds() < PARTLY_REFUSED_FOR_S
        return young and (work.temporary or any(code < 500 for code, _ in work.refusals.values()))

    async def _retry(self, item: OutboxItem, detail: str) -> None:
        pause = timedelta(seconds=retry_pause_s(item.attempts))
        await self._outbox.mark_retry(item.id, self._clock() + pause, detail)
        self._count("retry")

    def _count(self, outcome: str, by: int = 1) -> None:
        key = (self.channel, outcome)
        self._board.alerts[key] = self._board.alerts.get(key, 0) + by

    async def _letter(self, item: OutboxItem) -> Letter:
        message = write_message(item, self._plan, self._site, self._clock(), self._board.chain_head)
        return Letter(message, self._plan.to)


# Writing a message.

_ANGLE_ID = re.compile(r"<[^<>\s@]+@[^<>\s@]+>")


def _message_id(text: str, sender: str) -> str:
    """Return an id fit for a header: as given when it is one, otherwise made from what was given, always the same."""
    domain = sender.rpartition("@")[2] or "localhost"
    flat = one_line(text)
    if _ANGLE_ID.fullmatch(flat):
        return flat
    if _ANGLE_ID.fullmatch(f"<{flat}>"):
        return f"<{flat}>"
    return f"<{re.sub(r'[^A-Za-z0-9._-]', '-', flat) or 'empty'}@{domain}>"


def _envelope_sender(plan: MailPlan) -> str:
    return parseaddr(plan.sender)[1] or plan.sender


def write_message(item: OutboxItem, plan: MailPlan, site: SitePlan, at: datetime, chain_head: str = "") -> bytes:
    """Write the whole message of an item: headers, a text part and an HTML part.

    The `email` package refuses line breaks in headers; texts are flattened before, so that no name or detail from
    the network can add a header or make a message impossible.
    """
    letter = compose(item.notice, site, plan.to, plan.page_url, at, chain_head)
    message, identity = headed(item.message_id, plan, site, letter.subject, at)
    sender = _envelope_sender(plan)
    thread = _message_id(item.thread_id, sender)
    if item.thread_id and thread != identity:
        message["In-Reply-To"] = thread
        threads = dict.fromkeys([thread, *(_message_id(r.thread_id, sender) for r in item.notice.retracted)])
        message["References"] = " ".join(threads)  # a correction stands in every thread that it corrects
    message["X-Thongsuot-Incident"] = str(item.notice.incident)
    message["X-Thongsuot-Event"] = item.notice.kind.value
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return finished(message, identity)


def headed(name: str, plan: MailPlan, site: SitePlan, subject: str, at: datetime) -> tuple[EmailMessage, str]:
    """Begin a message with the headers that every one has; return it and its Message-ID, made from its name."""
    sender_name, sender = parseaddr(plan.sender)
    message = EmailMessage(policy=MAIL_POLICY)
    message["From"] = Address(one_line(sender_name or site.name, 120), addr_spec=sender)
    message["To"] = tuple(Address(addr_spec=one_line(to)) for to in plan.to)
    message["Subject"] = subject
    message["Date"] = format_datetime(at.astimezone(site.timezone))
    identity = _message_id(name, sender)
    message["Message-ID"] = identity
    message["Auto-Submitted"] = "auto-generated"
    return message, identity


def finished(message: EmailMessage, identity: str) -> bytes:
    """Return the bytes of a message with several parts."""
    # Made from the id, not drawn: the same item is the same message at every try.
    message.set_boundary(f"=_{hashlib.sha256(identity.encode()).hexdigest()[:32]}")
    return message.as_bytes()


def make_test_item(plan: MailPlan, site: SitePlan, at: datetime) -> OutboxItem:
    """Return a test message as an item of the outbox, with an id of its own."""
    domain = _envelope_sender(plan).rpartition("@")[2] or "localhost"
    identity = f"<test-{uuid.uuid4().hex}@{domain}>"
    notice = Notice(
        site=site.id,
        site_name=site.name,
        incident=0,
        kind=EventKind.TEST,
        service="",
        service_name="",
        service_kind=ServiceKind.SERVICE,
        state=State.UP,
        since=at,
        at=at,
    )
    return OutboxItem(0, CHANNEL, identity, identity, notice, 0, at)


def outcome_line(outcome: RelayOutcome, site: SitePlan, at: datetime) -> str:
    """Return one line for the terminal about a relay's test."""
    mark = "OK  " if outcome.ok else "FAIL"
    return f"{mark} {outcome.relay}  {local_time(at, site.timezone)}  {outcome.duration_s:.2f} s  {outcome.detail}"


async def send_test(plan: MailPlan, site: SitePlan, at: datetime) -> Sequence[RelayOutcome]:
    """Send a test message through every relay on its own, at the same time; return what each said.

    Each gets a Message-ID of its own, so that a mailbox that drops second copies shows them all.
    """
    messages = [write_message(make_test_item(plan, site, at), plan, site, at) for _ in plan.relays]
    async with asyncio.TaskGroup() as group:
        pairs = zip(plan.relays, messages, strict=True)
        tasks = [group.create_task(_test_relay(relay, plan, message)) for relay, message in pairs]
    return [task.result() for task in tasks]


async def _test_relay(relay: Relay, plan: MailPlan, message: bytes) -> RelayOutcome:
    began = time.perf_counter()
    try:
        taken = await hand_over(relay, Envelope(_envelope_sender(plan), plan.to, message))
    except DeliveryError as exc:
        return RelayOutcome(relay_name(relay), False, str(exc), time.perf_counter() - began)
    detail = "; ".join((taken.reply, *refusal_notes(taken.refused)))
    return RelayOutcome(relay_name(relay), not taken.refused, one_line(detail), time.perf_counter() - began)
