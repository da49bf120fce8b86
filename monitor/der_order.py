"""The certificates of a time stamp in the order of DER.

A SET of DER is sorted (X.690 section 11.6). Many authorities, among them those that run OpenSSL, send the certificates
of their token in the order of the chain instead, and strict readers refuse that. Their order is not signed (RFC 5652
section 5.4: what is signed are the signed attributes), so putting it right changes no proof. Lengths stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_SEQUENCE: Final = 0x30
_CERTIFICATES: Final = 0xA0  # [0] IMPLICIT SET in SignedData, and [0] EXPLICIT in ContentInfo


def sorted_certificates(answer: bytes) -> bytes:
    """Return a TimeStampResp with its certificates sorted; what cannot be followed comes back as it is."""
    try:
        response = _inside(answer, 0, _SEQUENCE)
        token = _member(answer, response, _SEQUENCE, 1)  # after the status
        signed = _member(answer, _member(answer, token, _CERTIFICATES), _SEQUENCE)
        place = _member(answer, signed, _CERTIFICATES)
        found = [answer[start:end] for _, start, _, end in _members(answer, place)]
    except (IndexError, LookupError):
        return answer
    return answer[: place[0]] + b"".join(sorted(found)) + answer[place[1] :]


def _inside(data: bytes, at: int, tag: int) -> tuple[int, int]:
    found, _, start, end = _read(data, at)
    if found != tag:
        raise LookupError(tag)
    return start, end


def _member(data: bytes, within: tuple[int, int], tag: int, skip: int = 0) -> tuple[int, int]:
    """Return where the content of the first member of a tag lies, after as many members as are skipped."""
    for number, (found, _, start, end) in enumerate(_members(data, within)):
        if number >= skip and found == tag:
            return start, end
    raise LookupError(tag)


def _members(data: bytes, within: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    at, end = within
    while at < end:
        member = _read(data, at)
        if member[3] > end:
            raise LookupError(at)
        yield member
        at = member[3]


def _read(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return tag, begin, begin of the content, and end of what stands at a place."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise LookupError(at)
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    if start + length > len(data):
        raise LookupError(at)
    return tag, at, start, start + length
