from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import icmp_packet
from probes.base import Fault, Path, Reading, Tools
from probes.icmp import PROBE, self_test
from probes.icmp_engine import Engine
from probes.icmp_packet import Echo, EchoMaker, Refused
from probes.icmp_socket import echo_filter
from tests.probes.own_network import Answer, Heard, Host, error, in_own_network, reply, silent
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


@pytest.mark.system
def test_silence_is_a_timeout_that_says_how_many_were_sent() -> None:
    async def scenario(host: Host) -> None:
        began = time.perf_counter()
        reading = await ping(count=3)
        assert time.perf_counter() - began < 1
        assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no reply to 3 echoes")
        assert reading.rtts_s == (None, None, None)
        assert reading.values["loss_ratio"] == 1
        assert len(host.heard) == 3

    in_own_network(scenario)


@pytest.mark.system
def test_a_round_ends_before_its_deadline() -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(count=1, wait="10s", timeout_s=0.2)
        assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no reply to 1 echo")
        assert reading.duration_s < 0.2

    in_own_network(scenario)


@pytest.mark.system
@pytest.mark.parametrize(("max_loss", "fault"), [(1.0, None), (0.34, None), (0.3, Fault.TIMEOUT)])
def test_some_loss_is_bad_only_above_what_is_allowed(max_loss: float, fault: Fault | None) -> None:
    lost = 2  # the second of three

    async def scenario(host: Host) -> None:
        def script(heard: Heard) -> Sequence[Answer]:
            return () if len(host.heard) == lost else (reply(heard),)

        host.script = script
        reading = await ping(max_loss=max_loss)
        assert reading.fault is fault
        assert reading.rtts_s[1] is None
        assert reading.values["loss_ratio"] == pytest.approx(1 / 3)
        assert "jitter_s" not in reading.values  # no two answered echoes stood side by side
        if fault:
            assert reading.detail == "1 of 3 echoes lost, at most 30% allowed"

    in_own_network(scenario)


def _garbage(heard: Heard) -> Sequence[Answer]:
    body = heard.echo.body
    return (
        (b"\0\0\xff\xff", heard.to),
        (b"\x00\x00\xff\xff" + bytes(60), heard.to),
        reply(heard, body=body[:-1]),
        reply(heard, body=body[:-1] + b"?"),
        reply(heard, body=body[::-1]),
        reply(heard, seq=heard.echo.seq ^ 1),
        reply(heard, ident=heard.echo.ident ^ 1),
    )


@pytest.mark.system
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_damaged_and_foreign_replies_are_no_answer(host: str) -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(host=host)
        assert reading.fault is Fault.TIMEOUT

    in_own_network(scenario, _garbage)


@pytest.mark.system
def test_a_right_reply_among_garbage_counts() -> None:
    async def scenario(_: Host) -> None:
        reading = await ping()
        assert reading.fault is None
        assert reading.values["duplicate_count"] == 0

    in_own_network(scenario, lambda heard: (*_garbage(heard), reply(heard)))


@pytest.mark.system
def test_replies_that_come_twice_are_counted() -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(count=3)
        assert reading.fault is None
        assert reading.values["duplicate_count"] >= 2  # the round ends with the last first reply
        assert reading.values["received_count"] == 3

    in_own_network(scenario, lambda heard: (reply(heard), reply(heard)))


@pytest.mark.system
def test_a_late_answer_is_told_from_none_with_the_next_round() -> None:
    async def scenario(host: Host) -> None:
        tools = Tools()
        assert (await ping(count=2, tools=tools)).fault is Fault.TIMEOUT
        held = host.heard[0]
        host.send(reply(held), reply(held), to=held.source)
        host.script = lambda heard: (reply(heard),)
        reading = await ping(count=2, tools=tools)
        assert reading.fault is None
        assert (reading.values["late_count"], reading.values["received_count"]) == (1, 2)
        assert (await ping(count=2, tools=tools)).values["late_count"] == 0
        tools.close()

    in_own_network(scenario)


@pytest.mark.system
def test_an_answer_from_another_address_is_named() -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(host="127.0.0.5")
        assert reading.fault is None
        assert reading.facts == {"address": "127.0.0.5", "answered_by": "127.0.0.6"}

    in_own_network(scenario, lambda heard: ((reply(heard)[0], "127.0.0.6"),))


@pytest.mark.system
@pytest.mark.parametrize("quoted_bytes", [28, 60, 576])
@pytest.mark.parametrize("raw", [True, False])
def test_a_router_that_refuses_is_named_and_ends_the_round_early(quoted_bytes: int, raw: bool) -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(host="127.0.0.5", wait="10s", timeout_s=15.0)
        assert reading.fault is Fault.UNREACHABLE
        assert reading.detail == "127.0.0.99 answered: host unreachable (3 of 3 echoes)"
        assert reading.facts["refused_by"] == "127.0.0.99"
        assert reading.duration_s < 5

    def script(heard: Heard) -> Sequence[Answer]:
        return (error(heard, 3, 1, "127.0.0.99", quoted_bytes=quoted_bytes),)

    in_own_network(scenario, script, may_open_raw=raw, ping_sockets=True)


