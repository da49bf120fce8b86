"""What a web check expects of an answer: the settings under `expect:`, and the judging of them. Pure.

Regular expressions are RE2's: no pattern takes longer than the text is long, whoever wrote either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

import orjson
import re2
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.base import Fault, ProbeError, one_line
from probes.http_body import Page
from probes.http_wire import Response

SHOWN: Final = 60  # characters of a value or rule in a reason
RULES: Final = 50  # of each sort at most
_SECRET_HEADERS: Final = frozenset({"set-cookie", "authorization", "www-authenticate"})  # values never shown


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """Return a compiled RE2 pattern.

    Raises:
        ValueError: it is not one; look-ahead and back-references are not.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except (re2.error, UnicodeError) as exc:
        reason = exc.args[0] if exc.args else exc
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"not a regular expression (RE2 syntax): {words}") from exc


def _checked(pattern: str) -> str:
    compiled(pattern)
    return pattern


Regex = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_checked)]


class _Rule(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")


class TextRule(_Rule):
    """A text that must (or must not) stand somewhere: as it is, or by a pattern."""

    text: str | None = Field(default=None, min_length=1, max_length=1000, description="Text as it stands")
    regex: Regex | None = Field(default=None, description="Pattern in RE2 syntax, found anywhere")

    @model_validator(mode="after")
    def _one_of_two(self) -> TextRule:
        if (self.text is None) == (self.regex is None):
            raise ValueError("give text or regex")
        return self

    @property
    def words(self) -> str:
        """The rule for people."""
        return f"text {_short(self.text)}" if self.text is not None else f"pattern {_short(self.regex)}"

    def found_in_page(self, page: Page) -> bool:
        """Whether a page holds it."""
        if self.text is not None:
            return page.holds(self.text)
        return compiled(self.regex or "").search(_encodable(page.text)) is not None

    def found_in_line(self, line: str) -> bool:
        """Whether a header's value holds it."""
        if self.text is not None:
            return self.text in line
        return compiled(self.regex or "").search(_encodable(line)) is not None


def _encodable(text: str) -> str:
    # RE2 reads UTF-8; half of a surrogate pair, as broken UTF-16 yields it, has none.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _one_rule(value: object) -> object:
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, dict | TextRule):
        return value
    raise ValueError("expected a text, {text: …} or {regex: …}; quote a number that is meant as text")


def _rule_list(value: object) -> object:
    # A tuple: behind a validator of ours, strict mode takes what it gets for Python's own and not for JSON's.
    return tuple(_one_rule(v) for v in value) if isinstance(value, list) else (_one_rule(value),)


def _status_list(value: object) -> object:
    items = value if isinstance(value, list) else [value]
    return tuple(str(i) if isinstance(i, int) and not isinstance(i, bool) else i for i in items)


def _status(value: str) -> str:
    if not re.fullmatch(r"[1-5](\d\d|xx)", value):
        raise ValueError(f"{one_line(value, 20)!r} is no status: expected one like 200 or 2xx")
    return value


OneRule = Annotated[TextRule, BeforeValidator(_one_rule, json_schema_input_type=str | TextRule)]
TextRules = Annotated[
    tuple[TextRule, ...],
    BeforeValidator(_rule_list, json_schema_input_type=str | TextRule | list[str | TextRule]),
    Field(max_length=RULES),
]
Statuses = Annotated[
    tuple[Annotated[str, AfterValidator(_status)], ...],
    BeforeValidator(_status_list, json_schema_input_type=int | str | list[int | str]),
    Field(min_length=1, max_length=RULES),
]
Scalar = str | int | float | bool | None

_STEP: Final = re.compile(r"""\.?([^\W\d][\w-]*)|\[(-?\d{1,9})\]|\[(?:"([^"]*)"|'([^']*)')\]""")


@lru_cache(maxsize=4096)
def parse_json_path(path: str) -> tuple[str | int, ...]:
    """Read a path like `a.b[0]["odd key"]`; a leading `$` is allowed.

    Raises:
        ValueError: it is not one.
    """
    text, position = path.removeprefix("$"), 0
    steps: list[str | int] = []
    while position < len(text):
        step = _STEP.match(text, position)
        named = step is not None and step[1] is not None
        dotted = text[position] == "."
        if step is None or (named and dotted != bool(steps or path[:1] == "$")):
            raise ValueError(f"not a JSON path at {text[position : position + 20]!r}: expected one like a.b[0].c")
        steps.append(int(step[2]) if step[2] else next(s for s in (step[1], step[3], step[4]) if s is not None))
        position = step.end()
    return tuple(steps)


def _checked_path(path: str) -> str:
    parse_json_path(path)
    return path


