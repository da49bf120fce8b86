"""A small mail house in the process: SMTP takes a message, IMAP shows it, each with the faults that a test asks for."""

from __future__ import annotations

import asyncio
import contextlib
import email
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes.base import Reading, Tools
from probes.mailflow import PROBE
from tests.probes.probing import run_probe
from tests.servers import LOOPBACK, Address, byte_server

PASSWORD = "mat-khau-rat-dai"
USER = "giam-sat"


@dataclass
class Mail:
    uid: int
    raw: bytes
    deleted: bool = False

    def header(self, name: str) -> str:
        return str(email.message_from_bytes(self.raw)[name] or "")


@dataclass
class House:
    """What both servers show; a test changes what it wants to go wrong."""

    replies: dict[str, bytes] = field(default_factory=dict)  # SMTP, by command or MESSAGE; empty hangs up
    answers: dict[str, bytes] = field(default_factory=dict)  # IMAP, by command; `%t` is the tag
    capabilities: bytes = b"IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS"
    ehlo: tuple[str, ...] = ("SIZE 1000000", "DSN")
    delay_s: float | None = 0.0  # from acceptance to the mailbox; None loses the message
    indexed: bool = True  # whether a search by header finds anything
    finds_everything: bool = False  # a search that answers with all there is
    searches_headers: bool = True
    mails: list[Mail] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)  # every message that SMTP accepted
    took: asyncio.Event = field(default_factory=asyncio.Event)
    smtp_heard: list[str] = field(default_factory=list)
    imap_heard: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)

    def put(self, raw: bytes) -> Mail:
        mail = Mail(max((m.uid for m in self.mails), default=100) + 1, raw)
        self.mails.append(mail)
        return mail

    def subjects(self) -> list[str]:
        return [mail.header("Subject") for mail in self.mails]

    async def run(self, tools: Tools | None = None, *, timeout_s: float = 3.0, **changes: Any) -> Reading:
        return await run_probe(PROBE, timeout_s=timeout_s, tools=tools, **{**self.keys, **changes})

    # SMTP.

    async def smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.replies.get("BANNER", b"220 mail.example.vn ESMTP\r\n"))
        while line := await reader.readline():
            command = line.decode().strip()
            word = command.split(" ")[0].upper()
            self.smtp_heard.append(command)
            reply = self.replies.get(word, self._usual(word))
            if not reply:
                return
            writer.write(reply)
            if word == "DATA" and reply.startswith(b"354"):
                raw = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                if not self._take(raw, writer):
                    return

    def _usual(self, word: str) -> bytes:
        if word == "EHLO":
            lines = ["mail.example.vn", *self.ehlo]
            return "".join(f"250{' ' if n == len(lines) else '-'}{t}\r\n" for n, t in enumerate(lines, 1)).encode()
        return {"DATA": b"354 go on\r\n", "QUIT": b"221 bye\r\n"}.get(word, b"250 2.0.0 Ok\r\n")

    def _take(self, raw: bytes, writer: asyncio.StreamWriter) -> bool:
        reply = self.replies.get("MESSAGE", b"250 2.0.0 Ok: queued as 4F00D\r\n")
        writer.write(reply)
        if not reply or reply.startswith(b"250"):
            self.taken.append(raw)
            self.took.set()
            if self.delay_s is not None:
                asyncio.get_running_loop().call_later(self.delay_s, self.put, raw)
        return bool(reply)

    # IMAP.

    async def imap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.answers.get("GREETING", b"* OK ready\r\n"))
        while line := await reader.readline():
            tag, _, rest = line.decode().strip().partition(" ")
            self.imap_heard.append(rest)
            words = rest.upper().split(" ")
            word = " ".join(words[:2]) if words[0] == "UID" else words[0]
            answer = self.answers.get(word)
            if "HEADER" in rest and not self.searches_headers and word == "UID SEARCH":
                answer = b"%t BAD no such key\r\n"
            if answer is None:
                answer = self._shown(word, rest) + b"%t OK done\r\n"
            writer.write(answer.replace(b"%t", tag.encode()))
            await writer.drain()
            if word == "LOGOUT" or not answer:
                return

    def _shown(self, word: str, rest: str) -> bytes:
        match word:
            case "CAPABILITY":
                return b"* CAPABILITY " + self.capabilities + b"\r\n"
            case "SELECT":
                next_uid = max((m.uid for m in self.mails), default=100) + 1
                return b"* %d EXISTS\r\n* OK [UIDNEXT %d] next\r\n" % (len(self.mails), next_uid)
            case "NOOP":
                return b"* %d EXISTS\r\n" % len(self.mails)
            case "UID SEARCH":
                return b"* SEARCH" + b"".join(b" %d" % mail.uid for mail in self._searched(rest)) + b"\r\n"
            case "UID FETCH":
                return b"".join(self._fetched(mail) for mail in self._named(rest))
        if word in ("UID STORE", "UID EXPUNGE"):
            self._change(word, self._named(rest))
        return b""

    def _change(self, word: str, mails: list[Mail]) -> None:
        for mail in mails:
            if word == "UID STORE":
                mail.deleted = True
            elif mail.deleted:
                self.mails.remove(mail)

    def _searched(self, rest: str) -> list[Mail]:
        if self.finds_everything:
            return self.mails
        found = self.mails
        if match := re.search(r"UID SEARCH UID (\d+):\*", rest):
            # What RFC 9051 says of n:*, the last message is in it whatever its number.
            found = [m for m in found if m.uid >= int(match[1])] or found[-1:]
        if "UNDELETED" in rest:
            found = [m for m in found if not m.deleted]
        if match := re.search(r'HEADER (\S+) "(.*)"', rest):
            name, text = match.groups()
            found = [m for m in found if self.indexed and m.header(name) and text in m.header(name)]
        return found

    def _named(self, rest: str) -> list[Mail]:
        uids = {int(uid) for uid in rest.split(" ")[2].split(",")}
        return [mail for mail in self.mails if mail.uid in uids]

    def _fetched(self, mail: Mail) -> bytes:
        names = ("Message-ID", "X-Thongsuot-Mailflow")
        text = "".join(f"{n}: {mail.header(n)}\r\n" for n in names if mail.header(n)).encode() + b"\r\n"
        head = b"* 1 FETCH (UID %d BODY[HEADER.FIELDS (MESSAGE-ID X)]<0> {%d}\r\n" % (mail.uid, len(text))
        return head + text + b")\r\n"


def keys_of(smtp: Address, imap: Address, password_file: Path) -> dict[str, Any]:
    login: Mapping[str, Any] = {
        "username": USER,
        "password_file": str(password_file),
        "plaintext_login": True,
    }
    return {
        "send": {"host": smtp.host, "port": smtp.port},
        "find": {"host": imap.host, "port": imap.port, **login},
        "sender": "giam-sat@example.vn",
        "recipient": "hop-thu@example.vn",
        "within": "1s",
        "poll": "100ms",
    }


@contextlib.asynccontextmanager
async def mail_house(folder: Path, **changes: Any) -> AsyncIterator[House]:
    """Start both servers over one mailbox."""
    file = folder / "password"
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    house = House(**changes)
    async with byte_server(house.smtp, host=LOOPBACK) as smtp, byte_server(house.imap, host=LOOPBACK) as imap:
        house.keys = keys_of(smtp, imap, file)
        yield house
