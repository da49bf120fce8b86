"""Makes boards and notices for tests of what people are told: a small province at 00:10 on mùng 1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from zoneinfo import ZoneInfo

from config.plan import (
    Language,
    MailPlan,
    OutagePolicy,
    Plan,
    Relay,
    ServiceKind,
    ServicePlan,
    SitePlan,
    Target,
)
from monitor.board import Board
from monitor.model import EventKind, Evidence, Incident, Notice, OutboxItem, Result, State
from probes.base import Fault, Measurement, Path, ProbeSettings, ProbeType, Reading

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
MIDNIGHT = datetime(2027, 2, 5, 17, 0, 0, tzinfo=UTC)  # Giao thừa: 06/02/2027 00:00 in Việt Nam
NOW = MIDNIGHT + timedelta(minutes=10)
SITE_NAME = "Sở Thông tin và Truyền thông tỉnh Lạng Sơn"


class HostSettings(ProbeSettings):
    """Enough of a probe's settings for exporters, which look into none."""

    host: str = "127.0.0.1"


async def never_run(settings: object, measurement: Measurement) -> None:
    """Stand where a probe's run would; exporters run no probe."""
    raise AssertionError("an exporter ran a probe")


def site(language: Language = Language.VI, name: str = SITE_NAME) -> SitePlan:
    return SitePlan(id="lang-son", name=name, timezone=ZONE, language=language)


def probe_type(kind: str = "tcp") -> ProbeType:
    return ProbeType(kind=kind, summary="for tests", settings=HostSettings, run=never_run)


def target(
    service: str,
    check: str,
    name: str = "",
    *,
    kind: str = "tcp",
    path: Path | None = None,
    every_s: float = 30.0,
    near: bool = False,
) -> Target:
    return Target(
        site="lang-son",
        service=service,
        check=check,
        name=name or check,
        probe=probe_type(kind),
        settings=HostSettings(),
        path=path,
        every_s=every_s,
        timeout_s=10.0,
        policy=OutagePolicy(),
        near=near,
    )


def service(
    service_id: str,
    name: str,
    targets: Sequence[Target],
    *,
    kind: ServiceKind = ServiceKind.SERVICE,
    needs: tuple[str, ...] = (),
) -> ServicePlan:
    return ServicePlan(id=service_id, name=name, kind=kind, needs=needs, at_least=len(targets), targets=tuple(targets))


def mail_plan(relays: Sequence[Relay] = (), to: Sequence[str] = ("truc@example.vn",), **more: str) -> MailPlan:
    return MailPlan(
        sender=more.get("sender", "giam-sat@example.vn"),
        to=tuple(to),
        relays=tuple(relays),
        page_url=more.get("page_url"),
    )


def plan(
    services: Sequence[ServicePlan] = (),
    references: Sequence[Target] = (),
    *,
    mail: MailPlan | None = None,
    language: Language = Language.VI,
    name: str = SITE_NAME,
) -> Plan:
    return Plan(
        site=site(language, name),
        services=tuple(services),
        references=tuple(references),
        events=(),
        mail=mail,
        state_dir=FilePath("/nonexistent"),
        raw_keep_s=86_400.0,
        listen_host="127.0.0.1",
        listen_port=0,
        digest="0" * 64,
        text="",
    )


def reading(
    fault: Fault | None = None,
    detail: str = "",
    *,
    duration_s: float = 0.0123,
    rtts_s: tuple[float | None, ...] = (),
) -> Reading:
    return Reading(fault, detail, duration_s, {"connect": 0.004}, {"connect_s": 0.004}, {"peer": "127.0.0.1"}, rtts_s)


def result(check: str, read: Reading, at: datetime = NOW) -> Result:
    return Result("lang-son", check, "", at, at, 0.0, 0, read)


