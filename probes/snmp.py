"""SNMP: does a router or switch answer, is an interface up, and how much of its capacity is in use?

Version 2c with a community, or version 3 with a user, signed (SHA) and encrypted (AES). An interface is found by its
name or number. Load is told from what its counters show since the last run, so the first run tells none; counters that
have gone round are understood, a restart of the agent is not taken for traffic. Only reads.

Source: RFC 3416 (operations), RFC 3411 to 3414 (version 3), RFC 2863 (interfaces), RFC 3418 (the system).
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Final

from pydantic import Field, model_validator

from probes.base import (
    Fault,
    Host,
    IpFamily,
    Measurement,
    Port,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Value,
    read_secret,
)
from probes.datagram import Ask, exchange, open_datagram, time_left
from probes.net import Address, resolve
from probes.snmp_ber import BerError, Name, dotted
from probes.snmp_ber import Value as BerValue
from probes.snmp_counters import Look, Looks
from probes.snmp_message import REPORT, Pdu, encode_v2c, get, get_bulk, read_v2c
from probes.snmp_usm import (
    NOT_IN_TIME,
    REPORTS,
    Auth,
    Engine,
    Reply,
    User,
    encode_discovery,
    encode_v3,
    read_v3,
)

INTERFACES_LIMIT: Final = 5000  # names looked through for one interface
BULK: Final = 40  # names fetched at once; chosen: fits one packet
TRIES: Final = 2

_SYSTEM: Final = (1, 3, 6, 1, 2, 1, 1)
_UPTIME: Final = (*_SYSTEM, 3, 0)
_NAME: Final = (*_SYSTEM, 5, 0)
_IF: Final = (1, 3, 6, 1, 2, 1, 2, 2, 1)  # ifEntry
_IFX: Final = (1, 3, 6, 1, 2, 1, 31, 1, 1, 1)  # ifXEntry
_IF_DESCR: Final = (*_IF, 2)
_IF_NAME: Final = (*_IFX, 1)
_IF_ALIAS: Final = (*_IFX, 18)
_COLUMNS: Final[dict[str, Name]] = {
    "descr": _IF_DESCR,
    "name": _IF_NAME,
    "speed": (*_IF, 5),
    "status": (*_IF, 8),
    "in32": (*_IF, 10),
    "in_discards": (*_IF, 13),
    "in_errors": (*_IF, 14),
    "out32": (*_IF, 16),
    "out_discards": (*_IF, 19),
    "out_errors": (*_IF, 20),
    "in64": (*_IFX, 6),
    "out64": (*_IFX, 10),
    "high_speed": (*_IFX, 15),
    "alias": _IF_ALIAS,
    "discontinuity": (*_IFX, 19),
}
_TROUBLES: Final = ("in_errors", "out_errors", "in_discards", "out_discards")
_GOOD: Final = (1, 4, 5)  # an agent that cannot tell is no reason to call an interface down
# RFC 2863: ifOperStatus
_STATUS: Final = {
    1: "up", 2: "down", 3: "testing", 4: "unknown", 5: "dormant", 6: "not present", 7: "down: a layer below it is",
}  # fmt: skip


class Version(StrEnum):
    """Versions of SNMP."""

    V2C = "v2c"
    V3 = "v3"


class Settings(ProbeSettings):
    """What an SNMP check needs."""

    host: Host = Field(description="Router, switch or server: name or address")
    port: Port = Field(default=161, description="Port")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    version: Version = Field(default=Version.V2C, description="Version: v2c or v3")
    community_file: FilePath | None = Field(default=None, description="v2c: file whose first line is the community")
    community_env: str | None = Field(default=None, description="v2c: environment variable that holds the community")
    username: str | None = Field(default=None, min_length=1, max_length=32, description="v3: name of the user")
    auth: Auth = Field(default=Auth.NONE, description="v3: how messages are signed")
    auth_password_file: FilePath | None = Field(default=None, description="v3: file with the password for signing")
    auth_password_env: str | None = Field(default=None, description="v3: environment variable with that password")
    priv_password_file: FilePath | None = Field(
        default=None, description="v3: file with the password for encryption by AES; without it nothing is encrypted"
    )
    priv_password_env: str | None = Field(default=None, description="v3: environment variable with that password")
    interface: str | int | None = Field(
        default=None, description="Interface by name, description or alias, or its number; none: the agent alone"
    )
    capacity: int | None = Field(
        default=None, gt=0, description="Bits a second that the line really carries; by default what the agent says"
    )
    warn_load: float | None = Field(
        default=None, gt=0, le=1, description="Share of the capacity above which the check counts as degraded"
    )

    @model_validator(mode="after")
    def _login_fits_the_version(self) -> Settings:
        community = _sources(self.community_file, self.community_env)
        auth = _sources(self.auth_password_file, self.auth_password_env)
        priv = _sources(self.priv_password_file, self.priv_password_env)
        if max(community, auth, priv) > 1:
            raise ValueError("give each secret as a file or as an environment variable, not both")
        if self.version == Version.V2C:
            if not community or self.username is not None or auth or priv or self.auth != Auth.NONE:
                raise ValueError("version v2c takes community_file or community_env, and nothing of version 3")
            return self
        if self.username is None or community:
            raise ValueError("version v3 takes a username, and no community")
        if bool(auth) != (self.auth != Auth.NONE):
            raise ValueError("auth and one of auth_password_file, auth_password_env go together")
        if priv and not auth:
            raise ValueError("version 3 does not encrypt what it does not sign: give auth and its password")
        return self

    @model_validator(mode="after")
    def _load_has_an_interface(self) -> Settings:
        if self.interface is None and (self.capacity is not None or self.warn_load is not None):
            raise ValueError("capacity and warn_load need an interface")
        return self


def _sources(file: FilePath | None, env: str | None) -> int:
    return (file is not None) + (env is not None)


async def run(settings: Settings, m: Measurement) -> None:
    """Ask the agent, and for an interface tell its load.

    Raises:
        ProbeError: TIMEOUT without an answer (also for a wrong community); PROTOCOL when only rubbish came; CONTENT
            when the agent refuses, has no such interface, or the interface is down; LOCAL without the secrets.
        OSError: the host refused.
    """
    began = time.perf_counter()
    talk = await _talk(settings)
    address = (await resolve(m, settings.host, settings.port, settings.family))[0]
    m.fact("address", address.ip)
    with open_datagram(m, address) as sock, m.phase("processing"):
        session = _Session(m, sock, address, talk, began)
        if isinstance(talk, _V3):
            await talk.discover(session)
        if settings.interface is None:
            _note_system(m, await session.get([_UPTIME, _NAME]))
            return
        looks = m.tools.of(Looks)
        key = f"{settings.host} {settings.port} {m.path.id if m.path else ''} {settings.interface}"
        found = await _interface(session, settings.interface, looks, key)
    _note_system(m, found)
    _report(settings, m, found, looks, key)


class _Session:
    """Questions to one agent, one after the other, within the time of the run."""

    def __init__(self, m: Measurement, sock: socket.socket, address: Address, talk: _Talk, began: float) -> None:
        self._m = m
        self._sock = sock
        self._address = address
        self._talk = talk
        self._began = began

    async def ask(self, write: Callable[[], bytes], read: Callable[[bytes], Reply | None]) -> Reply:
        """Send a message until it is answered; what cannot be read is counted and passed over."""

        def understood(wire: bytes, _: int) -> Reply | None:
            try:
                return read(wire)
            except BerError:
                return None

        left_s = max(0.0, time_left(self._m, self._began))
        question = Ask(write, understood, [left_s / TRIES] * TRIES)
        return await exchange(self._m, self._sock, self._address, question)

    async def request(self, pdu: Pdu) -> Pdu:
        """Send a request and return its response.

        Raises:
            ProbeError: CONTENT when the agent answers with an error.
        """
        answer = await self._talk.request(self, pdu)
        if answer.error:
            raise ProbeError(Fault.CONTENT, f"the agent answered {answer.error}")
        return answer

    async def get(self, names: Sequence[Name]) -> dict[Name, BerValue]:
        """Return the values of these names; of those that do not exist, None."""
        answer = await self.request(get(secrets.randbits(31), names))
        return dict(answer.bindings)

    async def column(self, column: Name, wanted: str) -> int | None:
        """Return the row of a table whose text in this column is the wanted one."""
        after, seen = column, 0
        while seen < INTERFACES_LIMIT:
            answer = await self.request(get_bulk(secrets.randbits(31), after, BULK))
            for name, value in answer.bindings:
                if name[: len(column)] != column or value is None or name <= after:
                    return None  # beyond the column, or an agent that goes round in it
                if _text(value) == wanted and len(name) == len(column) + 1:
                    return name[-1]
                after = name
                seen += 1
            if not answer.bindings:
                return None
        return None


class _V2c:
    """Version 2c."""

    def __init__(self, community: bytes) -> None:
        self._community = community

    async def request(self, session: _Session, pdu: Pdu) -> Pdu:
        """Send a request and return its response."""

        def read(wire: bytes) -> Reply | None:
            answer = read_v2c(wire, self._community)
            return Reply(0, Engine(), answer, signed=False) if answer.request == pdu.request else None

        return (await session.ask(lambda: encode_v2c(self._community, pdu), read)).pdu


class _V3:
    """Version 3: one engine, found by asking."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._engine = Engine()
        self._asked = 0.0  # when the engine said its time

    async def discover(self, session: _Session) -> None:
        """Learn the agent's engine and its time."""
        ident = secrets.randbits(31)
        nobody = User(b"")

        def read(wire: bytes) -> Reply | None:
            reply = read_v3(wire, nobody)
            return reply if reply.ident == ident and reply.pdu.kind == REPORT else None

        found = await session.ask(lambda: encode_discovery(get(ident, ()), ident), read)
        self._take(found.engine)

    def _take(self, engine: Engine) -> None:
        self._engine, self._asked = engine, time.perf_counter()

    async def request(self, session: _Session, pdu: Pdu) -> Pdu:
        """Send a request and return its response; once more when only the time was wrong.

        Raises:
            ProbeError: CONTENT when the agent reports why it does not answer.
        """
        reply = await self._once(session, pdu)
        if reply.pdu.kind == REPORT and reply.signed and _reported(reply.pdu) == NOT_IN_TIME:
            self._take(reply.engine)
            reply = await self._once(session, pdu)
        if reply.pdu.kind == REPORT:
            name = _reported(reply.pdu)
            raise ProbeError(Fault.CONTENT, REPORTS.get(name, f"the agent reports {dotted(name) or 'nothing'}"))
        return reply.pdu

    async def _once(self, session: _Session, pdu: Pdu) -> Reply:
        ident = secrets.randbits(31)
        engine = Engine(self._engine.id, self._engine.boots, self._engine.time + int(time.perf_counter() - self._asked))

        def read(wire: bytes) -> Reply | None:
            reply = read_v3(wire, self._user)
            if reply.ident != ident or reply.engine.id != engine.id:
                return None
            return reply if reply.pdu.kind == REPORT or reply.pdu.request == pdu.request else None

        return await session.ask(lambda: encode_v3(pdu, ident, self._user, engine, secrets.token_bytes(8)), read)


