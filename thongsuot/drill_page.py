"""What `thongsuot drill` prints: the table of what was found, and the verdict."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from config.plan import Language, Plan
from exporters import text, text_drill
from exporters.text_mail import compose
from monitor.words import Told
from thongsuot.drill_findings import Finding, as_json

WIDE = 150
_MARKS = re.compile(r"^(\[[^]]*\])+ ")  # before every subject; on this page they say nothing


def subject(plan: Plan, word: Told) -> str:
    """Return the subject that a word's letter has."""
    return compose(word.notice, plan.site, plan.mail.to if plan.mail else (), None).subject


def findings_json(plan: Plan, findings: Sequence[Finding], words: Sequence[Told]) -> dict[str, Any]:
    """Return what a drill found, for machines."""
    subjects = {w.message_id: f"{text_drill.MARK} {subject(plan, w)}" for w in words}
    return {
        "drill": True,
        "passed": bool(findings) and all(f.passed for f in findings),
        "faults": [as_json(f, plan, subjects) for f in findings],
    }


def make_console() -> Console:
    """Return the console for standard output; into a file or a pipe there is no width to keep to."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def show(plan: Plan, findings: Sequence[Finding], lang: Language, console: Console, *, dates: bool = False) -> None:
    """Print the table of what was found, who was told, and the verdict. Args: dates: beside the times of day."""
    keys = ("fault", "injected", "detected", "told-at", "letter", "recovered", "back-told", "verdict")
    table = Table(
        *(Column(text_drill.label(k, lang), overflow="fold") for k in keys),
        title=f"{text_drill.MARK} {text_drill.label('table', lang)}",
        show_lines=True,
    )
    zone = plan.site.timezone

    def clock(at: datetime | None) -> str:
        if at is None:
            return text_drill.label("none", lang)
        return text.local_time(at, zone) if dates else text.local_clock(at, zone)

    for found in findings:
        state = text.state_word(found.state, lang) if found.state else ""
        table.add_row(
            Text(found.fault.name),
            Text(clock(found.fault.at)),
            Text(f"{clock(found.detected_at)}\n{state}".strip()),
            Text(_told(clock(found.told_at), found.told_s, found.fault.limit_s, lang)),
            Text(_letter(plan, found, lang)),
            Text(clock(found.back_at)),
            Text(_told(clock(found.back_told_at), found.back_told_s, found.fault.back_limit_s, lang)),
            Text(_verdict(found, lang), style="green" if found.passed else "bold red"),
        )
    console.print(table)
    if plan.mail is None:
        console.print(Text(text_drill.label("nobody-configured", lang)))
    else:
        console.print(Text(text_drill.label("to", lang, to=", ".join(plan.mail.to))))
    passed = sum(f.passed for f in findings)
    key = "all-passed" if passed == len(findings) else "some-failed"
    console.print(Text(text_drill.label(key, lang, passed=passed, count=len(findings)), style="bold"))


def _told(clock: str, took_s: float | None, limit_s: float, lang: Language) -> str:
    if took_s is None:
        return clock
    took, limit = text.duration_words(took_s, lang), text.duration_words(limit_s, lang)
    return f"{clock}\n{text_drill.label('within', lang, took=took, limit=limit)}"


def _letter(plan: Plan, found: Finding, lang: Language) -> str:
    if found.word is None:
        return text_drill.label("tolerated" if found.fault.tolerated else "nobody", lang)
    return _MARKS.sub("", subject(plan, found.word))


def _verdict(found: Finding, lang: Language) -> str:
    if found.passed:
        return text_drill.label("passed", lang)
    why = "; ".join(text_drill.label(reason, lang, count=len(found.others)) for reason in found.reasons)
    return f"{text_drill.label('failed', lang)}: {why}"
