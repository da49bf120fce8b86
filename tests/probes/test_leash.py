"""Where a site may lead us: anywhere but home, unless it is at home itself or the configuration says so."""

from __future__ import annotations

import pytest

from probes.base import Fault, IpFamily, Measurement, ProbeError, Tools
from probes.http_url import parse_url
from probes.leash import Leash
from probes.tls_context import TlsSettings
from probes.web_browser import Bounds, Browser, Request
from tests.probes.web_servers import page, settings_of, site

OWN = ("192.0.2.7", 40000)


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ("127.0.0.1", "own host"), ("127.9.9.9", "own host"), ("::1", "own host"), ("::ffff:127.0.0.1", "own host"),
        ("192.0.2.7", "own host"), ("::ffff:192.0.2.7", "own host"), ("0.0.0.0", "own host"),
        ("169.254.169.254", "link-local"), ("fe80::1%eth0", "link-local"),
    ],
)  # fmt: skip
def test_a_site_out_in_the_world_leads_to_nothing_at_home(peer: str, place: str) -> None:
    leash = Leash(("portal.vn",))
    leash.check("portal.vn", ("198.51.100.1", 443), OWN)
    with pytest.raises(ProbeError, match=place) as caught:
        leash.check("evil.vn", (peer, 80), OWN)
    assert caught.value.fault is Fault.CONTENT


def test_it_leads_to_other_sites_and_into_the_network_of_the_house() -> None:
    leash = Leash(("portal.vn",))
    leash.check("portal.vn", ("198.51.100.1", 443), OWN)
    for peer in ("203.0.113.9", "10.1.2.3", "2001:db8::9"):
        leash.check("sso.vn", (peer, 443), OWN)


def test_what_is_at_home_or_named_may_be_at_home() -> None:
    leash = Leash(("portal.vn", "localhost"))
    leash.check("localhost", ("127.0.0.1", 80), ("127.0.0.1", 4))
    leash.check("other", ("127.0.0.2", 80), ("127.0.0.1", 5))


async def test_not_a_word_is_said_where_a_journey_may_not_go() -> None:
    async with site({"/": page("x")}) as web:
        start = parse_url("http://portal.vn/")
        named = frozenset({"portal.vn"})
        browser = Browser(TlsSettings(), start, Bounds(IpFamily.ANY, 1000, frozenset(), False, named))
        with pytest.raises(ProbeError, match=r"leads to 127\.0\.0\.1, which is the monitor's own host"):
            await browser.ask(Measurement(5.0, tools=Tools()), Request("GET", parse_url(web.url())))
    assert web.requests == []


def test_a_journey_names_the_hosts_of_its_steps_and_logins() -> None:
    steps = [{"get": "/"}, {"get": "https://b.vn/x"}]
    s = settings_of("web", url="https://a.vn/", steps=steps, login_hosts=["c.vn:8443"])
    assert s.named_hosts == {"a.vn", "b.vn", "c.vn"}  # type: ignore[attr-defined]
