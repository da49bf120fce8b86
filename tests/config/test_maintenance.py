"""Announced work in the configuration: what may be written, and when the work is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from config.loader import ConfigError, load_text
from config.maintenance import occurrences
from config.plan import MaintenancePlan, Window

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
HEAD = """\
site: {id: tinh, name: Tỉnh}
references: {gateway: {probe: icmp, host: 192.0.2.1}, far: {probe: icmp, host: 192.0.2.2}}
services:
  mail: {checks: {smtp: {probe: smtp, host: mail.example.vn}, imap: {probe: imap, host: mail.example.vn}}}
  portal: {checks: {web: {probe: http, url: "https://portal.example.vn/"}}}
"""


def read(entry: str) -> tuple[MaintenancePlan, ...]:
    return load_text(f"{HEAD}maintenance:\n  - {entry}\n").maintenance


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)


def test_work_that_comes_once_has_its_local_time() -> None:
    (work,) = read("{services: [mail], checks: [portal.web], from: 2027-01-20 22:00, to: 2027-01-21 02:00, reason: Vá}")
    assert (work.subjects, work.reason) == (("mail", "portal.web"), "Vá")
    assert work.window == Window(local("2027-01-20T22:00"), local("2027-01-21T02:00"))


def test_a_date_as_the_end_is_held_to_its_end() -> None:
    (work,) = read("{services: [mail], from: 2027-01-20, to: 2027-01-20, reason: Vá}")
    assert work.window == Window(local("2027-01-20T00:00"), local("2027-01-21T00:00"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{from: 2027-01-20, to: 2027-01-21, reason: Vá}", "maintenance needs services or checks"),
        ("{services: [mail], reason: Vá}", "maintenance needs from and to, or weekly"),
        ("{services: [mail], from: 2027-01-20, reason: Vá}", "maintenance needs from and to, or weekly"),
        ("{services: [mail], from: 2027-01-20 10:00, to: 2027-01-20 10:00, reason: Vá}", "ends before it begins"),
        ("{services: [mial], from: 2027-01-20, to: 2027-01-21, reason: Vá}", "unknown service 'mial'"),
        ("{checks: [mail.pop3], from: 2027-01-20, to: 2027-01-21, reason: Vá}", "unknown check 'mail.pop3'"),
        ("{services: [mail], from: 2027-01-20, to: 2027-01-21}", "maintenance[0].reason: required key is missing"),
        ('{services: [mail], weekly: {on: sun, at: "24:00", for: 1h}, reason: Vá}', "expected a time of day"),
        ('{services: [mail], weekly: {on: sunday, at: "22:00", for: 1h}, reason: Vá}', "maintenance[0].weekly.on"),
        ('{services: [mail], weekly: {on: sun, at: "22:00", for: 8d}, reason: Vá}', "from 1m to 7d"),
    ],
)
def test_a_mistake_is_named_with_its_place(entry: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"<text>:7:") as refused:
        read(entry)
    assert said in str(refused.value)


def test_weekly_work_comes_on_its_days_at_its_local_time() -> None:
    (work,) = read('{services: [mail], weekly: {on: [sun, wed], at: "23:30", for: 90m}, reason: Vá}')
    found = list(occurrences(work, Window(local("2027-02-01T01:00"), local("2027-02-10T23:30")), ZONE))
    # The 3rd is a Wednesday, the 7th a Sunday; that of the 10th begins where the span ends.
    starts = [local("2027-02-03T23:30"), local("2027-02-07T23:30")]
    assert found == [Window(start, start + timedelta(minutes=90)) for start in starts]


def test_weekly_work_that_is_under_way_when_the_span_begins_is_given_whole() -> None:
    (work,) = read('{services: [mail], weekly: {on: sun, at: "23:30", for: 90m}, reason: Vá}')
    (found,) = occurrences(work, Window(local("2027-02-08T00:30"), local("2027-02-09T00:00")), ZONE)
    assert found == Window(local("2027-02-07T23:30"), local("2027-02-08T01:00"))


def test_a_change_of_clocks_makes_work_neither_longer_nor_shorter() -> None:
    (work,) = read('{services: [mail], weekly: {on: sun, at: "01:30", for: 2h}, reason: Vá}')
    berlin = ZoneInfo("Europe/Berlin")  # 28 March 2027: from 02:00 to 03:00
    span = Window(datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 3, 29, tzinfo=UTC))
    (found,) = occurrences(work, span, berlin)
    assert found == Window(datetime(2027, 3, 28, 0, 30, tzinfo=UTC), datetime(2027, 3, 28, 2, 30, tzinfo=UTC))


def test_work_that_is_over_is_not_given() -> None:
    (work,) = read("{services: [mail], from: 2027-01-20 22:00, to: 2027-01-21 02:00, reason: Vá}")
    assert not list(occurrences(work, Window(local("2027-01-21T02:00"), local("2027-03-01T00:00")), ZONE))
    far_ahead = Window(local("2026-06-01T00:00"), local("2026-07-01T00:00"))
    assert list(occurrences(work, far_ahead, ZONE)) == [work.window]
