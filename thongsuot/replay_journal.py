"""`thongsuot replay journal`: what would have been told, had the monitor run with other settings?

Recorded results go once more through the daemon's own pipeline, at the moments at which they were there, into a journal
that is thrown away. Nothing is measured, nothing is sent, and the state directory is only read.

What a replay cannot know: an answer that was never asked for. A setting that asks for more rounds may want fast
rechecks that did not happen; they are counted, and the words that hang on them marked. Intervals, time-outs and peaks
are those of the configuration that ran. What a probe itself held against an answer (a status, a text, a share of loss)
stays as it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, Self

from config import loader
from config.loader import ConfigError
from config.plan import REFERENCES, MailPlan, OutagePolicy, Plan, ServiceKind, ServicePlan, Target, Window
from monitor import availability
from monitor.availability import Account
from monitor.history import History, Run, open_history
from monitor.judge.episode import Settings
from monitor.model import OWN_FAULT, SIMULATED, EventKind, Gap, Incident, Notice, Result, SlotCount, State
from monitor.own_watch import Kind, Lapse
from monitor.recorded import ended_at
from monitor.throw_away import throw_away
from monitor.words import Told
from probes.base import parse_duration
from thongsuot.made_up_time import Manner, live
from thongsuot.replay import ReplayError
from thongsuot.replay_differences import Pair, pair_up

CHUNK: Final = 2_000  # results read ahead
RELOAD_S: Final = 2.0  # a run that begins so soon after one that was not stopped is the same process with new settings
JUST_ASKED_S: Final = 1.0  # chosen: who was asked so shortly before has been asked
GRACE_S: Final = 2.0  # chosen: a recheck that started so long after it was due was not the one that was asked for
WARM_UP: Final = timedelta(days=1)  # read before the period, so that states and the floors of queues are known
_NOBODY: Final = MailPlan("replay@thongsuot.invalid", (), ())
_POLICY: Final = {"bad_rounds": "count", "good_rounds": "count", "recheck_after": "s", "slow_over": "s"}
_NOT_JUDGED: Final = frozenset({EventKind.TEST, EventKind.REPORT})  # words that follow from no result
_LAPSES: Final = frozenset(kind.value for kind in Kind)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line asks for beside the configuration."""

    policies: Sequence[tuple[str, str, Any]] = ()  # "" or a service or a check, a key of OutagePolicy, its value
    congestion: Settings | None = None
    warm_up: timedelta = WARM_UP

    def policy(self, target: Target) -> OutagePolicy:
        """Return what a check is judged by."""
        policy = target.policy
        for place, key, value in self.policies:
            if place in ("", target.service, target.id):
                policy = replace(policy, **{key: value})
        return policy


def parse_policies(pairs: Iterable[str], plan: Plan) -> list[tuple[str, str, Any]]:
    """Read `[SERVICE[.CHECK].]KEY=VALUE`: bad_rounds, good_rounds, recheck_after, slow_over.

    Raises:
        ReplayError: an unknown key or place, or a value that does not fit.
    """
    places = {"", REFERENCES} | {s.id for s in plan.services} | {t.id for t in plan.targets()}
    found = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        place, _, key = name.rpartition(".")
        if key not in _POLICY:
            raise ReplayError(f"{pair}: expected one of {', '.join(_POLICY)} before the =")
        if place not in places:
            raise ReplayError(f"{pair}: no service or check of the configuration is called {place}")
        try:
            number = int(value) if _POLICY[key] == "count" else parse_duration(value)
        except ValueError as exc:
            raise ReplayError(f"{pair}: {exc}") from exc
        if number <= 0:
            raise ReplayError(f"{pair}: expected more than nothing")
        found.append((place, {"recheck_after": "recheck_s", "slow_over": "slow_over_s"}.get(key, key), number))
    return found


@dataclass(slots=True)
class Side:
    """One of the two that are compared: the replay, or what happened."""

    words: Sequence[Told]
    incidents: Sequence[Incident]
    accounts: Mapping[str, Account]  # by service of the configuration given


