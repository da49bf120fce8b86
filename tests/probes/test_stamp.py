from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import stamp_packet, voice
from probes.base import Fault, Reading
from probes.own_clock import ClockState, read_clocks, stamp_of
from probes.stamp import PROBE
from probes.stamp_packet import (
    PLAIN_BYTES,
    SIGNED_BYTES,
    TWAMP_LIGHT_BYTES,
    Reflected,
    Test,
    claimed_error_s,
    error_estimate,
    parse_reflected,
    parse_test,
)
from probes.stamp_round import Reply, Round, jitter, losses, quantile
from probes.voice import Codec, mos, rating
from tests.probes.probing import cancelled_after, open_sockets, run_probe
from tests.servers import Address, datagram_server, refused_port
from thongsuot.reflector import Rules, open_socket, reflecting

KEY = b"kho\xc3\xa1 chung"
QUICK: dict[str, Any] = {"count": 20, "gap": "5ms", "wait": "100ms"}
IN_STEP = error_estimate(ClockState(True, 0.001))


async def ask(server: Address, *, timeout_s: float = 3.0, **settings: Any) -> Reading:
    keys = {**QUICK, **settings}
    return await run_probe(PROBE, timeout_s=timeout_s, host=server.host, port=server.port, **keys)


@contextlib.asynccontextmanager
async def reflector(rules: Rules | None = None, *, host: str = "127.0.0.1") -> AsyncIterator[Address]:
    sock = open_socket(host, 0)
    address = Address(host, sock.getsockname()[1])
    with reflecting([sock], rules or Rules()):
        yield address


def back(
    wire: bytes, *, clock: int = IN_STEP, seq: int | None = None, held_s: float = 0.0, ahead_s: float = 0.0
) -> bytes:
    """Answer as a reflector of other make."""
    test = parse_test(wire)
    assert test is not None
    now = read_clocks().wall_ns + int(ahead_s * 1e9)
    at = now - int(held_s * 1e9)
    return Reflected(test.seq if seq is None else seq, now, clock, test.session, at, test, 63).encode(wire)


def only(lost: Callable[[int], bool], reply: Callable[[bytes], bytes]) -> Callable[[bytes], bytes | None]:
    """Lose some packets on the way there."""

    def answer(wire: bytes) -> bytes | None:
        test = parse_test(wire)
        assert test is not None
        return None if lost(test.seq) else reply(wire)

    return answer


# Bytes


@pytest.mark.parametrize("key", [b"", KEY])
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(112, 1500),
)
def test_a_test_packet_is_read_as_it_was_written(
    key: bytes, seq: int, stamp: int, clock: int, session: int, size: int
) -> None:
    test = Test(seq, stamp, clock, session)
    wire = test.encode(size, key)
    assert len(wire) == size
    assert parse_test(wire, key) == test
    assert parse_test(wire, b"another key") is None


@pytest.mark.parametrize("key", [b"", KEY])
@given(st.binary(max_size=200))
def test_random_bytes_are_packets_or_nothing(key: bytes, wire: bytes) -> None:
    for found in (parse_test(wire, key), parse_reflected(wire, key)):
        if found is not None:
            assert len(wire) >= (SIGNED_BYTES if key else TWAMP_LIGHT_BYTES)
            assert 0 <= claimed_error_s(found.clock) < 2**40
    reflected = parse_reflected(wire, key)
    if reflected is not None:
        assert isinstance(Reply(0, 0, 1, reflected).rtt_s, float)


@given(st.binary(min_size=TWAMP_LIGHT_BYTES, max_size=300))
def test_an_answer_is_exactly_as_long_as_its_question(wire: bytes) -> None:
    test = parse_test(wire)
    assert test is not None
    reply = Reflected(7, 0, IN_STEP, test.session, 1, test, 64).encode(wire)
    assert len(reply) == len(wire)
    assert reply[PLAIN_BYTES:] == wire[PLAIN_BYTES:]
    read = parse_reflected(reply)
    assert read is not None
    assert (read.seq, read.test.seq, read.test.stamp, read.test.clock) == (7, test.seq, test.stamp, test.clock)


