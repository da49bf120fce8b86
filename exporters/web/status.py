"""What the HTTP interface says for machines: the board as plain JSON data. Pure functions of the board and the time.

States, faults and causes are the closed English words of the code; texts for people carry the site's language.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from config.plan import Language
from exporters import text, text_cause, text_route
from exporters.text_page import label
from monitor.announced import Announcement
from monitor.board import Board, CheckView, ServiceView
from monitor.groups import is_group
from monitor.model import GROUP, OWN_FAULT, Cause, CauseKind, Incident, Result, State
from monitor.traced import SILENT, RouteTrace

Json = Mapping[str, object]


def _installed_version() -> str:
    try:
        return version("thongsuot")
    except PackageNotFoundError:  # run from a bare source tree
        return "0"


VERSION = _installed_version()


def status(board: Board, now: datetime) -> Json:
    """Return everything known now: site, services with their checks, references."""
    site = board.plan.site
    return {
        "site": {
            "id": site.id,
            "name": site.name,
            "timezone": str(site.timezone),
            "language": site.language.value,
        },
        "now": now,
        "version": VERSION,
        "revision": board.version,
        "started_at": board.started_at,
        "own_fault": own_fault(board),
        "clock": _clock(board),
        "journal": {
            "writable": not board.journal_trouble,
            "detail": board.journal_trouble,
            "since": board.journal_trouble_since,
        },
        "evidence": {
            "head": board.chain_head,
            "trouble": board.evidence_trouble,
            "unrecorded_since": board.unrecorded_since,
            "days_left": board.room[2] if board.room else None,
        },
        "services": [_service(board, board.services[s.id]) for s in board.plan.services],
        "references": [_check(board, board.checks[t.id]) for t in board.plan.references],
        "alerts": {
            "waiting": board.outbox_waiting,
            "outcomes": [{"channel": c, "outcome": o, "count": n} for (c, o), n in sorted(board.alerts.items())],
        },
    }


def _clock(board: Board) -> Json:
    """Return what the kernel says of our wall clock; `synchronised` is None when we may not ask."""
    kept = board.clock
    steps, _ = board.lapses.get("clock-step", (0, 0.0))
    return {
        "synchronised": kept.synchronised if kept else None,
        "error_s": kept.error_s if kept else None,
        "offset_s": kept.offset_s if kept else None,
        "trouble": board.clock_trouble,
        "steps": steps,
    }


def compact(board: Board, now: datetime) -> Json:
    """Return the little that says whether a page has to be made anew."""
    return {
        "revision": board.version,
        "now": now,
        "own_fault": board.own_fault or None,
        "services": {s.id: board.services[s.id].state for s in board.plan.services},
        "open_incidents": len(board.open_incidents),
        "alerts_waiting": board.outbox_waiting,
    }


def own_fault(board: Board) -> Json | None:
    """Return what is wrong on our own side, or None; `uplinks` has one entry for each uplink we cannot see by."""
    if not board.own_fault:
        return None
    return {
        "cause": board.own_fault,
        "since": board.own_fault_since,
        "text": text.own_fault_sentence(board.own_fault, board.plan.site.language),
        "uplinks": [
            {"path": path, "cause": it.detail, "since": it.began_at, "incident": it.id}
            for path, it in own_fault_incidents(board).items()
        ],
    }


def own_fault_incidents(board: Board) -> Mapping[str, Incident]:
    """Return the open incidents of our own side by the id of the uplink; an empty id is the system's own route."""
    own = (i for i in board.open_incidents.values() if is_own(i.subject))
    return {i.subject.partition(":")[2]: i for i in own}


def is_own(subject: str) -> bool:
    """Return whether an incident is about ourselves: the whole monitor, or one uplink of it."""
    return subject == OWN_FAULT or subject.startswith(f"{OWN_FAULT}:")


