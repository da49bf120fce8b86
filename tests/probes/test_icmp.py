from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import icmp_packet
from probes.base import Fault, Path, Reading, Tools
from probes.icmp import PROBE
from probes.icmp_engine import Engine
from probes.icmp_packet import Echo, EchoMaker, Refused
from probes.icmp_socket import echo_filter
from tests.probes.probing import cancelled_after, open_sockets, run_probe

FAST = {"gap": "1ms", "wait": "40ms"}


async def ping(**settings: object) -> Reading:
    return await run_probe(PROBE, **{"host": "127.0.0.1", **FAST, **settings})  # type: ignore[arg-type]


# Bytes


@given(
    st.sampled_from([4, 6]),
    st.builds(Echo, st.booleans(), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=100), st.none()),
)
def test_an_encoded_echo_is_parsed_to_itself(version: int, echo: Echo) -> None:
    assert icmp_packet.parse(version, icmp_packet.encode(version, echo), ip_header=False) == echo


@given(st.sampled_from([4, 6]), st.binary(max_size=200), st.booleans())
def test_random_bytes_are_parsed_or_given_up(version: int, data: bytes, ip_header: bool) -> None:
    parsed = icmp_packet.parse(version, data, ip_header=ip_header)
    assert parsed is None or isinstance(parsed, Echo | Refused)
    if isinstance(parsed, Refused):
        assert icmp_packet.reason(version, parsed)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(1, 0xFFFF), st.integers(16, 99))
def test_every_echo_of_a_flow_has_the_same_right_checksum(one: int, other: int, ident: int, size: int) -> None:
    maker = EchoMaker(4, ident, b"cookie!!", size)
    first, second = maker.make(one), maker.make(other)
    assert first[:6] == second[:6]
    for packet in (first, second):
        assert len(packet) == 8 + size
        assert icmp_packet.checksum(packet) in (0, 0xFFFF)


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert icmp_packet.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_an_error_is_parsed_with_what_it_quotes() -> None:
    echo = icmp_packet.encode(4, Echo(False, 77, 9, b"payload"))
    inner = bytes.fromhex("4500002300004000400100007f000001c0000205") + echo
    packet = bytes.fromhex("0304000000000578") + inner
    parsed = icmp_packet.parse(4, packet, ip_header=False)
    assert parsed == Refused(3, 4, 1400, 77, 9, "192.0.2.5", b"payload")
    assert icmp_packet.reason(4, parsed) == "packet too big (MTU 1400)"


def test_an_error_about_something_else_than_an_echo_is_none_of_ours() -> None:
    udp = bytes.fromhex("4500002300004000401100007f000001c0000205") + bytes(16)
    assert icmp_packet.parse(4, bytes.fromhex("0303000000000000") + udp, ip_header=False) is None


def test_an_unknown_error_code_is_named_by_its_numbers() -> None:
    assert icmp_packet.reason(4, Refused(3, 99, 0, 0, 0, "", b"")) == "ICMP type 3 code 99"


@pytest.mark.parametrize("version", [4, 6])
def test_the_filter_jumps_nowhere_outside_itself(version: int) -> None:
    program = echo_filter(version, 4711)
    for here, (opcode, yes, no, operand) in enumerate(program):
        targets = [yes, no] if opcode == 0x15 else [operand] if opcode == 0x05 else []
        assert all(here + 1 + jump < len(program) for jump in targets)


# The machine's own loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer_is_measured(host: str) -> None:
    reading = await ping(host=host, count=4)
    assert reading.fault is None
    assert len(reading.rtts_s) == 4
    assert all(rtt is not None and 0 < rtt < 0.5 for rtt in reading.rtts_s)
    values = reading.values
    assert (values["sent_count"], values["received_count"], values["loss_ratio"]) == (4, 4, 0)
    assert values["rtt_min_s"] <= values["rtt_median_s"] <= values["rtt_max_s"]
    assert values["rtt_min_s"] <= values["rtt_mean_s"] <= values["rtt_max_s"]
    assert values["jitter_s"] <= values["rtt_max_s"] - values["rtt_min_s"]
    assert values["reply_ttl_count"] == 64
    assert reading.facts == {"address": host}
    assert set(values) == {v.name for v in PROBE.values}


async def test_jitter_is_the_mean_step_between_successive_echoes() -> None:
    reading = await ping(count=3)
    first, second, third = (rtt for rtt in reading.rtts_s if rtt is not None)
    assert reading.values["jitter_s"] == pytest.approx((abs(second - first) + abs(third - second)) / 2)


async def test_one_echo_has_no_jitter() -> None:
    assert "jitter_s" not in (await ping(count=1)).values


async def test_many_rounds_at_once_do_not_mix() -> None:
    tools = Tools()
    hosts = [f"127.0.1.{n}" for n in range(1, 60)] + ["::1"] * 5
    readings = await asyncio.gather(*(ping(host=host, tools=tools, wait="1s") for host in hosts))
    tools.close()
    assert [r.facts["address"] for r in readings] == hosts
    assert all(r.fault is None and r.values["received_count"] == 3 for r in readings)
    assert all(r.values["duplicate_count"] == 0 for r in readings)


