"""What our `/probe` and Debian's blackbox_exporter both look at: the modules of both, and every target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.servers import LOOPBACK
from tests.system.blackbox_world import World

TIMEOUT: Final = "20s"  # of what ends by itself; room for a busy machine
BRIEF: Final = "1s"  # of what never does

# Modules of both; {ca} is the tests' authority. A module's name without a case of its own would be a mistake.
MODULES: Final = """
modules:
  http: {{prober: http, timeout: {timeout}}}
  http_brief: {{prober: http, timeout: {brief}}}
  http_no_follow: {{prober: http, timeout: {timeout}, http: {{follow_redirects: false}}}}
  http_503: {{prober: http, timeout: {timeout}, http: {{valid_status_codes: [503]}}}}
  http_10: {{prober: http, timeout: {timeout}, http: {{valid_http_versions: [HTTP/1.0]}}}}
  http_2: {{prober: http, timeout: {timeout}, http: {{valid_http_versions: [HTTP/2.0], tls_config: {{ca_file: {ca}}}}}}}
  http_text: {{prober: http, timeout: {timeout}, http: {{fail_if_body_not_matches_regexp: ["Đăng .*h.p"]}}}}
  http_no_text: {{prober: http, timeout: {timeout}, http: {{fail_if_body_matches_regexp: ["(?i)<TITLE>"]}}}}
  http_far_text: {{prober: http, timeout: {timeout}, http: {{fail_if_body_not_matches_regexp: ["không-có"]}}}}
  http_limit: {{prober: http, timeout: {timeout}, http: {{body_size_limit: 1MB}}}}
  http_header:
    prober: http
    timeout: {timeout}
    http: {{fail_if_header_not_matches: [{{header: content-type, regexp: "^text/html"}}]}}
  http_no_header:
    prober: http
    timeout: {timeout}
    http: {{fail_if_header_matches: [{{header: Server, regexp: nginx}}]}}
  http_missing: {{prober: http, timeout: {timeout}, http: {{fail_if_header_matches: [{{header: X-None, regexp: a}}]}}}}
  http_may_miss:
    prober: http
    timeout: {timeout}
    http: {{fail_if_header_matches: [{{header: X-None, regexp: a, allow_missing: true}}]}}
  http_login: {{prober: http, timeout: {timeout}, http: {{basic_auth: {{username: can-bo, password: "mật-khẩu 123"}}}}}}
  http_post: {{prober: http, timeout: {timeout}, http: {{method: POST, body: "a=b", headers: {{Content-Type: x/y}}}}}}
  http_gzip: {{prober: http, timeout: {timeout}, http: {{compression: gzip, fail_if_body_not_matches_regexp: [xin]}}}}
  http_plain: {{prober: http, timeout: {timeout}, http: {{fail_if_ssl: true}}}}
  http_tls_only: {{prober: http, timeout: {timeout}, http: {{fail_if_not_ssl: true, tls_config: {{ca_file: {ca}}}}}}}
  http_no_tls: {{prober: http, timeout: {timeout}, http: {{fail_if_ssl: true, tls_config: {{ca_file: {ca}}}}}}}
  https: {{prober: http, timeout: {timeout}, http: {{tls_config: {{ca_file: {ca}}}}}}}
  https_any: {{prober: http, timeout: {timeout}, http: {{tls_config: {{insecure_skip_verify: true}}}}}}
  https_name:
    prober: http
    timeout: {timeout}
    http: {{tls_config: {{ca_file: {ca}, server_name: khac.example.vn}}}}
  https_ip6_only: {{prober: http, timeout: {timeout}, http: {{ip_protocol_fallback: false}}}}
  tcp: {{prober: tcp, timeout: {timeout}}}
  tcp_ip4: {{prober: tcp, timeout: {timeout}, tcp: {{preferred_ip_protocol: ip4, source_ip_address: 127.0.0.1}}}}
  tcp_tls: {{prober: tcp, timeout: {timeout}, tcp: {{tls: true, tls_config: {{ca_file: {ca}}}}}}}
  tcp_banner: {{prober: tcp, timeout: {timeout}, tcp: {{query_response: [{{expect: "^220 (\\\\S+)"}}]}}}}
  tcp_banner_brief: {{prober: tcp, timeout: {brief}, tcp: {{query_response: [{{expect: "^220 (\\\\S+)"}}]}}}}
  tcp_talk:
    prober: tcp
    timeout: {timeout}
    tcp: {{query_response: [{{expect: "^220 (\\\\S+)", send: "HELO ${{1}}"}}, {{expect: "^250 (?P<who>\\\\w+)"}}]}}
  smtp_starttls:
    prober: tcp
    timeout: 3s
    tcp:
      tls_config: {{ca_file: {ca}}}
      query_response:
        - {{expect: "^220 ([^ ]+) ESMTP (.+)$"}}
        - {{send: "EHLO prober\\r"}}
        - {{expect: "^250-STARTTLS"}}
        - {{send: "STARTTLS\\r"}}
        - {{expect: "^220"}}
        - {{starttls: true}}
        - {{send: "EHLO prober\\r"}}
        - {{expect: "^250-PIPELINING"}}
        - {{send: "QUIT\\r"}}
  dns: {{prober: dns, timeout: {timeout}, dns: {{query_name: tinh.example.vn, query_type: A}}}}
  dns_brief: {{prober: dns, timeout: {brief}, dns: {{query_name: tinh.example.vn, query_type: A}}}}
  dns_tcp:
    prober: dns
    timeout: {timeout}
    dns: {{query_name: tinh.example.vn, query_type: MX, transport_protocol: tcp}}
  dns_soa: {{prober: dns, timeout: {timeout}, dns: {{query_name: tinh.example.vn, query_type: SOA}}}}
  dns_no_soa: {{prober: dns, timeout: {timeout}, dns: {{query_name: khong.tinh.example.vn, query_type: SOA}}}}
  dns_nxdomain: {{prober: dns, timeout: {timeout}, dns: {{query_name: khong.tinh.example.vn, query_type: A}}}}
  dns_nxdomain_good:
    prober: dns
    timeout: {timeout}
    dns: {{query_name: khong.tinh.example.vn, query_type: A, valid_rcodes: [NOERROR, NXDOMAIN]}}
  dns_refused: {{prober: dns, timeout: {timeout}, dns: {{query_name: refused.example.vn, query_type: A}}}}
  dns_silent: {{prober: dns, timeout: {brief}, dns: {{query_name: silent.example.vn, query_type: A}}}}
  dns_tabs:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: A
      validate_answer_rrs:
        fail_if_not_matches_regexp: ["^tinh\\\\.example\\\\.vn\\\\.\\t300\\tIN\\tA\\t192[.]0[.]2[.]10$"]
  dns_mx:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: MX
      validate_answer_rrs: {{fail_if_none_matches_regexp: ["\\tMX\\t10 mail\\\\.tinh\\\\.example\\\\.vn\\\\.$"]}}
  dns_txt:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: TXT
      validate_answer_rrs: {{fail_if_not_matches_regexp: ['\\tTXT\\t"v=spf1 mx -all"$']}}
  dns_matches:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: A
      validate_answer_rrs: {{fail_if_matches_regexp: [192]}}
  dns_all:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: A
      validate_answer_rrs: {{fail_if_all_match_regexp: [192]}}
  dns_not_all:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: A
      validate_answer_rrs: {{fail_if_all_match_regexp: ["10\\\\.0"]}}
  dns_empty:
    prober: dns
    timeout: {timeout}
    dns:
      query_name: tinh.example.vn
      query_type: A
      validate_authority_rrs: {{fail_if_not_matches_regexp: [a]}}
  icmp: {{prober: icmp, timeout: {timeout}}}
  icmp_large: {{prober: icmp, timeout: {timeout}, icmp: {{payload_size: 2000, ttl: 9}}}}
  grpc_bare: {{prober: grpc, timeout: {timeout}}}
  grpc: {{prober: grpc, timeout: {timeout}, grpc: {{preferred_ip_protocol: ip4}}}}
  grpc_slow: {{prober: grpc, timeout: {timeout}, grpc: {{service: tre, preferred_ip_protocol: ip4}}}}
  grpc_unknown: {{prober: grpc, timeout: {timeout}, grpc: {{service: khong-co, preferred_ip_protocol: ip4}}}}
  grpc_tls:
    prober: grpc
    timeout: {timeout}
    grpc: {{tls: true, preferred_ip_protocol: ip4, tls_config: {{ca_file: {ca}}}}}
