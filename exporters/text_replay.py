"""What `thongsuot replay journal` says to people, in Vietnamese and English."""

from __future__ import annotations

from typing import Final

from config.plan import Language
from exporters.text import Words, duration_words, pick

_LABELS: Final[dict[str, Words]] = {
    "title": (
        "Phát lại số liệu đã ghi từ {start} đến {end}: {results} kết quả đo, {runs} lần chạy của trạm đo.",
        "Recorded figures from {start} to {end} again: {results} results, {runs} runs of the monitor.",
    ),
    "nothing-sent": (
        "Không đo gì, không gửi thư nào, không ghi gì vào thư mục dữ liệu.",
        "Nothing was measured, nothing sent, nothing written into the state directory.",
    ),
    "same-settings": (
        "Cấu hình đưa vào giống cấu hình đã chạy và không đổi tham số nào.",
        "The configuration given is the one that ran, and nothing of it was changed.",
    ),
    "words": ("Thông báo", "Words"),
    "when-now": ("Sẽ báo lúc", "Would be told"),
    "when-then": ("Đã báo lúc", "Was told"),
    "difference": ("Khác nhau", "Difference"),
    "letter": ("Tiêu đề thư", "Subject of the letter"),
    "no-words": (
        "Không có thông báo nào, cả khi đó lẫn theo thiết lập này.",
        "No word, neither then nor with these settings.",
    ),
    "same": ("như đã báo", "the same"),
    "earlier": ("sớm hơn {by}", "{by} earlier"),
    "later": ("muộn hơn {by}", "{by} later"),
    "now-only": ("CHỈ CÓ theo thiết lập này", "ONLY with these settings"),
    "then-only": ("KHÔNG CÒN: khi đó đã báo", "NO LONGER: it was told then"),
    "perhaps": ("chưa chắc", "not certain"),
    "withdrawn": ("khi đó đã đính chính", "corrected then"),
    "sum": (
        "Tổng cộng: {same} như đã báo, {earlier} sớm hơn, {later} muộn hơn, {new} chỉ có theo thiết lập này, "
        "{gone} không còn.",
        "Altogether: {same} the same, {earlier} earlier, {later} later, {new} only with these settings, {gone} no "
        "longer.",
    ),
    "services": ("Thời gian của từng dịch vụ", "Time of each service"),
    "service": ("Dịch vụ", "Service"),
    "availability": ("Khả dụng", "Availability"),
    "down": ("Gián đoạn", "Down"),
    "congested": ("Nghẽn", "Congested"),
    "degraded": ("Suy giảm", "Degraded"),
    "unknown": ("Không có số liệu", "No data"),
    "incidents": ("Sự cố", "Incidents"),
    "now-then": ("{now} (khi đó {then})", "{now} (then {then})"),
    "nothing": ("–", "–"),
    "limits": ("Cần biết khi đọc bảng trên:", "What to know of these tables:"),
    "limit-pace": (
        "Chu kỳ đo, thời hạn và giờ cao điểm là của cấu hình đã chạy: không thể phát lại những lần chưa từng đo.",
        "Intervals, time-outs and peaks are those of the configuration that ran: what was not measured is not known.",
    ),
    "limit-rechecks": (
        "{count} lần đo lại mà thiết lập này cần thì khi đó không có. Dòng ghi “{mark}” phụ thuộc vào các lần đó: "
        "thực tế có thể báo sớm hơn, hoặc không báo.",
        '{count} rechecks that these settings want did not happen. Lines marked "{mark}" hang on them: the word might '
        "have come sooner, or not at all.",
    ),
    "limit-unreadable": (
        "Không đọc lại được {count} cấu hình đã chạy; khi đó lấy chu kỳ đo của cấu hình đưa vào.",
        "{count} configurations that ran cannot be read; there the intervals are those of the one given.",
    ),
    "limit-unknown": (
        "Có số liệu nhưng không có trong cấu hình đưa vào, không tính: {names}.",
        "Recorded and not in the configuration given, left out: {names}.",
    ),
    "limit-silent": (
        "Có trong cấu hình đưa vào nhưng không có số liệu: {names}.",
        "In the configuration given and without a result: {names}.",
    ),
    "limit-guessed": (
        "Không còn sổ thư đã gửi; phần “đã báo” được dựng lại từ các sự cố đã ghi.",
        'The outbox is not there; "was told" is read from the incidents on record.',
    ),
    "limit-simulated": (
        "Số liệu đã ghi là số liệu MÔ PHỎNG, không phải đo thật.",
        "What was recorded had been SIMULATED, not measured.",
    ),
}


def label(key: str, lang: Language, **values: object) -> str:
    """Return a sentence in a language, its values filled in."""
    return pick(_LABELS[key], lang).format(**values)


def difference(mark: str, delta_s: float | None, lang: Language) -> str:
    """Say how a word of the replay stands to what was told. Args: delta_s: how much later it comes now."""
    return label(mark, lang, by=duration_words(abs(delta_s or 0.0), lang))
