from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from config.blackbox import read_text
from config.blackbox_translate import NoEqualError, translate
from config.loader import load
from config.problems import ConfigError, Findings
from probes.blackbox.modules import Module
from thongsuot.cli import app
from thongsuot.import_blackbox import read_targets, slug

MODULES = """
modules:
  web:
    prober: http
    timeout: 45s
    http:
      valid_status_codes: [200, 401]
      fail_if_body_not_matches_regexp: ["Đăng nhập"]
      fail_if_body_matches_regexp: ["lỗi"]
      fail_if_header_not_matches: [{header: Server, regexp: nginx}]
      basic_auth: {username: can-bo, password: mat-khau-that}
      tls_config: {insecure_skip_verify: true, min_version: TLS13}
      no_follow_redirects: true
      headers: {Host: a.vn, Authorization: x}
  proxied: {prober: http, http: {proxy_url: "http://proxy.example.vn:3128"}}
  odd: {prober: http, http: {method: PROPFIND}}
  token: {prober: http, http: {authorization: {credentials_file: /run/token}}}
  ssh: {prober: tcp, tcp: {query_response: [{expect: "^SSH-2.0-.*$"}, {send: "SSH-2.0-x"}]}}
  irc: {prober: tcp, tcp: {query_response: [{expect: "PING (.*)", send: "PONG ${1}"}]}}
  smtp:
    prober: tcp
    tcp: {query_response: [{expect: "^220 "}, {send: "STARTTLS\\r"}, {expect: "^220"}, {starttls: true}]}
  imaps: {prober: tcp, tcp: {tls: true, query_response: [{expect: "^\\\\* OK"}], tls_config: {ca_file: /etc/ca.pem}}}
  pop3s: {prober: tcp, tcp: {tls: true, query_response: [{expect: "^+OK"}]}}
  ldap: {prober: tcp, tcp: {query_response: [{expect: a, starttls: true}]}}
  tls: {prober: tcp, tcp: {tls: true, source_ip_address: 192.0.2.7, ip_protocol_fallback: false}}
  zone:
    prober: dns
    dns:
      query_name: langson.gov.vn
      query_type: A
      recursion_desired: false
      transport_protocol: tcp
      valid_rcodes: [NOERROR]
      validate_answer_rrs:
        fail_if_none_matches_regexp: ["\\\\tA\\\\t203[.]"]
        fail_if_matches_regexp: ["127\\\\."]
        fail_if_not_matches_regexp: ["x"]
      validate_authority_rrs: {fail_if_matches_regexp: [a]}
  dot: {prober: dns, dns: {query_name: a.vn, transport_protocol: tcp, dns_over_tls: true}}
  ping: {prober: icmp, timeout: 500ms, icmp: {payload_size: 64, ttl: 9, dont_fragment: true}}
  api: {prober: grpc, grpc: {service: a.B, tls: true, metadata: {x-a: [b], x-c: [d, e]}}}
  sock: {prober: unix, unix: {query_response: [{send: PING}]}}
  live: {prober: websocket, websocket: {query_response: [{expect: hello, send: hi}]}}
"""


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    findings = Findings()
    found = read_text(MODULES, "blackbox.yml", findings)
    findings.refuse()
    return dict(found)


