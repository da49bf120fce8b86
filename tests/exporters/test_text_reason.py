"""Recorded reasons in the reader's words."""

from __future__ import annotations

from config.plan import Language
from exporters.text_reason import reason_words
from monitor.judge.burn import Burning, sentence


def test_scattered_failures_are_said_as_the_judge_records_them() -> None:
    recorded = sentence(Burning(0.0, 8, 250, 3600.0, 0.995))
    assert reason_words(recorded) == "lỗi rải rác: 3,2 % của 250 phép đo hỏng trong 1 giờ"
    assert reason_words(recorded, Language.EN) == "scattered failures: 3.2 % of 250 rounds in 1 h"


def test_a_reason_of_no_known_form_has_no_words() -> None:
    assert reason_words("status 503, expected 200") == ""
