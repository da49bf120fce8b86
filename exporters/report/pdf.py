"""A Document as PDF/A, and charts as PNG, set by typst: the same bytes on every machine.

Nothing is fetched and no system font is used, only those beside this file. The template is `report.typ`; the document
goes to it as JSON.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import typst

from exporters.report.document import Block, Chart, Document, Form, Heading, Paragraph, Table

PIXELS_AN_INCH: Final = 160
_FOLDER: Final = resources.files("exporters.report")


def write(document: Document) -> bytes:
    """Return the document as a PDF/A-2b file with its fonts in it."""
    charts: list[Chart] = []
    data = _document(document, charts)
    with tempfile.TemporaryDirectory(prefix="thongsuot-") as folder, resources.as_file(_FOLDER) as package:
        work = Path(folder)
        (work / "document.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8")
        (work / "report.typ").write_bytes((package / "report.typ").read_bytes())
        for i, chart in enumerate(charts):
            (work / _file(i)).write_text(chart.svg, "utf-8")
        found = typst.compile(
            str(work / "report.typ"),
            format="pdf",
            root=str(work),
            font_paths=[str(package / "fonts")],
            ignore_system_fonts=True,
            pdf_standards=["a-2b"],
            timestamp=document.stamp.replace(microsecond=0),
        )
    return _bytes(found)


def draw(chart: Chart) -> bytes:
    """Return a chart as PNG."""
    page = f'#set page(width: {chart.width_pt}pt, height: {chart.height_pt}pt, margin: 0pt)\n#image("chart.svg")\n'
    with tempfile.TemporaryDirectory(prefix="thongsuot-") as folder, resources.as_file(_FOLDER) as package:
        work = Path(folder)
        (work / "chart.svg").write_text(chart.svg, "utf-8")
        (work / "chart.typ").write_text(page, "utf-8")
        found = typst.compile(
            str(work / "chart.typ"),
            format="png",
            ppi=float(PIXELS_AN_INCH),
            root=str(work),
            font_paths=[str(package / "fonts")],
            ignore_system_fonts=True,
        )
    return _bytes(found)


def _bytes(found: Any) -> bytes:
    return found if isinstance(found, bytes) else bytes(found[0])


def _file(number: int) -> str:
    return f"chart-{number}.svg"


def _document(document: Document, charts: list[Chart]) -> dict[str, Any]:
    head, signature, stamp = document.head, document.signature, document.stamp
    return {
        "head": {
            "parent": head.parent,
            "body": head.body,
            "number": head.number,
            "place_date": head.place_date,
        },
        "kind": document.kind,
        "about": document.about,
        "addressee": document.addressee,
        "banners": document.banners,
        "stamp": [stamp.year, stamp.month, stamp.day],
        "blocks": _blocks(document.blocks, charts),
        "signature": {
            "authority": signature.authority,
            "title": signature.title,
            "name": signature.name,
            "recipients": signature.recipients,
        },
        "annexes": [
            {
                "name": annex.title.partition("\n")[0],
                "title": annex.title.partition("\n")[2],
                "blocks": _blocks(annex.blocks, charts),
            }
            for annex in document.annexes
        ],
        "annex_note": document.annex_note,
    }


def _blocks(blocks: Iterable[Block], charts: list[Chart]) -> list[dict[str, Any]]:
    return [_block(b, charts) for b in blocks]


def _block(block: Block, charts: list[Chart]) -> dict[str, Any]:
    if isinstance(block, Heading):
        return {"type": "heading", "level": block.level, "text": block.text}
    if isinstance(block, Paragraph):
        return {"type": "paragraph", "style": block.style.value, "text": block.text, "bold": block.bold}
    if isinstance(block, Form):
        return {"type": "form", "lines": block.lines}
    if isinstance(block, Table):
        columns = [{"title": c.title, "width": c.width, "right": c.right} for c in block.columns]
        return {"type": "table", "caption": block.caption, "columns": columns, "rows": block.rows}
    charts.append(block)
    return {
        "type": "chart",
        "file": _file(len(charts) - 1),
        "width": block.width_pt,
        "caption": block.caption,
        "says": block.says,
    }
