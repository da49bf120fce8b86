"""The corpus of wrong configurations: each gets exactly the lines beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import ConfigError, load

WRONG = Path(__file__).parent / "wrong"
CASES = sorted(WRONG.glob("*.yaml"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_a_wrong_configuration_gets_exactly_its_messages(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    with pytest.raises(ConfigError) as caught:
        load(Path(file.name))
    assert str(caught.value) + "\n" == file.with_suffix(".expected").read_text("utf-8")


def test_the_corpus_is_large_and_whole() -> None:
    assert len(CASES) >= 60
    assert {file.stem for file in CASES} == {file.stem for file in WRONG.glob("*.expected")}


def test_no_message_repeats_a_secret() -> None:
    written = [file for file in CASES if "bi-mat" in file.read_bytes().decode("utf-8", "replace")]
    assert len(written) >= 4
    assert not [file for file in written if "bi-mat" in file.with_suffix(".expected").read_text("utf-8")]


def test_every_line_names_file_line_column_and_path() -> None:
    for file in WRONG.glob("*.expected"):
        for line in file.read_text("utf-8").splitlines():
            name, row, column, path, message = line.split(":", 4)
            assert name.endswith(".yaml")
            assert int(row) >= 1
            assert int(column) >= 1
            assert path.strip()
            assert message.strip()


def test_a_file_that_is_not_there_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigError) as caught:
        load(missing)
    assert str(caught.value) == f"{missing}:1:1: (file): {missing} cannot be read: No such file or directory"


def test_a_file_over_the_size_bound_is_not_parsed(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        load(large)


def test_deep_nesting_is_refused_before_it_can_exhaust_the_stack(tmp_path: Path) -> None:
    deep = tmp_path / "deep.yaml"
    deep.write_text("site: " + "[" * 100_000, "utf-8")
    with pytest.raises(ConfigError, match="nested more than 32 deep"):
        load(deep)


def test_thousands_of_mistakes_are_counted_and_the_first_ones_said(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    checks = "".join(f"      c{i}: {{probe: icmp, hots: h}}\n" for i in range(2000))
    file.write_text("site: {id: a, name: A}\nservices:\n  s:\n    needs: [zz, zz]\n    checks:\n" + checks, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert len(caught.value.problems) == 501
    assert caught.value.problems[-1].message == "and 3502 more mistakes"
