"""Resumed handshakes: what they show, when a full one comes, and that no server gets the better of them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from probes import PROBES
from probes.base import Fault, Measurement, Path, Reading, Tools, measure
from probes.tls_context import TlsSettings
from probes.tls_sessions import CHECKS_KEPT, PLACES_KEPT, Place, Seen, Sessions
from tests.probes.mail_servers import answering
from tests.probes.web_servers import Site, page, redirect, settings_of, site
from tests.servers import LOOPBACK, Address, Certificate, Certificates

GOOD = page("<title>well</title>")
each_version = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tools() -> Iterator[Tools]:
    made = Tools()
    yield made
    made.close()


def serving(shown: Certificate, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = shown.server_context()
    context.minimum_version = context.maximum_version = version
    return context


async def run_check(
    kind: str, tools: Tools, *, check: str = "portal.home", path: Path | None = None, **settings: Any
) -> Reading:
    """Run a probe as a check of a configuration is run: under its name, with tools that outlive the run."""
    wanted = PROBES[kind].settings.model_validate_json(json.dumps(settings, default=str))
    return await measure(PROBES[kind], wanted, timeout_s=5.0, path=path, tools=tools, check=check)


async def ask(here: Site, tools: Tools, certificates: Certificates, target: str = "/", **more: Any) -> Reading:
    more.setdefault("ca_file", certificates.ca_file)
    return await run_check("http", tools, url=here.url(target), **more)


@asynccontextmanager
async def served(here: Site, tls: ssl.SSLContext) -> AsyncIterator[None]:
    """Serve a site as a new process does, with keys for tickets of its own, on the port it had before."""
    server = await asyncio.start_server(here.serve_and_close, LOOPBACK, here.address.port, ssl=tls)
    here.address = Address(LOOPBACK, server.sockets[0].getsockname()[1])
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


def shook(reading: Reading) -> str:
    assert reading.fault is None, reading.detail
    return reading.facts["tls_handshake"]


@contextmanager
def an_hour_later(tools: Tools) -> Iterator[None]:
    """Let what is kept be an hour old, as the loop's clock would have it."""
    for places in tools.of(Sessions)._seen.values():
        for seen in places.values():
            seen.until_s -= 3600.0
    yield


@each_version
async def test_the_first_run_shakes_hands_in_full_and_the_next_ones_resume(
    certificates: Certificates, tools: Tools, version: ssl.TLSVersion
) -> None:
    async with site(GOOD, tls=serving(certificates.good, version)) as here:
        runs = [await ask(here, tools, certificates) for _ in range(4)]

    assert [shook(run) for run in runs] == ["full", "resumed", "resumed", "resumed"]
    assert all(run.values["status_code"] == 200 for run in runs)


async def test_a_resumed_run_says_of_the_certificate_what_the_full_one_saw(
    certificates: Certificates, tools: Tools
) -> None:
    async with site(GOOD, tls=serving(certificates.good)) as here:
        full, resumed = [await ask(here, tools, certificates) for _ in range(2)]

    assert shook(resumed) == "resumed"
    assert resumed.values["tls_not_after_timestamp_s"] == full.values["tls_not_after_timestamp_s"]
    assert {**resumed.facts, "tls_handshake": "full"} == full.facts


@each_version
async def test_a_full_handshake_follows_after_an_hour(
    certificates: Certificates, tools: Tools, version: ssl.TLSVersion
) -> None:
    async with site(GOOD, tls=serving(certificates.good, version)) as here:
        await ask(here, tools, certificates)
        assert shook(await ask(here, tools, certificates)) == "resumed"
        with an_hour_later(tools):
            assert shook(await ask(here, tools, certificates)) == "full"
        assert shook(await ask(here, tools, certificates)) == "resumed"


@pytest.mark.parametrize("more", [{"tls_handshake": "full"}, {"min_days_left": 0}])
async def test_who_watches_the_certificate_sees_it_every_time(
    certificates: Certificates, tools: Tools, more: dict[str, Any]
) -> None:
    async with site(GOOD, tls=serving(certificates.good)) as here:
        runs = [await ask(here, tools, certificates, **more) for _ in range(3)]

    assert [shook(run) for run in runs] == ["full"] * 3


async def test_a_tls_check_never_resumes(certificates: Certificates, tools: Tools) -> None:
    async with site(GOOD, tls=serving(certificates.good)) as here:
        host, port = here.address
        for _ in range(3):
            reading = await run_check("tls", tools, host=host, port=port, ca_file=certificates.ca_file)
            assert shook(reading) == "full"
    with pytest.raises(ValidationError, match="there for the certificate"):
        settings_of("tls", host="a.example.vn", tls_handshake="resume")