def test_packets_are_laid_out_as_in_rfc_8762() -> None:
    wire = Test(1, 0x1122334455667788, 0x9901, 0xABCD).encode(60)
    assert wire.hex() == "00000001112233445566778899" + "01abcd" + "00" * 28 + "8001000c" + "00" * 12
    reply = Reflected(2, 0, 0x8001, 0xABCD, 0, Test(1, 0x1122334455667788, 0x9901), 255).encode(wire)
    epoch = stamp_of(0).to_bytes(8, "big").hex()
    assert reply[:44].hex() == f"00000002{epoch}8001abcd{epoch}0000000111223344556677889901" + "0000ff000000"
    signed = Test(1, 2, 3, 4).encode(112, KEY)
    assert signed[:96].hex() == "00000001" + "00" * 12 + "0000000000000002" + "0003" + "0004" + "00" * 68


def test_a_stamp_written_last_is_the_one_that_is_read() -> None:
    for key in (b"", KEY):
        wire = bytearray(Test(5, 0, IN_STEP, 6).encode(172, key))
        stamp = stamp_packet.stamp_in_place(wire, 1_800_000_000 * 10**9, key)
        assert parse_test(bytes(wire), key) == Test(5, stamp, IN_STEP, 6)


def test_times_of_ptp_are_read_too() -> None:
    ptp = 0x4001
    wire = bytearray(back(Test(0, 0, IN_STEP).encode(44), clock=ptp))
    wire[4:12] = struct.pack("!II", 1_800_000_000, 500_000_000)
    read = parse_reflected(bytes(wire))
    assert read is not None
    assert read.sent_ns == 1_800_000_000_500_000_000


@given(st.floats(0, 1000), st.booleans())
def test_an_error_estimate_claims_no_less_than_the_error(error_s: float, kept: bool) -> None:
    claimed = error_estimate(ClockState(kept, error_s))
    assert error_s <= claimed_error_s(claimed) <= max(error_s * 1.02, 1e-8)
    assert bool(claimed & 0x8000) is kept
    assert error_estimate(ClockState(kept, error_s), synchronised=True) & 0x8000


# Voice


def test_the_rating_without_trouble_is_that_of_the_recommendation() -> None:
    # G.107 clause 7.7: all parameters at their default values give R = 93.2, and Annex B a MOS of 4.41.
    assert rating(0, 0) == pytest.approx(93.2, abs=0.05)
    assert mos(93.2) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(
    ("r", "score"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1), (-20, 1), (120, 4.5)]
)
def test_scores_are_those_of_annex_b(r: float, score: float) -> None:
    assert mos(r) == pytest.approx(score, abs=0.01)


@given(st.floats(0, 5), st.floats(0, 1), st.sampled_from(list(Codec)), st.floats(1, 10))
def test_more_delay_and_more_loss_are_never_better(delay_s: float, loss: float, codec: Codec, burst: float) -> None:
    here = rating(delay_s, loss, codec=codec, burst_ratio=burst)
    # The echo terms of the recommendation waver by less than a hundredth at a delay of next to nothing.
    assert rating(delay_s + 0.05, loss, codec=codec, burst_ratio=burst) <= here + 0.01
    assert rating(delay_s, min(1.0, loss + 0.01), codec=codec, burst_ratio=burst) <= here
    assert 1 <= mos(here) <= 4.5


# Rounds


def taken(seqs: list[int], reflected: list[int] | None = None, sent: int = 10) -> Round:
    done = Round(sent=sent)
    for index, seq in enumerate(seqs):
        number = seq if reflected is None else reflected[index]
        done.take(Reply(seq, 0, 10_000_000, Reflected(number, 3, IN_STEP, 0, 2, Test(seq, 0, 0), 60)))
    return done