class JsonRule(_Rule):
    """A value inside a JSON body. Without a condition it must be there."""

    path: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_checked_path)] = Field(
        description='Where the value stands: a.b[0].c, with ["…"] around odd keys'
    )
    exists: bool | None = Field(default=None, description="Whether it must be there, or must not")
    equals: Scalar = Field(default=None, description="What it must be, type included")
    regex: Regex | None = Field(default=None, description="Pattern (RE2) to be found in a text")
    min: float | None = Field(default=None, description="Least number allowed")
    max: float | None = Field(default=None, description="Greatest number allowed")

    @model_validator(mode="after")
    def _conditions_fit(self) -> JsonRule:
        others = self.model_fields_set & {"equals", "regex", "min", "max"}
        if self.exists is False and others:
            raise ValueError("exists: false allows no other condition")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is greater than max")
        return self

    def problem(self, document: object) -> str:
        """Return what is wrong with a document, empty when nothing is."""
        try:
            found = _walk(document, parse_json_path(self.path))
        except LookupError:
            return "" if self.exists is False else f"JSON {self.path} is missing"
        if self.exists is False:
            return f"JSON {self.path} is there, expected none"
        return next(self._problems(found), "")

    def _problems(self, found: object) -> Iterator[str]:
        if "equals" in self.model_fields_set and not _same(found, self.equals):
            yield f"JSON {self.path} is {_short(found)}, expected {_short(self.equals)}"
        if self.regex is not None and not (isinstance(found, str) and compiled(self.regex).search(_encodable(found))):
            yield f"JSON {self.path} is {_short(found)}, expected pattern {_short(self.regex)}"
        if (self.min is not None or self.max is not None) and not self._in_range(found):
            bounds = (("at least", self.min), ("at most", self.max))
            wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
            yield f"JSON {self.path} is {_short(found)}, expected a number {wanted}"

    def _in_range(self, found: object) -> bool:
        if isinstance(found, bool) or not isinstance(found, int | float):
            return False
        return (self.min is None or found >= self.min) and (self.max is None or found <= self.max)


def _walk(document: object, steps: tuple[str | int, ...]) -> object:
    for step in steps:
        match document, step:
            case list(), int():
                document = document[step]
            case dict(), str():
                document = document[step]
            case _:
                raise KeyError(step)
    return document


def _same(found: object, wanted: Scalar) -> bool:
    # true is 1 to Python and not to JSON; 1 and 1.0 are one number to both.
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted


class Expect(_Rule):
    """What the final answer must be."""

    status: Statuses = Field(default=("2xx",), description="Statuses that are good: 200, or 2xx for all from 200 on")
    body: TextRules = Field(
        default=(), description="Text that must stand in the body, or {regex: …}, or a list of these, all needed"
    )
    body_absent: TextRules = Field(default=(), description="The same for what must not stand there")
    headers: Mapping[str, OneRule] = Field(
        default_factory=dict, max_length=RULES, description="Headers that must be there and hold a text or {regex: …}"
    )
    json_rules: tuple[JsonRule, ...] = Field(
        default=(), alias="json", max_length=RULES, description="Values that a JSON body must hold"
    )

    @property
    def reads_body(self) -> bool:
        """Whether any rule looks into the body."""
        return bool(self.body or self.body_absent or self.json_rules)

    def takes(self, status: int) -> bool:
        """Whether a status is a good one."""
        return any(rule == str(status) or rule == f"{status // 100}xx" for rule in self.status)


def judge_head(expect: Expect, response: Response) -> None:
    """Compare status and headers with what is expected.

    Raises:
        ProbeError: CONTENT with what was expected and what came.
    """
    if not expect.takes(response.status):
        wanted = ", ".join(expect.status)
        several = "one of " if len(expect.status) > 1 else ""
        raise ProbeError(Fault.CONTENT, f"status {response.status}, expected {several}{wanted}")
    for name, rule in expect.headers.items():
        value = response.header(name)
        if value is None:
            raise ProbeError(Fault.CONTENT, f"header {name} is missing, expected {rule.words}")
        if not rule.found_in_line(value):
            came = "something else" if name.lower() in _SECRET_HEADERS else _short(value)
            raise ProbeError(Fault.CONTENT, f"header {name} is {came}, expected {rule.words}")


def judge_body(expect: Expect, page: Page, *, truncated: bool) -> None:
    """Compare a body with what is expected.

    Args:
        expect: the rules.
        page: what was read.
        truncated: whether the body went on: then a text not found may stand further on, and is told so.

    Raises:
        ProbeError: CONTENT with what was looked for, never the body itself.
    """
    where = f"the first {len(page.text)} characters of a longer body" if truncated else "the body"
    titled = f" (page title {page.title!r})" if page.title else ""
    for rule in expect.body:
        if not rule.found_in_page(page):
            raise ProbeError(Fault.CONTENT, f"{rule.words} not found in {where}{titled}")
    for rule in expect.body_absent:
        if rule.found_in_page(page):
            raise ProbeError(Fault.CONTENT, f"{rule.words} stands in the body and must not{titled}")
    if truncated and (expect.body_absent or expect.json_rules):
        raise ProbeError(Fault.CONTENT, f"the body is longer than the rules may read; only {where} came")
    _judge_json(expect, page)


def _judge_json(expect: Expect, page: Page) -> None:
    if not expect.json_rules:
        return
    try:
        document = orjson.loads(page.text.removeprefix("\ufeff"))
    except ValueError as exc:  # JSONDecodeError, nesting too deep included; UnicodeError
        raise ProbeError(
            Fault.CONTENT, f"the body is not JSON{f': {exc}' if page.text.strip() else ': empty'}"
        ) from exc
    for rule in expect.json_rules:
        if problem := rule.problem(document):
            raise ProbeError(Fault.CONTENT, problem)


def _short(value: object) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return repr(one_line(value, SHOWN))
        case dict():
            return "an object"
        case list():
            return "a list"
    return str(value)[:SHOWN]
