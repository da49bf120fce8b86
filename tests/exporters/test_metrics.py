"""The metrics page: contract names, labels, escaping, absence of what is unknown, and promtool's own opinion."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from config.plan import MailPlan, ServiceKind
from exporters.metric_names import CHECK_LABELS, METRICS
from exporters.metrics import CONTENT_TYPE, escape, page, process_figures, render
from exporters.metrics_manual import MANUAL, manual
from monitor.board import Board
from monitor.model import JUDGED, State
from probes.base import Fault, Reading
from tests.exporters.board_sample import BEGAN, advance, full_board, plan, result, service, target

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(body: bytes) -> dict[Sample, float]:
    families = text_string_to_metric_families(body.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found: Mapping[Sample, float], name: str, /, **labels: str) -> float | None:
    hits = [v for (n, have), v in found.items() if n == name and labels.items() <= dict(have).items()]
    assert len(hits) <= 1, f"{name} {labels} is not one series"
    return hits[0] if hits else None


def one_check(reading: Reading | None = None, state: State = State.UP) -> Board:
    check = target("portal", "https", "http")
    board = Board(plan((service("portal", "Cổng", ServiceKind.PORTAL, check),)), BEGAN)
    board.checks[check.id].state = state
    if reading:
        board.checks[check.id].last = result(check, reading)
    return board


def test_promtool_accepts_a_page_with_every_kind_of_value() -> None:
    body = render(full_board())[0] + process_figures()

    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=15, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_metric_of_the_table_is_on_a_full_page_and_no_other() -> None:
    families = {family.name: family for family in text_string_to_metric_families(render(full_board())[0].decode())}

    assert {m.name.removesuffix("_total") for m in METRICS} == set(families)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help), metric.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample


def test_the_names_promised_to_users_are_there() -> None:
    promised = (
        "up state probe_success probe_duration_seconds probe_phase_seconds rtt_seconds loss_ratio queue_delay_seconds "
        "tls_not_after_timestamp_seconds probes_total slots_total slot_lateness_seconds incidents_open alerts_total "
        "outbox_waiting coverage_ratio"
    )
    of_a_check = {m.name for m in METRICS if m.labels[: len(CHECK_LABELS)] == CHECK_LABELS}

    assert {f"thongsuot_{name}" for name in promised.split()} <= {m.name for m in METRICS}
    assert {"thongsuot_up", "thongsuot_state", "thongsuot_slots_total", "thongsuot_rtt_seconds"} <= of_a_check


def test_no_line_is_written_twice() -> None:
    lines = render(full_board())[0].decode().splitlines()
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]

    assert len(series) == len(set(series))


@pytest.mark.parametrize(
    ("state", "up"),
    [
        (State.UP, 1.0),
        (State.DEGRADED, 1.0),
        (State.CONGESTED, 1.0),
        (State.DOWN, 0.0),
        (State.UNKNOWN, None),
    ],
)
def test_up_follows_the_state_and_is_absent_while_unknown(state: State, up: float | None) -> None:
    board = one_check(state=state)
    board.services["portal"].state = state
    found = samples(render(board)[0])

    assert value(found, "thongsuot_up", check="https") == up
    assert value(found, "thongsuot_service_up", service="portal") == up
    for other in JUDGED:
        assert value(found, "thongsuot_state", check="https", state=other.value) == float(other is state)
        assert value(found, "thongsuot_service_state", state=other.value) == float(other is state)


def test_a_failed_probe_shows_at_once_and_keeps_its_phases() -> None:
    reading = Reading(Fault.TIMEOUT, "no answer within 10 s", 10.0, phases={"resolve": 0.25, "connect": 9.75})
    found = samples(render(one_check(reading))[0])

    assert value(found, "thongsuot_probe_success") == 0.0
    assert value(found, "thongsuot_probe_duration_seconds") == 10.0
    assert value(found, "thongsuot_probe_phase_seconds", phase="connect") == 9.75


def test_results_that_are_not_to_be_trusted_are_counted_from_zero_on() -> None:
    board = one_check()
    assert value(samples(render(board)[0]), "thongsuot_untrusted_results_total", check="https") == 0.0
    board.checks["portal.https"].untrusted = 3
    assert value(samples(render(board)[0]), "thongsuot_untrusted_results_total", check="https") == 3.0


@pytest.mark.parametrize("fault", [Fault.LOCAL, Fault.INTERNAL])
def test_a_probe_that_could_not_measure_says_nothing_of_its_target(fault: Fault) -> None:
    found = samples(render(one_check(Reading(fault, "no route out", 0.0, values={"body_bytes": 1.0})))[0])

    assert value(found, "thongsuot_probe_success") is None
    assert value(found, "thongsuot_probe_duration_seconds") is None
    assert value(found, "thongsuot_probe_value") is None


def test_values_with_a_metric_of_their_own_are_not_repeated_as_generic_ones() -> None:
    reading = Reading(None, "", 0.1, values={"tls_not_after_timestamp_s": 1.9e9, "status_code": 200.0})
    found = samples(render(one_check(reading))[0])

    assert value(found, "thongsuot_tls_not_after_timestamp_seconds") == 1.9e9
    assert value(found, "thongsuot_probe_value") == 200.0
    assert value(found, "thongsuot_probe_value", value="status_code") == 200.0


def test_loss_is_of_the_last_round_and_the_counters_of_all() -> None:
    board = full_board()
    advance(board)
    found = samples(render(board)[0])

    assert value(found, "thongsuot_loss_ratio", service="carrier-vnpt") == 0.25
    assert value(found, "thongsuot_echoes_sent_total", service="carrier-vnpt") == 8.0
    assert value(found, "thongsuot_echoes_lost_total", service="carrier-vnpt") == 2.0


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    found = samples(render(full_board())[0])
    where = {"service": "carrier-vnpt", "check": "ping"}

    assert value(found, "thongsuot_rtt_seconds_bucket", le="0.01", **where) == 0.0
    assert value(found, "thongsuot_rtt_seconds_bucket", le="0.025", **where) == 3.0
    assert value(found, "thongsuot_rtt_seconds_bucket", le="+Inf", **where) == 3.0
    assert value(found, "thongsuot_rtt_seconds_count", **where) == 3.0
    assert value(found, "thongsuot_rtt_seconds_sum", **where) == pytest.approx(0.036)
    assert value(found, "thongsuot_rtt_seconds_count", service="portal") is None


def test_vietnamese_names_and_awkward_characters_survive_the_journey() -> None:
    found = samples(render(full_board())[0])

    assert value(found, "thongsuot_service_info", name='Thư điện tử "công vụ"\\') == 1.0
    assert value(found, "thongsuot_check_info", name="Gửi\nthư") == 1.0
    assert value(found, "thongsuot_path_info", name='VNPT "cáp quang"', path="vnpt") == 1.0


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")) | st.just("\n")))
def test_any_label_value_reads_back_as_it_was(text: str) -> None:
    (family,) = text_string_to_metric_families(f'a{{b="{escape(text)}"}} 1\n')

    assert family.samples[0].labels == {"b": text}


def test_references_appear_under_their_own_service() -> None:
    found = samples(render(full_board())[0])

    assert value(found, "thongsuot_up", service="references", check="gateway", kind="icmp") == 1.0


def test_our_own_fault_is_always_three_series() -> None:
    board = one_check()
    found = samples(render(board)[0])
    board.own_fault = "local"
    later = samples(render(board)[0])

    assert [value(found, "thongsuot_own_fault", kind=kind) for kind in ("near", "far", "local")] == [0, 0, 0]
    assert [value(later, "thongsuot_own_fault", kind=kind) for kind in ("near", "far", "local")] == [0, 0, 1]


def test_alert_counters_of_a_configured_channel_begin_at_zero() -> None:
    services = (service("portal", "Cổng", ServiceKind.PORTAL, target("portal", "https", "http")),)
    board = Board(plan(services, mail=MailPlan("a@example.vn", ("b@example.vn",), ())), BEGAN)
    found = samples(render(board)[0])

    assert value(found, "thongsuot_alerts_total", channel="mail", outcome="failed") == 0.0
    assert value(samples(render(one_check())[0]), "thongsuot_alerts_total") is None


def test_coverage_is_absent_before_the_first_slot() -> None:
    board = one_check()
    before = samples(render(board)[0])
    board.checks["portal.https"].recent.extend((True, False, True, True))
    after = samples(render(board)[0])

    assert value(before, "thongsuot_coverage_ratio") is None
    assert value(after, "thongsuot_coverage_ratio") == 0.75


async def test_the_page_is_the_board_and_the_process_itself() -> None:
    board = full_board()
    body, content_type = await page(board)
    found = samples(body)

    assert body.startswith(render(board)[0])
    assert content_type == CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert (value(found, "process_resident_memory_bytes") or 0) > 1e6
    assert (value(found, "process_open_fds") or 0) > 2


async def test_other_tasks_get_their_turn_while_a_large_page_is_made() -> None:
    checks = tuple(target("portal", f"c{n}", "http") for n in range(900))
    board = Board(plan((service("portal", "Cổng", ServiceKind.PORTAL, *checks),)), BEGAN)
    making = asyncio.create_task(page(board))
    turns = 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
        if turns == 2:
            del board.checks["portal.c899"]  # a reload in the midst of it

    body, _ = await making
    assert turns > 4
    assert body.count(b"thongsuot_check_info{") == 899


def test_the_manual_is_made_from_the_table() -> None:
    assert MANUAL.read_text("utf-8") == manual(), "run: python -m exporters.metrics_manual"
