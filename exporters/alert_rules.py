"""What Prometheus tells people of, with the words a duty officer reads. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

JOB: Final = "thongsuot"  # the scrape job's name, as in prometheus.yml
_NAMED: Final = "* on (job, instance, site, service) group_left (name) thongsuot_service_info"
_NAMED_CHECK: Final = "* on (job, instance, site, service, check) group_left (name) thongsuot_check_info"
# What is measured goes on in announced work, and nobody is called for it.
_NOT_AT_WORK: Final = "unless on (job, instance, site, service) (thongsuot_service_maintenance == 1)"
_CHECK_NOT_AT_WORK: Final = "unless on (job, instance, site, service, check, path) (thongsuot_maintenance == 1)"
# An hour back, because a probe that cannot measure shows no certificate, and the date stays true.
_CERTIFICATE_DAYS: Final = (
    "(last_over_time(thongsuot_tls_not_after_timestamp_seconds[1h]) - time()) / 86400 " + _NAMED_CHECK
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule: `measure` always has data, `condition` keeps what someone must be told of.

    With `whole`, the expression is that instead, for conditions that cannot be a comparison.
    """

    name: str
    measure: str
    condition: str
    lasting: str  # Prometheus' `for`; empty tells at once
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str
    whole: str = ""

    @property
    def expr(self) -> str:
        """The PromQL expression that fires."""
        return self.whole or f"{self.measure} {self.condition}"


_SERVICES: Final = (
    Alert(
        name="ThongsuotServiceDown",
        measure=f'thongsuot_service_state{{state="down"}} {_NAMED}',
        condition=f"== 1 {_NOT_AT_WORK}",
        lasting="",  # the monitor has confirmed it already
        severity="critical",
        summary="{{ $labels.name }} gián đoạn",
        description=(
            "Dịch vụ {{ $labels.name }} tại {{ $labels.site }} đang gián đoạn; đã đo lại và xác nhận. "
            "Xem trang trực tiếp của Thông Suốt để biết phép kiểm tra nào hỏng, từ lúc nào và ai đã được báo."
        ),
    ),
    Alert(
        name="ThongsuotServiceImpaired",
        measure=(f'max without (state) (thongsuot_service_state{{state=~"degraded|congested"}}) {_NAMED}'),
        condition=f"== 1 {_NOT_AT_WORK}",
        lasting="5m",
        severity="warning",
        summary="{{ $labels.name }} nghẽn hoặc suy giảm",
        description=(
            "Dịch vụ {{ $labels.name }} tại {{ $labels.site }} vẫn vào được nhưng nghẽn hoặc suy giảm hơn 5 phút. "
            "Xem thời gian đáp ứng và tỷ lệ mất gói trên bảng theo dõi."
        ),
    ),
    Alert(
        name="ThongsuotServiceUnobserved",
        measure=f'thongsuot_service_state{{state="unknown"}} {_NAMED}',
        condition=f"== 1 {_NOT_AT_WORK}",
        lasting="10m",
        severity="warning",
        summary="{{ $labels.name }} không có số liệu",
        description=(
            "Hơn 10 phút nay không đo được dịch vụ {{ $labels.name }} tại {{ $labels.site }}: "
            "chưa thể nói là tốt hay hỏng. Kiểm tra đường truyền và máy giám sát trước."
        ),
    ),
    Alert(
        name="ThongsuotCheckDown",
        measure=f'thongsuot_state{{state="down"}} {_NAMED_CHECK}',
        condition=f"== 1 {_CHECK_NOT_AT_WORK}",
        lasting="10m",
        severity="info",
        summary="Phép kiểm tra {{ $labels.service }}.{{ $labels.check }} hỏng",
        description=(
            "Phép kiểm tra {{ $labels.name }} ({{ $labels.service }}.{{ $labels.check }}) tại {{ $labels.site }} hỏng "
            "hơn 10 phút, kể cả khi dịch vụ vẫn còn đường khác để dùng."
        ),
    ),
    Alert(
        name="ThongsuotCertificateExpiresSoon",
        measure=_CERTIFICATE_DAYS,
        condition="< 21 >= 7",
        lasting="10m",
        severity="warning",
        summary='Chứng thư của {{ $labels.service }}.{{ $labels.check }} còn {{ $value | printf "%.0f" }} ngày',
        description=(
            "Chứng thư TLS mà {{ $labels.name }} tại {{ $labels.site }} đưa ra còn hạn "
            '{{ $value | printf "%.1f" }} ngày. Gia hạn trước kỳ nghỉ.'
        ),
    ),
    Alert(
        name="ThongsuotCertificateExpires",
        measure=_CERTIFICATE_DAYS,
        condition="< 7",
        lasting="10m",
        severity="critical",
        summary="Chứng thư của {{ $labels.service }}.{{ $labels.check }} sắp hết hạn hoặc đã hết hạn",
        description=(
            "Chứng thư TLS mà {{ $labels.name }} tại {{ $labels.site }} đưa ra còn hạn "
            '{{ $value | printf "%.1f" }} ngày (số âm: đã hết hạn). Gia hạn ngay.'
        ),
    ),
)

