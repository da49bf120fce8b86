from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from probes.base import Fault, IpFamily, Measurement, Tools
from probes.net import resolve
from probes.resolver import KEPT_NAMES, KEPT_S
from probes.resolver_question import FAMILY_GRACE_S
from probes.resolver_wire import SOCKETS
from tests.probes.dns_servers import udp_socket, wire
from tests.probes.probing import open_sockets
from tests.probes.resolving import Files, Zone, asking, fault, resolver_of, saying

TARGET = {"a.vn A": "192.0.2.1", "a.vn AAAA": "2001:db8::1", "b.vn A": "192.0.2.2", "v6.vn AAAA": "2001:db8::6"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "hosts", tmp_path / "resolv.conf").say(resolv_conf="nameserver 127.0.0.1\n")


@pytest.fixture
def zone() -> Zone:
    return Zone(dict(TARGET))


# What is found


@pytest.mark.parametrize(
    ("family", "wanted", "kinds"),
    [
        (IpFamily.ANY, {"192.0.2.1", "2001:db8::1"}, {"a.vn A", "a.vn AAAA"}),
        (IpFamily.IP4, {"192.0.2.1"}, {"a.vn A"}),
        (IpFamily.IP6, {"2001:db8::1"}, {"a.vn AAAA"}),
    ],
)
async def test_only_the_wanted_families_are_asked_for(
    family: IpFamily, wanted: set[str], kinds: set[str], files: Files, zone: Zone
) -> None:
    async with asking(files, zone) as resolver:
        assert set(await resolver.lookup("a.vn", family)) == wanted
    assert set(zone.asked) == kinds


@pytest.mark.parametrize("host", ["khong.vn", "v6.vn"])
async def test_a_name_without_an_address_is_a_name_fault(host: str, files: Files, zone: Zone) -> None:
    async with asking(files, zone) as resolver:
        assert await fault(resolver, host, IpFamily.IP4) == (
            Fault.NAME,
            f"the name {host} does not exist or has no address (IPv4)",
        )
        assert len(zone.asked) == 1
        await fault(resolver, host, IpFamily.IP4)
        assert len(zone.asked) == 2  # failures are not kept: a recheck must see for itself


async def test_a_host_of_ipv6_alone_is_found(files: Files, zone: Zone) -> None:
    async with asking(files, zone) as resolver:
        assert await resolver.lookup("v6.vn") == ("2001:db8::6",)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".vn", "\udcff.vn"])
async def test_what_cannot_be_a_name_is_not_asked_for(host: str, files: Files, zone: Zone) -> None:
    async with asking(files, zone) as resolver:
        kind, detail = await fault(resolver, host)
    assert kind is Fault.NAME
    assert detail.endswith(f"{host[-3:]} is not a valid host name")
    assert zone.asked == []


async def test_aliases_are_followed_within_an_answer(files: Files, zone: Zone) -> None:
    def reply(query: dns.message.Message) -> dns.message.Message | None:
        made = zone(query)
        if made is not None and str(query.question[0].name) == "www.vn." and query.question[0].rdtype.name == "A":
            made.answer.append(dns.rrset.from_text("other.vn.", 60, "IN", "A", "192.0.2.66"))  # on no way to www.vn
            made.answer.append(dns.rrset.from_text("a.vn.", 60, "IN", "A", "192.0.2.1"))
        return made

    zone.records["www.vn CNAME"] = "a.vn."
    async with asking(files, reply) as resolver:
        assert await resolver.lookup("www.vn", IpFamily.IP4) == ("192.0.2.1",)


async def test_an_alias_whose_address_did_not_come_is_asked_for(files: Files, zone: Zone) -> None:
    zone.records |= {"www.vn CNAME": "cdn.vn.", "cdn.vn CNAME": "b.vn."}
    async with asking(files, zone) as resolver:
        assert await resolver.lookup("www.vn", IpFamily.IP4) == ("192.0.2.2",)
    assert zone.asked == ["www.vn A", "cdn.vn A", "b.vn A"]


