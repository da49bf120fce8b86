"""The judge of congestion: from round-trip times to queues that stand, and whose they are.

Pure and streaming: no clock, no input or output, bounded memory. A queue stands when even the fastest packet of some
minutes is slower than the path's floor by more than a threshold; the rule is CAIDA's (7 ms above the floor, minima of
15 minutes; Dhamdhere et al., SIGCOMM 2018) made fit for live use. `make score` measures what the numbers do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from monitor.judge.bins import Bin, Binner
from monitor.judge.chance import ANSWERS_STANDING, QUIET_ANSWERS, row_needed
from monitor.judge.episode import (
    DEFAULT,
    HOURS_MOST,
    SEVERE_LOSS,
    Cause,
    Episode,
    Open,
    Run,
    Saying,
    Settings,
    Standing,
    Word,
)
from monitor.judge.floor import Floor
from monitor.judge.loss import ALARM, wilson
from monitor.judge.recent import Kept, Recent
from monitor.judge.route import (
    CLEAR_SHARE,
    FILLED_SHARE,
    NOISY_TIMES,
    as_narrow,
    is_flat,
    keeps_level,
    middle,
    never_back,
    shifted,
)

OWN_LOSS_TIMES: Final = 2.0  # loss that is no more than so many times what the path always loses is its own
HOLE_S: Final = 600.0  # nobody saw a queue stand through a hole as long as this
QUIET_PACKETS: Final = 50_000  # about a week at one each ten seconds: older loss fades
_DEFAULT: Final = asdict(DEFAULT)


class Judge:
    """Judges one path. Feed packets with `add` and time with `advance`, both in order of time."""

    __slots__ = (
        "_answered", "_before", "_binner", "_ended_at", "_floor", "_learned", "_line_s", "_low", "_open",
        "_quiet_lost", "_quiet_sent", "_recent", "_row", "_run", "_slow", "_suspected", "_suspected_last", "settings",
        "unknown_s", "usable_s",
    )  # fmt: skip

    def __init__(self, settings: Settings = DEFAULT) -> None:
        self.settings = settings
        self._binner = Binner(settings.bin_s)
        self._floor = Floor(settings.hour_s)
        self._learned = False
        self._recent = Recent(max(3, round(settings.flat_s / settings.bin_s)))
        self._run = Run()
        self._before: Run | None = None  # the run that ended with the last packet, when it had stood
        self._line_s = math.inf  # packets slower than this are slow
        self._answered = -math.inf
        self._ended_at = -math.inf
        self._open: Open | None = None
        self._low: tuple[float, float] | None = None  # since when the path is faster than its floor was, and that floor
        self._suspected: float | None = None
        self._suspected_last = 0.0
        self._quiet_sent = self._quiet_lost = 0
        self._slow = [0.0, 0.0, 0.0]  # answers in quiet bins, those of them that were slow, slow ones in this bin
        self._row = ANSWERS_STANDING  # slow packets in a row that are no chance
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
    def line_s(self) -> float:
        """Packets slower than this are slow, seconds; infinite while learning."""
        return self._line_s

    @property
    def suspected_at(self) -> float | None:
        """Since when a queue is suspected, or None."""
        return self._suspected

    def standing(self) -> Standing | None:
        """Say how the path stands after its last bin; None while learning or not observed."""
        last = self._recent.last
        if self.learning or last is None or math.isnan(last.queue_s):
            return None
        sent, lost, _ = self._loss_window()
        return Standing(last.end, last.queue_s, self.threshold_s, lost / sent if sent else 0.0)

    def add(self, at: float, rtt_s: float | None) -> None:
        """Take in one packet sent at `at`, seconds since 1970; None was lost."""
        self._binner.add(at, rtt_s)
        if rtt_s is None:
            return
        run = self._run
        if at - self._answered > HOLE_S:
            run = self._run = Run(since=at)
        self._answered = at
        if rtt_s > self._line_s:
            run.see(at, rtt_s)
            self._slow[2] += 1
            return
        if run.count:
            if self._has_stood(run, at):
                self._before = run
            run = self._run = Run()
        run.since = at

    def add_calm(self, first: float, last: float, rtts: Sequence[float]) -> bool:
        """Take in packets of one bin all at once, when no packet before them was slow and none of them is.

        The same as `add` and `advance` for each, and far cheaper. Returns whether it did; else feed them one by one.

        Args:
            first: when the first of them was sent.
            last: when the last of them was.
            rtts: seconds, in order of time; infinite when lost.
        """
        hole = first - self._answered > HOLE_S or last - first > HOLE_S  # also before the first answer of all
        most = max(rtts)
        if hole or self._run.count or most > self._line_s or most == math.inf:
            return False
        self._binner.add_answers(rtts)
        self._answered = self._run.since = last
        return True

    @property
    def last_bin(self) -> Kept | None:
        """The last bin that was judged, its queue NaN when it was not observed; None while learning."""
        return self._recent.last

    def _has_stood(self, run: Run, until: float) -> bool:
        return run.count >= self._row and until - run.since >= self.settings.stand_s

    def advance(self, now: float, references: Sequence[Standing] = ()) -> list[Saying]:
        """Judge what has been added by `now`: before the packets of a moment to close its bins, and after them.

        Args:
            now: seconds since 1970; every packet sent before it has been added, or will count for the next bin.
            references: how the references on our side of the path stand; those of an earlier time do not count.
        """
        said: list[Saying] = []
        if now >= self._binner.end:
            alone = self._binner.close(now)
            for found in self._binner.closed(now) if alone is None else (alone,):
                said.extend(self._judge_bin(found, now, references))
                self._slow[2] = 0.0
        if self._before is not None:
            said.extend(self._judge_run(self._before, now, stood=True))
            self._before = None
        run = self._run
        if run.count:
            said.extend(self._judge_run(run, now, stood=self._has_stood(run, run.last)))
        return said

    # One bin.

    def _judge_bin(self, found: Bin, now: float, references: Sequence[Standing]) -> Iterable[Saying]:
        if not found.usable:
            self.unknown_s += found.seconds
            self._recent.see(found, math.nan)
            self._low = None
            return self._ease(found.end, now)
        self.usable_s += found.end - found.start
        floor, threshold = self._floor, self.threshold_s
        if not self._learned:
            floor.see(found.start, found.least_s)
            self._learned = floor.hours > self.settings.learn_hours
            self._quiet_bin(found, found.least_s - floor.level_s)
            return ()
        before = self._low[1] if self._low else floor.level_s
        if found.least_s - floor.level_s <= threshold:
            floor.see(found.start, found.least_s)
        queue = found.least_s - floor.level_s
        self._recent.see(found, queue)
        if not self._is_calm(found, before, queue):
            return self._judge_raised(found, (before, queue), now, references)
        self._run.weigh(queue, threshold, near=False)
        self._low = None
        self._quiet_bin(found, queue)
        return ()

    def _is_calm(self, found: Bin, before: float, queue: float) -> bool:
        """Whether nobody would say anything of a bin, as of most: what judges those is skipped, for the same end."""
        if self._open is not None or self._suspected is not None or found.lost:
            return False
        threshold, floor = self.threshold_s, self._floor
        dropped = found.least_s - before < -self.settings.drop_s
        return queue <= threshold and floor.raised_s(found.median_s) <= threshold and not dropped

    def _judge_raised(
        self, found: Bin, levels: tuple[float, float], now: float, references: Sequence[Standing]
    ) -> Iterator[Saying]:
        before, queue = levels  # the floor before it, and how far it lies above the floor now
        near = self._near(queue, [r.queue_s for r in references if r.at >= found.end])
        self._run.weigh(queue, self.threshold_s, near=near)
        yield from self._suspect(found, queue, now)
        if self._open is not None:
            self._open.count(found)
        if queue > self.threshold_s:
            yield from self._follow(queue, now, near=near)
        yield from self._judge_route(found, now)
        yield from self._judge_loss(found, now, references)
        yield from self._judge_drop(found, before, now)
        yield from self._ease(found.end, now)
        if self._open is None and queue <= self.threshold_s:
            self._quiet_bin(found, queue)
        self._draw_line()

    def _draw_line(self) -> None:
        if self._learned:
            self._line_s = self._floor.level_s + self.threshold_s

    def _quiet_bin(self, found: Bin, queue: float) -> None:
        self._floor.see_quiet(queue, found.median_s - self._floor.level_s, found.p95_s - found.least_s)
        if self._quiet_sent > QUIET_PACKETS:
            self._quiet_sent, self._quiet_lost = self._quiet_sent // 2, self._quiet_lost // 2
        self._quiet_sent += found.sent - found.silent
        self._quiet_lost += found.lost
        self._count_slow(found.sent - found.silent - found.lost)
        self._draw_line()

    def _count_slow(self, answers: int) -> None:
        """Learn how many packets of a quiet path are slow, and so how many in a row are no chance."""
        slow = self._slow
        if slow[0] > QUIET_ANSWERS:
            slow[0], slow[1] = slow[0] / 2, slow[1] / 2
        slow[0] += answers
        slow[1] += min(slow[2], answers)
        self._row = row_needed(slow[0], slow[1])

    @property
    def _loss_least(self) -> float:
        """Loss that is an event on this path: not what it always loses."""
        own = self._quiet_lost / self._quiet_sent if self._quiet_sent >= self.settings.loss_packets else 0.0
        return max(self.settings.loss_least, OWN_LOSS_TIMES * own)

    def _near(self, queue: float, references: Sequence[float]) -> bool:
        least = max(self.settings.near_least_s, self.settings.near_share * queue)
        return any(r >= least for r in references)

    # Suspicion: for the screen, before anything is told.

    def _suspect(self, found: Bin, queue: float, now: float) -> Iterator[Saying]:
        if queue > self.threshold_s or self._floor.raised_s(found.median_s) > self.threshold_s:
            self._suspected_last = found.end
            if self._suspected is None:
                self._suspected = now
                yield Saying(Word.SUSPECTED, now)
        elif self._suspected is not None and found.end - self._suspected_last >= self.settings.stand_s:
            self._suspected = None
            if self._open is None:
                yield Saying(Word.CLEARED, now)

    # Delay.

    def _follow(self, queue: float, now: float, *, near: bool) -> Iterator[Saying]:
        """Take a bin in which a queue stood into the open episode."""
        current = self._open
        if current is None or current.by_loss:
            return
        current.peak_s = max(current.peak_s, queue)
        current.bins += 1
        current.near += near
        yield from self._name(current, current.blame, now)

    def _judge_run(self, run: Run, now: float, *, stood: bool) -> Iterator[Saying]:
        current = self._open
        large = run.evidence >= self.settings.evidence and 2 * run.count >= self._row
        if not (stood or large):
            return
        if current is None or current.by_loss:
            current = self._open = self._begin(run, now, stood=stood)
            yield Saying(Word.OPENED, now, current.told())
        elif stood or not current.stood:
            current.stands(run.last)
            current.stood |= stood

    def _begin(self, run: Run, now: float, *, stood: bool) -> Open:
        """Open an episode of delay; one of loss that stood already becomes it."""
        before = self._open
        raised = self.settings.build_times * self.threshold_s
        built_from = self._recent.built_from(run.first, self._floor, raised, self.settings.stand_s)
        current = self._new(max(built_from, self._ended_at), run.last, now)
        current.stood_from = run.first
        current.stood = stood
        current.peak_s = max(run.peak_s, run.least_s - self._floor.level_s)
        current.near, current.bins = run.near, run.bins
        current.cause = current.blame
        if before is not None:
            current.start, current.alarm_at = min(current.start, before.start), before.alarm_at
        current.sent, current.lost = self._recent.counts(current.start)
        return current

    def _new(self, start: float, end: float, now: float) -> Open:
        suspected = now if self._suspected is None else min(self._suspected, now)
        floor = self._floor
        return Open(start, start, end, suspected, now, floor.level_s, self.threshold_s, floor.noise_s)

    def _name(self, current: Open, cause: Cause, now: float) -> Iterator[Saying]:
        if cause is not current.cause:
            current.cause = cause
            yield Saying(Word.CHANGED, now, current.told())

    # Another route.

    def _judge_route(self, found: Bin, now: float) -> Iterator[Saying]:
        current, settings = self._open, self.settings
        if current is None or current.by_loss:
            return
        rise = found.least_s - self._floor.level_s
        current.see_hour(found.start, rise, settings.hour_s)
        if found.end - current.stood_from < settings.flat_s or self._loss_rose(current):
            return
        kept = self._recent.usable(max(current.stood_from, found.end - settings.flat_s))
        floor, threshold = self._floor, self.threshold_s
        level = middle([k.least_s for k in kept]) if len(kept) > 1 else 0.0
        rise = level - floor.level_s
        if rise <= max(threshold / 2, current.peak_s / 2):
            return  # it stood, and has gone or is going: what is left is not what it was
        # A noisy path looks flat whatever stands on it: there the claim takes longer to make.
        long = found.end - current.stood_from >= NOISY_TIMES * settings.flat_s
        clear = floor.spread_s <= CLEAR_SHARE * rise
        flat = (long or clear) and keeps_level(kept, rise, floor.noise_s if long else 0.0, settings.flat_share)
        flat = flat and as_narrow(kept, rise, floor)
        # A queue fills: some packets were half as late. A route is there, or it is not.
        filled = self._run.least_s - floor.level_s < FILLED_SHARE * rise
        flat = flat and not filled
        away = never_back(current.hours, threshold, settings.flat_share, whole_day=filled)
        if (flat or away) and shifted(kept, level, floor.level_s, floor):
            current.peak_s = rise
            yield from self._move(current, level, found.end, now)
        elif len(current.hours) >= HOURS_MOST and min(current.hours) > threshold:
            self._floor.move_to(level)
            current.end = found.end
            yield from self._close(now)

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

    def _judge_drop(self, found: Bin, before: float, now: float) -> Iterator[Saying]:
        """Notice that a path has become faster than the floor it had before."""
        settings, floor = self.settings, self._floor
        if found.least_s - before >= -settings.drop_s:
            self._low = None
            return
        start = self._low[0] if self._low else found.start
        self._low = (start, before)
        if found.end - start < settings.flat_s:
            return
        self._low = None
        kept = self._recent.usable(start)
        level = middle([k.least_s for k in kept])
        drop = level - before
        flat = is_flat([k.least_s for k in kept], drop, floor.noise_s, settings.flat_share)
        known = flat and -drop > settings.noise_times * floor.noise_s and shifted(kept, level, before, floor)
        if self._open is not None or not known:
            # The floor was learned while a queue stood, or moves about: the lower level is the truth, not an event.
            floor.move_to(level)
            return
        current = self._open = self._new(start, found.end, now)
        current.cause, current.peak_s, current.floor_s = Cause.ROUTE_CHANGE, drop, before
        yield Saying(Word.OPENED, now, current.told())
        yield from self._move(current, level, found.end, now)

    # Loss.

    def _loss_window(self) -> tuple[int, int, float]:
        return self._recent.loss_window(self.settings.loss_packets, self.settings.stand_s)

    def _judge_loss(self, found: Bin, now: float, references: Sequence[Standing]) -> Iterator[Saying]:
        current, least = self._open, self._loss_least
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
        # A queue that stands now, and may yet be confirmed, holds the episode open.
        quiet_until = self._run.first if self._run.count else end
        if quiet_until - current.end >= wait:
            yield from self._close(now)

    def _close(self, now: float) -> Iterator[Saying]:
        if self._open is not None:
            yield Saying(Word.CLOSED, now, self._open.told())
            self._ended_at = self._open.end
            self._open = None

    # Memory.

    def state(self) -> dict[str, Any]:
        """Return all that is remembered, as JSON can hold it: a restart with it forgets nothing."""
        return {
            "settings": _DEFAULT if self.settings is DEFAULT else asdict(self.settings),
            "binner": self._binner.state(),
            "floor": self._floor.state(),
            "learned": self._learned,
            "recent": self._recent.state(),
            "run": self._run.state(),
            "before": self._before.state() if self._before else None,
            "times": [_finite(self._answered), _finite(self._ended_at)],
            "open": self._open.state() if self._open else None,
            "low": self._low,
            "suspected": [self._suspected, self._suspected_last],
            "quiet": [self._quiet_sent, self._quiet_lost],
            "slow": [*self._slow, self._row],
            "seconds": [self.usable_s, self.unknown_s],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Judge:
        """Go on from what `state` returned."""
        settings = Settings(**state["settings"])
        judge = cls(DEFAULT if settings == DEFAULT else settings)  # one for thousands of judges
        judge._binner = Binner.from_state(state["binner"])
        judge._floor = Floor.from_state(state["floor"])
        judge._learned = state["learned"]
        judge._recent.restore(state["recent"])
        judge._run = Run.from_state(state["run"])
        judge._before = Run.from_state(state["before"]) if state["before"] else None
        judge._answered, judge._ended_at = (-math.inf if t is None else t for t in state["times"])
        if state["open"] is not None:
            judge._open = Open.from_state(state["open"])
        judge._low = tuple(state["low"]) if state["low"] else None
        judge._suspected, judge._suspected_last = state["suspected"]
        judge._quiet_sent, judge._quiet_lost = state["quiet"]
        *judge._slow, judge._row = state.get("slow", [*judge._slow, judge._row])
        judge.usable_s, judge.unknown_s = state["seconds"]
        judge._draw_line()
        return judge


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
