"""A report by schedule, from the journal through a process of its own to a relay; made again it is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from config.loader import load
from config.plan import Plan
from exporters.report_mail import FILES_LIMIT, UNMADE_AFTER, Made, Maker, ReportChannel, UnmadeError
from monitor.agenda import CHANNEL, Due, message_of, notice_of
from monitor.board import Board
from monitor.model import OutboxItem
from tests.exporters.relays import Behaviour, MemoryOutbox, relay_server
from tests.monitor.builders import SITE, at
from tests.monitor.sealing import hours_of, write
from thongsuot.report_process import make

CONFIG = f"""
site: {{id: {SITE}, name: Sở Thông tin và Truyền thông tỉnh Lạng Sơn}}
services:
  mail: {{name: Thư điện tử công vụ, kind: mail, checks: {{smtp: {{probe: tcp, host: 127.0.0.1, port: 25}}}}}}
  portal: {{name: Cổng thông tin, kind: portal, checks: {{home: {{probe: tcp, host: 127.0.0.1, port: 80}}}}}}
events: {{hoi: {{name: Lễ hội, from: 2027-02-08, to: 2027-02-08, peaks: {{dem: {{at: 2027-02-08 19:00, after: 2h}}}}}}}}
alerts: {{mail: {{from: a@b.vn, to: [truc@d.vn], relays: [{{host: 127.0.0.1, port: PORT, starttls: never}}]}}}}
reports:
  daily: {{at: "07:00", to: [lanh-dao@d.vn], formats: [docx, pdf, json]}}
  event: {{at: "07:00"}}
