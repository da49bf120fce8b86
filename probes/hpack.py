"""Header compression of HTTP/2: header lists to bytes and back. Pure, and bounded against whatever a server sends.

What we send is never indexed nor Huffman-coded: a probe's few headers gain nothing by it. What comes may use all of it.
Source: RFC 7541; its appendix A is `_STATIC`, and since its appendix B is a canonical code, the lengths alone are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from probes.base import Fault, ProbeError

LIST_LIMIT: Final = 65536  # bytes of one header list, decoded; chosen: as for HTTP/1.1
TABLE_LIMIT: Final = 4096  # bytes of the dynamic table: the protocol's own default, which we leave as it is
_ENTRY_BYTES: Final = 32  # counted for an entry beside its texts (RFC 7541 section 4.1)
_INTEGER_LIMIT: Final = 1 << 28

# Bits of the code of each byte, and of the end of the string: A is 5, B is 6, and so on.
_LENGTHS: Final = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHF"
    "IBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIX"
    "PRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRS"
    "VVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWV"
    "Z"
)
_STATIC_TEXT: Final = (
    ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|"
    ":status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|"
    "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|"
    "content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    "last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|"
    "server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
_STATIC: Final = tuple((name, value) for name, _, value in (e.partition("=") for e in _STATIC_TEXT.split("|")))


def _codes() -> dict[tuple[int, int], int]:
    """Return the symbol of each (bits, code): codes count up within a length and continue doubled in the next."""
    found, code, before = {}, 0, 0
    for bits, symbol in sorted((ord(letter) - 60, symbol) for symbol, letter in enumerate(_LENGTHS)):
        code <<= bits - before
        found[bits, code] = symbol
        code, before = code + 1, bits
    return found


_CODES: Final = _codes()
_END_OF_STRING: Final = 256
_LONGEST_CODE: Final = 30
_LONGEST_PADDING: Final = 7


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a header block; names must be in lower case, pseudo-headers first."""
    return b"".join(b"\0" + _encode_text(name) + _encode_text(value) for name, value in headers)


def _encode_text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return _encode_integer(len(raw), 7) + raw


def _encode_integer(number: int, prefix_bits: int) -> bytes:
    most = (1 << prefix_bits) - 1
    if number < most:
        return bytes([number])
    out, rest = bytearray([most]), number - most
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def huffman(raw: bytes) -> bytes:
    """Decode a Huffman-coded string.

    Raises:
        ProbeError: PROTOCOL when it is none, or padded wrongly.
    """
    out = bytearray()
    code = bits = 0
    for byte in raw:
        for shift in range(7, -1, -1):
            code, bits = code << 1 | (byte >> shift & 1), bits + 1
            symbol = _CODES.get((bits, code))
            if symbol is not None and symbol != _END_OF_STRING:
                out.append(symbol)
                code = bits = 0
            elif symbol is not None or bits >= _LONGEST_CODE:
                raise _broken("a Huffman code that does not exist")
    if bits > _LONGEST_PADDING or code != (1 << bits) - 1:
        raise _broken("a Huffman string with wrong padding")
    return bytes(out)


def _broken(what: str) -> ProbeError:
    return ProbeError(Fault.PROTOCOL, f"the header block of HTTP/2 holds {what}")


class Decoder:
    """Reads the header blocks of one connection, in order: each may refer to what earlier ones held."""

    def __init__(self) -> None:
        self._table: deque[tuple[str, str]] = deque()
        self._table_bytes = 0
        self._table_limit = TABLE_LIMIT

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """Return the headers of a whole block.

        Raises:
            ProbeError: PROTOCOL when it is malformed or longer than any honest one.
        """
        headers: list[tuple[str, str]] = []
        size = at = 0
        while at < len(block):
            first = block[at]
            if first & 0xE0 == 0x20:
                limit, at = _integer(block, at, 5)
                self._resize(limit)
                continue
            if first & 0x80:
                index, at = _integer(block, at, 7)
                entry = self._entry(index)
            else:
                entry, at = self._literal(block, at, keep=bool(first & 0x40))
            size += len(entry[0]) + len(entry[1]) + _ENTRY_BYTES
            if size > LIST_LIMIT:
                raise ProbeError(Fault.PROTOCOL, f"the headers are longer than {LIST_LIMIT} bytes")
            headers.append(entry)
        return headers

    def _literal(self, block: bytes, at: int, *, keep: bool) -> tuple[tuple[str, str], int]:
        index, at = _integer(block, at, 6 if keep else 4)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        if keep:
            self._table.appendleft((name, value))
            self._table_bytes += len(name) + len(value) + _ENTRY_BYTES
            self._evict()
        return (name, value), at

    def _entry(self, index: int) -> tuple[str, str]:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        place = index - len(_STATIC) - 1
        if not 0 <= place < len(self._table):
            raise _broken("an index of nothing")
        return self._table[place]

    def _resize(self, limit: int) -> None:
        if limit > TABLE_LIMIT:
            raise _broken("a larger table than was allowed")
        self._table_limit = limit
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._table_limit:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + _ENTRY_BYTES


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    most = (1 << prefix_bits) - 1
    if at >= len(block):
        raise _broken("less than it promises")
    number, at = block[at] & most, at + 1
    if number < most:
        return number, at
    shift = 0
    while at < len(block) and number < _INTEGER_LIMIT and shift <= 28:
        byte, at = block[at], at + 1
        number += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, at
    raise _broken("a number without end")


def _text(block: bytes, at: int) -> tuple[str, int]:
    coded = at < len(block) and bool(block[at] & 0x80)
    size, at = _integer(block, at, 7)
    if size > LIST_LIMIT or at + size > len(block):
        raise _broken("less than it promises")
    raw = block[at : at + size]
    return (huffman(raw) if coded else raw).decode("utf-8", "replace"), at + size
