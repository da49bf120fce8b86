"""The targets, and the same load in the words of each program that is measured: ours, blackbox_exporter, Prometheus.

Every check probes once in 10 s, at the slot that our scheduler gives it, whichever program probes it.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme
from trustme import KeyType

from tests.servers import LOOPBACK
from tests.system.servers import Server, free_port, http_get

KINDS: Final = ("icmp", "tcp", "dns", "http")
TLS_KINDS: Final = {"https-rsa": KeyType.RSA, "https-ecdsa": KeyType.ECDSA}
EVERY_S: Final = 10.0  # of every check
TIMEOUT_S: Final = 5.0  # of every probe
PORTS_A_KIND: Final = 20  # chosen: connections in TIME_WAIT then leave free local ports to spare
CHECKS_A_SERVICE: Final = 10  # chosen: what a province's service may have
MODULES: Final = """modules:
  icmp: {prober: icmp, timeout: 5s, icmp: {preferred_ip_protocol: ip4}}
  tcp: {prober: tcp, timeout: 5s, tcp: {preferred_ip_protocol: ip4}}
  dns:
    prober: dns
    timeout: 5s
    dns: {query_name: bench.example.vn, query_type: A, preferred_ip_protocol: ip4}
  http: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}
"""
_TLS_MODULE: Final = """  {kind}:
    prober: http
    timeout: 5s
    http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {authority}}}}}
