from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from probes.stamp_packet import Test, parse_reflected
from tests.probes.probing import open_sockets
from thongsuot.cli import app
from thongsuot.reflector import (
    REFWAIT_S,
    Limiter,
    Question,
    Reflector,
    Rules,
    Sessions,
    make_rules,
    open_socket,
    reflecting,
)

TEST = Test(3, 1 << 60, 0x8001, 77)


def question(wire: bytes | None = None, host: str = "192.0.2.9", port: int = 40000) -> Question:
    return Question(TEST.encode(172) if wire is None else wire, host, port, 1_800_000_000_000_000_000, 61)


def refused(rules: Rules, asked: Question, own_ports: tuple[int, ...] = ()) -> str:
    """Return why a packet gets no answer."""
    reflector = Reflector(rules, own_ports)
    assert reflector.accept(asked, 0.0) is None
    ((why, times),) = reflector.counts.items()
    assert times == 1
    return why


# Decisions


def test_a_stateless_reflector_repeats_the_number_and_a_stateful_one_counts() -> None:
    for counts, numbers in ((False, [3, 3]), (True, [0, 1])):
        reflector = Reflector(Rules(counts=counts))
        for number in numbers:
            wire = reflector.answer(question(), TEST, clock=0x8001, now_s=0.0)
            reply = parse_reflected(wire)
            assert reply is not None
            assert (reply.seq, reply.test.seq, reply.test.stamp, reply.test_ttl) == (number, 3, 1 << 60, 61)
            assert reply.session == 77
            assert reply.received_ns == 1_800_000_000_000_000_000


def test_each_sender_and_session_is_counted_by_itself_and_forgotten_after_a_while() -> None:
    sessions = Sessions(kept=2)
    assert [sessions.number("a", 0), sessions.number("a", 1), sessions.number("b", 1)] == [0, 1, 0]
    assert sessions.number("a", 1 + REFWAIT_S) == 2
    assert sessions.number("a", 3 + 2 * REFWAIT_S) == 0
    for name in "bcd":
        sessions.number(name, 4 + 2 * REFWAIT_S)
    assert sessions.number("a", 4 + 2 * REFWAIT_S) == 0  # two are kept, and it was not among the last


@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_no_answer_is_ever_longer_than_its_question(wire: bytes, counts: bool, keyed: bool) -> None:
    reflector = Reflector(Rules(counts=counts, key=b"k" if keyed else b""))
    asked = question(wire)
    test = reflector.accept(asked, 0.0)
    if test is None:
        assert reflector.counts == Counter(no_test_packet=1)
    else:
        assert len(reflector.answer(asked, test, clock=1, now_s=0.0)) == len(wire)


def test_what_comes_from_a_service_or_another_reflector_is_not_answered() -> None:
    assert refused(Rules(), question(port=53)) == "from_a_service"
    assert refused(Rules(), question(port=862)) == "from_a_service"
    assert refused(Rules(), question(port=8620), own_ports=(8620,)) == "from_a_service"


def test_only_allowed_networks_and_holders_of_the_key_are_answered() -> None:
    rules = Rules(allow=(ipaddress.ip_network("192.0.2.0/28"), ipaddress.ip_network("2001:db8::/32")))
    assert Reflector(rules).accept(question(), 0.0) is not None
    assert Reflector(rules).accept(question(host="2001:db8::7"), 0.0) is not None
    assert refused(rules, question(host="192.0.2.99")) == "not_allowed"
    assert refused(rules, question(host="fe80::1%eth0")) == "not_allowed"
    assert refused(Rules(key=b"k"), question()) == "no_test_packet"
    assert Reflector(Rules(key=b"k")).accept(question(TEST.encode(172, b"k")), 0.0) is not None


def test_too_many_packets_of_one_sender_get_no_answer_and_leave_room_for_others() -> None:
    reflector = Reflector(Rules(source_pps=10, total_pps=25))
    for _ in range(100):
        reflector.accept(question(), 0.0)
        reflector.accept(question(host="2001:db8::1"), 0.0)
        reflector.accept(question(host="2001:db8::2"), 0.0)  # of the same /64
    assert reflector.counts == Counter(answered=20, too_many=280)
    reflector.accept(question(), 0.5)
    assert reflector.counts["answered"] == 21
    many = Reflector(Rules(source_pps=10, total_pps=25))
    for number in range(100):
        many.accept(question(host=f"192.0.2.{number}"), 0.0)
    assert many.counts["answered"] == 25


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200), st.integers(1, 50))
def test_a_limit_is_never_passed_by_more_than_a_seconds_worth(pauses: list[float], per_second: int) -> None:
    limiter = Limiter(per_second)
    now_s, admitted = 0.0, 0
    for pause in pauses:
        now_s += pause
        admitted += limiter.admits("x", now_s)
    assert admitted <= per_second * (now_s + 1) + 1e-6


