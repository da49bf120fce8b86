"""Small makers of plans, results and changes, so that tests of the monitor read like sentences.

Times are seconds after `T0`, Giao thừa of the year Đinh Mùi; everything belongs to the site `lang-son`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from zoneinfo import ZoneInfo

from config.plan import (
    REFERENCES,
    EventPlan,
    Language,
    MailPlan,
    OutagePolicy,
    Plan,
    RatePeriod,
    ServiceKind,
    ServicePlan,
    SitePlan,
    Target,
    Window,
)
from monitor.journal import Duty
from monitor.model import Change, EventKind, Gap, Incident, Notice, Result, State
from probes.base import Fault, Measurement, Path, ProbeSettings, ProbeType, Reading, Run

SITE = "lang-son"
SITE_NAME = "Sở Thông tin và Truyền thông tỉnh Lạng Sơn"
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
T0 = datetime(2027, 2, 5, 17, 0, tzinfo=UTC)  # 06/02/2027 00:00 in Việt Nam
MAIL = MailPlan("giam-sat@example.vn", ("truc@example.vn",), ())


class HostSettings(ProbeSettings):
    """Enough of a probe's settings for the monitor, which looks into none."""

    host: str = "127.0.0.1"


def at(seconds: float) -> datetime:
    """The moment so many seconds after T0."""
    return T0 + timedelta(seconds=seconds)


def span(start: float, end: float) -> Window:
    """The window between two moments given in seconds after T0."""
    return Window(at(start), at(end))


async def never_run(settings: object, measurement: Measurement) -> None:
    """Stand where a probe's run would, in tests that run none."""
    raise AssertionError("a probe was run by a test that gave it no run")


def probe(kind: str = "tcp", run: Run = never_run) -> ProbeType:
    return ProbeType(kind=kind, summary="for tests", settings=HostSettings, run=run)


def check(
    name: str,
    *,
    every_s: float = 30.0,
    timeout_s: float = 10.0,
    policy: OutagePolicy | None = None,
    kind: str = "tcp",
    run: Run = never_run,
    path: Path | None = None,
    rates: Sequence[RatePeriod] = (),
    near: bool = False,
) -> Target:
    """A check by its full name, `mail.smtp`."""
    service_id, _, check_id = name.partition(".")
    return Target(
        site=SITE,
        service=service_id,
        check=check_id,
        name=f"Phép kiểm tra {check_id}",
        probe=probe(kind, run),
        settings=HostSettings(),
        path=path,
        every_s=every_s,
        timeout_s=timeout_s,
        policy=policy or OutagePolicy(),
        rates=tuple(rates),
        near=near,
    )


def reference(
    name: str,
    *,
    near: bool = False,
    every_s: float = 10.0,
    policy: OutagePolicy | None = None,
    run: Run = never_run,
    path: Path | None = None,
) -> Target:
    """A neutral point: `reference("gateway", near=True)`."""
    return check(f"{REFERENCES}.{name}", near=near, every_s=every_s, policy=policy, run=run, path=path)


def service(
    service_id: str,
    *checks: Target | str,
    at_least: int | None = None,
    needs: Sequence[str] = (),
    name: str = "",
    kind: ServiceKind = ServiceKind.SERVICE,
) -> ServicePlan:
    """A service of checks, or of names of checks: `service("mail", "smtp", "imaps", at_least=1)`."""
    targets = tuple(c if isinstance(c, Target) else check(f"{service_id}.{c}") for c in checks)
    return ServicePlan(
        id=service_id,
        name=name or f"Dịch vụ {service_id}",
        kind=kind,
        needs=tuple(needs),
        at_least=len(targets) if at_least is None else at_least,
        targets=targets,
    )


def plan(
    *services: ServicePlan,
    references: Sequence[Target] = (),
    events: Sequence[EventPlan] = (),
    mail: MailPlan | None = None,
    state_dir: FilePath = FilePath("/nonexistent"),
    language: Language = Language.VI,
) -> Plan:
    return Plan(
        site=SitePlan(id=SITE, name=SITE_NAME, timezone=ZONE, language=language),
        services=services,
        references=tuple(references),
        events=tuple(events),
        mail=mail,
        state_dir=state_dir,
        raw_keep_s=86_400.0,
        listen_host="127.0.0.1",
        listen_port=0,
        digest="d" * 64,
        text="site: {}\n",
    )


def good(check_id: str, seconds: float, *, took_s: float = 0.01, attempt: int = 0, path: str = "") -> Result:
    """A good answer of a check at a moment."""
    return result(check_id, seconds, Reading(None, "", took_s), attempt=attempt, path=path)


def bad(
    check_id: str,
    seconds: float,
    fault: Fault = Fault.TIMEOUT,
    *,
    detail: str = "no answer within 10 s",
    attempt: int = 0,
    path: str = "",
) -> Result:
    """A failed run of a check at a moment."""
    return result(check_id, seconds, Reading(fault, detail, 10.0), attempt=attempt, path=path)


def blind(check_id: str, seconds: float, *, attempt: int = 0) -> Result:
    """A run in which we could not measure."""
    return bad(check_id, seconds, Fault.LOCAL, detail="Network is unreachable", attempt=attempt)


def result(
    check_id: str,
    seconds: float,
    reading: Reading,
    *,
    attempt: int = 0,
    path: str = "",
    lateness_s: float = 0.0,
) -> Result:
    """A finished probe that started `seconds` after T0, in its slot."""
    started = at(seconds)
    slot = started - timedelta(seconds=lateness_s)
    return Result(SITE, check_id, path, slot, started, lateness_s, attempt, reading)


def change(
    subject: str,
    state: State,
    seconds: float,
    *,
    confirmed: float | None = None,
    earliest: float | None = None,
    fault: str = "",
    detail: str = "",
) -> Change:
    """A confirmed change, believed at once and without doubt about its date unless said otherwise."""
    return Change(
        site=SITE,
        subject=subject,
        state=state,
        at=at(seconds),
        confirmed_at=at(seconds if confirmed is None else confirmed),
        earliest=at(seconds if earliest is None else earliest),
        fault=fault,
        detail=detail,
    )


def gap(check_id: str, start: float, end: float | None, cause: str = "off") -> Gap:
    """A span in which a check was not observed; without an end it is still open."""
    return Gap(SITE, check_id, at(start), None if end is None else at(end), cause)


def incident(
    number: int,
    subject: str,
    began: float = 0.0,
    *,
    ended: float | None = None,
    state: State = State.DOWN,
    parent: int | None = None,
    told: bool = True,
    detail: str = "",
) -> Incident:
    return Incident(
        id=number,
        site=SITE,
        subject=subject,
        state=state,
        began_at=at(began),
        confirmed_at=at(began + 10),
        ended_at=None if ended is None else at(ended),
        parent=parent,
        told=told,
        detail=detail,
    )


def notice(number: int = 1, subject: str = "mail", kind: EventKind = EventKind.OPENED, since: float = 0.0) -> Notice:
    return Notice(
        site=SITE,
        site_name=SITE_NAME,
        incident=number,
        kind=kind,
        service=subject,
        service_name=f"Dịch vụ {subject}",
        service_kind=ServiceKind.MAIL,
        state=State.DOWN,
        since=at(since),
        at=at(since + 10),
    )


def duty(message: str, number: int = 1, *, subject: str = "mail", kind: EventKind = EventKind.OPENED) -> Duty:
    """A mail that is owed, under the message id `<message@lang-son>`."""
    return Duty(notice(number, subject, kind), "mail", f"<{message}@{SITE}>", f"<{number}@{SITE}>")
