"""Our `/probe` and Debian's blackbox_exporter against the same servers: same verdicts, same families and values."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from probes import icmp
from tests.exporters.blackbox_endpoint import Endpoint, endpoint, figures
from tests.probes.grpc_server import NOT_SERVING, SERVING, grpc_server
from tests.probes.probing import run_probe
from tests.servers import (
    LOOPBACK,
    Address,
    Certificates,
    datagram_server,
    drip_server,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
    talk_server,
)
from tests.system.blackbox_differences import DIFFERENCES, Difference, Side
from tests.system.daemon import Daemon
from tests.system.namespaces import Network
from tests.system.servers import Server, free_port, http_get
from tests.system.servers_dns import Unbound
from tests.system.servers_mail import Postfix
from tests.system.servers_metrics import BlackboxExporter, Prometheus, promtool
from tests.system.servers_web import Nginx

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

DOCUMENT: Final = Path(__file__).parent.parent.parent / "docs" / "blackbox.md"
AT_ONCE: Final = 8
TIMEOUT: Final = "700ms"

# Modules of both; {ca} is the tests' authority. A module's name without a case of its own would be a mistake.
MODULES: Final = """
modules:
  http: {{prober: http, timeout: {timeout}}}
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
  dns_silent: {{prober: dns, timeout: {timeout}, dns: {{query_name: silent.example.vn, query_type: A}}}}
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


class Http2Nginx(Server):
    """nginx that agrees on HTTP/2."""

    name = "nginx2"

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self._certificates = certificates
        self.port = free_port()
        self.plain_port = free_port()

    def prepare(self) -> None:
        good = self._certificates.good
        self.write("pages/index.html", "xin chào\n" * 30000)
        self.write(
            "nginx.conf",
            f"""
            worker_processes 1; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log warn;
            events {{ worker_connections 64; }}
            http {{
                access_log off; client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p;
                fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
                root {self.folder}/pages;
                server {{ listen {self.host}:{self.plain_port}; }}
                server {{
                    listen {self.host}:{self.port} ssl http2;
                    ssl_certificate {good.chain_file}; ssl_certificate_key {good.key_file};
                    location = /moved {{ return 302 /; }}
                }}
            }}
            """,
        )

    def command(self) -> list[str]:
        return ["nginx", "-p", f"{self.folder}", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"]

    def answers(self) -> bool:
        return http_get(self.host, self.plain_port, "/")[0] == 200


@dataclass(slots=True)
class World:
    """Every server that both look at."""

    nginx: Nginx
    nginx2: Http2Nginx
    unbound: Unbound
    postfix: Postfix
    odd: str  # address of pages that nginx cannot be made to serve
    other: str  # another origin, that wants a login
    ports: dict[str, str] = field(default_factory=dict)  # name to host:port

    def dns(self) -> str:
        return f"{LOOPBACK}:{self.unbound.port}"

    def tls(self, certificate: str) -> str:
        return f"{LOOPBACK}:{self.nginx.tls_ports[certificate]}"


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
    "http: no byte ever": ("http", lambda w: w.nginx.url("/hang")),
    "http: a slow body": ("http", lambda w: w.nginx.url("/slow.txt")),
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
    "http: a header without end": ("http", lambda w: f"http://{w.ports['endless']}/"),
    "http: one byte at a time": ("http", lambda w: f"http://{w.ports['drip']}/"),
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
    "tcp: a banner that never comes": ("tcp_banner", lambda w: w.ports["silent"]),
    "tcp: another banner, then the end": ("tcp_banner", lambda w: w.ports["other banner"]),
    "tcp: a line without end": ("tcp_banner", lambda w: w.ports["endless"]),
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
    "dns: rubbish": ("dns", lambda w: w.ports["rubbish"]),
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


@contextlib.asynccontextmanager
async def odd_pages(other: str, elsewhere: str) -> AsyncIterator[str]:
    """Pages that nginx cannot be made to serve."""

    async def chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"xin chao " * 100)
        return response

    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"xin chao " * 1000), headers={"Content-Encoding": "gzip"})

    async def post(request: web.Request) -> web.Response:
        good = await request.read() == b"a=b" and request.content_type == "x/y"
        return web.Response(status=200 if good else 400, text="ok")

    async def moved(request: web.Request) -> web.Response:
        places = {
            "/moved": "/got",
            "/away": f"{elsewhere}/got",
            "/to-other": f"{other}/",
            "/to-nothing": "http://127.0.0.1:1/",
        }
        return web.Response(status=302, headers={"Location": places[request.path]})

    async def nowhere(_: web.Request) -> web.Response:
        return web.Response(status=302)

    async def got(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {len(await request.read())}")

    app = web.Application()
    app.router.add_get("/chunks", chunks)
    app.router.add_get("/gzip", packed)
    app.router.add_post("/post", post)
    app.router.add_get("/got", got)
    app.router.add_get("/nowhere", nowhere)
    for path in ("/moved", "/away", "/to-other", "/to-nothing"):
        app.router.add_route("*", path, moved)
    async with serving(app) as url:
        yield url


@contextlib.asynccontextmanager
async def serving(app: web.Application, host: str = LOOPBACK) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    yield f"http://{host}:{runner.addresses[0][1]}"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def wanting_a_login(host: str = LOOPBACK) -> AsyncIterator[str]:
    async def page(request: web.Request) -> web.Response:
        return web.Response(status=200 if "Authorization" in request.headers else 401)

    async def got(_: web.Request) -> web.Response:
        return web.Response(text="got")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/got", got)
    async with serving(app, host) as url:
        yield url


@pytest.fixture(scope="module")
def nginx2(certificates: Certificates) -> Iterator[Http2Nginx]:
    with Http2Nginx(certificates) as server:
        yield server


@pytest.fixture
async def world(
    shared_nginx: Nginx,
    nginx2: Http2Nginx,
    shared_unbound: Unbound,
    shared_postfix: Postfix,
    certificates: Certificates,
) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(wanting_a_login())
        elsewhere = await stack.enter_async_context(wanting_a_login("127.0.0.2"))
        odd = await stack.enter_async_context(odd_pages(other, elsewhere))
        made = World(shared_nginx, nginx2, shared_unbound, shared_postfix, odd, other)
        health = {"": SERVING, "tre": NOT_SERVING}
        servers: dict[str, contextlib.AbstractAsyncContextManager[Address]] = {
            "silent": silent_server(),
            "reset": resetting_server(),
            "banner": talk_server(b"220 mail.example.vn ESMTP\r\n"),
            "other banner": talk_server(b"554 no\r\nbye"),
            "talk": talk_server(b"220 mail.example.vn ESMTP\r\n", b"500 what\n250 xin chao\n"),
            "cut": talk_server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxin"),
            "endless": endless_line_server(b"HTTP/1.1 200 OK\r\nX: "),
            "drip": drip_server(b"HTTP/1.1 200 OK\r\n", every_s=0.1),
            "rubbish": datagram_server(lambda _: b"rubbish"),
            "grpc": grpc_server(health),
            "grpc tls": grpc_server(health, tls=certificates.good.server_context()),
        }
        for name, server in servers.items():
            address = await stack.enter_async_context(server)
            made.ports[name] = f"{address.host}:{address.port}"
        refused = stack.enter_context(refused_port())
        made.ports["refused"] = f"{refused.host}:{refused.port}"
        yield made


@pytest.fixture(scope="module")
def modules(certificates: Certificates) -> str:
    return MODULES.format(ca=certificates.ca_file, timeout=TIMEOUT)


@pytest.fixture(scope="module")
def peer(modules: str) -> Iterator[BlackboxExporter]:
    # What came after 0.23 stays out of the file it reads.
    with BlackboxExporter(modules) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Pair:
    """What both found of one target."""

    case: str
    theirs: Mapping[str, float]
    ours: Mapping[str, float]


async def _both(ours: Endpoint, peer: BlackboxExporter, world: World) -> list[Pair]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: str) -> Pair:
        module, target = CASES[case]
        where = target(world)
        async with gate:
            theirs, own = await asyncio.gather(asyncio.to_thread(peer.probe, module, where), ours.probe(module, where))
        return Pair(case, figures(theirs), own)

    return await asyncio.gather(*map(one, CASES))


