"""What services share, and one incident of it through the pipeline and the journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.plan import ServiceKind, ServicePlan, Target
from monitor.judge.cause import Thing
from monitor.model import CauseKind, Certainty, Result
from monitor.sharing import RELATED_MOST, Sharing, carriers_of_paths
from monitor.track import Track
from probes.base import Fault, ProbeSettings
from probes.base import Path as Uplink
from tests.monitor.builders import MAIL, at, bad, check, good, plan, service
from tests.monitor.room import Room, living

VNPT, VIETTEL = Uplink("vnpt", "VNPT"), Uplink("viettel", "Viettel")


class Where(ProbeSettings):
    """A host and a port."""

    host: str
    port: int = 443


def on(name: str, host: str, port: int = 443, path: Uplink | None = None) -> Target:
    return replace(check(name, path=path), settings=Where(host=host, port=port))


def sharing(*services: ServicePlan, last: dict[str, Result] | None = None) -> Sharing:
    whole = plan(*services)
    tracks = {t.id: Track(t) for t in whole.targets()}
    for name, result in (last or {}).items():
        tracks[name].last = result
    return Sharing(whole, tracks)


def kinds(things: frozenset[Thing]) -> set[tuple[str, str]]:
    return {(t.kind.value, t.id) for t in things}


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (on("a.x", "10.1.2.3"), on("b.x", "10.1.2.3", 25), {("host", "10.1.2.3")}),
        (on("a.x", "WEB.Example.vn."), on("b.x", "web.example.vn"), {("host", "web.example.vn")}),
        (on("a.x", "127.0.0.1", 80), on("b.x", "127.0.0.1", 25), set()),  # everything may live on loopback
        (on("a.x", "127.0.0.1", 80), on("b.x", "127.0.0.1", 80), {("host", "127.0.0.1:80")}),
        (on("a.x", "10.0.0.1", path=VNPT), on("b.x", "10.0.0.2", path=VNPT), {("path", "vnpt")}),
        (on("a.x", "10.0.0.1", path=VNPT), on("b.x", "10.0.0.2", path=VIETTEL), set()),
        (on("a.x", "10.0.0.1"), on("b.x", "10.0.0.2"), set()),
    ],
)
def test_hosts_and_paths_are_shared_by_what_the_checks_say(
    one: Target, other: Target, shared: set[tuple[str, str]]
) -> None:
    assert kinds(sharing(service("a", one), service("b", other)).shares("a")) == shared


def test_names_that_are_not_found_share_the_resolver_and_their_domain() -> None:
    services = (
        service("a", on("a.x", "mail.langson.gov.vn")),
        service("b", on("b.x", "www.langson.gov.vn")),
        service("c", on("c.x", "www.example.com")),
    )
    unnamed = {n: bad(n, 10, Fault.NAME, detail="no such name") for n in ("a.x", "b.x")}
    found = sharing(*services, last={**unnamed, "c.x": good("c.x", 12)})
    assert kinds(found.shares("a")) == {("resolver", ""), ("resolver", "langson.gov.vn")}
    assert kinds(found.shares("c")) == set()
    uses = found.uses(at(11))
    assert uses[Thing(CauseKind.RESOLVER, "")].good == 1
    assert uses[Thing(CauseKind.RESOLVER, "langson.gov.vn")].good == 0
    assert found.uses(at(13))[Thing(CauseKind.RESOLVER, "")].good == 0  # asked before


def carrier(name: str, *targets: Target) -> ServicePlan:
    return service(name, *targets, kind=ServiceKind.CARRIER)


def test_a_path_belongs_to_the_only_carrier_whose_checks_all_leave_by_it_or_to_the_one_that_is_named() -> None:
    vnpt = carrier("carrier-vnpt", on("carrier-vnpt.ping", "10.0.0.1", path=VNPT))
    mixed = carrier("mixed", on("mixed.a", "10.0.0.2", path=VNPT), on("mixed.b", "10.0.0.3", path=VIETTEL))
    whole = plan(vnpt, mixed)
    assert carriers_of_paths(whole) == {"vnpt": "carrier-vnpt"}
    second = carrier("second", on("second.ping", "10.0.0.4", path=VNPT))
    assert carriers_of_paths(plan(vnpt, second)) == {}
    assert carriers_of_paths(replace(whole, path_carriers={"viettel": "mixed"}))["viettel"] == "mixed"


def test_a_service_reached_through_a_carrier_shares_it() -> None:
    vnpt = carrier("carrier-vnpt", on("carrier-vnpt.ping", "10.0.0.1", path=VNPT))
    by_path = service("a", on("a.x", "10.0.0.5", path=VNPT))
    declared = replace(service("b", on("b.x", "10.0.0.6")), carrier="carrier-vnpt")
    found = sharing(vnpt, by_path, declared)
    assert ("carrier", "carrier-vnpt") in kinds(found.shares("a"))
    assert kinds(found.shares("b")) == {("carrier", "carrier-vnpt")}


def test_only_a_few_of_what_shares_are_asked_beside_a_first_bad_answer() -> None:
    services = [service(f"s{n}", on(f"s{n}.x", "10.1.2.3"), on(f"s{n}.y", "10.1.2.3")) for n in range(20)]
    found = sharing(*services)
    related = found.related(Track(services[0].targets[0]))
    assert len(related) == RELATED_MOST
    assert len({t.target.service for t in related} - {"s0"}) == RELATED_MOST


# Through the pipeline and the journal.

HOSTS = plan(
    service("mail", on("mail.smtp", "10.1.2.3", 25), name="Thư điện tử"),
    service("portal", on("portal.web", "10.1.2.3"), name="Cổng thông tin"),
    service("office", on("office.web", "10.1.2.3", 8443), name="Văn phòng điện tử"),
    service("other", on("other.web", "10.9.9.9"), name="Dịch vụ khác"),
    mail=MAIL,
)
HIT = ("mail.smtp", "portal.web", "office.web")


async def all_good(room: Room, seconds: float) -> None:
    await room.feed(*(good(t.id, seconds) for t in room.plan.targets()))


async def fail(room: Room, start: float) -> None:
    for attempt in range(3):
        await room.feed(*(bad(n, start + 5 * attempt + i, attempt=attempt) for i, n in enumerate(HIT)))


async def test_a_first_bad_answer_has_what_shares_its_host_asked(tmp_path: Path) -> None:
    async with living(HOSTS, tmp_path) as room:
        await all_good(room, 0)
        await room.feed(bad("mail.smtp", 30))
        assert room.asked_for("portal.web") == [0.0]
        assert room.asked_for("other.web") == []


async def test_a_host_that_fails_is_one_letter_and_a_restart_goes_on_with_it(tmp_path: Path) -> None:
    async with living(HOSTS, tmp_path) as room:
        await all_good(room, 0)
        await fail(room, 30)
        assert await room.told() == [("opened", "group:host:10.1.2.3")]
        group = room.open_incidents()["group:host:10.1.2.3"]
        assert group.cause is not None
        assert (group.cause.certainty, group.cause.elsewhere) == (Certainty.CERTAIN, 1)
        assert set(group.cause.members) == {"mail", "portal", "office"}
        assert room.open_incidents()["mail"].parent == group.id
    async with living(HOSTS, tmp_path, 60) as room:
        assert room.open_incidents()["group:host:10.1.2.3"].cause == group.cause
        await room.feed(*(bad(n, 65) for n in HIT))
        await room.feed(good("other.web", 66))
        assert len(await room.told()) == 1
        for second in (90, 120):
            await all_good(room, second)
        assert await room.told() == [("opened", "group:host:10.1.2.3"), ("recovered", "group:host:10.1.2.3")]
        rows = {i.subject: i for i in await room.incidents()}
        assert rows["group:host:10.1.2.3"].ended_at == max(
            i.ended_at for s, i in rows.items() if s in ("mail", "portal", "office") and i.ended_at
        )


async def test_one_clear_outage_is_told_with_its_last_round(tmp_path: Path) -> None:
    async with living(HOSTS, tmp_path) as room:
        await all_good(room, 0)
        for attempt in range(3):
            await room.feed(bad("mail.smtp", 30 + 5 * attempt, attempt=attempt))
            await room.feed(good("portal.web", 30.5 + 5 * attempt), good("office.web", 30.5 + 5 * attempt))
        assert await room.told() == [("opened", "mail")]
