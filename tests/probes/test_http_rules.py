"""What a check may expect of an answer, rule by rule."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.base import Fault, ProbeError
from probes.http_body import Page
from probes.http_rules import Expect, judge_body, judge_head, parse_json_path
from probes.http_wire import Response


def expect(**rules: Any) -> Expect:
    return Expect.model_validate_json(json.dumps(rules))


def verdict(
    rules: dict[str, Any], body: str = "", *, status: int = 200, truncated: bool = False, **headers: str
) -> str:
    """Judge an answer; empty when it is as expected."""
    response = Response(status, "1.1", "", [(n.lower().replace("_", "-"), v) for n, v in headers.items()])
    try:
        judge_head(expect(**rules), response)
        judge_body(expect(**rules), Page(body), truncated=truncated)
    except ProbeError as exc:
        return exc.detail if exc.fault is Fault.CONTENT else f"wrong fault {exc.fault}"
    return ""


@pytest.mark.parametrize(
    ("wanted", "status", "says"),
    [
        (None, 200, ""),
        (None, 299, ""),
        (None, 301, "status 301, expected 2xx"),
        ([200], 200, ""),
        ([200], 503, "status 503, expected 200"),
        (200, 200, ""),
        ("3xx", 307, ""),
        ([200, "4xx"], 404, ""),
        ([200, 204], 500, "status 500, expected one of 200, 204"),
    ],
)
def test_a_status_is_compared(wanted: object, status: int, says: str) -> None:
    assert verdict({} if wanted is None else {"status": wanted}, status=status) == says


@pytest.mark.parametrize("wrong", [[], [20], [600], ["2XX"], [True], ["ok"], [200.0], None])
def test_a_wrong_status_rule_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        expect(status=wrong)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"body": "Đăng nhập"}, ""),
        ({"body": ["Đăng nhập", {"regex": r"v\d+\.\d+"}]}, ""),
        ({"body": {"text": "v2.1"}}, ""),
        ({"body": "Đăng xuất"}, "text 'Đăng xuất' not found in the body (page title 'Thư')"),
        ({"body": {"regex": "^lỗi$"}}, "pattern '^lỗi$' not found in the body (page title 'Thư')"),
        ({"body_absent": "bảo trì"}, ""),
        (
            {"body_absent": {"regex": "(?i)ĐĂNG"}},
            "pattern '(?i)ĐĂNG' stands in the body and must not (page title 'Thư')",
        ),
    ],
)
def test_a_body_is_compared(rules: dict[str, Any], says: str) -> None:
    assert verdict(rules, "<title>Thư</title> Đăng nhập v2.1") == says


def test_a_text_not_found_in_a_cut_body_says_so() -> None:
    assert "the first 4 characters of a longer body" in verdict({"body": "x"}, "abcd", truncated=True)
    assert verdict({"body": "ab"}, "abcd", truncated=True) == ""
    assert "longer than the rules may read" in verdict({"body_absent": "x"}, "abcd", truncated=True)
    assert "longer than the rules may read" in verdict({"json": [{"path": "a"}]}, "{}", truncated=True)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("json", ""),
        ({"regex": "^application/"}, ""),
        ("xml", "header Content-Type is 'application/json; charset=utf-8', expected text 'xml'"),
    ],
)
def test_a_header_is_compared(rule: object, says: str) -> None:
    assert verdict({"headers": {"Content-Type": rule}}, Content_Type="application/json; charset=utf-8") == says


def test_a_missing_header_is_told_and_a_cookie_never_shown() -> None:
    assert verdict({"headers": {"X-A": "b"}}) == "header X-A is missing, expected text 'b'"
    assert "s3cret" not in verdict({"headers": {"Set-Cookie": "Secure"}}, Set_Cookie="id=s3cret")


DOCUMENT = json.dumps(
    {"status": "UP", "on": True, "none": None, "n": 1, "q": [{"waiting": 5}, {"waiting": 7.5}], "odd key": {"a.b": "x"}}
)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"path": "status", "equals": "UP"}, ""),
        ({"path": "$.status", "regex": "^U"}, ""),
        ({"path": "q[0].waiting", "max": 5}, ""),
        ({"path": "q[-1].waiting", "min": 7, "max": 8}, ""),
        ({"path": '["odd key"]["a.b"]', "equals": "x"}, ""),
        ({"path": "$['odd key']"}, ""),
        ({"path": "on", "equals": True}, ""),
        ({"path": "none", "equals": None}, ""),
        ({"path": "n", "equals": 1.0}, ""),
        ({"path": "absent", "exists": False}, ""),
        ({"path": "absent"}, "JSON absent is missing"),
        ({"path": "q[2]"}, "JSON q[2] is missing"),
        ({"path": "q.waiting"}, "JSON q.waiting is missing"),
        ({"path": "status[0]"}, "JSON status[0] is missing"),
        ({"path": "n", "exists": False}, "JSON n is there, expected none"),
        ({"path": "status", "equals": "DOWN"}, "JSON status is 'UP', expected 'DOWN'"),
        ({"path": "on", "equals": 1}, "JSON on is true, expected 1"),
        ({"path": "n", "equals": True}, "JSON n is 1, expected true"),
        ({"path": "none", "equals": "x"}, "JSON none is null, expected 'x'"),
        ({"path": "q", "equals": 1}, "JSON q is a list, expected 1"),
        ({"path": "$", "equals": 1}, "JSON $ is an object, expected 1"),
        ({"path": "n", "regex": "1"}, "JSON n is 1, expected pattern '1'"),
        ({"path": "n", "min": 2}, "JSON n is 1, expected a number at least 2"),
        ({"path": "n", "min": 2, "max": 3}, "JSON n is 1, expected a number at least 2 and at most 3"),
        ({"path": "on", "max": 2}, "JSON on is true, expected a number at most 2"),
    ],
)
def test_json_is_compared(rule: dict[str, Any], says: str) -> None:
    assert verdict({"json": [rule]}, DOCUMENT) == says


@pytest.mark.parametrize("body", ["", "<html>", "[" * 100_000, "{", '"\\ud800"', "1" * 5000 + "x", "NaN"])
def test_what_is_no_json_is_told_so(body: str) -> None:
    assert verdict({"json": [{"path": "a"}]}, body).startswith("the body is not JSON")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"body": {"regex": "("}}, "not a regular expression"),
        ({"body": {"regex": "(?=a)"}}, "not a regular expression"),
        ({"body": {"regex": "a{9999}"}}, "not a regular expression"),
        ({"body": {"text": "a", "regex": "b"}}, "give text or regex"),
        ({"body": {}}, "give text or regex"),
        ({"body": ""}, "at least 1 character"),
        ({"body": 5}, "expected a text, {text: …} or {regex: …}; quote a number"),
        ({"json": [{"path": "a..b"}]}, "not a JSON path at '..b'"),
        ({"json": [{"path": "a[x]"}]}, "not a JSON path at '[x]'"),
        ({"json": [{"path": ".a"}]}, "not a JSON path"),
        ({"json": [{"path": "a", "exists": False, "min": 1}]}, "allows no other condition"),
        ({"json": [{"path": "a", "min": 2, "max": 1}]}, "min is greater than max"),
        ({"json": [{"path": "a", "equal": 1}]}, "Extra inputs"),
        ({"contains": "x"}, "Extra inputs"),
    ],
)
def test_wrong_rules_are_refused(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        expect(**rules)

    assert says in str(caught.value)


def test_no_pattern_can_hang() -> None:
    began = time.perf_counter()

    assert "not found" in verdict({"body": {"regex": "^(a+)+$"}}, "a" * 200_000 + "b")
    assert time.perf_counter() - began < 2


@given(st.text(max_size=100))
def test_any_text_can_be_searched_by_a_pattern(text: str) -> None:
    assert verdict({"body": {"regex": "^never there$"}}, text).startswith("pattern")


@given(st.lists(st.one_of(st.integers(-9, 99), st.text(st.characters(exclude_characters='"'), max_size=5)), max_size=5))
def test_a_path_is_read_back(steps: list[int | str]) -> None:
    path = "$" + "".join(f"[{s}]" if isinstance(s, int) else f'["{s}"]' for s in steps)

    assert list(parse_json_path(path)) == steps


@given(st.text(alphabet="ab.[]\"'0-$", max_size=12))
def test_any_path_is_read_or_refused(path: str) -> None:
    try:
        steps = parse_json_path(path)
    except ValueError as exc:
        assert "not a JSON path" in str(exc)  # noqa: PT017  the other half of the law is below
    else:
        assert len(steps) <= len(path)
