"""POP3: does the mailbox server greet, protect, let a user in and count his messages?

Nothing is fetched or deleted. A login takes the mailbox's exclusive lock until QUIT, so use a mailbox of the
monitor's own. Sources: RFC 1939 (POP3), RFC 2449 (CAPA), RFC 2595 (STLS), RFC 5034 (AUTH PLAIN).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field, SecretStr

from probes.base import Fault, Measurement, Port, ProbeError, ProbeType, Value
from probes.mail_dialogue import (
    MAIL_FACTS,
    MAIL_VALUES,
    Dialogue,
    MailSession,
    MailSettings,
    converse,
    quote,
    sasl_plain,
    shown_list,
)

COMMAND_LIMIT: Final = 253  # bytes of a command line without its end, RFC 2449 section 4
NUMBER_LIMIT: Final = 2**53  # chosen: beyond it a number is no longer exact in a metric


class Settings(MailSettings):
    """What a POP3 check needs."""

    port: Port = Field(
        default_factory=lambda data: 995 if data.get("tls") else 110, description="Port; 110, or 995 with tls: true"
    )


def parse_status(line: bytes) -> tuple[bool, bytes]:
    """Read a status line as good or not, and its text (RFC 1939 section 3).

    Raises:
        ValueError: the line is not a POP3 status.
    """
    found = re.fullmatch(rb"(\+OK|-ERR)(?:[ \t](.*))?", line, re.DOTALL | re.IGNORECASE)
    if found is None:
        raise ValueError("not a POP3 status")
    return found[1].startswith(b"+"), found[2] or b""


def parse_stat(text: bytes) -> tuple[int, int]:
    """Read the answer to STAT as count of messages and size in bytes (RFC 1939 section 5).

    Raises:
        ValueError: it does not begin with two numbers.
    """
    found = re.match(rb"(\d{1,16}) (\d{1,16})(?: |$)", text)
    if found is None or max(int(found[1]), int(found[2])) > NUMBER_LIMIT:
        raise ValueError("not two numbers")
    return int(found[1]), int(found[2])


def parse_capabilities(lines: Sequence[bytes]) -> Mapping[str, tuple[str, ...]]:
    """Read the lines of CAPA's answer as keyword and parameters, upper case; other lines are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if re.fullmatch(rb"[!-~]+(?: [!-~]+)*", line.strip()):
            keyword, *parameters = line.decode("ascii").upper().split()
            found[keyword] = tuple(parameters)
    return found


class Session(MailSession[Settings]):
    """A POP3 conversation."""

    farewell = b"QUIT"
    greeting_value = "greeting_s"
    starttls_word = "STLS"

    def __init__(self, settings: Settings, dialogue: Dialogue) -> None:
        """Args: settings: of the check. dialogue: an open connection that has not spoken yet."""
        super().__init__(settings, dialogue)
        self.capabilities: Mapping[str, tuple[str, ...]] = {}

    async def status(self) -> tuple[bool, bytes, bytes]:
        """Read a status line: good or not, its text, and the line itself.

        Raises:
            ProbeError: PROTOCOL when it is not POP3.
        """
        line = await self.d.line()
        try:
            good, text = parse_status(line)
        except ValueError as exc:
            raise self.d.alien(line, "POP3") from exc
        return good, text, line

    async def ask(self, command: bytes, name: str) -> tuple[bool, bytes, bytes]:
        """Send a command and read its status line."""
        await self.d.send(command, name)
        return await self.status()

    async def greet(self) -> None:
        """Read the greeting, +OK."""
        good, _, line = await self.status()
        self.d.m.fact("greeting", quote(line))
        if not good:
            raise self.d.refused(line, "+OK")

    async def learn(self) -> None:
        """Ask for the capabilities; a server that does not know CAPA has none."""
        self.capabilities = {}
        good, _, _ = await self.ask(b"CAPA", "CAPA")
        if good:
            self.capabilities = parse_capabilities(await self._until_dot())
        self.d.m.fact("capabilities", shown_list(list(self.capabilities)))

    async def _until_dot(self) -> list[bytes]:
        lines: list[bytes] = []
        while (line := await self.d.line()) != b".":
            lines.append(line.removeprefix(b"."))  # RFC 1939 section 3: a dot in front is doubled
        return lines

    def offers_starttls(self) -> bool:
        """Tell whether CAPA's answer names STLS."""
        return "STLS" in self.capabilities

    async def agree_on_tls(self) -> None:
        """Send STLS and wait for +OK."""
        good, _, line = await self.ask(b"STLS", "STLS")
        if not good:
            raise self.d.refused(line, "+OK", Fault.TLS)

    async def login(self, username: str, password: SecretStr) -> None:
        """Log in by USER and PASS, or by AUTH PLAIN on a server that announces that alone."""
        if "USER" not in self.capabilities and "PLAIN" in self.capabilities.get("SASL", ()):
            await self._auth_plain(sasl_plain(username, password))
            return
        for word, argument in (("USER", username), ("PASS", password.get_secret_value())):
            good, _, line = await self.ask(f"{word} {argument}".encode(), word)
            if not good:
                raise ProbeError(Fault.CONTENT, f"login refused: {self.d.said(line)}")

    async def _auth_plain(self, message: bytes) -> None:
        command = b"AUTH PLAIN " + message
        if len(command) <= COMMAND_LIMIT:
            await self.d.send(command, "AUTH")
        else:  # RFC 5034 section 4: too long for the command, so the server asks for it
            await self.d.send(b"AUTH PLAIN", "AUTH")
            line = await self.d.line()
            if line.strip() != b"+":
                raise ProbeError(Fault.CONTENT, f"login refused: {self.d.said(line)}")
            await self.d.send(message, "AUTH")
        good, _, line = await self.status()
        if not good:
            raise ProbeError(Fault.CONTENT, f"login refused: {self.d.said(line)}")

    async def inspect(self) -> None:
        """After a login, count the messages."""
        if self.s.username is None:
            return
        good, text, line = await self.ask(b"STAT", "STAT")
        if not good:
            raise self.d.refused(line, "+OK")
        try:
            count, size_bytes = parse_stat(text)
        except ValueError as exc:
            raise self.d.alien(line, "two numbers") from exc
        self.d.m.values["messages_count"] = count
        self.d.m.values["mailbox_bytes"] = size_bytes


async def run(s: Settings, m: Measurement) -> None:
    """Hold one POP3 session."""
    await converse(Session, s, m, s.port)


PROBE = ProbeType(
    kind="pop3",
    summary="A mailbox server by POP3: greeting, TLS, login, and the count and size of the messages waiting.",
    settings=Settings,
    run=run,
    values=(
        Value("greeting_s", "Time from the open connection (after TLS from the first byte) to the greeting"),
        Value("messages_count", "Messages waiting in the mailbox"),
        Value("mailbox_bytes", "Size of all messages in the mailbox"),
        *MAIL_VALUES,
    ),
    facts=(
        Value("greeting", "The server's greeting, the start of a long one"),
        Value("capabilities", "What the server says it can do, the first words of many"),
        *MAIL_FACTS,
    ),
)
