"""Paths compared: the same target by several carriers has a verdict for each, and one for all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.loader import ConfigError, load_text
from config.plan import Plan, Rule, ServicePlan, Target
from monitor.judge.service import combine
from monitor.model import CauseKind, Certainty, State
from probes.base import Path as Uplink
from tests.monitor.builders import MAIL, bad, check, good, plan, service
from tests.monitor.room import Room, living

UP, DOWN, UNKNOWN, DEGRADED = State.UP, State.DOWN, State.UNKNOWN, State.DEGRADED
UPLINKS = {name: Uplink(name, name.upper(), source="192.0.2.10") for name in ("vnpt", "viettel", "mobifone")}
SITE = "site: {id: lang-son, name: Lạng Sơn}\npaths:\n" + "".join(
    f"  {name}: {{source: 192.0.2.1{n}}}\n" for n, name in enumerate(UPLINKS)
)


def by_paths(service_id: str, needed: int = 2) -> ServicePlan:
    """A service with one check that is asked by three paths."""
    targets: list[Target] = [
        replace(check(f"{service_id}.web@{name}", path=uplink), one_of="web", needed=needed)
        for name, uplink in UPLINKS.items()
    ]
    return service(service_id, *targets, at_least=1, name=f"Dịch vụ {service_id}")


# The rule.


@pytest.mark.parametrize(
    ("states", "needed", "expected"),
    [
        ([UP, UP, UP], 2, UP),
        ([DOWN, UP, UP], 2, DEGRADED),
        ([DOWN, DOWN, UP], 2, DOWN),
        ([DOWN, DOWN, UP], 1, DEGRADED),
        ([DOWN, UP, UP], 3, DOWN),
        ([UNKNOWN, UP, UP], 2, UP),
        ([UNKNOWN, DOWN, UP], 2, UNKNOWN),
        ([UNKNOWN, UNKNOWN, UNKNOWN], 2, UNKNOWN),
        ([State.CONGESTED, UP, UP], 2, State.CONGESTED),
    ],
)
def test_a_check_by_three_paths_is_what_its_quorum_says(states: list[State], needed: int, expected: State) -> None:
    assert combine(states, Rule(1, (((0, 1, 2), needed),))) is expected


def test_what_is_asked_by_several_paths_counts_as_one_check_of_its_service() -> None:
    rule = Rule(2, (((0, 1), 1), ((2,), 1)))
    assert combine([DOWN, UP, UP], rule) is DEGRADED
    assert combine([DOWN, DOWN, UP], rule) is DOWN
    assert combine([UP, UP, DOWN], rule) is DOWN


def test_a_service_whose_checks_leave_by_one_path_each_keeps_its_plain_rule() -> None:
    assert service("mail", "smtp", "imaps", at_least=1).rule == 1


# The configuration.


def read(keys: str, more: str = "") -> Plan:
    text = f"{SITE}services:\n  portal:\n    checks:\n      web: {{probe: tcp, host: 192.0.2.80, port: 443, {keys}}}\n"
    return load_text(text + more)


@pytest.mark.parametrize(
    ("rule", "needed"), [("", 2), (", up_by: any", 1), (", up_by: all", 3), (", up_by: {at_least: 1}", 1)]
)
def test_a_check_with_paths_becomes_one_for_each_and_keeps_its_rule(rule: str, needed: int) -> None:
    portal = read(f"paths: [vnpt, viettel, mobifone]{rule}").service("portal")
    assert [t.id for t in portal.targets] == ["portal.web@vnpt", "portal.web@viettel", "portal.web@mobifone"]
    assert [t.path_id for t in portal.targets] == ["vnpt", "viettel", "mobifone"]
    assert portal.targets[0].name == "web qua vnpt"
    assert (portal.at_least, portal.rule) == (1, Rule(1, (((0, 1, 2), needed),)))


def test_half_of_the_paths_is_a_majority() -> None:
    assert read("paths: [vnpt, viettel]").service("portal").targets[0].needed == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("path: vnpt, paths: [viettel]", "paths: give path or paths, not both"),
        ("paths: [vnpt, vnpt]", "paths[1]: the path vnpt stands here twice"),
        ("paths: [vnpt, vnpy]", "paths[1]: unknown path 'vnpy'; did you mean 'vnpt'?"),
        ("up_by: any", "up_by: up_by compares paths, and the check has no paths"),
        ("paths: [vnpt], up_by: {at_least: 2}", "up_by.at_least: at_least is 2, and the check has 1 paths"),
        ("paths: [vnpt], up_by: most", "up_by: expected majority, any, all or {at_least: n}; got 'most'"),
    ],
)
def test_paths_that_contradict_are_refused(keys: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(keys)
    assert message in str(refused.value)


def test_who_is_reached_through_whom_is_read_and_looked_at() -> None:
    carrier = "  carrier-vnpt:\n    kind: carrier\n    checks: {ping: {probe: tcp, host: 192.0.2.81, port: 53}}\n"
    whole = read("path: vnpt", carrier)
    assert (dict(whole.path_carriers), whole.service("portal").carrier) == ({}, "")
    text = SITE.replace("192.0.2.10}", "192.0.2.10, carrier: carrier-vnpt}")
    services = (
        f"services:\n  portal: {{carrier: portal, checks: {{web: {{probe: tcp, host: x.vn, port: 1}}}}}}\n{carrier}"
    )
    with pytest.raises(ConfigError, match="expected a service of kind carrier; portal is of kind service"):
        load_text(text + services)
    assert dict(load_text(text + services.replace("carrier: portal, ", "")).path_carriers) == {"vnpt": "carrier-vnpt"}


# The verdict and its cause.


async def down(room: Room, start: float, *names: str) -> None:
    """Let checks fail for three rounds, each a second after the other."""
    for step, attempt in ((0, 0), (5, 1), (10, 2)):
        await room.feed(*(bad(n, start + step + i * 0.1, attempt=attempt) for i, n in enumerate(names)))


async def all_good(room: Room, seconds: float, *but: str) -> None:
    checks = [t.id for t in room.plan.targets() if t.id not in but]
    await room.feed(*(good(c, seconds + i * 0.01) for i, c in enumerate(checks)))


async def test_down_by_one_carrier_of_three_is_not_down_and_the_path_is_named(tmp_path: Path) -> None:
    async with living(plan(by_paths("portal"), mail=MAIL), tmp_path) as room:
        await all_good(room, 0)
        await down(room, 30, "portal.web@vnpt")

        assert (room.state("portal.web@vnpt"), room.state("portal.web@viettel")) == (DOWN, UP)
        assert room.state("portal") is DEGRADED
        notice = (await room.outbox())[-1].notice
        assert (notice.service, notice.why_name) == ("portal", "VNPT")
        assert notice.why is not None
        assert (notice.why.kind, notice.why.paths, notice.why.certainty) == (CauseKind.PATH, 2, Certainty.CERTAIN)


async def test_several_targets_that_one_path_alone_misses_are_one_incident_of_that_path(tmp_path: Path) -> None:
    province = plan(*(by_paths(n) for n in ("portal", "mail", "office")), mail=MAIL)
    names = [f"{n}.web@vnpt" for n in ("portal", "mail", "office")]
    async with living(province, tmp_path) as room:
        await all_good(room, 0)
        await down(room, 30, *names)
        await all_good(room, 60, *names)

        assert await room.told() == [("opened", "group:path:vnpt")]
        notice = (await room.outbox())[-1].notice
        assert notice.why is not None
        assert (notice.why.paths, notice.why.certainty, len(notice.why.members)) == (2, Certainty.CERTAIN, 3)
    async with living(province, tmp_path, 100) as room:
        assert room.open_incidents()["group:path:vnpt"].cause == notice.why
        for second in (110, 140):
            await all_good(room, second)
        assert await room.told() == [("opened", "group:path:vnpt"), ("recovered", "group:path:vnpt")]
        assert room.open_incidents() == {}
        rows = {i.subject: i for i in await room.incidents()}
        assert {rows[n].parent for n in ("portal", "mail", "office")} == {rows["group:path:vnpt"].id}
