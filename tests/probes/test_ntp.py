from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import Fault, ProbeError, Reading
from probes.ntp import PROBE, Sample, encode_query, nonce_of, offset_trouble, parse
from probes.own_clock import Moment, clock_state, read_clocks, seconds_between, stamp_of, wall_ns_of, was_set
from tests.probes.probing import cancelled_after, open_sockets, run_probe
from tests.servers import Address, datagram_server, refused_port

YEAR_2027_NS = 1_800_000_000 * 10**9


def answer(
    query: bytes,
    *,
    ahead_s: float = 0.0,
    leap: int = 0,
    mode: int = 4,
    stratum: int = 2,
    source: bytes = bytes([192, 0, 2, 1]),
    dispersion_s: float = 0.01,
    held_s: float = 0.0,
    nonce: bytes | None = None,
) -> bytes:
    """Answer as a server whose clock is that much ahead of ours."""
    now = read_clocks().wall_ns + int(ahead_s * 1e9)
    head = struct.pack("!BBbb", leap << 6 | 4 << 3 | mode, stratum, 6, -20)
    roots = struct.pack("!II", int(0.02 * 65536), int(dispersion_s * 65536))
    stamps = struct.pack("!QQ", stamp_of(now), stamp_of(now + int(held_s * 1e9)))
    reference = struct.pack("!Q", stamp_of(now - 30 * 10**9))
    return head + roots + source + reference + (query[40:48] if nonce is None else nonce) + stamps


async def ask(server: Address, *, timeout_s: float = 3.0, **settings: Any) -> Reading:
    return await run_probe(PROBE, timeout_s=timeout_s, host=server.host, port=server.port, **settings)


@contextlib.contextmanager
def only_protocol_faults() -> Iterator[None]:
    try:
        yield
    except ProbeError as exc:
        if exc.fault is not Fault.PROTOCOL:
            raise


# Bytes


def test_a_query_says_nothing_of_us_but_a_number() -> None:
    query = encode_query(0x0102030405060708)
    assert query == b"\x23" + bytes(39) + bytes(range(1, 9))
    assert encode_query(0, version=3)[0] == 0x1B


@given(st.binary(max_size=120))
def test_random_bytes_are_an_answer_or_a_protocol_fault(wire: bytes) -> None:
    nonce_of(wire)
    with only_protocol_faults():
        found = parse(wire)
        assert found.kiss.isprintable()
        assert found.source.isprintable()
        assert isinstance(Sample(found, Moment(YEAR_2027_NS, 0), YEAR_2027_NS + 5).offset_s, float)


@given(st.integers(0, 2**64 - 1), st.integers(-(2**62), 2**62))
def test_stamps_are_told_apart_across_the_end_of_an_era(stamp: int, step: int) -> None:
    assert seconds_between(stamp, (stamp + step) % 2**64) == step / 2**32


def test_a_stamp_is_that_of_rfc_5905() -> None:
    assert stamp_of(0) >> 32 == 2_208_988_800
    assert stamp_of(1_500_000_000) & 0xFFFFFFFF == 1 << 31
    assert stamp_of(2_085_978_496 * 10**9) == 0  # 07/02/2036 06:28:16 UTC


@given(st.integers(0, 4_294_967_295 * 10**9))
def test_a_stamp_is_read_back_to_the_nanosecond(wall_ns: int) -> None:
    assert abs(wall_ns_of(stamp_of(wall_ns)) - wall_ns) <= 1


@given(st.floats(-1000, 1000), st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.5))
def test_the_offset_is_right_within_half_the_delay(
    ahead_s: float, there_s: float, back_s: float, held_s: float
) -> None:
    arrived_ns = YEAR_2027_NS + int((there_s + ahead_s) * 1e9)
    wire = bytearray(answer(encode_query(7)))
    wire[32:48] = struct.pack("!QQ", stamp_of(arrived_ns), stamp_of(arrived_ns + int(held_s * 1e9)))
    sample = Sample(parse(bytes(wire)), Moment(YEAR_2027_NS, 0), YEAR_2027_NS + int((there_s + held_s + back_s) * 1e9))
    assert sample.delay_s == pytest.approx(there_s + back_s, abs=1e-6)
    assert abs(sample.offset_s - ahead_s) <= sample.delay_s / 2 + 1e-6


