"""STUN and TURN: does the server tell us our address, and does it give us a relay and take it back?

Video conferences find their way through address translation by these servers; when one fails, calls connect for some
and stay silent for others. A binding request asks for our mapped address. With `turn: true` a relay for UDP is
allocated instead, by long-term credentials where the server wants them, and given back at once; also when the run
ends early.

Source: RFC 8489 sections 6 (timers), 7, 9.2 (long-term credentials); RFC 8656 sections 7 and 8 (allocations).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr, model_validator

from probes import stun_message
from probes.base import (
    Fault,
    Host,
    IpFamily,
    Measurement,
    PasswordSettings,
    Port,
    ProbeError,
    ProbeType,
    Value,
)
from probes.datagram import Ask, doubling, exchange, open_datagram, time_left
from probes.net import Address, Stream, open_stream, resolve
from probes.stun_message import HEADER_BYTES, Answer, Attr, Login, Method
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsSettings, open_tls

FIRST_PAUSE_S: Final = 0.5  # RFC 8489 section 6.2.1: RTO, doubled each time
_TRY_ALTERNATE, _UNAUTHORIZED, _STALE_NONCE = 300, 401, 438
FOREIGN_LIMIT: Final = 100  # messages of a connection that are no answer of ours; chosen: an honest server sends none
_STALE_LIMIT: Final = 3  # chosen: nonces that may grow stale in one run
_Attributes = Sequence[tuple[Attr, bytes]]


class Transport(StrEnum):
    """How requests travel."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


class Settings(PasswordSettings, TlsSettings):
    """What a STUN or TURN check needs."""

    host: Host = Field(description="Server: name or address")
    port: Port | None = Field(default=None, description="Port; 3478, or 5349 for TLS")
    transport: Transport = Field(default=Transport.UDP, description="udp, tcp or tls")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family towards the server")
    turn: bool = Field(default=False, description="Allocate a relay and give it back, instead of a binding request")
    username: str | None = Field(
        default=None,
        min_length=1,
        max_length=508,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Login name for turn; without it none is tried",
    )
    mapped_in: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), max_length=50, description="Networks; the address the server sees us by must lie in one"
    )

    @model_validator(mode="after")
    def _login_has_a_use(self) -> Settings:
        if self.username is not None and not self.turn:
            raise ValueError("username has no use without turn: true; a binding request needs no login")
        return self

    @property
    def wire_port(self) -> int:
        """The port in force."""
        return self.port or (5349 if self.transport is Transport.TLS else 3478)


class _Talk(ABC):
    """Requests and answers with one server, by one connection or from one port."""

    def __init__(self, m: Measurement) -> None:
        self._m = m
        self.began = time.perf_counter()

    @abstractmethod
    async def ask(self, method: Method, attributes: _Attributes = (), by: Login | None = None) -> Answer:
        """Send a request and return its answer, an error answer too."""

    @abstractmethod
    def say(self, method: Method, attributes: _Attributes, by: Login | None) -> None:
        """Send a request once, whatever becomes of it."""


def _believed(answer: Answer | None, by: Login | None) -> Answer | None:
    """Drop a good answer that somebody without the password made (RFC 8489 section 9.2.5)."""
    if answer is not None and answer.good and by is not None and not answer.is_from(by):
        return None
    return answer


class _Datagrams(_Talk):
    def __init__(self, m: Measurement, sock: socket.socket, address: Address, began: float) -> None:
        super().__init__(m)
        self.began = began
        self._sock = sock
        self._address = address

    async def ask(self, method: Method, attributes: _Attributes = (), by: Login | None = None) -> Answer:
        transaction = secrets.token_bytes(12)
        request = stun_message.encode(method, transaction, attributes, by)

        def read(wire: bytes, _: int) -> Answer | None:
            return _believed(stun_message.parse(wire, method, transaction), by)

        pauses = doubling(FIRST_PAUSE_S, time_left(self._m, self.began))
        return await exchange(self._m, self._sock, self._address, Ask(lambda: request, read, pauses))

    def say(self, method: Method, attributes: _Attributes, by: Login | None) -> None:
        with contextlib.suppress(OSError):
            self._sock.send(stun_message.encode(method, secrets.token_bytes(12), attributes, by))


