"""ICMP echo: is a host reachable, how much is lost on the way, and how long is the way?

A round sends several echo requests (type 8, or 128 for IPv6) a gap apart and is good when enough of them come back.
Loss, the spread of the round-trip times and the jitter of the round are measured besides; no opinion is held on them.
Jitter is the mean absolute difference between the round-trip times of echoes sent one after the other, both answered:
the mean of RFC 3393's variation of adjacent packets, which RFC 3550 section 6.4.1 smooths instead.

Source: RFC 792, RFC 4443 section 4, RFC 2681 (round-trip delay), RFC 3393 section 4.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from itertools import pairwise
from typing import Final

from pydantic import Field

from probes.base import (
    Done,
    Duration,
    Fault,
    Host,
    IpFamily,
    Launch,
    Measurement,
    Path,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Stop,
    Tools,
    Value,
)
from probes.icmp_engine import Engine
from probes.icmp_round import Outcome, Plan
from probes.icmp_socket import Flow, open_icmp
from probes.net import Address, resolve, speaker, written_address

MARGIN_S: Final = 0.05  # chosen: a round ends this much before its deadline, to say itself what was lost
LEAST_WAIT_S: Final = 0.1  # chosen: a round that could wait less than this for its last echo is a wrong setting


class Settings(ProbeSettings):
    """What an ICMP check needs."""

    host: Host = Field(description="Name or address")
    count: int = Field(default=3, ge=1, le=100, description="Echoes a round")
    gap: Duration = Field(default=0.1, le=10, description="Pause between echoes of a round; 0s sends all at once")
    wait: Duration = Field(default=1.0, gt=0, le=60, description="How long the last echo of a round is waited for")
    size: int = Field(default=56, ge=16, le=65000, description="Payload in bytes, without IP and ICMP headers")
    max_loss: float = Field(default=1.0, ge=0, le=1, description="A round that loses a greater share is bad; 1: all")
    dscp: int = Field(default=0, ge=0, le=63, description="Class of service in the IP header (RFC 2474)")
    ttl: int | None = Field(default=None, ge=1, le=255, description="TTL or hop limit; the system's own without it")
    dont_fragment: bool = Field(
        default=False, description="Whether an echo too big for the way fails, instead of being sent in pieces"
    )
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")


def prepare(settings: Settings, path: Path | None, tools: Tools) -> Launch | None:
    """Work out what each round to a written address has in common; a name has to be looked up each time."""
    address = written_address(settings.host, 0, settings.family, path)
    if address is None:
        return None
    flow = Flow(address.family, path, settings.dscp, settings.ttl, settings.dont_fragment)
    plans: dict[float, Plan] = {}  # by time-out: one check has one

    def launch(m: Measurement, done: Done) -> Stop:
        m.phases["resolve"] = 0.0
        m.facts["address"] = address.ip
        plan = plans.get(m.timeout_s)
        if plan is None:
            plan = plans[m.timeout_s] = Plan(
                address.sockaddr, settings.count, settings.gap, _wait_s(settings, m.timeout_s), settings.size
            )
        return tools.of(Engine).begin(flow, plan, lambda outcome: done(_take, settings, m, address, outcome)).close

    return launch


def _take(settings: Settings, m: Measurement, address: Address, outcome: Outcome | None) -> None:
    if outcome is None:
        raise ProbeError(Fault.LOCAL, "our socket was closed under the round")
    _report(m, outcome)
    _judge(settings, address, outcome)


async def run(settings: Settings, m: Measurement) -> None:
    """Send one round of echoes and measure it.

    Raises:
        ProbeError: TIMEOUT when too few came back, UNREACHABLE when a router said so, LOCAL when we could not send.
    """
    began = time.perf_counter()
    address = (await resolve(m, settings.host, 0, settings.family))[0]
    m.fact("address", address.ip)
    wait_s = _wait_s(settings, m.timeout_s - (time.perf_counter() - began))
    flow = Flow(address.family, m.path, settings.dscp, settings.ttl, settings.dont_fragment)
    plan = Plan(address.sockaddr, settings.count, settings.gap, wait_s, settings.size)
    outcome = await m.tools.of(Engine).round(flow, plan)
    _take(settings, m, address, outcome)


def _wait_s(settings: Settings, left_s: float) -> float:
    sending_s = settings.gap * (settings.count - 1)
    left_s -= sending_s + MARGIN_S
    if left_s < min(LEAST_WAIT_S, settings.wait):
        raise ProbeError(
            Fault.LOCAL,
            f"{settings.count} echoes {settings.gap:g} s apart need {sending_s:g} s and some for the answer: "
            "the timeout is too short",
        )
    return min(settings.wait, left_s)


def _report(m: Measurement, outcome: Outcome) -> None:
    rtts_s = m.rtts_s = outcome.rtts_s
    sent = len(rtts_s)
    came = [rtt for rtt in rtts_s if rtt is not None]
    values = m.values
    values["sent_count"] = sent
    values["received_count"] = len(came)
    values["duplicate_count"] = outcome.duplicates
    values["late_count"] = outcome.late
    if sent:
        values["loss_ratio"] = (sent - len(came)) / sent
    if outcome.hops is not None:
        values["reply_ttl_count"] = outcome.hops
    if outcome.answered_by:
        m.fact("answered_by", outcome.answered_by)
    if outcome.refusals:
        m.fact("refused_by", outcome.refusals[0][0])
    if len(came) == 1:
        values["rtt_min_s"] = values["rtt_median_s"] = values["rtt_mean_s"] = values["rtt_max_s"] = came[0]
    elif came:
        _report_spread(values, rtts_s, sorted(came))


def _report_spread(values: dict[str, float], rtts_s: list[float | None], came: list[float]) -> None:
    middle = len(came) // 2
    values["rtt_min_s"] = came[0]
    values["rtt_median_s"] = came[middle] if len(came) % 2 else (came[middle - 1] + came[middle]) / 2
    values["rtt_mean_s"] = sum(came) / len(came)
    values["rtt_max_s"] = came[-1]
    steps = [abs(b - a) for a, b in pairwise(rtts_s) if a is not None and b is not None]
    if steps:
        values["jitter_s"] = sum(steps) / len(steps)


def _judge(settings: Settings, address: Address, outcome: Outcome) -> None:
    sent = len(outcome.rtts_s)
    if not sent:
        raise ProbeError(Fault.LOCAL, f"cannot send to {address.ip}: {_send_trouble(settings, outcome.send_error)}")
    lost = outcome.rtts_s.count(None)
    if lost < sent and lost / sent <= settings.max_loss:
        return
    if outcome.overflowed:
        raise ProbeError(Fault.LOCAL, f"{lost} of {sent} echoes lost while our own receive buffer overflowed")
    if outcome.refusals:
        (who, what), times = Counter(outcome.refusals).most_common(1)[0]
        raise ProbeError(Fault.UNREACHABLE, f"{speaker(who)}: {what} ({times} of {sent} echoes)")
    if lost < sent:
        allowed = f"at most {settings.max_loss:.0%} allowed"
        raise ProbeError(Fault.TIMEOUT, f"{lost} of {sent} echoes lost, {allowed}")
    raise ProbeError(Fault.TIMEOUT, f"no reply to {sent} {'echo' if sent == 1 else 'echoes'}")


def _send_trouble(settings: Settings, exc: OSError | None) -> str:
    if exc is None:
        return "no echo was sent"
    if exc.errno == errno.EMSGSIZE:
        return f"size {settings.size} is more than the link takes"
    return exc.strerror or str(exc)


def self_test() -> str | None:
    """Return None when echoes are permitted, and otherwise what exactly to mend."""
    try:
        sock, _ = open_icmp(IpFamily.IP4.socket_family)
    except ProbeError as exc:
        return str(exc)
    sock.close()
    return None


def _least_timeout_s(settings: Settings) -> float:
    return settings.gap * (settings.count - 1) + MARGIN_S + min(LEAST_WAIT_S, settings.wait)


def _least_every_s(settings: Settings) -> float:
    return max(1.0, settings.count * settings.gap, _least_timeout_s(settings))


PROBE = ProbeType(
    kind="icmp",
    summary="Several ICMP echoes a round: reachability, loss, round-trip times and jitter",
    settings=Settings,
    run=run,
    prepare=prepare,
    values=(
        Value("loss_ratio", "Share of the round's echoes that were not answered in time"),
        Value("sent_count", "Echoes sent"),
        Value("received_count", "Echoes answered in time"),
        Value("duplicate_count", "Replies that came more than once"),
        Value("late_count", "Echoes of earlier rounds to this address, answered after their round had ended"),
        Value("rtt_min_s", "Shortest round-trip time of the round"),
        Value("rtt_median_s", "Median round-trip time of the round"),
        Value("rtt_mean_s", "Mean round-trip time of the round"),
        Value("rtt_max_s", "Longest round-trip time of the round"),
        Value("jitter_s", "Mean absolute difference of the round-trip times of successive echoes"),
        Value("reply_ttl_count", "TTL or hop limit left in the last reply; a jump means that the way back changed"),
    ),
    facts=(
        Value("address", "The address probed"),
        Value("answered_by", "The address that replied, when it is another"),
        Value("refused_by", "The router or host that sent an ICMP error"),
    ),
    rounds_to_down=2,  # each round holds several packets already
    least_every_s=_least_every_s,
    least_timeout_s=_least_timeout_s,
    default_timeout_s=3.0,
    self_test=self_test,
)
