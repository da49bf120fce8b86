"""The words of the commands about announced work and corrections, in Vietnamese and English."""

from __future__ import annotations

from typing import Final

from config.plan import Language
from exporters.text import Words, pick

_LABELS: Final[dict[str, Words]] = {
    "announced": (
        "Đã ghi bảo trì số {id}: {name}, từ {start} đến {end}.",
        "Maintenance {id} is on record: {name}, from {start} to {end}.",
    ),
    "announced-late": (
        "Việc này đã bắt đầu trước khi báo: chỉ tính bảo trì từ {at}. Phần trước đó, nếu cần, phải đề nghị điều chỉnh "
        "số liệu (thongsuot correct propose).",
        "It had begun before it was announced: it counts from {at} on. What came before can only be corrected "
        "(thongsuot correct propose).",
    ),
    "cancelled": ("Bảo trì số {id} ({name}) kết thúc từ bây giờ.", "Maintenance {id} ({name}) ends now."),
    "none-announced": ("Chưa có bảo trì nào được báo.", "No maintenance is on record."),
    "proposed": (
        "Đã ghi đề nghị điều chỉnh số {id}: {name}, từ {start} đến {end}, thành “{state}”. Chờ người khác duyệt.",
        "Correction {id} is on record: {name}, from {start} to {end}, as {state}. Somebody else has to approve it.",
    ),
    "approved": (
        "Đã duyệt điều chỉnh số {id} ({name}, do {author} đề nghị). Báo cáo ghi cả số liệu đo được và sau điều chỉnh.",
        "Correction {id} ({name}, by {author}) is approved. Reports give both the measured and the corrected figures.",
    ),
    "rejected": (
        "Điều chỉnh số {id} ({name}, do {author} đề nghị) không được duyệt; số liệu giữ nguyên.",
        "Correction {id} ({name}, by {author}) is rejected; no figure changes.",
    ),
    "none-corrected": ("Chưa có đề nghị điều chỉnh nào.", "No correction is on record."),
    "status-proposed": ("chờ duyệt", "waiting"),
    "status-approved": ("đã duyệt", "approved"),
    "status-rejected": ("không được duyệt", "rejected"),
    "planned": ("sắp tới", "to come"),
    "under-way": ("đang diễn ra", "under way"),
    "over": ("đã xong", "over"),
    "ended": ("đã huỷ", "cancelled"),
    "by-configuration": ("theo cấu hình", "by the configuration"),
}


def label(key: str, lang: Language = Language.VI, **values: object) -> str:
    """Return a text; `{name}` in it is replaced by the value of that name.

    Raises:
        KeyError: there is no such text.
    """
    words = pick(_LABELS[key], lang)
    for name, value in values.items():
        words = words.replace("{" + name + "}", str(value))
    return words