def path_name(board: Board, path_id: str) -> str:
    """Return the name of an uplink."""
    named = (c.target.path.name for c in board.checks.values() if c.target.path and c.target.path.id == path_id)
    return next(named, path_id)


def waiting_checks(board: Board) -> list[str]:
    """Return the ids of checks that have neither a verdict nor a stated reason for having none."""
    return [c for c, view in board.checks.items() if view.state is State.UNKNOWN and not view.detail]


def incident(board: Board, it: Incident, now: datetime) -> Json:
    """Return one incident."""
    return {
        "id": it.id,
        "subject": it.subject,
        "name": incident_name(board, it),
        "state": it.state,
        "began_at": it.began_at,
        "confirmed_at": it.confirmed_at,
        "ended_at": it.ended_at,
        "duration_s": ((it.ended_at or now) - it.began_at).total_seconds(),
        "parent": it.parent,
        "told": it.told,
        "detail": it.detail,
        "withdrawn": it.withdrawn,
        "cause": _incident_cause(board, it.cause) if it.cause else None,
        "traces": [_trace(board, t) for t in board.traces.get(it.id, ())],
    }


def _trace(board: Board, it: RouteTrace) -> Json:
    site = board.plan.site
    last = it.last
    return {
        "moment": it.moment,
        "at": it.at,
        "check": it.check,
        "host": it.host,
        "path": it.path,
        "reached": it.reached,
        "last_hop": {"number": last[0], "address": last[1]} if last else None,
        "hops": [
            {"address": a if a != SILENT else None, "rtt_ms": ms} for a, ms in zip(it.route, it.times_ms, strict=False)
        ],
        "before": list(it.before),
        "before_at": it.before_at,
        "text": text_route.way_sentence(it, site.timezone, site.language),
    }


def incident_name(board: Board, it: Incident) -> str:
    """Return the name of what an incident is about."""
    if is_group(it.subject) and it.cause:
        return group_name(board, it.cause, board.plan.site.language)
    return subject_name(board, it.subject)


def _incident_cause(board: Board, cause: Cause) -> Json:
    lang = board.plan.site.language
    return {
        "kind": cause.kind,
        "subject": cause.subject,
        "name": cause_name(board, cause),
        "certainty": cause.certainty,
        "text": why(board, cause, lang),
        "members": [{"service": m, "name": subject_name(board, m)} for m in cause.members],
        "evidence": {
            "of": cause.of,
            "good": cause.good,
            "elsewhere": cause.elsewhere,
            "paths": cause.paths,
            "span_s": cause.span_s,
            "chance": cause.chance,
        },
    }


def cause_name(board: Board, cause: Cause) -> str:
    """Return the name of what a cause blames."""
    if cause.kind is CauseKind.PATH:
        return path_name(board, cause.subject)
    return subject_name(board, cause.subject) if cause.kind in (CauseKind.NEEDS, CauseKind.CARRIER) else cause.subject


def why(board: Board, cause: Cause, lang: Language) -> str:
    """Return a cause, its certainty and its evidence in one sentence."""
    return text_cause.why_sentence(cause, cause_name(board, cause), lang)


def subject_name(board: Board, subject: str) -> str:
    """Return the name of what an incident is about; the bare id for a service that is no longer configured."""
    if is_own(subject):
        ours, path = label("own-subject", board.plan.site.language), subject.partition(":")[2]
        return f"{ours} ({path_name(board, path)})" if path else ours
    if is_group(subject):
        return label("group", board.plan.site.language)
    view = board.services.get(subject)
    return view.plan.name if view else subject


def group_name(board: Board, cause: Cause, lang: Language) -> str:
    """Return `3 dịch vụ (máy chủ …)`."""
    what = text_cause.subject_words(cause, cause_name(board, cause), lang)
    return f"{text_cause.count_words(len(cause.members), lang)} ({what})"


