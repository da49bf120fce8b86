"""Scattered failures: found when they are many, never when they are few or an outage, and over when they are over."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from config.plan import OutagePolicy
from monitor.judge.burn import Burn, sentence
from monitor.judge.outage import flap_share
from monitor.model import State
from probes.base import Fault
from tests.monitor.builders import MAIL, bad, check, good, plan, service
from tests.monitor.room import living

HOUR = 3600
OBJECTIVE = 0.995
WEB = "portal.web"


def rounds(burn: Burn, start: int, end: int, *, every: int = 60, fail_each: int = 0) -> list[tuple[int, bool]]:
    """Feed a stretch; return when it began and ended to burn."""
    turned = []
    for number, moment in enumerate(range(start, end, every), 1):
        if fail_each and number % fail_each == 0:
            burn.bad(moment)
        elif burn.good(moment, OBJECTIVE):
            turned.append((moment, burn.burning is not None))
    return turned


def test_one_round_in_ten_that_fails_is_found_within_the_hour_and_is_over_some_time_after_the_last() -> None:
    burn = Burn()
    assert rounds(burn, 0, 6 * HOUR) == []
    ((found, begun),) = rounds(burn, 6 * HOUR, 8 * HOUR, fail_each=10)
    assert begun
    assert found - 6 * HOUR <= HOUR
    assert burn.burning is not None
    assert burn.burning.since == pytest.approx(6 * HOUR, abs=900)
    assert burn.burning.share == pytest.approx(0.1, abs=0.02)
    assert re.match(r"scattered failures: \d+\.\d % of \d+ rounds failed in 1 h \(", sentence(burn.burning))
    ((over, burning),) = rounds(burn, 8 * HOUR, 12 * HOUR)
    assert not burning
    assert 900 <= over - 8 * HOUR <= HOUR


def test_a_slow_burn_of_one_in_thirty_is_found_within_six_hours() -> None:
    burn = Burn()
    turned = rounds(burn, 0, 12 * HOUR, fail_each=29)
    assert turned
    assert turned[0][1]
    assert burn.burning is not None
    assert burn.burning.window_s == 6 * HOUR


def test_three_failures_in_an_hour_are_not_scattered_failures() -> None:
    burn = Burn()
    rounds(burn, 0, HOUR)
    assert rounds(burn, HOUR, 2 * HOUR, fail_each=20) == []


def test_at_a_tenth_of_the_budget_months_are_silent() -> None:
    chance = random.Random(7)
    burn = Burn()
    for moment in range(0, 90 * 24 * HOUR, 60):
        if chance.random() < 0.002:
            burn.bad(moment)
        else:
            assert not burn.good(moment, OBJECTIVE)


def test_failures_that_turn_out_to_be_an_outage_count_for_nothing() -> None:
    burn = Burn()
    rounds(burn, 0, HOUR)
    for moment in range(HOUR, HOUR + 1800, 60):
        burn.bad(moment)
    burn.outage()
    assert rounds(burn, HOUR + 1800, 3 * HOUR) == []
    assert burn.idle


def test_a_check_that_is_asked_twice_an_hour_says_nothing_of_shares() -> None:
    burn = Burn()
    assert rounds(burn, 0, 24 * HOUR, every=1800, fail_each=2) == []


def test_what_is_remembered_survives_as_json_and_goes_on_as_if_nothing_had_been() -> None:
    one, kept = Burn(), Burn()
    rounds(one, 0, HOUR + 1800, fail_each=10)
    rounds(kept, 0, HOUR, fail_each=10)
    again = Burn(json.loads(json.dumps(kept.state())))
    rounds(again, HOUR, HOUR + 1800, fail_each=10)
    assert again.state() == one.state()
    assert again.burning == one.burning


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    burn = Burn()
    rounds(burn, 10 * HOUR, 11 * HOUR, fail_each=10)
    before = burn.burning
    burn.good(9 * HOUR, OBJECTIVE)
    assert burn.burning == before or burn.burning is not None


def test_flapping_weighs_changes_as_nagios_does() -> None:
    """base/flapping.c: change x of 1 to 20 weighs (x - 1) * 0.5 / 19 + 0.75; the sum is divided by 20."""
    for history in ("ud" * 10 + "u", "u" * 20 + "d", "d" + "u" * 20, "uuddu" * 4 + "u"):
        curved = 0.0
        for x in range(1, 21):
            if history[x] != history[x - 1]:
                curved += (x - 1) * (1.25 - 0.75) / (21 - 2) + 0.75
        assert flap_share(history) == pytest.approx(curved / 20)


@pytest.mark.timeout(60)
async def test_a_check_that_fails_scattered_is_degraded_told_once_and_survives_a_restart(tmp_path: Path) -> None:
    site = plan(service("portal", check(WEB, every_s=60.0, policy=OutagePolicy(bad_rounds=3))), mail=MAIL)
    async with living(site, tmp_path) as room:
        for number in range(120):
            moment = number * 60.0
            failed = number > 60 and number % 8 == 0
            await room.feed(bad(WEB, moment, Fault.CONTENT) if failed else good(WEB, moment))
        during = room.state(WEB), room.state("portal"), room.check(WEB).detail
        since = room.since(WEB)
        told = await room.told()
    async with living(site, tmp_path, now=7210) as room:
        await room.feed(good(WEB, 7215))
        after = room.state(WEB)
        for number in range(121, 240):
            await room.feed(good(WEB, number * 60.0))
        end = room.state(WEB)
        all_told = await room.told()

    assert during[:2] == (State.DEGRADED, State.DEGRADED)
    assert "scattered failures" in during[2]
    assert since == pytest.approx(3800, abs=400)
    assert told == [("opened", "portal")]
    assert after is State.DEGRADED
    assert end is State.UP
    assert [kind for kind, _ in all_told] == ["opened", "recovered"]


async def test_an_outage_is_told_as_an_outage_alone(tmp_path: Path) -> None:
    site = plan(service("portal", check(WEB, every_s=60.0, policy=OutagePolicy(bad_rounds=3))), mail=MAIL)
    async with living(site, tmp_path) as room:
        for number in range(60):
            moment = number * 60.0
            await room.feed(bad(WEB, moment) if 30 <= number < 45 else good(WEB, moment))
        changes = [c.state for c in await room.changes(WEB)]

    assert changes == [State.UP, State.DOWN, State.UP]