@dataclass(slots=True)
class Outcome:
    """Everything that a replay found."""

    plan: Plan
    window: Window
    pairs: Sequence[Pair]
    now: Side
    then: Side
    results: int = 0
    runs: int = 0
    ran: Sequence[str] = ()  # digests of the configurations that ran
    unreadable: Sequence[str] = ()  # those of them that cannot be read any more
    unknown_checks: Mapping[str, int] = field(default_factory=dict)  # recorded, not in the configuration: results
    silent_checks: Sequence[str] = ()  # in the configuration, and without a result
    rechecks_missing: int = 0
    guessed: bool = False  # the outbox is not there: what was told is read from the incidents
    simulated: bool = False  # what was recorded had been made up


class _Past:
    """The history, on a thread of its own: the loop is never held up by the disk."""

    def __init__(self, state_dir: Path, site: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="past")
        self._stack = ExitStack()
        self._where = (state_dir, site)
        self._results: Iterator[Result] = iter(())

    async def __aenter__(self) -> Self:
        try:
            await self.do(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.do(self._stack.close)
        self._thread.shutdown(wait=False)

    def _open(self) -> None:
        self.history: History = self._stack.enter_context(open_history(*self._where))

    async def do(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def begin(self, period: Window) -> None:
        """Make ready to read the results of a period."""
        self._results = self.history.results(period)

    async def chunk(self) -> list[Result]:
        """Read the next results; none when there are none any more."""
        found: list[Result] = await self.do(lambda: list(islice(self._results, CHUNK)))
        return found


class RecordedFeed:
    """Results as they came, and the clock that goes with them; asks for nothing, but knows what was asked for."""

    def __init__(self, past: _Past, start: datetime) -> None:
        self.now = start
        self.results = 0
        self.unknown: dict[str, int] = {}
        self.seen: set[str] = set()
        self.missing: list[tuple[datetime, str]] = []  # when a recheck was due that never happened, of which check
        self.known: frozenset[str] = frozenset()  # checks of the configuration
        self._past = past
        self._ahead: deque[Result] = deque()
        self._asked: dict[str, datetime] = {}
        self._started: dict[str, datetime] = {}

    async def due(self) -> datetime | None:
        """Return when the next recorded result was there."""
        if not self._ahead:
            self._ahead.extend(await self._past.chunk())
        return max(ended_at(self._ahead[0]), self.now) if self._ahead else None

    def take(self) -> Result:
        """Return it, and move the clock there."""
        result = self._ahead.popleft()
        self.now = max(ended_at(result), self.now)
        self.results += 1
        if result.check not in self.known:
            self.unknown[result.check] = self.unknown.get(result.check, 0) + 1
            return result
        self.seen.add(result.check)
        self._started[result.check] = result.started_at
        due = self._asked.pop(result.check, None)
        if due is not None and result.started_at > due + timedelta(seconds=GRACE_S):
            self.missing.append((due, result.check))
        return result

    def request(self, check: str, delay_s: float) -> None:
        """Note that the replay wanted a check run once more."""
        due = self.now + timedelta(seconds=max(delay_s, 0.0))
        started = self._started.get(check)
        if started is not None and started >= due - timedelta(seconds=JUST_ASKED_S):
            return
        self._asked[check] = min(due, self._asked.get(check, due))

    def take_counts(self) -> Sequence[SlotCount]:
        """Return nothing: slots were planned by who ran then."""
        return ()


@dataclass(frozen=True, slots=True)
class _Lives:
    runs: Sequence[tuple[Run, bool]]  # with whether it goes on from the one before without a break
    plans: Mapping[str, Plan]  # by digest: the configuration given, at the pace of the one that ran
    unreadable: Sequence[str]


async def replay(given: Plan, overrides: Overrides, window: Window, config: Path) -> Outcome:
    """Live through a recorded period with the configuration given.

    Args:
        given: the configuration; its state directory is read.
        overrides: what is asked for beside it.
        window: what is compared; results of a while before it are gone through as well.
        config: where the configuration stands, for files that the recorded ones name.

    Raises:
        JournalError: there is no journal, or it cannot be read.
        ReplayError: nothing was recorded in the period.
    """
    given = _judged_by(given, overrides)
    whole = Window(window.start - overrides.warm_up, window.end)
    async with _Past(given.state_dir, given.site.id) as past, throw_away(given.site.id) as (journal, folder):
        history = past.history
        lives: _Lives = await past.do(lambda: _lives(history, whole, given, config))
        if not lives.runs:
            raise ReplayError("the monitor did not run in this period: there is nothing to replay")
        lapses = await past.do(lambda: _lapses(history, whole))
        feed = RecordedFeed(past, max(whole.start, lives.runs[0][0].started))
        feed.known = frozenset(t.id for t in given.targets())
        await past.begin(whole)
        for run, goes_on in lives.runs:
            feed.now = max(feed.now, run.started)
            manner = Manner(
                f"replay {SIMULATED}", reloaded=goes_on, lapses=_within(lapses, run), congestion=overrides.congestion
            )
            plan = replace(lives.plans[run.config_digest], state_dir=folder)
            await live(plan, journal, feed, min(_end(run), window.end), manner)
        words = [w for w in await journal.words() if window.start <= w.created_at < window.end and not w.unneeded]
        known_until = lives.runs[-1][0].alive
        now = await asyncio.to_thread(_side_now, folder, given, window, known_until, words)
        then, guessed = await past.do(lambda: _side_then(history, given, window, known_until))
    pairs = _marked(pair_up(now.words, then.words), feed.missing)
    return Outcome(
        given,
        window,
        pairs,
        now,
        then,
        results=feed.results,
        runs=len(lives.runs),
        ran=tuple(dict.fromkeys(run.config_digest for run, _ in lives.runs)),
        unreadable=lives.unreadable,
        unknown_checks=feed.unknown,
        silent_checks=sorted(feed.known - feed.seen),
        rechecks_missing=sum(at >= window.start for at, _ in feed.missing),
        guessed=guessed,
        simulated=any(SIMULATED in run.version for run, _ in lives.runs),
    )


def _judged_by(plan: Plan, overrides: Overrides) -> Plan:
    """Return the plan with the policies asked for, and with somebody to tell."""

    def targets(of: Sequence[Target]) -> tuple[Target, ...]:
        return tuple(replace(t, policy=overrides.policy(t)) for t in of)

    services = tuple(replace(s, targets=targets(s.targets)) for s in plan.services)
    return replace(plan, references=targets(plan.references), services=services, mail=plan.mail or _NOBODY)


# The lives of the daemon.


def _end(run: Run) -> datetime:
    return max(run.stopped or run.alive, run.alive) + timedelta(milliseconds=1)


def _lives(history: History, whole: Window, given: Plan, config: Path) -> _Lives:
    runs = [r for r in history.runs() if r.started < whole.end and _end(r) > whole.start]
    plans: dict[str, Plan] = {}
    unreadable = []
    for digest in dict.fromkeys(r.config_digest for r in runs):
        try:
            text = (given.state_dir / "config" / f"{digest}.yaml").read_text("utf-8")
            plans[digest] = _at_the_pace_of(loader.load_text(text, str(config)), given)
        except (OSError, UnicodeDecodeError, ConfigError):
            unreadable.append(digest)
            plans[digest] = given
    goes_on = [False] * len(runs)
    for number, (before, run) in enumerate(pairwise(runs), 1):
        goes_on[number] = before.stopped is None and run.started - before.alive < timedelta(seconds=RELOAD_S)
    return _Lives(list(zip(runs, goes_on, strict=True)), plans, unreadable)


_PACE: Final = ("every_s", "timeout_s", "rates", "peaks")


def _at_the_pace_of(ran: Plan, given: Plan) -> Plan:
    """Return the plan given with the intervals, peaks and time-outs of the one that ran: nothing else was measured."""
    before = {t.id: t for t in ran.targets()}
    names = [f.name for f in fields(Target) if f.name in _PACE]

    def paced(targets: Sequence[Target]) -> tuple[Target, ...]:
        return tuple(
            replace(t, **{name: getattr(before[t.id], name) for name in names}) if t.id in before else t
            for t in targets
        )

    services = tuple(replace(s, targets=paced(s.targets)) for s in given.services)
    return replace(given, references=paced(given.references), services=services)


def _lapses(history: History, whole: Window) -> list[Lapse]:
    """Return when the monitor itself stood still, slept or had its clock set: it was laid over every check."""
    found: dict[tuple[datetime, datetime, str], Gap] = {}
    for gaps in history.gaps(whole).values():
        for gap in gaps:
            if gap.cause in _LAPSES and gap.end is not None:
                found[gap.start, gap.end, gap.cause] = gap
    # A step is taken for a time of standing still: results carry the clock as it was, and need not follow it.
    kinds = {Kind.CLOCK_STEP.value: Kind.STALL}
    return [
        Lapse(kinds.get(cause, Kind(cause)), start, end, (end - start).total_seconds())
        for start, end, cause in sorted(found, key=lambda key: key[1])
    ]


def _within(lapses: Sequence[Lapse], run: Run) -> list[Lapse]:
    return [lapse for lapse in lapses if run.started <= lapse.end <= _end(run)]


# The two sides.


def _side_now(folder: Path, plan: Plan, window: Window, known_until: datetime, words: Sequence[Told]) -> Side:
    with open_history(folder, plan.site.id) as history:
        incidents = [i for i in history.incidents(window) if not i.withdrawn]
        return Side(words, incidents, accounts(plan, history, window, known_until))


def _side_then(history: History, plan: Plan, window: Window, known_until: datetime) -> tuple[Side, bool]:
    words = [w for w in history.words(window) if not w.unneeded and w.notice.kind not in _NOT_JUDGED]
    incidents = [i for i in history.incidents(window) if not i.withdrawn]
    guessed = not words and any(i.told for i in incidents)
    if guessed:
        words = sorted(_guess(incidents, plan, window), key=lambda w: w.created_at)
    return Side(words, incidents, accounts(plan, history, window, known_until)), guessed


def _guess(incidents: Sequence[Incident], plan: Plan, window: Window) -> Iterator[Told]:
    """Say what was told from the incidents alone: evidence without its journal has no outbox."""
    services = plan.by_id()
    for incident in incidents:
        service = services.get(incident.subject)
        for kind, at in ((EventKind.OPENED, incident.confirmed_at), (EventKind.RECOVERED, incident.ended_at)):
            if not incident.told or at is None or not window.start <= at < window.end:
                continue
            notice = Notice(
                incident.site,
                plan.site.name,
                incident.id,
                kind,
                OWN_FAULT if incident.subject.startswith(OWN_FAULT) else incident.subject,
                service.name if service else "",
                service.kind if service else ServiceKind.SERVICE,
                incident.state if kind is EventKind.OPENED else State.UP,
                incident.began_at,
                at,
                ended_at=incident.ended_at if kind is EventKind.RECOVERED else None,
                cause=incident.detail if incident.subject.startswith(OWN_FAULT) else "",
                why=incident.cause,
            )
            yield Told(notice, "", "", at, at, False)


def accounts(plan: Plan, history: History, window: Window, known_until: datetime) -> dict[str, Account]:
    """Work out the account of every service over a period, from the changes and gaps of its checks."""
    changes, gaps = history.changes(window.end), history.gaps(window)

    def account(service: ServicePlan) -> Account:
        lines = []
        for target in service.targets:
            mine = changes.get(target.id, [])
            line = availability.timeline(mine, gaps.get(target.id, []), window, known_until)
            lines.append((line, availability.outages(line, mine, window)))
        segments = availability.service_timeline([line for line, _ in lines], service.rule, window)
        return availability.account(
            segments, availability.service_outages(segments, lines, service.rule, window), window
        )

    return {service.id: account(service) for service in plan.services}


def _marked(pairs: Sequence[Pair], missing: Sequence[tuple[datetime, str]]) -> list[Pair]:
    """Count for each word the rechecks that it may hang on and that never happened."""
    marked = []
    for pair in pairs:
        word = pair.now
        if word is None:
            marked.append(pair)
            continue
        notice = word.notice
        many = bool(notice.members) or notice.service.startswith(("own-fault", "group:"))
        start = notice.since if notice.ended_at is None else notice.ended_at
        lacking = sum(
            start <= at <= word.created_at and (many or check.partition(".")[0] == notice.service)
            for at, check in missing
        )
        marked.append(replace(pair, missing=lacking))
    return marked
