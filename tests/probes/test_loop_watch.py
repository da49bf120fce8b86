from __future__ import annotations

import asyncio
import time

import pytest

from probes.base import Fault, Measurement, ProbeSettings, ProbeType, Reading, Tools, measure
from probes.loop_watch import LEAST_S, TICK_S, LoopWatch


def hold(seconds: float) -> None:
    """Hold the loop up, as a long computation does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def wait_a_little(_: object, __: Measurement) -> None:
    await asyncio.sleep(0.01)


WAITING = ProbeType(kind="waiting", summary="waits 10 ms", settings=ProbeSettings, run=wait_a_little)


async def reading_of(probe: ProbeType, tools: Tools) -> Reading:
    return await measure(probe, ProbeSettings(), timeout_s=1.0, tools=tools)


async def test_a_loop_held_up_during_a_run_is_told_with_its_result() -> None:
    tools = Tools()
    run = asyncio.create_task(reading_of(WAITING, tools))
    await asyncio.sleep(0)
    hold(0.04)
    reading = await run
    assert 0.04 - 2 * TICK_S < reading.late_s <= reading.duration_s
    assert not reading.trusted
    tools.close()


async def test_lateness_before_and_after_a_run_is_none_of_its_own() -> None:
    tools = Tools()
    watch = tools.of(LoopWatch)
    outer = watch.enter()
    await asyncio.sleep(TICK_S)
    hold(0.04)
    await asyncio.sleep(2 * TICK_S)
    inner = watch.enter()
    await asyncio.sleep(2 * TICK_S)
    of_inner, of_outer = watch.leave(inner), watch.leave(outer)
    assert of_inner < of_outer
    assert of_outer > 0.04 - 2 * TICK_S
    tools.close()


async def test_a_run_that_ends_in_the_very_turn_that_was_late_knows_of_it() -> None:
    watch = LoopWatch()
    began = watch.enter()
    hold(0.03)
    assert watch.leave(began) >= 0.03 - TICK_S  # no timer has been called yet
    watch.close()


async def test_a_run_feels_no_more_lateness_than_it_lasted() -> None:
    watch = LoopWatch()
    other = watch.enter()
    hold(0.03)
    began = watch.enter()
    hold(0.01)
    felt = watch.leave(began)
    assert felt <= time.monotonic() - began
    watch.leave(other)
    watch.close()


async def test_nothing_is_watched_while_nothing_runs() -> None:
    watch = LoopWatch()
    watch.leave(watch.enter())
    await asyncio.sleep(2 * TICK_S)
    assert watch._timer is None


def test_a_watch_outlives_its_loop() -> None:
    watch = LoopWatch()

    async def cut_off() -> None:
        watch.enter()

    async def whole() -> float:
        began = watch.enter()
        await asyncio.sleep(2 * TICK_S)
        hold(0.03)
        return watch.leave(began)

    asyncio.run(cut_off())
    assert asyncio.run(whole()) > 0.03 - 2 * TICK_S


@pytest.mark.parametrize(
    ("reading", "trusted"),
    [
        (Reading(None, "", 0.02), True),
        (Reading(None, "", 0.02, late_s=LEAST_S), True),
        (Reading(None, "", 0.02, late_s=0.006), False),
        (Reading(None, "", 1.0, late_s=0.006), True),
        (Reading(None, "", 1.0, late_s=0.2), False),
        (Reading(Fault.REFUSED, "", 0.02, late_s=0.01), False),
        (Reading(None, "", 1.0, rtts_s=(0.01,), late_s=0.9), True),  # stamped by the kernel
    ],
)
def test_a_time_is_trusted_when_our_own_part_of_it_is_small(reading: Reading, trusted: bool) -> None:
    assert reading.trusted is trusted