@pytest.mark.parametrize("size", [16, 17, 1472, 9000])
async def test_every_size_is_answered(size: int) -> None:
    assert (await ping(size=size)).fault is None


async def test_no_gap_sends_all_at_once() -> None:
    reading = await ping(gap="0s", count=20, wait="1s")
    assert reading.fault is None
    assert reading.values["received_count"] == 20


async def test_a_name_is_resolved() -> None:
    reading = await ping(host="localhost")
    assert reading.fault is None
    assert "resolve" in reading.phases


async def test_a_name_that_does_not_exist_is_a_name_fault() -> None:
    assert (await ping(host="khong-co.invalid")).fault in (Fault.NAME, Fault.LOCAL)  # LOCAL: no resolver here


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (Path("4g", "4G", interface="wwan99"), "wwan99"),
        (Path("vnpt", "VNPT", source="192.0.2.77"), "192.0.2.77"),
    ],
)
async def test_a_path_that_is_not_there_is_our_own_fault(path: Path, reason: str) -> None:
    before = open_sockets()
    reading = await ping(path=path)
    assert reading.fault is Fault.LOCAL
    assert path.id in reading.detail
    assert reason in reading.detail
    assert open_sockets() == before


async def test_a_path_of_another_family_than_the_host_is_a_name_fault() -> None:
    assert (await ping(host="::1", path=Path("v4", "v4", source="127.0.0.1"))).fault is Fault.NAME


async def test_an_address_with_an_unknown_interface_is_our_own_fault() -> None:
    reading = await ping(host="fe80::1%wwan99")
    assert reading.fault is Fault.LOCAL
    assert "wwan99" in reading.detail


async def test_a_timeout_too_short_for_the_round_is_our_own_fault() -> None:
    reading = await ping(count=10, gap="500ms", timeout_s=2.0)
    assert reading.fault is Fault.LOCAL
    assert "10 echoes 0.5 s apart need 4.5 s" in reading.detail


async def test_a_stepped_wall_clock_spoils_no_round_trip_time(monkeypatch: pytest.MonkeyPatch) -> None:
    true_time, calls = time.clock_gettime_ns, 0

    def stepping(clock: int) -> int:
        nonlocal calls
        calls += 1
        return true_time(clock) + (3_600_000_000_000 if calls > 1 else 0)

    monkeypatch.setattr(time, "clock_gettime_ns", stepping)
    reading = await ping(count=3)
    assert all(rtt is not None and 0 < rtt < 0.5 for rtt in reading.rtts_s)


async def test_a_busy_loop_does_not_look_like_a_slow_network() -> None:
    tools = Tools()
    task = asyncio.create_task(ping(count=1, tools=tools))
    await asyncio.sleep(0)
    assert tools.of(Engine)._links  # the echo is on its way
    until = time.perf_counter() + 0.03
    while time.perf_counter() < until:
        pass
    reading = await task
    tools.close()
    assert reading.rtts_s[0] is not None
    assert reading.rtts_s[0] < 0.02


async def test_the_kernel_stamps_what_is_sent() -> None:
    tools = Tools()
    await ping(tools=tools)
    (link,) = tools.of(Engine)._links.values()
    assert link._stamping
    assert not link._unstamped
    tools.close()


async def test_where_the_kernel_stamps_nothing_sent_our_own_clock_serves() -> None:
    tools = Tools()
    await ping(tools=tools)
    (link,) = tools.of(Engine)._links.values()
    link._stamping = False
    reading = await ping(count=5, tools=tools)
    assert all(rtt is not None and 0 < rtt < 0.1 for rtt in reading.rtts_s)
    assert not link._unstamped
    tools.close()


async def test_cancelling_leaves_nothing_behind() -> None:
    before, tools = open_sockets(), Tools()
    await cancelled_after(PROBE, 0.02, host="127.0.0.1", count=100, gap="1s", timeout_s=200.0, tools=tools)
    (link,) = tools.of(Engine)._links.values()
    assert not link.rounds
    assert not link._sent
    tools.close()
    assert open_sockets() == before


async def test_closing_the_tools_ends_rounds_under_way() -> None:
    tools = Tools()
    task = asyncio.create_task(ping(count=100, gap="1s", timeout_s=200.0, tools=tools))
    await asyncio.sleep(0.02)
    tools.close()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_tools_outlive_their_loop() -> None:
    before, tools = open_sockets(), Tools()
    for _ in range(2):
        assert asyncio.run(ping(tools=tools)).fault is None
    tools.close()
    assert open_sockets() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 101},
        {"size": 15},
        {"dscp": 64},
        {"ttl": 0},
        {"gap": 5},
        {"gap": "11s"},
        {"wait": "0s"},
        {"max_loss": 1.1},
        {"host": "a b"},
        {"hosts": "x"},
    ],
)
async def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        await ping(**wrong)


def test_the_shortest_interval_grows_with_the_round() -> None:
    settings = PROBE.settings.model_validate_json('{"host": "a", "count": 50, "gap": "200ms"}')
    assert PROBE.least_every_s(settings) == 10


# A host that answers as the test wants, in a network of its own
