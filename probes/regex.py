"""Regular expressions of the user, by RE2: no pattern takes longer than the text is long, whoever wrote either. Pure.

Source: the syntax page of RE2; look-ahead and back-references do not exist there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import re2
from pydantic import AfterValidator, Field


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # it would write to standard error by itself
    try:
        return re2.compile(pattern, options=options)
    except (re2.error, UnicodeError) as exc:
        reason = exc.args[0] if exc.args else exc  # the library keeps its message as bytes
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"not a regular expression (RE2 syntax): {words}") from exc


def _checked(pattern: str) -> str:
    _compiled(pattern)
    return pattern


Regex = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_checked)]


def search(pattern: str, text: str) -> tuple[int, int] | None:
    """Return where a pattern is first found in a text, as begin and end, or None."""
    # RE2 reads UTF-8, which half of a surrogate pair has no form in.
    found = _compiled(pattern).search(text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))
    return (found.start(), found.end()) if found else None


def replaced(pattern: str, text: str, by: str = "") -> str:
    """Return a text with everything that a pattern finds replaced."""
    encodable = text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
    found: str = _compiled(pattern).sub(lambda _: by, encodable)
    return found


def captured(pattern: str, text: str) -> str | None:
    """Return what the first group of a pattern holds where it is first found, or the whole without a group, or None."""
    compiled = _compiled(pattern)
    found = compiled.search(text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))
    if found is None:
        return None
    held: str | None = found.group(1 if compiled.groups else 0)
    return held
