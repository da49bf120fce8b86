"""The chain of evidence: one signed line a segment, each holding the hash of the line before.

A line is JSON on one line of `chain.jsonl`; its last member is the Ed25519 signature (RFC 8032) of the line as it
stands without that member. `previous` is the SHA-256 of the line before with its line end, so that
`sed -n 7p chain.jsonl | sha256sum` is all it takes to check a link by hand. Knows no Parquet and no SQL.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CHAIN_FILE: Final = "chain.jsonl"
PUBLIC_KEY_FILE: Final = "public-key.pem"
PRIVATE_KEY_FILE: Final = "evidence-key.pem"  # in the state directory, never beside the evidence
GENESIS: Final = "0" * 64  # `previous` of the first line
_SIGNATURE: Final = re.compile(r',"signature":"([A-Za-z0-9+/]{86}==)"\}\Z')


class ChainError(Exception):
    """The chain or its key cannot be used; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Link:
    """One line of the chain, as it was written."""

    text: str  # without its line end
    fields: Mapping[str, Any]

    @property
    def number(self) -> int:
        """Position in the chain, from 1."""
        return int(self.fields["number"])

    @property
    def is_segment(self) -> bool:
        """Whether it names a file of an hour."""
        return bool(self.fields["kind"] == "segment")

    @property
    def is_summary(self) -> bool:
        """Whether it names a file that says in short what segments hold that may go then."""
        return bool(self.fields["kind"] == "summary")

    @property
    def deleted(self) -> Sequence[Mapping[str, Any]]:
        """The segments that it records as deleted: number, file, sha256, rows, and the summary's number if any."""
        return self.fields["segments"] if self.fields["kind"] == "deleted" else ()

    @property
    def digest(self) -> str:
        """SHA-256 of the line with its line end: what the next line holds as `previous`."""
        return hashlib.sha256(self.text.encode() + b"\n").hexdigest()

    @property
    def head(self) -> str:
        """`number:sha256`, the witness that others keep."""
        return f"{self.number}:{self.digest}"


def evidence_folder(state_dir: Path, site: str) -> Path:
    """Return where a site's evidence stands within a state directory."""
    return state_dir / "evidence" / site


def parse_line(text: str) -> Link:
    """Read one line, without judging it.

    Raises:
        ChainError: it is not a line of a chain at all.
    """
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ChainError(f"not JSON: {exc}") from exc
    if not isinstance(fields, dict) or not isinstance(fields.get("number"), int):
        raise ChainError("no number in it")
    if fields.get("kind") not in ("segment", "summary", "deleted"):
        raise ChainError("neither a segment nor a summary nor a deletion")
    return Link(text, fields)


def read_chain(folder: Path) -> list[Link]:
    """Read a site's chain for going on with it; no file is an empty chain.

    Raises:
        ChainError: a whole line that is none. A last line that was cut off while it was written does not count.
    """
    try:
        raw = (folder / CHAIN_FILE).read_bytes()
    except FileNotFoundError:
        return []
    lines = raw.split(b"\n")
    links = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            links.append(parse_line(line.decode()))
        except (ChainError, UnicodeDecodeError) as exc:
            raise ChainError(f"{folder / CHAIN_FILE}:{number}: {exc}; run thongsuot verify {folder}") from exc
    return links


def append(folder: Path, text: str) -> None:
    """Write a line and wait until it is on the disk; what a crash left of an unfinished line is cut off first.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    file = folder / CHAIN_FILE
    fresh = not file.exists()
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        end = _whole_length(handle)
        try:
            os.ftruncate(handle, end)
            data = text.encode() + b"\n"
            while data:
                data = data[os.pwrite(handle, data, os.fstat(handle).st_size) :]
            os.fsync(handle)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)
    if fresh:
        sync_folder(folder)


def _whole_length(handle: int) -> int:
    """Length up to and with the last line end."""
    size = os.fstat(handle).st_size
    tail = os.pread(handle, 1 << 20, max(0, size - (1 << 20)))
    return size - len(tail) + tail.rfind(b"\n") + 1


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class SealingLock:
    """Only one sealer at a time works on a site: one that outlived its daemon may still be at it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / ".lock"
        self._handle = -1

    def __enter__(self) -> SealingLock:
        """Take it.

        Raises:
            ChainError: another process has it.
        """
        self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._handle)
            raise ChainError("another process is sealing here") from exc
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


