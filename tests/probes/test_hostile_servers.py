"""Every probe against servers that mean harm: a named fault on time, bounded bytes, and never the loop for itself.

A probe that is missing in the tables fails; what has no server to fear says so in `NOT_ASKING`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from probes import PROBES
from probes.base import Fault, Reading
from probes.websocket_wire import accept_of
from tests.probes.hostile_servers import DRIP_S, Hostile, Script, flooding_datagrams, hostile_server
from tests.probes.probing import run_probe
from tests.servers import Address, Certificates

TIMEOUT_S: Final = 0.5
GRACE_S: Final = 0.3  # of a busy machine
TAKEN_MOST: Final = 24 << 20  # bytes that a server could get rid of, the kernel's own buffers of some MB included
KEPT_MOST: Final = 16 << 20  # bytes of objects at the worst moment of a run, the server's own included
BLOCKED_MOST_S: Final = 0.1  # processor time that a turn of the loop may take
WEB_PAGE: Final = "Đăng nhập"

# Probes that read nothing from a server for as long as it likes.
NOT_ASKING: Final = {
    "exec": "runs a program of this machine; its endless output is cut off in test_exec",
    "heartbeat": "asks nobody: it is called, by the page's server, which bounds what is said",
    "icmp": "one socket for all takes a bounded number of packets in a turn, whoever sends them: test_icmp",
    "path": "the same bound, on a socket of its own: test_path",
}


class Case(NamedTuple):
    """One way to mean harm."""

    what: str
    script: Script
    more: Mapping[str, object] = {}  # settings beside the address


# The web: by http, https, a journey and a download.

_OK: Final = b"HTTP/1.1 200 OK\r\n"
_CHUNKED: Final = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_PAGES: Final = (
    Case("a line without end", Script((_OK + b"X: ",))),
    Case("headers without end", Script((_OK,), b"X: y\r\n")),
    Case("interim answers without end", Script((), b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")),
    Case("a body without end", Script((_OK + b"\r\n",), b"a" * 1000)),
    Case("a chunk's extension without end", Script((_CHUNKED + b"5",), b";x=y")),
    Case("chunks of one byte", Script((_CHUNKED,), b"1\r\na\r\n")),
    Case("trailers without end", Script((_CHUNKED + b"1\r\na\r\n0\r\n",), b"X: y\r\n")),
    Case(
        "a body that unpacks without end",
        Script((_OK + b"Content-Encoding: gzip\r\n\r\n",), gzip.compress(bytes(1 << 20))),
    ),
    Case(
        "redirects without end",
        Script((lambda q: b"HTTP/1.1 302 Found\r\nLocation: %sx\r\n\r\n" % q.split()[1],), b"", asked_first=True),
    ),
    Case("not HTTP", Script((), b"\0\xff")),
)


# HTTP/2


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


_GREETING: Final = _frame(4, 0, 0)
_HEAD: Final = _GREETING + _frame(1, 4, 1, b"\x88")
_HEALTH: Final = (
    Case("settings without end", Script((_GREETING,), _frame(4, 0, 0, b"\0\4\0\1\0\0"))),
    Case("pings without end", Script((_GREETING,), _frame(6, 0, 0, bytes(8)))),
    Case("windows without end", Script((_GREETING,), _frame(8, 0, 1, b"\0\0\0\1"))),
    Case("headers without end", Script((_GREETING + _frame(1, 0, 1, b"\x88"),), _frame(9, 0, 1, b"\x40\1a\1b"))),
    Case("empty parts of headers", Script((_GREETING + _frame(1, 0, 1, b"\x88"),), _frame(9, 0, 1))),
    Case("empty parts of a body", Script((_HEAD,), _frame(0, 0, 1))),
    Case("a body without end", Script((_HEAD,), _frame(0, 0, 1, bytes(1000)))),
    Case("unknown frames", Script((_GREETING,), _frame(200, 0, 0, bytes(100)))),
    Case("half a frame of the largest size", Script((_GREETING + b"\xff\xff\xff",), b"\0")),
)


# WebSocket


def _upgrade(question: bytes) -> bytes:
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", question)
    assert key is not None
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Accept: {accept_of(key[1].decode())}\r\n\r\n".encode()


_SOCKETS: Final = (
    *(Case(what, Script((_upgrade,), for_ever, asked_first=True)) for what, for_ever in (
        ("fragments without end", b"\0\0"),
        ("pings without end", b"\x89\x00"),
        ("other messages without end", b"\x81\x01a"),
        ("a frame of all that can be said", b"\x82\x7f" + b"\x7f" * 8),
    )),
    Case("a fragment and parts of it", Script((lambda q: _upgrade(q) + b"\x01\x01a",), b"\0\0", asked_first=True)),
    Case("headers without end", Script((b"HTTP/1.1 101 Switching Protocols\r\n",), b"X: y\r\n")),
)  # fmt: skip


# Mail

_SMTP: Final = (
    Case("a line without end", Script((b"220 ",))),
    Case("a banner of lines without end", Script((), b"220-x\r\n")),
    Case("extensions without end", Script((b"220 a\r\n",), b"250-X-Y Z\r\n")),
    Case(
        "TLS without end",
        Script((b"220 a\r\n", b"250-a\r\n250 STARTTLS\r\n", b"220 go\r\n"), b"\x15\x03\x03\0\2\1\x5a"),
    ),
    Case("not SMTP", Script((), b"\0\r\n")),
)
_IMAP: Final = (
    Case("a line without end", Script((b"* OK ",))),
    Case("untagged answers without end", Script((b"* OK x\r\n",), b"* 1 EXISTS\r\n")),
    Case("literals without end", Script((b"* OK x\r\n",), b"* X {1000}\r\n" + b"a" * 1000)),
    Case("a literal of 4 GB", Script((b"* OK x\r\n* X {4294967295}\r\n",))),
    Case("capabilities without end", Script((b"* OK x\r\n* CAPABILITY",), b" IMAP4rev1")),
)
_POP3: Final = (
    Case("a line without end", Script((b"+OK ",))),
    Case("capabilities without end", Script((b"+OK x\r\n", b"+OK\r\n"), b"X-Y\r\n")),
    Case("not POP3", Script((), b"x\n")),
)


# Others over TCP

_TALKS: Final = (
    Case("a line without end", Script()),
    Case("lines without end", Script((), b"x\r\n")),
    Case("letters that are none", Script((), b"\xff\xfe\0")),
)
_RECORDS: Final = (
    Case("not TLS", Script()),
    Case("warnings without end", Script((), b"\x15\x03\x03\0\2\1\x5a")),
    Case("empty records without end", Script((), b"\x16\x03\x03\0\0")),
    Case("changes of cipher without end", Script((), b"\x14\x03\x03\0\1\1")),
    Case("a message of 16 MB", Script((b"\x16\x03\x03\0\4\2\xff\xff\xff",), b"\x16\x03\x03\x40\0" + bytes(0x4000))),
    Case("hellos without end", Script((), b"\x16\x03\x03\0\4\0\0\0\0")),
)  # fmt: skip
_CALLS: Final = (
    Case("a head without end", Script((b"SIP/2.0 200 OK\r\n",), b"X: y\r\n")),
    Case("empty lines without end", Script((), b"\r\n")),
    Case("answers to others without end", Script((), b"SIP/2.0 100 Trying\r\nContent-Length: 0\r\n\r\n")),
    Case("a body without end", Script((b"SIP/2.0 100 Trying\r\nContent-Length: 9999999999\r\n\r\n",))),
)
_STUN_HEAD: Final = b"\1\1\0\x08\x21\x12\xa4\x42" + bytes(12)
_MAPPED: Final = (
    Case("answers to others without end", Script((), _STUN_HEAD + b"\0\x20\0\4" + bytes(4))),
    Case("messages of the largest size", Script((), b"\1\1\xff\xfc\x21\x12\xa4\x42" + bytes(12 + 0xFFFC))),
    Case("not STUN", Script()),
)
_NAMES: Final = (
    Case("answers to others without end", Script((), b"\0\x0c" + bytes(12))),
    Case("answers of the largest size", Script((), b"\xff\xff" + bytes(0xFFFF))),
)


def _host(address: Address) -> dict[str, object]:
    return {"host": address.host, "port": address.port}


def _url(scheme: str) -> Callable[[Address], dict[str, object]]:
    return lambda address: {"url": f"{scheme}://{address.host}:{address.port}/a"}


def _with(of: Callable[[Address], dict[str, object]], **more: object) -> Callable[[Address], dict[str, object]]:
    return lambda address: of(address) | more


def _flow(address: Address) -> dict[str, object]:
    login = {"username": "truc", "password_env": "MAT_KHAU", "plaintext_login": True}
    sides = {"send": _host(address), "find": _host(address) | login | {"starttls": "never"}}
    return {**sides, "sender": "a@example.vn", "recipient": "b@example.vn", "within": "1s"}


class Kind(NamedTuple):
    """How a probe is set up for these servers."""

    cases: tuple[Case, ...]
    settings: Callable[[Address], dict[str, object]]
    tls: bool = False  # whether the server is honest as far as TLS goes


BY_STREAM: Final[Mapping[str, Kind]] = {
    "dns": Kind(_NAMES, lambda a: {"server": a.host, "port": a.port, "name": "vn", "type": "NS", "transport": "tcp"}),
    "grpc": Kind(_HEALTH, _host),
    "http": Kind(_PAGES, _with(_url("http"), expect={"body": WEB_PAGE})),
    "http, TLS": Kind(_PAGES, _with(_url("https"), expect={"body": WEB_PAGE}, verify=False), tls=True),
    "imap": Kind(_IMAP, _host),
    "mailflow": Kind((*_SMTP, *_IMAP), _flow),
    "pop3": Kind(_POP3, _host),
    "sip": Kind(_CALLS, _with(_host, transport="tcp")),
    "smtp": Kind(_SMTP, _host),
    "smtp, TLS": Kind(_RECORDS, _with(_host, tls=True)),
    "stun": Kind(_MAPPED, _with(_host, transport="tcp")),
    "tcp": Kind(_TALKS, _with(_host, dialogue=[{"send": "a\r\n", "expect": "^220 "}])),
    "throughput": Kind(_PAGES, _with(_url("http"), max_size="1MB", min_rate="900000Mbit", seconds="300ms")),
    "tls": Kind(_RECORDS, _host),
    "unix": Kind(_TALKS, lambda _: {"dialogue": [{"expect": "^220 "}]}),
    "web": Kind(_PAGES, _with(_url("http"), steps=[{"get": "/a", "expect": {"body": WEB_PAGE}}])),
    "websocket": Kind(_SOCKETS, _with(_url("ws"), dialogue=[{"send": "a", "expect": "^b$"}])),
}


def _echo(question: bytes) -> bytes:
    return question


def _rubbish(_: bytes) -> bytes:
    return b"\x30\xff" * 30


BY_DATAGRAM: Final[Mapping[str, Callable[[Address], dict[str, object]]]] = {
    "dns": lambda a: {"server": a.host, "port": a.port, "name": "vn", "type": "NS"},
    "ntp": _host,
    "sip": _host,
    "snmp": _with(_host, community_env="CONG_DONG"),
    "stamp": _with(_host, count=5, gap="10ms"),
    "stun": _host,
}


def _all_cases() -> Iterator[Any]:
    for name, kind in BY_STREAM.items():
        for case in kind.cases:
            yield pytest.param(name, case, id=f"{name}: {case.what}")


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAT_KHAU", "mat khau rat dai")
    monkeypatch.setenv("CONG_DONG", "langson")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def _turns_watched() -> AsyncIterator[list[float]]:
    """Give the processor time of the loop's thread from one tick to the next, which is not what others take of it."""
    ticks: list[float] = [0.0]

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.002)
            now = time.thread_time()
            ticks.append(now - before)
            before = now

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield ticks
    finally:
        await asyncio.sleep(0.003)
        task.cancel()


