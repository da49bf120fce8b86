"""What `thongsuot approve` says to the person who accepts a page, in Vietnamese and English."""

from __future__ import annotations

from typing import Final

from config.plan import Language
from exporters.text import Words, pick

_LABELS: Final[dict[str, Words]] = {
    "first": ("Trang này chưa được duyệt lần nào.", "Nobody has approved this page yet."),
    "since": ("Duyệt lần trước: {at}, người duyệt: {by}, lý do: {why}.", "Last approved {at} by {by}: {why}."),
    "unreadable": (
        "Không đọc được lần duyệt trước ({reason}); toàn bộ trang được coi là mới.",
        "The last approval cannot be read ({reason}); the whole page counts as new.",
    ),
    "page": (
        "Trang hiện nay {url}: {lines} dòng chữ, {links} liên kết, {hosts} máy chủ bên ngoài.",
        "The page now, {url}: {lines} lines of text, {links} links, {hosts} other hosts.",
    ),
    "same": (
        "Nội dung không thay đổi so với lần duyệt trước, không cần duyệt lại.",
        "Nothing has changed since the last approval; there is nothing to approve.",
    ),
    "ratio": ("Chữ thay đổi {text}, liên kết thay đổi {links}.", "Text changed by {text}, links by {links}."),
    "hosts": ("MÁY CHỦ BÊN NGOÀI MỚI XUẤT HIỆN, cần xem kỹ:", "NEW OTHER HOSTS, look at them closely:"),
    "lines-removed": ("Chữ đã mất:", "Text that is gone:"),
    "lines-added": ("Chữ mới:", "New text:"),
    "links-removed": ("Liên kết đã mất:", "Links that are gone:"),
    "links-added": ("Liên kết mới:", "New links:"),
    "more": ("… và {count} mục nữa", "… and {count} more"),
    "question": (
        "Duyệt nội dung này là đúng? Gõ “có” để duyệt: ",
        'Is this page as it should be? Type "yes" to approve it: ',
    ),
    "refused": ("Không duyệt. Không có gì được ghi lại.", "Not approved. Nothing was written."),
    "done": ("Đã duyệt lúc {at}, người duyệt: {by}. Đã ghi vào {file}", "Approved at {at} by {by}. Written to {file}"),
    "not-well": (
        "Không duyệt được: trang đang không đạt ({detail}).",
        "Cannot be approved: the page is not well ({detail}).",
    ),
    "no-reason": ("không ghi lý do", "no reason given"),
}
YES: Final = frozenset({"có", "co", "c", "yes", "y"})


def label(key: str, lang: Language, **values: object) -> str:
    """Return a sentence in a language, its values filled in."""
    return pick(_LABELS[key], lang).format(**values)
