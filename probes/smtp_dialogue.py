"""The words of SMTP, for whoever speaks it: replies, extensions, and a session up to the login.

Sources: RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 1870 (SIZE), RFC 2034 (enhanced codes).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field, SecretStr

from probes.base import Fault, Port, ProbeError, Value
from probes.mail_dialogue import Dialogue, MailSession, MailSettings, quote, sasl_plain, shown_list

COMMAND_LIMIT: Final = 510  # bytes of a command line without its end, RFC 5321 section 4.5.3.1.4
EXTENSIONS_KEPT: Final = 64  # chosen: no server has so many


def _mailbox(address: str) -> str:
    if not re.fullmatch(r"[!-;=?-~]+@[!-;=?-~]+", address):
        raise ValueError("expected an address like ten@example.vn, in ASCII")
    return address


def _sender(address: str) -> str:
    return address and _mailbox(address)


Recipient = Annotated[str, Field(max_length=254), AfterValidator(_mailbox)]
Sender = Annotated[str, Field(max_length=254), AfterValidator(_sender)]


class SmtpSettings(MailSettings):
    """Where an SMTP server is, and how to speak to it."""

    port: Port = Field(
        default_factory=lambda data: 465 if data.get("tls") else 25, description="Port; 25, or 465 with tls: true"
    )
    helo: str | None = Field(
        default=None,
        max_length=253,
        pattern=r"^([A-Za-z0-9._-]+|\[[A-Za-z0-9.:]+\])$",
        description="Name to introduce ourselves with; without one, our own address as [192.0.2.10]",
    )


S = TypeVar("S", bound=SmtpSettings)

SMTP_VALUES: Final = (
    Value("banner_s", "Time from the open connection (after TLS from the first byte) to the whole banner"),
    Value("banner_code", "Reply code of the banner; 220 is the good one"),
    Value("size_limit_bytes", "Largest message the server says it takes (SIZE); absent without a limit"),
    Value("login_code", "Reply code of the login; 235 is the good one"),
)
SMTP_FACTS: Final = (
    Value("banner", "Text of the banner, the start of a long one"),
    Value("extensions", "Keywords of the extensions the server offers, the first ones of many"),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: one code, one text a line."""

    code: int
    texts: tuple[bytes, ...]

    def words(self) -> bytes:
        """Return the reply on one line, its code in front."""
        return b"%d %s" % (self.code, b" ".join(self.texts))


_REPLY_LINE: Final = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?", re.DOTALL)


def parse_reply_line(line: bytes) -> tuple[int, bool, bytes]:
    """Read one line of a reply as code, whether more lines follow, and text (RFC 5321 section 4.2).

    Raises:
        ValueError: the line is not an SMTP reply.
    """
    found = _REPLY_LINE.fullmatch(line)
    if found is None:
        raise ValueError("not an SMTP reply")
    return int(found[1]), found[2] == b"-", found[3] or b""


