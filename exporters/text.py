"""The words a duty officer reads: states, reasons, durations and local times, in Vietnamese and English.

One place, so that a mail, the page and a report never call the same thing by two names. Pure functions. Only this
module turns UTC into local time. Letters are in `text_mail`, the labels of the page in `text_page`.
"""

from __future__ import annotations

import itertools
import re
from datetime import datetime, timedelta, tzinfo
from typing import Final

from config.plan import Language, ServiceKind
from monitor.model import SUSPECT, Retracted, State
from probes.base import Fault, one_line

Words = tuple[str, str]  # Vietnamese, English


def pick(words: Words, lang: Language) -> str:
    """Return the Vietnamese or the English half."""
    return words[1] if lang is Language.EN else words[0]


_STATES: Final[dict[str, Words]] = {
    State.UP: ("thông suốt", "up"),
    State.DEGRADED: ("suy giảm", "degraded"),
    State.CONGESTED: ("nghẽn", "congested"),
    State.DOWN: ("gián đoạn", "down"),
    State.UNKNOWN: ("không có số liệu", "no data"),
    State.MAINTENANCE: ("bảo trì", "maintenance"),
    SUSPECT: ("đang xác minh", "being verified"),
}

# A second sign beside the colour, for those who cannot tell red from green; shapes differ, not only the strokes.
_SYMBOLS: Final[dict[str, str]] = {
    State.UP: "✓",
    State.DEGRADED: "▼",
    State.CONGESTED: "≈",
    State.DOWN: "✕",
    State.UNKNOWN: "?",
    State.MAINTENANCE: "⏸",
    SUSPECT: "…",
}

_FAULTS: Final[dict[str, Words]] = {
    Fault.NAME: ("không phân giải được tên miền", "the name cannot be resolved"),
    Fault.UNREACHABLE: ("không tới được máy chủ qua mạng", "the host cannot be reached"),
    Fault.REFUSED: ("từ chối kết nối", "connection refused"),
    Fault.TIMEOUT: ("không trả lời trong thời hạn", "no answer in time"),
    Fault.TLS: ("lỗi chứng thư số hoặc kết nối bảo mật (TLS)", "TLS handshake or certificate failed"),
    Fault.PROTOCOL: ("trả lời sai giao thức", "the answer broke the protocol"),
    Fault.CONTENT: ("có trả lời nhưng nội dung không đúng", "answered, but not what was expected"),
    Fault.LOCAL: ("trạm đo không thực hiện được phép đo", "we could not measure"),
    Fault.INTERNAL: ("lỗi của phần mềm giám sát", "a fault of the monitor's own software"),
}

_WITHOUT_FAULT: Final[dict[str, Words]] = {
    State.UP: ("trả lời bình thường", "answered as expected"),
    State.DEGRADED: ("có trả lời nhưng chậm hoặc có cảnh báo", "answered, but slowly or with a warning"),
    State.CONGESTED: ("có trả lời nhưng đường truyền bị nghẽn", "answered, but the path is congested"),
    State.DOWN: ("không sử dụng được", "not usable"),
    State.UNKNOWN: ("chưa có kết quả đo", "no result yet"),
    State.MAINTENANCE: ("đang bảo trì theo kế hoạch", "announced work"),
}

_KINDS: Final[dict[ServiceKind, Words]] = {
    ServiceKind.MAIL: ("thư điện tử", "e-mail"),
    ServiceKind.PORTAL: ("cổng thông tin", "web portal"),
    ServiceKind.OFFICE: ("văn phòng điện tử", "e-office"),
    ServiceKind.DATA_CENTRE: ("trung tâm dữ liệu", "data centre"),
    ServiceKind.CONFERENCE: ("truyền hình trực tuyến", "video conference"),
    ServiceKind.CARRIER: ("nhà mạng", "carrier"),
    ServiceKind.NETWORK: ("mạng truyền số liệu", "data network"),
    ServiceKind.SERVICE: ("dịch vụ", "service"),
}

_OWN_FAULTS: Final[dict[str, Words]] = {
    "near": ("cổng mạng nội bộ", "local gateway"),
    "far": ("đường truyền Internet", "Internet uplink"),
    "local": ("máy giám sát", "monitoring host"),
    "resolver": ("phân giải tên miền (DNS) của trạm đo", "the monitor's resolver"),
    "descriptors": ("máy giám sát hết mô tả tệp", "file descriptors used up"),
    "sockets": ("máy giám sát hết socket hoặc cổng", "sockets used up"),
    "stall": ("phần mềm đo bị đứng", "the monitor stood still"),
    "suspend": ("máy giám sát bị tạm ngủ", "the host was suspended"),
    "clock-step": ("đồng hồ máy giám sát bị chỉnh", "the host's clock was set"),
}

