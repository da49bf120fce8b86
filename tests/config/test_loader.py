"""From a right configuration to its plan: defaults, peaks, includes, secrets, warnings."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.loader import ConfigError, load, load_text, missing_secrets
from config.plan import Language, OutagePolicy, Plan, ServiceKind
from probes import PROBES
from probes.base import Duration, Measurement, ProbeSettings, ProbeType

CONTRACT = """
site:
  id: lang-son
  name: Sở Thông tin và Truyền thông tỉnh Lạng Sơn
paths:
  vnpt:    {name: VNPT cáp quang, source: 192.0.2.10}
  mobifone: {interface: wwan0}
references:
  gateway: {probe: icmp, host: 192.0.2.1, every: 5s}
  vnix:    {probe: dns, server: 203.119.8.1, name: vn, type: NS, every: 30s}
defaults: {every: 30s, timeout: 10s}
services:
  data-centre: {checks: {ping: {probe: icmp, host: 192.0.2.9}}}
  mail:
    name: Thư điện tử công vụ
    kind: mail
    needs: [data-centre]
    checks:
      smtp:    {probe: smtp, host: mail.langson.gov.vn, port: 25, starttls: required}
      imaps:   {probe: imap, host: mail.langson.gov.vn, port: 993, tls: true}
      webmail: {probe: http, url: "https://mail.langson.gov.vn/", expect: {status: [200], body: Đăng nhập}}
  carrier-vnpt:
    kind: carrier
    up_when: any
    checks:
      ping: {probe: icmp, host: 203.162.4.191, path: vnpt, every: 10s, count: 3}
      dns:  {probe: dns, label: Phân giải, server: 203.162.4.191, name: langson.gov.vn, type: A}
events:
  tet-2027:
    tet: 2027
    before: 2d
    after: 5d
    peaks:
      giao-thua: {at: giao-thua, before: 1h, after: 1h, every: 5s, services: [carrier-vnpt]}
alerts:
  mail:
    from: giam-sat@example.vn
    to: [truc@example.vn]
    relays:
      - {host: 127.0.0.1, port: 25}
      - {host: smtp.example.net, port: 587, starttls: required, username: giam-sat, password_file: relay}
store: {dir: /var/lib/thongsuot, raw: 400d}
web: {listen: "[::1]:8480"}
"""
SMALL = "site: {id: a, name: A}\nservices: {s: {checks: {c: {probe: icmp, host: 192.0.2.1}}}}\n"


class EchoSettings(ProbeSettings):
    """A probe of the tests' own."""

    host: str
    wait: Duration = 1.0


async def echo(settings: EchoSettings, m: Measurement) -> None:
    m.values["wait_s"] = settings.wait


ECHO = ProbeType("echo", "Echo", EchoSettings, echo, rounds_to_down=7, default_timeout_s=4.0)


def plan_of(text: str) -> Plan:
    return load_text(text, "tinh.yaml")


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "tinh.yaml")
    return str(caught.value)


def test_the_contract_s_configuration_becomes_a_plan() -> None:
    plan = plan_of(CONTRACT)
    assert (plan.site.id, plan.site.timezone.key, plan.site.language) == ("lang-son", "Asia/Ho_Chi_Minh", Language.VI)
    assert [t.id for t in plan.references] == ["references.gateway", "references.vnix"]
    assert [t.near for t in plan.references] == [True, False]
    mail = plan.service("mail")
    assert (mail.name, mail.kind, mail.needs, mail.at_least) == (
        "Thư điện tử công vụ", ServiceKind.MAIL, ("data-centre",), 3,
    )  # fmt: skip
    carrier = plan.service("carrier-vnpt")
    assert (carrier.name, carrier.at_least) == ("carrier-vnpt", 1)
    ping, dns = carrier.targets
    assert ping.path is not None
    assert (ping.path.id, ping.path.name, ping.path.source, ping.path_id) == (
        "vnpt", "VNPT cáp quang", "192.0.2.10", "vnpt",
    )  # fmt: skip
    assert (dns.name, dns.settings.model_dump()["name"]) == ("Phân giải", "langson.gov.vn")
    assert (str(plan.state_dir), plan.raw_keep_s) == ("/var/lib/thongsuot", 400 * 86400)
    assert (plan.listen_host, plan.listen_port) == ("::1", 8480)