class _Connection(_Talk):
    def __init__(self, m: Measurement, stream: Stream) -> None:
        super().__init__(m)
        self._stream = stream

    async def ask(self, method: Method, attributes: _Attributes = (), by: Login | None = None) -> Answer:
        transaction = secrets.token_bytes(12)
        values = self._m.values
        await self._stream.write(stun_message.encode(method, transaction, attributes, by))
        values["sent_count"] = values.get("sent_count", 0.0) + 1
        values.setdefault("foreign_count", 0.0)
        while True:
            answer = _believed(stun_message.parse(await self._read(), method, transaction), by)
            if answer is not None:
                return answer
            values["foreign_count"] += 1
            if values["foreign_count"] > FOREIGN_LIMIT:
                raise ProbeError(Fault.PROTOCOL, f"more than {FOREIGN_LIMIT} messages came that answer nothing of ours")

    async def _read(self) -> bytes:
        reader = self._stream.reader
        try:
            head = await reader.readexactly(HEADER_BYTES)
            return head + await reader.readexactly(stun_message.wire_size(head) - HEADER_BYTES)
        except asyncio.IncompleteReadError as exc:
            raise ProbeError(Fault.REFUSED, "the server hung up before the whole answer") from exc

    def say(self, method: Method, attributes: _Attributes, by: Login | None) -> None:
        with contextlib.suppress(OSError):
            self._stream.writer.write(stun_message.encode(method, secrets.token_bytes(12), attributes, by))


@contextlib.asynccontextmanager
async def _opened(s: Settings, m: Measurement) -> AsyncIterator[_Talk]:
    if s.transport is Transport.UDP:
        began = time.perf_counter()
        address = (await resolve(m, s.host, s.wire_port, s.family))[0]
        m.fact("address", address.ip)
        with open_datagram(m, address) as sock:
            yield _Datagrams(m, sock, address, began)
        return
    secure = s.transport is Transport.TLS
    opening = (
        open_tls(m, s, s.host, s.wire_port, family=s.family)
        if secure
        else open_stream(m, s.host, s.wire_port, family=s.family)
    )
    async with opening as stream:
        yield _Connection(m, stream)


async def run(settings: Settings, m: Measurement) -> None:
    """Ask for our mapped address, or allocate a relay and give it back.

    Raises:
        ProbeError: TIMEOUT without an answer, PROTOCOL when it is not STUN's, CONTENT when the server refuses or our
            address is not an expected one, UNREACHABLE when the network said so, LOCAL without the password, TLS.
        OSError: the host refused.
    """
    password = await settings.password() if settings.username is not None else None
    async with _opened(settings, m) as talk:
        with m.phase("processing"):
            if settings.turn:
                await _relay(settings, m, talk, password)
            else:
                _accept(m, await talk.ask(Method.BINDING))
    _judge_mapped(settings, m)


class _Relay:
    """A relay asked for and given back; repeats a request when the server wants a login or has a fresh nonce."""

    def __init__(self, s: Settings, m: Measurement, talk: _Talk, password: SecretStr | None) -> None:
        self._s = s
        self._m = m
        self._talk = talk
        self._password = password
        self.login: Login | None = None
        self.may_stand = False  # an allocation that the server would have to keep

    async def ask(self, method: Method, attributes: _Attributes) -> Answer:
        """Send a request, with the login once one is wanted, and return the good answer.

        Raises:
            ProbeError: CONTENT when the server refuses.
        """
        answer = await self._once(method, attributes)
        for _ in range(_STALE_LIMIT):
            if self._password is None or not self._is_challenge(answer):
                break
            self._log_in(answer, self._password)
            answer = await self._once(method, attributes)
        _accept(self._m, answer, logged_in=self.login is not None)
        return answer

    async def _once(self, method: Method, attributes: _Attributes) -> Answer:
        # Without the login that is wanted nothing is allocated; then there is nothing to give back either.
        self.may_stand = self.may_stand or self.login is not None or self._password is None
        answer = await self._talk.ask(method, attributes, self.login)
        if method is Method.ALLOCATE and not answer.good:
            self.may_stand = False
        return answer

    def _is_challenge(self, answer: Answer) -> bool:
        return answer.error_code == _STALE_NONCE or (answer.error_code == _UNAUTHORIZED and self.login is None)

    def _log_in(self, answer: Answer, password: SecretStr) -> None:
        realm, nonce = answer.attributes.get(Attr.REALM), answer.attributes.get(Attr.NONCE)
        realm = realm if realm is not None or self.login is None else self.login.realm
        if realm is None or nonce is None:
            raise ProbeError(Fault.PROTOCOL, f"error {answer.error_code} came without realm or nonce")
        self._m.fact("realm", realm.decode("utf-8", "replace"))
        assert self._s.username is not None
        self.login = stun_message.login(self._s.username, password.get_secret_value(), realm, nonce)

    def abandon(self) -> None:
        """Give back what may have been allocated, without waiting."""
        if self.may_stand:
            self._talk.say(Method.REFRESH, stun_message.with_lifetime(0), self.login)


