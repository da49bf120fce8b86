"""Replay: what the commands read, print and refuse, and that nothing is known before its time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.judge.limit import Packet
from tests.monitor.rtts import HOUR, T0, lay, path, queue, shift, silent
from thongsuot.cli import app
from thongsuot.replay import ReplayError, parse_settings, read_packets
from thongsuot.replay_outage import parse_policy, read_results

RUNNER = CliRunner()


def write_rtts(file: Path, packets: Sequence[Packet], header: str = "epoch,values\n") -> Path:
    rows = (f"{p.at:.1f},{'' if p.rtt_s is None else f'{p.rtt_s * 1000:.3f}'}\n" for p in packets)
    file.write_text(header + "".join(rows))
    return file


def congestion(*options: str | Path) -> Any:
    done = RUNNER.invoke(app, ["replay", "congestion", *map(str, options), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def outage(file: Path, text: str, *options: str) -> Any:
    file.write_text(text)
    done = RUNNER.invoke(app, ["replay", "outage", str(file), *options, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def minutes(signs: str, every: int = 60) -> str:
    return "".join(f"{1_000_000_020 + i * every},{sign}\n" for i, sign in enumerate(signs) if sign != " ")


def test_a_recorded_queue_is_told_with_its_figures(tmp_path: Path) -> None:
    found = congestion("--rtt", write_rtts(tmp_path / "a.csv", lay(path(14), 9, 40, queue(20))))
    (episode,) = found["episodes"]
    assert episode["cause"] == "congestion"
    assert episode["start"] == pytest.approx(T0 + 9 * HOUR, abs=60)
    assert episode["end"] == pytest.approx(T0 + 9 * HOUR + 2400, abs=60)
    assert episode["start"] < episode["alarm_at"] <= episode["start"] + 960
    assert episode["floor_ms"] == pytest.approx(8.0, abs=0.2)
    assert 16 <= episode["peak_ms"] <= 25
    assert episode["loss"] == 0
    assert not episode["open"]
    assert found["bins"] == {"usable": 14 * 12, "unknown": 0}
    assert found["detection_limit"]["minutes"] == 15
    assert 8 <= found["detection_limit"]["queue_ms"] <= 10


def test_the_reference_tells_the_near_side(tmp_path: Path) -> None:
    far = write_rtts(tmp_path / "far.csv", lay(path(12), 9, 40, queue(20)))
    near = write_rtts(tmp_path / "near.csv", lay(path(12, floor_ms=1, seed=3), 9, 40, queue(20)))
    clean = write_rtts(tmp_path / "clean.csv", path(12, floor_ms=1, seed=3))
    assert [e["cause"] for e in congestion("--rtt", far, "--reference", near)["episodes"]] == ["near-side"]
    assert [e["cause"] for e in congestion("--rtt", far, "--reference", clean)["episodes"]] == ["congestion"]


def test_a_route_change_is_named(tmp_path: Path) -> None:
    found = congestion("--rtt", write_rtts(tmp_path / "a.csv", lay(path(14), 9, 300, shift(25))))
    assert [e["cause"] for e in found["episodes"]] == ["route-change"]


def test_an_open_episode_is_printed_as_open(tmp_path: Path) -> None:
    found = congestion("--rtt", write_rtts(tmp_path / "a.csv", lay(path(10), 9, 60, queue(30))))
    assert [e["open"] for e in found["episodes"]] == [True]


def test_settings_change_the_verdict(tmp_path: Path) -> None:
    file = write_rtts(tmp_path / "a.csv", lay(path(12), 9, 40, queue(12)))
    assert len(congestion("--rtt", file)["episodes"]) == 1
    assert congestion("--rtt", file, "--set", "rise=20ms")["episodes"] == []
    assert congestion("--rtt", file, "--set", "stand=50m", "--set", "evidence=1000")["episodes"] == []


def test_cutting_the_record_at_an_alarm_keeps_the_alarm(tmp_path: Path) -> None:
    packets = lay(lay(path(16), 9, 40, queue(11)), 12, 20, queue(60))
    whole = congestion("--rtt", write_rtts(tmp_path / "a.csv", packets))["episodes"]
    assert len(whole) == 2
    for episode in whole:
        cut = write_rtts(tmp_path / "cut.csv", [p for p in packets if p.at <= episode["alarm_at"]])
        last = congestion("--rtt", cut)["episodes"][-1]
        assert (last["start"], last["alarm_at"]) == (episode["start"], episode["alarm_at"])


def test_a_hole_in_the_record_is_unknown(tmp_path: Path) -> None:
    packets = [p for p in path(12) if not 9 * HOUR <= p.at - T0 < 11 * HOUR]
    found = congestion("--rtt", write_rtts(tmp_path / "a.csv", packets))
    assert found["bins"] == {"usable": 120, "unknown": 24}
    lost = congestion("--rtt", write_rtts(tmp_path / "b.csv", lay(path(12), 9, 120, silent)))
    assert lost["bins"]["unknown"] == 24


def test_lost_packets_are_read_in_every_form(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("time rtt\n1 5.5\n2 nan\n3 -1\n4\n5 0\n\n7 6\n")
    assert read_packets(file) == [
        Packet(1, 0.0055),
        Packet(2, None),
        Packet(3, None),
        Packet(4, None),
        Packet(5, None),
        Packet(7, 0.006),
    ]
    file.write_text("2;7\n1;6\n")
    assert [p.at for p in read_packets(file)] == [1, 2]


def test_a_record_without_a_line_has_no_episode(tmp_path: Path) -> None:
    found = congestion("--rtt", write_rtts(tmp_path / "a.csv", []))
    assert found["episodes"] == []
    assert found["bins"] == {"usable": 0, "unknown": 0}
    assert found["detection_limit"] == {"queue_ms": None, "minutes": None, "trials": None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["congestion", "--rtt", "missing.csv"], "missing.csv"),
        (["congestion", "--rtt", "bad.csv"], "bad.csv:2: expected epoch_seconds,rtt_ms"),
        (["congestion", "--rtt", "good.csv", "--set", "height=3"], "height: expected one of"),
        (["congestion", "--rtt", "good.csv", "--set", "rise=9"], "rise=9: expected a duration"),
        (["outage", "bad.csv"], "bad.csv:2: expected"),
        (["outage", "good.csv", "--policy", "patience=3"], "patience: expected one of"),
        (["outage", "good.csv", "--policy", "bad_rounds=0"], "bad_rounds=0: expected 1 or more"),
        (["outage", "empty.csv"], "at least one line"),
    ],
)
def test_wrong_use_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("1,1\nyesterday,12\n")
    Path("good.csv").write_text("1,1\n2,1\n")
    Path("empty.csv").write_text("")
    done = RUNNER.invoke(app, ["replay", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr


def test_settings_know_each_field_and_a_scale() -> None:
    settings = parse_settings(["scale=60", "rise=9ms", "learn_hours=2", "noise_times=5"])
    assert (settings.bin_s, settings.learn_hours, settings.noise_times) == (5.0, 2, 5.0)
    assert settings.rise_s == pytest.approx(0.009)
    with pytest.raises(ReplayError):
        parse_settings(["scale=0"])


def test_an_outage_is_dated_from_its_first_bad_round_and_told_at_its_third(tmp_path: Path) -> None:
    found = outage(tmp_path / "a.csv", minutes("1111100000111111"))
    start = 1_000_000_020
    assert found["outages"] == [{"start": start + 300, "end": start + 600, "alarm_at": start + 420}]
    assert found["seconds"] == {"up": 600, "down": 300, "unknown": 0}
    assert found["coverage"] == 1.0
    share = found["availability"]
    assert share["value"] == pytest.approx(1 - 300 / 900)
    assert share["min"] < share["value"] < share["max"]


def test_two_rounds_are_enough_when_the_policy_says_so(tmp_path: Path) -> None:
    assert outage(tmp_path / "a.csv", minutes("11110011111"))["outages"] == []
    assert len(outage(tmp_path / "a.csv", minutes("11110011111"), "--policy", "bad_rounds=2")["outages"]) == 1


def test_rechecks_nearer_than_the_policy_count_once(tmp_path: Path) -> None:
    text = "1000,1\n1060,0\n1061,0\n1062,0\n1120,1\n1180,1\n"
    assert outage(tmp_path / "a.csv", text)["outages"] == []
    text = "1000,1\n1060,0\n1065,0\n1070,0\n1120,1\n1180,1\n1240,1\n1300,1\n"
    assert len(outage(tmp_path / "a.csv", text, "--policy", "every=60s")["outages"]) == 1


def test_what_could_not_be_measured_is_neither_up_nor_down(tmp_path: Path) -> None:
    found = outage(tmp_path / "a.csv", minutes("11111-----11111"))
    assert found["outages"] == []
    assert found["seconds"] == {"up": 540, "down": 0, "unknown": 300}
    assert found["coverage"] == pytest.approx(540 / 840)
    assert found["availability"]["value"] == 1.0
    assert found["availability"]["min"] <= 540 / 840


def test_missing_lines_are_unknown_and_end_an_outage_that_nobody_saw_go_on(tmp_path: Path) -> None:
    found = outage(tmp_path / "a.csv", minutes("111000          000111"))
    assert found["seconds"]["unknown"] == 600
    assert [(o["start"] - 1_000_000_020, o["end"] - 1_000_000_020) for o in found["outages"]] == [
        (180, 360),
        (960, 1140),
    ]


def test_states_sum_to_the_period(tmp_path: Path) -> None:
    found = outage(tmp_path / "a.csv", minutes("0001110-01100000--1 1 0001   111"))
    assert sum(found["seconds"].values()) == pytest.approx(31 * 60)
    share = found["availability"]
    assert 0 <= share["min"] <= share["value"] <= share["max"] <= 1


def test_policies_and_results_are_read(tmp_path: Path) -> None:
    asked = parse_policy(["bad_rounds=2", "good_rounds=3", "recheck_after=10s", "packets=5", "every=30s"])
    assert (asked.policy.bad_rounds, asked.policy.good_rounds, asked.policy.recheck_s) == (2, 3, 10.0)
    assert (asked.packets, asked.every_s) == (5, 30.0)
    file = tmp_path / "a.csv"
    file.write_text("epoch_seconds,ok\n3,0\n1,1\n2,-\n")
    assert [r.at for r in read_results(file)] == [1, 2, 3]
