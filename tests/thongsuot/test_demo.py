"""The demo: its configuration, its day, its port; the daemon on it is driven for a short while at the end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from config import loader
from config.plan import Plan
from probes.base import Tools, measure
from thongsuot import demo
from thongsuot.demo import Day, choose_listen, play, render, script
from thongsuot.province import Province, open_province

NOW = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)  # already the 23rd in Việt Nam


@pytest.fixture
async def province(tmp_path: Path) -> AsyncIterator[Province]:
    opened = await open_province(tmp_path)
    yield opened
    await opened.close()


async def load(province: Province, folder: Path, *, icmp: bool, now: datetime = NOW) -> Plan:
    def write_and_load() -> Plan:
        file = folder / "demo.yaml"
        file.write_text(render(province, folder, "127.0.0.1:8480", icmp=icmp, now=now), "utf-8")
        return loader.load(file)

    return await asyncio.to_thread(write_and_load)


@pytest.mark.parametrize("icmp", [True, False])
async def test_the_configuration_loads_and_has_enough_to_watch(province: Province, tmp_path: Path, icmp: bool) -> None:
    plan = await load(province, tmp_path, icmp=icmp)

    kinds = {target.probe.kind for target in plan.targets()}
    assert len(plan.services) >= 8
    assert sum(len(service.targets) for service in plan.services) >= 20
    assert len(plan.references) == 3
    assert [t.check for t in plan.references if t.near] == ["gateway"]
    assert ("icmp" in kinds) == icmp
    assert kinds >= {"tcp", "tls", "dns", "http", "smtp", "imap", "pop3"}
    assert all(2.0 <= target.every_s <= 5.0 for target in plan.targets())
    assert plan.state_dir == tmp_path
    assert list(plan.warnings) == []


async def test_alerts_go_through_the_monitored_server_first_and_the_duty_mailbox_second(
    province: Province, tmp_path: Path
) -> None:
    plan = await load(province, tmp_path, icmp=False)

    assert plan.mail is not None
    assert [relay.port for relay in plan.mail.relays] == [province.ports["smtp"], province.ports["duty_smtp"]]
    assert plan.mail.page_url == "http://127.0.0.1:8480/"


@pytest.mark.parametrize(
    ("now", "event"),
    [
        (NOW, "tet-2027"),
        (datetime(2027, 2, 10, tzinfo=UTC), "tet-2027"),
        (datetime(2027, 3, 1, tzinfo=UTC), "tet-2028"),
    ],
)
async def test_the_events_are_the_next_tet_and_today(
    province: Province, tmp_path: Path, now: datetime, event: str
) -> None:
    plan = await load(province, tmp_path, icmp=False, now=now)

    tet, today = plan.events
    assert tet.id == event
    assert [peak.id for peak in tet.peaks] == ["giao-thua"]
    assert today.window.start <= now < today.window.end


@pytest.mark.parametrize("icmp", [True, False])
async def test_every_check_of_the_demo_is_good_while_the_province_is_well(
    province: Province, tmp_path: Path, icmp: bool
) -> None:
    if icmp and demo.icmp_hindrance() is not None:
        icmp = False  # an unprivileged machine runs the demo without echoes, and this test the same way
    plan = await load(province, tmp_path, icmp=icmp)
    tools = Tools()
    targets = plan.targets()
    readings = await asyncio.gather(
        *(measure(t.probe, t.settings, timeout_s=5.0, path=t.path, tools=tools) for t in targets)
    )
    tools.close()

    bad = {t.id: (r.fault, r.detail) for t, r in zip(targets, readings, strict=True) if r.fault is not None}
    assert bad == {}


async def test_the_day_breaks_mail_and_portal_in_turn_and_mends_them(province: Province) -> None:
    seen: list[tuple[bool, bool]] = []
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        seen.append((province.mail.running, province.portal_site.trouble is not None))

    await play(script(province, Day().faster(3000)), say)

    assert seen == [(False, False), (True, False), (True, True), (True, False), (True, False)]
    assert all(re.match(r"\d\d:\d\d:\d\d  \S", line) for line in said)


def test_the_default_port_or_the_next_free_one_is_chosen_and_said() -> None:
    said: list[str] = []
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8480))
            taken.listen()
        except OSError:
            pass  # another program has it, which serves the test as well
        chosen = choose_listen(None, said.append)

    assert chosen.startswith("127.0.0.1:84")
    assert chosen != "127.0.0.1:8480"
    assert "8480" in said[0]


def test_a_port_that_was_asked_for_is_not_replaced_by_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        asked = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(OSError, match="in use"):
            choose_listen(asked, pytest.fail)
    assert choose_listen(asked, pytest.fail) == asked


async def test_a_listen_address_that_cannot_be_had_is_wrong_use() -> None:
    said: list[str] = []

    assert await demo.run_demo("127.0.0.1:http", say=said.append) == 2
    assert "127.0.0.1:http" in said[0]


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


class Running:
    """A demo under way, and what it has said."""

    def __init__(self, state_dir: Path | None, *, day: Day | None = None, stop: asyncio.Event | None = None) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.task = asyncio.create_task(
            demo.run_demo("127.0.0.1:0", state_dir, day=day, say=self.said.put_nowait, stop=stop)
        )

    async def says(self, part: str) -> str:
        """Return the next message with `part` in it; a demo that ends before ends the test."""
        while True:
            heard = asyncio.ensure_future(self.said.get())
            await asyncio.wait((heard, self.task), timeout=10, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                heard.cancel()
                pytest.fail(f"never said {part!r}: {self.task}")
            if part in heard.result():
                return heard.result()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_demo_shows_its_pages_and_ends_well_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    running = Running(tmp_path)
    introduction = await running.says("Trang theo dõi")
    page, metrics, mailbox = re.findall(r"http://\S+", introduction)[:3]
    async with aiohttp.ClientSession() as session:
        statuses = [(await session.get(url)).status for url in (page, metrics, mailbox)]
    os.kill(os.getpid(), number)

    assert await running.task == 0
    assert statuses == [200, 200, 200]
    program = re.findall(r"(\S+) report \S+/demo.yaml --event chay-thu", introduction)[0]
    assert await asyncio.to_thread(os.access, program, os.X_OK)
    assert "journal.db" in await asyncio.to_thread(names_in, tmp_path)
    assert running.said.get_nowait() == "Đã kết thúc."


async def test_a_temporary_state_directory_is_removed_at_the_end() -> None:
    stop = asyncio.Event()
    running = Running(None, stop=stop)
    folder = Path(re.findall(r"(/\S+)/demo\.yaml", await running.says("Cấu hình"))[0])
    there = await asyncio.to_thread(names_in, folder)
    stop.set()

    assert await running.task == 0
    assert {"ca.pem", "demo.yaml", "journal.db", "mail-password"} <= there
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(names_in, folder)


async def test_a_day_that_cannot_go_on_ends_the_demo_with_its_error(tmp_path: Path) -> None:
    """Another program takes the mail server's port; the scripted restart then fails, and says so."""
    running = Running(tmp_path, day=Day().faster(200))
    await running.says("Máy chủ thư vừa ngừng")
    text = await asyncio.to_thread((tmp_path / "demo.yaml").read_text)
    port = int(re.findall(r"host: 127\.10\.0\.25, port: (\d+), starttls", text)[0])
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.10.0.25", port))
        thief.listen()

        with pytest.raises(OSError, match="in use"):
            await running.task