_OWN_SENTENCES: Final[dict[str, Words]] = {
    "near": (
        "Cổng mạng nội bộ (gateway) không trả lời: trạm đo đang bị tách khỏi mạng của chính đơn vị.",
        "The local gateway does not answer: the monitor is cut off from its own network.",
    ),
    "far": (
        "Các mốc tham chiếu bên ngoài đều không trả lời: đường truyền Internet của trạm đo bị gián đoạn.",
        "No outside reference answers: the monitor's own Internet uplink is down.",
    ),
    "local": (
        "Chính máy giám sát gặp trục trặc (card mạng, phân giải tên miền, đồng hồ hoặc quá tải).",
        "The monitoring host itself is in trouble (network card, resolver, clock or overload).",
    ),
    "resolver": (
        "Máy chủ phân giải tên miền (DNS) mà trạm đo dùng không trả lời: những gì đo theo tên đều không đo được.",
        "The resolver that the monitor uses gives no answer: nothing that goes by a name can be measured.",
    ),
    "descriptors": (
        "Phần mềm giám sát đã dùng hết số tệp và kết nối được phép mở (file descriptor).",
        "The monitor has used up the files and connections it may have open (file descriptors).",
    ),
    "sockets": (
        "Nhân hệ điều hành của máy giám sát không còn socket, cổng hoặc bộ đệm mạng để cấp.",
        "The kernel of the monitoring host has no socket, port or network buffer left.",
    ),
    "stall": (
        "Phần mềm giám sát bị đứng: bị dừng, máy quá tải hoặc đĩa không đáp ứng.",
        "The monitor stood still: it was stopped, the host was overloaded, or a disk did not answer.",
    ),
    "suspend": (
        "Máy giám sát bị tạm ngủ hoặc bị tạm dừng trên nền ảo hóa.",
        "The monitoring host was suspended.",
    ),
    "clock-step": (
        "Đồng hồ của máy giám sát bị chỉnh. Phần giờ bị nhảy qua, hoặc bị lặp lại, không được tính cho dịch vụ nào.",
        "The clock of the monitoring host was set. The time jumped over, or gone through twice, is counted for nobody.",
    ),
}
_GAPS: Final[dict[str, Words]] = {  # why a check was not observed: the causes of monitor.model.Gap
    "off": ("phần mềm giám sát không chạy", "the monitor was not running"),
    "own-fault": ("trạm đo mất kết nối", "the monitor was cut off"),
    "local": ("trạm đo không thực hiện được phép đo", "we could not measure"),
    "missed": ("bỏ lỡ lượt đo", "measurements were missed"),
    "stall": ("phần mềm giám sát bị đứng", "the monitor stood still"),
    "suspend": ("máy giám sát bị tạm ngủ", "the host was suspended"),
    "clock-step": ("đồng hồ máy giám sát bị chỉnh", "the host's clock was set"),
    "removed": ("không còn trong cấu hình", "no longer in the configuration"),
}

_OWN_UNNAMED: Final[Words] = ("kết nối của trạm đo", "the monitor's own connection")
_OWN_UNNAMED_SENTENCE: Final[Words] = (
    "Trạm đo bị mất kết nối; chưa xác định được vị trí lỗi.",
    "The monitor lost its own connection; where is not yet known.",
)


def state_word(state: str, lang: Language = Language.VI) -> str:
    """Return the word for a State or its value; an unknown word is returned as it came."""
    words = _STATES.get(state)
    return pick(words, lang) if words else one_line(state)


def state_symbol(state: str) -> str:
    """Return a sign that tells the state without colour."""
    return _SYMBOLS.get(state, _SYMBOLS[State.UNKNOWN])


def state_clause(state: str, lang: Language = Language.VI) -> str:
    """Return what a service is doing, to stand behind its name: `đang bị gián đoạn`."""
    word = state_word(state, lang)
    if state == State.UNKNOWN:
        return pick((f"hiện {word}", "is not observed"), lang)
    if state in (State.DOWN, State.CONGESTED, State.DEGRADED):
        return pick((f"đang bị {word}", f"is {word}"), lang)
    return pick((f"đang {word}", f"is {word}"), lang)


