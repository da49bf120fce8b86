"""Servers that mean harm: they send a byte at a time, never end what they begin, or send as much as anybody takes.

They run in threads of their own with blocking sockets, so that there is always more to read than a probe has read: in
one loop with the probe they would have to wait for it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.servers import LOOPBACK, Address

DRIP_S: Final = 0.02
_BLOCK: Final = 16384  # bytes given to the kernel at once
_SEND_BUFFER: Final = 65536  # so that what is counted as sent is not far from what was taken

Turn = bytes | Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Script:
    """What is said: the turns first, each after a question but the first, and then one thing for ever."""

    turns: Sequence[Turn] = ()
    for_ever: bytes = b"a"  # empty: the connection is closed instead
    asked_first: bool = False  # whether the first turn waits for a question as well


@dataclass(slots=True)
class Hostile:
    """A server under way."""

    address: Address
    sent_bytes: int = 0  # what the kernel took from it
    connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)


@contextlib.contextmanager
def hostile_server(
    script: Script, *, drip_s: float = 0.0, tls: ssl.SSLContext | None = None, unix: Path | None = None
) -> Iterator[Hostile]:
    """Serve every connection by a script; with `drip_s`, all of it one byte at a time.

    Args:
        script: what is said.
        drip_s: the pause before each byte; 0 sends at full speed.
        tls: of a server that is honest as far as TLS goes.
        unix: name of a socket to listen on instead of a port.
    """
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as listener:
        listener.bind(str(unix) if unix else (LOOPBACK, 0))
        listener.listen()
        address = Address(LOOPBACK, 0 if unix else listener.getsockname()[1])
        running = Hostile(address)
        threads = [threading.Thread(target=_accept, args=(listener, running, script, drip_s, tls))]
        threads[0].start()
        try:
            yield running
        finally:
            for sock in (listener, *running._open):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            threads[0].join()


def _accept(
    listener: socket.socket, running: Hostile, script: Script, drip_s: float, tls: ssl.SSLContext | None
) -> None:
    threads: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            running.connections += 1
            running._open.append(sock)
            threads.append(threading.Thread(target=_serve, args=(sock, running, script, drip_s, tls)))
            threads[-1].start()
    for sock in running._open:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def _serve(sock: socket.socket, running: Hostile, script: Script, drip_s: float, tls: ssl.SSLContext | None) -> None:
    with sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        talk = tls.wrap_socket(sock, server_side=True) if tls else sock
        running._open.append(talk)
        with talk:
            for number, turn in enumerate(script.turns):
                heard = talk.recv(65536) if number or script.asked_first else b""
                _say(talk, running, turn(heard) if callable(turn) else turn, drip_s)
            block = script.for_ever * (1 if drip_s else _BLOCK // max(1, len(script.for_ever)) + 1)
            while block:
                _say(talk, running, block, drip_s)


def _say(talk: socket.socket, running: Hostile, data: bytes, drip_s: float) -> None:
    if drip_s:
        for byte in data:
            time.sleep(drip_s)
            running.sent_bytes += talk.send(bytes((byte,)))
    else:
        talk.sendall(data)
        running.sent_bytes += len(data)


@contextlib.contextmanager
def flooding_datagrams(answer: Callable[[bytes], bytes]) -> Iterator[Hostile]:
    """Answer the first question of everybody by UDP again and again, as fast as can be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        running = Hostile(Address(*sock.getsockname()))
        ends = threading.Event()
        thread = threading.Thread(target=_flood, args=(sock, running, answer, ends))
        thread.start()
        try:
            yield running
        finally:
            ends.set()
            thread.join()


def _flood(sock: socket.socket, running: Hostile, answer: Callable[[bytes], bytes], ends: threading.Event) -> None:
    sock.settimeout(0.05)
    asked: tuple[bytes, tuple[str, int]] | None = None
    while asked is None and not ends.is_set():
        with contextlib.suppress(TimeoutError):
            asked = sock.recvfrom(65536)
    if asked is None:
        return
    data, peer = answer(asked[0]), asked[1]
    while not ends.is_set():
        with contextlib.suppress(OSError):  # the probe has gone
            running.sent_bytes += sock.sendto(data, peer)
