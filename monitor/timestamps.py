"""Time stamps of the chain by somebody else (RFC 3161): proof that a line stood at a moment, whoever holds the machine.

What is stamped is the SHA-256 of a line with its line end, as `previous` of the next line has it. The answer of the
authority is kept as it came, as `timestamps/<line number>-<first 12 of that SHA-256>.tsr` beside the chain, once it is
checked: imprint, nonce, signature, and the chain of certificates to those that are trusted. Knows no network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from monitor.chain import sync_folder
from monitor.der_order import sorted_certificates

FOLDER: Final = "timestamps"
SHA256: Final = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
TOKEN_LIMIT: Final = 64 << 10  # bytes; one with a chain of certificates takes some 6 kB
# What odd certificates make the library raise; these are no ValueErrors.
_ODD_CERTIFICATES: Final = (
    UnsupportedAlgorithm,
    TypeError,
    x509.AttributeNotFound,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_NAME: Final = re.compile(r"(\d+)-([0-9a-f]{12})\.tsr")


class StampError(Exception):
    """A time stamp cannot be had or does not prove what it should; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an authority."""

    number: int  # of the line
    line: str  # without its line end
    body: bytes  # TimeStampReq, DER
    nonce: int


@dataclass(frozen=True, slots=True)
class Token:
    """A time stamp that is kept."""

    file: Path
    number: int
    short: str  # first 12 digits of the line's SHA-256, from the file's name


def ask(number: int, line: str) -> Question:
    """Write the question for a line of the chain."""
    request = TimestampRequestBuilder(line.encode() + b"\n", HashAlgorithm.SHA256, nonce=True, cert_req=True).build()
    if request.nonce is None:
        raise StampError("the request has no nonce")
    return Question(number, line, request.as_bytes(), request.nonce)


def load_roots(file: Path) -> list[x509.Certificate]:
    """Read the certificates that are trusted.

    Raises:
        StampError: there are none.
    """
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as exc:
        raise StampError(f"{file} cannot be read as certificates: {exc}") from exc


def accept(question: Question, answer: bytes, roots: Sequence[x509.Certificate]) -> datetime:
    """Check the answer to a question; return the moment that it names.

    Raises:
        StampError: it is none, or it does not prove the line.
    """
    return _checked(_decoded(answer), question.line, roots, question.nonce)


def check(answer: bytes, line: str, roots: Sequence[x509.Certificate] | None) -> datetime:
    """Check a kept time stamp of a line; return the moment that it names.

    Args:
        answer: the TimeStampResp, DER.
        line: without its line end.
        roots: certificates that are trusted; None checks the imprint alone, and not who signed.

    Raises:
        StampError: it does not prove the line.
    """
    response = _decoded(answer)
    if roots is not None:
        return _checked(response, line, roots, None)
    imprint = response.tst_info.message_imprint
    if imprint.hash_algorithm != SHA256 or imprint.message != _digest(line):
        raise StampError("it is of another line")
    return response.tst_info.gen_time


def _decoded(answer: bytes) -> TimeStampResponse:
    try:
        response = decode_timestamp_response(sorted_certificates(answer))
        if response.status in (0, 1):
            response.tst_info  # noqa: B018  raises where there is no token
    except ValueError as exc:
        raise StampError(f"not the answer of a time-stamp authority: {exc}") from exc
    if response.status != 0:
        said = "; ".join(response.status_string) or f"status {response.status}"
        raise StampError(f"the authority refused: {said}")
    return response


def _checked(response: TimeStampResponse, line: str, roots: Sequence[x509.Certificate], nonce: int | None) -> datetime:
    if response.tst_info.message_imprint.hash_algorithm != SHA256:
        raise StampError("its imprint is not SHA-256")
    try:
        VerifierBuilder(roots=list(roots), nonce=nonce).build().verify(response, _digest(line))
    except (VerificationError, ValueError) as exc:
        raise StampError(str(exc)) from exc
    except _ODD_CERTIFICATES as exc:
        raise StampError(f"a certificate of the stamp cannot be read: {exc}") from exc
    return response.tst_info.gen_time


def _digest(line: str) -> bytes:
    return hashlib.sha256(line.encode() + b"\n").digest()


def keep(folder: Path, question: Question, answer: bytes) -> Path:
    """Put a checked answer beside the chain, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    file = place / f"{question.number}-{_digest(question.line).hex()[:12]}.tsr"
    part = place / f".{file.name}.part"
    with part.open("wb") as opened:
        opened.write(answer)
        opened.flush()
        os.fsync(opened.fileno())  # or a power cut may leave the name with nothing behind it
    part.replace(file)
    sync_folder(place)
    return file


def kept(folder: Path) -> Iterator[Token]:
    """Give the time stamps beside a chain, by their line numbers."""
    found = [(file, _NAME.fullmatch(file.name)) for file in (folder / FOLDER).glob("*.tsr")]
    named = [(int(match[1]), match[2], file) for file, match in found if match]
    for number, short, file in sorted(named):
        yield Token(file, number, short)


def newest(folder: Path) -> tuple[int, datetime] | None:
    """Return the line number and the moment of the newest time stamp; None without one that can be read."""
    for token in reversed(list(kept(folder))):
        try:
            return token.number, _decoded(token.file.read_bytes()).tst_info.gen_time
        except (OSError, StampError):
            continue
    return None
