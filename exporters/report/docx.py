"""A Document as a Word file in the form of Decree 30/2020/NĐ-CP, Annex I, section I.

Every measure of the Decree stands here once, in `MEASURES` and the sizes below; the Word file names Times New Roman,
which every office in Việt Nam has. The same document gives the same bytes: no time of writing, no random id.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import singledispatchmethod
from typing import Any, Final

import docx
from docx.enum.section import WD_ORIENT
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_LINE_SPACING
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Length, Mm, Pt
from docx.table import _Cell
from docx.text.paragraph import Paragraph as WordParagraph

from exporters.report.archive import steady_zip
from exporters.report.document import (
    Annex,
    Block,
    Chart,
    Column,
    Document,
    Form,
    Heading,
    Paragraph,
    Style,
    Table,
)

FONT: Final = "Times New Roman"
MEASURES: Final[Mapping[str, Length]] = {
    "page_width": Mm(210),
    "page_height": Mm(297),
    "top": Mm(20),  # 20 to 25
    "bottom": Mm(20),
    "left": Mm(30),  # 30 to 35
    "right": Mm(15),  # 15 to 20
    "header": Mm(9),
}
TEXT_WIDTH: Final = Mm(165)
HEAD_LEFT, HEAD_RIGHT = Mm(76), Mm(89)  # the nation's name in 12 points bold is 87.7 mm long
HEAD_GAP: Final = Mm(2)  # between the two: a long name of the body goes to the next line instead
INDENT: Final = Mm(12.7)
# Sizes in points, from the Decree's table; where it leaves a choice, the pair that goes together (12 with 13).
NATION, MOTTO, BODIES, NUMBER, PLACE = 12, 13, 12, 13, 13
TITLE, TEXT, SIGNER, RECEIVERS_WORD, RECEIVERS, PAGE = 14, 14, 14, 12, 11, 13
CELL, CAPTION, NOTE = 10, 13, 11
MOTTO_WIDTH_PT: Final = 159.0  # of the motto in 13 points bold, by the widths of Times New Roman
NATION_TEXT: Final = "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM"
MOTTO_TEXT: Final = "Độc lập - Tự do - Hạnh phúc"
_CAPITAL_EM: Final = 0.62  # mean width of a capital in bold; the rule may be a third to a half of the line
_ALIGN: Final = {
    "left": WD_ALIGN_PARAGRAPH.LEFT,
    "centre": WD_ALIGN_PARAGRAPH.CENTER,
    "right": WD_ALIGN_PARAGRAPH.RIGHT,
    "both": WD_ALIGN_PARAGRAPH.JUSTIFY,
}


def write(document: Document, draw: Callable[[Chart], bytes]) -> bytes:
    """Return the document as a .docx file.

    Args:
        document: what to write.
        draw: turns a chart into a PNG.
    """
    return _Writer(draw).write(document)


class _Writer:
    def __init__(self, draw: Callable[[Chart], bytes]) -> None:
        self._doc = docx.Document()
        self._draw = draw

    def write(self, document: Document) -> bytes:
        self._set_up()
        self._properties(document)
        self._head(document)
        self._title(document)
        for block in document.blocks:
            self._block(block)
        # The last sentence goes to the next page with the signature, or stays with it.
        self._doc.paragraphs[-1].paragraph_format.keep_with_next = True
        self._signature(document)
        for annex in document.annexes:
            self._annex(annex, document.annex_note)
        content = io.BytesIO()
        self._doc.save(content)
        return steady_zip(content.getvalue())

    def _set_up(self) -> None:
        section = self._doc.sections[0]
        section.orientation = WD_ORIENT.PORTRAIT
        section.page_width, section.page_height = MEASURES["page_width"], MEASURES["page_height"]
        section.top_margin, section.bottom_margin = MEASURES["top"], MEASURES["bottom"]
        section.left_margin, section.right_margin = MEASURES["left"], MEASURES["right"]
        section.header_distance = section.footer_distance = MEASURES["header"]
        normal = self._doc.styles["Normal"]
        normal.font.name, normal.font.size = FONT, Pt(TEXT)
        fonts = normal.element.get_or_add_rPr().get_or_add_rFonts()
        for kind in ("w:ascii", "w:hAnsi", "w:cs", "w:eastAsia"):
            fonts.set(qn(kind), FONT)
        language = OxmlElement("w:lang")
        language.set(qn("w:val"), "vi-VN")
        normal.element.get_or_add_rPr().append(language)
        # The page's number: upright, centred in the top margin, not on page 1.
        section.different_first_page_header_footer = True
        number = section.header.paragraphs[0]
        number.alignment = WD_ALIGN_PARAGRAPH.CENTER
        _run(number, "", PAGE)
        _field(number, "PAGE", PAGE)

    def _properties(self, document: Document) -> None:
        core = self._doc.core_properties
        core.author = core.last_modified_by = document.head.body
        core.title = document.about
        core.comments, core.keywords, core.language = "", "", "vi-VN"
        core.created = core.modified = document.stamp
        core.revision = 1

    # The head.

    def _head(self, document: Document) -> None:
        head = document.head
        table = self._doc.add_table(rows=1, cols=2)
        _fix_widths(table, (HEAD_LEFT, HEAD_RIGHT), margin=0)
        left, right = table.rows[0].cells
        _keep_free(left, HEAD_GAP)
        parent = left.paragraphs[0]
        _tight(parent, "centre")
        _run(parent, head.parent.upper(), BODIES)
        body = _add(left, "centre")
        _run(body, head.body.upper(), BODIES, bold=True)
        # The rule is as long as a third to a half of the line, in the middle.
        wide = Length(HEAD_LEFT - HEAD_GAP)
        line_pt = min(len(head.body) * _CAPITAL_EM * BODIES, wide.pt)
        _rule(left, wide, line_pt * 0.42)
        _run(_add(left, "centre"), head.number, NUMBER)
        nation = right.paragraphs[0]
        _tight(nation, "centre")
        _run(nation, NATION_TEXT, NATION, bold=True)
        _run(_add(right, "centre"), MOTTO_TEXT, MOTTO, bold=True)
        _rule(right, HEAD_RIGHT, MOTTO_WIDTH_PT)
        _run(_add(right, "centre"), head.place_date, PLACE, italic=True)

    def _title(self, document: Document) -> None:
        for banner in document.banners:
            paragraph = self._doc.add_paragraph()
            _spaced(paragraph, "centre", before=6)
            _box(paragraph)
            _run(paragraph, banner, NOTE, bold=True)
        kind = self._doc.add_paragraph()
        _spaced(kind, "centre", before=14, after=0)
        _run(kind, document.kind.upper(), TITLE, bold=True)
        about = self._doc.add_paragraph()
        _spaced(about, "centre", after=0)
        _run(about, document.about, TITLE, bold=True)
        _rule(self._doc, TEXT_WIDTH, TEXT_WIDTH.pt * 0.2)
        gap = self._doc.add_paragraph()
        _spaced(gap, "centre", after=0)
        if document.addressee:
            _run(gap, f"Kính gửi: {document.addressee}", TEXT)

    # What it says.

    @singledispatchmethod
    def _block(self, block: Block) -> None:
        raise TypeError(f"no such block: {type(block).__name__}")

    @_block.register
    def _(self, block: Heading) -> None:
        paragraph = self._doc.add_paragraph()
        _spaced(paragraph, "both", before=6 if block.level == 1 else 0)
        paragraph.paragraph_format.first_line_indent = INDENT
        paragraph.paragraph_format.keep_with_next = True
        _run(paragraph, block.text, TEXT, bold=True, italic=block.level > 2)
        _outline(paragraph, block.level)

    @_block.register
    def _(self, block: Paragraph) -> None:
        paragraph = self._doc.add_paragraph()
        centred = block.style is Style.CENTRE
        _spaced(paragraph, "centre" if centred else "both")
        if not centred:
            paragraph.paragraph_format.first_line_indent = INDENT
        size = NOTE if block.style is Style.NOTE else TEXT
        italic = block.style in (Style.NOTE, Style.BASIS)
        lead = "- " if block.style is Style.BULLET else ""
        if block.bold:
            _run(paragraph, lead + block.bold, size, bold=True, italic=italic)
            lead = " "
        _run(paragraph, lead + block.text, size, italic=italic)

    @_block.register
    def _(self, block: Table) -> None:
        caption = self._doc.add_paragraph()
        _spaced(caption, "centre", after=3)
        caption.paragraph_format.keep_with_next = True
        _run(caption, block.caption, CAPTION, italic=True)
        table = self._doc.add_table(rows=1, cols=len(block.columns))
        table.style = "Table Grid"
        total = sum(c.width for c in block.columns)
        _fix_widths(table, tuple(Length(int(TEXT_WIDTH * c.width / total)) for c in block.columns))
        _repeat(table.rows[0])
        for cell, column in zip(table.rows[0].cells, block.columns, strict=True):
            _fill(cell, column.title, "centre", bold=True)
        _add_rows(table, block)
        gap = self._doc.add_paragraph()
        _tight(gap, "left")
        _run(gap, "", 6)
        gap.paragraph_format.line_spacing_rule, gap.paragraph_format.line_spacing = WD_LINE_SPACING.EXACTLY, Pt(8)

    @_block.register
    def _(self, block: Form) -> None:
        for label, value in block.lines:
            paragraph = self._doc.add_paragraph()
            _spaced(paragraph, "both", after=3)
            paragraph.paragraph_format.left_indent = Mm(6)
            _run(paragraph, f"{label} ", TEXT)
            _run(paragraph, value, TEXT, bold=bool(value) and "[…" not in value)

    @_block.register
    def _(self, block: Chart) -> None:
        paragraph = self._doc.add_paragraph()
        _spaced(paragraph, "centre", after=2)
        paragraph.paragraph_format.keep_with_next = True
        picture = paragraph.add_run().add_picture(io.BytesIO(self._draw(block)), width=Pt(block.width_pt))
        # What the picture shows, for a reader who hears the document.
        picture._inline.docPr.set("descr", block.says)
        caption = self._doc.add_paragraph()
        _spaced(caption, "centre")
        _run(caption, block.caption, CAPTION, italic=True)

    # Its end.

    def _signature(self, document: Document) -> None:
        signature = document.signature
        gap = self._doc.add_paragraph()
        _spaced(gap, "left", after=0)
        gap.paragraph_format.keep_with_next = True
        table = self._doc.add_table(rows=1, cols=2)
        _fix_widths(table, (HEAD_LEFT, HEAD_RIGHT))
        _whole(table.rows[0])
        left, right = table.rows[0].cells
        _tight(left.paragraphs[0], "left")
        _run(left.paragraphs[0], "Nơi nhận:", RECEIVERS_WORD, bold=True, italic=True)
        for line in signature.recipients:
            _run(_add(left, "left"), line, RECEIVERS)
        lines = [signature.authority, signature.title] if signature.authority else [signature.title]
        _tight(right.paragraphs[0], "centre")
        _run(right.paragraphs[0], lines[0].upper(), SIGNER, bold=True)
        for line in lines[1:]:
            _run(_add(right, "centre"), line.upper(), SIGNER, bold=True)
        for _ in range(4):
            _run(_add(right, "centre"), "", SIGNER)
        _run(_add(right, "centre"), signature.name, SIGNER, bold=True)

    def _annex(self, annex: Annex, note: str) -> None:
        name, _, title = annex.title.partition("\n")
        first = self._doc.add_paragraph()
        first.paragraph_format.page_break_before = True
        _spaced(first, "centre", after=0)
        _run(first, name, TITLE, bold=True)
        _outline(first, 1)
        second = self._doc.add_paragraph()
        _spaced(second, "centre", after=0)
        _run(second, title.upper(), TEXT, bold=True)
        third = self._doc.add_paragraph()
        _spaced(third, "centre")
        _run(third, note, TEXT, italic=True)
        for block in annex.blocks:
            self._block(block)


def _side(column: Column) -> str:
    return "right" if column.right else "left"


def _run(paragraph: WordParagraph, text: str, size: float, *, bold: bool = False, italic: bool = False) -> None:
    run = paragraph.add_run(text)
    run.font.name, run.font.size = FONT, Pt(size)
    run.bold, run.italic = bold, italic


def _add(cell: _Cell, align: str) -> WordParagraph:
    paragraph: WordParagraph = cell.add_paragraph()
    _tight(paragraph, align)
    return paragraph


def _tight(paragraph: WordParagraph, align: str) -> None:
    form = paragraph.paragraph_format
    form.space_before = form.space_after = Pt(0)
    form.line_spacing = 1.0
    paragraph.alignment = _ALIGN[align]


def _spaced(paragraph: WordParagraph, align: str, *, before: float = 0, after: float = 6) -> None:
    form = paragraph.paragraph_format
    form.space_before, form.space_after = Pt(before), Pt(after)
    form.line_spacing = 1.1  # single to one and a half
    form.widow_control = True
    paragraph.alignment = _ALIGN[align]


def _rule(place: Any, width: Length, length_pt: float) -> None:
    """Draw a rule in the middle of a width: the upper border of a paragraph that has no height to speak of."""
    paragraph = place.add_paragraph()
    form = paragraph.paragraph_format
    form.space_before, form.space_after = Pt(1), Pt(3)
    form.line_spacing_rule, form.line_spacing = WD_LINE_SPACING.EXACTLY, Pt(3)
    side = Pt(max((width.pt - length_pt) / 2, 0))
    form.left_indent = form.right_indent = side
    _borders(paragraph, ("top",))


def _keep_free(cell: _Cell, width: Length) -> None:
    """Keep the right side of a cell free."""
    margins, side = OxmlElement("w:tcMar"), OxmlElement("w:right")
    side.set(qn("w:w"), str(width.twips))
    side.set(qn("w:type"), "dxa")
    margins.append(side)
    cell._tc.get_or_add_tcPr().append(margins)


def _box(paragraph: WordParagraph) -> None:
    # A border stands outside of its text: set in, so that the frame keeps to the margins of the page.
    paragraph.paragraph_format.left_indent = paragraph.paragraph_format.right_indent = Pt(2)
    _borders(paragraph, ("top", "left", "bottom", "right"))


def _borders(paragraph: WordParagraph, sides: tuple[str, ...]) -> None:
    properties = paragraph._p.get_or_add_pPr()
    borders = OxmlElement("w:pBdr")
    for side in sides:
        border = OxmlElement(f"w:{side}")
        for key, value in (("val", "single"), ("sz", "6"), ("space", "1"), ("color", "000000")):
            border.set(qn(f"w:{key}"), value)
        borders.append(border)
    properties.insert_element_before(
        borders, "w:shd", "w:tabs", "w:suppressAutoHyphens", "w:spacing", "w:ind", "w:jc", "w:outlineLvl"
    )


def _outline(paragraph: WordParagraph, level: int) -> None:
    """Make a paragraph a heading for the reader's table of contents, without a style that would colour it."""
    outline = OxmlElement("w:outlineLvl")
    outline.set(qn("w:val"), str(level - 1))
    paragraph._p.get_or_add_pPr().append(outline)


