"""A simulated event leaves the evidence that the daemon would have left, marked as made up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from config.loader import load_text
from config.plan import Plan, Window
from exporters.report.figures import Figures, gather
from monitor.history import open_history
from monitor.model import State
from thongsuot.reports import find_event
from thongsuot.scenario import Scenario, ScenarioError, World, part, read, running, spans
from thongsuot.simulate_event import Outcome, simulate

CONFIG = """
site: {id: lang-son, name: Sở Thông tin và Truyền thông tỉnh Lạng Sơn}
references:
  gateway: {probe: icmp, host: 192.0.2.1, every: 5s}
  vnix: {probe: icmp, host: 203.119.8.1, every: 10s}
  hop: {probe: icmp, host: 203.0.113.1, every: 10s}
services:
  mail: {kind: mail, checks: {smtp: {probe: tcp, host: mail.example.vn, port: 25, every: 20s}}}
  vnpt: {kind: carrier, checks: {ping: {probe: icmp, host: 203.0.113.9, every: 10s, count: 5}}}
events:
  dem-hoi: {name: Đêm hội, from: 2022-04-29 20:00, to: 2022-04-29 22:00}
"""
HAPPENINGS = """
happenings:
  - {from: "2022-04-29 20:30", to: "2022-04-29 20:40", down: [mail], fault: refused, detail: connection refused}
  - {from: "2022-04-29 21:00", to: "2022-04-29 21:15", off: true}
  - {from: "2022-04-29 21:30", to: "2022-04-29 21:40", queued: [vnpt.ping], queue_ms: 50, loss: 0.05}
"""


def plan_of(tmp_path: Path) -> Plan:
    return replace(load_text(CONFIG), state_dir=tmp_path / "state")


def scenario_of(plan: Plan, tmp_path: Path, text: str = HAPPENINGS) -> Scenario:
    file = tmp_path / "scenario.yaml"
    file.write_text(text, "utf-8")
    return read(file, plan)


def live(plan: Plan, scenario: Scenario, seed: int = 1) -> Outcome:
    return asyncio.run(simulate(plan, find_event(plan, "dem-hoi"), scenario, plan.state_dir, seed))


def figures(plan: Plan) -> Figures:
    event = find_event(plan, "dem-hoi")
    with open_history(plan.state_dir, plan.site.id) as history:
        return gather(plan, history, event.window, event.name)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    folder = tmp_path_factory.mktemp("evening")
    plan = plan_of(folder)
    outcome = live(plan, scenario_of(plan, folder))
    assert outcome.runs == 2
    assert outcome.results > 3000
    return figures(plan)


def seconds(made: Figures, service: str, state: State) -> float:
    return made.services[service].seconds[state]


def test_an_outage_of_the_scenario_is_found_with_its_reason(evening: Figures) -> None:
    outage = evening.services["mail"].outages[0]
    assert len(evening.services["mail"].outages) == 1
    assert seconds(evening, "mail", State.DOWN) == pytest.approx(600, abs=30)
    assert (outage.fault, outage.detail) == ("refused", "connection refused")
    assert [i.subject for i in evening.incidents] == ["mail"]


def test_while_the_monitor_is_off_nothing_is_known(evening: Figures) -> None:
    assert seconds(evening, "vnpt", State.UNKNOWN) == pytest.approx(900, abs=60)
    assert {g.cause for g in evening.gaps["vnpt.ping"]} == {"off"}


def test_a_queue_makes_answers_slower_and_loses_some_and_is_no_outage(evening: Figures) -> None:
    found = evening.responses["vnpt.ping"]
    assert not evening.services["vnpt"].outages
    assert 0.02 < max(found.seconds) < 0.15
    assert found.echoes_lost > 5


def test_the_evidence_says_that_it_is_made_up(evening: Figures) -> None:
    assert evening.simulated


def test_the_ledger_of_slots_is_kept(evening: Figures) -> None:
    assert evening.slots["mail.smtp"].done == pytest.approx((7200 - 900) / 20, abs=2)


def test_the_same_seed_gives_the_same_evidence(tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        plan = replace(plan_of(tmp_path), state_dir=tmp_path / name)
        live(plan, scenario_of(plan, tmp_path), seed)
        found.append(figures(plan))
    assert found[0].responses == found[1].responses
    assert found[0].checks == found[1].checks
    assert found[0].responses != found[2].responses


def test_when_the_uplink_is_cut_it_is_our_own_fault(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    cut = 'happenings: [{from: "2022-04-29 21:00", to: "2022-04-29 21:20", cut_off: true}]'
    live(plan, scenario_of(plan, tmp_path, cut))
    made = figures(plan)
    assert seconds(made, "vnpt", State.UNKNOWN) == pytest.approx(1200, abs=60)
    assert seconds(made, "vnpt", State.DOWN) == 0


# Scenarios.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("happenings: [{from: '2022-04-29 20:30', to: '2022-04-29 20:40', down: [mial]}]", "called mial"),
        ("happenings: [{from: '2022-04-29 20:30', to: '2022-04-29 20:40'}]", "say what happens"),
        ("losss: 0.1", "unknown key 'losss'"),
        ("loss: [", "scenario.yaml:"),
    ],
    ids=["an unknown service", "nothing happens", "an unknown key", "no YAML"],
)
def test_a_scenario_that_cannot_be_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario_of(plan_of(tmp_path), tmp_path, text)


def test_a_happening_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    wrong = "happenings: [{from: '2022-04-29 20:40', to: '2022-04-29 20:30', off: true}]"
    with pytest.raises(ScenarioError, match=r"ends .* before it begins"):
        spans(scenario_of(plan, tmp_path, wrong), plan)


def test_a_part_of_an_event_is_lived_through(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    whole = find_event(plan, "dem-hoi").window
    half = scenario_of(plan, tmp_path, "from: 2022-04-29 21:00")
    assert part(half, plan, whole) == Window(whole.start.replace(hour=14), whole.end)
    with pytest.raises(ScenarioError, match="nothing of the event is left"):
        part(scenario_of(plan, tmp_path, "from: 2022-05-01"), plan, whole)


def test_the_monitor_runs_when_it_is_not_off(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    whole = find_event(plan, "dem-hoi").window
    found: Sequence[Window] = running(whole, spans(scenario_of(plan, tmp_path), plan))
    assert [(w.start.minute, w.end.minute) for w in found] == [(0, 0), (15, 0)]


def test_what_is_near_answers_when_the_uplink_is_cut(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    text = "happenings: [{from: '2022-04-29 20:00', to: '2022-04-29 22:00', cut_off: true, near: [mail]}]"
    scenario = scenario_of(plan, tmp_path, text)
    world = World(scenario, spans(scenario, plan), 1)
    moment = find_event(plan, "dem-hoi").window.start
    by_name = {t.id: world.reading(t, moment).fault for t in plan.targets()}
    assert by_name["mail.smtp"] is None
    assert by_name["references.gateway"] is None
    assert by_name["vnpt.ping"] == "timeout"