async def test_a_probe_that_is_no_check_sees_the_certificate(certificates: Certificates, tools: Tools) -> None:
    async with site(GOOD, tls=serving(certificates.good)) as here:
        runs = [await ask(here, tools, certificates, check="", tls_handshake="resume") for _ in range(2)]

    assert [shook(run) for run in runs] == ["full", "full"]


async def test_days_left_are_counted_on_while_the_session_lasts(certificates: Certificates, tools: Tools) -> None:
    ending = certificates.issue("ending-soon", days=(-80, 9.5))
    async with site(GOOD, tls=serving(ending)) as here:
        early = [await ask(here, tools, certificates, tls_handshake="resume", min_days_left=9) for _ in range(2)]
        late = await ask(here, tools, certificates, tls_handshake="resume", min_days_left=14)

    assert [shook(run) for run in early] == ["full", "resumed"]
    assert late.fault is Fault.CONTENT
    assert late.detail.endswith("in 9.5 days; at least 14 wanted")
    assert late.facts["tls_handshake"] == "resumed"


@each_version
async def test_a_certificate_that_expires_in_between_is_told_at_once(
    certificates: Certificates, tools: Tools, version: ssl.TLSVersion
) -> None:
    brief = certificates.issue("brief", days=(-1, 2 / 86400))
    async with site(GOOD, tls=serving(brief, version)) as here:
        assert shook(await ask(here, tools, certificates)) == "full"
        end_s = brief_end(tools)
        while (reading := await ask(here, tools, certificates)).fault is None:
            assert shook(reading) == "resumed"
            await asyncio.sleep(0.03)

    assert reading.fault is Fault.TLS
    assert reading.detail.startswith("certificate expired on")
    assert reading.values["tls_not_after_timestamp_s"] == end_s


def brief_end(tools: Tools) -> float:
    (places,) = tools.of(Sessions)._seen.values()
    (seen,) = places.values()
    return seen.chain[0].not_after.timestamp()


@each_version
async def test_a_server_with_new_keys_is_verified_again(
    certificates: Certificates, tools: Tools, version: ssl.TLSVersion
) -> None:
    """The ticket is refused, and the handshake becomes a full one by itself."""
    here = Site({"/": GOOD}, scheme="https")
    async with served(here, serving(certificates.good, version)):
        before = [shook(await ask(here, tools, certificates)) for _ in range(2)]
    async with served(here, serving(certificates.issue("exchanged"), version)):
        renewed = [shook(await ask(here, tools, certificates)) for _ in range(2)]
    async with served(here, serving(certificates.unknown_ca, version)):
        swapped = await ask(here, tools, certificates)

    assert before == renewed == ["full", "resumed"]
    assert swapped.fault is Fault.TLS
    assert swapped.detail.startswith("issuer is not trusted")


@each_version
async def test_an_exchanged_certificate_behind_the_old_keys_shows_within_the_hour(
    certificates: Certificates, tools: Tools, version: ssl.TLSVersion
) -> None:
    context = serving(certificates.good, version)
    async with site(GOOD, tls=context) as here:
        await ask(here, tools, certificates)
        context.load_cert_chain(certificates.expired.chain_file, certificates.expired.key_file)
        assert shook(await ask(here, tools, certificates)) == "resumed"
        with an_hour_later(tools):
            late = await ask(here, tools, certificates)

    assert late.fault is Fault.TLS
    assert late.detail.startswith("certificate expired on")


async def test_the_run_after_a_failure_is_a_full_one(certificates: Certificates, tools: Tools) -> None:
    async with site({"/": GOOD}, tls=serving(certificates.good)) as here:
        await ask(here, tools, certificates)
        here.pages["/"] = page("sorry", "X-Broken: yes").replace(b"200 OK", b"503 Gone")
        failed = await ask(here, tools, certificates)
        again = await ask(here, tools, certificates)
        here.pages["/"] = GOOD
        well = [shook(await ask(here, tools, certificates)) for _ in range(2)]

    assert (failed.fault, failed.facts["tls_handshake"]) == (Fault.CONTENT, "resumed")
    assert (again.fault, again.facts["tls_handshake"]) == (Fault.CONTENT, "full")
    assert well == ["full", "resumed"]


