"""The steps of a journey as they stand in a configuration, and what is taken from one answer for the next request.

Source: RFC 3986 section 2.1 (values put into an address are percent-encoded).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, ClassVar, Final
from urllib.parse import quote

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.base import Fault, ProbeError, one_line
from probes.http_rules import Expect, OneRule, parse_json_path
from probes.http_url import URL_LIMIT
from probes.regex import Regex, captured
from probes.web_markup import Markup, parse_selector, tidy

STEPS_LIMIT: Final = 30
VALUE_LIMIT: Final = 8000  # characters of a value taken from an answer
SECRET: Final = "password"  # noqa: S105  the name by which the steps ask for it
_HOLE: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_OURS: Final = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "host", "cookie", "te"})


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")


def _selector(text: str) -> str:
    parse_selector(text)
    return text


def _path(text: str) -> str:
    parse_json_path(text)
    return text


CssText = Annotated[str, Field(max_length=200), AfterValidator(_selector)]
Template = Annotated[str, Field(max_length=URL_LIMIT)]


class ExtractRule(_Part):
    """Where a value stands in an answer: one of regex, json, css, header, cookie."""

    regex: Regex | None = Field(default=None, description="Pattern (RE2) over the body; its one group is the value")
    json_path: Annotated[str, Field(max_length=500), AfterValidator(_path)] | None = Field(
        default=None, alias="json", description="Path into a JSON body, like a.b[0].c"
    )
    css: CssText | None = Field(default=None, description="Selector of an element; see attribute")
    attribute: str | None = Field(default=None, max_length=60, description="Attribute of that element; else its text")
    header: str | None = Field(default=None, max_length=60, description="Header of the answer")
    cookie: str | None = Field(default=None, max_length=200, description="Cookie as it would be sent back")

    @model_validator(mode="after")
    def _one_place(self) -> ExtractRule:
        given = [v for v in (self.regex, self.json_path, self.css, self.header, self.cookie) if v is not None]
        if len(given) != 1:
            raise ValueError("give one of regex, json, css, header, cookie")
        if self.attribute is not None and self.css is None:
            raise ValueError("attribute belongs to css")
        return self


def _extract_rule(value: object) -> object:
    return {"regex": value} if isinstance(value, str) else value


OneExtract = Annotated[ExtractRule, BeforeValidator(_extract_rule, json_schema_input_type=str | ExtractRule)]


class FormRule(_Part):
    """A form of the page before, filled in and sent; its hidden fields are carried along."""

    css: CssText | None = Field(default=None, description="Selector of the form")
    id: str = Field(default="", max_length=200, description="Its id")
    name: str = Field(default="", max_length=200, description="Its name")
    action: str = Field(default="", max_length=2000, description="Part of where it is sent to")
    fields: Mapping[str, Template] = Field(
        default_factory=dict, max_length=50, description="What is filled in, by the fields' names"
    )


class StepExpect(Expect):
    """What the answer to a step must be."""

    final_url: OneRule | None = Field(
        default=None, description="Text or {regex: …} in the address after redirects, its query left out"
    )


class Step(_Part):
    """One request and what its answer must be."""

    name: str = Field(default="", max_length=60, description="For people, in reasons")
    get: Template | None = Field(
        default=None, description="Address to get, from the answer before; {name} is filled in"
    )
    post: Template | None = Field(default=None, description="Address to post to")
    form: FormRule | None = Field(default=None, description="Form of the page before to fill in and send")
    fields: Mapping[str, Template] = Field(
        default_factory=dict, max_length=50, description="Fields to post, encoded as a form's"
    )
    body: str | None = Field(default=None, max_length=1 << 16, description="Text to post as it is, in UTF-8")
    headers: Mapping[str, Template] = Field(default_factory=dict, max_length=50, description="Headers of this step")
    expect: StepExpect = Field(default_factory=StepExpect, description="What the answer must be; any 2xx by default")
    extract: Mapping[str, OneExtract] = Field(
        default_factory=dict, max_length=20, description="Values to take from the answer, by the names of later {name}"
    )
    always: bool = Field(default=False, description="Run this step also when one before it failed: a logout")

    @model_validator(mode="after")
    def _one_request(self) -> Step:
        if sum(v is not None for v in (self.get, self.post, self.form)) != 1:
            raise ValueError("give one of get, post, form")
        if self.post is None and (self.fields or self.body is not None):
            raise ValueError("fields and body belong to post; a form has fields of its own")
        if self.fields and self.body is not None:
            raise ValueError("give fields or body, not both")
        for name in self.extract:
            if not _NAME.fullmatch(name) or name in ("username", SECRET):
                raise ValueError(f"{one_line(name, 40)!r} cannot name a value: expected one of a-z, 0-9 and _")
        for name in self.headers:
            if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"{one_line(name, 40)!r} is not a header that a step may set")
        return self

    @property
    def address(self) -> str:
        """The address as it stands in the configuration, empty for a form."""
        return self.get or self.post or ""

    def holes(self) -> Iterator[tuple[str, str]]:
        """Give each {name} that is filled in, and where: url, fields, headers or body."""
        places = {
            "url": (self.address,),
            "fields": (*self.fields.values(), *(self.form.fields.values() if self.form else ())),
            "headers": tuple(self.headers.values()),
            "body": (self.body or "",),
        }
        for place, texts in places.items():
            yield from ((name, place) for text in texts for name in _HOLE.findall(text))


class Values:
    """What the steps fill in: the login, and what they took from answers."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = dict(known)

    def keep(self, name: str, value: str) -> None:
        """Keep a value for later steps."""
        self._known[name] = value

    def plain(self, template: str) -> str:
        """Fill in as it is."""
        return self._filled(template, lambda value, _: value)

    def url(self, template: str) -> str:
        """Fill in percent-encoded; a value that the address begins with is an address itself."""
        return self._filled(template, lambda value, start: value if start == 0 else quote(value, safe=""))

    def header(self, template: str) -> str:
        """Fill in a header's value.

        Raises:
            ProbeError: CONTENT when a value holds what a header cannot.
        """
        text = self.plain(template)
        if any(not c.isprintable() and c != "\t" for c in text):
            raise ProbeError(Fault.CONTENT, "a value for a header holds a line end or another control character")
        return text

    def body(self, template: str, *, json_text: bool) -> str:
        """Fill in a body; in JSON, within the quotes that stand around."""
        return self._filled(template, lambda value, _: json.dumps(value)[1:-1] if json_text else value)

    def _filled(self, template: str, put: Callable[[str, int], str]) -> str:
        def fill(hole: re.Match[str]) -> str:
            if hole[1] not in self._known:
                raise ProbeError(Fault.CONTENT, f"there is no value {{{hole[1]}}}: the step that finds it did not end")
            return put(self._known[hole[1]], hole.start())

        return _HOLE.sub(fill, template)


