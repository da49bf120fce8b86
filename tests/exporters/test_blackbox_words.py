"""What is written as Go writes it: templates, names of certificates, suites, addresses."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from probes.blackbox.certificate import go_name, suite_name
from probes.blackbox.expression import expand, search
from probes.blackbox.task import split_host_port


@pytest.mark.parametrize(
    ("template", "filled"),
    [("$1-${1}", "tinh-tinh"), ("${who}", "tinh"), ("$$1", "$1"), ("$1x", ""), ("$9", ""), ("a$", "a$"), ("ế$2", "ế")],
)
def test_templates_are_filled_as_go_does(template: str, filled: str) -> None:
    assert expand(template, search("(?P<who>t[a-z]+)(x)?", "ế tinh".encode())) == filled


def test_bytes_that_are_no_text_match_a_dot_as_in_go() -> None:
    assert search("^a.b$", b"a\xffb") is not None


@pytest.mark.parametrize(
    ("target", "split"),
    [
        ("a:1", ("a", 1)),
        ("[::1]:53", ("::1", 53)),
        ("::1", None),
        ("a", None),
        ("a:", None),
        (":1", None),
        ("a:b", None),
        ("a:65536", None),
        ("[a", None),
        ("a]:1", None),
    ],
)
def test_host_and_port_are_split_as_go_does(target: str, split: tuple[str, int] | None) -> None:
    assert split_host_port(target) == split


def test_names_of_certificates_are_written_as_go_does() -> None:
    parts = [
        (NameOID.COMMON_NAME, "mail, chính"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "b"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "a"),
        (NameOID.COUNTRY_NAME, "VN"),
        (NameOID.EMAIL_ADDRESS, "a@b.vn"),
        (NameOID.ORGANIZATION_NAME, " x#y "),
    ]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    wanted = "CN=mail\\, chính,OU=b+OU=a,O=\\ x#y\\ ,C=VN,1.2.840.113549.1.9.1=#0c0661406... "
    assert go_name(name) == wanted.replace("61406... ", "6140622e766e")


@pytest.mark.parametrize(
    ("openssl", "standard"),
    [
        ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("ECDHE-RSA-AES256-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
        ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
        ("AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384"),
        ("DHE-RSA-AES128-CCM8", "TLS_DHE_RSA_WITH_AES_128_CCM_8"),
        ("", ""),
    ],
)
def test_suites_have_their_standard_names(openssl: str, standard: str) -> None:
    assert suite_name(openssl) == standard
