"""SIP messages as bytes: an OPTIONS request made, answers read and matched. No sockets.

Source: RFC 3261 sections 7 (messages), 8.1.1 (what a request holds), 17.1.3 (matching), 20 (headers); RFC 3581 (rport).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from probes.base import Fault, ProbeError, one_line

HEAD_LIMIT: Final = 65535  # bytes
LINES_LIMIT: Final = 200  # header lines; chosen: several times what real servers send
_STATUS_LINE: Final = re.compile(r"SIP/2\.0 +(\d{3})(?: (.*))?")
_BRANCH: Final = re.compile(r";\s*branch\s*=\s*\"?([^\s;,\"]+)", re.IGNORECASE)
_CSEQ: Final = re.compile(r"(\d{1,10})\s+(\S+)")
# RFC 3261 section 7.3.3: header names that may be written with one letter.
_LONG_NAMES: Final = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "k": "supported",
    "s": "subject",
    "c": "content-type",
    "e": "content-encoding",
}


@dataclass(frozen=True, slots=True)
class Options:
    """An OPTIONS request: to whom, from where, and by what its answers are known."""

    uri: str
    sender: str  # the From address
    transport: str  # UDP, TCP or TLS
    sent_by: str  # our own host:port
    branch: str
    call_id: str
    tag: str
    cseq: int
    agent: str
    max_forwards: int = 70

    def encode(self) -> bytes:
        """Write the request."""
        lines = (
            f"OPTIONS {self.uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.sent_by};branch={self.branch};rport",
            f"Max-Forwards: {self.max_forwards}",
            f"From: <{self.sender}>;tag={self.tag}",
            f"To: <{self.uri}>",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq} OPTIONS",
            f"Contact: <sip:{self.sent_by};transport={self.transport.lower()}>",
            "Accept: application/sdp",
            f"User-Agent: {self.agent}",
            "Content-Length: 0",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode()

    def is_answered_by(self, response: Message) -> bool:
        """Say whether a response is this request's (RFC 3261 section 17.1.3, and its Call-ID)."""
        return (
            response.status > 0
            and response.branch == self.branch
            and response.cseq == (self.cseq, "OPTIONS")
            and response.header("call-id") == self.call_id
        )


@dataclass(frozen=True, slots=True)
class Message:
    """A message's first line and headers; names in lower case and long form, in order of appearance."""

    status: int  # 0 for a request
    reason: str
    headers: Mapping[str, Sequence[str]]

    def header(self, name: str) -> str:
        """Return the first header of that name, or an empty string."""
        return next(iter(self.headers.get(name, ())), "")

    def joined(self, name: str) -> str:
        """Return all headers of that name as one list with commas."""
        return ", ".join(self.headers.get(name, ()))

    @property
    def branch(self) -> str:
        """The branch of the topmost Via, by which the sender of the request knows it."""
        found = _BRANCH.search(self.header("via").partition(",")[0])
        return found[1] if found else ""

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method that are answered; (0, "") when they cannot be read."""
        found = _CSEQ.fullmatch(self.header("cseq").strip())
        return (int(found[1]), found[2]) if found else (0, "")

    @property
    def agent(self) -> str:
        """What the server calls itself."""
        return self.header("server") or self.header("user-agent")

    @property
    def retry_after_s(self) -> int | None:
        """When the server wants to be asked again."""
        found = re.match(r"\d{1,9}", self.header("retry-after"))
        return int(found[0]) if found else None

    @property
    def body_bytes(self) -> int:
        """Size of the body behind this head; 0 when it is not said.

        Raises:
            ProbeError: PROTOCOL when it is no number.
        """
        text = self.header("content-length").strip()
        if not text:
            return 0
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise ProbeError(Fault.PROTOCOL, f"a Content-Length came that is none: {one_line(text, 30)!r}")
        return int(text)


def parse(head: bytes) -> Message:
    """Read a message's head, up to its first empty line.

    Raises:
        ProbeError: PROTOCOL when it is no SIP message.
    """
    text = head[:HEAD_LIMIT].decode("utf-8", "replace").lstrip("\r\n")
    text = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    lines = re.sub(r"\r?\n[ \t]+", " ", text).replace("\r\n", "\n").split("\n", LINES_LIMIT + 1)
    status = _STATUS_LINE.fullmatch(lines[0])
    if status is None and not lines[0].endswith(" SIP/2.0"):
        raise ProbeError(Fault.PROTOCOL, f"no SIP message came: {one_line(lines[0], 60)!r}")
    if len(lines) > LINES_LIMIT + 1:
        raise ProbeError(Fault.PROTOCOL, f"more than {LINES_LIMIT} header lines came")
    if status is None:
        return Message(0, "", _headers(lines[1:]))
    code = int(status[1])
    if not 100 <= code <= 699:
        raise ProbeError(Fault.PROTOCOL, f"status {code} came, which SIP does not know")
    return Message(code, (status[2] or "").strip(), _headers(lines[1:]))


def _headers(lines: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not line:
            continue  # the head ended with its last line
        name = name.strip().lower()
        if not colon or not name:
            raise ProbeError(Fault.PROTOCOL, f"a header line came that is none: {one_line(line, 60)!r}")
        found.setdefault(_LONG_NAMES.get(name, name), []).append(value.strip())
    return found
