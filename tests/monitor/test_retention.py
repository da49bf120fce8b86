"""What stays when raw results go: summaries for ever, the least important first, and no figure that was exact moves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monitor import retention, summaries, summed
from monitor.chain import Link
from monitor.congestion_past import Judged, Judging
from monitor.congestion_record import Timed
from monitor.history import open_history
from monitor.journal import to_ms
from monitor.judge.limit import Packet
from tests.monitor.builders import SITE, at, span
from tests.monitor.rtts import T0 as RTT_T0
from tests.monitor.rtts import lay, losing, path, queue, shift
from tests.monitor.sealing import HOUR, chain, everything_known, folder, hours_of, order, seal_hours, write

DAY_END = 7 * HOUR  # T0 is midnight in Việt Nam, 17:00 UTC: the files of a day end at 00:00 UTC
HOURS = 9


def gone(state_dir: Path, until: float, hours: int = HOURS) -> list[Link]:
    return seal_hours(state_dir, hours * HOUR, keep_from_ms=to_ms(at(until)))


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    write(tmp_path, hours_of(HOURS), ended=HOURS * HOUR)
    seal_hours(tmp_path, HOURS * HOUR)
    return tmp_path


def kinds(links: list[Link]) -> list[str]:
    return [link.fields["kind"] for link in links]


def test_raw_results_go_a_whole_day_at_a_time_and_a_signed_summary_stands_for_them(sealed: Path) -> None:
    assert gone(sealed, DAY_END - 1) == []
    summary, deletion = gone(sealed, DAY_END)
    assert kinds([summary, deletion]) == ["summary", "deleted"]
    first = [link for link in chain(sealed) if link.is_segment][:7]
    assert summary.fields["of"] == [[n.number, n.fields["sha256"]] for n in first]
    assert [e["number"] for e in deletion.deleted] == [n.number for n in first]
    assert deletion.fields["summary"] == summary.number
    assert not any((folder(sealed) / n.fields["file"]).exists() for n in first)
    assert summary.fields["file"].startswith("summaries/2027/2027-02-05-")
    assert (folder(sealed) / summary.fields["file"]).exists()
    assert gone(sealed, DAY_END) == []


def test_counts_states_and_records_are_the_same_when_the_raw_results_are_gone(sealed: Path) -> None:
    periods = [span(0, HOURS * HOUR), span(HOUR, 3 * HOUR), span(6 * HOUR, 8 * HOUR)]
    before = [everything_known(sealed, p) for p in periods]
    gone(sealed, DAY_END)
    for period, was in zip(periods, before, strict=True):
        now = everything_known(sealed, period)
        for name in ("slots", "changes", "gaps", "incidents", "runs"):
            assert now[name] == was[name], name
        assert counts(now) == counts(was)
        for name, (*_, _, _) in dict(was["responses"]).items():  # type: ignore[call-overload]
            near(times(now, name), times(was, name), 0.011)


def counts(known: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {n: (good, bad, blind, sent, lost) for n, (good, bad, blind, _, sent, lost) in known["responses"].items()}


def times(known: Mapping[str, Any], name: str) -> list[float]:
    found: list[float] = known["responses"][name][3]
    return found


def near(now: list[float], was: list[float], share: float) -> None:
    assert len(now) == len(was)
    assert (now[0], now[-1]) == (was[0], was[-1])
    assert all(abs(a - b) <= share * b + 1e-6 for a, b in zip(now, was, strict=True))


def test_the_evidence_alone_tells_it_all_after_the_raw_results_are_gone(sealed: Path) -> None:
    period = span(0, HOURS * HOUR)
    gone(sealed, DAY_END)
    before = everything_known(sealed, period)
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (sealed / name).unlink(missing_ok=True)
    assert everything_known(sealed, period) == before


def test_points_of_five_minutes_keep_their_least_middle_and_greatest(sealed: Path) -> None:
    period, step = span(HOUR, 2 * HOUR), timedelta(minutes=5)
    with open_history(sealed, SITE) as history:
        before = history.series(period, step, {"mail.smtp", "portal.home"})
        assert history.summed(period) == []
    gone(sealed, DAY_END)
    with open_history(sealed, SITE) as history:
        after = history.series(period, step, {"mail.smtp", "portal.home"})
        assert history.summed(span(0, HOURS * HOUR)) == [span(0, DAY_END)]
        assert history.summed(span(DAY_END, HOURS * HOUR)) == []
    assert after == before


def test_a_day_is_summed_up_by_check_path_and_hour_for_any_reader(sealed: Path) -> None:
    gone(sealed, DAY_END)
    file = folder(sealed) / chain(sealed)[-2].fields["file"]
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT subject, path, count(*), sum(good + bad + blind), sum(echoes_lost), min(low_us), max(high_us)"
            f" FROM '{file}' WHERE kind = 'hour' GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        assert [r[:3] for r in rows] == [("carrier.ping", "", 7), ("carrier.ping", "vnpt", 7), ("mail.smtp", "", 7),
                                         ("portal.home", "", 7)]  # fmt: skip
        assert sum(r[3] for r in rows) == 7 * 180
        faults = db.execute(
            f"SELECT sum((faults->>'timeout')::INT), sum(blind) FROM '{file}' WHERE kind = 'hour'"
        ).fetchone()
        kept = db.execute(f"SELECT kind, count(*) FROM '{file}' GROUP BY ALL ORDER BY ALL").fetchall()
    assert faults is not None
    assert faults[0] > 0
    sums = {"hour": 28, "bin": 332}  # 84 of each way, but for those that left by one of two
    # What was known when the first of these hours was sealed is in its file: here all of it, and every hour's ledger.
    assert dict(kept) == sums | {"alert": 9, "change": 9, "gap": 18, "incident": 9, "run": 1, "slots": 21}


def test_the_same_segments_give_the_same_summary(sealed: Path, tmp_path: Path) -> None:
    sources = [
        summaries.Source(folder(sealed) / n.fields["file"], n.number, n.fields["sha256"]) for n in chain(sealed)[:3]
    ]
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        summaries.write(file, sources, {"day": "2027-02-05"})
    assert files[0].read_bytes() == files[1].read_bytes()
    assert summaries.look(files[0]).of == [[n.number, n.sha256] for n in sources]


# What goes first.


def test_ordinary_days_go_before_events_and_events_before_their_peaks(sealed: Path) -> None:
    def ms(hour: int) -> int:
        return to_ms(at(hour * HOUR))

    links = chain(sealed)
    left = retention.LEAST_KEPT
    many = links + [links[-1]] * left  # the newest are never asked for
    sizes = sum(link.fields["bytes"] for link in links)
    wanted = order(
        sealed, HOURS * HOUR, budget_bytes=1, events=[[ms(2), ms(8)]], peaks=[[ms(3) + 60_000, ms(4)]], reserve_bytes=0
    )
    held = retention.Held(0, sizes, 10**9, 10**10)
    found = [[n.number for n in some] for _, some in retention.due(wanted, many, held, only_for_room=False)]
    # by UTC days: hours 0 to 6 are one, 7 and 8 the next
    assert found == [[1, 2], [9], [3, 5, 6, 7], [8], [4]]
    held = retention.Held(0, 2, 10**9, 10**10)
    assert [[n.number for n in some] for _, some in retention.due(wanted, many, held, only_for_room=False)] == [[1, 2]]


def test_a_full_disk_takes_raw_results_before_it_stops_sealing(sealed: Path) -> None:
    links = chain(sealed)
    many = links + [links[-1]] * retention.LEAST_KEPT
    wanted = order(sealed, HOURS * HOUR, reserve_bytes=1000)
    for free, expected in ((1000, []), (999, [[1, 2, 3, 4, 5, 6, 7]])):
        held = retention.Held(10, 10, free, 10**10)
        found = [[n.number for n in some] for _, some in retention.due(wanted, many, held, only_for_room=True)]
        assert found == expected


def test_what_is_missing_or_changed_is_not_summed_up_and_not_said_to_be_deleted(sealed: Path) -> None:
    first, second = chain(sealed)[:2]
    (folder(sealed) / first.fields["file"]).unlink()
    file = folder(sealed) / second.fields["file"]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    summary, deletion = gone(sealed, DAY_END)
    assert [e["number"] for e in deletion.deleted] == [3, 4, 5, 6, 7]
    assert [number for number, _ in summary.fields["of"]] == [3, 4, 5, 6, 7]
    assert gone(sealed, DAY_END) == []
    assert file.exists()


class CutError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["written", "synced", "named", "chained", "deleted"])
def test_a_deletion_cut_off_at_any_step_is_finished_and_leaves_one_summary(sealed: Path, step: str) -> None:
    period = span(0, HOURS * HOUR)
    was = counts(everything_known(sealed, period))

    def cut(reached: str) -> None:
        if reached == step:
            raise CutError

    for _ in range(3):
        with suppress(CutError):
            seal_hours(sealed, HOURS * HOUR, keep_from_ms=to_ms(at(DAY_END)), reached=cut)
        assert counts(everything_known(sealed, period)) == was
    gone(sealed, DAY_END)
    assert kinds(chain(sealed)) == ["segment"] * HOURS + ["summary", "deleted"]
    assert counts(everything_known(sealed, period)) == was
    assert len(list(folder(sealed).rglob("*.parquet"))) == HOURS - 7 + 1
    assert not list(folder(sealed).rglob("*.part"))


# Congestion, judged again from what a summary has of the packets.

LONG = 30  # hours of a record, of which the last are told of


def again(record: list[Packet]) -> Timed:
    """The packets of a path as a summary gives them back."""
    rows = [{"subject": "a", "time": at, **row} for at, row in summaries.packet_bins(Timed.of(record)).items()]
    return summed.packets_of(rows)["a"]


def judged(packets: Timed) -> Judged:
    judging = Judging({"a": []}, span(0, LONG * HOUR))
    judging.hear({"a": packets})
    return judging.finish()["a"]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param([], id="nothing"),
        pytest.param([(queue(20), 9, 40)], id="a queue"),
        pytest.param([(queue(60), 12.03, 90), (losing(0.1), 20, 60)], id="a queue and loss"),
        pytest.param([(shift(25), 20, 600)], id="another route"),
    ],
)
def test_the_judge_says_the_same_of_a_summary_within_a_bin_of_time(event: list[tuple[Any, float, float]]) -> None:
    record = path(LONG)
    for what, hour, minutes in event:
        record = lay(record, hour, minutes, what)
    raw, kept = judged(Timed.of(record)), judged(again(record))
    assert [(e.cause, e.by_loss) for e in kept.episodes] == [(e.cause, e.by_loss) for e in raw.episodes]
    for a, b in zip(kept.episodes, raw.episodes, strict=True):
        assert abs(a.start - b.start) <= 600
        assert abs(a.end - b.end) <= 900
        assert abs(a.peak_s - b.peak_s) <= 0.003
    assert abs(kept.floor_s - raw.floor_s) <= 0.0002
    assert (kept.limit is None) == (raw.limit is None)


def test_each_bin_comes_back_with_its_counts_least_middle_and_95_percent() -> None:
    record = lay(lay(path(3), 1, 30, losing(0.3)), 2, 12, losing(1.0))
    was, now = summaries.packet_bins(Timed.of(record)), summaries.packet_bins(again(record))
    assert now == was


def test_an_outage_over_the_border_of_bins_stays_an_outage() -> None:
    record = [Packet(p.at, None if 1780 <= p.at - RTT_T0 < 1815 else p.rtt_s) for p in path(1, every_s=5.0)]
    was = summaries.packet_bins(Timed.of(record))
    assert sum(b["packets_silent"] for b in was.values()) == 7
    assert summaries.packet_bins(again(record)) == was
