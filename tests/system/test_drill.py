"""The drill on the demo province: real servers break, and the letters that say so are read from the duty mailbox."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


@pytest.mark.timeout(60)
def test_a_dead_mail_server_and_a_cut_uplink_are_told_in_time_and_nothing_else_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "thongsuot", "drill", "--only", "mail", "--only", "uplink", "--json"],
        capture_output=True,
        timeout=55,
        check=False,
        cwd=Path(__file__).parents[2],
    )

    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout)
    mail, uplink = figures["faults"]
    assert figures["passed"]
    assert (mail["fault"], mail["state"]) == ("mail", "down")
    assert 0 < mail["told_s"] <= mail["limit_s"]
    assert "Thư điện tử công vụ" in mail["subject"]
    assert mail["to"] == ["truc@songxuan.example.vn"]
    assert (uplink["fault"], uplink["state"], uplink["services"]) == ("uplink", "unknown", [])
    assert uplink["other_words"] == []
    assert "TRẠM ĐO MẤT KẾT NỐI" in uplink["subject"]
    assert "đã báo sau" in done.stderr.decode()
