"""Messages for settings of any probe: unions, nested mappings, lists, limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from config.loader import ConfigError, load_text
from config.problems import did_you_mean, show_key, show_loc, show_seconds, show_value
from probes.base import Duration, Measurement, ProbeSettings, ProbeType


class Step(ProbeSettings):
    """A nested mapping."""

    send: str = ""
    wait: Annotated[Duration, Field(le=60)] = 1.0


class Settings(ProbeSettings):
    """One field of each shape."""

    host: str
    codes: int | tuple[int, ...] = 200
    steps: tuple[Step, ...] = Field(default=(), max_length=2)
    headers: Mapping[str, str] = Field(default_factory=dict)
    rule: Step | str | None = None
    share: float = Field(default=0.5, gt=0, lt=1)
    ca_file: Path | None = None
    word: str = Field(default="abc", min_length=2, max_length=4, pattern="^[a-z]+$")
    alias_: str = Field(default="", alias="class")


async def run(settings: Settings, m: Measurement) -> None:
    m.values["share_ratio"] = settings.share


PROBES = {"odd": ProbeType("odd", "Odd", Settings, run)}


def message(keys: str) -> str:
    text = f"site: {{id: a, name: A}}\nservices: {{s: {{checks: {{c: {{probe: odd, host: h, {keys}}}}}}}}}\n"
    try:
        load_text(text, "t", PROBES)
    except ConfigError as exc:
        return "\n".join(f"{p.path.removeprefix('services.s.checks.c.')}: {p.message}" for p in exc.problems)
    return "accepted"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("codes: [200, 204]", "accepted"),
        ("codes: x", "codes: expected a whole number or a list; got 'x'"),
        ("codes: [200, x]", "codes[1]: expected a whole number; got 'x'"),
        ("steps: [{send: a}, {sned: b}]", "steps[1].sned: unknown key 'sned'; did you mean 'send'?"),
        ("steps: [{wait: 5m}]", "steps[0].wait: expected at most 1m; got '5m'"),
        (
            "steps: [{wait: 5}]",
            "steps[0].wait: expected a duration with its unit, like 500ms, 30s, 5m, 2h or 7d; got the number 5",
        ),
        ("steps: [{}, {}, {}]", "steps: expected at most 2 items; got a list"),
        ("steps: {send: a}", "steps: expected a list; got a mapping"),
        ("headers: {X-A: 1}", "headers.X-A: expected text; got the number 1 (put it in quotes)"),
        ("rule: {sned: x}", "rule.sned: unknown key 'sned'; did you mean 'send'?"),
        ("rule: [x]", "rule: expected a mapping of keys and values or text; got a list"),
        ("share: 1", "share: expected less than 1; got the number 1"),
        ("share: 0", "share: expected more than 0; got the number 0"),
        ("ca_file: 5", "ca_file: expected text; got the number 5 (put it in quotes)"),
        ("word: a", "word: expected at least 2 characters; got 'a'"),
        ("word: abcde", "word: expected at most 4 characters; got 'abcde'"),
        ("word: A1", "word: expected text of the form ^[a-z]+$; got 'A1'"),
        ("class: 5", "class: expected text; got the number 5 (put it in quotes)"),
        ("clas: x", "clas: unknown key 'clas'; did you mean 'class'?"),
        ("every: true", "every: expected a duration with its unit, like 500ms, 30s, 5m, 2h or 7d; got true"),
        ("nmae: x", "nmae: unknown key 'nmae'; did you mean 'name'?"),
        ("ca_file: [x]", "ca_file: expected text; got a list"),
        ("token: {bi-mat: x}", "token: unknown key 'token'; known keys: KEYS"),
    ],
)
def test_a_mistake_is_said_plainly_whatever_its_shape(keys: str, expected: str) -> None:
    known = (
        "bad_rounds, ca_file, class, codes, every, good_rounds, headers, host, name, objective, path, paths, "
        "probe, recheck_after, rule, share, slow_over, steps, timeout, up_by, word"
    )
    assert message(keys) == expected.replace("KEYS", known)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("imcp", "; did you mean 'icmp'?"),
        ("htpp", "; did you mean 'http'?"),
        ("zzzz", ""),
        ("x" * 100_000, ""),
    ],
)
def test_suggestions_prefer_swapped_letters_and_never_take_long(word: str, expected: str) -> None:
    assert did_you_mean(word, ["imap", "icmp", "http", "smtp"]) == expected


def test_ways_keys_and_values_are_shown_on_one_short_line() -> None:
    assert show_loc(("alerts", "mail", "relays", 0, "host")) == "alerts.mail.relays[0].host"
    assert show_loc(()) == "(file)"
    assert show_key("a b\nc") == '"a b c"'
    assert len(show_key("k" * 500)) < 70
    assert show_value("x" * 500) == "'" + "x" * 59 + "…'"
    assert show_value("\ud800") == "'?'"
    values: tuple[object, ...] = (None, True, [], {}, 1.5)
    assert [show_value(v) for v in values] == [
        "nothing", "true", "an empty list", "an empty mapping", "the number 1.5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "250ms"), (0, "0s"), (30, "30s"), (90, "90s"), (300, "5m"), (7200, "2h"), (172800, "2d")],
)
def test_durations_are_shown_as_they_are_written(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown
