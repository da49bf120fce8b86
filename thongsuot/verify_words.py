"""What `thongsuot verify` can find, in words: Vietnamese and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# What can be found, in words. `problems` make the evidence not whole; `notes` only say what a reader should know.
TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "no-chain": (
        "không có {file}: chuỗi bằng chứng bị mất, hoặc chưa có giờ nào được niêm phong (giờ đầu tiên được niêm phong "
        "trong vòng hai giờ từ khi bắt đầu giám sát)",
        "there is no {file}: the chain is gone, or no hour has been sealed yet (the first is within two hours of the "
        "start)",
    ),
    "no-key": ("không đọc được khoá công khai: {why}", "the public key cannot be read: {why}"),
    "other-key": (
        "{file} là khoá {found}, không phải khoá {expected} được đưa để đối chiếu",
        "{file} is the key {found}, not the key {expected} that was given",
    ),
    "key-changed": ("{file} đã bị sửa", "{file} was changed"),
    "line-broken": ("dòng {line} bị hỏng: {why}", "line {line} is broken: {why}"),
    "line-unfinished": ("dòng cuối bị cắt giữa chừng", "the last line is cut off in the middle"),
    "lines-missing": ("thiếu dòng {first} đến {last}", "lines {first} to {last} are missing"),
    "line-moved": (
        "dòng {line} mang số {number}, lẽ ra là {expected}: bị chèn, lặp hoặc đổi chỗ",
        "line {line} has the number {number} where {expected} belongs: inserted, repeated or moved",
    ),
    "link-broken": (
        "dòng {line} không nối với dòng trước: dòng trước bị sửa, xoá hoặc đổi chỗ",
        "line {line} does not follow the line before it: that one was changed, deleted or moved",
    ),
    "other-signer": ("dòng {line} được ký bằng khoá khác: {found}", "line {line} is signed with another key: {found}"),
    "signature-wrong": (
        "chữ ký của dòng {line} không khớp: dòng bị sửa",
        "line {line} was changed: its signature fails",
    ),
    "other-site": ("dòng {line} thuộc điểm khác: {found}", "line {line} belongs to another site: {found}"),
    "file-missing": ("thiếu tệp {file} (dòng {line})", "{file} is missing (line {line})"),
    "file-changed": ("tệp {file} đã bị sửa (dòng {line})", "{file} was changed (line {line})"),
    "file-name": (
        "tên tệp {file} không khớp mã băm (dòng {line})",
        "the name {file} does not fit its hash (line {line})",
    ),
    "file-unknown": ("tệp lạ, không có trong chuỗi: {file}", "{file} is not in the chain"),
    "content": (
        "nội dung {file} không đúng như dòng {line} ghi: {why}",
        "what is in {file} is not what line {line} says: {why}",
    ),
    "deletion-wrong": (
        "dòng {line} ghi xoá đoạn {number}, nhưng đoạn ấy không có hoặc khác",
        "line {line} says that segment {number} was deleted, and there is none or another one",
    ),
    "deletion-unsummed": (
        "dòng {line} ghi xoá có bản tóm tắt, nhưng bản tóm tắt của đoạn {number} không có hoặc khác",
        "line {line} deletes with a summary, and there is none of segment {number} or another one",
    ),
    "summary-wrong": (
        "bản tóm tắt ở dòng {line} nêu đoạn {number}, nhưng đoạn ấy không có hoặc khác",
        "the summary of line {line} names segment {number}, and there is none or another one",
    ),
    "no-summary": (
        "{count} đoạn đã xoá theo hạn mà không có bản tóm tắt (do phiên bản cũ xoá)",
        "{count} segments were deleted by age without a summary (by an older version)",
    ),
    "not-deleted": ("{file} được ghi là đã xoá nhưng vẫn còn", "{file} is said to be deleted and is still there"),
    "clock-back": (
        "đồng hồ bị chỉnh lùi {seconds} giây trước {at} (dòng {line})",
        "the clock was turned back by {seconds} s before {at} (line {line})",
    ),
    "record-dated-back": (
        "bản ghi {kind} số {id} (dòng {line}) ghi lập lúc {at}, nhưng khi niêm phong đoạn trước chưa có: ghi lùi ngày",
        "{kind} {id} (line {line}) says that it was made at {at}, and the segment before, sealed later, has it not",
    ),
    "time-order": (
        "giờ {at} ở dòng {line} không nằm sau giờ của đoạn trước: đồng hồ bị chỉnh lùi hoặc đoạn bị chèn",
        "the hour {at} of line {line} is not after the hour before: the clock was turned back or a segment inserted",
    ),
    "tail-cut": (
        "chuỗi bị cắt đuôi: kết thúc ở dòng {last}, nhưng {witness} biết đến dòng {number}",
        "the tail was cut off: the chain ends with line {last}, and {witness} knows line {number}",
    ),
    "witness-differs": (
        "dòng {number} không phải dòng mà {witness} biết",
        "line {number} is not the one that {witness} knows",
    ),
    "no-evidence": ("không có bằng chứng nào trong {file}", "there is no evidence in {file}"),
    "stamp-wrong": (
        "dấu thời gian {file} không chứng minh dòng {number}: {why}",
        "the time stamp {file} does not prove line {number}: {why}",
    ),
    "stamp-time": (
        "dòng {number} có dấu thời gian {at} nhưng ghi là niêm phong lúc {start}, sau dấu thời gian",
        "line {number} was stamped at {at} and says that it was sealed at {start}, after its stamp",
    ),
    "stamped": ("dòng {number} có dấu thời gian {at}", "line {number} was stamped at {at}"),
    "stamps-unproved": (
        "chưa kiểm tra ai ký {count} dấu thời gian: cần --tsa-ca",
        "who signed the {count} time stamps was not checked: give --tsa-ca",
    ),
    "simulated": ("{count} đoạn là số liệu mô phỏng", "{count} segments are simulated"),
    "late": ("{count} kết quả đến muộn, nằm ở đoạn của giờ sau", "{count} results came late and are with a later hour"),
    "not-covered": ("không có đoạn nào từ {start} đến {end}", "there is no segment from {start} to {end}"),
    "no-witness": (
        "chưa đối chiếu với đầu chuỗi trong thư (--head): nếu đuôi chuỗi bị cắt thì không thấy được",
        "not compared with the head in a mail (--head): a tail that was cut off would not be seen",
    ),
    "witness-unreadable": ("không đọc được {file}: {why}", "{file} cannot be read: {why}"),
}