def extracted(name: str, rule: ExtractRule, page: str, markup: Callable[[], Markup]) -> str:
    """Return the value that a rule finds in a body; header and cookie are not found here.

    Raises:
        ProbeError: CONTENT when there is none.
    """
    if rule.regex is not None:
        found = captured(rule.regex, page)
    elif rule.json_path is not None:
        found = _in_json(rule.json_path, page)
    else:
        found = _in_markup(rule, markup())
    return usable(name, found)


def usable(name: str, found: str | None) -> str:
    """Return a value that was found, as far as it can be used.

    Raises:
        ProbeError: CONTENT when there is none, or more than anything could be asked with.
    """
    if not found:
        raise ProbeError(Fault.CONTENT, f"nothing found for {{{name}}}")
    if len(found) > VALUE_LIMIT:
        raise ProbeError(Fault.CONTENT, f"what was found for {{{name}}} is longer than {VALUE_LIMIT} characters")
    return found


def _in_json(path: str, page: str) -> str | None:
    try:
        found = orjson.loads(page.removeprefix("\ufeff").encode("utf-8", "replace"))
        for step in parse_json_path(path):
            found = found[step]
    except (ValueError, LookupError, TypeError):
        return None
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def _in_markup(rule: ExtractRule, markup: Markup) -> str | None:
    element = next(parse_selector(rule.css or "").find(markup), None)
    if element is None:
        return None
    if rule.attribute is not None:
        return element.attrs.get(rule.attribute.lower())
    inside = markup.below([element])
    return tidy("".join(text or " " for owner, text in markup.pieces if owner in inside))
