from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from probes.base import Fault, IpFamily
from tests.probes.dns_servers import Reply, udp_socket, wire
from tests.probes.resolving import Files, Zone, asking, fault, resolver_of, saying, served, silent

TARGET = {"a.vn A": "192.0.2.1", "a.vn AAAA": "2001:db8::1", "b.vn A": "192.0.2.2", "v6.vn AAAA": "2001:db8::6"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "hosts", tmp_path / "resolv.conf").say(resolv_conf="nameserver 127.0.0.1\n")


@pytest.fixture
def zone() -> Zone:
    return Zone(dict(TARGET))


# Servers that fail


@pytest.mark.parametrize("reply", [saying(dns.rcode.REFUSED), saying(dns.rcode.SERVFAIL), None])
async def test_the_next_server_is_asked_at_once_when_one_fails(reply: Reply | None, files: Files, zone: Zone) -> None:
    async with served(files, reply, zone) as resolver:
        began = time.perf_counter()
        assert set(await resolver.lookup("a.vn")) == {"192.0.2.1", "2001:db8::1"}
        assert time.perf_counter() - began < 0.2


async def test_two_dead_servers_of_three_leave_time_and_are_remembered(files: Files, zone: Zone) -> None:
    async with served(files, silent, silent, zone) as resolver:
        began = time.perf_counter()
        assert await resolver.lookup("b.vn", IpFamily.IP4, timeout_s=0.6) == ("192.0.2.2",)
        first_s = time.perf_counter() - began
        began = time.perf_counter()
        await resolver.lookup("a.vn", IpFamily.IP4, timeout_s=0.6)
        second_s = time.perf_counter() - began
    assert 0.09 < first_s < 0.3
    assert second_s < 0.08


async def test_a_server_that_comes_back_is_noticed_beside_the_others(files: Files, zone: Zone) -> None:
    first = Zone({"b.vn A": "silence"})
    async with served(files, first, zone) as resolver:
        await resolver.lookup("b.vn", IpFamily.IP4, timeout_s=0.4)
        assert [s.shunned for s in resolver._servers] == [True, False]
        first.records = dict(TARGET)
        await resolver.lookup("a.vn", IpFamily.IP4)
        assert first.asked == ["b.vn A"]  # not yet
        resolver._servers[0].retry_at_s = 0.0
        zone.records["v6.vn A"] = "silence"
        first.records["v6.vn A"] = "192.0.2.6"
        assert await resolver.lookup("v6.vn", IpFamily.IP4) == ("192.0.2.6",)
        assert [s.shunned for s in resolver._servers] == [False, True]  # now the other one was too slow


async def test_rotate_takes_the_servers_in_turn(files: Files) -> None:
    zones = [Zone({f"h{n}.vn A": "192.0.2.1" for n in range(6)}) for _ in range(2)]
    async with served(files, *zones, options="rotate") as resolver:
        for n in range(6):
            await resolver.lookup(f"h{n}.vn", IpFamily.IP4)
    assert [len(z.asked) for z in zones] == [3, 3]


async def test_a_lost_datagram_is_sent_again(files: Files, zone: Zone) -> None:
    lost = iter([True])
    async with asking(files, lambda query: None if next(lost, False) else zone(query)) as resolver:
        assert await resolver.lookup("b.vn", IpFamily.IP4, timeout_s=0.4) == ("192.0.2.2",)


async def test_a_slow_answer_of_the_first_server_is_still_taken(files: Files, zone: Zone) -> None:
    loop = asyncio.get_running_loop()

    def slowly(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        answer = wire(zone(dns.message.from_wire(data)))
        assert answer is not None
        loop.call_later(0.15, lambda: sock.fileno() >= 0 and sock.sendto(answer, sender))

    with udp_socket(slowly) as server, resolver_of(files, server.port) as resolver:
        assert await resolver.lookup("b.vn", IpFamily.IP4, timeout_s=0.5) == ("192.0.2.2",)
    assert len(zone.asked) >= 2


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ((silent,), ["127.0.0.1 does not answer"]),
        ((silent, silent), ["127.0.0.1 does not answer", "127.0.0.2 does not answer"]),
        ((None,), ["127.0.0.1: Connection refused"]),
        ((saying(dns.rcode.REFUSED),), ["127.0.0.1 says REFUSED"]),
        ((saying(dns.rcode.SERVFAIL), silent), ["127.0.0.1 says SERVFAIL", "127.0.0.2 does not answer"]),
        (
            (saying(dns.rcode.SERVFAIL, dns.edns.EDECode.NO_REACHABLE_AUTHORITY),),
            ["127.0.0.1 says SERVFAIL (no reachable authority)"],
        ),
    ],
)
async def test_servers_that_all_fail_are_our_own_fault_and_named(
    servers: tuple[Reply | None, ...], words: list[str], files: Files
) -> None:
    async with served(files, *servers) as resolver:
        began = time.perf_counter()
        kind, detail = await fault(resolver, "a.vn", timeout_s=0.4)
        assert time.perf_counter() - began < 0.4
    assert kind is Fault.LOCAL
    assert detail.startswith("our resolver gave no answer for a.vn: ")
    assert all(word in detail for word in words), detail


async def test_servfail_is_the_names_own_once_another_was_fetched_afresh(files: Files, zone: Zone) -> None:
    zone.rcodes["a.vn"] = dns.rcode.SERVFAIL
    async with asking(files, zone) as resolver:
        zone.ttl_s = 10
        await resolver.lookup("b.vn", IpFamily.IP4)
        assert (await fault(resolver, "a.vn"))[0] is Fault.LOCAL
        resolver._kept.clear()
        await resolver.lookup("b.vn", IpFamily.IP4)  # from a cache, as far as can be told
        assert (await fault(resolver, "a.vn"))[0] is Fault.LOCAL
        resolver._witness.answered("b.vn", 10, asyncio.get_running_loop().time() + 11, authoritative=False)
        kind, detail = await fault(resolver, "a.vn")
        assert (kind, detail) == (Fault.NAME, "a.vn cannot be resolved, other names can: 127.0.0.1 says SERVFAIL")
        del zone.rcodes["a.vn"]
        assert "192.0.2.1" in await resolver.lookup("a.vn")


async def test_a_silent_server_says_nothing_about_a_name_however_well_others_are_found(
    files: Files, zone: Zone
) -> None:
    zone.records["a.vn A"] = zone.records["a.vn AAAA"] = "silence"
    async with asking(files, zone) as resolver:
        for _ in range(2):
            assert (await fault(resolver, "a.vn", timeout_s=0.1))[0] is Fault.LOCAL
            resolver._witness.answered("b.vn", 10, asyncio.get_running_loop().time() + 11, authoritative=False)
