"""The labels of the live page, in Vietnamese and English."""

from __future__ import annotations

from typing import Final

from config.plan import Language
from exporters.text import Words, pick

_LABELS: Final[dict[str, Words]] = {
    "all-up": ("Tất cả thông suốt", "All up"),
    "services": ("Dịch vụ", "Services"),
    "references": ("Mốc tham chiếu", "References"),
    "references-help": (
        "Các điểm trung lập để phân biệt lỗi của trạm đo với lỗi của dịch vụ.",
        "Neutral points that tell our own fault from the services'.",
    ),
    "open-incidents": ("Sự cố đang diễn ra", "Open incidents"),
    "no-open-incidents": ("Không có sự cố nào đang diễn ra.", "No incident is open."),
    "closed-incidents": ("Sự cố đã kết thúc gần đây", "Recent incidents"),
    "no-closed-incidents": ("Chưa ghi nhận sự cố nào.", "None recorded."),
    "since": ("từ", "since"),
    "for": ("đã", "for"),
    "checks": ("phép kiểm tra", "checks"),
    "every": ("chu kỳ", "every"),
    "by": ("qua", "by"),
    "loss": ("mất gói", "loss"),
    "untrusted": (
        "máy giám sát đang bận, thời gian đo được có thể dài hơn thực tế",
        "the monitor itself was busy: the time may be longer than it was",
    ),
    "coverage": ("độ phủ đo", "coverage"),
    "queue": (
        "hàng đợi {delay} ms, chỉ ghi nhận nghẽn từ {least} ms kéo dài 15 phút",
        "queue {delay} ms, told as congestion from {least} ms for 15 minutes on",
    ),
    "work": ("đang bảo trì đến {until}: {reason}", "under maintenance until {until}: {reason}"),
    "suspect": ("đang kiểm tra lại", "being rechecked"),
    "congestion-suspected": ("nghi nghẽn, đang xác minh", "congestion suspected"),
    "flapping": ("chập chờn", "flapping"),
    "waiting": ("đang chờ kết quả đầu tiên", "waiting for the first result"),
    "own-fault": ("TRẠM ĐO ĐANG GẶP SỰ CỐ", "THE MONITOR ITSELF IS IN TROUBLE"),
    "own-fault-note": (
        "Lỗi ở phía trạm đo. Các dịch vụ không đo được không bị coi là gián đoạn.",
        "The fault is ours. Services that cannot be observed are not called down.",
    ),
    "own-subject": ("Trạm đo", "The monitor"),
    "own-service": ("Không đo được do sự cố của trạm đo ({where}).", "Not observed: trouble of our own ({where})."),
    "not-alive": (
        "Phần mềm giám sát đang gặp trục trặc: số liệu trên trang có thể đã cũ.",
        "The monitor's own work has stopped: what is shown may be old.",
    ),
    "stale": ("TRANG KHÔNG CÒN CẬP NHẬT", "THIS PAGE IS NO LONGER UP TO DATE"),
    "stale-since": ("Số liệu dưới đây dừng ở lúc", "What is shown stopped at"),
    "made": ("Cập nhật lúc", "Updated at"),
    "alerts": ("Cảnh báo", "Alerts"),
    "alerts-to": ("Gửi thư tới", "Sent by mail to"),
    "alerts-none": ("Chưa cấu hình kênh cảnh báo nào.", "No channel for alerts is configured."),
    "alerts-sent": ("đã gửi", "sent"),
    "alerts-waiting": ("đang chờ gửi", "waiting"),
    "alerts-failed": ("không gửi được", "given up"),
    "alerts-refused": ("người nhận bị từ chối", "recipients refused"),
    "alerts-stuck": (
        "Có {n} thư cảnh báo chưa gửi được, phần mềm đang thử lại.",
        "{n} alerts are waiting to be accepted; they are tried again.",
    ),
    "journal-trouble": (
        "Không ghi được nhật ký (thường do đầy đĩa): trạng thái dưới đây đứng yên và không thư cảnh báo nào được gửi.",
        "The journal cannot be written (most often a full disk): the states below stand still and no alert is sent.",
    ),
    "unrecorded": (
        "Đĩa gần đầy: từ {since} không còn ghi kết quả đo vào bằng chứng. Việc đo, xét trạng thái và báo động vẫn tiếp "
        "tục; hãy dọn chỗ trên đĩa của thư mục dữ liệu.",
        "The disk is all but full: since {since} results are not recorded as evidence. Probing, judging and alerting "
        "go on; make room on the disk of the state directory.",
    ),
    "evidence-trouble": (
        "Việc niêm phong số liệu làm bằng chứng gặp trục trặc; việc theo dõi và báo tin vẫn bình thường.",
        "Sealing the evidence is in trouble; watching and telling go on as usual.",
    ),
    "clock-unkept": (
        "Đồng hồ của máy giám sát không được đồng bộ (NTP): giờ ghi trong số liệu và trong thư có thể sai.",
        "Nobody keeps this host's clock in step (NTP): times in figures and letters may be wrong.",
    ),
    "clock-uncertain": (
        "Đồng hồ của máy giám sát có thể sai lệch hơn một giây: hãy kiểm tra máy chủ thời gian (NTP).",
        "This host's clock may be wrong by more than a second: check its time servers (NTP).",
    ),
    "withdrawn": (
        "đã rút lại: do lỗi phía trạm đo, không phải sự cố của dịch vụ",
        "withdrawn: it was our own fault, and no trouble of the service",
    ),
    "journal-trouble-title": ("không ghi được nhật ký", "the journal cannot be written"),
    "alerts-lost": (
        "Có {n} thư cảnh báo bị mọi máy chủ thư từ chối: cần báo bằng cách khác.",
        "{n} alerts were refused by every relay: tell people another way.",
    ),
    "lasted": ("kéo dài", "lasted"),
    "group": ("Nhiều dịch vụ cùng lúc", "Several services at once"),
    "members": ("Các dịch vụ bị ảnh hưởng", "Services hit"),
    "follows": ("báo chung với sự cố số {n}", "told with incident {n}"),
    "more": ("… và {n} mục nữa", "… and {n} more"),
    "version": ("phiên bản", "version"),
    "no-script": (
        "Trình duyệt không chạy JavaScript: trang tự tải lại sau mỗi 15 giây; hãy so giờ cập nhật với đồng hồ.",
        "No JavaScript: the page reloads every 15 seconds; compare its time with a clock.",
    ),
    "started": ("giám sát từ", "watching since"),
}


def label(key: str, lang: Language = Language.VI, **values: str) -> str:
    """Return a label of the page; `{name}` in it is replaced by the value of that name.

    Raises:
        KeyError: there is no such label.
    """
    words = pick(_LABELS[key], lang)
    for name, value in values.items():
        words = words.replace("{" + name + "}", value)
    return words
