"""YAML 1.2 text to plain data in which every key and value knows its place.

ruamel.yaml parses; plain words are read by the core schema of YAML 1.2 (section 10.3.2), so `yes` and `on` are
texts. Refused: duplicate keys, tags, a second document, aliases that refer to themselves or multiply. Reads no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from config.problems import Findings, Loc, Place, Places, show_key, show_loc
from probes.base import one_line

DEPTH_LIMIT: Final = 32  # chosen: a configuration is at most ten deep
NODE_LIMIT: Final = 500_000  # chosen: values after aliases are followed; 10,000 checks have 200,000

_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_A_NUMBER: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_DIGITS_LIMIT: Final = 18  # digits of a whole number; more cannot mean anything here
_STR_TAG: Final = "tag:yaml.org,2002:str"


class Unreadable(Exception):  # noqa: N818  never leaves this module: a signal that the rest cannot be read
    """The text cannot be parsed beyond a point; carries that point and the reason."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass(slots=True)
class _Node:
    place: Place
    value: Any  # a plain scalar, a list of nodes, or a list of (key, place of key, node)
    kind: str  # scalar | list | mapping | alias
    complete: bool = True  # False while an anchor's own content is read


def parse(text: str, file: str, findings: Findings, *, typed: bool = True) -> tuple[Any, Places]:
    """Read one file's text.

    Args:
        text: the whole file, decoded.
        file: its name in messages.
        findings: takes the mistakes; after a syntax error the data is None.
        typed: whether plain words are read as numbers and truth values; otherwise all but nothing stay texts.

    Returns:
        The data (mappings with text keys, lists, texts, numbers, booleans, None) and where each part stands.
    """
    places = Places(files=[file])
    try:
        root = _Composer(text, file, findings, typed).document()
        if root is None:
            return None, places
        return _Expansion(places, findings).expand(root, ()), places
    except Unreadable as exc:
        findings.incomplete = True
        findings.mistake_at(exc.place, exc.message)
        return None, places


class _Composer:
    """Makes nodes of parse events: depth is bounded, so the deepest input cannot exhaust the stack."""

    def __init__(self, text: str, file: str, findings: Findings, typed: bool) -> None:
        self._file = file
        self._typed = typed
        self._findings = findings
        self._anchors: dict[str, _Node] = {}
        self._events = self._read(text)

    def document(self) -> _Node | None:
        root: _Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise Unreadable(self._place(event.start_mark), "expected one document a file; a second one begins")
                if event.version and tuple(event.version) != (1, 2):
                    raise Unreadable(self._place(event.start_mark), "expected YAML 1.2; another version is declared")
            elif isinstance(event, NodeEvent):
                root = self._node(event, 0)
        return root

    def _read(self, text: str) -> Iterator[Any]:
        try:
            yield from YAML(typ="safe", pure=True).parse(text)
        except ReaderError as exc:
            raise Unreadable(_place_in(text, exc.position, self._file), _bad_character(text, exc.position)) from exc
        except MarkedYAMLError as exc:
            mark, message = _syntax(exc)
            raise Unreadable(self._place(mark), message) from exc
        except YAMLError as exc:
            raise Unreadable(Place(self._file, 1, 1), f"not valid YAML: {one_line(str(exc))}") from exc
        except (ValueError, OverflowError) as exc:  # an escape such as "\UFFFFFFFF" names no character
            raise Unreadable(Place(self._file, 1, 1), f"an escape names no character: {one_line(str(exc))}") from exc

    def _place(self, mark: Any) -> Place:
        return Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file, 1, 1)

    def _node(self, event: Any, depth: int) -> _Node:
        place = self._place(event.start_mark)
        if depth > DEPTH_LIMIT:
            raise Unreadable(place, f"nested more than {DEPTH_LIMIT} deep")
        if isinstance(event, AliasEvent):
            return self._alias(str(event.anchor), place)
        node = _Node(place, None, "scalar", complete=False)
        if event.anchor is not None:
            self._anchors[str(event.anchor)] = node
        self._refuse_tag(event, place)
        if isinstance(event, ScalarEvent):
            node.value = self._scalar(event, place)
        elif isinstance(event, MappingStartEvent):
            node.kind, node.value = "mapping", list(self._pairs(depth))
        elif isinstance(event, CollectionStartEvent):
            node.kind, node.value = "list", [self._node(inner, depth + 1) for inner in self._until_end()]
        node.complete = True
        return node

    def _alias(self, name: str, place: Place) -> _Node:
        target = self._anchors.get(name)
        if target is None:
            self._findings.mistake_at(place, f"alias *{show_key(name)} has no anchor &{show_key(name)} above it")
            return _Node(place, None, "scalar")
        if not target.complete:
            raise Unreadable(place, f"alias *{show_key(name)} stands inside its own anchor")
        return _Node(place, target, "alias")

    def _until_end(self) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, CollectionEndEvent):
                return
            yield event

    def _pairs(self, depth: int) -> Iterator[tuple[str, Place, _Node]]:
        for event in self._until_end():
            key, place = self._key(event, depth), self._place(event.start_mark)
            value = self._node(next(self._events), depth + 1)
            if key is not None:
                yield key, place, value

    def _key(self, event: Any, depth: int) -> str | None:
        place = self._place(event.start_mark)
        node = self._node(event, depth + 1)
        if isinstance(event, ScalarEvent):
            return self._text(event.value, place)
        if node.kind == "alias" and isinstance(node.value.value, str):
            return str(node.value.value)
        self._findings.mistake_at(place, "expected a plain word as a key; got a list or a mapping")
        return None

    def _refuse_tag(self, event: Any, place: Place) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) != _STR_TAG:
            self._findings.mistake_at(place, f"tags are not used here; got '{one_line(str(tag), 60)}'")

    def _scalar(self, event: ScalarEvent, place: Place) -> Any:
        plain = event.style in (None, "") and event.implicit[0]
        return self._plain(event.value, place) if plain else self._text(event.value, place)

    def _text(self, text: str, place: Place) -> str | None:
        """Join the two halves of a character that escapes name as JSON does; refuse one half alone."""
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            message = "an escape names half a character (a surrogate); write the character itself"
            self._findings.mistake_at(place, message)
            return None

    def _plain(self, text: str, place: Place) -> Any:
        if text in _WORDS and (self._typed or _WORDS[text] is None):
            return _WORDS[text]
        if not self._typed:
            return text
        if _INT.fullmatch(text):
            if len(text) > _DIGITS_LIMIT:
                self._findings.mistake_at(
                    place, f"a whole number of more than {_DIGITS_LIMIT} digits; quote it if it is a text"
                )
                return None
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _NOT_A_NUMBER.fullmatch(text) or (_FLOAT.fullmatch(text) and not math.isfinite(float(text))):
            self._findings.mistake_at(place, f"'{text[:20]}' is no finite number; quote it if it is a text")
            return None
        return float(text) if _FLOAT.fullmatch(text) else text


