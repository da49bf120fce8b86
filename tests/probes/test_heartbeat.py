from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.loader import load_text
from config.plan import Plan
from exporters.web.app import HEARTBEATS_AT_ONCE, Heartbeat, build_app
from monitor.board import Board
from probes.base import Fault, Reading, Tools, measure, utc_now
from probes.heartbeat import PROBE, Settings, _words
from probes.heartbeat_ledger import Heartbeats
from tests.monitor import builders
from tests.monitor.builders import check, service
from thongsuot.daemon import DaemonInfo, run

NAME = "sao-luu.dem"
TOKEN = "một thẻ đủ dài để dùng"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)


async def heard(file: Path | None = None, *, within_s: float = 60.0) -> tuple[Heartbeats, Settings]:
    ledger, settings = Heartbeats(file), Settings(within=within_s, token_env="TOKEN")
    ledger.expect({NAME: settings.token})
    await ledger.begin()
    return ledger, settings


async def look(ledger: Heartbeats | None, settings: Settings) -> Reading:
    tools = Tools()
    if ledger is not None:
        tools.put(ledger)
    return await measure(PROBE, settings, timeout_s=1, tools=tools, check=NAME)


def aged(ledger: Heartbeats, seconds: float) -> None:
    """Make all that is known older."""
    for span in ledger._spans:
        span.began_s -= seconds
    ledger._expected = {name: since_s - seconds for name, since_s in ledger._expected.items()}
    ledger._last = {
        name: replace(beat, at=beat.at - timedelta(seconds=seconds), clock_s=beat.clock_s - seconds)
        for name, beat in ledger._last.items()
    }


async def call(ledger: Heartbeats, *, token: str = TOKEN, well: bool = True, note: str = "", check: str = NAME) -> bool:
    return await ledger.accept(check, token, well=well, note=note, source="192.0.2.7")


# The probe


async def test_after_a_call_all_is_well() -> None:
    ledger, settings = await heard()
    assert await call(ledger, note="12 GB\nsao lưu xong")
    reading = await look(ledger, settings)
    assert reading.fault is None
    assert 0 <= reading.values["age_s"] < 1
    assert reading.values["beats_count"] == 1
    assert abs(reading.values["last_beat_timestamp_s"] - utc_now().timestamp()) < 5
    assert reading.facts == {"note": "12 GB sao lưu xong", "source": "192.0.2.7"}


async def test_silence_for_too_long_is_a_content_fault_and_ends_with_the_next_call() -> None:
    ledger, settings = await heard()
    await call(ledger)
    aged(ledger, 7265)
    reading = await look(ledger, settings)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "no heartbeat for 2h 1m, expected within 60s")
    await call(ledger)
    assert (await look(ledger, settings)).fault is None


async def test_before_the_first_call_nothing_is_known_until_it_is_overdue() -> None:
    ledger, settings = await heard()
    early = await look(ledger, settings)
    assert early.fault is Fault.LOCAL
    assert early.detail.endswith(" in which we listened, expected within 60s")
    aged(ledger, 300)
    late = await look(ledger, settings)
    assert (late.fault, late.detail) == (
        Fault.CONTENT,
        "no heartbeat for 5m since we listen, expected within 60s",
    )


async def test_who_says_that_it_failed_is_believed() -> None:
    ledger, settings = await heard()
    await call(ledger, well=False, note="đĩa đầy")
    reading = await look(ledger, settings)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "it says that it failed: đĩa đầy")


async def test_outside_the_daemon_nothing_is_heard() -> None:
    reading = await look(None, Settings(within=60.0, token_env="TOKEN"))
    assert (reading.fault, reading.detail) == (Fault.LOCAL, "heartbeats are heard by the running daemon alone")


# The ledger


async def test_a_restart_forgets_nobody(tmp_path: Path) -> None:
    file = tmp_path / "heartbeats.json"
    before, settings = await heard(file)
    await call(before, note="xong")
    after, _ = await heard(file)
    reading = await look(after, settings)
    assert reading.fault is None
    assert reading.facts["note"] == "xong"
    assert reading.values["beats_count"] == 0


async def test_silence_while_we_were_off_is_not_held_against_anybody(tmp_path: Path) -> None:
    file = tmp_path / "heartbeats.json"
    at = utc_now().timestamp() - 600
    await asyncio.to_thread(file.write_text, json.dumps({NAME: {"at": at, "well": True, "note": "", "source": ""}}))
    ledger, settings = await heard(file)
    waiting = await look(ledger, settings)
    assert waiting.fault is Fault.LOCAL
    assert 599 < waiting.values["age_s"] < 605
    aged(ledger, 61)
    assert (await look(ledger, settings)).fault is Fault.CONTENT


