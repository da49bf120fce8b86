"""The JSON Schema of a configuration, for editors: `python -m config.schema` writes docs/thongsuot.schema.json.

Made from the same models that the loader uses, so it cannot fall behind. It knows keys, types and plain limits;
what needs a calculation or another section, only the loader can refuse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from config.draft import common_keys
from config.maintenance import MaintenanceSettings
from config.problems import show_seconds
from config.report_settings import DailySettings, ReportSettings
from config.settings import (
    ID_PATTERN,
    AlertSettings,
    BlackboxSettings,
    CheckSettings,
    DefaultSettings,
    EventSettings,
    PathSettings,
    PeakSettings,
    ReferenceSettings,
    RootSettings,
    ServiceSettings,
    SiteSettings,
    StoreSettings,
    WebSettings,
)
from config.wording import keys_of
from probes import PROBES
from probes.base import Duration, ProbeType

Schema = dict[str, Any]

FILE: Final = Path(__file__).parent.parent / "docs" / "thongsuot.schema.json"
_DURATION_PATTERN: Final = TypeAdapter(Duration).json_schema()["pattern"]
_NUMERIC: Final = re.compile(r"\d+\.\d+")
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def build(probes: Mapping[str, ProbeType] = PROBES) -> Schema:
    """Return the schema of a whole configuration file."""
    defs: Schema = {}
    _add(defs, "site", SiteSettings)
    _add(defs, "path", PathSettings)
    _add(defs, "defaults", DefaultSettings)
    _add(defs, "service", ServiceSettings)
    _add(defs, "event", EventSettings)
    _add(defs, "alerts", AlertSettings)
    _add(defs, "reports", ReportSettings)
    _add(defs, "store", StoreSettings)
    _add(defs, "web", WebSettings)
    _add(defs, "blackbox", BlackboxSettings)
    _add(defs, "maintenance", MaintenanceSettings)
    for kind, probe in sorted(probes.items()):
        _add(defs, f"check.{kind}", CheckSettings, probe)
        _add(defs, f"reference.{kind}", ReferenceSettings, probe)
    defs["check"] = _one_of("check", probes)
    defs["reference"] = _one_of("reference", probes)
    _add(defs, "peak", PeakSettings)
    _add(defs, "event.daily", DailySettings)
    defs["event"]["properties"]["peaks"] |= _entries("peak")
    defs["event"]["properties"]["daily"] = {
        "description": defs["event"]["properties"]["daily"]["description"],
        "$ref": "#/$defs/event.daily",
    }
    defs["service"]["properties"]["checks"] |= _entries("check") | {"minProperties": 1}
    return _root(defs)


def write(file: Path = FILE) -> None:
    """Write the schema to its place in the documentation."""
    file.write_text(text(), encoding="utf-8")


def text() -> str:
    """Return the schema as it stands in the documentation."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


def _root(defs: Schema) -> Schema:
    plain = RootSettings.model_json_schema()
    sections = {
        "site": {"$ref": "#/$defs/site"},
        "paths": _entries("path"),
        "references": _entries("reference"),
        "defaults": {"$ref": "#/$defs/defaults"},
        "services": _entries("service"),
        "events": _entries("event"),
        "maintenance": {"type": "array", "items": {"$ref": "#/$defs/maintenance"}},
        "alerts": {"$ref": "#/$defs/alerts"},
        "reports": {"$ref": "#/$defs/reports"},
        "store": {"$ref": "#/$defs/store"},
        "web": {"$ref": "#/$defs/web"},
        "blackbox": {"$ref": "#/$defs/blackbox"},
    }
    properties: Schema = {"include": _tidy(plain["properties"]["include"])}
    for name, schema in sections.items():
        described = {"description": plain["properties"][name]["description"]}
        # An optional section may be left empty, as when all in it is commented out.
        optional = {"anyOf": [schema, {"type": "null"}]} if name not in ("site", "services") else schema
        properties[name] = described | optional
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Thông Suốt configuration",
        "description": "A whole configuration, or with only services, references, paths or events an included file.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": dict(sorted(defs.items())),
    }


def _entries(definition: str) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": ID_PATTERN},
        "additionalProperties": {"$ref": f"#/$defs/{definition}"},
    }


def _one_of(role: str, probes: Mapping[str, ProbeType]) -> Schema:
    kinds = sorted(probes)
    return {
        "type": "object",
        "required": ["probe"],
        "properties": {"probe": {"enum": kinds}},
        "discriminator": {"propertyName": "probe"},
        "oneOf": [{"$ref": f"#/$defs/{role}.{kind}"} for kind in kinds],
    }


def _add(defs: Schema, name: str, model: type[BaseModel], probe: ProbeType | None = None) -> None:
    """Add a model's schema under a name; with a probe, a check of that kind: common keys and the probe's together."""
    schema = _schema(defs, name, model)
    if probe is not None and issubclass(model, CheckSettings):
        own = _schema(defs, f"probe.{probe.kind}", probe.settings)
        common = common_keys(model, keys_of(probe.settings))
        kept = {key: value for key, value in schema["properties"].items() if key in common}
        kept["probe"] = {"const": probe.kind, "description": probe.summary}
        schema |= {
            "description": probe.summary,
            "properties": kept | own["properties"],
            "required": ["probe", *own.get("required", [])],
        }
    defs[name] = schema


def _schema(defs: Schema, name: str, model: type[BaseModel]) -> Schema:
    """Return one model's schema; what it refers to is put beside it, under names that cannot clash."""
    schema: Schema = _tidy(model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}"))
    for inner, definition in schema.pop("$defs", {}).items():
        defs[f"{name}.{inner}"] = definition
    return schema


def _tidy(schema: Any) -> Any:
    """Drop generated titles, and say durations as durations: they are texts, and their limits are not numbers."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    if is_duration(tidy):
        tidy = {key: value for key, value in tidy.items() if key not in _NUMBERS}
        if isinstance(tidy.get("default"), int | float):
            tidy["default"] = show_seconds(tidy["default"])
    elif tidy.get("default", 0) is None:
        del tidy["default"]
    options = tidy.get("enum", ())
    if options and all(_NUMERIC.fullmatch(str(option)) for option in options):  # 1.2 without quotes is a number
        tidy["enum"] = [*options, *map(float, options)]
        tidy.pop("type", None)
    return tidy


def is_duration(schema: Mapping[str, Any]) -> bool:
    """Tell whether a schema is a duration's: a text whose limits and default are numbers of seconds."""
    return bool(schema.get("pattern") == _DURATION_PATTERN)


if __name__ == "__main__":
    write()
