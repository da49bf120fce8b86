"""What the validation library found, said to the person who wrote the file: what was expected and what came.

Pure. Works on any pydantic model, so that a probe's own settings get the same messages as the house's.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.problems import Loc, did_you_mean, show_key, show_seconds, show_value
from probes.base import one_line

Found = tuple[Loc, str, bool]  # where below the model, the message, and whether it stands at the key

_EXPECTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping of keys and values",
    "mapping_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
    "dataclass_type": "a mapping of keys and values",
    "path_type": "the name of a file",
    "none_required": "nothing",
    "bytes_type": "text",
    "ip_any_address": "an IP address",
    "ip_v4_address": "an IPv4 address",
    "ip_v6_address": "an IPv6 address",
    "url_type": "a web address",
}
_BOUNDS: Final = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
}
_LENGTHS: Final = {
    "string_too_short": ("min_length", "at least {} character{}"),
    "string_too_long": ("max_length", "at most {} character{}"),
    "too_short": ("min_length", "at least {} item{}"),
    "too_long": ("max_length", "at most {} item{}"),
}
_PATTERNS: Final = {r"^[^\s/]+$": "a host name or an IP address, without blanks or '/'"}
_QUOTED: Final = re.compile(r"'((?:[^'\\]|\\.)*)'")
_SECRET_KEY: Final = re.compile(
    r"pass|secret|token|credential|authorization|api[-_]?key|private[-_]?key", re.IGNORECASE
)
# What people write who come from neighbouring tools; used when nothing known is spelt alike.
_OTHER_NAMES: Final = {
    "interval": "every",
    "period": "every",
    "hostname": "host",
    "address": "host",
    "server": "host",
    "target": "host",
    "type": "probe",
    "module": "probe",
    "title": "name",
    "retries": "bad_rounds",
    "depends_on": "needs",
    "from_addr": "from",
}


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys a model takes, as they are written in a file."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


def say(error: ValidationError, model: type[BaseModel], data: object, also_known: Iterable[str] = ()) -> list[Found]:
    """Say every mistake of one validation.

    Args:
        error: what pydantic raised.
        model: the model that refused.
        data: what it was given.
        also_known: keys of the same mapping that another model takes, for suggestions.
    """
    found: list[Found] = []
    alternatives: dict[Loc, list[tuple[str, str]]] = {}  # expectations at one place: the arms of a union
    for detail in error.errors(include_url=False, include_input=False):
        kind, loc = detail["type"], _within(detail, data)
        value = _value_at(data, loc)
        if kind == "missing":
            found.append((loc, "required key is missing", True))
        elif kind == "extra_forbidden":
            found.append((loc, unknown_key(str(loc[-1]), _known(model, loc, also_known)), True))
        elif kind == "value_error":
            found.append((loc, _own_words(detail, loc, value), isinstance(value, dict)))
        elif kind != "default_factory_not_called":  # a consequence of another mistake
            expected = _expected(detail, value)
            alternatives.setdefault(loc, []).append((expected, _came(loc, value, expected)))
    return found + list(_joined(alternatives, [loc for loc, _, _ in found]))


def _joined(alternatives: Mapping[Loc, list[tuple[str, str]]], elsewhere: list[Loc]) -> Iterator[Found]:
    """Say the arms of a union as one expectation; not where an arm fits and the mistake lies deeper in it."""
    above = {place[:depth] for place in (*alternatives, *elsewhere) for depth in range(len(place))}
    for loc, options in alternatives.items():
        if loc in above:
            continue
        wanted = " or ".join(dict.fromkeys(expected for expected, _ in options))
        came = next((came for _, came in options if "did you mean" in came), options[0][1])
        yield loc, f"expected {wanted}; got {came}", False


def _known(model: type[BaseModel], loc: Loc, also_known: Iterable[str]) -> tuple[str, ...]:
    inner = _model_at(model, loc[:-1])
    return (*(keys_of(inner) if inner else ()), *(also_known if len(loc) == 1 else ()))


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is not known, with the nearest one that is, or all of them."""
    known = list(dict.fromkeys(known))
    hint = did_you_mean(key, known)
    if not hint and (other := _OTHER_NAMES.get(key)) in known:
        hint = f"; did you mean '{other}'?"
    return f"unknown key '{show_key(key)}'" + (hint or _list("; known keys: ", sorted(known)))


