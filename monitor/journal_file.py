"""The journal's file, and the configurations kept beside it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from monitor.schema import bring_up

FILE_NAME: Final = "journal.db"


class JournalError(Exception):
    """The journal cannot be used at all: not ours, from a newer version, or damaged."""


def open_file(state_dir: Path) -> sqlite3.Connection:
    """Open or create the journal's file, and bring it to this version.

    Raises:
        JournalError: with what to do, when the file cannot serve.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        db = sqlite3.connect(state_dir / FILE_NAME, timeout=5.0, check_same_thread=False)
    except (OSError, sqlite3.Error) as exc:
        raise JournalError(f"cannot open the journal in {state_dir}: {exc}") from exc
    try:
        # FULL: a mail may be on its way as soon as the transaction is through, power cut or not.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        newest, have = bring_up(db), db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as exc:
        db.close()
        raise JournalError(f"{state_dir / FILE_NAME} cannot be used: {exc}") from exc
    if have > newest:
        db.close()
        raise JournalError(f"the journal is of version {have}, this program knows {newest}: use the newer program")
    return db


def keep_configuration(state_dir: Path, digest: str, text: str) -> None:
    """Keep a configuration that ran, under its hash; written once, never over, unless a power cut left it empty.

    It is on the disk, name and all, when this returns: results are recorded under its hash from then on.

    Raises:
        OSError: it could not be kept; no part of it stands under its name.
    """
    folder = state_dir / "config"
    folder.mkdir(exist_ok=True)
    file = folder / f"{digest}.yaml"
    if file.exists() and file.stat().st_size:
        return
    part = folder / f".{digest}.part"
    with part.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
    for changed in (folder, state_dir):
        _sync(changed)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
