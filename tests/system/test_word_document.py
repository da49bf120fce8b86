"""The Word report as an office sees it: opened by LibreOffice, printed, its pages measured as pictures.

Measures: Decree 30/2020/NĐ-CP, Annex I, section I. Debian has no Times New Roman; Liberation Serif, which LibreOffice
takes for it, has the same widths.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pypdf import PdfReader

from exporters.report import papers
from tests.exporters.report_sample import figures, judged, material

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]

DPI = 100
MM = 25.4 / DPI
SLACK_MM = 0.4  # of a picture: a dot is a quarter of a millimetre, and half of a line stands outside of its place
DARK = 160  # of 255: grids of charts are lighter
HEAD_MM = 18.0  # above it stands the page's number alone


@dataclass(frozen=True)
class Page:
    """A page as a picture in shades of grey."""

    width: int
    height: int
    dots: bytes

    def rows(self, start_mm: float = 0.0, end_mm: float = 1000.0) -> list[float]:
        """Where there is ink, from the top, in millimetres."""
        lines = range(round(start_mm / MM), min(round(end_mm / MM), self.height))
        return [y * MM for y in lines if min(self.dots[y * self.width : (y + 1) * self.width]) < DARK]

    def columns(self, start_mm: float = 0.0, end_mm: float = 1000.0) -> list[float]:
        """Where there is ink between two heights, from the left, in millimetres."""
        first, last = round(start_mm / MM), min(round(end_mm / MM), self.height)
        part = self.dots[first * self.width : last * self.width]
        return [x * MM for x in range(self.width) if min(part[x :: self.width]) < DARK]


def picture(file: Path) -> Page:
    """Read a PGM file: P5, width, height, 255, dots."""
    data = file.read_bytes()
    _, width, height, _ = data.split(maxsplit=4)[:4]
    return Page(int(width), int(height), data[-int(width) * int(height) :])


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's Word file, as LibreOffice prints it."""
    folder = tmp_path_factory.mktemp("word")
    made = material(figures(simulated=True, congestion=judged()), compared=figures())
    papers.write(made, folder, ["docx"])
    subprocess.run(
        [
            "soffice", f"-env:UserInstallation=file://{folder / 'profile'}", "--headless", "--convert-to", "pdf",
            "--outdir", str(folder), str(folder / "bao-cao.docx"),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return folder / "bao-cao.pdf"


@pytest.fixture(scope="module")
def pages(printed: Path) -> list[Page]:
    subprocess.run(["pdftoppm", "-gray", "-r", str(DPI), str(printed), str(printed.with_name("page"))], check=True)
    return [picture(file) for file in sorted(printed.parent.glob("page*.pgm"))]


def test_every_page_is_a4_with_something_on_it(pages: list[Page]) -> None:
    assert len(pages) >= 5
    for page in pages:
        assert (page.width * MM, page.height * MM) == pytest.approx((210, 297), abs=SLACK_MM)
        assert len(page.rows(HEAD_MM)) * MM > 5  # millimetres of ink: no page is empty


def test_the_ink_keeps_the_margins_of_the_decree(pages: list[Page]) -> None:
    for number, page in enumerate(pages, 1):
        body, across = page.rows(HEAD_MM), page.columns(HEAD_MM)
        assert body[0] >= 20 - SLACK_MM, number
        assert page.height * MM - body[-1] >= 20 - SLACK_MM, number
        assert across[0] >= 30 - SLACK_MM, number
        assert page.width * MM - across[-1] >= 15 - SLACK_MM, number
    # And no wider than they may be, where a page is full.
    assert min(p.rows(HEAD_MM)[0] for p in pages) <= 25
    assert min(p.height * MM - p.rows(HEAD_MM)[-1] for p in pages) <= 25 + 8  # and a line that did not fit any more
    assert min(p.columns(HEAD_MM)[0] for p in pages) <= 35
    assert min(p.width * MM - p.columns(HEAD_MM)[-1] for p in pages) <= 20


def test_the_page_number_stands_in_the_middle_of_the_top_margin_but_not_on_page_one(pages: list[Page]) -> None:
    assert pages[0].rows(0, HEAD_MM) == []
    for page in pages[1:]:
        high, across = page.rows(0, HEAD_MM), page.columns(0, HEAD_MM)
        assert 8 < high[0] < high[-1] < HEAD_MM
        middle_of_text = (30 + 210 - 15) / 2
        assert (across[0] + across[-1]) / 2 == pytest.approx(middle_of_text, abs=1)
        # A figure of 13 points in this type is 8.8 points high: 3.1 mm.
        assert high[-1] - high[0] == pytest.approx(3.1, abs=SLACK_MM)


def test_the_words_are_in_the_type_of_the_decree_and_in_the_file(printed: Path) -> None:
    said = subprocess.run(["pdffonts", str(printed)], check=True, capture_output=True, text=True).stdout
    fonts = [line.split() for line in said.splitlines()[2:]]
    assert fonts
    for font in fonts:
        assert "LiberationSerif" in font[0] or "TimesNewRoman" in font[0], font
        assert font[-5] == "yes"  # embedded


def sizes(printed: Path, wanted: str) -> set[int]:
    """The sizes, in whole points, in which a text stands anywhere; LibreOffice cuts lines into several pieces."""
    found: set[int] = set()

    def visit(text: str, _: object, matrix: list[float], __: object, size: float) -> None:
        if wanted in text.strip():
            found.add(round(size * abs(matrix[3])))

    for page in PdfReader(printed).pages:
        page.extract_text(visitor_text=visit)
    return found


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM", {12, 13}),
        ("Độc lập - Tự do - Hạnh phúc", {13, 14}),
        ("BÁO CÁO", {13, 14}),
        ("Nơi nhận:", {12}),
        ("- Lưu: VT", {11}),
        ("KẾT QUẢ GIÁM SÁT", {13, 14}),
    ],
)
def test_a_printed_line_has_its_size(printed: Path, text: str, points: set[int]) -> None:
    found = sizes(printed, text)
    assert found
    assert found <= points


def test_the_head_stands_as_the_decree_draws_it(pages: list[Page]) -> None:
    """Two columns: the bodies to the left, the nation to the right."""
    head = set(pages[0].columns(20, 29))
    free = [x for x in range(round(100 / MM), round(110 / MM)) if x * MM not in head]
    assert len(free) * MM > 2  # the columns do not run into each other
    first = pages[0].columns(20, 25)
    assert first[0] < 60
    assert first[-1] > 185


def test_the_word_file_keeps_its_text_when_printed(printed: Path) -> None:
    text = " ".join(" ".join(page.extract_text() for page in PdfReader(printed).pages).split())
    for words in ("Độc lập - Tự do - Hạnh phúc", "BÁO CÁO", "Nơi nhận:", "Phụ lục", "Bảng 1.", "Hình 1."):
        assert words in text
