"""The demo province is spoken to by the standard library's own clients, not by our probes."""

from __future__ import annotations

import asyncio
import imaplib
import json
import poplib
import smtplib
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiohttp
import dns.asyncquery
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thongsuot import province as places
from thongsuot.province import DOMAIN, MAIL_HOST, NAME_HOST, PORTAL_HOST, Province, open_province
from thongsuot.province_dns import Zones
from thongsuot.province_mailbox import decoded
from thongsuot.province_web import Trouble


@pytest.fixture
async def province(tmp_path: Path) -> AsyncIterator[Province]:
    opened = await open_province(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def trust(province: Province) -> ssl.SSLContext:
    context = ssl.create_default_context()
    province.authority.ca.configure_trust(context)
    return context


def password(province: Province) -> str:
    return province.password_file.read_text().strip()


def alert(subject: str = "Gián đoạn: Thư điện tử công vụ") -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"giam-sat@{DOMAIN}"
    message["To"] = f"truc@{DOMAIN}"
    message["Subject"] = subject
    message["Message-ID"] = "<1@songxuan.example.vn>"
    message.set_content("Máy chủ thư không trả lời.\n")
    message.add_alternative("<p>Máy chủ thư <b>không</b> trả lời.</p><script>alert(1)</script>", subtype="html")
    return message


def send(host: str, port: int, message: EmailMessage, trust: ssl.SSLContext | None = None, login: str = "") -> None:
    with smtplib.SMTP(host, port, timeout=5) as client:
        if trust is not None:
            client.starttls(context=trust)
        if login:
            client.login(places.MAIL_USER, login)
        client.send_message(message)


async def page(url: str, trust: ssl.SSLContext | None = None) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, ssl=trust or True) as response:
        return response.status, await response.text(errors="replace")


async def refused(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


async def test_smtp_takes_mail_after_starttls_and_login(province: Province, trust: ssl.SSLContext) -> None:
    await asyncio.to_thread(send, MAIL_HOST, province.ports["smtp"], alert(), trust, password(province))

    (mail,) = province.mailbox.mails
    assert mail.header("Subject") == "Gián đoạn: Thư điện tử công vụ"
    assert mail.recipients == (f"truc@{DOMAIN}",)
    assert mail.via == "máy chủ thư công vụ"


async def test_smtp_refuses_a_wrong_password_and_a_foreign_domain(province: Province, trust: ssl.SSLContext) -> None:
    port = province.ports["smtp"]

    with pytest.raises(smtplib.SMTPAuthenticationError):
        await asyncio.to_thread(send, MAIL_HOST, port, alert(), trust, "wrong")
    foreign = alert()
    foreign.replace_header("To", "someone@elsewhere.example")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        await asyncio.to_thread(send, MAIL_HOST, port, foreign, trust)
    assert not province.mailbox.mails


async def test_smtp_offers_no_login_without_tls(province: Province) -> None:
    with pytest.raises(smtplib.SMTPNotSupportedError):
        await asyncio.to_thread(send, MAIL_HOST, province.ports["smtp"], alert(), None, "x")


async def test_imap_logs_in_and_counts_the_inbox_over_tls_and_starttls(
    province: Province, trust: ssl.SSLContext
) -> None:
    province.mailbox.add("test", "", (), alert().as_bytes())

    def talk(client: imaplib.IMAP4) -> tuple[object, ...]:
        client.login(places.MAIL_USER, password(province))
        selected = list(client.select("INBOX")[1])  # a copy: imaplib adds what NOOP brings to the same list
        status = client.status("INBOX", "(MESSAGES UIDNEXT)")
        client.noop()
        client.close()
        missing = client.select("Khong-co")[0]
        with pytest.raises(imaplib.IMAP4.error):
            client.status("INBOX", "(COLOUR)")
        listed = client.list()
        client.logout()
        return selected, status, missing, listed

    def implicit() -> tuple[object, ...]:
        return talk(imaplib.IMAP4_SSL(MAIL_HOST, province.ports["imaps"], ssl_context=trust, timeout=5))

    def upgraded() -> tuple[object, ...]:
        client = imaplib.IMAP4(MAIL_HOST, province.ports["imap"], timeout=5)
        assert "LOGINDISABLED" in client.capabilities
        client.starttls(ssl_context=trust)
        assert "LOGINDISABLED" not in client.capabilities
        return talk(client)

    expected = (
        [b"1"],
        ("OK", [b"INBOX (MESSAGES 1 UIDNEXT 2)"]),
        "NO",
        ("OK", [b'() "/" INBOX']),
    )
    assert await asyncio.to_thread(implicit) == expected
    assert await asyncio.to_thread(upgraded) == expected


async def test_imap_refuses_a_wrong_login_and_commands_before_it(province: Province, trust: ssl.SSLContext) -> None:
    def wrong() -> None:
        client = imaplib.IMAP4_SSL(MAIL_HOST, province.ports["imaps"], ssl_context=trust, timeout=5)
        try:
            client.login(places.MAIL_USER, 'not "it"')
        finally:
            client.shutdown()

    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        await asyncio.to_thread(wrong)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"a CAPABILITY\r\n", b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na OK"),
        (b"a LOGIN truc x\r\n", b"a NO [PRIVACYREQUIRED]"),
        (b"a LOGIN {4}\r\ntruc {1}\r\nx\r\n", b"+ go on\r\n+ go on\r\na NO [PRIVACYREQUIRED]"),
        (b"a LOGIN {4+}\r\ntruc {1+}\r\nx\r\n", b"a NO [PRIVACYREQUIRED]"),
        (b"a SELECT INBOX\r\n", b"a NO log in first"),
        (b"a FLY\r\n", b"a BAD unknown command"),
        (b'a LOGIN "open\r\n', b"a BAD cannot read"),
        (b"a STATUS\r\n", b"a NO log in first"),
        (b"a CLOSE\r\n", b"a BAD no mailbox"),
        (b"a NOOP\r\n", b"a OK"),
        (b"a LOGIN {99999}\r\n", b"a BAD cannot read"),
        (b"\r\n", b"* BAD cannot read"),
        (b"a LOGOUT\r\n", b"* BYE goodbye\r\na OK"),
        (b"a FLY\r\n" * 10, b"a BAD unknown command\r\n" * 10),
        (b"x" * 70000 + b"\r\n", b""),
        (b"a STARTTLS\r\nb NOOP\r\n", b""),
    ],
)
async def test_imap_answers_byte_for_byte(province: Province, sent: bytes, answer: bytes) -> None:
    reader, writer = await asyncio.open_connection(MAIL_HOST, province.ports["imap"])
    greeting = await reader.readline()
    writer.write(sent)
    writer.write_eof()
    try:
        heard = await reader.read()
    except ConnectionResetError:
        heard = b""
    writer.close()

    assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1")
    assert heard.startswith(answer)


