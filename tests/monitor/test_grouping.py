"""The scorer of grouping: recorded downs become incidents as the daemon would make them."""

from __future__ import annotations

from pathlib import Path

from bench import grouping
from bench.grouping import Event


def recorded(folder: Path) -> Path:
    """Ten made-up services: two days well, four fail within 40 s, one is named again, later two fail at once."""
    lines = ["epoch,service,state,http_code,response_ms"]
    day = 86_400
    lines += [f"{n},s{n},up,200,50" for n in range(10)]
    lines += [f"{2 * day + 13 * n},s{n},down,0,0" for n in range(4)]
    lines += [f"{2 * day + 3600 + n},s{n},up,200,50" for n in range(4)]
    lines += [f"{4 * day + n},s{n},down,502,90" for n in (7, 8)]
    lines += [f"{4 * day + 7200},s7,down,502,90", f"{5 * day},s7,up,200,50", f"{5 * day},s8,up,200,50"]
    file = folder / "made-up.csv"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def test_what_failed_together_is_one_incident_and_a_pair_is_two(tmp_path: Path) -> None:
    sums = grouping.score_events(grouping.read(recorded(tmp_path)), 300.0)
    assert (sums["groups"], sums["events"], sums["events_found"]) == (3, 1, 1)
    assert (sums["new_events"], sums["new_events_found"]) == (1, 1)
    assert (sums["pairs"], sums["pairs_joined"]) == (1, 0)
    assert sums["incidents"] == 3


def test_a_group_ends_where_nothing_fails_for_a_quarter_of_an_hour() -> None:
    downs = [Event(t, f"s{t}", down=True) for t in (0, 900, 1801, 1900)]
    assert [len(g) for g in grouping.groups_of(downs)] == [2, 2]


def test_unrelated_failures_are_hardly_ever_joined() -> None:
    assert grouping.joined_pairs(300, 1, within_s=120.0, sharing=False) == 0
    assert grouping.joined_pairs(300, 1, within_s=3600.0, sharing=True) <= 0.01


def test_without_the_recordings_only_what_is_simulated_is_scored(tmp_path: Path) -> None:
    assert len(grouping.rows(tmp_path, 10)) == 2
    recorded(tmp_path)
    assert len(grouping.rows(tmp_path, 10)) == 4
