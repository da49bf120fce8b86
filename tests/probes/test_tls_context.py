"""Contexts are shared, follow their files, and names are written as TLS wants them."""

from __future__ import annotations

import ssl
from pathlib import Path as FilePath

import pytest

from probes.base import Fault, Measurement, ProbeError
from probes.tls_context import CONTEXTS_KEPT, Contexts, TlsSettings, TlsVersion, context_for, server_name
from tests.servers import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def test_the_same_settings_share_a_context() -> None:
    m = Measurement(timeout_s=1)

    first = await context_for(m, TlsSettings())
    again = await context_for(m, TlsSettings(min_days_left=5))
    other = await context_for(m, TlsSettings(min_version=TlsVersion.V1_3))

    assert first is again
    assert other is not first
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.check_hostname
    assert first.minimum_version is ssl.TLSVersion.TLSv1_2
    assert other.minimum_version is ssl.TLSVersion.TLSv1_3


async def test_a_changed_file_of_authorities_makes_a_new_context(
    certificates: Certificates, tmp_path: FilePath
) -> None:
    contexts = Contexts(stamp_kept_s=0)
    copy = tmp_path / "ca.pem"
    copy.write_bytes(certificates.ca_file.read_bytes())
    wanted = TlsSettings(ca_file=copy)

    before = await contexts.get(wanted)
    same = await contexts.get(wanted)
    copy.write_bytes(certificates.ca_file.read_bytes() + certificates.self_signed.chain_file.read_bytes())
    after = await contexts.get(wanted)

    assert before is same
    assert after is not before
    assert len(before.get_ca_certs()) == 1
    assert len(after.get_ca_certs(binary_form=True)) + 1 >= 2


async def test_a_file_that_goes_away_is_noticed(certificates: Certificates, tmp_path: FilePath) -> None:
    contexts = Contexts(stamp_kept_s=0)
    copy = tmp_path / "ca.pem"
    copy.write_bytes(certificates.ca_file.read_bytes())
    await contexts.get(TlsSettings(ca_file=copy))
    copy.unlink()

    with pytest.raises(ProbeError) as caught:
        await contexts.get(TlsSettings(ca_file=copy))

    assert caught.value.fault is Fault.LOCAL


async def test_the_number_of_contexts_is_bounded() -> None:
    contexts = Contexts()

    first = await contexts.get(TlsSettings(verify=False))
    for number in range(CONTEXTS_KEPT):
        await contexts.get(TlsSettings(verify=False), alpn=(f"p{number}",))

    assert await contexts.get(TlsSettings(verify=False)) is not first


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mail.example.vn", "mail.example.vn"),
        ("mail.example.vn.", "mail.example.vn"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("thôngsuốt.vn", "xn--thngsut-u0a3299d.vn"),
    ],
)
def test_a_host_is_written_as_tls_wants_it(host: str, name: str) -> None:
    assert server_name(host) == name


@pytest.mark.parametrize("host", [".", "..", ".example.vn", "a..b", "x" * 64 + ".vn", "a\0b", ""])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ProbeError) as caught:
        server_name(host)

    assert caught.value.fault is Fault.NAME
