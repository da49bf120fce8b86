"""The one table of metrics: what `/metrics` says and what `docs/metrics.md` explains are both made from it.

Holds names, types, labels and help texts; must not read the board. Names are promised to users for good: add freely,
never rename.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

CHECK_LABELS: Final = ("site", "service", "check", "path", "kind")
SERVICE_LABELS: Final = ("site", "service", "kind")
OWN_FAULT_KINDS: Final = (
    "near",
    "far",
    "local",
    "resolver",
    "descriptors",
    "sockets",
)  # each is a series, so that a rule sees 0 and not silence
LAPSES: Final = ("stall", "suspend", "clock-step")  # likewise
ALERT_OUTCOMES: Final = (
    "sent",
    "retry",
    "failed",
    "withdrawn",
    "recipient-refused",
)  # likewise, for each channel in use

# Declared probe values with a metric of their own; all others are `thongsuot_probe_value`.
VALUE_METRICS: Final = {
    "tls_not_after_timestamp_s": "thongsuot_tls_not_after_timestamp_seconds",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of series. `labels` are all it has, in the order in which they are written; `le` goes unsaid."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(f"thongsuot_{name}", "gauge", labels, text)


def _counter(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(f"thongsuot_{name}", "counter", labels, text)


def _histogram(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(f"thongsuot_{name}", "histogram", labels, text)


_SITE: Final = ("site",)

METRICS: Final[tuple[Metric, ...]] = (
    _gauge("build_info", ("site", "version"), "Always 1; its labels say which version watches which site."),
    _gauge("start_time_seconds", _SITE, "When the daemon started, in seconds since 1970 UTC."),
    _gauge("site_info", ("site", "name"), "Always 1; the site's name for people."),
    _gauge("path_info", ("site", "path", "name"), "Always 1; the name for people of an uplink that checks leave by."),
    _gauge("service_info", (*SERVICE_LABELS, "name"), "Always 1; the service's name for people."),
    _gauge("check_info", (*CHECK_LABELS, "name"), "Always 1; the check's name for people."),
    _gauge(
        "service_up",
        SERVICE_LABELS,
        "1 while the service is up, degraded or congested, 0 while it is down; absent while unknown.",
    ),
    _gauge("service_maintenance", SERVICE_LABELS, "1 while the service is under announced work, else 0."),
    _gauge("service_state", (*SERVICE_LABELS, "state"), "1 for the state the service is in, 0 for the other four."),
    _gauge(
        "service_state_since_timestamp_seconds",
        SERVICE_LABELS,
        "Since when the service is in its state, in seconds since 1970 UTC; absent before the first verdict.",
    ),
    _gauge(
        "up",
        CHECK_LABELS,
        "1 while the check is up, degraded or congested, 0 while it is down; absent while unknown.",
    ),
    _gauge(
        "maintenance", CHECK_LABELS, "1 while the check is under announced work, else 0; it is measured all the same."
    ),
    _gauge("state", (*CHECK_LABELS, "state"), "1 for the state the check is in, 0 for the other four."),
    _gauge(
        "probe_success",
        CHECK_LABELS,
        "1 if the last probe got a good answer, 0 if not; absent if we could not measure.",
    ),
    _gauge("probe_duration_seconds", CHECK_LABELS, "How long the last probe took; absent if we could not measure."),
    _gauge("probe_phase_seconds", (*CHECK_LABELS, "phase"), "Time the last probe spent in each phase."),
    _gauge(
        "probe_value",
        (*CHECK_LABELS, "value"),
        "Every other number the last probe reported, in the unit that ends the name in the label value.",
    ),
    _histogram("rtt_seconds", CHECK_LABELS, "Round-trip times of echoes that came back."),
    _gauge("loss_ratio", CHECK_LABELS, "Share of the last round's echoes that were lost, 0 to 1."),
    _counter("echoes_sent_total", CHECK_LABELS, "Echoes sent by checks that count packets."),
    _counter("echoes_lost_total", CHECK_LABELS, "Echoes that never came back."),
    _gauge("queue_delay_seconds", CHECK_LABELS, "Standing delay above the path's own floor; absent while learning."),
    _gauge(
        "queue_threshold_seconds",
        CHECK_LABELS,
        "How large a standing queue must be to be called one: less is not found.",
    ),
    _gauge(
        "congestion_suspected",
        CHECK_LABELS,
        "1 while a queue seems to stand that is not confirmed; absent while learning.",
    ),
    _gauge(
        "tls_not_after_timestamp_seconds",
        CHECK_LABELS,
        "When the certificate ends, in seconds since 1970 UTC.",
    ),
    _counter("probes_total", (*CHECK_LABELS, "fault"), "Finished probes by fault; none is a good answer."),
    _counter(
        "untrusted_results_total",
        CHECK_LABELS,
        "Finished probes whose times are not to be trusted: this program was late itself meanwhile.",
    ),
    _counter("slots_total", (*CHECK_LABELS, "end"), "Planned slots by how they ended; none goes uncounted."),
    _gauge("coverage_ratio", CHECK_LABELS, "Share of the last 60 slots that observed the target, 0 to 1."),
    _histogram("slot_lateness_seconds", _SITE, "How much later than planned probes started."),
    _gauge("probes_running", _SITE, "Probes under way."),
    _gauge("results_queue_size", _SITE, "Results that wait to be judged and recorded."),
    _gauge("results_queue_limit", _SITE, "How many results may wait before probing is held back."),
    _gauge("journal_commit_seconds", _SITE, "How long the last transaction of the journal took."),
    _gauge("evidence_trouble", _SITE, "1 while sealing the evidence is in trouble; watching goes on."),
    _gauge(
        "evidence_bytes", _SITE, "What the journal and the evidence take of the disk; absent before the first hour."
    ),
    _gauge("evidence_budget_bytes", _SITE, "What they may take: store.budget, or all that is theirs or free."),
    _gauge("evidence_left_seconds", _SITE, "Until raw results must go for want of room, at the rate of the last week."),
    _gauge(
        "results_recorded", _SITE, "0 while the disk is all but full and raw results are not written; watching goes on."
    ),
    _gauge("journal_writable", _SITE, "0 while the journal cannot be written: nothing is recorded or told."),
    _gauge(
        "own_fault",
        ("site", "kind"),
        "1 while the fault is ours: near is our own network, far is beyond our uplink, the others are this machine.",
    ),
    _counter(
        "own_lapses_total",
        ("site", "kind"),
        "Times in which nothing was observed: stall (we stood still), suspend, clock-step (the clock was set).",
    ),
    _counter("own_lapse_seconds_total", ("site", "kind"), "Seconds of them; of steps, how far the clock was moved."),
    _counter("clock_steps_total", _SITE, "How often the wall clock was set while we ran."),
    _gauge("clock_synchronised", _SITE, "1 while a program keeps the wall clock in step; absent if we may not ask."),
    _gauge("clock_error_seconds", _SITE, "Greatest error of the wall clock by the kernel; of worth when synchronised."),
    _gauge("clock_offset_seconds", _SITE, "What the kernel is slewing away; 0 with a program that slews by itself."),
    _gauge("incidents_open", _SITE, "Incidents that are confirmed and not over, our own faults included."),
    _counter(
        "alerts_total", ("site", "channel", "outcome"), "Tries to tell someone by how they ended; failed is given up."
    ),
    _gauge("outbox_waiting", _SITE, "Messages owed to someone and not yet accepted by any channel."),
    _counter(
        "config_reloads_refused_total", _SITE, "Reloads refused for mistakes; the old configuration kept running."
    ),
)
