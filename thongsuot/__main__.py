"""`thongsuot` and `python -m thongsuot`."""

from __future__ import annotations

from thongsuot.cli import app


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    app()


if __name__ == "__main__":
    main()
