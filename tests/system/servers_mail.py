"""A real mail house: postfix takes and delivers, dovecot lets its users read; both over the same Maildirs.

No system user, alias or folder is used: mailboxes belong to a bare number, everything else is in the temporary
folder. Each instance has its own queue, so that several run side by side. Needs root: postfix changes users.
"""

from __future__ import annotations

import email
import email.policy
import grp
import os
import pwd
import smtplib
import socket
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from tests.servers import LOOPBACK, Certificate
from tests.system.servers import Server, free_port, wait_until

MAIL_UID: Final = 39125  # owner of the Maildirs: no user has it, and postfix and dovecot need none to
_QUEUES: Final = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace")

_MAIN: Final = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file_prefixes = {folder}
maillog_file = {folder}/postfix.log

myhostname = {hostname}
inet_interfaces = {host}
inet_protocols = all
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
biff = no
notify_classes =

virtual_mailbox_domains = {domains}
virtual_mailbox_base = {mail}
virtual_mailbox_maps = texthash:{folder}/etc/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}

mynetworks = 127.0.0.0/8 [::1]/128 10.0.0.0/8 [fd00::]/8
smtpd_relay_restrictions = permit_sasl_authenticated, {networks} reject_unauth_destination
smtpd_recipient_restrictions =
default_transport = {default_transport}
relayhost = {relayhost}
smtp_tls_security_level = may

# Names are not asked of the world, nobody waits to be polite, and what failed is tried again soon.
disable_dns_lookups = yes
smtpd_peername_lookup = no
in_flow_delay = 0
smtpd_error_sleep_time = 0
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 3s

smtpd_tls_chain_files = {certificate.key_file} {certificate.chain_file}
smtpd_tls_security_level = {tls_level}
smtpd_tls_session_cache_database =
smtp_tls_session_cache_database =
smtpd_sasl_auth_enable = {sasl}
smtpd_sasl_type = dovecot
smtpd_sasl_path = {sasl_path}
smtpd_tls_auth_only = {auth_only}
"""

_MASTER: Final = """
{host}:{port} inet n - n - - smtpd
{host}:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def read_maildir(folder: Path) -> list[EmailMessage]:
    """Read every message of a Maildir, oldest delivery first; an absent one is empty."""
    found: list[tuple[int, str, EmailMessage]] = []
    for file in (*folder.glob("new/*"), *folder.glob("cur/*")):
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        found.append((file.stat().st_mtime_ns, file.name, message))
    return [message for _, _, message in sorted(found, key=lambda entry: entry[:2])]


class Postfix(Server):
    """postfix with local users, STARTTLS on `port`, TLS from the first byte on `tls_port`.

    It takes mail for its users from anyone and, with `relayhost`, passes on everything else from loopback and
    10.0.0.0/8. Unknown users get a 550.
    """

    name = "postfix"

    def __init__(
        self,
        certificate: Certificate,
        *,
        users: Sequence[str] = ("truc@tinh.example.vn",),
        hostname: str = "mail.tinh.example.vn",
        host: str = LOOPBACK,
        namespace: str | None = None,
        port: int | None = None,
        relayhost: tuple[str, int] | None = None,
        starttls: bool = True,
        auth: Dovecot | None = None,
        auth_required: bool = False,
    ) -> None:
        """Args: relayhost: next hop of foreign mail. auth: whose users may log in; auth_required: only they relay."""
        super().__init__(host=host, namespace=namespace)
        self._certificate = certificate
        self._users = tuple(users)
        self._relayhost = relayhost
        self._starttls = starttls
        self._auth = auth
        self._auth_required = auth_required
        self.hostname = hostname
        self.port = port or free_port()
        self.tls_port = free_port()

    @property
    def maildirs(self) -> Path:
        """Folder of all mailboxes: domain, then user."""
        return self.folder / "mail"

    def mails(self, user: str | None = None) -> list[EmailMessage]:
        """Return what was delivered to a user, the first one unless named, oldest first."""
        name, _, domain = (user or self._users[0]).partition("@")
        return read_maildir(self.maildirs / domain / name)

    def wait_for_mails(self, count: int, *, user: str | None = None, within_s: float = 10.0) -> list[EmailMessage]:
        """Wait until a user has at least so many mails, and return them all.

        Raises:
            TimeoutError: with the logs.
        """
        try:
            return wait_until(lambda: found if len(found := self.mails(user)) >= count else [], within_s=within_s)
        except TimeoutError:
            have = len(self.mails(user))
            raise TimeoutError(f"{have} mails after {within_s:g} s, expected {count}\n{self.logs()}") from None

    def forget_mails(self) -> None:
        """Empty every mailbox."""
        for file in (*self.maildirs.glob("*/*/new/*"), *self.maildirs.glob("*/*/cur/*")):
            file.unlink()

    def queued(self) -> int:
        """Return how many messages wait in the queue."""
        queues = ("incoming", "active", "deferred")
        return sum(1 for q in queues for f in (self.folder / "queue" / q).rglob("*") if f.is_file())

    def prepare(self) -> None:
        self.write("etc/main.cf", self._main())
        self.write("etc/master.cf", _MASTER.format(host=self._address(), port=self.port, tls_port=self.tls_port))
        boxes = [f"{user} {user.partition('@')[2]}/{user.partition('@')[0]}/\n" for user in self._users]
        self.write("etc/mailboxes", "".join(boxes))
        for file in (self.folder / "etc").iterdir():
            os.utime(file, (0, 0))  # a file changed a moment ago makes postfix wait two seconds for its writer
        owner, drop = pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postdrop").gr_gid
        _folder(self.folder / "queue", 0o755)
        _folder(self.folder / "queue/pid", 0o755)
        for queue in (*_QUEUES, "private"):
            _folder(self.folder / "queue" / queue, 0o700, owner)
        _folder(self.folder / "queue/maildrop", 0o730, owner, drop)
        _folder(self.folder / "queue/public", 0o710, owner, drop)
        _folder(self.folder / "data", 0o700, owner)
        _folder(self.maildirs, 0o755, MAIL_UID, MAIL_UID)

    def command(self) -> Sequence[str]:
        return ["postfix", "-c", f"{self.folder}/etc", "start-fg"]

    def start(self) -> None:
        # The rights are right already: without this mark postfix spends two seconds on finding that out.
        (self.folder / "queue/quick-start").touch()
        super().start()

    def answers(self) -> bool:
        with smtplib.SMTP(self.host, self.port, local_hostname="thu.example.vn", timeout=5) as client:
            return client.noop()[0] == 250

    def _address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def _main(self) -> str:
        auth = self._auth
        return _MAIN.format(
            folder=self.folder,
            mail=self.maildirs,
            hostname=self.hostname,
            host=self.host,
            domains=" ".join(sorted({user.partition("@")[2] for user in self._users})),
            uid=MAIL_UID,
            networks="" if self._auth_required else "permit_mynetworks,",
            default_transport="smtp" if self._relayhost else "error:no way out of here",
            relayhost="[{}]:{}".format(*self._relayhost) if self._relayhost else "",
            certificate=self._certificate,
            tls_level="may" if self._starttls else "none",
            sasl="yes" if auth else "no",
            sasl_path=f"inet:{auth.host}:{auth.auth_port}" if auth else "unused",
            auth_only="yes" if self._starttls else "no",
        )


