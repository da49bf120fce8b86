"""A report over a period whose raw results are gone: what was exact stays exact, and the rest says what it rests on."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from config.plan import Plan, ServiceKind
from exporters.report import congestion_claims, post_event, tables
from exporters.report.congestion import Verdict
from exporters.report.document import Numbering, Paragraph, Table
from exporters.report.figures import Figures, as_json
from exporters.report.material import Material, collect
from monitor.history import open_history
from monitor.journal import Batch
from monitor.model import SlotCount, State
from probes.base import Reading
from tests.monitor.builders import SITE, at, change, check, gap, good, plan, result, service, span
from tests.monitor.sealing import HOUR, order, seal_hours, write

HOURS = 33  # seven of the first UTC day, a whole second one, and two of the third
QUEUE = span(27 * HOUR + 600, 28 * HOUR)

PROVINCE = plan(
    service("mail", "smtp", name="Thư điện tử công vụ", kind=ServiceKind.MAIL),
    service("carrier", check("carrier.ping", kind="icmp", every_s=20.0), name="Mạng VNPT", kind=ServiceKind.CARRIER),
)
PERIOD = span(0, 32 * HOUR)


def live(state_dir: Path, *, queue_ms: float) -> None:
    """Write a past with outages, a gap, and maybe a queue on the carrier; sealed."""
    r = Random(3)
    batches = []
    for hour in range(HOURS):
        results = [good("mail.smtp", hour * HOUR + s, took_s=r.uniform(0.01, 0.2)) for s in range(0, HOUR, 60)]
        for s in range(0, HOUR, 20):
            moment = at(hour * HOUR + s)
            extra = queue_ms if QUEUE.start <= moment < QUEUE.end else 0.0
            rtts = tuple(
                (8 + r.expovariate(2) + extra * r.uniform(0.6, 2.0)) / 1000 if r.random() > 0.01 else None
                for _ in range(3)
            )
            results.append(result("carrier.ping", hour * HOUR + s, Reading(None, "", 2.0, rtts_s=rtts)))
        results.sort(key=lambda x: x.started_at)
        batches.append(Batch(results=results, slots=[SlotCount("mail.smtp", at(hour * HOUR), done=60)]))
    batches[0].changes = [change("mail.smtp", State.UP, 0), change("carrier.ping", State.UP, 0)]
    batches[1].changes = [
        change("mail.smtp", State.DOWN, HOUR + 600, earliest=HOUR + 540, fault="refused", detail="connection refused"),
        change("mail.smtp", State.UP, HOUR + 900, earliest=HOUR + 840),
    ]
    batches[1].gaps = [gap("mail.smtp", HOUR + 1800, HOUR + 2400, "off")]
    write(state_dir, batches, ended=HOURS * HOUR)
    seal_hours(state_dir, HOURS * HOUR)


def told(state_dir: Path, of: Plan = PROVINCE) -> Material:
    with open_history(state_dir, SITE) as history:
        return collect(of, history, PERIOD, "kỳ thử")


def group_rows(figures: Figures) -> list[tuple[Any, ...]]:
    return [(title, table.rows) for title, table in tables.group_tables(figures, Numbering())]


def exact(figures: Figures) -> list[Any]:
    """What may not move by a digit: everything but response times."""
    found = []
    for entry in as_json(figures)["services"]:
        checks = [{**c, "results": {**c["results"], "response_s": None}} for c in entry["checks"]]
        found.append({**entry, "checks": checks})
    return found


def test_availability_outages_and_counts_are_the_same_to_the_digit_when_the_raw_results_are_gone(
    tmp_path: Path,
) -> None:
    live(tmp_path, queue_ms=0)
    before = told(tmp_path)
    seal_hours(tmp_path, HOURS * HOUR, keep_from_ms=order(tmp_path, 31 * HOUR).closed_ms)
    after = told(tmp_path)
    assert before.figures.summed == []
    assert after.figures.summed == [span(0, 31 * HOUR)]
    assert exact(after.figures) == exact(before.figures)
    assert as_json(after.figures)["summed"] == [
        {"from": "2027-02-06T00:00:00.000+07:00", "to": "2027-02-07T07:00:00.000+07:00"}
    ]
    for name, was in before.figures.responses.items():
        shares = (0.5, 0.95, 0.99)
        for a, b in zip(after.figures.responses[name].at_ranks(shares), was.at_ranks(shares), strict=True):
            assert a is not None
            assert b is not None
            assert abs(a - b) <= 0.011 * b
    scope = post_event.scope(after.figures)
    assert scope.text.startswith(post_event.scope(before.figures).text)
    assert "đã xoá theo hạn lưu; phần này lấy từ bản tóm tắt đã ký" in scope.text


def test_the_claim_is_made_from_summaries_with_a_wider_limit_that_says_why(tmp_path: Path) -> None:
    live(tmp_path, queue_ms=0)
    before = told(tmp_path).figures
    seal_hours(tmp_path, HOURS * HOUR, keep_from_ms=order(tmp_path, 31 * HOUR).closed_ms)
    after = told(tmp_path).figures
    assert before.congestion is not None
    assert after.congestion is not None
    assert congestion_claims.verdict(after) is congestion_claims.verdict(before)
    was, now = before.congestion.limit, after.congestion.limit
    assert was is not None
    assert now is not None
    assert now.minutes >= was.minutes + 10
    notes = [b.text for b in congestion_claims.blocks(after, Numbering()) if isinstance(b, Paragraph)]
    assert any("giới hạn phát hiện vì thế dài thêm 10 phút" in text for text in notes)


def test_a_queue_is_found_in_summaries_as_it_was_in_the_raw_results(tmp_path: Path) -> None:
    live(tmp_path, queue_ms=30)
    before = told(tmp_path).figures
    seal_hours(tmp_path, HOURS * HOUR, keep_from_ms=order(tmp_path, 31 * HOUR).closed_ms)
    after = told(tmp_path).figures
    assert before.congestion is not None
    assert after.congestion is not None
    was, now = (f.congestion.paths["carrier.ping"].episodes for f in (before, after) if f.congestion)
    assert congestion_claims.verdict(after) is Verdict.FOUND
    assert [e.cause for e in now] == [e.cause for e in was]
    for a, b in zip(now, was, strict=True):
        assert abs((a.start - b.start).total_seconds()) <= 600
        assert abs((a.end - b.end).total_seconds()) <= 600
        assert abs(a.peak_ms - b.peak_ms) < 3
    tables_of = [b for b in congestion_claims.blocks(after, Numbering()) if isinstance(b, Table)]
    assert len(tables_of) == 2
