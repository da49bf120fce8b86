"""What would have been told: the same settings tell the same, others tell otherwise, and the past stays as it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from config.loader import load_text
from config.plan import Plan, ServiceKind
from monitor.history import open_history
from monitor.journal import Journal
from monitor.model import SIMULATED, EventKind, Notice, State
from monitor.words import Told
from thongsuot.cli import app
from thongsuot.made_up_time import Manner, live
from thongsuot.replay import ReplayError
from thongsuot.replay_differences import Mark, pair_up
from thongsuot.replay_journal import Outcome, Overrides, parse_policies, replay
from thongsuot.reports import find_event
from thongsuot.scenario import World, read, spans
from thongsuot.simulate_event import ScenarioFeed, simulate

CONFIG = """
site: {id: lang-son, name: Sở Thông tin và Truyền thông tỉnh Lạng Sơn}
references:
  gateway: {probe: icmp, host: 192.0.2.1, every: 5s}
  vnix: {probe: icmp, host: 203.119.8.1, every: 10s}
services:
  mail: {name: Thư, kind: mail, checks: {smtp: {probe: tcp, host: 192.0.2.25, port: 25, every: 20s, recheck_after: 5s}}}
  portal: {name: Cổng, kind: portal, checks: {home: {probe: tcp, host: 192.0.2.80, port: 80, every: 20s}}}
events:
  dem-hoi: {name: Đêm hội, from: 2022-04-29 20:00, to: 2022-04-29 21:30}
alerts:
  mail: {from: a@example.vn, to: [truc@example.vn], relays: [{host: 127.0.0.1, port: 25}, {host: 127.0.0.1, port: 26}]}
"""
HAPPENINGS = """
happenings:
  - {from: "2022-04-29 20:10", to: "2022-04-29 20:20", down: [mail], fault: refused, detail: connection refused}
  - {from: "2022-04-29 20:30", to: "2022-04-29 20:30:25", down: [mail], fault: refused, detail: connection refused}
  - {from: "2022-04-29 20:45", to: "2022-04-29 20:55", down: [mail, portal], fault: refused}
"""


def record(folder: Path) -> Plan:
    """Leave behind what the daemon would: in the daemon's own rhythm, with answers that take their time."""
    plan = replace(load_text(CONFIG), state_dir=folder / "state")
    file = folder / "scenario.yaml"
    file.write_text(HAPPENINGS, "utf-8")
    scenario = read(file, plan)
    window = find_event(plan, "dem-hoi").window
    feed = ScenarioFeed(plan, World(scenario, spans(scenario, plan), 1), window, window.start, timed=True)

    async def whole() -> None:
        journal = await Journal.open(plan.state_dir, plan.site.id)
        try:
            feed.begin()
            await live(plan, journal, feed, window.end, Manner(f"test {SIMULATED}"))
        finally:
            await journal.close()

    asyncio.run(whole())
    return plan


def replayed(plan: Plan, *policies: str) -> Outcome:
    overrides = Overrides(parse_policies(policies, plan))
    return asyncio.run(replay(plan, overrides, find_event(plan, "dem-hoi").window, Path("province.yaml")))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return record(tmp_path_factory.mktemp("recorded"))


def test_with_the_settings_that_ran_the_same_is_told_at_the_same_time(recorded: Plan) -> None:
    outcome = replayed(recorded)

    assert len(outcome.then.words) >= 6
    assert [p.mark for p in outcome.pairs] == [Mark.SAME] * len(outcome.then.words)
    assert [i.subject for i in outcome.now.incidents] == [i.subject for i in outcome.then.incidents]
    for service, account in outcome.now.accounts.items():
        assert account.seconds == outcome.then.accounts[service].seconds
    assert outcome.rechecks_missing == 0


def test_more_rounds_leave_out_the_short_outage_and_tell_the_others_later(recorded: Plan) -> None:
    outcome = replayed(recorded, "mail.bad_rounds=6")

    gone = [p.word.notice for p in outcome.pairs if p.mark is Mark.THEN_ONLY]
    assert {n.service for n in gone if n.kind is EventKind.OPENED} == {"mail"}
    later = [p for p in outcome.pairs if p.mark is Mark.LATER and p.word.notice.kind is EventKind.OPENED]
    assert later
    assert all(p.missing for p in later), "rechecks that did not happen are said"
    assert outcome.rechecks_missing > 0
    assert outcome.now.accounts["mail"].outages < outcome.then.accounts["mail"].outages


def test_fewer_rounds_tell_earlier_and_miss_no_recheck(recorded: Plan) -> None:
    outcome = replayed(recorded, "bad_rounds=1")

    first = next(p for p in outcome.pairs if p.word.notice.kind is EventKind.OPENED)
    assert first.mark is Mark.EARLIER
    assert first.delta_s is not None
    assert first.delta_s < -5
    assert first.missing == 0


def test_a_need_that_is_declared_now_joins_what_was_told_apart(recorded: Plan) -> None:
    needs = CONFIG.replace("portal: {name: Cổng, kind: portal,", "portal: {name: Cổng, kind: portal, needs: [mail],")
    plan = replace(load_text(needs), state_dir=recorded.state_dir)

    outcome = replayed(plan)

    opened = [w.notice for w in outcome.now.words if w.notice.kind is EventKind.OPENED]
    assert not [n for n in opened if n.service == "portal"]
    assert any("Cổng" in n.affected for n in opened) or any(
        i.subject == "portal" and i.parent is not None for i in outcome.now.incidents
    )


