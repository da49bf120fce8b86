"""The files of a report, read back: the measures of Decree 30/2020, embedded fonts, numbers as numbers, same bytes."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import docx
import pytest
from docx.document import Document as WordDocument
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml.ns import qn
from docx.shared import Mm, Pt
from docx.text.paragraph import Paragraph
from pypdf import PdfReader

from exporters.report import papers, pdf
from exporters.report.document import Chart
from exporters.report.papers import FORMATS
from tests.exporters.report_sample import figures, judged, material

NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("report")
    made = material(figures(simulated=True), compared=figures())
    return {p.name: p.read_bytes() for p in papers.write(made, folder, FORMATS)}


@pytest.fixture(scope="module")
def word(written: dict[str, bytes]) -> WordDocument:
    return docx.Document(io.BytesIO(written["bao-cao.docx"]))


def paragraphs(word: WordDocument) -> list[Paragraph]:
    """Every paragraph, those in tables too."""
    cells = [c for t in word.tables for row in t.rows for c in row.cells]
    return [*word.paragraphs, *(p for c in cells for p in c.paragraphs)]


def found(word: WordDocument, text: str) -> Paragraph:
    return next(p for p in paragraphs(word) if p.text == text)


def look(paragraph: Paragraph) -> tuple[float, bool, bool, str]:
    """Size, bold, italic and font of a paragraph of one look."""
    runs = [r for r in paragraph.runs if r.text]
    looks = {(r.font.size.pt if r.font.size else 0.0, bool(r.bold), bool(r.italic), r.font.name or "") for r in runs}
    assert len(looks) == 1, looks
    return looks.pop()


# Word.


def test_the_page_has_the_measures_of_the_decree(word: WordDocument) -> None:
    for section in word.sections:
        assert section.page_width is not None
        assert section.page_height is not None
        # Word counts in twentieths of a point.
        assert (round(section.page_width.mm), round(section.page_height.mm)) == (210, 297)
        assert section.left_margin is not None
        assert section.right_margin is not None
        assert section.top_margin is not None
        assert section.bottom_margin is not None
        assert 30 <= round(section.left_margin.mm, 1) <= 35
        assert 15 <= round(section.right_margin.mm, 1) <= 20
        assert 20 <= round(section.top_margin.mm, 1) <= 25
        assert 20 <= round(section.bottom_margin.mm, 1) <= 25


TIMES = "Times New Roman"


@pytest.mark.parametrize(
    ("text", "size", "bold", "italic"),
    [
        ("CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM", 12, True, False),
        ("Độc lập - Tự do - Hạnh phúc", 13, True, False),
        ("ỦY BAN NHÂN DÂN TỈNH LẠNG SƠN", 12, False, False),
        ("SỞ THÔNG TIN VÀ TRUYỀN THÔNG", 12, True, False),
        ("Số: ...../BC-STTTT", 13, False, False),
        ("Lạng Sơn, ngày ..... tháng ..... năm 2027", 13, False, True),
        ("BÁO CÁO", 14, True, False),
        ("I. CÔNG TÁC CHỈ ĐẠO, TRIỂN KHAI", 14, True, False),
        ("1. Đánh giá chung", 14, True, False),
        ("KT. GIÁM ĐỐC", 14, True, False),
        ("PHÓ GIÁM ĐỐC", 14, True, False),
        ("[… họ và tên người ký …]", 14, True, False),
        ("Nơi nhận:", 12, True, True),
        ("- UBND tỉnh (báo cáo);", 11, False, False),
        ("- Lưu: VT, VP.", 11, False, False),
        ("Phụ lục I", 14, True, False),
        ("SỐ LIỆU CHI TIẾT", 14, True, False),
    ],
)
def test_an_element_has_the_size_and_style_of_the_decree(
    word: WordDocument, text: str, size: float, bold: bool, italic: bool
) -> None:
    assert look(found(word, text)) == (size, bold, italic, TIMES)


def test_the_nation_stands_to_the_right_and_the_body_to_the_left(word: WordDocument) -> None:
    left, right = word.tables[0].rows[0].cells
    assert [p.text for p in left.paragraphs if p.text] == [
        "ỦY BAN NHÂN DÂN TỈNH LẠNG SƠN",
        "SỞ THÔNG TIN VÀ TRUYỀN THÔNG",
        "Số: ...../BC-STTTT",
    ]
    assert [p.text for p in right.paragraphs if p.text][:2] == [
        "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM",
        "Độc lập - Tự do - Hạnh phúc",
    ]


def rules(word: WordDocument) -> list[tuple[Paragraph, float]]:
    """The rules, with their lengths in points."""
    head = word.tables[0].rows[0].cells
    places = [(p, w) for cell, w in zip(head, (Mm(76), Mm(89)), strict=True) for p in cell.paragraphs]
    places += [(p, Mm(165)) for p in word.paragraphs]
    found_rules = []
    for paragraph, width in places:
        borders = paragraph._p.find(f"{qn('w:pPr')}/{qn('w:pBdr')}")
        if borders is not None and borders.find(qn("w:left")) is None:
            side = paragraph.paragraph_format.left_indent
            found_rules.append((paragraph, width.pt - 2 * (side.pt if side else 0)))
    return found_rules


def test_rules_stand_below_the_body_the_motto_and_the_title(word: WordDocument) -> None:
    lengths = [length for _, length in rules(word)]
    assert len(lengths) == 3
    body, motto, _ = lengths
    assert motto == pytest.approx(159, abs=1)  # as long as the motto
    assert 65 <= body <= 105  # a third to a half of "SỞ THÔNG TIN VÀ TRUYỀN THÔNG" in 12 points bold, 209 points


def test_the_text_is_justified_indented_and_spaced(word: WordDocument) -> None:
    body = next(p for p in word.paragraphs if p.text.startswith("Thực hiện […"))
    form = body.paragraph_format
    assert body.alignment == WD_ALIGN_PARAGRAPH.JUSTIFY
    assert form.first_line_indent is not None
    assert abs(form.first_line_indent - Mm(12.7)) < 100
    assert form.space_after == Pt(6)
    assert isinstance(form.line_spacing, float)
    assert 1.0 <= form.line_spacing <= 1.5
    assert look(body)[0] in (13, 14)


def test_the_page_number_stands_in_the_middle_of_the_top_margin_and_not_on_page_one(word: WordDocument) -> None:
    section = word.sections[0]
    assert section.different_first_page_header_footer
    number = section.header.paragraphs[0]
    assert number.alignment == WD_ALIGN_PARAGRAPH.CENTER
    assert [t.text for t in number._p.iter(qn("w:instrText"))] == ["PAGE"]
    assert {r.font.size for r in number.runs} == {Pt(13)}
    assert not {r.italic for r in number.runs} - {None, False}
    assert [p.text for p in section.first_page_header.paragraphs] in ([], [""])


def test_every_word_is_in_times_new_roman_and_black(word: WordDocument) -> None:
    for paragraph in paragraphs(word):
        for run in paragraph.runs:
            assert run.font.name in (TIMES, None)
            assert run.font.color is None or run.font.color.rgb is None
    normal = word.styles["Normal"].element.rPr.rFonts
    assert {normal.get(qn(f"w:{kind}")) for kind in ("ascii", "hAnsi", "cs", "eastAsia")} == {TIMES}


def test_a_long_table_repeats_its_head_and_breaks_no_row(word: WordDocument) -> None:
    tables = [t for t in word.tables if t.style is not None and t.style.name == "Table Grid"]
    assert tables
    for table in tables:
        head = table.rows[0]._tr.trPr
        assert head is not None
        assert head.find(qn("w:tblHeader")) is not None
        assert all(r._tr.trPr is not None and r._tr.trPr.find(qn("w:cantSplit")) is not None for r in table.rows)


def test_charts_say_what_they_show(word: WordDocument) -> None:
    said = [d.get("descr") for d in word.element.iter(qn("wp:docPr"))]
    assert len(said) == 4
    assert any("Thư điện tử công vụ: 1 đoạn gián đoạn" in (text or "") for text in said)


def test_the_file_tells_no_time_but_that_of_the_period(word: WordDocument) -> None:
    assert str(word.core_properties.created) == str(word.core_properties.modified) == "2027-02-06 17:00:00+00:00"


# PDF.


@pytest.fixture(scope="module")
def printed(written: dict[str, bytes]) -> PdfReader:
    return PdfReader(io.BytesIO(written["bao-cao.pdf"]))


def test_the_pdf_is_a4_with_fonts_of_its_own(printed: PdfReader) -> None:
    names = set()
    for page in printed.pages:
        box = page.mediabox
        assert (round(box.width), round(box.height)) == (595, 842)
        embedded, bare = page._get_fonts()
        assert not bare - embedded
        names |= embedded
    assert {re.sub(r"^/[A-Z]{6}\+", "", n).split("-")[0] for n in names} == {"LiberationSerif"}


def test_the_pdf_says_what_the_word_file_says(printed: PdfReader, word: WordDocument) -> None:
    text = "".join(re.sub(r"\s+", "", page.extract_text()) for page in printed.pages)
    for paragraph in word.paragraphs:
        assert re.sub(r"\s+", "", paragraph.text) in text


def test_the_pdf_is_for_archives(written: dict[str, bytes]) -> None:
    assert b"pdfaid:part>2<" in written["bao-cao.pdf"]


def test_a_chart_becomes_a_picture_of_its_size() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"/>'
    png = pdf.draw(Chart(svg, 72, 36, "", ""))
    assert png.startswith(b"\x89PNG")
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (160, 80)


# Excel.


@pytest.fixture(scope="module")
def book(written: dict[str, bytes]) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(written["bao-cao.xlsx"]))


def sheets(book: zipfile.ZipFile) -> dict[str, ET.Element]:
    names = [s.get("name", "") for s in ET.fromstring(book.read("xl/workbook.xml")).iter(f"{NAMESPACE}sheet")]
    return {n: ET.fromstring(book.read(f"xl/worksheets/sheet{i}.xml")) for i, n in enumerate(names, 1)}


def test_there_is_a_sheet_a_table_with_its_head_frozen(book: zipfile.ZipFile) -> None:
    made = sheets(book)
    assert list(made) == [
        "Giới thiệu", "Tổng hợp", "Theo ngày", "Cao điểm", "Phép kiểm tra", "Nhà mạng", "Gián đoạn", "Sự cố",
        "Không có số liệu", "Đáp ứng", "So sánh",
    ]  # fmt: skip
    for sheet in made.values():
        pane = next(sheet.iter(f"{NAMESPACE}pane"))
        assert (pane.get("ySplit"), pane.get("state")) == ("1", "frozen")


def cells(sheet: ET.Element, row: int) -> list[tuple[str, str]]:
    found_row = next(r for r in sheet.iter(f"{NAMESPACE}row") if r.get("r") == str(row))
    return [(c.get("t", "n"), c.findtext(f"{NAMESPACE}v", "")) for c in found_row.iter(f"{NAMESPACE}c")]


def test_figures_are_numbers(book: zipfile.ZipFile) -> None:
    summary = sheets(book)["Tổng hợp"]
    mail = cells(summary, 2)
    assert [kind for kind, _ in mail[:2]] == ["s", "s"]
    numbers = [float(v) for kind, v in mail[2:11] if kind == "n"]
    assert sum(numbers[:5]) == 2 * 86_400
    assert numbers[4] == 1200.0


def test_there_are_charts_and_no_formula(book: zipfile.ZipFile) -> None:
    assert len([n for n in book.namelist() if n.startswith("xl/charts/chart")]) == 3
    assert not any(list(sheet.iter(f"{NAMESPACE}f")) for sheet in sheets(book).values())


# All of them.


def test_the_same_past_gives_the_same_bytes_in_every_format(written: dict[str, bytes], tmp_path: Path) -> None:
    again = material(figures(simulated=True), compared=figures())
    assert {p.name: p.read_bytes() for p in papers.write(again, tmp_path, FORMATS)} == written
    assert {"bao-cao.docx", "bao-cao.pdf", "bao-cao.xlsx", "figures.json", "services.csv"} <= set(written)


@pytest.mark.parametrize("name", ["bao-cao.docx", "bao-cao.xlsx"])
def test_an_archive_tells_no_time_of_its_writing(written: dict[str, bytes], name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(written[name])) as archive:
        assert {m.date_time for m in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None


def test_an_incident_has_files_of_its_own(tmp_path: Path) -> None:
    made = material(figures(congestion=judged()))
    paths = papers.write(replace(made, incident=made.figures.incidents[0]), tmp_path, ["docx", "pdf", "xlsx"])
    assert [p.name for p in paths] == [
        "bao-cao-dot-xuat.docx",
        "bao-cao-dot-xuat.pdf",
        "bao-cao-dot-xuat.xlsx",
        "du-thao-mau-03.docx",
        "du-thao-mau-03.pdf",
    ]


def test_texts_from_the_network_cannot_break_a_document(tmp_path: Path) -> None:
    made = figures()
    nasty = '<&>"\' #{1+1} $x$ \\ =HYPERLINK("x") @import [a](b) *c* _d_'
    service = replace(made.plan.services[0], name=nasty)
    ours: Any = replace(made.plan, services=(service, *made.plan.services[1:]))
    paths = papers.write(material(replace(made, plan=ours)), tmp_path, ["docx", "pdf", "xlsx"])
    text = "\n".join(p.text for p in paragraphs(docx.Document(str(tmp_path / "bao-cao.docx"))))
    assert nasty in text
    assert len(paths) == 3
