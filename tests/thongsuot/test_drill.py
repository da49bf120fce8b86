"""The drill with one's own configuration: who would be told what and when, marked so that nobody takes it for real."""

from __future__ import annotations

import asyncio
import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from typer.testing import CliRunner

from config.loader import load_text
from config.plan import Language, Plan
from exporters.mail_drill import send_drill, write_drill_message
from monitor.model import EventKind, State
from monitor.words import Told
from probes.base import utc_now
from tests.monitor.builders import at, change, incident, notice
from thongsuot.cli import app
from thongsuot.drill_findings import Injected, judge
from thongsuot.drill_scenario import ScenarioOutcome, drill_scenario
from thongsuot.province_mail import MailHouse, SmtpListener
from thongsuot.province_mailbox import Mailbox
from thongsuot.scenario import ScenarioError, read

CONFIG = """
site: {id: lang-son, name: Sở Thông tin và Truyền thông tỉnh Lạng Sơn}
references:
  gateway: {probe: icmp, host: 192.0.2.1, every: 5s}
  vnix: {probe: icmp, host: 203.119.8.1, every: 10s}
services:
  centre:
    {name: Trung tâm dữ liệu, kind: data-centre, checks: {a: {probe: tcp, host: 192.0.2.10, port: 80, every: 20s}}}
  mail:
    {name: Thư, kind: mail, needs: [centre], checks: {smtp: {probe: tcp, host: 192.0.2.25, port: 25, every: 20s}}}
  vnpt:
    name: Mạng VNPT
    kind: carrier
    up_when: any
    checks:
      ping: {probe: icmp, host: 203.0.113.9, every: 10s}
      line: {probe: tcp, host: 203.0.113.9, port: 80, every: 20s}
alerts:
  mail:
    from: a@example.vn
    to: [truc@example.vn]
    relays: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: PORT, starttls: never}]
store: {dir: STATE}
"""


def plan_of(folder: Path, port: int = 26) -> Plan:
    return load_text(CONFIG.replace("STATE", str(folder / "state")).replace("PORT", str(port)))


def practise(folder: Path, happenings: str) -> ScenarioOutcome:
    plan = plan_of(folder)
    file = folder / "scenario.yaml"
    file.write_text(f"happenings: [{happenings}]", "utf-8")
    return asyncio.run(drill_scenario(plan, read(file, plan), None, 0, Language.VI))


