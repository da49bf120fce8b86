from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from probes.base import Fault, Path, Reading, Tools
from probes.icmp import PROBE, self_test
from probes.icmp_engine import Engine
from tests.probes.own_network import Answer, Heard, Host, error, in_own_network, reply, silent
from tests.probes.probing import run_probe

FAST = {"gap": "1ms", "wait": "40ms"}


def hold(seconds: float) -> None:
    """Hold the loop up, as a long computation does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def heard_by(host: Host) -> None:
    for _ in range(100):
        await asyncio.sleep(0)
        if host.heard:
            return


async def ping(**settings: object) -> Reading:
    return await run_probe(PROBE, **{"host": "127.0.0.1", **FAST, **settings})  # type: ignore[arg-type]


# Bytes


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
def test_a_reply_that_came_too_late_is_late_also_when_our_loop_was_later() -> None:
    async def scenario(host: Host) -> None:
        tools = Tools()
        run = asyncio.create_task(ping(count=1, wait="30ms", tools=tools))
        await heard_by(host)
        hold(0.04)
        host.send(reply(host.heard[0]), to=host.heard[0].source)  # after the wait, and still within the same turn
        reading = await run
        assert (reading.fault, reading.values["late_count"]) == (Fault.TIMEOUT, 1)
        tools.close()

    in_own_network(scenario)


@pytest.mark.system
def test_a_reply_that_came_in_time_counts_however_late_our_loop_looks() -> None:
    async def scenario(host: Host) -> None:
        run = asyncio.create_task(ping(count=1, wait="30ms"))
        await heard_by(host)
        host.send(reply(host.heard[0]), to=host.heard[0].source)
        hold(0.06)
        reading = await run
        assert reading.fault is None
        assert reading.values["rtt_max_s"] < 0.02

    in_own_network(scenario)


@pytest.mark.system
def test_more_echoes_than_the_buffer_holds_may_be_sent_in_one_turn() -> None:
    async def scenario(_: Host) -> None:
        tools = Tools()
        hosts = [f"127.0.{n >> 6}.{(n & 63) + 1}" for n in range(300)]
        rounds = [ping(host=h, count=10, gap="0s", wait="1s", timeout_s=5.0, tools=tools) for h in hosts]
        readings = await asyncio.gather(*rounds)
        assert sum(r.values["received_count"] for r in readings) == 3000
        tools.close()

    in_own_network(scenario, kernel_answers=True)


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
@pytest.mark.parametrize("on_uvloop", [False, True])
@pytest.mark.parametrize("raw", [True, False])
def test_an_error_about_one_target_is_none_about_the_others(raw: bool, on_uvloop: bool) -> None:
    def script(heard: Heard) -> Sequence[Answer]:
        return (error(heard, 3, 1, "127.0.0.99") if heard.to == "127.0.0.6" else reply(heard),)

    async def scenario(_: Host) -> None:
        tools = Tools()
        hosts = ["127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8"]
        for _turn in range(3):
            began = time.perf_counter()
            readings = await asyncio.gather(*(ping(host=h, wait="2s", timeout_s=5.0, tools=tools) for h in hosts))
            assert time.perf_counter() - began < 1.5  # every reply was read when it came, errors or not
            assert [r.fault for r in readings] == [None, Fault.UNREACHABLE, None, None]
            assert [r.facts["address"] for r in readings] == hosts
        tools.close()

    in_own_network(scenario, script, may_open_raw=raw, ping_sockets=True, on_uvloop=on_uvloop)


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
        tools = Tools()
        await ping(tools=tools)
        (link,) = tools.of(Engine)._links.values()
        link._unread_bytes = -(1 << 30)  # as if it never looked meanwhile
        reading = await ping(count=100, size=60000, gap="0s", wait="500ms", max_loss=0.0, tools=tools)
        tools.close()
        assert reading.fault is Fault.LOCAL
        assert "our own receive buffer overflowed" in reading.detail

    in_own_network(scenario, silent, kernel_answers=True)
