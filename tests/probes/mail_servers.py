"""Scripted mail servers for the tests of smtp, imap and pop3: bytes in, bytes out, TLS where the script says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from probes import PROBES
from probes.base import Path, Reading, Tools, measure
from tests.servers import LOOPBACK, Address, byte_server

PASSWORD = 'Mật khẩu "rất" bí mật\\123'

LOGIN_WORDS = frozenset({b"AUTH", b"AUTHENTICATE", b"LOGIN", b"USER", b"PASS"})


@dataclass
class Script:
    """What a server says. `%t` in an answer is the tag of an IMAP command."""

    greeting: bytes
    answers: Mapping[bytes, bytes]  # by the command's word, upper case; an unknown one gets `otherwise`
    inside: Mapping[bytes, bytes] = field(default_factory=dict)  # overrides once TLS has begun
    otherwise: bytes = b""
    starttls: ssl.SSLContext | None = None  # handshake after answering the command
    tagged: bool = False
    heard: list[tuple[bool, bytes]] = field(default_factory=list)  # (inside TLS, line), in order
    peers: list[str] = field(default_factory=list)
    spoken_to: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername")[0])
        inside = writer.get_extra_info("ssl_object") is not None
        try:
            writer.write(self.greeting)
            while line := await reader.readline():
                line = line.rstrip(b"\r\n")
                self.heard.append((inside, line))
                self.spoken_to.set()
                word = self.word(line)
                writer.write(self.answer(line, word, inside))
                await writer.drain()
                if word in (b"STARTTLS", b"STLS") and self.starttls is not None and not inside:
                    await _start_tls(writer, self.starttls)
                    inside = True
                if word in (b"QUIT", b"LOGOUT"):
                    return
        finally:
            self.hung_up.set()

    def word(self, line: bytes) -> bytes:
        words = line.upper().split(b" ")
        return words[1] if self.tagged and len(words) > 1 else words[0]

    def answer(self, line: bytes, word: bytes, inside: bool) -> bytes:
        answers = {**self.answers, **self.inside} if inside else self.answers
        return answers.get(word, self.otherwise).replace(b"%t", line.split(b" ")[0])

    def commands(self, *, inside: bool | None = None) -> list[bytes]:
        return [self.word(line) for tls, line in self.heard if inside in (None, tls)]


async def _start_tls(writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    protocol = writer.transport.get_protocol()
    try:
        await writer.start_tls(context)
    except BaseException:
        # asyncio forgets to tell the stream, and whoever waits for its end would wait for ever.
        protocol.connection_lost(None)
        raise


def smtp_script(**changes: Any) -> Script:
    script = Script(
        greeting=b"220 mail.example.vn ESMTP\r\n",
        answers={
            b"EHLO": b"250-mail.example.vn\r\n250-SIZE 10240000\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
            b"STARTTLS": b"220 2.0.0 Ready\r\n",
            b"MAIL": b"250 2.1.0 Ok\r\n",
            b"RCPT": b"250 2.1.5 Ok\r\n",
            b"RSET": b"250 2.0.0 Ok\r\n",
            b"AUTH": b"235 2.7.0 Ok\r\n",
            b"QUIT": b"221 2.0.0 Bye\r\n",
        },
        inside={b"EHLO": b"250-mail.example.vn\r\n250-SIZE 10240000\r\n250 AUTH PLAIN LOGIN\r\n"},
        otherwise=b"502 5.5.2 Command not recognized\r\n",
    )
    return replace(script, **changes)


def imap_script(**changes: Any) -> Script:
    script = Script(
        greeting=b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
        answers={
            b"CAPABILITY": b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n%t OK done\r\n",
            b"STARTTLS": b"%t OK begin\r\n",
            b"AUTHENTICATE": b"%t OK logged in\r\n",
            b"LOGIN": b"%t OK logged in\r\n",
            b"EXAMINE": b"* FLAGS (\\Seen)\r\n* 23 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n%t OK [READ-ONLY] done\r\n",
            b"LOGOUT": b"* BYE\r\n%t OK\r\n",
        },
        inside={b"CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n%t OK done\r\n"},
        otherwise=b"%t BAD unknown command\r\n",
        tagged=True,
    )
    return replace(script, **changes)


def pop3_script(**changes: Any) -> Script:
    script = Script(
        greeting=b"+OK ready\r\n",
        answers={
            b"CAPA": b"+OK\r\nUSER\r\nSTLS\r\nSASL\r\n.\r\n",
            b"STLS": b"+OK begin\r\n",
            b"USER": b"+OK\r\n",
            b"PASS": b"+OK logged in\r\n",
            b"AUTH": b"+OK logged in\r\n",
            b"STAT": b"+OK 7 12345\r\n",
            b"QUIT": b"+OK bye\r\n",
        },
        inside={b"CAPA": b"+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n"},
        otherwise=b"-ERR unknown command\r\n",
    )
    return replace(script, **changes)


SCRIPTS = {"smtp": smtp_script, "imap": imap_script, "pop3": pop3_script}


def serving(
    script: Script, *, host: str = LOOPBACK, tls: ssl.SSLContext | None = None
) -> AbstractAsyncContextManager[Address]:
    return byte_server(script.serve, host=host, tls=tls)


def settings_of(kind: str, address: Address, **keys: Any) -> Any:
    text = json.dumps({"host": address.host, "port": address.port, **keys}, default=str)
    return PROBES[kind].settings.model_validate_json(text)


async def probe(
    kind: str, address: Address, *, timeout_s: float = 5.0, path: Path | None = None, **keys: Any
) -> Reading:
    tools = Tools()
    try:
        return await measure(
            PROBES[kind], settings_of(kind, address, **keys), timeout_s=timeout_s, path=path, tools=tools
        )
    finally:
        tools.close()


def password_file(folder: FilePath) -> FilePath:
    file = folder / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return file


@asynccontextmanager
async def answering(kind: str, **changes: Any) -> AsyncIterator[tuple[Script, Address]]:
    script = SCRIPTS[kind](**changes)
    async with contextlib.AsyncExitStack() as stack:
        yield script, await stack.enter_async_context(serving(script))