async def test_aliases_in_a_circle_end(files: Files, zone: Zone) -> None:
    zone.records |= {"x.vn CNAME": "y.vn.", "y.vn CNAME": "x.vn."}
    async with asking(files, zone) as resolver:
        assert await fault(resolver, "x.vn", IpFamily.IP4) == (Fault.NAME, "the aliases of x.vn go in a circle")
    assert len(zone.asked) <= 10


async def test_a_circle_within_one_answer_has_no_address(files: Files) -> None:
    def reply(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query)
        for a, b in (("x.vn.", "y.vn."), ("y.vn.", "x.vn.")):
            made.answer.append(dns.rrset.from_text(a, 60, "IN", "CNAME", b))
        return made

    async with asking(files, reply) as resolver:
        assert (await fault(resolver, "x.vn", IpFamily.IP4))[0] is Fault.NAME


async def test_a_cut_answer_is_fetched_by_tcp(files: Files, zone: Zone) -> None:
    def cut(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query)
        made.flags |= dns.flags.TC
        return made

    zone.records["many.vn A"] = " ".join(f"192.0.2.{n}" for n in range(1, 201))
    async with asking(files, cut, zone) as resolver:
        assert len(await resolver.lookup("many.vn", IpFamily.IP4)) == 200


async def test_a_server_that_does_not_know_edns_is_asked_without(files: Files, zone: Zone) -> None:
    def old(query: dns.message.Message) -> dns.message.Message | None:
        return zone(query) if query.edns < 0 else saying(dns.rcode.FORMERR)(query)  # type: ignore[return-value]  # no bytes

    async with asking(files, old) as resolver:
        assert await resolver.lookup("b.vn", IpFamily.IP4) == ("192.0.2.2",)


@pytest.mark.parametrize(
    ("search", "host", "asked"),
    [
        ("", "mail", ["mail"]),
        ("search tinh.vn huyen.vn", "mail", ["mail.tinh.vn", "mail.huyen.vn", "mail"]),
        ("search tinh.vn huyen.vn", "mail.", ["mail"]),
        ("search tinh.vn", "a.b", ["a.b", "a.b.tinh.vn"]),
        ("search tinh.vn\noptions ndots:2", "a.b", ["a.b.tinh.vn", "a.b"]),
    ],
)
async def test_the_search_list_is_gone_through(
    search: str, host: str, asked: list[str], files: Files, zone: Zone
) -> None:
    files.say(resolv_conf=f"nameserver 127.0.0.1\n{search}\n")
    async with asking(files, zone) as resolver:
        assert (await fault(resolver, host, IpFamily.IP4))[0] is Fault.NAME
    assert zone.asked == [f"{name} A" for name in asked]


# Files


async def test_the_hosts_file_comes_first_and_costs_no_question(files: Files, zone: Zone) -> None:
    files.say(hosts="10.0.0.1 A.vn alias\nfd00::1 a.vn\n", resolv_conf="nameserver 127.0.0.1")
    async with asking(files, zone) as resolver:
        assert await resolver.lookup("a.VN") == ("10.0.0.1", "fd00::1")
        assert await resolver.lookup("alias") == ("10.0.0.1",)
        assert await resolver.lookup("alias", IpFamily.IP4) == ("10.0.0.1",)
        assert await resolver.lookup("localhost") == ("127.0.0.1", "::1")
        assert zone.asked == []


