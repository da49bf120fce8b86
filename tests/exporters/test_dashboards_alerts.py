"""Alerts and figures played by the real promtool: what fires, when, with which words, and what stays silent."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from exporters.alert_rules import ALERTS
from exporters.rules import RULES_FILE

SITE = {"site": "lang-son"}
SCRAPE = {"job": "thongsuot", "instance": "127.0.0.1:8480"}
MAIL = {**SITE, "service": "mail", "kind": "mail"}
CHECK = {**SITE, "service": "portal", "check": "https", "path": "", "kind": "http"}


def series(name: str, labels: Mapping[str, str], values: str) -> dict[str, str]:
    inside = ",".join(f'{key}="{value}"' for key, value in ({**SCRAPE, **labels}).items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def state(labels: Mapping[str, str], now: str, values: str) -> dict[str, str]:
    return series("thongsuot_service_state", {**labels, "state": now}, values)


MAIL_NAME = series("thongsuot_service_info", {**MAIL, "name": "Thư điện tử"}, "1x240")
CHECK_NAME = series("thongsuot_check_info", {**CHECK, "name": "Trang chủ"}, "1x240")


@dataclass(frozen=True)
class Play:
    """Series with one value a minute; the alert fires with these labels at `fires` and not at `silent` (minutes)."""

    alert: str
    given: Sequence[dict[str, str]]
    fires: str
    silent: str
    labels: Mapping[str, str]


def certificate(days: float) -> dict[str, str]:
    return series("thongsuot_tls_not_after_timestamp_seconds", CHECK, f"{int(days * 86400)}x240")


def slots(end: str, values: str) -> dict[str, str]:
    return series("thongsuot_slots_total", {**CHECK, "end": end}, values)


PLAYS = (
    Play(
        "ThongsuotServiceDown",
        [MAIL_NAME, state(MAIL, "down", "0x4 1x10 0x20")],
        fires="6m",
        silent="4m",
        labels={**MAIL, "state": "down", "name": "Thư điện tử"},
    ),
    Play(
        "ThongsuotServiceDown",
        [MAIL_NAME, state(MAIL, "down", "0x4 1x10 0x20")],
        fires="5m",
        silent="16m",  # over with the outage
        labels={**MAIL, "state": "down", "name": "Thư điện tử"},
    ),
    Play(
        "ThongsuotServiceImpaired",
        # Going from one to the other does not start the five minutes anew.
        [MAIL_NAME, state(MAIL, "degraded", "1x3 0x20"), state(MAIL, "congested", "0x3 1x20")],
        fires="6m",
        silent="4m",
        labels={**MAIL, "name": "Thư điện tử"},
    ),
    Play(
        "ThongsuotServiceUnobserved",
        [MAIL_NAME, state(MAIL, "unknown", "1x30")],
        fires="11m",
        silent="9m",
        labels={**MAIL, "state": "unknown", "name": "Thư điện tử"},
    ),
    Play(
        "ThongsuotMonitorDown",
        [series("up", {}, "1x4 0x20")],
        fires="7m",
        silent="4m",
        labels={},
    ),
    Play(
        "ThongsuotMonitorAbsent",
        [series("up", {}, "1x2 stale")],
        fires="6m",
        silent="2m",
        labels={"job": "thongsuot"},
    ),
    Play(
        "ThongsuotSiteMissing",
        [
            series("thongsuot_build_info", {**SITE, "version": "1"}, "1x4 stale"),
            series("thongsuot_build_info", {"site": "nam-dinh", "version": "1"}, "1x30"),
        ],
        fires="9m",
        silent="4m",
        labels=SITE,
    ),
    Play(
        "ThongsuotOwnFault",
        [series("thongsuot_own_fault", {**SITE, "kind": "far"}, "0x4 1x10")],
        fires="6m",
        silent="4m",
        labels={**SITE, "kind": "far"},
    ),
    Play(
        "ThongsuotOutboxStuck",
        [series("thongsuot_outbox_waiting", SITE, "2x1 0x2 1x30")],  # an empty moment starts the ten minutes anew
        fires="16m",
        silent="11m",
        labels=SITE,
    ),
    Play(
        "ThongsuotAlertsFailing",
        [series("thongsuot_alerts_total", {**SITE, "channel": "mail", "outcome": "failed"}, "0x10 1x60")],
        fires="12m",
        silent="10m",
        labels={**SITE, "channel": "mail", "outcome": "failed"},
    ),
    Play(
        "ThongsuotSlotsLost",
        [slots("done", "0+10x60"), slots("lost", "0x20 2+2x40"), slots("skipped", "0x60"), slots("late", "0x60")],
        fires="40m",
        silent="15m",
        labels=SITE,
    ),
    Play(
        "ThongsuotCoverageLow",
        [series("thongsuot_coverage_ratio", CHECK, "1x10 0.5x40")],
        fires="22m",
        silent="19m",
        labels={**SITE, "service": "portal"},
    ),
    Play(
        "ThongsuotCertificateExpiresSoon",
        [CHECK_NAME, certificate(20.0)],
        fires="11m",
        silent="9m",
        labels={**CHECK, "name": "Trang chủ"},
    ),
    Play(
        "ThongsuotCertificateExpires",
        [CHECK_NAME, certificate(-1.0)],
        fires="11m",
        silent="9m",
        labels={**CHECK, "name": "Trang chủ"},
    ),
    Play(
        "ThongsuotProbesLate",
        [
            series("thongsuot_slot_lateness_seconds_bucket", {**SITE, "le": le}, values)
            for le, values in (("0.1", "0+10x60"), ("0.5", "0+10x60"), ("1", "0+60x60"), ("+Inf", "0+60x60"))
        ],
        fires="20m",
        silent="9m",
        labels=SITE,
    ),
    Play(
        "ThongsuotRestarting",
        [series("thongsuot_start_time_seconds", SITE, "1 1 2 2 3 3 4 4x10")],
        fires="7m",
        silent="5m",
        labels=SITE,
    ),
)


def own(labels: Mapping[str, str], alert: str) -> dict[str, str]:
    """Return the labels the alert comes with: aggregated ones lose those of the scrape."""
    aggregated = alert in {
        "ThongsuotMonitorAbsent",
        "ThongsuotSiteMissing",
        "ThongsuotSlotsLost",
        "ThongsuotCoverageLow",
        "ThongsuotProbesLate",
    }
    severity = {"severity": next(a.severity for a in ALERTS if a.name == alert)}
    return {k: v for k, v in {**({} if aggregated else SCRAPE), **labels, **severity}.items() if v}


def shown(name: str, labels: Mapping[str, str]) -> str:
    """Write a series as promtool wants to read it."""
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def expect(expr: str, at: str, value: float) -> dict[str, object]:
    """Expect one sample of the mail service; a bare recorded series keeps its name, a calculated one has none."""
    name = expr if re.fullmatch(r"[a-z0-9_:]+", expr) else ""
    return {"expr": expr, "eval_time": at, "exp_samples": [{"labels": shown(name, MAIL), "value": value}]}


def promtool_test(folder: Path, test: Mapping[str, object]) -> str:
    file = folder / "test.yml"
    yaml = YAML()
    with file.open("w", encoding="utf-8") as out:
        yaml.dump({"rule_files": [str(RULES_FILE)], "evaluation_interval": "15s", "tests": [test]}, out)
    done = subprocess.run(
        ["promtool", "test", "rules", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=15,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: f"{play.alert}-{play.fires}")
def test_an_alert_fires_when_it_must_and_not_before(play: Play, tmp_path: Path) -> None:
    labels = {**own(play.labels, play.alert), "alertname": play.alert, "alertstate": "firing"}
    firing = f'ALERTS{{alertname="{play.alert}", alertstate="firing"}}'
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": list(play.given),
            "promql_expr_test": [
                {"expr": firing, "eval_time": play.silent, "exp_samples": []},
                {
                    "expr": firing,
                    "eval_time": play.fires,
                    "exp_samples": [{"labels": shown("ALERTS", labels), "value": 1}],
                },
            ],
        },
    )

    assert problem == ""


@dataclass(frozen=True)
class Message:
    """What an alert says, word for word."""

    alert: str
    given: Sequence[dict[str, str]]
    at: str
    labels: Mapping[str, str]
    summary: str
    description: str


MESSAGES = (
    Message(
        "ThongsuotServiceDown",
        [MAIL_NAME, state(MAIL, "down", "1x10")],
        "1m",
        {**MAIL, "state": "down", "name": "Thư điện tử"},
        "Thư điện tử gián đoạn",
        "Dịch vụ Thư điện tử tại lang-son đang gián đoạn; đã đo lại và xác nhận. Xem trang trực tiếp của "
        "Thông Suốt để biết phép kiểm tra nào hỏng, từ lúc nào và ai đã được báo.",
    ),
    Message(
        "ThongsuotCertificateExpiresSoon",
        [CHECK_NAME, certificate(20.0)],
        "12m",
        {**CHECK, "name": "Trang chủ"},
        "Chứng thư của portal.https còn 20 ngày",
        "Chứng thư TLS mà Trang chủ tại lang-son đưa ra còn hạn 20.0 ngày. Gia hạn trước kỳ nghỉ.",
    ),
    Message(
        "ThongsuotOutboxStuck",
        [series("thongsuot_outbox_waiting", SITE, "3x20")],
        "11m",
        SITE,
        "Cảnh báo tại lang-son chưa gửi được",
        "Hơn 10 phút nay còn 3 thông báo chưa máy chủ thư nào nhận. Người trực có thể chưa biết về sự cố: "
        "gọi điện, rồi chạy thongsuot alerts test để xem máy chủ nào từ chối.",
    ),
    Message(
        "ThongsuotCoverageLow",
        [series("thongsuot_coverage_ratio", CHECK, "0.85x20")],
        "11m",
        {**SITE, "service": "portal"},
        "Độ phủ đo của portal thấp",
        "Chỉ 85% số lượt đo gần đây của portal tại lang-son có kết quả. "
        "Số liệu độ khả dụng của thời gian này kém tin cậy.",
    ),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.alert)
def test_an_alert_says_what_where_and_what_to_do(message: Message, tmp_path: Path) -> None:
    alert = {
        "exp_labels": own(message.labels, message.alert),
        "exp_annotations": {"summary": message.summary, "description": message.description},
    }
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": list(message.given),
            "alert_rule_test": [{"eval_time": message.at, "alertname": message.alert, "exp_alerts": [alert]}],
        },
    )

    assert problem == ""


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [
                series("up", {}, "1x120"),
                series("thongsuot_build_info", {**SITE, "version": "1"}, "1x120"),
                series("thongsuot_start_time_seconds", SITE, "0x120"),
                MAIL_NAME,
                CHECK_NAME,
                *(state(MAIL, name, f"{int(name == 'up')}x120") for name in ("unknown", "up", "degraded", "down")),
                certificate(60.0),
                slots("done", "0+10x120"),
                slots("lost", "0x120"),
                series("thongsuot_coverage_ratio", CHECK, "1x120"),
                series("thongsuot_outbox_waiting", SITE, "0 1 0 1 0 1 0x110"),
                series("thongsuot_alerts_total", {**SITE, "channel": "mail", "outcome": "failed"}, "0x120"),
                series("thongsuot_own_fault", {**SITE, "kind": "near"}, "0x120"),
                series("thongsuot_results_queue_size", SITE, "0x120"),
                series("thongsuot_results_queue_limit", SITE, "1000x120"),
            ],
            "promql_expr_test": [
                {
                    "expr": 'count(ALERTS{alertname=~"Thongsuot.*", alertstate="firing"})',
                    "eval_time": when,
                    "exp_samples": [],
                }
                for when in ("5m", "30m", "119m")
            ],
        },
    )

    assert problem == ""


OBSERVED = (
    state(MAIL, "unknown", "0x39 1x19 0x39"),
    state(MAIL, "up", "1x29 0x29 1x39"),
    state(MAIL, "down", "0x29 1x9 0x59"),
)


def test_availability_is_over_observed_time_and_coverage_over_all_of_it(tmp_path: Path) -> None:
    up = series("thongsuot_service_up", MAIL, "1x29 0x9 stale " + "_ " * 19 + "1x39")
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [up, *OBSERVED],
            "promql_expr_test": [
                # After an hour: 30 good of 40 observed minutes, and 40 of 60 observed.
                expect("round(site_service:thongsuot_availability:ratio1h, 0.01)", "59m", 0.75),
                expect("round(site_service:thongsuot_coverage:ratio1h, 0.02)", "59m45s", 0.66),
            ],
        },
    )

    assert problem == ""


def test_a_monitor_that_was_off_adds_no_uptime_and_takes_away_coverage(tmp_path: Path) -> None:
    off = "1x29 stale " + "_ " * 28 + "1x1"
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [series("thongsuot_service_up", MAIL, off), state(MAIL, "up", off)],
            "promql_expr_test": [
                expect("site_service:thongsuot_availability:ratio1h", "59m", 1),
                expect("round(site_service:thongsuot_coverage:ratio1h, 0.02)", "59m", 0.5),
            ],
        },
    )

    assert problem == ""


def test_worst_and_best_are_apart_by_what_was_not_observed(tmp_path: Path) -> None:
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [
                # Of the day, a tenth was good, a twentieth down, a twentieth unknown, and the rest was before our time.
                series("thongsuot_service_up", MAIL, "1x143 0x71 stale"),
                state(MAIL, "up", "1x143 0x143"),
                state(MAIL, "down", "0x143 1x71 0x71"),
                state(MAIL, "unknown", "0x215 1x71"),
            ],
            "promql_expr_test": [
                expect("round(site_service:thongsuot_availability:ratio1d, 0.01)", "287m", 0.67),
                expect("round(site_service:thongsuot_availability_worst:ratio1d, 0.01)", "287m", 0.1),
                expect("round(site_service:thongsuot_availability_best:ratio1d, 0.01)", "287m", 0.95),
            ],
        },
    )

    assert problem == ""


def test_a_service_never_observed_lies_between_nothing_and_everything(tmp_path: Path) -> None:
    problem = promtool_test(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [state(MAIL, "up", "0x60"), state(MAIL, "unknown", "1x60")],
            "promql_expr_test": [
                {"expr": "site_service:thongsuot_availability:ratio1d", "eval_time": "1h", "exp_samples": []},
                expect("site_service:thongsuot_availability_worst:ratio1d", "1h", 0),
                expect("site_service:thongsuot_availability_best:ratio1d", "1h", 1),
            ],
        },
    )

    assert problem == ""