async def _tried(name: str, server: Hostile, unix: Path | None = None) -> Reading:
    kind = BY_STREAM[name]
    settings = kind.settings(server.address) | ({"socket": str(unix)} if unix else {})
    return await run_probe(PROBES[name.partition(",")[0]], timeout_s=TIMEOUT_S, **settings)  # type: ignore[arg-type]


def _is_named(reading: Reading) -> None:
    assert reading.fault not in (None, Fault.INTERNAL, Fault.LOCAL), reading.detail
    assert reading.detail
    assert reading.duration_s < TIMEOUT_S + GRACE_S


@pytest.mark.parametrize(("name", "case"), list(_all_cases()))
async def test_what_never_ends_is_a_named_fault_on_time(
    name: str, case: Case, certificates: Certificates, tmp_path: Path
) -> None:
    unix = tmp_path / "s" if name == "unix" else None
    tls = certificates.good.server_context() if BY_STREAM[name].tls else None
    with hostile_server(case.script, tls=tls, unix=unix) as server:
        async with _turns_watched() as ticks:
            reading = await _tried(name, server, unix)
    _is_named(reading)
    assert server.connections
    assert server.sent_bytes <= TAKEN_MOST
    assert max(ticks) <= BLOCKED_MOST_S


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("http", "a body that unpacks without end"),
        ("http, TLS", "a body without end"),
        ("web", "a body that unpacks without end"),
        ("web", "chunks of one byte"),
        ("throughput", "a body without end"),
        ("grpc", "headers without end"),
        ("websocket", "other messages without end"),
        ("imap", "literals without end"),
        ("smtp", "extensions without end"),
        ("sip", "a head without end"),
        ("stun", "messages of the largest size"),
        ("tls", "a message of 16 MB"),
    ],
)
async def test_what_never_ends_is_not_kept(name: str, what: str, certificates: Certificates) -> None:
    case = next(case for case in BY_STREAM[name].cases if case.what == what)
    tls = certificates.good.server_context() if BY_STREAM[name].tls else None
    with hostile_server(case.script, tls=tls) as server:
        await _tried(name, server)  # what is made once and stays is not what is looked for
        tracemalloc.start()
        try:
            reading = await _tried(name, server)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert reading.fault not in (None, Fault.INTERNAL, Fault.LOCAL)
    assert peak_bytes <= KEPT_MOST


