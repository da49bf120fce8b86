"""Grouping, scored: the duty book over recorded up and down events, and over simulated pairs of unrelated failures.

The same code as the daemon's decides; only the scene is played from a file. A group of the recording is what was found
down with at most 15 minutes between one and the next, for its monitor looked every few minutes only.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from config.plan import Language, MailPlan, Plan, ServiceKind, ServicePlan, SitePlan
from monitor.duty import DutyBook, OwnFault
from monitor.groups import is_group
from monitor.journal import Batch
from monitor.judge.cause import WINDOW_S, Failure, Thing, Use
from monitor.model import Cause, CauseKind, Evidence, Incident, State

FOLDER: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "upptime_events"
APART_S: Final = 900.0  # of the recording's groups
LEAST: Final = 3
PAIRS: Final = 5_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """A service that was found up or down."""

    at: float
    service: str
    down: bool


@dataclass
class Stage:
    """What is so, as the recording says: nothing is in doubt, and no fault is ours."""

    looked_every_s: float
    states: dict[str, State] = field(default_factory=dict)
    sinces: dict[str, datetime] = field(default_factory=dict)
    shared: Mapping[str, frozenset[Thing]] = field(default_factory=dict)

    def state(self, service: str) -> State:
        """Return a service's state."""
        return self.states.get(service, State.UP)

    def since(self, service: str) -> datetime:
        """Return since when."""
        return self.sinces[service]

    def begin_seen(self, service: str) -> bool:
        """Whether it was seen to begin."""
        return service in self.states

    def reason(self, service: str) -> str:
        """Say why it is not up."""
        return self.state(service).value

    def suspect(self, _service: str) -> bool:
        """Nothing is in doubt."""
        return False

    def flapping(self, _service: str) -> bool:
        """Nothing flaps."""
        return False

    def evidence(self, _service: str) -> Sequence[Evidence]:
        """Nothing is quoted."""
        return ()

    def references(self) -> tuple[Sequence[Evidence], int, int]:
        """There are none."""
        return (), 0, 0

    def own_faults(self) -> Mapping[str, OwnFault]:
        """None is ours."""
        return {}

    def own_fault_ended(self, _subject: str) -> datetime | None:
        """None ends."""
        return None

    def failure(self, service: str) -> Failure:
        """Return how a service fails."""
        return Failure(service, self.since(service), self.looked_every_s, self.shares(service))

    def shares(self, service: str) -> frozenset[Thing]:
        """Return what it shares with others."""
        return self.shared.get(service, frozenset())

    def uses(self, _since: datetime) -> Mapping[Thing, Use]:
        """Return who uses what."""
        things = {t for by in self.shared.values() for t in by}
        return {t: Use(frozenset(s for s, by in self.shared.items() if t in by)) for t in things}

    def at_work(self, _service: str, _now: datetime) -> bool:
        """No work is announced."""
        return False

    def counts_from(self, _service: str, moment: datetime) -> datetime:
        """All of it counts."""
        return moment

    def one_path(self, _service: str) -> Cause | None:
        """There is one path only."""
        return None


def site(services: Sequence[str]) -> Plan:
    """Make the plan of a site that watches these services and tells one person."""
    return Plan(
        site=SitePlan("bench", "Bench", ZoneInfo("Asia/Ho_Chi_Minh"), Language.VI),
        services=tuple(ServicePlan(s, s, ServiceKind.SERVICE, (), 1, ()) for s in services),
        references=(),
        events=(),
        mail=MailPlan("bench@example.vn", ("bench@example.vn",), ()),
        state_dir=Path("/nonexistent"),
        raw_keep_s=0.0,
        listen_host="127.0.0.1",
        listen_port=0,
        digest="",
        text="",
    )


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


@dataclass
class Replay:
    """A duty book fed with what was recorded."""

    stage: Stage
    book: DutyBook
    rows: dict[int, Incident] = field(default_factory=dict)
    letters: int = 0

    def take(self, event: Event) -> None:
        """Let one event happen, and the daemon look at it at once."""
        now, state = _moment(event.at), State.DOWN if event.down else State.UP
        if self.stage.state(event.service) is not state:
            self.stage.states[event.service], self.stage.sinces[event.service] = state, now
            self.look(now)

    def look(self, now: datetime) -> None:
        """Review what is so, as the daemon does."""
        batch = Batch()
        self.book.review(self.stage, now, batch)
        self.rows |= batch.incidents
        self.letters += len(batch.duties)

    def is_down(self, service: str) -> bool:
        """Whether a service is down as far as was fed."""
        return self.stage.state(service) is State.DOWN

    def told_with(self, service: str, since: float) -> int:
        """Return the number of the incident that a failure of a service, the first since a moment, was told with."""
        own = next(i for i in self.rows.values() if i.subject == service and i.began_at >= _moment(since))
        return own.parent or own.id


def replay(
    services: Sequence[str],
    looked_every_s: float,
    shared: Mapping[str, frozenset[Thing]] | None = None,
    recent: Sequence[Incident] = (),
) -> Replay:
    """Return a duty book of a site, ready to be fed. Args: recent: the incidents it has seen."""
    return Replay(Stage(looked_every_s, shared=shared or {}), DutyBook(site(services), {}, 1, recent))


