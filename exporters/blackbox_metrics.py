"""What a probe at `/probe` found, as blackbox_exporter's metrics: the same names, help texts, labels and meanings.

A family is there exactly when the probe noted it. Pure. Source: blackbox_exporter 0.28; the names of several echoes are
those of Grafana's Synthetic Monitoring agent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from config.blackbox import EXPECT_LABEL
from exporters.metrics import escape
from probes.base import Reading

_CERT_EXPIRY: Final = "Returns last SSL chain expiry in unixtime"

# Without the leading `probe_`, which is also how the probes name what they note.
HELP: Final[Mapping[str, str]] = {
    "success": "Displays whether or not the probe was a success",
    "duration_seconds": "Returns how long the probe took to complete in seconds",
    "timeout_seconds": "Returns how long the probe may take at most in seconds",
    "dns_lookup_time_seconds": "Returns the time taken for probe dns lookup in seconds",
    "ip_protocol": "Specifies whether probe ip protocol is IP4 or IP6",
    "ip_addr_hash": "Specifies the hash of IP address. It's useful to detect if the IP address changes.",
    "http_duration_seconds": "Duration of http request by phase, summed over all redirects",
    "http_content_length": "Length of http content response",
    "http_uncompressed_body_length": "Length of uncompressed response body",
    "http_redirects": "The number of redirects",
    "http_ssl": "Indicates if SSL was used for the final redirect",
    "http_status_code": "Response HTTP status code",
    "http_version": "Returns the version of HTTP of the probe response",
    "http_last_modified_timestamp_seconds": "Returns the Last-Modified HTTP response header in unixtime",
    "failed_due_to_regex": "Indicates if probe failed due to regex",
    "failed_due_to_bytes": "Indicates if probe failed due to bytes",
    "expect_info": "Explicit content matched",
    "ssl_earliest_cert_expiry": _CERT_EXPIRY,
    "ssl_last_chain_expiry_timestamp_seconds": "Returns last SSL chain expiry in timestamp",
    "ssl_last_chain_info": "Contains SSL leaf certificate information",
    "tls_version_info": "Returns the TLS version used or NaN when unknown",
    "tls_cipher_info": "Returns the TLS cipher negotiated during handshake",
    "dns_duration_seconds": "Duration of DNS request by phase",
    "dns_answer_rrs": "Returns number of entries in the answer resource record list",
    "dns_authority_rrs": "Returns number of entries in the authority resource record list",
    "dns_additional_rrs": "Returns number of entries in the additional resource record list",
    "dns_query_succeeded": "Displays whether or not the query was executed successfully",
    "dns_serial": "Returns the serial number of the zone",
    "icmp_duration_seconds": "Duration of icmp request by phase",
    "icmp_reply_hop_limit": "Replied packet hop limit (TTL for ipv4)",
    "icmp_duration_rtt_min_seconds": "Minimum duration of round trip time phase",
    "icmp_duration_rtt_max_seconds": "Maximum duration of round trip time phase",
    "icmp_duration_rtt_stddev_seconds": "Standard deviation of round trip time phase",
    "icmp_packets_sent_count": "Number of ICMP packets sent",
    "icmp_packets_received_count": "Number of ICMP packets received",
    "grpc_duration_seconds": "Duration of gRPC request by phase",
    "grpc_ssl": "Indicates if SSL was used for the connection",
    "grpc_status_code": "Response gRPC status code",
    "grpc_healthcheck_response": "Response HealthCheck response",
    "websocket_status_code": "Response HTTP status code",
    "websocket_connection_upgraded": "Indicates if the websocket connection was successfully upgraded",
    "websocket_failed_due_to_regex": "Indicates if probe failed due to regex",
    "websocket_duration_seconds": "Duration of websocket request by phase",
}

_SERVING: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_CHAIN: Final = "chain:"
# What the original does not say of some probers, though it could.
_NOT_SAID: Final = {
    (prober, name)
    for prober, names in {
        "grpc": ("ssl_last_chain_expiry_timestamp_seconds",),
        "websocket": ("ssl_last_chain_expiry_timestamp_seconds", "ssl_earliest_cert_expiry"),
    }.items()
    for name in names
}


class Sample(NamedTuple):
    """One line of a family."""

    name: str  # of the family, without `probe_`
    labels: Mapping[str, str]
    value: float


def samples(prober: str, reading: Reading, timeout_s: float) -> list[Sample]:
    """Return everything that one probe found, in the order in which it is written."""
    found = [
        Sample("success", {}, float(reading.fault is None)),
        Sample("duration_seconds", {}, reading.duration_s),
        Sample("timeout_seconds", {}, timeout_s),
        *(Sample(n, {}, v) for n, v in reading.values.items() if n in HELP and (prober, n) not in _NOT_SAID),
        *_of_tls(prober, reading.facts),
        *_PHASES[prober](reading),
    ]
    expected = {n.removeprefix(EXPECT_LABEL): v for n, v in reading.facts.items() if n.startswith(EXPECT_LABEL)}
    if expected:
        found.append(Sample("expect_info", expected, 1.0))
    return sorted(found, key=lambda s: (s.name, sorted(s.labels.items())))


def _of_tls(prober: str, facts: Mapping[str, str]) -> Iterator[Sample]:
    if prober == "websocket":
        return  # the original says nothing of its certificates
    chain = {name.removeprefix(_CHAIN): value for name, value in facts.items() if name.startswith(_CHAIN)}
    if chain:
        yield Sample("ssl_last_chain_info", chain, 1.0)
    if "tls_version" in facts:
        yield Sample("tls_version_info", {"version": facts["tls_version"]}, 1.0)
    if prober == "http" and facts.get("tls_cipher"):
        yield Sample("tls_cipher_info", {"cipher": facts["tls_cipher"]}, 1.0)


def _of_http(reading: Reading) -> Iterator[Sample]:
    for phase, seconds in reading.phases.items():
        yield Sample("http_duration_seconds", {"phase": phase}, seconds)


def _of_dns(reading: Reading) -> Iterator[Sample]:
    phases = reading.phases
    tls_and_connect = phases.get("connect", 0.0) + phases.get("tls", 0.0)
    seconds = {
        "resolve": phases.get("resolve", 0.0),
        "connect": tls_and_connect,
        "request": phases.get("processing", 0.0),
    }
    yield from (Sample("dns_duration_seconds", {"phase": phase}, value) for phase, value in seconds.items())


def _of_icmp(reading: Reading) -> Iterator[Sample]:
    came = [rtt for rtt in reading.rtts_s if rtt is not None]
    rtt = statistics.fmean(came) if came else 0.0
    seconds = {"resolve": reading.phases.get("resolve", 0.0), "setup": 0.0, "rtt": rtt}
    yield from (Sample("icmp_duration_seconds", {"phase": phase}, value) for phase, value in seconds.items())
    if len(reading.rtts_s) > 1:
        yield Sample("icmp_packets_sent_count", {}, float(len(reading.rtts_s)))
        yield Sample("icmp_packets_received_count", {}, float(len(came)))
        yield Sample("icmp_duration_rtt_min_seconds", {}, min(came, default=0.0))
        yield Sample("icmp_duration_rtt_max_seconds", {}, max(came, default=0.0))
        yield Sample("icmp_duration_rtt_stddev_seconds", {}, statistics.pstdev(came) if came else 0.0)


def _of_grpc(reading: Reading) -> Iterator[Sample]:
    phases = reading.phases
    yield Sample("grpc_duration_seconds", {"phase": "resolve"}, phases.get("resolve", 0.0))
    if "serving_status" not in reading.facts:
        return  # the call was never made
    check = sum(phases.get(phase, 0.0) for phase in ("connect", "tls", "processing"))
    yield Sample("grpc_duration_seconds", {"phase": "check"}, check)
    for word in _SERVING:
        said = float(reading.facts["serving_status"] == word)
        yield Sample("grpc_healthcheck_response", {"serving_status": word}, said)


def _of_websocket(reading: Reading) -> Iterator[Sample]:
    phases = reading.phases
    for phase in ("resolve", "connect", "processing", "transfer"):
        if phase in phases:
            seconds = phases[phase] + (phases.get("tls", 0.0) if phase == "connect" else 0.0)
            yield Sample("websocket_duration_seconds", {"phase": phase}, seconds)


def _of_none(_: Reading) -> Iterator[Sample]:
    yield from ()


_PHASES: Final = {
    "http": _of_http,
    "dns": _of_dns,
    "icmp": _of_icmp,
    "grpc": _of_grpc,
    "websocket": _of_websocket,
    "tcp": _of_none,
    "unix": _of_none,
}


def page(found: list[Sample]) -> str:
    """Return samples in the text format for Prometheus, each family once, with its help."""
    lines: list[str] = []
    before = ""
    for name, labels, value in found:
        if name != before:
            lines += [f"# HELP probe_{name} {HELP[name]}", f"# TYPE probe_{name} gauge"]
            before = name
        inner = ",".join(f'{label}="{escape(text)}"' for label, text in sorted(labels.items()))
        lines.append(f"probe_{name}{f'{{{inner}}}' if inner else ''} {value!r}")
    return "\n".join(lines) + "\n"