def service_cause(board: Board, view: ServiceView) -> str:
    """Return `own-fault:<near|far|local>`, `service:<id>` or nothing: what a service's trouble follows from."""
    if view.state is State.UP:
        return ""
    if view.state is State.UNKNOWN:
        causes = (check_cause(board, board.checks[t.id]) for t in view.plan.targets)
        return next((cause for cause in causes if cause.startswith(f"{OWN_FAULT}:")), "")
    parent = _parent(board, view)
    if parent is not None and is_group(parent.subject):
        return f"group:{parent.id}"
    if parent is not None and not is_own(parent.subject):
        return f"service:{parent.subject}"
    return ""


def cause_text(board: Board, cause: str, lang: Language) -> str:
    """Return a service's cause as a sentence; empty when there is none."""
    kind, _, what = cause.partition(":")
    if kind == OWN_FAULT:
        return label("own-service", lang, where=text.own_fault_word(what, lang))
    if kind == GROUP:
        found = board.open_incidents.get(int(what))
        return why(board, found.cause, lang) if found is not None and found.cause else ""
    if kind != "service":
        return ""
    return text.cause_sentence(subject_name(board, what), lang)


def check_cause(board: Board, view: CheckView) -> str:
    """Return `own-fault:…` while we cannot see, `fault:<fault>` for a check that is not well, else nothing."""
    if view.state is State.UNKNOWN and board.own_fault and view.detail == OWN_FAULT:
        mine = own_fault_incidents(board).get(view.target.path_id)
        return f"{OWN_FAULT}:{mine.detail if mine and mine.detail else board.own_fault}"
    fault = view.last.reading.fault if view.last else None
    return f"fault:{fault.value}" if fault is not None and view.state is not State.UP else ""


def _parent(board: Board, view: ServiceView) -> Incident | None:
    own = board.open_incidents.get(view.incident) if view.incident is not None else None
    return board.open_incidents.get(own.parent) if own is not None and own.parent is not None else None


def _service(board: Board, view: ServiceView) -> Json:
    plan, cause = view.plan, service_cause(board, view)
    return {
        "id": plan.id,
        "name": plan.name,
        "kind": plan.kind,
        "state": view.state,
        "since": view.since,
        "detail": view.detail,
        "cause": cause,
        "cause_text": cause_text(board, cause, board.plan.site.language),
        "incident": view.incident,
        "maintenance": work(view.work),
        "needs": plan.needs,
        "at_least": plan.at_least,
        "checks": [_check(board, board.checks[t.id]) for t in plan.targets],
    }


def work(announced: Announcement | None) -> Json | None:
    """Return the announced work that something is under; None without any."""
    if announced is None or announced.window is None:
        return None
    span = announced.window
    return {"id": announced.id, "from": span.start, "to": span.end, "reason": announced.reason, "by": announced.author}


def _check(board: Board, view: CheckView) -> Json:
    target = view.target
    return {
        "id": target.id,
        "name": target.name,
        "kind": target.probe.kind,
        "path": target.path_id,
        "every_s": target.every_s,
        "state": view.state,
        "since": view.since,
        "detail": view.detail,
        "cause": check_cause(board, view),
        "suspect": view.suspect or view.congestion_suspected,
        "congestion_suspected": view.congestion_suspected,
        "flapping": view.flapping,
        "maintenance": work(view.work),
        "coverage": board.coverage(target.id),
        "queue": {"delay_s": view.queue_delay_s, "threshold_s": view.queue_threshold_s},
        "last": _last(view.last) if view.last else None,
    }


def _last(result: Result) -> Json:
    reading = result.reading
    return {
        "at": result.started_at,
        "attempt": result.attempt,
        "fault": reading.fault,
        "detail": reading.detail,
        "duration_s": reading.duration_s,
        "phases": dict(reading.phases),
        "values": dict(reading.values),
        "facts": dict(reading.facts),
        "rtts_s": reading.rtts_s,
        "late_s": reading.late_s,
        "trusted": reading.trusted,
    }
