"""The probes that speak UDP against real peers: chrony, coturn and sipp."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes import PROBES
from probes.base import Fault, Reading
from tests.probes.probing import run_probe
from tests.servers import Certificates
from tests.system.servers_udp import Chrony, Coturn


async def probe(kind: str, server: Chrony | Coturn, *, timeout_s: float = 5.0, **settings: Any) -> Reading:
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