async def test_pop3_counts_lists_and_returns_mail(province: Province, trust: ssl.SSLContext) -> None:
    message = EmailMessage()
    message.set_content(".một dòng bắt đầu bằng dấu chấm\n", cte="8bit")
    mail = province.mailbox.add("test", "", (), message.as_bytes())

    def talk(client: poplib.POP3) -> tuple[object, ...]:
        client.user(places.MAIL_USER)
        client.pass_(password(province))
        client.noop()
        with pytest.raises(poplib.error_proto):
            client.retr(2)
        heard = client.stat(), client.list()[1], client.uidl()[1], b"\n".join(client.retr(1)[1])
        client.quit()
        return heard

    def implicit() -> tuple[object, ...]:
        return talk(poplib.POP3_SSL(MAIL_HOST, province.ports["pop3s"], context=trust, timeout=5))

    def upgraded() -> tuple[object, ...]:
        client = poplib.POP3(MAIL_HOST, province.ports["pop3"], timeout=5)
        assert "STLS" in client.capa()
        client.stls(context=trust)
        return talk(client)

    size = len(mail.raw)
    expected = (1, size), [f"1 {size}".encode()], [b"1 1"], mail.raw.rstrip(b"\n")
    assert await asyncio.to_thread(implicit) == expected
    assert await asyncio.to_thread(upgraded) == expected


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"USER truc\r\n", b"-ERR begin TLS first"),
        (b"STAT\r\n", b"-ERR log in first"),
        (b"PASS x y\r\n", b"-ERR [AUTH]"),
        (b"FLY\r\n\r\n", b"-ERR unknown command\r\n-ERR unknown command"),
        (b"QUIT\r\n", b"+OK goodbye"),
    ],
)
async def test_pop3_answers_byte_for_byte(province: Province, sent: bytes, answer: bytes) -> None:
    reader, writer = await asyncio.open_connection(MAIL_HOST, province.ports["pop3"])
    await reader.readline()
    writer.write(sent)
    writer.write_eof()
    heard = await reader.read()
    writer.close()

    assert heard.startswith(answer)