def test_a_clock_that_was_set_is_noticed() -> None:
    now = read_clocks()
    assert not was_set(now)
    assert not was_set(now, Moment(now.wall_ns + 5_000_000_000, now.steady_ns + 5_000_000_100))
    assert was_set(now, Moment(now.wall_ns - 1_000_000_000, now.steady_ns + 1_000))
    assert clock_state().error_s >= 0


# Exchanges


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer_is_measured(host: str) -> None:
    async with datagram_server(answer, host=host) as server:
        reading = await ask(server, max_offset="100ms", max_stratum=2, max_root_distance="1s")
    assert (reading.fault, reading.detail) == (None, "")
    assert abs(reading.values["offset_s"]) < 0.05
    assert 0 <= reading.values["delay_s"] < 0.05
    assert reading.values["stratum_count"] == 2
    assert reading.values["root_delay_s"] == pytest.approx(0.02, abs=1e-4)
    assert reading.values["root_distance_s"] == pytest.approx(0.02, abs=0.03)
    assert reading.values["reference_age_s"] == pytest.approx(30, abs=0.01)
    assert reading.values["sent_count"] == 1
    assert reading.facts["reference"] == "192.0.2.1"
    assert reading.facts["leap"] == "none"
    assert reading.facts["address"] == host
    assert reading.facts["own_clock"] in ("synchronised", "not synchronised", "unknown")


@pytest.mark.parametrize(("ahead_s", "side"), [(12.5, "ahead of"), (-12.5, "behind")])
async def test_a_clock_that_is_off_is_a_content_fault(ahead_s: float, side: str) -> None:
    async with datagram_server(lambda query: answer(query, ahead_s=ahead_s)) as server:
        good = await ask(server)
        bad = await ask(server, max_offset="1s")
    assert good.fault is None
    assert good.values["offset_s"] == pytest.approx(ahead_s, abs=0.05)
    assert bad.fault is Fault.CONTENT
    assert f"the server's clock is 12.5 s {side} ours" in bad.detail
    assert "at most 1 s allowed" in bad.detail


def sample_of(*, ahead_s: float, there_s: float, back_s: float) -> Sample:
    """One exchange whose question and answer took that long on their ways."""
    wire = bytearray(answer(encode_query(7)))
    arrived = stamp_of(YEAR_2027_NS + int((there_s + ahead_s) * 1e9))
    wire[32:48] = struct.pack("!QQ", arrived, arrived)
    return Sample(parse(bytes(wire)), Moment(YEAR_2027_NS, 0), YEAR_2027_NS + int((there_s + back_s) * 1e9))


def test_an_offset_that_the_delay_may_explain_is_no_fault() -> None:
    one_sided = sample_of(ahead_s=0.0, there_s=0.4, back_s=0.0)
    assert one_sided.offset_s == pytest.approx(0.2)
    assert offset_trouble(one_sided, 0.1, own_clock="synchronised") == ""
    certain = sample_of(ahead_s=0.5, there_s=0.4, back_s=0.0)
    assert offset_trouble(certain, 0.4, own_clock="synchronised").startswith(
        "the server's clock is 0.7 s ahead of ours"
    )


def test_the_reason_says_when_our_own_clock_may_be_wrong() -> None:
    sample = sample_of(ahead_s=-9, there_s=0.0, back_s=0.0)
    words = "the server's clock is 9 s behind ours (±0 s), at most 1 s allowed"
    assert offset_trouble(sample, 1, own_clock="synchronised") == words
    assert offset_trouble(sample, 1, own_clock="unknown") == f"{words}; our own clock: unknown"


