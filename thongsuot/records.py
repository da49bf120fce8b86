"""Announced work and corrections by hand: what `thongsuot maintenance` and `thongsuot correct` do, beside the daemon.

Everything goes into the journal as a record that stays; the daemon takes announcements up within seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config.plan import Language, Plan, Window
from exporters.report.records import subject_name
from exporters.text import local_time, state_word
from exporters.text_records import label
from monitor import register
from monitor.announced import CONFIGURATION, Announcement
from monitor.corrections import Attachment, Correction
from monitor.history import open_history
from monitor.maintenance import subjects
from monitor.model import State
from monitor.register import RegisterError, Signature
from probes.base import one_line
from thongsuot.approve import who
from thongsuot.reports import UsageError, choose_span

NAME_LIMIT: Final = 100
REASON_LIMIT: Final = 500
ATTACHMENT_LIMIT: Final = 200 << 20  # bytes of a file that is put beside a correction


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says about a span of time of a service or check."""

    subject: str
    start: str
    end: str
    reason: str
    by: str


def add_work(plan: Plan, asked: Asked, now: datetime) -> tuple[Announcement, str]:
    """Put announced work on record; return it, and a warning or an empty text.

    Raises:
        UsageError: the words do not fit, or the work is over.
        JournalError: there is no journal, or it cannot be written.
    """
    span = _span(plan, asked)
    if span.end <= now:
        raise UsageError("the work is over: what is entered afterwards is a correction (thongsuot correct propose)")
    site, by = plan.site.id, _signature(asked.by, now)
    with register.open_register(plan.state_dir) as db:
        number = register.announce(db, site, _subject(plan, asked.subject), span, _reason(asked.reason), by)
        made = next(a for a in register.announcements(db, site) if a.id == number)
    late = label("announced-late", plan.site.language, at=_local(plan, made.at)) if made.late else ""
    return made, late


def cancel_work(plan: Plan, number: int, reason: str, by: str, now: datetime) -> Announcement:
    """End announced work now; return it as it is then.

    Raises:
        UsageError: there is no such work, or it is over.
        JournalError: there is no journal, or it cannot be written.
    """
    site = plan.site.id
    with register.open_register(plan.state_dir) as db:
        found = next((a for a in register.announcements(db, site) if a.id == number), None)
        if found is None:
            raise UsageError(f"there is no maintenance {number}: see thongsuot maintenance list")
        if found.source == CONFIGURATION:
            raise UsageError(f"maintenance {number} is the configuration's: change it there and reload")
        try:
            register.cancel(db, site, found, _reason(reason), _signature(by, now))
        except RegisterError as exc:
            raise UsageError(str(exc)) from exc
        return next(a for a in register.announcements(db, site) if a.id == number)


def list_work(plan: Plan) -> list[Announcement]:
    """Return all announced work.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    with open_history(plan.state_dir, plan.site.id) as history:
        return list(history.announcements())


def propose(plan: Plan, asked: Asked, state: str, evidence: Path | None, now: datetime) -> Correction:
    """Put a proposed correction on record; return it.

    Raises:
        UsageError: the words do not fit, or the span is not over.
        JournalError: there is no journal, or it cannot be written.
        OSError: the file that shows it cannot be read.
    """
    if state not in {s.value for s in State}:
        raise UsageError(f"--state {state}: expected one of {', '.join(s.value for s in State)}")
    span = _span(plan, asked)
    if span.end > now:
        raise UsageError("a correction is about the past: the span has not ended (work to come: thongsuot maintenance)")
    shown, site = _attachment(evidence) if evidence else None, plan.site.id
    subject, why, by = _subject(plan, asked.subject), _reason(asked.reason), _signature(asked.by, now)
    with register.open_register(plan.state_dir) as db:
        number = register.propose(db, site, subject, span, State(state), why, by, shown)
        return _correction(register.corrections(db, site), number)


def decide(plan: Plan, number: int, reason: str, by: str, now: datetime, *, approved: bool) -> Correction:
    """Approve or reject a correction; return it as it is then.

    Raises:
        UsageError: there is none, it was decided on, or its author would approve it.
        JournalError: there is no journal, or it cannot be written.
    """
    site = plan.site.id
    act = register.approve if approved else register.reject
    words = _reason(reason) if reason.strip() or not approved else ""
    with register.open_register(plan.state_dir) as db:
        found = _correction(register.corrections(db, site), number)
        try:
            act(db, site, found, words, _signature(by, now))
        except RegisterError as exc:
            raise UsageError(str(exc)) from exc
        return _correction(register.corrections(db, site), number)


def list_corrections(plan: Plan) -> list[Correction]:
    """Return all corrections.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    with open_history(plan.state_dir, plan.site.id) as history:
        return list(history.corrections())


def _correction(found: Sequence[Correction], number: int) -> Correction:
    for one in found:
        if one.id == number:
            return one
    raise UsageError(f"there is no correction {number}: see thongsuot correct list")


