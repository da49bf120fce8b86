"""A line is cut behind its second router: the incident holds where the way stops, and the next letter says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.plan import OutagePolicy, Plan, ServiceKind
from exporters.text_mail import compose
from monitor.model import Notice
from monitor.traced import Moment, RouteTrace
from monitor.tracing import LATER, Tracer
from probes.base import Tools
from tests.monitor.builders import MAIL, HostSettings, at, bad, check, good, plan, service
from tests.monitor.room import living
from tests.system.namespaces import Namespace, Network, command

pytestmark = pytest.mark.system

PING = "carrier-vnpt.ping"
FAR = "10.9.0.2"
FIRST_HOP, SECOND_HOP = "10.0.1.1", "10.1.1.2"
CUT = """table inet cut {
    chain forward { type filter hook forward priority 0; policy drop; }
}"""


@pytest.fixture
def network() -> Iterator[Network]:
    """monitor ── router ── isp ── far: three hops."""
    with Network(places=("isp",)) as network, contextlib.ExitStack() as stack:
        isp, far = network.target.namespace, Namespace(f"ts{os.getpid()}-far")
        command(["ip", "netns", "add", far.name])
        stack.callback(command, ["ip", "netns", "del", far.name])
        isp.ip(f"link add beyond type veth peer name eth0 netns {far.name}", "addr add 10.9.0.1/24 dev beyond")
        isp.ip("link set beyond up")
        far.ip(f"addr add {FAR}/24 dev eth0", "link set eth0 up", "route add default via 10.9.0.1")
        network.router.ip(f"route add 10.9.0.0/24 via {SECOND_HOP}")
        isp.sysctl(ipv4__ip_forward="1")
        for namespace in (network.router, isp, far):
            namespace.sysctl(ipv4__icmp_ratelimit="0")
        yield network


def province() -> Plan:
    ping = replace(check(PING, policy=OutagePolicy(bad_rounds=2)), settings=HostSettings(host=FAR))
    return plan(service("carrier-vnpt", ping, kind=ServiceKind.CARRIER, name="Mạng VNPT"), mail=MAIL)


async def incident(network: Network, folder: Path) -> tuple[list[RouteTrace], Notice]:
    """An incident from its begin to its end; another one before it has shown the way as it is when all is well."""
    isp, site = network.target.namespace, province()
    async with living(site, folder) as room:
        tools = Tools()
        tracer = Tracer(room.board, room.journal, tools)

        async def look(seconds: float) -> None:
            tracer.look(at(seconds))
            await tracer.finish()

        async def fail_and_recover(start: float, *, cut: bool) -> None:
            if cut:
                isp.nft(CUT)
            await room.feed(bad(PING, start), bad(PING, start + 5))
            await look(start + 6)
            await look(start + 10 + LATER.total_seconds())
            if cut:
                isp.nft("delete table inet cut")
            await room.feed(good(PING, start + 400), good(PING, start + 430))
            await look(start + 431)

        await room.feed(good(PING, 0))
        await fail_and_recover(30, cut=False)
        await fail_and_recover(1000, cut=True)
        tools.close()
        return room.board.traces[2], (await room.outbox())[-1].notice


def test_a_cut_behind_the_second_hop_is_kept_with_the_incident_and_told_with_its_next_word(
    network: Network, tmp_path: Path
) -> None:
    traces, notice = network.monitor.call(lambda: asyncio.run(incident(network, tmp_path)))

    assert [t.moment for t in traces] == [Moment.OPENED, Moment.LATER, Moment.RECOVERED]
    for cut in traces[:2]:
        assert not cut.reached
        assert cut.route[:2] == (FIRST_HOP, SECOND_HOP)
        assert (cut.last, cut.beyond, cut.turned) == ((2, SECOND_HOP), FAR, None)
    assert traces[2].route == (FIRST_HOP, SECOND_HOP, FAR)
    assert traces[2].reached
    letter = compose(notice, province().site, ("truc@example.vn",), None)
    assert f"dừng ở trạm thứ 2 ({SECOND_HOP})" in letter.text
    assert f"trạm kế tiếp là {FAR}, cả đường có 3 trạm" in letter.text
    assert f"1 {FIRST_HOP} " in letter.text
