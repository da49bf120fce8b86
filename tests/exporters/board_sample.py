"""A board with every kind of value a metric can show, for tests of metrics, rules and dashboards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from zoneinfo import ZoneInfo

from config.plan import REFERENCES, Language, MailPlan, OutagePolicy, Plan, ServiceKind, ServicePlan, SitePlan, Target
from monitor.board import Board, CheckView
from monitor.model import Incident, Result, SlotEnd, State
from probes.base import Fault, Measurement, Path, ProbeSettings, ProbeType, Reading
from probes.own_clock import ClockState

BEGAN = datetime(2027, 2, 5, 17, 0, tzinfo=UTC)  # Giao thừa of Đinh Mùi in Việt Nam
VNPT = Path("vnpt", 'VNPT "cáp quang"', source="192.0.2.10")


async def _never(settings: ProbeSettings, m: Measurement) -> None:
    raise AssertionError("a sample is not probed")


def probe(kind: str) -> ProbeType:
    return ProbeType(kind=kind, summary=kind, settings=ProbeSettings, run=_never)


def target(service: str, check: str, kind: str, *, name: str = "", path: Path | None = None) -> Target:
    return Target(
        site="lang-son",
        service=service,
        check=check,
        name=name or f"{service} {check}",
        probe=probe(kind),
        settings=ProbeSettings(),
        path=path,
        every_s=30.0,
        timeout_s=10.0,
        policy=OutagePolicy(),
    )


def service(service_id: str, name: str, kind: ServiceKind, *targets: Target) -> ServicePlan:
    return ServicePlan(service_id, name, kind, (), len(targets), targets)


def plan(services: tuple[ServicePlan, ...], references: tuple[Target, ...] = (), mail: MailPlan | None = None) -> Plan:
    return Plan(
        site=SitePlan("lang-son", "Sở Thông tin và Truyền thông", ZoneInfo("Asia/Ho_Chi_Minh"), Language.VI),
        services=services,
        references=references,
        events=(),
        mail=mail,
        state_dir=FilePath("/nowhere"),
        raw_keep_s=0.0,
        listen_host="127.0.0.1",
        listen_port=0,
        digest="",
        text="",
    )


def result(check: Target, reading: Reading) -> Result:
    return Result(check.site, check.id, check.path_id, BEGAN, BEGAN, 0.002, 0, reading)


PORTAL_READING = Reading(
    None,
    "",
    0.31,
    phases={"resolve": 0.01, "connect": 0.02, "tls": 0.05, "processing": 0.2, "transfer": 0.03},
    values={"status_code": 200.0, "tls_not_after_timestamp_s": 1.9e9, "body_bytes": 5120.0},
)
PING_READING = Reading(None, "", 0.03, values={"rtt_median_s": 0.012}, rtts_s=(0.011, None, 0.013, 0.012))


def full_board() -> Board:
    """One check or service in each state, every optional value, every counter, names that need escaping."""
    mail = service(
        "mail",
        'Thư điện tử "công vụ"\\',
        ServiceKind.MAIL,
        target("mail", "smtp", "smtp", name="Gửi\nthư"),
        target("mail", "imaps", "imap"),
    )
    portal = service("portal", "Cổng thông tin điện tử", ServiceKind.PORTAL, target("portal", "https", "http"))
    carrier = service(
        "carrier-vnpt", "Mạng VNPT", ServiceKind.CARRIER, target("carrier-vnpt", "ping", "icmp", path=VNPT)
    )
    office = service("office", "Một cửa", ServiceKind.OFFICE, target("office", "tcp", "tcp"))
    centre = service("data-centre", "Trung tâm dữ liệu", ServiceKind.DATA_CENTRE, target("data-centre", "dns", "dns"))
    board = Board(
        plan((mail, portal, carrier, office, centre), (target(REFERENCES, "gateway", "icmp", name="Cổng mạng"),)), BEGAN
    )
    states = {
        "mail.smtp": State.DOWN,
        "mail.imaps": State.DEGRADED,
        "portal.https": State.UP,
        "carrier-vnpt.ping": State.CONGESTED,
        "data-centre.dns": State.DOWN,
        "references.gateway": State.UP,
    }
    for check, state in states.items():
        board.checks[check].state = state
    for name, state in {"mail": State.DOWN, "portal": State.UP, "carrier-vnpt": State.CONGESTED}.items():
        board.services[name].state, board.services[name].since = state, BEGAN
    board.services["data-centre"].state = State.DEGRADED
    readings = {
        "mail.smtp": Reading(Fault.REFUSED, "nothing listens on port 25", 0.001, phases={"connect": 0.001}),
        "portal.https": PORTAL_READING,
        "carrier-vnpt.ping": PING_READING,
        "references.gateway": Reading(None, "", 0.001, rtts_s=(0.0004, 0.0005)),
        "office.tcp": Reading(Fault.LOCAL, "no route out", 0.0),
    }
    for check, reading in readings.items():
        board.checks[check].last = result(board.checks[check].target, reading)
    board.checks["carrier-vnpt.ping"].queue_delay_s = 0.003
    board.checks["carrier-vnpt.ping"].queue_threshold_s = 0.007
    _monitor_itself(board)
    advance(board)
    return board


def _monitor_itself(board: Board) -> None:
    incident = Incident(7, "lang-son", "mail", State.DOWN, BEGAN, BEGAN + timedelta(seconds=15))
    board.open_incidents[incident.id] = incident
    board.own_fault = "far"
    board.room = (5_000_000, 90_000_000, 321.5)
    board.clock, board.lapses = ClockState(True, 0.012, -0.0004), {"stall": (1, 20.5), "clock-step": (2, 7200.0)}
    board.alerts.update({("mail", "sent"): 3, ("mail", "failed"): 1})
    board.outbox_waiting, board.queue_size, board.queue_limit, board.running = 2, 5, 10_000, 4
    board.commit_s, board.config_reloads_refused = 0.004, 1
    board.checks["office.tcp"].slots[SlotEnd.LOST] = 2


def advance(board: Board) -> None:
    """Let one more round of every check go by, so that counters grow as they do in a living daemon."""
    for view in board.checks.values():
        _one_round(view)
        board.lateness.observe(0.002)
    board.alerts[("mail", "sent")] += 1


def _one_round(view: CheckView) -> None:
    view.slots[SlotEnd.DONE] += 1
    last = view.last
    if last is None:
        return
    fault = last.reading.fault
    name = fault.value if fault else "none"
    view.faults[name] = view.faults.get(name, 0) + 1
    view.recent.append(last.observed)
    for rtt in last.reading.rtts_s:
        view.sent += 1
        if rtt is None:
            view.lost += 1
        else:
            view.rtt.observe(rtt)
