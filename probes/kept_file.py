"""A small JSON file that outlives a restart: written whole or not at all, and read once.

For what a few tools must not forget, a budget for one. Results and states belong in the journal, not here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path as FilePath
from typing import Any, Final

log = logging.getLogger(__name__)

SIZE_LIMIT: Final = 64 << 20  # bytes that are read; chosen: far more than ten thousand entries take


class KeptFile:
    """One file, or, without a name, memory that lasts as long as the process."""

    def __init__(self, file: FilePath | None) -> None:
        """Args: file: in a folder that exists; made at the first write."""
        self._file = file

    async def read(self) -> dict[str, Any]:
        """Return what was written last; nothing when there is no file, or one that cannot be understood (logged)."""
        if self._file is None:
            return {}
        try:
            found = await asyncio.to_thread(_read, self._file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as exc:
            log.warning("%s cannot be read, and is begun anew: %s", self._file, exc)
            return {}
        return found

    async def write(self, data: dict[str, Any]) -> None:
        """Put `data` in place of what was there; a crash leaves the old or the new, never a part.

        Raises:
            OSError: it cannot be written.
        """
        if self._file is not None:
            await asyncio.to_thread(_write, self._file, json.dumps(data))


def _read(file: FilePath) -> dict[str, Any]:
    with file.open("rb") as opened:
        found = json.loads(opened.read(SIZE_LIMIT))
    if not isinstance(found, dict):
        raise ValueError("expected an object")  # noqa: TRY004  a mistake of the file's, like broken JSON
    return found


def _write(file: FilePath, text: str) -> None:
    fresh = file.with_name(file.name + ".new")
    with fresh.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)
