"""Whatever is done to the evidence, `thongsuot verify` finds it and names it."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from config.plan import Language
from monitor.chain import CHAIN_FILE, PRIVATE_KEY_FILE, PUBLIC_KEY_FILE, Link, make_line, parse_line
from monitor.journal import FILE_NAME, Batch, to_ms
from tests.monitor.builders import at
from tests.monitor.sealing import HOUR, chain, folder, hours_of, seal_hours, write
from thongsuot import verify
from thongsuot.cli import app
from thongsuot.verify import Account

SEGMENTS = 4


@pytest.fixture(scope="module")
def sealed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hours of small evidence and one deletion."""
    state = tmp_path_factory.mktemp("sealed")
    write(state, hours_of(SEGMENTS, every_s=1200), ended=SEGMENTS * HOUR)
    seal_hours(state, SEGMENTS * HOUR)
    return state


@pytest.fixture
def state(sealed_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed_once, tmp_path / "state"))


@pytest.fixture
def evidence(state: Path) -> Path:
    """The evidence by itself, without the journal beside it."""
    return folder(state).rename(state.parent / "copy")


def examine(place: Path, key: Path | None = None, head: str = "") -> Account:
    (account,) = verify.verify(place, key, head)
    return account


def codes(place: Path, key: Path | None = None, head: str = "") -> list[str]:
    return [f.code for f in examine(place, key, head).problems]


def lines_of(evidence: Path) -> list[str]:
    return (evidence / CHAIN_FILE).read_text().splitlines()


def put_lines(evidence: Path, lines: list[str]) -> None:
    (evidence / CHAIN_FILE).write_text("".join(f"{line}\n" for line in lines))


def files_of(evidence: Path) -> list[Path]:
    return [evidence / parse_line(line).fields["file"] for line in lines_of(evidence)]


def test_whole_evidence_is_whole_wherever_it_is_looked_for(state: Path) -> None:
    for place in (state, state / "evidence", folder(state)):
        account = examine(place)
        assert account.problems == []
        assert account.notes == []
        assert (account.lines, account.segments, account.results) == (4, 4, 36)
        assert account.head == chain(state)[-1].head


def test_a_copy_is_whole_and_says_what_it_cannot_know(evidence: Path) -> None:
    account = examine(evidence)
    assert account.problems == []
    assert [n.code for n in account.notes] == ["no-witness"]
    assert examine(evidence, head=account.head).notes == []


def test_a_changed_byte_of_a_file_is_named(evidence: Path) -> None:
    file = files_of(evidence)[1]
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    (found,) = examine(evidence).problems
    assert (found.code, found.values) == ("file-changed", {"file": str(file.relative_to(evidence)), "line": 2})
    assert found.text(Language.VI) == f"tệp {file.relative_to(evidence)} đã bị sửa (dòng 2)"


def test_a_missing_file_is_named(evidence: Path) -> None:
    files_of(evidence)[2].unlink()
    assert codes(evidence) == ["file-missing"]


def test_a_file_that_was_put_in_is_named(evidence: Path) -> None:
    file = files_of(evidence)[2]
    shutil.copy(file, file.with_name("21-0123456789ab.parquet"))
    assert codes(evidence) == ["file-unknown"]


def test_a_changed_line_is_named_and_so_is_the_break_after_it(evidence: Path) -> None:
    lines = lines_of(evidence)
    put_lines(evidence, [lines[0], lines[1].replace('"late":0', '"late":7'), *lines[2:]])
    problems = examine(evidence).problems
    assert [(f.code, f.values["line"]) for f in problems] == [("signature-wrong", 2), ("link-broken", 3)]


def test_a_deleted_line_is_named_with_its_file(evidence: Path) -> None:
    lines = lines_of(evidence)
    put_lines(evidence, [*lines[:1], *lines[2:]])
    problems = {f.code: f.values for f in examine(evidence).problems}
    assert problems.keys() == {"lines-missing", "link-broken", "file-unknown"}
    assert problems["lines-missing"] == {"first": 2, "last": 2}


def test_lines_that_changed_places_are_named(evidence: Path) -> None:
    a, b, c, d = lines_of(evidence)
    put_lines(evidence, [a, c, b, d])
    assert {"lines-missing", "line-moved", "link-broken", "time-order"} <= set(codes(evidence))


