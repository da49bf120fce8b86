"""What `thongsuot replay journal` prints: tables for people, one object for machines."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from config.plan import Language
from exporters import text, text_replay
from exporters.text_mail import compose
from monitor.availability import Account, percent_digits
from monitor.model import Incident, State
from monitor.words import Told
from thongsuot import replay_differences as differences
from thongsuot.replay_differences import Mark, Pair
from thongsuot.replay_journal import Outcome, Side

_NAMES_SHOWN = 8
_WIDE = 140
_MARKS = re.compile(r"^(\[[^]]*\])+ ")  # before every subject; on this page they say nothing
_COLOURS = {Mark.NOW_ONLY: "yellow", Mark.THEN_ONLY: "magenta", Mark.LATER: "red", Mark.EARLIER: "green"}


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return everything that was found, for machines."""
    plan, window = outcome.plan, outcome.window

    def iso(at: datetime) -> str:
        return at.astimezone(plan.site.timezone).isoformat(timespec="milliseconds")

    return {
        "site": plan.site.id,
        "from": iso(window.start),
        "to": iso(window.end),
        "results": outcome.results,
        "runs": outcome.runs,
        "configuration": {"given": plan.digest, "ran": list(outcome.ran), "unreadable": list(outcome.unreadable)},
        "simulated": outcome.simulated,
        "counts": differences.counts(outcome.pairs),
        "words": [differences.as_json(p, iso, _subject(outcome, p.word)) for p in outcome.pairs],
        "incidents": {
            name: [_incident_json(i, iso) for i in side.incidents]
            for name, side in (("now", outcome.now), ("then", outcome.then))
        },
        "services": {
            s.id: {
                "name": s.name,
                "now": _account_json(outcome.now.accounts[s.id]),
                "then": _account_json(outcome.then.accounts[s.id]),
            }
            for s in plan.services
        },
        "limits": {
            "rechecks_missing": outcome.rechecks_missing,
            "checks_not_in_configuration": dict(outcome.unknown_checks),
            "checks_without_results": list(outcome.silent_checks),
            "told_from_incidents": outcome.guessed,
        },
    }


def _incident_json(incident: Incident, iso: Any) -> dict[str, Any]:
    return {
        "subject": incident.subject,
        "worst": incident.state.value,
        "begin": iso(incident.began_at),
        "confirmed": iso(incident.confirmed_at),
        "end": iso(incident.ended_at) if incident.ended_at else None,
        "told": incident.told,
        "follows": incident.parent is not None,
        "cause": incident.cause.kind.value if incident.cause else None,
    }


def _account_json(account: Account) -> dict[str, Any]:
    share = account.share
    return {
        "seconds": {state.value: round(s, 3) for state, s in account.seconds.items()},
        "availability": {"value": share.value, "min": share.least, "max": share.most},
        "coverage": share.coverage,
        "outages": account.outages,
    }


def _subject(outcome: Outcome, word: Told) -> str:
    mail = outcome.plan.mail
    assert mail is not None  # a replay has somebody to tell
    return compose(word.notice, outcome.plan.site, mail.to, None).subject


def show(outcome: Outcome, lang: Language, console: Console | None = None) -> None:
    """Print the tables for people, on standard output."""
    console = console or _console()
    zone, window = outcome.plan.site.timezone, outcome.window

    def say(key: str, **values: object) -> None:
        console.print(Text(text_replay.label(key, lang, **values)))

    say(
        "title",
        start=text.local_time(window.start, zone),
        end=text.local_time(window.end, zone),
        results=text.number_words(outcome.results, 0, lang),
        runs=outcome.runs,
    )
    say("nothing-sent")
    console.print()
    if outcome.pairs:
        console.print(_words(outcome, lang))
    else:
        say("no-words")
    counted = differences.counts(outcome.pairs)
    say(
        "sum",
        same=counted["same"],
        earlier=counted["earlier"],
        later=counted["later"],
        new=counted["now-only"],
        gone=counted["then-only"],
    )
    console.print()
    console.print(_services(outcome, lang))
    _limits(outcome, lang, console)