_Talk = _V2c | _V3


def _reported(pdu: Pdu) -> Name:
    name = pdu.bindings[0][0] if pdu.bindings else ()
    return name[:-1] if name and name[-1] == 0 else name


async def _talk(settings: Settings) -> _Talk:
    """Read the secrets.

    Raises:
        ProbeError: LOCAL when one cannot be had, or is too short for version 3.
    """
    if settings.version == Version.V2C:
        secret = await read_secret(settings.community_file, settings.community_env)
        return _V2c(secret.get_secret_value().encode())
    assert settings.username is not None
    auth = priv = None
    if settings.auth != Auth.NONE:
        auth = await _password(settings.auth_password_file, settings.auth_password_env)
    if _sources(settings.priv_password_file, settings.priv_password_env):
        priv = await _password(settings.priv_password_file, settings.priv_password_env)
    return _V3(User(settings.username.encode(), settings.auth, auth, priv))


async def _password(file: FilePath | None, env: str | None) -> bytes:
    password = (await read_secret(file, env)).get_secret_value().encode()
    if len(password) < 8:  # RFC 3414 section 11.2
        raise ProbeError(Fault.LOCAL, "a password of version 3 has at least 8 characters")
    return password


async def _interface(session: _Session, wanted: str | int, looks: Looks, key: str) -> dict[Name, BerValue]:
    """Return all columns of an interface, under names without its number, beside the system's own.

    Raises:
        ProbeError: CONTENT when there is no such interface.
    """
    index = wanted if isinstance(wanted, int) else looks.indexes.get(key)
    if index is not None:
        row = await _row(session, index)
        if row is not None and (isinstance(wanted, int) or wanted in _names(row)):
            return row
        if isinstance(wanted, int):
            raise ProbeError(Fault.CONTENT, f"the agent has no interface number {wanted}")
    for column in (_IF_NAME, _IF_DESCR, _IF_ALIAS):  # numbers may change at a restart, names do not
        index = await session.column(column, str(wanted))
        row = await _row(session, index) if index is not None else None
        if row is not None and index is not None:
            looks.indexes[key] = index
            return row
    raise ProbeError(Fault.CONTENT, f"the agent has no interface {wanted}")