def read(file: Path) -> list[Event]:
    """Read `epoch,service,state,…` lines."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [Event(float(r["epoch"]), r["service"], r["state"] == "down") for r in csv.DictReader(lines)]
    return sorted(rows, key=lambda e: e.at)


def groups_of(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Give the downs of a recording in groups: less than 15 minutes from one to the next."""
    downs = [e for e in events if e.down]
    cuts = [0, *(n for n, (a, b) in enumerate(pairwise(downs), 1) if b.at - a.at > APART_S), len(downs)]
    for start, end in pairwise(cuts):
        yield downs[start:end]


def score_events(events: Sequence[Event], looked_every_s: float) -> dict[str, int]:
    """Count a recording's groups, and those that became one incident.

    The recording names a service again now and then while it stays down. So each group is judged twice: by itself,
    every service of it taken as failing then (`events`), and within the whole recording played through, where only
    services that were up before fail (`new_events`). What is learnt of each service's own failures is the whole's.
    """
    services = list(dict.fromkeys(e.service for e in events))
    whole = replay(services, looked_every_s)
    found = list(groups_of(events))
    firsts = {id(group[0]): group for group in found}
    sums = dict.fromkeys(("events", "events_found", "new_events", "new_events_found", "pairs", "pairs_joined"), 0)
    sums["groups"] = len(found)
    open_groups: list[tuple[list[Event], set[str]]] = []
    for event in events:
        group = firsts.get(id(event), ())
        if group:
            hit = {e.service for e in group}
            one = alone(group, services, looked_every_s, whole)
            kind = ("events", "events_found") if len(hit) >= LEAST else ("pairs", "pairs_joined")
            sums[kind[0]] += len(hit) > 1
            sums[kind[1]] += len(hit) > 1 and one
            open_groups.append((list(group), {s for s in hit if not whole.is_down(s)}))
        whole.take(event)
    for group, new in open_groups:
        if len(new) >= LEAST:
            sums["new_events"] += 1
            sums["new_events_found"] += len({whole.told_with(s, group[0].at) for s in new}) == 1
    sums["incidents"] = sum(i.parent is None for i in whole.rows.values())
    sums["letters"] = whole.letters
    return sums


def alone(group: Sequence[Event], services: Sequence[str], looked_every_s: float, past: Replay) -> bool:
    """Whether a group's failures, and nothing beside them, become one incident."""
    ended = [i for i in past.rows.values() if i.ended_at is not None]
    played = replay(services, looked_every_s, recent=ended)
    for event in group:
        played.take(event)
    return sum(i.parent is None for i in played.rows.values()) == 1


def joined_pairs(count: int, seed: int, *, within_s: float, sharing: bool) -> float:
    """Return the share of simulated pairs of unrelated single failures that were made one incident.

    Args:
        count: pairs.
        seed: of the dice.
        within_s: the second fails at a moment drawn evenly from this long after the first.
        sharing: whether services stand on hosts, two of them on one now and then, and are reached by carriers.
    """
    dice = random.Random(seed)
    joined = 0
    for _ in range(count):
        services = [f"s{n}" for n in range(dice.randint(4, 60))]
        hosts = dice.choices(range(2 * len(services)), k=len(services))
        carriers = dice.choices(range(dice.randint(2, 4)), k=len(services))
        shared = {
            s: frozenset({Thing(CauseKind.HOST, f"h{h}"), Thing(CauseKind.CARRIER, f"c{c}")} if sharing else ())
            for s, h, c in zip(services, hosts, carriers, strict=True)
        }
        played = replay(services, 30.0, shared)
        one, other = dice.sample(services, 2)
        played.take(Event(1e9, one, down=True))
        played.take(Event(1e9 + dice.uniform(0, within_s), other, down=True))
        joined += any(is_group(i.subject) for i in played.rows.values())
    return joined / count


def rows(folder: Path = FOLDER, pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Return the rows of the score; the recordings' only where their folder is found."""
    found: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.csv")):
        events = read(file)
        for looked in (APART_S - WINDOW_S, 300.0):
            sums = score_events(events, looked)
            name = f"grouping {file.stem}, failing together within {looked + WINDOW_S:.0f} s"
            found.append({"series": name, **sums})
    for sharing, within_s in ((False, WINDOW_S), (True, 3600.0)):
        what = "on shared hosts and carriers, " if sharing else "that share nothing, "
        share = joined_pairs(pairs, 20270206, within_s=within_s, sharing=sharing)
        name = f"{pairs} pairs of unrelated failures {what}within {within_s:.0f} s"
        found.append({"series": name, "events": pairs, "spurious": round(share * pairs), "joined_share": share})
    return found


def main(argv: Sequence[str]) -> None:
    """Print the rows. Args: argv: the folder of the recordings, if it is elsewhere."""
    for row in rows(Path(argv[0]) if argv else FOLDER):
        print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
