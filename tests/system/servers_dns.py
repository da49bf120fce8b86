"""A real unbound that answers from data written here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from tests.servers import LOOPBACK
from tests.system.servers import SBIN, Server, ServerError, free_port

_UNBOUND: Final = """
server:
    interface: {host}
    port: {port}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    chroot: ""
    username: ""
    use-syslog: no
    logfile: ""
    log-time-ascii: yes
    do-daemonize: no
    num-threads: 1
    module-config: "iterator"
    hide-version: yes
    # Nothing is asked of the world: what is not written here does not exist.
    local-zone: "." static
{zones}
remote-control:
    control-enable: yes
    control-interface: "{folder}/control"
    control-use-cert: no
"""


class Unbound(Server):
    """unbound that answers, over UDP and TCP, from data written here; every other name does not exist.

    `zone` has A, AAAA, MX, TXT, SOA and NS; `refused.example.vn` is REFUSED; `silent.example.vn` gets no answer.
    """

    name = "unbound"
    zone = "tinh.example.vn"
    records: ClassVar = (
        "tinh.example.vn. 300 IN SOA ns.tinh.example.vn. quan-tri.tinh.example.vn. 2027020601 3600 900 604800 300",
        "tinh.example.vn. 300 IN NS ns.tinh.example.vn.",
        "tinh.example.vn. 300 IN A 192.0.2.10",
        "tinh.example.vn. 300 IN AAAA 2001:db8::10",
        "tinh.example.vn. 300 IN MX 10 mail.tinh.example.vn.",
        'tinh.example.vn. 300 IN TXT "v=spf1 mx -all"',
        "ns.tinh.example.vn. 300 IN A 127.0.0.1",
        "mail.tinh.example.vn. 300 IN A 127.0.0.1",
        "mail.tinh.example.vn. 300 IN AAAA ::1",
        "www.tinh.example.vn. 300 IN CNAME tinh.example.vn.",
    )

    def __init__(
        self,
        *more_records: str,
        host: str = LOOPBACK,
        namespace: str | None = None,
        port: int | None = None,
        zones: Mapping[str, str] | None = None,
    ) -> None:
        """Args: more_records: in zone-file form. zones: more local zones, name to unbound's type. port: UDP and TCP."""
        super().__init__(host=host, namespace=namespace)
        self.port = port or free_port()
        self._records = (*self.records, *more_records)
        self._zones = {
            self.zone: "static",
            "refused.example.vn": "refuse",
            "silent.example.vn": "deny",
            **(zones or {}),
        }

    def set_record(self, record: str) -> None:
        """Add a record while it runs."""
        self._control("local_data", *record.split())

    def remove_name(self, name: str) -> None:
        """Take every record of a name away while it runs: it then does not exist."""
        self._control("local_data_remove", name)

    def prepare(self) -> None:
        lines = [f'    local-zone: "{name}." {kind}' for name, kind in self._zones.items()]
        lines += [f"    local-data: '{record}'" for record in self._records]
        text = _UNBOUND.format(host=self.host, port=self.port, folder=self.folder, zones="\n".join(lines))
        self.write("unbound.conf", text)
        # AppArmor confines the program in its place to /etc and /var; a copy may read its own folder.
        found = shutil.which("unbound", path=SBIN)
        if found is None:
            raise ServerError(f"unbound is in none of {SBIN}")
        shutil.copy(found, self.folder / "unbound")

    def command(self) -> Sequence[str]:
        return [f"{self.folder}/unbound", "-d", "-c", f"{self.folder}/unbound.conf"]

    def answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return True

    def _control(self, *words: str) -> None:
        argv = ["unbound-control", "-c", f"{self.folder}/unbound.conf", *words]
        env = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"}
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=10, check=False)
        if done.returncode:
            raise ServerError(f"unbound-control {words}: {done.stdout}{done.stderr}")
