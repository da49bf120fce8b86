"""The ad hoc report of one incident (báo cáo đột xuất), and a draft of the initial report of Circular 20/2017.

The form (Mẫu số 03) is for information-security incidents. Whether an outage is one, a person decides: the draft says
so at its top, and fills in only what the measurements show.
"""

from __future__ import annotations

from collections.abc import Sequence

from config.plan import Plan, ServiceKind, ServicePlan, Window
from exporters import text_report as words
from exporters import text_route
from exporters.report import charts, letter, tables
from exporters.report.charts import Axis, Curve, Strip
from exporters.report.congestion import main_check
from exporters.report.document import Block, Chart, Column, Document, Form, Heading, Numbering, Paragraph, Style, Table
from exporters.report.figures import Figures
from exporters.report.material import Material
from exporters.text import blame_sentence, duration_words, fault_phrase, state_word
from monitor.groups import is_group
from monitor.model import Incident, State

WAYS = 12  # traces in the table: three an incident, of at most four services
DRAFT_BANNER = (
    "DỰ THẢO DO PHẦN MỀM ĐIỀN SẴN – NGƯỜI CÓ THẨM QUYỀN QUYẾT ĐỊNH ĐÂY CÓ PHẢI LÀ SỰ CỐ AN TOÀN THÔNG TIN MẠNG HAY "
    "KHÔNG, "
    "KIỂM TRA CĂN CỨ PHÁP LÝ VÀ CƠ QUAN NHẬN TRƯỚC KHI GỬI"
)
_SERVICES = {
    ServiceKind.MAIL: "thư điện tử",
    ServiceKind.PORTAL: "trang/cổng thông tin điện tử (web)",
    ServiceKind.OFFICE: "khác (văn phòng điện tử)",
    ServiceKind.DATA_CENTRE: "khác (trung tâm dữ liệu)",
    ServiceKind.CONFERENCE: "khác (truyền hình trực tuyến)",
    ServiceKind.CARRIER: "khác (kết nối viễn thông)",
    ServiceKind.NETWORK: "khác (mạng truyền số liệu)",
    ServiceKind.SERVICE: "khác",
}


def build(material: Material) -> Document:
    """Write the ad hoc report of the material's incident."""
    incident, figures, plan = _incident(material), material.figures, material.plan
    zone = plan.site.timezone
    name = tables.subject_name(plan, incident)
    year = incident.began_at.astimezone(zone).year
    numbers = Numbering()
    over = incident.ended_at or figures.period.end
    end = words.brief(incident.ended_at, zone) if incident.ended_at else "chưa kết thúc đến thời điểm lập báo cáo"
    blocks: list[Block] = [
        Paragraph(
            f"{letter.body_name(plan)} báo cáo đột xuất về sự cố của “{name}” ghi nhận lúc "
            f"{words.moment(incident.began_at, zone)}, như sau:"
        ),
        Heading("I. DIỄN BIẾN SỰ CỐ", 1),
        Paragraph(f"{name}.", Style.BULLET, bold="Hệ thống, dịch vụ:"),
        Paragraph(f"{state_word(incident.state)}.", Style.BULLET, bold="Mức độ nặng nhất:"),
        Paragraph(f"{words.brief(incident.began_at, zone)}.", Style.BULLET, bold="Thời điểm bắt đầu ghi nhận:"),
        Paragraph(f"{words.brief(incident.confirmed_at, zone)}.", Style.BULLET, bold="Thời điểm xác nhận:"),
        Paragraph(f"{end}.", Style.BULLET, bold="Thời điểm kết thúc:"),
        Paragraph(f"{tables.incident_length(figures, incident)}.", Style.BULLET, bold="Kéo dài:"),
        *_course(figures, incident, numbers),
        _strip(material, incident, numbers),
        *_curve(material, incident, numbers),
        *_ways(figures, incident, numbers),
        Heading("II. NGUYÊN NHÂN, PHẠM VI ẢNH HƯỞNG", 1),
        Paragraph(f"{tables.incident_cause(figures, incident).rstrip('.')}.", bold="Hiện tượng đo được:"),
        Paragraph(_whose(figures, incident)),
        Paragraph(_affected(figures, incident), bold="Dịch vụ bị kéo theo:"),
        Paragraph(words.placeholder("nguyên nhân kỹ thuật do đơn vị vận hành xác định"), bold="Nguyên nhân:"),
        Heading("III. KẾT QUẢ XỬ LÝ", 1),
        Paragraph(words.placeholder("biện pháp đã thực hiện, người thực hiện, thời điểm")),
        Heading("IV. KIẾN NGHỊ, ĐỀ XUẤT", 1),
        Paragraph(words.placeholder("kiến nghị, đề xuất")),
        Paragraph(f"Trên đây là báo cáo đột xuất về sự cố của “{name}”, {letter.body_name(plan)} kính báo cáo./."),
    ]
    return Document(
        head=letter.letterhead(plan, "BC", material.dated, year),
        kind="BÁO CÁO ĐỘT XUẤT",
        about=f"Sự cố của “{name}”\n{words.span(Window(incident.began_at, over), zone)}",
        blocks=tuple(blocks),
        signature=letter.signature(plan),
        stamp=figures.period.end,
        addressee=plan.reports.addressee or "",
        banners=letter.banners(simulated=figures.simulated),
    )


