"""What fails together has one cause: which services belong to one incident, and how sure that is. Pure.

Two questions are asked of services that began to fail within `WINDOW_S` of one another (and of the interval at which
they are looked at, for no failure is seen earlier than its check runs):

- *Shared*: does one thing explain every failing check of each of them, such as a host, a path, a carrier, the resolver?
  It must have failed for at least half of the services that use it; two that share a thing are then one incident when
  chance would do the same less often than once in a hundred.
- *Coincidence*: without a shared thing, three or more are one incident only when chance would do the same less often
  than once in ten thousand, given how often each of them fails by itself. Two never are.

The chance is the tail of the Poisson binomial distribution: the first failure is given, and of the others at least so
many begin within the same span, each at its own rate. Thunderping (Padmanabhan et al., IMC 2019) tests regions likewise
against the 99.99 % quantile of the binomial distribution.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from monitor.model import Cause, CauseKind, Certainty

WINDOW_S: Final = 120.0  # failing within two minutes is failing together
SHARED_CHANCE: Final = 0.01  # of services with a shared thing, above which it is left to chance
BLIND_CHANCE: Final = 0.0001  # of services without one: the 99.99 % quantile
BLIND_LEAST: Final = 3  # services; two that share nothing are two incidents
SHARE: Final = 0.5  # of the services that use a thing and fail, from which on the thing is blamed
PRIOR_S: Final = 7 * 86_400.0  # chosen: a service never seen to fail counts as failing once in this long
MANY: Final = 64  # services, from which on a bound below NEVER stands for the chance itself
NEVER: Final = 1e-12
SURE_LEAST: Final = 3  # services hit, none good, others well: then there is no doubt left

# Of things that explain the same services, the narrowest is named.
_NARROWEST: Final = (CauseKind.RESOLVER, CauseKind.HOST, CauseKind.PATH, CauseKind.CARRIER)


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """Something that services share and that may fail for all of them."""

    kind: CauseKind
    id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One service in trouble."""

    service: str
    began: datetime  # the first result that showed it
    every_s: float = 0.0  # the longest interval of its failing checks: how much earlier it may have begun
    by: frozenset[Thing] = frozenset()  # each explains all of its failing checks


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses a thing, and for whom it works."""

    services: frozenset[str]
    good: int = 0  # checks through it that still answer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What failures are weighed against."""

    services: Collection[str]
    uses: Mapping[Thing, Use] = field(default_factory=dict)
    well: frozenset[str] = frozenset()  # services that are up
    rates: Mapping[str, float] = field(default_factory=dict)  # failures a second of each service by itself

    def rate(self, service: str) -> float:
        """Return how often a service fails by itself, in failures a second."""
        return self.rates.get(service, 1 / PRIOR_S)


def own_rate(failures: int, watched_s: float) -> float:
    """Return failures a second of a service, from those it had by itself in the time it was watched.

    The gamma prior of one failure in `PRIOR_S` keeps a service that was just added from looking perfect.
    """
    return (1 + failures) / (PRIOR_S + max(watched_s, 0.0))


def chance(rates: Iterable[float], span_s: float, least: int) -> float:
    """Return how probable it is that at least `least` of the services begin to fail within a span.

    Counting it out takes services times `least` steps, seconds for thousands; where many fail and a bound already says
    that it never happens, the bound is returned.

    Args:
        rates: failures a second of each, independent of one another.
        span_s: length of the span in seconds.
        least: how many.
    """
    if least <= 0:
        return 1.0
    rates = list(rates)
    if least > MANY and (bound := _chernoff(rates, span_s, least)) < NEVER:
        return bound
    exactly = [1.0] + [0.0] * (least - 1)  # probability of k so far, k < least
    reached = 0.0
    for rate in rates:
        p = -math.expm1(-rate * span_s)
        reached += exactly[-1] * p
        for k in range(least - 1, 0, -1):
            exactly[k] = exactly[k] * (1 - p) + exactly[k - 1] * p
        exactly[0] *= 1 - p
    return min(reached, 1.0)


def _chernoff(rates: Iterable[float], span_s: float, least: int) -> float:
    """Return a bound above the same chance. Source: Hoeffding 1963, theorem 1, in its Poisson form."""
    expected = sum(-math.expm1(-rate * span_s) for rate in rates)
    if expected <= 0 or least <= expected:
        return 0.0 if expected <= 0 else 1.0
    return math.exp(least - expected - least * math.log(least / expected))


