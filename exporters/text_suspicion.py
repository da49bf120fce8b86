"""The words for queues suspected in a peak, and for a suspicion that came to nothing. Pure."""

from __future__ import annotations

from datetime import tzinfo

from config.plan import Language
from exporters import text
from exporters.text import pick
from monitor.model import EventKind, Notice
from probes.base import one_line

KINDS = (EventKind.SUSPECTED, EventKind.UNCONFIRMED)
NAMES_LIMIT = 40

Pairs = tuple[tuple[str, str], ...]


def headline(notice: Notice, lang: Language) -> str:
    """Return what a subject and a headline say."""
    shown = notice.still if notice.kind is EventKind.UNCONFIRMED else notice.members
    names = one_line(shown[0]) if len(shown) == 1 else pick((f"{len(shown)} dịch vụ", f"{len(shown)} services"), lang)
    if notice.kind is EventKind.SUSPECTED:
        return pick((f"NGHI NGHẼN: {names}", f"CONGESTION SUSPECTED: {names}"), lang)
    return pick((f"KHÔNG XÁC NHẬN NGHẼN: {names}", f"CONGESTION NOT CONFIRMED: {names}"), lang)


def lead(notice: Notice, lang: Language) -> str:
    """Return what it means, and what is to be done."""
    if notice.kind is EventKind.SUSPECTED:
        return pick(
            (
                "Đang trong giờ cao điểm: các gói tin nhanh nhất vẫn chậm hơn bình thường từ vài phút nay, có dấu hiệu "
                "nghẽn. Đây mới là nghi vấn, chưa được xác nhận: dịch vụ vẫn trả lời, chưa ghi là sự cố. Thường trong "
                "10 phút nữa sẽ có thư xác nhận là nghẽn, hoặc thư báo không xác nhận. Nên chuẩn bị liên hệ nhà mạng; "
                "chưa cần báo cáo.",
                "In a peak, even the fastest packets have been slower than usual for some minutes. This is a "
                "suspicion, not confirmed: services answer, and no incident is recorded. Within some ten minutes a "
                "letter will confirm it or say that it was not confirmed.",
            ),
            lang,
        )
    return pick(
        (
            "Nghi vấn nghẽn đã báo trong giờ cao điểm không được xác nhận: độ trễ không đứng ở mức cao đủ lâu. Không "
            "ghi nhận sự cố cho các dịch vụ nêu dưới đây.",
            "The congestion suspected in the peak was not confirmed: the delay did not stay high for long enough. No "
            "incident is recorded for the services named below.",
        ),
        lang,
    )


def _rows(notice: Notice, zone: tzinfo, lang: Language) -> Pairs:
    since, at = text.local_time(notice.since, zone), text.local_time(notice.at, zone)
    good, bad = notice.references_good, notice.references_bad
    return (
        (pick(("Đơn vị", "Site"), lang), one_line(notice.site_name)),
        (pick(("Nghi vấn từ", "Suspected since"), lang), f"{since} ({text.zone_word(notice.since, zone)})"),
        (pick(("Báo lúc", "Told at"), lang), at),
        (pick(("Mốc tham chiếu trả lời", "References that answer"), lang), f"{good}/{good + bad}"),
    )


def blocks(notice: Notice, zone: tzinfo, lang: Language) -> tuple[tuple[str, Pairs, Pairs], ...]:
    """Return what stands below the lead: a title, rows of label and value, and lines with their technical notes."""
    found: list[tuple[str, Pairs, Pairs]] = [("", _rows(notice, zone, lang), ())]
    still = set(notice.still)
    if notice.kind is EventKind.SUSPECTED:
        services = [one_line(name) for name in notice.members]
    else:
        not_so = pick(("không xác nhận", "not confirmed"), lang)
        was_so = pick(("đã thành sự cố, có thư riêng", "has become an incident, told by a letter of its own"), lang)
        services = [f"{one_line(name)}: {not_so if name in still else was_so}" for name in notice.members]
    found.append((pick(("Dịch vụ", "Services"), lang), (), tuple((line, "") for line in services[:NAMES_LIMIT])))
    if notice.kind is EventKind.SUSPECTED:
        word = pick(("nghi nghẽn", "congestion suspected"), lang)
        lines = tuple(
            (f"{text.local_clock(e.at, zone)}  {one_line(e.check)} [{e.kind}]: {word}", one_line(e.detail))
            for e in notice.evidence
        )
        found.append((pick(("Căn cứ: kết quả đo", "How we know: what the checks said"), lang), (), lines))
    return tuple(found)
