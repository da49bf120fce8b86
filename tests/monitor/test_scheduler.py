"""The pacer: slots where they belong, one run at a time, and a ledger in which every slot has one end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.plan import RatePeriod, Target
from monitor.board import Board
from monitor.model import Result, SlotEnd
from monitor.scheduler import FIRST_LOOK_S, LATE_S, TICK_S, Scheduler, next_slot, phase
from probes.base import Measurement, Run, Tools
from tests.monitor import builders
from tests.monitor.builders import T0, check, span
from tests.monitor.simulated import BEGIN_S, SimulatedLoop, Watch, simulate, the_loop, watch, watch_for

JUST = TICK_S  # a slot may be begun this much early or late


def takes(seconds: float) -> Run:
    """A probe that takes so long."""

    async def run(_: object, __: Measurement) -> None:
        await asyncio.sleep(seconds)

    return run


def slot_times(target: Target, begin: float, end: float) -> list[float]:
    """Slots strictly between two moments, by the plain formula."""
    start = phase(target.id, target.every_s)
    first = int((begin - start) // target.every_s) - 1
    times = [start + k * target.every_s for k in range(first, first + int((end - begin) / target.every_s) + 4)]
    return [t for t in times if begin < t <= end]


def loop_time(result: Result) -> float:
    return BEGIN_S + (result.slot - T0).total_seconds()


def started(result: Result) -> float:
    return BEGIN_S + (result.started_at - T0).total_seconds()


def planned(seen: Watch, target: Target) -> int:
    return len(slot_times(target, seen.began, seen.ended))


# Where slots lie.


def test_a_check_runs_at_its_slots_without_drift_for_a_day() -> None:
    target = check("mail.smtp", every_s=30.0, run=takes(0.7))

    seen = watch_for([target], 86_400)

    expected = slot_times(target, seen.began, seen.ended)
    slots = seen.of("mail.smtp")
    assert len(slots) in (len(expected), len(expected) - 1)  # the last may be under way
    assert all(abs(loop_time(r) - want) < 1e-3 for r, want in zip(slots, expected, strict=False))
    assert all(abs(started(r) - loop_time(r)) <= JUST for r in slots)
    assert seen.ends("mail.smtp")[SlotEnd.SKIPPED] == 0


def test_a_new_daemon_looks_at_every_check_within_seconds() -> None:
    targets = [check(f"portal.page{n}", every_s=3600.0, run=takes(0.1)) for n in range(50)]

    seen = watch_for(targets, FIRST_LOOK_S + 2.5)

    assert {r.check for r in seen.results} == {t.id for t in targets}
    first = sorted(started(r) - BEGIN_S for r in seen.results)
    assert max(b - a for a, b in pairwise(first)) < 1.5  # not all at once


# One run of a check at a time.


def busy(running: Counter[str], most: Counter[str], name: str, how_long: Callable[[], float]) -> Run:
    async def run(_: object, __: Measurement) -> None:
        running[name] += 1
        running["all"] += 1
        for key in (name, "all"):
            most[key] = max(most[key], running[key])
        try:
            await asyncio.sleep(how_long())
        finally:
            running[name] -= 1
            running["all"] -= 1

    return run


def test_a_slow_probe_makes_its_next_slot_late_up_to_half_an_interval() -> None:
    target = check("mail.smtp", every_s=10.0, timeout_s=20.0, run=takes(13.0))

    seen = watch_for([target], 600)

    lateness = [r.lateness_s for r in seen.of("mail.smtp")]
    assert max(lateness) == pytest.approx(3.0 + 3.0 * (len({round(x) for x in lateness}) - 2), abs=0.1)
    assert max(lateness) <= 5.0
    assert seen.ends("mail.smtp")[SlotEnd.LATE] == sum(x > LATE_S for x in lateness)
    assert sum(seen.ends("mail.smtp").values()) == planned(seen, target)


def test_a_slot_that_would_be_later_than_half_an_interval_is_skipped() -> None:
    target = check("mail.smtp", every_s=10.0, timeout_s=60.0, run=takes(17.0))

    seen = watch_for([target], 600)

    ends = seen.ends("mail.smtp")
    assert ends[SlotEnd.SKIPPED] == pytest.approx(planned(seen, target) / 2, abs=1)
    assert ends[SlotEnd.LATE] == 0
    assert sum(ends.values()) == planned(seen, target)


def test_a_probe_as_long_as_its_time_out_never_runs_twice_at_once() -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    target = check("mail.smtp", every_s=10.0, timeout_s=10.0, run=busy(running, most, "mail.smtp", lambda: 99.0))

    async def during(seen: Watch) -> None:
        for _ in range(300):
            await asyncio.sleep(1.0)
            seen.scheduler.request("mail.smtp", 0.0)

    seen = simulate(watch([target], during))

    assert most["mail.smtp"] == 1
    assert sum(seen.ends("mail.smtp").values()) == planned(seen, target)
    assert {r.reading.fault for r in seen.results} == {"timeout"}


def test_the_cap_is_kept_and_what_finds_no_place_is_counted_as_skipped() -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    names = [f"portal.page{n}" for n in range(30)]
    targets = [check(n, every_s=10.0, timeout_s=30.0, run=busy(running, most, n, lambda: 4.0)) for n in names]

    seen = watch_for(targets, 300, concurrency=3)

    assert most["all"] == 3
    assert seen.board.running == 0
    ends = {t.id: seen.ends(t.id) for t in targets}
    assert all(sum(e.values()) == planned(seen, t) for t, e in zip(targets, ends.values(), strict=True))
    skipped = sum(e[SlotEnd.SKIPPED] for e in ends.values())
    done = sum(e[SlotEnd.DONE] + e[SlotEnd.LATE] for e in ends.values())
    assert done == pytest.approx(300 / 4 * 3, rel=0.1)
    assert skipped > 600
    runs = [e[SlotEnd.DONE] + e[SlotEnd.LATE] for e in ends.values()]
    assert max(runs) - min(runs) <= 2  # nobody starves
    assert all(r.lateness_s <= 10.0 + JUST for r in seen.results)  # an older slot than that is not run any more


def test_a_full_queue_makes_probes_wait_and_slots_skip_without_piling_up() -> None:
    targets = [check(f"portal.page{n}", every_s=10.0, run=takes(0.1)) for n in range(20)]

    async def during(seen: Watch) -> None:
        await asyncio.sleep(60)
        seen.hold()
        await asyncio.sleep(600)
        before = seen.board.running
        seen.take()
        await asyncio.sleep(5)
        late = len(seen.results)
        await asyncio.sleep(60)
        assert before == 12  # eight results lie in the queue, the others wait with theirs
        assert late - len(targets) * 6 <= len(targets) * 3

    seen = simulate(watch(targets, during, concurrency=12, queue_size=8))

    for target in targets:
        ends = seen.ends(target.id)
        assert sum(ends.values()) == planned(seen, target)
        assert 58 <= ends[SlotEnd.SKIPPED] <= 61
        assert ends[SlotEnd.LOST] <= 1


# Time in which nothing could be done.


def test_slots_that_pass_while_the_loop_stands_still_are_lost_and_the_newest_still_runs() -> None:
    target = check("mail.smtp", every_s=10.0, run=takes(0.1))

    async def during(_: Watch) -> None:
        await asyncio.sleep(100)
        the_loop().stand_still(64.0)
        await asyncio.sleep(100)

    seen = simulate(watch([target], during))

    ends = seen.ends("mail.smtp")
    assert ends[SlotEnd.LOST] in (5, 6)
    assert sum(ends.values()) == planned(seen, target)
    assert seen.board.checks["mail.smtp"].slots == ends
    slots = [loop_time(r) for r in seen.of("mail.smtp")]
    assert len(set(slots)) == len(slots)


def test_a_loop_that_was_blocked_shows_in_the_lateness() -> None:
    target = check("mail.smtp", every_s=10.0, run=takes(0.1))

    async def during(_: Watch) -> None:
        slot = next_slot("mail.smtp", 10.0, the_loop().time() + 20)
        await asyncio.sleep(slot - the_loop().time() - 0.2)
        the_loop().stand_still(2.2)
        await asyncio.sleep(30)

    seen = simulate(watch([target], during))

    late = [r for r in seen.of("mail.smtp") if r.lateness_s > LATE_S]
    assert [round(r.lateness_s, 2) for r in late] == [2.0]
    assert seen.ends("mail.smtp")[SlotEnd.LATE] == 1
    assert started(late[0]) - loop_time(late[0]) == pytest.approx(2.0, abs=1e-3)


def test_a_stop_cancels_what_runs_and_counts_it_and_what_waits_as_lost() -> None:
    cancelled: list[str] = []

    async def hang(_: object, __: Measurement) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("x")
            raise

    targets = [check(f"portal.page{n}", every_s=10.0, timeout_s=7200.0, run=hang) for n in range(4)]

    seen = watch_for(targets, 25.0, concurrency=2)

    assert len(cancelled) == 2
    assert seen.results == []
    assert seen.board.running == 0
    for target in targets:
        ends = seen.ends(target.id)
        assert ends[SlotEnd.LOST] >= 1
        assert sum(ends.values()) == planned(seen, target)


def test_a_stop_at_the_very_moment_of_a_start_loses_no_slot_from_the_ledger() -> None:
    target = check("mail.smtp", every_s=10.0, run=takes(0.0))
    slot = slot_times(target, BEGIN_S, BEGIN_S + 40)[2]

    for offset in (-0.02, -0.006, -0.005, -0.004, 0.0, 0.004, 0.005, 0.006, 0.02):
        seen = watch_for([target], slot + offset - BEGIN_S)

        assert sum(seen.ends("mail.smtp").values()) in (2, 3), offset
        assert sum(seen.ends("mail.smtp").values()) >= planned(seen, target), offset


async def test_a_probe_cancelled_before_its_first_step_is_in_the_ledger_as_lost() -> None:
    target = check("mail.smtp", every_s=0.02, timeout_s=1.0, run=takes(0.01))
    board = Board(builders.plan(builders.service("mail", target)), T0)
    scheduler = Scheduler([target], asyncio.Queue(), board, Tools())
    begun = asyncio.get_running_loop().time()
    pacer = asyncio.create_task(scheduler.run())
    slots = 0
    for _ in range(100):
        await asyncio.sleep(0)
        slots = sum(board.checks["mail.smtp"].slots.values())
        if board.running:
            break
        await asyncio.sleep(0.001)
    pacer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pacer

    assert asyncio.get_running_loop().time() - begun < 1.0
    ends = board.checks["mail.smtp"].slots
    assert ends[SlotEnd.LOST] >= 1
    assert sum(ends.values()) >= slots + 1


# Fast runs.


def test_a_recheck_comes_when_asked_for_and_counts_its_attempts() -> None:
    target = check("mail.smtp", every_s=60.0, run=takes(0.1))

    async def during(seen: Watch) -> None:
        await asyncio.sleep(next_slot("mail.smtp", 60.0, the_loop().time()) - the_loop().time() + 1.0)
        for _ in range(3):
            seen.scheduler.request("mail.smtp", 5.0)
            await asyncio.sleep(6.0)
        await asyncio.sleep(60.0)

    seen = simulate(watch([target], during))

    after = [r for r in seen.results if r.attempt == 0 or started(r) > loop_time(seen.of("mail.smtp")[0])]
    assert [r.attempt for r in after][:5] == [0, 1, 2, 3, 0]
    fast = after[1:4]
    assert [round(started(b) - started(a)) for a, b in pairwise(fast)] == [6, 6]
    assert all(abs(r.lateness_s) <= JUST for r in fast)
    assert sum(seen.ends("mail.smtp").values()) == planned(seen, target)  # fast runs are in no ledger


def test_requests_merge_with_an_earlier_one_and_with_a_slot_that_is_due_by_then() -> None:
    target = check("mail.smtp", every_s=60.0, run=takes(0.1))

    async def during(seen: Watch) -> None:
        await asyncio.sleep(next_slot("mail.smtp", 60.0, the_loop().time()) - the_loop().time() + 1.0)
        count = len(seen.results)
        for delay in (5.0, 6.0, 7.0):
            seen.scheduler.request("mail.smtp", delay)
        await asyncio.sleep(20.0)
        assert len(seen.results) == count + 1
        seen.scheduler.request("mail.smtp", 9.0)
        seen.scheduler.request("mail.smtp", 3.0)  # an earlier one takes its place
        await asyncio.sleep(15.0)
        assert len(seen.results) == count + 2
        slot = next_slot("mail.smtp", 60.0, the_loop().time())
        seen.scheduler.request("mail.smtp", slot - the_loop().time() + 1.0)
        await asyncio.sleep(slot - the_loop().time() + 10.0)
        assert len(seen.results) == count + 3
        assert seen.results[-1].attempt == 0

    simulate(watch([target], during))


def test_a_recheck_during_a_run_begins_after_it_for_that_run_proves_nothing() -> None:
    target = check("references.gw", every_s=60.0, run=takes(3.0))

    async def during(seen: Watch) -> None:
        await asyncio.sleep(next_slot("references.gw", 60.0, the_loop().time()) - the_loop().time() + 1.0)
        asked = the_loop().wall()
        seen.scheduler.request("references.gw", 0.0)
        seen.scheduler.request("references.gw", 0.0)
        await asyncio.sleep(10.0)
        assert [r.started_at > asked for r in seen.results[-2:]] == [False, True]
        assert [r.attempt for r in seen.results[-2:]] == [0, 1]

    simulate(watch([target], during))


def test_a_request_for_a_check_that_is_not_there_is_no_error() -> None:
    async def during(seen: Watch) -> None:
        seen.scheduler.request("nobody.knows", 0.0)
        await asyncio.sleep(1.0)

    assert simulate(watch([check("mail.smtp", run=takes(0.1))], during)).ended > BEGIN_S


# Peaks.


def test_the_interval_changes_exactly_at_both_edges_of_a_peak() -> None:
    peak = RatePeriod(span(600, 1200), 5.0)
    target = check("carrier.ping", every_s=60.0, run=takes(0.1), rates=[peak])

    seen = watch_for([target], 1800)

    slots = [loop_time(r) - BEGIN_S for r in seen.of("carrier.ping")]
    own = phase("carrier.ping", 60.0)
    fast = phase("carrier.ping", 5.0)
    for slot in slots:
        inside = 600 - JUST <= slot < 1200
        offset = (slot + BEGIN_S - (fast if inside else own)) % (5.0 if inside else 60.0)
        assert min(offset, (5.0 if inside else 60.0) - offset) < 1e-3, slot
    within = [s for s in slots if 600 - JUST <= s < 1200]
    assert len(within) == 120
    assert within[0] - 600 < 5.0 + JUST
    assert 1200 - within[-1] <= 5.0 + JUST
    assert len([s for s in slots if s < 600 - JUST]) == 10
    assert len([s for s in slots if s >= 1200]) == 10
    assert sum(seen.ends("carrier.ping").values()) - len(slots) in (0, 1)


def test_peaks_that_touch_and_a_peak_shorter_than_the_interval_are_honoured() -> None:
    rates = [RatePeriod(span(100, 110), 2.0), RatePeriod(span(110, 120), 1.0)]
    target = check("carrier.ping", every_s=3600.0, run=takes(0.1), rates=rates)

    seen = watch_for([target], 300)

    slots = [loop_time(r) - BEGIN_S for r in seen.of("carrier.ping")]
    assert len([s for s in slots if 100 - JUST <= s < 110 - JUST]) == 5
    assert len([s for s in slots if 110 - JUST <= s < 120 - JUST]) == 10
    assert len(slots) <= 16


def test_slots_lost_over_the_edge_of_a_peak_are_counted_at_the_interval_of_each_side() -> None:
    target = check("carrier.ping", every_s=20.0, run=takes(0.1), rates=[RatePeriod(span(200, 300), 2.0)])

    async def during(_: Watch) -> None:
        await asyncio.sleep(100)
        the_loop().stand_still(150)
        await asyncio.sleep(200)

    seen = simulate(watch([target], during))

    ends = seen.ends("carrier.ping")
    assert 5 + 24 <= ends[SlotEnd.LOST] <= 5 + 26
    assert sum(ends.values()) == pytest.approx(200 / 20 + 100 / 2 + 150 / 20, abs=2)


# The ledger adds up, whatever happens.


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), concurrency=st.integers(1, 12), queue_size=st.integers(1, 20))
def test_every_planned_slot_has_exactly_one_end(seed: int, concurrency: int, queue_size: int) -> None:
    chance = random.Random(seed)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    targets = []
    for n in range(8):
        every = chance.choice([1.0, 2.0, 5.0, 10.0, 30.0])
        run = busy(running, most, f"portal.page{n}", lambda: chance.choice([0.0, 0.01, 0.5, 3.0, 12.0]))
        targets.append(check(f"portal.page{n}", every_s=every, timeout_s=every, run=run))

    async def during(seen: Watch) -> None:
        for _ in range(20):
            match chance.randrange(4):
                case 0:
                    the_loop().stand_still(chance.uniform(0, 15))
                case 1:
                    seen.scheduler.request(chance.choice(targets).id, chance.uniform(0, 10))
                case 2 if seen.taking is not None:
                    seen.hold()
                case 2:
                    seen.take()
                case _:
                    seen.counts += seen.scheduler.take_counts()
            await asyncio.sleep(chance.uniform(0, 10))

    seen = simulate(watch(targets, during, concurrency=concurrency, queue_size=queue_size))

    assert most["all"] <= concurrency
    for target in targets:
        ends = seen.ends(target.id)
        # A slot within a tick of the begin or the end may be in or out.
        assert abs(sum(ends.values()) - planned(seen, target)) <= 1, target
        assert most[target.id] <= 1
        assert ends[SlotEnd.DONE] + ends[SlotEnd.LATE] == len(seen.of(target.id))
        assert seen.board.checks[target.id].slots == ends
        slots = [r.slot for r in seen.of(target.id)]
        assert slots == sorted(set(slots))


async def test_on_a_real_loop_short_intervals_are_kept() -> None:
    targets = [check(f"portal.page{n}", every_s=0.04, timeout_s=0.04, run=takes(0.0)) for n in range(5)]
    board = Board(builders.plan(builders.service("portal", *targets)), T0)
    results: asyncio.Queue[Result] = asyncio.Queue(1000)
    scheduler = Scheduler(targets, results, board, Tools())
    pacer = asyncio.create_task(scheduler.run())
    got: list[Result] = [await results.get() for _ in range(50)]
    pacer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pacer

    by_check: dict[str, list[Any]] = {}
    for r in got:
        by_check.setdefault(r.check, []).append(r.slot)
    assert len(by_check) == 5
    for slots in by_check.values():
        steps = [(b - a).total_seconds() / 0.04 for a, b in pairwise(slots)]
        assert all(abs(s - round(s)) < 0.2 and s > 0.5 for s in steps)


def test_the_simulated_loop_refuses_to_wait_for_nothing() -> None:
    loop = SimulatedLoop()
    try:
        with pytest.raises(RuntimeError, match="nothing will ever happen"):
            loop.run_until_complete(loop.create_future())
    finally:
        loop.close()