def test_a_dead_service_is_detected_told_and_told_over_within_its_limits(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", down: [mail], fault: timeout}')

    (found,) = outcome.findings
    assert found.passed, found.reasons
    assert found.state is State.DOWN
    assert found.told_s is not None
    # Three rounds with a time-out of ten seconds each cannot be over sooner.
    assert 20 < found.told_s <= found.fault.limit_s
    assert [w.notice.kind.value for w in outcome.words] == ["opened", "recovered"]
    assert not (tmp_path / "state").exists(), "the state directory is not touched"


def test_a_service_that_fails_with_a_later_fault_too_was_back_when_its_end_was_told() -> None:
    fault = Injected("mail", "mail", ("mail",), State.DOWN, at(0), at(100), 60.0, 60.0)
    states = [(State.DOWN, 10.0), (State.UP, 110.0), (State.DOWN, 310.0), (State.UP, 410.0)]
    known = {"mail": [change("mail", state, s - 5, confirmed=s) for state, s in states]}
    said = [
        (Told(notice(1, kind=kind), f"<{s}>", "<1>", at(s), at(s), withdrawn=False), at(s))
        for kind, s in ((EventKind.OPENED, 10.0), (EventKind.RECOVERED, 110.0))
    ]
    (found,) = judge([fault], known, [incident(1, "mail", 5, ended=105)], said)

    assert (found.detected_at, found.back_at, found.back_told_at) == (at(10), at(110), at(110))
    assert found.passed


def test_consequences_are_told_with_their_cause_and_count_as_one(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", down: [centre, mail]}')

    (found,) = outcome.findings
    assert found.passed, found.reasons
    assert {w.notice.service for w in outcome.words} == {"centre"}


def test_when_our_own_uplink_is_cut_only_that_is_told(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", cut_off: true}')

    (found,) = outcome.findings
    assert found.passed, found.reasons
    assert {w.notice.service for w in outcome.words} == {"own-fault"}


def test_a_service_that_its_rule_keeps_up_is_expected_to_be_degraded_and_not_down(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", down: [vnpt.line]}')

    (found,) = outcome.findings
    assert found.fault.state is State.DEGRADED
    assert found.passed, found.reasons


def test_slowness_that_nothing_calls_slow_is_expected_to_be_told_to_nobody(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", slow: [mail], times: 5}')

    (found,) = outcome.findings
    assert found.fault.tolerated
    assert found.passed
    assert outcome.words == []


def test_an_outage_too_short_for_the_policy_is_not_passed(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:10:03", down: [mail], fault: refused}')

    (found,) = outcome.findings
    assert not found.passed
    assert {"not-detected", "not-told"} <= set(found.reasons)


def test_a_scenario_in_which_nothing_happens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="nothing happens"):
        practise(tmp_path, "")


def parsed(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=policy.default)


def test_every_letter_of_a_drill_is_marked_in_subject_header_and_both_parts(tmp_path: Path) -> None:
    outcome = practise(tmp_path, '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", down: [mail]}')
    plan = outcome.plan
    assert plan.mail is not None
    letters = [parsed(write_drill_message(w, plan.mail, plan.site, utc_now(), "abc")) for w in outcome.words]

    assert len(letters) == 2
    for letter, word in zip(letters, outcome.words, strict=True):
        assert letter["Subject"].startswith("[DIỄN TẬP] [Thông Suốt]")
        assert letter["X-Thongsuot-Drill"] == "yes"
        assert letter["Message-ID"] != word.message_id
        assert "drill-abc" in letter["Message-ID"]
        for kind in ("plain", "html"):
            body = letter.get_body((kind,))
            assert body is not None
            assert "DIỄN TẬP, KHÔNG CÓ SỰ CỐ THẬT" in body.get_content()
            assert "Thư" in body.get_content()
    assert letters[1]["In-Reply-To"] == letters[0]["Message-ID"]


async def test_letters_really_go_to_the_first_relay_that_takes_them(tmp_path: Path) -> None:
    mailbox = Mailbox()
    server = SmtpListener("127.0.0.1", MailHouse("example.vn", "mail.example.vn", "truc", "secret", mailbox), "trực")
    await server.start()
    try:
        plan = await asyncio.to_thread(plan_of, tmp_path, server.port)
        assert plan.mail is not None
        file = tmp_path / "scenario.yaml"
        happening = '{from: "2027-02-06 00:10", to: "2027-02-06 00:20", down: [mail]}'
        scenario = await asyncio.to_thread(lambda: (file.write_text(f"happenings: [{happening}]"), read(file, plan))[1])
        outcome = await drill_scenario(plan, scenario, None, 0, Language.VI)
        letters = [write_drill_message(w, plan.mail, plan.site, utc_now(), "abc") for w in outcome.words]
        sent = await send_drill(letters, plan.mail)
    finally:
        await server.stop()
        server.release()

    assert [s.ok for s in sent] == [True, True]
    assert all(m.header("Subject").startswith("[DIỄN TẬP]") for m in mailbox.mails)
    assert [m.recipients for m in mailbox.mails] == [("truc@example.vn",)] * 2


def test_the_command_prints_who_would_be_told_and_sends_nothing_without_two_yeses(tmp_path: Path) -> None:
    config, scenario = tmp_path / "c.yaml", tmp_path / "s.yaml"
    config.write_text(CONFIG.replace("STATE", str(tmp_path / "state")).replace("PORT", "26"), "utf-8")
    scenario.write_text('happenings: [{from: "2027-02-06 00:10", to: "2027-02-06 00:20", down: [mail]}]', "utf-8")
    runner = CliRunner()
    given = ["drill", str(config), "--scenario", str(scenario)]

    people = runner.invoke(app, [*given, "--at", "2026-12-01 08:00"])
    machines = runner.invoke(app, [*given, "--json"])
    asked = runner.invoke(app, [*given, "--send"], input="có\nkhông\n")

    assert people.exit_code == 0
    assert "01/12/2026 08:0" in people.stdout
    assert "KẾT LUẬN: ĐẠT (1/1 tình huống)." in people.stdout
    assert "truc@example.vn" in people.stdout
    figures = json.loads(machines.stdout)
    assert figures["passed"]
    assert figures["faults"][0]["to"] == ["truc@example.vn"]
    assert all(w["subject"].startswith("[DIỄN TẬP]") for w in figures["words"])
    assert asked.exit_code == 1
    assert "Không gửi thư nào." in asked.output


def test_wrong_use_is_said(tmp_path: Path) -> None:
    runner = CliRunner()

    assert runner.invoke(app, ["drill", "--only", "moon"]).exit_code == 2
    assert runner.invoke(app, ["drill", "--send"]).exit_code == 2
    assert runner.invoke(app, ["drill", str(tmp_path / "c.yaml")]).exit_code == 2