"""
DUE = at(7 * 3600)  # 07:00 on 06/02/2027 in Việt Nam


def plan_at(folder: Path, port: int) -> Plan:
    file = folder / "tinh.yaml"
    file.write_text(CONFIG.replace("PORT", str(port)), encoding="utf-8")
    return replace(load(file), state_dir=folder)


def item_of(plan: Plan, schedule: str = "daily", *, attempts: int = 0, late: bool = False) -> OutboxItem:
    due = Due(next(s for s in plan.schedules if s.id == schedule), DUE)
    notice = notice_of(plan, due, DUE + timedelta(hours=3 if late else 0))
    name = message_of(plan, due)
    return OutboxItem(1, CHANNEL, name, name, notice, attempts, DUE)


def channel(plan: Plan, outbox: MemoryOutbox, make_it: Maker) -> tuple[ReportChannel, Board]:
    board = Board(plan, DUE)
    board.chain_head = "7:" + "a" * 64
    return ReportChannel(plan, outbox, board, make_it, clock=lambda: DUE + timedelta(minutes=2)), board


async def sent(folder: Path, make_it: Maker, *, to_do: Sequence[str] = ("daily",), attempts: int = 0) -> Behaviour:
    relay = Behaviour()
    async with relay_server(relay) as port:
        plan = await asyncio.to_thread(plan_at, folder, port)
        for name in to_do:
            outbox = MemoryOutbox(item_of(plan, name, attempts=attempts, late=True))
            reports, board = channel(plan, outbox, make_it)
            await reports.deliver_due()
            assert board.alerts.get((CHANNEL, "sent")), outbox.retries
    return relay


@pytest.mark.timeout(60)
async def test_a_daily_report_reaches_its_recipients_with_its_files_and_is_the_same_when_made_again(
    tmp_path: Path,
) -> None:
    await asyncio.to_thread(write, tmp_path, hours_of(7, every_s=300))
    relay = await sent(tmp_path, make, to_do=("daily", "daily"))
    first, again = relay.received
    assert first.raw == again.raw  # made by two processes
    assert first.to == ("lanh-dao@d.vn",)
    message = first.message
    assert message["Message-ID"] == f"<report.daily.{int(DUE.timestamp())}.{SITE}@b.vn>"
    assert message["Subject"].startswith("[Thông Suốt] ")
    assert message["Subject"].endswith("Báo cáo hằng ngày 06/02/2027")
    names = [part.get_filename() for part in message.iter_attachments()]
    assert names == [
        "bao-cao-hang-ngay-2027-02-06.docx",
        "bao-cao-hang-ngay-2027-02-06.pdf",
        "figures-2027-02-06.json",
    ]
    body = message.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    for words in (
        "BÁO CÁO HẰNG NGÀY – Sở Thông tin",
        "Từ 07:00 ngày 05/02/2027 đến 07:00 ngày 06/02/2027",
        "Gửi muộn: lúc 07:00 ngày 06/02/2027 trạm đo không hoạt động.",
        "TÓM TẮT: ",
        "- Thư điện tử công vụ: ",
        "CAO ĐIỂM TỚI: Lễ hội, từ 19:00 ngày 08/02/2027 đến 21:00 ngày 08/02/2027.",
        f"Đầu chuỗi bằng chứng: 7:{'a' * 64}",
    ):
        assert words in text
    assert not (tmp_path / "reports").exists()


@pytest.mark.timeout(60)
async def test_a_configuration_that_cannot_be_read_any_more_is_told_after_some_tries(tmp_path: Path) -> None:
    async def broken(plan: Plan, item: OutboxItem, schedule: object, head: str) -> Made:
        await asyncio.to_thread((tmp_path / "tinh.yaml").write_text, "site: {")
        return await make(plan, item, plan.schedules[-1], head)

    (message,) = (r.message for r in (await sent(tmp_path, broken, attempts=UNMADE_AFTER)).received)
    assert "CHƯA LẬP ĐƯỢC" in message["Subject"]
    assert "tinh.yaml" in message.get_content()
    assert "Bằng chứng vẫn còn" in message.get_content()


async def test_a_report_that_cannot_be_made_is_tried_again_first(tmp_path: Path) -> None:
    async def never(*_: object) -> Made:
        raise UnmadeError("không có đĩa")

    plan = await asyncio.to_thread(plan_at, tmp_path, 2525)
    outbox = MemoryOutbox(item_of(plan, attempts=UNMADE_AFTER - 1))
    reports, _ = channel(plan, outbox, never)
    assert await reports.deliver_due() == 0
    ((_, _, detail),) = outbox.retries
    assert "không có đĩa" in detail


async def test_a_report_that_nobody_asks_for_any_more_is_not_sent(tmp_path: Path) -> None:
    plan = await asyncio.to_thread(plan_at, tmp_path, 2525)
    outbox = MemoryOutbox(item_of(plan))
    reports, _ = channel(replace(plan, schedules=()), outbox, make)
    assert await reports.deliver_due() == 0
    assert "no report daily" in outbox.failed[1]


async def test_files_that_no_relay_would_take_are_left_out_and_named(tmp_path: Path) -> None:
    async def large(*_: object) -> Made:
        return Made("s", "văn bản", (("a.pdf", b"%PDF"), ("b.xlsx", b"x" * (FILES_LIMIT + 1))))

    (message,) = (r.message for r in (await sent(tmp_path, large)).received)
    assert [p.get_filename() for p in message.iter_attachments()] == ["a-2027-02-06.pdf"]
    body = message.get_body(("plain",))
    assert body is not None
    assert "Không kèm theo vì quá lớn: b.xlsx" in body.get_content()


async def test_a_report_is_made_once_for_all_tries_to_send_it(tmp_path: Path) -> None:
    made = 0

    async def count(*_: object) -> Made:
        nonlocal made
        made += 1
        return Made("s", "t")

    relay = Behaviour(data="451 later")
    async with relay_server(relay) as port:
        plan = await asyncio.to_thread(plan_at, tmp_path, port)
        item = item_of(plan)
        outbox = MemoryOutbox(item)
        reports, _ = channel(plan, outbox, count)
        await reports.deliver_due()
        relay.data = "250 ok"
        outbox.due[item.id] = (DUE, item)
        await reports.deliver_due()
    assert (made, len(relay.received)) == (1, 1)
