"""Vietnamese headers arrive as they were written."""

from __future__ import annotations

import email
import email.policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from exporters.mail_folding import MAIL_POLICY

SUBJECT = "[Thông Suốt][Mẫu] GIÁN ĐOẠN: Thư điện tử công vụ từ 10:15"
SENDER = "Sở Thông tin và Truyền thông tỉnh Lạng Sơn, trạm giám sát đặt tại trung tâm tích hợp dữ liệu"
LETTERS = "aăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ-:[] "


def sent(subject: str, name: str = "Thông Suốt") -> tuple[bytes, EmailMessage]:
    message = EmailMessage(policy=MAIL_POLICY)
    message["Subject"] = subject
    message["From"] = Address(name, addr_spec="giam-sat@example.vn")
    raw = message.as_bytes()
    return raw, email.message_from_bytes(raw, policy=email.policy.default)


def test_no_blank_between_words_is_lost() -> None:
    raw, read = sent(SUBJECT, SENDER)
    sender = str(make_header(decode_header(email.message_from_bytes(raw)["From"])))

    assert read["Subject"] == SUBJECT
    assert sender == f"{SENDER} <giam-sat@example.vn>"
    assert read["From"].addresses[0].addr_spec == "giam-sat@example.vn"


@given(st.lists(st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool), min_size=1, max_size=20))
def test_any_words_come_back_and_lines_stay_short(words: list[str]) -> None:
    subject = " ".join(" ".join(words).split())
    raw, read = sent(subject)

    assert read["Subject"] == subject
    assert all(len(line) <= 78 for line in raw.splitlines())
    assert raw.isascii()


def test_plain_english_stays_readable() -> None:
    raw, _ = sent("[Thong Suot] DOWN: mail since 10:15", "Monitor")

    assert b"Subject: [Thong Suot] DOWN: mail since 10:15\r\n" in raw
    assert b"From: Monitor <giam-sat@example.vn>\r\n" in raw
