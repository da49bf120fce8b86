"""Simulation: the scheduler's slots and the judge's rounds against a truth that is known."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thongsuot.cli import app
from thongsuot.replay_outage import Asked, parse_policy
from thongsuot.simulate import Loss, Weather, simulate_outage

RUNNER = CliRunner()
START = 1_700_000_040.0  # a whole minute
DAY = 86400.0


def simulate(
    truth: list[tuple[float, float]], *, every_s: float = 60.0, loss: float = 0.0, seed: int = 1, policy: str = ""
) -> Any:
    asked = parse_policy(policy.split()) if policy else Asked()
    return simulate_outage(truth, every_s, asked, Loss(loss), seed)


def days_with(*outages: tuple[float, float], days: float = 2) -> list[tuple[float, float]]:
    """Return a truth that begins with a moment of being down, which only dates it, and ends so."""
    end = START + days * DAY
    return [(START, START), *((START + s, START + s + d) for s, d in outages), (end, end)]


def test_an_outage_is_found_within_a_minute_and_its_rechecks() -> None:
    found = simulate(days_with((3600, 600)))
    (seen,) = found["outages"]
    assert START + 3600 <= seen["start"] <= START + 3660
    assert seen["alarm_at"] == pytest.approx(seen["start"] + 10)
    assert START + 4200 <= seen["end"] <= START + 4265
    assert found["availability"]["value"] == pytest.approx(1 - 600 / (2 * DAY), abs=0.0005)


def test_the_truth_is_within_the_printed_bounds() -> None:
    truth = days_with((3600, 600), (20_000, 7000), (90_000, 45))
    found = simulate(truth, loss=0.01)
    real = 1 - 7645 / (2 * DAY)
    assert found["availability"]["min"] <= real <= found["availability"]["max"]


def test_loss_of_one_percent_is_no_outage() -> None:
    found = simulate(days_with(days=20), loss=0.01)
    assert found["outages"] == []
    assert found["availability"]["value"] == 1.0
    assert found["availability"]["min"] < 1.0


def test_one_packet_and_one_round_would_have_been_many() -> None:
    assert len(simulate(days_with(), loss=0.01, policy="bad_rounds=1 packets=1")["outages"]) > 10


def test_the_same_seed_gives_the_same_figures_and_another_does_not() -> None:
    policy = "bad_rounds=1 packets=1"
    first = simulate(days_with(), loss=0.02, policy=policy)
    assert simulate(days_with(), loss=0.02, policy=policy) == first
    assert simulate(days_with(), loss=0.02, seed=2, policy=policy) != first


def test_states_sum_to_the_period_from_the_first_minute_to_the_last_end() -> None:
    found = simulate(days_with((50, 4000)))
    assert sum(found["seconds"].values()) == pytest.approx(2 * DAY)


def test_bursts_lose_the_share_that_was_asked_for() -> None:
    weather = Weather([], Loss(0.05, 2.0), random.Random(4))
    lost = sum(not weather.answered(START + i * 0.5) for i in range(200_000))
    assert lost / 200_000 == pytest.approx(0.05, abs=0.005)


def test_the_command_prints_what_replay_prints(tmp_path: Path) -> None:
    file = tmp_path / "truth.csv"
    file.write_text(f"start,end\n{START + 600},{START + 1200}\n{START + 7200},{START + 7800}\n")
    arguments = ["simulate", "outage", "--truth", str(file), "--every", "60s", "--loss", "0.01", "--seed", "5"]
    done = RUNNER.invoke(app, [*arguments, "--policy", "bad_rounds=2", "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert set(found) == {"outages", "seconds", "availability", "coverage"}
    assert len(found["outages"]) == 2


@pytest.mark.parametrize(
    ("truth", "more", "said"),
    [
        ("", [], "at least one line"),
        ("5,3\n", [], "an end after its start"),
        ("1,9\n5,12\n", [], "do not overlap"),
        ("1,2\nx,y\n", [], "truth.csv:2: expected start,end"),
        ("1,2\n", ["--loss", "2"], "--loss"),
        ("1,2\n", ["--every", "60"], "--every 60"),
    ],
)
def test_wrong_use_is_refused(tmp_path: Path, truth: str, more: list[str], said: str) -> None:
    file = tmp_path / "truth.csv"
    file.write_text(truth)
    done = RUNNER.invoke(app, ["simulate", "outage", "--truth", str(file), "--every", "60s", *more])
    assert done.exit_code == 2
    assert said in done.stderr