async def test_a_change_of_the_files_is_seen(files: Files, zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.resolver_conf.LOOK_AGAIN_S", 0.0)
    async with asking(files, zone) as resolver:
        assert await resolver.lookup("b.vn", IpFamily.IP4) == ("192.0.2.2",)
        files.say(hosts="10.0.0.2 b.vn\n", resolv_conf="nameserver 127.0.0.1")
        os.utime(files.hosts, ns=(1, 1))
        deadline = time.monotonic() + 5
        while await resolver.lookup("b.vn", IpFamily.IP4) != ("10.0.0.2",):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


async def test_without_files_the_server_on_this_host_is_asked(tmp_path: Path, zone: Zone) -> None:
    async with asking(Files(tmp_path / "no-hosts", tmp_path / "no-resolv.conf"), zone) as resolver:
        assert await resolver.lookup("b.vn", IpFamily.IP4) == ("192.0.2.2",)


# Kept, and asked once


async def test_an_answer_is_kept_for_its_time_to_live_and_seconds_at_most(files: Files, zone: Zone) -> None:
    loop = asyncio.get_running_loop()
    async with asking(files, zone) as resolver:
        zone.ttl_s = 86400
        await resolver.lookup("a.vn")
        assert set(resolver.known("a.vn")) == {"192.0.2.1", "2001:db8::1"}
        assert resolver._kept["a.vn", IpFamily.ANY].until_s <= loop.time() + KEPT_S
        zone.ttl_s = 1
        await resolver.lookup("b.vn", IpFamily.IP4)
        assert resolver._kept["b.vn", IpFamily.IP4].until_s <= loop.time() + 1
        assert resolver.known("b.vn") == ()
        zone.ttl_s = 0
        await resolver.lookup("v6.vn")
        assert resolver.known("v6.vn") == ()


async def test_what_is_kept_is_bounded(files: Files, zone: Zone) -> None:
    async with asking(files, zone) as resolver:
        for n in range(KEPT_NAMES + 10):
            resolver._keep((f"h{n}.vn", IpFamily.ANY), ("192.0.2.1",), 5)
        assert len(resolver._kept) == KEPT_NAMES
        assert resolver.known("h0.vn") == ()
        assert resolver.known(f"h{KEPT_NAMES + 9}.vn")


async def test_a_name_wanted_by_two_hundred_at_once_is_asked_for_once(files: Files, zone: Zone) -> None:
    async with asking(files, zone) as resolver:
        found = await asyncio.gather(*(resolver.lookup("b.vn", IpFamily.IP4) for _ in range(200)))
    assert found == [("192.0.2.2",)] * 200
    assert zone.asked == ["b.vn A"]


async def test_one_who_gives_up_does_not_spoil_it_for_the_others(files: Files, zone: Zone) -> None:
    async with asking(files, zone) as resolver:
        hasty = asyncio.create_task(resolver.lookup("b.vn"))
        patient = asyncio.create_task(resolver.lookup("b.vn"))
        await asyncio.sleep(0)
        hasty.cancel()
        assert await patient == ("192.0.2.2",)


async def test_a_kept_answer_takes_no_time_and_a_real_one_does(files: Files, zone: Zone) -> None:
    tools = Tools()
    async with asking(files, zone) as resolver:
        tools.put(resolver)
        first, second = (Measurement(timeout_s=3, tools=tools) for _ in range(2))
        addresses = await resolve(first, "b.vn", 25)
        assert [(a.ip, a.port) for a in addresses] == [("192.0.2.2", 25)]
        assert await resolve(second, "b.vn", 25) == addresses
    assert first.phases["resolve"] > 1e-4
    assert second.phases["resolve"] < 1e-4
    assert len(zone.asked) == 2


# Broken and forged


async def test_a_broken_server_for_aaaa_costs_next_to_nothing(files: Files, zone: Zone) -> None:
    zone.records["a.vn AAAA"] = "silence"
    async with asking(files, zone) as resolver:
        began = time.perf_counter()
        assert await resolver.lookup("a.vn") == ("192.0.2.1",)
        assert time.perf_counter() - began < FAMILY_GRACE_S + 0.15


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NXDOMAIN])
async def test_an_error_for_aaaa_does_not_fail_an_a(rcode: dns.rcode.Rcode, files: Files, zone: Zone) -> None:
    zone.rcodes["a.vn AAAA"] = rcode
    async with asking(files, zone) as resolver:
        assert await resolver.lookup("a.vn") == ("192.0.2.1",)