def leaps() -> list[tuple[str, Callable[[bytes], bytes], Fault, str]]:
    return [
        (
            "leap 3",
            lambda q: answer(q, leap=3),
            Fault.CONTENT,
            "the server says that it is not synchronised (stratum 2)",
        ),
        (
            "stratum 16",
            lambda q: answer(q, stratum=16),
            Fault.CONTENT,
            "the server says that it is not synchronised (stratum 16)",
        ),
        ("stratum", lambda q: answer(q, stratum=9), Fault.CONTENT, "stratum 9, at most 4 allowed"),
        (
            "kiss",
            lambda q: answer(q, leap=3, stratum=0, source=b"RATE"),
            Fault.CONTENT,
            "the server sends kiss-o'-death RATE: it is asked too often",
        ),
        (
            "own kiss",
            lambda q: answer(q, stratum=0, source=b"XYZ\n"),
            Fault.CONTENT,
            "the server sends kiss-o'-death XYZ?",
        ),
        ("no code", lambda q: answer(q, stratum=0, source=bytes(4)), Fault.CONTENT, "not synchronised (stratum 0)"),
        ("distance", lambda q: answer(q, dispersion_s=5), Fault.CONTENT, "its time may be wrong by 5.01 s"),
        ("mode", lambda q: answer(q, mode=5), Fault.PROTOCOL, "mode 5"),
        (
            "held too long",
            lambda q: answer(q, held_s=3),
            Fault.PROTOCOL,
            "the server says it kept the question 3 s",
        ),
        ("no time", lambda q: answer(q)[:40] + bytes(8), Fault.PROTOCOL, "the server's answer holds no time"),
    ]


@pytest.mark.parametrize(("name", "reply", "fault", "words"), leaps(), ids=[row[0] for row in leaps()])
async def test_what_is_not_well_is_named(name: str, reply: Callable[[bytes], bytes], fault: Fault, words: str) -> None:
    async with datagram_server(reply) as server:
        reading = await ask(server, max_stratum=4, max_root_distance="2s")
    assert reading.fault is fault, reading.detail
    assert words in reading.detail


async def test_a_server_with_a_clock_of_its_own_names_it() -> None:
    async with datagram_server(lambda query: answer(query, stratum=1, source=b"GPS\0")) as server:
        reading = await ask(server)
    assert reading.fault is None
    assert reading.facts["reference"] == "GPS"


@pytest.mark.parametrize("garbage", [b"x", bytes(48), bytes(4000)])
async def test_datagrams_that_answer_nothing_of_ours_are_counted_and_do_not_end_the_check(garbage: bytes) -> None:
    async with datagram_server(lambda _: garbage) as server:
        reading = await ask(server, timeout_s=0.3)
    assert reading.fault is Fault.PROTOCOL
    assert reading.values["foreign_count"] == 2
    assert reading.detail == "no answer to 2 queries, only 2 datagrams that do not answer our question"


async def test_a_forged_answer_with_another_number_is_not_believed() -> None:
    async with datagram_server(lambda query: answer(query, nonce=b"12345678")) as server:
        reading = await ask(server, timeout_s=0.3)
    assert reading.fault is Fault.PROTOCOL
    assert "offset_s" not in reading.values


async def test_silence_is_a_timeout() -> None:
    async with datagram_server(lambda _: None) as server:
        reading = await ask(server, timeout_s=0.4)
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail == f"no answer to 2 queries from 127.0.0.1 port {server.port}"
    assert reading.values["sent_count"] == 2


async def test_a_closed_port_is_refused_at_once() -> None:
    with refused_port() as address:
        reading = await ask(address)
    assert reading.fault is Fault.REFUSED
    assert reading.duration_s < 1


async def test_cancelling_leaves_no_socket_behind() -> None:
    async with datagram_server(lambda _: None) as server:
        before = open_sockets()
        await cancelled_after(PROBE, 0.05, host=server.host, port=server.port)
        assert open_sockets() == before
