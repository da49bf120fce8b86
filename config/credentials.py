"""Secrets and the files they lie in: refuses secrets in the configuration, finds sources that cannot be read.

A secret comes from a file or from the environment, so that the configuration can be shown, kept and mailed.
No value of a secret is ever put into a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from config.plan import Plan, Relay
from config.problems import Findings, Loc, show_loc

_INLINE: Final = frozenset(
    {
        "password", "passwd", "passphrase", "secret", "token", "bearer", "bearer_token", "access_token",
        "api_key", "apikey", "private_key", "authorization", "proxy-authorization",
    }
)  # fmt: skip
_IN_ADDRESS: Final = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
_PLACE_OF_SECRET: Final = re.compile(r"((Bearer|Basic|Token) )?\{[a-z][a-z0-9_]*\}")
_FILE_SECTIONS: Final = ("services", "references", "alerts", "store")


def refuse_inline(data: dict[str, Any], findings: Findings) -> None:
    """Report every secret that stands in the configuration itself, and take it out of `data`."""
    for container, key, value, loc in list(_scalars(data, ())):
        if isinstance(value, str) and _PLACE_OF_SECRET.fullmatch(value):
            continue  # a step of a journey says where the secret goes, not what it is
        if "steps" in loc and loc[-2:-1] == ("extract",):
            continue  # nor where a page shows its token, by whatever name
        if isinstance(key, str) and key.lower() in _INLINE and value is not None:
            word = key if key in ("token", "bearer_token") else "password"
            message = f"secrets only from files or environment: use {word}_file or {word}_env"
            findings.mistake(loc, message, at_key=True)
            del container[key]
            if "username" in container and not {"password_file", "password_env"} & container.keys():
                container["password_env"] = "REPORTED"  # noqa: S105  so that the login is not called incomplete too
        elif isinstance(value, str) and _IN_ADDRESS.search(value):
            message = "a password stands in this address; secrets only from files or environment"
            findings.mistake(loc, message)
            container[key] = _IN_ADDRESS.sub(r"\1", value)


def anchor_files(data: dict[str, Any], findings: Findings) -> None:
    """Make file names (keys that end in `_file`, `store.dir`, `blackbox.modules`) absolute, seen from their file."""
    for section in _FILE_SECTIONS:
        for container, key, value, loc in list(_scalars(data.get(section), (section,))):
            if isinstance(key, str) and key.endswith("_file") and isinstance(value, str) and value:
                container[key] = _absolute(value, loc, findings)
    store = data.get("store")
    if isinstance(store, dict) and isinstance(store.get("dir"), str) and store["dir"]:
        store["dir"] = _absolute(store["dir"], ("store", "dir"), findings)
    blackbox = data.get("blackbox")
    if isinstance(blackbox, dict) and isinstance(blackbox.get("modules"), str) and blackbox["modules"]:
        blackbox["modules"] = _absolute(blackbox["modules"], ("blackbox", "modules"), findings)


def _absolute(name: str, loc: Loc, findings: Findings) -> str:
    return str(Path(findings.places.of_value(loc).file).parent.absolute() / name)


def _scalars(data: Any, loc: Loc) -> Iterator[tuple[Any, Any, Any, Loc]]:
    """Give every scalar: its container, its key there, the value, and the way to it."""
    if isinstance(data, dict):
        items: Iterable[tuple[Any, Any]] = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    else:
        return
    for key, value in items:
        if isinstance(value, dict | list):
            yield from _scalars(value, (*loc, key))
        else:
            yield data, key, value, (*loc, key)


def unreadable(settings: object, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Look for `…_file` and `…_env` in settings, nested ones included, and say which cannot be read now.

    Gives the way to each and the reason. Reads files' metadata: not for the event loop.
    """
    if isinstance(settings, BaseModel):
        fields: list[tuple[Any, Any]] = [
            (info.alias or name, getattr(settings, name)) for name, info in type(settings).model_fields.items()
        ]
    elif isinstance(settings, Relay):
        fields = [(name, getattr(settings, name)) for name in ("password_file", "password_env", "ca_file")]
    elif isinstance(settings, tuple | list):
        fields = list(enumerate(settings))
    else:
        return
    for key, value in fields:
        reason = _why_not(str(key), value)
        if reason:
            yield (*loc, key), reason
        yield from unreadable(value, (*loc, key))


def _why_not(key: str, value: object) -> str:
    if key.endswith("_env") and isinstance(value, str):
        return "" if os.environ.get(value) else f"environment variable {value} is not set"
    if key.endswith("_file") and isinstance(value, Path | str):
        try:
            with Path(value).open("rb") as file:
                file.read(1)
        except (OSError, ValueError) as exc:
            return f"{value} cannot be read: {getattr(exc, 'strerror', None) or type(exc).__name__}"
    return ""


def missing_secrets(plan: Plan) -> list[str]:
    """Say which files and variables that a plan needs cannot be read now, one line each; a daemon refuses to start.

    Reads files: not for the event loop.
    """
    lines = []
    for target in plan.targets():
        top: Loc = ("references", target.check) if target in plan.references else _way(target.service, target.check)
        lines += [f"{show_loc(loc)}: {reason}" for loc, reason in unreadable(target.settings, top)]
    if plan.mail is not None:
        relays = unreadable(plan.mail.relays, ("alerts", "mail", "relays"))
        lines += [f"{show_loc(loc)}: {reason}" for loc, reason in relays]
    return lines


def _way(service: str, check: str) -> Loc:
    return ("services", service, "checks", check)
