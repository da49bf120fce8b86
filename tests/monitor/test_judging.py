"""Judging in processes of its own, and one pass over files and journal: the same as one by one, to the bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.congestion_past import Judged, Judging
from monitor.congestion_record import Timed
from monitor.history import Wish, open_history
from monitor.judging import WORTH_HOURS, Judges, processes_for
from monitor.responses import Responses
from tests.monitor.builders import SITE, span
from tests.monitor.rtts import HOUR, T0, lay, losing, path, queue, shift
from tests.monitor.sealing import hours_of, seal_hours, write

HOURS = 26
NEAR = {"a.ping": ["gateway"], "b.ping": ["gateway"], "c.ping": []}


def packets_by_hour() -> list[Mapping[str, Timed]]:
    records = {
        "a.ping": lay(lay(path(HOURS), 9, 40, queue(20)), 14, 30, losing(0.1)),
        "b.ping": lay(lay(path(HOURS, seed=5), 12, 40, queue(30)), 20, 90, shift(25)),
        "c.ping": path(HOURS, seed=6, every_s=30.0),
        "gateway": lay(path(HOURS, floor_ms=1, seed=3), 12, 40, queue(30)),
        "nobody.asks": path(HOURS, seed=8),
    }
    return [
        {
            name: Timed.of([p for p in packets if h * HOUR <= p.at - T0 < (h + 1) * HOUR])
            for name, packets in records.items()
            if not (name == "c.ping" and h == 17)
        }
        for h in range(HOURS)
    ]


def plain(found: Mapping[str, Judged]) -> dict[str, object]:
    return {n: (list(j.bins), j.episodes, j.limit, j.floor_s, j.threshold_s) for n, j in found.items()}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_find_what_one_by_itself_finds(count: int) -> None:
    hours, period = packets_by_hour(), span(0, HOURS * HOUR)
    alone = Judging(NEAR, period)
    with Judges(NEAR, period, count) as judges:
        for packets in hours:
            alone.hear(packets)
            judges.hear(packets)
        found = judges.finish()
    expected = alone.finish()
    assert plain(found) == plain(expected)
    assert list(found) == list(NEAR)
    assert len(expected["a.ping"].episodes) == 2
    assert expected["a.ping"].limit is not None


def test_a_path_without_packets_has_no_floor_in_a_process_either() -> None:
    with Judges({"a.ping": []}, span(0, HOUR), 1) as judges:
        judges.hear({})
        assert math.isnan(judges.finish()["a.ping"].floor_s)


def test_a_judge_that_was_killed_is_named() -> None:
    judges = Judges({"a.ping": []}, span(0, HOUR), 1)
    judges._children[0].kill()
    with judges, pytest.raises(ChildProcessError, match="judges congestion ended with -9"):
        judges.finish()


def test_only_a_long_past_is_worth_processes() -> None:
    assert processes_for(3, span(0, 7 * 24 * HOUR)) == 0
    assert processes_for(50, span(0, WORTH_HOURS * HOUR)) > 0


def test_one_pass_over_the_past_tells_what_each_question_by_itself_does(tmp_path: Path) -> None:
    write(tmp_path, hours_of(4), ended=4 * HOUR)
    period, late = span(0, 4 * HOUR), span(HOUR * 3 / 2, 3 * HOUR)
    charts = [(period, timedelta(minutes=10)), (late, timedelta(minutes=1))]
    wish = Wish(period, charts, {"mail.smtp", "carrier.ping"}, ["carrier.ping"], period)
    told: list[tuple[object, ...]] = []
    for closed in range(4):
        seal_hours(tmp_path, closed * HOUR)
        with open_history(tmp_path, SITE) as history:
            heard: list[Mapping[str, Timed]] = []
            found = history.survey(wish, heard.append)
            alone = history.packets(["carrier.ping"], period)
            packets = [list(h["carrier.ping"].pairs()) for h in heard]
            assert packets == [list(h["carrier.ping"].pairs()) for h in alone]
            assert found.responses == history.responses(period)
            assert list(found.charts) == [history.series(w, step, wish.charted) for w, step in charts]
            sums = {n: (r.good, r.bad, r.blind, sorted(r.micros)) for n, r in sorted(found.responses.items())}
            told.append((sums, found.charts, packets))
            assert len(packets) == 4

    assert all(t == told[0] for t in told)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), st.integers(0, 9000))
def test_ranks_are_those_of_the_sorted_times(some: list[int], more: int) -> None:
    times = some + [Random(more).randrange(2**32) for _ in range(more)]
    shares = (0.001, 0.5, 0.9, 0.95, 0.999, 1.0)
    found = Responses(len(times), 0, 0, [us / 1e6 for us in times]).at_ranks(shares)
    ordered = sorted(times)
    assert found == [ordered[max(1, -(-len(times) * round(s * 1000) // 1000)) - 1] / 1e6 for s in shares]


def test_without_a_time_there_is_no_rank() -> None:
    assert Responses(0, 3, 0).at_ranks((0.5, 1.0)) == [None, None]
