"""The networks of the system tests carry, cut, drop and lose exactly what they are told to."""

from __future__ import annotations

import errno
import math
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.namespaces import Namespace, Network, NetworkError, call_in


@pytest.fixture(scope="module")
def two_uplinks() -> Iterator[Network]:
    with Network(uplinks=("vnpt", "viettel"), places=("mail", "portal")) as network:
        yield network


def answered(source: Namespace, address: str, *, count: int = 3, every_ms: int = 10, wait_ms: int = 200) -> int:
    """Return how many of `count` echoes came back."""
    argv = ["fping", "-q", "-i", "1", "-c", str(count), "-p", str(every_ms), "-t", str(wait_ms), address]
    done = subprocess.run([*source.prefix(), *argv], capture_output=True, text=True, timeout=15, check=False)
    found = re.search(r"xmt/rcv/%loss = (\d+)/(\d+)/", done.stderr)
    assert found, done.stderr
    assert int(found[1]) == count
    return int(found[2])


def test_every_place_answers_on_both_families(two_uplinks: Network) -> None:
    for place in two_uplinks.places.values():
        assert answered(two_uplinks.monitor, place.address4) == 3
        assert answered(two_uplinks.monitor, place.address6) == 3


def test_places_reach_each_other_and_the_monitor(two_uplinks: Network) -> None:
    mail, portal = two_uplinks.places.values()
    assert answered(mail.namespace, portal.address4) == 3
    assert answered(portal.namespace, two_uplinks.uplink.source6) == 3


def test_the_networks_addresses_are_not_the_hosts(two_uplinks: Network) -> None:
    host = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    assert two_uplinks.uplink.source4 not in host
    assert two_uplinks.target.address4 in two_uplinks.target.namespace.run("ip", "-o", "addr")


def test_a_source_address_or_an_interface_chooses_the_uplink(two_uplinks: Network) -> None:
    second = two_uplinks.uplinks["viettel"]

    def route(*words: str) -> str:
        return two_uplinks.monitor.run("ip", "route", "get", two_uplinks.target.address4, *words)

    assert "dev vnpt" in route()
    assert "dev viettel" in route("from", second.source4)
    assert "dev viettel" in route("oif", "viettel")
    two_uplinks.cut_uplink("vnpt")
    try:
        assert answered(two_uplinks.monitor, two_uplinks.target.address4, wait_ms=50) == 0
        via_second = ["ping", "-c", "1", "-W", "1", "-I", second.source4, two_uplinks.target.address4]
        assert "1 received" in two_uplinks.monitor.run(*via_second)
    finally:
        two_uplinks.restore_uplink("vnpt")
    assert answered(two_uplinks.monitor, two_uplinks.target.address4) == 3


@pytest.mark.parametrize("end", ["far", "near"])
def test_a_cut_uplink_carries_nothing_until_it_is_restored(end: str) -> None:
    with Network() as network:
        target = network.target
        network.cut_uplink(end="near" if end == "near" else "far")
        if end == "near":
            with pytest.raises(OSError, match="unreachable") as caught:
                network.monitor.call(lambda: socket.create_connection((target.address4, 80), timeout=1))
            assert caught.value.errno == errno.ENETUNREACH
        else:
            assert answered(network.monitor, target.address4, wait_ms=50) == 0
            assert answered(network.monitor, target.address6, wait_ms=50) == 0
        network.restore_uplink()
        assert answered(network.monitor, target.address4) == 3
        assert answered(network.monitor, target.address6) == 3


@pytest.mark.parametrize("family", ["address4", "address6"])
def test_a_dropped_host_is_silent_and_the_others_are_not(two_uplinks: Network, family: str) -> None:
    mail, portal = two_uplinks.places.values()
    address: str = getattr(mail, family)
    two_uplinks.drop_host(address)
    try:
        assert answered(two_uplinks.monitor, address, wait_ms=50) == 0
        assert answered(two_uplinks.monitor, getattr(portal, family)) == 3
    finally:
        two_uplinks.allow_host(address)
    assert answered(two_uplinks.monitor, address) == 3


@pytest.mark.parametrize(("both_ways", "expected"), [(False, 0.30), (True, 1 - 0.7**2)])
def test_loss_is_as_large_as_asked_for(two_uplinks: Network, both_ways: bool, expected: float) -> None:
    count = 300
    before = two_uplinks.lost_packets()
    two_uplinks.loss(30, both_ways=both_ways)
    try:
        lost = count - answered(two_uplinks.monitor, two_uplinks.target.address4, count=count, every_ms=3)
    finally:
        two_uplinks.loss(0)
    # Five standard deviations of a binomial count: a fair coin fails this once in two million runs.
    assert abs(lost - count * expected) < 5 * math.sqrt(count * expected * (1 - expected))
    assert two_uplinks.lost_packets() - before == lost
    assert answered(two_uplinks.monitor, two_uplinks.target.address4, count=20) == 20


def test_a_socket_made_inside_belongs_to_the_namespace(two_uplinks: Network) -> None:
    target = two_uplinks.target
    with target.namespace.call(lambda: socket.create_server((target.address4, 25))) as listener:
        listener.settimeout(2)
        with two_uplinks.monitor.call(lambda: socket.create_connection((target.address4, 25), timeout=2)):
            connection, peer = listener.accept()
            connection.close()
    assert peer[0] == two_uplinks.uplink.source4


def test_namespaces_are_gone_after_a_failure_inside() -> None:
    network = Network()

    def fail() -> None:
        with network:
            assert Path("/run/netns", network.router.name).exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    for namespace in (network.monitor, network.router, network.target.namespace):
        assert not Path("/run/netns", namespace.name).exists()


def test_namespaces_are_gone_when_building_fails_half_way() -> None:
    network = Network(uplinks=("a-name-too-long-for-an-interface",))
    with pytest.raises(NetworkError), network:
        pass
    assert not Path("/run/netns", network.monitor.name).exists()


def test_a_missing_namespace_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="ts-none"):
        call_in("ts-none", lambda: None)