def test_an_event_runs_from_before_to_after_the_start_of_mung_1() -> None:
    (event,) = plan_of(CONTRACT).events
    assert event.name == "Tết Nguyên đán Đinh Mùi 2027"
    assert event.window.start == datetime(2027, 2, 3, 17, tzinfo=UTC)  # 04/02/2027 00:00
    assert event.window.end == datetime(2027, 2, 10, 17, tzinfo=UTC)  # 11/02/2027 00:00
    (peak,) = event.peaks
    assert (peak.every_s, peak.services) == (5.0, ("carrier-vnpt",))
    assert peak.window.start == datetime(2027, 2, 5, 16, tzinfo=UTC)
    assert peak.window.end - peak.window.start == timedelta(hours=2)


def test_a_peak_raises_the_rate_of_its_services_alone_and_shortens_their_time_outs() -> None:
    plan = plan_of(CONTRACT)
    by_id = {t.id: t for t in plan.targets()}
    ping, dns, smtp = by_id["carrier-vnpt.ping"], by_id["carrier-vnpt.dns"], by_id["mail.smtp"]
    assert [r.every_s for r in ping.rates] == [r.every_s for r in dns.rates] == [5.0]
    assert smtp.rates == ()
    assert (ping.every_s, ping.timeout_s) == (10.0, 5.0)
    assert (dns.every_s, dns.timeout_s) == (30.0, 5.0)
    assert (smtp.every_s, smtp.timeout_s) == (30.0, 10.0)


def test_references_follow_the_peaks_of_services_that_leave_by_their_path() -> None:
    plan = plan_of(
        """
site: {id: a, name: A}
paths: {vnpt: {name: VNPT, source: 192.0.2.10}, fpt: {name: FPT, source: 192.0.2.20}}
references:
  gateway: {probe: icmp, host: 192.0.2.1, every: 30s}
  vnpt:    {probe: icmp, host: 192.0.2.2, every: 30s, path: vnpt}
  fpt:     {probe: icmp, host: 192.0.2.3, every: 30s, path: fpt, timeout: 8s}
services:
  s: {checks: {c: {probe: icmp, host: 192.0.2.9, path: vnpt}}}
  t: {checks: {c: {probe: icmp, host: 192.0.2.9, path: fpt, timeout: 1s}}}
events:
  e:
    tet: 2027
    peaks:
      one: {at: giao-thua, before: 1h, after: 1h, every: 5s, services: [s]}
      two: {at: giao-thua, before: 2h, after: 30m, every: 2s, services: [t]}
"""
    )
    gateway, vnpt, fpt = plan.references
    assert (gateway.rates, gateway.peaks) == ((), ())
    assert [r.every_s for r in vnpt.rates] == [5.0]
    assert [r.every_s for r in fpt.rates] == [8.0]  # its own time-out lets it follow no faster
    assert vnpt.in_peak(vnpt.rates[0].window.start)
    assert plan.service("s").targets[0].peaks == (vnpt.rates[0].window,)


def test_a_reference_of_several_peaks_at_once_follows_the_fastest() -> None:
    plan = plan_of(
        """
site: {id: a, name: A}
references: {gateway: {probe: icmp, host: 192.0.2.1, every: 30s}}
services:
  s: {checks: {c: {probe: icmp, host: 192.0.2.9}}}
  t: {checks: {c: {probe: icmp, host: 192.0.2.9}}}
events:
  e:
    tet: 2027
    peaks:
      one: {at: giao-thua, before: 1h, after: 1h, every: 5s, services: [s]}
      two: {at: giao-thua, before: 2h, after: 30m, every: 3s, services: [t]}
"""
    )
    (gateway,) = plan.references
    spans = [((r.window.end - r.window.start).total_seconds() / 60, r.every_s) for r in gateway.rates]
    assert spans == [(150.0, 3.0), (30.0, 5.0)]
    assert len(gateway.peaks) == 1


