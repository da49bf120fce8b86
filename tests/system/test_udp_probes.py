"""The probes that speak UDP against real peers: chrony, coturn, kamailio, our own reflector."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes import PROBES
from probes.base import Fault, Reading
from tests.probes.probing import run_probe
from tests.servers import Certificates
from tests.system.namespaces import Network
from tests.system.servers import child_process, wait_until
from tests.system.servers_udp import Chrony, Coturn, Kamailio


async def probe(kind: str, server: Chrony | Coturn | Kamailio, *, timeout_s: float = 5.0, **settings: Any) -> Reading:
    keys: dict[str, Any] = {"host": server.host, "port": server.port, **settings}
    return await run_probe(PROBES[kind], timeout_s=timeout_s, **keys)


class TestNtp:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    async def test_a_server_in_step_agrees_with_our_clock(self, host: str) -> None:
        with Chrony(host=host) as server:
            reading = await probe("ntp", server, max_offset="10ms", max_stratum=3, max_root_distance="1s")
            server.kill()
            gone = await probe("ntp", server)
        assert reading.fault is None, reading.detail
        assert abs(reading.values["offset_s"]) < 0.005  # the same clock: what is left is our own error
        assert reading.values["stratum_count"] == 3
        assert reading.values["leap_code"] == 0
        assert reading.values["delay_s"] < 0.01
        assert gone.fault is Fault.REFUSED

    async def test_a_server_that_has_no_time_yet_is_not_well(self) -> None:
        with Chrony(stratum=None) as server:
            reading = await probe("ntp", server)
        assert reading.fault is Fault.CONTENT
        assert reading.detail == "the server says that it is not synchronised (stratum 0)"
        assert reading.facts["leap"] == "not synchronised"


@pytest.fixture(scope="module")
def coturn(certificates: Certificates) -> Iterator[Coturn]:
    with Coturn(certificates.good) as server:
        yield server


@pytest.fixture
def turn_login(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "password"
    file.write_text(f"{Coturn.password}\n", encoding="utf-8")
    return {"turn": True, "username": Coturn.username, "password_file": str(file)}


class TestStun:
    async def test_a_binding_tells_our_address(self, coturn: Coturn) -> None:
        reading = await probe("stun", coturn, mapped_in=["127.0.0.0/8"])
        assert reading.fault is None, reading.detail
        assert reading.facts["mapped_ip"] == "127.0.0.1"
        assert reading.facts["software"].startswith("Coturn")
        assert reading.values["sent_count"] == 1

    @pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
    async def test_a_relay_is_given_and_taken_back(
        self, transport: str, coturn: Coturn, turn_login: dict[str, Any], certificates: Certificates
    ) -> None:
        keys = {"transport": transport, "ca_file": str(certificates.ca_file), **turn_login}
        if transport == "tls":
            keys["port"] = coturn.tls_port
        reading = await probe("stun", coturn, **keys)
        assert reading.fault is None, reading.detail
        assert reading.values["lifetime_s"] == 600
        assert reading.values["error_code"] == 0
        assert reading.facts["relayed_address"].startswith("127.0.0.1:")
        assert reading.facts["realm"] == Coturn.realm
        assert ("tls_version" in reading.facts) == (transport == "tls")

    async def test_a_wrong_password_is_refused_and_a_missing_one_named(
        self, coturn: Coturn, turn_login: dict[str, Any], tmp_path: Path
    ) -> None:
        wrong = tmp_path / "wrong"
        wrong.write_text("không phải\n", encoding="utf-8")
        refused = await probe("stun", coturn, **{**turn_login, "password_file": str(wrong)})
        lacking = await probe("stun", coturn, turn=True)
        assert refused.fault is Fault.CONTENT
        assert refused.detail == "login refused: 401 Unauthorized"
        assert lacking.detail == "the server wants a login: 401 Unauthorized"

    async def test_many_rounds_leave_no_relay_behind(
        self, certificates: Certificates, turn_login: dict[str, Any]
    ) -> None:
        began = time.monotonic()
        with Coturn(certificates.good, quota=1) as server:
            for _ in range(3):
                while (reading := await probe("stun", server, **turn_login)).fault is not None:
                    # coturn frees what was given back at its next tick of a second; it would keep the rest for 600.
                    assert reading.values["error_code"] == 486, reading.detail
                    assert time.monotonic() - began < 12
                    await asyncio.sleep(0.05)
            server.kill()
            gone = await probe("stun", server, **turn_login)
        assert gone.fault is Fault.REFUSED


@pytest.fixture(scope="module")
def kamailio(certificates: Certificates) -> Iterator[Kamailio]:
    with Kamailio(certificates.good) as server:
        yield server


class TestSip:
    @pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
    async def test_an_exchange_answers(self, transport: str, kamailio: Kamailio, certificates: Certificates) -> None:
        keys: dict[str, Any] = {"transport": transport, "ca_file": str(certificates.ca_file)}
        if transport == "tls":
            keys["port"] = kamailio.tls_port
        reading = await probe("sip", kamailio, methods=["INVITE", "BYE"], **keys)
        assert reading.fault is None, reading.detail
        assert reading.values["status_code"] == 200
        assert reading.values["sent_count"] == 1
        assert reading.facts["status"] == "200 OK"
        assert reading.facts["user_agent"] == Kamailio.agent
        assert reading.facts["allow"] == "INVITE, ACK, BYE, CANCEL, OPTIONS"
        assert ("tls_version" in reading.facts) == (transport == "tls")

    async def test_it_answers_over_ipv6(self, certificates: Certificates) -> None:
        with Kamailio(certificates.good, host="::1") as server:
            reading = await probe("sip", server)
            tcp = await probe("sip", server, transport="tcp")
            server.kill()
            gone = await probe("sip", server)
        assert reading.fault is None, reading.detail
        assert tcp.fault is None, tcp.detail
        assert gone.fault is Fault.REFUSED

    async def test_a_subscriber_that_is_not_found_is_good_only_when_listed(self, kamailio: Kamailio) -> None:
        uri = "sip:khong-co@tinh.example.vn"
        bad = await probe("sip", kamailio, uri=uri)
        good = await probe("sip", kamailio, uri=uri, codes=[404])
        assert (bad.fault, bad.detail) == (Fault.CONTENT, "status 404 Not Found, expected 200 to 299")
        assert good.fault is None

    async def test_an_answer_that_is_never_final_is_a_timeout_that_says_so(self, kamailio: Kamailio) -> None:
        reading = await probe("sip", kamailio, uri="sip:cho@tinh.example.vn", timeout_s=0.9)
        assert reading.fault is Fault.TIMEOUT
        assert reading.detail == "no final answer came, the last was 100 Trying"
        assert reading.values["provisional_count"] == 2
        assert reading.values["foreign_count"] == 0

    async def test_an_expired_certificate_is_told(self, certificates: Certificates) -> None:
        with Kamailio(certificates.expired) as server:
            keys: dict[str, Any] = {"port": server.tls_port, "transport": "tls", "ca_file": str(certificates.ca_file)}
            reading = await probe("sip", server, **keys)
        assert reading.fault is Fault.TLS
        assert reading.detail.startswith("certificate expired on ")


@pytest.fixture(scope="module")
def routed() -> Iterator[Network]:
    with Network() as net:
        net.router.sysctl(ipv4__icmp_ratelimit="0")  # Linux sends an ICMP error a second to one address
        yield net


@contextlib.contextmanager
def reflector(network: Network, folder: Path, *options: str) -> Iterator[Path]:
    """Run the command in the target's namespace; yields the file it writes to."""
    log = folder / "reflector.log"
    listen = [f"--listen={network.target.address4}:8620", f"--listen=[{network.target.address6}]:8620"]
    argv = [sys.executable, "-m", "thongsuot", "reflector", *listen, "--json", *options]
    with child_process(argv, log=log, namespace=network.target.namespace.name):
        wait_until(lambda: log.read_text().count("reflector: ") == 2, within_s=15, why=log.read_text())
        yield log


