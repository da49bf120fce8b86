from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.plan import OutagePolicy
from monitor.judge.outage import Sample
from monitor.model import Result
from monitor.track import sample_of
from probes.base import Fault, Reading, utc_now
from probes.base import Path as Uplink
from probes.exec import PROBE, Settings
from probes.exec_perf import ITEMS_LIMIT, Item, items, named, split
from tests.probes.probing import run_probe


def plugin(folder: Path, body: str, name: str = "check_it") -> str:
    """Write a plugin in Python and return its full name."""
    file = folder / name
    file.write_text(f"#!{sys.executable} -IS\nimport os, signal, sys, time\n{textwrap.dedent(body)}")
    file.chmod(0o755)
    return str(file)


async def check(command: list[str], *, timeout_s: float = 5.0, path: Uplink | None = None, **more: object) -> Reading:
    return await run_probe(PROBE, timeout_s=timeout_s, path=path, command=command, **more)  # type: ignore[arg-type]


def offspring() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def until_there(file: Path) -> None:
    deadline = time.monotonic() + 5
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Statuses


async def test_ok_is_good_and_says_what_the_plugin_said(tmp_path: Path) -> None:
    reading = await check([plugin(tmp_path, "print('HTTP OK: 200 | time=12ms;;;0 size=2KB users=3 load=5%')")])
    assert reading.fault is None
    assert reading.detail == ""
    assert reading.facts == {"output": "HTTP OK: 200"}
    assert reading.values == {
        "plugin_code": 0,
        "warning_count": 0,
        "perf_time_s": 0.012,
        "perf_size_bytes": 2000,
        "perf_users_count": 3,
        "perf_load_ratio": 0.05,
    }
    assert set(reading.phases) == {"processing"}


async def test_a_warning_is_good_says_why_and_counts_towards_degraded(tmp_path: Path) -> None:
    reading = await check([plugin(tmp_path, "print('DISK WARNING - 9% free|'); sys.exit(1)")])
    assert reading.fault is None
    assert reading.warned
    assert reading.detail == "DISK WARNING - 9% free"
    result = Result("s", "a.b", "", utc_now(), utc_now(), 0.0, 0, reading)
    assert sample_of(result, OutagePolicy()) is Sample.SLOW


async def test_critical_is_a_content_fault(tmp_path: Path) -> None:
    reading = await check([plugin(tmp_path, "print('CRITICAL: hàng đợi đầy | q=900'); sys.exit(2)")])
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "CRITICAL: hàng đợi đầy")
    assert reading.values["perf_q_count"] == 900


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("print('no such host'); sys.exit(3)", "the plugin could not tell: no such host"),
        ("sys.exit(127)", "the plugin ended with status 127, expected 0 to 3: no word"),
        ("print('usage', file=sys.stderr); sys.exit(64)", "the plugin ended with status 64, expected 0 to 3: usage"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the plugin was ended by SIGSEGV"),
    ],
)
async def test_any_other_end_says_that_nothing_was_measured(tmp_path: Path, body: str, detail: str) -> None:
    reading = await check([plugin(tmp_path, body)])
    assert (reading.fault, reading.detail) == (Fault.LOCAL, detail)


async def test_a_plugin_without_a_word_is_told_by_its_status(tmp_path: Path) -> None:
    reading = await check([plugin(tmp_path, "sys.exit(2)")])
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "the plugin ended with CRITICAL 2 and no word")


@pytest.mark.parametrize(("mode", "word"), [(None, "No such file"), (0o644, "Permission denied")])
async def test_a_plugin_that_cannot_be_started_is_our_own_fault(tmp_path: Path, mode: int | None, word: str) -> None:
    file = tmp_path / "check_gone"
    if mode is not None:
        file.write_text("x")
        file.chmod(mode)
    reading = await check([str(file)])
    assert reading.fault is Fault.LOCAL
    assert reading.detail.startswith(f"{file} cannot be started: {word}")


# What a plugin is given


