"""What SMTP, IMAP and POP3 share: a server that speaks first, lines, STARTTLS, a login that must not leak.

The order of a conversation, its limits and its wording live here; the words of each protocol live in its own
module. Sources: RFC 3207 and RFC 2595 (STARTTLS), RFC 8314 section 3 (TLS from the first byte), RFC 4616 (PLAIN).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final, Generic, TypeVar

from pydantic import Field, SecretStr, model_validator

from probes.base import Fault, Host, IpFamily, Measurement, PasswordSettings, ProbeError, ProbeSettings, Value, one_line
from probes.net import Stream, open_stream
from probes.tls_context import (
    NO_TLS_HERE,
    TLS_FACTS,
    TLS_VALUES,
    TlsSettings,
    context_for,
    handshake,
    open_tls,
    server_name,
)
from probes.tls_sessions import Shaken

LINES_LIMIT: Final = 100  # lines of one answer; chosen: several times what real servers send to these commands
QUOTE_LIMIT: Final = 120  # characters of a server's words in a reason; leaves room for what was expected
LIST_LIMIT: Final = 180  # characters of a list of extensions kept as a fact
FAREWELL_S: Final = 0.5  # chosen: a polite goodbye may cost this much of the time left, and never fails a check
MARGIN_S: Final = 0.05  # ahead of the deadline, so that the reason names the command that was not answered
GUESS_S: Final = 1.0  # at the end of a silent time-out, to find out whether the server waits for TLS
LEAK_LENGTH: Final = 4  # characters of a secret in a server's words that make us withhold them


class StartTls(StrEnum):
    """Whether a plain connection becomes TLS by STARTTLS (RFC 3207, RFC 2595)."""

    REQUIRED = "required"  # a server that does not offer it fails the check
    OPTIONAL = "optional"  # used when offered
    NEVER = "never"  # not even asked for


class MailServer(ProbeSettings):
    """Where a mail server is, and how the connection to it becomes TLS."""

    host: Host = Field(description="Name or address of the mail server")
    family: IpFamily = Field(default=IpFamily.ANY, description="any, ip4 or ip6")
    tls: bool = Field(default=False, description="TLS from the first byte")
    starttls: StartTls = Field(
        default=StartTls.OPTIONAL, description="Turn a plain connection into TLS: required, optional or never"
    )


class MailSettings(PasswordSettings, TlsSettings, MailServer):
    """What every mail protocol's check needs."""

    username: str | None = Field(
        default=None,
        min_length=1,
        max_length=320,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Login name; without it no login is tried",
    )
    plaintext_login: bool = Field(
        default=False, description="Allow the password to cross the network without TLS; a second, explicit yes"
    )

    @model_validator(mode="after")
    def _tls_comes_one_way(self) -> MailSettings:
        if self.tls and "starttls" in self.model_fields_set and self.starttls is not StartTls.NEVER:
            raise ValueError("tls: true is TLS from the first byte; leave starttls out")
        if self.min_days_left is not None and not self.tls and self.starttls is not StartTls.REQUIRED:
            raise ValueError("min_days_left needs tls: true or starttls: required")
        return self

    @model_validator(mode="after")
    def _login_is_covered(self) -> MailSettings:
        covered = self.tls or self.starttls is not StartTls.NEVER
        if self.username is not None and not covered and not self.plaintext_login:
            raise ValueError("credentials over plain text need plaintext_login: true")
        return self


MAIL_VALUES: Final = TLS_VALUES
MAIL_FACTS: Final = (
    Value("address", "The address that was connected to"),
    Value("starttls", "yes when the connection became TLS by STARTTLS, otherwise no"),
    *TLS_FACTS,
)