def fault_phrase(fault: str, lang: Language = Language.VI, state: str = State.UP) -> str:
    """Return why a check failed, as a short clause; without a fault, what the state means."""
    words = _FAULTS.get(fault) or (None if fault else _WITHOUT_FAULT.get(state))
    return pick(words, lang) if words else one_line(fault or state)


def kind_word(kind: ServiceKind, lang: Language = Language.VI) -> str:
    """Return what a service is."""
    return pick(_KINDS[kind], lang)


def gap_phrase(cause: str, lang: Language = Language.VI) -> str:
    """Return why a check was not observed, by the cause of its gap; an empty text for anything else."""
    words = _GAPS.get(cause)
    return pick(words, lang) if words else ""


def own_fault_word(cause: str, lang: Language = Language.VI) -> str:
    """Return which part of our own side is at fault, in a few words, for a subject line."""
    kind, _, figure = cause.partition(" ")
    moved = f" {_moved(figure, lang)}" if figure else ""
    return pick(_OWN_FAULTS.get(kind, _OWN_UNNAMED), lang) + moved


def own_fault_sentence(cause: str, lang: Language = Language.VI) -> str:
    """Return what is wrong on our own side.

    Args:
        cause: near, far, a part of our host or a kind of lapse; a clock's step with how far it went, in seconds.
        lang: the language.
    """
    kind, _, figure = cause.partition(" ")
    sentence = pick(_OWN_SENTENCES.get(kind, _OWN_UNNAMED_SENTENCE), lang)
    if not figure:
        return sentence
    first, dot, rest = sentence.partition(". ")
    return f"{first} {_moved(figure, lang)}{dot}{rest}"


def _moved(figure: str, lang: Language) -> str:
    """Return how far and which way a clock was moved: `tới 1 giờ`, `lùi 1 giờ`."""
    try:
        seconds = float(figure)
    except ValueError:
        return one_line(figure)
    lasted = duration_words(abs(seconds), lang)
    return pick((f"lùi {lasted}", f"back by {lasted}") if seconds < 0 else (f"tới {lasted}", f"on by {lasted}"), lang)


def cause_sentence(cause: str, lang: Language = Language.VI) -> str:
    """Return that trouble follows from another service. Args: cause: that service's name."""
    template = pick(
        ("Kéo theo từ sự cố của “{name}” (dịch vụ này phụ thuộc vào đó).", "Follows from the trouble of “{name}”."),
        lang,
    )
    return template.replace("{name}", one_line(cause))


def blame_sentence(good: int, bad: int, lang: Language = Language.VI, *, between: bool = False) -> str:
    """Return whether it is us or them, by how many references answered and how many did not.

    Args:
        good: references that answered.
        bad: references that did not.
        lang: of the words.
        between: a path or a carrier is blamed: then it is neither of the two.
    """
    if good and not bad and between:
        words = (
            f"Các mốc tham chiếu vẫn thông ({good}/{good}) → không phải do trạm đo.",
            f"All references answer ({good}/{good}) → the trouble is not ours.",
        )
    elif good and not bad:
        words = (
            f"Các mốc tham chiếu vẫn thông ({good}/{good}) → sự cố ở phía dịch vụ, không phải do trạm đo.",
            f"All references answer ({good}/{good}) → the trouble is on the service's side, not ours.",
        )
    elif good:
        words = (
            f"Chỉ {good}/{good + bad} mốc tham chiếu còn thông → đường truyền của trạm đo có thể cũng bị ảnh hưởng; "
            "chưa khẳng định được sự cố chỉ ở phía dịch vụ.",
            f"Only {good} of {good + bad} references answer → our own links may be affected too; "
            "not certain that only the service is at fault.",
        )
    elif bad:
        words = (
            f"Không mốc tham chiếu nào trả lời (0/{bad}) → nhiều khả năng lỗi ở phía trạm đo.",
            f"No reference answers (0/{bad}) → the trouble is probably on our side.",
        )
    else:
        words = (
            "Chưa có mốc tham chiếu nào được đo → chưa phân biệt được sự cố ở phía dịch vụ hay phía trạm đo.",
            "No reference is measured → it cannot be told whether it is us or them.",
        )
    return pick(words, lang)


def local_time(at: datetime, tz: tzinfo) -> str:
    """Return dd/mm/yyyy HH:MM:SS on the clock of the site."""
    return at.astimezone(tz).strftime("%d/%m/%Y %H:%M:%S")


def local_clock(at: datetime, tz: tzinfo) -> str:
    """Return HH:MM:SS on the clock of the site."""
    return at.astimezone(tz).strftime("%H:%M:%S")


