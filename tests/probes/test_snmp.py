from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes import snmp_ber as ber
from probes.base import Fault, Reading, Tools
from probes.snmp import PROBE, Settings
from probes.snmp_ber import BerError, Reader
from probes.snmp_counters import KEPT_LIMIT, TICKS, Flow, Look, Looks, flow
from probes.snmp_message import RESPONSE, encode_v2c, get, read_v2c
from probes.snmp_usm import Auth, Engine, User, encode_v3, localised_key, read_v3
from tests.probes.probing import cancelled_after, run_probe
from tests.servers import Address, datagram_server, refused_port

IF = "1.3.6.1.2.1.2.2.1"
IFX = "1.3.6.1.2.1.31.1.1.1"
COMMUNITY = "công khai"

NAMES = st.tuples(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**32 - 1), max_size=12)).map(
    lambda t: (t[0], t[1], *t[2])
)


def name_of(text: str) -> ber.Name:
    return tuple(map(int, text.split(".")))


@dataclass
class Agent:
    """A small agent with one interface, number 7; `change` between two runs is traffic."""

    ticks: int = 360_000
    octets_in: int = 1_000_000
    octets_out: int = 2_000_000
    status: int = 1
    bits: int = 64
    community: str = COMMUNITY
    edit: Callable[[bytes], bytes | None] = lambda wire: wire
    asked: list[int] = field(default_factory=list)

    def table(self) -> dict[ber.Name, bytes]:
        entries = {
            "1.3.6.1.2.1.1.3.0": ber.integer(self.ticks % TICKS, ber.TIME_TICKS),
            "1.3.6.1.2.1.1.5.0": ber.octets("bộ định tuyến".encode()),
            f"{IF}.2.3": ber.octets(b"lo"),
            f"{IF}.2.7": ber.octets(b"GigabitEthernet0/1"),
            f"{IF}.5.7": ber.integer(100_000_000, ber.GAUGE32),
            f"{IF}.8.7": ber.integer(self.status),
            f"{IF}.10.7": ber.integer(self.octets_in % 2**32, ber.COUNTER32),
            f"{IF}.14.7": ber.integer(5, ber.COUNTER32),
            f"{IF}.16.7": ber.integer(self.octets_out % 2**32, ber.COUNTER32),
            f"{IFX}.1.7": ber.octets(b"Gi0/1"),
            f"{IFX}.18.7": ber.octets("đường VNPT".encode()),
        }
        if self.bits == 64:
            entries |= {
                f"{IFX}.6.7": ber.integer(self.octets_in, ber.COUNTER64),
                f"{IFX}.10.7": ber.integer(self.octets_out, ber.COUNTER64),
                f"{IFX}.15.7": ber.integer(100, ber.GAUGE32),
            }
        return {name_of(text): value for text, value in entries.items()}

    def answer(self, wire: bytes) -> bytes | None:
        message = Reader(wire).inside()
        message.number()
        if message.expect(ber.OCTETS).decode() != self.community:
            return None
        kind, content = message.take()
        self.asked.append(kind)
        body = Reader(content)
        request, _, most = body.number(), body.number(), body.number()
        listed = body.inside()
        names = []
        while listed.more:
            names.append(listed.inside().value()[1])
        found = self._get(names) if kind == 0xA0 else self._bulk(names[0], most)
        return self.edit(response(request, self.community, found))

    def _get(self, names: list[Any]) -> list[tuple[ber.Name, bytes]]:
        table = self.table()
        return [(name, table.get(name, ber.tlv(0x81, b""))) for name in names]

    def _bulk(self, after: Any, most: int) -> list[tuple[ber.Name, bytes]]:
        return [pair for pair in sorted(self.table().items()) if pair[0] > after][:most]


def response(request: int, community: str, found: list[tuple[ber.Name, bytes]], *, error: int = 0) -> bytes:
    bindings = ber.sequence(*(ber.sequence(ber.oid(name), value) for name, value in found))
    pdu = ber.sequence(ber.integer(request), ber.integer(error), ber.integer(0), bindings, tag=RESPONSE)
    return ber.sequence(ber.integer(1), ber.octets(community.encode()), pdu)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMUNITY", COMMUNITY)


async def ask(server: Address, *, timeout_s: float = 2.0, tools: Tools | None = None, **more: object) -> Reading:
    keys = {"host": server.host, "port": server.port, "community_env": "COMMUNITY", **more}
    return await run_probe(PROBE, timeout_s=timeout_s, tools=tools, **keys)  # type: ignore[arg-type]