def test_loss_is_told_for_each_way_by_a_reflector_that_counts() -> None:
    # Lost there: 2 and 3 (the reflector goes on counting); lost back: the answers to 5 and 6.
    done = taken([0, 1, 4, 7, 8, 9], [0, 1, 2, 5, 6, 7])
    assert losses(done, counts=True) == (2 / 10, 2 / 8)
    assert losses(done, counts=False) == (2 / 10, 2 / 8)  # such numbers cannot be ours repeated
    assert done.loss_ratio == pytest.approx(0.4)
    assert done.longest_loss == 2


def test_loss_of_each_way_is_not_guessed() -> None:
    repeated = taken([0, 1, 4, 5])
    assert losses(repeated, counts=False) == (None, None)
    there, back_ = losses(repeated, counts=True)  # up to the last that came back
    assert there == 0
    assert back_ == pytest.approx(2 / 6)
    assert losses(taken(list(range(10))), counts=False) == (0.0, 0.0)
    assert losses(taken([]), counts=True) == (None, None)
    assert losses(taken([0, 1, 2], [700, 701, 702]), counts=True) == (None, None)  # does not count from 0


def test_duplicates_and_changed_order_are_counted() -> None:
    done = taken([0, 1, 3, 2, 4, 4, 4], [0, 1, 2, 3, 4, 4, 5])
    assert (done.duplicates, done.doubled_there, done.reordered) == (2, 1, 1)
    assert len(done.first) == 5