async def test_the_mail_service_stops_and_starts_on_the_same_ports(province: Province, trust: ssl.SSLContext) -> None:
    ports = [listener.port for listener in province.mail.listeners]
    reader, writer = await asyncio.open_connection(MAIL_HOST, province.ports["smtp"])
    await reader.readline()
    idle, idle_writer = await asyncio.open_connection(MAIL_HOST, province.ports["imap"])
    await idle.readline()

    await province.mail.stop()
    cut = [await _read_to_end(reader), await _read_to_end(idle)]
    writer.close()
    idle_writer.close()
    down = [await refused(MAIL_HOST, port) for port in ports]
    await province.mail.start()
    await asyncio.to_thread(send, MAIL_HOST, province.ports["smtp"], alert(), trust)

    assert cut == [b"", b""]
    assert down == [True] * 5
    assert len(province.mailbox.mails) == 1
    assert [await refused(MAIL_HOST, port) for port in ports] == [False] * 5


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 2)
    except ConnectionResetError:
        return b""


async def test_the_portal_serves_its_pages_over_http_and_https(province: Province, trust: ssl.SSLContext) -> None:
    plain = f"http://{PORTAL_HOST}:{province.ports['portal_http']}"
    secure = f"https://{PORTAL_HOST}:{province.ports['portal_https']}"

    assert "Cổng thông tin điện tử" in (await page(f"{plain}/"))[1]
    assert "Giao thừa" in (await page(f"{secure}/le-hoi", trust))[1]
    assert (await page(f"{plain}/khong-co"))[0] == 404
    health = await page(f"{secure}/health", trust)
    assert json.loads(health[1])["status"] == "ok"


async def test_the_portal_in_trouble_answers_503_and_recovers(province: Province) -> None:
    url = f"http://{PORTAL_HOST}:{province.ports['portal_http']}/"
    province.portal_site.trouble = Trouble(delay_s=0.01)
    troubled = await page(url)
    province.portal_site.trouble = None

    assert troubled[0] == 503
    assert (await page(url))[0] == 200


async def test_the_other_sites_show_what_their_checks_look_for(province: Province, trust: ssl.SSLContext) -> None:
    ports = province.ports
    wanted = {
        f"https://{places.OFFICE_HOST}:{ports['office_https']}/dang-nhap": "Mật khẩu",
        f"https://{places.SERVICES_HOST}:{ports['services_https']}/tra-cuu": "Tra cứu hồ sơ",
        f"https://{places.CENTRE_HOST}:{ports['centre_https']}/": "Trung tâm tích hợp dữ liệu",
        f"http://{places.CONFERENCE_HOST}:{ports['conference_http']}/": "Truyền hình trực tuyến",
    }
    for url, text in wanted.items():
        status, body = await page(url, trust)
        assert (status, text in body) == (200, True), url


@pytest.mark.parametrize("tcp", [False, True])
async def test_the_name_server_answers_what_is_so_and_denies_what_is_not(province: Province, tcp: bool) -> None:
    async def ask(name: str, kind: str) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        over = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await over(query, NAME_HOST, port=province.ports["dns"], timeout=2)

    addresses = await ask(f"www.{DOMAIN}", "A")
    assert addresses.answer[0].to_text().endswith(PORTAL_HOST)
    assert addresses.flags & dns.flags.AA
    assert (await ask(f"mail.{DOMAIN}", "AAAA")).answer[0].to_text().endswith("2001:db8:10::25")
    assert (await ask(DOMAIN, "MX")).answer[0].to_text().endswith(f"10 mail.{DOMAIN}.")
    assert "2027020601" in (await ask(DOMAIN, "SOA")).answer[0].to_text()
    missing = await ask(f"khong-co.{DOMAIN}", "A")
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert missing.authority
    empty = await ask(f"www.{DOMAIN}", "MX")
    assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])
    assert (await ask("elsewhere.example", "A")).rcode() == dns.rcode.REFUSED


def zones() -> Zones:
    big = "\n".join(f"@ 300 IN A 192.0.2.{n}" for n in range(60))
    soa = "@ 300 IN SOA ns.example.vn. h.example.vn. 1 3600 600 604800 60\n@ 300 IN NS ns\na.b 300 IN A 192.0.2.1"
    return Zones(("example.vn", f"{soa}\n{big}"))


def test_an_answer_too_long_for_udp_is_marked_and_fits_over_tcp() -> None:
    query = dns.message.make_query("example.vn", "A")
    query.use_edns(False)
    over_udp, over_tcp = zones().reply(query.to_wire(), udp=True), zones().reply(query.to_wire(), udp=False)

    assert over_udp is not None
    assert over_tcp is not None
    assert len(over_udp) <= 512
    assert over_udp[2] & 0x02  # TC
    assert len(dns.message.from_wire(over_tcp).answer[0]) == 60


def test_a_name_with_names_below_it_exists() -> None:
    answer = zones().answer(dns.message.make_query("b.example.vn", "A"))

    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


