"""Our own trouble calls nothing down: a daemon stood still, out of descriptors, or without a resolver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest

from probes.base import utc_now
from tests.servers import LOOPBACK, Certificates
from tests.system.daemon import Daemon
from tests.system.servers import wait_until
from tests.system.servers_mail import Postfix

DUTY = "truc@tinh.example.vn"
EVERY_S = 2
STOOD_STILL_S = 15.0


class Greeter:
    """A server that greets after a pause, on a loop and a thread of its own; no limit of the daemon's touches it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.port = 0
        self.pause_s = 0.0
        self.greeted = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="greeter")

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._greet, self.host, 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._stop.wait()

    async def _greet(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await asyncio.sleep(self.pause_s)
            writer.write(b"220 mail.tinh.example.vn\r\n")
            await writer.drain()
            self.greeted += 1
        writer.close()

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._ready.wait(5)

    def end(self) -> None:
        """Stop listening and forget who is still waiting."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()


@contextlib.contextmanager
def greeter(host: str = LOOPBACK) -> Iterator[Greeter]:
    """Run a server that greets every caller, after `pause_s`."""
    server = Greeter(host)
    server.start()
    try:
        yield server
    finally:
        server.end()


def province(checks: Mapping[str, str], relay: Postfix, *, defaults: str) -> str:
    """Write a configuration in which every check is a service of its own."""
    services = "\n".join(f"  {name}: {{kind: service, checks: {{x: {{{check}}}}}}}" for name, check in checks.items())
    return f"""
site: {{id: tinh, name: Tỉnh Mẫu}}
defaults: {{{defaults}}}
services:
{services}
alerts:
  mail: {{from: giam-sat@tinh.example.vn, to: [{DUTY}], relays: [{{host: 127.0.0.1, port: {relay.port}}}]}}
"""


def every_state(daemon: Daemon, state: str) -> bool:
    """Whether all services have a state."""
    return set(daemon.states().values()) == {state}


@pytest.fixture
def relay(certificates: Certificates) -> Iterator[Postfix]:
    """Where the duty officer's mail arrives."""
    with Postfix(certificates.good, users=[DUTY]) as server:
        yield server


@pytest.mark.timeout(90)
def test_a_daemon_that_stood_still_calls_nothing_down_and_reports_the_time_as_unknown(relay: Postfix) -> None:
    with greeter() as server:
        server.pause_s = 0.5
        # One bad result is enough: what was under way when the daemon stopped must not be held against anyone.
        check = f'probe: tcp, host: {LOOPBACK}, port: {server.port}, dialogue: [{{expect: "^220"}}], bad_rounds: 1'
        checks = {f"s{n}": check for n in range(20)}
        config = province(checks, relay, defaults=f"every: {EVERY_S}s, timeout: 1500ms, recheck_after: 1s")
        with Daemon(config) as daemon:
            wait_until(lambda: every_state(daemon, "up"), within_s=15, every_s=0.2, why="not all are up")
            began = utc_now() - timedelta(seconds=1)
            os.kill(daemon.pid, signal.SIGSTOP)
            stopped_at = utc_now()
            time.sleep(STOOD_STILL_S)
            os.kill(daemon.pid, signal.SIGCONT)
            resumed_at = utc_now()
            seen = set()
            deadline = time.monotonic() + 3 * EVERY_S
            while time.monotonic() < deadline:
                seen |= set(daemon.states().values())
                time.sleep(0.05)
            incidents = json.loads(daemon.get("/api/v1/incidents")[1])
            after = daemon.states()
            daemon.stop()
            figures = daemon.figures(began.isoformat(), utc_now().isoformat())
            log = daemon.logs(1000)

    assert "down" not in seen
    assert set(after.values()) == {"up"}
    assert incidents["open"] == incidents["recent"] == []
    assert relay.mails() == []
    assert "our own process stood still for 1" in log
    assert sum(c["results"]["not_measured"] for s in figures["services"] for c in s["checks"]) >= 1
    stood_still_s = (resumed_at - stopped_at).total_seconds()
    for service in figures["services"]:
        assert service["seconds"]["down"] == 0
        assert service["outages"] == []
        assert abs(service["seconds"]["unknown"] - stood_still_s) <= EVERY_S
