"""The one table of all parsers, for hypothesis and for the fuzzer."""

from __future__ import annotations

from typing import Final

from tests.fuzz import conversations, datagrams, lines, pages
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target for target in (*datagrams.TARGETS, *lines.TARGETS, *pages.TARGETS, *conversations.TARGETS)
}
