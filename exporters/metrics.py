"""`/metrics`: the board in Prometheus' text format. Reads the board only, never the journal.

The text is written directly: one label set is escaped once a check and shared by its thirty-odd series. The same
series as metric families of prometheus_client cost about 20 times as much, which at 20,000 checks would hold up the
event loop for seconds. prometheus_client still answers for the process itself.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector, generate_latest

from config.plan import Target
from exporters.metric_names import ALERT_OUTCOMES, LAPSES, METRICS, OWN_FAULT_KINDS, VALUE_METRICS
from monitor.board import Board, CheckView, Histogram, ServiceView
from monitor.model import JUDGED, SlotEnd, State
from probes.base import Reading

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
CHECKS_PER_STEP: Final = 200  # chosen: about 3 ms of work before other tasks get their turn
PIECE: Final = 1 << 18  # bytes that are sent at once; chosen

_Lines: TypeAlias = dict[str, list[str]]  # exposition lines by metric name, in the table's order

# Where the labels go in a text of several lines that is filled in at once; what is filled in is not searched again.
_LABELS: Final = "\0"
_ENDS: Final = tuple(SlotEnd)
_SLOTS: Final = "".join(f'thongsuot_slots_total{{{_LABELS},end="{end.value}"}} %d\n' for end in SlotEnd)


def _version() -> str:
    try:
        return version("thongsuot")
    except PackageNotFoundError:  # run from a bare checkout
        return "unknown"


_VERSION: Final = _version()  # read once, at import: it is a file


def render(board: Board) -> tuple[bytes, str]:
    """Return the whole board as a page for Prometheus, and its content type.

    Does not wait and reads no file, so it is safe inside the event loop, which it holds for about 15 µs a check. The
    process' own figures are not in it: `page` adds them.
    """
    lines = _begin(board)
    for view in board.checks.values():
        _add_check(lines, board, view)
        for name, add in _STREAMED.items():
            add(lines[name], _check_labels(view.target), view)
    return b"".join(
        _head(metric.name) + _taken(lines[metric.name]) for metric in _ORDER if lines[metric.name]
    ), CONTENT_TYPE


async def page(board: Board) -> tuple[bytes, str]:
    """Return what `pieces` gives as one."""
    return b"".join([piece async for piece in await pieces(board)]), CONTENT_TYPE


async def pieces(board: Board) -> AsyncIterator[bytes]:
    """Return what `render` does and the process' own figures, piece by piece.

    Other tasks have their turn every few milliseconds. All that is said of a check is of one moment but for its
    histogram and its ledger of slots, more than half of the page: those are written only when they are sent, so that
    a page of 20,000 checks, which is 100 MB, never stands in memory as a whole.
    """
    process = await asyncio.to_thread(process_figures)
    lines = _begin(board)
    packed: dict[str, bytearray] = {name: bytearray() for name in lines}
    for views in _steps(board):
        for view in views:
            _add_check(lines, board, view)
        for name, found in lines.items():
            packed[name] += _taken(found)
        await asyncio.sleep(0)
    for name, found in lines.items():  # of a board without a check
        packed[name] += _taken(found)
    return _gathered(_pieces(board, packed, process))


async def _pieces(board: Board, packed: dict[str, bytearray], process: bytes) -> AsyncIterator[bytes | bytearray]:
    for metric in _ORDER:
        whole = packed.pop(metric.name)
        add = _STREAMED.get(metric.name)
        if whole:
            yield _head(metric.name)
            for start in range(0, len(whole), PIECE):
                yield whole[start : start + PIECE]
        elif add is not None:
            head = _head(metric.name)
            for views in _steps(board):
                lines: list[str] = []
                for view in views:
                    add(lines, _check_labels(view.target), view)
                if lines:
                    yield head + _taken(lines)
                    head = b""
                await asyncio.sleep(0)
    yield process


async def _gathered(small: AsyncIterator[bytes | bytearray]) -> AsyncIterator[bytes]:
    """Put small pieces together: each is compressed by a thread of its own."""
    waiting = bytearray()
    async for piece in small:
        waiting += piece
        if len(waiting) >= PIECE:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _steps(board: Board) -> Iterator[Sequence[CheckView]]:
    """Give the checks in steps; a reload may remove some meanwhile."""
    names = tuple(board.checks)
    for start in range(0, len(names), CHECKS_PER_STEP):
        yield [view for name in names[start : start + CHECKS_PER_STEP] if (view := board.checks.get(name))]


def process_figures() -> bytes:
    """Return CPU, memory and open files of this process as `process_*`. Reads /proc: call it off the event loop."""
    return generate_latest(ProcessCollector(registry=None))


def escape(text: str) -> str:
    """Make text safe between the quotes of a label value; Vietnamese letters stay as they are (UTF-8)."""
    if '"' in text or "\\" in text or "\n" in text:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text


def _head(name: str) -> bytes:
    metric = _BY_NAME[name]
    return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}\n".encode()


def _taken(lines: list[str]) -> bytes:
    """Take a family's lines out. Family by family: one name with Vietnamese letters must not double all the rest."""
    found = "".join(lines).encode()
    lines.clear()
    return found


