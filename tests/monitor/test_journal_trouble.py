"""While the journal cannot be written nothing is lost, and the board says that it stands still."""

from __future__ import annotations

import asyncio
from pathlib import Path

from monitor.model import State
from tests.monitor.builders import good
from tests.monitor.journals import fill_up, make_room
from tests.monitor.room import SMTP, living, one_service


async def test_a_full_disk_is_said_on_the_board_and_everything_is_written_when_there_is_room(tmp_path: Path) -> None:
    async with living(one_service(), tmp_path) as room:
        await room.feed(good(SMTP, 0))
        await fill_up(room.journal)
        version = room.board.version
        # Many results, so that they cannot fit into what is left of the last page.
        feeding = asyncio.create_task(room.feed(*(good(SMTP, 30 + n / 1000) for n in range(2000))))
        while not room.board.journal_trouble:  # noqa: ASYNC110  the board is looked at, as its readers do
            await asyncio.sleep(0.01)
        trouble, since, grown = room.board.journal_trouble, room.board.journal_trouble_since, room.board.version
        await make_room(room.journal)
        await feeding

        assert "full" in trouble
        assert since is not None
        assert grown > version
        assert room.board.journal_trouble == ""
        assert room.board.journal_trouble_since is None
        assert room.state(SMTP) is State.UP