def test_memory_is_bounded_however_many_senders_there_are() -> None:
    limiter, sessions = Limiter(1, kept=10), Sessions(kept=10)
    for number in range(1000):
        limiter.admits(number, 0.0)
        sessions.number(number, 0.0)
    assert len(limiter._buckets) == len(sessions._counts) == 10


def test_rules_are_read_from_the_command_line(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("bí mật\nmore")
    rules = make_rules(["192.0.2.7/24"], key, True, 5, 6, None)
    assert rules == Rules((ipaddress.ip_network("192.0.2.0/24"),), "bí mật".encode(), True, 5, 6, None)
    key.write_text("\n")
    with pytest.raises(ValueError, match="first line is empty"):
        make_rules([], key, False, 1, 1, None)
    with pytest.raises(ValueError, match="does not appear"):
        make_rules(["x"], None, False, 1, 1, None)


# On the wire


async def test_answers_leave_from_the_address_that_was_asked_in_the_class_that_was_asked_in() -> None:
    listener = open_socket("0.0.0.0", 0)
    port = listener.getsockname()[1]
    loop = asyncio.get_running_loop()
    before = open_sockets()
    with reflecting([listener], Rules()) as reflector, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2 | 1)  # with a mark of congestion control
        sender.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
        sender.bind(("127.0.0.1", 0))
        arrived = asyncio.Event()
        loop.add_reader(sender, arrived.set)
        sender.sendto(TEST.encode(172), ("127.0.0.5", port))
        await asyncio.wait_for(arrived.wait(), 2)
        loop.remove_reader(sender)
        wire, notes, _, source = sender.recvmsg(2000, 100)
        assert reflector.counts == Counter(answered=1)
    assert source == ("127.0.0.5", port)
    assert len(wire) == 172
    reply = parse_reflected(wire)
    assert reply is not None
    assert reply.test_ttl == 64
    assert 0 < reply.held_ns < 1_000_000_000
    assert [data[0] for level, kind, data in notes if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS)] == [46 << 2]
    assert open_sockets() == before - 1


async def test_a_packet_longer_than_any_frame_is_not_answered_in_part() -> None:
    listener = open_socket("127.0.0.1", 0)
    with reflecting([listener], Rules()) as reflector, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.bind(("127.0.0.1", 0))
        sender.sendto(TEST.encode(20_000), listener.getsockname())
        sender.sendto(TEST.encode(9000), listener.getsockname())
        for _ in range(20):
            await asyncio.sleep(0.005)
            if reflector.counts:
                break
        assert len(sender.recv(30_000)) == 9000
        with pytest.raises(BlockingIOError):
            sender.recv(30_000)


# The command


async def test_the_command_answers_until_it_is_told_to_stop_and_says_what_it_did() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "thongsuot", "reflector", "--listen", f"127.0.0.1:{port}", "--count", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert (await process.stderr.readline()).decode() == f"reflector: 127.0.0.1:{port}\n"
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(("127.0.0.1", port))
        for number in range(3):
            await loop.sock_sendall(sender, TEST.encode(100))
            reply = parse_reflected(await asyncio.wait_for(loop.sock_recv(sender, 2000), 5))
            assert reply is not None
            assert reply.seq == number
        await loop.sock_sendall(sender, b"no test packet")
        await loop.sock_sendall(sender, TEST.encode(100))
        await asyncio.wait_for(loop.sock_recv(sender, 2000), 5)
    process.send_signal(signal.SIGTERM)
    assert json.loads(await process.stdout.read()) == {"answered": 4, "no_test_packet": 1}
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--listen", "nowhere"], 2, "expected HOST:PORT"),
        (["--allow", "300.1.1.1"], 2, "does not appear to be"),
        (["--listen", "192.0.2.1:862"], 70, "--listen 192.0.2.1:862"),
        (["--key-file", "/khong/co"], 70, "/khong/co"),
    ],
)
def test_wrong_use_is_told_with_its_exit_code(arguments: list[str], code: int, words: str) -> None:
    done = CliRunner().invoke(app, ["reflector", *arguments])
    assert done.exit_code == code
    assert words in done.output
