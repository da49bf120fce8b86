"""What a drill found: each fault injected, when it was seen, when people were told, and whether in time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from config.plan import Plan, Target
from monitor.duty import CAUSE_WAIT
from monitor.model import OWN_FAULT, SUSPICION, Change, EventKind, Incident, State
from monitor.words import Told

SLACK_S: Final = 5.0  # chosen: for gathering, writing, and a busy machine
QUEUE_S: Final = 1800.0  # a queue is judged by bins of minutes: told by half an hour at the latest
QUEUE_GONE_S: Final = 3600.0  # and its end is sure only when it has stayed away
OPENING: Final = frozenset({EventKind.OPENED, EventKind.WORSENED, EventKind.SPREAD})


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was injected, and what is expected of the monitor."""

    id: str
    name: str  # what was done, for people
    services: tuple[str, ...]  # that must be told of; empty: our own fault
    state: State  # that they are expected in; UNKNOWN: our own fault
    at: datetime
    ended_at: datetime
    limit_s: float  # from injecting to the word, at most
    back_limit_s: float  # from mending to the word that it is over, at most
    tolerated: bool = False  # by its rule the service goes on: nobody is to be told


@dataclass(slots=True)
class Finding:
    """One fault, and what became of it."""

    fault: Injected
    detected_at: datetime | None = None
    state: State | None = None
    word: Told | None = None
    told_at: datetime | None = None  # when a mailbox had it, where that is known; else when it was owed
    back_at: datetime | None = None
    back_word: Told | None = None
    back_told_at: datetime | None = None
    others: list[Told] = field(default_factory=list)  # words of this time about something else
    reasons: list[str] = field(default_factory=list)  # why it is not passed: keys of exporters.text_drill

    @property
    def passed(self) -> bool:
        """Whether everything came, of the right kind, in time, and nothing else."""
        return not self.reasons

    @property
    def told_s(self) -> float | None:
        """Seconds from injecting to the word."""
        return (self.told_at - self.fault.at).total_seconds() if self.told_at else None

    @property
    def back_told_s(self) -> float | None:
        """Seconds from mending to the word that it is over."""
        return (self.back_told_at - self.fault.ended_at).total_seconds() if self.back_told_at else None


def limit_s(targets: Sequence[Target], at: datetime, delivery_s: float) -> float:
    """Return how long it may take at most from a fault to the word of it.

    The next slot, every round with its time-out and the pause before it, the wait for a common cause, and the way of
    the mail.
    """

    def one(target: Target) -> float:
        rounds, policy = target.policy.bad_rounds, target.policy
        return target.interval_at(at) + rounds * target.timeout_s + (rounds - 1) * policy.recheck_s

    return max(map(one, targets)) + CAUSE_WAIT.total_seconds() + delivery_s + SLACK_S


def back_limit_s(targets: Sequence[Target], at: datetime, delivery_s: float) -> float:
    """Return how long it may take at most from mending to the word of it: good rounds at the usual interval."""

    def one(target: Target) -> float:
        return (target.policy.good_rounds + 1) * (target.interval_at(at) + target.timeout_s)

    return max(map(one, targets)) + delivery_s + 2 * SLACK_S


def judge(
    injected: Sequence[Injected],
    changes: dict[str, list[Change]],
    incidents: Sequence[Incident],
    words: Sequence[tuple[Told, datetime | None]],
) -> list[Finding]:
    """Match what was recorded to what was injected.

    Args:
        injected: in order of time, each over before the next begins.
        changes: of services, by subject, in the order in which they were recorded.
        incidents: all of the time of the drill.
        words: in order, each with when a mailbox had it; None where no mailbox got it.
    """
    by_id = {i.id: i for i in incidents}
    findings = []
    for number, fault in enumerate(injected):
        again = (f.at for f in injected[number + 1 :] if not f.services or set(f.services) & set(fault.services))
        until = next((at for at in again if at >= fault.ended_at), None)
        mine = [w for w in words if fault.at <= w[0].created_at and (until is None or w[0].created_at < until)]
        findings.append(_find(fault, changes, by_id, mine, until))
    for word, _ in words:
        _blame(word, findings, by_id)
    for finding in findings:
        finding.reasons = _reasons(finding)
    return findings


def _blame(word: Told, findings: Sequence[Finding], incidents: dict[int, Incident]) -> None:
    """Count a word that is about none of the faults of its time against the one that was injected last."""
    going_on = [f for f in findings if f.fault.at <= word.created_at]
    late = [f for f in going_on if (word.created_at - f.fault.ended_at).total_seconds() <= f.fault.back_limit_s]
    if going_on and not any(_about(f.fault, word, incidents) for f in late):
        going_on[-1].others.append(word)