async def _row(session: _Session, index: int) -> dict[Name, BerValue] | None:
    found = await session.get([_UPTIME, _NAME, *((*column, index) for column in _COLUMNS.values())])
    row = {(name[:-1] if name[:-1] in _COLUMNS.values() else name): value for name, value in found.items()}
    return row if row.get(_COLUMNS["status"]) is not None else None


def _names(row: dict[Name, BerValue]) -> set[str]:
    return {_text(row.get(column)) for column in (_IF_NAME, _IF_DESCR, _IF_ALIAS)}


def _text(value: BerValue) -> str:
    return value.decode("utf-8", "replace").rstrip("\0") if isinstance(value, bytes) else ""


def _number(row: dict[Name, BerValue], column: str) -> int | None:
    value = row.get(_COLUMNS[column])
    return value if isinstance(value, int) else None


def _note_system(m: Measurement, found: dict[Name, BerValue]) -> None:
    uptime = found.get(_UPTIME)
    if not isinstance(uptime, int):
        raise ProbeError(Fault.CONTENT, "the agent does not say how long it has been up (sysUpTime)")
    m.values["uptime_s"] = uptime / 100
    if name := _text(found.get(_NAME)):
        m.fact("system", name)


@dataclass(frozen=True, slots=True)
class _Counters:
    bits: int
    octets_in: int
    octets_out: int


