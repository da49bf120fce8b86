"""Office files are ZIP archives; written again without the time of their writing, they are the same every time."""

from __future__ import annotations

import io
import zipfile
from typing import Final

_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first a ZIP archive can hold


def steady_zip(content: bytes) -> bytes:
    """Return an archive with the same members in the same order, and no date of its own."""
    steady = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(steady, "w") as new:
        for name in old.namelist():
            member = zipfile.ZipInfo(name, _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # the same on every system
            member.external_attr = 0o644 << 16
            new.writestr(member, old.read(name))
    return steady.getvalue()
