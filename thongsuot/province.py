"""The demo province: mail, portal, name server, data centre, conference and carriers, as real servers on loopback.

Each institution has an address of its own in 127.0.0.0/8, which Linux answers without any set-up; ports are chosen
free at start. Nothing here leaves the machine, and nothing here knows the monitor.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

import trustme

from probes.base import utc_now
from thongsuot import province_web as pages
from thongsuot.province_dns import DnsListener, Zones
from thongsuot.province_mail import MailHouse, SmtpListener, imap_session, pop3_session
from thongsuot.province_mailbox import Mailbox, MailboxPages
from thongsuot.province_net import Listener, Part, StreamListener, WebListener, line_service

AnyListener = TypeVar("AnyListener", bound=Listener)

DOMAIN: Final = "songxuan.example.vn"
MAIL_HOST: Final = "127.10.0.25"
PORTAL_HOST: Final = "127.10.0.80"
SERVICES_HOST: Final = "127.10.0.81"
OFFICE_HOST: Final = "127.10.0.82"
NAME_HOST: Final = "127.10.0.53"
CENTRE_HOST: Final = "127.10.0.1"
CONFERENCE_HOST: Final = "127.10.0.60"
DUTY_HOST: Final = "127.0.0.1"  # the mailbox and its page: what people open stands on the plain loopback address
RESOLVER_HOST: Final = "127.1.0.53"
EXCHANGE_HOST: Final = "127.1.0.1"
CARRIERS: Final[Mapping[str, str]] = {"vnpt": "127.20.1.1", "viettel": "127.20.2.1", "mobifone": "127.20.3.1"}
MAIL_USER: Final = "truc"
ADDRESSES: Final = f"""\
@ 300 IN SOA ns.{DOMAIN}. hostmaster.{DOMAIN}. 2027020601 3600 600 604800 60
@ 300 IN NS ns
@ 300 IN A {PORTAL_HOST}
@ 300 IN MX 10 mail
@ 300 IN TXT "v=spf1 mx -all"
ns 300 IN A {NAME_HOST}
mail 300 IN A {MAIL_HOST}
mail 300 IN AAAA 2001:db8:10::25
www 300 IN A {PORTAL_HOST}
dichvucong 300 IN A {SERVICES_HOST}
vanphong 300 IN A {OFFICE_HOST}
hoptructuyen 300 IN A {CONFERENCE_HOST}
"""
CERTIFICATE_LIFE: Final = timedelta(days=90)
NATIONAL: Final = """\
@ 300 IN SOA a.dns-servers.vn. hostmaster.example.vn. 2027020601 3600 600 604800 60
@ 300 IN NS a.dns-servers.vn.
@ 300 IN NS b.dns-servers.vn.
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """The demo's own certificate authority."""

    ca: trustme.CA
    file: Path  # its certificate, PEM

    def server(self, *names: str) -> ssl.SSLContext:
        """Return a server context with a certificate for these names and addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.ca.issue_cert(*names, not_after=utc_now() + CERTIFICATE_LIFE).configure_cert(context)
        return context


def _prepare(folder: Path) -> tuple[Authority, dict[str, ssl.SSLContext], Path, str]:
    """Write the authority's certificate and the mail user's password; blocking, for a thread."""
    authority = Authority(trustme.CA(organization_name="Demo of thongsuot"), folder / "ca.pem")
    authority.ca.cert_pem.write_to_path(str(authority.file))
    named = {
        "mail": MAIL_HOST,
        "www": PORTAL_HOST,
        "dichvucong": SERVICES_HOST,
        "vanphong": OFFICE_HOST,
        "ttdl": CENTRE_HOST,
        "hoptructuyen": CONFERENCE_HOST,
    }
    contexts = {label: authority.server(f"{label}.{DOMAIN}", host) for label, host in named.items()}
    password = secrets.token_urlsafe(18)
    password_file = folder / "mail-password"
    password_file.touch(mode=0o600)
    password_file.write_text(password + "\n", "utf-8")
    return authority, contexts, password_file, password


class Province:
    """Every server of the demo, started together, broken and mended one part at a time."""

    def __init__(
        self, authority: Authority, contexts: Mapping[str, ssl.SSLContext], password_file: Path, password: str
    ) -> None:
        """Built by `open_province`; every port is chosen here, nothing listens yet."""
        self.authority = authority
        self.password_file = password_file
        self.mailbox = Mailbox()
        self.portal_site = pages.portal()
        self.services_site = pages.public_services()
        self.names = Zones((DOMAIN, ADDRESSES))
        self._ports: dict[str, int] = {}
        self._contexts = contexts
        house = MailHouse(DOMAIN, f"mail.{DOMAIN}", MAIL_USER, password, self.mailbox)
        self.mail = self._mail_part(house)
        self.portal = self._web_part("portal", PORTAL_HOST, self.portal_site, "www")
        self.public_services = self._web_part("services", SERVICES_HOST, self.services_site, "dichvucong")
        self.office = self._web_part("office", OFFICE_HOST, pages.office(), "vanphong")
        self.name_server = Part(self._named("dns", DnsListener(NAME_HOST, self.names)))
        self.data_centre = self._data_centre_part()
        self.conference = self._conference_part()
        self.carriers = {carrier: self._carrier_part(carrier, host) for carrier, host in CARRIERS.items()}
        self.references = self._reference_part()
        self._duty_page = WebListener(DUTY_HOST, MailboxPages(self.mailbox).handle)
        duty_smtp = SmtpListener(DUTY_HOST, house, "hộp thư trực (máy chủ dự phòng)")
        self.duty = Part(self._named("duty_smtp", duty_smtp), self._duty_page)

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports by what listens there, as the configuration's template names them."""
        return self._ports

    @property
    def mailbox_url(self) -> str:
        """Where people read the duty mailbox."""
        return self._duty_page.url

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything that can be started and stopped."""
        return (
            self.mail,
            self.portal,
            self.public_services,
            self.office,
            self.name_server,
            self.data_centre,
            self.conference,
            *self.carriers.values(),
            self.references,
            self.duty,
        )

    async def start(self) -> None:
        """Start every part; OSError when a port is not to be had."""
        for part in self.parts:
            await part.start()

    async def close(self) -> None:
        """Stop every part and give the ports back."""
        for part in self.parts:
            await part.close()

    def _named(self, name: str, listener: AnyListener) -> AnyListener:
        self._ports[name] = listener.port
        return listener

    def _mail_part(self, house: MailHouse) -> Part:
        tls = self._contexts["mail"]
        imap, pop3 = imap_session(house, tls), pop3_session(house, tls)
        return Part(
            self._named("smtp", SmtpListener(MAIL_HOST, house, "máy chủ thư công vụ", tls=tls)),
            self._named("imap", StreamListener(MAIL_HOST, imap)),
            self._named("imaps", StreamListener(MAIL_HOST, imap, tls=tls)),
            self._named("pop3", StreamListener(MAIL_HOST, pop3)),
            self._named("pop3s", StreamListener(MAIL_HOST, pop3, tls=tls)),
        )

    def _web_part(self, name: str, host: str, site: pages.Site, certificate: str) -> Part:
        return Part(
            self._named(f"{name}_http", WebListener(host, site.handle)),
            self._named(f"{name}_https", WebListener(host, site.handle, tls=self._contexts[certificate])),
        )

    def _data_centre_part(self) -> Part:
        site = pages.data_centre()
        return Part(
            self._named("centre_storage", StreamListener(CENTRE_HOST, line_service("STORAGE 1.0 ready"))),
            self._named("centre_database", StreamListener(CENTRE_HOST, line_service("DATABASE 1.0 ready"))),
            self._named("centre_https", WebListener(CENTRE_HOST, site.handle, tls=self._contexts["ttdl"])),
        )

    def _conference_part(self) -> Part:
        tls = self._contexts["hoptructuyen"]
        return Part(
            self._named("conference_signal", StreamListener(CONFERENCE_HOST, line_service(""))),
            self._named("conference_tls", StreamListener(CONFERENCE_HOST, line_service(""), tls=tls)),
            self._named("conference_http", WebListener(CONFERENCE_HOST, pages.conference().handle)),
        )

    def _carrier_part(self, carrier: str, host: str) -> Part:
        return Part(
            self._named(f"{carrier}_dns", DnsListener(host, Zones((DOMAIN, ADDRESSES), recursive=True))),
            self._named(f"{carrier}_tcp", StreamListener(host, line_service(f"{carrier} line test ready"))),
        )

    def _reference_part(self) -> Part:
        resolver = Zones((DOMAIN, ADDRESSES), ("vn", NATIONAL), recursive=True)
        return Part(
            self._named("resolver_dns", DnsListener(RESOLVER_HOST, resolver)),
            self._named("exchange_dns", DnsListener(EXCHANGE_HOST, Zones(("vn", NATIONAL)))),
            self._named("gateway_tcp", StreamListener(DUTY_HOST, line_service(""))),
        )


async def open_province(folder: Path) -> Province:
    """Choose ports, make certificates and start everything; `folder` gets `ca.pem` and `mail-password`.

    Raises:
        OSError: the folder cannot be written, or loopback addresses other than 127.0.0.1 are not to be had.
    """
    province = Province(*await asyncio.to_thread(_prepare, folder))
    try:
        await province.start()
    except OSError:
        await province.close()
        raise
    return province
