"""A loop that stood still: what failed meanwhile is our own fault and proves nothing of the target."""

from __future__ import annotations

import asyncio

import pytest

from monitor.scheduler import STALL_S
from probes.base import Fault, Measurement
from tests.monitor.builders import check
from tests.monitor.simulated import Watch, simulate, the_loop, watch


async def hang(_: object, __: Measurement) -> None:
    """A target that never answers."""
    await asyncio.sleep(60.0)


@pytest.mark.parametrize(("still_s", "fault"), [(20.0, Fault.LOCAL), (STALL_S / 2, Fault.TIMEOUT)])
def test_a_time_out_that_passed_while_the_loop_stood_still_is_our_own_fault(still_s: float, fault: Fault) -> None:
    begun = asyncio.Event()

    async def begin_and_hang(_: object, m: Measurement) -> None:
        begun.set()
        await hang(_, m)

    target = check("mail.smtp", every_s=30.0, run=begin_and_hang, timeout_s=2.0)

    async def during(_: Watch) -> None:
        await begun.wait()
        the_loop().stand_still(still_s)
        await asyncio.sleep(3.0)

    first = simulate(watch([target], during)).results[0].reading

    assert first.fault is fault
    assert ("stood still for 19" in first.detail or "stood still for 20" in first.detail) == (fault is Fault.LOCAL)


def test_a_time_out_long_after_the_loop_stood_still_is_the_targets_own() -> None:
    target = check("mail.smtp", every_s=10.0, run=hang, timeout_s=2.0)

    async def during(_: Watch) -> None:
        await asyncio.sleep(5.0)
        the_loop().stand_still(20.0)
        await asyncio.sleep(30.0)

    seen = simulate(watch([target], during))

    assert seen.results[-1].reading.fault is Fault.TIMEOUT