def test_a_line_written_twice_is_named(evidence: Path) -> None:
    a, b, c, d = lines_of(evidence)
    put_lines(evidence, [a, b, b, c, d])
    assert {"line-moved", "link-broken"} <= set(codes(evidence))


def test_an_unfinished_last_line_is_named(evidence: Path) -> None:
    file = evidence / CHAIN_FILE
    file.write_text(file.read_text()[:-10])
    assert "line-unfinished" in codes(evidence)


def resigned(lines: list[str], key: Ed25519PrivateKey, which: range) -> list[str]:
    """Lines of which some are signed anew, and the chain mended after them."""
    links: list[Link] = []
    for number, line in enumerate(lines):
        link = parse_line(line)
        if number in which:
            fields = {k: v for k, v in link.fields.items() if k not in ("key", "previous", "signature")}
            link = make_line(fields, links[-1].digest if links else "0" * 64, key)
        links.append(link)
    return [link.text for link in links]


def test_a_line_signed_with_another_key_is_named(evidence: Path) -> None:
    put_lines(evidence, resigned(lines_of(evidence), Ed25519PrivateKey.generate(), range(2, 3)))
    assert codes(evidence) == ["other-signer", "link-broken"]


def test_a_chain_signed_anew_with_its_key_replaced_is_found_by_the_key_kept_elsewhere(evidence: Path) -> None:
    kept = evidence.parent / "kept.pem"
    shutil.copy(evidence / PUBLIC_KEY_FILE, kept)
    key = Ed25519PrivateKey.generate()
    head = examine(evidence).head
    put_lines(evidence, resigned(lines_of(evidence), key, range(SEGMENTS)))
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (evidence / PUBLIC_KEY_FILE).write_bytes(pem)
    assert codes(evidence) == []  # by itself it cannot be seen: that is what witnesses are for
    assert set(codes(evidence, kept)) == {"other-key", "other-signer"}
    assert codes(evidence, head=head) == ["witness-differs"]


