"""The words of IMAP, for whoever speaks it: responses with their literals, commands, and a session up to the login.

Sources: RFC 9051 (IMAP4rev2), RFC 3501 (IMAP4rev1, and its modified UTF-7 for names), RFC 2595 (STARTTLS),
RFC 4959 (SASL-IR), RFC 4616 (PLAIN).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from pydantic import Field, SecretStr

from probes.base import Fault, Port, ProbeError
from probes.mail_dialogue import Dialogue, MailSession, MailSettings, quote, sasl_plain, shown_list

LITERAL_LIMIT: Final = 8192  # bytes; chosen: no answer to our commands needs a longer one
CAPABILITIES_KEPT: Final = 128  # chosen: several times what servers announce
NUMBER_LIMIT: Final = 2**32 - 1  # RFC 9051 section 9: number is unsigned 32 bits

MailboxName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class ImapSettings(MailSettings):
    """Where an IMAP server is, and how to speak to it."""

    port: Port = Field(
        default_factory=lambda data: 993 if data.get("tls") else 143, description="Port; 143, or 993 with tls: true"
    )


S = TypeVar("S", bound=ImapSettings)


@dataclass(frozen=True, slots=True)
class Response:
    """One response line, its literals included."""

    tag: str  # "*" untagged, "+" continuation, otherwise the command's own tag
    word: str  # OK NO BAD BYE PREAUTH CAPABILITY EXISTS …, upper case; empty for a continuation
    number: int | None  # the number before the word, as in `* 23 EXISTS`
    rest: bytes  # what follows the word
    raw: bytes


_TAGGED: Final = re.compile(rb"([A-Za-z0-9.]+) (OK|NO|BAD)(?: (.*))?", re.DOTALL | re.IGNORECASE)
_UNTAGGED: Final = re.compile(rb"\* (?:(\d{1,10}) )?([A-Za-z][A-Za-z0-9.-]*)(?: (.*))?", re.DOTALL)
_LITERAL: Final = re.compile(rb"~?\{(\d{1,10})\}$")
_CAPABILITY_CHARS: Final = re.compile(rb"[!-~]+")


def parse_response(raw: bytes) -> Response:
    """Read one response (RFC 9051 section 7).

    Raises:
        ValueError: it is not an IMAP response.
    """
    if raw == b"+" or raw.startswith(b"+ "):
        return Response("+", "", None, raw[2:], raw)
    if found := _UNTAGGED.fullmatch(raw):
        number = int(found[1]) if found[1] else None
        if number is not None and number > NUMBER_LIMIT:
            raise ValueError("number out of range")
        return Response("*", found[2].decode("ascii").upper(), number, found[3] or b"", raw)
    if found := _TAGGED.fullmatch(raw):
        return Response(found[1].decode("ascii"), found[2].decode("ascii").upper(), None, found[3] or b"", raw)
    raise ValueError("not an IMAP response")


def literal_size(line: bytes) -> int | None:
    """Return how many bytes of a literal follow this line, None when none does (RFC 9051 section 4.3)."""
    found = _LITERAL.search(line)
    return int(found[1]) if found else None


def parse_capabilities(rest: bytes) -> tuple[str, ...]:
    """Read the words after CAPABILITY, upper case, in order and without doubles."""
    words = (w.decode("ascii").upper() for w in rest.split() if _CAPABILITY_CHARS.fullmatch(w))
    return tuple(dict.fromkeys(words))[:CAPABILITIES_KEPT]


def encode_mailbox(name: str) -> str:
    """Write a mailbox name in modified UTF-7 (RFC 3501 section 5.1.3), so that `Thư đến` can be asked for."""
    out: list[str] = []
    for plain, other in re.findall(r"([ -~]+)|([^ -~]+)", name):
        out.append(plain.replace("&", "&-"))
        if other:
            packed = base64.b64encode(other.encode("utf-16-be", "surrogatepass")).decode("ascii")
            out.append(f"&{packed.rstrip('=').replace('/', ',')}-")
    return "".join(out)


def command_pieces(start: bytes, arguments: Sequence[bytes]) -> list[bytes]:
    """Write a command with string arguments as pieces; the server's `+` is awaited between two pieces.

    Arguments become quoted strings where RFC 9051 allows it, otherwise literals.
    """
    pieces = [start]
    for argument in arguments:
        if len(argument) <= 1000 and all(0x20 <= byte < 0x7F for byte in argument):
            escaped = argument.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            pieces[-1] += b' "' + escaped + b'"'
        else:
            pieces[-1] += b" {%d}" % len(argument)
            pieces.append(argument)
    return pieces


class ImapSession(MailSession[S]):
    """An IMAP conversation up to the login; what comes after is the subclass's."""

    farewell = b"z LOGOUT"
    greeting_value = "greeting_s"

    def __init__(self, settings: S, dialogue: Dialogue) -> None:
        """Args: settings: of the check. dialogue: an open connection that has not spoken yet."""
        super().__init__(settings, dialogue)
        self.capabilities: tuple[str, ...] = ()
        self.preauth = False
        self._tags = _tags()

    async def response(self) -> Response:
        """Read one response with its literals.

        Raises:
            ProbeError: PROTOCOL when it is not IMAP or a literal is too long.
        """
        raw = line = await self.d.line()
        while (size := literal_size(line)) is not None:
            if size > LITERAL_LIMIT:
                raise ProbeError(Fault.PROTOCOL, f"a literal of {size} bytes came, at most {LITERAL_LIMIT} are read")
            literal = await self.d.exactly(size)
            line = await self.d.line()
            raw += b"\r\n" + literal + line
        try:
            return parse_response(raw)
        except ValueError as exc:
            raise self.d.alien(raw, "IMAP") from exc

    async def ask(self, name: str, pieces: Sequence[bytes]) -> tuple[Response, list[Response]]:
        """Send a command in its pieces and read up to its tagged answer.

        Args:
            name: what a reason may call the command.
            pieces: the command without its tag; between two pieces the server has to agree.

        Returns:
            the tagged answer, and the untagged ones before it.
        """
        tag = next(self._tags)
        untagged: list[Response] = []
        for number, piece in enumerate(pieces):
            await self.d.send(piece if number else tag.encode("ascii") + b" " + piece, name)
            answer = await self._until(tag, untagged, last=number == len(pieces) - 1)
            if answer.tag == tag:
                return answer, untagged
        raise AssertionError("the last piece ends with the tagged answer")

    async def _until(self, tag: str, untagged: list[Response], *, last: bool) -> Response:
        while True:
            answer = await self.response()
            if answer.tag == tag or (answer.tag == "+" and not last):
                return answer
            if answer.tag != "*":
                raise ProbeError(
                    Fault.PROTOCOL, f"an answer out of turn came after {self.d.asked}: {self.d.said(answer.raw)}"
                )
            if answer.word == "BYE":
                raise ProbeError(
                    Fault.CONTENT, f"the server ended the session after {self.d.asked}: {self.d.said(answer.raw)}"
                )
            untagged.append(answer)

    async def greet(self) -> None:
        """Read the greeting: OK, or PREAUTH from a server that asks for no login."""
        greeting = await self.response()
        text = re.sub(rb"^\[[^]]*\] ?", b"", greeting.rest)  # the capabilities in it are asked for anyway
        self.d.m.fact("greeting", quote(b"%s %s" % (greeting.word.encode(), text)))
        if greeting.tag != "*" or greeting.word not in ("OK", "PREAUTH"):
            if greeting.word in ("BYE", "NO", "BAD"):
                raise self.d.refused(greeting.raw, "* OK")
            raise self.d.alien(greeting.raw, "IMAP")
        self.preauth = greeting.word == "PREAUTH"

    async def learn(self) -> None:
        """Ask for the capabilities."""
        answer, untagged = await self.ask("CAPABILITY", [b"CAPABILITY"])
        if answer.word != "OK":
            raise self.d.refused(answer.raw, "OK")
        found = [r for r in untagged if r.word == "CAPABILITY"]
        self.capabilities = parse_capabilities(b" ".join(r.rest for r in found))
        if not {"IMAP4REV1", "IMAP4REV2"} & set(self.capabilities):
            raise ProbeError(Fault.PROTOCOL, "the server announces neither IMAP4rev1 nor IMAP4rev2")
        self.d.m.fact("capabilities", shown_list(list(self.capabilities)))

    def offers_starttls(self) -> bool:
        """Tell whether STARTTLS is announced and still possible; after PREAUTH it is not (RFC 9051 section 6.2.1)."""
        return "STARTTLS" in self.capabilities and not self.preauth

    async def agree_on_tls(self) -> None:
        """Send STARTTLS and wait for OK."""
        answer, _ = await self.ask("STARTTLS", [b"STARTTLS"])
        if answer.word != "OK":
            raise self.d.refused(answer.raw, "OK", Fault.TLS)

    async def login(self, username: str, password: SecretStr) -> None:
        """Log in by AUTHENTICATE PLAIN where it is offered, otherwise by LOGIN unless the server forbids it."""
        if self.preauth:
            raise ProbeError(Fault.CONTENT, "the server greeted with PREAUTH: it asks for no login")
        if "AUTH=PLAIN" in self.capabilities:
            message = sasl_plain(username, password)
            start = b"AUTHENTICATE PLAIN"
            pieces = [start + b" " + message] if "SASL-IR" in self.capabilities else [start, message]
        elif "LOGINDISABLED" in self.capabilities:
            raise ProbeError(Fault.CONTENT, "the server takes no login on this connection (LOGINDISABLED)")
        else:
            pieces = command_pieces(b"LOGIN", [username.encode(), password.get_secret_value().encode()])
        answer, _ = await self.ask("the login", pieces)
        if answer.word != "OK":
            raise ProbeError(Fault.CONTENT, f"login refused: {without_tag(answer, self.d)}")


def _tags() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"a{number}"


def without_tag(answer: Response, d: Dialogue) -> str:
    """Quote a tagged answer without its tag."""
    return d.said(answer.raw.split(b" ", 1)[1])