@pytest.mark.parametrize(
    ("name", "target", "keys"),
    [
        (
            "web",
            "https://a.vn/x",
            {
                "probe": "http", "url": "https://a.vn/x", "follow_redirects": False, "headers": {"Host": "a.vn"},
                "username": "can-bo", "password_file": "/etc/thongsuot/secrets/s", "verify": False,
                "min_version": "1.3",
                "expect": {
                    "status": [200, 401], "body": [{"regex": "Đăng nhập"}], "body_absent": [{"regex": "lỗi"}],
                    "headers": {"Server": {"regex": "nginx"}},
                },
                "timeout": "45s",
            },
        ),
        ("token", "a.vn", {"probe": "http", "url": "http://a.vn", "token_file": "/run/token", "plaintext_login": True}),
        (
            "ssh",
            "h.vn:22",
            {
                "probe": "tcp", "host": "h.vn", "port": 22,
                "dialogue": [{"expect": "(?m)^SSH-2.0-.*\\r?$"}, {"send": "SSH-2.0-x\n"}],
            },
        ),
        ("smtp", "m.vn:25", {"probe": "smtp", "host": "m.vn", "port": 25, "starttls": "required"}),
        ("imaps", "m.vn:993", {"probe": "imap", "host": "m.vn", "port": 993, "tls": True, "ca_file": "/etc/ca.pem"}),
        ("pop3s", "m.vn:995", {"probe": "pop3", "host": "m.vn", "port": 995, "tls": True}),
        ("tls", "[2001:db8::1]:443", {"probe": "tls", "host": "2001:db8::1", "port": 443, "family": "ip6"}),
        (
            "zone",
            "203.119.8.1:5353",
            {
                "probe": "dns", "server": "203.119.8.1", "port": 5353, "name": "langson.gov.vn", "type": "A",
                "transport": "tcp", "recursion": False, "rcodes": ["NOERROR"],
                "answers": {"at_least": 1, "match": ["^203[.]"], "forbid": ["127\\."]},
            },
        ),
        (
            "ping",
            "h.vn",
            {"probe": "icmp", "host": "h.vn", "size": 64, "ttl": 9, "dont_fragment": True, "timeout": "500ms"},
        ),
        (
            "api",
            "api.vn",
            {"probe": "grpc", "host": "api.vn", "port": 443, "service": "a.B", "tls": True, "metadata": {"x-a": "b"}},
        ),
        ("sock", "/run/x", {"probe": "unix", "socket": "/run/x", "dialogue": [{"send": "PING\n"}]}),
        (
            "live",
            "wss://l.vn/x",
            {"probe": "websocket", "url": "wss://l.vn/x", "dialogue": [{"expect": "(?m)hello"}, {"send": "hi"}]},
        ),
    ],
)  # fmt: skip
def test_a_module_becomes_the_check_that_means_the_same(
    modules: dict[str, Module], name: str, target: str, keys: dict[str, Any]
) -> None:
    assert translate(modules[name], target, "s").keys == keys


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("proxied", "http://a.vn", "http.proxy_url"),
        ("odd", "http://a.vn", "http.method PROPFIND has no equal"),
        ("irc", "a.vn:6667", r"with \$\{…\} in what is sent"),
        ("ldap", "a.vn:389", "query_response.starttls in a dialogue"),
        ("dot", "9.9.9.9", "dns.dns_over_tls"),
        ("ssh", "a.vn", "'a.vn' names no port"),
        ("web", "https://a b/", "url: a URL holds no blanks"),
    ],
)
def test_what_has_no_equal_becomes_no_check(modules: dict[str, Module], name: str, target: str, words: str) -> None:
    with pytest.raises(NoEqualError, match=words):
        translate(modules[name], target, "s")


def test_what_is_left_out_is_noted(modules: dict[str, Module]) -> None:
    assert translate(modules["web"], "https://a.vn", "s").notes == [
        "http.headers.Authorization: this header cannot be given; a login has keys of its own",
        "put the password of can-bo into /etc/thongsuot/secrets/s",
    ]
    assert translate(modules["zone"], "a.vn", "s").notes == [
        "dns.validate_answer_rrs.fail_if_not_matches_regexp has no equal",
        "dns.validate_authority_rrs has no equal",
    ]
    assert translate(modules["api"], "a.vn", "s").notes == ["grpc.metadata: only one value of a name can be given"]


TARGETS = """
[{"targets": ["https://cong.vn/", "a.vn"], "labels": {"job": "Cổng thông tin", "module": "token"}},
 {"targets": ["https://mail.vn/"], "labels": {"module": "web", "name": "Thư \\"điện tử\\"", "service": "references"}},
 {"targets": ["203.119.8.1"], "labels": {"__param_module": "zone", "module": "x", "instance": "Máy chủ tên"}},
 {"targets": ["m.vn:443"], "labels": {"module": "tls"}},
 {"targets": ["http://p.vn/"], "labels": {"module": "proxied"}},
 {"targets": ["q.vn"]}]
"""


