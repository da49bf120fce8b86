"""The resolver against a real name server: unbound, with a zone of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.base import Fault, IpFamily
from tests.probes.resolving import Files, fault, resolver_of
from tests.system.servers_dns import Unbound

MANY = [f"many.tinh.example.vn. 60 IN A 192.0.2.{n}" for n in range(1, 201)]  # more than a datagram holds


async def test_names_are_found_as_unbound_has_them(tmp_path: Path) -> None:
    files = Files(tmp_path / "hosts", tmp_path / "resolv.conf").say(
        resolv_conf="nameserver 127.0.0.1\nsearch example.vn tinh.example.vn\n"
    )
    with Unbound(*MANY) as unbound, resolver_of(files, unbound.port) as resolver:
        assert set(await resolver.lookup("tinh.example.vn")) == {"192.0.2.10", "2001:db8::10"}
        assert await resolver.lookup("tinh.example.vn", IpFamily.IP6) == ("2001:db8::10",)
        assert await resolver.lookup("www.tinh.example.vn", IpFamily.IP4) == ("192.0.2.10",)
        assert set(await resolver.lookup("mail")) == {"127.0.0.1", "::1"}
        assert len(await resolver.lookup("many.tinh.example.vn", IpFamily.IP4)) == len(MANY)
        assert (await fault(resolver, "khong.tinh.example.vn"))[0] is Fault.NAME


@pytest.mark.parametrize(
    ("host", "why"),
    [("refused.example.vn.", "127.0.0.1 says REFUSED"), ("silent.example.vn.", "127.0.0.1 does not answer")],
)
async def test_what_unbound_does_not_answer_is_no_fault_of_the_name(host: str, why: str, tmp_path: Path) -> None:
    files = Files(tmp_path / "hosts", tmp_path / "resolv.conf").say(resolv_conf="nameserver 127.0.0.1\n")
    with Unbound() as unbound, resolver_of(files, unbound.port) as resolver:
        kind, detail = await fault(resolver, host)
    assert kind is Fault.LOCAL
    assert why in detail
