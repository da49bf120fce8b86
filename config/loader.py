"""From a file to a plan: the only door through which a configuration enters.

Reads files and the environment, so it must not be called on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from config.blackbox import Blackbox, read_modules
from config.calendar import year_name
from config.credentials import anchor_files, missing_secrets, refuse_inline
from config.crosschecks import cross_check, look_out, relay_port
from config.draft import CheckDraft, Draft, Drafter, EventDraft, ServiceDraft
from config.peaks import rates_of, windows_of
from config.plan import (
    REFERENCES,
    ContactPlan,
    EventPlan,
    Language,
    MailPlan,
    OutagePolicy,
    Peak,
    Plan,
    Relay,
    ReportPlan,
    ServicePlan,
    SignerPlan,
    SitePlan,
    StampPlan,
    Target,
)
from config.problems import ConfigError, Findings, Place, Problem
from config.report_settings import ReportSettings
from config.report_times import schedules_of
from config.settings import (
    AtLeast,
    BlackboxSettings,
    CheckSettings,
    MailSettings,
    ReferenceSettings,
    RelaySettings,
    SiteSettings,
    parse_listen,
)
from config.sources import Sources, read_sources, read_text
from probes import PROBES
from probes.base import Path as Uplink
from probes.base import ProbeSettings, ProbeType

__all__ = ["ConfigError", "Place", "Problem", "load", "load_text", "missing_secrets"]

_GATEWAY = "gateway"  # the reference id that is near unless it says otherwise


def load(path: Path, probes: Mapping[str, ProbeType] = PROBES) -> Plan:
    """Read a configuration with everything it includes.

    Args:
        path: the main file.
        probes: the kinds of probe there are.

    Raises:
        ConfigError: with every mistake at once, sorted by place.
    """
    findings = Findings()
    return replace(_plan(read_sources(path, findings), findings, probes), source=path.absolute())


def load_text(text: str, filename: str = "<text>", probes: Mapping[str, ProbeType] = PROBES) -> Plan:
    """Read a configuration from text; includes are looked for in the folder of `filename`.

    Raises:
        ConfigError: with every mistake at once, sorted by place.
    """
    findings = Findings()
    return _plan(read_text(text, filename, findings), findings, probes)


def _plan(sources: Sources, findings: Findings, probes: Mapping[str, ProbeType]) -> Plan:
    if not sources.data:
        findings.refuse()
    refuse_inline(sources.data, findings)
    anchor_files(sources.data, findings)
    draft = Drafter(sources.data, findings, probes).draft()
    cross_check(draft, findings)
    blackbox = _blackbox(draft.blackbox, findings)
    findings.refuse()
    look_out(draft, findings)
    return replace(_finish(draft, sources, findings), blackbox=blackbox)


def _blackbox(settings: BlackboxSettings, findings: Findings) -> Blackbox:
    asked_at = findings.places.of_value(("blackbox", "modules"))
    return Blackbox(
        modules=read_modules(settings.modules, findings, asked_at),
        allow=settings.allow,
        fixed=settings.compat == "fixed",
        timeout_offset_s=settings.timeout_offset,
    )


def _finish(draft: Draft, sources: Sources, findings: Findings) -> Plan:
    """Make the plan of a draft without mistakes."""
    site = draft.site
    assert site is not None  # or a mistake was reported
    uplinks = {id_: Uplink(id_, p.name or id_, p.source, p.interface) for id_, p in draft.paths.items()}
    host, port = parse_listen(draft.web.listen)
    mail, stamp = draft.alerts.mail, draft.store.timestamp_authority
    return Plan(
        site=SitePlan(site.id, site.name, ZoneInfo(site.timezone), site.language),
        services=tuple(_service(draft, site.id, service, uplinks) for service in draft.services),
        references=tuple(t for check in draft.references for t in _targets(draft, site.id, check, uplinks)),
        events=tuple(_event(event, site) for event in draft.events),
        mail=_mail(mail) if mail else None,
        state_dir=draft.store.dir,
        raw_keep_s=draft.store.raw,
        listen_host=host,
        listen_port=port,
        digest=sources.digest,
        text=sources.text,
        warnings=tuple(str(w) for w in findings.by_place(findings.warnings)),
        reports=_reports(draft.reports),
        budget_bytes=draft.store.budget,
        evidence_key=draft.store.key_file,
        path_carriers={id_: p.carrier for id_, p in draft.paths.items() if p.carrier},
        schedules=schedules_of(draft),
        stamps=StampPlan(stamp.url, stamp.ca_file, stamp.every) if stamp else None,
        maintenance=tuple(m.plan() for m in draft.maintenance),
    )


def _service(draft: Draft, site: str, service: ServiceDraft, uplinks: Mapping[str, Uplink]) -> ServicePlan:
    settings = service.settings
    assert settings is not None  # a draft without mistakes is whole
    rule = settings.up_when
    count = len(service.checks)
    return ServicePlan(
        id=service.id,
        name=settings.name or service.id,
        kind=settings.kind,
        needs=tuple(dict.fromkeys(settings.needs)),
        at_least=rule.at_least if isinstance(rule, AtLeast) else {"all": count, "any": 1}[rule],
        targets=tuple(t for check in service.checks for t in _targets(draft, site, check, uplinks)),
        carrier=settings.carrier or "",
    )


def _targets(draft: Draft, site: str, check: CheckDraft, uplinks: Mapping[str, Uplink]) -> list[Target]:
    """Return a check's target, or one for each of the paths it is to be asked by."""
    keys, _, _ = _read(check)
    one = _target(draft, site, check, uplinks)
    if not keys.paths:
        return [one]
    count = len(keys.paths)
    rule = keys.up_by
    needed = (
        rule.at_least if isinstance(rule, AtLeast) else {"majority": (count + 1) // 2, "any": 1, "all": count}[rule]
    )
    by = "by" if draft.site and draft.site.language is Language.EN else "qua"
    return [
        replace(
            one,
            check=f"{check.id}@{path}",
            name=f"{one.name} {by} {uplinks[path].name}",
            path=uplinks[path],
            one_of=check.id,
            needed=needed,
        )
        for path in keys.paths
    ]


def _target(draft: Draft, site: str, check: CheckDraft, uplinks: Mapping[str, Uplink]) -> Target:
    keys, probe, settings = _read(check)
    every_s = draft.every_s(check)
    rates = rates_of(draft, check)
    usual_s = draft.defaults.timeout or max(probe.default_timeout_s, probe.least_timeout_s(settings))
    timeout_s = keys.timeout or min(usual_s, every_s, *(rate.every_s for rate in rates))
    near = isinstance(keys, ReferenceSettings) and (keys.role or ("near" if check.id == _GATEWAY else "far")) == "near"
    return Target(
        site=site,
        service=check.service,
        check=check.id,
        name=keys.name or keys.label or check.id,
        probe=probe,
        settings=settings,
        path=uplinks[keys.path] if keys.path else None,
        every_s=every_s,
        timeout_s=timeout_s,
        policy=_policy(draft, check),
        rates=rates,
        peaks=windows_of(draft, check),
        near=near and check.service == REFERENCES,
    )


def _read(check: CheckDraft) -> tuple[CheckSettings, ProbeType, ProbeSettings]:
    assert check.keys is not None
    assert check.probe is not None
    assert check.settings is not None  # a draft without mistakes is whole
    return check.keys, check.probe, check.settings


def _policy(draft: Draft, check: CheckDraft) -> OutagePolicy:
    """Apply, key by key: the check's own, the defaults, what suits the probe."""
    keys, probe, _ = _read(check)
    usual = OutagePolicy()
    defaults = draft.defaults
    return OutagePolicy(
        bad_rounds=keys.bad_rounds or defaults.bad_rounds or probe.rounds_to_down,
        good_rounds=keys.good_rounds or defaults.good_rounds or usual.good_rounds,
        recheck_s=keys.recheck_after or defaults.recheck_after or usual.recheck_s,
        objective=(keys.objective or _service_objective(draft, check) or defaults.objective or 99.5) / 100,
        slow_over_s=keys.slow_over or defaults.slow_over,
    )


def _service_objective(draft: Draft, check: CheckDraft) -> float | None:
    settings = draft.service_settings.get(check.service)
    return settings.objective if settings is not None else None


def _event(event: EventDraft, site: SiteSettings) -> EventPlan:
    peaks = tuple(
        Peak(peak.id, peak.window, peak.settings.every, peak.settings.services)
        for peak in sorted(event.peaks, key=lambda p: p.window.start)
    )
    return EventPlan(event.id, event.settings.name or _event_name(event, site.language), event.window, peaks)


def _event_name(event: EventDraft, language: Language) -> str:
    year = event.settings.tet
    if year is None:
        return event.id
    return f"Tết Nguyên đán {year_name(year)} {year}" if language is Language.VI else f"Lunar New Year {year}"


def _reports(reports: ReportSettings) -> ReportPlan:
    signer, contact = reports.signer, reports.contact
    return ReportPlan(
        parent_body=reports.parent_body,
        body=reports.body,
        symbol=reports.symbol,
        place=reports.place,
        addressee=reports.addressee,
        legal_bases=reports.legal_bases,
        recipients=reports.recipients,
        archive=reports.archive,
        signer=SignerPlan(signer.authority or "", signer.title, signer.name),
        contact=ContactPlan(contact.name, contact.title, contact.address, contact.phone, contact.email),
    )


def _mail(mail: MailSettings) -> MailPlan:
    return MailPlan(mail.from_, mail.to, tuple(map(_relay, mail.relays)), mail.page_url)


def _relay(relay: RelaySettings) -> Relay:
    return Relay(
        host=relay.host,
        port=relay_port(relay),
        starttls=relay.starttls or ("never" if relay.tls else "optional"),
        tls=relay.tls,
        username=relay.username,
        password_file=relay.password_file,
        password_env=relay.password_env,
        ca_file=relay.ca_file,
        plaintext_login=relay.plaintext_login,
        timeout_s=relay.timeout,
    )