# Bytes


@given(st.integers(-(2**70), 2**70))
def test_numbers_take_the_fewest_bytes_and_come_back(number: int) -> None:
    wire = ber.integer(number)
    if -(2**63) <= number < 2**64:
        assert Reader(wire).number() == number
    content = wire[2:]
    assert len(content) == 1 or content[0] not in (0, 255) or content[0] >> 7 != content[1] >> 7


@given(NAMES)
def test_names_come_back(name: ber.Name) -> None:
    assert Reader(ber.oid(name)).value() == (ber.OID, name)


@given(st.integers(0, 2**64 - 1))
def test_counters_come_back_also_without_their_leading_zero(number: int) -> None:
    assert Reader(ber.integer(number, ber.COUNTER64)).value()[1] == number
    bare = number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")
    assert Reader(ber.tlv(ber.COUNTER64, bare)).value()[1] == number


@given(st.binary(max_size=100))
def test_random_bytes_are_a_response_or_no_ber(wire: bytes) -> None:
    user = User(b"u", Auth.SHA256, b"mat khau", b"mat khau")
    for read in (lambda: read_v2c(wire, b""), lambda: read_v3(wire, user)):
        with contextlib.suppress(BerError):
            read()


@given(st.data())
def test_a_damaged_response_is_a_response_or_no_ber(data: st.DataObject) -> None:
    whole = response(5, COMMUNITY, list(Agent().table().items()))
    at = data.draw(st.integers(0, len(whole) - 1))
    wire = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(BerError):
        for _, value in read_v2c(wire, COMMUNITY.encode()).bindings:
            assert value is None or isinstance(value, int | bytes | tuple)


def test_a_request_is_what_the_rfc_says() -> None:
    wire = encode_v2c(b"public", get(1, [name_of("1.3.6.1.2.1.1.3.0")]))
    assert wire.hex() == "302602010104067075626c6963a019020101020100020100300e300c06082b060102010103000500"


# Version 3


def test_keys_are_those_of_the_rfcs_example() -> None:
    engine = bytes(11) + b"\x02"  # RFC 3414 appendix A.3.2
    assert localised_key(Auth.SHA, b"maplesyrup", engine).hex() == "6695febc9288e36282235fc7151f128497b38f3f"


def answered(wire: bytes) -> bytes:
    """Turn a request into a response, which has another kind and is otherwise alike."""
    return wire.replace(b"\xa0", bytes((RESPONSE,)))


@pytest.mark.parametrize("auth", [a for a in Auth if a is not Auth.NONE])
def test_a_signed_and_encrypted_message_is_read_by_its_user_alone(auth: Auth) -> None:
    engine = Engine(b"\x80\0\0\0\1abc", 3, 77)
    user = User("cán bộ".encode(), auth, b"mat khau ky", b"mat khau kin")
    pdu = replace(get(9, [(1, 3, 6)]), kind=RESPONSE)
    wire = encode_v3(pdu, 4, user, engine, b"12345678")
    reply = read_v3(wire, user)
    assert (reply.ident, reply.engine, reply.pdu, reply.signed) == (4, engine, pdu, True)
    assert b"\x06\x02\x2b\x06" not in wire
    for other in (
        replace(user, auth_password=b"mat khau khac"),
        replace(user, priv_password=b"mat khau khac"),
        replace(user, priv_password=None),
        replace(user, name=b"khac"),
        User(user.name),
    ):
        with pytest.raises(BerError):
            read_v3(wire, other)
    for at in range(len(wire)):
        with pytest.raises(BerError):
            read_v3(wire[:at] + bytes((wire[at] ^ 1,)) + wire[at + 1 :], user)


def test_a_response_below_the_users_level_is_not_taken() -> None:
    engine = Engine(b"\x80\0\0\0\1abc", 3, 77)
    plain = User(b"u")
    pdu = replace(get(9, []), kind=RESPONSE)
    assert read_v3(encode_v3(pdu, 1, plain, engine, b""), plain).pdu == pdu
    with pytest.raises(BerError, match="below"):
        read_v3(encode_v3(pdu, 1, plain, engine, b""), User(b"u", Auth.SHA, b"mat khau"))


# Counters

BEFORE = Look(at_s=1000.0, ticks=50_000, bits=64, octets_in=10_000, octets_out=0, speed_bps=1e8)


def later(seconds: float, **more: Any) -> Look:
    return replace(BEFORE, at_s=1000.0 + seconds, ticks=(50_000 + round(seconds * 100)) % TICKS, **more)


