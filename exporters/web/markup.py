"""HTML by plain functions: whatever is not marked as markup is escaped, so forgetting cannot open a hole."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"meta", "link", "br"})


class Html(str):
    """Markup that is safe to send as it is; only this module makes it."""

    __slots__ = ()


def tag(name: str, /, *inside: str, **attributes: str | bool) -> Html:
    """Return an element. Of an attribute a trailing underscore is dropped, others become hyphens; False omits it."""
    pairs = "".join(_attribute(key, value) for key, value in attributes.items() if value is not False)
    if name in _VOID:
        return Html(f"<{name}{pairs}>")
    return Html(f"<{name}{pairs}>{join(inside)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Return parts one after another, escaping those that are not markup."""
    return Html(escape(between).join(escape(part) for part in parts))


def escape(text: str) -> str:
    """Return text fit for an element or a quoted attribute."""
    return text if isinstance(text, Html) else html.escape(text, quote=True)


def document(lang: str, head: Iterable[str], body: str, **body_attributes: str) -> str:
    """Return a whole page."""
    root = tag("html", tag("head", *head), tag("body", body, **body_attributes), lang=lang)
    return f"<!DOCTYPE html>\n{root}\n"


def _attribute(key: str, value: str | bool) -> str:
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
