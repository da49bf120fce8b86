"""The demo province's mail servers: SMTP, IMAP and POP3, enough of each for monitors and simple mail programs.

All three show one mailbox. Nothing is relayed to anywhere: mail for other domains is refused.
Source: RFC 5321, RFC 3207, RFC 4954 (SMTP); RFC 3501 (IMAP4rev1); RFC 1939, RFC 2449, RFC 2595 (POP3).
"""

from __future__ import annotations

import asyncio
import hmac
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from aiosmtpd.smtp import Session as SmtpSession

from thongsuot.province_mailbox import MAIL_LIMIT_BYTES, Mailbox
from thongsuot.province_net import HeldPort, Session

LINE_LIMIT_BYTES: Final = 8192  # RFC 2683 section 3.2.1.5 asks for 8000 and more
LITERAL_LIMIT_BYTES: Final = 8192
BAD_COMMANDS: Final = 10  # of one connection, before it is closed


@dataclass(frozen=True, slots=True)
class MailHouse:
    """What the mail servers share: whose domain, which mailbox, the one user."""

    domain: str
    hostname: str
    username: str
    password: str
    mailbox: Mailbox

    def knows(self, username: bytes, password: bytes) -> bool:
        """Say whether the login is right, in constant time."""
        same_name = hmac.compare_digest(username, self.username.encode())
        return hmac.compare_digest(password, self.password.encode()) and same_name


class _Smtp(SMTP):
    """The server protocol, which remembers its connections so that a stop can cut them."""

    def __init__(self, handler: Any, connections: WeakSet[_Smtp], **options: Any) -> None:
        super().__init__(handler, **options)
        connections.add(self)