async def test_forged_and_broken_datagrams_do_not_end_a_lookup(files: Files) -> None:
    def forging(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)

        def reply(name: str, ip: str) -> bytes:
            made = dns.message.make_response(query)
            made.answer.append(dns.rrset.from_text(name, 60, "IN", "A", ip))
            return made.to_wire()

        other_id = bytes([data[0] ^ 1]) + reply("b.vn.", "192.0.2.66")[1:]
        other_question = reply("b.vn.", "192.0.2.66").replace(b"\1b\2vn", b"\1c\2vn", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(reply("b.vn.", "192.0.2.66"), sender)
        for wire_ in (b"", b"\0", data, other_id, other_question, os.urandom(80), reply("b.vn.", "192.0.2.2")):
            sock.sendto(wire_, sender)

    with udp_socket(forging) as server, resolver_of(files, server.port) as resolver:
        assert await resolver.lookup("b.vn", IpFamily.IP4) == ("192.0.2.2",)


async def test_identifiers_and_ports_differ(files: Files) -> None:
    seen: list[tuple[bytes, int]] = []

    def hear(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        seen.append((data[:2], sender[1]))
        sock.sendto(dns.message.make_response(dns.message.from_wire(data)).to_wire(), sender)

    with udp_socket(hear) as server, resolver_of(files, server.port) as resolver:
        for n in range(20):
            await fault(resolver, f"h{n}.vn", IpFamily.IP4)
    assert len({ident for ident, _ in seen}) > 15
    assert len({port for _, port in seen}) > 15


async def test_an_answer_that_cannot_be_read_is_the_resolvers_failure(files: Files) -> None:
    def broken(query: dns.message.Message) -> bytes:
        made = dns.message.make_response(query)
        made.answer.append(dns.rrset.from_text("b.vn.", 60, "IN", "A", "192.0.2.2"))
        return made.to_wire()[:-3]

    async with asking(files, broken) as resolver:
        kind, detail = await fault(resolver, "b.vn", IpFamily.IP4)
    assert kind is Fault.LOCAL
    assert "127.0.0.1: the answer of" in detail


# Many


async def test_two_thousand_names_that_get_no_answer_delay_nobody_else(files: Files, zone: Zone) -> None:
    def hear(sock: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        if b"dead" not in data and (answer := wire(zone(dns.message.from_wire(data)))):
            sock.sendto(answer, sender)

    with udp_socket(hear) as server, resolver_of(files, server.port) as resolver:
        await resolver.lookup("localhost")  # the files are read
        before = open_sockets()
        names = [f"dead{n}.vn" for n in range(2000)]
        dead = [asyncio.create_task(resolver.lookup(name, IpFamily.IP4)) for name in names]
        for _ in range(100):  # the server has taken what its buffer could hold
            await asyncio.sleep(0)
        assert open_sockets() - before == SOCKETS
        began = time.perf_counter()
        assert await resolver.lookup("b.vn", IpFamily.IP4) == ("192.0.2.2",)
        assert time.perf_counter() - began < 0.3
        under_way = list(resolver._under_way.values())
        assert len(under_way) == len(names)
        for task in (*dead, *under_way):
            task.cancel()
        await asyncio.gather(*dead, *under_way, return_exceptions=True)
        assert open_sockets() == before


async def test_nothing_stays_open(files: Files, zone: Zone) -> None:
    before = open_sockets()
    async with asking(files, zone, zone) as resolver:
        await resolver.lookup("a.vn")
        await fault(resolver, "khong.vn")
        zone.records["c.vn A"] = "silence"
        await fault(resolver, "c.vn", timeout_s=0.1)
    await asyncio.sleep(0)
    assert open_sockets() == before