_SERIES: Final = re.compile(r"(\w+)(?:\{(.*)\})?")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TIMES: Final = re.compile(r"probe_(\w+_)?(duration|lookup_time|timeout)_seconds")


class Judge:
    """Compares, allows what is in the table, and remembers which of its rows were needed."""

    def __init__(self) -> None:
        self.used: set[Difference] = set()
        self.problems: list[str] = []

    def look_at(self, pair: Pair) -> None:
        theirs, ours = self._shapes(pair.case, pair.theirs), self._shapes(pair.case, pair.ours)
        for series in sorted(theirs.keys() | ours.keys()):
            family = series.partition("{")[0]
            if series not in ours:
                self._note(Side.THEIRS, pair.case, family, series)
            elif series not in theirs:
                self._note(Side.OURS, pair.case, family, series)
            elif theirs[series] != ours[series] and not _TIMES.fullmatch(family):
                side = Side.VERDICT if family == "probe_success" else Side.VALUE
                self._note(side, pair.case, family, f"{series}: theirs {theirs[series]:g}, ours {ours[series]:g}")

    def _shapes(self, case: str, found: Mapping[str, float]) -> dict[str, float]:
        """Return the series without the labels that are known to be new."""
        shapes = {}
        for series, value in found.items():
            match = _SERIES.fullmatch(series)
            assert match
            labels = dict(_LABEL.findall(match[2] or ""))
            for name in tuple(labels):
                row = self._row(Side.LABEL, case, match[1], f"{{{name}}}")
                if row is not None:
                    del labels[name]
            shapes[f"{match[1]}{labels or ''}"] = value
        return shapes

    def _row(self, side: Side, case: str, family: str, labels: str = "") -> Difference | None:
        row = next((d for d in DIFFERENCES if d.side is side and d.concerns(case, family, labels)), None)
        if row is not None:
            self.used.add(row)
        return row

    def _note(self, side: Side, case: str, family: str, words: str) -> None:
        if self._row(side, case, family) is None:
            self.problems.append(f"{case}: {side}: {words}")


