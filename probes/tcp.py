"""TCP: does a port take connections, how long does the handshake take, and does the server say the right words?

Without a dialogue the connection is closed as soon as it is open and nothing is sent. With one, each step sends a text
or waits until a pattern is found in what came since the last match, or both. Source: RFC 9293 section 3.5.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time

from pydantic import Field

from probes.base import (
    Done,
    Host,
    IpFamily,
    Launch,
    Measurement,
    Path,
    Port,
    ProbeSettings,
    ProbeType,
    Stop,
    Tools,
    Value,
)
from probes.dialogue import STEPS_LIMIT, Step, hold
from probes.net import (
    Address,
    bind_to_path,
    connect,
    connect_error,
    handshake_s,
    open_stream,
    queue_errors,
    written_address,
)


class Settings(ProbeSettings):
    """What a TCP check needs."""

    host: Host = Field(description="Name or address")
    port: Port = Field(description="Port")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    dialogue: tuple[Step, ...] = Field(default=(), max_length=STEPS_LIMIT, description="What is said once connected")


def prepare(settings: Settings, path: Path | None, _tools: Tools) -> Launch | None:
    """Connect to a written address without a task; a name has to be looked up, and a dialogue held."""
    address = written_address(settings.host, settings.port, settings.family, path)
    if settings.dialogue or address is None:
        return None
    return lambda m, done: _dial(m, address, done)


def _dial(m: Measurement, address: Address, done: Done) -> Stop:
    """Do what `probes.net.connect` does, and hang up as soon as the connection stands."""
    m.phases["resolve"] = 0.0  # a written address costs no look-up
    m.facts["address"] = address.ip
    m.current = "connect"
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    number = sock.fileno()  # by which the loop finds it fastest: it writes out a socket, to tell it from a number

    def stop() -> None:
        if sock.fileno() >= 0:
            loop.remove_writer(number)
            sock.close()

    def ready() -> None:
        loop.remove_writer(number)
        done(_hang_up, m, sock, address, began)

    try:
        _begin(sock, m.path, address)
        loop.add_writer(number, ready)
    except BaseException:
        sock.close()
        raise
    return stop


def _begin(sock: socket.socket, path: Path | None, address: Address) -> None:
    bind_to_path(sock, path)
    queue_errors(sock, True, address.family)
    begun = sock.connect_ex(address.sockaddr)
    if begun not in (0, errno.EINPROGRESS):
        raise connect_error(begun, address)


def _hang_up(m: Measurement, sock: socket.socket, address: Address, began: float) -> None:
    """Take what became of the connection, and close it."""
    with sock:
        m.phases["connect"] = time.perf_counter() - began
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise connect_error(code, address, sock)
        took_s = handshake_s(sock)
        if took_s is not None:
            m.phases["connect"] = took_s  # by the kernel's clock: a busy loop of ours is not in it
        m.current = ""


async def run(settings: Settings, m: Measurement) -> None:
    """Connect, hold the dialogue if there is one, and hang up.

    Raises:
        ProbeError: see `probes.net.connect`; CONTENT when something else came than was expected; REFUSED when the
            server hung up before a word.
        OSError: what the network or host answered.
    """
    if not settings.dialogue:
        (await connect(m, settings.host, settings.port, settings.family)).close()
        return
    async with open_stream(m, settings.host, settings.port, family=settings.family) as stream:
        await hold(settings.dialogue, stream, m)


PROBE = ProbeType(
    kind="tcp",
    summary="A TCP connection, with an optional dialogue of texts sent and patterns expected",
    settings=Settings,
    run=run,
    prepare=prepare,
    facts=(
        Value("address", "The address that took the connection"),
        Value("answer", "The line in which the last expected pattern was found, or the first that came"),
    ),
)
