"""Parsers of lines and texts: SMTP, IMAP, POP3, SIP, plugins, the resolver's files, heartbeats, `/probe`."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from exporters.blackbox import decoded, timeout_of
from probes import (
    exec_perf,
    heartbeat_ledger,
    imap_dialogue,
    mail_dialogue,
    mailflow_message,
    pop3,
    resolver_conf,
    sip_message,
    smtp_dialogue,
)
from probes.base import one_line, parse_duration
from probes.mailflow_mailbox import leftovers
from tests.fuzz.target import Target

_TOKEN: Final = "0123456789abcdef" * 2
_NOW: Final = datetime(2026, 2, 17, tzinfo=UTC)


def _smtp(data: bytes) -> None:
    texts = [smtp_dialogue.parse_reply_line(line)[2] for line in data.split(b"\n")]
    extensions = smtp_dialogue.parse_extensions(texts)
    assert len(extensions) <= smtp_dialogue.EXTENSIONS_KEPT
    smtp_dialogue.size_limit(extensions)
    assert len(mail_dialogue.shown_list(list(extensions))) <= 2 * mail_dialogue.LIST_LIMIT


def _quoted(data: bytes) -> None:
    shown = mail_dialogue.quote(data, (b"mat khau dai", b"abc"))
    assert shown.isprintable()
    assert len(shown) <= mail_dialogue.QUOTE_LIMIT + 60


def _imap(data: bytes) -> None:
    imap_dialogue.literal_size(data)
    found = imap_dialogue.parse_response(data)
    assert len(imap_dialogue.parse_capabilities(found.rest)) <= imap_dialogue.CAPABILITIES_KEPT


def _mailbox(data: bytes) -> None:
    mailflow_message.parse_search(data)
    found = mailflow_message.parse_fetch(data)
    mark = mailflow_message.parse_mark(found[1] if found else data)
    if mark is not None:
        leftovers({1: mark}, (), _NOW)


def _pop3(data: bytes) -> None:
    first, *rest = data.split(b"\n")
    pop3.parse_capabilities(rest)
    _, text = pop3.parse_status(first)
    pop3.parse_stat(text)


_OPTIONS: Final = sip_message.Options("sip:a.vn", "sip:m@a.vn", "UDP", "192.0.2.1:5060", "z9hG4bKx", "c@d", "t", 1, "x")


def _sip(data: bytes) -> None:
    message = sip_message.parse(data)
    _OPTIONS.is_answered_by(message)
    assert message.retry_after_s is None or message.retry_after_s < 10**9
    message.joined("allow")
    assert message.body_bytes >= 0


def _plugin(data: bytes) -> None:
    printed = exec_perf.split(data.decode("utf-8", "replace"))
    values = exec_perf.named(printed.perf)
    assert len(values) <= exec_perf.ITEMS_LIMIT
    assert all(map(math.isfinite, values.values()))
    one_line(printed.text)


def _resolv_conf(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    conf = resolver_conf.parse_resolv_conf(text)
    assert 1 <= len(conf.servers) <= resolver_conf.SERVERS_USED
    assert conf.timeout_s >= 1
    resolver_conf.parse_hosts(text)


def _heartbeat(data: bytes) -> None:
    """A call's note and source, as the web page's server hands them over."""
    note = one_line(data.decode("utf-8", "replace"))
    assert note.isprintable()
    beat = heartbeat_ledger.Beat(_NOW, 0.0, note=note, source=one_line(note, 50))
    assert len(beat.note) <= 200


def _probe(data: bytes) -> None:
    """The parameters and headers of `/probe`."""
    text = data.decode("latin-1")
    assert len(decoded(text)) <= len(text)
    parse_duration(text)


def _probe_timeout(data: bytes) -> None:
    assert math.isfinite(timeout_of(data.decode("latin-1"), 5.0, 0.5))


_SIP: Final = (
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport=5060;received=192.0.2.9\r\n"
    b"From: <sip:m@a.vn>;tag=t\r\nTo: <sip:a.vn>;tag=8f3\r\nCall-ID: c@d\r\nCSeq: 1 OPTIONS\r\nRetry-After: 30\r\n"
    b"Allow: INVITE,\r\n ACK\r\nServer: kamailio (5.6.3)\r\nContent-Length: 0\r\n\r\n"
)
_PLUGIN: Final = (
    b"DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n/ 15272 MB (77%);\n/boot 68 MB (69%);\n"
    b"/var/log 819 MB (84%); | /boot=68MB;88;93;0;98\n'nhi\xe1\xbb\x87t'=35C time=0.002s;;;0 load=1,5 x=U\n"
)
_RESOLV: Final = (
    b"# by hand\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch langson.gov.vn vn\noptions ndots:2 rotate\n"
)
_FETCH: Final = (
    b"(UID 12 BODY[HEADER.FIELDS (MESSAGE-ID X-THONGSUOT-MAILFLOW)]<0> {121}\r\nMessage-ID: <%b@langson.gov.vn>\r\n"
    b"X-Thongsuot-Mailflow: %b 1771286400\r\n\r\n)" % (_TOKEN.encode(), _TOKEN.encode())
)

TARGETS: Final = (
    Target(
        "smtp",
        _smtp,
        (
            b"250-mail.langson.gov.vn\n250-PIPELINING\n250-SIZE 10240000\n250-AUTH LOGIN\n250-AUTH=PLAIN\n250 DSN",
            b"220 mail.langson.gov.vn ESMTP Postfix (Debian/GNU)",
            b"535 5.7.8 Error: authentication failed",
        ),
        (ValueError,),
    ),
    Target("mail_quote", _quoted, (b"535 mat khau", b"b\xc3\xa1o c\xc3\xa1o \x1b[31m\r"), ()),
    Target(
        "imap",
        _imap,
        (
            b"* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE STARTTLS AUTH=PLAIN] Dovecot ready.",
            b"* 23 EXISTS",
            b"a1 NO [AUTHENTICATIONFAILED] Authentication failed.",
            b"+ idling",
            b'* LIST () "/" {5}\r\nINBOX',
        ),
        (ValueError,),
    ),
    Target("imap_mailbox", _mailbox, (_FETCH, b"2 84 882", b'(BODY[HEADER] "Message-ID: <a@b>\\"" UID 4)'), ()),
    Target("pop3", _pop3, (b"+OK 2 320\nUIDL\nSASL PLAIN LOGIN\nUSER", b"-ERR [AUTH] no"), (ValueError,)),
    Target("sip", _sip, (_SIP, b'OPTIONS sip:a.vn SIP/2.0\r\nv: SIP/2.0/TCP a;branch="b"\r\nl: 12\r\n\r\n')),
    Target("exec", _plugin, (_PLUGIN, b"OK | 'it''s'=1e3%;@5:9 b=-.5us"), ()),
    Target("resolv_conf_and_hosts", _resolv_conf, (_RESOLV, b"127.0.0.1 localhost\n::1 ip6-localhost # x\n"), ()),
    Target("heartbeat", _heartbeat, ("sao lưu xong: 12 GB\r\n".encode(),), ()),
    Target("probe_target", _probe, (b"30s", b"https%3A%2F%2Flangson.gov.vn%2F%25", b"500ms"), (ValueError,)),
    Target("probe_timeout", _probe_timeout, (b"10.000000", b"1e3", b"nan", b"inf"), (ValueError,)),
)