@dataclass(slots=True)
class Dialogue:
    """Lines to and from a server, bounded; remembers what was asked last, for the reason of a failure."""

    m: Measurement
    stream: Stream
    began: float  # perf_counter at the start of the run
    asked: str = ""  # the command that is being answered; empty until the greeting is over
    secrets: tuple[bytes, ...] = ()  # must not appear in anything we say
    lines: int = field(default=0)  # of the answer under way
    deadline: asyncio.Timeout | None = None  # of the conversation, once it is under way

    def left_s(self) -> float:
        """Return the seconds left before the run's deadline, at least 0."""
        return max(0.0, self.began + self.m.timeout_s - time.perf_counter())

    def close_time_s(self) -> float:
        """Return the seconds after which a conversation ends itself, to say what was not answered."""
        return max(0.0, self.left_s() - min(MARGIN_S, self.m.timeout_s * 0.1))

    def extend(self, timeout_s: float) -> None:
        """Let the conversation last until `timeout_s` after its begin: what it waits for is not its server's alone."""
        self.m.timeout_s = timeout_s
        if self.deadline is not None:
            self.deadline.reschedule(asyncio.get_running_loop().time() + self.close_time_s())

    async def send(self, line: bytes, name: str) -> None:
        """Send one line; `name` is what a reason may call it, without arguments or secrets."""
        self.asked, self.lines = name, 0
        with self._hang_ups_named():
            await self.stream.write(line + b"\r\n")

    async def line(self) -> bytes:
        """Read one line of the answer, without its line end.

        Raises:
            ProbeError: PROTOCOL when the line is too long or the lines are too many; REFUSED when the server
                hung up.
        """
        self.lines += 1
        if self.lines > LINES_LIMIT:
            raise ProbeError(Fault.PROTOCOL, f"more than {LINES_LIMIT} lines came {self._where()}")
        with self._hang_ups_named():
            return await self.stream.read_line()

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes, of a literal; the caller bounds them.

        Raises:
            ProbeError: REFUSED when the server hung up.
        """
        with self._hang_ups_named():
            return await self.stream.reader.readexactly(size)

    def _where(self) -> str:
        return f"after {self.asked}" if self.asked else "in place of a greeting"

    @contextmanager
    def _hang_ups_named(self) -> Iterator[None]:
        try:
            yield
        except ProbeError as exc:
            raise ProbeError(exc.fault, f"{exc.detail} {self._where()}") from exc
        except asyncio.IncompleteReadError as exc:
            raise ProbeError(Fault.REFUSED, f"the server closed the connection {self._where()}") from exc
        except ConnectionError as exc:
            raise ProbeError(Fault.REFUSED, f"the server broke the connection {self._where()}") from exc

    def said(self, words: bytes) -> str:
        """Quote a server's words safely for a reason or a fact: printable, short, without our secrets."""
        return quote(words, self.secrets)

    def refused(self, words: bytes, expected: str, fault: Fault = Fault.CONTENT) -> ProbeError:
        """Make the error for a well-formed answer that is not the expected one."""
        command = f"{self.asked}: " if self.asked else ""
        return ProbeError(fault, f"{command}server answered {self.said(words)}, expected {expected}")

    def alien(self, words: bytes, protocol: str) -> ProbeError:
        """Make the error for an answer that is not the protocol's at all."""
        where = f"answer to {self.asked}" if self.asked else "greeting"
        return ProbeError(Fault.PROTOCOL, f"the {where} is not {protocol}: {self.said(words) or 'an empty line'}")


def quote(words: bytes, secrets: tuple[bytes, ...] = ()) -> str:
    """Make a server's words printable and short; words that repeat part of a secret are withheld.

    A server may send back the very line it did not understand, and that line may hold the password.
    """
    words = words[: QUOTE_LIMIT * 8]  # no more is ever shown, and a flood costs no time
    if repeats_secret(words, secrets):
        first = words.split(b" ", 1)[0][:4]
        status = "" if repeats_secret(first, secrets) else f"{quote(first)} "
        return f"{status}(text withheld: it repeats the login)"
    text = words.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return one_line(shown, QUOTE_LIMIT)


def repeats_secret(words: bytes, secrets: tuple[bytes, ...]) -> bool:
    """Tell whether any run of `LEAK_LENGTH` characters of a secret (a shorter one whole) appears in the words."""
    heard = words.lower()
    return any(piece in heard for secret in secrets for piece in _pieces(secret.lower()))


