"""A province that goes down and comes back by a script, a relay that keeps what it is given, and the journal's rows.

Everything runs in a thread of the test's own, so that the daemon is the only process that can be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP

from tests.servers import LOOPBACK
from tests.system.daemon import Daemon
from tests.system.servers import free_port

T = TypeVar("T")


class Hammered(Daemon):
    """A daemon whose start need not be waited for."""

    patient = True

    def answers(self) -> bool:
        return not self.patient or super().answers()


class _Relay:
    """Accepts every message and remembers what it was about."""

    def __init__(self) -> None:
        self.ids: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)  # incident, event -> Message-IDs
        self.before_answer: Callable[[], None] | None = None  # called when a message has come, and only once

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802  named by aiosmtpd
        message = message_from_bytes(envelope.content)
        key = (int(message["X-Thongsuot-Incident"]), str(message["X-Thongsuot-Event"]))
        self.ids[key][str(message["Message-ID"]).strip()] += 1
        act, self.before_answer = self.before_answer, None
        if act is not None:
            act()
        return "250 OK"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak just enough HTTP; a client that only connects is as welcome."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell")
        await writer.drain()
    writer.close()


class Servers:
    """One server a service, and the relay, on a loop in a thread; use as a context manager."""

    def __init__(self, services: int) -> None:
        self.ports = {f"s{n}": free_port() for n in range(services)}
        self.relay_port = free_port()
        self.relay = _Relay()
        self._listening: dict[str, asyncio.Server] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def __enter__(self) -> Servers:
        self._thread.start()
        for name in self.ports:
            self.up(name)
        self._do(self._listen_for_mail())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen_for_mail(self) -> None:
        self._listening["relay"] = await self._loop.create_server(
            lambda: SMTP(self.relay, loop=self._loop, hostname="relay.example.vn"), LOOPBACK, self.relay_port
        )

    async def _end(self) -> None:
        for server in self._listening.values():
            server.close()
        tasks = [t for t in asyncio.all_tasks(self._loop) if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def up(self, name: str) -> None:
        """Let a service answer."""

        async def work() -> None:
            self._listening[name] = await asyncio.start_server(_answer, LOOPBACK, self.ports[name])

        self._do(work())

    def down(self, name: str) -> None:
        """Let a service refuse."""

        async def work() -> None:
            self._listening.pop(name).close()

        self._do(work())

    def config(self) -> str:
        """The configuration: four checks a service, every second or two."""
        lines = []
        for name, port in self.ports.items():
            where = f"host: {LOOPBACK}, port: {port}"
            url = f"http://{LOOPBACK}:{port}/"
            lines.append(
                f"  {name}: {{name: Dịch vụ {name}, kind: service, checks: {{"
                f"tcp: {{probe: tcp, {where}}}, mo: {{probe: tcp, {where}, every: 2s}}, "
                f"web: {{probe: http, url: '{url}'}}, trang: {{probe: http, url: '{url}trang', every: 2s}}}}}}"
            )
        relay = f"{{host: {LOOPBACK}, port: {self.relay_port}, starttls: never}}"
        return (
            "site: {id: tinh, name: Tỉnh Mẫu}\n"
            "defaults: {every: 1s, timeout: 900ms, recheck_after: 200ms, objective: 50}\n"
            "services:\n" + "\n".join(lines) + "\n"
            f"alerts: {{mail: {{from: giam-sat@tinh.example.vn, to: [truc@tinh.example.vn], relays: [{relay}]}}}}\n"
        )


@dataclass
class Outage:
    """One time that the test took a service down."""

    service: str
    began: datetime
    ended: datetime | None = None


@dataclass
class Rows:
    """The journal's rows at one moment."""

    results: set[tuple[Any, ...]] = field(default_factory=set)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    outbox: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    integrity: str = "ok"

    def open_subjects(self) -> list[str]:
        return [i["subject"] for i in self.incidents if i["ended_ms"] is None]

    def last_of(self, service: str) -> dict[str, Any] | None:
        return next((i for i in reversed(self.incidents) if i["subject"] == service), None)


@contextlib.contextmanager
def _reading(state_dir: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"{(state_dir / 'journal.db').as_uri()}?mode=ro", uri=True, timeout=10)
    db.row_factory = sqlite3.Row
    try:
        yield db
    finally:
        db.close()


def read_rows(state_dir: Path, *, integrity: bool = False) -> Rows:
    """Read the journal beside the daemon, in one view; empty while there is none."""
    if not (state_dir / "journal.db").exists():
        return Rows()
    with _reading(state_dir) as db:
        db.execute("BEGIN")
        tables = {r[0] for r in db.execute("SELECT name FROM sqlite_schema")}
        if "outbox" not in tables:
            return Rows()
        return Rows(
            results={tuple(r) for r in db.execute("SELECT rowid, * FROM results")},
            incidents=[dict(r) for r in db.execute("SELECT * FROM incidents ORDER BY id")],
            outbox=[dict(r) for r in db.execute("SELECT * FROM outbox ORDER BY id")],
            runs=[dict(r) for r in db.execute("SELECT * FROM runs ORDER BY id")],
            integrity=db.execute("PRAGMA integrity_check").fetchone()[0] if integrity else "ok",
        )