def test_load_is_what_came_since_the_last_look_by_the_agents_clock() -> None:
    after = replace(later(10, octets_in=10_000 + 12_500_000, octets_out=125), at_s=1010.4)
    assert flow(BEFORE, after) == Flow(10.0, 10e6, 100.0, ())


@pytest.mark.parametrize("bits", [32, 64])
def test_a_counter_that_went_round_once_is_understood(bits: int) -> None:
    before = replace(BEFORE, bits=bits, octets_in=2**bits - 1000)
    found = flow(before, replace(later(10), bits=bits, octets_in=250))
    assert found is not None
    assert found.in_bps == 1250 * 8 / 10


def test_the_agents_clock_may_go_round() -> None:
    before = replace(BEFORE, ticks=TICKS - 500)
    found = flow(before, replace(later(10, octets_in=10_010), ticks=500))
    assert found is not None
    assert found.in_bps == 8


@pytest.mark.parametrize(
    "after",
    [
        replace(later(60, octets_in=5), ticks=300),  # the agent was restarted
        later(60, octets_in=5),  # its counters were, and 64 bits do not go round
        later(60, octets_in=20_000, discontinuity=1),
        later(60, octets_in=20_000, bits=32),
        later(400, octets_in=20_000, bits=32),
        later(0.5, octets_in=20_000),
    ],
)
def test_what_cannot_be_known_is_not_told(after: Look) -> None:
    assert flow(BEFORE, after) is None


def test_a_32_bit_counter_that_may_have_gone_round_twice_is_not_believed() -> None:
    before = replace(BEFORE, bits=32)
    assert flow(before, later(300, bits=32, octets_in=20_000)) is not None  # 100 Mbit/s go round in 343 s
    assert flow(before, later(350, bits=32, octets_in=20_000)) is None


@given(st.lists(st.tuples(st.floats(1, 600), st.integers(0, 10**9)), min_size=1, max_size=8), st.sampled_from([32, 64]))
def test_load_adds_up_to_the_traffic_across_wraps(steps: list[tuple[float, int]], bits: int) -> None:
    looks, total, at = Looks(), 2**bits - 5000, 0.0
    looks.put("k", Look(0.0, 0, bits, total % 2**bits, 0))
    for seconds, octets in steps:
        at, total = at + round(seconds, 2), total + octets
        found = looks.put("k", Look(at, round(at * 100) % TICKS, bits, total % 2**bits, 0))
        assert found is not None
        assert math.isclose(found.in_bps * found.seconds / 8, octets, abs_tol=1e-3)


def test_looks_too_close_together_are_left_out_and_the_number_kept_is_bounded() -> None:
    looks = Looks()
    looks.put("k", BEFORE)
    assert looks.put("k", later(0.5, octets_in=15_000)) is None
    found = looks.put("k", later(2, octets_in=20_000))
    assert found is not None
    assert found.in_bps == 10_000 * 8 / 2
    for n in range(KEPT_LIMIT + 10):
        looks.put(str(n), BEFORE)
    assert looks.put("k", later(2)) is None


# The probe


@pytest.mark.usefixtures("secret")
async def test_an_agent_says_its_name_and_how_long_it_is_up() -> None:
    async with datagram_server(Agent().answer) as server:
        reading = await ask(server)
    assert reading.fault is None, reading.detail
    assert reading.values == {"uptime_s": 3600, "sent_count": 1, "foreign_count": 0}
    assert reading.facts["system"] == "bộ định tuyến"


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("interface", [7, "Gi0/1", "GigabitEthernet0/1", "đường VNPT"])
@pytest.mark.parametrize("bits", [32, 64])
async def test_an_interface_is_found_and_the_second_run_tells_its_load(interface: str | int, bits: int) -> None:
    agent, tools = Agent(bits=bits), Tools()
    async with datagram_server(agent.answer) as server:
        first = await ask(server, tools=tools, interface=interface)
        asked = len(agent.asked)
        (key,) = tools.of(Looks)._last
        past = tools.of(Looks)._last[key]
        tools.of(Looks)._last[key] = replace(past, at_s=past.at_s - 30)  # half a minute ago
        agent.ticks, agent.octets_in, agent.octets_out = agent.ticks + 3000, 1_000_000 + 37_500_000, 2_000_000 + 375
        second = await ask(server, tools=tools, interface=interface, warn_load=0.09)
    tools.close()
    assert first.fault is None, first.detail
    assert not {"in_bps", "in_load_ratio"} & first.values.keys()
    assert first.values["capacity_bps"] == 1e8
    assert first.facts["interface"] == "Gi0/1"
    assert second.values["in_bps"] == 10e6
    assert second.values["in_load_ratio"] == pytest.approx(0.1)
    assert second.values["out_bps"] == 100
    assert second.values["in_errors_count"] == 0
    assert "in_discards_count" not in second.values
    assert second.warned
    assert second.detail == "interface Gi0/1 carries 10% of its capacity (in), expected at most 9%"
    assert len(agent.asked) == asked + 1  # the number is remembered