_MONITOR: Final = (
    Alert(
        name="ThongsuotMonitorDown",
        measure=f'up{{job="{JOB}"}}',
        condition="== 0",
        lasting="1m",
        severity="critical",
        summary="Hệ thống giám sát {{ $labels.instance }} không trả lời",
        description=(
            "Prometheus không đọc được số liệu của Thông Suốt tại {{ $labels.instance }} hơn 1 phút. "
            "Không ai đang giám sát các dịch vụ ở đó. Kiểm tra: systemctl status thongsuot."
        ),
    ),
    Alert(
        name="ThongsuotMonitorAbsent",
        measure=f'up{{job="{JOB}"}}',
        condition="",
        whole=f'absent(up{{job="{JOB}"}})',
        lasting="2m",
        severity="critical",
        summary="Không có hệ thống giám sát nào được đọc",
        description=(
            f"Prometheus không có mục tiêu nào thuộc job {JOB}: cấu hình đọc số liệu bị mất hoặc sai tên. "
            "Kiểm tra scrape_configs của Prometheus."
        ),
    ),
    Alert(
        name="ThongsuotSiteMissing",
        measure="max by (site) (max_over_time(thongsuot_build_info[1h]))",
        condition="",
        whole="max by (site) (max_over_time(thongsuot_build_info[1h])) unless max by (site) (thongsuot_build_info)",
        lasting="2m",
        severity="critical",
        summary="Điểm giám sát {{ $labels.site }} im lặng",
        description=(
            "Trong một giờ qua điểm giám sát {{ $labels.site }} còn có số liệu, nay không còn. "
            "Máy giám sát đã tắt, mất đường truyền, hoặc bị bỏ khỏi cấu hình Prometheus."
        ),
    ),
    Alert(
        name="ThongsuotRestarting",
        measure="changes(thongsuot_start_time_seconds[1h])",
        condition="> 2",
        lasting="",
        severity="warning",
        summary="Hệ thống giám sát {{ $labels.site }} khởi động lại nhiều lần",
        description=(
            'Thông Suốt tại {{ $labels.site }} đã khởi động lại {{ $value | printf "%.0f" }} lần trong một giờ. '
            "Xem: journalctl -u thongsuot."
        ),
    ),
    Alert(
        name="ThongsuotOwnFault",
        measure="thongsuot_own_fault",
        condition="== 1",
        lasting="",
        severity="warning",
        summary="Lỗi phía mình tại {{ $labels.site }}",
        description=(
            "Điểm giám sát {{ $labels.site }} không nhìn thấy bên ngoài. Loại {{ $labels.kind }} "
            "(near: mạng nội bộ của mình; far: phía ngoài đường truyền của mình; resolver: phân giải tên miền; "
            "descriptors, sockets: hết mô tả tệp hoặc socket; local: chính máy giám sát). "
            "Các dịch vụ trong thời gian này tính là không có số liệu, không tính là gián đoạn."
        ),
    ),
    Alert(
        name="ThongsuotStoodStill",
        measure="increase(thongsuot_own_lapse_seconds_total[1h])",
        condition="> 60",
        lasting="",
        severity="warning",
        summary="Hệ thống giám sát {{ $labels.site }} bị đứng hoặc bị chỉnh đồng hồ",
        description=(
            "Trong một giờ qua, điểm giám sát {{ $labels.site }} có {{ $value | humanizeDuration }} không đo được "
            "(stall: phần mềm bị đứng; suspend: máy bị tạm ngủ; clock-step: đồng hồ bị chỉnh): {{ $labels.kind }}."
        ),
    ),
    Alert(
        name="ThongsuotClockUnsynchronised",
        measure="thongsuot_clock_synchronised",
        condition="== 0",
        lasting="15m",
        severity="warning",
        summary="Đồng hồ của máy giám sát {{ $labels.site }} không được đồng bộ",
        description=(
            "Không chương trình nào giữ đồng hồ của máy giám sát {{ $labels.site }} theo giờ chuẩn (NTP). "
            "Giờ ghi trong số liệu và bằng chứng có thể sai."
        ),
    ),
    Alert(
        name="ThongsuotCoverageLow",
        measure="avg by (site, service) (thongsuot_coverage_ratio)",
        condition="< 0.9",
        lasting="10m",
        severity="warning",
        summary="Độ phủ đo của {{ $labels.service }} thấp",
        description=(
            "Chỉ {{ $value | humanizePercentage }} số lượt đo gần đây của {{ $labels.service }} tại {{ $labels.site }} "
            "có kết quả. Số liệu độ khả dụng của thời gian này kém tin cậy."
        ),
    ),
    Alert(
        name="ThongsuotSlotsLost",
        measure=(
            'sum by (site) (increase(thongsuot_slots_total{end=~"skipped|lost"}[15m]))'
            " / sum by (site) (increase(thongsuot_slots_total[15m]))"
        ),
        condition="> 0.01",
        lasting="5m",
        severity="warning",
        summary="Hệ thống giám sát {{ $labels.site }} bỏ lỡ lượt đo",
        description=(
            "{{ $value | humanizePercentage }} số lượt đo đã định trong 15 phút qua tại {{ $labels.site }} "
            "bị bỏ qua hoặc mất. Máy giám sát quá tải, hoặc có phép kiểm tra chạy lâu hơn chu kỳ của nó."
        ),
    ),
    Alert(
        name="ThongsuotProbesLate",
        measure="histogram_quantile(0.99, sum by (site, le) (rate(thongsuot_slot_lateness_seconds_bucket[5m])))",
        condition="> 0.5",
        lasting="10m",
        severity="warning",
        summary="Hệ thống giám sát {{ $labels.site }} đo trễ",
        description=(
            '1 % số lượt đo tại {{ $labels.site }} bắt đầu trễ hơn {{ $value | printf "%.2f" }} giây. '
            "Khi máy giám sát quá tải, thời gian đáp ứng đo được không đáng tin."
        ),
    ),
    Alert(
        name="ThongsuotResultsQueueFull",
        measure="thongsuot_results_queue_size / thongsuot_results_queue_limit",
        condition="> 0.8",
        lasting="1m",
        severity="warning",
        summary="Hàng đợi kết quả tại {{ $labels.site }} sắp đầy",
        description=(
            "Hàng đợi kết quả đã đầy {{ $value | humanizePercentage }}. Khi đầy, việc đo phải dừng chờ. "
            "Kiểm tra ổ đĩa của máy giám sát."
        ),
    ),
    Alert(
        name="ThongsuotJournalUnwritable",
        measure="thongsuot_journal_writable",
        condition="== 0",
        lasting="1m",
        severity="critical",
        summary="Máy giám sát {{ $labels.site }} không ghi được nhật ký",
        description=(
            "Thường là do đầy đĩa. Từ lúc đó trạng thái trên trang đứng yên và không thư cảnh báo nào được gửi: "
            "dọn chỗ trên đĩa của thư mục dữ liệu, số liệu đang chờ sẽ tự ghi tiếp."
        ),
    ),
    Alert(
        name="ThongsuotEvidenceTrouble",
        measure="thongsuot_evidence_trouble",
        condition="== 1",
        lasting="15m",
        severity="warning",
        summary="Máy giám sát {{ $labels.site }} chưa niêm phong được số liệu",
        description=(
            "Việc theo dõi vẫn bình thường, nhưng bằng chứng của các giờ đã qua chưa được niêm phong: "
            "xem lý do trên trang theo dõi và dung lượng đĩa."
        ),
    ),
    Alert(
        name="ThongsuotResultsNotRecorded",
        measure="thongsuot_results_recorded",
        condition="== 0",
        lasting="1m",
        severity="critical",
        summary="Máy giám sát {{ $labels.site }} ngừng ghi kết quả đo vì đĩa gần đầy",
        description=(
            "Việc đo, xét trạng thái và báo động vẫn tiếp tục, nhưng thời gian này sẽ không có số liệu gốc làm bằng "
            "chứng: dọn chỗ trên đĩa của thư mục dữ liệu ngay."
        ),
    ),
    Alert(
        name="ThongsuotEvidenceFills",
        measure="thongsuot_evidence_left_seconds / 86400",
        condition="< 14",
        lasting="1h",
        severity="warning",
        summary="Chỗ lưu số liệu tại {{ $labels.site }} sắp hết",
        description=(
            'Với tốc độ hiện nay còn chỗ cho {{ $value | printf "%.0f" }} ngày; sau đó số liệu gốc cũ nhất sẽ được '
            "thay bằng bản tóm tắt. Thêm đĩa, nâng store.budget, hoặc chấp nhận."
        ),
    ),
    Alert(
        name="ThongsuotJournalSlow",
        measure="thongsuot_journal_commit_seconds",
        condition="> 1",
        lasting="5m",
        severity="warning",
        summary="Ghi nhật ký tại {{ $labels.site }} chậm",
        description='Mỗi lần ghi nhật ký mất {{ $value | printf "%.1f" }} giây. Kiểm tra ổ đĩa của máy giám sát.',
    ),
    Alert(
        name="ThongsuotReloadRefused",
        measure="increase(thongsuot_config_reloads_refused_total[15m])",
        condition="> 0",
        lasting="",
        severity="warning",
        summary="Cấu hình mới tại {{ $labels.site }} bị từ chối",
        description=(
            "Cấu hình mới có lỗi nên không được dùng, cấu hình cũ vẫn chạy. "
            "Chạy thongsuot check với tệp cấu hình để xem từng lỗi."
        ),
    ),
)

