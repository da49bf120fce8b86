"""The fast tier of a peak: suspected early, told once, confirmed by the ordinary rule alone, and never in its way."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from config.plan import OutagePolicy, Plan, RatePeriod, Window
from monitor.model import Result, State
from probes.base import Reading
from tests.monitor.builders import MAIL, bad, check, plan, result, service, span
from tests.monitor.room import Room, living

LINE = "line.ping"
HOUR = 3600.0
LEARN = 7 * HOUR
PEAK = span(LEARN, LEARN + 2 * HOUR)
FLOOR_S = 0.012


def site(*peaks: Window, every_s: float = 30.0) -> Plan:
    rates = [RatePeriod(w, 10.0) for w in peaks]
    ping = check(LINE, every_s=every_s, policy=OutagePolicy(bad_rounds=2), rates=rates)
    return plan(service("line", replace(ping, peaks=peaks)), mail=MAIL)


def echoes(seconds: float, queue_s: float, chance: random.Random) -> Result:
    rtts = tuple(FLOOR_S + chance.expovariate(1000) + queue_s * chance.uniform(0.8, 1.6) for _ in range(3))
    return result(LINE, seconds, Reading(None, "", 0.2, rtts_s=rtts))


async def live(room: Room, start: float, end: float, queue_s: float = 0.0, every_s: float = 10.0) -> None:
    chance = random.Random(start)
    moment = start
    while moment < end:
        await room.feed(echoes(moment, queue_s, chance))
        moment += every_s


async def learn(room: Room) -> None:
    await live(room, 0, LEARN, every_s=30.0)


@pytest.mark.timeout(60)
async def test_in_a_peak_a_queue_is_suspected_within_minutes_and_then_confirmed_by_the_ordinary_rule(
    tmp_path: Path,
) -> None:
    async with living(site(PEAK), tmp_path) as room:
        await learn(room)
        await live(room, LEARN, LEARN + 600)
        queue_began = LEARN + 600
        await live(room, queue_began, queue_began + 420, queue_s=0.014)
        early = room.state(LINE), room.check(LINE).congestion_suspected, await room.told()
        await live(room, queue_began + 420, queue_began + 1500, queue_s=0.014)
        late = room.state(LINE), room.check(LINE).congestion_suspected, await room.told()
        items = await room.outbox()
        await live(room, queue_began + 1500, queue_began + 1500 + 2 * HOUR)
        told = await room.told()

    assert early == (State.UP, True, [("suspected", "suspicion")])
    assert late == (State.CONGESTED, False, [("suspected", "suspicion"), ("opened", "line")])
    assert items[0].notice.members == ("Dịch vụ line",)
    assert "queue of up to" in items[0].notice.evidence[0].detail
    assert [kind for kind, _ in told] == ["suspected", "opened", "recovered"]  # confirmed: no closing word is owed


@pytest.mark.timeout(60)
async def test_a_suspicion_that_comes_to_nothing_is_taken_back_by_one_word_and_is_no_incident(tmp_path: Path) -> None:
    async with living(site(PEAK), tmp_path) as room:
        await learn(room)
        await live(room, LEARN, LEARN + 420, queue_s=0.014)
        await live(room, LEARN + 420, LEARN + HOUR)
        told, seconds = await room.told(), await room.seconds(LINE, LEARN, LEARN + HOUR)
        items, incidents = await room.outbox(), await room.incidents()

    assert told == [("suspected", "suspicion"), ("unconfirmed", "suspicion")]
    assert items[1].thread_id == items[0].thread_id
    assert items[1].notice.still == ("Dịch vụ line",)
    assert set(seconds) <= {"up", "unknown"}
    assert seconds["up"] == pytest.approx(HOUR, abs=15)
    assert not incidents


@pytest.mark.timeout(60)
async def test_of_a_line_that_goes_down_nobody_hears_that_its_queue_came_to_nothing(tmp_path: Path) -> None:
    async with living(site(PEAK), tmp_path) as room:
        await learn(room)
        end = LEARN + 420
        await live(room, LEARN, end, queue_s=0.014)
        for number in range(6):
            await room.feed(bad(LINE, end + 5.0 * number, attempt=number))
        await room.wait(end + 60)
        assert await room.told() == [("suspected", "suspicion"), ("opened", "line")]
        await live(room, end + 100, end + HOUR)
        told = await room.told()

    assert told == [("suspected", "suspicion"), ("opened", "line"), ("recovered", "line")]


@pytest.mark.timeout(60)
async def test_outside_a_peak_nobody_is_told_of_a_suspicion(tmp_path: Path) -> None:
    async with living(site(span(-HOUR, 0)), tmp_path) as room:
        await learn(room)
        await live(room, LEARN, LEARN + 420, queue_s=0.014)
        await live(room, LEARN + 420, LEARN + HOUR)

        assert room.pipeline.tracks[LINE].queue.fast is None
        assert await room.told() == []


@pytest.mark.timeout(60)
async def test_a_restart_in_a_peak_forgets_neither_the_floor_nor_what_was_told(tmp_path: Path) -> None:
    began = LEARN + 300
    async with living(site(PEAK), tmp_path) as room:
        await learn(room)
        await live(room, LEARN, began)
        await live(room, began, began + 520, queue_s=0.014)
        before = room.pipeline.tracks[LINE].queue
        floor_s, fast = before.judge.floor_s, before.fast
        assert fast is not None
        assert await room.told() == [("suspected", "suspicion")]
    async with living(site(PEAK), tmp_path, now=began + 525) as room:
        after = room.pipeline.tracks[LINE].queue
        assert after.judge.floor_s == floor_s
        assert after.fast is not None
        assert after.suspicion is not None
        await room.wait(began + 526)  # reviewed before anything was measured again
        assert await room.told() == [("suspected", "suspicion")]
        await live(room, began + 530, began + 600, queue_s=0.014)
        await live(room, began + 600, began + HOUR)
        told = await room.told()

    assert told == [("suspected", "suspicion"), ("unconfirmed", "suspicion")]


@pytest.mark.timeout(60)
async def test_the_edges_of_a_peak_leave_the_learned_floor_as_it_would_be_without_one(tmp_path: Path) -> None:
    floors = []
    for name, peaks in (("with", (PEAK,)), ("without", ())):
        async with living(site(*peaks), tmp_path / name) as room:
            await learn(room)
            await live(room, LEARN, LEARN + 900, queue_s=0.014)
            await live(room, LEARN + 900, LEARN + 3 * HOUR, every_s=30.0)
            queue = room.pipeline.tracks[LINE].queue
            floors.append(queue.judge.state())
            assert queue.fast is None

    assert floors[0] == floors[1]


@pytest.mark.timeout(60)
async def test_a_check_with_too_few_packets_is_not_judged_by_short_windows(tmp_path: Path) -> None:
    peaks = (PEAK,)
    ping = replace(check(LINE, every_s=120.0, policy=OutagePolicy(bad_rounds=2)), peaks=peaks)
    async with living(plan(service("line", ping), mail=MAIL), tmp_path) as room:
        await live(room, 0, LEARN + 600, every_s=120.0)

        assert room.pipeline.tracks[LINE].queue.fast is None
