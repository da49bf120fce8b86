"""A stage on which a test says what is so, and a duty book that is asked to review it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from config.plan import Plan
from monitor.duty import CAUSE_WAIT, ORPHAN_WAIT, DutyBook, OwnFault
from monitor.journal import Batch, Duty
from monitor.judge.cause import Failure, Thing, Use
from monitor.model import Cause, Evidence, Incident, State
from probes.base import Path as Uplink
from tests.monitor.builders import MAIL, at, check, plan, service

UP, DOWN, DEGRADED, CONGESTED, UNKNOWN = State.UP, State.DOWN, State.DEGRADED, State.CONGESTED, State.UNKNOWN
WAIT_S = CAUSE_WAIT.total_seconds()
ORPHAN_S = ORPHAN_WAIT.total_seconds()

PROVINCE = plan(
    service("data-centre", "ping", name="Trung tâm tích hợp dữ liệu"),
    service("mail", "smtp", needs=["data-centre"], name="Thư điện tử công vụ"),
    service("portal", "web", needs=["data-centre"], name="Cổng thông tin"),
    service("forms", "web", needs=["portal"], name="Dịch vụ công"),
    service("carrier", check("carrier.ping", path=Uplink("vnpt", "VNPT cáp quang")), name="VNPT"),
    mail=MAIL,
)


@dataclass
class Stage:
    """What is so, as the test says."""

    states: dict[str, State] = field(default_factory=dict)
    sinces: dict[str, datetime] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)
    flaps: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)  # were broken already when somebody first looked
    faults: dict[str, OwnFault] = field(default_factory=dict)
    ended: dict[str, datetime] = field(default_factory=dict)
    lines: int = 1
    by: dict[str, set[Thing]] = field(default_factory=dict)  # what would explain a service's failing
    used: dict[Thing, Use] = field(default_factory=dict)
    work: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)  # announced, by service
    paths: dict[str, Cause] = field(default_factory=dict)  # a path that alone does not get through

    def state(self, service: str) -> State:
        return self.states.get(service, UP)

    def since(self, service: str) -> datetime:
        return self.sinces.get(service, at(0))

    def begin_seen(self, service: str) -> bool:
        return service not in self.unseen

    def reason(self, service: str) -> str:
        return "" if self.state(service) is State.UP else "smtp: refused"

    def suspect(self, service: str) -> bool:
        return service in self.suspects

    def flapping(self, service: str) -> bool:
        return service in self.flaps

    def evidence(self, service: str) -> Sequence[Evidence]:
        return [Evidence(f"{service} {n}", at(0), "down", "timeout", "no answer") for n in range(self.lines)]

    def references(self) -> tuple[Sequence[Evidence], int, int]:
        return [Evidence("vnix", at(0), "up", "", "")], 2, 1

    def failure(self, service: str) -> Failure:
        return Failure(service, self.since(service), 0.0, frozenset(self.by.get(service, ())))

    def shares(self, service: str) -> frozenset[Thing]:
        return frozenset(self.by.get(service, ()))

    def uses(self, since: datetime) -> Mapping[Thing, Use]:
        return self.used

    def one_path(self, service: str) -> Cause | None:
        return self.paths.get(service)

    def at_work(self, service: str, now: datetime) -> bool:
        return any(start <= now < end for start, end in self.work.get(service, ()))

    def counts_from(self, service: str, moment: datetime) -> datetime:
        for start, end in sorted(self.work.get(service, ())):
            moment = end if start <= moment < end else moment
        return moment

    def own_faults(self) -> Mapping[str, OwnFault]:
        return self.faults

    def own_fault_ended(self, subject: str) -> datetime | None:
        return self.ended.get(subject)


class Play:
    """A duty book on a stage; keeps what it wrote, as the journal would."""

    def __init__(self, province: Plan = PROVINCE) -> None:
        self.plan = province
        self.stage = Stage()
        self.rows: dict[int, Incident] = {}
        self.duties: list[Duty] = []
        self.now = 0.0
        self.book = DutyBook(province, {}, 1)

    def become(self, service: str, state: State, seconds: float | None = None) -> None:
        self.stage.states[service] = state
        self.stage.sinces[service] = at(self.now if seconds is None else seconds)

    def review(self, now: float | None = None) -> list[str]:
        """Review at a moment; return what was owed by it as `kind service`."""
        self.now = self.now if now is None else now
        batch = Batch()
        self.book.review(self.stage, at(self.now), batch)
        self.rows |= batch.incidents
        self.duties += batch.duties
        return [f"{d.notice.kind.value} {d.notice.service}" for d in batch.duties]

    def restart(self, province: Plan | None = None) -> None:
        """Start anew from what was written."""
        self.plan = province or self.plan
        open_rows = {i.id: i for i in self.rows.values() if i.ended_at is None}
        self.book = DutyBook(self.plan, open_rows, max(self.rows, default=0) + 1)

    def last(self) -> Duty:
        return self.duties[-1]

    def open(self) -> set[str]:
        return set(self.book.open_incidents())
