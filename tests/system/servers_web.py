"""A real nginx with the pages of a portal, well and badly behaved."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Final

from tests.servers import LOOPBACK, Certificates
from tests.system.servers import Server, free_port, http_get

_NGINX: Final = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/tmp-body;
    proxy_temp_path {folder}/tmp-proxy;
    fastcgi_temp_path {folder}/tmp-fastcgi;
    uwsgi_temp_path {folder}/tmp-uwsgi;
    scgi_temp_path {folder}/tmp-scgi;
    types {{ text/html html; application/json json; text/plain txt; }}
    charset utf-8;
    root {folder}/pages;
    absolute_redirect off;
    server {{
        listen {address}:{port};
        include {folder}/locations.conf;
    }}
    {tls_servers}
}}
"""

_NGINX_TLS: Final = """
    server {{
        listen {address}:{port} ssl;
        ssl_certificate {certificate.chain_file};
        ssl_certificate_key {certificate.key_file};
        ssl_protocols {protocols};
        include {folder}/locations.conf;
    }}
"""

_LOCATIONS: Final = """
location / {{ if (-f {folder}/maintenance) {{ return 503 "Hệ thống đang bảo trì\\n"; }} }}
location = /503 {{ return 503 "Hệ thống đang bảo trì\\n"; }}
location = /redirect {{ return 302 /; }}
location = /redirect-loop {{ return 302 /redirect-loop; }}
location = /slow.txt {{ limit_rate 1k; }}
location = /hang {{ proxy_pass http://{silent}; }}
location = /login {{
    default_type text/html;
    add_header Set-Cookie "sid=s1; Path=/; HttpOnly";
    if ($request_method = POST) {{ return 302 /home; }}
    return 200 '<form method=post action=/login><input type=hidden name=csrf value=$request_id><input name=u></form>';
}}
location = /home {{
    default_type text/html;
    if ($cookie_sid != "s1") {{ return 403; }}
    return 200 '<h1>Văn bản đến</h1><a id=out href=/logout>Thoát</a>';
}}
location = /logout {{ add_header Set-Cookie "sid=; Max-Age=0; Path=/"; return 302 /; }}
location /auth/ {{ auth_basic "Cổng nội bộ"; auth_basic_user_file {folder}/passwords; alias {folder}/pages/; }}
"""


class Nginx(Server):
    """nginx with a portal's pages over HTTP and, under each certificate of the tests' authority, over HTTPS.

    Paths: `/` (a login page), `/503`, `/redirect`, `/redirect-loop`, `/slow.txt` (4 KiB at 1 KiB/s), `/hang` (no
    byte ever comes), `/auth/` (basic), `/login`, `/home`, `/logout` (a session), `/status.json`, `/big.txt` (3 MiB).
    """

    name = "nginx"
    username = "can-bo"
    password = "mật-khẩu 123"
    kinds: ClassVar = ("good", "expired", "not_yet_valid", "wrong_name", "unknown_ca", "self_signed")

    def __init__(
        self,
        certificates: Certificates,
        *,
        host: str = LOOPBACK,
        namespace: str | None = None,
        port: int | None = None,
        tls_protocols: str = "TLSv1.2 TLSv1.3",
    ) -> None:
        """Args: port: of plain HTTP. tls_protocols: as nginx names them. The rest as for every server."""
        super().__init__(host=host, namespace=namespace)
        self._certificates = certificates
        self._protocols = tls_protocols
        self.port = port or free_port()
        self.tls_ports = {kind: free_port() for kind in self.kinds}
        self._silent: socket.socket | None = None

    def url(self, path: str = "/") -> str:
        """Return the address of a page over HTTP."""
        return f"http://{self._address()}:{self.port}{path}"

    def https_url(self, path: str = "/", *, certificate: str = "good", name: str | None = None) -> str:
        """Return the address of a page over HTTPS under one of `kinds`; `name` stands in for the host."""
        return f"https://{name or self._address()}:{self.tls_ports[certificate]}{path}"

    def maintenance(self, on: bool) -> None:
        """Answer 503 on every plain page from now on, or end that."""
        file = self.folder / "maintenance"
        if on:
            file.touch()
        else:
            file.unlink(missing_ok=True)

    def requests(self) -> list[str]:
        """Return the lines of the access log so far."""
        return (self.folder / "access.log").read_text().splitlines()

    def prepare(self) -> None:
        pages = {
            "index.html": "<!doctype html><title>Cổng thông tin</title><h1>Đăng nhập</h1>\n",
            "status.json": '{"status": "ok", "services": [{"name": "một cửa", "up": true}]}\n',
            "slow.txt": "chậm.\n" * 512,
            "big.txt": "0123456789abcdef" * (3 * 65536),
        }
        for name, text in pages.items():
            self.write(f"pages/{name}", text)
        self._silent = self.inside(lambda: socket.create_server((LOOPBACK, 0)))
        silent = f"{LOOPBACK}:{self._silent.getsockname()[1]}"
        self.write("passwords", f"{self.username}:{{PLAIN}}{self.password}\n")
        self.write("locations.conf", _LOCATIONS.format(folder=self.folder, silent=silent))
        self.write("nginx.conf", self._config())

    def command(self) -> Sequence[str]:
        return ["nginx", "-p", f"{self.folder}", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"]

    def answers(self) -> bool:
        return http_get(self.host, self.port, "/")[0] in (200, 503)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        if self._silent is not None:
            self._silent.close()

    def _address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def _config(self) -> str:
        common = {"folder": self.folder, "address": self._address()}
        tls = "".join(
            _NGINX_TLS.format(
                port=port, certificate=getattr(self._certificates, kind), protocols=self._protocols, **common
            )
            for kind, port in self.tls_ports.items()
        )
        return _NGINX.format(port=self.port, tls_servers=tls, **common)
