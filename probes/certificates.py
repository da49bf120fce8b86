"""Certificates as a duty officer reads them: dates, names, issuer. Pure: bytes in, plain values out.

Nothing here trusts a certificate or talks to a server. Source: RFC 5280 sections 4.1 and 4.2.1.6.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from probes.base import Fault, ProbeError, one_line

NAMES_SHOWN: Final = 12  # chosen: more than that no longer fits a one-line fact
NAME_LIMIT: Final = 100  # characters of one name shown

# What the library raises for bytes that are no certificate; not all of them are a ValueError.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one certificate says of itself, unverified."""

    subject: str  # RFC 4514, most specific part first
    issuer: str
    common_name: str  # of the subject; the first alternative name where there is none; may be empty
    names: tuple[str, ...]  # subjectAltName: DNS names and addresses, in the certificate's order
    not_before: datetime  # UTC
    not_after: datetime  # UTC
    sha256: str  # hexadecimal, of the DER bytes

    def shown_names(self) -> str:
        """Return the names on one line, the first ones of very many."""
        shown = ", ".join(one_line(name, NAME_LIMIT) for name in self.names[:NAMES_SHOWN])
        more = len(self.names) - NAMES_SHOWN
        return f"{shown} (+{more})" if more > 0 else shown


@lru_cache(maxsize=1024)  # the same few certificates come back at every probe
def read_certificate(der: bytes) -> Certificate:
    """Read one certificate.

    Raises:
        ProbeError: TLS when it is malformed; what OpenSSL let pass may still be.
    """
    try:
        # Odd serial numbers and encodings make the library warn; they are the server's affair, not our log's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(x509.load_der_x509_certificate(der))
    except UNREADABLE as exc:
        raise ProbeError(Fault.TLS, f"the server's certificate cannot be read: {exc}") from exc


def _read(found: x509.Certificate) -> Certificate:
    names = _names(found)
    common = [str(part.value) for part in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return Certificate(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        common_name=one_line((common or list(names) or [""])[0], NAME_LIMIT),
        names=names,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        sha256=found.fingerprint(hashes.SHA256()).hex(),
    )


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(n.value) for n in extension.value if isinstance(n, x509.DNSName | x509.IPAddress))


# Codes of OpenSSL's X509_V_ERR_… (x509_vfy.h); the ones a duty officer meets.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED: Final = 18
_UNTRUSTED: Final = frozenset({2, 19, 20, 21, 27})
_WRONG_NAME: Final = frozenset({62, 63, 64})


def refusal(code: int, message: str, host: str, leaf: Certificate | None) -> str:
    """Say in plain words why a certificate was refused.

    Args:
        code: OpenSSL's verification error, as in ssl.SSLCertVerificationError.verify_code.
        message: OpenSSL's own words for it.
        host: the name that was asked for.
        leaf: the server's certificate, when it could be read.
    """
    if leaf is None:
        return f"the certificate is refused: {message}"
    if code in (_EXPIRED, _NOT_YET_VALID):
        return _out_of_date(code, leaf)
    if code in _WRONG_NAME:
        return f"certificate is for {leaf.shown_names() or leaf.common_name or 'no name'}, not {host}"
    if code == _SELF_SIGNED or (code in _UNTRUSTED and leaf.issuer == leaf.subject):
        return f"certificate is self-signed ({leaf.common_name})"
    if code in _UNTRUSTED:
        return f"issuer is not trusted: {leaf.issuer or 'unnamed'} (certificate of {leaf.common_name})"
    return f"certificate of {leaf.common_name} is refused: {message}"


def _out_of_date(code: int, leaf: Certificate) -> str:
    if code == _NOT_YET_VALID:
        return f"certificate is valid only from {leaf.not_before:%Y-%m-%d %H:%M} UTC ({leaf.common_name})"
    return f"certificate expired on {leaf.not_after:%Y-%m-%d %H:%M} UTC ({leaf.common_name})"


def earliest_end(chain: Sequence[Certificate]) -> datetime:
    """Return when the first certificate of a chain ends: from then on clients refuse the server."""
    return min(link.not_after for link in chain)