def _counters(row: dict[Name, BerValue]) -> _Counters | None:
    for bits in (64, 32):
        came, went = _number(row, f"in{bits}"), _number(row, f"out{bits}")
        if came is not None and went is not None:
            return _Counters(bits, came, went)
    return None


def _capacity_bps(settings: Settings, row: dict[Name, BerValue]) -> float | None:
    if settings.capacity is not None:
        return float(settings.capacity)
    if high := _number(row, "high_speed"):
        return high * 1e6
    speed = _number(row, "speed")
    return float(speed) if speed and speed < 2**32 - 1 else None


def _report(settings: Settings, m: Measurement, row: dict[Name, BerValue], looks: Looks, key: str) -> None:
    """Tell what an interface does.

    Raises:
        ProbeError: CONTENT when it is down, or has no counters.
    """
    values = m.values
    name = _text(row.get(_IF_NAME)) or _text(row.get(_IF_DESCR))
    m.fact("interface", name)
    status = _number(row, "status") or 0
    values["status_code"] = status
    counters = _counters(row)
    if counters is None:
        raise ProbeError(Fault.CONTENT, f"interface {name} has no counters")
    values["in_total_bytes"], values["out_total_bytes"] = counters.octets_in, counters.octets_out
    speed = _capacity_bps(settings, row)
    if speed:
        values["capacity_bps"] = speed
    troubles = tuple(_number(row, column) for column in _TROUBLES)
    ticks = int(values["uptime_s"] * 100 + 0.5)
    discontinuity = _number(row, "discontinuity") or 0
    look = Look(
        time.perf_counter(), ticks, counters.bits, counters.octets_in, counters.octets_out, speed, discontinuity,
        troubles,
    )  # fmt: skip
    flow = looks.put(key, look)
    if flow is not None:
        values["in_bps"], values["out_bps"], values["period_s"] = flow.in_bps, flow.out_bps, flow.seconds
        new = zip(_TROUBLES, flow.troubles, strict=True)
        values.update({f"{column}_count": count for column, count in new if count is not None})
        if speed:
            values["in_load_ratio"], values["out_load_ratio"] = flow.in_bps / speed, flow.out_bps / speed
    if status not in _GOOD:
        raise ProbeError(Fault.CONTENT, f"interface {name} is {_STATUS.get(status, f'in state {status}')}")
    _warn(settings, m, name)


