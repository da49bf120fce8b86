"""Sessions resumed with a real nginx: until it has other keys, and then verified again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from probes import PROBES
from probes.base import Fault, Reading, Tools, measure
from tests.probes.web_servers import settings_of
from tests.servers import Certificates
from tests.system.servers import wait_until
from tests.system.servers_web import Nginx


def asker(tools: Tools, server: Nginx, certificates: Certificates) -> Callable[[], Reading]:
    """Return what runs a check of nginx's first page once more."""
    settings = settings_of("http", url=server.https_url(), ca_file=certificates.ca_file)

    def ask() -> Reading:
        return uvloop.run(measure(PROBES["http"], settings, timeout_s=5.0, tools=tools, check="portal.home"))

    return ask


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_an_exchanged_certificate_is_seen_as_soon_as_nginx_has_it(protocol: str, tmp_path: Path) -> None:
    certificates, tools = Certificates(tmp_path), Tools()
    with Nginx(certificates, tls_protocols=protocol) as server:
        ask = asker(tools, server, certificates)
        runs = [ask() for _ in range(4)]
        before = runs[0].facts["certificate_sha256"]
        other = certificates.issue("other")
        for new, old in zip((other.chain_file, other.key_file), _good(certificates), strict=True):
            shutil.copyfile(new, old)
        os.kill(server.pid, signal.SIGHUP)
        # The old worker may take connections for a moment still, and its sessions.
        after = wait_until(lambda: _unless(before, ask()), within_s=10.0, why="only the old certificate came")

    assert after is not None
    assert [run.facts["tls_handshake"] for run in runs] == ["full", "resumed", "resumed", "resumed"]
    assert {run.fault for run in (*runs, after)} == {None}
    assert {run.facts["tls_version"] for run in (*runs, after)} == {protocol}
    assert len({run.values["tls_not_after_timestamp_s"] for run in runs}) == 1
    assert after.facts["tls_handshake"] == "full"


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_another_server_in_its_place_is_verified_and_refused(protocol: str, tmp_path: Path) -> None:
    certificates, tools = Certificates(tmp_path), Tools()
    with Nginx(certificates, tls_protocols=protocol) as server:
        ask = asker(tools, server, certificates)
        assert [ask().facts["tls_handshake"] for _ in range(2)] == ["full", "resumed"]
        port = server.tls_ports["good"]
    impostor = Nginx(certificates, tls_protocols=protocol)
    impostor.tls_ports["unknown_ca"] = port
    with impostor:
        reading = ask()

    assert reading.fault is Fault.TLS
    assert reading.detail.startswith("issuer is not trusted")


def _good(certificates: Certificates) -> tuple[Path, Path]:
    return certificates.good.chain_file, certificates.good.key_file


def _unless(sha256: str, reading: Reading) -> Reading | None:
    return None if reading.facts["certificate_sha256"] == sha256 else reading
