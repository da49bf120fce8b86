"""What holds of duties over any history: nobody is forgotten, nobody is told twice."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.duty import OwnFault
from monitor.model import JUDGED, OWN_FAULT, EventKind
from tests.monitor.builders import at
from tests.monitor.stage import CONGESTED, DEGRADED, DOWN, ORPHAN_S, UP, Play


def _step(play: Play, chance: random.Random) -> None:
    names = [s.id for s in play.plan.services]
    for name in names:
        if chance.random() < 0.4:
            play.become(name, chance.choice(JUDGED))
        for marks, share in ((play.stage.suspects, 0.2), (play.stage.flaps, 0.1)):
            marks.discard(name)
            if chance.random() < share:
                marks.add(name)
    for subject in (OWN_FAULT, f"{OWN_FAULT}:vnpt"):
        if chance.random() < 0.15 and subject not in play.stage.faults:
            play.stage.faults[subject] = OwnFault(subject, "far", at(play.now))
            play.stage.ended.pop(subject, None)
        elif chance.random() < 0.3 and subject in play.stage.faults:
            del play.stage.faults[subject]
            play.stage.ended[subject] = at(play.now)
    if chance.random() < 0.1:
        play.restart()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_was_told_has_exactly_one_end_when_all_is_well_again(seed: int) -> None:
    chance = random.Random(seed)
    play = Play()
    for _ in range(60):
        _step(play, chance)
        play.review(play.now + chance.choice([0.1, 1.0, 10.0, 70.0]))
        subjects = [i.subject for i in play.rows.values() if i.ended_at is None]
        assert len(subjects) == len(set(subjects))
    play.stage.suspects.clear()
    play.stage.flaps.clear()
    for subject in list(play.stage.faults):
        del play.stage.faults[subject]
        play.stage.ended[subject] = at(play.now)
    for known in play.plan.services:
        play.become(known.id, UP)
    play.review(play.now + 1)

    assert play.open() == set()
    assert play.review(play.now + 1000) == []
    kinds: dict[int, list[EventKind]] = {}
    for duty in play.duties:
        kinds.setdefault(duty.notice.incident, []).append(duty.notice.kind)
    for number, said in kinds.items():
        row = play.rows[number]
        assert row.told
        joined = row.parent is not None and play.rows[row.parent].told  # its end was told with the others'
        took_over = row.cause is not None and row.cause.thread  # goes on in the thread of what was told first
        assert (said[0] is EventKind.OPENED) is not bool(took_over)
        assert (said[-1] is EventKind.RECOVERED) is not joined
        count = Counter(said)
        assert count[EventKind.OPENED] == (not took_over), said
        assert count[EventKind.RECOVERED] == (not joined), said
        assert count[EventKind.PARTLY] <= 1
    assert set(kinds) == {i.id for i in play.rows.values() if i.told}
    assert len({d.message_id for d in play.duties}) == len(play.duties)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_trouble_that_stays_is_told_or_stands_under_a_cause_that_was(seed: int) -> None:
    chance = random.Random(seed)
    play = Play()
    for _ in range(30):
        _step(play, chance)
        play.review(play.now + chance.choice([0.1, 1.0, 10.0, 70.0]))
    play.stage.suspects.clear()
    for _ in range(3):
        play.review(play.now + ORPHAN_S)

    for subject, incident in play.book.open_incidents().items():
        if not subject.startswith(OWN_FAULT) and play.stage.state(subject) not in (DOWN, DEGRADED, CONGESTED):
            continue
        root = incident
        while root.parent is not None and not root.told:
            root = play.rows[root.parent]
        assert root.told
        assert root.ended_at is None
