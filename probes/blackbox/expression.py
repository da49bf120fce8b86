"""Patterns as Go reads them: RE2 on bytes, with groups that fill in templates. Pure.

Source: the packages regexp and regexp/syntax of Go (Expand, and what an invalid byte is).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import re2

_PLACE: Final = re.compile(rb"\$(?:(\$)|(\w+)|\{(\w+)\})")


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """Return a compiled pattern for bytes.

    Raises:
        ValueError: it is none.
    """
    options = re2.Options()
    options.log_errors = False  # it would write to standard error by itself
    try:
        return re2.compile(pattern.encode("utf-8"), options=options)
    except (re2.error, UnicodeError) as exc:
        reason = exc.args[0] if exc.args else exc
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"not a regular expression (RE2 syntax): {words}") from exc


def search(pattern: str, data: bytes) -> Any:
    """Return the first match in bytes, or None. Bytes that are no UTF-8 are each taken as U+FFFD, as Go does."""
    return compiled(pattern).search(_readable(data))


def _readable(data: bytes) -> bytes:
    if data.isascii():
        return data
    return data.decode("utf-8", "replace").encode("utf-8")


def expand(template: str, match: Any) -> str:
    """Fill `$1`, `${1}` and `${name}` in a template with groups of a match; `$$` is a dollar, no group is nothing."""

    def group(place: re.Match[bytes]) -> bytes:
        if place[1]:
            return b"$"
        name = place[2] or place[3]
        number = int(name) if name.isdigit() else match.re.groupindex.get(name)
        return match.group(number) or b"" if number is not None and number <= match.re.groups else b""

    return _PLACE.sub(group, template.encode("utf-8")).decode("utf-8", "replace")
