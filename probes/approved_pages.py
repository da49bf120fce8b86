"""The pages that people approved: one file a check, one line an approval, only ever added to.

The page itself is kept, not what is compared of it, so that other rules about what to ignore need no new approval.
Written by `thongsuot approve`, read here at every run: a new approval needs no restart.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any, Final

FOLDER: Final = "content"  # in the state directory
PAGE_LIMIT: Final = 16 << 20  # characters of a page that is watched
_OWN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # neither a link nor a pipe that waits for a reader
TAIL_LIMIT: Final = 32 << 20  # bytes at the end of a file in which the last approval stands


@dataclass(frozen=True, slots=True)
class Approval:
    """One page that somebody took for good."""

    at: datetime
    by: str
    why: str
    url: str  # where the page came from at last
    sha256: str  # of what was compared, by the rules of that day
    page: str


@dataclass(slots=True)
class _Known:
    stamp: tuple[int, int, int]
    packed: bytes  # the line as it stands in the file


class ApprovedPages:
    """The approvals in a folder. Without one nothing is approved; `seen` keeps what a run looked at, if asked to."""

    def __init__(self, folder: FilePath | None = None, *, keep_seen: bool = False) -> None:
        """Args: folder: made at the first approval. keep_seen: for the command that approves."""
        self._folder = folder
        self._known: dict[str, _Known] = {}
        self._keep_seen = keep_seen
        self.seen: dict[str, tuple[str, str]] = {}  # check: page and address

    @classmethod
    def of(cls, state_dir: FilePath, *, keep_seen: bool = False) -> ApprovedPages:
        """Return those of a state directory."""
        return cls(state_dir / FOLDER, keep_seen=keep_seen)

    def saw(self, check: str, page: str, url: str) -> None:
        """Keep what a run looked at."""
        if self._keep_seen:
            self.seen[check] = (page, url)

    def last(self, check: str) -> Approval | None:
        """Return the last approval of a check, None when there is none. Reads a file: not for the event loop.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no approval.
        """
        if self._folder is None or not check:
            return None
        file = self._file(check)
        try:
            found = file.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        known = self._known.get(check)
        if known is None or known.stamp != stamp:
            known = self._known[check] = _Known(stamp, _last_line(file))
        return _approval(known.packed)

    def add(self, check: str, approval: Approval) -> FilePath:
        """Write an approval behind the others and return the file. Not for the event loop.

        Raises:
            OSError: it cannot be written.
        """
        assert self._folder is not None
        owner = self._folder.parent.stat()
        self._folder.mkdir(mode=0o750, exist_ok=True)
        file = self._file(check)
        line = json.dumps(_packed(approval), ensure_ascii=False).encode() + b"\n"
        # Often root's work in a folder of the daemon's: a link laid there must not lead root to another file.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            descriptor = os.open(file.name, os.O_RDWR | os.O_CREAT | os.O_APPEND | _OWN, 0o640, dir_fd=folder)
            with os.fdopen(descriptor, "ab+") as opened:
                _must_be_plain(descriptor, file)
                if opened.tell() and os.pread(descriptor, 1, opened.tell() - 1) != b"\n":
                    line = b"\n" + line  # what a crash left behind
                opened.write(line)
                opened.flush()
                os.fsync(descriptor)
                if os.geteuid() == 0:  # the daemon is another user and must read it
                    for place in (folder, descriptor):
                        os.fchown(place, owner.st_uid, owner.st_gid)
        finally:
            os.close(folder)
        return file

    def _file(self, check: str) -> FilePath:
        assert self._folder is not None
        return self._folder / f"{check}.jsonl"


def _must_be_plain(descriptor: int, file: FilePath) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise OSError(errno.EINVAL, "not a plain file with one name", str(file))


def _packed(approval: Approval) -> dict[str, Any]:
    return {
        "version": 1,
        "at": approval.at.astimezone(UTC).isoformat(timespec="seconds"),
        "by": approval.by,
        "why": approval.why,
        "url": approval.url,
        "sha256": approval.sha256,
        "page_zlib_base64": base64.b64encode(zlib.compress(approval.page.encode("utf-8", "replace"))).decode(),
    }


def _last_line(file: FilePath) -> bytes:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL_LIMIT))
        lines = opened.read(TAIL_LIMIT).split(b"\n")
    whole = [line for line in lines[:-1] if line.strip()]  # what follows the last line end is not finished
    for line in reversed(whole):
        try:
            _approval(line)
        except ValueError:
            continue  # cut short by a crash
        return line
    raise ValueError("no approval in it can be read")


def _approval(line: bytes) -> Approval:
    try:
        data = json.loads(line)
        unpack = zlib.decompressobj()
        page = unpack.decompress(base64.b64decode(data["page_zlib_base64"]), PAGE_LIMIT * 4).decode("utf-8")
        at = datetime.fromisoformat(data["at"])
        by, why, url, sha256 = (str(data[key]) for key in ("by", "why", "url", "sha256"))
        return Approval(at, by, why, url, sha256, page)
    except (TypeError, KeyError, AttributeError, zlib.error, RecursionError) as exc:
        raise ValueError("not an approval") from exc