async def test_one_byte_at_a_time_is_a_named_fault_on_time(certificates: Certificates, tmp_path: Path) -> None:
    """All of them at once: they wait."""
    with contextlib.ExitStack() as servers:
        runs: list[Coroutine[Any, Any, Reading]] = []
        for number, (name, kind) in enumerate(BY_STREAM.items()):
            for case in kind.cases[:2]:
                unix = tmp_path / f"{number}-{len(runs)}" if name == "unix" else None
                tls = certificates.good.server_context() if kind.tls else None
                server = servers.enter_context(hostile_server(case.script, drip_s=DRIP_S, tls=tls, unix=unix))
                runs.append(_tried(name, server, unix))
        readings = await asyncio.gather(*runs)
    for reading in readings:
        assert reading.fault not in (None, Fault.INTERNAL, Fault.LOCAL), reading.detail
        assert reading.duration_s < TIMEOUT_S + 3 * GRACE_S  # dozens of runs and their servers share two processors


@pytest.mark.parametrize("answer", [_echo, _rubbish])
@pytest.mark.parametrize("kind", BY_DATAGRAM)
async def test_a_flood_of_datagrams_is_a_named_fault_on_time(kind: str, answer: Callable[[bytes], bytes]) -> None:
    with flooding_datagrams(answer) as server:
        async with _turns_watched() as ticks:
            reading = await run_probe(
                PROBES[kind],
                timeout_s=TIMEOUT_S,
                **BY_DATAGRAM[kind](server.address),  # type: ignore[arg-type]
            )
    _is_named(reading)
    assert server.sent_bytes
    assert max(ticks) <= BLOCKED_MOST_S


def test_every_probe_is_tried_or_has_nothing_to_fear() -> None:
    tried = {name.partition(",")[0] for name in BY_STREAM} | set(BY_DATAGRAM)
    assert tried | set(NOT_ASKING) == set(PROBES)
    assert not tried & set(NOT_ASKING)
