"""Probing as blackbox_exporter does it, for `/probe`: its modules, its verdicts, its figures.

Built from the parts of the house's own probes, and apart from them: what a module means must not change when a check
of ours learns something new. No kind of this package can stand in a configuration. What is noted is named as the
original's metrics are, without the leading `probe_`. Source: blackbox_exporter 0.28, its documents and behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from probes.base import ProbeType, Run
from probes.blackbox import http, small
from probes.blackbox.dns import probe_dns
from probes.blackbox.http import probe_http
from probes.blackbox.small import probe_grpc, probe_icmp
from probes.blackbox.sockets import probe_websocket
from probes.blackbox.talk import probe_tcp, probe_unix
from probes.blackbox.task import Task, split_host_port
from probes.websocket import http_url

_RUNS: Final[Mapping[str, Run]] = {
    "http": probe_http,
    "tcp": probe_tcp,
    "dns": probe_dns,
    "icmp": probe_icmp,
    "grpc": probe_grpc,
    "unix": probe_unix,
    "websocket": probe_websocket,
}

PROBERS: Final[Mapping[str, ProbeType]] = MappingProxyType(
    {word: ProbeType(f"blackbox-{word}", f"The {word} prober", Task, run) for word, run in _RUNS.items()}
)


def host_of(prober: str, target: str) -> str:
    """Return the host that probing a target would connect to, read as the prober reads it; of unix the socket's name.

    What cannot be read is returned whole: nobody can connect to it, and no list allows it by accident.
    """
    try:
        if prober == "http":
            return http.read_target(target)[0].host
        if prober == "websocket":
            return http_url(target).host
        if prober == "grpc":
            return small.read_target(target, 0)[0] or target
    except ValueError:
        return target
    split = split_host_port(target) if prober in ("tcp", "dns") else None
    return split[0] if split else target.strip("[]")
