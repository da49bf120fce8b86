"""Real mail relays in the test's own loop, well- and ill-behaved, and an outbox that lives in memory."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as policy
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from monitor.model import OutboxItem


class Received(NamedTuple):
    """One message a relay accepted."""

    sender: str
    to: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        parsed = message_from_bytes(self.raw, policy=policy)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class Behaviour:
    """What a relay answers, and what it got."""

    mail: str = "250 OK"
    rcpt: dict[str, str] = field(default_factory=dict)  # answer by recipient, otherwise 250
    data: str = "250 2.0.0 Ok: queued as TEST1"
    hang: bool = False  # never answers after DATA
    users: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    logins: list[tuple[str, bool]] = field(default_factory=list)  # user, whether under TLS
    connections: int = 0
    encrypted: list[bool] = field(default_factory=list)  # of each accepted message

    async def handle_MAIL(  # noqa: N802  named by aiosmtpd
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.mail

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = self.rcpt.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.hang:
            await asyncio.Event().wait()
        if self.data.startswith("250"):
            self.received.append(Received(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content))
            self.encrypted.append(session.ssl is not None)
        return self.data

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        user = data.login.decode()
        self.logins.append((user, session.ssl is not None))
        good = self.users.get(user) == data.password.decode()
        return AuthResult(success=good, handled=good)  # an unhandled refusal is answered with 535


@contextlib.asynccontextmanager
async def relay_server(
    behaviour: Behaviour, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Run a relay on a free port of 127.0.0.1; yields the port."""
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def connection() -> SMTP:
        behaviour.connections += 1
        extra: dict[str, Any] = {"authenticator": behaviour.log_in} if behaviour.users else {}
        session = SMTP(
            behaviour,
            hostname="relay.example.vn",
            ident="test relay",
            loop=loop,
            tls_context=starttls,
            auth_require_tls=False,
            **extra,
        )
        sessions.append(session)
        return session

    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for session in sessions:
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0)


class MemoryOutbox:
    """An outbox that keeps its state where the test can see it."""

    def __init__(self, *items: OutboxItem) -> None:
        self.due: dict[int, tuple[datetime, OutboxItem]] = {i.id: (i.created_at, i) for i in items}
        self.sent: dict[int, str] = {}
        self.something_sent = asyncio.Event()
        self.failed: dict[int, str] = {}
        self.withdrawn: set[int] = set()
        self.retries: list[tuple[int, datetime, str]] = []

    async def claim(self, channel: str, now: datetime, limit: int) -> Sequence[OutboxItem]:
        ready = [item for when, item in self.due.values() if when <= now and item.channel == channel]
        return ready[:limit]

    async def take_up(self, item_id: int) -> bool:
        return item_id in self.due and item_id not in self.withdrawn

    async def note_served(self, item_id: int, recipients: Sequence[str], at: datetime) -> None:
        when, item = self.due[item_id]
        self.due[item_id] = (when, replace(item, served=item.served | set(recipients)))

    async def mark_sent(self, item_id: int, at: datetime, detail: str) -> None:
        del self.due[item_id]
        self.sent[item_id] = detail
        self.something_sent.set()

    async def mark_retry(self, item_id: int, next_try: datetime, detail: str) -> None:
        _, item = self.due[item_id]
        self.due[item_id] = (next_try, replace(item, attempts=item.attempts + 1))
        self.retries.append((item_id, next_try, detail))

    async def mark_failed(self, item_id: int, at: datetime, detail: str) -> None:
        del self.due[item_id]
        self.failed[item_id] = detail

    async def waiting(self, channel: str) -> int:
        return len(self.due)
