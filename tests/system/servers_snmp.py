"""A real snmpd with the interfaces of the namespace it stands in, for versions 2c and 3."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar, Final

from probes.snmp_message import encode_v2c, get
from tests.system.servers import Server, free_port
from tests.system.servers_udp import program, udp_says

_CONFIG: Final = """
agentaddress udp:{host}:{port}
rocommunity {community}
createUser signed SHA-256 {auth_password}
createUser sealed SHA {auth_password} AES {priv_password}
rouser signed authNoPriv
rouser sealed authPriv
sysName bo-dinh-tuyen
[snmp] persistentDir {folder}/persistent
"""


class Snmpd(Server):
    """snmpd; users `signed` (SHA-256) and `sealed` (SHA and AES)."""

    name = "snmpd"
    community: ClassVar = "cong-khai"
    auth_password: ClassVar = "mat-khau-ky"
    priv_password: ClassVar = "mat-khau-kin"

    def __init__(self, *, host: str = "127.0.0.1", namespace: str | None = None) -> None:
        super().__init__(host=host, namespace=namespace)
        self.port = 161 if namespace else free_port(host)  # addresses of a namespace cannot be tried from outside

    def prepare(self) -> None:
        (self.folder / "persistent").mkdir()
        words = {
            "community": self.community,
            "auth_password": self.auth_password,
            "priv_password": self.priv_password,
        }
        self.write("snmpd.conf", _CONFIG.format(host=self.host, port=self.port, folder=self.folder, **words))

    def command(self) -> Sequence[str]:
        return [program("snmpd"), "-f", "-C", "-c", f"{self.folder}/snmpd.conf", "-Lo", "-I", "-smux"]

    def answers(self) -> bool:
        with contextlib.suppress(TimeoutError):
            question = encode_v2c(self.community.encode(), get(1, [(1, 3, 6, 1, 2, 1, 1, 3, 0)]))
            return len(udp_says(self.host, self.port, question)) > 20
        return False
