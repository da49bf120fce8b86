"""`thongsuot report`: which period is meant, what is refused, and the way from a journal to files."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from config.plan import EventPlan, Plan, Window
from monitor.journal import Batch, Journal, JournalError
from monitor.model import State
from tests.monitor.builders import SITE, T0, at, change, good, plan, service
from thongsuot.reports import UsageError, choose_formats, choose_period, write_report

DAY = 86_400
TET = EventPlan("tet-2027", "Tết Nguyên đán Đinh Mùi 2027", Window(at(-2 * DAY), at(5 * DAY)))
OPENING = EventPlan("khai-mac", "Khai mạc lễ hội", Window(at(90 * DAY), at(91 * DAY)))
SOME_PLAN = plan(service("mail", "smtp"), events=[TET, OPENING])
AFTER = at(30 * DAY)


def chosen(start: str, end: str, now: datetime = AFTER, of: Plan = SOME_PLAN) -> Window:
    return choose_period(of, None, start, end, now)[0]


# Formats.


def test_formats_are_read_in_the_order_given() -> None:
    assert choose_formats("csv,json") == ["csv", "json"]
    assert choose_formats(" json , csv ,") == ["json", "csv"]


@pytest.mark.parametrize("text", ["odt", "csv,pptx", "", ",", "CSV"])
def test_a_format_that_there_is_not_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match=f"--format {text}: expected some of csv, json"):
        choose_formats(text)


# Periods.


def test_an_event_is_its_window_under_its_name() -> None:
    assert choose_period(SOME_PLAN, "tet-2027", None, None, AFTER) == (TET.window, "Tết Nguyên đán Đinh Mùi 2027")


def test_an_event_under_way_is_cut_off_at_the_present() -> None:
    window, _ = choose_period(SOME_PLAN, "tet-2027", None, None, at(600))
    assert window == Window(TET.window.start, at(600))


def test_a_period_is_named_by_the_words_it_was_asked_for_with() -> None:
    assert choose_period(SOME_PLAN, None, "2027-02-06", "2027-02-06", AFTER)[1] == "2027-02-06 – 2027-02-06"


def test_an_event_that_has_not_begun_is_refused() -> None:
    with pytest.raises(UsageError, match="the period has not begun: there is nothing to report yet"):
        choose_period(SOME_PLAN, "khai-mac", None, None, AFTER)
    with pytest.raises(UsageError, match="has not begun"):
        choose_period(SOME_PLAN, "tet-2027", None, None, TET.window.start)


def test_an_unknown_event_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="no event is called 'tet-2028'; events: tet-2027, khai-mac"):
        choose_period(SOME_PLAN, "tet-2028", None, None, AFTER)
    with pytest.raises(UsageError, match="no event is called 'x'; events: none"):
        choose_period(plan(service("mail", "smtp")), "x", None, None, AFTER)


def test_local_days_begin_at_midnight_in_viet_nam_and_the_last_one_is_whole() -> None:
    assert chosen("2027-02-06", "2027-02-06") == Window(T0, T0 + timedelta(days=1))
    assert chosen("2027-02-04", "2027-02-10") == Window(T0 - timedelta(days=2), T0 + timedelta(days=5))


def test_local_times_of_day_are_those_of_the_site() -> None:
    assert chosen("2027-02-05 23:00", "2027-02-06 01:00:30") == Window(at(-3600), at(3630))
    assert chosen("2027-02-05T23:00", "2027-02-06T01:00:30") == Window(at(-3600), at(3630))


def test_times_may_name_their_offset() -> None:
    assert chosen("2027-02-05T17:00:00Z", "2027-02-05T17:30:00+00:00") == Window(at(0), at(1800))
    assert chosen("2027-02-06T00:00:00+07:00", "2027-02-05T12:30:00-05:00") == Window(at(0), at(1800))


def test_a_time_that_a_clock_change_leaves_out_is_refused() -> None:
    berlin = replace(SOME_PLAN, site=replace(SOME_PLAN.site, timezone=ZoneInfo("Europe/Berlin")))
    with pytest.raises(UsageError, match="the clock change in Europe/Berlin leaves out 2026-03-29 02:30:00"):
        chosen("2026-03-29 02:30", "2026-03-30", of=berlin)
    assert chosen("2026-03-29", "2026-03-29", of=berlin) == Window(
        datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("yesterday", "2027-02-06", "expected a local date or time like .* got 'yesterday'"),
        ("2027-02-30", "2027-03-01", "there is no such date or time: '2027-02-30'"),
        ("06/02/2027", "07/02/2027", "got '06/02/2027'"),
        ("2027-W05-6", "2027-02-07", "got '2027-W05-6'"),
        ("2027-02-06 25:00", "2027-02-07", "there is no such date or time"),
        ("1969-12-31", "2027-02-07", "expected a year from 1970 to 2199; got '1969-12-31'"),
        ("0001-01-01T00:00:00+07:00", "2027-02-07", "expected a year from 1970 to 2199; got '0001-01-01T00:00:00"),
        ("2027-02-06", "9999-12-31T23:00:00-07:00", "expected a year from 1970 to 2199; got '9999"),
        ("2027-02-07", "2027-02-06 12:00", "the period ends before it begins"),
        ("2027-02-06 12:00", "2027-02-06 12:00", "the period ends before it begins"),
        ("2027-12-01", "2027-12-02", "the period has not begun"),
    ],
)
def test_an_impossible_period_is_refused_with_the_reason(start: str, end: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        chosen(start, end)


@pytest.mark.parametrize(
    ("event", "start", "end"),
    [
        (None, None, None),
        (None, "2027-02-06", None),
        (None, None, "2027-02-06"),
        ("tet-2027", "2027-02-06", "2027-02-07"),
        ("tet-2027", "2027-02-06", None),
    ],
)
def test_either_an_event_or_both_ends_of_a_period_are_needed(
    event: str | None, start: str | None, end: str | None
) -> None:
    with pytest.raises(UsageError, match="give either --event, or --from together with --to"):
        choose_period(SOME_PLAN, event, start, end, AFTER)


def test_edges_are_whole_milliseconds_as_the_journal_has_them() -> None:
    assert chosen("2027-02-06T00:00:00.123456+07:00", "2027-03-06", at(600.654321)) == Window(at(0.123), at(600.654))


# From the journal to the files.


async def live(state_dir: Path) -> None:
    journal = await Journal.open(state_dir, SITE)
    await journal.begin_run(at(-10), "d" * 64, "0.1.0", "site: {}\n")
    changes = [change("mail.smtp", State.UP, 0), change("mail.smtp", State.DOWN, 300, earliest=290)]
    await journal.commit(Batch(results=[good("mail.smtp", 0)], changes=changes), at(600))
    await journal.close()


def test_a_report_is_written_from_the_journal_of_the_state_directory(tmp_path: Path) -> None:
    asyncio.run(live(tmp_path / "state"))
    ours = replace(SOME_PLAN, state_dir=tmp_path / "state")
    window, title = choose_period(ours, None, "2027-02-06 00:00", "2027-02-06 00:10", AFTER)
    written = write_report(ours, window, title, tmp_path / "out" / "report", ["json", "csv"])
    assert [p.name for p in written] == [
        "checks.csv",
        "figures.json",
        "incidents.csv",
        "outages.csv",
        "services.csv",
    ]
    found = json.loads((tmp_path / "out" / "report" / "figures.json").read_text(encoding="utf-8"))
    assert found["title"] == "2027-02-06 00:00 – 2027-02-06 00:10"
    share = found["services"][0]["availability"]
    assert (share["value"], share["max"]) == (0.5, 0.5)
    assert 0.25 < share["min"] < 0.5  # four rounds may have been missed: see test_availability


def test_the_seconds_still_sum_to_the_period_when_it_is_cut_off_at_any_present(tmp_path: Path) -> None:
    asyncio.run(live(tmp_path / "state"))
    ours = replace(SOME_PLAN, state_dir=tmp_path / "state")
    window, title = choose_period(ours, "tet-2027", None, None, at(700.1239876))
    write_report(ours, window, title, tmp_path, ["json"])
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert round(sum(found["services"][0]["seconds"].values()), 3) == found["seconds"]


def test_without_a_journal_there_is_no_report(tmp_path: Path) -> None:
    ours = replace(SOME_PLAN, state_dir=tmp_path / "state")
    with pytest.raises(JournalError, match="the daemon has not run with this state directory"):
        write_report(ours, TET.window, "Tết", tmp_path / "out", ["json"])
    assert not (tmp_path / "out").exists()
