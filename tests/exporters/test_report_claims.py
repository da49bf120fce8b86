"""What a report says of congestion and outages follows from the evidence, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.plan import ReportPlan, Window
from exporters import text_report as words
from exporters.report import claims, congestion_claims, incident_report, post_event, tables
from exporters.report.congestion import CongestionFigures, Queues, Verdict
from exporters.report.document import Block, Chart, Document, Form, Heading, Numbering, Paragraph, Table
from exporters.report.figures import Figures
from monitor.availability import Segment
from monitor.model import State
from tests.exporters.report_sample import DAY, PING, episode, figures, judged, material, province
from tests.monitor.builders import at, span


def texts(document: Document) -> Iterator[str]:
    """Every word of a document."""
    head, end = document.head, document.signature
    yield from (head.parent, head.body, head.number, head.place_date, document.kind, document.about)
    yield from (*document.banners, end.authority, end.title, end.name, *end.recipients)
    blocks: list[Block] = [*document.blocks, *(b for a in document.annexes for b in a.blocks)]
    for block in blocks:
        match block:
            case Heading():
                yield block.text
            case Paragraph():
                yield f"{block.bold} {block.text}"
            case Table():
                yield from (block.caption, *(c.title for c in block.columns), *(c for row in block.rows for c in row))
            case Form():
                yield from (f"{a} {b}" for a, b in block.lines)
            case Chart():
                yield block.caption


def whole(made: Figures) -> str:
    return "\n".join(texts(post_event.build(material(made))))


# Congestion.


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (None, Verdict.NOT_ASSESSED),
        (judged(limit=False), Verdict.NOT_ASSESSED),
        (judged(without=[PING]), Verdict.NOT_ASSESSED),
        (judged(), Verdict.NONE_FOUND),
        (judged(missing_s=0.11 * DAY), Verdict.NOT_ENOUGH),
        (judged(episode(600, 4000)), Verdict.FOUND),
        (judged(episode(600, 4000), limit=False), Verdict.FOUND),
        (judged(episode(600, 4000, "near-side")), Verdict.NOT_ENOUGH),
        (judged(episode(600, 4000, "route-change")), Verdict.NONE_FOUND),
        (judged(episode(2 * DAY, 3 * DAY)), Verdict.NONE_FOUND),
    ],
    ids=[
        "nobody judged",
        "the limit is not known",
        "a path was not judged",
        "all well",
        "too little was judged",
        "one episode",
        "one episode without a limit",
        "a queue on our own side",
        "another route",
        "an episode after the period",
    ],
)
def test_the_word_none_is_printed_only_when_the_evidence_carries_it(
    found: CongestionFigures | None, verdict: Verdict
) -> None:
    made = figures(congestion=found)
    assert congestion_claims.verdict(made) is verdict
    assert (words.NO_CONGESTION in whole(made).lower()) is (verdict is Verdict.NONE_FOUND)


@given(
    st.none()
    | st.builds(
        judged,
        st.builds(episode, st.floats(-DAY, DAY), st.floats(-DAY, DAY), st.sampled_from(["congestion", "near-side"])),
        limit=st.booleans(),
        missing_s=st.floats(0, DAY),
        without=st.lists(st.sampled_from([PING, "cap-ii.uy-ban"]), max_size=2),
    )
)
def test_no_assessment_whatever_makes_the_report_say_more_than_its_verdict(found: CongestionFigures | None) -> None:
    made = figures(congestion=found)
    carried = congestion_claims.verdict(made) is Verdict.NONE_FOUND
    said = "\n".join(
        f"{b.bold} {b.text}" for b in congestion_claims.blocks(made, Numbering()) if isinstance(b, Paragraph)
    )
    assert (words.NO_CONGESTION in said) is carried


def test_a_single_peak_that_was_not_seen_takes_the_word_from_the_whole_event() -> None:
    seen = judged()
    torn = replace(seen.paths[PING], usable=(span(-DAY, -600), span(600, DAY)))  # 20 minutes of two days
    made = figures(congestion=replace(seen, paths={**seen.paths, PING: torn}))
    assert torn.coverage(made.period) > 0.99
    assert congestion_claims.verdict(made) is Verdict.NOT_ENOUGH


def test_beside_the_word_none_stand_its_period_paths_limit_and_coverage() -> None:
    said = whole(figures(congestion=judged()))
    assert "từ 00:00 ngày 05/02/2027 đến 00:00 ngày 07/02/2027, trên các đường đo từ trạm đo tới Mạng VNPT" in said
    assert "kể cả trong các khung giờ cao điểm" in said
    assert "với giới hạn phát hiện: hàng đợi từ 9 ms kéo dài từ 15 phút." in said
    assert "576 khoảng 5 phút" in said
    assert "100%\n[100%]" in said
    assert "9 ms trong 15 phút\n(24/24 phép thử)" in said


@pytest.mark.parametrize("found", [None, judged()], ids=["nobody assessed", "assessed as none"])
def test_congestion_that_the_monitor_saw_takes_the_word_none_away(found: CongestionFigures | None) -> None:
    made = figures(congestion=found)
    line = made.services["carrier-vnpt"]
    queued = Segment(at(600), at(1500), State.CONGESTED)
    segments = [Segment(made.period.start, at(600), State.UP), queued, Segment(at(1500), made.period.end, State.UP)]
    seen = replace(made, services={**made.services, "carrier-vnpt": replace(line, segments=segments)})
    said = whole(seen)
    assert congestion_claims.verdict(seen) is Verdict.FOUND
    assert words.NO_CONGESTION not in said
    assert (
        "bộ giám sát đã báo 1 khoảng ở trạng thái nghẽn, tổng cộng 15 phút: 06/02/2027 00:10:00 – 06/02/2027 00:25:00."
        in said
    )
    assert "Chưa đánh giá nghẽn mạng." not in said


def test_an_episode_is_told_with_its_time_its_queue_and_its_loss() -> None:
    said = whole(figures(congestion=judged(episode(600, 4000))))
    assert "ghi nhận 1 đợt nghẽn trên đường đo tới Mạng VNPT, tổng cộng 56 phút 40 giây" in said
    for cell in ("40,0 / 8,0", "12/1.000", "nghẽn phía nhà mạng hoặc đích, mức vừa; trong giờ cao điểm"):
        assert cell in said


def test_queueing_delay_is_drawn_where_it_was_judged() -> None:
    seen = judged()
    queues = Queues([at(300.0 * i).timestamp() for i in range(12)], [5.0 + i for i in range(12)])
    paths = {**seen.paths, PING: replace(seen.paths[PING], queues=queues)}
    said = whole(figures(congestion=replace(seen, paths=paths)))
    assert "Độ trễ hàng đợi (gói nhanh nhất của 5 phút so với mức nền), lớn nhất trong mỗi 10 phút" in said
    assert "16,0\n06/02/2027 00:55:00" in said
    assert "Độ trễ hàng đợi (gói" not in whole(figures(congestion=seen))


def test_when_nobody_judged_the_report_says_so() -> None:
    assert "Chưa đánh giá nghẽn mạng." in whole(figures())


# Outages and what was not observed.


def test_an_outage_is_told_between_its_bounds() -> None:
    said = whole(figures())
    assert "1 lần gián đoạn, tổng cộng 19 phút 30 giây – 20 phút 30 giây, dài nhất 20 phút" in said


def test_without_an_outage_the_report_says_what_the_rounds_prove() -> None:
    said = whole(figures(down=None, blind_s=0.0))
    assert "với 5.003 lượt đo, ở độ tin cậy 95% tỷ lệ thời điểm không sử dụng được không quá 0,060%" in said


def test_too_little_coverage_is_no_finding() -> None:
    said = whole(figures(down=None, blind_s=0.06 * 2 * DAY))
    assert "độ phủ đo chỉ đạt 94,00%: không đủ căn cứ kết luận" in said
    assert "Độ phủ đo dưới 95% đối với: Thư điện tử công vụ, Mạng VNPT và Mạng truyền số liệu cấp II" in said


def test_unobserved_time_is_listed_with_its_cause_and_how_many_checks_it_hit() -> None:
    made = figures(blind_s=1800.0)
    spans = claims.blind(made)
    assert [(b.start, b.end, b.cause, b.checks) for b in spans] == [
        (at(DAY - 1800), at(DAY), "phần mềm giám sát không chạy", 6)
    ]
    table = tables.blind_table(made, spans, Numbering())
    assert table is not None
    assert table.rows[0][2:4] == ("30 phút", "6/6")


def test_the_rows_of_a_group_sum_to_the_period() -> None:
    made = figures()
    for _, table in tables.group_tables(made, Numbering()):
        for row in table.rows:
            seconds = [sum(int(x) * f for x, f in zip(c.split(":"), (3600, 60, 1), strict=True)) for c in row[1:6]]
            assert sum(seconds) == 2 * DAY


def test_our_own_fault_is_told_as_ours() -> None:
    said = whole(figures())
    assert "Sự cố của chính trạm đo (đường truyền mặc định):" in said
    assert "Thời gian này được tính là không có số liệu." in said


def test_simulated_figures_are_marked_as_such() -> None:
    assert "SỐ LIỆU MÔ PHỎNG" in whole(figures(simulated=True))
    assert "SỐ LIỆU MÔ PHỎNG" not in whole(figures())


def test_what_the_configuration_leaves_out_is_a_placeholder() -> None:
    said = whole(figures(of=province(ReportPlan())))
    for what in ("cơ quan chủ quản", "ký hiệu", "địa danh", "nơi nhận", "chức vụ người ký", "họ và tên người ký"):
        assert f"[… {what} …]" in said
    assert "[… xử lý …]" in said


@pytest.mark.parametrize(
    ("day", "text"),
    [
        (date(2026, 1, 5), "ngày 05 tháng 01 năm 2026"),
        (date(2026, 2, 15), "ngày 15 tháng 02 năm 2026"),
        (date(2026, 3, 9), "ngày 09 tháng 3 năm 2026"),
        (date(2026, 12, 31), "ngày 31 tháng 12 năm 2026"),
    ],
)
def test_a_date_is_written_with_the_noughts_of_the_decree(day: date, text: str) -> None:
    assert words.written_date(day) == text


# Comparison.


def named(found: Sequence[tuple[str, object, object]]) -> list[tuple[str, bool, bool]]:
    return [(label, a is not None, b is not None) for label, a, b in found]


def test_two_tets_are_set_beside_each_other_by_lunar_days() -> None:
    this = figures()  # 29 Chạp and mùng 1 of Đinh Mùi: that year has no 30 Chạp
    then = replace(this, title="Tết 2025", period=around_tet_2025())
    assert named(tables.paired_days(this, then)) == [
        ("28 Chạp", False, True),
        ("29 Chạp", True, True),
        ("mùng 1", True, True),
    ]


def around_tet_2025() -> Window:
    """Three days up to mùng 1 of Ất Tỵ, 29/01/2025."""
    mung_1 = datetime(2025, 1, 28, 17, 0, tzinfo=UTC)
    return Window(mung_1 - timedelta(days=2), mung_1 + timedelta(days=1))


def test_events_without_a_common_lunar_day_are_set_beside_each_other_day_by_day() -> None:
    this = figures()
    other = replace(this, period=span(-100 * DAY, -97 * DAY))
    assert named(tables.paired_days(this, other)) == [
        ("Ngày thứ 1", True, True),
        ("Ngày thứ 2", True, True),
        ("Ngày thứ 3", False, True),
    ]


def test_a_comparison_has_a_section_of_its_own() -> None:
    document = post_event.build(material(compared=replace(figures(), title="Tết Bính Ngọ 2026")))
    said = "\n".join(texts(document))
    assert "V. SO SÁNH VỚI KỲ TRƯỚC" in said
    assert "VI. KIẾN NGHỊ, ĐỀ XUẤT" in said


# One incident.


def test_the_ad_hoc_report_says_what_happened_and_leaves_the_handling_to_a_person() -> None:
    made = material()
    found = replace(made, incident=made.figures.incidents[0])
    said = "\n".join(texts(incident_report.build(found)))
    assert "BÁO CÁO ĐỘT XUẤT" in said
    assert "05/02/2027 22:00:00" in said
    assert "Kéo dài: 20 phút." in said
    assert "[… biện pháp đã thực hiện, người thực hiện, thời điểm …]" in said


def test_a_path_that_was_measured_too_short_to_know_its_floor_is_not_called_unmeasured() -> None:
    found = judged()
    paths = {name: replace(p, usable=(), limit=None) for name, p in found.paths.items()}
    said = whole(figures(congestion=CongestionFigures(paths)))
    assert "chưa đủ số liệu để học mức nền của đường đo" in said
    assert "không có số liệu thời gian khứ hồi." not in said


def test_form_03_is_marked_as_a_draft_for_a_person_to_decide() -> None:
    made = material()
    document = incident_report.form_03(replace(made, incident=made.figures.incidents[0]))
    assert document.banners[0].startswith("DỰ THẢO")
    assert "NGƯỜI CÓ THẨM QUYỀN QUYẾT ĐỊNH" in document.banners[0]
    said = "\n".join(texts(document))
    for mandatory in ("Địa chỉ (*):", "Ngày phát hiện sự cố (*): 05/02/2027", "Hiện trạng sự cố (*): Đã xử lý"):
        assert mandatory in said
    assert "[TBSC]" in said


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (judged(missing_s=0.11 * DAY), "cả kỳ báo cáo: độ phủ 94,50%, dưới 95%."),
        (judged(limit=False), "chưa đủ số liệu của những giờ không nghẽn để xác định giới hạn phát hiện."),
        (judged(without=[PING]), "không có số liệu thời gian khứ hồi."),
        (judged(episode(600, 4000, "near-side")), "đường truyền của chính trạm đo bị nghẽn."),
    ],
    ids=["too little was judged", "no limit", "no packets", "our own side"],
)
def test_without_enough_to_go_by_the_report_says_why(found: CongestionFigures, why: str) -> None:
    said = whole(figures(congestion=found))
    assert "Không đủ căn cứ để kết luận." in said
    assert why in said


def test_where_one_path_was_congested_the_others_are_told_with_their_limit() -> None:
    said = whole(figures(congestion=judged(episode(600, 4000))))
    assert (
        "Trên đường đo tới Mạng truyền số liệu cấp II không phát hiện nghẽn, với giới hạn phát hiện: hàng đợi từ 9 ms "
        "kéo dài từ 15 phút." in said
    )


def test_the_general_assessment_says_what_the_evidence_carries() -> None:
    for found, said in (
        (judged(), "không xảy ra nghẽn mạng, với giới hạn phát hiện: hàng đợi từ 9 ms"),
        (judged(limit=False), "Chưa đủ căn cứ để kết luận về việc có hay không có nghẽn mạng"),
        (judged(episode(600, 4000)), "Ghi nhận 1 đợt nghẽn trên đường đo tới Mạng VNPT"),
    ):
        assert said in congestion_claims.summary(figures(congestion=found))
