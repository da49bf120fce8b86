"""The message that `mailflow` sends, and how it is known again among others.

It says in Vietnamese what it is, asks for no answer, and carries a token that nobody can guess in its Message-ID, in
its subject and in a header of its own. What is found is ours only when its Message-ID or that header, read back, holds
the token; an answer to it, which repeats the subject, is not.
Sources: RFC 5322 (messages), RFC 2045 and RFC 2047 (MIME), RFC 3834 (automatic messages), RFC 5321 section 4.5.2
(dots), RFC 9051 section 7 (SEARCH, FETCH).
"""

from __future__ import annotations

import email.policy
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

MARKER: Final = "X-Thongsuot-Mailflow"  # the header that only our messages carry
HEADER_LIMIT: Final = 2000  # bytes of a message's headers that are asked for; ours are far shorter
UID_LIMIT: Final = 2**32 - 1  # RFC 9051 section 9: nz-number is unsigned 32 bits

_TEXT: Final = """\
Kính gửi người dùng hộp thư này,

Đây là thư thử tự động của hệ thống giám sát Thông Suốt. Thư đi một vòng qua hệ thống thư điện tử để đo thời gian
chuyển thư, sau đó hệ thống giám sát tự xóa thư. Không cần trả lời, cũng không cần làm gì.

Phép kiểm tra: {check}
Gửi lúc: {at}
Mã thư: {token}

Nếu thư này còn nằm trong hộp thư quá hai giờ, xin báo cho bộ phận quản trị hệ thống giám sát.

Trân trọng.
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the headers of a message of ours say."""

    token: str
    sent: datetime | None  # UTC, by the clock of the monitor that sent it; None when our own header was taken away


def new_token() -> str:
    """Return 128 random bits as text: whoever does not know it cannot make a message that passes for ours."""
    return secrets.token_hex(16)


def build(token: str, sender: str, recipient: str, check: str, now: datetime) -> bytes:
    """Write the message, lines ended by CRLF, in ASCII only.

    Args:
        token: of `new_token`.
        sender: address of the From header.
        recipient: address of the To header.
        check: whose run it is; may be empty.
        now: aware; shown as this machine's local time.
    """
    local = now.astimezone()
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = Address("Giám sát Thông Suốt", addr_spec=sender)
    message["To"] = recipient
    message["Subject"] = f"Thư thử tự động, không cần trả lời [{token}]"
    message["Date"] = format_datetime(local)
    message["Message-ID"] = f"<{token}@{sender.rpartition('@')[2]}>"
    message[MARKER] = f"{token} {int(now.timestamp())}"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5: nobody's absence is to be told to us
    message["Precedence"] = "bulk"  # what responders older than that look at
    message["X-Auto-Response-Suppress"] = "All"  # and Exchange
    shown = f"{local:%d/%m/%Y %H:%M:%S} (UTC{local.isoformat()[-6:]})"
    message.set_content(_TEXT.format(check=check or "chạy bằng tay", at=shown, token=token), cte="base64")
    return bytes(message)


def dotted(message: bytes) -> bytes:
    """Double the dot of lines that begin with one, and end with the line that ends DATA, without its CRLF."""
    return re.sub(rb"(?m)^\.", b"..", message) + b"."


def parse_search(rest: bytes) -> tuple[int, ...]:
    """Read the numbers after `* SEARCH`; what is none is left out."""
    numbers = (int(word) for word in rest.split() if len(word) <= 10 and word.isdigit())
    return tuple(number for number in numbers if 0 < number <= UID_LIMIT)


# What was asked for, and its string: the first one, so that nothing in a header can pass for it.
_BODY: Final = re.compile(
    rb'BODY\[[^\]]{0,200}\](?:<\d{1,10}>)? (?:\{(\d{1,10})\}\r\n|"((?:[^"\\]|\\.)*)")', re.IGNORECASE | re.DOTALL
)
_UID: Final = re.compile(rb"(?:^|[( ])UID (\d{1,10})(?=[ )]|$)", re.IGNORECASE)


def parse_fetch(rest: bytes) -> tuple[int, bytes] | None:
    """Read the UID and the header lines of a FETCH response; None without either.

    The UID is looked for outside of the string: what a stranger wrote into a header is no answer of the server's.
    """
    body = _BODY.search(rest)
    if body is None:
        return None
    if body[1] is None:
        end, text = body.end(), re.sub(rb"\\(.)", rb"\1", body[2], flags=re.DOTALL)
    else:
        end = body.end() + int(body[1])
        text = rest[body.end() : end]
    found = _UID.search(rest[: body.start()]) or _UID.search(rest[end:])
    if found is None or not 0 < int(found[1]) <= UID_LIMIT:
        return None
    return int(found[1]), text


_MARK: Final = re.compile(rb"([0-9a-f]{32}) (\d{1,11})")
_FOLDED: Final = rb":((?:[^\r\n]|\r?\n[ \t])*)"
_MARKER_LINE: Final = re.compile(rb"^" + MARKER.encode() + _FOLDED, re.IGNORECASE | re.MULTILINE)
_ID_LINE: Final = re.compile(rb"^Message-ID" + _FOLDED, re.IGNORECASE | re.MULTILINE)
_ID: Final = re.compile(rb"<([0-9a-f]{32})@[^<>\s]+>")


def parse_mark(header: bytes) -> Mark | None:
    """Read our own header, or a Message-ID of our form where a server took our header away; None without either."""
    line = _MARKER_LINE.search(header)
    if line is not None and (found := _MARK.fullmatch(b" ".join(line[1].split()))):
        return Mark(found[1].decode("ascii"), datetime.fromtimestamp(int(found[2]), UTC))
    line = _ID_LINE.search(header)
    if line is not None and (found := _ID.fullmatch(line[1].strip())):
        return Mark(found[1].decode("ascii"), None)
    return None
