"""icmp, tcp and dns across a real router: what its errors, its drops and a lost uplink look like to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from probes import PROBES
from probes.base import Fault, Path, Reading, Tools
from tests.probes.probing import run_probe
from tests.system.namespaces import Network

pytestmark = pytest.mark.system

SETTINGS: dict[str, dict[str, object]] = {
    "icmp": {"gap": "5ms", "wait": "300ms"},
    "tcp": {"port": 4},
    "dns": {"name": "langson.gov.vn"},
}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(uplinks=("vnpt", "viettel"), places=("mail", "portal")) as network:
        # Linux sends an ICMP error a second to one address; the tests are faster than that.
        for namespace in (network.router, network.monitor):
            namespace.sysctl(ipv4__icmp_ratelimit="0", ipv6__icmp__ratelimit="0")
        network.monitor.sysctl(  # a neighbour is given up after three tries, by default a second apart
            ipv4__neigh__vnpt__retrans_time_ms="50", ipv6__neigh__vnpt__retrans_time_ms="50"
        )
        yield network


def probe(network: Network, kind: str, host: str, *, path: Path | None = None, **more: object) -> Reading:
    """Run one probe in the monitor's namespace, with a loop of its own."""
    settings = {**SETTINGS[kind], ("server" if kind == "dns" else "host"): host, **more}
    return network.monitor.call(
        lambda: asyncio.run(run_probe(PROBES[kind], timeout_s=1.0, path=path, **settings))  # type: ignore[arg-type]
    )


def uplink_path(name: str) -> Path:
    return Path(name, name, interface=name)


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_answers_by_each_uplink(network: Network, version: int) -> None:
    mail = network.places["mail"]
    host = mail.address4 if version == 4 else mail.address6
    for uplink in network.uplinks.values():
        source = Path("s", "s", source=uplink.source4 if version == 4 else uplink.source6)
        for path in (uplink_path(uplink.name), source, None):
            reading = probe(network, "icmp", host, path=path)
            assert reading.fault is None, reading.detail
            assert reading.values["reply_ttl_count"] == 63
            assert probe(network, "tcp", host, path=path).fault is Fault.REFUSED
            assert probe(network, "dns", host, path=path).fault is Fault.REFUSED


@pytest.mark.parametrize("kind", ["icmp", "tcp", "dns"])
@pytest.mark.parametrize(("host", "router"), [("203.0.113.9", "10.0.1.1"), ("2001:db8::9", "fd00:0:1::1")])
def test_a_router_without_a_route_makes_it_unreachable_and_not_our_fault(
    network: Network, kind: str, host: str, router: str
) -> None:
    reading = probe(network, kind, host)
    assert reading.fault is Fault.UNREACHABLE, reading.detail
    assert reading.detail.startswith(f"{router} answered: ")
    assert reading.duration_s < 0.5
    if kind == "icmp":
        assert reading.facts["refused_by"] == router
        assert reading.detail.endswith("(3 of 3 echoes)")


@pytest.mark.parametrize(
    ("kind", "host"),  # by IPv4 the network's rules send what has a source address to the router, neighbours included
    [("icmp", "10.0.1.77"), ("icmp", "fd00:0:1::77"), ("tcp", "fd00:0:1::77"), ("dns", "fd00:0:1::77")],
)
def test_a_neighbour_that_is_not_there_is_unreachable_in_our_own_words(network: Network, kind: str, host: str) -> None:
    reading = probe(network, kind, host)
    assert reading.fault is Fault.UNREACHABLE, reading.detail
    assert reading.detail.startswith("our own host found no way to the next hop: ")


@pytest.mark.parametrize(("version", "words"), [(4, "TTL expired on the way"), (6, "hop limit expired on the way")])
def test_a_ttl_that_is_used_up_names_the_router(network: Network, version: int, words: str) -> None:
    mail = network.places["mail"]
    reading = probe(network, "icmp", mail.address4 if version == 4 else mail.address6, ttl=1)
    assert reading.fault is Fault.UNREACHABLE
    assert f"answered: {words} (3 of 3 echoes)" in reading.detail


@pytest.mark.parametrize("kind", ["icmp", "tcp", "dns"])
def test_a_host_dropped_by_a_firewall_is_a_timeout(network: Network, kind: str) -> None:
    portal = network.places["portal"]
    for host in (portal.address4, portal.address6):
        network.drop_host(host)
        reading = probe(network, kind, host)
        network.allow_host(host)
        assert reading.fault is Fault.TIMEOUT, reading.detail


@pytest.mark.parametrize("kind", ["icmp", "tcp", "dns"])
def test_an_uplink_that_is_down_on_our_side_is_our_own_fault(network: Network, kind: str) -> None:
    network.cut_uplink("viettel", end="near")
    try:
        reading = probe(network, kind, network.places["mail"].address4, path=uplink_path("viettel"))
    finally:
        network.restore_uplink("viettel")
    assert reading.fault is Fault.LOCAL, reading.detail


def test_the_shared_socket_heals_when_its_uplink_comes_back(network: Network) -> None:
    mail = network.places["mail"].address4

    async def rounds() -> list[Fault | None]:
        tools = Tools()
        faults = []
        for change in (None, "cut", "restore"):
            if change == "cut":
                await asyncio.to_thread(network.cut_uplink, "viettel", end="near")
            elif change == "restore":
                await asyncio.to_thread(network.restore_uplink, "viettel")
            reading = await run_probe(
                PROBES["icmp"], path=uplink_path("viettel"), tools=tools, host=mail, gap="5ms", wait="300ms"
            )
            faults.append(reading.fault)
        tools.close()
        return faults

    assert network.monitor.call(lambda: asyncio.run(rounds())) == [None, Fault.LOCAL, None]


def test_thirty_percent_loss_is_measured_as_such(network: Network) -> None:
    network.loss(30)
    try:
        mail = network.places["mail"].address4
        readings = [probe(network, "icmp", mail, count=100, gap="1ms", wait="200ms") for _ in range(4)]
    finally:
        network.loss(0)
    lost = sum(r.rtts_s.count(None) for r in readings)
    assert sum(r.values["sent_count"] for r in readings) == 400
    assert 75 <= lost <= 168  # five standard deviations on either side of 120
    assert all(r.fault is None for r in readings)


def test_every_try_of_a_query_reaches_a_silent_name_server(network: Network) -> None:
    mail = network.places["mail"]
    with mail.namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind((mail.address4, 53))  # takes queries, answers none
        reading = probe(network, "dns", mail.address4, tries=4)
        sock.setblocking(False)
        heard = [sock.recv(4096) for _ in range(4)]
        with pytest.raises(BlockingIOError):
            sock.recv(4096)
    assert reading.fault is Fault.TIMEOUT
    assert len(set(heard)) == 1