async def test_the_run_after_one_that_hung_is_a_full_one(certificates: Certificates, tools: Tools) -> None:
    async with site({"/": GOOD}, tls=serving(certificates.good)) as here:
        await ask(here, tools, certificates)
        here.pages["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"
        cut = await ask(here, tools, certificates)
        here.pages["/"] = GOOD
        after = await ask(here, tools, certificates)

    assert (cut.fault, cut.facts["tls_handshake"]) == (Fault.PROTOCOL, "resumed")
    assert shook(after) == "full"


async def test_other_names_checks_paths_and_authorities_share_nothing(certificates: Certificates, tools: Tools) -> None:
    async with site(GOOD, tls=serving(certificates.good)) as here:
        await ask(here, tools, certificates)
        other_name = await ask(here, tools, certificates, server_name="localhost")
        other_check = await ask(here, tools, certificates, check="portal.other")
        other_path = await ask(here, tools, certificates, path=Path("vnpt", "VNPT", source="127.0.0.9"))
        trusting = await ask(here, tools, certificates, ca_file=None, verify=False)
        distrusting = await ask(here, tools, certificates, ca_file=None)
        wrong = await ask(here, tools, certificates, server_name="khac.example.vn")

    for reading in (other_name, other_check, other_path, trusting):
        assert shook(reading) == "full"
    assert distrusting.fault is wrong.fault is Fault.TLS


async def test_a_redirect_to_the_same_host_resumes_within_the_run(certificates: Certificates, tools: Tools) -> None:
    pages = {"/": redirect("/home"), "/home": GOOD}
    async with site(pages, tls=serving(certificates.good)) as here:
        runs = [await ask(here, tools, certificates) for _ in range(2)]

    assert [shook(run) for run in runs] == ["resumed", "resumed"]
    assert "tls_not_after_timestamp_s" in runs[0].values


@each_version
async def test_a_server_that_gives_no_session_is_not_asked_for_one_every_time(
    certificates: Certificates, tools: Tools, version: ssl.TLSVersion
) -> None:
    context = serving(certificates.good, version)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    async with site(GOOD, tls=context) as here:
        runs = [shook(await ask(here, tools, certificates)) for _ in range(3)]
        (places,) = tools.of(Sessions)._seen.values()
        (seen,) = places.values()

    # In TLS 1.2 a session may be known by its number instead, kept by the server.
    assert runs == ["full"] * 3 if seen.session is None else runs == ["full", "resumed", "resumed"]


async def test_a_server_that_takes_no_ticket_back_is_left_alone_for_the_hour(
    certificates: Certificates, tools: Tools
) -> None:
    """As behind a balancer whose servers do not share their keys."""

    here = Site({"/": GOOD}, scheme="https")
    runs = []
    for _ in range(4):
        async with served(here, serving(certificates.good)):
            runs.append(shook(await ask(here, tools, certificates)))
    (places,) = tools.of(Sessions)._seen.values()
    (seen,) = places.values()

    assert runs == ["full"] * 4
    assert seen.session is None


@pytest.mark.parametrize("kind", ["smtp", "imap", "pop3"])
async def test_mail_over_starttls_resumes_as_well(kind: str, certificates: Certificates, tools: Tools) -> None:
    async with answering(kind, starttls=certificates.good.server_context()) as (script, address):
        runs = [
            await run_check(kind, tools, host=address.host, port=address.port, ca_file=certificates.ca_file)
            for _ in range(3)
        ]

    assert [shook(run) for run in runs] == ["full", "resumed", "resumed"]
    assert {run.facts["starttls"] for run in runs} == {"yes"}
    assert script.commands(inside=True)


async def test_what_is_kept_is_bounded(certificates: Certificates) -> None:
    sessions = Sessions()
    context = certificates.client_context()
    for number in range(CHECKS_KEPT + 5):
        sessions.keep(f"c.{number}", Place("", (), "a", ()), Seen(context, None, (), 0.0))
    for number in range(PLACES_KEPT + 5):
        sessions.keep("c.many", Place("", (), f"a{number}", ()), Seen(context, None, (), 0.0))

    assert len(sessions._seen) == CHECKS_KEPT
    assert len(sessions._seen["c.many"]) == PLACES_KEPT
    assert sessions.at("c.0", Place("", (), "a", ())) is None


def test_only_what_watches_no_certificate_resumes_by_itself() -> None:
    assert TlsSettings().resumes
    assert not TlsSettings(min_days_left=14).resumes
    assert TlsSettings.model_validate_json('{"min_days_left": 14, "tls_handshake": "resume"}').resumes
    assert not TlsSettings.model_validate_json('{"tls_handshake": "full"}').resumes
    assert Measurement(timeout_s=1).check == ""
