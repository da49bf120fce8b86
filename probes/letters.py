"""Text that strangers wrote, made comparable in time that grows with its length alone. Pure.

`unicodedata.normalize` sorts the marks of one letter by insertion: a page of half a million marks on one letter would
hold the interpreter, and so the whole daemon, for half an hour. `html.unescape` raises at a number of more than 4,300
digits. No text of people has either.
Source: UAX #15 section 13 (stream-safe text: at most 30 marks on a letter), HTML Living Standard section 13.2.5.80
(numeric character references).
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final

MARKS_LIMIT: Final = 30  # UAX #15 section 13
_JOINER: Final = "\u034f"  # combining grapheme joiner: nothing is sorted or composed across it
# Three Tibetan vowel signs count as letters and fall apart into marks alone.
_MARKS: Final = "".join(c for c in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(c)) + "\u0f73\u0f75\u0f81"
_RUN: Final = re.compile(f"[{_MARKS}]{{{MARKS_LIMIT + 1},}}+")
_LONG_NUMBER: Final = re.compile(r"&#([0-9]{8,}+)")
_BEYOND: Final = "1114112"  # the first number that is no character


def overloaded(text: str) -> bool:
    """Whether a letter in it carries more marks than any writing has."""
    return not text.isascii() and _RUN.search(text) is not None


def composed(text: str) -> str:
    """Return text with composed letters (NFC); a letter with too many marks is broken into several."""
    return text if text.isascii() else unicodedata.normalize("NFC", _RUN.sub(_broken, text))


def _broken(run: re.Match[str]) -> str:
    marks = run[0]
    return "".join(marks[at : at + MARKS_LIMIT] + _JOINER for at in range(0, len(marks), MARKS_LIMIT))


def unescaped(text: str) -> str:
    """Return text with HTML's character references resolved."""
    if "&" not in text:
        return text
    return html.unescape(_LONG_NUMBER.sub(_short, text) if "&#" in text else text)


def _short(number: re.Match[str]) -> str:
    digits = number[1].lstrip("0") or "0"
    return f"&#{digits if len(digits) <= len(_BEYOND) else _BEYOND}"
