from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.blackbox import BUILT_IN, AllowList, pattern_problem, read_text
from config.loader import ConfigError, load
from config.plan import Plan
from config.problems import Findings
from probes.blackbox import PROBERS as ALL_PROBERS
from probes.blackbox import host_of
from probes.blackbox.modules import Module

PROVINCE = """\
site: {id: lang-son, name: Lạng Sơn}
blackbox: {modules: blackbox.yml, allow: ["*.gov.vn"], compat: fixed, timeout_offset: 1s}
services: {mail: {checks: {smtp: {probe: smtp, host: mail.langson.gov.vn, port: 25}}}}
"""


def modules(text: str) -> dict[str, Module]:
    findings = Findings()
    found = read_text(text, "blackbox.yml", findings)
    findings.refuse()
    return dict(found)


def problems(text: str) -> list[str]:
    findings = Findings()
    read_text(text, "blackbox.yml", findings)
    return [str(p) for p in findings.by_place(findings.problems)]


def test_a_configuration_as_the_project_itself_ships_it() -> None:
    found = modules("""\
modules:
  http_2xx:
    prober: http
    http:
      preferred_ip_protocol: "ip4"
  http_post_2xx:
    prober: http
    http:
      method: POST
  tcp_connect:
    prober: tcp
  pop3s_banner:
    prober: tcp
    tcp:
      query_response:
      - expect: "^+OK"
      tls: true
      tls_config:
        insecure_skip_verify: false
  grpc:
    prober: grpc
    grpc:
      tls: true
      preferred_ip_protocol: "ip4"
  ssh_banner:
    prober: tcp
    tcp:
      query_response:
      - expect: "^SSH-2.0-"
      - send: "SSH-2.0-blackbox-ssh-check"
  irc_banner:
    prober: tcp
    tcp:
      query_response:
      - send: "NICK prober"
      - expect: "PING :([^ ]+)"
        send: "PONG ${1}"
      - expect: "^:[^ ]+ 001"
  icmp_ttl5:
    prober: icmp
    timeout: 5s
    icmp:
      ttl: 5
""")
    assert list(found) == [
        "http_2xx", "http_post_2xx", "tcp_connect", "pop3s_banner", "grpc", "ssh_banner", "irc_banner", "icmp_ttl5",
    ]  # fmt: skip
    assert found["http_2xx"].http.prefers_ip4
    assert not found["tcp_connect"].tcp.prefers_ip4
    assert found["tcp_connect"].tcp.ip_protocol_fallback
    assert found["irc_banner"].tcp.query_response[1].send == "PONG ${1}"
    assert (found["icmp_ttl5"].timeout, found["icmp_ttl5"].icmp.ttl) == (5.0, 5)


