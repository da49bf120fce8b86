"""The rows of the dashboard about services and checks: states, availability, response times, carriers.

Every expression has data while the monitor is scraped, also when all is well: an empty panel means trouble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from exporters.dashboard_panels import (
    COVERAGE_STEPS,
    GREEN,
    GREY,
    HERE,
    MOMENT,
    ORANGE,
    RED,
    SITE,
    YELLOW,
    Column,
    Look,
    Query,
    lines,
    numbers,
    rows,
    shares,
    timeline,
    without_value,
    words,
)
from exporters.rules import INTERVAL_S, OBSERVED

_STATE_WORDS: Final = words(
    {
        0: ("Không có số liệu", GREY),
        1: ("Thông suốt", GREEN),
        2: ("Suy giảm", YELLOW),
        3: ("Nghẽn", ORANGE),
        4: ("Gián đoạn", RED),
    }
)
_ALARM: Final = ((None, GREEN), (1, RED))
_SHARE_STEPS: Final = ((None, RED), (0.99, YELLOW), (0.999, GREEN))
_PHASES: Final = {
    "resolve": "Phân giải tên",
    "connect": "Kết nối",
    "tls": "Bắt tay TLS",
    "processing": "Máy chủ xử lý",
    "transfer": "Tải nội dung",
}


def _named(expr: str) -> str:
    return (
        f"{expr} * on (site, service) group_left (name) max by (site, service, name) (thongsuot_service_info{{{HERE}}})"
    )


def _named_check(expr: str) -> str:
    return (
        f"{expr} * on (site, service, check) group_left (name)"
        f" max by (site, service, check, name) (thongsuot_check_info{{{HERE}}})"
    )


def _state_code(metric: str, by: str) -> str:
    """Return 0 unknown, 1 up, 2 degraded, 3 congested, 4 down, from the five series of a state."""
    codes = " or ".join(
        f'{metric}{{{HERE}, state="{state}"}} * {code}'
        for code, state in enumerate(("unknown", "up", "degraded", "congested", "down"))
    )
    return f"max by ({by}) ({codes})"


def _services_in(states: str) -> str:
    return f'sum(thongsuot_service_state{{{HERE}, state=~"{states}"}})'


def now() -> Sequence[Builder[model.Panel]]:
    """Return the row: what is so this moment, and what led to it."""
    own_fault = f"max by (kind) (thongsuot_own_fault{{{SITE}}})"
    since = f"max by (site, service) (thongsuot_service_state_since_timestamp_seconds{{{HERE}}}) * 1000"
    return (
        numbers(
            Look("Gián đoạn", "Số dịch vụ đang gián đoạn, đã đo lại và xác nhận.", width=4, height=4, steps=_ALARM),
            [Query(_services_in("down"))],
        ),
        numbers(
            Look(
                "Nghẽn hoặc suy giảm",
                "Số dịch vụ vẫn vào được nhưng chậm, nghẽn hoặc hỏng một phần.",
                width=4,
                height=4,
                steps=((None, GREEN), (1, ORANGE)),
            ),
            [Query(_services_in("degraded|congested"))],
        ),
        numbers(
            Look(
                "Không có số liệu",
                "Số dịch vụ hiện không đo được, chưa thể nói là tốt hay hỏng.",
                width=4,
                height=4,
                steps=((None, GREEN), (1, GREY)),
            ),
            [Query(_services_in("unknown"))],
        ),
        numbers(
            Look(
                "Sự cố đang mở",
                "Sự cố đã xác nhận và chưa kết thúc, kể cả lỗi phía mình.",
                width=4,
                height=4,
                steps=_ALARM,
            ),
            [Query(f"sum(thongsuot_incidents_open{{{SITE}}})")],
        ),
        numbers(
            Look(
                "Lỗi phía mình",
                "Khi chính mình mất đường truyền hoặc máy giám sát có lỗi, dịch vụ tính là không có số liệu.",
                width=8,
                height=4,
                steps=_ALARM,
                mappings=words({0: ("Không", GREEN), 1: ("Có lỗi", RED)}),
            ),
            [Query(own_fault, "{{kind}}")],
            names={"near": "Mạng của mình", "far": "Ngoài đường truyền", "local": "Máy giám sát"},
        ),
        timeline(
            Look(
                "Trạng thái các dịch vụ",
                "Mỗi dịch vụ một dòng. Khoảng trống là lúc không đọc được số liệu của hệ thống giám sát.",
                width=16,
                height=12,
                mappings=_STATE_WORDS,
            ),
            [Query(_named(_state_code("thongsuot_service_state", "site, service")))],
        ),
        rows(
            Look(
                "Đang không thông suốt",
                "Dịch vụ không ở trạng thái thông suốt, và từ lúc nào.",
                width=8,
                height=12,
                no_value="Tất cả dịch vụ đều thông suốt",
            ),
            [Query(_named(_state_code("thongsuot_service_state", "site, service"))), Query(since)],
            (
                Column("name", "Dịch vụ"),
                Column("Value #A", "Trạng thái", mappings=_STATE_WORDS),
                Column("Value #B", "Từ lúc", unit=MOMENT),
            ),
            only=without_value("Value #A", 1),
            sort=("Trạng thái", True),
        ),
    )


def availability() -> Sequence[Builder[model.Panel]]:
    """Return the row: availability, never without its coverage."""
    usable = f"avg by (site, service) (avg_over_time(thongsuot_service_up{{{HERE}}}[$__range]))"
    observed = f"sum_over_time({OBSERVED}{{{HERE}}}[$__range]) * {INTERVAL_S} / $__range_s"
    day = [
        _named(f"max by (site, service) (site_service:thongsuot_{figure}:ratio1d{{{HERE}}})")
        for figure in ("availability_worst", "availability_best", "coverage")
    ]
    return (
        shares(
            Look(
                "Độ khả dụng trong khoảng đang xem",
                "Phần thời gian dịch vụ dùng được, chỉ tính trên thời gian đo được. Luôn đọc cùng độ phủ đo.",
                width=8,
                height=10,
                unit="percentunit",
                decimals=3,
                steps=_SHARE_STEPS,
            ),
            [Query(_named(usable))],
        ),
        shares(
            Look(
                "Độ phủ đo trong khoảng đang xem",
                "Phần thời gian thật sự đo được. Lúc hệ thống giám sát hoặc Prometheus tắt tính là không đo được.",
                width=8,
                height=10,
                unit="percentunit",
                decimals=2,
                steps=COVERAGE_STEPS,
            ),
            [Query(_named(f"max by (site, service) (clamp_max({observed}, 1))"))],
        ),
        rows(
            Look(
                "Độ khả dụng 24 giờ qua: thấp nhất và cao nhất",
                "Thấp nhất: mọi lúc không đo được đều coi là gián đoạn. Cao nhất: đều coi là dùng được.",
                width=8,
                height=10,
                unit="percentunit",
            ),
            [Query(expr) for expr in day],
            (
                Column("name", "Dịch vụ"),
                Column("Value #A", "Thấp nhất", unit="percentunit", decimals=3),
                Column("Value #B", "Cao nhất", unit="percentunit", decimals=3),
                Column("Value #C", "Độ phủ đo", unit="percentunit", decimals=2, steps=COVERAGE_STEPS),
            ),
        ),
        lines(
            Look("Độ khả dụng, một giờ trượt", "Tính trên thời gian đo được của giờ trước đó.", 12, unit="percentunit"),
            [Query(_named(f"max by (site, service) (site_service:thongsuot_availability:ratio1h{{{HERE}}})"))],
        ),
        lines(
            Look("Độ phủ đo, một giờ trượt", "Phần thời gian đo được của giờ trước đó.", 12, unit="percentunit"),
            [Query(_named(f"max by (site, service) (site_service:thongsuot_coverage:ratio1h{{{HERE}}})"))],
        ),
    )


def response() -> Sequence[Builder[model.Panel]]:
    """Return the row: response times, faults, certificates."""
    return (
        lines(
            Look(
                "Thời gian đáp ứng theo giai đoạn",
                "Trung bình các phép kiểm tra đang chọn. Chọn một dịch vụ ở trên để xem riêng dịch vụ đó.",
                width=12,
                unit="s",
            ),
            [Query(f"avg by (phase) (thongsuot_probe_phase_seconds{{{HERE}}})", "{{phase}}")],
            names=_PHASES,
            stacked=True,
        ),
        lines(
            Look("Thời gian đáp ứng từng phép kiểm tra", "Toàn bộ thời gian của lượt đo gần nhất.", 12, unit="s"),
            [Query(_named_check(f"max by (site, service, check) (thongsuot_probe_duration_seconds{{{HERE}}})"))],
        ),
        lines(
            Look(
                "Kết quả đo theo nguyên nhân",
                "Số lượt đo mỗi giây. Lỗi local và internal là của phía mình, không tính cho dịch vụ.",
                width=12,
                unit="cps",
            ),
            [Query(f"sum by (fault) (rate(thongsuot_probes_total{{{HERE}}}[$__rate_interval]))", "{{fault}}")],
            names={"none": "Tốt"},
            stacked=True,
        ),
        rows(
            Look("Chứng thư TLS", "Số ngày còn lại của chứng thư; số âm là đã hết hạn.", 12),
            [
                Query(
                    _named_check(
                        "min by (site, service, check)"
                        f" (last_over_time(thongsuot_tls_not_after_timestamp_seconds{{{HERE}}}[1h]) - time()) / 86400"
                    )
                )
            ],
            (
                Column("service", "Dịch vụ"),
                Column("name", "Phép kiểm tra"),
                Column("Value", "Còn (ngày)", decimals=1, steps=((None, RED), (7, YELLOW), (21, GREEN))),
            ),
            sort=("Còn (ngày)", False),
        ),
    )


def carriers() -> Sequence[Builder[model.Panel]]:
    """Return the row: round-trip times and loss of each carrier and path."""
    buckets = f"rate(thongsuot_rtt_seconds_bucket{{{HERE}}}[$__rate_interval])"
    lost, sent = (
        f"sum by (site, service, check, path) (rate(thongsuot_echoes_{what}_total{{{HERE}}}[$__rate_interval]))"
        for what in ("lost", "sent")
    )
    quantiles = [
        Query(
            _named_check(f"histogram_quantile({q}, sum by (site, service, check, path, le) ({buckets}))"),
            f"{{{{name}}}} {{{{path}}}} {text}",
        )
        for q, text in ((0.5, "giữa"), (0.95, "95 %"), (0.99, "99 %"))
    ]
    return (
        lines(
            Look(
                "Thời gian khứ hồi theo nhà mạng và đường truyền",
                "Mọi phép đo bằng gói tin thử, kể cả điểm đối chiếu: trung vị, 95 % và 99 %.",
                width=12,
                height=10,
                unit="s",
            ),
            quantiles,
        ),
        lines(
            Look("Tỷ lệ mất gói", "Phần gói tin thử không quay về.", 12, 10, unit="percentunit"),
            [Query(_named_check(f"{lost} / {sent}"), "{{name}} {{path}}")],
        ),
    )


def checks() -> Sequence[Builder[model.Panel]]:
    """Return the row: the states of single checks."""
    return (
        timeline(
            Look(
                "Trạng thái từng phép kiểm tra",
                "Kể cả điểm đối chiếu. Chọn dịch vụ ở trên để thu gọn.",
                width=24,
                height=16,
                mappings=_STATE_WORDS,
            ),
            [Query(_named_check(_state_code("thongsuot_state", "site, service, check")), "{{service}} · {{name}}")],
        ),
    )
