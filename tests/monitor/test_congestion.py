"""The judge of congestion, on made-up paths of which the truth is known."""

from __future__ import annotations

import json
import random
import sys
import time
from itertools import pairwise

import pytest

from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT, Cause, Severity, Word
from monitor.judge.floor import Floor
from monitor.judge.limit import Packet, Quiet, detection_limit, found_share
from monitor.judge.loss import wilson
from tests.monitor.rtts import HOUR, T0, lay, losing, path, queue, shift, silent, watch


def test_a_quiet_week_is_quiet() -> None:
    seen = watch(path(7 * 24, every_s=30))
    assert seen.episodes == []
    assert seen.judge.floor_s == pytest.approx(0.008, abs=0.0003)
    assert seen.judge.threshold_s == 0.007


def test_nothing_is_said_while_learning() -> None:
    seen = watch(lay(path(5), 3, 60, queue(40)))
    assert seen.judge.learning
    assert seen.said == []
    assert seen.judge.standing() is None


@pytest.mark.parametrize("offset_min", [0, 1.7, 3.3, 4.9])
def test_a_queue_of_9_ms_for_15_minutes_is_found_wherever_it_begins(offset_min: float) -> None:
    seen = watch(lay(path(12), 9 + offset_min / 60, 15, queue(9)))
    (found,) = seen.episodes
    assert found.cause is Cause.CONGESTION
    assert found.severity is Severity.LIGHT
    assert found.start == pytest.approx(T0 + 9 * HOUR + offset_min * 60, abs=30)
    assert found.end == pytest.approx(found.start + 900, abs=60)
    assert found.alarm_at <= T0 + 9 * HOUR + (offset_min + 16) * 60


@pytest.mark.parametrize(("ms", "minutes"), [(4, 60), (5, 30), (9, 9), (30, 2)])
def test_a_queue_below_the_limit_is_not_called(ms: float, minutes: float) -> None:
    assert watch(lay(path(12), 9, minutes, queue(ms))).episodes == []


def test_a_large_queue_is_confirmed_after_one_bin() -> None:
    seen = watch(lay(path(12), 9, 40, queue(60)))
    (found,) = seen.episodes
    assert found.alarm_at - (T0 + 9 * HOUR) <= 301
    assert found.suspected_at <= found.alarm_at
    assert found.severity is Severity.SEVERE
    assert 0.048 <= found.peak_s <= 0.060


def test_small_queues_are_suspected_before_they_are_confirmed() -> None:
    seen = watch(lay(path(12), 9, 25, queue(10)))
    words = [(s.word, round((s.at - T0 - 9 * HOUR) / 60)) for s in seen.said]
    assert words[0] == (Word.SUSPECTED, 5)
    assert words[1] == (Word.OPENED, 15)


def test_a_suspicion_that_comes_to_nothing_is_cleared() -> None:
    seen = watch(lay(path(12), 9, 6, queue(12)))
    assert [s.word for s in seen.said] == [Word.SUSPECTED, Word.CLEARED]
    assert seen.judge.suspected_at is None


def test_the_pauses_of_a_queue_are_one_episode() -> None:
    packets = lay(lay(path(14), 9, 40, queue(25)), 10.2, 40, queue(25))
    assert [(c, a) for c, a, _ in watch(packets).spans] == [("congestion", 540)]


def test_two_queues_hours_apart_are_two_episodes() -> None:
    packets = lay(lay(path(16), 8, 40, queue(25)), 12, 40, queue(25))
    assert [(c, a) for c, a, _ in watch(packets).spans] == [("congestion", 480), ("congestion", 720)]


def test_a_longer_route_is_not_a_queue() -> None:
    seen = watch(lay(path(16), 9, 7 * 60, shift(20)))
    (found,) = seen.episodes
    assert found.cause is Cause.ROUTE_CHANGE
    assert found.peak_s == pytest.approx(0.020, abs=0.001)
    assert found.end - found.start == pytest.approx(HOUR, abs=301)
    assert seen.judge.floor_s == pytest.approx(0.028, abs=0.001)


def test_a_queue_on_the_new_route_is_found_above_its_floor() -> None:
    packets = lay(lay(path(18), 9, 9 * 60, shift(20)), 14, 30, queue(15))
    assert [c for c, _, _ in watch(packets).spans] == ["route-change", "congestion"]


