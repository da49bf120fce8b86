"""The report after an event, to the People's Committee: what happened, how well it is known, what is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from config.calendar import lunar_label
from config.plan import ServiceKind
from exporters import text_report as words
from exporters.report import charts, claims, congestion_claims, letter, records, tables
from exporters.report.charts import Axis, Bar, Curve, Strip
from exporters.report.congestion import main_check
from exporters.report.document import Annex, Block, Document, Heading, Numbering, Paragraph, Style, Table
from exporters.report.figures import Figures
from exporters.report.material import CURVES, Material, Zoom, charted, step_for
from exporters.report.peak_baseline import baseline_tables, past_blocks
from exporters.text import duration_words
from monitor.duty import is_own_fault
from monitor.series import Point

KIND = "Báo cáo"
DRAFT = "DỰ THẢO – TỰ ĐỘNG LẬP, CHỜ NGƯỜI CÓ THẨM QUYỀN XEM VÀ KÝ"


def build(material: Material) -> Document:
    """Write the report."""
    figures, plan = material.figures, material.plan
    year = figures.period.end.astimezone(plan.site.timezone).year
    numbers = Numbering()
    blocks = [
        *_opening(material),
        *_preparation(material),
        *results(material, numbers),
        *incidents(figures, numbers),
        *assessment(figures, numbers),
        *_comparison(material, numbers),
        *_closing(material),
    ]
    return Document(
        head=letter.letterhead(plan, "BC", material.dated, year),
        kind=KIND.upper(),
        about=f"Kết quả giám sát hệ thống thông tin và mạng viễn thông\nphục vụ {figures.title}",
        blocks=tuple(blocks),
        signature=letter.signature(plan),
        stamp=figures.period.end,
        addressee=plan.reports.addressee or "",
        banners=letter.banners(simulated=figures.simulated, draft=DRAFT if material.draft else ""),
        annexes=annexes(figures, numbers),
        annex_note=letter.annex_note(plan, KIND, material.dated, year),
    )


def _opening(material: Material) -> list[Block]:
    figures, plan = material.figures, material.plan
    bases = plan.reports.legal_bases
    found: list[Block] = [Paragraph(f"{b.rstrip('.;')};", Style.BASIS) for b in bases]
    lead = "" if bases else f"Thực hiện {words.placeholder('văn bản chỉ đạo, kế hoạch')}, "
    body = letter.body_name(plan)
    found.append(
        Paragraph(
            f"{lead}{body} báo cáo kết quả giám sát các hệ thống thông tin và mạng viễn thông phục vụ {figures.title}, "
            f"{words.span(figures.period, plan.site.timezone)}{_lunar_span(figures)}, như sau:"
        )
    )
    return found


def _lunar_span(figures: Figures) -> str:
    zone = figures.plan.site.timezone
    first = figures.period.start.astimezone(zone).date()
    last = (figures.period.end - timedelta(seconds=1)).astimezone(zone).date()
    return f" (âm lịch: từ {lunar_label(first)} đến {lunar_label(last)})" if "Tết" in figures.title else ""


def _preparation(material: Material) -> list[Block]:
    return [
        Heading("I. CÔNG TÁC CHỈ ĐẠO, TRIỂN KHAI", 1),
        Paragraph(words.placeholder("văn bản chỉ đạo; phân công trực lãnh đạo, trực điều hành, trực ca, trực ứng cứu")),
        scope(material.figures),
    ]


def scope(figures: Figures) -> Paragraph:
    """Say what was measured, how often, and what may have been missed."""
    plan = figures.plan
    results = sum(r.good + r.bad + r.blind for r in figures.responses.values())
    paths = {t.path.name for t in plan.targets() if t.path}
    by = f", qua các kênh truyền {words.listed(sorted(paths))}" if paths else ""
    return Paragraph(
        f"Trạm đo tự động đã thực hiện {words.count(results)} lượt đo đối với {len(plan.services)} hệ thống, dịch vụ "
        f"({len(plan.targets()) - len(plan.references)} phép kiểm tra){by}; đối chiếu với {len(plan.references)} mốc "
        "tham chiếu để phân biệt sự cố của dịch vụ với sự cố của chính trạm đo. Chu kỳ đo của một hệ thống: "
        f"{claims.resolution_words(figures)}; gián đoạn ngắn hơn chu kỳ đo có thể không được ghi nhận."
        f"{claims.raw_words(figures)}"
    )


def results(material: Material, no: Numbering) -> list[Block]:
    """Return the section of what was measured: by groups of services, peaks and carriers."""
    figures = material.figures
    found: list[Block] = [Heading("II. KẾT QUẢ GIÁM SÁT", 1), Heading("1. Đánh giá chung", 2)]
    found += claims.summary(figures)
    section = 2
    for title, table in tables.group_tables(figures, no):
        found += [Heading(f"{section}. {title}", 2), table]
        section += 1
    found += [
        Paragraph(
            "Độ khả dụng tính trên thời gian quan sát được; trong ngoặc vuông là giá trị thấp nhất và cao nhất có thể "
            "có: thời gian không có số liệu là gián đoạn hoặc là thông suốt, gián đoạn dài nhất hoặc ngắn nhất giữa "
            "hai lượt đo, và (đối với giá trị thấp nhất) gián đoạn ngắn hơn chu kỳ đo không được ghi nhận. Dấu ≥: "
            "không ghi nhận gián đoạn, giá trị là cận dưới ở độ tin cậy 95%.",
            Style.NOTE,
        ),
        _strips(figures, no),
    ]
    peaks = tables.peak_tables(figures, no)
    if peaks:
        found += [Heading(f"{section}. Các khung giờ cao điểm", 2), *peaks, *baseline_tables(figures, no)]
        found += past_blocks(figures, material.pasts, material.compared, no)
        section += 1
    found += [Heading(f"{section}. Thời gian đáp ứng và so sánh giữa các nhà mạng", 2), *_speed(material, no)]
    return found


def _strips(figures: Figures, no: Numbering) -> Block:
    axis = Axis(figures.period, figures.plan.site.timezone, figures.peaks)
    rows = [Strip(s.name, figures.services[s.id].segments) for s in figures.plan.services]
    return charts.strips(rows, axis, no.chart("Trạng thái của các hệ thống, dịch vụ theo thời gian"))


def _speed(material: Material, no: Numbering) -> list[Block]:
    figures = material.figures
    zone = figures.plan.site.timezone
    found: list[Block] = []
    table = tables.carrier_table(figures, no)
    if table is not None:
        found += [table, _bars(figures, no)]
    services = charted(figures.plan)
    curves = [Curve(s.name, material.series.get(main_check(s).id, ())) for s in services]
    axis = Axis(figures.period, zone, figures.peaks)
    caption = f"Thời gian đáp ứng, mỗi điểm là {duration_words(material.step.total_seconds())}"
    found.append(charts.response(curves, axis, material.step, no.chart(caption)))
    found += [_zoom(material, zoom, no) for zoom in material.zooms]
    found += _queues(figures, axis, no)
    found.append(
        Paragraph(
            "Số đo được thực hiện từ trạm đo của đơn vị tới điểm công cộng của từng nhà mạng; dùng để phát hiện sự "
            "cố và "
            "so sánh, không thay cho chỉ tiêu chất lượng dịch vụ theo quy chuẩn kỹ thuật quốc gia.",
            Style.NOTE,
        )
    )
    return found


def _queues(figures: Figures, axis: Axis, no: Numbering) -> list[Block]:
    """Draw the queueing delay where somebody judged it."""
    assessed, names = figures.congestion, congestion_claims.names(figures)
    step = step_for(figures.period)
    curves = []
    for path in assessed.paths.values() if assessed else ():
        seconds = [(start, ms / 1000) for start, ms in path.queues.points(step.total_seconds(), figures.period.start)]
        points = [Point(start, 1, 0, 0, s, s, s, s, 0, 0) for start, s in seconds]
        if points:
            curves.append(Curve(names.get(path.check, path.check), points))
    if not curves:
        return []
    caption = no.chart(
        "Độ trễ hàng đợi (gói nhanh nhất của 5 phút so với mức nền), lớn nhất trong mỗi "
        f"{duration_words(step.total_seconds())}"
    )
    return [charts.response(curves[:CURVES], axis, step, caption, ("độ trễ hàng đợi",))]


def _zoom(material: Material, zoom: Zoom, no: Numbering) -> Block:
    zone = material.plan.site.timezone
    peak = next(p for p in material.figures.peaks if p.id == zoom.name)
    services = [s for s in charted(material.plan) if not peak.services or s.id in peak.services]
    curves = [Curve(s.name, zoom.series.get(main_check(s).id, ())) for s in services or charted(material.plan)]
    step = duration_words(zoom.step.total_seconds())
    start = zoom.window.start.astimezone(zone)
    caption = no.chart(f"Thời gian đáp ứng quanh giờ cao điểm, từ {start:%H:%M ngày %d/%m/%Y}, mỗi điểm là {step}")
    return charts.response(curves, Axis(zoom.window, zone, (peak,)), zoom.step, caption)


def _bars(figures: Figures, no: Numbering) -> Block:
    bars = []
    for service in figures.plan.services:
        found = figures.responses.get(main_check(service).id)
        if service.kind is not ServiceKind.CARRIER or found is None:
            continue
        median, high = found.at_ranks((0.5, 0.95))
        bars.append(Bar(service.name, median, high, found.echoes_lost, found.echoes_sent))
    return charts.carriers(bars, no.chart("So sánh giữa các nhà mạng"))


def incidents(figures: Figures, no: Numbering) -> list[Block]:
    """Return the section of incidents, our own faults and what was taken back."""
    found: list[Block] = [Heading("III. SỰ CỐ VÀ CÔNG TÁC XỬ LÝ", 1)]
    table = tables.incident_table(figures, no)
    if table is None:
        found.append(Paragraph("Không ghi nhận sự cố của hệ thống, dịch vụ trong thời gian quan sát được."))
    else:
        found.append(table)
        found += _rest(len(tables.told_incidents(figures)))
        found.append(
            Paragraph(
                "Nguyên nhân ghi nhận là hiện tượng mà phép đo thấy được; nguyên nhân kỹ thuật do đơn vị vận hành xác "
                f"định: {words.placeholder('nguyên nhân, kết quả xử lý')}"
            )
        )
    return found + _own(figures) + _withdrawn(figures)


def _withdrawn(figures: Figures) -> list[Block]:
    """Say how many alarms of services were taken back, and count them for nobody."""
    found = [i for i in figures.incidents if i.withdrawn]
    if not found:
        return []
    names = words.listed(sorted({tables.subject_name(figures.plan, i) for i in found}))
    return [
        Paragraph(
            f"{len(found)} cảnh báo ({names}) sau đó được xác định là do lỗi phía trạm đo, không phải sự cố của dịch "
            "vụ; thời gian tương ứng được tính là không có số liệu.",
            Style.BULLET,
            bold="Cảnh báo đã rút lại:",
        )
    ]


def _own(figures: Figures) -> list[Block]:
    """Say when the monitor itself could not see; paths that failed together are one sentence."""
    zone = figures.plan.site.timezone
    paths = {t.path.id: t.path.name for t in figures.plan.targets() if t.path}
    together: dict[str, list[str]] = {}
    for incident in figures.incidents:
        if is_own_fault(incident.subject):
            end = words.moment(incident.ended_at, zone) if incident.ended_at else "hết kỳ báo cáo"
            when = f"{words.moment(incident.began_at, zone)} đến {end}"
            path = incident.subject.partition(":")[2]
            sentence = f"từ {when}: {tables.incident_cause(figures, incident)}"
            together.setdefault(sentence, []).append(paths.get(path, path) or "đường truyền mặc định")
    return [
        Paragraph(
            f"{sentence} Thời gian này được tính là không có số liệu.",
            Style.BULLET,
            bold=f"Sự cố của chính trạm đo ({words.listed(sorted(names))}):",
        )
        for sentence, names in list(together.items())[: tables.ROWS]
    ]


def _rest(count: int) -> list[Block]:
    if count <= tables.ROWS:
        return []
    words_of = f"Bảng trên có {tables.ROWS} trong tổng số {count} dòng; toàn bộ có trong tệp số liệu kèm theo."
    return [Paragraph(words_of, Style.NOTE)]


def assessment(figures: Figures, no: Numbering) -> list[Block]:
    """Return the section of what may be said of outages, congestion and unobserved time."""
    queues = congestion_claims.blocks(figures, no)  # first: tables are numbered in the order in which they stand
    spans = claims.blind(figures)
    table = tables.blind_table(figures, spans, no)
    missing: list[Block] = (
        [table, *_rest(len(spans))] if table else [Paragraph("Toàn bộ thời gian báo cáo đều có số liệu.")]
    )
    return [
        Heading("IV. ĐÁNH GIÁ VỀ GIÁN ĐOẠN VÀ NGHẼN MẠNG", 1),
        Heading("1. Về gián đoạn", 2),
        *claims.outages(figures),
        Heading("2. Về nghẽn mạng", 2),
        *queues,
        Heading("3. Thời gian không có số liệu", 2),
        *missing,
        *records.blocks(figures, no, 4),
    ]


def _comparison(material: Material, no: Numbering) -> list[Block]:
    other = material.compared
    if other is None:
        return []
    table = tables.comparison_table(material.figures, other, no)
    note = (
        "Mỗi dòng là một ngày âm lịch của hai kỳ; tổng của tất cả hệ thống, dịch vụ. Chỉ so sánh được những ngày có độ "
        "phủ đo tương đương."
    )
    return [Heading("V. SO SÁNH VỚI KỲ TRƯỚC", 1), table, Paragraph(note, Style.NOTE)]


def _closing(material: Material) -> list[Block]:
    number = words.roman(5 if material.compared is None else 6)
    body = letter.body_name(material.plan)
    return [
        Heading(f"{number}. KIẾN NGHỊ, ĐỀ XUẤT", 1),
        Paragraph(words.placeholder("kiến nghị, đề xuất")),
        Paragraph(
            f"Trên đây là báo cáo kết quả giám sát phục vụ {material.figures.title}, {body} kính báo cáo cấp có "
            "thẩm quyền "
            "xem xét, chỉ đạo./."
        ),
    ]


def annexes(figures: Figures, no: Numbering) -> tuple[Annex, ...]:
    """Return the tables of days and outages, and how everything was measured."""
    first: list[Block] = list(tables.day_tables(figures, no))
    outages = tables.outage_table(figures, no)
    if outages is not None:
        total = sum(len(line.outages) for line in figures.services.values())
        first += [outages, *_rest(total)]
    pages: Sequence[tuple[str, list[Block]]] = (
        ("Số liệu chi tiết", first),
        ("Phạm vi đo và cách tính", [tables.scope_table(figures, no), *_method(figures)]),
    )
    return tuple(
        Annex(f"Phụ lục {words.roman(i)}\n{title}", tuple(blocks)) for i, (title, blocks) in enumerate(pages, 1)
    )


def _method(figures: Figures) -> list[Block | Table]:
    digest = figures.plan.digest
    lines = (
        "Mỗi giây của kỳ báo cáo thuộc đúng một trạng thái: thông suốt, suy giảm, nghẽn, gián đoạn, không có số liệu "
        "hoặc bảo trì đã báo trước.",
        "Độ khả dụng = 1 – thời gian gián đoạn / thời gian quan sát được; độ phủ đo = thời gian quan sát được / kỳ báo "
        "cáo không kể bảo trì. Độ phủ dưới 95% thì ghi “không đủ căn cứ”.",
        "Thời điểm bắt đầu gián đoạn nằm giữa lượt đo tốt cuối cùng và lượt đo hỏng đầu tiên; thời điểm kết thúc "
        "nằm giữa "
        "lượt đo hỏng cuối cùng và lượt đo tốt đầu tiên. Độ dài ghi giá trị giữa và sai số về mỗi phía.",
        "Khi các mốc tham chiếu cùng không trả lời, thời gian đó là không có số liệu, không tính là gián đoạn của "
        "dịch vụ.",
        "Chỉ nêu thời gian khắc phục trung bình khi có từ 5 lần gián đoạn trở lên.",
        f"Mã băm SHA-256 của cấu hình đo bắt đầu bằng {digest[:16]}.",
    )
    return [Paragraph(line, Style.BULLET) for line in lines]
