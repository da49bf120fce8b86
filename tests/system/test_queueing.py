"""Real queues of a real bottleneck, filled by real traffic, through the real ping and the real judge.

Every path lies behind a token bucket of 8 Mbit/s with 150 ms of buffer of its own, and all are watched at once. The
judge's times are 300 times faster than in life: a bin is a second, a queue stands after three, a route after twelve.
The traffic lasts for less than that: a sender that never yields keeps the buffer full to the brim, a delay as constant
as a route's, and where its beginning was not seen nothing tells them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final

import pytest

from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT, Cause, Episode, Saying, Word
from monitor.model import Result
from monitor.queues import packets
from probes import icmp
from probes.base import Tools, utc_now
from tests.probes.probing import run_probe
from tests.system.namespaces import Namespace, Network, NetworkError

pytestmark = pytest.mark.timeout(90)

BITS: Final = 8_000_000
SHAPE: Final = f"tbf rate {BITS} burst 6kb latency 150ms"
TIMES: Final = 300.0
SETTINGS: Final = replace(DEFAULT.scaled(TIMES), learn_hours=0)
QUIET_S: Final = 6.0
LOADED_S: Final = 9.0  # of traffic: 45 minutes
LONG_S: Final = 18.0  # of what is watched then
LONGER_S: Final = 0.030
LOADS: Final = {"at60": 0.60, "at90": 0.90, "at105": 1.05, "at130": 1.30}
PLACES: Final = (*LOADS, "bulk", "fair", "long", "behind", "crowd")


@dataclass
class Watched:
    """One path under watch."""

    address: str
    reference: Watched | None = None
    judge: Judge = field(default_factory=lambda: Judge(SETTINGS))
    said: list[Saying] = field(default_factory=list)

    def take(self, result: Result) -> None:
        """Feed a result as `monitor.queues` does."""
        standing = self.reference.judge.standing() if self.reference else None
        beside = [standing] if standing else []
        for at, rtt_s in packets(result):
            self.said += self.judge.advance(at, beside)
            self.judge.add(at, rtt_s)
        self.said += self.judge.advance(result.started_at.timestamp() + result.reading.duration_s, beside)

    @property
    def episodes(self) -> list[Episode]:
        """What was told, as it was known last."""
        told: dict[float, Episode] = {}
        for saying in self.said:
            if saying.episode is not None and saying.word is not Word.CLEARED:
                told[saying.episode.start] = saying.episode
        if (last := self.judge.episode) is not None:
            told[last.start] = last
        return list(told.values())

    @property
    def causes(self) -> set[Cause]:
        return {e.cause for e in self.episodes}


async def probe(watched: Watched, tools: Tools, until: float) -> None:
    """Ping three times in each tenth of a second."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while due < until:
        started = utc_now()
        reading = await run_probe(
            icmp.PROBE, tools=tools, timeout_s=1.0, host=watched.address, count=3, gap="0.03s", wait="400ms"
        )
        watched.take(Result("test", "path.ping", "", started, started, 0.0, 0, reading))
        due = max(due + 0.1, loop.time())
        await asyncio.sleep(due - loop.time())


async def watch(all_of: Sequence[Watched], seconds: float) -> None:
    tools = Tools()
    try:
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for watched in all_of:
                group.create_task(probe(watched, tools, until))
    finally:
        tools.close()


