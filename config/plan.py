"""What to watch, ready to run: the frozen outcome of a configuration, with every default applied.

Made by `config.loader`, read by every room above. Must not read files or clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum
from pathlib import Path as FilePath
from zoneinfo import ZoneInfo

from config.blackbox import Blackbox
from probes.base import Path, ProbeSettings, ProbeType

REFERENCES = "references"  # the service id under which references appear; no service may use it
TAKEN_IDS = (REFERENCES, "own-fault")  # the second is what incidents of our own go by


class ServiceKind(StrEnum):
    """What a service is to a duty officer; decides wording and grouping, never judging."""

    MAIL = "mail"
    PORTAL = "portal"
    OFFICE = "office"
    DATA_CENTRE = "data-centre"
    CONFERENCE = "conference"
    CARRIER = "carrier"
    NETWORK = "network"
    SERVICE = "service"


class Language(StrEnum):
    """The language of what people read."""

    VI = "vi"
    EN = "en"


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time [start, end), aware datetimes in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Peak:
    """A span of an event in which named services are probed more often."""

    id: str
    window: Window
    every_s: float | None  # the faster interval; None keeps the check's own
    services: tuple[str, ...]  # empty: all services


@dataclass(frozen=True, slots=True)
class EventPlan:
    """A Tết, a festival, a conference: a period with a report of its own."""

    id: str
    name: str
    window: Window
    peaks: tuple[Peak, ...] = ()


@dataclass(frozen=True, slots=True)
class MaintenancePlan:
    """Work that the configuration announces: once, or every week. Its times: `config.maintenance.occurrences`."""

    id: str  # for people; may be empty
    subjects: tuple[str, ...]  # ids of services, or service.check
    reason: str
    window: Window | None  # None comes every week:
    weekdays: tuple[int, ...] = ()  # Monday is 0
    at: time = time()  # local
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """When a streak of results becomes a verdict."""

    bad_rounds: int = 3  # consecutive bad results before DOWN, the first one included
    good_rounds: int = 2  # consecutive good results before UP again
    recheck_s: float = 5.0  # pause before each fast recheck after a first bad result
    objective: float = 0.995  # share of rounds that shall succeed; far more failures than it bears are scattered ones
    slow_over_s: float | None = None  # a good answer slower than this counts as slow; that many make DEGRADED


@dataclass(frozen=True, slots=True)
class RatePeriod:
    """A window in which a check runs at another interval than its own."""

    window: Window
    every_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """One check: what to measure, how often, by which path, and when to believe it."""

    site: str
    service: str  # service id, or REFERENCES
    check: str  # check id within its service
    name: str  # for people
    probe: ProbeType
    settings: ProbeSettings
    path: Path | None
    every_s: float
    timeout_s: float
    policy: OutagePolicy
    rates: tuple[RatePeriod, ...] = ()  # sorted, not overlapping
    peaks: tuple[Window, ...] = ()  # sorted, not overlapping: when more is expected of it, at a higher rate or not
    near: bool = False  # a reference on our own side of the uplink (the gateway)
    one_of: str = ""  # id of the check that is asked by several paths, of which this is one; "" asked by one alone
    needed: int = 1  # by how many of those paths it must be usable

    @property
    def id(self) -> str:
        """`service.check`, unique within a site."""
        return f"{self.service}.{self.check}"

    def interval_at(self, moment: datetime) -> float:
        """Return the interval in force at a moment, in seconds: the check's own, or a peak's."""
        for rate in self.rates:
            if rate.window.start <= moment < rate.window.end:
                return rate.every_s
        return self.every_s

    def in_peak(self, moment: datetime) -> bool:
        """Whether a moment lies in a peak of it."""
        return any(w.start <= moment < w.end for w in self.peaks)

    @property
    def path_id(self) -> str:
        """The path's id, or an empty string for the system's own route."""
        return self.path.id if self.path else ""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a service's state follows from its checks, some of which are asked by several paths."""

    at_least: int  # how many must be usable; those asked by several paths count as one
    parts: tuple[tuple[tuple[int, ...], int], ...]  # numbers of the targets that are one check, and how many it needs


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A thing the duty officer cares about, and the rule that makes its state from its checks."""

    id: str
    name: str
    kind: ServiceKind
    needs: tuple[str, ...]  # ids of services it cannot work without
    at_least: int  # how many checks must be up: all of them for `all`, 1 for `any`
    targets: tuple[Target, ...]
    carrier: str = ""  # id of the service of kind carrier through which it is reached; "": as its paths say

    @property
    def rule(self) -> int | Rule:
        """How its state follows from its targets: at least so many, or by parts where several paths are compared."""
        if not any(t.one_of for t in self.targets):
            return self.at_least
        parts: dict[str, list[int]] = {}
        for number, target in enumerate(self.targets):
            parts.setdefault(target.one_of or target.check, []).append(number)
        return Rule(self.at_least, tuple((tuple(p), self.targets[p[0]].needed) for p in parts.values()))


@dataclass(frozen=True, slots=True)
class Relay:
    """A mail server that accepts our alerts."""

    host: str
    port: int
    starttls: str = "optional"  # required | optional | never
    tls: bool = False  # TLS from the first byte
    username: str | None = None
    password_file: FilePath | None = None
    password_env: str | None = None
    ca_file: FilePath | None = None
    plaintext_login: bool = False  # the second, explicit yes to a login without TLS
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class MailPlan:
    """Who is told by mail, through which relays, in order."""

    sender: str
    to: tuple[str, ...]
    relays: tuple[Relay, ...]
    page_url: str | None = None  # address of the live page, printed in mails


@dataclass(frozen=True, slots=True)
class SitePlan:
    """Whose monitor this is."""

    id: str
    name: str
    timezone: ZoneInfo
    language: Language


@dataclass(frozen=True, slots=True)
class SignerPlan:
    """Who signs a report; None where a person has to write."""

    authority: str = ""  # the letters before the title: KT., TL., TUQ. with whom they stand for; empty for the head
    title: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ContactPlan:
    """Whom to ask about a report; None where a person has to write."""

    name: str | None = None
    title: str | None = None
    address: str | None = None
    phone: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class ReportPlan:
    """What an official report says beside the figures; None where a person has to write."""

    parent_body: str | None = None  # the body above the one that issues
    body: str | None = None  # the issuing body; None is the site's name
    symbol: str | None = None  # what follows the number: BC-STTTT
    place: str | None = None
    addressee: str | None = None  # "Kính gửi"; a report has none unless it says so
    legal_bases: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    archive: str = "VT"  # where the office's own copy goes, after "Lưu:"
    signer: SignerPlan = SignerPlan()
    contact: ContactPlan = ContactPlan()


class ReportKind(StrEnum):
    """What a report that is sent by itself tells of."""

    DAILY = "daily"
    WEEKLY = "weekly"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class ReportSchedule:
    """When a report is sent, to whom, and in which formats."""

    id: str  # daily | weekly | event:<event> | daily:<event>
    kind: ReportKind
    at: time  # local
    to: tuple[str, ...]
    formats: tuple[str, ...]
    weekday: int | None = None  # of a weekly one: 0 is Monday
    event: str = ""  # id of the event that it belongs to
    once: datetime | None = None  # of the report after an event: its only time
    within: Window | None = None  # due only in it; its end counts, its start does not
    without: tuple[Window, ...] = ()  # and never in these


@dataclass(frozen=True, slots=True)
class StampPlan:
    """Who stamps the chain of evidence with the time, and how often at most."""

    url: str
    ca_file: FilePath
    every_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole configuration, ready to run."""

    site: SitePlan
    services: tuple[ServicePlan, ...]
    references: tuple[Target, ...]
    events: tuple[EventPlan, ...]
    mail: MailPlan | None
    state_dir: FilePath
    raw_keep_s: float  # how long raw results are kept
    listen_host: str
    listen_port: int
    digest: str  # sha256 of the configuration's text, includes resolved
    text: str  # that text, so that every configuration that ever ran can be kept
    warnings: Sequence[str] = field(default=())
    reports: ReportPlan = ReportPlan()
    budget_bytes: int | None = None  # most that journal and evidence may take of the disk
    evidence_key: FilePath | None = None  # a signing key given from outside; None: the state directory's own
    blackbox: Blackbox = field(default_factory=Blackbox)  # what /probe may do
    path_carriers: Mapping[str, str] = field(default_factory=dict)  # path id -> id of a service of kind carrier
    schedules: tuple[ReportSchedule, ...] = ()  # of reports that are sent by themselves
    source: FilePath | None = None  # the main file; None: it came from elsewhere
    stamps: StampPlan | None = None  # None: nobody stamps the evidence
    maintenance: tuple[MaintenancePlan, ...] = ()

    def targets(self) -> tuple[Target, ...]:
        """Return every check, references first."""
        return self.references + tuple(t for s in self.services for t in s.targets)

    def service(self, service_id: str) -> ServicePlan:
        """Return a service by id; KeyError if there is none."""
        return self.by_id()[service_id]

    def by_id(self) -> Mapping[str, ServicePlan]:
        """Return the services by id."""
        return {s.id: s for s in self.services}
