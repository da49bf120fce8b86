"""How a letter is laid out, as text and as HTML. Both take the same draft, so neither can say what the other does not.

Styled inline, because many mail readers drop style sheets. No background is set but behind the headline, so that it
reads in light and dark.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Final

from config.plan import Language
from exporters.text import Words, pick
from monitor.model import State

_COLOURS: Final = {  # behind the headline, white on it; contrast at least 4.5 : 1
    State.DOWN: "#b3261e",
    State.CONGESTED: "#7a3fa0",
    State.DEGRADED: "#8a5a00",
    State.UNKNOWN: "#50606e",
    State.UP: "#1b6e3c",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A titled block: label and value pairs, or plain lines; a line may have a technical note below it."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    lines: tuple[tuple[str, str], ...] = ()  # (line, technical note)


@dataclass(frozen=True, slots=True)
class Draft:
    """A letter before it is laid out as text and as HTML."""

    headline: str
    state: State
    lead: str
    parts: tuple[Part, ...]
    link: str
    foot: str


def as_text(draft: Draft, lang: Language) -> str:
    """Lay a letter out as plain text."""
    out = [draft.headline, "=" * min(len(draft.headline), 72), "", draft.lead]
    for part in draft.parts:
        out.append("")
        if part.title:
            out.append(part.title.upper())
        width = max((len(label) for label, _ in part.rows), default=0)
        out += [f"{label + ':':<{width + 1}} {value}" for label, value in part.rows]
        for line, note in part.lines:
            out.append(f"- {line}")
            if note:
                out.append(f"    {pick(_TECHNICAL, lang)}: {note}")
    if draft.link:
        out += ["", f"{pick(_PAGE, lang)}: {draft.link}"]
    out += ["", "-- ", draft.foot, ""]
    return "\n".join(out)


_TECHNICAL: Final[Words] = ("chi tiết kỹ thuật", "technical detail")
_PAGE: Final[Words] = ("Trang theo dõi trực tiếp", "Live page")

_BODY_STYLE = "margin:0;padding:12px;font-family:Arial,'Helvetica Neue',sans-serif;font-size:16px;line-height:1.5"
_BOX_STYLE = "max-width:640px;margin:0 auto"
_HEAD_STYLE = "padding:14px 16px;border-radius:6px;color:#ffffff;font-size:20px;font-weight:bold;line-height:1.3"
_TITLE_STYLE = "margin:22px 0 6px;font-size:16px;font-weight:bold"
_LABEL_STYLE = (
    "padding:3px 14px 3px 0;opacity:0.75;white-space:nowrap;vertical-align:top;text-align:left;font-weight:normal"
)
_LINE_STYLE = "margin:0;padding:6px 0;border-top:1px solid rgba(128,128,128,0.35)"
_NOTE_STYLE = "font-family:Consolas,'Courier New',monospace;font-size:13px;opacity:0.75;word-break:break-word"
_FOOT_STYLE = "margin:24px 0 0;font-size:13px;opacity:0.75;white-space:pre-line;word-break:break-word"


def as_html(draft: Draft, lang: Language) -> str:
    """Lay a letter out as HTML, styled inline."""
    esc = html.escape
    head = f"{_HEAD_STYLE};background-color:{_COLOURS[draft.state]}"
    out = [
        f'<!DOCTYPE html>\n<html lang="{lang.value}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f'<title>{esc(draft.headline)}</title></head>\n<body style="{esc(_BODY_STYLE)}"><div style="{_BOX_STYLE}">',
        f'<div style="{head}">{esc(draft.headline)}</div>',
        f'<p style="margin:16px 0 12px;font-size:17px">{esc(draft.lead)}</p>',
    ]
    for part in draft.parts:
        if part.title:
            out.append(f'<h2 style="{_TITLE_STYLE}">{esc(part.title)}</h2>')
        if part.rows:
            cells = "".join(
                f'<tr><th scope="row" style="{_LABEL_STYLE}">{esc(label)}</th>'
                f'<td style="padding:3px 0">{esc(value)}</td></tr>'
                for label, value in part.rows
            )
            out.append(f'<table style="border-collapse:collapse;font-size:16px">{cells}</table>')
        for line, note in part.lines:
            small = f'<br><span style="{esc(_NOTE_STYLE)}">{esc(note)}</span>' if note else ""
            out.append(f'<p style="{_LINE_STYLE}">{esc(line)}{small}</p>')
    if draft.link:
        url, words = esc(draft.link), esc(pick(_PAGE, lang))
        out.append(f'<p style="margin:20px 0 0">{words}: <a href="{url}" style="word-break:break-all">{url}</a></p>')
    out.append(f'<p style="{_FOOT_STYLE}">{esc(draft.foot)}</p>\n</div></body></html>\n')
    return "\n".join(out)
