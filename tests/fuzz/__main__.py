"""Runs the fuzzer over the table of parsers: each in a process of its own, bounded in time, memory and length.

    python -m tests.fuzz --seconds 60 --jobs 2 --only http,imap

Prints what no parser may do, with the bytes that made it do so, and then ends with 1. What was found to reach new code
is kept in a folder with `--corpus`, so that the next run begins there.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("the fuzzer needs atheris, which there is for Linux on x86-64 with Python 3.11 to 3.13 only")

MEMORY_MB = 1024  # of one process; the instrumented program alone takes about 150
INPUT_S = 5  # for one input; all of them are short

# Ours are instrumented, everything else is called as it is. Which modules those are is of no interest to a reader.
with (
    contextlib.redirect_stderr(io.StringIO()),
    atheris.instrument_imports(include=["probes", "exporters.blackbox"]),
):
    from tests.fuzz.table import TARGETS
    from tests.fuzz.target import Target


@dataclass(frozen=True, slots=True)
class Run:
    """One target's process."""

    target: Target
    folder: Path

    @property
    def log(self) -> Path:
        """Where it writes what it says."""
        return self.folder / "log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz what was asked for; return 1 when something was found."""
    wanted = _arguments(arguments)
    names = wanted.only.split(",") if wanted.only else sorted(TARGETS)
    if unknown := sorted(set(names) - set(TARGETS)):
        sys.exit(f"no such parser: {', '.join(unknown)}; there are: {', '.join(sorted(TARGETS))}")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="thongsuot-fuzz-") as folder:
        for run, status in _all(names, wanted, Path(folder)):
            failed += bool(status)
            print(_outcome(run, status), flush=True)
    print(f"{len(names)} parsers, {wanted.seconds:g} s each at most: {failed or 'none'} did what it must not")
    return 1 if failed else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10, help="for each parser (10)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (2)")
    parser.add_argument("--only", default="", help="names of parsers, with commas between")
    parser.add_argument("--corpus", type=Path, help="folder in which inputs that reach new code are kept")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each parser at most; without it, time alone")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0 draws one")
    return parser.parse_args(arguments)


def _all(names: Sequence[str], wanted: argparse.Namespace, folder: Path) -> Iterator[tuple[Run, int]]:
    """Run all, some at once, and give each with its exit status when it has ended."""
    running: dict[int, Run] = {}
    waiting = list(names)
    while waiting or running:
        while waiting and len(running) < wanted.jobs:
            run = Run(TARGETS[waiting.pop(0)], folder / f"{len(waiting)}")
            run.folder.mkdir()
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                try:
                    _fuzz(run, wanted)
                finally:  # whatever ends it, nothing of the parent's is done a second time
                    os._exit(70)
            running[pid] = run
        pid, status = os.wait()
        yield running.pop(pid), status


def _fuzz(run: Run, wanted: argparse.Namespace) -> None:
    """Become the process of one target; does not return: libFuzzer ends it."""
    log = os.open(run.log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    corpus = wanted.corpus / run.target.name if wanted.corpus else run.folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(run.target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = (
        f"-max_total_time={wanted.seconds}", f"-runs={wanted.runs}",
        f"-rss_limit_mb={MEMORY_MB}", f"-malloc_limit_mb={MEMORY_MB // 2}",
        f"-timeout={INPUT_S}", f"-max_len={run.target.longest}", f"-artifact_prefix={run.folder}/found-",
        "-print_final_stats=1", *([f"-seed={wanted.seed}"] if wanted.seed else []),
    )  # fmt: skip

    def attempt(data: bytes) -> None:
        try:
            run.target(data)
        except BaseException:  # noqa: BLE001  whatever it is, it is what we look for
            traceback.print_exc()
            (run.folder / "found-exception").write_bytes(data)
            os._exit(77)

    atheris.Setup([run.target.name, *options, str(corpus)], attempt)
    atheris.Fuzz()


def _outcome(run: Run, status: int) -> str:
    log = run.log.read_text("utf-8", "replace")
    tries = next((line.split()[-1] for line in log.splitlines() if "stat::number_of_executed_units" in line), "?")
    if not status:
        return f"{run.target.name:24} {tries:>9} inputs, well"
    said = log[max(log.find("Traceback"), log.find("==")) :]
    found = [file.read_bytes() for file in sorted(run.folder.glob("found-*"))]
    shown = "\n".join(f"  bytes: {data!r}\n  base64: {base64.b64encode(data).decode()}" for data in found)
    return f"{run.target.name:24} FOUND\n{said[:4000]}\n{shown}"


if __name__ == "__main__":
    sys.exit(main())
