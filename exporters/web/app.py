"""The HTTP interface: the live page, figures for machines, health, and where others call in.

Shares nothing with other origins; only a heartbeat changes anything.
Everything is answered from the board in memory; only the list of incidents asks the journal.
Source of the event stream: the WHATWG HTML standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import orjson
from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from exporters.blackbox import Probing
from exporters.web import page, status
from exporters.web.wrong_calls import WrongCalls
from monitor.board import Board
from monitor.model import Incident
from probes.base import utc_now

log = logging.getLogger(__name__)
requests_log = logging.getLogger(f"{__name__}.requests")  # for the runner that serves the app

Figures: TypeAlias = Callable[[], Awaitable[tuple[bytes | AsyncIterator[bytes], str]]]  # body and content type

INCIDENTS_DEFAULT: Final = 50
INCIDENTS_MOST: Final = 1000
NOTE_LIMIT: Final = 1024  # bytes of what a heartbeat may say
NOTE_S: Final = 5.0  # within which it must come
HEARTBEATS_AT_ONCE: Final = 16  # more get 503: a token is read from a file at each

_SERVER: Final = "thongsuot"  # without the versions of what stands behind it
# What answers to garbage knows no application, and takes its name from here.
vars(web_response)["SERVER_SOFTWARE"] = _SERVER

# Nothing but our own files may run or load; nobody may frame the page or send forms from it.
_SAFETY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Server": _SERVER,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_STATIC_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Read once at import: three small files, and no request ever waits for the disk.
_STATIC: Final = {
    file.name: (file.read_bytes(), _STATIC_TYPES[file.suffix])
    for file in sorted((Path(__file__).parent / "static").iterdir())
    if file.suffix in _STATIC_TYPES
}


def _is_ours(record: logging.LogRecord) -> bool:
    # What a port scanner sends is answered with 400; a trace of it would look like a bug of ours and fill the log.
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


requests_log.addFilter(_is_ours)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of the event stream."""

    clients: int = 32  # more get 503 and fall back to fetching
    poll_s: float = 0.5  # how often the board's version is looked at: also the shortest time between two pushes
    heartbeat_s: float = 15.0
    write_s: float = 5.0  # a client that does not take a push within this time is dropped


class Heartbeat(Protocol):
    """Takes a sign of life in, if its token is right."""

    def __call__(self, check: str, token: str, *, well: bool, note: str, source: str) -> Awaitable[bool]:
        """Return False for a wrong token and for a check that expects none, so that neither can be told apart."""


@dataclass(slots=True)
class _Calls:
    """Where others call in."""

    heartbeat: Heartbeat
    under_way: int = 0
    wrong: WrongCalls = field(default_factory=WrongCalls)

    async def take(self, request: web.Request) -> web.Response:
        """Take one heartbeat: `/heartbeat/<service>.<check>`, and `/fail` behind it when the job did not go well."""
        if self.under_way >= HEARTBEATS_AT_ONCE:
            raise web.HTTPServiceUnavailable(text="too many calls at once\n", headers={"Retry-After": "1"})
        clock, source = asyncio.get_running_loop().time, request.remote or ""
        wait_s = self.wrong.wait_s(source, clock())
        if wait_s:
            headers = {"Retry-After": str(math.ceil(wait_s))}
            raise web.HTTPTooManyRequests(text="too many calls with a wrong token\n", headers=headers)
        self.under_way += 1
        try:
            note = await _note(request)
            taken = await self.heartbeat(
                request.match_info["check"],
                _token(request),
                well="outcome" not in request.match_info,
                note=note.decode("utf-8", "replace"),
                source=source,
            )
        finally:
            self.under_way -= 1
        if not taken:
            self.wrong.note(source, clock())
            raise web.HTTPForbidden(text="no such heartbeat, or another token\n")
        return web.Response(text="taken\n", headers={"Cache-Control": "no-store"})


async def _note(request: web.Request) -> bytes:
    try:
        # Else whoever announces words and sends none would keep the places of those who call.
        async with asyncio.timeout(NOTE_S):
            return await request.content.read(NOTE_LIMIT) if request.can_read_body else b""
    except TimeoutError as exc:
        raise web.HTTPRequestTimeout(text="the note did not come\n") from exc


