"""The built-in demo: a small province on loopback, the daemon on it, and a day in which things break and recover.

No network is needed and none is used. Must not know how anything is measured or judged: it writes a configuration
as a user would and runs the daemon on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from config import loader
from config.plan import Plan
from config.settings import parse_listen
from probes import PROBES
from probes.base import utc_now
from thongsuot import daemon
from thongsuot import province as places
from thongsuot.province import Province, open_province
from thongsuot.province_mailbox import LOCAL_TIME
from thongsuot.province_web import Trouble

DEFAULT_PORT: Final = 8480
PORTS_TRIED: Final = 100
TRIAL_HOST: Final = "127.0.0.1"
WELL: Final = 0  # exit codes of the contract
WRONG_USE: Final = 2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Day:
    """When what happens, in seconds after the daemon is ready."""

    mail_stops_s: float = 40.0
    mail_starts_s: float = 85.0
    portal_fails_s: float = 115.0
    portal_recovers_s: float = 150.0

    def faster(self, times: float) -> Day:
        """Return the same day, that many times as fast."""
        return replace(self, **{name: getattr(self, name) / times for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens on the day."""

    after_s: float
    plan: str  # what will happen, for the list at the start
    told: str  # what has happened, for the moment itself
    act: Callable[[], Awaitable[None]]


def say_to_people(text: str) -> None:
    """Print a message for people: standard error, so that standard output stays for machines."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def script(province: Province, day: Day) -> tuple[Step, ...]:
    """Return what will happen on the day, in order."""

    async def portal_fails() -> None:
        province.portal_site.trouble = Trouble()

    async def portal_recovers() -> None:
        province.portal_site.trouble = None

    steps = (
        Step(
            day.mail_stops_s,
            "máy chủ thư ngừng (SMTP, IMAP, POP3); thư cảnh báo tới hộp thư trực qua máy chủ dự phòng",
            "Máy chủ thư vừa ngừng: SMTP, IMAP và POP3 từ chối kết nối.",
            province.mail.stop,
        ),
        Step(
            day.mail_starts_s,
            "máy chủ thư chạy lại; thư báo đã khắc phục",
            "Máy chủ thư vừa chạy lại.",
            province.mail.start,
        ),
        Step(
            day.portal_fails_s,
            "cổng thông tin điện tử quá tải: trả lời chậm, mã 503",
            "Cổng thông tin điện tử vừa quá tải: trả lời chậm, mã 503.",
            portal_fails,
        ),
        Step(
            day.portal_recovers_s,
            "cổng thông tin điện tử trở lại bình thường",
            "Cổng thông tin điện tử vừa trở lại bình thường.",
            portal_recovers,
        ),
    )
    return tuple(sorted(steps, key=lambda step: step.after_s))


async def play(steps: tuple[Step, ...], say: Say) -> None:
    """Let the steps happen at their times, counted from now, and announce each."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for step in steps:
        await asyncio.sleep(began + step.after_s - loop.time())
        await step.act()
        say(f"{_clock(utc_now())}  {step.told}")
    say(f"{_clock(utc_now())}  Kịch bản đã hết; tỉnh mẫu vẫn được theo dõi. Nhấn Ctrl-C để kết thúc.")