@pytest.mark.system
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("host", "kind", "code", "words"),
    [
        ("127.0.0.5", 11, 0, "TTL expired on the way"),
        ("127.0.0.5", 3, 13, "prohibited by a filter"),
        ("::1", 1, 0, "no route to the destination"),
        ("::1", 3, 0, "hop limit expired on the way"),
    ],
)
def test_every_icmp_error_is_told_in_words(host: str, kind: int, code: int, words: str, raw: bool) -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(host=host)
        assert reading.fault is Fault.UNREACHABLE
        assert f"answered: {words} (3 of 3 echoes)" in reading.detail

    def script(heard: Heard) -> Sequence[Answer]:
        return (error(heard, kind, code, heard.to),)

    in_own_network(scenario, script, may_open_raw=raw, ping_sockets=True)


@pytest.mark.system
def test_errors_about_echoes_of_others_are_not_ours() -> None:
    def script(heard: Heard) -> Sequence[Answer]:
        to_another = heard.packet[:16] + bytes([127, 0, 0, 77]) + heard.packet[20:]
        other_ident = heard.packet[:24] + b"\xff\xfe" + heard.packet[26:]
        other_body = heard.packet[:28] + bytes(56)
        return [error(heard._replace(packet=p), 3, 1, "127.0.0.99") for p in (to_another, other_ident, other_body)]

    async def scenario(_: Host) -> None:
        assert (await ping()).fault is Fault.TIMEOUT

    in_own_network(scenario, script)


@pytest.mark.system
def test_source_size_dscp_and_ttl_are_what_the_host_sees() -> None:
    async def scenario(host: Host) -> None:
        path = Path("vnpt", "VNPT", source="127.0.0.7")
        reading = await ping(path=path, size=100, dscp=46, ttl=9, count=1)
        assert reading.fault is None
        (heard,) = host.heard
        assert heard.source == "127.0.0.7"
        assert len(heard.echo.body) == 100
        assert heard.packet[1] == 46 << 2
        assert heard.echo.hops == 9

    in_own_network(scenario, lambda heard: (reply(heard),))


@pytest.mark.system
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_interface_path_is_honoured(host: str) -> None:
    async def scenario(_: Host) -> None:
        assert (await ping(host=host, path=Path("lo", "lo", interface="lo"))).fault is None

    in_own_network(scenario, lambda heard: (reply(heard),))


@pytest.mark.system
def test_no_route_is_our_own_fault_and_heals_by_itself() -> None:
    async def scenario(_: Host) -> None:
        tools = Tools()
        reading = await ping(host="192.0.2.1", tools=tools)
        assert (reading.fault, reading.detail) == (Fault.LOCAL, "cannot send to 192.0.2.1: Network is unreachable")
        assert not tools.of(Engine)._links  # a new socket next time: an interface may have come back
        assert (await ping(tools=tools)).fault is None
        tools.close()

    in_own_network(scenario, lambda heard: (reply(heard),))


@pytest.mark.system
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_ping_sockets_serve_without_privileges(host: str) -> None:
    async def scenario(_: Host) -> None:
        assert self_test() is None
        reading = await ping(host=host, count=4, wait="1s")
        assert reading.fault is None
        assert reading.values["received_count"] == 4
        assert reading.values["reply_ttl_count"] == 64

    in_own_network(scenario, may_open_raw=False, ping_sockets=True, kernel_answers=True)


@pytest.mark.system
def test_without_permission_the_exact_fix_is_told() -> None:
    async def scenario(_: Host) -> None:
        fix = self_test()
        assert fix is not None
        for part in ("CAP_NET_RAW", "net.ipv4.ping_group_range='0 0'", "setcap cap_net_raw+ep /"):
            assert part in fix
        reading = await ping()
        assert reading.fault is Fault.LOCAL
        assert "ping_group_range" in reading.detail

    in_own_network(scenario, may_open_raw=False)


@pytest.mark.system
def test_with_permission_the_self_test_is_content() -> None:
    async def scenario(_: Host) -> None:
        assert self_test() is None

    in_own_network(scenario)


@pytest.mark.system
def test_echoes_that_our_own_buffer_dropped_are_our_own_fault() -> None:
    async def scenario(_: Host) -> None:
        reading = await ping(count=100, size=60000, gap="0s", wait="500ms", max_loss=0.0)
        assert reading.fault is Fault.LOCAL
        assert "our own receive buffer overflowed" in reading.detail

    in_own_network(scenario, silent, kernel_answers=True)
