"""The journal's schema: the steps that lead to this version, each once, in order."""

from __future__ import annotations

import sqlite3
from importlib import resources


def migrations() -> list[tuple[int, str]]:
    """Return the schema's steps in order: (version, SQL)."""
    folder = resources.files("monitor") / "migrations"
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(int(name[:4]), (folder / name).read_text(encoding="utf-8")) for name in names]


def bring_up(db: sqlite3.Connection) -> int:
    """Bring an older journal to this version, and return the version; a newer one is left as it is."""
    have = db.execute("PRAGMA user_version").fetchone()[0]
    steps = migrations()
    newest = steps[-1][0]
    for version, sql in steps:
        if version > have:
            # One transaction a step, with its number, so that a cut leaves the version before.
            db.executescript(f"BEGIN;\n{sql}\nPRAGMA user_version = {version};\nCOMMIT;")
    return newest