def files(folder: Path, targets: str = TARGETS, name: str = "targets.json") -> list[str]:
    (folder / "blackbox.yml").write_text(MODULES, "utf-8")
    (folder / name).write_text(targets, "utf-8")
    return ["import", "blackbox", str(folder / "blackbox.yml"), "--targets", str(folder / name)]


def test_an_installation_becomes_a_province_that_loads(tmp_path: Path) -> None:
    out = tmp_path / "province.yaml"
    done = CliRunner().invoke(app, [*files(tmp_path), "--out", str(out), "--module", "ping", "--site-id", "lang-son"])
    assert done.exit_code == 0, done.output
    assert "p-vn.proxied (http://p.vn/, module proxied): no check: http.proxy_url" in done.stderr
    assert done.stderr.endswith("6 of 7 targets became checks\n")

    text = out.read_text("utf-8")
    plan = load(out)
    assert "mat-khau-that" not in text
    assert "# NOTE put the password of can-bo into /etc/thongsuot/secrets/references-service-web" in text
    assert "# NOTE http://p.vn/, module proxied: no check: http.proxy_url" in text
    assert plan.site.id == "lang-son"
    found = {target.id: (target.probe.kind, target.name) for target in plan.targets()}
    assert found == {
        "cong-thong-tin.token": ("http", "token"),
        "cong-thong-tin.token-2": ("http", "token-2"),
        "references-service.web": ("http", 'Thư "điện tử"'),
        "203-119-8-1.zone": ("dns", "Máy chủ tên"),
        "m-vn.tls": ("tls", "tls"),
        "q-vn.ping": ("icmp", "ping"),
    }
    tls = next(target for target in plan.targets() if target.id == "m-vn.tls")
    assert tls.path is not None
    assert tls.path.source == "192.0.2.7"
    assert plan.service("cong-thong-tin").name == "Cổng thông tin"
    assert plan.blackbox.modules.keys() == {*re.findall(r"^  (\w+):", MODULES, re.MULTILINE)}


def test_targets_come_as_yaml_too_and_go_to_standard_output(tmp_path: Path) -> None:
    yaml = "- targets: ['h.vn']\n  labels: {module: ping}\n- targets: [i.vn]\n"
    done = CliRunner().invoke(app, [*files(tmp_path, yaml, "t.yml"), "--module", "ping"])
    assert done.exit_code == 0
    assert 'host: "h.vn"' in done.stdout
    assert 'host: "i.vn"' in done.stdout


def test_nothing_that_can_be_translated_still_is_a_file_that_loads(tmp_path: Path) -> None:
    out = tmp_path / "province.yaml"
    targets = '[{"targets": ["http://a.vn"], "labels": {"module": "odd"}}]'
    done = CliRunner().invoke(app, [*files(tmp_path, targets), "--out", str(out)])
    assert done.exit_code == 0
    assert load(out).targets() == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "1:1: (file): expected a list of targets with labels; got a mapping"),
        ("- labels: {}", "1:3: [0]: expected a mapping with targets, a list of texts"),
        ("- {targets: [[a]]}", "1:3: [0]: expected a mapping with targets, a list of texts"),
        ("- {targets: [a], labels: b}", "1:26: [0].labels: expected a mapping of texts; got 'b'"),
        ("- {targets: [a}", "1:15: (file): expected ',' or ']' in the […] opened at line 1"),
    ],
)
def test_a_mistake_in_the_targets_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "t.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_targets(file)
    assert str(caught.value) == f"{file}:{message}"


def test_a_wrong_file_of_modules_and_an_absent_one_are_refused(tmp_path: Path) -> None:
    words = files(tmp_path)
    (tmp_path / "blackbox.yml").write_text("modules: {a: {prober: x}}")
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "blackbox.yml:1:23: modules.a.prober: expected one of" in done.stderr) == (78, True)
    done = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "none.json")])
    assert (done.exit_code, "none.json cannot be read" in done.stderr) == (78, True)


@pytest.mark.parametrize(
    ("text", "made"),
    [("Cổng thông tin Đăng ký", "cong-thong-tin-dang-ky"), ("a.b:1", "a-b-1"), ("…", "service"), ("-A-", "a")],
)
def test_ids_are_made_of_any_text(text: str, made: str) -> None:
    assert slug(text) == made