def _begin(board: Board) -> _Lines:
    lines: _Lines = {metric.name: [] for metric in METRICS}
    site = f'site="{escape(board.plan.site.id)}"'
    _add_names(lines, board, site)
    _add_monitor(lines, board, site)
    for view in board.services.values():
        _add_service(lines, view, site)
    return lines


def _add_names(lines: _Lines, board: Board, site: str) -> None:
    lines["thongsuot_build_info"].append(f'thongsuot_build_info{{{site},version="{escape(_VERSION)}"}} 1\n')
    lines["thongsuot_site_info"].append(f'thongsuot_site_info{{{site},name="{escape(board.plan.site.name)}"}} 1\n')
    paths = {target.path.id: target.path for target in board.plan.targets() if target.path}
    for path in paths.values():
        lines["thongsuot_path_info"].append(
            f'thongsuot_path_info{{{site},path="{escape(path.id)}",name="{escape(path.name)}"}} 1\n'
        )


def _add_monitor(lines: _Lines, board: Board, site: str) -> None:
    for name, value in (
        ("thongsuot_start_time_seconds", board.started_at.timestamp()),
        ("thongsuot_probes_running", board.running),
        ("thongsuot_results_queue_size", board.queue_size),
        ("thongsuot_results_queue_limit", board.queue_limit),
        ("thongsuot_journal_commit_seconds", board.commit_s),
        ("thongsuot_evidence_trouble", int(bool(board.evidence_trouble))),
        ("thongsuot_results_recorded", int(board.unrecorded_since is None)),
        ("thongsuot_journal_writable", int(not board.journal_trouble)),
        ("thongsuot_incidents_open", len(board.open_incidents)),
        ("thongsuot_outbox_waiting", board.outbox_waiting),
        ("thongsuot_config_reloads_refused_total", board.config_reloads_refused),
    ):
        lines[name].append(f"{name}{{{site}}} {value!r}\n")
    _add_histogram(lines["thongsuot_slot_lateness_seconds"], "thongsuot_slot_lateness_seconds", site, board.lateness)
    for kind in dict.fromkeys((*OWN_FAULT_KINDS, board.own_fault)):
        if kind:
            value = int(kind == board.own_fault)
            lines["thongsuot_own_fault"].append(f'thongsuot_own_fault{{{site},kind="{escape(kind)}"}} {value}\n')
    _add_own(lines, board, site)
    _add_alerts(lines["thongsuot_alerts_total"], board, site)


def _add_own(lines: _Lines, board: Board, site: str) -> None:
    """What happened to us and to our clock, and how much room is left for the past."""
    taken, budget, days = board.room or (None, None, None)
    for name, figure in (
        ("thongsuot_evidence_bytes", taken),
        ("thongsuot_evidence_budget_bytes", budget),
        ("thongsuot_evidence_left_seconds", None if days is None else days * 86400),
    ):
        if figure is not None:
            lines[name].append(f"{name}{{{site}}} {figure!r}\n")
    for kind in LAPSES:
        count, seconds = board.lapses.get(kind, (0, 0.0))
        for name, value in (("thongsuot_own_lapses_total", count), ("thongsuot_own_lapse_seconds_total", seconds)):
            lines[name].append(f'{name}{{{site},kind="{kind}"}} {value!r}\n')
    steps, _ = board.lapses.get("clock-step", (0, 0.0))
    lines["thongsuot_clock_steps_total"].append(f"thongsuot_clock_steps_total{{{site}}} {steps}\n")
    if board.clock is None or board.clock.synchronised is None:
        return
    for name, reading in (
        ("thongsuot_clock_synchronised", int(board.clock.synchronised)),
        ("thongsuot_clock_error_seconds", board.clock.error_s),
        ("thongsuot_clock_offset_seconds", board.clock.offset_s),
    ):
        lines[name].append(f"{name}{{{site}}} {reading!r}\n")


