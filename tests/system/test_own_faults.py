"""Our own trouble calls nothing down: stood still, out of descriptors, without a resolver, or with its clock set."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from probes.base import utc_now
from tests.servers import LOOPBACK, Certificates, byte_server
from tests.system.daemon import PROGRAM, Daemon
from tests.system.namespaces import Network
from tests.system.servers import wait_until
from tests.system.servers_dns import Unbound
from tests.system.servers_mail import Postfix
from tests.system.servers_web import Nginx

DUTY = "truc@tinh.example.vn"
EVERY_S = 2
STOOD_STILL_S = 9.0
BLOCKED_S = 5.0
HOUR = timedelta(hours=1)
BEHIND = timedelta(hours=2)
SPARE_DESCRIPTORS = 8  # far fewer than the checks need at once
SLOW_CHECKS = 60
BY_NAME = ("mail", "portal", "office", "meeting")


class Greeter:
    """A server that greets after a pause, on a loop and a thread of its own; no limit of the daemon's touches it."""

    def __init__(self) -> None:
        self.port = 0
        self.pause_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="greeter")

    def __enter__(self) -> Greeter:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        async with byte_server(self._greet) as (_, self.port):
            self._ready.set()
            await self._stop.wait()

    async def _greet(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pause_s)
        writer.write(b"220 mail.tinh.example.vn\r\n")
        await writer.drain()


class BlockableDaemon(Daemon):
    """The daemon on a loop that is blocked for `BLOCKED_S` by SIGUSR1, as by a call that never should have waited."""

    def command(self) -> Sequence[str]:
        program = f"""
import asyncio, runpy, signal, time
class Runner(asyncio.Runner):
    def __enter__(self):
        super().__enter__()
        self.get_loop().add_signal_handler(signal.SIGUSR1, time.sleep, {BLOCKED_S})
        return self
asyncio.Runner = Runner
runpy.run_module("thongsuot", run_name="__main__", alter_sys=True)
"""
        python, *_ = PROGRAM
        return [python, "-c", program, *super().command()[len(PROGRAM) :]]


class SetClockDaemon(Daemon):
    """The daemon with a wall clock of its own, which libfaketime moves; the machine's is never touched."""

    def command(self) -> Sequence[str]:
        self.set_clock(timedelta())
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        faked = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": self._offset,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,  # the clocks that cannot be set stay as they are
            "FAKETIME_NO_CACHE": 1,
        }
        return ["env", *(f"{name}={value}" for name, value in faked.items()), *super().command()]

    @property
    def _offset(self) -> Path:
        return self.folder / "offset"

    def set_clock(self, offset: timedelta) -> None:
        """Set its wall clock so far off one that is two hours slow, at once: a report asks for no time to come."""
        part = self.folder / "offset.part"
        part.write_text(f"{(offset - BEHIND).total_seconds():+.0f}\n")
        part.replace(self._offset)


def stop_and_continue(daemon: Daemon) -> None:
    """Stop the whole process for a while, as a machine does that is suspended or moved."""
    os.kill(daemon.pid, signal.SIGSTOP)
    time.sleep(STOOD_STILL_S)
    os.kill(daemon.pid, signal.SIGCONT)


def block_the_loop(daemon: Daemon) -> None:
    """Block the event loop alone; the other threads go on."""
    os.kill(daemon.pid, signal.SIGUSR1)
    time.sleep(BLOCKED_S)


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


def greeted_by(server: Greeter, relay: Postfix) -> str:
    """Write a configuration of twenty services that wait for a greeting."""
    # One bad result is enough: what was under way when the daemon stopped must not be held against anyone.
    check = f'probe: tcp, host: {LOOPBACK}, port: {server.port}, dialogue: [{{expect: "^220"}}], bad_rounds: 1'
    checks = {f"s{n}": check for n in range(20)}
    return province(checks, relay, defaults=f"every: {EVERY_S}s, timeout: 1500ms, recheck_after: 1s")