def _incident(material: Material) -> Incident:
    assert material.incident is not None  # whoever asks for this report has found it
    return material.incident


def _services(plan: Plan, incident: Incident) -> Sequence[ServicePlan]:
    service = plan.by_id().get(incident.subject)
    if service is None and is_group(incident.subject) and incident.cause:
        return [s for s in plan.services if s.id in incident.cause.members] or plan.services
    return (service,) if service else plan.services


def _course(figures: Figures, incident: Incident, numbers: Numbering) -> list[Block]:
    """Return what each check went through."""
    zone = figures.plan.site.timezone
    columns = (
        Column("Phép kiểm tra", 0.28),
        Column("Từ", 0.21),
        Column("Đến", 0.21),
        Column("Trạng thái", 0.14),
        Column("Lý do", 0.16),
    )
    rows: list[tuple[str, ...]] = []
    for service in _services(figures.plan, incident):
        for target in service.targets:
            line = figures.checks[target.id]
            reasons = {o.start: o.fault for o in line.outages}
            rows += [
                (
                    f"{service.name}: {target.name}",
                    words.brief(s.start, zone),
                    words.brief(s.end, zone),
                    state_word(s.state),
                    fault_phrase(reasons.get(s.start, ""), state=s.state) if s.state is State.DOWN else words.DASH,
                )
                for s in line.segments
                if s.state is not State.UP
            ]
    if not rows:
        return []
    rows.sort(key=lambda row: (row[1][6:10], row[1][3:5], row[1][:2], row[1][11:]))
    return [Table(numbers.table("Diễn biến của từng phép kiểm tra"), columns, tuple(rows[: tables.ROWS]))]


def _strip(material: Material, incident: Incident, numbers: Numbering) -> Chart:
    figures = material.figures
    axis = Axis(figures.period, figures.plan.site.timezone, figures.peaks)
    rows = []
    for service in _services(figures.plan, incident):
        rows.append(Strip(service.name, figures.services[service.id].segments))
        if len(_services(figures.plan, incident)) == 1:
            rows += [Strip(t.name, figures.checks[t.id].segments) for t in service.targets]
    rows += [Strip(t.name, figures.checks[t.id].segments) for t in figures.plan.references]
    return charts.strips(rows, axis, numbers.chart("Trạng thái của dịch vụ, các phép kiểm tra và mốc tham chiếu"))