class SmtpListener:
    """An SMTP server: STARTTLS and AUTH when it has a certificate and a user, mail kept in the mailbox."""

    def __init__(self, host: str, house: MailHouse, via: str, *, tls: ssl.SSLContext | None = None) -> None:
        """Args: via: how the mailbox page names this server. tls: offers STARTTLS and, inside it, AUTH."""
        self._held = HeldPort(host)
        self.host, self.port = host, self._held.port
        self._house = house
        self._via = via
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: WeakSet[_Smtp] = WeakSet()

    async def start(self) -> None:
        """Accept connections; OSError when the port is not to be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._protocol(loop), sock=self._held.listening())

    async def stop(self) -> None:
        """Cut every connection and refuse new ones; the port stays ours."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._connections):
            # By name, not by class: uvloop's transports are no subclasses of asyncio's.
            abort = getattr(connection.transport, "abort", None)
            if abort is not None:
                abort()
        await asyncio.sleep(0)  # lets the transports report the loss, which ends aiosmtpd's own tasks

    def release(self) -> None:
        """Give the port back for good."""
        self._held.release()

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> _Smtp:
        return _Smtp(
            self,
            self._connections,
            hostname=self._house.hostname,
            ident="ESMTP",
            tls_context=self._tls,
            authenticator=self._authenticate,
            auth_require_tls=True,
            auth_exclude_mechanism=() if self._tls else ("LOGIN", "PLAIN"),
            data_size_limit=MAIL_LIMIT_BYTES,
            enable_SMTPUTF8=True,
            timeout=60,
            loop=loop,
        )

    def _authenticate(self, server: SMTP, session: SmtpSession, envelope: Envelope, mech: str, data: Any) -> AuthResult:
        if isinstance(data, LoginPassword) and self._house.knows(data.login, data.password):
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False)

    async def handle_RCPT(  # noqa: N802  the name aiosmtpd calls
        self, server: SMTP, session: SmtpSession, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        """Take mail for our own domain only."""
        if address.rpartition("@")[2].lower() != self._house.domain:
            return "554 5.7.1 relaying denied"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802
        """Keep the message."""
        raw = envelope.original_content or b""
        mail = self._house.mailbox.add(self._via, envelope.mail_from or "", tuple(envelope.rcpt_tos), raw)
        return f"250 2.0.0 OK queued as {mail.number}"


async def _has_more(reader: asyncio.StreamReader) -> bool:
    """Say whether bytes are waiting that came together with the line just read."""
    try:
        async with asyncio.timeout(0):
            return bool(await reader.read(1))
    except TimeoutError:
        return False


class _Talk:
    """What line-by-line server conversations share."""

    def __init__(
        self, house: MailHouse, tls: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.house = house
        self.tls = tls  # what STARTTLS begins
        self.secure = writer.get_extra_info("ssl_object") is not None
        self.reader = reader
        self.writer = writer
        self.user = False  # logged in
        self.bad = 0
        self.ended = False

    async def say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self.writer.drain()

    async def hear(self) -> bytes | None:
        """Return the next line without its end; None at the end of the connection."""
        line = await self.reader.readline()
        if len(line) > LINE_LIMIT_BYTES:
            raise ValueError("line too long")
        return line.rstrip(b"\r\n") if line.endswith(b"\n") else None

    async def begin_tls(self, go_ahead: str) -> None:
        """Tell the client to begin TLS, and begin it.

        Nothing may wait between the line and `start_tls`: a quick client's handshake would be read as plain text.

        Raises:
            ValueError: the client sent more than asked; it would be taken as if said inside TLS (CVE-2011-0411).
        """
        if await _has_more(self.reader):
            raise ValueError("data before the TLS handshake")
        self.writer.write(f"{go_ahead}\r\n".encode())
        await self.writer.start_tls(self.tls)
        self.secure = True

    def complain(self) -> None:
        """Count a bad command; too many end the conversation."""
        self.bad += 1
        self.ended = self.bad >= BAD_COMMANDS


# One argument of an IMAP command: a quoted string, a list in parentheses, or an atom. RFC 3501 section 9.
_IMAP_ARGUMENT = re.compile(rb' *(?:"((?:[^"\\\r\n]|\\["\\])*)"|\(([^()\r\n]*)\)|([^ "()\r\n]+))')
_IMAP_LITERAL = re.compile(rb"\{(\d{1,8})(\+?)\}$")


def imap_arguments(line: bytes) -> list[bytes]:
    """Split what follows the tag into words; quotes are removed, lists come without their parentheses.

    Raises:
        ValueError: the line is not made of atoms, strings and flat lists.
    """
    words: list[bytes] = []
    at, line = 0, line.rstrip(b" ")
    while at < len(line):
        match = _IMAP_ARGUMENT.match(line, at)
        if match is None:
            raise ValueError("not an IMAP argument")
        quoted, listed, atom = match.groups()
        words.append(
            re.sub(rb"\\(.)", rb"\1", quoted) if quoted is not None else listed if listed is not None else atom
        )
        at = match.end()
    return words


class _Imap(_Talk):
    """One IMAP conversation."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.selected = False
        self.commands: dict[str, Callable[[str, list[bytes]], Awaitable[None]]] = {
            "CAPABILITY": self._capability,
            "NOOP": self._noop,
            "LOGOUT": self._logout,
            "STARTTLS": self._starttls,
            "LOGIN": self._login,
            "SELECT": self._select,
            "EXAMINE": self._select,
            "STATUS": self._status,
            "LIST": self._list,
            "CLOSE": self._close,
        }

    @property
    def capabilities(self) -> str:
        return "IMAP4rev1" if self.secure else "IMAP4rev1 STARTTLS LOGINDISABLED"

    async def run(self) -> None:
        await self.say(f"* OK [CAPABILITY {self.capabilities}] {self.house.hostname} ready")
        while not self.ended:
            line = await self.hear()
            if line is None:
                return
            await self._obey(line)

    async def _obey(self, line: bytes) -> None:
        tag_raw, _, rest = line.partition(b" ")
        tag = tag_raw.decode("ascii", "replace")
        try:
            words = await self._words(rest)
        except ValueError:
            words = []
        if not tag.isalnum() or not words:
            self.complain()
            await self.say(f"{tag if tag.isalnum() else '*'} BAD cannot read this command")
            return
        name = words[0].decode("ascii", "replace").upper()
        command = self.commands.get(name)
        if command is None:
            self.complain()
            await self.say(f"{tag} BAD unknown command")
            return
        if name in ("SELECT", "EXAMINE", "STATUS", "LIST") and not self.user:
            await self.say(f"{tag} NO log in first")
            return
        await command(tag, words)

    async def _words(self, line: bytes) -> list[bytes]:
        words: list[bytes] = []
        while literal := _IMAP_LITERAL.search(line):
            words += imap_arguments(line[: literal.start()])
            size = int(literal[1])
            if size > LITERAL_LIMIT_BYTES:
                raise ValueError("literal too long")
            if not literal[2]:
                await self.say("+ go on")
            words.append(await self.reader.readexactly(size))
            line = await self.hear() or b""
        return words + imap_arguments(line)

    async def _capability(self, tag: str, words: list[bytes]) -> None:
        await self.say(f"* CAPABILITY {self.capabilities}", f"{tag} OK CAPABILITY done")

    async def _noop(self, tag: str, words: list[bytes]) -> None:
        news = [f"* {len(self.house.mailbox.mails)} EXISTS"] if self.selected else []
        await self.say(*news, f"{tag} OK NOOP done")

    async def _logout(self, tag: str, words: list[bytes]) -> None:
        self.ended = True
        await self.say("* BYE goodbye", f"{tag} OK LOGOUT done")

    async def _starttls(self, tag: str, words: list[bytes]) -> None:
        if self.secure:
            await self.say(f"{tag} BAD TLS is already in use")
            return
        await self.begin_tls(f"{tag} OK begin TLS now")

    async def _login(self, tag: str, words: list[bytes]) -> None:
        if not self.secure:
            await self.say(f"{tag} NO [PRIVACYREQUIRED] begin TLS first")
        elif len(words) != 3:
            await self.say(f"{tag} BAD LOGIN takes a name and a password")
        elif self.house.knows(words[1], words[2]):
            self.user = True
            await self.say(f"{tag} OK LOGIN done")
        else:
            self.complain()
            await self.say(f"{tag} NO [AUTHENTICATIONFAILED] wrong name or password")

    async def _select(self, tag: str, words: list[bytes]) -> None:
        self.selected = len(words) == 2 and words[1].upper() == b"INBOX"
        if not self.selected:
            await self.say(f"{tag} NO [NONEXISTENT] no such mailbox")
            return
        box = self.house.mailbox
        writable = words[0].upper() == b"SELECT"
        await self.say(
            r"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)",
            f"* {len(box.mails)} EXISTS",
            "* 0 RECENT",
            "* OK [PERMANENTFLAGS ()] flags are not kept",
            "* OK [UIDVALIDITY 1] numbers are never used again",
            f"* OK [UIDNEXT {box.accepted + 1}] next number",
            f"{tag} OK [{'READ-WRITE' if writable else 'READ-ONLY'}] {'SELECT' if writable else 'EXAMINE'} done",
        )

    async def _status(self, tag: str, words: list[bytes]) -> None:
        box = self.house.mailbox
        known = {
            "MESSAGES": len(box.mails),
            "RECENT": 0,
            "UIDNEXT": box.accepted + 1,
            "UIDVALIDITY": 1,
            "UNSEEN": len(box.mails),
        }
        asked = words[2].decode("ascii", "replace").upper().split() if len(words) == 3 else []
        if not asked or not set(asked) <= set(known):
            await self.say(f"{tag} BAD STATUS takes a mailbox and a list of items")
        elif words[1].upper() != b"INBOX":
            await self.say(f"{tag} NO [NONEXISTENT] no such mailbox")
        else:
            items = " ".join(f"{name} {known[name]}" for name in asked)
            await self.say(f"* STATUS INBOX ({items})", f"{tag} OK STATUS done")

    async def _list(self, tag: str, words: list[bytes]) -> None:
        matches = len(words) == 3 and words[2].upper() in (b"*", b"%", b"INBOX")
        await self.say(*([r'* LIST () "/" INBOX'] if matches else []), f"{tag} OK LIST done")

    async def _close(self, tag: str, words: list[bytes]) -> None:
        if not self.selected:
            await self.say(f"{tag} BAD no mailbox is selected")
            return
        self.selected = False
        await self.say(f"{tag} OK CLOSE done")


class _Pop3(_Talk):
    """One POP3 conversation; deleting is refused, for the mailbox is everybody's on the page too."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.name = b""
        self.mails = list(self.house.mailbox.mails)  # a session sees the box as it was, RFC 1939 section 3
        self.commands: dict[str, Callable[[list[bytes]], Awaitable[None]]] = {
            "CAPA": self._capa,
            "STLS": self._stls,
            "USER": self._user,
            "PASS": self._pass,
            "STAT": self._stat,
            "LIST": self._list,
            "UIDL": self._uidl,
            "RETR": self._retr,
            "NOOP": self._noop,
            "RSET": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        await self.say(f"+OK {self.house.hostname} ready")
        while not self.ended:
            line = await self.hear()
            if line is None:
                return
            words = line.split(b" ", 1) if line[:4].upper() == b"PASS" else line.split()
            name = words[0].decode("ascii", "replace").upper() if words else ""
            command = self.commands.get(name)
            if command is None:
                self.complain()
                await self.say("-ERR unknown command")
            elif name in ("STAT", "LIST", "UIDL", "RETR", "NOOP", "RSET") and not self.user:
                await self.say("-ERR log in first")
            else:
                await command(words[1:])

    async def _capa(self, words: list[bytes]) -> None:
        offers = ["USER"] if self.secure else ["STLS"]
        await self.say("+OK", *offers, "UIDL", "RESP-CODES", ".")

    async def _stls(self, words: list[bytes]) -> None:
        if self.secure:
            await self.say("-ERR not now")
            return
        await self.begin_tls("+OK begin TLS now")

    async def _user(self, words: list[bytes]) -> None:
        if not self.secure:
            await self.say("-ERR begin TLS first")
            return
        self.name = words[0] if words else b""
        await self.say("+OK and the password")

    async def _pass(self, words: list[bytes]) -> None:
        if self.secure and self.name and words and self.house.knows(self.name, words[0]):
            self.user = True
            await self.say("+OK logged in")
            return
        self.complain()
        await self.say("-ERR [AUTH] wrong name or password")

    async def _stat(self, words: list[bytes]) -> None:
        await self.say(f"+OK {len(self.mails)} {sum(len(m.raw) for m in self.mails)}")

    async def _list(self, words: list[bytes]) -> None:
        await self._table([str(len(m.raw)) for m in self.mails], words)

    async def _uidl(self, words: list[bytes]) -> None:
        await self._table([str(m.number) for m in self.mails], words)

    async def _table(self, column: list[str], words: list[bytes]) -> None:
        if not words:
            await self.say("+OK", *(f"{n} {text}" for n, text in enumerate(column, 1)), ".")
            return
        number = self._number(words)
        await self.say(f"+OK {number} {column[number - 1]}" if number else "-ERR no such message")

    async def _retr(self, words: list[bytes]) -> None:
        number = self._number(words)
        if not number:
            await self.say("-ERR no such message")
            return
        raw = self.mails[number - 1].raw
        self.writer.write(f"+OK {len(raw)}\r\n".encode())
        stuffed = [b"." + line if line.startswith(b".") else line for line in raw.splitlines()]
        self.writer.write(b"".join(line + b"\r\n" for line in stuffed) + b".\r\n")
        await self.writer.drain()

    def _number(self, words: list[bytes]) -> int:
        """Return the message number given, counted from 1; 0 when there is no such message."""
        number = int(words[0]) if words and words[0].isdigit() and len(words[0]) < 6 else 0
        return number if number <= len(self.mails) else 0

    async def _noop(self, words: list[bytes]) -> None:
        await self.say("+OK")

    async def _quit(self, words: list[bytes]) -> None:
        self.ended = True
        await self.say("+OK goodbye")


def imap_session(house: MailHouse, tls: ssl.SSLContext) -> Session:
    """Return an IMAP session for a StreamListener; `tls` is what STARTTLS begins on one without TLS of its own."""
    return lambda reader, writer: _Imap(house, tls, reader, writer).run()


def pop3_session(house: MailHouse, tls: ssl.SSLContext) -> Session:
    """Return a POP3 session for a StreamListener; `tls` is what STLS begins on one without TLS of its own."""
    return lambda reader, writer: _Pop3(house, tls, reader, writer).run()
