"""Networks of namespaces: a monitor, its uplinks, a router and the places it watches, all on one machine.

    monitor ── uplink 1 ──┐            ┌── target 1
            ── uplink 2 ──┤   router   ├── target 2
                          └────────────┘

Addresses exist inside the namespaces alone, so every network may use the same ones and none meets the host's.
The router drops what a test wants dropped (nft), and cables are cut by taking a link down. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, TypeVar

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_libc: Final = ctypes.CDLL(None, use_errno=True)
_numbers: Final = itertools.count(1)


class NetworkError(Exception):
    """A command that builds or changes a network failed; the message holds the command and what it said."""


def command(argv: Sequence[str], *, text: str = "") -> str:
    """Run a command, `text` on its standard input, and return what it printed.

    Raises:
        NetworkError: it ended with another status than 0.
    """
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise NetworkError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}\n{text}")
    return done.stdout


def call_in(namespace: str, function: Callable[[], T]) -> T:
    """Call a function in a thread that stands in a network namespace; sockets made there belong to it for good."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _enter(namespace)
            outcome.append(function())
        except BaseException as exc:  # noqa: BLE001  carried to the caller's thread
            errors.append(exc)

    thread = threading.Thread(target=run, name=f"in {namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


def _enter(namespace: str) -> None:
    """Move the calling thread, and no other, into a namespace (os.setns came with Python 3.12)."""
    with Path("/run/netns", namespace).open("rb") as handle:
        if _libc.setns(handle.fileno(), _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), namespace)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace, by its name under /run/netns."""

    name: str

    def prefix(self) -> list[str]:
        """Return the words that put a command into this namespace; the command keeps the process id."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *argv: str) -> str:
        """Run a command inside and return what it printed.

        Raises:
            NetworkError: it ended with another status than 0.
        """
        return command([*self.prefix(), *argv])

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside, in a thread of its own."""
        return call_in(self.name, function)

    def ip(self, *lines: str) -> None:
        """Carry out lines of `ip` inside, in order, in one process."""
        command(["ip", "-n", self.name, "-batch", "-"], text="\n".join(lines) + "\n")

    def ip6(self, *lines: str) -> None:
        """Carry out lines of `ip -6`: rules do not tell their family by themselves."""
        command(["ip", "-6", "-n", self.name, "-batch", "-"], text="\n".join(lines) + "\n")

    def await_carrier(self, interface: str) -> None:
        """Wait until the kernel calls an interface up; it may take a second to notice.

        Raises:
            NetworkError: it did not within three seconds.
        """
        deadline = time.monotonic() + 3
        while "state UP" not in (said := command(["ip", "-n", self.name, "-o", "link", "show", "dev", interface])):
            if time.monotonic() > deadline:
                raise NetworkError(f"{interface} in {self.name} did not come up: {said}")
            time.sleep(0.02)

    def nft(self, script: str) -> None:
        """Carry out an nft script inside, whole or not at all."""
        command([*self.prefix(), "nft", "-f", "-"], text=script)

    def sysctl(self, **values: str) -> None:
        """Set net.* values, given as `ipv4__ip_forward="1"`."""

        def write() -> None:
            for key, value in values.items():
                Path("/proc/sys/net", *key.split("__")).write_text(value)

        self.call(write)


@dataclass(frozen=True, slots=True)
class Uplink:
    """A cable between the monitor and the router; `name` is the interface on both ends."""

    name: str
    number: int

    @property
    def source4(self) -> str:
        """The monitor's IPv4 address on this uplink."""
        return f"10.0.{self.number}.2"

    @property
    def gateway4(self) -> str:
        """The router's IPv4 address on this uplink."""
        return f"10.0.{self.number}.1"

    @property
    def source6(self) -> str:
        """The monitor's IPv6 address on this uplink."""
        return f"fd00:0:{self.number}::2"

    @property
    def gateway6(self) -> str:
        """The router's IPv6 address on this uplink."""
        return f"fd00:0:{self.number}::1"


@dataclass(frozen=True, slots=True)
class Place:
    """A watched host behind the router, in a namespace of its own."""

    name: str
    number: int
    namespace: Namespace

    @property
    def address4(self) -> str:
        """Its IPv4 address."""
        return f"10.1.{self.number}.2"

    @property
    def address6(self) -> str:
        """Its IPv6 address."""
        return f"fd00:1:{self.number}::2"


_FILTER: Final = """
table inet thongsuot {
    set dropped4 { type ipv4_addr; }
    set dropped6 { type ipv6_addr; }
    counter lost { }
    chain loss { }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip daddr @dropped4 drop
        ip saddr @dropped4 drop
        ip6 daddr @dropped6 drop
        ip6 saddr @dropped6 drop
        jump loss
    }
}
"""


