"""All the files of a report, by format: figures for programs and spreadsheets, documents for the office.

What writes Word, PDF and Excel is imported when it is asked for: its libraries are large, and the daemon needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    for name in formats:
        contents |= _WRITERS[name](material)
    return files.place(folder, contents)


def documents(material: Material) -> Mapping[str, Document]:
    """Return the documents of a report by the names of their files, without endings."""
    if material.incident is not None:
        return {INCIDENT: incident_report.build(material), DRAFT: incident_report.form_03(material)}
    if material.kind is not None and material.kind in PERIODIC:
        return {PERIODIC[material.kind]: periodic.build(material, material.kind)}
    return {REPORT: post_event.build(material)}


def _figures(name: str) -> Callable[[Material], Mapping[str, bytes]]:
    return lambda material: files.FORMATS[name](_json(material))


def _json(material: Material) -> dict[str, Any]:
    found = as_json(material.figures) | windows.as_json(material.figures)
    if material.compared is not None:
        found["compared"] = as_json(material.compared) | windows.as_json(material.compared)
    return found


def _words(material: Material) -> Mapping[str, bytes]:
    from exporters.report import docx, pdf

    return {f"{name}.docx": docx.write(document, pdf.draw) for name, document in documents(material).items()}


def _print(material: Material) -> Mapping[str, bytes]:
    from exporters.report import pdf

    return {f"{name}.pdf": pdf.write(document) for name, document in documents(material).items()}


def _book(material: Material) -> Mapping[str, bytes]:
    from exporters.report import xlsx

    name = INCIDENT if material.incident else PERIODIC.get(material.kind, REPORT)
    return {f"{name}.xlsx": xlsx.write(material)}


_WRITERS: Final[Mapping[str, Callable[[Material], Mapping[str, bytes]]]] = {
    "csv": _figures("csv"),
    "json": _figures("json"),
    "xlsx": _book,
    "docx": _words,
    "pdf": _print,
}
