"""The daemon as a whole, in the test's own loop: how it starts, goes on with another configuration, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from config.plan import MailPlan, OutagePolicy, Plan, Relay
from monitor.board import Board
from monitor.history import History, open_history
from monitor.model import State
from probes.base import Fault, Measurement, ProbeError, utc_now
from tests.exporters.relays import Behaviour, relay_server
from tests.monitor import builders
from tests.monitor.builders import SITE, HostSettings, check, service, span
from tests.servers import LOOPBACK
from thongsuot import daemon
from thongsuot.daemon import DaemonInfo, StartError

T = TypeVar("T")
EVERY_S = 0.05
MS = timedelta(milliseconds=1)  # the journal's grain


@dataclass
class Target:
    """What the plan's only check asks."""

    well: bool = True
    runs: int = 0
    ended: list[str] = field(default_factory=list)

    async def run(self, _: object, __: Measurement) -> None:
        self.runs += 1
        await asyncio.sleep(0)
        if not self.well:
            raise ProbeError(Fault.REFUSED, "nothing listens there")


def one_check(target: Target, state_dir: Path, *, mail: MailPlan | None = None, name: str = "mail.smtp") -> Plan:
    policy = OutagePolicy(recheck_s=0.02)
    probe = check(name, every_s=EVERY_S, timeout_s=EVERY_S, policy=policy, run=target.run)
    return builders.plan(service(name.partition(".")[0], probe), mail=mail, state_dir=state_dir)


@dataclass
class Life:
    """A running daemon and the handles to it."""

    task: asyncio.Task[None]
    stop: asyncio.Event
    reload: asyncio.Event
    infos: list[DaemonInfo]
    plans: list[Plan | None]  # what the next reloads give

    @property
    def board(self) -> Board:
        return self.infos[-1].board

    async def until(self, what: Callable[[], object], within_s: float = 5.0) -> None:
        """Wait until something is so, or the daemon has ended."""
        async with asyncio.timeout(within_s):
            while not what() and not self.task.done():  # noqa: ASYNC110  the board has no event
                await asyncio.sleep(0.005)

    async def load_again(self, plan: Plan | None) -> None:
        self.plans.append(plan)
        self.reload.set()
        await self.until(lambda: not self.plans)

    async def end(self) -> None:
        self.stop.set()
        await self.task


@contextlib.asynccontextmanager
async def living(plan: Plan) -> AsyncIterator[Life]:
    """Run a daemon; it is stopped in order when the block ends."""
    stop, reload = asyncio.Event(), asyncio.Event()
    infos: list[DaemonInfo] = []
    plans: list[Plan | None] = []

    async def load() -> Plan | None:
        return plans.pop(0)

    task = asyncio.create_task(daemon.run(plan, ready=infos.append, stop=stop, reload=reload, load=load))
    life = Life(task, stop, reload, infos, plans)
    try:
        await life.until(lambda: infos)
        yield life
    finally:
        if not task.done():
            await life.end()


async def ask(state_dir: Path, question: Callable[[History], T]) -> T:
    def work() -> T:
        with open_history(state_dir, SITE) as history:
            return question(history)

    return await asyncio.to_thread(work)


async def sql(state_dir: Path, text: str) -> None:
    def work() -> None:
        with contextlib.closing(sqlite3.connect(state_dir / "journal.db", timeout=10)) as db:
            db.execute(text)
            db.commit()

    await asyncio.to_thread(work)


async def fetch(url: str, path: str) -> str:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


EVER = span(-1e9, 1e9)


async def test_it_watches_from_the_first_second_and_says_so_on_its_page(tmp_path: Path) -> None:
    async with living(one_check(Target(), tmp_path)) as life:
        await life.until(lambda: life.board.services["mail"].state is State.UP)

        assert "200 OK" in await fetch(life.infos[0].url, "/healthz")
        assert 'thongsuot_up{site="lang-son"' in await fetch(life.infos[0].url, "/metrics")


async def test_a_stop_writes_what_is_known_and_closes_the_run(tmp_path: Path) -> None:
    target = Target()
    async with living(one_check(target, tmp_path)) as life:
        await life.until(lambda: target.runs >= 5)
        await life.end()

    run = (await ask(tmp_path, lambda h: h.runs()))[0]
    slots = (await ask(tmp_path, lambda h: h.slots(EVER)))["mail.smtp"]
    results = (await ask(tmp_path, lambda h: h.responses(EVER)))["mail.smtp"]
    assert run.stopped == run.alive
    assert results.good >= 5
    assert slots.done + slots.late >= 5
    assert target.runs - 1 <= results.good <= target.runs


