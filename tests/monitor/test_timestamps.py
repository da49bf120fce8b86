"""Time stamps of the chain, against the authority that comes with OpenSSL."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.plan import StampPlan
from monitor import timestamps
from monitor.board import Board
from monitor.chain import evidence_folder
from monitor.der_order import sorted_certificates
from monitor.journal import Journal
from monitor.sealer import Sealer
from monitor.stamper import WARN_AFTER, Stamper
from monitor.timestamps import StampError
from probes.base import utc_now
from tests.monitor.authority import Manners, authority, reply_to, set_up
from tests.monitor.builders import SITE, at, plan, service
from tests.monitor.journals import begin, opened
from tests.monitor.sealing import HOUR, chain, hours_of
from thongsuot import verify as verification
from thongsuot.verify import verify


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tsa")
    set_up(folder)
    return folder


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """A journal with two sealed hours."""
    async with opened(tmp_path) as found:
        await begin(found)
        for batch in hours_of(2, every_s=600):
            await found.commit(batch, at(2 * HOUR))
        watched = plan(service("mail", "smtp"), state_dir=tmp_path)
        assert await Sealer(watched, found, Board(watched, at(0)), clock=lambda: at(3 * HOUR), pause_s=0).step()
        yield found


def stamper(state_dir: Path, journal: Journal, url: str, tsa: Path, now: list[datetime] | None = None) -> Stamper:
    watched = plan(service("mail", "smtp"), state_dir=state_dir)
    clock = (lambda: now[0]) if now else utc_now
    said: list[str] = []
    made = Stamper(watched, StampPlan(url, tsa / "ca.pem", 86_400), journal, said.append, clock)
    made.said = said  # type: ignore[attr-defined]
    return made


def tokens(state_dir: Path) -> list[timestamps.Token]:
    return list(timestamps.kept(evidence_folder(state_dir, SITE)))


@pytest.mark.timeout(40)
async def test_the_newest_line_is_stamped_and_anybody_can_check_it_with_openssl(
    tmp_path: Path, journal: Journal, tsa: Path
) -> None:
    manners = Manners()
    async with authority(tsa, manners) as url:
        asks = stamper(tmp_path, journal, url, tsa)
        assert await asks.step()
        assert await asks.step()  # not due again
    assert manners.asked == 1
    (token,) = await asyncio.to_thread(tokens, tmp_path)
    last = (await asyncio.to_thread(chain, tmp_path))[-1]
    assert (token.number, token.short) == (last.number, last.digest[:12])
    roots = await asyncio.to_thread(timestamps.load_roots, tsa / "ca.pem")
    answer = await asyncio.to_thread(token.file.read_bytes)
    assert abs(timestamps.check(answer, last.text, roots) - utc_now()) < timedelta(minutes=1)
    command = f"sed -n {last.number}p chain.jsonl | openssl ts -verify -in {token.file} -data /dev/stdin"
    said = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", f"{command} -CAfile {tsa / 'ca.pem'}"],
        cwd=evidence_folder(tmp_path, SITE),
        capture_output=True,
        text=True,
    )
    assert "Verification: OK" in said.stdout + said.stderr


async def test_a_stamp_is_asked_for_again_when_it_is_time_and_there_is_a_newer_line(
    tmp_path: Path, journal: Journal, tsa: Path
) -> None:
    manners, now = Manners(), [utc_now()]
    async with authority(tsa, manners) as url:
        asks = stamper(tmp_path, journal, url, tsa, now)
        assert await asks.step()
        now[0] += timedelta(days=2)
        assert await asks.step()  # no newer line
    assert manners.asked == 1


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        (Manners(status=503), "status 503, expected 200"),
        (Manners(body=b"<html>"), "not the answer of a time-stamp authority"),
        (Manners(body=b"x" * 70_000), "more than 65536 bytes"),
    ],
)
async def test_an_authority_in_trouble_is_asked_again_and_a_long_trouble_is_shown(
    tmp_path: Path, journal: Journal, tsa: Path, manners: Manners, why: str
) -> None:
    now = [utc_now()]
    async with authority(tsa, manners) as url:
        asks = stamper(tmp_path, journal, url, tsa, now)
        said: list[str] = asks.said  # type: ignore[attr-defined]
        assert not await asks.step()
        assert said == []
        now[0] += WARN_AFTER
        assert not await asks.step()
        assert why in said[0]
        assert await asyncio.to_thread(tokens, tmp_path) == []
        manners.status, manners.body = 200, None
        assert await asks.step()
        assert said[-1] == ""


async def test_a_server_that_is_not_there_is_a_trouble_like_any_other(
    tmp_path: Path, journal: Journal, tsa: Path
) -> None:
    assert not await stamper(tmp_path, journal, "http://127.0.0.1:9/", tsa).step()


def test_an_answer_to_another_question_or_of_another_authority_is_refused(tsa: Path, tmp_path: Path) -> None:
    roots = timestamps.load_roots(tsa / "ca.pem")
    question, other = timestamps.ask(1, "one"), timestamps.ask(1, "two")
    answer = reply_to(tsa, question.body)
    assert timestamps.accept(question, answer, roots) == timestamps.check(answer, "one", None)
    with pytest.raises(StampError, match="another line"):
        timestamps.check(answer, "two", None)
    with pytest.raises(StampError, match="Nonce"):
        timestamps.accept(replace(question, nonce=other.nonce), answer, roots)
    with pytest.raises(StampError, match="Mismatch"):
        timestamps.check(answer, "two", roots)
    set_up(tmp_path / "stranger")
    with pytest.raises(StampError, match="certificates"):
        timestamps.check(answer, "one", timestamps.load_roots(tmp_path / "stranger" / "ca.pem"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_what_is_no_time_stamp_is_refused_and_comes_back_as_it_is(answer: bytes) -> None:
    assert sorted_certificates(answer) == answer
    with pytest.raises(StampError):
        timestamps.check(answer, "one", None)


def test_no_byte_of_a_stamp_can_be_changed_so_that_it_names_another_time(tsa: Path) -> None:
    roots = timestamps.load_roots(tsa / "ca.pem")
    question = timestamps.ask(1, "one")
    answer = reply_to(tsa, question.body)
    true = timestamps.check(answer, "one", roots)
    for place in range(0, len(answer), 7):
        changed = answer[:place] + bytes([answer[place] ^ 1]) + answer[place + 1 :]
        try:
            assert timestamps.check(changed, "one", roots) == true
        except StampError:
            continue


def test_a_certificate_of_no_known_version_is_no_end_of_the_daemon(tsa: Path) -> None:
    roots = timestamps.load_roots(tsa / "ca.pem")
    question = timestamps.ask(1, "one")
    answer = reply_to(tsa, question.body)
    third = b"\xa0\x03\x02\x01\x02"  # [0] EXPLICIT INTEGER 2: version 3, at the head of each certificate
    last = answer.rindex(third) + len(third) - 1
    with pytest.raises(StampError, match="cannot be read"):
        timestamps.accept(question, answer[:last] + b"\x30" + answer[last + 1 :], roots)


@pytest.mark.timeout(40)
async def test_verify_prints_when_a_line_was_stamped_and_finds_a_wrong_stamp_and_a_cut_tail(
    tmp_path: Path, journal: Journal, tsa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The lines of the test are of another year than the authority's clock.
    monkeypatch.setattr(verification, "STAMP_SETTLE", timedelta(days=36_500))
    async with authority(tsa, Manners()) as url:
        assert await stamper(tmp_path, journal, url, tsa).step()

    def found(ca: Path | None = None) -> tuple[list[str], list[str]]:
        (account,) = verify(tmp_path, tsa_ca=ca)
        return [f.code for f in account.problems], [f.code for f in account.notes]

    assert await asyncio.to_thread(found, tsa / "ca.pem") == ([], ["stamped"])
    assert await asyncio.to_thread(found) == ([], ["stamped", "stamps-unproved"])
    monkeypatch.setattr(verification, "STAMP_SETTLE", timedelta(days=-36_500))
    assert (await asyncio.to_thread(found, tsa / "ca.pem"))[0] == ["stamp-time"]
    (token,) = await asyncio.to_thread(tokens, tmp_path)
    await asyncio.to_thread(set_up, tmp_path.parent / "stranger")
    problems, _ = await asyncio.to_thread(found, tmp_path.parent / "stranger" / "ca.pem")
    assert problems == ["stamp-wrong"]
    cut = token.file.with_name(token.file.name.replace(f"{token.number}-", f"{token.number + 5}-"))
    await asyncio.to_thread(token.file.rename, cut)
    assert (await asyncio.to_thread(found, tsa / "ca.pem"))[0] == ["tail-cut"]