def _field(paragraph: WordParagraph, code: str, size: float) -> None:
    for kind, text in (("begin", None), (None, code), ("end", None)):
        run = paragraph.add_run()
        run.font.name, run.font.size = FONT, Pt(size)
        if kind:
            mark = OxmlElement("w:fldChar")
            mark.set(qn("w:fldCharType"), kind)
        else:
            mark = OxmlElement("w:instrText")
            mark.set(qn("xml:space"), "preserve")
            mark.text = text
        run._r.append(mark)


def _fix_widths(table: Any, widths: tuple[Length, ...], margin: int = 45) -> None:
    """Give the columns their widths, and the cells a margin to either side in twentieths of a point."""
    table.autofit = False
    table.alignment = WD_TABLE_ALIGNMENT.CENTER
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    for row in table.rows:
        for cell, width in zip(row.cells, widths, strict=True):
            cell.width = width
    properties = table._tbl.tblPr
    if properties.find(qn("w:tblCellMar")) is None:
        margins = OxmlElement("w:tblCellMar")
        for side in ("left", "right"):
            mark = OxmlElement(f"w:{side}")
            mark.set(qn("w:w"), str(margin))
            mark.set(qn("w:type"), "dxa")
            margins.append(mark)
        look = properties.find(qn("w:tblLook"))
        if look is None:
            properties.append(margins)
        else:
            look.addprevious(margins)


