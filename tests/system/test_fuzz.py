"""A short run of the fuzzer, the same each time. `make fuzz ARGS="--seconds 60"` makes longer ones."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.system
@pytest.mark.timeout(120)
def test_some_thousand_inputs_led_by_coverage_find_nothing_that_a_parser_may_not_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--runs", "10000", "--seed", "1", "--seconds", "10", "--jobs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if importlib.util.find_spec("atheris") is None:
        assert "the fuzzer needs atheris" in done.stderr
        return
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("none did what it must not\n")
