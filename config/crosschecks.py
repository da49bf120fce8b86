"""What only the whole can show: names that refer to nothing, circles, intervals and time-outs that contradict.

Pure. Reports everything it finds; changes nothing.
"""

from __future__ import annotations

import graphlib
import ipaddress
from collections.abc import Iterator

from config.credentials import unreadable
from config.draft import CheckDraft, Draft, PeakDraft, show_local
from config.plan import REFERENCES, ServiceKind
from config.problems import Findings, Loc, show_seconds
from config.settings import AtLeast, RelaySettings
from config.wording import unknown_word

CIRCLES_LIMIT = 50  # chosen: each needs a walk over all services
_MAIL_KINDS = frozenset({"smtp", "mailflow"})


def cross_check(draft: Draft, findings: Findings) -> None:
    """Report every contradiction between parts of a draft."""
    if not findings.incomplete:  # what is unknown may stand in the file that could not be read
        _names(draft, findings)
    _circles(draft, findings)
    _quorums(draft, findings)
    _defaults(draft, findings)
    for check in draft.checks():
        _times(draft, check, findings)
    _peaks_apart(draft, findings)
    _relays(draft, findings)


def _names(draft: Draft, findings: Findings) -> None:
    for service in draft.services:
        for index, need in service.needs:
            if need not in draft.service_ids:
                findings.mistake((*service.loc, "needs", index), unknown_word("service", need, draft.service_ids))
    for check in draft.checks():
        path = check.keys.path if check.keys else None
        if path is not None and path not in draft.path_ids:
            findings.mistake((*check.loc, "path"), unknown_word("path", path, draft.path_ids))
        _several_paths(draft, check, findings)
    _carriers(draft, findings)
    for peak in draft.peaks():
        for index, name in enumerate(peak.settings.services):
            if name not in draft.service_ids:
                findings.mistake((*peak.loc, "services", index), unknown_word("service", name, draft.service_ids))
    _maintenance(draft, findings)
    _reports_have_a_way(draft, findings)


def _reports_have_a_way(draft: Draft, findings: Findings) -> None:
    """Look whether there are relays for the reports that are to be sent."""
    if draft.alerts.mail is not None:
        return
    asked: list[Loc] = [
        ("reports", name) for name in ("daily", "weekly", "event") if getattr(draft.reports, name) is not None
    ]
    asked += [(*event.loc, "daily") for event in draft.events if event.daily is not None]
    for loc in asked:
        findings.mistake(loc, "a report is sent by the relays of alerts.mail, and there is no alerts.mail", at_key=True)


def _maintenance(draft: Draft, findings: Findings) -> None:
    """Look whether what is worked on is there."""
    checks = [f"{check.service}.{check.id}" for service in draft.services for check in service.checks]
    for work in draft.maintenance:
        for key, names, known in (
            ("services", work.settings.services, draft.service_ids),
            ("checks", work.settings.checks, checks),
        ):
            for index, name in enumerate(names):
                if name not in known:
                    findings.mistake((*work.loc, key, index), unknown_word(key[:-1], name, known))


def _several_paths(draft: Draft, check: CheckDraft, findings: Findings) -> None:
    """Look at a check that is asked by several paths."""
    keys = check.keys
    if keys is None:
        return
    for index, path in enumerate(keys.paths):
        if path not in draft.path_ids:
            findings.mistake((*check.loc, "paths", index), unknown_word("path", path, draft.path_ids))
        elif path in keys.paths[:index]:
            findings.mistake((*check.loc, "paths", index), f"the path {path} stands here twice")
    if keys.path is not None and keys.paths:
        findings.mistake((*check.loc, "paths"), "give path or paths, not both", at_key=True)
    if "up_by" in keys.model_fields_set and not keys.paths:
        findings.mistake((*check.loc, "up_by"), "up_by compares paths, and the check has no paths", at_key=True)
    elif isinstance(keys.up_by, AtLeast) and keys.up_by.at_least > len(keys.paths):
        message = f"at_least is {keys.up_by.at_least}, and the check has {len(keys.paths)} paths"
        findings.mistake((*check.loc, "up_by", "at_least"), message)