def test_a_shorter_route_is_a_route_change_too_and_its_floor_is_taken() -> None:
    seen = watch(lay(path(16, floor_ms=30), 9, 7 * 60, shift(-12)))
    (found,) = seen.episodes
    assert found.cause is Cause.ROUTE_CHANGE
    assert found.peak_s == pytest.approx(-0.012, abs=0.001)
    assert seen.judge.floor_s == pytest.approx(0.018, abs=0.001)


def test_a_full_buffer_is_flat_but_loses_packets_and_is_no_route() -> None:
    full = lay(lay(path(14), 9, 180, shift(150)), 9, 180, losing(0.08))
    (found,) = watch(full).episodes
    assert found.cause is Cause.CONGESTION
    assert found.severity is Severity.SEVERE
    assert 0.05 < found.loss < 0.11


def test_a_floor_learned_in_congestion_is_corrected_without_an_event() -> None:
    packets = lay(path(16), 0, 8 * 60, queue(40))
    seen = watch(packets)
    assert seen.judge.floor_s == pytest.approx(0.008, abs=0.001)
    assert [e for e in seen.episodes if e.cause is not Cause.CONGESTION] == []


def test_a_queue_of_two_days_does_not_become_the_floor() -> None:
    packets = lay(path(60, every_s=30), 9, 40 * 60, queue(40))
    seen = watch(packets)
    assert {e.cause for e in seen.episodes} == {Cause.CONGESTION}
    assert seen.judge.floor_s == pytest.approx(0.008, abs=0.001)
    assert sum(e.end - e.start for e in seen.episodes) >= 39 * HOUR


def test_a_queue_that_the_reference_has_too_is_on_our_side() -> None:
    near = lay(path(12, floor_ms=1, seed=2), 9, 40, queue(20))
    (found,) = watch(lay(path(12), 9, 40, queue(20)), near).episodes
    assert found.cause is Cause.NEAR_SIDE


def test_a_queue_that_the_reference_has_little_of_is_not_on_our_side() -> None:
    near = lay(path(12, floor_ms=1, seed=2), 9, 40, queue(4))
    (found,) = watch(lay(path(12), 9, 40, queue(20)), near).episodes
    assert found.cause is Cause.CONGESTION


def test_loss_alone_is_congestion_when_it_is_proved() -> None:
    seen = watch(lay(path(14), 9, 60, losing(0.08)))
    (found,) = seen.episodes
    assert found.by_loss
    assert found.cause is Cause.CONGESTION
    assert 0.05 < found.loss < 0.12
    assert found.end == pytest.approx(T0 + 10 * HOUR, abs=1200)


def test_one_percent_of_loss_is_not() -> None:
    assert watch(lay(path(7 * 24), 0, 7 * 24 * 60, losing(0.01))).episodes == []


def test_an_outage_is_not_loss_of_a_queue() -> None:
    seen = watch(lay(path(12), 9, 4, silent))
    assert seen.episodes == []
    assert watch(lay(path(12), 9, 120, silent)).judge.unknown_s == pytest.approx(7200, abs=600)


def test_a_hole_in_the_record_is_not_observed_and_proves_no_queue() -> None:
    slow = lay(path(14), 9, 6, queue(12))
    slow = lay(slow, 9.6, 6, queue(12))
    holed = [p for p in slow if not T0 + 9.1 * HOUR <= p.at < T0 + 9.6 * HOUR]
    seen = watch(holed)
    assert seen.episodes == []
    assert seen.judge.unknown_s == pytest.approx(1800, abs=600)


def test_a_thinly_probed_path_is_judged_too() -> None:
    packets = lay(path(48, every_s=240), 20, 90, queue(25))
    (found,) = watch(packets).episodes
    assert found.start == pytest.approx(T0 + 20 * HOUR, abs=300)