def _console() -> Console:
    console = Console()
    # Into a file or a pipe there is no width to keep to; tables squeezed into 80 columns are hard to read.
    return console if console.is_terminal else Console(width=_WIDE)


def _words(outcome: Outcome, lang: Language) -> Table:
    keys = ("when-now", "when-then", "difference", "letter")
    columns = (Column(text_replay.label(k, lang), overflow="fold", no_wrap=k in keys[:2]) for k in keys)
    table = Table(*columns, title=text_replay.label("words", lang))
    for pair in outcome.pairs:
        table.add_row(
            _when(outcome, pair.now),
            _when(outcome, pair.then),
            Text(_difference(pair, lang), style=_COLOURS.get(pair.mark, "")),
            Text(_MARKS.sub("", _subject(outcome, pair.word))),
        )
    return table


def _when(outcome: Outcome, word: Told | None) -> Text:
    return Text(text.local_time(word.created_at, outcome.plan.site.timezone) if word is not None else "–")


def _difference(pair: Pair, lang: Language) -> str:
    parts = [text_replay.difference(pair.mark.value, pair.delta_s, lang)]
    if pair.missing:
        parts.append(text_replay.label("perhaps", lang))
    if pair.then is not None and pair.then.withdrawn:
        parts.append(text_replay.label("withdrawn", lang))
    return "; ".join(parts)


def _services(outcome: Outcome, lang: Language) -> Table:
    keys = ("service", "availability", "down", "congested", "degraded", "unknown", "incidents")
    table = Table(
        *(Column(text_replay.label(k, lang), overflow="fold") for k in keys), title=text_replay.label("services", lang)
    )
    length_s = (outcome.window.end - outcome.window.start).total_seconds()
    for service in outcome.plan.services:
        now, then = outcome.now.accounts[service.id], outcome.then.accounts[service.id]
        digits = percent_digits(max(t.every_s for t in service.targets), length_s)
        states = (State.DOWN, State.CONGESTED, State.DEGRADED, State.UNKNOWN)
        shown = [
            (_share(now, lang, digits), _share(then, lang, digits)),
            *((_span(now.seconds[s], lang), _span(then.seconds[s], lang)) for s in states),
            (_count(outcome.now, service.id), _count(outcome.then, service.id)),
        ]
        table.add_row(Text(service.name), *(Text(_both(a, b, lang)) for a, b in shown))
    return table


def _both(now: str, then: str, lang: Language) -> str:
    return now if now == then else text_replay.label("now-then", lang, now=now, then=then)


def _share(account: Account, lang: Language, digits: int) -> str:
    value = account.share.value
    return "–" if value is None else text.percent_words(value, lang, digits)


def _span(seconds: float, lang: Language) -> str:
    return text.duration_words(seconds, lang) if seconds >= 0.5 else "–"


def _count(side: Side, service: str) -> str:
    return str(sum(i.subject == service for i in side.incidents) or "–")


def _limits(outcome: Outcome, lang: Language, console: Console) -> None:
    lines = [text_replay.label("limit-pace", lang)]
    if outcome.rechecks_missing:
        mark = text_replay.label("perhaps", lang)
        lines.append(text_replay.label("limit-rechecks", lang, count=outcome.rechecks_missing, mark=mark))
    if outcome.unreadable:
        lines.append(text_replay.label("limit-unreadable", lang, count=len(outcome.unreadable)))
    for key, names in (("limit-unknown", sorted(outcome.unknown_checks)), ("limit-silent", outcome.silent_checks)):
        if names:
            shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
            lines.append(text_replay.label(key, lang, names=shown))
    if outcome.guessed:
        lines.append(text_replay.label("limit-guessed", lang))
    if outcome.simulated:
        lines.append(text_replay.label("limit-simulated", lang))
    console.print()
    console.print(Text(text_replay.label("limits", lang)))
    for line in lines:
        console.print(Text(f"  • {line}"))