async def test_it_gets_its_words_as_they_are_an_empty_input_and_little_else(tmp_path: Path) -> None:
    name = plugin(
        tmp_path, "print(sys.argv[1:], repr(sys.stdin.read()), os.getcwd(), sorted(os.environ), os.getsid(0))"
    )
    reading = await check([name, "$(id); *", "a b", "đ"], environment={"LANG": "vi"})
    words = reading.facts["output"]
    assert words.startswith("['$(id); *', 'a b', 'đ'] '' / ['HOME', 'LANG', 'LC_ALL', 'PATH'] ")
    assert not words.endswith(f" {os.getsid(0)}")


async def test_a_secret_reaches_the_plugin_by_its_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("bí mật\n")
    monkeypatch.setenv("DB_TOKEN", "thẻ")
    name = plugin(tmp_path, "print(os.environ['A'] == 'bí mật', os.environ['B'] == 'thẻ')")
    secrets = [{"name": "A", "value_file": str(tmp_path / "secret")}, {"name": "B", "value_env": "DB_TOKEN"}]
    reading = await check([name], secrets=secrets)
    assert reading.facts["output"] == "True True"
    monkeypatch.delenv("DB_TOKEN")
    assert (await check([name], secrets=secrets)).fault is Fault.LOCAL


@pytest.mark.parametrize(("stream", "status"), [("stdout", 2), ("stderr", 3)])
async def test_a_plugin_that_prints_its_secret_does_not_show_it(tmp_path: Path, stream: str, status: int) -> None:
    (tmp_path / "secret").write_text("bí mật\n")
    words = f"print('login refused for bí mật at db', file=sys.{stream}); sys.exit({status})"
    secrets = [{"name": "A", "value_file": str(tmp_path / "secret")}]
    reading = await check([plugin(tmp_path, words)], secrets=secrets)
    assert reading.facts["output"] == "login refused for *** at db"
    assert "***" in reading.detail
    assert "bí mật" not in reading.detail


async def test_a_path_is_handed_on_only_by_its_name(tmp_path: Path) -> None:
    name = plugin(tmp_path, "print(sys.argv[1:])")
    vnpt = Uplink("vnpt", "VNPT", source="192.0.2.10")
    reading = await check([name, "-s", "$source$"], path=vnpt)
    assert reading.facts["output"] == "['-s', '192.0.2.10']"
    for command, path, word in (
        ([name], vnpt, "a plugin does not leave by path vnpt"),
        ([name, "$source$"], None, "and the check has no path"),
        ([name, "-i$interface$"], vnpt, "$interface$, which path vnpt has not"),
    ):
        refused = await check(command, path=path)
        assert refused.fault is Fault.LOCAL
        assert word in refused.detail


@pytest.mark.parametrize(
    "command",
    [[], ["check_tcp"], ["/a", "x\0y"], ["/a", "--password=hoa"], ["/a", "--authpassword", "b"], ["/a", "--api-key=1"]],
)
def test_a_command_without_its_full_name_or_with_a_secret_is_refused(command: list[str]) -> None:
    with pytest.raises(ValidationError):
        Settings(command=tuple(command))


# Bounds


async def test_a_plugin_that_hangs_is_ended_in_time_with_all_its_children(tmp_path: Path) -> None:
    name = plugin(tmp_path, "print('half', flush=True); os.fork(); signal.signal(signal.SIGTERM, 0 or signal.SIG_IGN)\n"
                            "while True: time.sleep(9)")  # fmt: skip
    reading = await check([name], timeout_s=1.2)
    assert (reading.fault, reading.detail) == (
        Fault.TIMEOUT,
        "the plugin did not end within 1.2 s, having said: half",
    )
    assert reading.duration_s < 1.2
    assert offspring() == []


async def test_a_plugin_may_tidy_up_on_sigterm(tmp_path: Path) -> None:
    mark = tmp_path / "tidied"
    name = plugin(tmp_path, f"signal.signal(signal.SIGTERM, lambda *_: (open({str(mark)!r}, 'w'), sys.exit(0)))\n"
                            "time.sleep(9)")  # fmt: skip
    reading = await check([name], timeout_s=1.0)
    assert reading.fault is Fault.TIMEOUT
    assert mark.exists()


