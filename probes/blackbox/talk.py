"""Dialogues of the tcp and unix probers: lines and bytes expected, lines sent, TLS begun on the way.

A pattern is looked for in whole lines, the last one before the end of the stream included; with `compat: fixed` also
in a line that has no end yet, such as a prompt. Bytes read ahead are never lost, whatever kinds of steps follow each
other.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from probes.base import Fault, Measurement, ProbeError
from probes.blackbox.address import choose, once_more, open_chosen
from probes.blackbox.expression import expand, search
from probes.blackbox.modules import QueryResponse, TalkModule
from probes.blackbox.task import EXPECT_LABEL, Task, keep, split_host_port
from probes.blackbox.tls import Again, Wish, secure
from probes.net import Stream
from probes.tls_context import alert_words
from probes.unix import open_unix

LINE_LIMIT: Final = 65536  # bytes of a line, as the original's scanner takes


async def probe_tcp(task: Task, m: Measurement) -> None:
    """Connect and hold the dialogue.

    Raises:
        ProbeError: the probe failed; the reason was said.
        OSError: the connection failed.
    """
    module = task.module.tcp
    where = split_host_port(task.target)
    if where is None:
        raise task.fail("Error splitting target address and port", err="expected host:port")
    host, port = where
    ip = await choose(task, m, host, module)
    task.say("Dialing TCP", tls=module.tls)
    async with open_chosen(task, m, where, ip, module) as stream:
        await _hold(task, m, stream, module, host, once_more(m, ip, port))


async def probe_unix(task: Task, m: Measurement) -> None:
    """Connect to a socket of this machine and hold the dialogue.

    Raises:
        ProbeError: the probe failed; the reason was said.
        OSError: the connection failed.
    """
    task.say("Dialing unix socket", tls=task.module.unix.tls)
    async with open_unix(m, task.target) as stream:
        await _hold(task, m, stream, task.module.unix, "", lambda: open_unix(Measurement(m.timeout_s), task.target))


async def _hold(task: Task, m: Measurement, stream: Stream, module: TalkModule, host: str, again: Again) -> None:
    task.say("Successfully dialed")
    if module.tls:
        await secure(task, m, stream, Wish(module.tls_config, host, again))
    m.values |= {"failed_due_to_regex": 0.0, "failed_due_to_bytes": 0.0}
    talk = _Talk(task, m, stream)
    with m.phase("processing"):
        for number, step in enumerate(module.query_response):
            task.say("Processing query response entry", entry_number=number)
            await talk.take(step)
            if step.starttls:
                if stream.ssl_object is not None:
                    raise task.fail("starttls inside TLS")
                if talk.heard:
                    raise task.fail("The server said more before TLS began", bytes=len(talk.heard))
                await secure(task, m, stream, Wish(module.tls_config, host))


class _Talk:
    """What the server has said and no step has used yet."""

    def __init__(self, task: Task, m: Measurement, stream: Stream) -> None:
        self._task = task
        self._m = m
        self._stream = stream
        self.heard = bytearray()

    async def take(self, step: QueryResponse) -> None:
        """Do what a step says, but for TLS."""
        send = step.send
        if step.expect is not None:
            match = await self._expect(step.expect)
            send = expand(send, match)
            for label in step.labels:
                keep(self._m, f"{EXPECT_LABEL}{label.name}", expand(label.value, match))
        elif step.expect_bytes is not None:
            await self._expect_bytes(step.expect_bytes.encode("utf-8"))
        if send:
            self._task.say("Sending line", "debug", line=send)
            await self._stream.write(send.encode("utf-8") + b"\n")

    async def _expect(self, pattern: str) -> Any:
        line = b""
        while (found := await self._line(pattern)) is not None:
            line = found
            self._task.say("Read line", "debug", line=line.decode("utf-8", "replace"))
            match = search(pattern, line)
            if match is not None:
                self._task.say("Regexp matched", regexp=pattern)
                self._m.values["failed_due_to_regex"] = 0.0
                return match
        self._m.values["failed_due_to_regex"] = 1.0
        raise self._task.fail("Regexp did not match", regexp=pattern, line=line.decode("utf-8", "replace"))

    async def _line(self, pattern: str) -> bytes | None:
        """Return the next line without its end, the rest before the end of the stream included; None after that."""
        while (end := self.heard.find(b"\n")) < 0:
            if len(self.heard) > LINE_LIMIT:
                raise self._task.fail("Error reading from connection", err="a line longer than 65536 bytes")
            if self._task.fixed and self.heard and search(pattern, bytes(self.heard)) is not None:
                break
            if not (data := await self._more()):
                break
            self.heard += data
        if not self.heard:
            return None
        taken = len(self.heard) if end < 0 else end + 1
        line = bytes(self.heard[:taken])
        del self.heard[:taken]
        return line.removesuffix(b"\n").removesuffix(b"\r")

    async def _expect_bytes(self, wanted: bytes) -> None:
        while len(self.heard) < len(wanted):
            if not (data := await self._more()):
                raise self._task.fail("Read less data than expected", expected=len(wanted), bytes=len(self.heard))
            self.heard += data
        came = bytes(self.heard[: len(wanted)])
        del self.heard[: len(wanted)]
        if came != wanted:
            self._m.values["failed_due_to_bytes"] = 1.0
            raise self._task.fail("Bytes did not match", expected=wanted.hex(), bytes=came.hex())
        self._m.values["failed_due_to_bytes"] = 0.0

    async def _more(self) -> bytes:
        try:
            return await self._stream.read_some()
        except ssl.SSLError as exc:  # TLS 1.3 refuses a client only after the handshake
            raise ProbeError(Fault.TLS, alert_words(exc)) from exc