async def test_the_same_verdict_and_the_same_families_but_for_what_is_listed(
    world: World, modules: str, peer: BlackboxExporter
) -> None:
    async with endpoint(modules, allow=(LOOPBACK, "::1", "localhost", "*.invalid")) as ours:
        pairs = await _both(ours, peer, world)

    judge = Judge()
    for pair in pairs:
        judge.look_at(pair)
    assert not judge.problems, "\n".join(judge.problems)
    assert [row.row for row in DIFFERENCES if row not in judge.used] == []
    verdicts = [pair.ours["probe_success"] for pair in pairs]
    assert 30 <= sum(verdicts) <= len(verdicts) - 30  # both verdicts are well represented


def test_every_module_is_compared() -> None:
    named = set(re.findall(r"^  (\w+):", MODULES, re.MULTILINE))
    assert named == {module for module, _ in CASES.values()}


async def test_promtool_finds_nothing_wrong_with_our_page(world: World, modules: str) -> None:
    chosen = ("http: TLS and HTTP/2", "http: redirects without end", "tcp: STARTTLS", "dns: a serial", "grpc: TLS")
    async with endpoint(modules) as ours:
        for case in (*chosen, "icmp: good"):
            module, target = CASES[case]
            status, text = await ours.get("/probe", None, module=module, target=target(world))
            assert status == 200
            await asyncio.to_thread(promtool, "check", "metrics", text=text)  # raises when it has anything to say


def test_the_document_lists_every_difference() -> None:
    text = DOCUMENT.read_text("utf-8").partition("\n## Differences from ")[2]
    listed = [line for line in text.splitlines() if line.startswith("| `probe_")]
    assert listed == [row.row for row in DIFFERENCES]


PROVINCE: Final = """
site: {{id: lang-son, name: Lạng Sơn}}
blackbox: {{modules: modules.yml, allow: ["127.0.0.9"]}}
services:
  portal: {{checks: {{page: {{probe: http, url: "{url}", every: 10s, timeout: 5s}}}}}}
"""
SCRAPE: Final = """
global: {{scrape_interval: 3s}}
scrape_configs:
  - job_name: blackbox
    metrics_path: /probe
    params: {{module: [http_2xx]}}
    static_configs: [{{targets: ["{target}"]}}]
    relabel_configs:
      - {{source_labels: [__address__], target_label: __param_target}}
      - {{source_labels: [__param_target], target_label: instance}}
      - {{target_label: __address__, replacement: "{host}:{port}"}}
"""


class ProbingDaemon(Daemon):
    """A daemon with a file of modules beside its configuration."""

    def prepare(self) -> None:
        super().prepare()
        self.write("modules.yml", "modules: {http_2xx: {prober: http, timeout: 5s}}")


def test_a_prometheus_needs_nothing_but_a_new_address(shared_nginx: Nginx) -> None:
    with ProbingDaemon(PROVINCE.format(url=shared_nginx.url())) as daemon:
        quoted = urllib.parse.quote(shared_nginx.url(), safe="")
        status, text = daemon.get(f"/probe?target={quoted}&module=http_2xx")
        assert (status, figures(text)["probe_success"]) == (200, 1)
        assert daemon.get("/probe?target=http://127.0.0.8/")[0] == 403  # neither checked nor allowed
        assert daemon.get("/probe?target=http://127.0.0.9:1/")[0] == 200  # allowed; it fails, which is an answer
        assert "http_2xx:" in daemon.get("/config")[1]
        assert "blackbox_module_unknown_total 0" in daemon.get("/metrics")[1]

        scrape = SCRAPE.format(target=shared_nginx.url(), host=LOOPBACK, port=daemon.port)
        with Prometheus({}, config=scrape) as prometheus:
            prometheus.wait_for("probe_success == 1", within_s=30)
            found = prometheus.query("probe_http_status_code")
            timeout = prometheus.value("probe_timeout_seconds")
    assert [(one["metric"]["instance"], one["value"][1]) for one in found] == [(shared_nginx.url(), "200")]
    assert timeout == 2.5  # Prometheus waits three seconds, less the offset


@pytest.mark.parametrize(
    ("host", "size", "whole", "good"),
    [
        ("address4", 1400, True, True),
        ("address4", 3000, True, False),
        ("address4", 3000, False, True),
        ("address6", 3000, True, False),
        ("address6", 3000, False, True),
    ],
)
def test_an_echo_that_may_not_be_cut_fails_where_it_is_too_big(
    network: Network, host: str, size: int, whole: bool, good: bool
) -> None:
    target = getattr(network.target, host)
    reading = network.monitor.call(
        lambda: asyncio.run(run_probe(icmp.PROBE, host=target, count=1, wait="500ms", size=size, dont_fragment=whole))
    )
    assert (reading.fault is None) is good, reading.detail
    if not good:
        assert reading.detail == f"cannot send to {target}: size {size} is more than the link takes"
