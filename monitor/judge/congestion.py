"""The judge of congestion: from round-trip times to queues that stand, and whose they are.

Pure and streaming: no clock, no input or output, bounded memory. A queue stands when even the fastest packet of some
minutes is slower than the path's floor by more than a threshold; the rule is CAIDA's (7 ms above the floor, minima of
15 minutes; Dhamdhere et al., SIGCOMM 2018) made fit for live use. docs/congestion.md says what each number was
measured to do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from monitor.judge.bins import Bin, Binner
from monitor.judge.episode import (
    DEFAULT,
    SEVERE_LOSS,
    Cause,
    Episode,
    Kept,
    Open,
    Run,
    Saying,
    Settings,
    Standing,
    Word,
)
from monitor.judge.floor import Floor
from monitor.judge.loss import ALARM, wilson
from monitor.judge.route import is_flat, middle

STAND_BINS: Final = 2  # a confirmation by time alone rests on two bins at least, however long a thin path's bins are
HOURS_FLAT: Final = 6  # hourly minima that keep to a level are a route, even where the bins are too noisy to tell
HOURS_NEVER_BACK: Final = 24  # a day whose quietest hours did not come back to the floor
SHARE_NEVER_BACK: Final = 0.25  # and kept within this share of the rise
HOURS_MOST: Final = 48  # after two days without one quiet hour the path is learned anew
QUIET_PACKETS: Final = 50_000  # about a week at one each ten seconds: older loss fades


class Judge:
    """Judges one path. Feed packets with `add` and time with `advance`, both in order of time."""

    __slots__ = (
        "_binner",
        "_floor",
        "_learned",
        "_low_since",
        "_open",
        "_quiet_lost",
        "_quiet_sent",
        "_recent",
        "_run",
        "_suspected",
        "_suspected_last",
        "settings",
        "unknown_s",
        "usable_s",
    )

    def __init__(self, settings: Settings = DEFAULT) -> None:
        self.settings = settings
        self._binner = Binner(settings.bin_s)
        self._floor = Floor(settings.hour_s)
        self._learned = False
        self._recent: deque[Kept] = deque(maxlen=max(3, round(settings.flat_s / settings.bin_s)))
        self._run = Run()
        self._open: Open | None = None
        self._low_since: float | None = None
        self._suspected: float | None = None
        self._suspected_last = 0.0
        self._quiet_sent = self._quiet_lost = 0
        self.usable_s = self.unknown_s = 0.0  # time whose delay was, and was not, observed

    @property
    def learning(self) -> bool:
        """Whether there is not yet enough history for a verdict."""
        return not self._learned

    @property
    def floor_s(self) -> float:
        """The path's floor, seconds; NaN before the first bin."""
        return self._floor.level_s

    @property
    def noise_s(self) -> float:
        """Standard deviation of the path's quiet minima, seconds."""
        return self._floor.noise_s

    @property
    def threshold_s(self) -> float:
        """How far above the floor the minimum must lie to be called a queue."""
        return max(self.settings.rise_s, self.settings.noise_times * self._floor.noise_s)

    @property
    def episode(self) -> Episode | None:
        """The open episode as it stands."""
        return self._open.told() if self._open else None

    @property
    def suspected_at(self) -> float | None:
        """Since when a queue is suspected, or None."""
        return self._suspected

    def standing(self) -> Standing | None:
        """Say how the path stands after its last bin; None while learning or not observed."""
        if self.learning or not self._recent or math.isnan(self._recent[-1].queue_s):
            return None
        sent, lost, _ = self._loss_window()
        last = self._recent[-1]
        return Standing(last.end, last.queue_s, self.threshold_s, lost / sent if sent else 0.0)

    def add(self, at: float, rtt_s: float | None) -> None:
        """Take in one packet sent at `at`, seconds since 1970; None was lost."""
        self._binner.add(at, rtt_s)

    def advance(self, now: float, references: Sequence[Standing] = ()) -> list[Saying]:
        """Judge the bins that have ended by `now`.

        Args:
            now: seconds since 1970; every packet sent before it has been added, or will count for the next bin.
            references: how the references on our side of the path stand; those of an earlier time do not count.
        """
        said: list[Saying] = []
        for found in self._binner.closed(now):
            said.extend(self._take(found, now, references))
        return said

    # One bin.

    def _take(self, found: Bin, now: float, references: Sequence[Standing]) -> Iterator[Saying]:
        if not found.usable:
            self.unknown_s += found.seconds
            self._remember(found, math.nan)
            if found.end - self._run.end > self.settings.stand_s:
                self._run = Run()
            self._low_since = None
            yield from self._ease(found.end, now)
            return
        self.usable_s += found.seconds
        floor = self._floor
        if not self._learned:
            floor.see(found.start, found.least_s)
            self._learned = floor.hours > self.settings.learn_hours
            self._quiet_bin(found, found.least_s - floor.level_s)
            return
        if found.least_s - floor.level_s <= self.threshold_s:
            floor.see(found.start, found.least_s)
        queue = found.least_s - floor.level_s
        self._remember(found, queue)
        near = self._near(queue, [r.queue_s for r in references if r.at >= found.end])
        self._extend_run(found, queue, near=near)
        yield from self._suspect(found, queue, now)
        if self._open is not None:
            self._open.count(found)
        yield from self._judge_delay(found, now, near=near)
        yield from self._judge_route(found, now)
        yield from self._judge_loss(found, now, references)
        yield from self._judge_drop(found, now)
        yield from self._ease(found.end, now)
        if self._open is None and queue <= self.threshold_s:
            self._quiet_bin(found, queue)

    def _quiet_bin(self, found: Bin, queue: float) -> None:
        self._floor.see_quiet(queue, found.median_s - self._floor.level_s)
        if self._quiet_sent > QUIET_PACKETS:
            self._quiet_sent, self._quiet_lost = self._quiet_sent // 2, self._quiet_lost // 2
        self._quiet_sent += found.sent - found.silent
        self._quiet_lost += found.lost

    def _remember(self, found: Bin, queue: float) -> None:
        raised = found.median_s - self._floor.level_s - self._floor.offset_s
        sent = found.sent - found.silent
        self._recent.append(Kept(found.start, found.end, sent, found.lost, found.least_s, queue, raised))

    def _extend_run(self, found: Bin, queue: float, *, near: bool) -> None:
        run = self._run
        if queue <= self.threshold_s:
            if run.bins:
                self._run = Run()
            return
        if not run.bins:
            run.start = self._built_from(found.start)
        run.end = found.end
        run.seconds += found.seconds
        run.evidence += (queue / self.threshold_s) ** 2
        run.peak_s = max(run.peak_s, queue)
        run.sent += found.sent - found.silent
        run.lost += found.lost
        run.bins += 1
        run.near += near

    def _built_from(self, start: float) -> float:
        """Return where a queue that stands from `start` began to build up: at most as long before as it must stand."""
        wanted = self.settings.build_times * self.threshold_s
        least = start - self.settings.stand_s
        for kept in reversed(self._recent):
            if kept.end > start:
                continue  # the bin itself
            if kept.end < start or kept.raised_s <= wanted or kept.start < least:
                break
            start = kept.start
        return start

    def _near(self, queue: float, references: Sequence[float]) -> bool:
        least = max(self.settings.near_least_s, self.settings.near_share * queue)
        return any(r >= least for r in references)

    # Suspicion: for the screen, before anything is told.

    def _suspect(self, found: Bin, queue: float, now: float) -> Iterator[Saying]:
        if queue > self.threshold_s or self._recent[-1].raised_s > self.threshold_s:
            self._suspected_last = found.end
            if self._suspected is None:
                self._suspected = now
                yield Saying(Word.SUSPECTED, now)
        elif self._suspected is not None and found.end - self._suspected_last >= self.settings.stand_s:
            self._suspected = None
            if self._open is None:
                yield Saying(Word.CLEARED, now)

    # Delay.

    def _judge_delay(self, found: Bin, now: float, *, near: bool) -> Iterator[Saying]:
        run, current = self._run, self._open
        if not run.bins:
            return
        stood = run.seconds >= self.settings.stand_s and run.bins >= STAND_BINS
        large = run.evidence >= self.settings.evidence
        if current is None or current.by_loss:
            if stood or large:
                self._open = self._begin(now, stood=stood)
                yield Saying(Word.OPENED, now, self._open.told())
            return
        current.peak_s = max(current.peak_s, run.peak_s)
        if stood or (large and not current.stood):
            current.stands(found.end)
            current.stood |= stood
        current.bins += 1
        current.near += near
        yield from self._name(current, _blame(current), now)

    def _begin(self, now: float, *, stood: bool) -> Open:
        """Open an episode of delay for the run so far; one of loss that stood already becomes it."""
        run, before = self._run, self._open
        current = self._new(min(run.start, before.start) if before else run.start, run.end, now)
        current.alarm_at = before.alarm_at if before else now
        current.stood = stood
        current.peak_s, current.near, current.bins = run.peak_s, run.near, run.bins
        current.sent, current.lost = (before.sent, before.lost) if before else (run.sent, run.lost)
        current.cause = _blame(current)
        return current

    def _new(self, start: float, end: float, now: float) -> Open:
        suspected = now if self._suspected is None else min(self._suspected, now)
        return Open(start, end, suspected, now, self._floor.level_s, self.threshold_s, self._floor.noise_s)

    def _name(self, current: Open, cause: Cause, now: float) -> Iterator[Saying]:
        if cause is not current.cause:
            current.cause = cause
            yield Saying(Word.CHANGED, now, current.told())

    # Another route.

    def _judge_route(self, found: Bin, now: float) -> Iterator[Saying]:
        current, settings = self._open, self.settings
        if current is None or current.by_loss:
            return
        rise = found.least_s - current.floor_s
        current.see_hour(found.start, rise, settings.hour_s)
        if found.end - current.start < settings.flat_s or self._loss_rose(current):
            return
        minima = [k.least_s for k in self._recent if k.end > found.end - settings.flat_s and k.start >= current.start]
        minima = [m for m in minima if m == m]  # noqa: PLR0124  NaN is not itself
        level = middle(minima)
        if self._keeps_level(minima, level - current.floor_s) or self._never_back(current):
            current.peak_s = level - current.floor_s
            yield from self._move(current, level, found.end, now)
        elif len(current.hours) >= HOURS_MOST and min(current.hours) > self.threshold_s:
            self._floor.move_to(level)
            current.end = found.end
            yield from self._close(now)

    def _keeps_level(self, minima: Sequence[float], rise: float) -> bool:
        noise, share = self._floor.noise_s, self.settings.flat_share
        return rise > self.threshold_s / 2 and is_flat(minima, rise, noise, share)

    def _never_back(self, current: Open) -> bool:
        """Whether its hours, rather than its bins, keep to a level away from the floor."""
        hours, threshold = current.hours[1:], self.threshold_s  # the first hour is not whole
        if len(hours) < HOURS_FLAT:
            return False
        last = hours[-HOURS_FLAT:]
        if min(last) > threshold and is_flat(last, middle(last), 0.0, self.settings.flat_share):
            return True
        day = hours[-HOURS_NEVER_BACK:]
        return (
            len(day) == HOURS_NEVER_BACK and min(day) > threshold and is_flat(day, middle(day), 0.0, SHARE_NEVER_BACK)
        )

    def _loss_rose(self, current: Open) -> bool:
        quiet = wilson(self._quiet_lost, self._quiet_sent)[1] if self._quiet_sent else 0.0
        return wilson(current.lost, current.sent)[0] > max(quiet, SEVERE_LOSS)

    def _move(self, current: Open, level: float, end: float, now: float) -> Iterator[Saying]:
        """Take a new level for the path's own from now on."""
        self._floor.move_to(level)
        self._run = Run()
        self._suspected = None
        current.stands(end)
        yield from self._name(current, Cause.ROUTE_CHANGE, now)
        yield from self._close(now)

    def _judge_drop(self, found: Bin, now: float) -> Iterator[Saying]:
        settings, floor = self.settings, self._floor
        if found.least_s - floor.level_s >= -settings.drop_s:
            self._low_since = None
            return
        if self._low_since is None:
            self._low_since = found.start
        if found.end - self._low_since < settings.flat_s:
            return
        minima = [k.least_s for k in self._recent if k.start >= self._low_since and k.least_s == k.least_s]
        level, start, self._low_since = middle(minima), self._low_since, None
        drop = level - floor.level_s
        known = -drop > settings.noise_times * floor.noise_s and is_flat(
            minima, drop, floor.noise_s, settings.flat_share
        )
        if self._open is not None or not known:
            # The floor was learned while a queue stood, or moves about: the lower level is the truth, not an event.
            floor.move_to(level)
            return
        current = self._open = self._new(start, found.end, now)
        current.cause, current.peak_s, current.floor_s = Cause.ROUTE_CHANGE, drop, floor.level_s
        yield Saying(Word.OPENED, now, current.told())
        yield from self._move(current, level, found.end, now)

    # Loss.

    def _loss_window(self) -> tuple[int, int, float]:
        """Return packets sent and lost, and since when, over the shortest window that holds enough of them."""
        sent = lost = 0
        start = 0.0
        for kept in reversed(self._recent):
            sent += kept.sent
            lost += kept.lost
            start = kept.start
            if sent >= self.settings.loss_packets and self._recent[-1].end - start >= self.settings.stand_s:
                break
        return sent, lost, start

    def _judge_loss(self, found: Bin, now: float, references: Sequence[Standing]) -> Iterator[Saying]:
        current, least = self._open, self.settings.loss_least
        if current is None and not found.lost:
            return
        if current is not None and not current.by_loss:
            return
        sent, lost, start = self._loss_window()
        if sent < self.settings.loss_packets:
            return
        if current is not None:
            if lost >= least * sent:
                current.stands(found.end)
        elif wilson(lost, sent, ALARM)[0] >= least:
            current = self._open = self._new(start, found.end, now)
            current.by_loss = True
            current.sent, current.lost = sent, lost
            share = self.settings.near_share * lost / sent
            near = any(r.loss >= max(share, least) for r in references if r.at >= found.end)
            current.cause = Cause.NEAR_SIDE if near else Cause.CONGESTION
            yield Saying(Word.OPENED, now, current.told())

    # The end.

    def _ease(self, end: float, now: float) -> Iterator[Saying]:
        current = self._open
        if current is None:
            return
        # What stood for 15 minutes comes and goes for hours; what did not, or was loss alone, is over sooner.
        wait = self.settings.ease_s if current.stood else self.settings.stand_s
        if end - current.end >= wait:
            yield from self._close(now)

    def _close(self, now: float) -> Iterator[Saying]:
        if self._open is not None:
            yield Saying(Word.CLOSED, now, self._open.told())
            self._open = None

    # Memory.

    def state(self) -> dict[str, Any]:
        """Return all that is remembered, as JSON can hold it: a restart with it forgets nothing."""
        return {
            "settings": asdict(self.settings),
            "binner": self._binner.state(),
            "floor": self._floor.state(),
            "learned": self._learned,
            "recent": [
                [k.start, k.end, k.sent, k.lost, *map(_json, (k.least_s, k.queue_s, k.raised_s))] for k in self._recent
            ],
            "run": asdict(self._run),
            "open": asdict(self._open) if self._open else None,
            "low_since": self._low_since,
            "suspected": [self._suspected, self._suspected_last],
            "quiet": [self._quiet_sent, self._quiet_lost],
            "seconds": [self.usable_s, self.unknown_s],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Judge:
        """Go on from what `state` returned."""
        judge = cls(Settings(**state["settings"]))
        judge._binner = Binner.from_state(state["binner"])
        judge._floor = Floor.from_state(state["floor"])
        judge._learned = state["learned"]
        judge._recent.extend(Kept(*k[:4], *map(_number, k[4:])) for k in state["recent"])
        judge._run = Run(**state["run"])
        if state["open"] is not None:
            judge._open = Open(**{**state["open"], "cause": Cause(state["open"]["cause"])})
        judge._low_since = state["low_since"]
        judge._suspected, judge._suspected_last = state["suspected"]
        judge._quiet_sent, judge._quiet_lost = state["quiet"]
        judge.usable_s, judge.unknown_s = state["seconds"]
        return judge


def _blame(current: Open) -> Cause:
    return Cause.NEAR_SIDE if 2 * current.near > current.bins else Cause.CONGESTION


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