def render(province: Province, folder: Path, listen: str, *, icmp: bool, now: datetime) -> str:
    """Return the demo's configuration with this run's ports and paths in it.

    Args:
        province: where the servers are.
        folder: the state directory.
        listen: `HOST:PORT` of the live page.
        icmp: whether echoes may be sent; without them TCP connections take their place.
        now: decides which Tết is next, and the day of the trial event.
    """
    host, port = parse_listen(listen)
    # A wildcard address is no address to open in a browser.
    shown = TRIAL_HOST if host in ("0.0.0.0", "::") else host  # noqa: S104  compared, not bound
    today = now.astimezone(LOCAL_TIME).date()
    reach = {
        "gateway": ("Cổng ra của đơn vị", TRIAL_HOST, "gateway_tcp"),
        "centre_reach": ("Liên lạc tới trung tâm", places.CENTRE_HOST, "centre_storage"),
        **{f"{c}_reach": ("Liên lạc tới nhà mạng", host, f"{c}_tcp") for c, host in places.CARRIERS.items()},
    }
    values = {
        **{name: str(number) for name, number in province.ports.items()},
        **{name: _reach(*what, province=province, icmp=icmp) for name, what in reach.items()},
        **{f"{carrier}_host": host for carrier, host in places.CARRIERS.items()},
        "mail_host": places.MAIL_HOST,
        "portal_host": places.PORTAL_HOST,
        "services_host": places.SERVICES_HOST,
        "office_host": places.OFFICE_HOST,
        "name_host": places.NAME_HOST,
        "centre_host": places.CENTRE_HOST,
        "conference_host": places.CONFERENCE_HOST,
        "duty_host": places.DUTY_HOST,
        "resolver_host": places.RESOLVER_HOST,
        "exchange_host": places.EXCHANGE_HOST,
        "domain": places.DOMAIN,
        "mail_user": places.MAIL_USER,
        "ca_file": _quoted(province.authority.file),
        "password_file": _quoted(province.password_file),
        "state_dir": _quoted(folder),
        "listen": listen,
        "page_url": f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/",
        # Tết falls between 20 January and 21 February; from March on the next one is next year's.
        "tet_year": str(today.year + (today.month > 2)),
        "today": today.isoformat(),
        "tomorrow": (today + timedelta(days=1)).isoformat(),
    }
    return Template(files("thongsuot").joinpath("demo.yaml").read_text("utf-8")).substitute(values)


def _reach(name: str, host: str, port: str, *, province: Province, icmp: bool) -> str:
    if icmp:
        return f"{{probe: icmp, name: {name}, host: {host}, count: 3}}"
    return f"{{probe: tcp, name: {name}, host: {host}, port: {province.ports[port]}}}"


def _quoted(path: Path) -> str:
    """JSON strings are YAML strings, whatever characters a path has."""
    return json.dumps(str(path), ensure_ascii=False)


def _clock(moment: datetime) -> str:
    return moment.astimezone(LOCAL_TIME).strftime("%H:%M:%S")


def choose_listen(asked: str | None, say: Say) -> str:
    """Return where the live page shall listen: what was asked for, or the default port, or the next free one.

    Raises:
        ValueError: what was asked for is no `HOST:PORT`.
        OSError: what was asked for is taken or is no address of ours; or no port is free.
    """
    if asked is not None:
        host, port = parse_listen(asked)
        return f"{f'[{host}]' if ':' in host else host}:{_try_port(host, port)}"
    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
        with contextlib.suppress(OSError):
            _try_port(TRIAL_HOST, port)
            if port != DEFAULT_PORT:
                say(f"Cổng {DEFAULT_PORT} đang có chương trình khác dùng; lần chạy thử này dùng cổng {port}.")
            return f"{TRIAL_HOST}:{port}"
    raise OSError(f"các cổng từ {DEFAULT_PORT} đến {DEFAULT_PORT + PORTS_TRIED - 1} đều đang bị dùng")


