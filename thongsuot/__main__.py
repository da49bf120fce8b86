"""`thongsuot` and `python -m thongsuot`."""

from __future__ import annotations

import io
import logging
import sys

from thongsuot.cli import OWN_FAULT, app

log = logging.getLogger("thongsuot")


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names are Vietnamese and JSON is UTF-8, whatever the locale; a name of a file may be neither.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app(prog_name="thongsuot")
    except Exception:  # the end of the line: a bug must not look like a service that is down (exit code 1)
        log.exception("thongsuot ended by a fault of its own")
        sys.exit(OWN_FAULT)


if __name__ == "__main__":
    main()
