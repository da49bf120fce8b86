"""Writing figures into files: CSV for spreadsheets, JSON for programs. A file appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from exporters.report.figures import Figures, as_json
from monitor.model import State

_STATES: Final = [s.value for s in State]
_PERCENTILES: Final = ["p50", "p90", "p95", "p99", "max"]
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")  # as OWASP lists them for CSV; some take the wide ones alike


def write(figures: Figures, folder: Path, formats: Iterable[str]) -> list[Path]:
    """Write the figures in the named formats; return the files, sorted.

    Raises:
        OSError: the folder cannot be written.
        KeyError: a format that is not in FORMATS.
    """
    document = as_json(figures)
    return place(folder, {file: content for name in formats for file, content in FORMATS[name](document).items()})


def place(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files into a folder, each whole or not at all; return them, sorted.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, content in contents.items():
        target = folder / name
        part = target.with_suffix(target.suffix + ".part")
        part.write_bytes(content)
        part.replace(target)
        written.append(target)
    return sorted(written)


def _json(document: Mapping[str, Any]) -> Mapping[str, bytes]:
    return {"figures.json": (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()}


def _csv(document: Mapping[str, Any]) -> Mapping[str, bytes]:
    checks = [c for s in document["services"] for c in s["checks"]] + document["references"]
    return {
        "services.csv": _table([_line_row(s) for s in document["services"]]),
        "checks.csv": _table([{**_line_row(c), **_check_row(c)} for c in checks]),
        "outages.csv": _table(
            [{"id": line["id"], "name": line["name"], **o} for line in document["services"] for o in line["outages"]],
            columns=["id", "name", "begin", "end", "seconds", "begin_earliest", "end_earliest", "begin_unseen",
                     "end_unseen", "fault", "detail"],
        ),
        "incidents.csv": _table(
            [{**i, "members": " ".join(i["members"])} for i in document["incidents"]],
            columns=["id", "subject", "name", "worst", "begin", "confirmed", "end", "follows_from", "told",
                     "withdrawn", "cause", "cause_subject", "certainty", "members"],
        ),
        **_congestion_csv(document.get("congestion")),
        **_records_csv(document, checks),
    }  # fmt: skip


def _records_csv(document: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> Mapping[str, bytes]:
    """Return announced work and corrections, and the figures that these change; nothing where there are none."""
    found: dict[str, bytes] = {}
    if document["maintenance"]:
        found["maintenance.csv"] = _table(document["maintenance"])
    if document["corrections"]:
        rows = [
            {**c, "evidence": f"{c['evidence']['name']} sha256:{c['evidence']['sha256']}" if c["evidence"] else ""}
            for c in document["corrections"]
        ]
        found["corrections.csv"] = _table(rows)
        changed = [
            _line_row({**line, **figures}) | {"figures": name}
            for line in [*document["services"], *checks]
            for name, figures in (("measured", line), ("adjusted", line["adjusted"]))
            if line["adjusted"]
        ]
        found["adjusted.csv"] = _table(changed)
    return found


def _congestion_csv(found: Mapping[str, Any] | None) -> Mapping[str, bytes]:
    """Return a row a path judged, and a row an episode; nothing when nobody judged."""
    if found is None:
        return {}
    limit = {"queue_ms": None, "minutes": None, "trials": None}
    rows = [
        {
            "id": p["id"],
            **{k: p[k] for k in ("bins_expected", "bins_judged", "coverage", "floor_ms", "threshold_ms")},
            "queue_p95_ms": p["queue_ms"]["p95"],
            "queue_max_ms": p["queue_ms"]["max"],
            **{k: p[k] for k in ("queue_max_at", "congested_s", "near_side_s")},
            "echoes_sent": p["echoes"]["sent"],
            "echoes_lost": p["echoes"]["lost"],
            **{f"limit_{k}": v for k, v in (p["detection_limit"] or limit).items()},
            "verdict_of_all": found["verdict"],
        }
        for p in found["checks"]
    ]
    columns = ["id", "begin", "end", "seconds", "cause", "severity", "peak_ms", "floor_ms", "threshold_ms", "sent",
               "lost", "by_loss"]  # fmt: skip
    episodes = [{"id": p["id"], **e} for p in found["checks"] for e in p["episodes"]]
    return {"congestion.csv": _table(rows), "congestion-episodes.csv": _table(episodes, columns)}


def _line_row(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": line["id"],
        "name": line["name"],
        "kind": line.get("kind", line.get("probe")),
        **{f"{state}_s": line["seconds"][state] for state in _STATES},
        "availability": line["availability"]["value"],
        "availability_min": line["availability"]["min"],
        "availability_max": line["availability"]["max"],
        "coverage": line["coverage"],
        "enough": line["enough"],
        "resolution_s": line["resolution_s"],
        "outages": len(line["outages"]),
        "longest_outage_s": line["longest_outage_s"],
    }


def _check_row(check: Mapping[str, Any]) -> dict[str, Any]:
    results = check["results"]
    return {
        "path": check["path"],
        **{f"response_{p}_s": results["response_s"][p] for p in _PERCENTILES},
        "results_good": results["good"],
        "results_bad": results["bad"],
        "results_not_measured": results["not_measured"],
        "echoes_sent": results["echoes"]["sent"],
        "echoes_lost": results["echoes"]["lost"],
        **{f"slots_{end}": count for end, count in check["slots"].items()},
    }


def _table(rows: list[dict[str, Any]], columns: list[str] | None = None) -> bytes:
    text = io.StringIO()
    names = columns or (list(rows[0]) if rows else [])
    writer = csv.DictWriter(text, names, lineterminator="\r\n")  # RFC 4180
    writer.writeheader()
    writer.writerows({k: _safe(v) for k, v in row.items()} for row in rows)
    # The mark at the start is what makes spreadsheets read Vietnamese as UTF-8.
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _safe(value: object) -> object:
    # Texts may come from servers on the network: a spreadsheet must not take one for a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


FORMATS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, bytes]]]] = {"csv": _csv, "json": _json}
