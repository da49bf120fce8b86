"""What a page says: decompress, decode, normalise. Pure, and bounded against bodies that grow without end.

Source: RFC 9110 section 8.4 (content codings), RFC 1951 and 1952, the encodings of the WHATWG that pages in
Vietnamese use.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from probes.base import Fault, ProbeError, one_line
from probes.http_wire import Response
from probes.letters import composed, unescaped

META_SEARCHED: Final = 4096  # bytes in which a page must name its charset; the HTML standard says 1024
TITLE_SEARCHED: Final = 65536  # characters in which a title is looked for
TITLE_LIMIT: Final = 80  # characters of a title shown

# Loaded at import, so that no look-up of a codec reads the disk in the loop, and no odd codec is ever used.
_CODECS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-8859-1": "cp1252",  # browsers take Latin-1 for Windows-1252
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "windows-1258": "cp1258",
    "cp1258": "cp1258",
    "x-cp1258": "cp1258",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
for _codec in set(_CODECS.values()):
    b"".decode(_codec)

_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
b"".decode("utf-8-sig")


def unpacked(response: Response, limit: int) -> tuple[bytes, bool]:
    """Return the body without its compression, and whether it went on beyond `limit` bytes.

    Raises:
        ProbeError: PROTOCOL when it is not compressed as it says; CONTENT for a compression that was not asked for.
    """
    data, more = bytes(response.body), response.truncated
    codings = [c.strip().lower() for c in (response.header("content-encoding") or "").split(",")]
    for coding in reversed([c for c in codings if c not in ("", "identity")]):
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise ProbeError(Fault.CONTENT, f"the body is encoded as {one_line(coding, 30)!r}, which was not asked for")
        data, grew = _inflate(data, limit, partial=more)
        more = more or grew
    return data[:limit], more


def _inflate(data: bytes, limit: int, *, partial: bool) -> tuple[bytes, bool]:
    out = bytearray()
    while data and len(out) <= limit:
        unzip = zlib.decompressobj(_window(data))
        try:
            out += unzip.decompress(data, limit + 1 - len(out))
        except zlib.error as exc:
            if out and not data.startswith(b"\x1f\x8b"):
                break  # what follows a complete body is padding, as gunzip takes it
            raise ProbeError(Fault.PROTOCOL, "the body is not compressed as its headers say") from exc
        if not unzip.eof:
            if not partial and len(out) <= limit:
                raise ProbeError(Fault.PROTOCOL, "the compressed body ends too early")
            break
        data = unzip.unused_data
    return bytes(out[:limit]), len(out) > limit


def _window(data: bytes) -> int:
    """Return zlib's wbits: gzip and zlib by their first bytes; raw deflate, which old servers send, otherwise."""
    if data.startswith(b"\x1f\x8b"):
        return 31
    zlib_header = len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return 15 if zlib_header else -15


def decoded(body: bytes, content_type: str) -> str:
    """Return a body as text: by its byte order mark, its header, its meta element, otherwise as UTF-8."""
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return body.decode(codec, "replace")
    named = _CHARSET.search(content_type) or _CHARSET.search(body[:META_SEARCHED].decode("latin-1"))
    codec = _CODECS.get(named[1].lower(), "utf-8") if named else "utf-8"
    return body.decode(codec, "replace")


class Page:
    """A body in the forms in which a rule may find it. Made once for all rules of one response."""

    def __init__(self, text: str) -> None:
        self.text = composed(text)
        self._plain: str | None = None

    @property
    def plain(self) -> str:
        """The text as a reader sees it: entities resolved, blanks made single; tags stay."""
        if self._plain is None:
            self._plain = reading(unescaped(self.text))
        return self._plain

    def holds(self, wanted: str) -> bool:
        """Whether a text stands here, however its letters are composed, escaped or broken into lines."""
        return composed(wanted) in self.text or reading(wanted) in self.plain

    @property
    def title(self) -> str:
        """The page's title, empty when it has none."""
        start = self.text[:TITLE_SEARCHED]
        low = start.lower()
        opened = low.find("<title")
        begin = low.find(">", opened) + 1 if opened >= 0 else 0
        end = low.find("</title", begin) if begin else -1
        return one_line(unescaped(start[begin:end]), TITLE_LIMIT) if end >= 0 and len(low) == len(start) else ""


def reading(text: str) -> str:
    """Return text with single blanks and composed letters."""
    return " ".join(composed(text).split())