def _warn(settings: Settings, m: Measurement, name: str) -> None:
    if settings.warn_load is None or "in_load_ratio" not in m.values:
        return
    side, load = max((("in", m.values["in_load_ratio"]), ("out", m.values["out_load_ratio"])), key=lambda pair: pair[1])
    m.values["warning_count"] = int(load > settings.warn_load)
    if load > settings.warn_load:
        m.remark = (
            f"interface {name} carries {load:.0%} of its capacity ({side}), expected at most {settings.warn_load:.0%}"
        )


PROBE = ProbeType(
    kind="snmp",
    summary="A router's or switch's agent by SNMP 2c or 3: uptime, and the state and load of an interface",
    settings=Settings,
    run=run,
    values=(
        Value("uptime_s", "How long the agent has been up, by its own account; begins anew after 497 days"),
        Value(
            "status_code",
            "State of the interface: 1 up, 2 down, 3 testing, 4 unclear, 5 dormant, 6 missing, 7 a layer below is down",
        ),
        Value("in_bps", "Bits a second that came in since the last run"),
        Value("out_bps", "Bits a second that went out since the last run"),
        Value("in_load_ratio", "in_bps as a share of the capacity"),
        Value("out_load_ratio", "out_bps as a share of the capacity"),
        Value("period_s", "Time between the two looks, by the agent's clock"),
        Value("capacity_bps", "Capacity: what the settings say, else the agent"),
        Value("in_total_bytes", "Counter of bytes that came in, as the agent gave it"),
        Value("out_total_bytes", "Counter of bytes that went out, as the agent gave it"),
        Value("in_errors_count", "Packets with errors that came in since the last run"),
        Value("out_errors_count", "Packets that could not be sent for errors since the last run"),
        Value("in_discards_count", "Packets that came in and were thrown away since the last run"),
        Value("out_discards_count", "Packets thrown away before they were sent since the last run: a full queue"),
        Value("warning_count", "1 when the load is above warn_load; a streak of these makes the check degraded"),
        Value("sent_count", "Messages sent until all was answered"),
        Value("foreign_count", "Datagrams that came and answered nothing of ours"),
    ),
    facts=(
        Value("address", "The agent's address"),
        Value("system", "What the system calls itself (sysName)"),
        Value("interface", "The interface's name"),
    ),
    default_timeout_s=5.0,
)