def near(one: Failure, other: Failure) -> bool:
    """Whether two failures may have begun within the window, as far as their checks can tell."""
    reach = timedelta(seconds=WINDOW_S + max(one.every_s, other.every_s))
    return abs(one.began - other.began) <= reach


def find(failures: Iterable[Failure], around: Surroundings) -> list[Cause]:
    """Return one cause for each set of failures that have one; what stands alone is in none of them."""
    found: list[Cause] = []
    for cluster in _clusters(failures):
        left = list(cluster)
        while (cause := _best_shared(left, around)) is not None:
            found.append(cause)
            left = [f for f in left if f.service not in cause.members]
            # What began with them and shares nothing is no part of the cause: it may be one of its own.
        for rest in _clusters(left):
            whole = _coincidence(rest, around)
            if whole is not None:
                found.append(whole)
    return found


def joins(cause: Cause, members: Sequence[Failure], late: Failure) -> bool:
    """Whether a failure that came later belongs to an open incident.

    With a shared thing it does whenever that thing explains it; else only when it began with one of the members.
    """
    if cause.kind is CauseKind.COINCIDENCE:
        return any(near(late, m) for m in members)
    return Thing(cause.kind, cause.subject) in late.by


def grown(cause: Cause, members: Sequence[Failure], around: Surroundings) -> Cause:
    """Return a cause with the evidence of all its members, those that came later included."""
    if cause.kind is CauseKind.COINCIDENCE:
        return _weigh(cause.kind, cause.subject, members, around.services, 0, around)
    thing = Thing(cause.kind, cause.subject)
    use = around.uses.get(thing, Use(frozenset(m.service for m in members)))
    return _weigh(thing.kind, thing.id, members, use.services, use.good, around)


def _clusters(failures: Iterable[Failure]) -> list[list[Failure]]:
    """Return failures in chains, each link of which began within reach of the one before."""
    clusters: list[list[Failure]] = []
    for failure in sorted(failures, key=lambda f: (f.began, f.service)):
        if clusters and near(clusters[-1][-1], failure):
            clusters[-1].append(failure)
        else:
            clusters.append([failure])
    return clusters


def _best_shared(cluster: Sequence[Failure], around: Surroundings) -> Cause | None:
    hit: dict[Thing, list[Failure]] = defaultdict(list)
    for failure in cluster:
        for thing in failure.by:
            hit[thing].append(failure)
    causes = []
    for thing, failures in hit.items():
        use = around.uses.get(thing, Use(frozenset(f.service for f in failures)))
        if len(failures) < 2 or len(failures) < SHARE * len(use.services):
            continue
        cause = _weigh(thing.kind, thing.id, failures, use.services, use.good, around)
        if cause.chance < SHARED_CHANCE:
            causes.append(cause)

    def worth(cause: Cause) -> tuple[int, int, float, int]:
        return (len(cause.members), -cause.good, len(cause.members) / cause.of, -_NARROWEST.index(cause.kind))

    return max(sorted(causes, key=lambda c: c.subject), key=worth, default=None)


def _coincidence(cluster: Sequence[Failure], around: Surroundings) -> Cause | None:
    if len(cluster) < BLIND_LEAST:
        return None
    cause = _weigh(CauseKind.COINCIDENCE, "", cluster, around.services, 0, around)
    return cause if cause.chance < BLIND_CHANCE else None


def _weigh(
    kind: CauseKind, subject: str, members: Sequence[Failure], users: Collection[str], good: int, around: Surroundings
) -> Cause:
    names = {m.service for m in members}
    first, last = min(m.began for m in members), max(m.began for m in members)
    span_s = (last - first).total_seconds()
    anchor = min(members, key=lambda m: (m.began, m.service)).service
    rates = [around.rate(s) for s in sorted(names | set(users)) if s != anchor]
    of = len(names | set(users))
    elsewhere = len(around.well - names - set(users))
    return Cause(
        kind=kind,
        subject=subject,
        certainty=_certainty(kind, len(names), of, good, elsewhere),
        members=tuple(m.service for m in sorted(members, key=lambda m: (m.began, m.service))),
        of=of,
        good=good,
        elsewhere=elsewhere,
        span_s=span_s,
        chance=chance(rates, max(span_s, WINDOW_S), len(names) - 1),
    )


def _certainty(kind: CauseKind, hit: int, of: int, good: int, elsewhere: int) -> Certainty:
    if kind is CauseKind.COINCIDENCE or good > 0:
        return Certainty.POSSIBLE
    if hit >= SURE_LEAST and hit == of and elsewhere > 0:
        return Certainty.CERTAIN
    return Certainty.LIKELY
