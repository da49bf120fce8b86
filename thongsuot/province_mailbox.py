"""The duty mailbox of the demo: keeps the last mails in memory and shows them on a page of its own.

What a mail contains is shown, never trusted: every text is escaped, and HTML stands in a sandboxed frame.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage
from html import escape
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import web

from probes.base import utc_now

MAILS_KEPT: Final = 200
MAIL_LIMIT_BYTES: Final = 512 * 1024  # chosen: an alert is a few kilobytes; 200 of these still fit in memory
LOCAL_TIME: Final = ZoneInfo("Asia/Ho_Chi_Minh")
NO_SUBJECT: Final = "(không tiêu đề)"
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Mail:
    """One accepted message."""

    number: int  # counts from 1, never used again
    arrived: datetime  # UTC
    via: str  # which server took it, for people
    sender: str  # of the envelope
    recipients: tuple[str, ...]
    raw: bytes

    def parsed(self) -> EmailMessage:
        """Return the message with its headers decoded."""
        return message_from_bytes(self.raw, policy=policy.default)

    def header(self, name: str) -> str:
        """Return a header decoded, or an empty string."""
        return {k.lower(): v for k, v in self.headers()}.get(name.lower(), "")

    def headers(self) -> Iterator[tuple[str, str]]:
        """Yield the headers in their order, decoded."""
        for name, raw in self.parsed().raw_items():
            yield _printable(name), decoded(str(raw))

    def body(self, subtype: str) -> str | None:
        """Return the first part of type `text/<subtype>` as text, whatever its charset claims; None without one."""
        for part in self.parsed().walk():
            if part.get_content_type() == f"text/{subtype}" and not part.is_attachment():
                payload = part.get_payload(decode=True)
                data = payload if isinstance(payload, bytes) else b""
                try:
                    return data.decode(part.get_content_charset("utf-8"), "replace")
                except LookupError:
                    return data.decode("utf-8", "replace")
        return None


class Mailbox:
    """The last mails, newest last; the oldest leaves when the box is full."""

    def __init__(self, keep: int = MAILS_KEPT) -> None:
        """Args: keep: how many mails at most."""
        self.mails: deque[Mail] = deque(maxlen=keep)
        self.accepted = 0  # ever; more than are kept once the box is full

    def add(self, via: str, sender: str, recipients: tuple[str, ...], raw: bytes) -> Mail:
        """Keep a message and return it numbered."""
        self.accepted += 1
        mail = Mail(self.accepted, utc_now(), via, sender, recipients, raw)
        self.mails.append(mail)
        return mail

    def find(self, number: int) -> Mail | None:
        """Return the mail of that number if it is still kept."""
        return next((m for m in self.mails if m.number == number), None)


def decoded(raw: str) -> str:
    """Return a header's text on one line, its encoded words read (RFC 2047); as it stands when they cannot be.

    Not by the parser of `policy.default`, which keeps the blank between two encoded words of a name.
    """
    text = _printable(re.sub(r"[\r\n]+[ \t]*", " ", raw))
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _printable(text: str) -> str:
    # Bytes outside ASCII come as surrogates, which no page can be encoded with.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def local(moment: datetime) -> str:
    """Return a moment as a duty officer writes it."""
    return moment.astimezone(LOCAL_TIME).strftime("%d/%m/%Y %H:%M:%S")


class MailboxPages:
    """The pages of a mailbox: a list, each mail, its source, and the list for machines."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; only reading is offered."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="Chỉ xem, không sửa được.", headers={"Allow": "GET, HEAD"})
        match request.path.strip("/").split("/"):
            case [""]:
                return _html(self._list())
            case ["api", "mails"]:
                return web.Response(text=self._json(), content_type="application/json", headers=SECURITY)
            case ["mail", number]:
                mail = self._numbered(number)
                return _html(_mail_page(mail)) if mail else _missing()
            case ["mail", number, "source"]:
                mail = self._numbered(number)
                return _source(mail) if mail else _missing()
            case _:
                return _missing()

    def _numbered(self, text: str) -> Mail | None:
        return self._mailbox.find(int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None

    def _list(self) -> str:
        rows = "".join(_row(m) for m in reversed(self._mailbox.mails))
        kept, accepted = len(self._mailbox.mails), self._mailbox.accepted
        note = f"Đã nhận {accepted} thư" + (f", còn giữ {kept} thư mới nhất" if kept < accepted else "")
        table = f"<table><tr><th>Nhận lúc</th><th>Tiêu đề</th><th>Gửi tới</th><th>Qua máy chủ</th></tr>{rows}</table>"
        empty = "<p>Chưa có thư nào. Trang này tự làm mới.</p>"
        return _page("Hộp thư trực", f"<p>{note}.</p>{table if rows else empty}", refresh=True)

    def _json(self) -> str:
        return json.dumps(
            [
                {
                    "number": m.number,
                    "arrived": m.arrived.isoformat(),
                    "via": m.via,
                    "from": m.sender,
                    "to": m.recipients,
                    "subject": m.header("Subject"),
                    "message_id": m.header("Message-ID"),
                    "references": m.header("References"),
                    "text": m.body("plain"),
                }
                for m in self._mailbox.mails
            ],
            ensure_ascii=False,
        )


def _row(mail: Mail) -> str:
    title = escape(mail.header("Subject")) or NO_SUBJECT
    return (
        f'<tr><td>{local(mail.arrived)}</td><td><a href="/mail/{mail.number}">{title}</a></td>'
        f"<td>{escape(mail.header('To'))}</td><td>{escape(mail.via)}</td></tr>"
    )


def _mail_page(mail: Mail) -> str:
    headers = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in mail.headers())
    text, html = mail.body("plain"), mail.body("html")
    parts = [
        '<p><a href="/">← Hộp thư</a> · '
        f'<a href="/mail/{mail.number}/source">Nguyên văn</a></p>'
        f"<p>Nhận lúc {local(mail.arrived)} qua {escape(mail.via)}; phong bì: từ {escape(mail.sender) or '(trống)'} "
        f"tới {escape(', '.join(mail.recipients))}.</p>",
        f"<table>{headers}</table>",
        f"<h2>Bản chữ</h2><pre>{escape(text)}</pre>" if text is not None else "",
        f'<h2>Bản HTML</h2><iframe sandbox="" title="Bản HTML" srcdoc="{escape(html)}"></iframe>'
        if html is not None
        else "",
    ]
    return _page(mail.header("Subject") or NO_SUBJECT, "".join(parts))


def _source(mail: Mail) -> web.Response:
    return web.Response(body=mail.raw, content_type="text/plain", charset="utf-8", headers=SECURITY)


def _page(title: str, body: str, *, refresh: bool = False) -> str:
    again = '<meta http-equiv="refresh" content="5">' if refresh else ""
    return (
        f'<!doctype html><html lang="vi"><head><meta charset="utf-8">{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:70rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{border:1px solid #ccc;padding:.3rem .5rem;text-align:left;"
    "vertical-align:top;overflow-wrap:break-word}th{background:#f2f2f2;white-space:nowrap}"
    "pre{white-space:pre-wrap;border:1px solid #ccc;padding:1rem}iframe{width:100%;height:36rem;border:1px solid #ccc}"
)


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", headers=SECURITY)


def _missing() -> web.Response:
    text = _page("Không có trang này", '<p>Thư có thể đã nhường chỗ cho thư mới. <a href="/">Hộp thư</a></p>')
    return web.Response(status=404, text=text, content_type="text/html", headers=SECURITY)