async def test_a_child_that_is_left_behind_does_not_hold_the_result_up(tmp_path: Path) -> None:
    name = plugin(tmp_path, "print('OK', flush=True)\nif not os.fork(): time.sleep(9)")
    reading = await check([name], timeout_s=5.0)
    assert (reading.fault, reading.facts["output"]) == (None, "OK")
    assert reading.duration_s < 2
    assert not [p for p in offspring() if p.status() != psutil.STATUS_ZOMBIE]


async def test_a_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    started = tmp_path / "started"
    name = plugin(tmp_path, f"open({str(started)!r}, 'w')\nwhile True: time.sleep(9)")
    task = asyncio.create_task(check([name], timeout_s=15.0))
    await asyncio.to_thread(until_there, started)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert offspring() == []


async def test_long_output_is_cut_and_output_without_end_is_ended(tmp_path: Path) -> None:
    long = await check([plugin(tmp_path, "print('OK ' + 'x' * 3_000_000)")])
    assert long.fault is None
    assert len(long.facts["output"]) == 200
    flood = await check([plugin(tmp_path, "while True: os.write(1, b'x' * 65536)")])
    assert (flood.fault, flood.detail) == (Fault.LOCAL, "the plugin printed more than 16 MiB and was ended")
    assert offspring() == []


def test_it_works_on_uvloop_as_well(tmp_path: Path) -> None:
    name = plugin(tmp_path, "print('OK', flush=True)\nif not os.fork(): time.sleep(9)")
    slow = plugin(tmp_path, "time.sleep(9)", "check_slow")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(check([name])).fault is None
        assert runner.run(check([slow], timeout_s=1.0)).fault is Fault.TIMEOUT
    assert not [p for p in offspring() if p.status() != psutil.STATUS_ZOMBIE]


# Performance data


def test_text_and_data_are_parted_over_several_lines() -> None:
    output = split("DISK OK|/=2643MB;5948\nthe rest\nin words | /boot=68MB;88\n/home=69357MB\n")
    assert output.text == "DISK OK"
    assert [item.label for item in items(output.perf)] == ["/", "/boot", "/home"]


def test_labels_may_be_quoted_and_units_are_made_ours() -> None:
    read = list(items("'it''s a label'=1.5GB;1:5;~:;0;9 x=U y=3c 'z'=-2e-1us;; junk =4 t=35C"))
    assert read[:3] == [Item("it's a label", 1.5, "GB"), Item("y", 3, "c"), Item("z", -0.2, "us")]
    assert named("a=1GB 'b c'=2us A=9GB t=35C %=3 d=1GiB") == {
        "perf_a_bytes": 1e9,
        "perf_b_c_s": pytest.approx(2e-6),
        "perf_t_c_count": 35,
        "perf_value_count": 3,
        "perf_d_bytes": 2**30,
    }


def test_no_more_numbers_than_the_limit_are_taken() -> None:
    assert len(named(" ".join(f"a{n}=1" for n in range(500)))) == ITEMS_LIMIT


@pytest.mark.parametrize("piece", ["a", "'", "' ", "'a", "'a'", "=", "|", " x", "''a", "a'", "\t"])
def test_a_long_text_without_numbers_is_read_in_linear_time(piece: str) -> None:
    began = time.thread_time()
    assert named(f"x {piece * (65536 // len(piece))} y") == {}
    assert time.thread_time() - began < 0.5  # of quadratic time it would be ten times as much


@given(st.text(max_size=400))
def test_any_text_gives_finite_numbers_under_clean_names(printed: str) -> None:
    output = split(printed)
    for name, value in named(output.perf).items():
        assert name.startswith("perf_")
        assert name.endswith(("_s", "_bytes", "_ratio", "_count"))
        assert name.isascii()
        assert name == name.lower()
        assert len(name) < 100
        assert math.isfinite(value)


LABELS = st.text("abcXYZ 0'=/é", min_size=1, max_size=12).filter(str.strip)


@given(LABELS, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", "s", "%", "B", "c", "W"]))
def test_what_is_printed_by_the_rules_is_read_back(label: str, value: float, unit: str) -> None:
    quoted = label.replace("'", "''")
    (item,) = items(f"'{quoted}'={value!r}{unit};1;2;0;")
    assert item == Item(label.strip(), value, unit)