def test_a_peak_that_is_slower_than_a_check_leaves_it_alone() -> None:
    text = SMALL.replace("192.0.2.1}", "192.0.2.1, every: 5s, timeout: 4s}")
    plan = plan_of(text + "events: {tet: {tet: 2027, peaks: {p: {at: giao-thua, after: 1h, every: 10s}}}}\n")
    assert plan.targets()[0].rates == ()


def test_rates_of_several_events_are_sorted() -> None:
    plan = plan_of(
        SMALL
        + "events:\n"
        + "  b: {tet: 2028, peaks: {p: {at: giao-thua, after: 1h, every: 10s}}}\n"
        + "  a: {tet: 2027, peaks: {p: {at: giao-thua, after: 1h, every: 5s}}}\n"
    )
    (target,) = plan.targets()
    assert [(r.window.start.year, r.every_s) for r in target.rates] == [(2027, 5.0), (2028, 10.0)]


def test_without_words_a_check_runs_every_30_seconds_with_what_suits_its_probe() -> None:
    text = "site: {id: a, name: A}\nservices: {s: {checks: {c: {probe: echo, host: h}}}}\n"
    plan = load_text(text, probes={"echo": ECHO})
    (target,) = plan.targets()
    assert (target.every_s, target.timeout_s, target.policy) == (30.0, 4.0, OutagePolicy(bad_rounds=7))
    assert (target.name, target.path, target.path_id, target.probe) == ("c", None, "", ECHO)
    assert (str(plan.state_dir), plan.raw_keep_s) == ("/var/lib/thongsuot", 400 * 86400)
    assert (plan.listen_host, plan.listen_port, plan.mail, plan.events) == ("127.0.0.1", 8480, None, ())


def test_the_time_out_that_suits_a_probe_is_cut_to_a_short_interval() -> None:
    text = "site: {id: a, name: A}\nservices: {s: {checks: {c: {probe: echo, host: h, every: 2s}}}}\n"
    assert load_text(text, probes={"echo": ECHO}).targets()[0].timeout_s == 2.0


def test_policy_comes_from_the_check_then_the_defaults_then_the_probe() -> None:
    text = (
        "site: {id: a, name: A}\n"
        "defaults: {good_rounds: 4, recheck_after: 2s, slow_over: 1s, bad_rounds: 5}\nservices: {s: {checks: {"
        "c: {probe: echo, host: h, bad_rounds: 1}, d: {probe: echo, host: h, slow_over: 3s}}}}\n"
    )
    one, other = load_text(text, probes={"echo": ECHO}).targets()
    assert one.policy == OutagePolicy(bad_rounds=1, good_rounds=4, recheck_s=2.0, slow_over_s=1.0)
    assert other.policy == OutagePolicy(bad_rounds=5, good_rounds=4, recheck_s=2.0, slow_over_s=3.0)


@pytest.mark.parametrize(("role", "near"), [("", True), (", role: far", False), (", role: near", True)])
def test_the_gateway_is_near_unless_it_says_otherwise(role: str, near: bool) -> None:
    plan = plan_of(SMALL + f"references: {{gateway: {{probe: icmp, host: 192.0.2.1{role}}}}}\n")
    assert plan.references[0].near is near


