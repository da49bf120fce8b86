"""Writing down what the judges of congestion remember: the quiet ones in turn, those that know of a queue at once."""

from __future__ import annotations

from monitor.journal import Batch
from monitor.judge.congestion import Judge
from monitor.judge.episode import DEFAULT
from monitor.keeping import AT_LEAST, ROUNDS, Keeping
from monitor.track import Track
from tests.monitor.builders import at, check

BIN_S = DEFAULT.bin_s


def tracks(count: int) -> list[Track]:
    return [Track(check(f"vnpt.c{number}")) for number in range(count)]


def noted(keeping: Keeping, found: list[Track], seconds: float) -> Batch:
    batch = Batch()
    for track in found:
        keeping.note(track, at(seconds), batch)
    return batch


def turns(keeping: Keeping) -> list[int]:
    """Return how many were written in each transaction until all were."""
    found: list[int] = []
    while True:
        batch = Batch()
        keeping.fill(batch, whole=False)
        if not batch.queues:
            return found
        found.append(len(batch.queues))


def test_few_checks_are_written_with_the_result_that_closed_their_bin() -> None:
    keeping = Keeping(2)
    batch = noted(keeping, tracks(2), BIN_S)
    keeping.fill(batch, whole=False)
    assert set(batch.queues) == {"vnpt.c0", "vnpt.c1"}


def test_many_quiet_checks_are_written_in_turn_after_an_edge() -> None:
    keeping = Keeping(3 * ROUNDS * AT_LEAST)
    assert not noted(keeping, tracks(200), BIN_S).queues
    assert turns(keeping) == [60, 60, 60, 20]


def test_within_a_bin_nothing_new_is_written() -> None:
    keeping, found = Keeping(50), tracks(50)
    noted(keeping, found, BIN_S)
    assert sum(turns(keeping)) == 50
    noted(keeping, found, BIN_S + 1)
    assert turns(keeping) == []


def test_whoever_waits_through_another_edge_is_written_once() -> None:
    keeping, found = Keeping(50), tracks(50)
    noted(keeping, found, BIN_S)
    noted(keeping, found, 2 * BIN_S)
    assert sum(turns(keeping)) == 50


def test_a_stop_writes_all_that_wait() -> None:
    keeping, batch = Keeping(50), Batch()
    noted(keeping, tracks(50), BIN_S)
    keeping.fill(batch, whole=True)
    assert len(batch.queues) == 50


def test_whoever_suspects_a_queue_is_written_at_once() -> None:
    (track,) = tracks(1)
    state = dict(Judge().state())
    state["suspected"] = [at(0).timestamp(), at(0).timestamp()]
    track.queue.judge = Judge.from_state(state)
    assert set(noted(Keeping(50), [track], BIN_S).queues) == {"vnpt.c0"}
