"""The hard promise: however the daemon ends, nothing recorded is lost or doubled, and nobody is left untold."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from monitor.groups import is_group
from monitor.journal import from_ms
from probes.base import utc_now
from tests.servers import LOOPBACK
from tests.system.daemon import PROGRAM
from tests.system.hammered import Hammered, Outage, Rows, Servers, read_rows
from tests.system.servers import child_process, free_port, wait_until

SEED = 20270206
KILLS = 50
SERVICES = 25
BREAKING = 6  # services that go down and come back during the kills


@dataclass
class Script:
    """Takes services down and up: the next step of each only after the one before is in the journal."""

    servers: Servers
    chance: random.Random
    outages: dict[str, list[Outage]] = field(default_factory=dict)
    patience: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.outages = {name: [] for name in list(self.servers.ports)[:BREAKING]}

    def is_down(self, name: str) -> bool:
        return bool(self.outages[name]) and self.outages[name][-1].ended is None

    def act(self, rows: Rows, *, last: bool = False) -> None:
        """Make a step with each service whose last one has been noticed. `last` only brings services back."""
        for name, outages in self.outages.items():
            incident = rows.last_of(name)
            open_now = incident is not None and incident["ended_ms"] is None
            if self.is_down(name) != open_now or self._waits(name):
                continue
            if open_now:
                outages[-1].ended = utc_now()
                self.servers.up(name)
            elif not last:
                self.servers.down(name)
                outages.append(Outage(name, utc_now()))

    def _waits(self, name: str) -> bool:
        if self.patience[name] > 0:
            self.patience[name] -= 1
            return True
        self.patience[name] = self.chance.randrange(3)
        return False


@dataclass
class Deaths:
    """When the daemon died, and how many results were recorded by then."""

    moments: list[datetime] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def off_s(self, rows: Rows) -> float:
        """Seconds from each death to the begin of the run after it."""
        starts = [from_ms(r["started_ms"]) for r in rows.runs]
        total = 0.0
        for death, following in zip(self.moments, [*self.moments[1:], utc_now()], strict=True):
            start = next((s for s in starts if death < s < following), following)
            total += (start - death).total_seconds()
        return total


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SERVICES) as running:
        yield running


def check_survival(before: Rows, after: Rows) -> None:
    """What was committed is still there, once."""
    assert after.integrity == "ok"
    assert before.results <= after.results
    open_subjects = after.open_subjects()
    assert len(open_subjects) == len(set(open_subjects))
    kept = {i["id"]: i for i in after.incidents}
    for incident in before.incidents:
        assert kept[incident["id"]]["began_ms"] == incident["began_ms"]
    assert {m["message_id"] for m in before.outbox} <= {m["message_id"] for m in after.outbox}


def kill_again_and_again(daemon: Hammered, script: Script, chance: random.Random) -> Deaths:
    """Kill the daemon at random moments: while it starts, while it works, while it writes."""
    deaths, before = Deaths(), Rows()
    for number in range(KILLS):
        if number:
            daemon.patient = chance.random() < 0.8
            daemon.start()
        if daemon.patient:
            check_survival(before, read_rows(daemon.state_dir, integrity=True))
            wait(chance.uniform(0.2, 1.3))
        else:
            wait(chance.uniform(0.05, 0.7))
        before = read_rows(daemon.state_dir)
        daemon.kill()
        deaths.moments.append(utc_now())
        deaths.counts.append(len(before.results))
        script.act(before)
    return deaths


def wait(seconds: float) -> None:
    """Let the daemon work for a while."""
    end = utc_now() + timedelta(seconds=seconds)
    wait_until(lambda: utc_now() >= end, within_s=seconds + 5, every_s=0.005)


def settle(daemon: Hammered, script: Script) -> Rows:
    """Bring everything back and wait until it is told."""

    def all_is_told() -> Rows | None:
        rows = read_rows(daemon.state_dir)
        script.act(rows, last=True)
        over = not rows.open_subjects() and not any(map(script.is_down, script.outages))
        return rows if over and all(m["sent_ms"] is not None for m in rows.outbox) else None

    return wait_until(all_is_told, within_s=40, every_s=0.2, why=f"not all is over or told\n{daemon.logs()}") or Rows()


def check_incidents(script: Script, rows: Rows) -> None:
    """One incident for each real outage, dated within it; those of one cause hang on an incident of their group."""
    outages = [o for some in script.outages.values() for o in some]
    assert len(outages) >= BREAKING * 2
    of_services = [i for i in rows.incidents if not is_group(i["subject"])]
    assert Counter(i["subject"] for i in of_services) == Counter(o.service for o in outages)
    for name, mine in script.outages.items():
        found = [i for i in rows.incidents if i["subject"] == name]
        for outage, incident in zip(mine, found, strict=True):
            assert outage.ended is not None
            assert outage.began <= from_ms(incident["began_ms"] + 1)
            assert from_ms(incident["began_ms"]) < outage.ended <= from_ms(incident["ended_ms"] + 1)


def check_mails(servers: Servers, rows: Rows) -> None:
    """Each incident was told and so was its end, by itself or with its group; every copy under the same Message-ID."""
    mine: dict[tuple[int, str], set[str]] = {}
    for mail in rows.outbox:
        mine.setdefault((mail["incident"], mail["kind"]), set()).add(mail["message_id"])
    assert sum(map(len, mine.values())) == len(rows.outbox), "no word is owed twice"
    assert {key: set(ids) for key, ids in servers.relay.ids.items()} == mine
    assert all(len(ids) == 1 for (_, kind), ids in mine.items() if kind in ("opened", "recovered"))
    names = dict.fromkeys(i["subject"] for i in rows.incidents if not is_group(i["subject"]))
    for root in {i["parent"] or i["id"] for i in rows.incidents}:
        # A group of which each member was told before it was seen to be one has no begin of its own.
        family = {i["id"]: i["subject"] for i in rows.incidents if root in (i["id"], i["parent"])}
        assert any((who, kind) in mine for who in family for kind in ("opened", "spread")), family
        assert any((who, "recovered") in mine for who in family), family
        letters = [m["notice"] for m in rows.outbox if m["incident"] in family]
        untold = [s for s in family.values() if s in names and not any(f"Dịch vụ {s}" in x for x in letters)]
        assert not untold, (family, letters)


def check_figures(daemon: Hammered, deaths: Deaths, rows: Rows) -> None:
    """Each second is in one state, and those without a daemon are in none that it could have seen."""
    begin, end = from_ms(rows.runs[0]["started_ms"]), from_ms(rows.runs[-1]["alive_ms"])
    figures = daemon.figures(begin.isoformat(), end.isoformat())
    period, off = (end - begin).total_seconds(), deaths.off_s(rows)
    assert off > 0.2 * KILLS
    lines = [line for s in figures["services"] for line in (s, *s["checks"])]
    assert len(lines) == SERVICES * 5
    for line in lines:
        seconds = line["seconds"]
        assert sum(seconds.values()) == pytest.approx(period, abs=0.05)
        assert seconds["unknown"] >= off - 0.05, line["id"]
        assert seconds["up"] > 0
    down = {s["id"] for s in figures["services"] if s["seconds"]["down"] > 0}
    assert down == {f"s{n}" for n in range(BREAKING)}


@pytest.mark.timeout(200)
def test_fifty_kills_under_load_lose_nothing_double_nothing_and_leave_nobody_untold(servers: Servers) -> None:
    chance = random.Random(SEED)
    script = Script(servers, random.Random(SEED + 1))
    with Hammered(servers.config()) as daemon:
        deaths = kill_again_and_again(daemon, script, chance)
        daemon.patient = True
        daemon.start()
        rows = settle(daemon, script)
        daemon.stop()
        rows = read_rows(daemon.state_dir, integrity=True)

        assert rows.integrity == "ok"
        assert rows.runs[-1]["stopped_ms"] is not None
        assert [r["stopped_ms"] for r in rows.runs[:-1]] == [None] * (len(rows.runs) - 1)
        assert deaths.counts == sorted(deaths.counts)
        assert len(rows.results) > KILLS * SERVICES
        check_incidents(script, rows)
        check_mails(servers, rows)
        check_figures(daemon, deaths, rows)


@pytest.mark.timeout(60)
def test_a_mail_that_was_taken_but_not_yet_marked_comes_twice_under_one_name() -> None:
    with Servers(1) as servers, Hammered(servers.config()) as daemon:
        daemon.wait_for("s0", "up", within_s=10)
        servers.relay.before_answer = lambda: os.kill(daemon.pid, signal.SIGKILL)
        servers.down("s0")
        wait_until(lambda: servers.relay.ids, within_s=10)
        wait_until(lambda: psutil.Process(daemon.pid).status() == psutil.STATUS_ZOMBIE, within_s=5)
        daemon.kill()
        owed = read_rows(daemon.state_dir).outbox
        daemon.start()
        wait_until(lambda: read_rows(daemon.state_dir).outbox[0]["sent_ms"], within_s=10)
        incidents = read_rows(daemon.state_dir).incidents

    assert [m["sent_ms"] for m in owed] == [None]
    assert len(incidents) == 1
    assert dict(servers.relay.ids) == {(1, "opened"): Counter({owed[0]["message_id"]: 2})}


# An orderly end.


@contextlib.contextmanager
def manager(folder: Path) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "notify"))
        sock.settimeout(15)
        yield sock


def hear(sock: socket.socket, word: str) -> list[str]:
    """Return what is said until `word` is."""
    said = [sock.recv(4096).decode()]
    while not said[-1].startswith(word):
        said.append(sock.recv(4096).decode())
    return said


@pytest.mark.timeout(60)
def test_a_stop_is_in_order_with_code_0_and_the_service_manager_is_told_of_each_step(tmp_path: Path) -> None:
    with Servers(2) as servers, manager(tmp_path) as sock:
        config = tmp_path / "province.yaml"
        config.write_text(servers.config(), encoding="utf-8")
        listen = f"{LOOPBACK}:{free_port()}"
        argv = [*PROGRAM, "run", str(config), "--state-dir", str(tmp_path / "state"), "--listen", listen]
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        with child_process(argv, log=tmp_path / "log", env=env) as process:
            started = hear(sock, "READY=1")
            alive = [*hear(sock, "WATCHDOG=1"), *hear(sock, "WATCHDOG=1")]
            wait_until(lambda: len(read_rows(tmp_path / "state").results) >= 8, within_s=10)
            config.write_text(servers.config().replace("probe:", "prob:", 1), encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            refused = [*hear(sock, "RELOADING=1"), *hear(sock, "READY=1")]
            process.send_signal(signal.SIGTERM)
            stopping = hear(sock, "STOPPING=1")
            code = process.wait(10)
        rows = read_rows(tmp_path / "state", integrity=True)

    assert started == ["READY=1\nSTATUS=watching 8 checks"]
    assert alive == ["WATCHDOG=1", "WATCHDOG=1"]
    assert "refused" in refused[-1]
    assert stopping[-1] == "STOPPING=1"
    assert code == 0
    assert rows.integrity == "ok"
    assert [r["stopped_ms"] is not None for r in rows.runs] == [True]
    assert rows.runs[0]["stopped_ms"] == rows.runs[0]["alive_ms"]


@pytest.mark.timeout(60)
def test_a_part_that_dies_ends_the_process_with_70_so_that_it_is_started_again(tmp_path: Path) -> None:
    with Servers(1) as servers:
        config = tmp_path / "province.yaml"
        config.write_text(servers.config(), encoding="utf-8")
        state, listen = tmp_path / "state", f"{LOOPBACK}:{free_port()}"
        argv = [*PROGRAM, "run", str(config), "--state-dir", str(state), "--listen", listen]
        with child_process(argv, log=tmp_path / "log") as process:
            wait_until(lambda: read_rows(state).results, within_s=10)
            with contextlib.closing(sqlite3.connect(state / "journal.db", timeout=10)) as db:
                # The journal begins to refuse what is right: nothing that trying again could mend.
                db.execute("CREATE TRIGGER t BEFORE INSERT ON results BEGIN SELECT RAISE(ABORT, 'damaged'); END")
                db.commit()
            code = process.wait(15)
        log = (tmp_path / "log").read_text("utf-8")

    assert code == 70
    assert "IntegrityError: damaged" in log
    assert "ended by a fault of its own" in log