def test_relays_get_the_ports_and_the_tls_of_their_kind() -> None:
    plan = plan_of(
        SMALL
        + "alerts: {mail: {from: a@example.vn, to: [b@example.vn, c@example.vn], relays: "
        + "[{host: a.example.vn}, {host: b.example.vn, tls: true, timeout: 5s}, "
        + "{host: c.example.vn, username: u, password_env: RELAY, plaintext_login: true}]}}\n"
    )
    assert plan.mail is not None
    assert plan.mail.to == ("b@example.vn", "c@example.vn")
    shown = [(r.host, r.port, r.starttls, r.tls, r.timeout_s, r.plaintext_login) for r in plan.mail.relays]
    assert shown == [
        ("a.example.vn", 25, "optional", False, 20.0, False),
        ("b.example.vn", 465, "never", True, 5.0, False),
        ("c.example.vn", 25, "optional", False, 20.0, True),
    ]


def test_the_monitored_mail_server_may_be_a_relay_when_another_is_behind_it() -> None:
    watched = "site: {id: a, name: A}\nservices: {mail: {checks: {c: {probe: smtp, host: mail.example.vn}}}}\n"
    alerts = "alerts: {mail: {from: a@example.vn, to: [b@example.vn], relays: [{host: mail.example.vn}%s]}}\n"
    assert "no other relay is behind it" in refused(watched + alerts % "")
    assert plan_of(watched + alerts % ", {host: other.example.vn}").mail is not None


def test_on_loopback_another_port_is_another_mail_server() -> None:
    watched = "site: {id: a, name: A}\nservices: {mail: {checks: {c: {probe: smtp, host: 127.0.0.1, port: 2525}}}}\n"
    alerts = "alerts: {mail: {from: a@example.vn, to: [b@example.vn], relays: [{host: 127.0.0.1, port: %s}]}}\n"
    assert plan_of(watched + alerts % 25).mail is not None
    assert "no other relay is behind it" in refused(watched + alerts % 2525)
    assert "no other relay is behind it" in refused(
        (watched + alerts % 2525).replace("[{host: 127.0.0.1", "[{host: localhost")
    )


def test_file_names_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "main.yaml").write_text("include: d/*.yaml\nsite: {id: a, name: A}\nstore: {dir: state}\n", "utf-8")
    (tmp_path / "d" / "mail.yaml").write_text(
        "services: {m: {checks: {c: {probe: imap, host: h, tls: true, username: u, password_file: secret}}}}\n", "utf-8"
    )
    plan = load(tmp_path / "main.yaml")
    assert plan.state_dir == tmp_path / "state"
    assert plan.targets()[0].settings.model_dump()["password_file"] == tmp_path / "d" / "secret"
    assert missing_secrets(plan) == [
        f"services.m.checks.c.password_file: {tmp_path / 'd' / 'secret'} cannot be read: No such file or directory"
    ]
    (tmp_path / "d" / "secret").write_text("bi-mat\n", "utf-8")
    assert missing_secrets(plan) == []


def test_an_environment_variable_that_is_not_set_is_a_missing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    text = SMALL + (
        "alerts: {mail: {from: a@example.vn, to: [b@example.vn], relays: "
        "[{host: smtp.example.net, tls: true, username: u, password_env: RELAY_PASSWORD}]}}\n"
    )
    monkeypatch.delenv("RELAY_PASSWORD", raising=False)
    plan = plan_of(text)
    reason = "alerts.mail.relays[0].password_env: environment variable RELAY_PASSWORD is not set"
    assert missing_secrets(plan) == [reason]
    assert f"tinh.yaml:3:129: {reason}" in plan.warnings
    monkeypatch.setenv("RELAY_PASSWORD", "bi-mat")
    assert missing_secrets(plan) == []


def test_warnings_name_what_is_missing_with_its_place() -> None:
    assert plan_of(SMALL).warnings == (
        "tinh.yaml:1:1: alerts: no alerts are configured: nobody is told of anything",
        "tinh.yaml:1:1: references: no references are configured: nobody can tell 'it is us' from 'it is them'",
    )
    alone = plan_of(SMALL + "references: {gateway: {probe: icmp, host: 192.0.2.1}}\n").warnings
    assert "tinh.yaml:3:1: references: only one reference is configured: when it fails, it looks like us" in alone


