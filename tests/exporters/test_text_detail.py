"""What probes record, in the words of the duty officer; held against what the probes really write."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporters.text_detail import FORMS, Form, detail_words

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
ROOT = Path(__file__).parents[2]

# What is recorded, and below it what is said; 20:30 UTC is the next day here.
SAID = """
Connection refused (192.0.2.7 port 25)
192.0.2.7 từ chối kết nối ở cổng 25
192.0.2.1 answered: No route to host (192.0.2.7 port 25)
192.0.2.1 báo không tới được: “No route to host (192.0.2.7 port 25)”
the network answered: No route to host
mạng báo không tới được: “No route to host”
no answer within 10 s
không trả lời trong 10 giây
no answer within 2.5 s in phase connect
không trả lời trong 2,5 giây (khi mở kết nối)
no answer to 3 questions from 192.0.2.7 port 53
192.0.2.7 không trả lời ở cổng 53
our resolver gave no answer within 5 s
máy chủ phân giải tên miền (DNS) của trạm đo không trả lời trong 5 giây
the name mail.langson.gov.vn does not exist or has no address of IPv4
tên miền mail.langson.gov.vn không tồn tại hoặc không có địa chỉ
rcode NXDOMAIN, expected NOERROR
máy chủ DNS trả mã NXDOMAIN (tên không tồn tại), mã đúng là NOERROR
2 of 3 echoes lost, at most 50% allowed
mất 2 trong 3 gói thử, cho phép nhiều nhất 50 %
no reply to 3 echoes
không gói thử nào được trả lời (đã gửi 3 gói)
nothing answers beyond 198.51.100.7 (hop 4)
sau 198.51.100.7 (trạm thứ 4) không thiết bị nào trả lời
certificate expired on 2027-02-05 20:30 UTC (mail.langson.gov.vn)
chứng thư số đã hết hạn lúc 06/02/2027 03:30:00 (cấp cho mail.langson.gov.vn)
certificate ends on 2027-02-19, in 13.5 days; at least 30 wanted
chứng thư số hết hạn ngày 19/02/2027, còn 13,5 ngày; phải còn ít nhất 30 ngày
certificate is for a.vn, b.vn, not c.vn
chứng thư số cấp cho a.vn, b.vn, không phải cho c.vn
status 503, expected 200
máy chủ web trả mã 503 (quá tải hoặc đang bảo trì), mã đúng là 200
status 418, expected one of 200, 3xx
máy chủ web trả mã 418, mã đúng là 200, 3xx
text 'Đăng nhập' not found in the body (page title 'Bảo trì')
không thấy chữ 'Đăng nhập' trong nội dung trang
text changed by 40 %; since the approval of 2027-02-01 01:00 UTC
trang đã khác so với bản được duyệt: nội dung khác 40 %; bản duyệt lúc 01/02/2027 08:00:00
the server closed the connection in place of a greeting
máy chủ thư đóng kết nối giữa chừng
no complete greeting within 10 s
máy chủ thư không chào xong trong 10 giây
RCPT: server answered 550 5.1.1 no, expected 250
máy chủ thư trả lời “550 5.1.1 no”, không phải câu trả lời đúng
no heartbeat for 2h 5m, expected within 60s
đã 2 giờ 5 phút không có tín hiệu báo về, hạn là 60 giây
it says that it failed: đĩa đầy
công việc tự báo là hỏng: “đĩa đầy”
the plugin did not end within 10 s: nothing said
chương trình kiểm tra không xong trong 10 giây
"""
LINES = SAID.strip().splitlines()


@pytest.mark.parametrize(("recorded", "said"), list(zip(LINES[::2], LINES[1::2], strict=True)))
def test_what_a_probe_records_is_said_in_vietnamese_with_local_dates(recorded: str, said: str) -> None:
    assert detail_words(recorded, HANOI) == said


def test_a_refused_login_says_that_it_may_be_our_password() -> None:
    said = detail_words("login refused: [AUTHENTICATIONFAILED] no", HANOI)
    assert said.startswith(
        "máy chủ từ chối đăng nhập “[AUTHENTICATIONFAILED] no”; có thể do mật khẩu của tài khoản giám sát"
    )


def test_what_has_no_known_form_has_no_words() -> None:
    assert detail_words("something nobody has foreseen", HANOI) == ""
    assert detail_words("", HANOI) == ""


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.pattern.pattern[:40])
def test_every_form_is_one_that_its_probe_still_writes(form: Form) -> None:
    assert form.piece in (ROOT / form.source).read_text("utf-8")


def test_what_comes_from_the_network_stays_short() -> None:
    said = detail_words("certificate is for " + "a, " * 5_000 + "b, not c.vn", HANOI)
    assert said.startswith("chứng thư số cấp cho a, a, ")
    assert said.endswith("không phải cho c.vn")
    assert len(said) < 300
