"""The servers of the differential run that only it needs."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers import LOOPBACK, Certificates
from tests.system.servers import Server, free_port, http_get
from tests.system.servers_dns import Unbound
from tests.system.servers_mail import Postfix
from tests.system.servers_web import Nginx


class Http2Nginx(Server):
    """nginx that agrees on HTTP/2."""

    name = "nginx2"

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self._certificates = certificates
        self.port = free_port()
        self.plain_port = free_port()

    def prepare(self) -> None:
        good = self._certificates.good
        self.write("pages/index.html", "xin chào\n" * 30000)
        self.write(
            "nginx.conf",
            f"""
            worker_processes 1; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log warn;
            events {{ worker_connections 64; }}
            http {{
                access_log off; client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p;
                fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
                root {self.folder}/pages;
                server {{ listen {self.host}:{self.plain_port}; }}
                server {{
                    listen {self.host}:{self.port} ssl http2;
                    ssl_certificate {good.chain_file}; ssl_certificate_key {good.key_file};
                    location = /moved {{ return 302 /; }}
                }}
            }}
            """,
        )

    def command(self) -> list[str]:
        return ["nginx", "-p", f"{self.folder}", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"]

    def answers(self) -> bool:
        return http_get(self.host, self.plain_port, "/")[0] == 200


@dataclass(slots=True)
class World:
    """Every server that both look at."""

    nginx: Nginx
    nginx2: Http2Nginx
    unbound: Unbound
    postfix: Postfix
    odd: str  # address of pages that nginx cannot be made to serve
    other: str  # another origin, that wants a login
    ports: dict[str, str] = field(default_factory=dict)  # name to host:port

    def dns(self) -> str:
        return f"{LOOPBACK}:{self.unbound.port}"

    def tls(self, certificate: str) -> str:
        return f"{LOOPBACK}:{self.nginx.tls_ports[certificate]}"


@contextlib.asynccontextmanager
async def odd_pages(other: str, elsewhere: str) -> AsyncIterator[str]:
    """Pages that nginx cannot be made to serve."""

    async def chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"xin chao " * 100)
        return response

    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"xin chao " * 1000), headers={"Content-Encoding": "gzip"})

    async def post(request: web.Request) -> web.Response:
        good = await request.read() == b"a=b" and request.content_type == "x/y"
        return web.Response(status=200 if good else 400, text="ok")

    async def moved(request: web.Request) -> web.Response:
        places = {
            "/moved": "/got",
            "/away": f"{elsewhere}/got",
            "/to-other": f"{other}/",
            "/to-nothing": "http://127.0.0.1:1/",
        }
        return web.Response(status=302, headers={"Location": places[request.path]})

    async def nowhere(_: web.Request) -> web.Response:
        return web.Response(status=302)

    async def got(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {len(await request.read())}")

    app = web.Application()
    app.router.add_get("/chunks", chunks)
    app.router.add_get("/gzip", packed)
    app.router.add_post("/post", post)
    app.router.add_get("/got", got)
    app.router.add_get("/nowhere", nowhere)
    for path in ("/moved", "/away", "/to-other", "/to-nothing"):
        app.router.add_route("*", path, moved)
    async with serving(app) as url:
        yield url


@contextlib.asynccontextmanager
async def serving(app: web.Application, host: str = LOOPBACK) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    yield f"http://{host}:{runner.addresses[0][1]}"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def wanting_a_login(host: str = LOOPBACK) -> AsyncIterator[str]:
    async def page(request: web.Request) -> web.Response:
        return web.Response(status=200 if "Authorization" in request.headers else 401)

    async def got(_: web.Request) -> web.Response:
        return web.Response(text="got")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/got", got)
    async with serving(app, host) as url:
        yield url
