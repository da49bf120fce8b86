"""The rows of the dashboard about the monitor itself: is it keeping its promises, and are its alerts arriving?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from exporters.alert_rules import JOB
from exporters.dashboard_panels import HERE, MOMENT, SITE, Column, Look, Query, lines, numbers, rows

_ENDS: Final = {"done": "Đúng giờ", "late": "Trễ", "skipped": "Bỏ qua", "lost": "Mất"}
_OUTCOMES: Final = {
    "mail sent": "Thư: đã nhận",
    "mail retry": "Thư: sẽ gửi lại",
    "mail failed": "Thư: đã bỏ",
    "mail recipient-refused": "Thư: người nhận bị từ chối",
}


def monitor() -> Sequence[Builder[model.Panel]]:
    """Return the row: the monitor's own health."""
    lateness = f"sum by (site, le) (rate(thongsuot_slot_lateness_seconds_bucket{{{SITE}}}[$__rate_interval]))"
    return (
        lines(
            Look("Lượt đo", "Mỗi lượt đo đã định kết thúc theo một trong bốn cách; không lượt nào bị bỏ quên.", 8),
            [Query(f"sum by (end) (rate(thongsuot_slots_total{{{HERE}}}[$__rate_interval]))", "{{end}}")],
            names=_ENDS,
            stacked=True,
        ),
        lines(
            Look("Độ trễ của lượt đo", "Bắt đầu đo trễ bao nhiêu so với giờ đã định.", 8, unit="s"),
            [
                Query(f"histogram_quantile({q}, {lateness})", f"{{{{site}}}} {text}")
                for q, text in ((0.5, "giữa"), (0.99, "99 %"))
            ],
        ),
        lines(
            Look("Độ phủ của 60 lượt gần nhất", "Trung bình các phép kiểm tra của dịch vụ.", 8, unit="percentunit"),
            [Query(f"avg by (site, service) (thongsuot_coverage_ratio{{{HERE}}})", "{{service}}")],
        ),
        lines(
            Look("Hàng đợi kết quả", "Kết quả chờ xét và ghi, giới hạn, và số lượt đang đo.", 8),
            [
                Query(f"thongsuot_results_queue_size{{{SITE}}}", "{{site}} đang chờ"),
                Query(f"thongsuot_results_queue_limit{{{SITE}}}", "{{site}} giới hạn"),
                Query(f"thongsuot_probes_running{{{SITE}}}", "{{site}} đang đo"),
            ],
        ),
        lines(
            Look("Ghi nhật ký", "Lần ghi gần nhất mất bao lâu.", 8, unit="s"),
            [Query(f"thongsuot_journal_commit_seconds{{{SITE}}}", "{{site}}")],
        ),
        lines(
            Look("Bộ xử lý", "Phần của một nhân mà hệ thống giám sát dùng.", 8, unit="percentunit"),
            [Query(f'rate(process_cpu_seconds_total{{job="{JOB}"}}[$__rate_interval])', "{{instance}}")],
        ),
        lines(
            Look("Bộ nhớ", "Bộ nhớ hệ thống giám sát đang giữ.", 8, unit="bytes"),
            [Query(f'process_resident_memory_bytes{{job="{JOB}"}}', "{{instance}}")],
        ),
        lines(
            Look("Tệp và kết nối đang mở", "Tăng mãi không giảm là có chỗ rò rỉ.", 8),
            [Query(f'process_open_fds{{job="{JOB}"}}', "{{instance}}")],
        ),
        rows(
            Look("Hệ thống giám sát", "Phiên bản, lúc khởi động, số lần từ chối cấu hình mới.", 8),
            [
                Query(f"max by (site, version) (thongsuot_build_info{{{SITE}}})"),
                Query(f"max by (site) (thongsuot_start_time_seconds{{{SITE}}}) * 1000"),
                Query(f"max by (site) (thongsuot_config_reloads_refused_total{{{SITE}}})"),
            ],
            (
                Column("site", "Điểm"),
                Column("version", "Phiên bản"),
                Column("Value #B", "Khởi động lúc", unit=MOMENT),
                Column("Value #C", "Từ chối cấu hình", decimals=0),
            ),
        ),
    )


def _alerts_sent(window: str) -> str:
    return f"sum by (channel, outcome) (increase(thongsuot_alerts_total{{{SITE}}}[{window}]))"


def telling() -> Sequence[Builder[model.Panel]]:
    """Return the row: what became of our alerts."""
    return (
        numbers(
            Look(
                "Cảnh báo trong khoảng đang xem",
                "Đã nhận: máy chủ thư đã nhận. Sẽ gửi lại: lần thử chưa thành. Đã bỏ: bị từ chối hẳn.",
                width=8,
                decimals=0,
            ),
            [Query(_alerts_sent("$__range"), "{{channel}} {{outcome}}")],
            names=_OUTCOMES,
        ),
        lines(
            Look("Cảnh báo theo thời gian", "Số lần gửi theo kết quả.", 8, decimals=0),
            [Query(_alerts_sent("$__rate_interval"), "{{channel}} {{outcome}}")],
            names=_OUTCOMES,
        ),
        lines(
            Look("Cảnh báo chưa gửi", "Còn lớn hơn 0 lâu là người trực chưa được báo: hãy gọi điện.", 8, decimals=0),
            [Query(f"thongsuot_outbox_waiting{{{SITE}}}", "{{site}}")],
        ),
    )