def test_the_digest_is_of_every_file_in_order(tmp_path: Path) -> None:
    main = "include: [b.yaml, a.yaml]\nsite: {id: a, name: A}\n"
    service = "services: {%s: {checks: {c: {probe: icmp, host: 192.0.2.1}}}}"
    (tmp_path / "main.yaml").write_text(main, "utf-8")
    (tmp_path / "a.yaml").write_text(service % "a", "utf-8")
    (tmp_path / "b.yaml").write_text(service % "b", "utf-8")
    plan = load(tmp_path / "main.yaml")
    assert plan.text == f"# file: main.yaml\n{main}# file: b.yaml\n{service % 'b'}\n# file: a.yaml\n{service % 'a'}\n"
    assert plan.digest == hashlib.sha256(plan.text.encode()).hexdigest()
    assert [s.id for s in plan.services] == ["b", "a"]


def test_an_included_file_may_include_others_and_the_main_file_may_have_nothing_but_its_site(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "main.yaml").write_text("include: x/a.yaml\nsite: {id: a, name: A}\nservices:\n", "utf-8")
    (tmp_path / "x" / "a.yaml").write_text("include: b.yaml\npaths: {vnpt: {interface: eth0}}\n", "utf-8")
    (tmp_path / "x" / "b.yaml").write_text(
        "services: {s: {checks: {c: {probe: icmp, host: 192.0.2.1, path: vnpt}}}}\nevents: {t: {tet: 2027}}\n", "utf-8"
    )
    plan = load(tmp_path / "main.yaml")
    assert plan.targets()[0].path_id == "vnpt"
    assert [e.id for e in plan.events] == ["t"]


def test_the_text_of_a_plan_loads_to_the_same_plan_but_its_name() -> None:
    plan = plan_of(CONTRACT)
    again = load_text(plan.text.split("\n", 1)[1], "tinh.yaml")
    assert replace(again, warnings=()) == replace(plan, warnings=())


def test_sections_left_empty_are_sections_left_out() -> None:
    assert plan_of(SMALL + "paths:\nreferences:\ndefaults:\nevents:\nalerts:\nstore:\nweb:\n").events == ()


def test_aliases_and_merge_keys_are_followed_and_own_keys_win() -> None:
    plan = plan_of(
        "site: {id: a, name: A}\nservices:\n  s:\n    checks:\n"
        "      c: &c {probe: icmp, host: 192.0.2.1, every: 20s}\n"
        "      d: {<<: *c, host: 192.0.2.2}\n"
    )
    assert [(t.settings.endpoint(), t.every_s) for t in plan.targets()] == [("192.0.2.1", 20.0), ("192.0.2.2", 20.0)]


def test_words_of_old_yaml_are_texts() -> None:
    plan = plan_of("site: {id: a, name: no}\nservices: {on: {name: yes, checks: {off: {probe: icmp, host: 0xyz}}}}\n")
    assert plan.site.name == "no"
    assert (plan.services[0].id, plan.services[0].name, plan.services[0].targets[0].check) == ("on", "yes", "off")


def test_no_probe_has_a_key_that_every_check_has_but_name() -> None:
    common = {
        "probe",
        "label",
        "every",
        "timeout",
        "path",
        "bad_rounds",
        "good_rounds",
        "recheck_after",
        "slow_over",
        "role",
    }
    for kind, probe in PROBES.items():
        keys = {info.alias or name for name, info in probe.settings.model_fields.items()}
        assert not keys & common, kind


def test_several_thousand_checks_load_in_a_reasonable_time() -> None:
    checks = "".join(f"      c{i}: {{probe: icmp, host: 127.0.0.{i % 250 + 1}, every: 10s}}\n" for i in range(2000))
    plan = plan_of("site: {id: a, name: A}\nservices:\n  s:\n    checks:\n" + checks)
    assert len(plan.targets()) == 2000