def _find(
    fault: Injected,
    changes: dict[str, list[Change]],
    incidents: dict[int, Incident],
    words: Sequence[tuple[Told, datetime | None]],
    until: datetime | None,
) -> Finding:
    finding = Finding(fault)
    for told, arrived in words:
        if not _about(fault, told, incidents):
            continue
        if told.notice.kind in OPENING and finding.word is None:
            finding.word, finding.told_at = told, arrived
        elif told.notice.kind in (EventKind.RECOVERED, EventKind.PASSED) and not _is_the_end(finding):
            finding.back_word, finding.back_told_at = told, arrived
    _date(finding, changes, incidents, until)
    return finding


def _is_the_end(finding: Finding) -> bool:
    """Whether the end that was found is that of the very incident that was told."""
    word, back = finding.word, finding.back_word
    return word is not None and back is not None and word.notice.incident == back.notice.incident


def _about(fault: Injected, told: Told, incidents: dict[int, Incident]) -> bool:
    notice = told.notice
    if not fault.services:
        return not fault.tolerated and notice.service == OWN_FAULT
    if notice.service == SUSPICION:
        return fault.state is State.CONGESTED  # before it is sure, and named by path: no word too many
    incident = incidents.get(notice.incident)
    members = incident.cause.members if incident is not None and incident.cause is not None else ()
    return notice.service in fault.services or any(m in fault.services for m in members)


def _date(
    finding: Finding, changes: dict[str, list[Change]], incidents: dict[int, Incident], until: datetime | None
) -> None:
    """Say when it was seen to begin and to end."""
    fault = finding.fault
    incident = incidents.get(finding.word.notice.incident) if finding.word is not None else None
    if fault.tolerated:
        return
    if not fault.services:
        own = [
            i
            for i in incidents.values()
            if i.subject.startswith(OWN_FAULT)
            and i.confirmed_at >= fault.at
            and (until is None or i.confirmed_at < until)
        ]
        incident = incident or next(iter(own), None)
        if incident is not None:
            finding.detected_at, finding.state, finding.back_at = (
                incident.confirmed_at,
                State.UNKNOWN,
                incident.ended_at,
            )
        return
    seen = [
        c
        for service in fault.services
        for c in changes.get(service, [])
        if c.confirmed_at >= fault.at and (until is None or c.confirmed_at < until)
    ]
    seen.sort(key=lambda c: c.confirmed_at)
    bad = [c for c in seen if c.state is fault.state]
    other = [c for c in seen if c.state not in (State.UP, State.UNKNOWN)]
    if found := bad or other:
        finding.detected_at, finding.state = found[0].confirmed_at, found[0].state
        backs = [c for c in seen if c.state is State.UP and c.confirmed_at > found[0].confirmed_at]
        # What fails again with a later fault comes back once more: the end that was told is this one's.
        told = finding.back_word.created_at if finding.back_word is not None else None
        before = [c for c in backs if told is None or c.confirmed_at <= told]
        finding.back_at = (before or backs)[-1].confirmed_at if backs else None


def _reasons(finding: Finding) -> list[str]:
    fault, reasons = finding.fault, []
    if fault.tolerated:
        return ["told-though-up"] if finding.word is not None or finding.others else []
    if finding.detected_at is None:
        reasons.append("not-detected")
    elif finding.state is not fault.state:
        reasons.append("other-state")
    if finding.word is None:
        reasons.append("not-told")
    elif finding.told_s is None:
        reasons.append("not-delivered")
    elif finding.told_s > fault.limit_s:
        reasons.append("told-late")
    if finding.back_word is None:
        reasons.append("end-not-told")
    elif finding.back_told_s is None or finding.back_told_s > fault.back_limit_s:
        reasons.append("end-told-late")
    if finding.others:
        reasons.append("other-words")
    return reasons


def as_json(finding: Finding, plan: Plan, subjects: dict[str, str]) -> dict[str, Any]:
    """Return a finding for machines. Args: subjects: of letters, by Message-ID."""

    def iso(at: datetime | None) -> str | None:
        return at.astimezone(plan.site.timezone).isoformat(timespec="milliseconds") if at else None

    fault, word = finding.fault, finding.word
    return {
        "fault": fault.id,
        "services": list(fault.services),
        "injected_at": iso(fault.at),
        "mended_at": iso(fault.ended_at),
        "expected_state": fault.state.value,
        "detected_at": iso(finding.detected_at),
        "state": finding.state.value if finding.state else None,
        "told_at": iso(finding.told_at),
        "told_s": finding.told_s,
        "limit_s": fault.limit_s,
        "to": list(plan.mail.to) if plan.mail and word else [],
        "subject": subjects.get(word.message_id) if word else None,
        "recovered_at": iso(finding.back_at),
        "recovery_told_at": iso(finding.back_told_at),
        "recovery_told_s": finding.back_told_s,
        "recovery_limit_s": fault.back_limit_s,
        "other_words": [subjects.get(w.message_id, "") for w in finding.others],
        "tolerated": fault.tolerated,
        "passed": finding.passed,
        "reasons": finding.reasons,
    }
