"""The probes that speak UDP against real peers: chrony, coturn and sipp."""

from __future__ import annotations

import pytest

from probes import PROBES
from probes.base import Fault, Reading
from tests.probes.probing import run_probe
from tests.system.servers_udp import Chrony


async def probe(kind: str, server: Chrony, *, timeout_s: float = 5.0, **settings: object) -> Reading:
    keys = {"host": server.host, "port": server.port, **settings}
    return await run_probe(PROBES[kind], timeout_s=timeout_s, **keys)  # type: ignore[arg-type]  # settings of any kind


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
