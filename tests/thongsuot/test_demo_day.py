"""The main job, whole: the demo's outages end in mails and recovery mails, on the real daemon."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from thongsuot.demo import Day, run_demo

SHORT = Day(mail_stops_s=4.0, portal_fails_s=4.0, mail_starts_s=15.0, portal_recovers_s=20.0)


@pytest.mark.system
@pytest.mark.timeout(60)
async def test_each_outage_of_the_day_ends_in_a_mail_and_a_recovery_mail(tmp_path: Path) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    stop = asyncio.Event()
    running = asyncio.create_task(run_demo("127.0.0.1:0", tmp_path, day=SHORT, say=said.put_nowait, stop=stop))
    async with aiohttp.ClientSession() as session, asyncio.timeout(50):
        urls: list[str] = []
        while not urls:
            urls = re.findall(r"http://\S+", await said.get())
        page, _, mailbox = urls[:3]
        up = await wait_until_up(session, f"{page}api/v1/status")
        mails: list[dict[str, str]] = []
        while len(mails) < 4:
            await asyncio.sleep(0.05)
            mails = await (await session.get(f"{mailbox}api/mails")).json()
        incidents = await (await session.get(f"{page}api/v1/incidents")).json()
        stop.set()

    assert await running == 0
    assert up[0] >= 6
    assert up[1] >= 15
    subjects = [mail["subject"] for mail in mails]
    for service in ("Thư điện tử công vụ", "Cổng thông tin điện tử"):
        assert [("GIÁN ĐOẠN" in s, "ĐÃ THÔNG SUỐT" in s) for s in subjects if service in s] == [
            (True, False),
            (False, True),
        ]
    opened = {mail["message_id"] for mail in mails if "GIÁN ĐOẠN" in mail["subject"]}
    followed = {mail["references"] for mail in mails if "ĐÃ THÔNG SUỐT" in mail["subject"]}
    assert opened == followed
    assert "dự phòng" in next(mail["via"] for mail in mails if "GIÁN ĐOẠN: Thư" in mail["subject"])
    assert sorted(incident["subject"] for incident in incidents["recent"]) == ["mail", "portal"]


async def wait_until_up(session: aiohttp.ClientSession, url: str) -> tuple[int, int]:
    """Return the numbers of services and checks that are up, once all are or the first outage is near."""
    services = checks = 0
    while services < 10:
        status = await (await session.get(url)).json()
        services = sum(service["state"] == "up" for service in status["services"])
        checks = sum(check["state"] == "up" for service in status["services"] for check in service["checks"])
        await asyncio.sleep(0.05)
    return services, checks
