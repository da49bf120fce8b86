"""Reads HTML as text, elements and attributes, in time that grows with the page's length alone. Pure.

A page may be written by an attacker, and the parsers at hand (html.parser, libxml2) take quadratic time for some of
them: unclosed comments for one, a tag with a hundred thousand attributes for the other. This scanner reads every
character a bounded number of times, and stops at a number of pieces. What it calls an element's end is what a browser
does for what pages really hold (closed by name, void, `p` and `li` closed by the next), not the whole of the standard.
Source: HTML Living Standard, sections 13.1.2 (elements), 13.2.5 (tokenization).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from probes.base import Fault, ProbeError
from probes.letters import composed, unescaped

PIECES_LIMIT: Final = 200_000  # tags and texts of one page; chosen: ten times what a heavy portal has
DEPTH_LIMIT: Final = 512  # elements in one another; deeper ones are kept side by side, as browsers do

VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
RAW: Final = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})
INLINE: Final = frozenset(
    {
        "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i",
        "img", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup",
        "time", "tt", "u", "var", "wbr",
    }
)  # fmt: skip
# An open element that ends where one of these begins; never across the element that holds the list or table.
_ENDED_BY: Final = {
    "li": frozenset({"li"}),
    "p": frozenset({"p", "div", "ul", "ol", "table", "form", "h1", "h2", "h3", "h4", "section", "article", "footer"}),
    "option": frozenset({"option", "optgroup"}),
    "tr": frozenset({"tr", "tbody", "tfoot"}),
    "td": frozenset({"td", "th", "tr"}),
    "th": frozenset({"td", "th", "tr"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
}
_TAG: Final = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE: Final = re.compile(r"[\s/]*+([^\s/>=]?[^\s/>=]*+)(?:\s*+(=)\s*+)?")
_BARE: Final = re.compile(r"[^\s>]*")
_RAW_END: Final = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE) for tag in RAW}


class Element:
    """One element; attributes by name in lower case, the first of several."""

    __slots__ = ("attrs", "parent", "tag")

    def __init__(self, tag: str, attrs: dict[str, str], parent: Element | None) -> None:
        self.tag = tag
        self.attrs = attrs
        self.parent = parent


@dataclass(slots=True)
class Markup:
    """A page: its elements and, in order, its texts and the places where a line ends."""

    root: Element = field(default_factory=lambda: Element("", {}, None))
    elements: list[Element] = field(default_factory=list)  # in order of their begin: parents before children
    pieces: list[tuple[Element, str | None]] = field(default_factory=list)  # text within an element; None ends a line

    def below(self, tops: Sequence[Element] | frozenset[Element]) -> frozenset[Element]:
        """Return these elements and all that they hold."""
        inside = set(tops)
        for element in self.elements:
            if element.parent in inside:
                inside.add(element)
        return frozenset(inside)

    def text_of(self, tag: str) -> Iterator[tuple[Element, str]]:
        """Give every element of a kind with the whole text in it, as a reader sees it; for kinds that do not nest."""
        owner: dict[Element, Element] = {}
        for element in self.elements:
            if element.tag == tag:
                owner[element] = element
            elif element.parent in owner:
                owner[element] = owner[element.parent]
        words: dict[Element, list[str]] = {}
        for element, text in self.pieces:
            if element in owner and element.tag not in ("script", "style"):
                words.setdefault(owner[element], []).append(" " if text is None else text)
        for element in self.elements:
            if element.tag == tag:
                yield element, tidy("".join(words.get(element, ())))


def tidy(text: str) -> str:
    """Return text with single blanks and composed letters, without what no reader can see."""
    whole = composed(text)
    if not whole.isascii():
        whole = whole.translate(_UNSEEN)
    return " ".join(whole.split())


_UNSEEN: Final = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))  # soft hyphen, blanks without width


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._markup = Markup()
        self._open: list[Element] = [self._markup.root]
        self._names: Counter[str] = Counter()
        self._count = 0

    def read(self) -> Markup:
        text, position = self._text, 0
        while position < len(text):
            tag = text.find("<", position)
            self._add_text(text[position : tag if tag >= 0 else len(text)])
            if tag < 0:
                break
            position = self._markup_at(tag)
        return self._markup

    def _counted(self) -> None:
        self._count += 1
        if self._count > PIECES_LIMIT:
            raise ProbeError(Fault.CONTENT, f"the page has more than {PIECES_LIMIT} tags and texts")

    def _add_text(self, raw: str) -> None:
        if raw:
            self._counted()
            self._markup.pieces.append((self._open[-1], unescaped(raw)))

    def _markup_at(self, start: int) -> int:
        """Read what begins with `<`; return where to go on."""
        text = self._text
        if text.startswith("<!--", start):
            return self._after_comment(start)
        closing = text.startswith("</", start)
        name = _TAG.match(text, start + 1 + closing)
        if name is None:
            if closing or text.startswith(("<!", "<?"), start):
                return self._after(text.find(">", start), 1)
            self._add_text("<")
            return start + 1
        self._counted()
        attrs, end = self._attributes(name.end())
        if end > len(text):  # the page ends inside a tag: no browser shows it
            return end
        if closing:
            self._close(name[0].lower())
            return end
        return self._begin(name[0].lower(), attrs, end)

    def _after_comment(self, start: int) -> int:
        if self._text.startswith((">", "->"), start + 4):
            return self._text.index(">", start) + 1
        return self._after(self._text.find("-->", start + 4), 3)

    def _after(self, found: int, length: int) -> int:
        return len(self._text) if found < 0 else found + length

    def _attributes(self, position: int) -> tuple[dict[str, str], int]:
        """Return a tag's attributes and where it ends; beyond the page when it does not."""
        text, attrs = self._text, dict[str, str]()
        while True:
            match = _ATTRIBUTE.match(text, position)
            assert match is not None  # it matches the empty text
            name, position = match[1].lower(), match.end()
            value = ""
            if match[2]:
                value, position = self._value(position)
            if name:
                attrs.setdefault(name, value)
            if position >= len(text):
                return attrs, len(text) + 1
            if text[position] == ">":
                return attrs, position + 1

    def _value(self, position: int) -> tuple[str, int]:
        quote = self._text[position : position + 1]
        if quote in ('"', "'") and quote:
            end = self._text.find(quote, position + 1)
            if end < 0:
                return "", len(self._text)
            raw, position = self._text[position + 1 : end], end + 1
        else:
            bare = _BARE.match(self._text, position)
            assert bare is not None  # it matches the empty text
            raw, position = bare[0], bare.end()
        return unescaped(raw), position

    def _begin(self, tag: str, attrs: dict[str, str], end: int) -> int:
        self._end_what_this_ends(tag)
        element = Element(tag, attrs, self._open[-1])
        self._markup.elements.append(element)
        if tag not in INLINE:
            self._markup.pieces.append((element, None))
        if tag in RAW:
            return self._raw(element, end)
        if tag not in VOID and len(self._open) < DEPTH_LIMIT:
            self._open.append(element)
            self._names[tag] += 1
        return end

    def _raw(self, element: Element, start: int) -> int:
        found = _RAW_END[element.tag].search(self._text, start)
        stop = found.start() if found else len(self._text)
        raw = self._text[start:stop]
        if raw:
            self._counted()
            entities = element.tag in ("textarea", "title")
            self._markup.pieces.append((element, unescaped(raw) if entities else raw))
        self._markup.pieces.append((element, None))
        return self._after(self._text.find(">", stop), 1) if found else stop

    def _end_what_this_ends(self, tag: str) -> None:
        last = self._open[-1].tag
        while tag in _ENDED_BY.get(last, ()):
            self._pop()
            last = self._open[-1].tag

    def _close(self, tag: str) -> None:
        if not self._names[tag]:
            return  # nothing of that name is open
        while self._open[-1].tag != tag:
            self._pop()
        self._pop()

    def _pop(self) -> None:
        element = self._open.pop()
        self._names[element.tag] -= 1
        if element.tag not in INLINE:
            self._markup.pieces.append((element, None))