def test_checks_of_another_name_are_said_and_not_judged(recorded: Plan) -> None:
    plan = replace(load_text(CONFIG.replace("checks: {home:", "checks: {trang-chu:")), state_dir=recorded.state_dir)

    outcome = replayed(plan)

    assert outcome.unknown_checks.keys() == {"portal.home"}
    assert outcome.silent_checks == ["portal.trang-chu"]
    assert outcome.now.accounts["portal"].share.value is None


def test_intervals_are_those_that_ran_whatever_the_configuration_says_now(recorded: Plan) -> None:
    plan = replace(load_text(CONFIG.replace("every: 20s", "every: 5s")), state_dir=recorded.state_dir)

    outcome = replayed(plan)

    assert outcome.now.accounts["portal"].seconds[State.UNKNOWN] == pytest.approx(
        outcome.then.accounts["portal"].seconds[State.UNKNOWN], abs=1
    )
    assert not outcome.unreadable


def test_nothing_is_written_into_the_state_directory(recorded: Plan) -> None:
    def prints() -> dict[str, str]:
        files = (f for f in recorded.state_dir.rglob("*") if f.is_file() and not f.name.endswith("-shm"))
        return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    before = prints()
    replayed(recorded, "bad_rounds=1")
    after = prints()

    assert {k: v for k, v in after.items() if not k.endswith("-wal")} == {
        k: v for k, v in before.items() if not k.endswith("-wal")
    }


def test_sealed_hours_give_the_same_results_in_the_same_order(tmp_path: Path) -> None:
    plan = replace(load_text(CONFIG), state_dir=tmp_path / "state")
    file = tmp_path / "scenario.yaml"
    file.write_text(HAPPENINGS, "utf-8")
    event = find_event(plan, "dem-hoi")
    outcome = asyncio.run(simulate(plan, event, read(file, plan), plan.state_dir, 1))
    assert list((plan.state_dir / "evidence").rglob("*.parquet"))

    with open_history(plan.state_dir, plan.site.id) as history:
        found = list(history.results(event.window))

    ends = [r.started_at + timedelta(seconds=r.reading.duration_s) for r in found]
    assert len(found) == outcome.results
    assert ends == sorted(ends)
    bad = [r for r in found if r.reading.fault]
    assert {r.reading.detail for r in bad} >= {"connection refused"}
    assert all(r.reading.rtts_s for r in found if r.check == "references.vnix")
    assert any(r.attempt for r in found)


def test_a_period_without_a_run_is_refused(recorded: Plan) -> None:
    runner = CliRunner()
    config = recorded.state_dir.parent / "province.yaml"
    config.write_text(CONFIG, "utf-8")
    common = ["replay", "journal", str(config), "--state-dir", str(recorded.state_dir)]

    wrong = runner.invoke(app, [*common, "--from", "2021-01-01", "--to", "2021-01-02"])
    unknown = runner.invoke(app, [*common, "--event", "dem-hoi", "--policy", "rounds=2"])
    well = runner.invoke(app, [*common, "--event", "dem-hoi", "--policy", "bad_rounds=1", "--json"])
    people = runner.invoke(app, [*common, "--event", "dem-hoi"])

    assert (wrong.exit_code, unknown.exit_code) == (2, 2)
    assert "did not run" in wrong.output
    figures = json.loads(well.stdout)
    assert figures["counts"]["earlier"] >= 1
    assert figures["words"][0]["subject"].startswith("[Thông Suốt]")
    assert sum(figures["services"]["mail"]["now"]["seconds"].values()) == pytest.approx(5400)
    assert "như đã báo" in people.stdout
    assert "MÔ PHỎNG" in people.stdout


@pytest.mark.parametrize("pair", ["bad_rounds=0", "nothing.bad_rounds=2", "recheck_after=5", "speed=3"])
def test_a_policy_that_means_nothing_is_refused(pair: str) -> None:
    with pytest.raises(ReplayError):
        parse_policies([pair], load_text(CONFIG))


def word(at: datetime, kind: EventKind = EventKind.OPENED, service: str = "mail") -> Told:
    state = State.DOWN if kind is EventKind.OPENED else State.UP
    notice = Notice("s", "S", 1, kind, service, service, ServiceKind.MAIL, state, at, at)
    return Told(notice, f"<{at.timestamp()}@x>", "", at, at, False)


def test_each_word_is_paired_with_the_nearest_of_its_kind_and_taken_once() -> None:
    noon = datetime.fromisoformat("2022-04-29T12:00:00+00:00")
    then = [word(noon), word(noon + timedelta(minutes=2)), word(noon + timedelta(hours=3))]
    now = [word(noon + timedelta(minutes=2, seconds=30)), word(noon + timedelta(seconds=1))]

    marks = [(p.mark, p.delta_s) for p in pair_up(now, then)]

    assert marks == [(Mark.SAME, 1.0), (Mark.LATER, 30.0), (Mark.THEN_ONLY, None)]