PROVINCE_SERVICES = (
    service(
        "data-centre",
        "Trung tâm tích hợp dữ liệu",
        [target("data-centre", "ping", "Máy chủ lõi", kind="icmp", every_s=10.0)],
        kind=ServiceKind.DATA_CENTRE,
    ),
    service(
        "mail",
        "Thư điện tử công vụ",
        [
            target("mail", "smtp", "Gửi thư (SMTP)", kind="smtp"),
            target("mail", "imaps", "Đọc thư (IMAPS)", kind="imap"),
            target("mail", "webmail", "Thư trên web", kind="http", path=Path("vnpt", "VNPT cáp quang")),
        ],
        kind=ServiceKind.MAIL,
        needs=("data-centre",),
    ),
    service(
        "portal",
        "Cổng thông tin điện tử",
        [target("portal", "home", "Trang chủ", kind="http")],
        kind=ServiceKind.PORTAL,
    ),
    service("vnpt", "Mạng VNPT", [target("vnpt", "ping", "Ping", kind="icmp", every_s=5.0)], kind=ServiceKind.CARRIER),
)
PROVINCE_REFERENCES = (
    target("references", "gateway", "Cổng mạng nội bộ", kind="icmp", every_s=5.0, near=True),
    target("references", "vnix", "Trung tâm VNIX", kind="dns"),
)


def province(*, mail: MailPlan | None = None, language: Language = Language.VI) -> Board:
    """Return a board on which everything is up since an hour before Giao thừa."""
    board = Board(
        plan(PROVINCE_SERVICES, PROVINCE_REFERENCES, mail=mail, language=language),
        started_at=MIDNIGHT - timedelta(hours=1),
    )
    for check in board.checks.values():
        check.state, check.since = State.UP, board.started_at
        rtts = (0.0101, 0.0109, 0.0120) if check.target.probe.kind == "icmp" else ()
        check.last = result(check.target.id, reading(rtts_s=rtts), NOW - timedelta(seconds=3))
        check.recent.extend([True] * 60)
    for view in board.services.values():
        view.state, view.since = State.UP, board.started_at
    return board


def break_check(board: Board, check: str, fault: Fault, detail: str, *, at: datetime = MIDNIGHT) -> None:
    view = board.checks[check]
    view.state, view.since, view.detail = State.DOWN, at, detail
    view.last = result(check, reading(fault, detail), NOW - timedelta(seconds=2))


def break_service(board: Board, service_id: str, state: State, incident: Incident) -> None:
    view = board.services[service_id]
    view.state, view.since, view.incident = state, incident.began_at, incident.id
    board.open_incidents[incident.id] = incident


def incident(
    number: int,
    subject: str,
    state: State = State.DOWN,
    *,
    began_at: datetime = MIDNIGHT,
    ended_at: datetime | None = None,
    parent: int | None = None,
    detail: str = "",
) -> Incident:
    return Incident(
        id=number,
        site="lang-son",
        subject=subject,
        state=state,
        began_at=began_at,
        confirmed_at=began_at + timedelta(seconds=10),
        ended_at=ended_at,
        parent=parent,
        told=parent is None,
        detail=detail,
    )


def evidence(
    check: str = "Gửi thư (SMTP)",
    fault: Fault | None = Fault.REFUSED,
    detail: str = "connection refused",
    *,
    state: State = State.DOWN,
    at: datetime = MIDNIGHT,
    kind: str = "smtp",
) -> Evidence:
    return Evidence(check, at, state.value, fault.value if fault else "", detail, kind)


def notice(
    kind: EventKind = EventKind.OPENED,
    *,
    subject: str = "mail",
    name: str = "Thư điện tử công vụ",
    state: State = State.DOWN,
    since: datetime = MIDNIGHT,
    at: datetime = MIDNIGHT + timedelta(seconds=10),
    lines: tuple[Evidence, ...] = (),
    references: tuple[int, int] = (2, 0),
    affected: tuple[str, ...] = (),
    cause: str = "",
    flapping: bool = False,
    ended_at: datetime | None = None,
    number: int = 12,
) -> Notice:
    return Notice(
        site="lang-son",
        site_name=SITE_NAME,
        incident=number,
        kind=kind,
        service=subject,
        service_name=name,
        service_kind=ServiceKind.MAIL,
        state=state,
        since=since,
        at=at,
        evidence=lines,
        references_good=references[0],
        references_bad=references[1],
        affected=affected,
        cause=cause,
        flapping=flapping,
        ended_at=ended_at,
    )


def outbox_item(number: int = 1, told: Notice | None = None, *, attempts: int = 0, thread: str = "") -> OutboxItem:
    return OutboxItem(
        id=number,
        channel="mail",
        message_id=f"<{number}.12@lang-son.thongsuot>",
        thread_id=thread or "<1.12@lang-son.thongsuot>",
        notice=told or notice(),
        attempts=attempts,
        created_at=NOW,
    )