def _folder(path: Path, mode: int, uid: int = 0, gid: int = 0) -> None:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)


_DOVECOT: Final = """
protocols = imap pop3
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
listen = {host}
login_greeting = Hộp thư công vụ
mail_location = maildir:{mail}/%d/%n
first_valid_uid = {uid}
last_valid_uid = {uid}
disable_plaintext_auth = {tls_only}
auth_mechanisms = plain login
auth_failure_delay = 0
ssl = yes
ssl_cert = <{certificate.chain_file}
ssl_key = <{certificate.key_file}
passdb {{
    driver = passwd-file
    args = {folder}/users
}}
userdb {{
    driver = static
    args = uid={uid} gid={uid} home={mail}/%d/%n
}}
service imap-login {{
    inet_listener imap {{
        port = {imap}
    }}
    inet_listener imaps {{
        port = {imaps}
        ssl = yes
    }}
}}
service pop3-login {{
    inet_listener pop3 {{
        port = {pop3}
    }}
    inet_listener pop3s {{
        port = {pop3s}
        ssl = yes
    }}
}}
service anvil {{
    # No growing pauses after a wrong password.
    unix_listener anvil-auth-penalty {{
        mode = 0
    }}
}}
service auth {{
    inet_listener {{
        address = {host}
        port = {auth}
    }}
}}
"""


class Dovecot(Server):
    """dovecot: IMAP and POP3, plain with STARTTLS and TLS from the first byte, for users of a file."""

    name = "dovecot"
    stop_limit_s = 0.5  # it waits a second for its own log; nothing is lost without that

    def __init__(
        self,
        certificate: Certificate,
        *,
        maildirs: Path | None = None,
        users: Sequence[str] = ("truc@tinh.example.vn",),
        password: str = "Tết-2027",
        tls_only: bool = False,
        host: str = LOOPBACK,
        namespace: str | None = None,
    ) -> None:
        """Args: maildirs: those of a Postfix; None starts with empty ones. tls_only: no login without TLS."""
        # Dovecot trusts a client whose address is its own: with `tls_only` on loopback the host is 127.0.0.2.
        super().__init__(host=host, namespace=namespace)
        self._certificate = certificate
        self._maildirs = maildirs
        self._users = tuple(users)
        self._tls_only = tls_only
        self.username = self._users[0]
        self.password = password
        self.imap_port, self.imaps_port = free_port(), free_port()
        self.pop3_port, self.pop3s_port = free_port(), free_port()
        self.auth_port = free_port()

    def prepare(self) -> None:
        if self._maildirs is None:
            _folder(self.folder / "mail", 0o755, MAIL_UID, MAIL_UID)
        self.write("users", "".join(f"{user}:{{PLAIN}}{self.password}\n" for user in self._users))
        text = _DOVECOT.format(
            folder=self.folder,
            host=self.host,
            mail=self._maildirs or self.folder / "mail",
            uid=MAIL_UID,
            tls_only="yes" if self._tls_only else "no",
            certificate=self._certificate,
            imap=self.imap_port,
            imaps=self.imaps_port,
            pop3=self.pop3_port,
            pop3s=self.pop3s_port,
            auth=self.auth_port,
        )
        self.write("dovecot.conf", text)

    def command(self) -> Sequence[str]:
        return ["dovecot", "-F", "-c", f"{self.folder}/dovecot.conf"]

    def answers(self) -> bool:
        return self._greets(self.imap_port, b"* OK") and self._greets(self.pop3_port, b"+OK")

    def _greets(self, port: int, word: bytes) -> bool:
        with socket.create_connection((self.host, port), timeout=5) as connection:
            return connection.recv(512).startswith(word)