def _fill(cell: _Cell, text: str, align: str, *, bold: bool) -> None:
    for i, line in enumerate(text.split("\n")):
        paragraph = cell.paragraphs[0] if i == 0 else cell.add_paragraph()
        _tight(paragraph, align)
        paragraph.paragraph_format.space_before = paragraph.paragraph_format.space_after = Pt(1)
        _run(paragraph, line, CELL, bold=bold)


def _add_rows(table: Any, block: Table) -> None:
    """Add the rows of a table: copies of one, with other texts, for a report has thousands of cells."""
    pattern: Any = None
    for values in block.rows:
        if pattern is None or any(_is_built(value) for value in values):
            row = _add_row(table, block, values)
            if not any(map(_is_built, values)) and all(values):
                pattern = row._tr
            continue
        copied = deepcopy(pattern)
        for text, value in zip(list(copied.iter(qn("w:t"))), values, strict=True):
            text.text = value
            if not value:
                text.getparent().remove(text)
        table._tbl.append(copied)


def _is_built(text: str) -> bool:
    """Whether a text is more than one run of letters: lines, tabs, or spaces at its ends."""
    return text != text.strip() or not text.isprintable()


def _add_row(table: Any, block: Table, values: Sequence[str]) -> Any:
    row = table.add_row()
    _whole(row)
    for cell, column, value in zip(row.cells, block.columns, values, strict=True):
        _fill(cell, value, _side(column), bold=False)
    for cell, column in zip(row.cells, table.columns, strict=True):
        cell.width = column.width
    return row


def _repeat(row: Any) -> None:
    """Repeat a row at the top of every page that the table reaches."""
    _row_mark(row, "w:cantSplit")
    _row_mark(row, "w:tblHeader")


def _whole(row: Any) -> None:
    """Keep a row on one page."""
    _row_mark(row, "w:cantSplit")


def _row_mark(row: Any, name: str) -> None:
    row._tr.get_or_add_trPr().append(OxmlElement(name))