async def left_and_back(before: Heartbeats, file: Path, off_s: float, *, within_s: float) -> Reading:
    """Restart the monitor with a pause, and look."""
    await before.note_time()

    def earlier() -> None:
        kept = json.loads(file.read_text())
        kept[""]["listened"] = [[began - off_s, ended - off_s] for began, ended in kept[""]["listened"]]
        kept[""]["expected"] = {name: at - off_s for name, at in kept[""]["expected"].items()}
        if NAME in kept:
            kept[NAME]["at"] -= off_s
        file.write_text(json.dumps(kept))

    await asyncio.to_thread(earlier)
    after, settings = await heard(file, within_s=within_s)
    return await look(after, settings)


@pytest.mark.parametrize(("off_s", "fault"), [(50, Fault.CONTENT), (70, Fault.LOCAL)])
async def test_a_restart_that_is_short_beside_the_patience_does_not_begin_the_waiting_anew(
    off_s: float, fault: Fault, tmp_path: Path
) -> None:
    before, _ = await heard(tmp_path / "h.json", within_s=3600.0)
    await call(before)
    aged(before, 3580)

    assert (await left_and_back(before, tmp_path / "h.json", off_s, within_s=3600.0)).fault is fault


async def test_who_was_silent_for_too_long_before_a_restart_still_is(tmp_path: Path) -> None:
    before, _ = await heard(tmp_path / "h.json", within_s=3600.0)
    await call(before)
    aged(before, 3700)

    reading = await left_and_back(before, tmp_path / "h.json", 7200, within_s=3600.0)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "no heartbeat for 3h 1m, expected within 60m")


async def test_a_check_that_is_new_is_not_held_to_what_was_before_it(tmp_path: Path) -> None:
    ledger, settings = await heard(tmp_path / "h.json")
    ledger.expect({})
    aged(ledger, 300)
    ledger.expect({NAME: settings.token})

    assert (await look(ledger, settings)).fault is Fault.LOCAL


async def test_another_configuration_forgets_no_call_and_no_silence() -> None:
    ledger, settings = await heard()
    await call(ledger, note="xong")
    aged(ledger, 61)
    ledger.expect({NAME: settings.token, "khac.dem": settings.token})

    assert (await look(ledger, settings)).detail == "no heartbeat for 61s, expected within 60s"
    assert ledger.count(NAME) == 1


async def test_many_calls_at_once_are_all_taken_and_kept(tmp_path: Path) -> None:
    ledger, _ = await heard(tmp_path / "h.json")
    assert all(await asyncio.gather(*(call(ledger, note=str(n)) for n in range(40))))
    assert ledger.count(NAME) == 40
    again, _ = await heard(tmp_path / "h.json")
    kept, last = again.last(NAME), ledger.last(NAME)
    assert kept is not None
    assert last is not None
    assert kept.note == last.note


async def test_a_disk_that_is_full_loses_no_call(tmp_path: Path) -> None:
    ledger, settings = await heard(tmp_path / "gone" / "h.json")
    assert await call(ledger)
    assert (await look(ledger, settings)).fault is None


@pytest.mark.parametrize("token", ["", "sai", TOKEN + "x", "x" * 5000, "\ud800"])
async def test_a_wrong_token_is_not_taken(token: str) -> None:
    ledger, settings = await heard()
    assert not await call(ledger, token=token)
    assert not await call(ledger, check="khac.dem")
    assert (await look(ledger, settings)).fault is Fault.LOCAL


async def test_a_token_that_is_short_or_missing_takes_no_call_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, settings = await heard()
    monkeypatch.setenv("TOKEN", "ngan")
    assert not await call(ledger, token="ngan")
    short = await look(ledger, settings)
    assert short.detail == "the token has fewer than 16 characters: no call is taken with it"
    monkeypatch.delenv("TOKEN")
    assert not await call(ledger, token="")
    assert (await look(ledger, settings)).fault is Fault.LOCAL


SCRAPS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([NAME, "", "at", "well", "note", "source", "listened", "expected", "sao-luu.dem"]), inner
        )
    ),
)


@given(st.binary(max_size=60) | SCRAPS.map(lambda data: json.dumps(data).encode()))
def test_a_damaged_file_is_begun_anew(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("h") / "h.json"
    file.write_bytes(content)

    async def use() -> bool:
        ledger, _ = await heard(file)
        return await call(ledger)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", TOKEN)
        assert asyncio.run(use())


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5s"), (90, "90s"), (125, "2m 5s"), (7200, "2h"), (200_000, "2d 7h")]
)
def test_durations_are_said_in_two_units(seconds: float, words: str) -> None:
    assert _words(seconds) == words