def _carriers(draft: Draft, findings: Findings) -> None:
    """Look whether what is said to be a carrier is one."""
    named: list[tuple[Loc, str | None]] = [(("paths", id_, "carrier"), p.carrier) for id_, p in draft.paths.items()]
    named += [((*s.loc, "carrier"), s.settings.carrier) for s in draft.services if s.settings]
    kinds = {s.id: s.settings.kind for s in draft.services if s.settings}
    for loc, name in named:
        if name is None:
            continue
        if name not in draft.service_ids:
            findings.mistake(loc, unknown_word("service", name, draft.service_ids))
        elif kinds.get(name, ServiceKind.CARRIER) is not ServiceKind.CARRIER:
            findings.mistake(loc, f"expected a service of kind carrier; {name} is of kind {kinds[name]}")


def _circles(draft: Draft, findings: Findings) -> None:
    """Name every circle of needs once; after each, one link is cut and the rest looked at again."""
    order = {service.id: number for number, service in enumerate(draft.services)}
    needs = {s.id: [n for n in dict.fromkeys(n for _, n in s.needs) if n in order] for s in draft.services}
    for _ in range(CIRCLES_LIMIT):
        try:
            graphlib.TopologicalSorter(needs).prepare()
        except graphlib.CycleError as exc:
            circle = list(reversed(exc.args[1]))[:-1]  # the sorter names each before those that need it
            start = circle.index(min(circle, key=order.__getitem__))
            circle = circle[start:] + circle[:start]
            first, second = circle[0], (circle + circle[:1])[1]
            needs[first].remove(second)
            service = draft.services[order[first]]
            index = next(i for i, need in service.needs if need == second)
            words = " -> ".join([*circle, first])
            findings.mistake((*service.loc, "needs", index), f"services need each other in a circle: {words}")
        else:
            return


def _quorums(draft: Draft, findings: Findings) -> None:
    for service in draft.services:
        rule, count = service.settings.up_when if service.settings else None, len(service.checks)
        if isinstance(rule, AtLeast) and rule.at_least > count > 0:
            message = f"at_least is {rule.at_least}, and the service has {count} check{'' if count == 1 else 's'}"
            findings.mistake((*service.loc, "up_when", "at_least"), message)


def _defaults(draft: Draft, findings: Findings) -> None:
    every, timeout = draft.defaults.every, draft.defaults.timeout
    if every is not None and timeout is not None and timeout > every:
        findings.mistake(
            ("defaults", "timeout"),
            f"the time-out {show_seconds(timeout)} is longer than the interval {show_seconds(every)}",
        )
    _slow(("defaults", "slow_over"), draft.defaults.slow_over, timeout, findings)


def _slow(loc: Loc, slow_over: float | None, timeout: float | None, findings: Findings) -> None:
    if slow_over is not None and timeout is not None and slow_over >= timeout:
        words = f"slow_over {show_seconds(slow_over)} can never happen: the time-out is {show_seconds(timeout)}"
        findings.mistake(loc, words)


def _times(draft: Draft, check: CheckDraft, findings: Findings) -> None:
    if check.keys is None:
        return
    every, faster = draft.every_s(check), draft.faster(check)
    timeout = check.keys.timeout
    if timeout is not None and timeout > every:
        words = f"the time-out {show_seconds(timeout)} is longer than the interval {show_seconds(every)}"
        findings.mistake((*check.loc, "timeout"), words)
    elif timeout is not None:
        for peak, peak_every in faster:
            if timeout > peak_every:
                words = f"the time-out {show_seconds(timeout)} is longer than the interval {show_seconds(peak_every)}"
                findings.mistake((*check.loc, "timeout"), f"{words} of peak {peak.event}.{peak.id}")
    _slow((*check.loc, "slow_over"), check.keys.slow_over, _longest_wait(draft, check), findings)
    _rate(check, every, faster, draft.defaults.timeout, findings)


def _longest_wait(draft: Draft, check: CheckDraft) -> float | None:
    """Return the time-out that a check will have outside its peaks, or None when mistakes leave it open."""
    if check.keys is None or check.probe is None or check.settings is None:
        return None
    usual = draft.defaults.timeout or max(check.probe.default_timeout_s, check.probe.least_timeout_s(check.settings))
    return check.keys.timeout or min(usual, draft.every_s(check))


