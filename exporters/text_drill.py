"""What `thongsuot drill` says to people, in Vietnamese and English."""

from __future__ import annotations

from typing import Final

from config.plan import Language
from exporters.text import Words, pick

MARK: Final = "[DIỄN TẬP]"  # before every subject of a drill, in any language: it can never be taken for a real one
NOTICE: Final[Words] = (
    "*** ĐÂY LÀ DIỄN TẬP, KHÔNG CÓ SỰ CỐ THẬT. Mọi số liệu trong thư đều là giả định. ***",
    "*** THIS IS A DRILL, NOTHING REAL HAS HAPPENED. All figures in this letter are made up. ***",
)

_LABELS: Final[dict[str, Words]] = {
    "demo-title": (
        "DIỄN TẬP trên tỉnh mẫu: lần lượt làm hỏng các máy chủ thử trên máy này; không chạm vào hệ thống thật.",
        "DRILL on the demo province: test servers on this machine are broken in turn; nothing real is touched.",
    ),
    "ready": (
        "Trạm đo đã thấy tất cả thông suốt sau {took}. Bắt đầu diễn tập {count} tình huống.",
        "The monitor saw everything up after {took}. {count} faults follow.",
    ),
    "not-ready": (
        "Trạm đo không thấy tất cả thông suốt trong {took}: {names}. Không diễn tập được.",
        "The monitor did not see everything up within {took}: {names}. There can be no drill.",
    ),
    "injecting": ("{at}  [{number}/{count}] {name}", "{at}  [{number}/{count}] {name}"),
    "told": ("{at}      đã báo sau {took}: {subject}", "{at}      told after {took}: {subject}"),
    "not-told-yet": ("{at}      chưa báo sau {took}", "{at}      not told after {took}"),
    "mended": ("{at}      đã khôi phục, chờ tin hết sự cố", "{at}      mended; waiting for the word of it"),
    "own-title": (
        "DIỄN TẬP theo cấu hình {site}, trong thời gian giả lập: không đo, không chạm vào hệ thống nào, "
        "không ghi vào thư mục dữ liệu.",
        "DRILL with the configuration of {site}, in simulated time: nothing is measured, touched, or written into the "
        "state directory.",
    ),
    "own-period": ("Giả định từ {start} đến {end}.", "Supposed from {start} to {end}."),
    "table": ("Kết quả diễn tập", "What the drill found"),
    "fault": ("Tình huống", "Fault"),
    "injected": ("Gây lỗi lúc", "Injected"),
    "detected": ("Phát hiện lúc", "Detected"),
    "letter": ("Thư báo", "Letter"),
    "told-at": ("Báo lúc", "Told"),
    "recovered": ("Thấy hết lúc", "Seen over"),
    "back-told": ("Báo hết lúc", "Over told"),
    "verdict": ("Kết luận", "Verdict"),
    "within": ("sau {took} (cho phép {limit})", "after {took} (limit {limit})"),
    "nobody": ("không có thư", "no letter"),
    "none": ("–", "–"),
    "passed": ("ĐẠT", "PASSED"),
    "failed": ("KHÔNG ĐẠT", "FAILED"),
    "not-detected": ("không phát hiện", "not detected"),
    "other-state": ("xác định sai trạng thái", "taken for another state"),
    "not-told": ("không báo cho ai", "nobody was told"),
    "not-delivered": ("thư không tới hộp thư", "the letter did not arrive"),
    "told-late": ("báo muộn", "told late"),
    "end-not-told": ("không báo hết sự cố", "its end was not told"),
    "end-told-late": ("báo hết sự cố muộn", "its end was told late"),
    "told-though-up": ("báo dù dịch vụ vẫn dùng được", "told though the service can be used"),
    "tolerated": ("dịch vụ vẫn dùng được, không phải báo", "the service can be used; nobody is to be told"),
    "happened": ("{what}: {names}", "{what}: {names}"),
    "is-down": ("Ngừng hoạt động", "Down"),
    "is-slow": ("Trả lời chậm", "Slow"),
    "is-queued": ("Nghẽn đường truyền", "Behind a queue"),
    "is-cut-off": ("Đứt đường truyền của trạm đo", "The monitor's own uplink is cut"),
    "other-words": ("báo thừa {count} tin", "{count} words of other things"),
    "to": ("Người nhận: {to}.", "Told: {to}."),
    "nobody-configured": (
        "Cấu hình chưa có alerts.mail: sẽ không ai được báo.",
        "The configuration has no alerts.mail: nobody would be told.",
    ),
    "all-passed": ("KẾT LUẬN: ĐẠT ({passed}/{count} tình huống).", "VERDICT: PASSED ({passed} of {count})."),
    "some-failed": (
        "KẾT LUẬN: KHÔNG ĐẠT ({passed}/{count} tình huống đạt).",
        "VERDICT: FAILED ({passed} of {count} passed).",
    ),
    "cut-short": (
        "Hết {limit} dành cho diễn tập; {count} tình huống chưa làm.",
        "The {limit} of the drill are over; {count} faults were not tried.",
    ),
    "words": ("Mọi thư sẽ gửi, theo thứ tự", "Every letter, in order"),
    "when": ("Lúc", "At"),
    "subject": ("Tiêu đề thư", "Subject"),
    "no-words": ("Không thư nào được gửi.", "No letter."),
    "ask-1": (
        "Gửi thật {count} thư, đánh dấu {mark}, tới {to}? Gõ “có” để gửi: ",
        'Really send {count} letters, marked {mark}, to {to}? Type "yes" to send: ',
    ),
    "ask-2": (
        "Những người này đã biết có diễn tập chưa? Gõ “có” để gửi ngay: ",
        'Do these people know of the drill? Type "yes" to send now: ',
    ),
    "not-sent": ("Không gửi thư nào.", "Nothing was sent."),
    "sent": ("Đã gửi {sent}/{count} thư diễn tập.", "{sent} of {count} letters of the drill were sent."),
    "send-failed": ("Không gửi được: {detail}", "Not sent: {detail}"),
    "unsent": (
        "Chưa gửi thư nào. Thêm --send để gửi thật các thư này, có đánh dấu {mark}.",
        "Nothing was sent. With --send these letters are really sent, marked {mark}.",
    ),
}

_FAULTS: Final[dict[str, Words]] = {
    "mail": ("Máy chủ thư ngừng (SMTP, IMAP, POP3)", "The mail server stops (SMTP, IMAP, POP3)"),
    "portal": ("Cổng thông tin trả lời mã lỗi 503", "The portal answers 503"),
    "names": ("Máy chủ tên miền im lặng", "The name server falls silent"),
    "slow": ("Dịch vụ công trả lời chậm", "Public services answer slowly"),
    "carrier": ("Mất đường truyền tới nhà mạng Viettel", "The carrier Viettel cannot be reached"),
    "centre": (
        "Mất trung tâm dữ liệu, kéo theo các hệ thống đặt ở đó",
        "The data centre is lost, with everything that stands in it",
    ),
    "uplink": ("Đứt đường truyền của chính trạm đo", "The monitor's own uplink is cut"),
}


def label(key: str, lang: Language, **values: object) -> str:
    """Return a sentence in a language, its values filled in."""
    return pick(_LABELS[key], lang).format(**values)


def fault_name(fault: str, lang: Language) -> str:
    """Return what is done to the demo province."""
    return pick(_FAULTS[fault], lang)
