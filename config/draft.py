"""Section by section, from plain data to checked settings: a draft in which every part is right by itself.

A part that is wrong is reported and left out, so that the rest is still checked and all mistakes come at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from config.calendar import CalendarError, around, naive_moment, shift, tet_day, to_utc
from config.maintenance import MaintenanceDraft, MaintenanceSettings
from config.plan import REFERENCES, TAKEN_IDS, Window
from config.problems import Findings, Loc, show_value
from config.report_settings import DailySettings, ReportSettings
from config.settings import (
    GIAO_THUA,
    AlertSettings,
    BlackboxSettings,
    CheckSettings,
    DefaultSettings,
    EventSettings,
    PathSettings,
    PeakSettings,
    ReferenceSettings,
    RootSettings,
    ServiceSettings,
    SiteSettings,
    StoreSettings,
    WebSettings,
    identifier,
)
from config.wording import keys_of, say, unknown_word
from probes.base import ProbeSettings, ProbeType

Model = TypeVar("Model", bound=BaseModel)

TET_BEFORE_S = 2 * 86400.0  # the two days before mùng 1
TET_AFTER_S = 5 * 86400.0  # mùng 1 to mùng 5


@dataclass(slots=True)
class CheckDraft:
    """A check or a reference as far as it could be read."""

    loc: Loc
    service: str
    id: str
    keys: CheckSettings | None = None
    probe: ProbeType | None = None
    settings: ProbeSettings | None = None


@dataclass(slots=True)
class ServiceDraft:
    """A service as far as it could be read."""

    loc: Loc
    id: str
    settings: ServiceSettings | None
    checks: list[CheckDraft]
    needs: list[tuple[int, str]]  # with their numbers in the list; also those of a service with other mistakes


@dataclass(slots=True)
class PeakDraft:
    """A peak with its window."""

    loc: Loc
    id: str
    event: str
    settings: PeakSettings
    window: Window


@dataclass(slots=True)
class EventDraft:
    """An event with its window."""

    loc: Loc
    id: str
    settings: EventSettings
    window: Window
    peaks: list[PeakDraft] = field(default_factory=list)
    daily: DailySettings | None = None


@dataclass(slots=True)
class Draft:
    """A whole configuration, every part right by itself; None and gaps where a part was not."""

    site: SiteSettings | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Asia/Ho_Chi_Minh"))
    paths: dict[str, PathSettings] = field(default_factory=dict)
    path_ids: tuple[str, ...] = ()  # also those that are wrong, so that their users are not blamed
    service_ids: tuple[str, ...] = ()
    defaults: DefaultSettings = field(default_factory=DefaultSettings)
    references: list[CheckDraft] = field(default_factory=list)
    services: list[ServiceDraft] = field(default_factory=list)
    service_settings: dict[str, ServiceSettings | None] = field(default_factory=dict)  # of the same, by id
    events: list[EventDraft] = field(default_factory=list)
    maintenance: list[MaintenanceDraft] = field(default_factory=list)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    reports: ReportSettings = field(default_factory=ReportSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    web: WebSettings = field(default_factory=WebSettings)
    blackbox: BlackboxSettings = field(default_factory=BlackboxSettings)

    def checks(self) -> Iterator[CheckDraft]:
        """Give every check, references first."""
        yield from self.references
        for service in self.services:
            yield from service.checks

    def peaks(self) -> Iterator[PeakDraft]:
        """Give every peak of every event."""
        for event in self.events:
            yield from event.peaks

    def every_s(self, check: CheckDraft) -> float:
        """Return a check's own interval, the defaults applied."""
        own = check.keys.every if check.keys else None
        return own or self.defaults.every or 30.0

    def faster(self, check: CheckDraft) -> list[tuple[PeakDraft, float]]:
        """Return the peaks that raise a check's rate, with the interval of each."""
        if check.service == REFERENCES:
            return []
        own = self.every_s(check)
        return [
            (peak, peak.settings.every)
            for peak in self.peaks()
            if peak.settings.every is not None
            and peak.settings.every < own
            and (not peak.settings.services or check.service in peak.settings.services)
        ]


