"""Path: by which routers does traffic go to a host, and does it get there?

A traceroute with ICMP echoes that all look alike to routers that share load, so that a changed route is one and no
accident of the moment. The route is kept with the result: what a carrier is shown when it asks where things got stuck.

Source: RFC 792 and RFC 4443 section 3.3 (time exceeded); Augustin et al., IMC 2006 (a constant flow).
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from probes.base import (
    Duration,
    Fault,
    Host,
    IpFamily,
    Measurement,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Value,
    one_line,
)
from probes.icmp_socket import Flow, open_icmp
from probes.net import resolve, speaker
from probes.path_trace import HOPS_LIMIT, Hop, Plan, Trace, trace

MARGIN_S: Final = 0.1  # chosen: a run ends this much before its deadline
ROUTE_LIMIT: Final = 1500  # characters: thirty hops of IPv6


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as exc:
        raise ValueError("expected an address or a network like 203.119.8.0/24") from exc
    return text


class Settings(ProbeSettings):
    """What a path check needs."""

    host: Host = Field(description="Name or address at the end of the way")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    max_hops: int = Field(default=30, ge=1, le=HOPS_LIMIT, description="Where the trace ends at the latest")
    tries: int = Field(default=2, ge=1, le=4, description="How often a silent hop is asked")
    gap: Duration = Field(default=0.02, ge=0.005, le=1, description="Pause between echoes")
    wait: Duration = Field(default=0.7, gt=0, le=5, description="How long answers are waited for, each try")
    must_arrive: bool = Field(
        default=True, description="Whether the host itself must answer; false where it answers no echoes"
    )
    via: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), max_length=20, description="Addresses or networks, each of which must be on the way"
    )


async def run(settings: Settings, m: Measurement) -> None:
    """Trace the way once and judge it.

    Raises:
        ProbeError: TIMEOUT when the host or every hop stays silent; UNREACHABLE when a router says that there is no
            way; CONTENT when the way does not lead by `via`; LOCAL when we may not or cannot send.
    """
    began = time.perf_counter()
    address = (await resolve(m, settings.host, 0, settings.family))[0]
    m.fact("address", address.ip)
    left_s = m.timeout_s - (time.perf_counter() - began) - MARGIN_S
    wait_s = min(settings.wait, left_s / settings.tries - settings.max_hops * settings.gap)
    if wait_s <= 0:
        raise ProbeError(Fault.LOCAL, "too little time is left for a trace: the timeout is too short")
    plan = Plan(address.sockaddr, settings.max_hops, settings.tries, settings.gap, wait_s)
    with m.phase("processing"):
        found = await trace(Flow(address.family, m.path, 0, None), plan)
    _report(m, found)
    _judge(settings, found)


def _report(m: Measurement, found: Trace) -> None:
    way = found.way()
    answered = [hop for hop in way if hop is not None]
    values = m.values
    values["sent_count"] = found.sent
    values["hops_count"] = len(way)
    values["silent_count"] = len(way) - len(answered)
    values["reached_code"] = int(bool(way) and way[-1] is not None and way[-1].reply)
    if not way:
        return
    addresses = [hop.address if hop else "*" for hop in way]
    m.facts["route"] = one_line(" ".join(addresses), ROUTE_LIMIT)
    m.facts["hop_times"] = one_line(" ".join(f"{hop.rtt_s * 1000:.2f}" if hop else "*" for hop in way), ROUTE_LIMIT)
    m.fact("route_hash", hashlib.sha256(" ".join(addresses).encode()).hexdigest()[:12])
    if answered:
        m.fact("last_hop", answered[-1].address)
        values["last_hop_rtt_s"] = answered[-1].rtt_s


def _judge(settings: Settings, found: Trace) -> None:
    way = found.way()
    last = way[-1] if way else None
    if last is None:
        raise ProbeError(Fault.TIMEOUT, f"nobody on the way answered {found.sent} echoes")
    if last.refusal:
        raise ProbeError(Fault.UNREACHABLE, f"{speaker(last.address)}: {last.refusal} (hop {len(way)})")
    if settings.must_arrive and not last.reply:
        raise ProbeError(Fault.TIMEOUT, f"nothing answers beyond {last.address} (hop {len(way)})")
    for network in settings.via:
        if not any(_lies_in(hop, network) for hop in way):
            raise ProbeError(Fault.CONTENT, f"the way does not lead by {network}: {_shown(way)}")


def _lies_in(hop: Hop | None, network: str) -> bool:
    return hop is not None and ipaddress.ip_address(hop.address) in ipaddress.ip_network(network)


def _shown(way: list[Hop | None]) -> str:
    return " ".join(hop.address if hop else "*" for hop in way)


def self_test() -> str | None:
    """Return None when raw sockets are permitted, and otherwise what exactly to mend."""
    try:
        sock, raw = open_icmp(IpFamily.IP4.socket_family)
    except ProbeError as exc:
        return str(exc)
    sock.close()
    return None if raw else "a trace needs raw sockets: AmbientCapabilities=CAP_NET_RAW in the unit"


def _least_timeout_s(settings: Settings) -> float:
    return settings.tries * (settings.max_hops * settings.gap + min(0.1, settings.wait)) + MARGIN_S


PROBE = ProbeType(
    kind="path",
    summary="The routers on the way to a host (traceroute with a constant flow), and whether it is reached",
    settings=Settings,
    run=run,
    values=(
        Value("hops_count", "Hops to the host, or to the last that answered"),
        Value("silent_count", "Hops on the way that did not answer"),
        Value("reached_code", "1 when the host itself answered, else 0"),
        Value("last_hop_rtt_s", "Round-trip time to the last hop that answered"),
        Value("sent_count", "Echoes sent"),
    ),
    facts=(
        Value("address", "The address at the end of the way"),
        Value("route", "Addresses of the hops in order; * is a silent one"),
        Value("hop_times", "Round-trip times of the hops in milliseconds, in the same order"),
        Value("route_hash", "Short name of the route: another one means that the way changed"),
        Value("last_hop", "The last hop that answered"),
    ),
    rounds_to_down=2,
    least_every_s=lambda s: max(10.0, _least_timeout_s(s)),
    least_timeout_s=_least_timeout_s,
    default_timeout_s=5.0,
    self_test=self_test,
)
