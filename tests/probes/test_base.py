from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
import ssl
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import (
    DETAIL_LIMIT,
    PHASES,
    Fault,
    Measurement,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Run,
    Tools,
    fault_of,
    measure,
    one_line,
    parse_duration,
    read_secret,
)

# What connect(2), send(2), recv(2), bind(2), socket(2), ip(7), tcp(7) and udp(7) document, and what Linux makes of
# ICMP errors (icmp_err_convert). What the network can cause as well is sorted by `probes.net.connect_error`.
EXPECTED = {
    "EPERM": Fault.LOCAL,
    "EACCES": Fault.LOCAL,
    "EADDRINUSE": Fault.LOCAL,
    "EADDRNOTAVAIL": Fault.LOCAL,
    "EAFNOSUPPORT": Fault.LOCAL,
    "EAGAIN": Fault.LOCAL,
    "EINVAL": Fault.LOCAL,
    "EMFILE": Fault.LOCAL,
    "EMSGSIZE": Fault.LOCAL,
    "ENETDOWN": Fault.LOCAL,
    "ENETUNREACH": Fault.LOCAL,
    "ENFILE": Fault.LOCAL,
    "ENOBUFS": Fault.LOCAL,
    "ENODEV": Fault.LOCAL,
    "ENOMEM": Fault.LOCAL,
    "ENXIO": Fault.LOCAL,
    "EPROTONOSUPPORT": Fault.LOCAL,
    "EHOSTDOWN": Fault.UNREACHABLE,
    "EHOSTUNREACH": Fault.UNREACHABLE,
    "ENONET": Fault.UNREACHABLE,
    "ENOPROTOOPT": Fault.UNREACHABLE,
    "ECONNABORTED": Fault.REFUSED,
    "ECONNREFUSED": Fault.REFUSED,
    "ECONNRESET": Fault.REFUSED,
    "ENETRESET": Fault.REFUSED,
    "ENOTCONN": Fault.REFUSED,
    "EPIPE": Fault.REFUSED,
    "ESHUTDOWN": Fault.REFUSED,
    "ETIMEDOUT": Fault.TIMEOUT,
    "EPROTO": Fault.PROTOCOL,
    "EOPNOTSUPP": Fault.PROTOCOL,
    "EALREADY": Fault.INTERNAL,
    "EBADF": Fault.INTERNAL,
    "EDESTADDRREQ": Fault.INTERNAL,
    "EFAULT": Fault.INTERNAL,
    "EISCONN": Fault.INTERNAL,
    "ENOTSOCK": Fault.INTERNAL,
    "EPROTOTYPE": Fault.INTERNAL,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_documented_error_has_its_fault(name: str) -> None:
    code = getattr(errno, name)
    assert fault_of(OSError(code, os.strerror(code))) is EXPECTED[name]


def test_no_error_of_the_system_is_without_a_fault() -> None:
    for code in errno.errorcode:
        assert isinstance(fault_of(OSError(code, os.strerror(code))), Fault)


@pytest.mark.parametrize(
    ("exc", "fault"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no name"), Fault.NAME),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), Fault.LOCAL),
        (socket.gaierror(socket.EAI_FAIL, "failed"), Fault.NAME),
        (ssl.SSLError(1, "handshake"), Fault.TLS),
        (ssl.SSLCertVerificationError(1, "expired"), Fault.TLS),
        (TimeoutError(), Fault.TIMEOUT),
        (ConnectionResetError(), Fault.REFUSED),
        (OSError("no number"), Fault.PROTOCOL),
    ],
)
def test_kinds_of_os_errors_are_told_apart(exc: OSError, fault: Fault) -> None:
    assert fault_of(exc) is fault


class Settings(ProbeSettings):
    pass


def kind(run: Run) -> ProbeType:
    return ProbeType(kind="test", summary="", settings=Settings, run=run)


async def outcome(run: Run, timeout_s: float = 1.0) -> tuple[Fault | None, str]:
    reading = await measure(kind(run), Settings(), timeout_s=timeout_s, tools=Tools())
    return reading.fault, reading.detail


async def test_a_good_run_keeps_what_was_measured() -> None:
    async def run(_: object, m: Measurement) -> None:
        with m.phase("connect"):
            await asyncio.sleep(0.01)
        m.values["a_s"] = 1.0
        m.values["nothing_s"] = math.nan
        m.fact("who", "me\nand\tyou")
        m.rtts_s.extend([0.1, None])

    reading = await measure(kind(run), Settings(), timeout_s=1, tools=Tools())
    assert (reading.fault, reading.detail) == (None, "")
    assert reading.values == {"a_s": 1.0}
    assert reading.facts == {"who": "me and you"}
    assert reading.rtts_s == (0.1, None)
    assert 0.009 < reading.phases["connect"] <= reading.duration_s


async def test_the_deadline_names_the_phase() -> None:
    async def run(_: object, m: Measurement) -> None:
        with m.phase("processing"):
            await asyncio.sleep(9)

    assert await outcome(run, 0.02) == (Fault.TIMEOUT, "no answer within 0.02 s in phase processing")


async def test_a_silent_resolver_is_our_own_fault() -> None:
    async def run(_: object, m: Measurement) -> None:
        with m.phase("resolve"):
            await asyncio.sleep(9)

    assert await outcome(run, 0.02) == (Fault.LOCAL, "our resolver gave no answer within 0.02 s")


async def test_a_swallowed_cancellation_is_still_a_timeout() -> None:
    async def run(_: object, m: Measurement) -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            return

    assert (await outcome(run, 0.02))[0] is Fault.TIMEOUT


async def test_the_kernels_own_timeout_is_not_the_deadline() -> None:
    async def run(_: object, m: Measurement) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    fault, detail = await outcome(run)
    assert fault is Fault.TIMEOUT
    assert "Connection timed out" in detail


async def test_a_verdict_of_the_probe_is_kept() -> None:
    async def run(_: object, m: Measurement) -> None:
        raise ProbeError(Fault.CONTENT, "status 503,\nexpected 200")

    assert await outcome(run) == (Fault.CONTENT, "status 503, expected 200")


async def test_a_bug_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run(_: object, m: Measurement) -> None:
        raise ZeroDivisionError("oh")

    assert await outcome(run) == (Fault.INTERNAL, "ZeroDivisionError: oh")
    assert "probe test failed inside" in caplog.text


async def test_cancelling_goes_through() -> None:
    async def run(_: object, m: Measurement) -> None:
        await asyncio.sleep(9)

    task = asyncio.create_task(outcome(run, 20))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_time_of_one_phase_adds_up() -> None:
    m = Measurement(timeout_s=1)
    for _ in range(2):
        with m.phase(PHASES[0]):
            pass
    assert set(m.phases) == {"resolve"}
    assert m.current == ""


@given(st.text())
def test_one_line_is_one_short_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= DETAIL_LIMIT
    assert line.isprintable()
    assert line == line.strip()


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("7d", 604800), ("0s", 0)]
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "5sec", "s", "1e3s", 5, 5.0, None, True])
def test_a_duration_without_its_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration with its unit"):
        parse_duration(text)


async def test_a_secret_is_the_first_line_of_its_file(tmp_path: FilePath) -> None:
    file = tmp_path / "secret"
    file.write_bytes("mật khẩu \r\nnote\n".encode())
    assert (await read_secret(file, None)).get_secret_value() == "mật khẩu "


async def test_a_secret_that_cannot_be_read_is_our_own_fault(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THONGSUOT_NO_SECRET", raising=False)
    for file, env in ((tmp_path / "none", None), (None, "THONGSUOT_NO_SECRET"), (None, None)):
        with pytest.raises(ProbeError) as caught:
            await read_secret(file, env)
        assert caught.value.fault is Fault.LOCAL


def test_tools_make_one_of_each_kind_and_close_it() -> None:
    class Tool:
        closed = False

        def close(self) -> None:
            self.closed = True

    tools = Tools()
    tool = tools.of(Tool)
    assert tools.of(Tool) is tool
    tools.close()
    assert tool.closed
    assert tools.of(Tool) is not tool
