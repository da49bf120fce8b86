"""Traffic for bottlenecks, and a longer way round: run as a program of its own inside a namespace.

    python traffic.py send SECONDS ADDRESS:BITS_A_SECOND …   UDP at a steady rate to each address
    python traffic.py bulk SECONDS ADDRESS FLOWS             TCP flows as fast as they go
    python traffic.py sink SECONDS                           takes what the other two send
    python traffic.py relay SECONDS INTERFACE DELAY_S        a TUN interface that gives each packet back later

Everything ends by itself. Programs, not threads: a sender must not hold up whoever measures beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

PORT: Final = 9000
SIZE: Final = 1172  # payload of a datagram: 1200 bytes of IP packet
WIRE: Final = 1214  # and as the queueing discipline counts it
TURN_S: Final = 0.004
_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000


def send(seconds: float, rates: dict[str, float]) -> None:
    """Send datagrams at each rate (bits a second on the wire); after a pause of ours at most 20 ms are made up for."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    payload = bytes(SIZE)
    owed = dict.fromkeys(rates, 0.0)
    end = (last := time.monotonic()) + seconds
    while (now := time.monotonic()) < end:
        passed = min(now - last, 0.02)
        last = now
        for address, rate in rates.items():
            owed[address] += rate * passed / 8
            while owed[address] >= WIRE:
                with contextlib.suppress(OSError):  # a full buffer of our own is a loss like another
                    sock.sendto(payload, (address, PORT))
                owed[address] -= WIRE
        time.sleep(TURN_S)


def bulk(seconds: float, address: str, flows: int) -> None:
    """Fill TCP connections as fast as the other end acknowledges."""
    chunk = bytes(16384)
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for _ in range(flows):
            sock = stack.enter_context(socket.create_connection((address, PORT), timeout=5))
            sock.setblocking(False)
            waiting.register(sock, selectors.EVENT_WRITE)
        while time.monotonic() < end:
            for key, _ in waiting.select(0.1):
                with contextlib.suppress(OSError):
                    os.write(key.fd, chunk)


def say_ready() -> None:
    """Tell whoever started the program that it serves from now on."""
    os.write(sys.stdout.fileno(), b"ready\n")


def sink(seconds: float) -> None:
    """Take and forget: datagrams unread, connections read."""
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as waiting:
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("", PORT))
        listener = stack.enter_context(socket.create_server(("", PORT)))
        waiting.register(listener, selectors.EVENT_READ)
        say_ready()
        while time.monotonic() < end:
            for key, _ in waiting.select(0.1):
                if key.fileobj is listener:
                    sock = stack.enter_context(listener.accept()[0])
                    waiting.register(sock, selectors.EVENT_READ)
                elif not os.read(key.fd, 65536):
                    waiting.unregister(key.fileobj)


def relay(seconds: float, interface: str, delay_s: float) -> None:
    """Hold each packet that is routed into a TUN interface for so long, and hand it back to the kernel."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", interface.encode(), _IFF_TUN_NO_PI))
    say_ready()
    held: deque[tuple[float, bytes]] = deque()
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        waiting.register(tun, selectors.EVENT_READ)
        while (now := time.monotonic()) < end:
            while held and held[0][0] <= now:
                os.write(tun, held.popleft()[1])
            if waiting.select(max(0.0, min(0.1, held[0][0] - now)) if held else 0.1):
                held.append((time.monotonic() + delay_s, os.read(tun, 2048)))


def main(words: Sequence[str]) -> None:
    """Do what the words ask for."""
    what, seconds, *rest = words
    match what:
        case "send":
            send(float(seconds), {a: float(r) for a, r in (word.split(":") for word in rest)})
        case "bulk":
            bulk(float(seconds), rest[0], int(rest[1]))
        case "sink":
            sink(float(seconds))
        case "relay":
            relay(float(seconds), rest[0], float(rest[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