def _pieces(secret: bytes) -> Iterator[bytes]:
    if 0 < len(secret) <= LEAK_LENGTH:
        yield secret
        return
    for start in range(len(secret) - LEAK_LENGTH + 1):
        yield secret[start : start + LEAK_LENGTH]


def sasl_plain(username: str, password: SecretStr) -> bytes:
    """Return the one message of SASL PLAIN in base64 (RFC 4616 section 2, RFC 4954 section 4)."""
    return base64.b64encode(f"\0{username}\0{password.get_secret_value()}".encode())


def all_forms(username: str, password: SecretStr) -> tuple[bytes, ...]:
    """Return every form in which the password crosses the wire, so that none is ever quoted."""
    secret = password.get_secret_value().encode()
    return secret, base64.b64encode(secret), sasl_plain(username, password)


def shown_list(words: list[str]) -> str:
    """Join words for a fact, the first ones of very many."""
    kept: list[str] = []
    for number, word in enumerate(words):
        if sum(len(w) + 1 for w in kept) + len(word) > LIST_LIMIT:
            return f"{' '.join(kept)} (+{len(words) - number})"
        kept.append(word)
    return " ".join(kept)


S = TypeVar("S", bound=MailSettings)


class MailSession(ABC, Generic[S]):
    """One conversation in one protocol. The order of the steps is `converse`'s; the words are the subclass's."""

    farewell: ClassVar[bytes]  # the command that ends a session
    greeting_value: ClassVar[str]  # name of the value with the time to the greeting
    starttls_word: ClassVar[str] = "STARTTLS"

    def __init__(self, settings: S, dialogue: Dialogue) -> None:
        """Args: settings: of the check. dialogue: an open connection that has not spoken yet."""
        self.s = settings
        self.d = dialogue

    @abstractmethod
    async def greet(self) -> None:
        """Read the greeting; raise CONTENT when the server does not want us."""

    @abstractmethod
    async def learn(self) -> None:
        """Ask what the server can do, anew after TLS has begun."""

    @abstractmethod
    def offers_starttls(self) -> bool:
        """Tell whether the server said that it can start TLS."""

    @abstractmethod
    async def agree_on_tls(self) -> None:
        """Ask for TLS and return when the server is ready for the handshake; raise TLS when it refuses."""

    @abstractmethod
    async def login(self, username: str, password: SecretStr) -> None:
        """Log in; raise CONTENT `login refused: …` when the server does not accept it."""

    @abstractmethod
    async def inspect(self) -> None:
        """Look at what the check names beyond the login: a recipient, a mailbox, a count."""


Kind = Callable[[S, Dialogue], MailSession[S]]  # a session's class, or whatever makes one


async def converse(kind: Kind[S], settings: S, m: Measurement, port: int) -> None:
    """Hold the whole conversation that the settings ask for, and fill the measurement.

    Raises:
        ProbeError: with the reason, whatever step failed.
        OSError: the connection could not be opened.
    """
    began = time.perf_counter()
    async with _opened(settings, m, port) as stream:
        d = Dialogue(m, stream, began)
        session = kind(settings, d)
        deadline = d.deadline = asyncio.timeout(d.close_time_s())
        try:
            async with deadline:
                await _steps(session, kind, port)
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            what = f"answer to {d.asked}" if d.asked else "greeting"
            raise ProbeError(Fault.TIMEOUT, f"no complete {what} within {m.timeout_s:g} s") from exc
        except ProbeError as exc:
            if exc.fault is Fault.CONTENT:
                await _leave(session)
            raise
        await _leave(session)


def _opened(settings: MailSettings, m: Measurement, port: int) -> AbstractAsyncContextManager[Stream]:
    if settings.tls:
        return open_tls(m, settings, settings.host, port, family=settings.family)
    return open_stream(m, settings.host, port, family=settings.family)


async def _steps(session: MailSession[S], kind: Kind[S], port: int) -> None:
    s, d = session.s, session.d
    m = d.m
    m.fact("starttls", "no")
    with m.phase("processing"):
        began = time.perf_counter()
        await _greeting(session, port)
        m.values[session.greeting_value] = time.perf_counter() - began
        await session.learn()
    shaken = None
    if not s.tls and s.starttls is not StartTls.NEVER:
        shaken = await _start_tls(session, kind, port)
    with m.phase("processing"):
        await _login(session, s.tls or shaken is not None)
        await session.inspect()
    if shaken is not None:
        shaken.well()


