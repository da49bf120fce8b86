"""Recorded reasons in the reader's words."""

from __future__ import annotations

from config.plan import Language
from exporters.text_reason import reason_words
from monitor.judge.burn import Burning, sentence
from monitor.judge.signals import Signals, slowness
from probes.base import Reading


def test_scattered_failures_are_said_as_the_judge_records_them() -> None:
    recorded = sentence(Burning(0.0, 8, 250, 3600.0, 0.995))
    assert reason_words(recorded) == "lỗi rải rác: 3,2 % của 250 phép đo hỏng trong 1 giờ"
    assert reason_words(recorded, Language.EN) == "scattered failures: 3.2 % of 250 rounds in 1 h"


def test_a_reason_of_no_known_form_has_no_words() -> None:
    assert reason_words("something new") == ""
    assert reason_words("status 503, expected 200", Language.EN) == ""


def test_what_a_probe_records_is_put_into_vietnamese() -> None:
    assert reason_words("status 404, expected 200") == "máy chủ web trả mã 404 (không có trang), mã đúng là 200"


def test_a_full_interface_and_a_slow_server_are_said_as_they_are_recorded() -> None:
    signals = Signals()
    for at in range(3):
        signals.take(at, Reading(None, "", 0.1, values={"in_load_ratio": 0.2, "out_load_ratio": 0.97}))
    assert reason_words(signals.sentence()) == "tải cổng 97 % (chiều ra)"
    slow = slowness(Reading(None, "", 2.4, {"connect": 0.01, "processing": 2.3}), 1.0)
    assert reason_words(slow) == "máy chủ chậm: 2,4 giây, cho phép 1,0 giây"
    assert reason_words(slow, Language.EN) == "slow server: 2.4 s, allowed 1.0 s"