class _Expansion:
    """Makes plain data of nodes, aliases followed; what it makes is counted, so that aliases cannot multiply."""

    def __init__(self, places: Places, findings: Findings) -> None:
        self._places = places
        self._findings = findings
        self._made = 0

    def expand(self, node: _Node, loc: Loc) -> Any:
        self._made += 1
        if self._made > NODE_LIMIT or len(loc) > 2 * DEPTH_LIMIT:
            raise Unreadable(node.place, f"more than {NODE_LIMIT} values, or too deep, once aliases are followed")
        self._places.values[loc] = node.place
        while node.kind == "alias":
            node = node.value
        if node.kind == "list":
            return [self.expand(inner, (*loc, index)) for index, inner in enumerate(node.value)]
        if node.kind == "mapping":
            return self._mapping(node, loc)
        return node.value

    def _mapping(self, node: _Node, loc: Loc) -> dict[str, Any]:
        own: dict[str, tuple[Place, _Node]] = {}
        merged: list[_Node] = []
        for key, place, value in node.value:
            if key == "<<":
                merged.extend(self._merge_sources(place, value, loc))
            elif key in own:
                first = own[key][0]
                message = f"duplicate key '{show_key(key)}'; first given at {first}"
                self._findings.mistake_at(place, message, show_loc((*loc, key)))
            else:
                own[key] = (place, value)
        for source in merged:  # the key's own value wins, then the first source
            for key, place, value in source.value:
                own.setdefault(key, (place, value))
        data = {}
        for key, (place, value) in own.items():
            self._places.keys[(*loc, key)] = place
            data[key] = self.expand(value, (*loc, key))
        return data

    def _merge_sources(self, place: Place, value: _Node, loc: Loc) -> list[_Node]:
        sources = value.value if value.kind == "list" else [value]
        found = []
        for source in sources:
            inner = source
            while inner.kind == "alias":
                inner = inner.value
            if inner.kind == "mapping" and not any(key == "<<" for key, _, _ in inner.value):
                found.append(inner)
            else:
                message = "expected an alias of a mapping (without '<<' of its own) to merge"
                self._findings.mistake_at(place, message, show_loc((*loc, "<<")))
        return found


def _place_in(text: str, position: int, file: str) -> Place:
    before = text[:position]
    return Place(file, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _bad_character(text: str, position: int) -> str:
    code = f"U+{ord(text[position]):04X}" if position < len(text) else "a character"
    return f"{code} is not allowed in YAML; write it as an escape in double quotes"


def _syntax(exc: MarkedYAMLError) -> tuple[Any, str]:
    """Say in plain words what ruamel.yaml found, and at which mark."""
    problem = str(exc.problem or "")
    opened = f"line {exc.context_mark.line + 1}" if exc.context_mark else "above"
    mark = exc.problem_mark or exc.context_mark
    if "'\\t'" in problem:
        return mark, "a tab stands where only blanks may; YAML is indented with blanks"
    if "unexpected end of stream" in problem or "unexpected document separator" in problem:
        return exc.context_mark or mark, "the quote opened here is never closed"
    for sign, words in _SYNTAX.items():
        if sign in problem:
            return mark, words.format(opened=opened)
    return mark, f"not valid YAML: {one_line(problem)}"


_SYNTAX: Final = {
    "mapping values are not allowed": "a ':' where none may be: wrong indentation, or a text with ': ' without quotes",
    "expected <block end>": "wrong indentation: this does not line up with what began at {opened}",
    "expected ',' or '}'": "expected ',' or '}}' in the {{…}} opened at {opened}",
    "expected ',' or ']'": "expected ',' or ']' in the […] opened at {opened}",
    "could not find expected ':'": "expected ':' after the key at {opened}",
    "cannot start any token": "a text that begins with this character needs quotes",
    "expected '<document start>'": "wrong indentation: this stands further left than what began the file",
}
