from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes import path_trace
from probes.base import Fault, Measurement, ProbeError, Reading
from probes.icmp_packet import Refused, parse
from probes.icmp_socket import Flow
from probes.path import PROBE, Settings, _judge, _report, self_test
from probes.path_trace import Hop, Plan, Trace, trace
from tests.probes.probing import cancelled_after, open_sockets, run_probe


async def way_to(host: str, **more: object) -> Reading:
    keys = {"host": host, "max_hops": 5, "gap": "5ms", "wait": "300ms", **more}
    return await run_probe(PROBE, timeout_s=2.0, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_ourselves_are_one_hop_away(host: str) -> None:
    before = open_sockets()
    reading = await way_to(host)
    assert reading.fault is None, reading.detail
    assert reading.values["hops_count"] == 1
    assert reading.values["reached_code"] == 1
    assert reading.values["silent_count"] == 0
    assert 0 < reading.values["last_hop_rtt_s"] < 0.1
    assert reading.facts["route"] == reading.facts["address"]
    assert reading.values["sent_count"] <= 5
    assert open_sockets() == before


async def test_a_cancelled_trace_closes_its_socket() -> None:
    before = open_sockets()
    await cancelled_after(PROBE, 0.02, host="127.0.0.1", max_hops=5, gap="50ms")
    assert open_sockets() == before


async def test_too_little_time_is_our_own_fault() -> None:
    reading = await way_to("127.0.0.1", gap="500ms")
    assert (reading.fault, reading.detail) == (
        Fault.LOCAL,
        "too little time is left for a trace: the timeout is too short",
    )


def test_the_least_time_out_is_enough_for_every_echo() -> None:
    settings = Settings(host="a.vn")
    assert PROBE.least_timeout_s(settings) <= PROBE.default_timeout_s
    assert PROBE.least_timeout_s(settings) > settings.tries * settings.max_hops * settings.gap
    assert self_test() is None


# What is made of hops

WAY = {1: Hop("10.0.0.1", 0.001), 3: Hop("10.0.2.1", 0.003), 4: Hop("192.0.2.9", 0.004, reply=True)}


def judged(hops: dict[int, Hop], **more: object) -> Measurement:
    m, found = Measurement(1.0), Trace(dict(hops), 9)
    _report(m, found)
    _judge(Settings.model_validate_json(json.dumps({"host": "a.vn", **more})), found)
    return m


def test_a_way_is_told_hop_by_hop() -> None:
    m = judged(WAY, via=["10.0.2.0/24", "10.0.0.1"])
    assert m.facts["route"] == "10.0.0.1 * 10.0.2.1 192.0.2.9"
    assert m.facts["hop_times"] == "1.00 * 3.00 4.00"
    assert m.values == {
        "sent_count": 9, "hops_count": 4, "silent_count": 1, "reached_code": 1, "last_hop_rtt_s": 0.004,
    }  # fmt: skip
    other = judged({**WAY, 3: Hop("10.9.9.9", 0.003)})
    assert other.facts["route_hash"] != m.facts["route_hash"]
    assert judged(WAY).facts["route_hash"] == m.facts["route_hash"]


def test_answers_from_beyond_the_end_are_left_out() -> None:
    m = judged({**WAY, 5: Hop("192.0.2.9", 0.004, reply=True), 6: Hop("192.0.2.9", 0.004, reply=True)})
    assert m.values["hops_count"] == 4


@pytest.mark.parametrize(
    ("hops", "more", "fault", "detail"),
    [
        ({}, {}, Fault.TIMEOUT, "nobody on the way answered 9 echoes"),
        ({1: WAY[1], 3: WAY[3]}, {}, Fault.TIMEOUT, "nothing answers beyond 10.0.2.1 (hop 3)"),
        (
            {1: WAY[1], 2: Hop("10.0.1.1", 0.1, refusal="host unreachable")},
            {"must_arrive": False},
            Fault.UNREACHABLE,
            "10.0.1.1 answered: host unreachable (hop 2)",
        ),
        (WAY, {"via": ["10.7.0.0/16"]}, Fault.CONTENT, "the way does not lead by 10.7.0.0/16: 10.0.0.1 * 10.0.2.1 "),
    ],
)
def test_what_is_wrong_with_a_way_is_said(
    hops: dict[int, Hop], more: dict[str, object], fault: Fault, detail: str
) -> None:
    with pytest.raises(ProbeError) as caught:
        judged(hops, **more)
    assert caught.value.fault is fault
    assert caught.value.detail.startswith(detail)


def test_a_host_that_answers_no_echoes_may_be_left_out() -> None:
    assert judged({1: WAY[1]}, must_arrive=False).values["reached_code"] == 0


def test_a_long_route_is_kept_whole() -> None:
    hops = {n: Hop(f"2001:db8:1234:5678:9abc:def0:1234:{n:x}", 0.1) for n in range(1, 31)}
    m = judged(hops, must_arrive=False)
    assert len(m.facts["route"].split()) == 30


@given(st.binary(max_size=120), st.sampled_from([4, 6]))
def test_random_packets_change_nothing(packet: bytes, version: int) -> None:
    async def feed() -> Trace:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        to = ("127.0.0.1", 0) if version == 4 else ("::1", 0)
        tracer = path_trace._Tracer(Flow(family, None, 0, None), Plan(to, 3, 1, 0.005, 0.01))
        try:
            parsed = parse(version, packet, ip_header=version == 4)
            if isinstance(parsed, Refused):
                tracer._died(parsed, "192.0.2.1", 0)
            elif parsed is not None:
                tracer._arrived(parsed, "192.0.2.1", 0)
            return tracer.found
        finally:
            tracer.close()

    assert asyncio.run(feed()).hops == {}


async def test_every_echo_of_a_trace_looks_alike_to_routers() -> None:
    sniffer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sniffer.setblocking(False)
    with sniffer:
        await trace(Flow(socket.AF_INET, None, 0, None), Plan(("127.0.0.77", 0), 4, 1, 0.005, 0.1))
        seen: dict[int, set[tuple[int, int]]] = {}
        while True:
            try:
                packet = sniffer.recv(2048)
            except BlockingIOError:
                break
            if packet[16:20] == bytes((127, 0, 0, 77)) and packet[20] == 8:
                total, ident, seq = struct.unpack_from("!HHH", packet, 22)
                seen.setdefault(ident, set()).add((total, seq))
    ((flow),) = seen.values()
    assert len({total for total, _ in flow}) == 1


@pytest.mark.parametrize(
    "keys", [{"max_hops": 0}, {"max_hops": 65}, {"via": ["langson"]}, {"via": ["10.0.0.1/8"]}, {"gap": "1ms"}]
)
def test_settings_beyond_all_bounds_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate_json(json.dumps({"host": "a.vn", **keys}))