def local_date(at: datetime, tz: tzinfo) -> str:
    """Return dd/mm/yyyy by the calendar of the site."""
    return at.astimezone(tz).strftime("%d/%m/%Y")


def brief_time(at: datetime, seen: datetime, tz: tzinfo) -> str:
    """Return HH:MM, with dd/mm behind it when `seen` lies on another local day."""
    there, here = at.astimezone(tz), seen.astimezone(tz)
    return there.strftime("%H:%M") if there.date() == here.date() else there.strftime("%H:%M %d/%m")


def zone_word(at: datetime, tz: tzinfo) -> str:
    """Return the clock's distance from UTC as people write it: GMT+7."""
    minutes = int((at.astimezone(tz).utcoffset() or timedelta()).total_seconds()) // 60
    hours, rest = divmod(abs(minutes), 60)
    return f"GMT{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02d}" if rest else "")


def retracted_sentence(word: Retracted, at: datetime, tz: tzinfo, lang: Language = Language.VI) -> str:
    """Say what was told wrongly, and when. Args: at: stands in where nobody knows when it left."""
    name, state = one_line(word.service_name), state_word(word.state, lang)
    told, since = local_time(word.told_at or at, tz), local_time(word.since, tz)
    words = (
        f"Tin lúc {told} về {name} ({state} từ {since}): do lỗi phía trạm đo.",
        f"What was told at {told} of {name} ({state} since {since}): our own fault.",
    )
    return pick(words, lang)


_UNITS: Final[tuple[tuple[int, Words, Words], ...]] = (  # seconds, singular, plural
    (86_400, ("ngày", "day"), ("ngày", "days")),
    (3_600, ("giờ", "hour"), ("giờ", "hours")),
    (60, ("phút", "minute"), ("phút", "minutes")),
    (1, ("giây", "second"), ("giây", "seconds")),
)


def duration_words(seconds: float, lang: Language = Language.VI) -> str:
    """Return a duration by its two largest units: `1 giờ 05 phút`; less than half a second is `dưới 1 giây`.

    What is smaller than the second unit is cut off, never rounded up: nobody is told of more trouble than there was.
    """
    whole = int(max(seconds, 0.0) + 0.5) if seconds < 60 else int(seconds)
    if whole == 0:
        return pick(("dưới 1 giây", "less than 1 second"), lang)
    for (size, one, many), (small, one_small, many_small) in itertools.pairwise(_UNITS):
        if whole >= size:
            count, rest = whole // size, whole % size // small
            head = f"{count} {pick(one if count == 1 else many, lang)}"
            return f"{head} {rest:02d} {pick(one_small if rest == 1 else many_small, lang)}" if rest else head
    _, second, seconds_word = _UNITS[-1]
    return f"{whole} {pick(second if whole == 1 else seconds_word, lang)}"


def number_words(value: float, digits: int, lang: Language = Language.VI) -> str:
    """Return a number with the decimal sign of the language: a comma in Vietnamese."""
    text = f"{value:.{digits}f}"
    return text.replace(".", ",") if lang is Language.VI else text


def percent_words(ratio: float, lang: Language = Language.VI, digits: int = 0) -> str:
    """Return a share (0…1) as a percentage, rounded down so that 100 % means all of it."""
    scale = 10**digits
    return number_words(int(ratio * 100 * scale + 1e-9) / scale, digits, lang) + "%"


def short_duration(seconds: float, lang: Language = Language.VI) -> str:
    """Return a measured time for a table cell: `0,4 ms`, `35 ms`, `1,2 s`."""
    if seconds >= 1:
        return f"{number_words(seconds, 1, lang)} s"
    ms = seconds * 1000
    return f"{number_words(ms, 0 if ms >= 10 else 1, lang)} ms"


_PROVINCE = re.compile(r"(?:\btỉnh|\bthành phố|\bTP\.?)\s+([^,;()–—-]{2,30}(?:\([^()]{1,12}\))?)$", re.IGNORECASE)
_SHORT_NAME_LIMIT = 40  # characters; chosen: leaves a phone's subject line room for what happened


def short_site(name: str) -> str:
    """Return a site's name short enough for a subject line: `Sở … tỉnh Lạng Sơn` becomes `Lạng Sơn`."""
    flat = one_line(name)
    match = _PROVINCE.search(flat)
    return match[1].strip() if match else one_line(flat, _SHORT_NAME_LIMIT)
