"""Why a check is not well, in the reader's language, where the recorded reason follows a known form. Pure."""

from __future__ import annotations

import re
from typing import Final

from config.plan import Language
from exporters.text import number_words, pick

_SCATTERED: Final = re.compile(r"^scattered failures: ([\d.]+) % of (\d+) rounds failed in (\d+) h")


def reason_words(detail: str, lang: Language = Language.VI) -> str:
    """Return what a recorded reason says, as a short clause; empty for one of no known form."""
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
    return ""