def _rate(
    check: CheckDraft,
    every: float,
    faster: list[tuple[PeakDraft, float]],
    default_timeout: float | None,
    findings: Findings,
) -> None:
    if check.probe is None or check.settings is None or check.keys is None:
        return
    needed = check.probe.least_timeout_s(check.settings)
    given = check.keys.timeout or default_timeout
    if given is not None and given < needed:
        own = check.keys.timeout is not None
        words = f"{check.probe.kind} with these settings needs a time-out of at least {show_seconds(needed)}"
        findings.mistake(
            (*check.loc, "timeout") if own else check.loc, f"{words}, got {show_seconds(given)}", at_key=not own
        )
    least = check.probe.least_every_s(check.settings)
    limit = f"{check.probe.kind} with these settings needs at least {show_seconds(least)}"
    if every < least:
        at = (*check.loc, "every") if check.keys.every is not None else check.loc
        findings.mistake(
            at, f"the interval {show_seconds(every)} is too short: {limit}", at_key=len(at) == len(check.loc)
        )
    for peak, peak_every in faster:
        if peak_every < least:
            words = f"the interval {show_seconds(peak_every)} is too short for {check.service}.{check.id}: {limit}"
            findings.mistake((*peak.loc, "every"), words)


def _peaks_apart(draft: Draft, findings: Findings) -> None:
    """Report a peak that begins while another of the same service lasts."""
    current: list[PeakDraft] = []
    for peak in sorted(draft.peaks(), key=lambda p: (p.window.start, p.window.end)):
        current = [other for other in current if other.window.end > peak.window.start]
        for other in current:
            shared = _shared(peak, other)
            if shared:
                until = show_local(other.window.end, draft.zone)
                words = f"the peak overlaps {other.event}.{other.id}, which lasts until {until}, for {shared}"
                findings.mistake(peak.loc, words, at_key=True)
                break
        else:
            current.append(peak)


def _shared(one: PeakDraft, other: PeakDraft) -> str:
    ours, theirs = one.settings.services, other.settings.services
    if not ours or not theirs:
        return ", ".join(ours or theirs) or "all services"
    return ", ".join(name for name in ours if name in theirs)


def _relays(draft: Draft, findings: Findings) -> None:
    """Refuse relays that all go down with what they are to report."""
    if draft.alerts.mail is None:
        return
    relays = draft.alerts.mail.relays
    watched = {where: check for check in _mail_checks(draft) for where in _whereabouts(check)}
    found = [watched.get(_relay_where(relay)) for relay in relays]
    if relays and all(found):
        first = next(check for check in found if check is not None)
        message = (
            f"the alert relay is the monitored mail server ({first.service}.{first.id}), "
            "and no other relay is behind it: when it fails, nobody is told"
        )
        findings.mistake(("alerts", "mail", "relays", 0, "host"), message)


def _mail_checks(draft: Draft) -> Iterator[CheckDraft]:
    for service in draft.services:
        for check in service.checks:
            kind = check.probe.kind if check.probe else ""
            if kind in _MAIL_KINDS or (service.settings and service.settings.kind is ServiceKind.MAIL):
                yield check


def _whereabouts(check: CheckDraft) -> Iterator[tuple[str, int | None]]:
    host = check.settings.endpoint() if check.settings else ""
    if host:
        yield _where(host, getattr(check.settings, "port", None))


def _relay_where(relay: RelaySettings) -> tuple[str, int | None]:
    return _where(relay.host, relay_port(relay))


def _where(host: str, port: int | None) -> tuple[str, int | None]:
    """Name a mail server: by its host, and on loopback, where many share one host, by host and port."""
    host = host.lower().rstrip(".").strip("[]")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return (host, port) if loopback else (host, None)


def relay_port(relay: RelaySettings) -> int:
    """Return a relay's port: its own, or the one that goes with its kind of TLS."""
    return relay.port if relay.port is not None else (465 if relay.tls else 25)


def look_out(draft: Draft, findings: Findings) -> None:
    """Warn of what works and that someone should look at. Looks whether secrets can be read."""
    count = len(draft.references)
    if count == 0:
        findings.warn((REFERENCES,), "no references are configured: nobody can tell 'it is us' from 'it is them'")
    elif count == 1:
        findings.warn((REFERENCES,), "only one reference is configured: when it fails, it looks like us", at_key=True)
    if draft.alerts.mail is None:
        findings.warn(("alerts",), "no alerts are configured: nobody is told of anything")
    for check in draft.checks():
        for loc, reason in unreadable(check.settings, check.loc):
            findings.warn(loc, reason)
    relays: Loc = ("alerts", "mail", "relays")
    for loc, reason in unreadable(draft.alerts.mail.relays if draft.alerts.mail else (), relays):
        findings.warn(loc, reason)
