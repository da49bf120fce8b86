"""It was us, found after the fact: what was told is corrected once, in its thread, and counts for no one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from probes.base import utc_now
from tests.servers import LOOPBACK, Certificates
from tests.system.daemon import Daemon
from tests.system.servers import free_port, wait_until
from tests.system.servers_mail import Postfix

DUTY = "truc@tinh.example.vn"
REFERENCES = ("vnix", "quad", "root")


class Listener:
    """A port that takes connections, until it is closed."""

    def __init__(self) -> None:
        self.port = free_port()
        self._socket = socket.create_server((LOOPBACK, self.port), backlog=128)
        self._thread = threading.Thread(target=self._take, name="listener")
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                self._socket.accept()[0].close()

    def close(self) -> None:
        """Refuse from now on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which close() alone does not
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listeners() -> Iterator[dict[str, Listener]]:
    """The references, and the services `mail` and `portal`."""
    found = {name: Listener() for name in (*REFERENCES, "mail", "portal")}
    yield found
    for listener in found.values():
        listener.close()


@pytest.fixture
def relay(certificates: Certificates) -> Iterator[Postfix]:
    """Where the duty officer's mail arrives."""
    with Postfix(certificates.good, users=[DUTY]) as server:
        yield server


def province(listeners: dict[str, Listener], relay: Postfix) -> str:
    """Write a configuration; two of three references have to fail before it is believed to be us."""
    checks = {n: f"probe: tcp, host: {LOOPBACK}, port: {at.port}" for n, at in listeners.items()}
    references = "\n".join(f"  {n}: {{{checks[n]}, role: far, every: 2s}}" for n in REFERENCES)
    return f"""
site: {{id: tinh, name: Tỉnh Mẫu}}
defaults: {{every: 1s, timeout: 500ms, recheck_after: 300ms, bad_rounds: 3}}
references:
{references}
services:
  mail: {{name: Thư điện tử, kind: mail, checks: {{smtp: {{{checks["mail"]}}}}}}}
  portal: {{name: Cổng thông tin, kind: portal, checks: {{web: {{{checks["portal"]}}}}}}}
alerts:
  mail: {{from: giam-sat@tinh.example.vn, to: [{DUTY}], relays: [{{host: 127.0.0.1, port: {relay.port}}}]}}
"""


@pytest.mark.timeout(90)
def test_an_outage_that_was_told_and_then_found_to_be_ours_is_corrected_in_its_thread(
    listeners: dict[str, Listener], relay: Postfix
) -> None:
    with Daemon(province(listeners, relay)) as daemon:
        daemon.wait_ready()
        began = utc_now()
        time.sleep(1)
        listeners["vnix"].close()  # the first sign: one of three convicts nobody
        time.sleep(2.5)
        listeners["mail"].close()
        daemon.wait_for("mail", "down", within_s=10)
        (opened,) = relay.wait_for_mails(1, within_s=15)
        listeners["quad"].close()
        listeners["root"].close()
        wait_until(lambda: daemon.status()["own_fault"], within_s=15, every_s=0.2, why="no own fault is named")
        daemon.wait_for("mail", "unknown", within_s=5)
        corrections = wait_until(
            lambda: [m for m in relay.mails() if m["X-Thongsuot-Event"] == "corrected"],
            within_s=15,
            every_s=0.3,
            why="nothing was corrected",
        )
        states = {name: state for name, state in daemon.states().items() if "." not in name}
        incidents = json.loads(daemon.get("/api/v1/incidents")[1])
        time.sleep(2)
        mails = relay.mails()
        daemon.stop()
        figures = daemon.figures(began.isoformat(), (utc_now() + timedelta(seconds=1)).isoformat())

    assert opened["X-Thongsuot-Event"] == "opened"
    assert "Thư điện tử" in str(opened["Subject"])
    (correction,) = corrections
    assert correction["In-Reply-To"] == opened["Message-ID"]
    assert "ĐÍNH CHÍNH" in str(correction["Subject"])
    told = [(m["X-Thongsuot-Event"], m["X-Thongsuot-Incident"]) for m in mails]
    assert sum(event == "corrected" for event, _ in told) == 1
    assert [event for event, number in told if number == opened["X-Thongsuot-Incident"]] == ["opened"]
    assert states == {"mail": "unknown", "portal": "up"}
    assert [i["subject"] for i in incidents["open"]] == ["own-fault"]
    (mail,) = (s for s in figures["services"] if s["id"] == "mail")
    assert mail["outages"] == []
    assert mail["seconds"]["down"] == 0
    assert mail["seconds"]["unknown"] > 3
    assert mail["seconds"]["up"] > 1