def quality(network: Network, host: str, **settings: Any) -> Reading:
    keys: dict[str, Any] = {"host": host, "port": 8620, "count": 100, "gap": "5ms", "wait": "200ms", **settings}
    return network.monitor.call(lambda: asyncio.run(run_probe(PROBES["stamp"], timeout_s=3.0, **keys)))


class TestStamp:
    def test_a_path_without_trouble(self, routed: Network, tmp_path: Path) -> None:
        target = routed.target
        with reflector(routed, tmp_path, "--synchronised") as log:
            for host in (target.address4, target.address6):
                reading = quality(routed, host, synchronised=True, dscp=46)
                assert reading.fault is None, reading.detail
                assert reading.values["loss_ratio"] == 0
                assert reading.values["forward_ttl_count"] == 63
                assert reading.values["mos_score"] > 4.2
                assert reading.facts["clocks"] == "in step"
                assert 0 < reading.values["forward_delay_min_s"] < reading.values["rtt_median_s"] < 0.05
        assert '{"answered": 200}' in log.read_text()

    def test_loss_is_counted_exactly_and_told_for_each_way(self, routed: Network, tmp_path: Path) -> None:
        try:
            with reflector(routed, tmp_path, "--count"):
                for direction in ("there", "back"):
                    side = "==" if direction == "there" else "!="
                    rule = f'iifname {side} "{routed.uplink.name}" udp length > 8 numgen inc mod 10 == 3'
                    before = routed.lost_packets()
                    routed.router.nft(
                        f"flush chain inet thongsuot loss\nadd rule inet thongsuot loss {rule} counter name lost drop"
                    )
                    reading = quality(routed, routed.target.address4, counts=True, max_loss=0.2)
                    values = reading.values
                    assert reading.fault is None, reading.detail
                    assert routed.lost_packets() - before == 10
                    assert values["sent_count"] - values["received_count"] == 10
                    assert values["loss_ratio"] == pytest.approx(0.1)
                    whose, other = ("forward", "backward") if direction == "there" else ("backward", "forward")
                    assert values[f"{whose}_loss_ratio"] == pytest.approx(0.1, abs=0.01)
                    assert values[f"{other}_loss_ratio"] == 0
                    assert values[f"{whose}_mos_score"] < values[f"{other}_mos_score"]
                    assert values["longest_loss_count"] == 1
        finally:
            routed.loss(0)

    def test_a_key_keeps_strangers_out(self, routed: Network, tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text("một khoá chung\n", encoding="utf-8")
        with reflector(routed, tmp_path, "--key-file", str(key)) as log:
            known = quality(routed, routed.target.address4, key_file=str(key), count=20)
            stranger = quality(routed, routed.target.address4, count=20)
        assert known.fault is None, known.detail
        assert stranger.fault is Fault.TIMEOUT
        assert '{"answered": 20, "no_test_packet": 20}' in log.read_text()


@pytest.mark.parametrize(("kind", "more"), [("ntp", {}), ("stun", {}), ("sip", {}), ("stamp", {"gap": "50ms"})])
def test_what_routers_and_closed_ports_say_is_attributed(routed: Network, kind: str, more: dict[str, Any]) -> None:
    def reading(host: str) -> Reading:
        return routed.monitor.call(lambda: asyncio.run(run_probe(PROBES[kind], timeout_s=3.0, host=host, **more)))

    target = routed.target.address4
    closed = reading(target)
    absent = reading("203.0.113.77")
    assert closed.fault is Fault.REFUSED, closed.detail
    assert absent.fault is Fault.UNREACHABLE, absent.detail
    assert absent.detail.startswith(f"{routed.uplink.gateway4} answered: Network is unreachable")
