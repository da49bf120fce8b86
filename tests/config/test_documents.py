"""Schema, manual and samples keep step with the code, and with each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import config
from config import manual, schema
from config.loader import load, load_text
from config.problems import Findings
from config.tree import parse
from probes import PROBES

ROOT = Path(config.__file__).parent.parent
SAMPLES = sorted((ROOT / "config" / "samples").glob("*.yaml"))
INCLUDED = sorted((ROOT / "config" / "samples").glob("*.d/*.yaml"))
CHECKS = sorted((ROOT / "config" / "samples" / "checks").glob("*.yaml"))
SMALL = "site: {id: a, name: A}\npaths: {vnpt: {interface: eth0}}\nservices:\n  s:\n    checks:\n"


def data_of(text: str) -> Any:
    findings = Findings()
    data, _ = parse(text, "sample", findings)
    assert not findings.problems
    return data


def schema_mistakes(data: Any, required: tuple[str, ...] = ()) -> list[str]:
    whole = schema.build() | {"required": list(required)}
    return [f"{e.json_path}: {e.message}" for e in jsonschema.Draft202012Validator(whole).iter_errors(data)]


def test_the_schema_in_the_documentation_is_the_code_s() -> None:
    assert schema.FILE.read_text("utf-8") == schema.text(), "run: python -m config.schema"


def test_the_manual_in_the_documentation_is_the_code_s() -> None:
    assert manual.FILE.read_text("utf-8") == manual.text(), "run: python -m config.manual"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.FILE.read_text("utf-8")))


def test_there_is_a_province_for_each_document() -> None:
    assert [file.stem for file in SAMPLES] == ["ha-tinh", "lang-son", "soc-trang", "tra-vinh-2020", "tra-vinh-2022"]


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_a_sample_loads_is_whole_and_fits_the_schema(file: Path) -> None:
    text = file.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=../../docs/thongsuot.schema.json\n")
    assert schema_mistakes(data_of(text), required=("site", "services")) == []
    plan = load(file)
    assert len(plan.services) >= 6
    assert len(plan.targets()) >= 15
    assert len(plan.references) >= 3
    assert plan.events[0].peaks
    assert plan.mail is not None
    assert len(plan.mail.relays) == 2
    assert all("cannot be read" in w or "is not set" in w for w in plan.warnings)


@pytest.mark.parametrize("file", INCLUDED, ids=lambda file: file.stem)
def test_an_included_sample_fits_the_schema(file: Path) -> None:
    assert schema_mistakes(data_of(file.read_text("utf-8"))) == []


@pytest.mark.parametrize("file", CHECKS, ids=lambda file: file.stem)
def test_the_checks_of_a_sample_load_and_fit_the_schema(file: Path) -> None:
    text = file.read_text("utf-8")
    indented = "".join(f"      {line}" for line in text.splitlines(keepends=True))
    plan = load_text(SMALL + indented, str(file))
    assert file.stem in {target.probe.kind for target in plan.targets()}
    assert schema_mistakes({"services": {"s": {"checks": data_of(text)}}}) == []


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    def mistakes(check: dict[str, Any]) -> list[str]:
        return schema_mistakes({"services": {"s": {"checks": {"c": check}}}})

    assert mistakes({"probe": "tcp", "host": "192.0.2.1", "port": 25, "every": "30s"}) == []
    assert mistakes({"probe": "tcp", "host": "192.0.2.1", "port": 25, "every": 30})
    assert mistakes({"probe": "tcp", "host": "192.0.2.1", "port": 25, "every": "30"})
    assert mistakes({"probe": "tcp", "host": "192.0.2.1", "prot": 25})
    assert mistakes({"probe": "tpc", "host": "192.0.2.1", "port": 25})
    assert mistakes({"probe": "dns", "server": "192.0.2.1", "name": "vn", "label": "Tên miền quốc gia"}) == []
    assert mistakes({"probe": "tcp", "host": "192.0.2.1", "port": 25, "label": "Thư"})
    assert mistakes({"host": "192.0.2.1"})
    assert schema_mistakes({"service": {}})
    assert schema_mistakes({"services": {"Mail": {"checks": {}}}})


def test_the_manual_names_every_key_value_and_fact_of_every_probe() -> None:
    text = manual.text()
    for kind, probe in PROBES.items():
        section = text[text.index(f"### `{kind}`") :]
        for key in schema.build()["$defs"][f"check.{kind}"]["properties"]:
            assert f"| `{key}` |" in text
        assert all(f"| `{value.name}` |" in section for value in (*probe.values, *probe.facts))


def test_the_examples_in_the_manual_are_accepted() -> None:
    whole, *parts = [block.split("```", 1)[0] for block in manual.text().split("```yaml\n")[2:]]
    load_text(whole)
    events = next(part for part in parts if part.startswith("events:"))
    carrier = "  carrier-vnpt: {checks: {c: {probe: icmp, host: 192.0.2.1}}}\n"
    assert len(load_text("site: {id: a, name: A}\nservices:\n" + carrier + events).events) == 2
