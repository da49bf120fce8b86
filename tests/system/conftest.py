"""What system tests share: proof that the machine can run them, and servers that several tests may use at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.servers import Certificates
from tests.system.namespaces import Network
from tests.system.servers import running_servers
from tests.system.servers_dns import Unbound
from tests.system.servers_mail import Dovecot, Postfix
from tests.system.servers_web import Nginx

HERE = Path(__file__).parent
PACKAGES = HERE.parent.parent / "scripts" / "install-packages.sh"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `-m 'not system'` leaves them out."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs of the servers that are up under a failed test."""
    report = yield
    if report.failed:
        report.sections += [
            (f"logs of {server.name} in {server.folder}", server.logs(20)) for server in running_servers()
        ]
    return report


@pytest.fixture(scope="session", autouse=True)
def _machine_is_fit() -> None:
    """Fail, never skip: a suite that passes without its servers proves nothing."""
    if os.geteuid() != 0:
        pytest.fail("system tests need root, for namespaces and servers that change users: run `sudo make test`")
    found = subprocess.run([PACKAGES, "test", "--only-say"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.fail(found.stderr)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for loopback and for the names of the example province."""
    return Certificates(tmp_path_factory.mktemp("certificates"), "mail.tinh.example.vn", "www.tinh.example.vn")


@pytest.fixture(scope="session")
def shared_nginx(certificates: Certificates) -> Iterator[Nginx]:
    """One nginx for all tests; who stops it or changes its state starts one of their own."""
    with Nginx(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def shared_unbound() -> Iterator[Unbound]:
    """One unbound for all tests that only ask."""
    with Unbound() as server:
        yield server


@pytest.fixture(scope="session")
def shared_postfix(certificates: Certificates, shared_dovecot: Dovecot) -> Iterator[Postfix]:
    """One postfix for all tests that only talk to it; its users are those of `shared_dovecot`."""
    with Postfix(certificates.good, auth=shared_dovecot) as server:
        yield server


@pytest.fixture(scope="session")
def shared_dovecot(certificates: Certificates) -> Iterator[Dovecot]:
    """One dovecot with empty mailboxes for all tests that only read."""
    with Dovecot(certificates.good) as server:
        yield server


@pytest.fixture
def network() -> Iterator[Network]:
    """A monitor with one uplink and one place to watch, for this test alone."""
    with Network() as net:
        yield net