def test_every_key_of_the_contract_is_known() -> None:
    found = modules("""\
modules:
  web:
    prober: http
    timeout: 1m30.5s
    http:
      valid_status_codes: [200, 301]
      valid_http_versions: [HTTP/1.1, HTTP/2.0]
      preferred_ip_protocol: ip4
      ip_protocol_fallback: no
      skip_resolve_phase_with_proxy: true
      follow_redirects: off
      no_follow_redirects: on
      fail_if_ssl: false
      fail_if_not_ssl: true
      method: PROPFIND
      headers: {Host: example.vn, Accept-Language: vi, X-Number: 5}
      http_headers: {X-Many: {values: [a, b], secrets: [c], files: [d]}}
      fail_if_body_matches_regexp: [lỗi]
      fail_if_body_not_matches_regexp: ["(?i)đăng nhập"]
      fail_if_header_matches: [{header: Server, regexp: Apache, allow_missing: true}]
      fail_if_header_not_matches: [{header: Server, regexp: nginx}]
      body: "a=b"
      compression: gzip
      body_size_limit: 10MB
      enable_http2: true
      basic_auth: {username: u, password: 0123}
      proxy_url: http://proxy.example.vn:3128
      proxy_connect_header: {X-Proxy: [y]}
      tls_config: {ca_file: ca.pem, server_name: example.vn, min_version: TLS12, max_version: TLS13}
  talk:
    prober: tcp
    tcp:
      source_ip_address: 127.0.0.1
      query_response:
        - {expect: "^220 ([^ ]+)", send: "EHLO ${1}\\r", labels: [{name: host, value: "${1}"}]}
        - {expect_bytes: "\\x01ok"}
        - {starttls: true}
  names:
    prober: dns
    dns:
      query_name: example.vn
      query_type: SOA
      query_class: IN
      recursion_desired: false
      transport_protocol: tcp
      dns_over_tls: true
      valid_rcodes: [NOERROR, NXDOMAIN]
      validate_answer_rrs:
        fail_if_matches_regexp: [a]
        fail_if_all_match_regexp: [b]
        fail_if_not_matches_regexp: [c]
        fail_if_none_matches_regexp: [d]
      validate_authority_rrs:
      validate_additional_rrs: {}
  ping: {prober: icmp, icmp: {payload_size: 100, dont_fragment: true, ttl: 64, count: 5}}
  api: {prober: grpc, grpc: {service: a, tls: true, metadata: {x-a: [b, c]}}}
  sock: {prober: unix, unix: {tls: false, query_response: [{expect: a}]}}
  live:
    prober: websocket
    websocket: {http_config: {authorization: {credentials: x}}, headers: {X: {values: [a]}}, query_response: []}
""")
    web = found["web"]
    assert web.timeout == 90.5
    assert web.http.body_size_limit == 10 << 20
    assert web.http.valid_status_codes == (200, 301)
    assert (web.http.ip_protocol_fallback, web.http.follow_redirects, web.http.no_follow_redirects) == (
        False,
        False,
        True,
    )
    assert web.http.headers["X-Number"] == "5"
    assert web.http.basic_auth is not None
    assert web.http.basic_auth.password is not None
    assert web.http.basic_auth.password.get_secret_value() == "0123"
    assert web.http.tls_config.ca_file == Path("ca.pem").absolute()
    assert web.http.http_headers["X-Many"].files == (Path("d").absolute(),)
    assert found["talk"].source == "127.0.0.1"
    assert found["ping"].icmp.count == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "1:1: a: unknown key 'a'; known keys: modules"),
        ("modules: [a]", "1:10: modules: expected a mapping of modules by name; got a list"),
        ("modules: {a: b}", "1:14: modules.a: expected a mapping of keys and values; got 'b'"),
        ("modules: {a: {}}", "1:11: modules.a.prober: required key is missing"),
        (
            "modules:\n  a:\n    prober: http\n    http: {metod: GET}",
            "4:12: modules.a.http.metod: unknown key 'metod'; did you mean 'method'?",
        ),
        (
            "modules: {a: {prober: http, http: {valid_status_codes: [2xx]}}}",
            "1:57: modules.a.http.valid_status_codes[0]: expected a whole number; got '2xx'",
        ),
        (
            "modules: {a: {prober: tcp, timeout: 5}}",
            "1:37: modules.a.timeout: expected a duration like 5s, 500ms or 1m30s; got '5'",
        ),
        ("modules: {a: {prober: dns}}", "1:11: modules.a: a dns module needs query_name under dns"),
        (
            "modules: {a: {prober: icmp, icmp: {ttl: 256}}}",
            "1:41: modules.a.icmp.ttl: expected a whole number from 0 to 255; got '256'",
        ),
        (
            "modules: {a: {prober: tcp, tcp: {query_response: [{expect: '(', expect_bytes: a}]}}}",
            "1:60: modules.a.tcp.query_response[0].expect: not a regular expression (RE2 syntax): missing ): (",
        ),
        (
            "modules: {a: {prober: tcp, tcp: {query_response: [{expect: a, expect_bytes: a}]}}}",
            "1:51: modules.a.tcp.query_response[0]: give expect or expect_bytes, not both",
        ),
        (
            "modules: {a: {prober: http, http: {bearer_token: a, basic_auth: {username: b}}}}",
            "1:29: modules.a.http: give at most one of basic_auth, authorization, oauth2 and bearer_token",
        ),
        (
            "modules: {a: {prober: http, http: {compression: gzip, headers: {accept-encoding: 'br, gzip;q=0'}}}}",
            "1:29: modules.a.http: compression gzip contradicts the header Accept-Encoding: br, gzip;q=0",
        ),
        (
            "modules: {a: {prober: http, http: {tls_config: {cert_file: a}}}}",
            "1:36: modules.a.http.tls_config: a client's certificate and its key go together",
        ),
        (
            "modules: {a: {prober: dns, dns: {query_name: a, dns_over_tls: true}}}",
            "1:28: modules.a.dns: dns_over_tls needs transport_protocol: tcp",
        ),
        ("modules: {a: {prober: tcp}, a: {prober: icmp}}", "1:29: modules.a: duplicate key 'a'"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    assert [p.removeprefix("blackbox.yml:").partition("; first given")[0] for p in problems(text)] == [message]


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("http: {enable_http3: true}", "http.enable_http3"),
        ("http: {compression: br}", "http.compression"),
        ("http: {fail_if_body_json_matches_cel: 'a'}", "http.fail_if_body_json_matches_cel"),
        ("http: {oauth2: {client_id: a, token_url: b}}", "http.oauth2"),
        ("http: {proxy_from_environment: true}", "http.proxy_from_environment"),
        ("http: {proxy_url: 'http://a', no_proxy: b}", "http.no_proxy"),
    ],
)
def test_what_is_not_done_is_a_warning_and_no_mistake(key: str, place: str) -> None:
    findings = Findings()
    found = read_text(f"modules: {{a: {{prober: http, {key}}}}}", "blackbox.yml", findings)
    assert (list(found), findings.problems) == (["a"], [])
    assert [w.path for w in findings.warnings] == [f"modules.a.{place}"]