def states_for(daemon: Daemon, seconds: float) -> set[str]:
    """Watch for a while; return every state that was shown."""
    seen: set[str] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen |= set(daemon.states().values())
        time.sleep(0.05)
    return seen


def clock_steps(daemon: Daemon, count: int) -> list[dict[str, Any]]:
    """Return the steps of the clock that are told of as incidents, newest first, once there are so many."""
    recent = json.loads(daemon.get("/api/v1/incidents")[1])["recent"]
    steps = [i for i in recent if i["subject"] == "own-fault" and i["detail"].startswith("clock-step ")]
    return steps if len(steps) >= count else []


def every_state(daemon: Daemon, state: str) -> bool:
    """Whether all services have a state."""
    return set(daemon.states().values()) == {state}


def lowest_free(pid: int) -> int:
    """Return the number that the next descriptor of a process gets: a limit counts numbers, not open files."""
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return next(n for n in range(len(taken) + 1) if n not in taken)


def fault_status(daemon: Daemon) -> dict[str, Any]:
    """Return the status while it names a fault of our own; nothing as well while the page cannot answer."""
    with contextlib.suppress(json.JSONDecodeError):
        status = daemon.status()
        return status if status["own_fault"] else {}
    return {}


def states_of(status: Mapping[str, Any]) -> Counter[str]:
    """Count the services' states."""
    return Counter(s["state"] for s in status["services"])


@pytest.fixture
def relay(certificates: Certificates) -> Iterator[Postfix]:
    """Where the duty officer's mail arrives."""
    with Postfix(certificates.good, users=[DUTY]) as server:
        yield server


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("kind", "stand_still"), [(Daemon, stop_and_continue), (BlockableDaemon, block_the_loop)])
def test_a_daemon_that_stood_still_calls_nothing_down_and_reports_the_time_as_unknown(
    relay: Postfix, kind: type[Daemon], stand_still: Callable[[Daemon], None]
) -> None:
    with Greeter() as server:
        server.pause_s = 0.5
        with kind(greeted_by(server, relay)) as daemon:
            wait_until(lambda: every_state(daemon, "up"), within_s=15, every_s=0.2, why="not all are up")
            began = utc_now() - timedelta(seconds=1)
            stopped_at = utc_now()
            stand_still(daemon)
            resumed_at = utc_now()
            seen = states_for(daemon, 3 * EVERY_S)
            incidents = json.loads(daemon.get("/api/v1/incidents")[1])
            after = daemon.states()
            daemon.stop()
            figures = daemon.figures(began.isoformat(), utc_now().isoformat())
            log = daemon.logs(1000)

    stood_still_s = (resumed_at - stopped_at).total_seconds()
    assert "down" not in seen
    assert set(after.values()) == {"up"}
    assert incidents["open"] == []
    (own,) = incidents["recent"]
    assert (own["subject"], own["detail"]) == ("own-fault", "stall")
    assert abs(own["duration_s"] - stood_still_s) <= 1
    assert relay.mails() == []  # recorded, and too short to wake anyone
    assert "our own process stood still for" in log
    assert sum(c["results"]["not_measured"] for s in figures["services"] for c in s["checks"]) >= 1
    for service in figures["services"]:
        assert service["seconds"]["down"] == 0
        assert service["outages"] == []
        assert abs(service["seconds"]["unknown"] - stood_still_s) <= EVERY_S


