"""Why a check is not well, in the reader's language, where the recorded reason follows a known form. Pure."""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from typing import Final

from config.plan import Language
from exporters.text import Words, number_words, pick
from exporters.text_detail import detail_words

_SCATTERED: Final = re.compile(r"^scattered failures: ([\d.]+) % of (\d+) rounds failed in (\d+) h")

_LOAD: Final = re.compile(r"^interface load (\d+) % \((in|out)\)")
_SLOW: Final = re.compile(r"^slow answer: (\d+) ms of (\d+) ms(?:, most of it (\w+))?")
_SIDES: Final[dict[str, Words]] = {"in": ("chiều vào", "in"), "out": ("chiều ra", "out")}
_PHASES: Final[dict[str, Words]] = {
    "resolve": ("phân giải tên miền chậm", "slow to find the name"),
    "connect": ("kết nối mạng chậm", "slow to connect: the network"),
    "tls": ("bắt tay bảo mật (TLS) chậm", "slow TLS handshake"),
    "processing": ("máy chủ chậm", "slow server"),
    "transfer": ("truyền dữ liệu chậm", "slow transfer"),
}


def reason_words(detail: str, lang: Language = Language.VI, zone: tzinfo = UTC) -> str:
    """Return what a recorded reason says, as a short clause; empty for one of no known form.

    What probes write is English already: their words are put into Vietnamese alone.
    """
    found = _SCATTERED.match(detail)
    if found:
        share, rounds, hours = number_words(float(found[1]), 1, lang), found[2], found[3]
        return pick(
            (
                f"lỗi rải rác: {share} % của {rounds} phép đo hỏng trong {hours} giờ",
                f"scattered failures: {share} % of {rounds} rounds in {hours} h",
            ),
            lang,
        )
    found = _LOAD.match(detail)
    if found:
        side = pick(_SIDES[found[2]], lang)
        return pick((f"tải cổng {found[1]} % ({side})", f"interface load {found[1]} % ({side})"), lang)
    found = _SLOW.match(detail)
    if found:
        what = pick(_PHASES.get(found[3] or "", ("trả lời chậm", "slow answer")), lang)
        took, allowed = (number_words(int(ms) / 1000, 1, lang) for ms in (found[1], found[2]))
        return pick((f"{what}: {took} giây, cho phép {allowed} giây", f"{what}: {took} s, allowed {allowed} s"), lang)
    return detail_words(detail, zone) if lang is Language.VI else ""


def incident_words(recorded: str, lang: Language = Language.VI, zone: tzinfo = UTC) -> str:
    """Return what an incident's recorded `CHECK: REASON` says, in the reader's language; empty for no known form."""
    name, _, reason = recorded.partition(": ")
    said = reason_words(reason, lang, zone)
    return f"{name}: {said}" if said else ""
