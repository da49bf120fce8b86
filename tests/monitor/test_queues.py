"""Congestion in the pipeline: judged from live results, recorded with its dates, told, taken back, remembered."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from config.plan import OutagePolicy, Plan, Target
from monitor.model import Result, State
from monitor.queues import packets
from probes.base import Fault, Reading
from tests.monitor.builders import MAIL, check, plan, reference, result, service
from tests.monitor.room import Room, living

LINE = "line.ping"
GATEWAY = "references.gateway"
HOUR = 3600.0
EVERY = 30.0
LEARN = 7 * HOUR
FLOOR_S = 0.012


def site(*references: Target) -> Plan:
    ping = check(LINE, every_s=EVERY, policy=OutagePolicy(bad_rounds=2))
    return plan(service("line", ping), references=references, mail=MAIL)


def echoes(seconds: float, queue_s: float, chance: random.Random, check_id: str = LINE) -> Result:
    """A round of three echoes over a path with jitter and a queue that never empties."""
    rtts = tuple(FLOOR_S + chance.expovariate(1 / 0.001) + queue_s * chance.uniform(0.8, 1.6) for _ in range(3))
    return result(check_id, seconds, Reading(None, "", 0.2, rtts_s=rtts))


async def live(
    room: Room, start: float, end: float, *, queue_s: float = 0.0, near_queue_s: float | None = None, seed: int = 1
) -> None:
    """Feed a stretch of time; a reference at the gateway answers too when `near_queue_s` is given."""
    chance = random.Random(seed + start)
    moment = start
    while moment < end:
        if near_queue_s is not None:
            await room.feed(echoes(moment, near_queue_s, chance, GATEWAY))
        await room.feed(echoes(moment + 1, queue_s, chance))
        moment += EVERY


@pytest.mark.timeout(60)
async def test_a_standing_queue_is_congestion_dated_from_its_begin_and_told_once(tmp_path: Path) -> None:
    async with living(site(), tmp_path) as room:
        await live(room, 0, LEARN)
        await live(room, LEARN, LEARN + HOUR, queue_s=0.030)
        during = room.state("line"), room.state(LINE), room.check(LINE).queue_delay_s, room.check(LINE).detail
        since = room.since(LINE)
        await live(room, LEARN + HOUR, LEARN + 3 * HOUR)
        seconds = await room.seconds(LINE, LEARN, LEARN + 3 * HOUR)
        told = await room.told()

    assert during[:2] == (State.CONGESTED, State.CONGESTED)
    assert during[2] == pytest.approx(0.030, abs=0.015)
    assert "queue of up to" in during[3]
    assert since == pytest.approx(LEARN, abs=600)
    assert seconds["congested"] == pytest.approx(HOUR, abs=900)
    assert "down" not in seconds
    assert [kind for kind, _ in told] == ["opened", "recovered"]


@pytest.mark.timeout(60)
async def test_a_quiet_path_is_never_congested(tmp_path: Path) -> None:
    async with living(site(), tmp_path) as room:
        await live(room, 0, 10 * HOUR, seed=3)

        assert room.state("line") is State.UP
        assert await room.told() == []


@pytest.mark.timeout(60)
async def test_a_queue_that_our_gateway_has_too_is_on_our_side(tmp_path: Path) -> None:
    gateway = reference("gateway", near=True, policy=OutagePolicy(bad_rounds=2))
    async with living(site(gateway), tmp_path) as room:
        await live(room, 0, LEARN, near_queue_s=0.0)
        await live(room, LEARN, LEARN + HOUR, queue_s=0.030, near_queue_s=0.030)

        assert room.state(LINE) is State.CONGESTED
        assert "our own side" in room.check(LINE).detail


@pytest.mark.timeout(60)
async def test_a_longer_route_is_taken_back_and_was_never_congestion(tmp_path: Path) -> None:
    async with living(site(), tmp_path) as room:
        await live(room, 0, LEARN)
        chance = random.Random(5)
        moment = LEARN
        while moment < LEARN + 3 * HOUR:
            rtts = tuple(FLOOR_S + 0.025 + chance.expovariate(1 / 0.001) for _ in range(3))
            await room.feed(result(LINE, moment, Reading(None, "", 0.2, rtts_s=rtts)))
            moment += EVERY
        seconds = await room.seconds(LINE, LEARN, LEARN + 3 * HOUR)

        assert room.state(LINE) is State.UP
    assert "congested" not in seconds


@pytest.mark.timeout(60)
async def test_congestion_goes_on_over_a_restart_and_an_outage_within_it_is_an_outage(tmp_path: Path) -> None:
    async with living(site(), tmp_path) as room:
        await live(room, 0, LEARN)
        await live(room, LEARN, LEARN + HOUR, queue_s=0.030)
    again = LEARN + HOUR + 60
    async with living(site(), tmp_path, now=again) as room:
        await live(room, again, again + 600, queue_s=0.030)
        after_restart = room.state(LINE)
        for number in range(6):
            lost = Reading(Fault.TIMEOUT, "no reply to 3 echoes", 1.0, rtts_s=(None, None, None))
            await room.feed(result(LINE, again + 600 + number * EVERY, lost))
        down = room.state(LINE)
        await live(room, again + 800, again + 1400, queue_s=0.030)
        after_outage = room.state(LINE)
        seconds = await room.seconds(LINE, LEARN, again + 1400)

    assert (after_restart, down, after_outage) == (State.CONGESTED, State.DOWN, State.CONGESTED)
    assert seconds["down"] == pytest.approx(200, abs=40)
    assert sum(seconds.values()) == pytest.approx(again + 1400 - LEARN)


@pytest.mark.timeout(60)
async def test_congestion_keeps_its_begin_over_a_reload(tmp_path: Path) -> None:
    async with living(site(), tmp_path) as room:
        await live(room, 0, LEARN)
        await live(room, LEARN, LEARN + HOUR, queue_s=0.030)
        before = room.since(LINE)
    async with living(site(), tmp_path, now=LEARN + HOUR, reloaded=True) as room:
        await live(room, LEARN + HOUR, LEARN + HOUR + 300, queue_s=0.030)

        assert room.state(LINE) is State.CONGESTED
        assert room.since(LINE) == pytest.approx(before, abs=1) == pytest.approx(LEARN, abs=600)


def test_only_what_times_the_network_is_a_packet() -> None:
    ping = result(LINE, 0, Reading(None, "", 0.3, rtts_s=(0.01, None, 0.02)))
    silent = result(LINE, 0, Reading(Fault.TIMEOUT, "", 1.0, rtts_s=(None, None)))
    page = result(LINE, 0, Reading(None, "", 2.0, phases={"connect": 0.012, "processing": 1.9}))
    refused = result(LINE, 0, Reading(Fault.REFUSED, "", 0.1, phases={"connect": 0.012}))

    assert [rtt for _, rtt in packets(ping)] == [0.01, None, 0.02]
    assert list(packets(silent)) == []
    assert [rtt for _, rtt in packets(page)] == [0.012]
    assert list(packets(refused)) == []
