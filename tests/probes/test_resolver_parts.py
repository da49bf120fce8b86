from __future__ import annotations

import dns.edns
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes import dns_message
from probes.address_order import ordered
from probes.dns_message import encode_query, parse, question
from probes.resolver_conf import SEARCHED, ResolvConf, parse_hosts, parse_resolv_conf
from probes.resolver_wire import Again, Alias, Failed, Found, Missing, NameServer
from probes.resolver_witness import NAMES, Witness
from tests.probes.dns_servers import only_protocol_faults

# Files


def test_hosts_are_read_with_aliases_comments_and_many_lines_for_a_name() -> None:
    text = """
127.0.0.1\tlocalhost  # this host
10.0.0.1  Mail.tinh.vn mail
fe80::1%eth0 router
10.0.0.2  mail
not-an-address x
10.0.0.3
"""
    assert parse_hosts(text) == {
        "localhost": ("127.0.0.1",),
        "mail.tinh.vn": ("10.0.0.1",),
        "mail": ("10.0.0.1", "10.0.0.2"),
        "router": ("fe80::1%eth0",),
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", ResolvConf()),
        ("nameserver", ResolvConf()),
        ("nameserver mot\nnameserver 10.0.0.1 # x", ResolvConf(servers=("10.0.0.1",))),
        ("nameserver fe80::1%eth0", ResolvConf(servers=("fe80::1%eth0",))),
        ("nameserver ::1\nnameserver ::2\nnameserver ::3\nnameserver ::4", ResolvConf(servers=("::1", "::2", "::3"))),
        ("search a.vn b.vn.\ndomain c.vn", ResolvConf(search=("c.vn",))),
        ("domain c.vn x\nsearch .", ResolvConf()),
        ("; options rotate\noptions ndots:2 timeout:3 attempts:4 x", ResolvConf(ndots=2, timeout_s=3.0, attempts=4)),
        ("options rotate", ResolvConf(rotate=True)),
        ("options ndots:99 timeout:99 attempts:99", ResolvConf(ndots=15, timeout_s=30.0, attempts=5)),
        ("options ndots:x timeout:0 attempts:-1 attempts:0", ResolvConf(timeout_s=1.0, attempts=1)),
    ],
)  # fmt: skip
def test_resolv_conf_is_read_as_its_manual_says(text: str, meant: ResolvConf) -> None:
    assert parse_resolv_conf(text) == meant


WORDS = st.sampled_from(
    ["nameserver", "search", "domain", "options", "10.0.0.1", "ndots:", "timeout:²", "#", ";", "\n"]
)


@given(st.lists(WORDS | st.text(max_size=12), max_size=60).map(" ".join))
@example("options timeout:" + "9" * 5000)
def test_any_text_is_read_as_something_within_bounds(text: str) -> None:
    conf = parse_resolv_conf(text)
    assert 1 <= len(conf.servers) <= 3
    assert len(conf.search) <= SEARCHED
    assert 0 <= conf.ndots <= 15
    assert 1 <= conf.timeout_s <= 30
    assert 1 <= conf.attempts <= 5
    assert all(parse_hosts(text).values())


# Answers

SERVER = NameServer("192.0.2.53")
ASKED = question("b.vn", "A")
QUERY = dns.message.from_wire(encode_query(7, ASKED, recursion=True))


def meaning(reply: dns.message.Message, *, edns: bool = True) -> object:
    answer = parse(reply.to_wire(), 7, ASKED)
    assert answer is not None
    return SERVER.read_datagram(ASKED, answer, edns=edns)


def test_answers_mean_what_they_say() -> None:
    reply = dns.message.make_response(QUERY)
    assert meaning(reply) == Missing(exists=True)
    reply.answer.append(dns.rrset.from_text("b.vn.", 60, "IN", "CNAME", "c.vn."))
    assert meaning(reply) == Alias("c.vn.", 60)
    reply.answer.append(dns.rrset.from_text("c.vn.", 30, "IN", "A", "192.0.2.1", "192.0.2.2"))
    found = meaning(reply)
    assert isinstance(found, Found)
    assert (set(found.ips), found.ttl_s) == ({"192.0.2.1", "192.0.2.2"}, 30)
    reply.answer.clear()
    reply.set_rcode(dns.rcode.FORMERR)
    assert meaning(reply) == Again(by_tcp=False)
    assert meaning(reply, edns=False) == Failed("192.0.2.53 says FORMERR")


