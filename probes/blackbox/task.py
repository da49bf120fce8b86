"""One probe that was asked for by a module and a target, and what is said of it on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import PrivateAttr

from probes.base import Fault, Measurement, ProbeError, ProbeSettings, one_line, utc_now
from probes.blackbox.modules import Module

LINES_LIMIT: Final = 500  # of what is said of one probe
LINE_LIMIT: Final = 2000  # characters of one value in a line

EXPECT_LABEL: Final = "expect_label:"  # begins the name of a fact that is a label of probe_expect_info


class Task(ProbeSettings):
    """What to probe and by which module."""

    name: str  # of the module
    module: Module
    target: str
    fixed: bool = False  # whether what is thought a mistake of the original is mended
    allowed: Callable[[str], bool]  # whether a host may be connected to; asked again for every redirect
    _lines: list[str] = PrivateAttr(default_factory=list)

    def endpoint(self) -> str:
        """Return the target as it was given."""
        return self.target

    def say(self, message: str, level: str = "info", **pairs: object) -> None:
        """Add a line to what `debug=true` shows; never give it a secret."""
        if len(self._lines) >= LINES_LIMIT:
            return
        head = {"ts": utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z"), "module": self.name}
        words = {**head, "target": self.target, "level": level, "msg": message, **pairs}
        self._lines.append(" ".join(f"{key}={_quoted(str(value))}" for key, value in words.items()))

    def log(self) -> str:
        """Return every line that was said."""
        return "".join(f"{line}\n" for line in self._lines)

    def fail(self, message: str, **pairs: object) -> ProbeError:
        """Say why the probe fails, and return the error to raise."""
        self.say(message, "error", **pairs)
        details = ", ".join(f"{key} {value}" for key, value in pairs.items())
        return ProbeError(Fault.CONTENT, one_line(f"{message} {details}" if details else message))


def _quoted(text: str) -> str:
    flat = one_line(text, LINE_LIMIT)
    if flat and not set(flat) & set(' "='):
        return flat
    escaped = flat.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def split_host_port(target: str) -> tuple[str, int] | None:
    """Split `host:port` as Go's net.SplitHostPort does, IPv6 in brackets; None when it is not that."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port[:9]) < 65536:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    return None if ":" in host or "[" in host or "]" in host or not host else (host, int(port))


def keep(m: Measurement, name: str, text: str) -> None:
    """Keep a fact whole, however long: labels must not be cut."""
    m.facts[name] = text
