"""Reading files: the main one and those it includes, as one tree of data that remembers its files.

Bounded: size of a file, number of files. Knows which sections an included file may add to, and nothing else of what
they mean.
"""

from __future__ import annotations

import glob
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from config.problems import Findings, Loc, Place, Places, show_key, show_loc, show_value
from config.tree import parse
from config.wording import unknown_key

SIZE_LIMIT: Final = 4 * 1024 * 1024  # bytes of one file; chosen: some 40,000 checks
FILES_LIMIT: Final = 500  # chosen: one a service, and room
MERGED: Final = ("services", "references", "paths", "events")  # sections an included file may add to


@dataclass(slots=True)
class Sources:
    """The files of one configuration, read and put together."""

    base: Path  # the folder of the main file
    findings: Findings
    data: dict[str, Any] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)  # name relative to `base`, text; in reading order
    _seen: dict[Path, str] = field(default_factory=dict)  # resolved file -> its name in messages

    @property
    def text(self) -> str:
        """Every file under a line that names it: what is kept of a configuration that ran."""
        return "".join(f"# file: {name}\n{text}" + ("" if text.endswith("\n") else "\n") for name, text in self.texts)

    @property
    def digest(self) -> str:
        """The sha256 of `text`, in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def read_sources(path: Path, findings: Findings) -> Sources:
    """Read a main file and everything it includes; mistakes go to `findings`."""
    sources = Sources(path.parent, findings)
    findings.places.files.append(str(path))
    text = _read(path, str(path), Place(str(path), 1, 1), findings)
    if text is not None:
        _take_main(sources, text, path)
    return sources


def read_text(text: str, filename: str, findings: Findings) -> Sources:
    """Take `text` as the main file; includes are looked for beside `filename`."""
    path = Path(filename)
    sources = Sources(path.parent, findings)
    findings.places.files.append(filename)
    encoded = text.encode("utf-8", "replace")
    checked = _decode(encoded, filename, Place(filename, 1, 1), findings)
    if checked is not None:
        _take_main(sources, checked, path)
    return sources


def _take_main(sources: Sources, text: str, path: Path) -> None:
    findings = sources.findings
    name = findings.places.files[0]
    sources.texts.append((path.name, text))
    sources._seen[path.resolve()] = name
    data, places = parse(text, name, findings)
    findings.places.keys.update(places.keys)
    findings.places.values.update(places.values)
    if isinstance(data, dict):
        sources.data = data
        _follow(sources, data, places, path, (path.resolve(),))
    elif not findings.problems:
        findings.mistake((), f"expected a mapping with site and services at the top; got {show_value(data)}")


def _follow(sources: Sources, data: dict[str, Any], places: Places, path: Path, stack: tuple[Path, ...]) -> None:
    """Read what one file includes, depth first."""
    include = data.get("include")
    if include is None:
        return
    patterns = include if isinstance(include, list) else [include]
    for index, pattern in enumerate(patterns):
        loc: Loc = ("include", index) if isinstance(include, list) else ("include",)
        place = places.of_value(loc)
        if not isinstance(pattern, str) or not pattern or not pattern.isprintable() or "**" in pattern:
            message = f"expected a file name or a pattern like services.d/*.yaml; got {show_value(pattern)}"
            sources.findings.mistake_at(place, message, show_loc(loc))
            continue
        found = sorted(p for p in map(Path, _matches(path.parent, pattern)) if p.is_file())
        if not found:
            sources.findings.incomplete = True
            sources.findings.mistake_at(place, f"no file matches {show_value(pattern)}", show_loc(loc))
        for file in found:
            _include(sources, file, place, stack)


def _matches(folder: Path, pattern: str) -> list[str]:
    return [str(folder / name) for name in glob.glob(pattern, root_dir=folder)]  # noqa: PTH207  Path.glob refuses absolute patterns


def _include(sources: Sources, file: Path, place: Place, stack: tuple[Path, ...]) -> None:
    findings, name, resolved = sources.findings, str(file), file.resolve()
    if resolved in stack:
        circle = " -> ".join([*(sources._seen[p] for p in stack[stack.index(resolved) :]), sources._seen[resolved]])
        findings.mistake_at(place, f"files include each other in a circle: {circle}", "include")
        return
    if resolved in sources._seen:
        findings.mistake_at(place, f"{name} is included twice", "include")
        return
    if len(sources._seen) >= FILES_LIMIT:
        findings.mistake_at(place, f"more than {FILES_LIMIT} files; {name} is one too many", "include")
        return
    sources._seen[resolved] = name
    findings.places.files.append(name)
    text = _read(file, name, place, findings)
    if text is None:
        return
    sources.texts.append((_relative(file, sources.base), text))
    data, places = parse(text, name, findings)
    if isinstance(data, dict):
        _merge(sources, data, places)
        _follow(sources, data, places, file, (*stack, resolved))
    elif data is not None:
        findings.mistake_at(Place(name, 1, 1), f"expected a mapping at the top; got {show_value(data)}")


def _relative(file: Path, base: Path) -> str:
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)


def _merge(sources: Sources, data: dict[str, Any], places: Places) -> None:
    taken: set[tuple[str, str]] = set()
    for section, content in data.items():
        if section == "include" or content is None:
            continue
        if section not in MERGED:
            message = f"an included file adds only to {', '.join(MERGED)}"
            hint = unknown_key(section, MERGED)
            message += hint[hint.index(";") :] if "did you mean" in hint else f"; got '{show_key(section)}'"
            sources.findings.mistake_at(places.of_key((section,)), message, show_key(section))
        elif not isinstance(content, dict):
            message = f"expected a mapping of keys and values; got {show_value(content)}"
            sources.findings.mistake_at(places.of_value((section,)), message, section)
        else:
            taken |= _merge_section(sources, section, content, places)
    known = sources.findings.places
    known.keys.update((loc, place) for loc, place in places.keys.items() if loc[:2] in taken)
    known.values.update((loc, place) for loc, place in places.values.items() if loc[:2] in taken)
    for section in {section for section, _ in taken}:
        known.keys.setdefault((section,), places.keys[(section,)])
        known.values.setdefault((section,), places.values[(section,)])


def _merge_section(sources: Sources, section: str, content: dict[str, Any], places: Places) -> set[tuple[str, str]]:
    """Add what is new to a section of the main data; return the (section, id) pairs added."""
    if sources.data.get(section) is None:
        sources.data[section] = {}
    whole = sources.data[section]
    if not isinstance(whole, dict):
        return set()  # the main file's own mistake, reported with the rest of that file
    added = set()
    for key, value in content.items():
        if key in whole:
            message = f"duplicate id '{show_key(key)}'; first given at {sources.findings.places.of_key((section, key))}"
            sources.findings.mistake_at(places.of_key((section, key)), message, show_loc((section, key)))
        else:
            whole[key] = value
            added.add((section, key))
    return added


def _read(path: Path, name: str, asked_at: Place, findings: Findings) -> str | None:
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as exc:
        at = asked_at if asked_at.file != name else Place(name, 1, 1)
        findings.incomplete = True
        findings.mistake_at(at, f"{name} cannot be read: {exc.strerror or type(exc).__name__}")
        return None
    return _decode(raw, name, Place(name, 1, 1), findings)


def _decode(raw: bytes, name: str, top: Place, findings: Findings) -> str | None:
    if len(raw) > SIZE_LIMIT:
        findings.incomplete = True
        findings.mistake_at(top, f"the file is larger than {SIZE_LIMIT // 1024 // 1024} MiB; split it with include")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        place = Place(name, before.count(b"\n") + 1, column)
        findings.incomplete = True
        findings.mistake_at(place, f"expected UTF-8; byte 0x{raw[exc.start]:02X} is none: save the file as UTF-8")
        return None