"""


Target = Callable[[World], str]

# What is compared: prober and words for people, module, target. Names serve the table of differences.
CASES: Final[Mapping[str, tuple[str, Target]]] = {
    "http: good": ("http", lambda w: w.nginx.url()),
    "http: without a scheme": ("http", lambda w: f"{LOOPBACK}:{w.nginx.port}/status.json"),
    "http: 503": ("http", lambda w: w.nginx.url("/503")),
    "http: 503 is what is wanted": ("http_503", lambda w: w.nginx.url("/503")),
    "http: 200 is not what is wanted": ("http_503", lambda w: w.nginx.url()),
    "http: redirect": ("http", lambda w: w.nginx.url("/redirect")),
    "http: redirect not followed": ("http_no_follow", lambda w: w.nginx.url("/redirect")),
    "http: redirects without end": ("http", lambda w: w.nginx.url("/redirect-loop")),
    "http: redirect to nothing": ("http", lambda w: f"{w.odd}/to-nothing"),
    "http: redirect without a place": ("http", lambda w: f"{w.odd}/nowhere"),
    "http: redirect of a POST": ("http_post", lambda w: f"{w.odd}/moved"),
    "http: redirect to a host that is not allowed": ("http", lambda w: f"{w.odd}/away"),
    "http: a login at another origin": ("http_login", lambda w: f"{w.odd}/to-other"),
    "http: a page that needs a login": ("http", lambda w: w.nginx.url("/auth/")),
    "http: a page with its login": ("http_login", lambda w: w.nginx.url("/auth/")),
    "http: no byte ever": ("http_brief", lambda w: w.nginx.url("/hang")),
    "http: a slow body": ("http_brief", lambda w: w.nginx.url("/slow.txt")),
    "http: 3 MiB": ("http", lambda w: w.nginx.url("/big.txt")),
    "http: 3 MiB looked through": ("http_far_text", lambda w: w.nginx.url("/big.txt")),
    "http: more than the limit": ("http_limit", lambda w: w.nginx.url("/big.txt")),
    "http: a text that is there": ("http_text", lambda w: w.nginx.url()),
    "http: a text that must not be there": ("http_no_text", lambda w: w.nginx.url()),
    "http: a header that is right": ("http_header", lambda w: w.nginx.url()),
    "http: a header that is wrong": ("http_header", lambda w: w.nginx.url("/status.json")),
    "http: a header that must not be": ("http_no_header", lambda w: w.nginx.url()),
    "http: a header that is missing": ("http_missing", lambda w: w.nginx.url()),
    "http: a header that may be missing": ("http_may_miss", lambda w: w.nginx.url()),
    "http: another version": ("http_10", lambda w: w.nginx.url()),
    "http: a POST": ("http_post", lambda w: f"{w.odd}/post"),
    "http: chunks without a length": ("http", lambda w: f"{w.odd}/chunks"),
    "http: compressed": ("http_gzip", lambda w: f"{w.odd}/gzip"),
    "http: not compressed as it should be": ("http_gzip", lambda w: w.nginx.url()),
    "http: plain only": ("http_plain", lambda w: w.nginx.url()),
    "http: TLS wanted": ("http_tls_only", lambda w: w.nginx.url()),
    "http: TLS wanted and there": ("http_tls_only", lambda w: w.nginx.https_url()),
    "http: TLS not wanted": ("http_no_tls", lambda w: w.nginx.https_url()),
    "http: refused": ("http", lambda w: f"http://{w.ports['refused']}/"),
    "http: reset": ("http", lambda w: f"http://{w.ports['reset']}/"),
    "http: not HTTP": ("http", lambda w: f"http://{w.ports['banner']}/"),
    "http: a body that breaks off": ("http", lambda w: f"http://{w.ports['cut']}/"),
    "http: a header without end": ("http_brief", lambda w: f"http://{w.ports['endless']}/"),
    "http: one byte at a time": ("http_brief", lambda w: f"http://{w.ports['drip']}/"),
    "http: unresolvable": ("http", lambda _: "http://khong-co.invalid/"),
    "http: IPv6 alone": ("https_ip6_only", lambda w: w.nginx.url()),
    "http: TLS": ("https", lambda w: w.nginx.https_url()),
    "http: TLS and HTTP/2": ("http_2", lambda w: f"https://{LOOPBACK}:{w.nginx2.port}/moved"),
    "http: TLS without HTTP/2": ("http_2", lambda w: w.nginx.https_url()),
    "http: an expired certificate": ("https", lambda w: w.nginx.https_url(certificate="expired")),
    "http: a certificate of tomorrow": ("https", lambda w: w.nginx.https_url(certificate="not_yet_valid")),
    "http: a certificate for another name": ("https", lambda w: w.nginx.https_url(certificate="wrong_name")),
    "http: that other name": ("https_name", lambda w: w.nginx.https_url(certificate="wrong_name")),
    "http: an unknown authority": ("https", lambda w: w.nginx.https_url(certificate="unknown_ca")),
    "http: self-signed": ("https", lambda w: w.nginx.https_url(certificate="self_signed")),
    "http: self-signed and not looked at": ("https_any", lambda w: w.nginx.https_url(certificate="self_signed")),
    "http: expired and not looked at": ("https_any", lambda w: w.nginx.https_url(certificate="expired")),
    "http: TLS where there is none": ("https", lambda w: w.nginx.url().replace("http:", "https:")),
    "tcp: open": ("tcp", lambda w: f"{LOOPBACK}:{w.nginx.port}"),
    "tcp: open over IPv4 from an address": ("tcp_ip4", lambda w: f"localhost:{w.nginx.port}"),
    "tcp: refused": ("tcp", lambda w: w.ports["refused"]),
    "tcp: no port": ("tcp", lambda _: LOOPBACK),
    "tcp: unresolvable": ("tcp", lambda _: "khong-co.invalid:25"),
    "tcp: a banner": ("tcp_banner", lambda w: w.ports["banner"]),
    "tcp: a banner that never comes": ("tcp_banner_brief", lambda w: w.ports["silent"]),
    "tcp: another banner, then the end": ("tcp_banner", lambda w: w.ports["other banner"]),
    "tcp: a line without end": ("tcp_banner_brief", lambda w: w.ports["endless"]),
    "tcp: a dialogue": ("tcp_talk", lambda w: w.ports["talk"]),
    "tcp: TLS": ("tcp_tls", lambda w: w.tls("good")),
    "tcp: TLS, expired": ("tcp_tls", lambda w: w.tls("expired")),
    "tcp: TLS, wrong name": ("tcp_tls", lambda w: w.tls("wrong_name")),
    "tcp: STARTTLS": ("smtp_starttls", lambda w: f"{LOOPBACK}:{w.postfix.port}"),
    "dns: an address": ("dns", World.dns),
    "dns: by TCP": ("dns_tcp", World.dns),
    "dns: a serial": ("dns_soa", World.dns),
    "dns: no serial": ("dns_no_soa", World.dns),
    "dns: no such name": ("dns_nxdomain", World.dns),
    "dns: no such name, as wanted": ("dns_nxdomain_good", World.dns),
    "dns: turned away": ("dns_refused", World.dns),
    "dns: no answer": ("dns_silent", World.dns),
    "dns: refused": ("dns", lambda w: w.ports["refused"]),
    "dns: refused by TCP": ("dns_tcp", lambda w: w.ports["refused"]),
    "dns: rubbish": ("dns_brief", lambda w: w.ports["rubbish"]),
    "dns: unresolvable": ("dns", lambda _: "khong-co.invalid"),
    "dns: tabs between the fields": ("dns_tabs", World.dns),
    "dns: a mail server": ("dns_mx", World.dns),
    "dns: a text": ("dns_txt", World.dns),
    "dns: fail_if_matches": ("dns_matches", World.dns),
    "dns: fail_if_all_match, and all do": ("dns_all", World.dns),
    "dns: fail_if_all_match, and not all do": ("dns_not_all", World.dns),
    "dns: a rule for no records": ("dns_empty", World.dns),
    "icmp: good": ("icmp", lambda _: LOOPBACK),
    "icmp: IPv6": ("icmp", lambda _: "::1"),
    "icmp: large": ("icmp_large", lambda _: LOOPBACK),
    "icmp: unresolvable": ("icmp", lambda _: "khong-co.invalid"),
    "grpc: without a section": ("grpc_bare", lambda w: w.ports["grpc"]),
    "grpc: serving": ("grpc", lambda w: w.ports["grpc"]),
    "grpc: not serving": ("grpc_slow", lambda w: w.ports["grpc"]),
    "grpc: unknown": ("grpc_unknown", lambda w: w.ports["grpc"]),
    "grpc: refused": ("grpc", lambda w: w.ports["refused"]),
    "grpc: TLS": ("grpc_tls", lambda w: w.ports["grpc tls"]),
}