def _token(request: web.Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else request.query.get("token", "")


@dataclass(slots=True)
class _Hall:
    """What the handlers share."""

    board: Board
    metrics: Figures
    incidents: Callable[[int], Awaitable[Sequence[Incident]]]
    alive: Callable[[], bool]
    clock: Callable[[], datetime]
    limits: StreamLimits
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    clients: int = 0
    made: tuple[int, int, bool, str] | None = None  # revision, second, alive, page

    async def page(self, _: web.Request) -> web.Response:
        now, alive = self.clock(), self.alive()
        key = (self.board.version, int(now.timestamp()), alive)
        if self.made is None or self.made[:3] != key:  # many screens asking at once share one page
            self.made = (*key, page.render(self.board, now, alive=alive))
        response = web.Response(text=self.made[3], content_type="text/html", charset="utf-8")
        response.headers["Cache-Control"] = "no-store"
        response.enable_compression()
        return response

    async def static(self, request: web.Request) -> web.Response:
        found = _STATIC.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound(text="no such file\n")
        body, content_type = found
        etag = hashlib.sha256(body).hexdigest()[:16]
        headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}
        if any(tag.value == etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    async def metrics_page(self, request: web.Request) -> web.StreamResponse:
        body, content_type = await self.metrics()
        headers = {"Content-Type": content_type}
        if isinstance(body, bytes) or request.method == "HEAD":
            response = web.Response(body=body if isinstance(body, bytes) else b"", headers=headers)
            response.enable_compression()
            return response
        stream = web.StreamResponse(headers=headers)
        stream.enable_compression()  # a page for thousands of checks shrinks to a thirtieth
        await stream.prepare(request)
        async for piece in body:
            await stream.write(piece)
        return stream

    async def healthz(self, _: web.Request) -> web.Response:
        if self.alive():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the daemon's own work has stopped\n")

    async def readyz(self, _: web.Request) -> web.Response:
        waiting = status.waiting_checks(self.board)
        if not waiting:
            return web.Response(text="ready\n")
        lines = "\n".join(waiting)
        return web.Response(status=503, text=f"{len(waiting)} checks wait for a first verdict:\n{lines}\n")

    async def status(self, _: web.Request) -> web.Response:
        return _json(status.status(self.board, self.clock()))

    async def incident_list(self, request: web.Request) -> web.Response:
        limit = _limit(request.query.get("limit", str(INCIDENTS_DEFAULT)))
        now, board = self.clock(), self.board
        past = await self.incidents(limit)
        running = sorted(board.open_incidents.values(), key=lambda i: i.began_at, reverse=True)
        recent = [i for i in past if i.ended_at is not None and i.id not in board.open_incidents]
        return _json(
            {
                "now": now,
                "open": [status.incident(board, i, now) for i in running],
                "recent": [status.incident(board, i, now) for i in recent[:limit]],
            }
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        if self.clients >= self.limits.clients or self.closing.is_set():
            raise web.HTTPServiceUnavailable(text="too many listeners\n", headers={"Retry-After": "30"})
        self.clients += 1
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
            response.headers["X-Accel-Buffering"] = "no"  # a proxy in front must not hold events back
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._stream(response)
            return response
        finally:
            self.clients -= 1

    async def _stream(self, response: web.StreamResponse) -> None:
        """Push the status at every new version until the client leaves, stops reading, or we close."""
        clock = asyncio.get_running_loop().time
        shown, spoken_at = -1, clock()
        while not self.closing.is_set():
            if self.board.version != shown:
                shown = self.board.version
                await self._push(response, _event(shown, status.compact(self.board, self.clock())))
                spoken_at = clock()
            elif clock() - spoken_at >= self.limits.heartbeat_s:
                await self._push(response, b": still here\n\n")
                spoken_at = clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.poll_s):
                    await self.closing.wait()

    async def _push(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self.limits.write_s):
            await response.write(data)

    async def close(self, _: web.Application) -> None:
        self.closing.set()


def build_app(  # noqa: PLR0913  all that the page takes from outside, each by its name
    board: Board,
    *,
    metrics: Figures,
    incidents: Callable[[int], Awaitable[Sequence[Incident]]],
    alive: Callable[[], bool],
    clock: Callable[[], datetime] = utc_now,
    limits: StreamLimits | None = None,
    probing: Probing | None = None,
    heartbeat: Heartbeat | None = None,
) -> web.Application:
    """Build the application.

    Args:
        board: what is shown.
        metrics: makes the body and the content type of `/metrics`.
        incidents: returns up to so many of the newest incidents, newest first.
        alive: whether the daemon's own work goes on.
        clock: the time that is printed.
        limits: bounds of the event stream.
        probing: what answers `/probe` and `/config`; without it there is neither.
        heartbeat: takes what calls in at `/heartbeat/…`; without it nothing can.
    """
    hall = _Hall(board, metrics, incidents, alive, clock, limits or StreamLimits())
    app = web.Application(middlewares=[_own_bugs])
    app.on_response_prepare.append(_add_safety_headers)
    app.on_shutdown.append(hall.close)
    app.add_routes(
        [
            web.get("/", hall.page),
            web.get("/static/{name}", hall.static),
            web.get("/metrics", hall.metrics_page),
            web.get("/healthz", hall.healthz),
            web.get("/readyz", hall.readyz),
            web.get("/api/v1/status", hall.status),
            web.get("/api/v1/incidents", hall.incident_list),
            web.get("/api/v1/events", hall.events, allow_head=False),
        ]
    )
    if probing is not None:
        app.add_routes([web.get("/probe", probing.probe, allow_head=False), web.get("/config", probing.config)])
    if heartbeat is not None:
        calls = _Calls(heartbeat)
        for address in ("/heartbeat/{check}", "/heartbeat/{check}/{outcome:fail}"):
            app.add_routes([web.get(address, calls.take, allow_head=False), web.post(address, calls.take)])
    return app


@web.middleware
async def _own_bugs(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a bug in one request with 500 and a trace in the log; the others go on."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception:  # one web request; what it was about is in the log, not in the answer
        log.exception("request %s %s failed inside", request.method, request.path)
        return web.Response(status=500, text="internal error; see the daemon's log\n")


async def _add_safety_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SAFETY_HEADERS)


def _json(data: status.Json) -> web.Response:
    body = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _event(revision: int, data: status.Json) -> bytes:
    body = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    return b"event: status\nid: %d\nretry: 5000\ndata: %b\n\n" % (revision, body)


def _limit(given: str) -> int:
    if given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= INCIDENTS_MOST:
        return int(given)
    raise web.HTTPBadRequest(text=f"limit: expected a whole number from 1 to {INCIDENTS_MOST}\n")