def _add_alerts(lines: list[str], board: Board, site: str) -> None:
    channels = {"mail"} if board.plan.mail else set()
    channels.update(channel for channel, _ in board.alerts)
    # From zero on: a counter whose first value is 1 shows no increase, and a rule would miss the first failure.
    counts = {(channel, outcome): 0 for channel in sorted(channels) for outcome in ALERT_OUTCOMES} | board.alerts
    for (channel, outcome), count in counts.items():
        labels = f'{site},channel="{escape(channel)}",outcome="{escape(outcome)}"'
        lines.append(f"thongsuot_alerts_total{{{labels}}} {count}\n")


def _add_service(lines: _Lines, view: ServiceView, site: str) -> None:
    plan = view.plan
    labels = f'{site},service="{escape(plan.id)}",kind="{plan.kind.value}"'
    lines["thongsuot_service_info"].append(f'thongsuot_service_info{{{labels},name="{escape(plan.name)}"}} 1\n')
    lines["thongsuot_service_state"].append(_states("thongsuot_service_state", view.state).replace(_LABELS, labels))
    if view.state is not State.UNKNOWN:
        up = int(view.state is not State.DOWN)
        lines["thongsuot_service_up"].append(f"thongsuot_service_up{{{labels}}} {up}\n")
    lines["thongsuot_service_maintenance"].append(
        f"thongsuot_service_maintenance{{{labels}}} {int(view.work is not None)}\n"
    )
    if view.since is not None:
        name = "thongsuot_service_state_since_timestamp_seconds"
        lines[name].append(f"{name}{{{labels}}} {view.since.timestamp()!r}\n")


def _check_labels(target: Target) -> str:
    return _labels_of(target.site, target.service, target.check, target.path_id, target.probe.kind)


@functools.lru_cache(maxsize=65536)  # the same at every scrape; chosen: more checks than one process can probe
def _labels_of(site: str, service: str, check: str, path: str, kind: str) -> str:
    return (
        f'site="{escape(site)}",service="{escape(service)}",check="{escape(check)}"'
        f',path="{escape(path)}",kind="{escape(kind)}"'
    )


def _add_check(lines: _Lines, board: Board, view: CheckView) -> None:
    target, state = view.target, view.state
    labels = _check_labels(target)
    lines["thongsuot_check_info"].append(f'thongsuot_check_info{{{labels},name="{escape(target.name)}"}} 1\n')
    lines["thongsuot_state"].append(_states("thongsuot_state", state).replace(_LABELS, labels))
    if state is not State.UNKNOWN:
        lines["thongsuot_up"].append(f"thongsuot_up{{{labels}}} {int(state is not State.DOWN)}\n")
    lines["thongsuot_maintenance"].append(f"thongsuot_maintenance{{{labels}}} {int(view.work is not None)}\n")
    coverage = board.coverage(target.id)
    if coverage is not None:
        lines["thongsuot_coverage_ratio"].append(f"thongsuot_coverage_ratio{{{labels}}} {coverage!r}\n")
    probes = lines["thongsuot_probes_total"]
    probes.append(f'thongsuot_probes_total{{{labels},fault="none"}} {view.faults.get("none", 0)}\n')
    for fault, count in view.faults.items():
        if fault != "none":
            probes.append(f'thongsuot_probes_total{{{labels},fault="{escape(fault)}"}} {count}\n')
    name = "thongsuot_untrusted_results_total"
    lines[name].append(f"{name}{{{labels}}} {view.untrusted}\n")
    _add_echoes(lines, labels, view)
    if view.last is not None and view.last.observed:
        _add_reading(lines, labels, view.last.reading)
    if view.queue_delay_s is not None:
        lines["thongsuot_queue_delay_seconds"].append(
            f"thongsuot_queue_delay_seconds{{{labels}}} {view.queue_delay_s!r}\n"
        )
    if view.queue_threshold_s is not None:
        lines["thongsuot_queue_threshold_seconds"].append(
            f"thongsuot_queue_threshold_seconds{{{labels}}} {view.queue_threshold_s!r}\n"
        )
        suspected = int(view.congestion_suspected)
        lines["thongsuot_congestion_suspected"].append(f"thongsuot_congestion_suspected{{{labels}}} {suspected}\n")


