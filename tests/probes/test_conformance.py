"""What every probe owes the house, whoever wrote it; a new one is covered at once."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import config
from config.loader import load_text
from probes import PROBES
from probes.base import ProbeSettings

SAMPLES = Path(config.__file__).parent / "samples" / "checks"
UNITS = ("_s", "_ratio", "_bytes", "_bps", "_count", "_code", "_timestamp_s", "_score")
HEAD = """\
site: {id: lang-son, name: Lạng Sơn}
paths:
  vnpt: {name: VNPT cáp quang, source: 192.0.2.10}
services:
  mau:
    name: Mẫu
    checks:
"""

each_probe = pytest.mark.parametrize("kind", sorted(PROBES))


def test_the_probes_of_the_first_issue_are_there() -> None:
    assert {"icmp", "tcp", "dns"} <= set(PROBES)


@each_probe
def test_its_sample_is_one_to_three_checks_with_comments(kind: str) -> None:
    text = (SAMPLES / f"{kind}.yaml").read_text("utf-8")
    assert text.lstrip().startswith("#")
    assert 1 <= len(YAML(typ="safe").load(text)) <= 3


@each_probe
def test_its_sample_loads_in_a_configuration_and_shows_the_probe(kind: str) -> None:
    sample = (SAMPLES / f"{kind}.yaml").read_text("utf-8")
    plan = load_text(HEAD + textwrap.indent(sample, "      "))
    assert {target.probe.kind for target in plan.targets()} == {kind}


@each_probe
def test_it_has_a_test_file(kind: str) -> None:
    assert Path(__file__).with_name(f"test_{kind}.py").is_file()


@each_probe
def test_every_value_ends_in_its_unit_and_is_explained(kind: str) -> None:
    probe = PROBES[kind]
    for value in probe.values:
        assert value.name.endswith(UNITS), value.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", value.name), value.name
    for value in (*probe.values, *probe.facts):
        assert value.help, value.name
    names = [value.name for value in (*probe.values, *probe.facts)]
    assert len(names) == len(set(names))


@each_probe
def test_its_docstring_names_a_source(kind: str) -> None:
    text = sys.modules[f"probes.{kind}"].__doc__ or ""
    assert re.search(r"Sources?: ", text)


@each_probe
def test_every_setting_is_described(kind: str) -> None:
    settings = PROBES[kind].settings
    assert issubclass(settings, ProbeSettings)
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


@each_probe
def test_its_defaults_are_sensible(kind: str) -> None:
    probe = PROBES[kind]
    assert probe.summary
    assert "\n" not in probe.summary
    assert 1 <= probe.rounds_to_down <= 5
    assert 1 <= probe.default_timeout_s <= 60