def _curve(material: Material, incident: Incident, numbers: Numbering) -> list[Block]:
    curves = [Curve(s.name, material.series.get(main_check(s).id, ())) for s in _services(material.plan, incident)]
    if not any(c.points for c in curves):
        return []
    axis = Axis(material.figures.period, material.plan.site.timezone, material.figures.peaks)
    caption = f"Thời gian đáp ứng, mỗi điểm là {duration_words(material.step.total_seconds())}"
    return [charts.response(curves[:6], axis, material.step, numbers.chart(caption))]


def _ways(figures: Figures, incident: Incident, numbers: Numbering) -> list[Block]:
    """Return how far packets got: when it began, some minutes later, when it was over; hop by hop."""
    members = {incident.id} | {i.id for i in figures.incidents if i.parent == incident.id}
    found = [t for t in figures.traces if t.incident in members][:WAYS]
    if not found:
        return []
    zone = figures.plan.site.timezone
    columns = (Column("Lúc", 0.22), Column("Kết quả", 0.40), Column("Từng trạm", 0.38))
    rows = tuple(
        (
            f"{words.brief(t.at, zone)}, {text_route.moment_word(t.moment)}",
            text_route.way_sentence(t, zone),
            text_route.hops_line(t) or words.DASH,
        )
        for t in found
    )
    return [Table(numbers.table("Đường đi tới nơi bị sự cố, dò từ trạm đo"), columns, rows)]


def _whose(figures: Figures, incident: Incident) -> str:
    """Say whether it was us or them, by what the references were while it lasted."""
    end = incident.ended_at or figures.period.end
    good = bad = 0
    for target in figures.plan.references:
        states = {s.state for s in figures.checks[target.id].segments if s.start < end and s.end > incident.began_at}
        bad += State.DOWN in states
        good += State.DOWN not in states and State.UP in states
    return blame_sentence(good, bad)


def _affected(figures: Figures, incident: Incident) -> str:
    names = [tables.subject_name(figures.plan, i) for i in figures.incidents if i.parent == incident.id]
    return f"{words.listed(dict.fromkeys(names))}." if names else "không ghi nhận."


