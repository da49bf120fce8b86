"""Three clocks side by side: a stall, a sleep and a set clock are told apart, and none makes time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.board import Board
from monitor.model import OWN_FAULT, State
from monitor.own_faults import part_at_fault
from monitor.own_watch import TICK_S, UNKEPT_S, Clocks, Kind, OwnWatch, compare
from probes.base import Fault
from probes.own_clock import ClockState
from tests.monitor.builders import T0, at, bad, check, good, plan, service
from tests.monitor.room import SMTP, Room, living, one_service

S = 1_000_000_000
START = Clocks(round(T0.timestamp()) * S, 5_000 * S, 9_000 * S)


def later(before: Clocks = START, *, awake_s: float = TICK_S, asleep_s: float = 0.0, set_by_s: float = 0.0) -> Clocks:
    """The clocks after a while awake, then asleep, then set."""
    passed = round((awake_s + asleep_s) * S)
    return Clocks(
        before.wall_ns + passed + round(set_by_s * S), before.steady_ns + round(awake_s * S), before.boot_ns + passed
    )


def spans(before: Clocks, after: Clocks) -> list[tuple[Kind, float, float, float]]:
    """What happened, in seconds after T0."""
    return [
        (x.kind, (x.start - T0).total_seconds(), (x.end - T0).total_seconds(), x.seconds)
        for x in compare(before, after)
    ]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (later(), []),
        (later(awake_s=2.0), []),  # a busy moment
        (later(set_by_s=0.4), []),  # slewed, or read late
        (later(awake_s=20.0), [(Kind.STALL, 0, 20, 20)]),
        (later(asleep_s=600.0), [(Kind.SUSPEND, 0, 600.5, 600.5)]),
        (later(asleep_s=28_800.0, set_by_s=2.0), [(Kind.SUSPEND, 0, 28_800.5, 28_800.5)]),  # the clock drifted in sleep
        (later(set_by_s=3600.0), [(Kind.CLOCK_STEP, 0.5, 3600.5, 3600)]),
        (later(set_by_s=-3600.0), [(Kind.CLOCK_STEP, -3599.5, 0.5, -3600)]),
        (later(awake_s=20.0, set_by_s=60.0), [(Kind.STALL, 0, 20, 20), (Kind.CLOCK_STEP, 20, 80, 60)]),
        (later(awake_s=20.0, set_by_s=-60.0), [(Kind.STALL, 0, 20, 20), (Kind.CLOCK_STEP, -40, 20, -60)]),
    ],
)
def test_what_happened_between_two_looks(after: Clocks, found: list[tuple[Kind, float, float, float]]) -> None:
    assert spans(START, after) == found


@pytest.mark.parametrize(
    ("detail", "part"),
    [
        ("[Errno 24] Too many open files", "descriptors"),
        ("an ICMP socket cannot be opened: Too many open files in system", "descriptors"),
        ("[Errno 105] No buffer space available", "sockets"),
        ("[Errno 99] Cannot assign requested address", "sockets"),
        ("cannot leave by path vnpt (192.0.2.10): Cannot assign requested address", "local"),
        ("our resolver gave no answer for mail.tinh.example.vn: timed out", "resolver"),
        ("[Errno 101] Network is unreachable", "local"),
        ("", "local"),
    ],
)
def test_the_part_of_our_host_at_fault_is_read_from_what_the_system_said(detail: str, part: str) -> None:
    assert part_at_fault(detail) == part


def test_a_clock_that_nobody_keeps_is_a_warning_after_some_minutes_and_one_that_is_uncertain_at_once() -> None:
    board, now = Board(plan(), T0), START
    state = ClockState(False, 16.0)

    def read() -> Clocks:
        return now

    watch = OwnWatch(board, read, lambda: state)
    watch.look()
    assert (board.clock, board.clock_trouble) == (state, "")
    for _ in range(round(UNKEPT_S / 2) + 20):
        now = later(now, awake_s=2.0)
        watch.look()
    assert (board.clock_trouble, board.version) == ("unkept", 1)
    state = ClockState(True, 0.01)
    now = later(now, awake_s=17.0)
    watch.look()
    assert (board.clock_trouble, board.version) == ("", 2)
    state = ClockState(True, 3.0)
    now = later(now, awake_s=17.0)
    watch.look()
    assert board.clock_trouble == "uncertain"


class Times:
    """A room's clocks: what passes while the pipeline looks away."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.clocks = START
        self.watch = room.pipeline._own_watch = OwnWatch(room.board, lambda: self.clocks, lambda: ClockState(None, 0.0))

    def tick(self, awake_s: float = TICK_S, *, set_by_s: float = 0.0) -> None:
        self.clocks = later(self.clocks, awake_s=awake_s, set_by_s=set_by_s)
        self.watch.look()
        self._room.now = (datetime.fromtimestamp(self.clocks.wall_ns / S, UTC) - T0).total_seconds()


