"""The daemon's listening socket: how many are let in, and who has to go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from tests.servers import LOOPBACK
from thongsuot.front_door import FrontDoor

Caller = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class House:
    """Answers at once, or at `/slow` when told."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/", self._quick), web.get("/slow", self._slow)])
        return app

    async def _quick(self, _: web.Request) -> web.Response:
        return web.Response(text="xin chào\n")

    async def _slow(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.answer.wait()
        return web.Response(text="mãi mới xong\n")


@contextlib.asynccontextmanager
async def serving(most: int, house: House) -> AsyncIterator[tuple[str, int]]:
    with contextlib.closing(FrontDoor(most)) as door:
        async with door.serving(house.app(), LOOPBACK, 0) as url:
            host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
            yield host, int(port)


async def call(stack: AsyncExitStack, at: tuple[str, int]) -> Caller:
    reader, writer = await asyncio.open_connection(*at)
    stack.callback(writer.close)
    await asyncio.sleep(0.01)  # the server has to see it
    return reader, writer


async def get(caller: Caller, path: str) -> str:
    reader, writer = caller
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(3):
        return (await reader.read()).decode()


async def test_one_too_many_takes_the_place_of_whoever_has_been_idle_longest() -> None:
    async with serving(2, House()) as at, AsyncExitStack() as stack:
        first, second = await call(stack, at), await call(stack, at)
        third = await call(stack, at)

        assert "xin chào" in await get(third, "/")
        assert "xin chào" in await get(second, "/")
        async with asyncio.timeout(3):
            with contextlib.suppress(ConnectionResetError):
                assert await first[0].read() == b""


async def test_nobody_loses_an_answer_that_is_under_way_to_one_too_many() -> None:
    house = House()
    async with serving(1, house) as at, AsyncExitStack() as stack:
        first = await call(stack, at)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(get(first, "/slow"))
            await house.asked.wait()
            refusal = await get(await call(stack, at), "/")
            house.answer.set()

        assert refusal.startswith("HTTP/1.1 503 ")
        assert refusal.endswith("\r\n\r\ntoo many connections\n")
        assert "mãi mới xong" in answer.result()


async def test_who_calls_between_two_configurations_waits_and_is_answered() -> None:
    house = House()
    with contextlib.closing(FrontDoor()) as door:
        async with door.serving(house.app(), LOOPBACK, 0) as url:
            pass
        host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            caller = await call(stack, (host, int(port)))
            answer = group.create_task(get(caller, "/"))
            async with door.serving(house.app(), LOOPBACK, 0) as again:
                assert again == url
                assert "xin chào" in await answer