def _try_port(host: str, port: int) -> int:
    """Bind and let go; return the port, chosen when 0 was asked for."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))
        trial.listen(1)  # two sockets may share an address as long as neither listens
        number: int = trial.getsockname()[1]
        return number


def icmp_hindrance() -> str | None:
    """Return what exactly hinders ICMP echoes on this machine; None when they are permitted."""
    self_test = PROBES["icmp"].self_test
    return self_test() if self_test is not None else None


@contextlib.asynccontextmanager
async def _state_folder(given: Path | None) -> AsyncIterator[Path]:
    if given is not None:
        await asyncio.to_thread(given.mkdir, parents=True, exist_ok=True)
        yield await asyncio.to_thread(given.resolve)
        return
    made = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="thongsuot-demo-"))
    try:
        yield made
    finally:
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)


@contextlib.contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    wanted = (signal.SIGINT, signal.SIGTERM)
    for number in wanted:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[Province]:
    province = await open_province(folder)
    try:
        yield province
    finally:
        await province.close()


def introduction(plan: Plan, province: Province, steps: tuple[Step, ...], file: Path, page: str, now: datetime) -> str:
    """Return what is said once everything runs: where to look, and what will happen when."""
    program = Path(sys.executable).with_name("thongsuot")  # `make run` puts nothing into the PATH
    hint = f"{shlex.quote(str(program))} report {shlex.quote(str(file))} --event chay-thu --out bao-cao"
    lines = [
        "",
        "Thông Suốt đang theo dõi tỉnh mẫu trên máy này; không cần mạng.",
        "",
        f"  Trang theo dõi   {page}",
        f"  Số đo            {page}metrics",
        f"  Hộp thư trực     {province.mailbox_url}",
        f"  Cấu hình         {file}",
        f"  Số liệu hôm nay  {hint}",
        "",
        f"  {len(plan.services)} dịch vụ, {sum(len(s.targets) for s in plan.services)} phép kiểm tra, "
        f"{len(plan.references)} điểm đối chiếu. Hôm nay sẽ có:",
        *(f"  {_clock(now + timedelta(seconds=s.after_s))}  {s.plan}" for s in steps),
        "",
        "  Nhấn Ctrl-C để kết thúc.",
        "",
    ]
    return "\n".join(lines)


async def run_demo(
    listen: str | None = None,
    state_dir: Path | None = None,
    *,
    day: Day | None = None,
    say: Say = say_to_people,
    stop: asyncio.Event | None = None,
) -> int:
    """Start the province and the daemon on it, let the day happen, and go on until stopped.

    Args:
        listen: `HOST:PORT` of the live page; without it the default port, or the next free one.
        state_dir: kept afterwards; without it a temporary directory, removed at the end.
        day: when what happens.
        say: prints one message for people.
        stop: ends the demo when set; SIGINT and SIGTERM set it too.

    Returns:
        The exit code: 0 after a clean end, 2 when the page cannot listen where it was asked to.

    Raises:
        OSError: a server of the province cannot start.
    """
    # aiosmtpd logs every session, and warns of its own deprecated attribute at every login.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    stop = stop or asyncio.Event()
    try:
        listen = choose_listen(listen, say)
    except (ValueError, OSError) as exc:
        say(f"Không mở được trang theo dõi tại {listen or 'cổng mặc định'}: {exc}")
        return WRONG_USE
    async with _state_folder(state_dir) as folder, _opened(folder) as province:
        file = folder / "demo.yaml"
        plan = await asyncio.to_thread(_configure, province, file, listen, say)
        with _stopped_by_signals(stop):
            await _watch(plan, province, file, day or Day(), say=say, stop=stop)
    say("Đã kết thúc.")
    return WELL


def _configure(province: Province, file: Path, listen: str, say: Say) -> Plan:
    """Write the configuration and read it back as any other; blocking, for a thread."""
    hindrance = icmp_hindrance()
    if hindrance is not None:
        say("Máy này chưa cho gửi gói ICMP (ping); các phép kiểm tra đó tạm thay bằng kết nối TCP. Cách bật:")
        group = os.getegid()
        fix = f"sudo sysctl -w net.ipv4.ping_group_range='{group} {group}'"
        say(f"  {fix if 'ping_group_range' in hindrance else hindrance}")
    file.write_text(render(province, file.parent, listen, icmp=hindrance is None, now=utc_now()), "utf-8")
    return loader.load(file)


async def _watch(plan: Plan, province: Province, file: Path, day: Day, *, say: Say, stop: asyncio.Event) -> None:
    steps = script(province, day)
    playing: list[asyncio.Task[None]] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            stop.set()  # a day that cannot go on ends the demo, and is raised below

    def ready(info: daemon.DaemonInfo) -> None:
        say(introduction(plan, province, steps, file, info.url, utc_now()))
        playing.append(asyncio.create_task(play(steps, say), name="day"))
        playing[0].add_done_callback(ended)

    try:
        await daemon.run(plan, ready=ready, stop=stop)
    finally:
        for task in playing:
            task.cancel()
        ends = await asyncio.gather(*playing, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