async def test_a_stall_of_twenty_seconds_is_named_recorded_and_told_to_nobody(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        times = Times(room)
        await room.feed(good(SMTP, 0))
        times.tick(20.0)
        await room.wait(room.now)

        assert await room.seconds(SMTP, 0, 20) == {"unknown": 20}
        assert (await room.gaps(SMTP)) == [(0, 20, "stall")]
        (incident,) = await room.incidents()
        assert (incident.subject, incident.detail, incident.told) == (OWN_FAULT, "stall", False)
        assert (incident.began_at, incident.ended_at) == (at(0), at(20))
        assert list(room.board.closed_incidents) == [incident]
        assert room.state("mail") is State.UP
        assert await room.told() == []
        assert room.board.lapses == {"stall": (1, 20.0)}


async def test_a_long_stall_is_told_once_when_it_is_over(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        times = Times(room)
        times.tick(120.0)
        await room.wait(room.now)
        await room.wait(room.now + 1)

        assert await room.told() == [("passed", OWN_FAULT)]
        (word,) = await room.outbox()
        assert (word.notice.since, word.notice.ended_at, word.notice.cause) == (at(0), at(120), "stall")


async def test_an_hour_jumped_over_is_unknown_and_a_streak_goes_on_with_its_own_length(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        times = Times(room)
        await room.feed(good(SMTP, 0))
        await room.feed(bad(SMTP, 30), now=30.5)
        times.clocks = later(awake_s=30.0)
        times.watch._last = times.clocks
        times.tick(set_by_s=3600.0)
        await room.wait(room.now)
        await room.feed(bad(SMTP, 3635, attempt=1))
        await room.feed(bad(SMTP, 3640, attempt=2))

        assert (room.state("mail"), room.since("mail")) == (State.DOWN, 3630)
        change = (await room.changes(SMTP))[-1]
        assert (change.at, change.earliest) == (at(3630), at(3600))
        assert await room.seconds(SMTP, 0, 3640) == {"up": 30.5, "unknown": 3600, "down": 9.5}
        assert await room.gaps(SMTP) == [(30.5, 3630.5, "clock-step")]


async def test_an_hour_lived_twice_is_counted_for_nobody_and_what_is_owed_does_not_wait_for_the_old_clock(
    tmp_path: Path,
) -> None:
    async with living(one_service(), tmp_path) as room:
        times = Times(room)
        times.clocks = later(awake_s=7200.0)
        times.watch._last = times.clocks
        await room.feed(good(SMTP, 7100))
        for moment, attempt in ((7130, 0), (7135, 1), (7140, 2)):
            await room.feed(bad(SMTP, moment, attempt=attempt))
        (word,) = await room.outbox()
        await room.journal.mark_retry(word.id, at(7300), "no relay")
        times.tick(set_by_s=-3600.0)
        assert room.now == 3600.5
        await room.wait(room.now)

        due = await room.journal.claim("mail", at(3601), 10)
        assert {i.notice.kind.value for i in due} == {"opened", "passed"}
        assert room.open_incidents()["mail"].began_at == at(3600.5)  # nothing open begins ahead of the clock
        assert room.since("mail") == 3600.5
        await room.feed(good(SMTP, 3630))
        await room.feed(good(SMTP, 3635, attempt=1))
        assert (room.state("mail"), room.since("mail")) == (State.UP, 3630)
        room.now = 7300
        await room.feed(good(SMTP, 7290))
        assert await room.seconds(SMTP, 3600.5, 7200.5) == {"unknown": 3600}
        assert "down" not in await room.seconds(SMTP, 3600, 7300)


async def test_what_went_wrong_with_our_descriptors_is_named_and_ends_when_there_is_room(tmp_path: Path) -> None:
    names = [f"s{n}.x" for n in range(10)]
    province = plan(*(service(n.partition(".")[0], check(n)) for n in names), mail=one_service().mail)
    async with living(province, tmp_path) as room:
        await room.feed(*(good(n, 0) for n in names))
        for moment in (30, 60):
            await room.feed(*(bad(n, moment, Fault.LOCAL, detail="[Errno 24] Too many open files") for n in names[:3]))
        assert room.board.own_fault == "descriptors"
        assert room.open_incidents()[OWN_FAULT].began_at == at(30)
        await room.feed(bad("s9.x", 61, Fault.TIMEOUT))
        assert (30, None, "own-fault") in await room.gaps("s9.x")
        await room.feed(*(good(n, 90) for n in names))
        assert room.board.own_fault == ""
        assert await room.told() == [("opened", OWN_FAULT), ("recovered", OWN_FAULT)]
        assert (await room.incidents())[0].ended_at == at(90.05)


async def test_a_restart_with_the_clock_behind_the_last_sign_of_life_counts_no_time_twice(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0), now=3600)
    async with living(one_service(), tmp_path, now=1800) as room:
        await room.feed(good(SMTP, 1805))
        room.now = 3700
        await room.feed(good(SMTP, 3690))

        assert (1800, 3600, "clock-step") in await room.gaps(SMTP)
