"""The checked-in dashboard and rules: not stale, whole, and about metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from exporters.alert_rules import ALERTS, JOB
from exporters.dashboards import (
    DASHBOARD_FILE,
    dashboard_expressions,
    dashboard_json,
    every_expression,
    runnable,
)
from exporters.metric_names import METRICS
from exporters.rules import INTERVAL_S, RECORDINGS, RULES_FILE, rules_yaml

GRAFANA = Path(DASHBOARD_FILE).parents[3]
PROMETHEUS = RULES_FILE.parent


def promtool(*args: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=15, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD_FILE.read_text("utf-8"))["panels"]
    return found


def test_the_dashboard_file_is_what_the_generator_makes() -> None:
    assert DASHBOARD_FILE.read_text("utf-8") == dashboard_json(), "run: python -m exporters.dashboards"


def test_the_rules_file_is_what_the_generator_makes() -> None:
    assert RULES_FILE.read_text("utf-8") == rules_yaml(), "run: python -m exporters.rules"


def test_promtool_accepts_the_rules_and_the_example() -> None:
    assert f"{len(RECORDINGS) + len(ALERTS)} rules found" in promtool("check", "rules", RULES_FILE)
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_the_example_scrapes_by_the_name_the_rules_look_for() -> None:
    example = YAML(typ="safe").load(PROMETHEUS / "prometheus.yml")

    assert [job["job_name"] for job in example["scrape_configs"]] == [JOB]
    assert example["rule_files"] == [RULES_FILE.name]


def test_the_daemon_runs_without_the_sdk() -> None:
    code = "import sys, exporters.metrics, exporters.rules; sys.exit('grafana_foundation_sdk' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=15, check=False).returncode == 0


def test_expressions_name_only_metrics_that_exist() -> None:
    known = {m.name for m in METRICS} | {rule.record for rule in RECORDINGS}
    known |= {f"{m.name}_bucket" for m in METRICS if m.type == "histogram"}
    texts = every_expression() + [alert.expr for alert in ALERTS]
    named = {name for text in texts for name in re.findall(r"[a-z_:]*thongsuot_\w+(?::\w+)*", text)}

    assert named <= known
    assert {rule.record for rule in RECORDINGS} <= known


def test_every_metric_a_duty_officer_needs_is_on_the_dashboard() -> None:
    shown = "\n".join(dashboard_expressions())

    for name in (
        "service_state",
        "own_fault",
        "incidents_open",
        "probe_phase_seconds",
        "rtt_seconds_bucket",
        "echoes_lost_total",
        "tls_not_after_timestamp_seconds",
        "slots_total",
        "slot_lateness_seconds_bucket",
        "alerts_total",
        "outbox_waiting",
        "coverage_ratio",
        "probes_total",
    ):
        assert f"thongsuot_{name}" in shown, name


def test_no_variable_is_left_in_a_runnable_expression() -> None:
    assert runnable('rate(a{site=~"$site", service=~"$service"}[$__rate_interval]) * $__range_s') == (
        'rate(a{site=~".*", service=~".*"}[1m]) * 3600'
    )
    assert not [expr for expr in every_expression() if "$" in expr]


def test_each_panel_has_a_place_a_name_and_an_explanation() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not mine & cells, f"{panel['title']} lies over another panel"
        cells |= mine
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"].endswith("."), panel["title"]
            assert panel["targets"], panel["title"]
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len(set(numbers))


def test_every_query_goes_to_the_chosen_data_source() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


def test_the_words_for_states_and_moments_are_those_of_the_house() -> None:
    text = DASHBOARD_FILE.read_text("utf-8")

    for word in ("Thông suốt", "Suy giảm", "Nghẽn", "Gián đoạn", "Không có số liệu", "Độ khả dụng", "Độ phủ đo"):
        assert word in text, word
    assert "DD/MM/YYYY HH:mm:ss" in text


def test_provisioning_points_at_the_folder_that_is_copied() -> None:
    load = YAML(typ="safe").load
    provider = load(GRAFANA / "provisioning" / "dashboards" / "thongsuot.yaml")["providers"][0]
    source = load(GRAFANA / "provisioning" / "datasources" / "thongsuot.yaml")["datasources"][0]

    inside = DASHBOARD_FILE.parent.relative_to(GRAFANA / "provisioning")
    assert provider["options"]["path"] == f"/etc/grafana/provisioning/{inside}"
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == f"{INTERVAL_S}s"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_speaks_to_a_person(alert: Any) -> None:
    labels = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))

    assert alert.description.endswith(".")
    assert len(alert.summary) < 120
    assert labels <= {"site", "service", "check", "name", "kind", "channel", "instance"}