def form_03(material: Material) -> Document:
    """Return the draft of the initial report (Circular 20/2017/TT-BTTTT, Mẫu số 03), filled in as far as is known."""
    incident, figures, plan = _incident(material), material.figures, material.plan
    zone, contact = plan.site.timezone, plan.reports.contact
    local = incident.began_at.astimezone(zone)
    services = _services(plan, incident)
    # The endpoint of a dns check is the resolver that is asked, not the system.
    watched = [t for s in services for t in s.targets if t.probe.kind != "dns"]
    hosts = dict.fromkeys(t.settings.endpoint() for t in watched if t.settings.endpoint())

    def asked(value: str | None, what: str) -> str:
        return value or words.placeholder(what)

    blocks: list[Block] = [
        Paragraph("Tiêu đề thư khi gửi bằng thư điện tử bắt đầu bằng [TBSC]. Mục có dấu (*) là bắt buộc.", Style.NOTE),
        Heading("1. Thông tin về tổ chức, cá nhân báo cáo sự cố", 2),
        Form(
            (
                ("Tên tổ chức, cá nhân báo cáo (*):", plan.site.name),
                ("Địa chỉ (*):", asked(contact.address, "địa chỉ")),
                ("Điện thoại (*):", asked(contact.phone, "điện thoại")),
                ("Thư điện tử (*):", asked(contact.email, "thư điện tử")),
            )
        ),
        Heading("2. Người liên hệ", 2),
        Form(
            (
                ("Họ và tên (*):", asked(contact.name, "họ và tên")),
                ("Chức vụ:", asked(contact.title, "chức vụ")),
                ("Điện thoại (*):", asked(contact.phone, "điện thoại")),
                ("Thư điện tử (*):", asked(contact.email, "thư điện tử")),
            )
        ),
        Heading("3. Thông tin chung về hệ thống", 2),
        Form(
            (
                ("Đơn vị vận hành hệ thống (*):", words.placeholder("đơn vị vận hành")),
                ("Cơ quan chủ quản:", asked(plan.reports.parent_body, "cơ quan chủ quản")),
                ("Tên hệ thống bị sự cố:", tables.subject_name(plan, incident)),
                ("Tên miền, địa chỉ IP:", words.listed(hosts) or words.placeholder("tên miền, địa chỉ IP")),
                ("Phân loại cấp độ của hệ thống thông tin:", words.placeholder("cấp độ 1 đến 5")),
                ("Đơn vị cung cấp dịch vụ an toàn thông tin:", words.placeholder("tên đơn vị, nếu có")),
                ("Đơn vị cung cấp kết nối ra bên ngoài:", _paths(services)),
            )
        ),
        Heading("4. Mô tả sơ bộ về sự cố (*)", 2),
        Paragraph(
            f"{tables.subject_name(plan, incident)}: {state_word(incident.state)}; hiện tượng đo được: "
            f"{tables.incident_cause(figures, incident).rstrip('.')}. {_whose(figures, incident)}"
        ),
        Paragraph(words.placeholder("dấu hiệu về an toàn thông tin, nếu có; do người có thẩm quyền ghi")),
        Form(
            (
                ("Ngày phát hiện sự cố (*):", f"{local:%d/%m/%Y}"),
                ("Thời gian phát hiện (*):", f"{local:%H} giờ {local:%M} phút"),
                ("Hiện trạng sự cố (*):", "Đã xử lý" if incident.ended_at else "Chưa xử lý"),
                ("Cách thức phát hiện (*):", "Khác: hệ thống giám sát tự động"),
                (
                    "Đã thông báo cho (*):",
                    words.placeholder("thành viên mạng lưới, nhà cung cấp Internet, cơ quan điều phối"),
                ),
            )
        ),
        Heading("5. Thông tin bổ sung về hệ thống xảy ra sự cố", 2),
        Form(
            (
                ("Hệ điều hành, phiên bản:", words.placeholder("hệ điều hành, phiên bản")),
                ("Các dịch vụ có trên hệ thống:", words.listed(dict.fromkeys(_SERVICES[s.kind] for s in services))),
                (
                    "Các biện pháp an toàn thông tin đã triển khai:",
                    words.placeholder("chống vi-rút, tường lửa, phát hiện xâm nhập, khác"),
                ),
                ("Các địa chỉ IP công khai:", words.placeholder("chỉ ghi địa chỉ công khai")),
                ("Các tên miền của hệ thống:", words.placeholder("tên miền")),
                ("Mục đích chính sử dụng hệ thống:", words.placeholder("mục đích sử dụng")),
                ("Thông tin gửi kèm:", "Báo cáo đột xuất và tệp số liệu đo; nhật ký hệ thống: […]; mẫu mã độc: […]"),
                ("Các thông tin cung cấp trong thông báo này phải được giữ bí mật:", "[… Có / Không …]"),
            )
        ),
        Heading("6. Kiến nghị, đề xuất hỗ trợ", 2),
        Paragraph(words.placeholder("nội dung đề nghị hỗ trợ")),
        Form((("Thời gian thực hiện báo cáo (*):", "..../..../......../..../.... (ngày/tháng/năm/giờ/phút)"),)),
    ]
    head = letter.letterhead(plan, "BC", material.dated, local.year)
    return Document(
        head=head,
        kind="BÁO CÁO BAN ĐẦU SỰ CỐ MẠNG",
        about="(Mẫu số 03 ban hành kèm theo Thông tư số 20/2017/TT-BTTTT)",
        blocks=tuple(blocks),
        signature=letter.signature(plan),
        stamp=figures.period.end,
        banners=letter.banners(simulated=figures.simulated, draft=DRAFT_BANNER),
    )


def _paths(services: Sequence[ServicePlan]) -> str:
    names = dict.fromkeys(t.path.name for s in services for t in s.targets if t.path)
    return words.listed(names) or words.placeholder("nhà cung cấp kết nối")