"""
_TLS_PAGES: Final = """worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  default_type text/html;
  keepalive_timeout 0;
  client_body_temp_path tmp-body; proxy_temp_path tmp-proxy; fastcgi_temp_path tmp-fastcgi;
  uwsgi_temp_path tmp-uwsgi; scgi_temp_path tmp-scgi;
{servers}}}
"""
_TLS_PAGE: Final = """  server {{
    listen {host}:{port} ssl backlog=1024;
    ssl_certificate {folder}/{kind}.pem;
    ssl_certificate_key {folder}/{kind}.key;
    location / {{ return 200 "{page}"; }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the load."""

    service: str
    name: str
    kind: str
    host: str
    port: int
    authority: str = ""  # PEM file of who signed the certificate
    every_s: float = EVERY_S

    @property
    def id(self) -> str:
        """The id our scheduler hashes for its slot."""
        return f"{self.service}.{self.name}"

    @property
    def settings(self) -> dict[str, object]:
        """The check in our configuration. One echo a round, as blackbox_exporter sends."""
        match self.kind:
            case "icmp":
                return {"probe": "icmp", "host": self.host, "count": 1}
            case "tcp":
                return {"probe": "tcp", "host": self.host, "port": self.port}
            case "dns":
                return {"probe": "dns", "server": self.host, "port": self.port, "name": "bench.example.vn", "type": "A"}
            case "http":
                return {"probe": "http", "url": self.target}
            case _:
                return {"probe": "http", "url": self.target, "ca_file": self.authority, "tls_handshake": "full"}

    @property
    def target(self) -> str:
        """What blackbox_exporter is told to probe."""
        match self.kind:
            case "icmp":
                return self.host
            case "tcp" | "dns":
                return f"{self.host}:{self.port}"
            case "http":
                return f"http://{self.host}:{self.port}/"
            case _:
                return f"https://{self.host}:{self.port}/"

    @property
    def query(self) -> str:
        """Path and query of blackbox_exporter's /probe."""
        return "/probe?" + urllib.parse.urlencode({"module": self.kind, "target": self.target})


class Targets(Server):
    """The process that is probed."""

    name = "targets"

    def __init__(self) -> None:
        super().__init__()
        self.ports = {kind: [free_port() for _ in range(PORTS_A_KIND)] for kind in ("tcp", "dns", "http")}

    def prepare(self) -> None:
        """Nothing to write."""

    def command(self) -> Sequence[str]:
        """Return the program and the ports it listens on."""
        words = [",".join(map(str, self.ports[kind])) for kind in ("tcp", "dns", "http")]
        return [sys.executable, str(Path(__file__).with_name("target_servers.py")), *words]

    def answers(self) -> bool:
        """Say whether the last page is served: the others were before it."""
        return http_get(LOOPBACK, self.ports["http"][-1], "/")[0] == 200

    def load(self, mix: Mapping[str, int]) -> list[Check]:
        """Return so many checks of each kind, spread over services."""
        return list(self._checks(mix))

    def _checks(self, mix: Mapping[str, int]) -> Iterator[Check]:
        for kind, wanted in mix.items():
            for i in range(wanted):
                service = f"{kind}-{i // CHECKS_A_SERVICE}"
                host = echo_host(i) if kind == "icmp" else LOOPBACK
                port = 0 if kind == "icmp" else self.ports[kind][i % PORTS_A_KIND]
                yield Check(service, f"c{i % CHECKS_A_SERVICE}", kind, host, port)


def echo_host(number: int) -> str:
    """Return one of many addresses: every one of 127/8 is this machine."""
    return f"127.{10 + number // 65536}.{number // 256 % 256}.{number % 256}"


class TlsPages(Server):
    """An nginx with one small page under an RSA certificate and under an ECDSA one, each signed by its like."""

    name = "tls-pages"

    def __init__(self) -> None:
        super().__init__()
        self.ports = {kind: free_port() for kind in TLS_KINDS}

    def prepare(self) -> None:
        """Make authorities and certificates, and write nginx's configuration."""
        for kind, key in TLS_KINDS.items():
            authority = trustme.CA(key_type=key)
            authority.cert_pem.write_to_path(self.authority(kind))
            leaf = authority.issue_cert(LOOPBACK, key_type=key)
            for number, pem in enumerate(leaf.cert_chain_pems):
                pem.write_to_path(self.folder / f"{kind}.pem", append=number > 0)
            leaf.private_key_pem.write_to_path(self.folder / f"{kind}.key")
        page = "<!doctype html><title>bench</title><p>" + "well " * 100
        servers = "".join(
            _TLS_PAGE.format(host=LOOPBACK, port=port, folder=self.folder, kind=kind, page=page)
            for kind, port in self.ports.items()
        )
        self.write("nginx.conf", _TLS_PAGES.format(servers=servers))

    def authority(self, kind: str) -> Path:
        """Return the file of the authority of a kind."""
        return self.folder / f"{kind}-authority.pem"

    def command(self) -> Sequence[str]:
        """Return nginx in the foreground."""
        return ["nginx", "-p", f"{self.folder}", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"]

    def answers(self) -> bool:
        """Say whether the ports are open."""
        for port in self.ports.values():
            socket.create_connection((LOOPBACK, port), timeout=1.0).close()
        return True

    def modules(self) -> str:
        """Return the modules of blackbox_exporter that trust these certificates."""
        return "".join(_TLS_MODULE.format(kind=kind, authority=self.authority(kind)) for kind in self.ports)

    def load(self, kind: str, wanted: int) -> list[Check]:
        """Return so many checks of one kind."""
        return [
            Check(
                f"{kind}-{i // CHECKS_A_SERVICE}",
                f"c{i % CHECKS_A_SERVICE}",
                kind,
                LOOPBACK,
                self.ports[kind],
                str(self.authority(kind)),
            )
            for i in range(wanted)
        ]


def configuration(checks: Sequence[Check]) -> str:
    """Return the load as our configuration, with two references beside it. JSON is YAML."""
    services: dict[str, dict[str, dict[str, object]]] = {}
    for check in checks:
        own = {} if check.every_s == EVERY_S else {"every": f"{check.every_s:g}s"}
        services.setdefault(check.service, {})[check.name] = check.settings | own
    references = {
        name: {"probe": "icmp", "host": host, "count": 1, "every": f"{EVERY_S:g}s"}
        for name, host in (("gateway", "127.0.0.1"), ("exchange", "127.0.0.2"))
    }
    whole = {
        "site": {"id": "bench", "name": "Bench"},
        "references": references,
        "defaults": {"every": f"{EVERY_S:g}s", "timeout": f"{TIMEOUT_S:g}s"},
        "services": {name: {"name": name, "checks": found} for name, found in services.items()},
    }
    return json.dumps(whole, indent=0)


def scrape_configuration(checks: Sequence[Check], blackbox_port: int) -> str:
    """Return the load as the configuration of a Prometheus that has blackbox_exporter probe it."""
    exporter = f"{LOOPBACK}:{blackbox_port}"
    relabel = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": exporter},
    ]
    jobs = [
        {
            "job_name": kind,
            "metrics_path": "/probe",
            "params": {"module": [kind]},
            # A label of its own keeps apart checks that share a target.
            "static_configs": [{"targets": [c.target], "labels": {"check": c.id}} for c in checks if c.kind == kind],
            "relabel_configs": relabel,
        }
        for kind in KINDS
    ]
    every = {"scrape_interval": f"{EVERY_S:g}s", "scrape_timeout": f"{EVERY_S:g}s"}
    return json.dumps({"global": every, "scrape_configs": jobs})
