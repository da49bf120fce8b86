"""Load and throughput as witnesses, and the difference between a slow server and a slow network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.plan import OutagePolicy
from monitor.judge.signals import ROUNDS, USUAL_LEAST, Signals, slowness
from monitor.model import Result, State
from probes.base import Reading
from tests.monitor.builders import MAIL, check, plan, result, service
from tests.monitor.room import living

PORT = "line.port"


def loaded(load: float) -> Reading:
    return Reading(None, "", 0.02, values={"in_load_ratio": load, "out_load_ratio": 0.1})


def port(seconds: float, load: float) -> Result:
    return result(PORT, seconds, loaded(load))


def test_an_interface_is_full_after_some_rounds_in_a_row_and_eased_after_as_many() -> None:
    signals = Signals()
    turned = [signals.take(60.0 * n, loaded(x)) for n, x in enumerate([0.5, 0.97, 0.5, 0.96, 0.97, 0.98, 0.9, 0.9])]
    assert turned == [False] * 5 + [True, False, False]
    assert (signals.full_since, signals.load, signals.side) == (180.0, 0.98, "in")
    assert signals.sentence() == "interface load 98 % (in)"
    again = Signals(json.loads(json.dumps(signals.state())))
    assert [again.take(600.0 + n, loaded(0.8)) for n in range(ROUNDS)] == [False, False, True]
    assert again.full_since is None


def test_a_download_far_below_the_usual_is_slow_and_never_becomes_the_usual() -> None:
    signals = Signals()

    def download(rate: float) -> None:
        signals.take(0.0, Reading(None, "", 1.0, values={"rate_bps": rate}))

    for _ in range(USUAL_LEAST - 1):
        download(50e6)
    for _ in range(ROUNDS):
        download(10e6)  # too little is known: this is taken for usual
    assert not signals.slow
    for _ in range(100):
        download(20e6)
    assert signals.slow
    assert signals.rate_share == pytest.approx(0.4)
    download(45e6)
    assert not signals.slow


def test_what_was_slow_is_named_the_server_s_part_or_the_network_s() -> None:
    server = Reading(None, "", 2.4, {"connect": 0.01, "processing": 2.3})
    assert "most of it processing (connect 10 ms, processing 2300 ms)" in slowness(server, 1.0)
    network = Reading(None, "", 2.4, {"connect": 2.1, "processing": 0.2})
    assert "most of it connect" in slowness(network, 1.0)
    assert slowness(server, 3.0) == slowness(server, None) == ""


async def test_a_full_interface_is_congestion_with_its_load_and_is_told(tmp_path: Path) -> None:
    site = plan(service("line", check(PORT, every_s=60.0)), mail=MAIL)
    async with living(site, tmp_path) as room:
        for number in range(10):
            await room.feed(port(60.0 * number, 0.97 if number >= 5 else 0.4))
        during = room.state(PORT), room.since(PORT), room.check(PORT).detail
    async with living(site, tmp_path, now=600) as room:
        after = room.state(PORT)
        for number in range(10, 15):
            await room.feed(port(60.0 * number, 0.3))
        told = await room.told()
        end = room.state(PORT)

    assert during == (State.CONGESTED, 300.0, "interface load 97 % (in)")
    assert after is State.UNKNOWN  # nobody has looked since the restart
    assert end is State.UP
    assert told == [("opened", "line"), ("recovered", "line")]


async def test_a_slow_server_is_degraded_and_says_so_and_is_not_congestion(tmp_path: Path) -> None:
    web = check("portal.web", every_s=60.0, policy=OutagePolicy(slow_over_s=1.0))
    async with living(plan(service("portal", web), mail=MAIL), tmp_path) as room:
        for number in range(200):
            slow = number >= 100
            phases = {"connect": 0.01, "processing": 2.3 if slow else 0.1}
            await room.feed(result("portal.web", 60.0 * number, Reading(None, "", 2.4 if slow else 0.2, phases)))

        states = {c.state for c in await room.changes("portal.web")}
        assert states == {State.UP, State.DEGRADED}
        assert "most of it processing" in room.check("portal.web").detail
