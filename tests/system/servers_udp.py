"""Real servers that speak UDP: chrony for the time, coturn as a relay, kamailio as a telephone exchange."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from probes.ntp import encode_query
from probes.sip_message import Options
from probes.stun_message import Method, encode
from tests.servers import LOOPBACK, Certificate
from tests.system.servers import SBIN, Server, ServerError, free_port

_CHRONY: Final = """
{clock}
allow
bindaddress {host}
port {port}
cmdport 0
pidfile {folder}/chronyd.pid
driftfile {folder}/drift
"""


def program(name: str) -> str:
    """Return the path of a server's program, also where a plain user's PATH does not reach."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if found is None:
        raise ServerError(f"{name} is in none of {SBIN}")
    return found


def copied(name: str, folder: Path) -> str:
    """Copy a program: AppArmor confines some in their own place to /etc and /var."""
    return str(shutil.copy(program(name), folder / name))


def udp_says(host: str, port: int, words: bytes) -> bytes:
    """Send one datagram and return the answer; OSError when none comes within 200 ms."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect((host, port))
        sock.send(words)
        return sock.recv(65535)


class Chrony(Server):
    """chronyd that serves this machine's own time and never touches its clock (-x)."""

    name = "chrony"

    def __init__(self, *, host: str = LOOPBACK, stratum: int | None = 3, namespace: str | None = None) -> None:
        """Args: stratum: what it claims to be; None is a server that has not found its own time yet."""
        super().__init__(host=host, namespace=namespace)
        self.port = free_port(host)
        self._stratum = stratum

    def prepare(self) -> None:
        clock = f"local stratum {self._stratum}" if self._stratum is not None else ""
        self.write("chrony.conf", _CHRONY.format(clock=clock, host=self.host, port=self.port, folder=self.folder))
        copied("chronyd", self.folder)

    def command(self) -> Sequence[str]:
        return [f"{self.folder}/chronyd", "-d", "-x", "-u", "root", "-f", f"{self.folder}/chrony.conf"]

    def answers(self) -> bool:
        with contextlib.suppress(TimeoutError):
            return len(udp_says(self.host, self.port, encode_query(1))) >= 48
        return False


_COTURN: Final = """
listening-port={port}
tls-listening-port={tls_port}
listening-ip={host}
relay-ip={host}
min-port={first}
max-port={last}
realm={realm}
lt-cred-mech
user={user}:{password}
cert={cert}
pkey={key}
allow-loopback-peers
no-cli
cli-password=none
pidfile={folder}/turnserver.pid
userdb={folder}/turndb
log-file=stdout
simple-log
user-quota={quota}
"""


class Coturn(Server):
    """coturn that gives one user relays on loopback, by UDP, TCP and TLS."""

    name = "coturn"
    realm = "tinh.example.vn"
    username = "giam-sat"
    password = "mật khẩu 1"

    def __init__(self, certificate: Certificate, *, host: str = LOOPBACK, quota: int = 0) -> None:
        """Args: quota: relays that one user may have at once; 0 is no limit."""
        super().__init__(host=host)
        self.port, self.tls_port = free_port(host), free_port(host)
        self._certificate = certificate
        self._quota = quota

    def prepare(self) -> None:
        first = free_port(self.host)
        text = _COTURN.format(
            port=self.port,
            tls_port=self.tls_port,
            host=self.host,
            first=first,
            last=first + 20,
            realm=self.realm,
            user=self.username,
            password=self.password,
            cert=self._certificate.chain_file,
            key=self._certificate.key_file,
            folder=self.folder,
            quota=self._quota,
        )
        self.write("turnserver.conf", text)

    def command(self) -> Sequence[str]:
        return [program("turnserver"), "-c", f"{self.folder}/turnserver.conf"]

    def answers(self) -> bool:
        with contextlib.suppress(TimeoutError):
            return len(udp_says(self.host, self.port, encode(Method.BINDING, bytes(12)))) > 20
        return False


_KAMAILIO: Final = """
debug=1
log_stderror=yes
fork=no
children=1
disable_tcp=no
tcp_children=1
enable_tls=yes
auto_aliases=no
listen=udp:{at}:{port}
listen=tcp:{at}:{port}
listen=tls:{at}:{tls_port}
user_agent_header="User-Agent: Tổng đài tỉnh"
server_header="Server: Tổng đài tỉnh"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "tls.so"
modparam("tls", "config", "{folder}/tls.cfg")
request_route {{
    if ($rU == "ban") {{ sl_send_reply("486", "Busy Here"); exit; }}
    if ($rU == "cho") {{ sl_send_reply("100", "Trying"); exit; }}
    if ($rU != $null) {{ sl_send_reply("404", "Not Found"); exit; }}
    append_to_reply("Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\\r\\n");
    sl_send_reply("200", "OK");
}}
"""
_KAMAILIO_TLS: Final = """
[server:default]
method = TLSv1.2+
verify_certificate = no
require_certificate = no
private_key = {key}
certificate = {cert}
"""


class Kamailio(Server):
    """A kamailio that answers OPTIONS by UDP, TCP and TLS, and knows no subscriber.

    The subscriber `ban` is busy, `cho` is only ever being tried, any other is not found.
    """

    name = "kamailio"
    agent = "Tổng đài tỉnh"

    def __init__(self, certificate: Certificate, *, host: str = LOOPBACK) -> None:
        super().__init__(host=host)
        self.port, self.tls_port = free_port(host), free_port(host)
        self._certificate = certificate

    def prepare(self) -> None:
        at = f"[{self.host}]" if ":" in self.host else self.host
        text = _KAMAILIO.format(at=at, port=self.port, tls_port=self.tls_port, folder=self.folder)
        self.write("kamailio.cfg", text)
        files = self._certificate
        self.write("tls.cfg", _KAMAILIO_TLS.format(key=files.key_file, cert=files.chain_file))

    def command(self) -> Sequence[str]:
        own = ["-Y", str(self.folder), "-w", str(self.folder), "-P", f"{self.folder}/kamailio.pid"]
        return [program("kamailio"), "-f", f"{self.folder}/kamailio.cfg", "-DD", "-E", "-m", "32", "-M", "4", *own]

    def answers(self) -> bool:
        request = Options(f"sip:{LOOPBACK}", "sip:a@b", "UDP", f"{LOOPBACK}:9", "z9hG4bK1", "1", "1", 1, "thongsuot")
        with contextlib.suppress(TimeoutError):
            return udp_says(self.host, self.port, request.encode()).startswith(b"SIP/2.0 200")
        return False