def parse_extensions(texts: Sequence[bytes]) -> Mapping[str, str]:
    """Read the answer to EHLO as keyword and parameters; the first line is the server's name and is left out.

    Lines that cannot be an extension are left out too: a server may greet on several lines.
    """
    found: dict[str, str] = {}
    for text in texts[1:]:
        # Some old servers write AUTH=LOGIN PLAIN beside or instead of AUTH LOGIN PLAIN.
        match = re.fullmatch(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?", text.strip(), re.DOTALL)
        if match is None or len(found) >= EXTENSIONS_KEPT:
            continue
        keyword, parameters = match[1].decode("ascii").upper(), quote(match[2] or b"")
        before = found.get(keyword, "")
        found[keyword] = f"{before} {parameters}".strip()
    return found


def size_limit(extensions: Mapping[str, str]) -> int | None:
    """Return the largest message in bytes that SIZE announces; None without one (RFC 1870: 0 is no limit)."""
    announced = extensions.get("SIZE", "").split(" ", 1)[0]
    if not re.fullmatch(r"[0-9]{1,20}", announced) or int(announced) == 0:
        return None
    return int(announced)


class SmtpSession(MailSession[S]):
    """An SMTP conversation up to the login; what comes after is the subclass's."""

    farewell = b"QUIT"
    greeting_value = "banner_s"

    def __init__(self, settings: S, dialogue: Dialogue) -> None:
        """Args: settings: of the check. dialogue: an open connection that has not spoken yet."""
        super().__init__(settings, dialogue)
        self.extensions: Mapping[str, str] = {}
        self.banner = b""

    async def reply(self) -> Reply:
        """Read one whole reply.

        Raises:
            ProbeError: PROTOCOL when it is not SMTP or its lines disagree.
        """
        code, more = 0, True
        texts: list[bytes] = []
        while more:
            line = await self.d.line()
            try:
                this, more, text = parse_reply_line(line)
            except ValueError as exc:
                raise self.d.alien(line, "SMTP") from exc
            if texts and this != code:
                raise ProbeError(Fault.PROTOCOL, f"codes {code} and {this} came in one answer")
            code = this
            texts.append(text)
        return Reply(code, tuple(texts))

    async def ask(self, command: str, name: str, *expected: int) -> Reply:
        """Send a command and read its reply.

        Raises:
            ProbeError: CONTENT when codes are expected and another one came.
        """
        await self.d.send(command.encode("utf-8"), name)
        reply = await self.reply()
        if expected and reply.code not in expected:
            raise self.d.refused(reply.words(), or_(expected))
        return reply

    async def greet(self) -> None:
        """Read the banner, 220."""
        reply = await self.reply()
        text = b"\n".join(reply.texts)
        self.d.m.values["banner_code"] = reply.code
        self.d.m.fact("banner", quote(b" ".join(reply.texts)))
        if reply.code != 220:
            raise self.d.refused(reply.words(), "220")
        self.banner = text

    async def learn(self) -> None:
        """Say EHLO, or HELO to a server that does not know it."""
        name = self.s.helo or self._own_address()
        reply = await self.ask(f"EHLO {name}", "EHLO")
        if reply.code in (500, 502):  # RFC 5321 section 3.2: an old server
            await self.ask(f"HELO {name}", "HELO", 250)
            self.extensions = {}
        elif reply.code != 250:
            raise self.d.refused(reply.words(), "250")
        else:
            self.extensions = parse_extensions(reply.texts)
        self.d.m.fact("extensions", shown_list(list(self.extensions)))
        if (limit := size_limit(self.extensions)) is not None:
            self.d.m.values["size_limit_bytes"] = limit

    def _own_address(self) -> str:
        # RFC 5321 section 4.1.4: a host without a meaningful name says its address.
        ip = str(self.d.stream.writer.get_extra_info("sockname")[0]).split("%", 1)[0]
        return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"

    def offers_starttls(self) -> bool:
        """Tell whether EHLO's answer names STARTTLS."""
        return "STARTTLS" in self.extensions

    async def agree_on_tls(self) -> None:
        """Send STARTTLS and wait for 220."""
        reply = await self.ask("STARTTLS", "STARTTLS")
        if reply.code != 220:
            raise self.d.refused(reply.words(), "220", Fault.TLS)

    async def login(self, username: str, password: SecretStr) -> None:
        """Log in by PLAIN or LOGIN, whichever the server offers first in that order."""
        offered = self.extensions.get("AUTH", "").upper().split()
        if "PLAIN" in offered:
            reply = await self._auth("PLAIN", [sasl_plain(username, password)])
        elif "LOGIN" in offered:
            turns = [base64.b64encode(word.encode()) for word in (username, password.get_secret_value())]
            reply = await self._auth("LOGIN", turns)
        else:
            names = " ".join(offered) or "none"
            raise ProbeError(Fault.CONTENT, f"server offers no login by PLAIN or LOGIN (offered: {names})")
        self.d.m.values["login_code"] = reply.code
        if reply.code != 235:
            raise ProbeError(Fault.CONTENT, f"login refused: {self.d.said(reply.words())}")

    async def _auth(self, mechanism: str, turns: list[bytes]) -> Reply:
        command = b"AUTH " + mechanism.encode()
        # RFC 4954 section 4: the first turn may ride on the command, if the line does not grow too long.
        if mechanism == "PLAIN" and len(command) + 1 + len(turns[0]) <= COMMAND_LIMIT:
            command += b" " + turns.pop(0)
        await self.d.send(command, "AUTH")
        reply = await self.reply()
        for turn in turns:
            if reply.code != 334:
                break
            await self.d.send(turn, "AUTH")
            reply = await self.reply()
        return reply


def or_(codes: Sequence[int]) -> str:
    """Say which codes were expected."""
    return " or ".join(str(code) for code in codes)