def _add_echoes(lines: _Lines, labels: str, view: CheckView) -> None:
    if view.sent:
        lines["thongsuot_echoes_sent_total"].append(f"thongsuot_echoes_sent_total{{{labels}}} {view.sent}\n")
        lines["thongsuot_echoes_lost_total"].append(f"thongsuot_echoes_lost_total{{{labels}}} {view.lost}\n")


def _add_slots(lines: list[str], labels: str, view: CheckView) -> None:
    ended = tuple([view.slots[end] for end in _ENDS])
    lines.append((_SLOTS % ended).replace(_LABELS, labels))


def _add_rtts(lines: list[str], labels: str, view: CheckView) -> None:
    if view.sent or any(view.rtt.counts):
        _add_histogram(lines, "thongsuot_rtt_seconds", labels, view.rtt)


def _add_reading(lines: _Lines, labels: str, reading: Reading) -> None:
    good = int(reading.fault is None)
    lines["thongsuot_probe_success"].append(f"thongsuot_probe_success{{{labels}}} {good}\n")
    lines["thongsuot_probe_duration_seconds"].append(
        f"thongsuot_probe_duration_seconds{{{labels}}} {reading.duration_s!r}\n"
    )
    phases = lines["thongsuot_probe_phase_seconds"]
    for phase, seconds in reading.phases.items():
        phases.append(f'thongsuot_probe_phase_seconds{{{labels},phase="{phase}"}} {seconds!r}\n')
    if reading.rtts_s:
        ratio = reading.rtts_s.count(None) / len(reading.rtts_s)
        lines["thongsuot_loss_ratio"].append(f"thongsuot_loss_ratio{{{labels}}} {ratio!r}\n")
    for value, number in reading.values.items():
        if own := VALUE_METRICS.get(value):
            lines[own].append(f"{own}{{{labels}}} {number!r}\n")
        else:
            text = f'thongsuot_probe_value{{{labels},value="{escape(value)}"}} {number!r}\n'
            lines["thongsuot_probe_value"].append(text)


@functools.lru_cache(maxsize=16)  # two families, five states
def _states(name: str, state: State) -> str:
    return "".join(f'{name}{{{_LABELS},state="{other.value}"}} {int(other is state)}\n' for other in JUDGED)


@functools.lru_cache(maxsize=16)  # two families of histograms, each with one set of bounds
def _histogram(name: str, bounds: tuple[float, ...]) -> str:
    buckets = "".join(f'{name}_bucket{{{_LABELS},le="{bound}"}} %d\n' for bound in (*bounds, "+Inf"))
    return f"{buckets}{name}_sum{{{_LABELS}}} %r\n{name}_count{{{_LABELS}}} %d\n"


def _add_histogram(lines: list[str], name: str, labels: str, histogram: Histogram) -> None:
    # Filled in one go, figures before labels, for a label may hold a percent sign.
    counts = tuple(accumulate(histogram.counts))
    figures = (*counts, histogram.total, counts[-1])
    lines.append((_histogram(name, histogram.bounds) % figures).replace(_LABELS, labels))


# Families of one kind of series a check, written last and while they are sent.
_STREAMED: Final[Mapping[str, Callable[[list[str], str, CheckView], None]]] = {
    "thongsuot_slots_total": _add_slots,
    "thongsuot_rtt_seconds": _add_rtts,
}
_BY_NAME: Final = {metric.name: metric for metric in METRICS}
_ORDER: Final = sorted(METRICS, key=lambda metric: metric.name in _STREAMED)  # else as in the table