def test_even_the_right_key_cannot_change_what_the_journal_or_a_mail_knows(state: Path) -> None:
    place = folder(state)
    head = examine(place).head
    lines = [line.replace('"late":0', '"late":3') for line in lines_of(place)]
    key = serialization.load_pem_private_key((state / PRIVATE_KEY_FILE).read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    put_lines(place, resigned(lines, key, range(SEGMENTS)))
    assert codes(place) == ["witness-differs"] * SEGMENTS
    (state / FILE_NAME).unlink()
    assert codes(place) == []
    assert codes(place, head=head) == ["witness-differs"]


@pytest.mark.parametrize("how", ["number and hash", "hash"])
def test_a_tail_that_was_cut_off_is_found_by_the_head_in_a_mail(evidence: Path, how: str) -> None:
    head = examine(evidence).head
    files_of(evidence)[-1].unlink()
    put_lines(evidence, lines_of(evidence)[:-1])
    assert codes(evidence) == []
    assert codes(evidence, head=head if how != "hash" else head.partition(":")[2]) == ["tail-cut"]


def test_a_tail_that_was_cut_off_is_found_by_the_journal(state: Path) -> None:
    files_of(folder(state))[-1].unlink()
    put_lines(folder(state), lines_of(folder(state))[:-1])
    (found,) = examine(state).problems
    assert found.text(Language.VI) == "chuỗi bị cắt đuôi: kết thúc ở dòng 3, nhưng journal.db biết đến dòng 4"


def test_evidence_without_chain_or_key_is_not_whole(evidence: Path) -> None:
    (evidence / CHAIN_FILE).unlink()
    assert codes(evidence) == ["no-chain", *["file-unknown"] * SEGMENTS]
    (evidence / PUBLIC_KEY_FILE).unlink()
    assert codes(evidence.parent)[:2] == ["no-key", "no-chain"]


def test_an_empty_folder_proves_nothing(tmp_path: Path) -> None:
    assert codes(tmp_path) == ["no-evidence"]
    assert codes(tmp_path / "nothing") == ["no-evidence"]


# The clock.


def test_a_clock_turned_back_between_two_sealings_is_named(tmp_path: Path) -> None:
    write(tmp_path, hours_of(2, every_s=1200))
    seal_hours(tmp_path, HOUR, now_ms=to_ms(at(5 * HOUR)))
    seal_hours(tmp_path, 2 * HOUR, now_ms=to_ms(at(3 * HOUR)))
    (found,) = examine(tmp_path).problems
    assert (found.code, found.values["seconds"], found.values["line"]) == ("clock-back", 7200.0, 2)
    assert found.text(Language.VI) == "đồng hồ bị chỉnh lùi 7200.0 giây trước 06/02/2027 03:00:00 (dòng 2)"


def test_an_hour_lived_twice_is_named_and_both_are_kept(tmp_path: Path) -> None:
    write(tmp_path, hours_of(3, every_s=1200))
    seal_hours(tmp_path, 3 * HOUR)
    again = Batch(results=hours_of(1, every_s=600, seed=2)[0].results)
    write(tmp_path, [again], started=3 * HOUR)  # by the clock, hour 0 again
    (line,) = seal_hours(tmp_path, HOUR)
    assert line.fields["results"] == 18
    assert set(codes(tmp_path)) == {"clock-back", "time-order"}


def test_a_step_that_the_daemon_saw_is_named(tmp_path: Path) -> None:
    write(tmp_path, hours_of(1, every_s=1200))
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        row = ("lang-son", to_ms(at(100)), 5, -90_000, "step")
        db.execute("INSERT INTO clock (site, at_ms, steady_ms, step_ms, cause) VALUES (?, ?, ?, ?, ?)", row)
    db.close()
    seal_hours(tmp_path, HOUR)
    (found,) = examine(tmp_path).problems
    assert (found.code, found.values["seconds"]) == ("clock-back", 90.0)


def test_hours_without_a_segment_are_told_and_do_not_break_the_whole(tmp_path: Path) -> None:
    batches = hours_of(4, every_s=1200)
    write(tmp_path, [*batches[:2], *batches[6:]])
    seal_hours(tmp_path, 4 * HOUR)
    account = examine(tmp_path)
    assert account.problems == []
    assert [n.text(Language.VI) for n in account.notes] == [
        "không có đoạn nào từ 06/02/2027 01:00:00 đến 06/02/2027 03:00:00"
    ]


# A thousand random changes.

Change = Callable[[Path, random.Random], None]


def change_a_byte(place: Path, r: random.Random) -> None:
    file = r.choice([*files_of(place), place / CHAIN_FILE, place / PUBLIC_KEY_FILE])
    data = bytearray(file.read_bytes())
    position = r.randrange(len(data))
    data[position] ^= r.randrange(1, 256)
    file.write_bytes(data)


def drop_bytes(place: Path, r: random.Random) -> None:
    file = r.choice([*files_of(place), place / CHAIN_FILE, place / PUBLIC_KEY_FILE])
    data = file.read_bytes()
    start = r.randrange(len(data))
    file.write_bytes(data[:start] + data[start + r.randint(1, 200) :])


def add_bytes(place: Path, r: random.Random) -> None:
    file = r.choice([*files_of(place), place / CHAIN_FILE, place / PUBLIC_KEY_FILE])
    data = file.read_bytes()
    start = r.randint(0, len(data))
    file.write_bytes(data[:start] + r.randbytes(r.randint(1, 50)) + data[start:])


def delete_a_file(place: Path, r: random.Random) -> None:
    r.choice([*files_of(place), place / CHAIN_FILE, place / PUBLIC_KEY_FILE]).unlink()


def rename_a_file(place: Path, r: random.Random) -> None:
    file = r.choice(files_of(place))
    file.rename(file.with_name(f"{r.randrange(24):02}-{r.randbytes(6).hex()}.parquet"))


def swap_files(place: Path, r: random.Random) -> None:
    a, b = r.sample(files_of(place), 2)
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)


def delete_a_line(place: Path, r: random.Random) -> None:
    lines = lines_of(place)
    del lines[r.randrange(len(lines))]
    put_lines(place, lines)


def swap_lines(place: Path, r: random.Random) -> None:
    lines = lines_of(place)
    a, b = r.sample(range(len(lines)), 2)
    lines[a], lines[b] = lines[b], lines[a]
    put_lines(place, lines)


def repeat_a_line(place: Path, r: random.Random) -> None:
    lines = lines_of(place)
    lines.insert(r.randint(0, len(lines)), r.choice(lines))
    put_lines(place, lines)


