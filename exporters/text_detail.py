"""What a probe recorded in English, as a clause for a Vietnamese reader. Pure.

Each form is that of one message of a probe and names where it is written, so that a test can hold the two against each
other. What has no form here is shown as it was recorded. Dates become local ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from exporters.text import local_date, local_time
from probes.base import one_line

_PHASES: Final = {
    "resolve": "phân giải tên miền",
    "connect": "mở kết nối",
    "tls": "bắt tay bảo mật (TLS)",
    "processing": "chờ máy chủ xử lý",
    "transfer": "truyền dữ liệu",
}
_STATUS: Final = {
    "400": "yêu cầu bị coi là sai",
    "401": "đòi đăng nhập",
    "403": "bị cấm truy cập",
    "404": "không có trang",
    "429": "bị hạn chế vì hỏi quá nhiều",
    "500": "lỗi bên trong máy chủ",
    "502": "máy chủ phía sau trả lời sai",
    "503": "quá tải hoặc đang bảo trì",
    "504": "máy chủ phía sau không trả lời",
}
_RCODES: Final = {
    "NXDOMAIN": "tên không tồn tại",
    "SERVFAIL": "máy chủ DNS gặp lỗi",
    "REFUSED": "máy chủ DNS từ chối trả lời",
}
_QUOTE_LIMIT: Final = 120  # characters of what a server said
_UNITS: Final = {"d": "ngày", "h": "giờ", "m": "phút", "s": "giây"}
_CHANGES: Final = (
    ("new links or scripts of ", "có liên kết hoặc mã mới tới "),
    ("text changed by ", "nội dung khác "),
    ("links changed by ", "liên kết khác "),
    ("less than ", "dưới "),
)

Turn = Callable[[str, tzinfo], str]


def _plain(text: str, _: tzinfo) -> str:
    return one_line(text, _QUOTE_LIMIT)


def _number(text: str, _: tzinfo) -> str:
    return text.replace(".", ",")


def _quoted(text: str, _: tzinfo) -> str:
    return f"“{one_line(text.strip(), _QUOTE_LIMIT)}”"


def _rule(text: str, _: tzinfo) -> str:
    kind, _space, wanted = one_line(text, _QUOTE_LIMIT).partition(" ")
    return f"{'chữ' if kind == 'text' else 'mẫu'} {wanted}"


def _phase(text: str, _: tzinfo) -> str:
    return f" (khi {_PHASES[text]})" if text in _PHASES else ""


def _moment(text: str, zone: tzinfo) -> str:
    return local_time(datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC), zone)


def _day(text: str, zone: tzinfo) -> str:
    return local_date(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC, hour=12), zone)


def _status(text: str, _: tzinfo) -> str:
    return f"{text} ({_STATUS[text]})" if text in _STATUS else text


def _rcode(text: str, _: tzinfo) -> str:
    return f"{text} ({_RCODES[text]})" if text in _RCODES else text


def _expected(text: str, _: tzinfo) -> str:
    return one_line(text.removeprefix("one of "), _QUOTE_LIMIT)


def _speaker(text: str, _: tzinfo) -> str:
    if text.startswith("our own host"):
        return "máy giám sát không thấy thiết bị ở chặng kế tiếp,"
    return "mạng" if text.startswith("the network") else text.removesuffix(" answered")


def _span(text: str, _: tzinfo) -> str:
    """Say a duration like `2h 5m`."""
    return re.sub(r"([\d.]+)([dhms])\b", lambda m: f"{m[1].replace('.', ',')} {_UNITS[m[2]]}", one_line(text, 40))


def _changes(text: str, _: tzinfo) -> str:
    """Say what of a page is another than when it was approved."""
    for english, vietnamese in _CHANGES:
        text = text.replace(english, vietnamese)
    return one_line(text, _QUOTE_LIMIT)


@dataclass(frozen=True, slots=True)
class Form:
    """A message as a probe writes it, and what is said instead."""

    source: str  # the file that writes it
    piece: str  # of its text, as it stands there
    pattern: re.Pattern[str]
    words: str
    turns: tuple[Turn, ...]  # of its groups, in order; the rest stand as they are

    def say(self, found: re.Match[str], zone: tzinfo) -> str:
        """Return the clause for one match."""
        turns = (*self.turns, *(_plain,) * len(found.groups()))
        return self.words.format(*(turn(text or "", zone) for turn, text in zip(turns, found.groups(), strict=False)))


def _form(source: str, piece: str, pattern: str, words: str, *turns: Turn) -> Form:
    return Form(f"probes/{source}.py", piece, re.compile(pattern), words, turns)


FORMS: Final = (
    _form(
        "net",
        "} port {",
        r"Connection refused \((\S+) port (\d+)\)",
        "{} từ chối kết nối ở cổng {}",
    ),
    _form(
        "net",
        "} port {",
        r"Connection reset by peer.*",
        "kết nối bị phía máy chủ ngắt đột ngột",
    ),
    _form(
        "net",
        ' answered"',
        r"(the network answered|\S+ answered|our own host found no way to the next hop): (.+)",
        "{} báo không tới được: {}",
        _speaker,
        _quoted,
    ),
    _form(
        "base",
        "no answer within ",
        r"no answer within ([\d.]+) s(?: in phase (\w+))?",
        "không trả lời trong {} giây{}",
        _number,
        _phase,
    ),
    _form(
        "datagram",
        "no answer",
        r"no answer.{0,40} from (\S+) port (\d+)",
        "{} không trả lời ở cổng {}",
    ),
    _form(
        "base",
        "our resolver gave no answer within ",
        r"our resolver gave no answer within ([\d.]+) s",
        "máy chủ phân giải tên miền (DNS) của trạm đo không trả lời trong {} giây",
        _number,
    ),
    _form(
        "resolver",
        " does not exist or has no address",
        r"the name (\S+) does not exist or has no address.*",
        "tên miền {} không tồn tại hoặc không có địa chỉ",
    ),
    _form(
        "resolver",
        " cannot be resolved, other names can: ",
        r"(\S+) cannot be resolved, other names can: .*",
        "không phân giải được tên miền {}, các tên khác vẫn được",
    ),
    _form(
        "dns",
        "rcode {rcode}, expected ",
        r"rcode (\w+), expected (.+)",
        "máy chủ DNS trả mã {}, mã đúng là {}",
        _rcode,
        _expected,
    ),
    _form(
        "icmp",
        " echoes lost, ",
        r"(\d+) of (\d+) echoes lost, at most ([\d.]+)% allowed",
        "mất {} trong {} gói thử, cho phép nhiều nhất {} %",
    ),
    _form(
        "icmp",
        "no reply to ",
        r"no reply to (\d+) echo(?:es)?",
        "không gói thử nào được trả lời (đã gửi {} gói)",
    ),
    _form(
        "stamp",
        " packets lost, at most ",
        r"(\d+) of (\d+) packets lost, at most ([\d.]+)% allowed",
        "mất {} trong {} gói đo, cho phép nhiều nhất {} %",
    ),
    _form(
        "stamp",
        " packets came back",
        r"none of (\d+) packets came back.*",
        "không gói nào trong {} gói đo quay về",
    ),
    _form(
        "path",
        "nothing answers beyond ",
        r"nothing answers beyond (\S+) \(hop (\d+)\)",
        "sau {} (trạm thứ {}) không thiết bị nào trả lời",
    ),
    _form(
        "certificates",
        "certificate expired on ",
        r"certificate expired on (\d{4}-\d\d-\d\d \d\d:\d\d) UTC \((.*)\)",
        "chứng thư số đã hết hạn lúc {} (cấp cho {})",
        _moment,
    ),
    _form(
        "certificates",
        "certificate is valid only from ",
        r"certificate is valid only from (\d{4}-\d\d-\d\d \d\d:\d\d) UTC \((.*)\)",
        "chứng thư số chỉ có hiệu lực từ {} (cấp cho {})",
        _moment,
    ),
    _form(
        "tls_context",
        "certificate ends on ",
        r"certificate ends on (\d{4}-\d\d-\d\d), in (-?[\d.]+) days; at least (\d+) wanted",
        "chứng thư số hết hạn ngày {}, còn {} ngày; phải còn ít nhất {} ngày",
        _day,
        _number,
    ),
    _form(
        "certificates",
        "certificate is for ",
        r"certificate is for (.+), not (\S+)",
        "chứng thư số cấp cho {}, không phải cho {}",
    ),
    _form(
        "certificates",
        "certificate is self-signed ",
        r"certificate is self-signed \((.*)\)",
        "chứng thư số tự ký, không do đơn vị tin cậy cấp (cấp cho {})",
    ),
    _form(
        "certificates",
        "issuer is not trusted: ",
        r"issuer is not trusted: (.+) \(certificate of .*\)",
        "đơn vị cấp chứng thư số không được tin cậy: {}",
    ),
    _form(
        "tls_context",
        "closed the connection during the TLS handshake",
        r"the server closed the connection during the TLS handshake",
        "máy chủ đóng kết nối giữa lúc bắt tay bảo mật (TLS)",
    ),
    _form(
        "mail_dialogue",
        "server does not offer ",
        r"server does not offer (\w+)(?:,.*)?",
        "máy chủ không cho mã hoá kết nối (thiếu {})",
    ),
    _form(
        "http_rules",
        ", expected {several}{wanted}",
        r"status (\d{3}), expected ((?:one of )?[\w, -]+)",
        "máy chủ web trả mã {}, mã đúng là {}",
        _status,
        _expected,
    ),
    _form(
        "http_rules",
        " not found in ",
        r"((?:text|pattern) .+?) not found in (?:the body|the first \d+ characters).*",
        "không thấy {} trong nội dung trang",
        _rule,
    ),
    _form(
        "http_rules",
        " stands in the body and must not",
        r"((?:text|pattern) .+?) stands in the body and must not.*",
        "trang có {}, là điều không được có",
        _rule,
    ),
    _form(
        "http_content",
        "; since the approval of ",
        r"(.+); since the approval of (\d{4}-\d\d-\d\d \d\d:\d\d) UTC",
        "trang đã khác so với bản được duyệt: {}; bản duyệt lúc {}",
        _changes,
        _moment,
    ),
    _form(
        "http_content",
        " h ago, expected at most ",
        r"last modified ([\d.]+) h ago, expected at most ([\d.]+) h",
        "trang sửa lần cuối cách đây {} giờ, cho phép nhiều nhất {} giờ",
        _number,
        _number,
    ),
    _form(
        "http",
        "redirects go in a circle at ",
        r"redirects go in a circle at (\S+)",
        "trang chuyển hướng vòng quanh tại {}",
    ),
    _form(
        "http_wire",
        " the connection without an answer",
        r"the server \w+ the connection without an answer",
        "máy chủ đóng kết nối mà không trả lời",
    ),
    _form(
        "mail_dialogue",
        " the connection {self._where()}",
        r"the server (?:closed|broke) the connection (?:after|in place of).*",
        "máy chủ thư đóng kết nối giữa chừng",
    ),
    _form(
        "mail_dialogue",
        "no complete greeting within ",
        r"no complete greeting within ([\d.]+) s",
        "máy chủ thư không chào xong trong {} giây",
        _number,
    ),
    _form(
        "mail_dialogue",
        "no complete {what} within ",
        r"no complete (?:answer|line).* within ([\d.]+) s",
        "máy chủ thư không trả lời xong trong {} giây",
        _number,
    ),
    _form(
        "mail_dialogue",
        "server answered ",
        r"(?:[^:]{1,40}: )?server answered (.+), expected (?:.+)",
        "máy chủ thư trả lời {}, không phải câu trả lời đúng",
        _quoted,
    ),
    _form(
        "pop3",
        "login refused: ",
        r"(?:[^:]{1,40}: )?login refused: (.+)",
        "máy chủ từ chối đăng nhập {}; có thể do mật khẩu của tài khoản giám sát đã đổi hoặc hết "
        "hạn, đề nghị kiểm tra trước khi kết luận dịch vụ hỏng",
        _quoted,
    ),
    _form(
        "heartbeat",
        "no heartbeat for ",
        r"no heartbeat for (.+?)(?: since we listen)?, expected within (.+)",
        "đã {} không có tín hiệu báo về, hạn là {}",
        _span,
        _span,
    ),
    _form(
        "web",
        "came to {place}, expected ",
        r"came to (\S+), expected ((?:text|pattern) .+)",
        "trang cuối là {}, địa chỉ phải có {}",
        _plain,
        _rule,
    ),
    _form(
        "http_content",
        "nobody has approved this page yet",
        r"nobody has approved this page yet: .+",
        "chưa ai duyệt nội dung trang này nên chưa so sánh được (duyệt bằng lệnh thongsuot approve)",
    ),
    _form(
        "heartbeat",
        "heartbeats are heard by the running daemon alone",
        r"heartbeats are heard by the running daemon alone",
        "chỉ chương trình giám sát đang chạy mới nhận được tín hiệu báo về",
    ),
    _form(
        "heartbeat",
        "it says that it failed: ",
        r"it says that it failed: (.+)",
        "công việc tự báo là hỏng: {}",
        _quoted,
    ),
    _form(
        "exec",
        "the plugin did not end within ",
        r"the plugin did not end within ([\d.]+) s.*",
        "chương trình kiểm tra không xong trong {} giây",
        _number,
    ),
)


_STEP: Final = re.compile(r"step (\d+) \(([^()]*)\): (.+)")  # probes/web.py: which part of a journey failed


def detail_words(detail: str, zone: tzinfo) -> str:
    """Return what a probe recorded, as a Vietnamese clause; empty for what has no known form."""
    step = _STEP.fullmatch(detail)
    if step:
        why = detail_words(step[3], zone)
        return f"bước {step[1]} ({step[2]}): {why}" if why else ""
    for form in FORMS:
        found = form.pattern.fullmatch(detail)
        if found:
            return form.say(found, zone)
    return ""
