"""Probes against what Debian ships: plugins of monitoring-plugins, nginx, snmpd, and a routed network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from probes import PROBES
from probes.base import Fault, Path, Reading, Tools
from tests.probes.probing import run_probe
from tests.servers import Certificates
from tests.system.namespaces import Network
from tests.system.servers_snmp import Snmpd
from tests.system.servers_web import Nginx

PLUGINS = "/usr/lib/nagios/plugins"


class TestExec:
    async def check(self, *words: str, path: Path | None = None) -> Reading:
        command = [f"{PLUGINS}/{words[0]}", *words[1:]]
        return await run_probe(PROBES["exec"], timeout_s=8.0, path=path, command=command)

    async def test_check_tcp_says_what_the_port_does(self, shared_nginx: Nginx) -> None:
        port = str(shared_nginx.port)
        reading = await self.check("check_tcp", "-H", shared_nginx.host, "-p", port)
        assert reading.fault is None, reading.detail
        assert reading.facts["output"].startswith("TCP OK - ")
        assert 0 < reading.values["perf_time_s"] < 2
        slow = await self.check("check_tcp", "-H", shared_nginx.host, "-p", port, "-w", "0.000001")
        assert slow.fault is None
        assert slow.warned
        assert slow.detail.startswith("TCP WARNING - ")
        gone = await self.check("check_tcp", "-H", shared_nginx.host, "-p", "1")
        assert gone.fault is Fault.CONTENT
        assert "refused" in gone.detail

    async def test_check_http_reads_pages_and_measures_them(self, shared_nginx: Nginx) -> None:
        base = ["check_http", "-I", shared_nginx.host, "-p", str(shared_nginx.port)]
        reading = await self.check(*base, "-u", "/", "-s", "Đăng nhập")
        assert reading.fault is None, reading.detail
        assert reading.facts["output"].startswith("HTTP OK: HTTP/1.1 200 OK")
        assert reading.values["perf_size_bytes"] > 200
        assert reading.values["perf_time_s"] < 2
        wrong = await self.check(*base, "-u", "/", "-s", "Trang bị sửa")
        assert wrong.fault is Fault.CONTENT
        broken = await self.check(*base, "-u", "/503")
        assert broken.fault is Fault.CONTENT
        assert "503" in broken.detail

    async def test_a_plugin_used_wrongly_measures_nothing(self) -> None:
        reading = await self.check("check_tcp", "--no-such-option")
        assert reading.fault is Fault.LOCAL
        assert reading.detail.startswith("the plugin could not tell: ")

    async def test_check_icmp_leaves_by_the_paths_source(self) -> None:
        path = Path("loop", "loopback", source="127.0.0.2")
        reading = await self.check("check_icmp", "-s", "$source$", "-n", "2", "-i", "10ms", "127.0.0.1", path=path)
        assert reading.fault is None, reading.detail
        assert reading.values["perf_pl_ratio"] == 0
        assert reading.values["perf_rta_s"] < 0.5


class TestThroughput:
    async def fetch(self, url: str, **more: object) -> Reading:
        return await run_probe(PROBES["throughput"], timeout_s=6.0, url=url, **more)  # type: ignore[arg-type]

    async def test_a_file_of_nginx_comes_whole_by_http_and_https(
        self, shared_nginx: Nginx, certificates: Certificates
    ) -> None:
        plain = await self.fetch(shared_nginx.url("/big.txt"), seconds="4s")
        assert plain.fault is None, plain.detail
        assert plain.values["content_bytes"] == 3 << 20
        assert plain.values["rate_bps"] > 10e6
        ca_file = str(certificates.ca_file)
        safe = await self.fetch(shared_nginx.https_url("/big.txt"), seconds="4s", ca_file=ca_file)
        assert safe.fault is None, safe.detail
        assert safe.values["content_bytes"] == 3 << 20
        assert 0 < safe.values["wire_bytes"] - (3 << 20) < 100_000
        assert safe.phases["tls"] > 0

    async def test_nginx_sends_no_more_than_was_asked_for(self, shared_nginx: Nginx) -> None:
        reading = await self.fetch(shared_nginx.url("/big.txt"), max_size="1MB")
        assert reading.values["status_code"] == 206
        assert reading.values["content_bytes"] == 1_000_000
        assert reading.values["wire_bytes"] < 1_001_000

    async def test_a_line_that_is_throttled_is_slow(self, shared_nginx: Nginx) -> None:
        slow = await self.fetch(shared_nginx.url("/slow.txt"), seconds="1s")
        assert slow.fault is Fault.TIMEOUT
        assert slow.detail.endswith(" bytes came within 1 s")


@pytest.fixture(scope="module")
def snmpd() -> Iterator[Snmpd]:
    with Snmpd() as server:
        yield server


@pytest.fixture
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("COMMUNITY", Snmpd.community),
        ("AUTH", Snmpd.auth_password),
        ("PRIV", Snmpd.priv_password),
        ("WRONG", "mat-khau-sai"),
    ):
        monkeypatch.setenv(name, value)


V2C: dict[str, Any] = {"community_env": "COMMUNITY"}
SIGNED: dict[str, Any] = {"version": "v3", "username": "signed", "auth": "sha256", "auth_password_env": "AUTH"}
SEALED: dict[str, Any] = {
    "version": "v3",
    "username": "sealed",
    "auth": "sha",
    "auth_password_env": "AUTH",
    "priv_password_env": "PRIV",
}


@pytest.mark.usefixtures("_secrets")
class TestSnmp:
    async def ask(
        self, server: Snmpd, *, tools: Tools | None = None, timeout_s: float = 4.0, **more: object
    ) -> Reading:
        keys = {"host": server.host, "port": server.port, **more}
        return await run_probe(PROBES["snmp"], timeout_s=timeout_s, tools=tools, **keys)  # type: ignore[arg-type]

    @pytest.mark.parametrize("login", [V2C, SIGNED, SEALED], ids=["v2c", "authNoPriv", "authPriv"])
    async def test_the_agent_and_its_loopback_answer(self, snmpd: Snmpd, login: dict[str, Any]) -> None:
        alone = await self.ask(snmpd, **login)
        assert alone.fault is None, alone.detail
        assert alone.facts["system"] == "bo-dinh-tuyen"
        assert 0 <= alone.values["uptime_s"] < 600
        loop = await self.ask(snmpd, **login, interface="lo")
        assert loop.fault is None, loop.detail
        assert loop.values["status_code"] == 1
        assert loop.values["in_total_bytes"] > 0
        assert loop.values["capacity_bps"] == 10e6  # what Linux's agent says of its loopback

    @pytest.mark.parametrize(
        ("login", "fault", "detail"),
        [
            ({"community_env": "WRONG"}, Fault.TIMEOUT, "no answer"),
            ({**SEALED, "auth_password_env": "WRONG"}, Fault.CONTENT, "the agent finds our authentication wrong"),
            ({**SEALED, "username": "nobody"}, Fault.CONTENT, "the agent does not know this user"),
            ({**SEALED, "auth": "sha512"}, Fault.CONTENT, "the agent finds our authentication wrong"),
            ({**SIGNED, "priv_password_env": "PRIV"}, Fault.CONTENT, "the agent does not grant this user"),
        ],
    )
    async def test_a_wrong_login_is_refused_in_words(
        self, snmpd: Snmpd, login: dict[str, Any], fault: Fault, detail: str
    ) -> None:
        reading = await self.ask(snmpd, timeout_s=1.0, **login)
        assert reading.fault is fault, reading.detail
        assert reading.detail.startswith(detail)

    async def test_a_wrong_privacy_password_is_a_fault(self, snmpd: Snmpd) -> None:
        reading = await self.ask(snmpd, timeout_s=1.0, **{**SEALED, "priv_password_env": "WRONG"})
        assert reading.fault in (Fault.CONTENT, Fault.TIMEOUT), reading.detail

    async def test_an_interface_that_is_not_there_is_said(self, snmpd: Snmpd) -> None:
        reading = await self.ask(snmpd, **V2C, interface="wan9")
        assert (reading.fault, reading.detail) == (Fault.CONTENT, "the agent has no interface wan9")

    def test_load_is_what_really_went_over_a_cable(self, network: Network) -> None:
        uplink = network.uplink

        async def both() -> tuple[Reading, Reading]:
            tools = Tools()
            keys: dict[str, Any] = {**SEALED, "interface": uplink.name, "capacity": 10_000_000}
            first = await self.ask(server, tools=tools, **keys)
            await asyncio.to_thread(send)
            await asyncio.sleep(3.5)  # snmpd looks at its interfaces every three seconds
            second = await self.ask(server, tools=tools, **keys)
            tools.close()
            return first, second

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(1000):
                    sock.sendto(bytes(1000), (uplink.gateway4, 9))

        with Snmpd(host=uplink.gateway4, namespace=network.router.name) as server:
            first, second = network.monitor.call(lambda: asyncio.run(both()))
        assert first.fault is None, first.detail
        assert "in_load_ratio" not in first.values
        assert second.fault is None, second.detail
        moved = second.values["in_total_bytes"] - first.values["in_total_bytes"]
        assert 1_042_000 <= moved < 1_100_000  # a thousand packets with their headers, and little else
        assert second.values["in_bps"] == pytest.approx(moved * 8 / second.values["period_s"], rel=0.01)
        assert second.values["in_load_ratio"] == pytest.approx(second.values["in_bps"] / 10e6)


def traced(network: Network, host: str, *, path: Path | None = None, **more: object) -> Reading:
    """Trace from the monitor's namespace."""
    keys = {"host": host, "max_hops": 8, "gap": "5ms", "wait": "300ms", **more}
    return network.monitor.call(
        lambda: asyncio.run(run_probe(PROBES["path"], timeout_s=3.0, path=path, **keys))  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def routed() -> Iterator[Network]:
    with Network(uplinks=("vnpt", "viettel"), places=("mail",)) as network:
        # Linux sends an ICMP error a second to one address; the tests are faster than that.
        network.router.sysctl(ipv4__icmp_ratelimit="0", ipv6__icmp__ratelimit="0")
        yield network


class TestPath:
    @pytest.mark.parametrize("uplink", ["vnpt", "viettel"])
    def test_the_way_leads_by_the_uplinks_router_to_the_host(self, routed: Network, uplink: str) -> None:
        wire, mail = routed.uplinks[uplink], routed.places["mail"]
        path = Path(uplink, uplink, interface=uplink)
        for host, gateway in ((mail.address4, wire.gateway4), (mail.address6, wire.gateway6)):
            reading = traced(routed, host, path=path, via=[gateway])
            assert reading.fault is None, reading.detail
            assert reading.facts["route"] == f"{gateway} {host}"
            assert reading.values["hops_count"] == 2
            assert reading.values["reached_code"] == 1
            assert 0 < reading.values["last_hop_rtt_s"] < 0.1
            assert traced(routed, host, path=path).facts["route_hash"] == reading.facts["route_hash"]
        wrong = traced(routed, mail.address4, path=path, via=["198.51.100.0/24"])
        assert wrong.fault is Fault.CONTENT

    def test_a_host_that_drops_everything_is_traced_as_far_as_it_goes(self, routed: Network) -> None:
        mail, gateway = routed.places["mail"], routed.uplink.gateway4
        routed.drop_host(mail.address4)
        try:
            reading = traced(routed, mail.address4)
            asked = traced(routed, mail.address4, must_arrive=False)
        finally:
            routed.allow_host(mail.address4)
        assert (reading.fault, reading.detail) == (Fault.TIMEOUT, f"nothing answers beyond {gateway} (hop 1)")
        assert reading.values["reached_code"] == 0
        assert reading.values["sent_count"] <= 16
        assert asked.fault is None

    def test_a_router_without_a_route_says_so(self, routed: Network) -> None:
        reading = traced(routed, "203.0.113.9")
        assert reading.fault is Fault.UNREACHABLE
        assert reading.detail.startswith(f"{routed.uplink.gateway4} answered: network unreachable")

    def test_lost_echoes_are_sent_again(self, routed: Network) -> None:
        routed.loss(40)
        try:
            readings = [traced(routed, routed.places["mail"].address4, tries=4, wait="100ms") for _ in range(3)]
        finally:
            routed.loss(0)
        assert any(reading.fault is None for reading in readings)