def unknown_word(what: str, word: str, known: Iterable[str]) -> str:
    """Say that a name refers to nothing: `unknown service 'mial'; did you mean 'mail'?`."""
    known = list(known)
    nothing = f"; there are no {what}s" if not known else ""
    return f"unknown {what} {show_value(word)}" + (did_you_mean(word, known) or nothing or _list("; known: ", known))


def _list(lead: str, words: list[str], limit: int = 30) -> str:
    shown = ", ".join(words[:limit]) + (", …" if len(words) > limit else "")
    return lead + shown if words else ""


def is_secret_key(key: str) -> bool:
    """Tell whether a key's name promises a secret, so that its value is never repeated in a message."""
    return bool(_SECRET_KEY.search(key))


def _expected(detail: ErrorDetails, value: object) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return words.format(_bound(context[key], value))
    if kind in _LENGTHS:
        key, words = _LENGTHS[kind]
        return words.format(context[key], "" if context[key] == 1 else "s")
    if kind in ("enum", "literal_error"):
        options = _QUOTED.findall(context["expected"])
        return f"one of {', '.join(options)}" if len(options) > 1 else str(context["expected"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text of the form {context['pattern']}")
    return _without_prefix(detail["msg"])


def _bound(limit: float, value: object) -> str:
    """Write a limit the way the value is written: of a text it is seconds, for only durations have both."""
    return show_seconds(limit) if isinstance(value, str) else f"{limit:.15g}"


def _without_prefix(message: str) -> str:
    for prefix in ("Input should be a valid ", "Input should be ", "Value error, "):
        message = message.removeprefix(prefix)
    return one_line(message)


def _came(loc: Loc, value: object, expected: str) -> str:
    if _secret(loc) and isinstance(value, str):
        return "something else (not shown)"
    words = show_value(value)
    if expected == "text" and isinstance(value, int | float):
        return f"{words} (put it in quotes)"
    if expected.startswith("one of ") and isinstance(value, str):
        return words + did_you_mean(value, expected.removeprefix("one of ").split(", "))
    if expected.startswith("a list") and isinstance(value, str):
        return f"the single text {words}; write [{words.strip(chr(39))}]" if value.isprintable() and value else words
    return words


def _own_words(detail: ErrorDetails, loc: Loc, value: object) -> str:
    """Return the message of a validator of ours, with what came when it only says what was expected."""
    message = _without_prefix(str(detail.get("ctx", {}).get("error", detail["msg"])))
    if message.startswith("expected") and "; got" not in message and not isinstance(value, dict | list):
        return f"{message}; got {_came(loc, value, '')}"
    return message


def _secret(loc: Loc) -> bool:
    return any(isinstance(step, str) and is_secret_key(step) for step in loc)


def _within(detail: ErrorDetails, data: object) -> Loc:
    """Cut what pydantic adds to a way: names of union arms are no keys of the file. What is missing stays."""
    loc: Loc = ()
    steps = detail["loc"]
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if _has(data, step):
            data, loc = _value_at(data, (step,)), (*loc, step)
        elif last and detail["type"] == "missing":
            return (*loc, step)
    return loc


def _has(data: object, step: str | int) -> bool:
    if isinstance(data, dict):
        return step in data
    return isinstance(data, list) and isinstance(step, int) and step < len(data)


def _value_at(data: object, loc: Loc) -> object:
    for step in loc:
        if isinstance(data, dict):
            data = data.get(str(step))
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """Return the model whose keys stand at `loc`, followed through optional fields, lists and mappings."""
    kinds: list[Any] = [model]
    for step in loc:
        kinds = [inner for kind in kinds for inner in _step_into(kind, step)]
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models[0] if models else None


def _step_into(kind: Any, step: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if step in (name, info.alias):
                yield from _arms(info.annotation)
    elif get_origin(kind) in (list, tuple, set, frozenset, dict, Mapping, typing.Mapping):
        for inner in get_args(kind)[-1:] if isinstance(step, str) else get_args(kind)[:1]:
            yield from _arms(inner)


def _arms(annotation: Any) -> Iterator[Any]:
    """Open `Annotated` and unions."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        yield from _arms(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for arm in get_args(annotation):
            yield from _arms(arm)
    else:
        yield annotation