@given(st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_what_is_lost_on_each_way_is_counted_exactly(there: set[int], back_: set[int]) -> None:
    arrived = [seq for seq in range(20) if seq not in there]
    came = [(seq, number) for number, seq in enumerate(arrived) if seq not in back_]
    done = taken([seq for seq, _ in came], [number for _, number in came], sent=20)
    forward, backward = losses(done, counts=True)
    if not came:
        assert (forward, backward) == (None, None)
        return
    last = came[-1][0]
    upto = [seq for seq in arrived if seq <= last]
    assert forward == pytest.approx((last + 1 - len(upto)) / (last + 1))
    assert backward == pytest.approx((len(upto) - len(came)) / len(upto))


def test_runs_of_loss_are_told_from_chance() -> None:
    scattered = taken([0, 2, 4, 6, 8])
    bursty = taken([0, 1, 2, 3, 4])
    assert scattered.burst_ratio == 1.0
    assert bursty.burst_ratio == pytest.approx(2.5)
    assert (scattered.longest_loss, bursty.longest_loss) == (1, 5)


def test_variation_is_measured_between_packets_sent_one_after_the_other() -> None:
    assert jitter([0.010, 0.030, 0.015], [0, 1, 3]) == pytest.approx(0.020)
    assert jitter([0.010, 0.030], [0, 2]) is None
    assert quantile([float(n) for n in range(1, 101)], 0.95) == 95
    assert quantile([3.0], 0.95) == 3


# Against our own reflector


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("counts", [False, True])
async def test_a_good_path_is_measured(host: str, counts: bool) -> None:
    async with reflector(Rules(counts=counts), host=host) as server:
        reading = await ask(server, counts=counts, dscp=46, min_mos=4)
    assert (reading.fault, reading.detail) == (None, "")
    values = reading.values
    assert (values["sent_count"], values["received_count"], values["loss_ratio"]) == (20, 20, 0)
    assert 0 < values["rtt_min_s"] <= values["rtt_median_s"] <= values["rtt_max_s"] < 0.5
    assert len(reading.rtts_s) == 20
    assert values["mos_score"] > 4
    assert values["r_score"] > 80
    assert values["forward_loss_ratio"] == values["backward_loss_ratio"] == 0
    assert values["forward_ttl_count"] == 64
    assert values["pdv_s"] >= 0
    assert values["jitter_s"] >= 0
    assert reading.facts["clocks"] == "not stated to be in step"
    assert "forward_delay_min_s" not in values
    assert reading.duration_s < 1  # ends with the last answer, not with the wait


async def test_one_way_delays_are_told_where_both_ends_vouch_for_their_clocks() -> None:
    async with reflector(Rules(synchronised=True)) as server:
        told = await ask(server, synchronised=True)
    async with reflector(Rules(synchronised=False)) as server:
        refused = await ask(server, synchronised=True)
    values = told.values
    assert told.facts["clocks"] == "in step"
    assert 0 <= values["forward_delay_min_s"] <= values["forward_delay_median_s"]
    assert values["forward_delay_min_s"] + values["backward_delay_min_s"] <= values["rtt_max_s"]
    assert refused.fault is None
    assert refused.facts["clocks"] == "the reflector does not vouch for its clock"
    assert "forward_delay_min_s" not in refused.values


@pytest.mark.parametrize("ahead_s", [-5.0, 5.0])
async def test_clocks_that_differ_do_not_touch_the_round_trip_and_are_found_out(ahead_s: float) -> None:
    async with datagram_server(lambda wire: back(wire, ahead_s=ahead_s)) as server:
        reading = await ask(server, synchronised=True)
    assert reading.fault is None, reading.detail
    assert 0 < reading.values["rtt_median_s"] < 0.5
    assert reading.facts["clocks"] == "stated to be in step, but a one-way delay came out that cannot be"
    assert reading.values["forward_jitter_s"] < 0.5


async def test_with_a_key_only_who_knows_it_is_answered_and_believed(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_bytes(KEY + b"\n")
    wrong.write_text("khoá khác")
    async with reflector(Rules(key=KEY)) as server:
        good = await ask(server, key_file=str(right))
        bad = await ask(server, key_file=str(wrong))
        none = await ask(server)
    async with reflector() as server:  # answers all, and so cannot be the one we share a key with
        unsigned = await ask(server, key_file=str(right))
    assert good.fault is None, good.detail
    assert good.values["received_count"] == 20
    assert bad.fault is none.fault is Fault.TIMEOUT
    assert unsigned.fault is Fault.PROTOCOL
    assert KEY.decode() not in repr((good, bad, none, unsigned))


@contextlib.contextmanager
def reflecting_thread() -> Iterator[Address]:
    """Answer outside the loop under test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (wire := sock.recvfrom(2000))[0]:
                sock.sendto(back(wire[0]), wire[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield Address(*sock.getsockname())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
            ender.sendto(b"", sock.getsockname())
        thread.join()


async def test_a_busy_loop_of_ours_is_told_and_does_not_look_like_a_slow_path() -> None:
    with reflecting_thread() as server:
        round_ = asyncio.create_task(ask(server, gap="10ms"))
        for _ in range(4):
            await asyncio.sleep(0.015)
            time.sleep(0.04)  # noqa: ASYNC251  the very thing under test
        reading = await round_
    assert reading.fault is None
    assert reading.values["send_lateness_s"] > 0.02
    assert reading.values["rtt_median_s"] < 0.02
    assert reading.values["loss_ratio"] == 0


# Loss, strangers and other makes


async def test_loss_is_counted_exactly_and_told_for_each_way() -> None:
    counted = iter(range(1000))
    answer = only(lambda seq: seq % 5 == 1, lambda wire: back(wire, seq=next(counted)))
    async with datagram_server(answer) as server:
        reading = await ask(server, max_loss=0.5)
    values = reading.values
    assert reading.fault is None
    assert values["received_count"] == 16
    assert values["loss_ratio"] == pytest.approx(0.2)
    assert values["forward_loss_ratio"] == pytest.approx(0.2)
    assert values["backward_loss_ratio"] == 0
    assert values["longest_loss_count"] == 1
    assert values["forward_mos_score"] < values["backward_mos_score"]
    assert values["mos_score"] == values["forward_mos_score"]
    assert [rtt is None for rtt in reading.rtts_s] == [seq % 5 == 1 for seq in range(20)]


async def test_too_much_loss_and_too_low_a_score_are_faults() -> None:
    async with datagram_server(only(lambda seq: seq % 2 == 1, back)) as server:
        lossy = await ask(server, max_loss=0.4)
        poor = await ask(server, min_mos=3.5)
    assert (lossy.fault, lossy.detail) == (Fault.TIMEOUT, "10 of 20 packets lost, at most 40% allowed")
    assert poor.fault is Fault.CONTENT
    assert poor.detail.startswith("MOS ")
    assert "at least 3.5 wanted (loss 50.0%, round trip " in poor.detail
    assert "forward_loss_ratio" not in poor.values  # this reflector only repeats our numbers


async def test_the_reflectors_own_time_is_no_part_of_the_delay() -> None:
    # Seen from here the answer is there at once; that it claims to have been held for 1 ms must not go below nothing.
    async with datagram_server(lambda wire: back(wire, held_s=-0.0005)) as server:
        reading = await ask(server)
    assert reading.fault is None, reading.detail
    assert reading.values["rtt_min_s"] > 0.0005


async def test_times_that_cannot_be_are_a_protocol_fault() -> None:
    async with datagram_server(lambda wire: back(wire, held_s=30)) as server:
        reading = await ask(server)
    assert reading.fault is Fault.PROTOCOL
    assert reading.detail == "the reflector says it kept packets longer than they were away"


async def test_a_twamp_light_responder_is_understood() -> None:
    def answer(wire: bytes) -> bytes:
        whole = back(wire)
        return whole[:14] + bytes(2) + whole[16:TWAMP_LIGHT_BYTES]  # no session there, and no padding

    async with datagram_server(answer) as server:
        reading = await ask(server)
    assert reading.fault is None
    assert reading.values["received_count"] == 20


async def test_strangers_datagrams_are_counted_and_not_believed() -> None:
    def answer(wire: bytes) -> bytes:
        forged = bytearray(back(wire))
        forged[30] ^= 1  # not the stamp that we sent
        return bytes(forged)

    for reply in (answer, lambda _: b"x" * 200, lambda _: b""):
        async with datagram_server(reply) as server:
            reading = await ask(server)
        assert reading.values["received_count"] == 0
        assert reading.fault is (Fault.PROTOCOL if reading.values["foreign_count"] else Fault.TIMEOUT)
        assert reading.values["mos_score"] == voice.WORST_SCORE


async def test_silence_is_a_timeout_and_a_closed_port_is_refused_at_once() -> None:
    async with datagram_server(lambda _: None) as server:
        silent = await ask(server)
    with refused_port() as address:
        refused = await ask(address)
    assert (silent.fault, silent.detail) == (Fault.TIMEOUT, "none of 20 packets came back")
    assert silent.values["loss_ratio"] == 1
    assert refused.fault is Fault.REFUSED
    assert refused.values["sent_count"] < 20


async def test_a_timeout_too_short_for_the_round_is_our_own_trouble() -> None:
    async with datagram_server(back) as server:
        reading = await ask(server, timeout_s=0.1)
    assert reading.fault is Fault.LOCAL
    assert "the timeout is too short" in reading.detail


async def test_cancelling_leaves_no_socket_behind() -> None:
    async with datagram_server(lambda _: None) as server:
        before = open_sockets()
        await cancelled_after(PROBE, 0.03, host=server.host, port=server.port)
        assert open_sockets() == before


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"key_file": "/a", "key_env": "B"}, "not both"),
        ({"key_env": "B", "size": 100}, "at least 112 bytes"),
        ({"gap": "1ms"}, "greater than or equal to 0.005"),
        ({"min_mos": 5}, "less than or equal to 4.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PROBE.settings.model_validate_json(json.dumps({"host": "a.vn", **keys}))
