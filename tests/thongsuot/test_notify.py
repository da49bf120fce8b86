"""What the service manager hears, on a socket of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from thongsuot.notify import keep_alive, notify, watchdog_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket) -> list[str]:
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode())
    return messages


def test_a_state_arrives_as_it_was_said(manager: socket.socket) -> None:
    notify("READY=1\nSTATUS=đang theo dõi")

    assert heard(manager) == ["READY=1\nSTATUS=đang theo dõi"]


def test_a_socket_without_a_file_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"thongsuot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("STOPPING=1")

        assert heard(sock) == ["STOPPING=1"]


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")

    assert not (tmp_path / "gone").exists()


def test_a_manager_that_does_not_read_never_makes_us_wait(manager: socket.socket) -> None:
    for _ in range(2000):
        notify("WATCHDOG=1")

    assert 0 < len(heard(manager)) < 2000


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("30000000", "", 30.0),
        ("500000", "own", 0.5),
        ("500000", "1", None),
        ("", "", None),
        ("soon", "", None),
        ("-5", "", None),
    ],
)
def test_the_watchdogs_time_is_read_if_it_is_meant_for_us(
    usec: str, pid: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)

    assert watchdog_s() == expected


async def ping_count(manager: socket.socket, seconds: float) -> int:
    heard(manager)
    await asyncio.sleep(seconds)
    return heard(manager).count("WATCHDOG=1")


async def test_signs_of_life_stop_when_the_work_stops_and_go_on_with_it(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "15000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    silence = 0.0
    task = asyncio.create_task(keep_alive(lambda: silence, limit_s=5.0))
    assert await ping_count(manager, 0.05) >= 3
    silence = 4.9
    assert await ping_count(manager, 0.05) >= 3
    silence = 5.1
    assert await ping_count(manager, 0.05) == 0
    silence = 0.1
    assert await ping_count(manager, 0.05) >= 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nobody_is_told_when_nobody_watches(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    task = asyncio.create_task(keep_alive(lambda: 0.0, limit_s=5.0))

    assert await ping_count(manager, 0.02) == 0
    assert not task.done()
    task.cancel()