def test_a_noisy_path_needs_a_larger_queue() -> None:
    dice = random.Random(3)
    rough = [Packet(p.at, p.rtt_s + abs(dice.gauss(0, 0.002)) if p.rtt_s else None) for p in path(30)]
    wave = {p.at // 300: abs(dice.gauss(0, 0.006)) for p in rough}
    rough = [Packet(p.at, p.rtt_s + wave[p.at // 300] if p.rtt_s else None) for p in rough]
    seen = watch(rough)
    assert seen.judge.threshold_s > 0.015
    assert seen.episodes == []
    (found,) = watch(lay(rough, 20, 40, queue(90))).episodes
    assert found.cause is Cause.CONGESTION


@pytest.mark.parametrize("restart_min", [1, 400, 541, 548, 556, 600, 640])
def test_a_restart_forgets_nothing(restart_min: float) -> None:
    packets = lay(path(12), 9, 40, queue(14))
    whole = watch(packets)
    cut = T0 + restart_min * 60 + 3
    first = watch([p for p in packets if p.at < cut], finish=False)
    kept = json.loads(json.dumps(first.judge.state(), allow_nan=False))
    second = watch([p for p in packets if p.at >= cut], judge=Judge.from_state(kept))
    assert second.judge.state() == whole.judge.state()
    assert [s.word for s in first.said + second.said] == [s.word for s in whole.said]


def test_nothing_is_known_before_its_time() -> None:
    packets = lay(lay(path(14), 9, 40, queue(14)), 11, 100, shift(30))
    whole = watch(packets).said
    for saying in whole:
        early = watch([p for p in packets if p.at <= saying.at]).said
        assert [(s.word, s.at) for s in early[: whole.index(saying) + 1]] == [
            (s.word, s.at) for s in whole[: whole.index(saying) + 1]
        ]


def test_what_is_said_comes_in_order_and_in_pairs() -> None:
    packets = lay(lay(path(20), 9, 40, queue(14)), 13, 30, queue(50))
    said = [s for s in watch(packets).said if s.word in (Word.OPENED, Word.CLOSED)]
    assert all(a.at <= b.at and a.word is not b.word for a, b in pairwise(said))


def test_a_world_sixty_times_faster_is_judged_the_same() -> None:
    slow = lay(path(12), 9, 40, queue(14))
    fast = [Packet(T0 + (p.at - T0) / 60, p.rtt_s) for p in slow]
    base = T0 // 60 * 60
    fast = [Packet(p.at - T0 + base, p.rtt_s) for p in fast]
    (found,) = watch(fast, settings=DEFAULT.scaled(60)).episodes
    assert found.end - found.start == pytest.approx(40, abs=6)


def test_the_fast_tier_of_a_peak_opens_sooner() -> None:
    packets = lay(path(12, every_s=2), 9, 20, queue(16))
    usual, fast = watch(packets).episodes, watch(packets, settings=DEFAULT.peak()).episodes
    assert fast[0].alarm_at < usual[0].alarm_at
    assert fast[0].alarm_at - (T0 + 9 * HOUR) <= 330


def test_the_detection_limit_of_a_quiet_path_is_9_ms_for_15_minutes() -> None:
    packets = path(12)
    seen = watch([p for p in packets if p.at < T0 + 9 * HOUR])
    stretch = Quiet(seen.judge.state(), [p for p in packets if p.at >= T0 + 9 * HOUR])
    limit = detection_limit([stretch] * 24, seen.judge.threshold_s)
    assert limit is not None
    assert limit.minutes == 15
    assert 0.008 <= limit.queue_s <= 0.010
    assert found_share([stretch] * 24, 0.005, 60) <= 0.1
    assert detection_limit([], 0.007) is None


def test_the_floor_is_a_low_hour_not_the_lowest() -> None:
    floor = Floor()
    for hour in range(40):
        floor.see(T0 + hour * HOUR, 0.005 if hour == 20 else 0.010)
    assert floor.level_s == 0.010


def test_loss_bounds_hold_the_share_and_narrow_with_packets() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for sent in (10, 100, 10_000):
        low, high = wilson(sent // 10, sent)
        assert low < 0.1 < high
    assert wilson(0, 600)[1] < 0.0065


def test_it_costs_little() -> None:
    packets = path(24)  # 30 packets a bin
    judge = Judge()
    began = time.process_time()
    for packet in packets:
        judge.advance(packet.at // 300 * 300)
        judge.add(packet.at, packet.rtt_s)
        judge.advance(packet.at)
    each = (time.process_time() - began) / (24 * 12)
    assert each < 300e-6  # ten times what is measured: this machine may be busy
    assert len(json.dumps(judge.state())) < 10_000
    assert sys.getsizeof(judge) < 500