async def test_a_stop_that_comes_before_the_start_starts_nothing(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    await daemon.run(one_check(Target(), tmp_path / "state"), stop=stop)

    assert not (tmp_path / "state").exists()


async def test_the_last_pass_of_mail_delivers_what_a_hanging_relay_held_up(tmp_path: Path) -> None:
    behaviour, target = Behaviour(hang=True), Target(well=False)
    async with relay_server(behaviour) as port:
        mail = MailPlan("giam-sat@example.vn", ("truc@example.vn",), (Relay(LOOPBACK, port, starttls="never"),))
        async with living(one_check(target, tmp_path, mail=mail)) as life:
            await life.until(lambda: behaviour.connections)
            assert behaviour.received == []
            behaviour.hang = False
            await life.end()

    assert len(behaviour.received) == 1
    assert behaviour.received[0].message["X-Thongsuot-Event"] == "opened"


async def test_the_next_start_goes_on_with_the_incident_and_a_gap_between(tmp_path: Path) -> None:
    target = Target(well=False)
    async with living(one_check(target, tmp_path)) as life:
        await life.until(lambda: life.board.open_incidents)
        first = dict(life.board.open_incidents)
    async with living(one_check(target, tmp_path)) as life:
        again = life.board.open_incidents
        assert {n: i.subject for n, i in again.items()} == {n: i.subject for n, i in first.items()}
        assert abs(again[1].began_at - first[1].began_at) < MS
        target.well = True
        await life.until(lambda: life.board.services["mail"].state is State.UP)

    incidents = await ask(tmp_path, lambda h: h.incidents(EVER))
    gaps = (await ask(tmp_path, lambda h: h.gaps(EVER)))["mail.smtp"]
    assert [i.ended_at is not None for i in incidents] == [True]
    assert [g.cause for g in gaps] == ["off"]


async def test_a_second_daemon_with_the_same_state_directory_is_refused(tmp_path: Path) -> None:
    async with living(one_check(Target(), tmp_path)):
        with pytest.raises(StartError, match="another daemon runs with the state directory"):
            await daemon.run(one_check(Target(), tmp_path), stop=asyncio.Event())
    async with living(one_check(Target(), tmp_path)) as life:
        assert life.infos  # free again after the first one's end


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        plan = replace(one_check(Target(), tmp_path), listen_port=port)
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: "):
            await daemon.run(plan, stop=asyncio.Event())


async def test_the_way_to_what_gives_no_answer_is_traced_by_the_daemon_itself(tmp_path: Path) -> None:
    async def silent(_: object, __: Measurement) -> None:
        raise ProbeError(Fault.TIMEOUT, "no answer")

    probe = check("carrier.ping", every_s=EVERY_S, timeout_s=EVERY_S, policy=OutagePolicy(recheck_s=0.02), run=silent)
    asked = replace(probe, settings=HostSettings(host=LOOPBACK))
    async with living(builders.plan(service("carrier", asked), state_dir=tmp_path)) as life:
        await life.until(lambda: life.board.traces.get(1))
        (shown,) = life.board.traces[1]
        body = json.loads((await fetch(life.infos[0].url, "/api/v1/incidents")).partition("\r\n\r\n")[2])

    (kept,) = await ask(tmp_path, lambda h: h.traces(EVER))
    assert kept == shown
    assert (kept.incident, kept.check, kept.reached, kept.route) == (1, "carrier.ping", True, (LOOPBACK,))
    assert [t["host"] for t in body["open"][0]["traces"]] == [LOOPBACK]


# Another configuration in the same process.


async def test_a_reload_goes_on_without_a_gap(tmp_path: Path) -> None:
    target = Target()
    async with living(one_check(target, tmp_path)) as life:
        await life.until(lambda: life.board.services["mail"].state is State.UP)
        before = life.board.services["mail"].since
        await life.load_again(one_check(target, tmp_path))
        await life.until(lambda: len(life.infos) == 2)
        since = life.board.services["mail"].since
        assert life.board.services["mail"].state is State.UP
        assert before is not None
        assert since is not None
        assert abs(since - before) < MS
        runs = target.runs
        await life.until(lambda: target.runs > runs + 2)

    causes = {g.cause for g in (await ask(tmp_path, lambda h: h.gaps(EVER))).get("mail.smtp", [])}
    assert "off" not in causes
    assert len(await ask(tmp_path, lambda h: h.runs())) == 2


async def test_no_request_is_refused_over_reloads_and_the_page_keeps_its_port(tmp_path: Path) -> None:
    target = Target()
    async with living(one_check(target, tmp_path)) as life:
        url, statuses, done = life.infos[0].url, [], asyncio.Event()

        async def keep_asking() -> None:
            while not done.is_set():
                statuses.append((await fetch(url, "/healthz")).split()[1])

        async with asyncio.TaskGroup() as group:
            askers = [group.create_task(keep_asking()) for _ in range(3)]
            for count in (2, 3, 4):
                await life.load_again(one_check(target, tmp_path))
                await life.until(lambda count=count: len(life.infos) == count)  # type: ignore[misc]
            done.set()
        assert all(a.exception() is None for a in askers)

    assert {info.url for info in life.infos} == {url}
    assert len(statuses) > 10
    assert set(statuses) == {"200"}


async def test_a_reload_to_another_port_answers_there_alone(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as found:
        port = found.getsockname()[1]
    async with living(one_check(Target(), tmp_path)) as life:
        await life.load_again(replace(one_check(Target(), tmp_path), listen_port=port))
        await life.until(lambda: len(life.infos) == 2)
        old, new = (info.url for info in life.infos)

        assert new == f"http://{LOOPBACK}:{port}/"
        assert "200 OK" in await fetch(new, "/healthz")
        with pytest.raises(ConnectionRefusedError):
            await fetch(old, "/healthz")


async def test_a_reload_that_is_refused_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    async with living(one_check(Target(), tmp_path)) as life:
        await life.load_again(None)
        await life.until(lambda: life.board.config_reloads_refused)

        assert len(life.infos) == 1
        assert life.board.config_reloads_refused == 1
        assert not life.task.done()


@pytest.mark.parametrize("what", ["port", "state"])
async def test_a_reload_that_cannot_start_leaves_the_old_configuration_running(what: str, tmp_path: Path) -> None:
    target = Target()
    plan = one_check(target, tmp_path / "state")
    (tmp_path / "file").touch()
    with socket.create_server((LOOPBACK, 0)) as taken:
        if what == "port":
            new = replace(one_check(target, tmp_path / "state", name="portal.web"), listen_port=taken.getsockname()[1])
        else:
            new = one_check(target, tmp_path / "file" / "state", name="portal.web")
        async with living(plan) as life:
            await life.until(lambda: life.board.services["mail"].state is State.UP)
            await life.load_again(new)
            await life.until(lambda: len(life.infos) == 2)
            await life.until(lambda: life.board.services["mail"].state is State.UP)

            assert life.board.config_reloads_refused == 1
            assert set(life.board.services) == {"mail"}
            await life.load_again(one_check(target, tmp_path / "state", name="office.web"))
            await life.until(lambda: len(life.infos) == 3)
            assert set(life.board.services) == {"office"}
            assert life.board.config_reloads_refused == 1

    assert "off" not in {g.cause for g in (await ask(tmp_path / "state", lambda h: h.gaps(EVER)))["mail.smtp"]}


async def test_a_reload_into_another_journal_claims_nothing_of_the_time_before(tmp_path: Path) -> None:
    target = Target()
    async with living(one_check(target, tmp_path / "old")) as life:
        await life.until(lambda: life.board.services["mail"].state is State.UP)
    left_at = utc_now()
    async with living(one_check(target, tmp_path / "new")) as life:
        await life.load_again(one_check(target, tmp_path / "old"))
        await life.until(lambda: len(life.infos) == 2)
        await life.until(lambda: life.board.services["mail"].state is State.UP)

    gaps = (await ask(tmp_path / "old", lambda h: h.gaps(EVER)))["mail.smtp"]
    assert gaps[0].cause == "off"
    assert gaps[0].start <= left_at + MS


# Parts that die.


async def test_a_part_that_dies_takes_the_process_with_it_and_lets_go_of_everything(tmp_path: Path) -> None:
    target = Target()
    async with living(one_check(target, tmp_path)) as life:
        await life.until(lambda: life.board.services["mail"].state is State.UP)
        await sql(tmp_path, "CREATE TRIGGER t BEFORE INSERT ON results BEGIN SELECT RAISE(ABORT, 'damaged'); END")
        with pytest.raises(sqlite3.IntegrityError, match="damaged"):
            await life.task
    await sql(tmp_path, "DROP TRIGGER t")

    async with living(one_check(target, tmp_path)) as life:
        await life.until(lambda: life.board.services["mail"].state is State.UP)
    runs = await ask(tmp_path, lambda h: h.runs())
    assert [r.stopped is not None for r in runs] == [False, True]


async def until_ended(work: Awaitable[None]) -> None:
    async with asyncio.timeout(5):
        await work


async def test_a_mail_server_that_hangs_does_not_hold_up_a_stop_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "LAST_MAIL_S", 0.1)
    behaviour, target = Behaviour(hang=True), Target(well=False)
    async with relay_server(behaviour) as port:
        mail = MailPlan("giam-sat@example.vn", ("truc@example.vn",), (Relay(LOOPBACK, port, starttls="never"),))
        async with living(one_check(target, tmp_path, mail=mail)) as life:
            await life.until(lambda: behaviour.connections)
            await until_ended(life.end())
    behaviour.hang = False
    async with relay_server(behaviour) as port:
        mail = MailPlan("giam-sat@example.vn", ("truc@example.vn",), (Relay(LOOPBACK, port, starttls="never"),))
        async with living(one_check(target, tmp_path, mail=mail)) as life:
            await life.until(lambda: behaviour.received)

    assert [r.message["X-Thongsuot-Event"] for r in behaviour.received] == ["opened"]
