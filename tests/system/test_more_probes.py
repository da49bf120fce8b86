"""Probes against what Debian ships: plugins of monitoring-plugins, nginx, snmpd, and a routed network."""

from __future__ import annotations

from probes import PROBES
from probes.base import Fault, Path, Reading
from tests.probes.probing import run_probe
from tests.servers import Certificates
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
