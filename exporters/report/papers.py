"""All the files of a report, by format: figures for programs and spreadsheets, documents for the office.

What writes Word, PDF and Excel is imported when it is asked for: its libraries are large, and the daemon needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from config.plan import ReportKind
from exporters.report import files, incident_report, periodic, post_event, windows
from exporters.report.document import Document
from exporters.report.figures import as_json
from exporters.report.material import Material

REPORT: Final = "bao-cao"
INCIDENT: Final = "bao-cao-dot-xuat"
DRAFT: Final = "du-thao-mau-03"
PERIODIC: Final[Mapping[ReportKind | None, str]] = {
    ReportKind.DAILY: "bao-cao-hang-ngay",
    ReportKind.WEEKLY: "bao-cao-hang-tuan",
}
FORMATS: Final = ("csv", "json", "xlsx", "docx", "pdf")


def write(material: Material, folder: Path, formats: Iterable[str]) -> list[Path]:
    """Write a report in the named formats; return the files, sorted. The same material gives the same bytes.

    Raises:
        OSError: the folder cannot be written.
        KeyError: a format that is not in FORMATS.
    """
    contents: dict[str, bytes] = {}
    made = _Made(material)
    for name in formats:
        contents |= _WRITERS[name](made)
    return files.place(folder, contents)


class _Made:
    """What several formats are written from, made when the first of them asks."""

    def __init__(self, material: Material) -> None:
        self.material = material

    @cached_property
    def documents(self) -> Mapping[str, Document]:
        return documents(self.material)

    @cached_property
    def figures(self) -> Mapping[str, Any]:
        return _json(self.material)


def documents(material: Material) -> Mapping[str, Document]:
    """Return the documents of a report by the names of their files, without endings."""
    if material.incident is not None:
        return {INCIDENT: incident_report.build(material), DRAFT: incident_report.form_03(material)}
    if material.kind is not None and material.kind in PERIODIC:
        return {PERIODIC[material.kind]: periodic.build(material, material.kind)}
    return {REPORT: post_event.build(material)}


def _figures(name: str) -> Callable[[_Made], Mapping[str, bytes]]:
    return lambda made: files.FORMATS[name](made.figures)


def _json(material: Material) -> dict[str, Any]:
    found = as_json(material.figures) | windows.as_json(material.figures)
    if material.compared is not None:
        found["compared"] = as_json(material.compared) | windows.as_json(material.compared)
    return found


def _words(made: _Made) -> Mapping[str, bytes]:
    from exporters.report import docx, pdf

    return {f"{name}.docx": docx.write(document, pdf.draw) for name, document in made.documents.items()}


def _print(made: _Made) -> Mapping[str, bytes]:
    from exporters.report import pdf

    return {f"{name}.pdf": pdf.write(document) for name, document in made.documents.items()}


def _book(made: _Made) -> Mapping[str, bytes]:
    from exporters.report import xlsx

    material = made.material
    name = INCIDENT if material.incident else PERIODIC.get(material.kind, REPORT)
    return {f"{name}.xlsx": xlsx.write(material)}


_WRITERS: Final[Mapping[str, Callable[[_Made], Mapping[str, bytes]]]] = {
    "csv": _figures("csv"),
    "json": _figures("json"),
    "xlsx": _book,
    "docx": _words,
    "pdf": _print,
}