def test_the_built_in_modules_load() -> None:
    assert list(modules(BUILT_IN)) == ["http_2xx", "http_post_2xx", "tcp_connect", "icmp"]


def province(folder: Path, text: str | None) -> Plan:
    (folder / "province.yaml").write_text(PROVINCE, "utf-8")
    if text is not None:
        (folder / "blackbox.yml").write_text(text, "utf-8")
    return load(folder / "province.yaml")


def test_a_province_names_its_file_of_modules(tmp_path: Path) -> None:
    plan = province(tmp_path, "modules: {a: {prober: tcp, tcp: {tls_config: {ca_file: ca.pem}}}}")
    assert plan.blackbox.modules["a"].tcp.tls_config.ca_file == tmp_path / "ca.pem"
    assert (plan.blackbox.allow, plan.blackbox.fixed, plan.blackbox.timeout_offset_s) == (("*.gov.vn",), True, 1.0)


def test_mistakes_of_both_files_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        province(tmp_path, "modules: {a: {prober: tpc}}")
    assert str(caught.value).startswith(f"{tmp_path}/blackbox.yml:1:23: modules.a.prober: expected one of http")


def test_a_file_that_cannot_be_read_is_named_where_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        province(tmp_path, None)
    assert f"province.yaml:2:21: blackbox.modules: {tmp_path}/blackbox.yml cannot be read" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.7", True),
        ("[2001:DB8::1]", True),
        ("2001:db9::1", False),
        ("mail.langson.gov.vn", True),
        ("MAIL.LangSon.gov.vn.", True),
        ("gov.vn", False),
        ("gov.vn.example.com", False),
        ("văn-phòng.vn", True),
        ("văn-phòng.vn".encode("idna").decode(), True),
        ("portal.example.vn", True),
        ("/run/postgresql/.s.PGSQL.5432", True),
        ("/run/docker.sock", False),
        ("", False),
        ("127.1", False),
    ],
)
def test_the_list_allows_what_it_names_and_nothing_else(host: str, allowed: bool) -> None:
    patterns = ("192.0.2.0/24", "2001:db8::/32", "*.gov.vn", "văn-phòng.vn", "/run/postgresql/*")
    assert AllowList(patterns, ("Portal.example.vn",))(host) is allowed


def test_an_empty_list_allows_the_hosts_of_checks_alone() -> None:
    allow = AllowList((), ("192.0.2.1", "", "a.vn"))
    assert [host for host in ("192.0.2.1", "a.vn", "b.vn", "", "*") if allow(host)] == ["192.0.2.1", "a.vn"]


@pytest.mark.parametrize("pattern", ["", "a b", "10.0.0.1/8", "10.0.0.0/33", "a/b"])
def test_an_entry_that_can_match_nothing_is_refused(pattern: str) -> None:
    assert pattern_problem(pattern)


words = st.sampled_from(
    [
        *(
            "modules",
            "prober",
            "http",
            "tcp",
            "dns",
            "icmp",
            "grpc",
            "unix",
            "websocket",
            "timeout",
            "5s",
            "tls_config",
        ),
        *("ttl", "query_response", "expect", "(", "send", "headers", "query_name", "valid_status_codes", "200", "yes"),
        *("~", "", "metadata", "labels", "basic_auth"),
    ]
)
trees = st.recursive(
    words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(words, st.dictionaries(words, trees, max_size=3), max_size=2))
def test_any_tree_is_modules_or_mistakes(tree: dict[str, Any]) -> None:
    findings = Findings()
    assert read_text(json.dumps(tree), "m.yml", findings) is not None
    for problem in findings.problems:
        assert str(problem)


@given(st.text(max_size=200))
def test_any_text_is_modules_or_mistakes(text: str) -> None:
    assert read_text(text, "m.yml", Findings()) is not None


@given(
    st.sampled_from(sorted(ALL_PROBERS)),
    st.text(max_size=60) | st.from_regex(r"https?://[\w.:@\[\]%-]*[:/]?\d*", fullmatch=True),
)
def test_any_target_has_a_host_that_can_be_judged(prober: str, target: str) -> None:
    host = host_of(prober, target)
    assert AllowList(("*.gov.vn", "10.0.0.0/8"), ("a.vn",))(host) in (True, False)
