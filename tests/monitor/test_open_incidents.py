"""The open incidents are found by subject and by group, and thousands of them cost no search."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model import Incident
from monitor.open_incidents import Needs, OpenIncidents
from tests.monitor.builders import MAIL, at, plan, service
from tests.monitor.stage import DOWN, Play


def _incident(number: int, subject: str, parent: int | None = None) -> Incident:
    return Incident(number, "lang-son", subject, DOWN, at(0), at(0), parent=parent)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_members_and_groups_are_those_that_a_search_would_find(seed: int) -> None:
    chance = random.Random(seed)
    found = OpenIncidents()
    subjects = ["a", "b", "c", "group:host:1", "group:path:2"]
    for number in range(60):
        known = found.get(subject := chance.choice(subjects))
        parent = chance.choice([None, *(i.id for i in found.values())])
        if known is None:
            found.keep(_incident(number, subject, parent))
        elif chance.random() < 0.5:
            found.keep(replace(known, parent=parent))
        else:
            found.drop(known)

        groups = {i.id: i for i in found.values() if i.subject.startswith("group:")}
        assert {i.id: i for i in found.groups()} == groups
        for one in found.values():
            assert found.members(one) == {s: i for s, i in found.items() if i.parent == one.id}
            assert found.group(one) == groups.get(-1 if one.parent is None else one.parent)


def test_members_come_in_the_order_in_which_they_opened_also_after_a_restart() -> None:
    found = OpenIncidents([_incident(3, "c", 1), _incident(2, "b", 1), _incident(1, "group:host:h")])
    found.keep(_incident(2, "b", 1))

    assert list(found) == ["group:host:h", "b", "c"]
    assert list(found.members(found["group:host:h"])) == ["b", "c"]


def test_needs_are_followed_through_others_and_in_circles() -> None:
    known = [service("a", "x", needs=["b", "c"]), service("b", "x", needs=["d"]), service("c", "x"), service("d", "x")]
    needs = Needs(plan(*known).by_id())
    assert needs.of("a") == ["b", "c", "d"]
    assert (needs.dependants("d"), needs.of("d"), needs.of("gone")) == (["a", "b"], [], ())
    circle = Needs(plan(service("a", "x", needs=["b"]), service("b", "x", needs=["a"])).by_id())
    assert circle.of("a") == ["b", "a"]


def test_a_review_with_two_thousand_services_down_holds_nobody_up() -> None:
    play = Play(plan(*(service(f"s{n}", "web") for n in range(2000)), mail=MAIL))
    for known in play.plan.services:
        play.become(known.id, DOWN, 0.0)
    assert len(play.review(1.0)) == 1
    began = time.process_time()
    for second in range(4):
        assert play.review(60.0 + second) == []
    assert time.process_time() - began < 1.0  # a search for each takes more than five