@pytest.mark.timeout(90)
def test_a_clock_set_on_and_back_by_an_hour_neither_makes_time_nor_counts_any_twice(relay: Postfix) -> None:
    with Greeter() as server, SetClockDaemon(greeted_by(server, relay)) as daemon:
        began = utc_now() - BEHIND
        wait_until(lambda: every_state(daemon, "up"), within_s=15, every_s=0.2, why="not all are up")
        daemon.set_clock(HOUR)
        set_on = utc_now() - BEHIND
        wait_until(lambda: clock_steps(daemon, 1), within_s=10, every_s=0.2, why="no step is named")
        seen = states_for(daemon, 2 * EVERY_S)
        until = utc_now() - BEHIND + HOUR
        jumped = daemon.figures(began.isoformat(), until.isoformat())
        daemon.set_clock(timedelta())
        set_back = utc_now() - BEHIND
        own = wait_until(lambda: clock_steps(daemon, 2), within_s=10, every_s=0.2, why="no step back is named")
        seen |= states_for(daemon, 2 * EVERY_S)
        metrics = daemon.get("/metrics")[1]
        mails = relay.wait_for_mails(2, within_s=20)
        daemon.stop()
        again = daemon.figures(began.isoformat(), until.isoformat())

    assert "down" not in seen
    assert [round(float(i["detail"].split()[1]) / 60) for i in own] == [-60, 60]  # newest first
    assert all("đồng hồ" in str(m["Subject"]) for m in mails), [str(m["Subject"]) for m in mails]
    assert 'thongsuot_own_lapses_total{site="tinh",kind="clock-step"} 2' in metrics
    assert 'thongsuot_clock_steps_total{site="tinh"} 2' in metrics
    before_s = (set_on - began).total_seconds()
    lived_s = (set_back - began).total_seconds()
    for service in jumped["services"]:
        assert service["outages"] == []
        # With the start, before the first result.
        assert abs(service["seconds"]["unknown"] - HOUR.total_seconds()) <= 3 * EVERY_S
        assert service["seconds"]["up"] <= lived_s
    for service in again["services"]:
        # What was lived twice is counted for nobody; what was jumped over stays so.
        assert service["outages"] == []
        assert service["seconds"]["down"] == 0
        assert service["seconds"]["up"] <= before_s + EVERY_S
        assert service["seconds"]["unknown"] >= HOUR.total_seconds()


@pytest.mark.timeout(90)
def test_a_full_table_of_descriptors_is_our_own_fault_and_ends_when_there_is_room(relay: Postfix) -> None:
    with Greeter() as server:
        check = f'probe: tcp, host: {LOOPBACK}, port: {server.port}, dialogue: [{{expect: "^220"}}], bad_rounds: 2'
        checks = {f"s{n}": check for n in range(SLOW_CHECKS)}
        config = province(checks, relay, defaults=f"every: {EVERY_S}s, timeout: 1900ms, recheck_after: 500ms")
        with Daemon(config) as daemon:
            wait_until(lambda: every_state(daemon, "up"), within_s=15, every_s=0.2, why="not all are up")
            usual = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            began = utc_now()
            resource.prlimit(
                daemon.pid, resource.RLIMIT_NOFILE, (lowest_free(daemon.pid) + SPARE_DESCRIPTORS, usual[1])
            )
            server.pause_s = 1.6
            during = wait_until(lambda: fault_status(daemon), within_s=20, every_s=0.3, why="no own fault is named")
            time.sleep(4 * EVERY_S)
            still = wait_until(lambda: fault_status(daemon), within_s=15, every_s=0.1, why="the page never answers")
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, usual)
            server.pause_s = 0.0
            wait_until(lambda: every_state(daemon, "up"), within_s=15, every_s=0.2, why="not all are up again")
            wait_until(lambda: not daemon.status()["own_fault"], within_s=10, every_s=0.2, why="the fault does not end")
            mails = relay.wait_for_mails(2, within_s=20)
            daemon.stop()
            figures = daemon.figures(began.isoformat(), utc_now().isoformat())
            log = daemon.logs(4000)

    for status in (during, still):
        assert status["own_fault"]["cause"] == "descriptors"
        assert states_of(status)["down"] == 0
        assert states_of(status)["unknown"] >= SLOW_CHECKS / 2
    assert all("trạm đo" in str(m["Subject"]).lower() for m in mails), [str(m["Subject"]) for m in mails]
    assert [s["id"] for s in figures["services"] if s["outages"] or s["seconds"]["down"]] == []
    assert "Traceback" not in log
    assert " ERROR " not in log


