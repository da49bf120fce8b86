"""The icmp and grpc probers, on the house's own probes."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from probes import grpc, icmp
from probes.base import Measurement, ProbeError
from probes.blackbox.address import choose, once_more, open_chosen
from probes.blackbox.task import Task, keep, split_host_port
from probes.blackbox.tls import Wish, secure

PAYLOAD_BYTES: Final = 28  # of an echo whose module does not say; so long is the original's text
LEAST_PAYLOAD_BYTES: Final = 16  # the house's own marks, by which a reply is known
_DEADLINE_EXCEEDED: Final = 4.0
_UNAVAILABLE: Final = 14.0


async def probe_icmp(task: Task, m: Measurement) -> None:
    """Send one echo, or `count` of them, a tenth of a second apart.

    Raises:
        ProbeError: none came back; the reason was said.
    """
    module = task.module.icmp
    ip = await choose(task, m, task.target, module)
    size = max(module.payload_size or PAYLOAD_BYTES, LEAST_PAYLOAD_BYTES)
    settings = icmp.Settings(
        host=ip,
        count=module.count,
        size=size,
        ttl=module.ttl or None,
        wait=min(max(m.timeout_s, 0.001), 60.0),
        dont_fragment=module.dont_fragment and ":" not in ip,  # the original sets it for IPv4 alone
    )
    task.say("Sending echoes", count=module.count, size=size)
    try:
        await icmp.run(settings, m)
    except ProbeError as exc:
        task.say("No reply", "error", err=exc.detail)
        raise
    finally:
        if "reply_ttl_count" in m.values:
            m.values["icmp_reply_hop_limit"] = m.values["reply_ttl_count"]
    task.say("Found matching reply packet")


async def probe_grpc(task: Task, m: Measurement) -> None:
    """Ask for health once.

    Raises:
        ProbeError: it is not good; the reason was said.
        OSError: the connection failed.
    """
    module = task.module.grpc
    m.values |= {"grpc_ssl": 0.0, "grpc_status_code": 0.0, "ssl_earliest_cert_expiry": 0.0}
    host, port = _where(task)
    ip = await choose(task, m, host, module)
    keep(m, "serving_status", "")  # the call is made: from here on its outcome is shown, whatever it is
    m.values["grpc_status_code"] = _DEADLINE_EXCEEDED
    try:
        async with open_chosen(task, m, (host, port), ip, module) as stream:
            if module.tls:
                await secure(task, m, stream, Wish(module.tls_config, host, once_more(m, ip, port), ("h2",)))
                m.values["grpc_ssl"] = 1.0
            metadata = [(name.lower(), value) for name, values in module.metadata.items() for value in values]
            shown = f"[{host}]" if ":" in host else host
            health = await grpc.check(m, stream, f"{shown}:{port}", module.service, metadata, tls=module.tls)
    except (ProbeError, OSError) as exc:
        m.values["grpc_status_code"] = _UNAVAILABLE
        task.say("can't connect grpc server", "error", err=str(exc))
        raise
    m.values["grpc_status_code"] = float(health.status)
    keep(m, "serving_status", health.serving)
    if health.status or health.serving != "SERVING":
        raise task.fail("The service does not serve", status=health.status, health=health.serving or health.message)


def read_target(target: str, default_port: int) -> tuple[str, int]:
    """Return the host and port that a grpc target names; its scheme, if it has one, means nothing.

    Raises:
        ValueError: it names none.
    """
    place = target.removeprefix("http://").removeprefix("https://").partition("/")[0]
    return split_host_port(place) or (urlsplit(f"//{place}").hostname or "", default_port)


def _where(task: Task) -> tuple[str, int]:
    try:
        return read_target(task.target, 443 if task.module.grpc.tls else 80)
    except ValueError as exc:
        raise task.fail("Could not parse target URL", err=exc) from exc