def read_markup(text: str) -> Markup:
    """Read a page.

    Raises:
        ProbeError: CONTENT when it has more than `PIECES_LIMIT` tags and texts.
    """
    return _Reader(text).read()


_VALUE: Final = r"""(?:"[^"\]]*"|'[^'\]]*'|[\w./-]+)"""
_COMPOUND: Final = re.compile(rf"([a-zA-Z][\w-]*|\*)?((?:[#.][^\W\d][\w-]*|\[[a-zA-Z][\w-]*(?:[~^$*]?={_VALUE})?\])*)")
_TEST: Final = re.compile(rf"([#.])([\w-]+)|\[([\w-]+)(?:([~^$*]?=)({_VALUE}))?\]")
_WORD: Final = re.compile(r"(?:\[[^\]]*\]|[^\s\[])+")


@dataclass(frozen=True, slots=True)
class _Compound:
    tag: str
    tests: tuple[tuple[str, str, str | None], ...]  # attribute, how, value; None asks only whether it is there

    def takes(self, element: Element) -> bool:
        if self.tag not in ("", "*", element.tag):
            return False
        return all(_holds(element.attrs.get(name), how, value) for name, how, value in self.tests)


def _holds(found: str | None, how: str, value: str | None) -> bool:
    if found is None or value is None:
        return found is not None
    match how:
        case "~=":
            return value in found.split()
        case "^=":
            return found.startswith(value)
        case "$=":
            return found.endswith(value)
        case "*=":
            return value in found
    return found == value


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector like `div#news .date` or `input[name="csrf"]`: compounds with blanks between."""

    compounds: tuple[_Compound, ...]

    def find(self, markup: Markup) -> Iterator[Element]:
        """Give the elements it names, in order."""
        reached: dict[Element, int] = {markup.root: 0}  # how many compounds an element and what holds it fulfil
        last = len(self.compounds) - 1
        for element in markup.elements:
            before = reached[element.parent or markup.root]
            if before >= last and self.compounds[last].takes(element):
                yield element
            reached[element] = before + (before < last and self.compounds[before].takes(element))


def parse_selector(text: str) -> Selector:
    """Read a selector: tags, `#id`, `.class`, `[attribute="value"]` (also `^=`, `$=`, `*=`, `~=`), with blanks between.

    Raises:
        ValueError: it is none of these.
    """
    compounds = []
    for word in _WORD.findall(text):
        match = _COMPOUND.fullmatch(word)
        if match is None:
            raise _no_selector(word)
        compounds.append(_Compound((match[1] or "").lower(), tuple(_tests(match[2]))))
    if not compounds or _WORD.sub("", text).strip():
        raise _no_selector(text)
    return Selector(tuple(compounds))


def _no_selector(text: str) -> ValueError:
    return ValueError(f"{text[:60]!r} is not a selector: expected one like #id, .class, tag or tag[name=value]")


def _tests(text: str) -> Iterator[tuple[str, str, str | None]]:
    for mark, word, name, how, value in _TEST.findall(text):
        if mark:
            yield ("id", "=", word) if mark == "#" else ("class", "~=", word)
        else:
            yield name.lower(), how, value.strip("\"'") if how else None
