"""What a Nagios or Icinga plugin prints: its line for people and its performance data. Pure; bytes in, values out.

Source: Monitoring Plugins Development Guidelines, sections "Plugin Output" and "Performance data"; the layout of
several lines is that of the Nagios plugin API, version 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

ITEMS_LIMIT: Final = 50  # numbers taken from one run; chosen: each becomes a series of its own
NAME_LIMIT: Final = 60  # characters of a label in a value's name

# A label is looked for at its beginning alone and read once: else a long text without `=` takes quadratic time.
_ITEM: Final = re.compile(r"(?:(?<!')'((?:[^']|'')*+)'|(?<![^\s='|])([^\s='|]++))=(\S*)")
_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(.*)", re.DOTALL)
_NOT_NAME: Final = re.compile(r"[^a-z0-9]+")

# Unit of measurement: how many of ours one of them is, and the ending of a value's name that says so.
_UNITS: Final = {
    "s": (1.0, "s"),
    "ms": (1e-3, "s"),
    "us": (1e-6, "s"),
    "µs": (1e-6, "s"),
    "ns": (1e-9, "s"),
    "%": (0.01, "ratio"),
    "b": (1.0, "bytes"),
    "kb": (1e3, "bytes"),
    "mb": (1e6, "bytes"),
    "gb": (1e9, "bytes"),
    "tb": (1e12, "bytes"),
    "kib": (2.0**10, "bytes"),
    "mib": (2.0**20, "bytes"),
    "gib": (2.0**30, "bytes"),
    "tib": (2.0**40, "bytes"),
    "c": (1.0, "count"),
    "": (1.0, "count"),
}


@dataclass(frozen=True, slots=True)
class Output:
    """What a plugin printed."""

    text: str  # the first line, without performance data
    perf: str  # performance data of all lines


@dataclass(frozen=True, slots=True)
class Item:
    """One number of performance data; thresholds and limits are left where they are, in the plugin's settings."""

    label: str
    value: float
    unit: str  # as printed


def split(printed: str) -> Output:
    """Part the text for people from performance data.

    The first line may hold both, `|` between them. Of the lines after it, what follows the next `|` is performance
    data to the end.
    """
    first, _, rest = printed.strip().partition("\n")
    text, _, perf = first.partition("|")
    _, _, more = rest.partition("|")
    return Output(text.strip(), f"{perf.strip()} {more.strip()}".strip())


def items(perf: str) -> Iterator[Item]:
    """Give the numbers in performance data, in order; what cannot be read is passed over, as `U` (unknown) is."""
    at = 0
    while match := _ITEM.search(perf, at):
        at = match.end()
        quoted, bare, fields = match.groups()
        label = bare if quoted is None else quoted.replace("''", "'")
        found = _NUMBER.fullmatch(fields.split(";", 1)[0].replace(",", "."))
        if found and label.strip() and math.isfinite(value := float(found[1])):
            yield Item(label.strip(), value, found[2])


def named(perf: str) -> dict[str, float]:
    """Return performance data as values: `perf_<label>_<unit>`, seconds, bytes and shares, at most `ITEMS_LIMIT`.

    A unit that is none of these stands before the ending `_count`. Of two labels that become one name the first stays.
    """
    values: dict[str, float] = {}
    for item in items(perf):
        if len(values) == ITEMS_LIMIT:
            break
        name, number = _value(item)
        if math.isfinite(number):
            values.setdefault(name, number)
    return values


def _value(item: Item) -> tuple[str, float]:
    label = _slug(item.label)
    unit = item.unit if item.unit == "C" else item.unit.lower()  # 35C is a temperature, 35c a count
    factor, ending = _UNITS.get(unit, (1.0, ""))
    if not ending:
        unit = _slug(unit)[:16]
        ending = f"{unit}_count" if unit else "count"
    return f"perf_{label or 'value'}_{ending}", item.value * factor


def _slug(text: str) -> str:
    plain = "root" if text == "/" else text.lower()  # the label of the root file system
    return _NOT_NAME.sub("_", plain)[:NAME_LIMIT].strip("_")
