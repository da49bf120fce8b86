"""Reading certificates: dates, names, reasons; odd ones included."""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from probes.base import DETAIL_LIMIT, Fault, ProbeError, one_line
from probes.blackbox.certificate import read_leaf
from probes.certificates import NAMES_SHOWN, earliest_end, read_certificate, refusal

FROM = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UNTIL = datetime(2027, 2, 6, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


def der(
    subject: str = "mail.example.vn",
    issuer: str = "Sở TT&TT",
    names: tuple[x509.GeneralName, ...] = (),
    until: datetime = UNTIL,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(FROM)
        .not_valid_after(until)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_dates_names_and_issuer_are_read() -> None:
    names = (x509.DNSName("mail.example.vn"), x509.IPAddress(ipaddress.ip_address("192.0.2.7")))

    read = read_certificate(der(names=names))

    assert (read.not_before, read.not_after) == (FROM, UNTIL)
    assert read.names == ("mail.example.vn", "192.0.2.7")
    assert read.subject == "CN=mail.example.vn"
    assert read.issuer == "CN=Sở TT&TT"
    assert len(read.sha256) == 64


def test_a_certificate_without_alternative_names_or_subject_is_read() -> None:
    assert read_certificate(der()).names == ()
    assert read_certificate(der(subject="", names=(x509.DNSName("a.example.vn"),))).common_name == "a.example.vn"
    assert read_certificate(der(subject="")).common_name == ""


def test_of_hundreds_of_names_the_first_are_shown() -> None:
    read = read_certificate(der(names=tuple(x509.DNSName(f"n{i}.example.vn") for i in range(300))))

    assert len(read.names) == 300
    assert read.shown_names().startswith("n0.example.vn, n1.example.vn")
    assert read.shown_names().endswith(f"(+{300 - NAMES_SHOWN})")


def test_the_chain_ends_with_its_first_certificate() -> None:
    soon = UNTIL - timedelta(days=100)

    assert earliest_end([read_certificate(der()), read_certificate(der(until=soon))]) == soon


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (10, "certificate expired on 2027-02-06 00:00 UTC (mail.example.vn)"),
        (9, "certificate is valid only from 2026-01-02 03:04 UTC (mail.example.vn)"),
        (62, "certificate is for mail.example.vn, not web.example.vn"),
        (64, "certificate is for mail.example.vn, not web.example.vn"),
        (20, "issuer is not trusted: CN=Sở TT&TT (certificate of mail.example.vn)"),
        (18, "certificate is self-signed (mail.example.vn)"),
        (26, "certificate of mail.example.vn is refused: unsuitable certificate purpose"),
    ],
)
def test_a_refusal_names_what_is_wrong(code: int, says: str) -> None:
    assert refusal(code, "unsuitable certificate purpose", "web.example.vn", read_certificate(der())) == says


def test_a_refusal_without_a_certificate_uses_the_words_of_the_library() -> None:
    assert refusal(10, "certificate has expired", "a", None) == "the certificate is refused: certificate has expired"


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_as_a_certificate(data: bytes) -> None:
    with pytest.raises(ProbeError) as caught:
        read_certificate(data)

    assert caught.value.fault is Fault.TLS
    assert len(caught.value.detail) <= DETAIL_LIMIT


def test_a_version_that_does_not_exist_is_a_fault_of_its_own_for_both_readers() -> None:
    broken = der(names=()).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x15", 1)

    for read in (read_certificate, read_leaf):
        with pytest.raises(ProbeError, match="21 is not a valid X509 version") as caught:
            read(broken)
        assert caught.value.fault is Fault.TLS


@given(st.integers(min_value=0), st.integers(0, 255))
def test_a_certificate_with_one_broken_byte_is_read_or_refused(place: int, byte: int) -> None:
    whole = bytearray(der(names=(x509.DNSName("mail.example.vn"),)))
    whole[place % len(whole)] = byte

    with contextlib.suppress(ProbeError):  # anything else fails the test
        read = read_certificate(bytes(whole))

        assert read.not_after.tzinfo is not None
        assert len(one_line(read.shown_names())) <= DETAIL_LIMIT
