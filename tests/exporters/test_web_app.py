"""The HTTP interface over a real socket on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from exporters.web.app import StreamLimits, build_app, requests_log
from monitor.board import Board
from monitor.model import OWN_FAULT, Incident, State
from probes.base import Fault
from tests.exporters.builders import (
    MIDNIGHT,
    NOW,
    break_check,
    break_service,
    incident,
    plan,
    province,
    service,
    target,
)

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
FAST = StreamLimits(clients=2, poll_s=0.01, heartbeat_s=0.05, write_s=0.2)


async def no_incidents(limit: int) -> Sequence[Incident]:
    return ()


async def one_metric() -> tuple[bytes, str]:
    return b"thongsuot_up 1\n", PROMETHEUS_TEXT


@contextlib.asynccontextmanager
async def served(
    board: Board,
    *,
    incidents: Callable[[int], Awaitable[Sequence[Incident]]] = no_incidents,
    alive: Callable[[], bool] = lambda: True,
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] = one_metric,
    limits: StreamLimits = FAST,
) -> AsyncIterator[aiohttp.ClientSession]:
    app = build_app(board, metrics=metrics, incidents=incidents, alive=alive, clock=lambda: NOW, limits=limits)
    runner = web.AppRunner(app, logger=requests_log, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(5)) as client:
            yield client
    finally:
        await runner.cleanup()


async def fetch(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with client.get(path, headers=headers) as reply:
        return reply.status, await reply.text(), reply.headers


async def test_every_answer_carries_the_safety_headers_and_none_invites_other_origins() -> None:
    async with served(province()) as client:
        for path in ("/", "/api/v1/status", "/static/page.js", "/metrics", "/healthz", "/nothing-here"):
            _, _, headers = await fetch(client, path, Origin="http://evil.example")
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert not [name for name in headers if name.lower().startswith("access-control")]


async def test_the_page_is_html_is_not_cached_and_follows_the_board() -> None:
    board = province()
    async with served(board) as client:
        status, body, headers = await fetch(client, "/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert "✕" not in body
        board.services["mail"].state = State.DOWN
        board.version += 1
        assert "✕" in (await fetch(client, "/"))[1]


@pytest.mark.parametrize("name", ["page.css", "page.js", "mark.svg"])
async def test_the_files_of_the_page_are_served_and_revalidated(name: str) -> None:
    async with served(province()) as client:
        status, body, headers = await fetch(client, f"/static/{name}")
        assert status == 200
        assert body
        again, _, _ = await fetch(client, f"/static/{name}", **{"If-None-Match": headers["ETag"]})
        assert again == 304


@pytest.mark.parametrize("path", ["/static/app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/"])
async def test_nothing_else_is_served_as_a_file(path: str) -> None:
    async with served(province()) as client:
        assert (await fetch(client, path))[0] == 404


async def test_metrics_are_what_the_exporter_made() -> None:
    async with served(province()) as client:
        status, body, headers = await fetch(client, "/metrics")
    assert (status, body) == (200, "thongsuot_up 1\n")
    assert headers["Content-Type"] == PROMETHEUS_TEXT


async def test_health_follows_the_daemons_own_work() -> None:
    well = True
    async with served(province(), alive=lambda: well) as client:
        assert (await fetch(client, "/healthz"))[:2] == (200, "ok\n")
        well = False
        assert (await fetch(client, "/healthz"))[0] == 503


async def test_ready_means_a_verdict_or_a_stated_reason_for_every_check() -> None:
    checks = [target("s", "one"), target("s", "two")]
    board = Board(plan([service("s", "Dịch vụ", checks)]), started_at=NOW)
    async with served(board) as client:
        status, body, _ = await fetch(client, "/readyz")
        assert status == 503
        assert body.splitlines()[1:] == ["s.one", "s.two"]
        board.checks["s.one"].state = State.DOWN
        board.checks["s.two"].detail = "own fault: far"
        assert (await fetch(client, "/readyz"))[:2] == (200, "ready\n")


async def get_json(client: aiohttp.ClientSession, path: str) -> Any:
    status, body, headers = await fetch(client, path)
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    return json.loads(body)


async def test_the_status_holds_every_service_and_check_with_state_since_last_and_cause() -> None:
    board = province()
    break_check(board, "mail.smtp", Fault.REFUSED, "connection refused")
    break_check(board, "data-centre.ping", Fault.TIMEOUT, "3 of 3 echoes lost")
    break_service(board, "data-centre", State.DOWN, incident(11, "data-centre"))
    break_service(board, "mail", State.DOWN, incident(12, "mail", parent=11))
    async with served(board) as client:
        data = await get_json(client, "/api/v1/status")
    assert data["site"]["name"].endswith("Lạng Sơn")
    assert data["now"] == "2027-02-05T17:10:00Z"
    assert data["own_fault"] is None
    mail = next(s for s in data["services"] if s["id"] == "mail")
    assert (mail["state"], mail["since"], mail["incident"]) == ("down", "2027-02-05T17:00:00Z", 12)
    assert mail["cause"] == "service:data-centre"
    assert "Trung tâm tích hợp dữ liệu" in mail["cause_text"]
    assert mail["needs"] == ["data-centre"]
    smtp = mail["checks"][0]
    assert (smtp["id"], smtp["kind"], smtp["state"], smtp["cause"]) == ("mail.smtp", "smtp", "down", "fault:refused")
    assert smtp["last"]["fault"] == "refused"
    assert smtp["last"]["phases"] == {"connect": 0.004}
    assert smtp["coverage"] == 1.0
    ping = next(s for s in data["services"] if s["id"] == "vnpt")["checks"][0]
    assert ping["last"]["rtts_s"] == [0.0101, 0.0109, 0.012]
    assert ping["last"]["fault"] is None
    assert [r["id"] for r in data["references"]] == ["references.gateway", "references.vnix"]


async def test_the_status_says_when_it_is_our_own_fault() -> None:
    board = province()
    board.own_fault, board.own_fault_since = "near", MIDNIGHT
    board.services["mail"].state = State.UNKNOWN
    board.checks["mail.smtp"].state, board.checks["mail.smtp"].detail = State.UNKNOWN, OWN_FAULT
    board.open_incidents[4] = incident(4, OWN_FAULT, State.UNKNOWN, detail="near")
    async with served(board) as client:
        data = await get_json(client, "/api/v1/status")
    assert data["own_fault"]["cause"] == "near"
    assert data["own_fault"]["since"] == "2027-02-05T17:00:00Z"
    assert data["own_fault"]["uplinks"] == [
        {"path": "", "cause": "near", "since": "2027-02-05T17:00:00Z", "incident": 4}
    ]
    assert data["services"][1]["cause"] == "own-fault:near"
    assert data["services"][1]["checks"][0]["cause"] == "own-fault:near"


async def test_a_check_that_never_ran_has_no_last_result() -> None:
    board = Board(plan([service("s", "Dịch vụ", [target("s", "c")])]), started_at=NOW)
    async with served(board) as client:
        check = (await get_json(client, "/api/v1/status"))["services"][0]["checks"][0]
    assert (check["state"], check["last"], check["coverage"], check["since"]) == ("unknown", None, None, None)


async def test_incidents_are_the_open_ones_and_the_recent_closed_ones() -> None:
    board = province()
    running = incident(12, "mail")
    board.open_incidents[12] = running
    asked: list[int] = []

    async def kept(limit: int) -> Sequence[Incident]:
        asked.append(limit)
        return (running, incident(3, OWN_FAULT, State.UNKNOWN, ended_at=MIDNIGHT + timedelta(minutes=2)))

    async with served(board, incidents=kept) as client:
        data = await get_json(client, "/api/v1/incidents?limit=7")
    assert asked == [7]
    assert [i["id"] for i in data["open"]] == [12]
    assert (data["open"][0]["name"], data["open"][0]["duration_s"]) == ("Thư điện tử công vụ", 600.0)
    assert data["open"][0]["ended_at"] is None
    assert [(i["id"], i["name"], i["duration_s"]) for i in data["recent"]] == [(3, "Trạm đo", 120.0)]


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "²", "9" * 5000, "0" * 8 + "1001", ""])
async def test_a_wrong_limit_is_refused_with_what_was_expected(limit: str) -> None:
    async with served(province()) as client:
        status, body, _ = await fetch(client, f"/api/v1/incidents?limit={limit}")
    assert status == 400
    assert "from 1 to 1000" in body


async def test_a_bug_in_one_request_is_a_plain_500_and_a_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def wrong(limit: int) -> Sequence[Incident]:
        raise RuntimeError("secret inside")

    async with served(province(), incidents=wrong) as client:
        status, body, headers = await fetch(client, "/api/v1/incidents")
        assert (await fetch(client, "/healthz"))[0] == 200
    assert status == 500
    assert "secret inside" not in body
    assert "Content-Security-Policy" in headers
    assert "secret inside" in caplog.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(method: str) -> None:
    async with served(province()) as client, client.request(method, "/api/v1/status") as reply:
        assert reply.status == 405


async def next_event(reply: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(2):
        return await reply.content.readuntil(b"\n\n")


async def test_events_push_the_status_at_once_and_at_every_change() -> None:
    board = province()
    async with served(board) as client, client.get("/api/v1/events") as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        first = (await next_event(reply)).decode()
        assert first.startswith("event: status\nid: 0\n")
        board.services["mail"].state = State.DOWN
        board.version += 5
        while (event := (await next_event(reply)).decode()).startswith(":"):
            pass
        data = json.loads(event.partition("data: ")[2])
        assert data["revision"] == 5
        assert data["services"]["mail"] == "down"


async def test_a_quiet_stream_keeps_itself_alive() -> None:
    async with served(province()) as client, client.get("/api/v1/events") as reply:
        await next_event(reply)
        assert await next_event(reply) == b": still here\n\n"


async def test_more_listeners_than_allowed_are_sent_away_and_a_place_that_is_left_is_free_again() -> None:
    board = province()
    async with served(board) as client:
        async with client.get("/api/v1/events") as one, client.get("/api/v1/events") as two:
            await next_event(one)
            await next_event(two)
            status, _, headers = await fetch(client, "/api/v1/events")
            assert status == 503
            assert headers["Retry-After"] == "30"
        assert await becomes_free(client)


async def two_fit(client: aiohttp.ClientSession) -> bool:
    async with client.get("/api/v1/events") as one, client.get("/api/v1/events") as two:
        return one.status == two.status == 200


async def becomes_free(client: aiohttp.ClientSession, between: Callable[[], None] = lambda: None) -> bool:
    """Wait until two more listeners fit, which is all there is room for."""
    for _ in range(300):
        between()
        if await two_fit(client):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_the_stream_ends_when_the_daemon_stops() -> None:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(served(province()))
        reply = await client.get("/api/v1/events")
        await next_event(reply)
        began = loop.time()
    assert loop.time() - began < 0.9
    reply.close()


async def test_a_listener_that_stops_reading_is_dropped() -> None:
    board = province()
    for number in range(4000):  # makes every push large, so that the socket's buffers fill soon
        board.services[f"x{number}"] = board.services["mail"]
    many = tuple(service(f"x{number}", "x", []) for number in range(4000))
    board.plan = plan(many)
    async with served(board) as client:
        port = client._base_url.port if client._base_url else 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport as well
        assert not await two_fit(client)

        def change() -> None:
            board.version += 1

        assert await becomes_free(client, between=change)
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 64 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"b" * 9000 + b"\r\n\r\n"],
)
async def test_garbage_gets_400_and_no_trace_in_the_log(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with served(province()) as client:
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(garbage)
        assert b" 400 " in await reader.readline()
        assert b"\r\nServer: thongsuot\r\n" in await reader.read()
        writer.close()
    assert not caplog.records


@pytest.mark.parametrize("path", ["/", "/healthz", "/static/page.css", "/nothing-of-ours"])
async def test_no_answer_names_the_versions_of_what_stands_behind_it(path: str) -> None:
    async with served(province()) as client:
        assert (await fetch(client, path))[2]["Server"] == "thongsuot"


async def test_a_bug_of_ours_behind_a_page_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> tuple[bytes, str]:
        raise ZeroDivisionError

    async with served(province(), metrics=broken) as client, client.get("/metrics") as answer:
        assert answer.status == 500
    assert [(r.levelname, r.exc_info is not None) for r in caplog.records] == [("ERROR", True)]