@pytest.mark.parametrize("keys", [{}, {"token_env": "A", "token_file": "/a"}, {"token_env": "A", "within": "500ms"}])
def test_settings_without_one_token_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate_json(json.dumps({"within": "1h", **keys}))


# Over the web


@contextlib.asynccontextmanager
async def page(tmp_path: Path, heartbeat: Heartbeat) -> AsyncIterator[aiohttp.ClientSession]:
    plan: Plan = builders.plan(service("sao-luu", check(NAME)), state_dir=tmp_path)
    app = build_app(Board(plan, utc_now()), metrics=_none, incidents=_nothing, alive=lambda: True, heartbeat=heartbeat)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(5)) as client:
            yield client
    finally:
        await runner.cleanup()


async def _none() -> tuple[bytes, str]:
    return b"", "text/plain"


async def _nothing(_: int) -> tuple[()]:
    return ()


async def test_calls_come_in_over_the_web_by_get_and_post(tmp_path: Path) -> None:
    ledger, settings = await heard()
    ascii_token = "the-token-of-the-nightly-job"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", ascii_token)
        login = {"Authorization": f"Bearer {ascii_token}"}
        async with page(tmp_path, ledger.accept) as client:
            for method, url, headers, body, status in (
                ("GET", f"/heartbeat/{NAME}", login, None, 200),
                ("GET", f"/heartbeat/{NAME}?token={ascii_token}", {}, None, 200),
                ("POST", f"/heartbeat/{NAME}", login, b"xong 5 GB" + b"x" * 5000, 200),
                ("GET", f"/heartbeat/{NAME}", {}, None, 403),
                ("POST", f"/heartbeat/{NAME}", {"Authorization": "Bearer sai"}, None, 403),
                ("GET", "/heartbeat/mail.smtp", login, None, 403),
                ("PUT", f"/heartbeat/{NAME}", login, None, 405),
                ("HEAD", f"/heartbeat/{NAME}", login, None, 405),
            ):
                async with client.request(method, url, headers=headers, data=body) as reply:
                    assert reply.status == status, (method, url)
            assert ledger.count(NAME) == 3
            beat = ledger.last(NAME)
            assert beat is not None
            assert beat.note.startswith("xong 5 GBxxx")
            assert len(beat.note) == 200
            assert beat.source == "127.0.0.1"
            async with client.post(f"/heartbeat/{NAME}/fail", headers=login, data="hỏng".encode()) as reply:
                assert reply.status == 200
        assert (await look(ledger, settings)).detail == "it says that it failed: hỏng"


async def test_a_call_whose_words_do_not_come_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.web.app.NOTE_S", 0.05)
    ledger, _ = await heard()
    async with page(tmp_path, ledger.accept) as client:

        async def words() -> AsyncIterator[bytes]:
            yield b""
            await asyncio.Event().wait()

        async with client.post(f"/heartbeat/{NAME}", data=words()) as reply:
            assert reply.status == 408
    assert ledger.count(NAME) == 0


async def test_too_many_calls_at_once_are_sent_away(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(check: str, token: str, *, well: bool, note: str, source: str) -> bool:
        await gate.wait()
        return True

    async with page(tmp_path, slow) as client:

        async def one() -> int:
            async with client.get(f"/heartbeat/{NAME}") as reply:
                if reply.status == 503:
                    gate.set()
                return reply.status

        statuses = await asyncio.gather(*(one() for _ in range(HEARTBEATS_AT_ONCE + 4)))
    assert statuses.count(200) >= HEARTBEATS_AT_ONCE
    assert statuses.count(503) >= 1


async def test_the_daemon_hears_calls_and_shows_what_they_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "the-token-of-the-nightly-job"
    monkeypatch.setenv("TOKEN", token)
    text = """\
site: {id: a, name: A}
services:
  sao-luu: {name: Sao lưu, checks: {dem: {probe: heartbeat, within: 1h, token_env: TOKEN, every: 1s, timeout: 1s}}}
"""
    plan = replace(await asyncio.to_thread(load_text, text), state_dir=tmp_path, listen_host="127.0.0.1", listen_port=0)
    ready: asyncio.Future[DaemonInfo] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(run(plan, ready=ready.set_result, stop=stop))
    async with asyncio.timeout(10), aiohttp.ClientSession() as client:
        info = await ready
        async with client.get(f"{info.url}heartbeat/{NAME}?token={token}") as reply:
            assert reply.status == 200
        view = info.board.checks[NAME]
        version = -1
        while view.last is None or view.last.reading.fault is not None:
            assert info.board.version >= version
            version = info.board.version
            await asyncio.sleep(0.05)
        assert view.last.reading.values["beats_count"] == 1
        stop.set()
        await task
    kept = await asyncio.to_thread((tmp_path / "heartbeats.json").read_text)
    assert set(json.loads(kept)) == {"", NAME}
