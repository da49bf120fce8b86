"""Whatever comes in, a Plan or a ConfigError comes out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from config.loader import ConfigError, Problem, load_text
from config.plan import Plan
from config.settings import (
    CheckSettings,
    EventSettings,
    MailSettings,
    PeakSettings,
    RelaySettings,
    RootSettings,
    ServiceSettings,
    SiteSettings,
)
from config.wording import keys_of
from probes import PROBES
from tests.config.test_loader import CONTRACT

MODELS: tuple[type[BaseModel], ...] = (
    RootSettings, SiteSettings, ServiceSettings, CheckSettings, EventSettings, PeakSettings, MailSettings,
    RelaySettings,
    *(probe.settings for probe in PROBES.values()),
)  # fmt: skip
KEYS = st.sampled_from(
    sorted({key for model in MODELS for key in keys_of(model)} | {"mail", "at_least", "password", "<<"})
)
WORDS = st.sampled_from(
    [
        "mail",
        "30s",
        "1h",
        "2027-02-06",
        "2027-02-06 25:00",
        "giao-thua",
        "icmp",
        "http",
        "192.0.2.1",
        "all",
        "h:1",
        "https://a:b@c/",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=40,
)
CHECKS = st.dictionaries(
    st.text("ab-", max_size=3),
    st.fixed_dictionaries({"probe": st.sampled_from(sorted(PROBES))}).flatmap(
        lambda base: st.dictionaries(KEYS, DATA, max_size=5).map(lambda rest: rest | base)
    ),
    max_size=3,
)
SERVICES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {"checks": CHECKS},
        optional={"needs": st.lists(st.sampled_from(["a", "b", "c"])), "up_when": DATA, "kind": DATA},
    ),
    max_size=3,
)
EVENTS = st.dictionaries(
    KEYS,
    st.fixed_dictionaries(
        {}, optional={"tet": st.integers(), "from": WORDS, "to": WORDS, "before": WORDS, "peaks": DATA}
    ),
    max_size=3,
)
WHOLE = st.fixed_dictionaries(
    {"site": st.just({"id": "a", "name": "A"}) | DATA, "services": SERVICES},
    optional={
        "references": CHECKS,
        "events": EVENTS,
        "alerts": DATA,
        "paths": DATA,
        "defaults": DATA,
        "web": DATA,
        "store": DATA,
    },
)


def read(text: str) -> Plan | tuple[Problem, ...]:
    try:
        return load_text(text, "tinh.yaml")
    except ConfigError as exc:
        return exc.problems


def outcome(text: str) -> str:
    result = read(text)
    if isinstance(result, Plan):
        return "accepted"
    assert result
    places = [(p.place.line, p.place.column) for p in result if p.place.file == "tinh.yaml"]
    assert places == sorted(places)
    assert all(line >= 1 and column >= 1 for line, column in places)
    assert all(str(p).isprintable() for p in result)
    return "refused"


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_a_plan_or_a_refusal(text: str) -> None:
    outcome(text)


@settings(max_examples=150, deadline=None)
@given(text=st.text("ab:-[]{}#&*!|>'\"%@`,? \n\t\\x0u<.~", max_size=60))
def test_any_soup_of_yaml_signs_is_a_plan_or_a_refusal(text: str) -> None:
    outcome(text)


@settings(max_examples=150, deadline=None)
@given(data=DATA)
def test_any_data_is_a_plan_or_a_refusal(data: Any) -> None:
    outcome(json.dumps(data, ensure_ascii=True))


@settings(max_examples=200, deadline=None)
@given(data=WHOLE)
def test_any_data_of_the_right_shape_is_a_plan_or_a_refusal(data: Any) -> None:
    outcome(json.dumps(data, ensure_ascii=True))


@settings(max_examples=100, deadline=None)
@given(start=st.integers(0, len(CONTRACT)), length=st.integers(0, 30), put=st.text("ab0:-[]{}, \n\t'\"*&", max_size=5))
def test_a_slip_of_the_hand_is_a_plan_or_a_refusal(start: int, length: int, put: str) -> None:
    outcome(CONTRACT[:start] + put + CONTRACT[start + length :])


def test_the_contract_s_configuration_itself_is_accepted() -> None:
    assert outcome(CONTRACT) == "accepted"
