"""Whole conversations over a connection whose other end says whatever it likes and then hangs up.

No socket and no loop: what a server says lies in the buffer of asyncio's own reader before the first question is put.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from pydantic import SecretStr

from probes import dialogue, imap, pop3, smtp
from probes.base import Measurement
from probes.mail_dialogue import Dialogue, MailSession
from probes.mailflow_mailbox import FindSettings, Mailbox
from probes.net import STREAM_LIMIT, Stream
from probes.websocket import Conversation
from tests.fuzz.target import Target

_NAMES: Final = {
    "host": "192.0.2.25", "username": "truc", "password_env": "MAT_KHAU", "plaintext_login": True, "starttls": "never",
}  # fmt: skip
_TOKEN: Final = "0123456789abcdef" * 2


class _Deaf:
    """A writer that throws everything away."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    async def drain(self) -> None:
        """Have room at once."""

    def get_extra_info(self, name: str) -> object:
        """Say our own address."""
        return ("192.0.2.1", 40000) if name == "sockname" else None


class _NoLoop:
    """For a reader that never waits."""

    def get_debug(self) -> bool:
        """Say no."""
        return False


def _heard(data: bytes) -> Stream:
    reader = asyncio.StreamReader(limit=STREAM_LIMIT, loop=cast("asyncio.AbstractEventLoop", _NoLoop()))
    reader.feed_data(data)
    reader.feed_eof()
    return Stream(reader, cast("asyncio.StreamWriter", _Deaf()))


def _driven(work: Coroutine[Any, Any, None]) -> None:
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise AssertionError("it waited for more, with the end of all bytes before it")


def _measurement() -> Measurement:
    return Measurement(timeout_s=5.0)


def _dialogue(data: bytes) -> Dialogue:
    return Dialogue(_measurement(), _heard(data), 0.0, secrets=(b"mat khau dai",))


async def _whole(session: MailSession[Any]) -> None:
    await session.greet()
    await session.learn()
    if session.offers_starttls():
        await session.agree_on_tls()
    await session.login("truc", SecretStr("mat khau dai"))
    await session.inspect()


def _mail(kind: Any, settings: Any, **more: object) -> Callable[[bytes], None]:
    checked = settings.model_validate_json(json.dumps({**_NAMES, **more}))

    def take(data: bytes) -> None:
        _driven(_whole(kind(checked, _dialogue(data))))

    return take


async def _look_for(mailbox: Mailbox) -> None:
    own = await mailbox.own()
    await mailbox.fresh(_TOKEN)
    await mailbox.late(_TOKEN)
    await mailbox.remove(list(own) or [1])
    await mailbox.fullness()


def _mailbox(settings: FindSettings, talk: Dialogue) -> Mailbox:
    return Mailbox(settings, talk, _look_for)


def _texts(data: bytes) -> None:
    steps = [dialogue.Step(expect="^220 .*"), dialogue.Step(send="A\r\n", expect="(?m)^OK")]
    _driven(dialogue.hold(steps, _heard(data), _measurement()))


def _socket(data: bytes) -> None:
    async def listen() -> None:
        conversation = Conversation(_heard(data))
        await conversation.say("chào")
        for _ in range(20):
            await conversation.hear()
        await conversation.leave()

    _driven(listen())


_IMAP: Final = (
    b"* OK ready\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS QUOTA\r\na1 OK done\r\na2 OK in\r\n"
    b"* 3 EXISTS\r\n* OK [UIDNEXT 9] x\r\na3 OK done\r\n"
)
_BOX: Final = (
    b"* OK ready\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\na1 OK done\r\na2 OK in\r\n"
    b"* CAPABILITY IMAP4rev1 UIDPLUS QUOTA\r\na3 OK\r\n* 2 EXISTS\r\n* OK [UIDNEXT 9] x\r\na4 OK [READ-WRITE] x\r\n"
    b"* SEARCH 7 8\r\na5 OK\r\n* 1 FETCH (UID 7 BODY[HEADER.FIELDS (MESSAGE-ID)]<0> {6}\r\na: b\r\n)\r\na6 OK\r\n"
    b"a7 OK\r\n* SEARCH\r\na8 OK\r\n* SEARCH 8\r\na9 OK\r\na10 OK\r\na11 OK\r\n* SEARCH\r\n"
    b"a12 OK\r\na13 OK\r\na14 OK\r\n"
    b"* QUOTAROOT INBOX r\r\n* QUOTA r (STORAGE 10 512)\r\na15 OK\r\n"
)

TARGETS: Final = (
    Target(
        "smtp_conversation",
        _mail(smtp.Session, smtp.Settings, rcpt={"recipient": "truc@a.vn", "sender": "m@a.vn"}),
        (b"220 a ESMTP\r\n250-a\r\n250-SIZE 9\r\n250 AUTH PLAIN LOGIN\r\n235 in\r\n250 ok\r\n250 ok\r\n250 ok\r\n",),
    ),
    Target("imap_conversation", _mail(imap.Session, imap.Settings, mailbox="Thư đến"), (_IMAP,)),
    Target(
        "pop3_conversation",
        _mail(pop3.Session, pop3.Settings),
        (b"+OK hi\r\n+OK\r\nUSER\r\nUIDL\r\n.\r\n+OK\r\n+OK\r\n+OK 2 320\r\n", b"+OK\r\n-ERR\r\n+OK\r\n-ERR no\r\n"),
    ),
    Target("mailbox_conversation", _mail(_mailbox, FindSettings), (_BOX,)),
    Target("dialogue", _texts, (b"220 a\r\nx\r\nOK then\r\n",)),
    Target("websocket_conversation", _socket, (b"\x81\x03abc" * 20 + b"\x89\x01p", b"\x81\x03abc\x88\x02\x03\xe8")),
)
