"""What a parser promises: for any bytes a value or a named fault, never another exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from probes.base import ProbeError

LONGEST: Final = 2048  # bytes of an input, unless a parser needs more to be reached


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    name: str
    take: Callable[[bytes], object]
    seeds: tuple[bytes, ...]  # real exchanges; the first must be read without a fault
    allowed: tuple[type[Exception], ...] = (ProbeError,)  # the named faults that its docstring promises
    longest: int = LONGEST

    def __call__(self, data: bytes) -> None:
        """Try one input.

        Raises:
            Exception: what the parser does not promise.
        """
        try:
            self.take(data)
        except self.allowed:
            return


def pieces(data: bytes) -> list[bytes]:
    """Part an input by its own last byte, for parsers that take bytes as they come."""
    size = data[-1] if data else 0
    body = data[:-1]
    return [body[at : at + size] for at in range(0, len(body), size)] if size else [body]