async def _relay(s: Settings, m: Measurement, talk: _Talk, password: SecretStr | None) -> None:
    relay = _Relay(s, m, talk, password)
    try:
        answer = await relay.ask(Method.ALLOCATE, stun_message.allocation())
        if answer.relayed is None or answer.lifetime_s is None:
            raise ProbeError(Fault.PROTOCOL, "the allocation came without its address or lifetime")
        m.fact("relayed_address", str(answer.relayed))
        m.values["lifetime_s"] = answer.lifetime_s
        await relay.ask(Method.REFRESH, stun_message.with_lifetime(0))
        relay.may_stand = False
    finally:
        relay.abandon()


def _accept(m: Measurement, answer: Answer, *, logged_in: bool = False) -> None:
    """Keep what an answer tells.

    Raises:
        ProbeError: CONTENT when it is a refusal; PROTOCOL when it lacks our address.
    """
    if answer.software:
        m.fact("software", answer.software)
    if answer.mapped is not None:
        m.fact("mapped_address", str(answer.mapped))
        m.fact("mapped_ip", answer.mapped.ip)
    m.values["error_code"] = answer.error_code
    if answer.good:
        if answer.mapped is None and answer.method != Method.REFRESH:
            raise ProbeError(Fault.PROTOCOL, "a good answer came without our mapped address")
        return
    said = f"{answer.error_code} {answer.reason}".strip()
    if answer.error_code == _TRY_ALTERNATE:
        raise ProbeError(Fault.CONTENT, f"the server sends us to another, {answer.alternate or 'unnamed'}: {said}")
    if answer.error_code == _UNAUTHORIZED:
        words = "login refused" if logged_in else "the server wants a login"
        raise ProbeError(Fault.CONTENT, f"{words}: {said}")
    name = Method(answer.method).name.capitalize()
    raise ProbeError(Fault.CONTENT, f"{name} request refused: {said}")


def _judge_mapped(s: Settings, m: Measurement) -> None:
    ip = m.facts.get("mapped_ip")
    if not s.mapped_in or ip is None:
        return
    if not any(ipaddress.ip_address(ip) in ipaddress.ip_network(net, strict=False) for net in s.mapped_in):
        raise ProbeError(Fault.CONTENT, f"the server sees us as {ip}, expected one of {', '.join(s.mapped_in)}")


PROBE = ProbeType(
    kind="stun",
    summary="A STUN binding, or a TURN relay allocated and given back, by UDP, TCP or TLS",
    settings=Settings,
    run=run,
    values=(
        *TLS_VALUES,
        Value("error_code", "Code of the last answer; 0 is good, 401 a login is wanted, 486 too many relays"),
        Value("lifetime_s", "How long the server would have kept the relay"),
        Value("sent_count", "Requests sent, repeated ones included"),
        Value("foreign_count", "Packets that came and did not answer a request of ours"),
    ),
    facts=(
        Value("address", "The server's address"),
        *TLS_FACTS,
        Value("mapped_address", "Address and port by which the server sees us"),
        Value("mapped_ip", "The same without the port, which changes each time"),
        Value("relayed_address", "Address and port of the relay"),
        Value("realm", "Realm in which the server wants a login"),
        Value("software", "What the server calls itself"),
    ),
    default_timeout_s=5.0,
)