def _span(plan: Plan, asked: Asked) -> Window:
    span = choose_span(plan, asked.start, asked.end)
    if span.end <= span.start:
        raise UsageError("--to must lie after --from")
    return span


def _subject(plan: Plan, name: str) -> str:
    known = subjects(plan)
    if name not in known:
        raise UsageError(f"no service or check is called {name!r}; there are: {', '.join(known)}")
    return name


def _signature(by: str, now: datetime) -> Signature:
    name = one_line(by, NAME_LIMIT).strip()
    if sum(c.isalpha() for c in name) < 2:
        raise UsageError("--by: the name of a person is needed")
    return Signature(name, who(), now)


def _reason(text: str) -> str:
    found = one_line(text, REASON_LIMIT).strip()
    if not found:
        raise UsageError("--reason: a reason is needed")
    return found


def _attachment(file: Path) -> Attachment:
    size = file.stat().st_size
    if size > ATTACHMENT_LIMIT:
        raise UsageError(f"--evidence {file}: larger than {ATTACHMENT_LIMIT >> 20} MB")
    with file.open("rb") as stream:
        return Attachment(one_line(file.name, 200), hashlib.file_digest(stream, "sha256").hexdigest(), size)


# What is shown.


def _local(plan: Plan, at: datetime) -> str:
    return local_time(at, plan.site.timezone)


def said(plan: Plan, key: str, one: Announcement | Correction, lang: Language) -> str:
    """Return the sentence that ends a command."""
    span = one.planned if isinstance(one, Announcement) else one.window
    state = state_word(one.state, lang) if isinstance(one, Correction) else ""
    values = {"start": _local(plan, span.start), "end": _local(plan, span.end), "state": state, "author": one.author}
    return label(key, lang, id=one.id, name=subject_name(plan, one.subject), **values)


def work_lines(plan: Plan, works: Sequence[Announcement], now: datetime, lang: Language) -> list[str]:
    """Return announced work as lines, what comes last first."""
    rows = []
    for a in sorted(works, key=lambda a: a.planned.start, reverse=True):
        who_said = label("by-configuration", lang) if a.source == CONFIGURATION else a.author
        span = f"{_local(plan, a.planned.start)} – {_local(plan, a.planned.end)}"
        rows.append(
            f"{a.id}. {subject_name(plan, a.subject)} [{label(standing(a, now), lang)}] {span}: {a.reason} ({who_said})"
        )
    return rows or [label("none-announced", lang)]


def standing(work: Announcement, now: datetime) -> str:
    """Return whether work is to come, under way, over or cancelled, as a key of the texts."""
    if work.cancelled_at is not None:
        return "ended"
    if now < work.planned.start:
        return "planned"
    return "under-way" if now < work.planned.end else "over"


def correction_lines(plan: Plan, found: Sequence[Correction], lang: Language) -> list[str]:
    """Return corrections as lines, the newest first."""
    rows = []
    for c in reversed(found):
        span = f"{_local(plan, c.window.start)} – {_local(plan, c.window.end)}"
        decided = f", {c.decided_by}" if c.decided_by else ""
        status = f"{label(f'status-{c.status}', lang)}{decided}"
        name, state = subject_name(plan, c.subject), state_word(c.state, lang)
        rows.append(f"{c.id}. {name} [{status}] {span} → {state}: {c.reason} ({c.author})")
    return rows or [label("none-corrected", lang)]


def work_json(work: Announcement, now: datetime) -> dict[str, Any]:
    """Return announced work for machines; `from` and `to` are the time that it takes, or null."""
    window = work.window
    return {
        "id": work.id,
        "subject": work.subject,
        "standing": standing(work, now),
        "from": window.start.isoformat() if window else None,
        "to": window.end.isoformat() if window else None,
        "planned_from": work.planned.start.isoformat(),
        "planned_to": work.planned.end.isoformat(),
        "reason": work.reason,
        "by": work.author,
        "account": work.account,
        "source": work.source,
        "at": work.at.isoformat(),
        "late": work.late,
        "cancelled_at": work.cancelled_at.isoformat() if work.cancelled_at else None,
        "cancelled_by": work.cancelled_by,
    }


def correction_json(one: Correction) -> dict[str, Any]:
    """Return a correction for machines."""
    return {
        "id": one.id,
        "subject": one.subject,
        "from": one.window.start.isoformat(),
        "to": one.window.end.isoformat(),
        "state": one.state.value,
        "reason": one.reason,
        "by": one.author,
        "account": one.account,
        "at": one.at.isoformat(),
        "evidence": asdict(one.evidence) if one.evidence else None,
        "status": one.status,
        "decided_by": one.decided_by,
        "decided_at": one.decided_at.isoformat() if one.decided_at else None,
        "decision": one.decision,
    }
