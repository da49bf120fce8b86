"""`make score`: the judges against labelled series and simulated months, beside the reference rule."""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import grouping, labels, months, noise, reference_rule
from bench.labels import Found, Rise
from monitor.congestion_record import judge_packets
from monitor.judge.congestion import Judge
from monitor.judge.episode import Cause, Episode
from monitor.judge.limit import Packet
from thongsuot.replay_outage import Asked
from thongsuot.simulate import Loss

OUT = Path(__file__).parent / "out" / "score.json"
KEYS = ("series", "events_found", "events", "f1", "precision", "recall", "spurious", "minutes_to_alarm_median",
        "us_per_bin", "kb_per_check")  # fmt: skip
MONTHS = 12


def feed(packets: Sequence[Packet]) -> Judge:
    """Feed a judge as the daemon does, and nothing else."""
    judge = Judge()
    end = 0.0
    for packet in packets:
        if packet.at >= end:
            judge.advance(packet.at // 300 * 300)
            end = packet.at // 300 * 300 + 300
        judge.add(packet.at, packet.rtt_s)
        judge.advance(packet.at)
    return judge


def cost(packets: Sequence[Packet]) -> tuple[float, float]:
    """Return microseconds a bin of five minutes, and kilobytes a check."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        feed(packets)
        best = min(best, time.process_time() - began)
    bins = (packets[-1].at - packets[0].at) / 300
    gc.collect()
    tracemalloc.start()
    judge = feed(packets)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert judge.usable_s > 0
    return best / bins * 1e6, held / 1000


def row(series: str, **figures: Any) -> dict[str, Any]:
    return dict.fromkeys(KEYS) | {"series": series} | figures


def score_row(series: str, found: Sequence[Found], truth: tuple[Sequence[labels.Span], labels.Span]) -> dict[str, Any]:
    result = labels.score(found, *truth)
    return row(
        series,
        events_found=result.events_found,
        events=result.events,
        f1=round(result.f1, 4),
        precision=round(result.precision, 4),
        recall=round(result.recall, 4),
        spurious=result.spurious,
        minutes_to_alarm_median=result.minutes_median,
        minutes_to_alarm_most=result.minutes_most,
    )


def jitterbug_rows() -> list[dict[str, Any]]:
    packets, spans, period = labels.jitterbug()
    replayed = judge_packets(packets)
    congested = [e for e in replayed.episodes if e.cause is Cause.CONGESTION]
    ours = score_row("jitterbug", [Found(e.start, e.end, e.alarm_at) for e in congested], (spans, period))
    suspected = labels.score([Found(e.start, e.end, e.suspected_at) for e in congested], spans, period)
    ours["minutes_to_suspected_median"] = suspected.minutes_median
    ours["us_per_bin"], ours["kb_per_check"] = (round(x, 1) for x in cost(packets))
    limit = replayed.limit()
    if limit:
        ours["detection_limit"] = {"queue_ms": limit.queue_s * 1000, "minutes": limit.minutes}
    rule = score_row("jitterbug, reference rule", reference_rule.episodes(packets), (spans, period))
    return [ours, rule]


def seen_by(rise: Rise, episodes: Sequence[Episode]) -> list[Episode]:
    """Return the episodes that show a marked rise: within it, and begun not long after its mark."""
    late = rise.start + 1.5 * labels.HOUR_S
    return [e for e in episodes if e.start < min(rise.end + 600, late) and e.end > rise.start - 600]


def atlas_rows() -> list[dict[str, Any]]:
    rows = []
    for file in labels.atlas_files():
        packets, rises = labels.atlas(file)
        replayed = judge_packets(packets)
        shown = [seen_by(r, replayed.episodes) for r in rises]
        flat = [s for r, s in zip(rises, shown, strict=True) if r.flat]
        rows.append(
            row(
                f"atlas {file.stem}",
                events=len(rises),
                events_found=sum(map(bool, shown)),
                flat=len(flat),
                flat_route_change=sum(any(e.cause is Cause.ROUTE_CHANGE for e in s) for s in flat),
                flat_congested=sum(
                    any(e.cause is Cause.CONGESTION and e.end - e.start > labels.HOUR_S for e in s) for s in flat
                ),
            )
        )
    whole = {
        k: sum(r[k] for r in rows) for k in ("events", "events_found", "flat", "flat_route_change", "flat_congested")
    }
    return [*rows, row(f"atlas, {len(rows)} series", **whole)]


def month_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    all_of = {
        "1 % loss": months.run(count, Loss(0.01), Asked()),
        "1 % loss in bursts of 1 s": months.run(count, Loss(0.01, 1.0), Asked()),
        "1 % loss in bursts of 3 s": months.run(count, Loss(0.01, 3.0), Asked()),
    } | {name: months.run_channel(count, kind, Asked()) for name, kind in months.CHANNELS.items()}
    for name, sums in all_of.items():
        rows.append(
            row(
                f"{count} simulated months, {name}",
                events=sums.outages,
                events_found=sums.found,
                spurious=sums.false,
                spurious_most_a_month=sums.false_most,
                availability_off_most_points=round(sums.off_most, 4),
                truth_within_bounds=sums.inside / sums.runs,
            )
        )
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    for r in rows:
        print(f"{r['series']}: {r['events_found']} of {r['events']} events")
        for key, value in r.items():
            if key not in ("series", "events", "events_found") and value is not None:
                print(f"    {key:32} {value}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MONTHS
    rows = [*jitterbug_rows(), *atlas_rows(), *month_rows(count)]
    noisy = noise.rows()
    rows += [row(**found) for found in grouping.rows()]
    show(rows)
    noise.show(noisy)
    rows += [row(**found) for found in noisy]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
