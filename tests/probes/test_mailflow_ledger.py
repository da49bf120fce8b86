"""What `mailflow` remembers of its messages, across restarts and clocks that are set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probes.base import ProbeError, utc_now
from probes.mailflow_ledger import MailLedger


async def test_a_clock_set_back_blocks_no_longer_than_a_pause(tmp_path: Path) -> None:
    file = tmp_path / "mailflow.json"
    ahead = utc_now().timestamp() + 86400
    file.write_text(json.dumps({"checks": {"k": {"last": ahead, "missing": []}}}), "utf-8")
    since_s = await MailLedger(file).since_last_s("k")
    assert since_s is not None
    assert 0 <= since_s < 1

    file = tmp_path / "mailflow.json"
    for text in (
        "[]",
        '{"checks": 3}',
        '{"checks": {"k": 3, "l": {"last": "x", "missing": [1, {"token": 2}]}}}',
        "{",
    ):
        file.write_text(text, "utf-8")
        ledger = MailLedger(file)
        assert await ledger.missing("l") == ()
        assert await ledger.since_last_s("l") is None


async def test_what_cannot_be_kept_is_not_believed_to_be_sent(tmp_path: Path) -> None:
    ledger = MailLedger(tmp_path / "no" / "mailflow.json")
    with pytest.raises(ProbeError, match="cannot be kept"):
        await ledger.sending("k", "t")
    assert await ledger.missing("k") == ()
    assert await ledger.since_last_s("k") is None


async def test_it_remembers_no_more_than_the_newest() -> None:
    ledger = MailLedger()
    for number in range(50):
        await ledger.sending("k", f"t{number}")
    assert [sent.token for sent in await ledger.missing("k")] == [f"t{number}" for number in range(30, 50)]
