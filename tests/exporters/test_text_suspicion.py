"""Letters about queues suspected in a peak: plainly a suspicion, and plainly over."""

from __future__ import annotations

from dataclasses import replace

from config.plan import Language
from exporters.text_mail import compose
from monitor.model import SUSPICION, EventKind, State
from tests.exporters.builders import evidence, notice, site

SUSPECTED = replace(
    notice(
        EventKind.SUSPECTED,
        subject=SUSPICION,
        name="",
        state=State.CONGESTED,
        lines=(evidence("Mạng VNPT: ping", None, "queue of up to 14 ms above the floor of 12.0 ms", kind="icmp"),),
    ),
    incident=0,
    members=("Mạng VNPT", "Cổng <b>dịch vụ</b>"),
    still=("Mạng VNPT", "Cổng <b>dịch vụ</b>"),
)


def test_a_suspicion_says_that_it_is_one_and_that_nothing_is_recorded() -> None:
    letter = compose(SUSPECTED, site(), ("truc@example.vn",), None)
    assert "NGHI NGHẼN: 2 dịch vụ từ 00:00" in letter.subject
    assert "chưa được xác nhận" in letter.text
    assert "Mạng VNPT: ping [icmp]: nghi nghẽn" in letter.text
    assert "queue of up to 14 ms" in letter.text
    assert "Sự cố số" not in letter.text
    assert "<b>dịch vụ" not in letter.html


def test_a_suspicion_that_came_to_nothing_names_what_was_not_confirmed_and_what_was() -> None:
    over = replace(SUSPECTED, kind=EventKind.UNCONFIRMED, state=State.UP, still=("Mạng VNPT",))
    letter = compose(over, site(), ("truc@example.vn",), None)
    assert "KHÔNG XÁC NHẬN NGHẼN: Mạng VNPT" in letter.subject
    assert "Mạng VNPT: không xác nhận" in letter.text
    assert "đã thành sự cố, có thư riêng" in letter.text
    english = compose(over, site(Language.EN), ("truc@example.vn",), None)
    assert "CONGESTION NOT CONFIRMED" in english.subject