class Network:
    """The whole network, as a context manager; namespaces are removed at the end whatever happened inside."""

    def __init__(self, *, uplinks: Sequence[str] = ("uplink",), places: Sequence[str] = ("target",)) -> None:
        """Args: uplinks: interface names (15 letters at most); the first is the default route. places: any names."""
        self._run = f"ts{os.getpid()}-{next(_numbers)}"
        self.monitor = Namespace(f"{self._run}-monitor")
        self.router = Namespace(f"{self._run}-router")
        self.uplinks = {name: Uplink(name, n) for n, name in enumerate(uplinks, 1)}
        self.places = {n: Place(n, i, Namespace(f"{self._run}-{n}")) for i, n in enumerate(places, 1)}
        self._stack = contextlib.ExitStack()

    @property
    def uplink(self) -> Uplink:
        """The uplink of the default route."""
        return next(iter(self.uplinks.values()))

    @property
    def target(self) -> Place:
        """The first place."""
        return next(iter(self.places.values()))

    def __enter__(self) -> Network:
        with contextlib.ExitStack() as stack:
            for namespace in (self.monitor, self.router, *(p.namespace for p in self.places.values())):
                command(["ip", "netns", "add", namespace.name])
                stack.callback(command, ["ip", "netns", "del", namespace.name])
                namespace.ip("link set lo up")
                # Without a wait for duplicates, IPv6 works at once and not a second or two later.
                namespace.sysctl(ipv6__conf__all__disable_ipv6="0", ipv6__conf__default__accept_dad="0")
            self.router.sysctl(ipv4__ip_forward="1", ipv6__conf__all__forwarding="1")
            self.router.nft(_FILTER)
            for uplink in self.uplinks.values():
                self._lay_uplink(uplink)
            for place in self.places.values():
                self._lay_place(place)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def cut_uplink(self, name: str | None = None, *, end: Literal["far", "near"] = "far") -> None:
        """Take an uplink down.

        At the far end the monitor keeps its address and routes and its packets come to nothing, as with a cut
        fibre; at the near end its own interface is down and the kernel refuses to send.
        """
        uplink = self._uplink(name)
        side = self.router if end == "far" else self.monitor
        side.ip(f"link set {uplink.name} down")

    def restore_uplink(self, name: str | None = None) -> None:
        """Bring an uplink back, with every address and route that went away with it."""
        uplink = self._uplink(name)
        self._address_uplink(uplink)
        for end in (self.monitor, self.router):
            end.await_carrier(uplink.name)
            # Whoever asked for the other's hardware address in vain would otherwise ask again only after a second.
            end.ip(f"neigh flush dev {uplink.name}")

    def drop_host(self, address: str) -> None:
        """Drop whatever goes to or comes from an address, silently, as a firewall does."""
        self.router.nft(f"add element inet thongsuot {_dropped(address)} {{ {address} }}")

    def allow_host(self, address: str) -> None:
        """End `drop_host`."""
        self.router.nft(f"delete element inet thongsuot {_dropped(address)} {{ {address} }}")

    def loss(self, percent: float, *, both_ways: bool = False, exactly: bool = False) -> None:
        """Lose packets at random on their way from the monitor, and on their way back as well if `both_ways`.

        Args:
            percent: of packets, 0 to 100, to a hundredth; 0 ends the loss.
            both_ways: a round trip then survives with (1 - percent / 100) squared.
            exactly: the first so many of each hundred, instead of a throw of dice for each; whole percents.
        """
        rules = ["flush chain inet thongsuot loss"]
        limit = round(percent * 100)
        dice = f"inc mod 100 < {round(percent)}" if exactly else f"random mod 10000 < {limit}"
        drop = f"numgen {dice} counter name lost drop"
        if limit:
            names = ", ".join(f'"{u}"' for u in self.uplinks)
            match = "" if both_ways else f"iifname {{ {names} }} "
            rules.append(f"add rule inet thongsuot loss {match}{drop}")
        self.router.nft("\n".join(rules))

    def lost_packets(self) -> int:
        """Return how many packets `loss` has dropped so far."""
        words = self.router.run("nft", "list", "counter", "inet", "thongsuot", "lost").split()
        return int(words[words.index("packets") + 1])

    def _uplink(self, name: str | None) -> Uplink:
        return self.uplink if name is None else self.uplinks[name]

    def _lay_uplink(self, uplink: Uplink) -> None:
        self.router.ip(f"link add {uplink.name} type veth peer name {uplink.name} netns {self.monitor.name}")
        self._address_uplink(uplink)
        # What leaves from this uplink's address or by its interface takes this uplink, default route or not.
        table = 100 + uplink.number
        self.monitor.ip(
            f"rule add from {uplink.source4} table {table}",
            f"rule add oif {uplink.name} table {table}",
        )
        self.monitor.ip6(
            f"rule add from {uplink.source6} table {table}",
            f"rule add oif {uplink.name} table {table}",
        )

    def _address_uplink(self, uplink: Uplink) -> None:
        name, table = uplink.name, 100 + uplink.number
        self.router.ip(
            f"link set {name} up",
            f"addr replace {uplink.gateway4}/24 dev {name}",
            f"addr replace {uplink.gateway6}/64 dev {name} nodad",
        )
        self.monitor.ip(
            f"link set {name} up",
            f"addr replace {uplink.source4}/24 dev {name}",
            f"addr replace {uplink.source6}/64 dev {name} nodad",
            # The metric keeps the first uplink first, also when it comes back after the others.
            f"route replace default via {uplink.gateway4} dev {name} metric {uplink.number}",
            f"route replace ::/0 via {uplink.gateway6} dev {name} metric {uplink.number}",
            f"route replace default via {uplink.gateway4} dev {name} table {table} onlink",
            f"route replace ::/0 via {uplink.gateway6} dev {name} table {table} onlink",
        )

    def _lay_place(self, place: Place) -> None:
        near, far = f"p{place.number}", "eth0"
        self.router.ip(
            f"link add {near} type veth peer name {far} netns {place.namespace.name}",
            f"addr add 10.1.{place.number}.1/24 dev {near}",
            f"addr add fd00:1:{place.number}::1/64 dev {near} nodad",
            f"link set {near} up",
        )
        place.namespace.ip(
            f"addr add {place.address4}/24 dev {far}",
            f"addr add {place.address6}/64 dev {far} nodad",
            f"link set {far} up",
            f"route add default via 10.1.{place.number}.1",
            f"route add ::/0 via fd00:1:{place.number}::1",
        )


def _dropped(address: str) -> str:
    return "dropped6" if ":" in address else "dropped4"
