"""The part of `thongsuot drill` that has a configuration: live through the scenario, print, and send if asked to."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from config import loader
from config.calendar import CalendarError, local_moment
from config.loader import ConfigError
from config.plan import Language, Plan
from exporters import text, text_drill
from exporters.mail_drill import send_drill, write_drill_message
from monitor.journal import JournalBusyError, JournalError
from probes.base import utc_now
from thongsuot import drill_page, scenario
from thongsuot.approve import asked as asked_and_answered
from thongsuot.drill_scenario import ScenarioOutcome, drill_scenario

WELL, NOT_WELL, WRONG_USE, OWN_FAULT, REFUSED = 0, 1, 2, 70, 78


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    config: Path
    scenario: Path
    at: str | None
    seed: int
    send: bool
    yes: bool
    as_json: bool


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run(asked: Asked, lang: Language | None) -> int:
    """Do the whole drill, and return the exit code."""
    try:
        plan = loader.load(asked.config)
    except ConfigError as exc:
        _say(str(exc))
        return REFUSED
    words = lang or plan.site.language
    try:
        begin = local_moment(asked.at, plan.site.timezone) if asked.at else None
        found = scenario.read(asked.scenario, plan)
        outcome = asyncio.run(drill_scenario(plan, found, begin, asked.seed, words))
    except (CalendarError, scenario.ScenarioError) as exc:
        _say(str(exc))
        return WRONG_USE
    except (JournalError, JournalBusyError, OSError) as exc:
        _say(str(exc))
        return OWN_FAULT
    if asked.as_json:
        figures = drill_page.findings_json(plan, outcome.findings, outcome.words)
        sys.stdout.write(json.dumps({**figures, "words": _words_json(outcome)}, ensure_ascii=False) + "\n")
    else:
        _show(outcome, words, drill_page.make_console())
    if asked.send and not _send(outcome, words, yes=asked.yes):
        return NOT_WELL
    return WELL if all(f.passed for f in outcome.findings) else NOT_WELL


def _words_json(outcome: ScenarioOutcome) -> list[dict[str, object]]:
    plan = outcome.plan
    return [
        {
            "at": w.created_at.astimezone(plan.site.timezone).isoformat(timespec="milliseconds"),
            "kind": w.notice.kind.value,
            "service": w.notice.service,
            "to": list(plan.mail.to) if plan.mail else [],
            "subject": f"{text_drill.MARK} {drill_page.subject(plan, w)}",
        }
        for w in outcome.words
    ]


def _show(outcome: ScenarioOutcome, lang: Language, console: Console) -> None:
    plan, zone = outcome.plan, outcome.plan.site.timezone
    console.print(Text(text_drill.label("own-title", lang, site=plan.site.name)))
    first, last = outcome.findings[0].fault.at, max(f.fault.ended_at for f in outcome.findings)
    period = {"start": text.local_time(first, zone), "end": text.local_time(last, zone)}
    console.print(Text(text_drill.label("own-period", lang, **period)))
    if outcome.words:
        table = Table(
            *(Column(text_drill.label(k, lang), overflow="fold") for k in ("when", "subject")),
            title=f"{text_drill.MARK} {text_drill.label('words', lang)}",
        )
        for word in outcome.words:
            table.add_row(
                Text(text.local_time(word.created_at, zone)),
                Text(f"{text_drill.MARK} {drill_page.subject(plan, word)}"),
            )
        console.print(table)
    else:
        console.print(Text(text_drill.label("no-words", lang)))
    drill_page.show(plan, outcome.findings, lang, console, dates=last.date() != first.date())
    console.print(Text(text_drill.label("unsent", lang, mark=text_drill.MARK)))


def _send(outcome: ScenarioOutcome, lang: Language, *, yes: bool) -> bool:
    plan: Plan = outcome.plan
    mail, count = plan.mail, len(outcome.words)
    if mail is None or not count:
        _say(text_drill.label("nobody-configured" if mail is None else "no-words", lang))
        return False
    if lacking := loader.missing_secrets(plan):
        _say("\n".join(lacking))
        return False
    first = text_drill.label("ask-1", lang, count=count, mark=text_drill.MARK, to=", ".join(mail.to))
    if not yes and not (asked_and_answered(first) and asked_and_answered(text_drill.label("ask-2", lang))):
        _say(text_drill.label("not-sent", lang))
        return False
    now: datetime = utc_now()
    name = uuid.uuid4().hex[:12]
    letters = [write_drill_message(w, mail, plan.site, now, name) for w in outcome.words]
    sent = asyncio.run(send_drill(letters, mail))
    for one in sent:
        if not one.ok:
            _say(text_drill.label("send-failed", lang, detail=one.detail))
    _say(text_drill.label("sent", lang, sent=sum(s.ok for s in sent), count=count))
    return all(s.ok for s in sent)