_ALERTING: Final = (
    Alert(
        name="ThongsuotOutboxStuck",
        measure="thongsuot_outbox_waiting",
        condition="> 0",
        lasting="10m",
        severity="critical",
        summary="Cảnh báo tại {{ $labels.site }} chưa gửi được",
        description=(
            'Hơn 10 phút nay còn {{ $value | printf "%.0f" }} thông báo chưa máy chủ thư nào nhận. '
            "Người trực có thể chưa biết về sự cố: gọi điện, rồi chạy thongsuot alerts test để xem máy chủ nào từ chối."
        ),
    ),
    Alert(
        name="ThongsuotAlertsFailing",
        measure='increase(thongsuot_alerts_total{outcome="failed"}[15m])',
        condition="> 0",
        lasting="",
        severity="critical",
        summary="Cảnh báo tại {{ $labels.site }} gửi hỏng",
        description=(
            'Kênh {{ $labels.channel }} đã bỏ {{ $value | printf "%.0f" }} thông báo trong 15 phút qua '
            "vì bị từ chối hẳn. Người trực có thể chưa biết về sự cố. "
            "Kiểm tra địa chỉ nhận và máy chủ thư trong cấu hình alerts."
        ),
    ),
)

ALERTS: Final[tuple[Alert, ...]] = _SERVICES + _MONITOR + _ALERTING