@pytest.mark.usefixtures("secret")
async def test_an_interface_that_is_down_or_not_there_is_a_content_fault() -> None:
    async with datagram_server(Agent(status=2).answer) as server:
        down = await ask(server, interface="Gi0/1", capacity=300_000_000)
        for wanted in ("Gi0/9", 9):
            gone = await ask(server, interface=wanted)
            assert gone.fault is Fault.CONTENT
            assert gone.detail.startswith("the agent has no interface ")
    assert (down.fault, down.detail) == (Fault.CONTENT, "interface Gi0/1 is down")
    assert down.values["status_code"] == 2
    assert down.values["capacity_bps"] == 3e8


@pytest.mark.usefixtures("secret")
async def test_an_agent_that_goes_round_in_its_table_does_not_hold_us() -> None:
    def again(wire: bytes) -> bytes | None:
        message = Reader(wire).inside()
        message.number()
        message.take()
        request = Reader(message.take()[1]).number()
        return response(request, COMMUNITY, [(name_of(f"{IFX}.1.3"), ber.octets(b"lo"))] * 3)

    async with datagram_server(again) as server:
        reading = await ask(server, interface="Gi0/1")
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "the agent has no interface Gi0/1")


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda wire: None, Fault.TIMEOUT),
        (lambda wire: b"\x30\x84\xff\xff\xff\xff", Fault.PROTOCOL),
        (lambda wire: wire[:-3], Fault.PROTOCOL),
        (lambda wire: wire.replace(COMMUNITY.encode(), b"x" * len(COMMUNITY.encode())), Fault.PROTOCOL),
        (lambda wire: response(1, COMMUNITY, []), Fault.PROTOCOL),
    ],
)
async def test_silence_and_rubbish_are_told_apart(edit: Callable[[bytes], bytes | None], fault: Fault) -> None:
    async with datagram_server(Agent(edit=edit).answer) as server:
        reading = await ask(server, timeout_s=0.3)
    assert reading.fault is fault, reading.detail
    assert reading.duration_s < 0.3


@pytest.mark.usefixtures("secret")
async def test_an_error_of_the_agents_is_said() -> None:
    def refuse(wire: bytes) -> bytes | None:
        message = Reader(wire).inside()
        message.number()
        message.take()
        return response(Reader(message.take()[1]).number(), COMMUNITY, [], error=16)

    async with datagram_server(refuse) as server:
        reading = await ask(server)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "the agent answered authorizationError")


@pytest.mark.usefixtures("secret")
async def test_refusal_silence_and_cancellation() -> None:
    with refused_port() as address:
        assert (await ask(address)).fault is Fault.REFUSED
    async with datagram_server(lambda _: None) as server:
        await cancelled_after(PROBE, 0.04, host=server.host, port=server.port, community_env="COMMUNITY")


async def test_without_its_secret_nothing_is_asked(tmp_path: Path) -> None:
    async with datagram_server(Agent().answer) as server:
        reading = await ask(server)
        assert reading.fault is Fault.LOCAL
        (tmp_path / "short").write_text("ngan\n")
        keys: dict[str, Any] = {"community_env": None, "version": "v3", "username": "u", "auth": "sha"}
        short = await ask(server, **keys, auth_password_file=str(tmp_path / "short"))
    assert (short.fault, short.detail) == (Fault.LOCAL, "a password of version 3 has at least 8 characters")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"community_env": "A", "community_file": "/a"},
        {"community_env": "A", "username": "u"},
        {"version": "v3"},
        {"version": "v3", "username": "u", "auth": "sha"},
        {"version": "v3", "username": "u", "auth_password_env": "A"},
        {"version": "v3", "username": "u", "priv_password_env": "A"},
        {"version": "v3", "username": "u", "community_env": "A"},
        {"community_env": "A", "warn_load": 0.5},
        {"community_env": "A", "capacity": 5},
        {"community_env": "A", "interface": "a", "warn_load": 90},
    ],
)
def test_settings_that_contradict_each_other_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate_json(json.dumps({"host": "a.vn", **keys}))
