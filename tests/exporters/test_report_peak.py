"""A peak beside the same hours of other days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from config.plan import Window
from exporters.report.congestion import Queues
from exporters.report.peak_baseline import part, same_hours

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
START = datetime(2027, 2, 3, 17, tzinfo=UTC)  # 04/02/2027 00:00
PERIOD = Window(START, START + timedelta(days=7))
PEAK = Window(START + timedelta(days=1, hours=23), START + timedelta(days=2, hours=1))


def test_the_same_hours_of_other_days_lie_in_the_period_and_hold_no_peak() -> None:
    second = Window(START + timedelta(days=3, hours=23), START + timedelta(days=4))
    found = same_hours(PEAK, PERIOD, ZONE, [PEAK, second])
    assert [(w.start.astimezone(ZONE).day, w.start.astimezone(ZONE).hour) for w in found] == [
        (4, 23), (6, 23), (8, 23), (9, 23),
    ]  # fmt: skip
    assert all(w.end - w.start == timedelta(hours=2) for w in found)


def test_only_the_bins_of_the_windows_count() -> None:
    starts = [START.timestamp() + 3600 * hour for hour in range(72)]
    queues = Queues(starts, [float(hour) for hour in range(72)])
    assert list(part(queues, [PEAK]).ms) == [47.0, 48.0]