def test_what_is_no_query_gets_an_error_or_nothing() -> None:
    notify = dns.message.make_query("example.vn", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    chaos = dns.message.make_query("version.bind", "TXT", "CH")
    response = dns.message.make_response(dns.message.make_query("example.vn", "A"))

    assert zones().answer(notify).rcode() == dns.rcode.NOTIMP
    assert zones().answer(chaos).rcode() == dns.rcode.REFUSED
    assert zones().reply(response.to_wire(), udp=True) is None
    assert zones().reply(b"short", udp=True) is None


@given(st.binary(max_size=64))
def test_no_bytes_whatever_upset_the_name_server(wire: bytes) -> None:
    reply = zones().reply(wire, udp=True)

    assert reply is None or reply[:2] == wire[:2]


async def test_the_references_and_carriers_answer(province: Province) -> None:
    national = dns.message.make_query("vn", "NS")
    answer = await dns.asyncquery.udp(national, places.EXCHANGE_HOST, port=province.ports["exchange_dns"], timeout=2)
    assert len(answer.answer[0]) == 2
    for carrier, host in places.CARRIERS.items():
        reader, writer = await asyncio.open_connection(host, province.ports[f"{carrier}_tcp"])
        assert carrier.encode() in await reader.readline()
        writer.close()
        query = dns.message.make_query(f"www.{DOMAIN}", "A")
        reply = await dns.asyncquery.udp(query, host, port=province.ports[f"{carrier}_dns"], timeout=2)
        assert reply.flags & dns.flags.RA


async def test_the_mailbox_page_shows_a_mail_and_keeps_its_html_in_a_sandbox(province: Province) -> None:
    await asyncio.to_thread(send, places.DUTY_HOST, province.ports["duty_smtp"], alert())

    listed = await page(province.mailbox_url)
    shown = await page(f"{province.mailbox_url}mail/1")
    source = await page(f"{province.mailbox_url}mail/1/source")
    machine = json.loads((await page(f"{province.mailbox_url}api/mails"))[1])
    assert "Gián đoạn: Thư điện tử công vụ" in listed[1]
    assert "Message-ID" in shown[1]
    assert "Máy chủ thư không trả lời." in shown[1]
    assert '<iframe sandbox=""' in shown[1]
    assert "<script>" not in shown[1]
    assert "Message-ID: <1@songxuan.example.vn>" in source[1]
    assert machine[0]["subject"] == "Gián đoạn: Thư điện tử công vụ"
    assert (await page(f"{province.mailbox_url}mail/2"))[0] == 404
    assert (await page(f"{province.mailbox_url}mail/%C2%B2"))[0] == 404


async def test_the_mailbox_keeps_the_last_mails_only(province: Province) -> None:
    for number in range(250):
        province.mailbox.add("test", "", (), alert(f"Thư {number}").as_bytes())

    assert len(province.mailbox.mails) == 200
    assert "Đã nhận 250 thư, còn giữ 200 thư mới nhất" in (await page(province.mailbox_url))[1]
    assert (await page(f"{province.mailbox_url}mail/1"))[0] == 404
    assert "Thư 249" in (await page(f"{province.mailbox_url}mail/250"))[1]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?utf-8?b?U+G7nyBU?=\r\n =?utf-8?b?VCAobeG6q3Up?= <a@b>", "Sở TT (mẫu) <a@b>"),
        ("plain\r\n\tfolded", "plain folded"),
        ("=?utf-8?b?U+G7?=", "=?utf-8?b?U+G7?="),
        ("=?no-such?q?x?=", "=?no-such?q?x?="),
        ("=?utf-8?b?x?=", "=?utf-8?b?x?="),
        ("Gi\udcc3\udca1n \u0111o\u1ea1n", "Gi\u00e1n \u0111o\u1ea1n"),
    ],
)
def test_headers_are_read_as_mail_programs_read_them(raw: str, text: str) -> None:
    assert decoded(raw) == text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00 no header at all",
        b"Subject: =?utf-8?q?broken\r\nFrom: <<>>\r\nTo: a@@b\r\nMessage-ID: <\r\n\r\nbody\xff",
        b"Content-Type: text/plain; charset=no-such\r\n\r\nxin ch\xc3\xa0o",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Transfer-Encoding: base64\r\n\r\n!!\r\n",
        b"Date: never\r\nContent-Disposition: ;;;\r\nContent-Type: ;\r\n\r\n",
    ],
)
async def test_a_mail_of_garbage_is_shown_all_the_same(province: Province, raw: bytes) -> None:
    province.mailbox.add("test", "", (), raw)

    statuses = [
        (await page(f"{province.mailbox_url}{path}"))[0] for path in ("", "mail/1", "mail/1/source", "api/mails")
    ]
    assert statuses == [200] * 4