async def _greeting(session: MailSession[S], port: int) -> None:
    """Read the greeting; of a plain server that stays silent, find out whether it waits for TLS."""
    s, d = session.s, session.d
    if s.tls:
        await session.greet()
        return
    guess_s = min(GUESS_S, d.m.timeout_s * 0.2)
    patience = asyncio.timeout(max(0.0, d.left_s() - guess_s))
    try:
        async with patience:
            await session.greet()
    except TimeoutError as exc:
        if not patience.expired():
            raise
        if await _waits_for_tls(session, guess_s * 0.8):
            raise ProbeError(
                Fault.PROTOCOL, f"the server waits for TLS from the first byte on port {port}: set tls: true"
            ) from exc
        raise ProbeError(Fault.TIMEOUT, f"no complete greeting within {d.m.timeout_s - guess_s:g} s") from exc


async def _waits_for_tls(session: MailSession[S], within_s: float) -> bool:
    """Try a handshake that trusts anything on the silent connection; nothing is sent inside it."""
    s, d = session.s, session.d
    scratch = Measurement(timeout_s=within_s, path=d.m.path, tools=d.m.tools)
    try:
        async with asyncio.timeout(within_s):
            context = await context_for(scratch, s.model_copy(update={"verify": False}))
            await d.stream.start_tls(scratch, context, server_name(s.server_name or s.host))
    except (OSError, ProbeError):  # TimeoutError is an OSError
        return False
    return True


async def _start_tls(session: MailSession[S], kind: Kind[S], port: int) -> Shaken | None:
    """Turn the connection into TLS when the server offers it; None when it does not."""
    s, d = session.s, session.d
    m = d.m
    if not session.offers_starttls():
        if s.starttls is StartTls.REQUIRED:
            raise ProbeError(Fault.TLS, f"server does not offer {session.starttls_word}")
        return None
    with m.phase("processing"):
        await session.agree_on_tls()

    @asynccontextmanager
    async def again(second: Measurement) -> AsyncIterator[Stream]:
        # The address that answered first: another one of the same name may show another certificate.
        async with open_stream(second, m.facts.get("address", s.host), port, family=s.family) as stream:
            repeated = kind(s, Dialogue(second, stream, time.perf_counter()))
            await repeated.greet()
            await repeated.learn()
            await repeated.agree_on_tls()
            yield stream

    d.asked = "the TLS handshake"
    try:
        shaken = await handshake(m, d.stream, s, s.host, again)
    except ProbeError as exc:
        if exc.detail == NO_TLS_HERE:
            reason = f"the server agreed to {session.starttls_word} and then did not speak TLS"
            raise ProbeError(Fault.TLS, reason) from exc
        raise
    m.fact("starttls", "yes")
    with m.phase("processing"):
        await session.learn()
    return shaken


async def _login(session: MailSession[S], covered: bool) -> None:
    s, d = session.s, session.d
    if s.username is None:
        return
    if not covered and not s.plaintext_login:
        raise ProbeError(
            Fault.TLS, f"server does not offer {session.starttls_word}, and the login is not sent without TLS"
        )
    password = await s.password()
    if any(c in password.get_secret_value() for c in "\0\r\n"):
        raise ProbeError(Fault.LOCAL, "the password holds a line break or a NUL, which no mail protocol can carry")
    d.secrets = all_forms(s.username, password)
    await session.login(s.username, password)


async def _leave(session: MailSession[S]) -> None:
    """Say goodbye and give the server a moment to answer; its slowness is not the check's failure."""
    d = session.d
    with contextlib.suppress(OSError, ProbeError):  # TimeoutError is an OSError
        async with asyncio.timeout(min(FAREWELL_S, d.left_s() * 0.5)):
            await d.send(session.farewell, "the farewell")
            await d.line()
