"""A small past, made by hand, from which reports are written in tests: two days around Giao thừa, one outage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from config.plan import (
    EventPlan,
    Peak,
    Plan,
    ReportPlan,
    ServiceKind,
    SignerPlan,
    Window,
)
from exporters.report.congestion import CongestionEpisode, CongestionFigures, DetectionLimit, PathCongestion
from exporters.report.figures import Figures, Line
from exporters.report.material import Material, Zoom
from monitor import availability
from monitor.history import Responses
from monitor.model import OWN_FAULT, Change, Gap, Incident, State
from monitor.series import Point
from probes.base import Path
from tests.monitor.builders import SITE, at, change, check, plan, reference, service, span

DAY = 86_400.0
PERIOD = span(-DAY, DAY)
PEAK = Peak("giao-thua", span(-3600, 3600), 5.0, ("carrier-vnpt",))
EVENT = EventPlan("tet-2027", "Tết Nguyên đán Đinh Mùi 2027", PERIOD, (PEAK,))
REPORTS = ReportPlan(
    parent_body="Ủy ban nhân dân tỉnh Lạng Sơn",
    body="Sở Thông tin và Truyền thông",
    symbol="BC-STTTT",
    place="Lạng Sơn",
    recipients=("UBND tỉnh (báo cáo)", "Lãnh đạo Sở"),
    archive="VT, VP",
    signer=SignerPlan("KT. Giám đốc", "Phó Giám đốc"),
)
VNPT = Path("vnpt", "VNPT cáp quang")
PING = "carrier-vnpt.ping"
STEP = timedelta(minutes=30)


def province(reports: ReportPlan = REPORTS) -> Plan:
    """A carrier, the mail and a network, with two references."""
    made = plan(
        service("mail", "smtp", "imaps", name="Thư điện tử công vụ", kind=ServiceKind.MAIL),
        service("carrier-vnpt", check(PING, kind="icmp", path=VNPT, every_s=10.0), name="Mạng VNPT",
                kind=ServiceKind.CARRIER),
        service("cap-ii", "uy-ban", name="Mạng truyền số liệu cấp II", kind=ServiceKind.NETWORK),
        references=[reference("gateway", near=True), reference("vnix")],
        events=[EVENT],
    )  # fmt: skip
    return replace(made, reports=reports)


def changes(name: str, *, down: tuple[float, float] | None) -> list[Change]:
    """Up from the start; with `down`, an outage between two moments, seen 30 s late at either edge."""
    found = [change(name, State.UP, -DAY, confirmed=-DAY, earliest=-DAY)]
    if down is not None:
        found.append(change(name, State.DOWN, down[0], confirmed=down[0] + 20, earliest=down[0] - 30, fault="timeout"))
        found.append(change(name, State.UP, down[1], confirmed=down[1] + 10, earliest=down[1] - 30))
    return found


def figures(
    *,
    down: tuple[float, float] | None = (-7200.0, -6000.0),
    blind_s: float = 1800.0,
    congestion: CongestionFigures | None = None,
    simulated: bool = False,
    of: Plan | None = None,
) -> Figures:
    """The figures of two days.

    Args:
        down: when mail's SMTP was down, in seconds after T0.
        blind_s: how long before the end the monitor was off.
        congestion: what the judge of congestion said.
        simulated: whether it was a drill.
        of: another configuration of the same services.
    """
    ours = of or province()
    off = at(DAY - blind_s)
    checks: dict[str, Line] = {}
    gaps: dict[str, Sequence[Gap]] = {}
    for target in ours.targets():
        mine = changes(target.id, down=down if target.id == "mail.smtp" else None)
        gaps[target.id] = [Gap(SITE, target.id, off, None, "off")] if blind_s else []
        segments = availability.timeline(mine, gaps[target.id], PERIOD, PERIOD.end)
        checks[target.id] = Line(segments, availability.outages(segments, mine, PERIOD))
    services = {}
    for s in ours.services:
        lines = [(checks[t.id].segments, checks[t.id].outages) for t in s.targets]
        segments = availability.service_timeline([x for x, _ in lines], s.at_least, PERIOD)
        services[s.id] = Line(segments, availability.service_outages(segments, lines, s.at_least, PERIOD))
    answers = Responses(5000, 3, 0, [0.020 + 0.000001 * i for i in range(5000)], 25_000, 75)
    incidents = [Incident(1, SITE, "mail", State.DOWN, at(-7200), at(-7180), at(-6000), told=True)] if down else []
    incidents.append(Incident(2, SITE, OWN_FAULT, State.UNKNOWN, at(40_000), at(40_010), at(40_100), detail="far"))
    return Figures(
        ours,
        EVENT.name,
        PERIOD,
        checks,
        services,
        {t.id: answers for t in ours.targets()},
        {},
        incidents,
        gaps,
        (PEAK,),
        PERIOD.end,
        simulated,
        congestion,
    )


def points(window: Window, step: timedelta = STEP) -> list[Point]:
    """A response that rises and falls."""
    count = int((window.end - window.start) / step)
    found = []
    for i in range(count):
        median = 0.020 + 0.005 * math.sin(i / 7)
        found.append(Point(window.start + i * step, 60, 0, 0, median * 0.9, median, median * 1.2, median * 2, 300, 1))
    return found


def material(made: Figures | None = None, *, compared: Figures | None = None) -> Material:
    """Everything the post-event report is written from."""
    found = made or figures()
    series = {PING: points(PERIOD), "mail.smtp": points(PERIOD), "cap-ii.uy-ban": points(PERIOD)[:40]}
    around = span(-3 * 3600, 3 * 3600)
    zoom = Zoom(PEAK.id, around, timedelta(minutes=5), {PING: points(around, timedelta(minutes=5))})
    names = {s.id: s.name for s in found.plan.services}
    return Material(found, STEP, series, (zoom,), EVENT, compared, names=names)


def judged(
    *episodes: CongestionEpisode, limit: bool = True, missing_s: float = 0.0, without: Sequence[str] = ()
) -> CongestionFigures:
    """What a judge would say: both networks watched, `missing_s` of the last day not judged."""
    usable = (span(-DAY, DAY - missing_s),)
    paths = {
        name: PathCongestion(
            name,
            576,
            usable,
            tuple(episodes) if name == PING else (),
            limit=DetectionLimit(8.4, 15.0, 24) if limit else None,
            floor_ms=8.0,
            threshold_ms=7.0,
        )
        for name in (PING, "cap-ii.uy-ban")
        if name not in without
    }
    return CongestionFigures(paths)


def episode(start: float, end: float, cause: str = "congestion") -> CongestionEpisode:
    """An episode between two moments in seconds after T0."""
    return CongestionEpisode(at(start), at(end), cause, 40.0, 8.0, 7.0, "moderate", 1000, 12)
