"""What the peaks of all events mean for one check: when it has one, and how often it is asked then.

References have no service; they follow the peaks of the services whose checks leave by the same path, so that the
question "is it us?" is answered as sharply as it is asked. Pure: reads a draft without mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from config.draft import CheckDraft, Draft, PeakDraft
from config.plan import REFERENCES, RatePeriod, Window


def windows_of(draft: Draft, check: CheckDraft) -> tuple[Window, ...]:
    """Return the spans of the peaks of a check, of a higher rate or not, in order and apart."""
    apart: list[Window] = []
    for window in sorted((p.window for p in _peaks_of(draft, check)), key=lambda w: w.start):
        if apart and window.start <= apart[-1].end:
            apart[-1] = Window(apart[-1].start, max(apart[-1].end, window.end))
        else:
            apart.append(window)
    return tuple(apart)


def rates_of(draft: Draft, check: CheckDraft) -> tuple[RatePeriod, ...]:
    """Return when a check runs faster than usual, in order and apart; where several peaks meet, the fastest counts."""
    if check.service == REFERENCES:
        faster = _reference_rates(draft, check)
    else:
        faster = [RatePeriod(peak.window, every) for peak, every in draft.faster(check)]
    edges = sorted({e for rate in faster for e in (rate.window.start, rate.window.end)})
    found: list[RatePeriod] = []
    for start, end in pairwise(edges):
        every = min((r.every_s for r in faster if r.window.start <= start < r.window.end), default=None)
        if every is None:
            continue
        if found and found[-1].window.end == start and found[-1].every_s == every:
            start = found.pop().window.start
        found.append(RatePeriod(Window(start, end), every))
    return tuple(found)


def _reference_rates(draft: Draft, check: CheckDraft) -> Sequence[RatePeriod]:
    """A reference follows as far as its own time-out and its probe let it: no peak makes its settings wrong."""
    if check.keys is None or check.probe is None or check.settings is None:
        return []
    limit = max(
        check.keys.timeout or draft.defaults.timeout or check.probe.least_timeout_s(check.settings),
        check.probe.least_every_s(check.settings),
    )
    rates = [
        RatePeriod(peak.window, max(peak.settings.every, limit))
        for peak in _peaks_of(draft, check)
        if peak.settings.every is not None
    ]
    return [r for r in rates if r.every_s < draft.every_s(check)]


def _peaks_of(draft: Draft, check: CheckDraft) -> Iterator[PeakDraft]:
    for peak in draft.peaks():
        named = peak.settings.services
        if check.service != REFERENCES:
            if not named or check.service in named:
                yield peak
        elif not named or _leaves_with(draft, check, named):
            yield peak


def _leaves_with(draft: Draft, reference: CheckDraft, services: Sequence[str]) -> bool:
    """Whether checks of these services leave by a reference's path; one without a path serves all that have none."""
    own = _paths(reference)
    served = {p for r in draft.references for p in _paths(r)}
    leave = {p if p in served else "" for s in draft.services if s.id in services for c in s.checks for p in _paths(c)}
    return bool(own & leave)


def _paths(check: CheckDraft) -> set[str]:
    if check.keys is None:
        return set()
    return set(check.keys.paths) or {check.keys.path or ""}