@contextlib.contextmanager
def program(where: Namespace, *words: object, ready: bool = False) -> Iterator[None]:
    """Run `traffic.py` inside a namespace."""
    argv = [*where.prefix(), sys.executable, str(Path(__file__).with_name("traffic.py")), *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            if ready:
                said: IO[bytes] | None = process.stdout
                assert said is not None
                assert said.readline() == b"ready\n"
            yield
        finally:
            process.terminate()


def shape_fairly(router: Namespace, interface: str) -> None:
    """Give every flow its own queue: fq_codel, or without it one class for pings and one for the rest."""
    tc = ["tc", "qdisc", "add", "dev", interface]
    router.run(*tc, "root", "handle", "1:", "htb", "default", "20")
    parent = ["tc", "class", "add", "dev", interface, "parent"]
    router.run(*parent, "1:", "classid", "1:1", "htb", "rate", str(BITS))
    with contextlib.suppress(NetworkError):
        router.run(*parent, "1:1", "classid", "1:20", "htb", "rate", str(BITS))
        router.run(*tc, "parent", "1:20", "fq_codel")
        return
    router.run("tc", "class", "change", "dev", interface, "parent", "1:1", "classid", "1:20", "htb",
               "rate", str(BITS // 2), "ceil", str(BITS), "prio", "1")  # fmt: skip
    router.run(*parent, "1:1", "classid", "1:10", "htb", "rate", str(BITS // 2), "ceil", str(BITS), "prio", "0")
    router.run(*tc, "parent", "1:20", "pfifo", "limit", "120")
    router.nft(
        "table inet fair { chain post { type filter hook postrouting priority 0; policy accept;\n"
        f'oifname "{interface}" meta l4proto icmp meta priority set 1:10\n'
        f'oifname "{interface}" meta l4proto != icmp meta priority set 1:20\n'
        "}\n}\n"
    )


def lengthen(router: Namespace, address: str, interface: str) -> None:
    """Lead what goes to an address through the relay, and what the relay hands back on to it."""
    router.ip(
        "rule add iif longer table 77",
        f"route add {address}/32 dev {interface} table 77",
        f"route add {address}/32 dev longer",
    )


def _watched(network: Network) -> dict[str, Watched]:
    gateway = Watched(network.uplink.gateway4)
    beside = Watched(network.uplinks["narrow"].gateway4)
    paths = {
        name: Watched(p.address4, gateway) for name, p in network.places.items() if name not in ("crowd", "behind")
    }
    return {"gateway": gateway, "narrow": beside} | paths | {
        "behind": Watched(network.places["behind"].address4, beside)
    }  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Watched]]:
    """Watch all paths at once, quiet first and then loaded."""
    whole = QUIET_S + LONG_S
    with Network(uplinks=("uplink", "narrow"), places=PLACES) as network, contextlib.ExitStack() as stack:
        router, places = network.router, network.places
        for name in (*LOADS, "bulk"):
            router.run("tc", "qdisc", "add", "dev", f"p{places[name].number}", "root", *SHAPE.split())
        shape_fairly(router, f"p{places['fair'].number}")
        # One uplink of the monitor is narrow on its way in: what comes from one place, and from that uplink's gateway.
        router.run("tc", "qdisc", "add", "dev", "narrow", "root", *SHAPE.split())
        network.monitor.ip(
            f"route add {places['behind'].address4}/32 via {network.uplinks['narrow'].gateway4} dev narrow"
        )
        for name in (*LOADS, "bulk", "fair"):
            stack.enter_context(program(places[name].namespace, "sink", whole + 5, ready=True))
        stack.enter_context(program(network.monitor, "sink", whole + 5, ready=True))
        stack.enter_context(program(router, "relay", whole + 5, "longer", LONGER_S, ready=True))
        router.ip("link set longer up")
        router.sysctl(ipv4__conf__longer__rp_filter="0", ipv4__conf__all__rp_filter="0")

        paths = _watched(network)
        watching = threading.Thread(
            target=network.monitor.call, args=(lambda: asyncio.run(watch(list(paths.values()), whole)),)
        )
        watching.start()
        watching.join(QUIET_S)
        load = {places[n].address4: BITS * share for n, share in LOADS.items()}
        load[places["fair"].address4] = BITS * 1.30
        load[network.uplinks["narrow"].source4] = BITS * 1.10
        crowd = places["crowd"].namespace
        stack.enter_context(program(crowd, "send", LOADED_S, *(f"{a}:{r}" for a, r in load.items())))
        stack.enter_context(program(crowd, "bulk", LOADED_S, places["bulk"].address4, 4))
        lengthen(router, places["long"].address4, f"p{places['long'].number}")
        watching.join(whole + 10)
        assert not watching.is_alive()
        for name, path in paths.items():
            print(name, path.judge.standing(), path.episodes)  # noqa: T201  shown when a test fails
        yield paths


@pytest.mark.parametrize("name", ["at105", "at130", "bulk"])
def test_a_full_bottleneck_is_congestion_beyond_us(seen: dict[str, Watched], name: str) -> None:
    (episode,) = seen[name].episodes
    assert episode.cause is Cause.CONGESTION
    assert 0.030 < episode.peak_s < 0.170  # seconds of a buffer of 150 ms


def test_a_bottleneck_filled_to_60_percent_is_not_congestion(seen: dict[str, Watched]) -> None:
    assert not seen["at60"].episodes
    assert seen["at60"].judge.usable_s > LONG_S


def test_at_90_percent_whatever_is_said_is_not_that_it_is_us_or_another_route(seen: dict[str, Watched]) -> None:
    print("at 90 %:", seen["at90"].episodes or "quiet")  # noqa: T201  either is right; which one is worth knowing
    assert seen["at90"].causes <= {Cause.CONGESTION}


def test_a_full_link_whose_flows_queue_apart_is_not_congestion(seen: dict[str, Watched]) -> None:
    assert not seen["fair"].episodes


def test_a_queue_that_the_gateway_has_too_is_our_own_uplinks(seen: dict[str, Watched]) -> None:
    assert seen["behind"].causes == {Cause.NEAR_SIDE}
    assert seen["narrow"].episodes
    assert not seen["gateway"].episodes


def test_a_longer_way_is_a_change_of_route(seen: dict[str, Watched]) -> None:
    (episode,) = seen["long"].episodes
    assert episode.cause is Cause.ROUTE_CHANGE
    assert episode.peak_s == pytest.approx(LONGER_S, rel=0.3)
    assert seen["long"].judge.floor_s > LONGER_S