def test_extended_errors_are_put_into_words() -> None:
    reply = dns.message.make_response(QUERY)
    reply.set_rcode(dns.rcode.SERVFAIL)
    codes = [dns.edns.EDECode.NETWORK_ERROR, dns.edns.EDECode.DNSSEC_BOGUS, dns.edns.EDECode.make(4321)]
    reply.use_edns(0, options=[dns.edns.EDEOption(code, "words") for code in codes])
    assert meaning(reply) == Failed(
        "192.0.2.53 says SERVFAIL (network error, dnssec bogus, extended error 4321)", servfail=True
    )


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """An answer with aliases, addresses and EDNS, some of its bytes changed."""
    reply = dns.message.make_response(QUERY)
    reply.answer.append(dns.rrset.from_text("b.vn.", 60, "IN", "CNAME", "c.vn."))
    reply.answer.append(dns.rrset.from_text("c.vn.", 60, "IN", "A", "192.0.2.1"))
    reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.NO_REACHABLE_AUTHORITY, "words")])
    wire = bytearray(reply.to_wire())
    for at, byte in draw(st.lists(st.tuples(st.integers(2, len(wire) - 1), st.integers(0, 255)), max_size=6)):
        wire[at] = byte
    return bytes(wire[: draw(st.integers(12, len(wire)))])


@given(spoiled(), st.booleans())
def test_spoiled_answers_are_an_outcome_or_a_protocol_fault(wire: bytes, edns: bool) -> None:
    with only_protocol_faults():
        answer = parse(wire, 7, ASKED)
        if answer is not None:
            outcome = SERVER.read_datagram(ASKED, answer, edns=edns)
            assert isinstance(outcome, Found | Missing | Alias | Failed | Again)


def test_the_question_of_a_query_is_the_one_asked() -> None:
    assert dns_message.question("b.vn", "A") == ASKED


# Order


def test_addresses_of_one_family_stay_as_the_server_gave_them() -> None:
    assert ordered(["192.0.2.2", "192.0.2.1"]) == ["192.0.2.2", "192.0.2.1"]


def test_loopback_of_ipv6_goes_before_that_of_ipv4() -> None:
    assert ordered(["127.0.0.1", "::1"]) == ["::1", "127.0.0.1"]


def test_an_address_without_a_route_or_interface_comes_last() -> None:
    assert ordered(["fe80::1%nowhere", "127.0.0.1"]) == ["127.0.0.1", "fe80::1%nowhere"]
    assert ordered(["2001:db8::1", "127.0.0.1"])[0] == "127.0.0.1"


# Witness


def test_a_counting_down_time_to_live_proves_nothing() -> None:
    witness = Witness()
    witness.answered("a.vn", 300, 0, authoritative=False)
    assert not witness.failed("x.vn", 10)
    for now_s in range(20, 300, 20):
        witness.answered("a.vn", 300 - now_s, now_s, authoritative=False)
        assert not witness.failed("x.vn", now_s)
    witness.answered("a.vn", 300, 301, authoritative=False)
    assert witness.failed("x.vn", 302)


def test_what_was_fetched_before_the_failure_proves_nothing() -> None:
    witness = Witness()
    witness.answered("a.vn", 300, 0, authoritative=False)
    assert not witness.failed("x.vn", 400)
    witness.answered("a.vn", 150, 401, authoritative=False)  # fetched 150 s ago
    assert not witness.failed("x.vn", 402)


def test_the_resolvers_own_data_proves_nothing() -> None:
    witness = Witness()
    for now_s in (0, 100, 200):
        witness.answered("local.vn", 60, now_s, authoritative=True)
        assert not witness.failed("x.vn", now_s + 1)


def test_a_name_that_was_found_again_begins_anew() -> None:
    witness = Witness()
    witness.failed("x.vn", 0)
    witness.answered("a.vn", 10, 1, authoritative=False)
    witness.answered("a.vn", 10, 20, authoritative=False)
    assert witness.failed("x.vn", 21)
    witness.answered("x.vn", 10, 22, authoritative=False)
    assert not witness.failed("x.vn", 40)


def test_a_witness_remembers_a_bounded_number_of_names() -> None:
    witness = Witness()
    for n in range(NAMES + 5):
        witness.failed(f"{n}.vn", n)
        witness.answered(f"h{n}.vn", 5, n, authoritative=False)
    assert len(witness._failing_since) <= NAMES
    assert len(witness._seen) <= NAMES
