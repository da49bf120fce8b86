"""An official document as data: what it says, before Word or PDF decides how it looks. No measures, no files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Style(StrEnum):
    """What a paragraph is."""

    BODY = "body"
    BULLET = "bullet"
    NOTE = "note"  # below a table or chart: smaller
    BASIS = "basis"  # legal bases: italic
    CENTRE = "centre"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading with its number in the text; level 1 to 3."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; `bold` at its beginning, when it begins with words to be seen first."""

    text: str
    style: Style = Style.BODY
    bold: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    width: float  # share of the table; all together about 1
    right: bool = False  # numbers stand to the right


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts. A cell may have several lines."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Form:
    """Lines of a form: a label, and what is filled in."""

    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, as SVG whose size is in points."""

    svg: str
    width_pt: float
    height_pt: float
    caption: str
    says: str  # what it shows, for those who cannot see it


Block = Heading | Paragraph | Table | Chart | Form


@dataclass(frozen=True, slots=True)
class Annex:
    """A Phụ lục; stands after the signature, on a page of its own."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Letterhead:
    """The head of an official document."""

    parent: str
    body: str
    number: str  # "Số: …/BC-STTTT"
    place_date: str


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signs, and who receives."""

    authority: str
    title: str
    name: str
    recipients: tuple[str, ...]  # with their dashes and signs


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document."""

    head: Letterhead
    kind: str  # BÁO CÁO
    about: str  # trích yếu
    blocks: tuple[Block, ...]
    signature: Signature
    stamp: datetime  # the only date in the file's own properties: the end of the period
    addressee: str = ""
    banners: tuple[str, ...] = ()  # warnings above the title: a draft, simulated figures
    annexes: tuple[Annex, ...] = ()
    annex_note: str = ""  # below each annex's title: which document it belongs to


class Numbering:
    """Gives tables and charts their numbers."""

    def __init__(self) -> None:
        self._tables = 0
        self._charts = 0

    def table(self, text: str) -> str:
        """Return the caption of the next table."""
        self._tables += 1
        return f"Bảng {self._tables}. {text}"

    def chart(self, text: str) -> str:
        """Return the caption of the next chart."""
        self._charts += 1
        return f"Hình {self._charts}. {text}"
