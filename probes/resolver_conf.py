"""What the host says of names: /etc/hosts and /etc/resolv.conf, read off the loop and again when they change.

The parsing is pure: text in, a value out, and never an exception; a line that makes no sense is passed over, as
glibc does.

Source: hosts(5), resolv.conf(5), RFC 6761 section 6.3 (localhost).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

log = logging.getLogger(__name__)

HOSTS: Final = FilePath("/etc/hosts")
RESOLV_CONF: Final = FilePath("/etc/resolv.conf")
SERVERS_USED: Final = 3  # resolv.conf(5), MAXNS
SEARCHED: Final = 32  # domains; chosen: glibc has no limit any more, a look-up must have one
SIZE_LIMIT: Final = 4 << 20  # bytes of a file that are read; chosen: a block list of names is a few hundred kB
LOOK_AGAIN_S: Final = 5.0  # chosen: how old a change of the files may get before it is seen
_MOST: Final = {"ndots": 15, "timeout": 30, "attempts": 5}  # resolv.conf(5)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What resolv.conf(5) orders; the defaults are those of the manual page."""

    servers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout_s: float = 5.0
    attempts: int = 2
    rotate: bool = False


Hosts = Mapping[str, tuple[str, ...]]  # addresses by name in small letters


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Read hosts(5): the addresses of each name and alias, in the order of the lines."""
    found: dict[str, dict[str, None]] = {}
    for words in _lines(text, comments="#"):
        ip = _address(words[0])
        for name in words[1:] if ip else ():
            found.setdefault(name.lower().rstrip("."), {})[ip] = None
    return {name: tuple(ips) for name, ips in found.items()}


def parse_resolv_conf(text: str) -> ResolvConf:
    """Read resolv.conf(5); the last of `search` and `domain` wins, options that are not ours to honour are left out."""
    servers: dict[str, None] = {}
    search: tuple[str, ...] = ()
    options: dict[str, int] = {}
    for keyword, *words in _lines(text, comments="#;"):
        if keyword == "nameserver" and words and (ip := _address(words[0])):
            servers[ip] = None
        elif keyword in ("search", "domain"):
            search = tuple(w.rstrip(".") for w in words[: SEARCHED if keyword == "search" else 1] if w.rstrip("."))
        elif keyword == "options":
            options |= dict(_options(words))
    return ResolvConf(
        servers=tuple(servers)[:SERVERS_USED] or ("127.0.0.1",),
        search=search,
        ndots=options.get("ndots", 1),
        timeout_s=float(max(options.get("timeout", 5), 1)),
        attempts=max(options.get("attempts", 2), 1),
        rotate="rotate" in options,
    )


def _options(words: list[str]) -> Iterator[tuple[str, int]]:
    for word in words:
        name, _, number = word.partition(":")
        if name == "rotate":
            yield name, 1
        elif name in _MOST and number.isascii() and number.isdigit():
            yield name, min(int(number[:9]), _MOST[name])


def _lines(text: str, comments: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        for mark in comments:
            line = line.partition(mark)[0]
        if words := line.split():
            yield words


def _address(word: str) -> str:
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class NameFiles:
    """Both files as they were last read."""

    conf: ResolvConf = field(default_factory=ResolvConf)
    hosts: Hosts = field(default_factory=dict)


_Seen = tuple[tuple[int, int, int], ...]  # time of change, size and inode of each file


class FileWatch:
    """Holds what the files say, and looks at them again every few seconds while somebody asks.

    Reading has a thread of its own: the loop's common threads may be held up by others.
    """

    def __init__(self, hosts: FilePath = HOSTS, resolv_conf: FilePath = RESOLV_CONF) -> None:
        """Args: hosts, resolv_conf: where the files are."""
        self._files = (hosts, resolv_conf)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="names")
        self._seen: _Seen | None = None
        self._now = NameFiles()
        self._next_look_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def files(self) -> NameFiles:
        """Return what the files say; only the first call waits for them, a later one at most begins a new look."""
        loop = asyncio.get_running_loop()
        if self._looking is None and loop.time() >= self._next_look_s:
            self._looking = loop.create_task(self._look(), name="names")
        if self._seen is None and self._looking is not None:
            await asyncio.shield(self._looking)
        return self._now

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            fresh = await loop.run_in_executor(self._thread, _read_if_changed, self._files, self._seen)
            if fresh is not None:
                self._seen, self._now = fresh
        finally:
            self._next_look_s = loop.time() + LOOK_AGAIN_S
            self._looking = None

    def close(self) -> None:
        """Look no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _read_if_changed(files: tuple[FilePath, FilePath], seen: _Seen | None) -> tuple[_Seen, NameFiles] | None:
    now = tuple(_signature(file) for file in files)
    if now == seen:
        return None
    hosts, resolv_conf = (_text(file) for file in files)
    return now, NameFiles(parse_resolv_conf(resolv_conf), parse_hosts(hosts))


def _signature(file: FilePath) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def _text(file: FilePath) -> str:
    try:
        with file.open("rb") as opened:
            return os.fsdecode(opened.read(SIZE_LIMIT))
    except OSError as exc:
        log.warning("%s cannot be read: %s", file, exc.strerror)
        return ""
