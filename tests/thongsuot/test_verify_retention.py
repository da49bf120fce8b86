"""A segment that was deleted as it should be is told from one that is missing, and its summary is as safe as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.plan import Language
from monitor.chain import CHAIN_FILE, GENESIS, PRIVATE_KEY_FILE, Link, make_line
from tests.monitor.sealing import HOUR, chain, folder, hours_of, order, seal_hours, write
from thongsuot import verify
from thongsuot.verify import Account


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine hours, of which the seven of the first UTC day are deleted."""
    state = tmp_path_factory.mktemp("made")
    write(state, hours_of(9, every_s=1200), ended=9 * HOUR)
    seal_hours(state, 9 * HOUR)
    seal_hours(state, 9 * HOUR, keep_from_ms=order(state, 7 * HOUR).closed_ms)
    return state


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "state"))


def examine(place: Path) -> Account:
    (account,) = verify.verify(place)
    return account


def codes(place: Path) -> list[str]:
    return [f.code for f in examine(place).problems]


def summary_file(state: Path) -> Path:
    (link,) = (n for n in chain(state) if n.is_summary)
    return folder(state) / str(link.fields["file"])


def sign_anew(state: Path, change: dict[str, dict[str, object]]) -> None:
    """Write the chain anew with other members by kind of line, as whoever holds the key could."""
    key = serialization.load_pem_private_key((state / PRIVATE_KEY_FILE).read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    made: list[Link] = []
    for link in chain(state):
        fields = {k: v for k, v in link.fields.items() if k not in ("key", "previous", "signature")}
        fields |= change.get(link.fields["kind"], {})
        fields = {k: v for k, v in fields.items() if v is not None}
        made.append(make_line(fields, made[-1].digest if made else GENESIS, key))
    (folder(state) / CHAIN_FILE).write_text("".join(f"{n.text}\n" for n in made))
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (state / name).unlink(missing_ok=True)


def test_a_lawful_deletion_is_no_loss_and_an_unsaid_one_is(state: Path) -> None:
    account = examine(state)
    assert (account.problems, account.notes) == ([], [])
    assert (account.segments, account.deleted, account.summaries, account.lines) == (9, 7, 1, 11)
    assert "đã xoá theo hạn 7 đoạn, còn 1 bản tóm tắt" in verify.page([account], Language.VI)
    assert "7 deleted by age, 1 summaries kept" in verify.page([account], Language.EN)
    assert account.as_json()["summaries"] == 1
    (folder(state) / chain(state)[7].fields["file"]).unlink()
    assert codes(state) == ["file-missing"]


def test_a_summary_that_is_missing_or_changed_is_named(state: Path) -> None:
    file = summary_file(state)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + b"x")
    assert codes(state) == ["file-changed"]
    file.unlink()
    assert codes(state) == ["file-missing"]


def test_a_deletion_by_an_older_version_is_named_as_one_without_a_summary(state: Path) -> None:
    sign_anew(state, {"deleted": {"summary": None}})
    account = examine(state)
    assert account.problems == []
    assert ("no-summary", 7) in [(n.code, n.values.get("count")) for n in account.notes]


def test_a_deletion_that_names_no_summary_of_its_segments_is_found(state: Path) -> None:
    sign_anew(state, {"deleted": {"summary": 3}})
    assert codes(state) == ["deletion-unsummed"]
    of = next(n for n in chain(state) if n.is_summary).fields["of"]
    sign_anew(state, {"deleted": {"summary": 10}, "summary": {"of": of[1:]}})
    assert codes(state) == ["deletion-unsummed", "content"]


def test_a_summary_of_other_segments_than_there_were_is_found(state: Path) -> None:
    of = next(n for n in chain(state) if n.is_summary).fields["of"]
    sign_anew(state, {"summary": {"of": [[of[0][0], "0" * 64], *of[1:]]}})
    assert codes(state) == ["deletion-unsummed", "summary-wrong", "content"]


def test_a_line_of_a_summary_in_another_shape_is_broken(state: Path) -> None:
    for wrong in ([1], [["1", "x"]], [[1]]):
        sign_anew(state, {"summary": {"of": wrong}})
        assert "line-broken" in codes(state)


def test_a_raw_file_that_was_put_back_is_told(state: Path, made: Path) -> None:
    link = chain(made)[0]
    file = folder(state) / str(link.fields["file"])
    file.write_bytes(orjson.dumps({}))
    assert [n.code for n in examine(state).notes] == ["not-deleted"]
