"""The promises that concern the whole tree: dependencies explained, links alive, names ours, files small."""

from __future__ import annotations

import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("thongsuot", "config", "probes", "monitor", "exporters")
DEPENDENCIES = ROOT / "docs" / "decisions" / "dependencies.md"
LINES_LIMIT = 500

# Put together here, so that this file is not found by its own search.
HOME_OF_ROOT, WORKPLACE = ("/".join(("", name, "")) for name in ("root", "work"))
MACHINE_PATHS = (WORKPLACE, HOME_OF_ROOT)
# What a service may not read is named where it is refused, and where that is proved.
NAMES_HOME_OF_ROOT = {"scripts/install.sh", "tests/system/test_install.py"}
# Marks of unfinished work, and words that only those who sat in the same room understand.
FOREIGN_WORDS = re.compile(r"\b[T]ODO\b|\b[F]IXME\b|\b[X]XX\b|\b[i]ssues? #?\d\b|\.\./[s]hared\b")


def committed() -> list[Path]:
    """Return the files of the tree: what git knows and what it would take in, else all that is not hidden."""
    found = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0:
        return [ROOT / name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]
    hidden = (f for f in ROOT.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return [f for f in hidden if not any(part.startswith(".") for part in f.relative_to(ROOT).parts)]


FILES = committed()
DOCUMENTS = [f for f in FILES if f.suffix == ".md"]


def name_of(file: Path) -> str:
    """Return a file's name as seen from the root."""
    return str(file.relative_to(ROOT))


def text_of(file: Path) -> str:
    """Return a file's text; of a picture or a font, whatever of it is text."""
    return file.read_bytes().decode("utf-8", "replace")


def required() -> list[str]:
    """Return the names of all dependencies in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lines = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    return [re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0] for line in lines]


def explained() -> dict[str, list[str]]:
    """Return the other cells of each dependency's line by its name."""
    rows = re.findall(r"^\| `([^`]+)` \|(.+)\|$", DEPENDENCIES.read_text("utf-8"), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}


def test_every_dependency_has_its_line_and_every_line_its_dependency() -> None:
    assert sorted(explained()) == sorted(required())


def test_every_line_says_what_is_saved_who_keeps_it_and_what_else_was_looked_at() -> None:
    assert {name: cells for name, cells in explained().items() if len(cells) != 3 or not all(cells)} == {}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_file_pins_every_dependency_with_its_sums(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = required() if lock == "requirements-dev.lock" else required()[: len(project["project"]["dependencies"])]

    pinned = dict(
        re.findall(r"^([a-z0-9._-]+)==\S+(?: ; .*)? \\\n    (--hash=sha256:)[0-9a-f]{64}", text, re.MULTILINE)
    )

    assert [
        name for name in wanted if re.sub(r"[._]", "-", name) not in {re.sub(r"[._]", "-", p) for p in pinned}
    ] == []


def links(document: Path) -> Iterator[str]:
    """Give the relative targets of a document's links and images, outside of code."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text_of(document), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(document: Path) -> set[str]:
    """Return what a link into a document may name: its headings as GitHub writes them."""
    found = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_link_is_dead(document: Path) -> None:
    dead = []
    for target in links(document):
        name, _, anchor = target.partition("#")
        file = (document.parent / name) if name else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(target)

    assert dead == []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    found = [
        (name_of(file), path)
        for file in FILES
        for path in MACHINE_PATHS
        if path in text_of(file) and not (path == HOME_OF_ROOT and name_of(file) in NAMES_HOME_OF_ROOT)
    ]

    assert found == []


def test_the_project_speaks_of_itself_alone() -> None:
    found = [(name_of(f), match[0]) for f in FILES if (match := FOREIGN_WORDS.search(text_of(f)))]

    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_names_of_the_rooms_are_ours(room: str) -> None:
    file = importlib.import_module(room).__file__

    assert file is not None
    assert Path(file) == ROOT / room / "__init__.py"


def test_no_module_is_longer_than_can_be_read_at_once() -> None:
    sizes = {name_of(f): len(f.read_bytes().splitlines()) for f in FILES if f.suffix == ".py"}

    assert {name: lines for name, lines in sizes.items() if lines >= LINES_LIMIT} == {}


def test_every_decision_has_a_number_of_its_own_and_says_its_price() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [page.name[:4] for page in pages]

    assert numbers == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]}: ")
        assert all(f"**{part}" in text for part in ("The question", "Decided", "The price")), page.name