class Drafter:
    """Reads one configuration's data."""

    def __init__(self, data: dict[str, Any], findings: Findings, probes: Mapping[str, ProbeType]) -> None:
        """Args: data: whole and merged. findings: takes the mistakes. probes: the kinds there are."""
        self._data = {key: value for key, value in data.items() if value is not None or key in ("site", "services")}
        self._findings = findings
        self._probes = probes

    def draft(self) -> Draft:
        """Read every section."""
        self._model(RootSettings, self._data, ())
        draft = Draft()
        if "site" in self._data:
            draft.site = self._model(SiteSettings, self._data["site"], ("site",), only_mapping=True)
            draft.zone = ZoneInfo(draft.site.timezone) if draft.site else draft.zone
        draft.paths = self._paths()
        draft.path_ids = tuple(self._mapping(("paths",)))
        draft.service_ids = tuple(self._mapping(("services",)))
        draft.defaults = self._section(DefaultSettings, "defaults") or draft.defaults
        draft.references = [
            self._check(data, ("references", id_), ReferenceSettings) for id_, data in self._entries(("references",))
        ]
        draft.services = [self._service(id_, data) for id_, data in self._entries(("services",))]
        draft.service_settings = {service.id: service.settings for service in draft.services}
        draft.events = [e for id_, data in self._entries(("events",)) if (e := self._event(id_, data, draft.zone))]
        draft.maintenance = list(self._maintenance(draft.zone))
        draft.alerts = self._section(AlertSettings, "alerts") or draft.alerts
        draft.reports = self._section(ReportSettings, "reports") or draft.reports
        draft.store = self._section(StoreSettings, "store") or draft.store
        draft.web = self._section(WebSettings, "web") or draft.web
        draft.blackbox = self._section(BlackboxSettings, "blackbox") or draft.blackbox
        return draft

    def _section(self, model: type[Model], name: str) -> Model | None:
        if not isinstance(self._data.get(name), dict):
            return None  # absent, or reported with the whole file
        return self._model(model, self._data[name], (name,))

    def _model(
        self, model: type[Model], data: Any, loc: Loc, *, also: tuple[str, ...] = (), only_mapping: bool = False
    ) -> Model | None:
        if only_mapping and not isinstance(data, dict):
            return None
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as exc:
            for below, message, at_key in say(exc, model, data, also):
                if self._findings.incomplete and loc == () and at_key and below[0] not in self._data:
                    continue  # a section that is missing may stand in the file that could not be read
                self._findings.mistake((*loc, *below), message, at_key=at_key)
            return None

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        data: Any = self._data
        for step in loc:
            data = data.get(step) if isinstance(data, dict) else None
        return data if isinstance(data, dict) else {}

    def _entries(self, loc: Loc) -> Iterator[tuple[str, Any]]:
        """Give the entries of a mapping of ids, each id looked at."""
        for id_, data in self._mapping(loc).items():
            try:
                identifier(id_)
            except ValueError as exc:
                self._findings.mistake((*loc, id_), str(exc), at_key=True)
            yield id_, data

    def _paths(self) -> dict[str, PathSettings]:
        read = {id_: self._model(PathSettings, data, ("paths", id_)) for id_, data in self._entries(("paths",))}
        return {id_: path for id_, path in read.items() if path is not None}

    def _service(self, id_: str, data: Any) -> ServiceDraft:
        loc: Loc = ("services", id_)
        if id_ in TAKEN_IDS:
            self._findings.mistake(loc, f"no service may be called {id_}: the word is taken", at_key=True)
        settings = self._model(ServiceSettings, data, loc)
        below: Loc = (*loc, "checks")
        checks = [self._check(data, (*below, check), CheckSettings) for check, data in self._entries(below)]
        if isinstance(data, dict) and data.get("checks") == {}:
            self._findings.mistake(below, "a service needs at least one check", at_key=True)
        needs = data.get("needs") if isinstance(data, dict) else None
        named = [(i, n) for i, n in enumerate(needs) if isinstance(n, str)] if isinstance(needs, list) else []
        return ServiceDraft(loc, id_, settings, checks, named)

    def _check(self, data: Any, loc: Loc, model: type[CheckSettings]) -> CheckDraft:
        service = REFERENCES if model is ReferenceSettings else str(loc[1])
        draft = CheckDraft(loc, service, str(loc[-1]))
        if not isinstance(data, dict):
            self._findings.mistake(loc, f"expected a mapping of keys and values; got {show_value(data)}")
            return draft
        kind = data.get("probe")
        draft.probe = self._probes.get(kind) if isinstance(kind, str) else None
        if isinstance(kind, str) and draft.probe is None:
            self._findings.mistake((*loc, "probe"), unknown_word("probe", kind, self._probes))
        own = keys_of(draft.probe.settings) if draft.probe else ()
        common = common_keys(model, own)
        draft.keys = self._model(model, {k: v for k, v in data.items() if k in common}, loc)
        if draft.probe is not None:
            rest = {k: v for k, v in data.items() if k not in common}
            draft.settings = self._model(draft.probe.settings, rest, loc, also=tuple(sorted(common)))
        return draft

    def _event(self, id_: str, data: Any, zone: ZoneInfo) -> EventDraft | None:
        loc: Loc = ("events", id_)
        peaks = {
            peak_id: self._model(PeakSettings, peak, (*loc, "peaks", peak_id))
            for peak_id, peak in self._entries((*loc, "peaks"))
        }
        settings = self._model(EventSettings, data, loc)
        asked = settings.daily if settings else None
        daily = self._model(DailySettings, asked, (*loc, "daily")) if asked is not None else None
        window = self._window(settings, loc, zone) if settings else None
        if settings is None or window is None:
            return None
        event = EventDraft(loc, id_, settings, window, daily=daily)
        drafts = [self._peak(event, peak_id, peak, zone) for peak_id, peak in peaks.items() if peak]
        event.peaks = [draft for draft in drafts if draft]
        return event

    def _maintenance(self, zone: ZoneInfo) -> Iterator[MaintenanceDraft]:
        data = self._data.get("maintenance")
        for number, entry in enumerate(data if isinstance(data, list) else ()):
            loc: Loc = ("maintenance", number)
            settings = self._model(MaintenanceSettings, entry, loc, only_mapping=True)
            if settings is None:
                continue
            if settings.from_ is None or settings.to is None:
                yield MaintenanceDraft(loc, settings, None)
                continue
            start = self._moment(settings.from_, (*loc, "from"), zone)
            end = self._moment(settings.to, (*loc, "to"), zone, end=True)
            if start is None or end is None:
                continue
            if end <= start:
                self._findings.mistake((*loc, "to"), "the work ends before it begins")
                continue
            yield MaintenanceDraft(loc, settings, Window(to_utc(start, zone), to_utc(end, zone)))

    def _window(self, event: EventSettings, loc: Loc, zone: ZoneInfo) -> Window | None:
        if event.tet is not None:
            mung_1 = self._tet_midnight(event.tet, loc)
            before_s = TET_BEFORE_S if event.before is None else event.before
            after_s = TET_AFTER_S if event.after is None else event.after
            window = around(mung_1, before_s, after_s, zone) if mung_1 else None
            at = (*loc, "after") if event.after is not None else (*loc, "tet")
        else:
            begin = self._moment(event.from_ or "", (*loc, "from"), zone)
            end = self._moment(event.to or "", (*loc, "to"), zone, end=True)
            at = (*loc, "to")
            window = None
            if begin and end:
                window = Window(shift(begin, -(event.before or 0), zone), shift(end, event.after or 0, zone))
        if window is not None and window.end <= window.start:
            when = (
                f"the event ends ({show_local(window.end, zone)}) before it begins ({show_local(window.start, zone)})"
            )
            self._findings.mistake(at, when.replace("before", "when") if window.end == window.start else when)
            return None
        return window

    def _tet_midnight(self, year: int, loc: Loc) -> datetime | None:
        try:
            return datetime.combine(tet_day(year), datetime.min.time())
        except CalendarError as exc:
            self._findings.mistake((*loc, "tet"), str(exc))
            return None

    def _moment(self, text: str, loc: Loc, zone: ZoneInfo, *, end: bool = False) -> datetime | None:
        try:
            local = naive_moment(text, end=end)
            to_utc(local, zone)
        except CalendarError as exc:
            self._findings.mistake(loc, str(exc))
            return None
        return local

    def _peak(self, event: EventDraft, id_: str, peak: PeakSettings, zone: ZoneInfo) -> PeakDraft | None:
        loc: Loc = (*event.loc, "peaks", id_)
        if peak.at != GIAO_THUA:
            at = self._moment(peak.at, (*loc, "at"), zone)
        elif event.settings.tet is None:
            self._findings.mistake((*loc, "at"), "giao-thua is known only in an event with tet (a year)")
            return None
        else:
            at = self._tet_midnight(event.settings.tet, event.loc)
        if at is None:
            return None
        span = event.window
        if not span.start <= to_utc(at, zone) <= span.end:
            words = f"from {show_local(span.start, zone)} to {show_local(span.end, zone)}"
            self._findings.mistake((*loc, "at"), f"the peak lies outside its event, which lasts {words}")
            return None
        return PeakDraft(loc, id_, event.id, peak, around(at, peak.before, peak.after, zone))


def common_keys(model: type[CheckSettings], own: tuple[str, ...]) -> frozenset[str]:
    """Return which keys of a check are the house's.

    A probe may have a `name` of its own (the name that dns asks for); then `label` is the name for people. Without
    that, `label` is no key at all: one thing has one name.
    """
    spare = set() if "name" in own else {"label"}
    return frozenset(keys_of(model)) - set(own) - spare


def show_local(moment: datetime, zone: ZoneInfo) -> str:
    """Write a moment as local time, for messages."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"
