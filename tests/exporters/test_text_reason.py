"""Recorded reasons in the reader's words."""

from __future__ import annotations

from config.plan import Language
from exporters.text_reason import incident_words, reason_words
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


def test_the_reason_of_an_incident_keeps_the_name_of_its_check() -> None:
    assert incident_words("Sao lưu: no heartbeat for 41s, expected within 40s") == (
        "Sao lưu: đã 41 giây không có tín hiệu báo về, hạn là 40 giây"
    )
    assert incident_words("Sao lưu: something new") == ""
    assert incident_words("") == ""


def test_the_step_of_a_journey_is_named_before_what_failed_in_it() -> None:
    recorded = "step 1 (đăng nhập): Connection refused (127.0.0.1 port 9002)"
    assert reason_words(recorded) == "bước 1 (đăng nhập): 127.0.0.1 từ chối kết nối ở cổng 9002"
    assert reason_words("step 1 (đăng nhập): something new") == ""


def test_a_page_that_nobody_approved_is_told_so() -> None:
    assert reason_words("nobody has approved this page yet: run thongsuot approve").startswith("chưa ai duyệt")


def test_a_journey_that_ends_on_another_page_is_told_in_vietnamese() -> None:
    recorded = "step 2 (đăng nhập): came to http://127.0.0.1:9002/login, expected text '/trang-chu'"
    assert reason_words(recorded) == (
        "bước 2 (đăng nhập): trang cuối là http://127.0.0.1:9002/login, địa chỉ phải có chữ '/trang-chu'"
    )