# Keys and signatures.


def fingerprint(key: Ed25519PublicKey) -> str:
    """Short name of a key: the first 16 digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def make_line(fields: Mapping[str, Any], previous: str, key: Ed25519PrivateKey) -> Link:
    """Sign what a line says."""
    whole = {**fields, "key": fingerprint(key.public_key()), "previous": previous}
    body = orjson.dumps(whole)
    signature = base64.b64encode(key.sign(body)).decode()
    return parse_line(f'{body[:-1].decode()},"signature":"{signature}"}}')


def signature_fits(text: str, key: Ed25519PublicKey) -> bool:
    """Tell whether a line carries this key's signature of itself."""
    match = _SIGNATURE.search(text)
    if match is None:
        return False
    try:
        key.verify(base64.b64decode(match[1], validate=True), f"{text[: match.start()]}}}".encode())
    except (InvalidSignature, binascii.Error):
        return False
    return True


def load_public_key(file: Path) -> Ed25519PublicKey:
    """Read a public key in PEM.

    Raises:
        ChainError: there is none, or it is of another kind.
    """
    try:
        key = serialization.load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise ChainError(f"{file} cannot be read as a public key: {exc}") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ChainError(f"{file} is not an Ed25519 key")
    return key


def signing_key(state_dir: Path, site: str, file: Path | None = None) -> Ed25519PrivateKey:
    """Return the key that signs a site's evidence; made at the first call, with its public half beside the evidence.

    Args:
        state_dir: where the key is kept, unless `file` names another place.
        site: whose evidence.
        file: a key given from outside, such as a credential of the service manager; never made or changed.

    Raises:
        ChainError: the key is lost, unreadable, or not the one that signed what is there.
        OSError: it cannot be written.
    """
    folder = evidence_folder(state_dir, site)
    public_file = folder / PUBLIC_KEY_FILE
    place = file or state_dir / PRIVATE_KEY_FILE
    if not place.exists():
        if file is not None or (folder / CHAIN_FILE).exists():
            raise ChainError(
                f"the key {place} is not there: put it back, or move {folder} away to begin a new chain with a new key"
            )
        _write_once(place, _private_pem(Ed25519PrivateKey.generate()), 0o600)
    try:
        key = serialization.load_pem_private_key(place.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ChainError(f"{place} cannot be read as a private key: {exc}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ChainError(f"{place} is not an Ed25519 key")
    public = key.public_key()
    if not public_file.exists():
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        _write_once(public_file, pem, 0o644)
    elif fingerprint(load_public_key(public_file)) != fingerprint(public):
        raise ChainError(f"{place} is not the key of {public_file}: put the right one back")
    return key


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_once(file: Path, data: bytes, mode: int) -> None:
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    part.replace(file)
    sync_folder(file.parent)


def frontier(links: Sequence[Link], journal: str) -> list[tuple[int, int]]:
    """Return which results of a journal are sealed, as pairs (row number, milliseconds).

    A row is sealed if for one of the pairs its number is not beyond the first and it started before the second. As
    long as the clock is never moved back there is one pair.
    """
    pairs: list[tuple[int, int]] = []
    for link in links:
        if not link.is_segment or link.fields["journal"] != journal:
            continue
        row, until = int(link.fields["through"]["results"]), int(link.fields["until_ms"])
        pairs = [p for p in pairs if p[0] > row or p[1] > until]
        pairs.append((row, until))
    return pairs


def standing(links: Sequence[Link]) -> list[Link]:
    """Return the segments that no line says are deleted, oldest first."""
    gone = _gone(links)
    return [link for link in links if link.is_segment and link.number not in gone]


def stand_ins(links: Sequence[Link]) -> list[Link]:
    """Return the summaries of segments that are deleted, in the order of what they stand for."""
    gone = _gone(links)
    found = [link for link in links if link.is_summary and {number for number, _ in link.fields["of"]} <= gone]
    return sorted(found, key=lambda link: min(number for number, _ in link.fields["of"]))


def _gone(links: Sequence[Link]) -> set[int]:
    return {entry["number"] for link in links for entry in link.deleted}
