"""A `/probe` of its own on loopback, and its answers as figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from config.blackbox import Blackbox, read_text
from config.problems import Findings
from exporters.blackbox import Probing
from probes.base import Tools
from tests.servers import LOOPBACK

ANY: Sequence[str] = ("*",)


def blackbox(modules: str, *, allow: Sequence[str] = ANY, fixed: bool = False) -> Blackbox:
    """Return what a file of modules makes; a mistake in it fails the test."""
    findings = Findings()
    found = read_text(modules, "modules.yml", findings)
    findings.refuse()
    return Blackbox(found, tuple(allow), fixed)


def figures(page: str) -> dict[str, float]:
    """Return each series of a page with its value."""
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


@dataclass(slots=True)
class Endpoint:
    """Where it answers."""

    url: str
    probing: Probing
    session: aiohttp.ClientSession

    async def get(
        self, path: str = "/probe", headers: Mapping[str, str] | None = None, **query: str
    ) -> tuple[int, str]:
        """Ask, and return status and text."""
        async with self.session.get(self.url + path, params=query, headers=headers) as response:
            return response.status, await response.text()

    async def probe(self, module: str, target: str, **query: str) -> dict[str, float]:
        """Have a target probed and return the figures."""
        status, text = await self.get("/probe", None, module=module, target=target, **query)
        assert status == 200, text
        return figures(text)

    async def debug(self, module: str, target: str) -> str:
        """Have a target probed and return what is said of it."""
        return (await self.get(module=module, target=target, debug="true"))[1]


@contextlib.asynccontextmanager
async def endpoint(
    modules: str, *, allow: Sequence[str] = ANY, hosts: Sequence[str] = (), fixed: bool = False
) -> AsyncIterator[Endpoint]:
    """Serve `/probe` and `/config` by these modules."""
    tools = Tools()
    read = await asyncio.to_thread(blackbox, modules, allow=allow, fixed=fixed)
    probing = Probing.of(read, hosts, tools)
    app = web.Application()
    app.add_routes([web.get("/probe", probing.probe, allow_head=False), web.get("/config", probing.config)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    async with aiohttp.ClientSession() as session:
        yield Endpoint(f"http://{LOOPBACK}:{runner.addresses[0][1]}", probing, session)
    await runner.cleanup()
    tools.close()