@contextlib.contextmanager
def resolver_of(namespace: str, address: str) -> Iterator[None]:
    """Let programs started in a namespace ask one resolver, by ip-netns(8)'s own folder for it."""
    folder = Path("/etc/netns", namespace)
    folder.mkdir(parents=True)
    try:
        # One question of a second: look-ups end before the checks' time-outs and beyond them are tried as well.
        (folder / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:1 attempts:2\n")
        yield
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(120)
def test_a_dead_resolver_leaves_what_is_checked_by_name_unknown_and_the_rest_up(certificates: Certificates) -> None:
    with (
        Network(places=("target", "resolver")) as network,
        resolver_of(network.monitor.name, network.places["resolver"].address4),
        Postfix(certificates.good, users=[DUTY], namespace=network.monitor.name) as relay,
        Nginx(certificates, host=network.target.address4, namespace=network.target.namespace.name) as nginx,
        Unbound(
            *(f"{name}.tinh.example.vn. 1 IN A {network.target.address4}" for name in BY_NAME if name != "mail"),
            f"khac.tinh.example.vn. 1 IN A {network.target.address4}",
            host=network.places["resolver"].address4,
            namespace=network.places["resolver"].namespace.name,
            port=53,
        ),
    ):
        resolver, port = network.places["resolver"].address4, nginx.port
        checks = {
            # Longer and shorter than the look-up takes to give up.
            "mail": f"probe: tcp, host: khac.tinh.example.vn, port: {port}, timeout: 5s, every: 5s",
            "portal": f'probe: http, url: "http://portal.tinh.example.vn:{port}/"',
            "office": f"probe: tcp, host: office.tinh.example.vn, port: {port}",
            "meeting": "probe: icmp, host: meeting.tinh.example.vn",
            "web": f'probe: http, url: "{nginx.url()}"',
            "line": f"probe: icmp, host: {network.target.address4}",
            "port": f"probe: tcp, host: {network.target.address4}, port: {port}",
        }
        config = province(checks, relay, defaults="every: 2s, timeout: 1500ms, recheck_after: 500ms, bad_rounds: 2")
        with Daemon(config, namespace=network.monitor.name) as daemon:
            wait_until(lambda: every_state(daemon, "up"), within_s=20, every_s=0.2, why="not all are up")
            died_at = utc_now()
            network.drop_host(resolver)
            during = wait_until(lambda: fault_status(daemon), within_s=25, every_s=0.2, why="no own fault is named")
            for name in BY_NAME:
                daemon.wait_for(name, "unknown", within_s=10)
            time.sleep(2 * EVERY_S)
            blind = daemon.status()
            network.allow_host(resolver)
            back_at = utc_now()
            wait_until(lambda: every_state(daemon, "up"), within_s=25, every_s=0.2, why="not all are up again")
            wait_until(lambda: not daemon.status()["own_fault"], within_s=10, every_s=0.2, why="the fault does not end")
            mails = relay.wait_for_mails(2, within_s=20)
            ended_at = utc_now()
            daemon.stop()
            figures = daemon.figures(died_at.isoformat(), ended_at.isoformat())

    assert during["own_fault"]["cause"] == "resolver"
    now = {s["id"]: s for s in blind["services"]}
    assert {name: s["state"] for name, s in now.items()} == {n: "unknown" if n in BY_NAME else "up" for n in checks}
    assert all("our resolver gave no answer" in now[name]["detail"] for name in BY_NAME), now
    assert all("trạm đo" in str(m["Subject"]).lower() for m in mails), [str(m["Subject"]) for m in mails]
    dead_s = (back_at - died_at).total_seconds()
    for service in figures["services"]:
        assert service["seconds"]["down"] == 0
        assert service["outages"] == []
        if service["id"] in BY_NAME:
            assert abs(service["seconds"]["unknown"] - dead_s) <= 5 + 5  # an interval and a time-out at the longest
        else:
            assert service["seconds"]["unknown"] == 0
