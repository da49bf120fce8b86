"""Certificates as Go writes them: names, fingerprints, dates. Pure.

Source: crypto/x509/pkix of Go (Name.String), RFC 2253 section 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID, ObjectIdentifier

from probes.base import Fault, ProbeError
from probes.certificates import UNREADABLE

# In the order in which Go puts them together, whatever the certificate's own order; printed from the last to the first.
_KNOWN: Final[dict[ObjectIdentifier, str]] = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.POSTAL_CODE: "POSTALCODE",
    NameOID.COMMON_NAME: "CN",
    NameOID.SERIAL_NUMBER: "SERIALNUMBER",
}
_ONE_ALONE: Final = frozenset({"CN", "SERIALNUMBER"})  # of several Go keeps the last
_PRINTABLE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")
_ESCAPED: Final = frozenset(',+"\\<>;')


@dataclass(frozen=True, slots=True)
class Leaf:
    """What `probe_ssl_last_chain_info` says of a certificate, and when it ends."""

    fingerprint_sha256: str
    subject: str
    issuer: str
    subjectalternative: str
    serialnumber: str
    not_after: float  # Unix time


@lru_cache(maxsize=1024)  # the same few certificates come back at every probe
def read_leaf(der: bytes) -> Leaf:
    """Read one certificate.

    Raises:
        ProbeError: TLS when it is malformed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of others' certificates are no news for our log
            return _read(x509.load_der_x509_certificate(der))
    except UNREADABLE as exc:
        raise ProbeError(Fault.TLS, f"the server's certificate cannot be read: {exc}") from exc


def _read(found: x509.Certificate) -> Leaf:
    serial = found.serial_number
    return Leaf(
        fingerprint_sha256=found.fingerprint(hashes.SHA256()).hex(),
        subject=go_name(found.subject),
        issuer=go_name(found.issuer),
        subjectalternative=",".join(_dns_names(found)),
        serialnumber=serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex(),
        not_after=found.not_valid_after_utc.timestamp(),
    )


def _dns_names(found: x509.Certificate) -> Sequence[str]:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return extension.value.get_values_for_type(x509.DNSName)


def go_name(name: x509.Name) -> str:
    """Return a name as Go prints it."""
    return ",".join(reversed(list(_parts(name))))


def _parts(name: x509.Name) -> Iterator[str]:
    for attribute in name:
        if attribute.oid not in _KNOWN:
            yield f"{attribute.oid.dotted_string}=#{_der_text(str(attribute.value)).hex()}"
    for oid, word in _KNOWN.items():
        values = [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]
        if word in _ONE_ALONE:
            values = values[-1:]
        if values:
            yield "+".join(f"{word}={_escaped(value)}" for value in values)


def _escaped(value: str) -> str:
    text = "".join(f"\\{c}" if c in _ESCAPED else c for c in value)
    if text[:1] in (" ", "#"):
        text = "\\" + text
    return text[:-1] + "\\ " if len(text) > 1 and text.endswith(" ") else text


def _der_text(value: str) -> bytes:
    raw = value.encode("utf-8")
    tag = 0x13 if set(value) <= _PRINTABLE else 0x0C
    size = bytes([len(raw)]) if len(raw) < 128 else b"\x82" + len(raw).to_bytes(2, "big")
    return bytes([tag]) + size + raw


# OpenSSL's name of a suite of TLS 1.2 and older begins with the key exchange; RSA's own is not said.
_EXCHANGES: Final = (
    ("ECDHE-ECDSA-", "ECDHE_ECDSA"), ("ECDHE-RSA-", "ECDHE_RSA"), ("DHE-RSA-", "DHE_RSA"), ("DHE-DSS-", "DHE_DSS"),
    ("ECDHE-PSK-", "ECDHE_PSK"), ("DHE-PSK-", "DHE_PSK"), ("RSA-PSK-", "RSA_PSK"), ("PSK-", "PSK"), ("", "RSA"),
)  # fmt: skip


def suite_name(openssl: str) -> str:
    """Return the standard's name of a cipher suite by OpenSSL's: of AES128-SHA it is TLS_RSA_WITH_AES_128_CBC_SHA."""
    if openssl.startswith("TLS_") or not openssl:
        return openssl
    prefix, exchange = next(pair for pair in _EXCHANGES if openssl.startswith(pair[0]))
    words = openssl.removeprefix(prefix).replace("AES128", "AES-128").replace("AES256", "AES-256")
    cipher, _, digest = words.rpartition("-")
    if cipher == "CHACHA20":
        cipher, digest = "CHACHA20-POLY1305", "SHA256"
    elif cipher in ("AES-128", "AES-256"):
        cipher += "-CBC"
    if "CCM" in digest:
        return f"TLS_{exchange}_WITH_{words.replace('-', '_').replace('CCM8', 'CCM_8')}"
    return f"TLS_{exchange}_WITH_{cipher}_{digest}".replace("-", "_")