def sign_again(place: Path, r: random.Random) -> None:
    first = r.randrange(SEGMENTS)
    which = range(first, r.randint(first + 1, SEGMENTS))
    put_lines(place, resigned(lines_of(place), Ed25519PrivateKey.from_private_bytes(r.randbytes(32)), which))


def change_a_member(place: Path, r: random.Random) -> None:
    lines = lines_of(place)
    number = r.randrange(len(lines))
    fields = orjson.loads(lines[number])
    name = r.choice(list(fields))
    fields[name] = r.choice([None, -1, "x", "2027-02-05T17:00:00", [], {}, 10**12, True])
    lines[number] = orjson.dumps(fields).decode()
    put_lines(place, lines)


def insert_a_segment(place: Path, r: random.Random) -> None:
    """A file with a line of its own, signed by a stranger, and the chain after it left as it was."""
    lines = lines_of(place)
    position = r.randrange(len(lines) + 1)
    source = parse_line(r.choice(lines))
    file = place / source.fields["file"]
    name = source.fields["file"].replace(source.fields["sha256"][:12], r.randbytes(6).hex())
    shutil.copy(file, place / name)
    fields = {k: v for k, v in source.fields.items() if k not in ("key", "previous", "signature")}
    previous = parse_line(lines[position - 1]).digest if position else "0" * 64
    key = Ed25519PrivateKey.from_private_bytes(r.randbytes(32))
    lines.insert(position, make_line({**fields, "number": position + 1, "file": name}, previous, key).text)
    put_lines(place, lines)


def cut_the_tail(place: Path, r: random.Random) -> None:
    left = r.randrange(SEGMENTS)
    for file in files_of(place)[left:]:
        file.unlink()
    put_lines(place, lines_of(place)[:left])


CHANGES: list[Change] = [
    change_a_byte,
    change_a_byte,
    change_a_byte,
    drop_bytes,
    add_bytes,
    delete_a_file,
    rename_a_file,
    swap_files,
    delete_a_line,
    swap_lines,
    repeat_a_line,
    sign_again,
    change_a_member,
    insert_a_segment,
    cut_the_tail,
]


def content(place: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}


def restore(place: Path, kept: dict[Path, bytes]) -> None:
    for file, data in content(place).items():
        if file not in kept:
            file.unlink()
        elif data != kept[file]:
            file.write_bytes(kept[file])
    for file in kept.keys() - content(place).keys():
        file.write_bytes(kept[file])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.timeout(60)
def test_of_a_thousand_random_changes_each_is_found(evidence: Path, seed: int) -> None:
    r = random.Random(seed)
    kept = content(evidence)
    pinned = evidence.parent / "pinned.pem"
    shutil.copy(evidence / PUBLIC_KEY_FILE, pinned)
    head = examine(evidence).head
    for number in range(200):
        change = r.choice(CHANGES)
        change(evidence, r)
        assert content(evidence) != kept, change
        account = examine(evidence, pinned, head)
        assert account.problems, (change, number)
        assert all(f.text(lang) for f in [*account.problems, *account.notes] for lang in Language)
        restore(evidence, kept)
    assert examine(evidence, pinned, head).problems == []


# The command.


def test_the_command_tells_people_and_machines(evidence: Path) -> None:
    said = CliRunner().invoke(app, ["verify", str(evidence), "--json"])
    assert said.exit_code == 0
    (site,) = orjson.loads(said.stdout)["sites"]
    assert (site["ok"], site["segments"], site["problems"]) == (True, 4, [])
    assert "NGUYÊN VẸN" in CliRunner().invoke(app, ["verify", str(evidence)]).stdout
    files_of(evidence)[0].unlink()
    said = CliRunner().invoke(app, ["verify", str(evidence)])
    assert said.exit_code == 1
    assert "KHÔNG NGUYÊN VẸN" in said.stdout
    assert "thiếu tệp" in said.stdout
    found = orjson.loads(CliRunner().invoke(app, ["verify", str(evidence), "--json"]).stdout)
    assert (found["ok"], found["sites"][0]["problems"][0]["code"]) == (False, "file-missing")
    assert CliRunner().invoke(app, ["verify", str(evidence), "--key", str(evidence / CHAIN_FILE)]).exit_code == 2
