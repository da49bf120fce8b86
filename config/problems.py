"""What is wrong with a configuration, and where: the shape every mistake has.

Knows nothing of what a configuration means; readers, models and cross checks all report through here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from probes.base import one_line

Loc = tuple[str | int, ...]  # the way from the top of the configuration to a value

WHOLE_FILE: Final = "(file)"  # the path of a mistake that belongs to no key
_PLAIN_KEY: Final = re.compile(r"[\w<-]+")
PROBLEMS_LIMIT: Final = 500  # chosen: nobody reads more; the rest is counted
_SHOWN: Final = 60  # chosen: characters of a user's own text repeated in a message


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file."""

    file: str
    line: int  # from 1
    column: int  # from 1, in characters

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, or one warning, with its place."""

    place: Place
    path: str  # `services.mail.checks.smtp.port`, or WHOLE_FILE
    message: str  # what was expected and what came

    def __str__(self) -> str:
        return f"{self.place}: {self.path}: {self.message}"


class ConfigError(Exception):
    """A configuration that cannot be used.

    `str()` is every problem on a line of its own, as `file:line:column: path.to.key: message`.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Args: problems: all of them, sorted by place; at least one."""
        super().__init__("\n".join(map(str, problems)))
        self.problems: tuple[Problem, ...] = tuple(problems)


@dataclass(slots=True)
class Places:
    """Where every key and every value of a configuration stands."""

    files: list[str] = field(default_factory=list)  # in the order in which they were read
    keys: dict[Loc, Place] = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)

    def of_key(self, loc: Loc) -> Place:
        """Return where the key at `loc` stands, or else the nearest thing around it."""
        return self.keys.get(loc) or self.of_value(loc)

    def of_value(self, loc: Loc) -> Place:
        """Return where the value at `loc` stands; for what is missing, the key it is missing under."""
        if loc in self.values:
            return self.values[loc]
        while loc:
            loc = loc[:-1]
            if loc in self.keys:
                return self.keys[loc]
            if loc in self.values:
                return self.values[loc]
        return Place(self.files[0] if self.files else "", 1, 1)


@dataclass(slots=True)
class Findings:
    """Collects mistakes and warnings while a configuration is read."""

    places: Places = field(default_factory=Places)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    incomplete: bool = False  # a file could not be read to its end: what is missing may stand there
    _unreadable: set[Place] = field(default_factory=set)

    def mistake(self, loc: Loc, message: str, *, at_key: bool = False) -> None:
        """Report a mistake at the value at `loc`, or at its key; not where the value could not even be read."""
        problem = self._problem(loc, message, at_key=at_key)
        if problem.place not in self._unreadable:
            self.problems.append(problem)

    def mistake_at(self, place: Place, message: str, path: str = WHOLE_FILE) -> None:
        """Report a mistake of reading at a known place; nothing else is then said of that place."""
        self._unreadable.add(place)
        self.problems.append(Problem(place, path, message))

    def warn(self, loc: Loc, message: str, *, at_key: bool = False) -> None:
        """Report what works, and that someone should look at."""
        self.warnings.append(self._problem(loc, message, at_key=at_key))

    def refuse(self) -> None:
        """Raise when anything is wrong.

        Raises:
            ConfigError: with every mistake, sorted by place.
        """
        if not self.problems:
            return
        problems = self.by_place(self.problems)
        if len(problems) > PROBLEMS_LIMIT:
            more = f"and {len(problems) - PROBLEMS_LIMIT} more mistakes"
            problems = [*problems[:PROBLEMS_LIMIT], Problem(problems[PROBLEMS_LIMIT].place, WHOLE_FILE, more)]
        raise ConfigError(problems)

    def by_place(self, problems: Iterable[Problem]) -> list[Problem]:
        """Sort by file in reading order, then line and column; what is said twice is said once."""
        order = {file: number for number, file in enumerate(self.places.files)}

        def key(problem: Problem) -> tuple[int, int, int, str]:
            place = problem.place
            return order.get(place.file, len(order)), place.line, place.column, problem.path

        return sorted(dict.fromkeys(problems), key=key)

    def _problem(self, loc: Loc, message: str, *, at_key: bool) -> Problem:
        place = self.places.of_key(loc) if at_key else self.places.of_value(loc)
        return Problem(place, show_loc(loc), message)


def show_loc(loc: Loc) -> str:
    """Write a way to a value as `alerts.mail.relays[0].host`."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{show_key(step)}" if text else show_key(step)
    return text or WHOLE_FILE


def show_key(key: str) -> str:
    """Write a key as it stands; in quotes, shortened and on one line, when it is no plain word."""
    return key if len(key) <= _SHOWN and _PLAIN_KEY.fullmatch(key) else json.dumps(_short(key), ensure_ascii=False)


def show_value(value: object) -> str:
    """Say what came, for the end of a message; long texts are cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{_short(value)}'"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return f"the number {value}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'port'?` for the nearest known word, or an empty string."""
    return _nearest(word[:_SHOWN], tuple(known))


@lru_cache(maxsize=512)  # the same slip, copied into hundreds of services, is looked up once
def _nearest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    close.sort(key=lambda other: sorted(other) != sorted(word))  # swapped letters are the commonest slip
    return f"; did you mean '{close[0]}'?" if close else ""


def show_seconds(seconds: float) -> str:
    """Write a duration the way a configuration does: 90 s is `90s`, 7200 s is `2h`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _short(text: str) -> str:
    return one_line(text.encode("utf-8", "replace").decode("utf-8"), _SHOWN)
