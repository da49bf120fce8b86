"""A record through the judge: the same however it is cut, from journal or files, with its near references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path as File
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import congestion_past
from monitor.congestion_record import TRIALS_LEAST, Path, Timed, judge_packets
from monitor.history import open_history
from monitor.judge.bins import Bin
from monitor.judge.chance import ANSWERS_ROW_MOST, ANSWERS_STANDING, CHANCE, row_needed
from monitor.judge.congestion import Judge
from monitor.judge.episode import Cause
from monitor.judge.floor import DRIFT_SHARE, MAD_TO_SIGMA, NOISE_LEAST_S, QUIET_BINS, Floor
from monitor.judge.limit import Packet, detection_limit, found_share
from monitor.queues import packets as packets_of
from tests.monitor.builders import SITE, plan, reference, service, span
from tests.monitor.rtts import HOUR, T0, lay, losing, path, queue, shift, silent
from tests.monitor.sealing import hours_of, seal_hours, write

BUSY = lay(lay(lay(path(16), 9, 40, queue(20)), 12, 90, shift(25)), 14, 30, losing(0.1))


def one_by_one(packets: Sequence[Packet]) -> Judge:
    """Feed as the daemon does, packet by packet."""
    judge = Judge()
    for p in packets:
        judge.advance(math.floor(p.at / 300) * 300)
        judge.add(p.at, p.rtt_s)
        judge.advance(p.at)
    return judge


def fed(packets: Sequence[Packet], cuts: Sequence[int] = ()) -> Path:
    found = Path(hours=24)
    for start, end in pairwise([0, *sorted(cuts), len(packets)]):
        found.feed(Timed.of(packets[start:end]))
    return found


@pytest.mark.parametrize("every_s", [10.0, 30.0, 2.0, 100.0], ids=lambda s: f"every {s:g} s")
def test_what_is_taken_in_at_once_is_what_one_by_one_would_be(every_s: float) -> None:
    packets = lay(lay(path(9, every_s=every_s), 7, 40, queue(20)), 8, 15, losing(0.2))
    assert fed(packets).judge.state() == one_by_one(packets).state()


class Thorough(Judge):
    """Takes no bin for calm."""

    __slots__ = ()

    def _is_calm(self, found: Bin, before: float, queue: float) -> bool:
        return False


@pytest.mark.parametrize("every_s", [10.0, 30.0, 2.0, 100.0], ids=lambda s: f"every {s:g} s")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_calm_bin_leaves_what_the_whole_judgement_leaves(every_s: float, seed: int) -> None:
    packets = lay(lay(path(30, every_s=every_s, seed=seed), 9, 40, queue(20)), 11, 60, losing(0.01))
    packets = lay(lay(packets, 14, 120, shift(-5)), 20, 600, shift(15))
    quick, thorough = Path(hours=24), Path(hours=24)
    thorough.judge = Thorough()
    for found in (quick, thorough):
        found.feed(Timed.of(packets))
    assert quick.judge.state() == thorough.judge.state()
    assert [*map(repr, quick.said)] == [*map(repr, thorough.said)]
    assert quick.bins == thorough.bins


@given(st.lists(st.integers(0, 400), min_size=1, max_size=80))
def test_how_far_values_lie_from_their_median_is_found_without_sorting(some: list[int]) -> None:
    floor = Floor()
    values = [v / 1e6 for v in some][-QUIET_BINS:]
    for value in values:
        floor.see_quiet(value, value, value)
    middle, steps = median(values), [abs(b - a) for a, b in pairwise(values)]
    spread = median(abs(v - middle) for v in values)
    wander = median(steps) / math.sqrt(2) if steps else spread
    expected = max(NOISE_LEAST_S, MAD_TO_SIGMA * min(spread, max(wander, DRIFT_SHARE * spread)))
    assert (floor.usual_s, floor.noise_s) == (middle, expected)


@given(st.integers(0, 6000), st.integers(0, 6000))
def test_the_row_that_is_no_chance_follows_from_the_share_of_slow_packets(answers: int, slow: int) -> None:
    share = min((min(slow, answers) + 1) / (answers + 20), 0.99)
    needed = math.ceil(math.log(CHANCE) / math.log(share))
    assert row_needed(answers, min(slow, answers)) == max(ANSWERS_STANDING, min(ANSWERS_ROW_MOST, needed))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(BUSY)), max_size=6))
def test_a_record_cut_anywhere_gives_the_same_figures(cuts: list[int]) -> None:
    whole, parts = fed(BUSY), fed(BUSY, cuts)
    assert parts.judge.state() == whole.judge.state()
    assert parts.episodes == whole.episodes
    assert parts.bins == whole.bins


def test_episodes_bins_and_quiet_stretches_of_a_record() -> None:
    found = judge_packets(BUSY)
    assert [e.cause for e in found.episodes] == [Cause.CONGESTION, Cause.ROUTE_CHANGE, Cause.CONGESTION]
    starts = list(found.bins[::3])
    assert starts == sorted(set(starts))
    assert starts[0] == pytest.approx(T0 + 6 * HOUR, abs=HOUR)  # the first hours are for learning
    loud = [(e.start, e.end) for e in found.episodes]
    for stretch in found.quiet():
        begins, ends = stretch.packets[0].at, stretch.packets[-1].at
        assert ends - begins >= 5300
        assert not any(start < begins + 5400 and end > begins for start, end in loud)


def test_a_hole_is_not_a_bin() -> None:
    packets = [p for p in path(12) if not 9 * HOUR <= p.at - T0 < 11 * HOUR]
    found = judge_packets(lay(packets, 8, 20, silent))
    assert found.judge.unknown_s == pytest.approx(2 * HOUR + 1200)
    assert not any(T0 + 9 * HOUR <= s < T0 + 11 * HOUR for s in found.bins[::3])


def test_without_quiet_stretches_enough_there_is_no_limit() -> None:
    found = judge_packets(path(12))
    assert 0 < len(found.quiet()) < TRIALS_LEAST
    assert found.limit(TRIALS_LEAST) is None
    assert found.limit() is not None


def test_the_limit_is_the_least_that_every_stretch_shows() -> None:
    found = judge_packets(path(40))
    limit = found.limit(TRIALS_LEAST)
    assert limit is not None
    assert limit == detection_limit(found.quiet(), found.judge.threshold_s)
    assert limit.trials == len(found.quiet()) >= TRIALS_LEAST
    assert found_share(found.quiet(), limit.queue_s, limit.minutes) == 1.0
    assert found_share(found.quiet(), 0.005, limit.minutes) < 0.1


# Of a site's past.

OURS = plan(
    service("carrier", "ping"),
    service("portal", "home"),
    references=[reference("gateway", near=True), reference("vnix")],
)
PING, GATEWAY = "carrier.ping", "references.gateway"


def judged(hours: Mapping[str, Sequence[Packet]]) -> Mapping[str, Path]:
    targets = [t for t in OURS.targets() if t.id == PING]
    assert congestion_past.wanted(OURS, targets) == [PING, GATEWAY]
    cut = [
        {
            name: Timed.of([p for p in packets if h * HOUR <= p.at - T0 < (h + 1) * HOUR])
            for name, packets in hours.items()
        }
        for h in range(14)
    ]
    return congestion_past.judge(OURS, targets, cut, span(0, 1))


@pytest.mark.parametrize("near", [True, False])
def test_a_queue_that_the_near_reference_has_too_is_on_our_side(near: bool) -> None:
    gateway = path(14, floor_ms=1, seed=3)
    found = judged(
        {PING: lay(path(14), 9, 40, queue(20)), GATEWAY: lay(gateway, 9, 40, queue(20)) if near else gateway}
    )
    assert [e.cause for e in found[PING].episodes] == [Cause.NEAR_SIDE if near else Cause.CONGESTION]


def test_a_check_without_packets_has_no_floor() -> None:
    assert math.isnan(judged({})[PING].judge.floor_s)


def read(state_dir: File, checks: Sequence[str], hours: int) -> list[Mapping[str, list[tuple[float, float]]]]:
    with open_history(state_dir, SITE) as history:
        return [
            {name: list(timed.pairs()) for name, timed in found.items()}
            for found in history.packets(checks, span(0, hours * HOUR))
        ]


def test_packets_are_the_same_from_the_journal_and_from_sealed_files(tmp_path: File) -> None:
    batches, checks = hours_of(4), ["mail.smtp", PING]
    write(tmp_path, batches, ended=4 * HOUR)
    before = read(tmp_path, checks, 4)
    for closed in (1, 2, 3):
        seal_hours(tmp_path, closed * HOUR)
        assert read(tmp_path, checks, 4) == before
    told = [p for b in batches for r in b.results if r.check == PING and not r.reading.fault for p in packets_of(r)]
    said = [pair for hour in before for pair in hour.get(PING, [])]
    assert [at for at, _ in said] == pytest.approx(sorted(at for at, _ in told), abs=0.001)
    assert sorted(rtt for _, rtt in said) == pytest.approx(sorted(math.inf if r is None else r for _, r in told))
    assert len(said) > 600
    assert {name for hour in before for name in hour} == set(checks)


def test_time_that_nobody_observed_is_no_trial_of_the_method() -> None:
    packets = [p for p in path(40) if not 20 * HOUR <= p.at - T0 < 22 * HOUR]
    found = judge_packets(packets)
    assert not any(19 * HOUR < s.packets[0].at - T0 < 22 * HOUR for s in found.quiet())
    whole, torn = judge_packets(path(40)).limit(), found.limit()
    assert whole is not None
    assert torn is not None
    assert (torn.queue_s, torn.minutes) == (whole.queue_s, whole.minutes)
