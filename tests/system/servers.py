"""What every real server of the system tests is built on.

Each runs in the foreground in a temporary folder on ports of its own, and is ended with all its children when the
block ends. Nothing under /etc or /var is touched and no system service is started. The servers that give up root
need root to begin with.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, TypeVar

import psutil

from tests.servers import LOOPBACK
from tests.system.namespaces import call_in

S = TypeVar("S", bound="Server")
T = TypeVar("T")

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"

# Below the kernel's range for outgoing connections: a port stays ours while its server is down for a moment.
_ports: Final = itertools.cycle(random.sample(range(20000, 32000), 12000))
_running: Final[list[Server]] = []


class ServerError(Exception):
    """A server did not start or did not answer; the message holds the end of its logs."""


def free_port(host: str = LOOPBACK) -> int:
    """Return a port on which nothing listens, never the same twice in a run."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _ports:
        with socket.socket(family) as trial, contextlib.suppress(OSError):
            trial.bind((host, port))
            return port
    raise AssertionError("unreachable: the cycle has no end")


def wait_until(what: Callable[[], T], *, within_s: float, every_s: float = 0.02, why: str = "") -> T:
    """Ask until the answer is true, and return it; a refused or broken connection is a no.

    Raises:
        TimeoutError: it never was within the time; the message is `why`.
    """
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, EOFError):
            if answer := what():
                return answer
        if time.monotonic() > deadline:
            raise TimeoutError(why or f"nothing came within {within_s:g} s")
        time.sleep(every_s)


def running_servers() -> tuple[Server, ...]:
    """Return the servers that are up now, for the report of a failed test."""
    return tuple(_running)


class Server:
    """One server program; use as a context manager.

    A subclass writes its files in `prepare`, names its words in `command` and says in `answers` when it is ready.
    """

    name: ClassVar[str]
    start_limit_s: ClassVar[float] = 15.0  # chosen: the slowest start seen on a busy machine took three
    stop_limit_s: ClassVar[float] = 3.0  # after SIGTERM; then SIGKILL

    def __init__(self, *, host: str = LOOPBACK, namespace: str | None = None) -> None:
        """Args: host: address to listen on. namespace: network namespace to stand in; None is the host's own."""
        self.host = host
        self.namespace = namespace
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write the files that the program reads; called once, before the first start."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """Return the program and its arguments, for the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Say whether the server works; called inside its namespace, OSError is a no."""
        raise NotImplementedError

    def __enter__(self: S) -> S:
        self.folder = Path(tempfile.mkdtemp(prefix=f"thongsuot-{self.name}-"))
        self.folder.chmod(0o755)  # servers that gave up root must reach what is theirs
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the program; only while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the program and wait until it answers; also again after `stop` or `kill`, on the same ports.

        Raises:
            ServerError: it ended by itself or did not answer in time; with its logs.
        """
        assert self._process is None, f"{self.name} runs already"
        prefix = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"},
                start_new_session=True,
            )
        _running.append(self)
        try:
            self.inside(self._wait_until_it_answers)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the program and its children: SIGTERM, then SIGKILL for what is left. Nothing happens when it is down."""
        self._end([signal.SIGTERM, signal.SIGKILL])

    def kill(self) -> None:
        """End the program and its children with SIGKILL, as a power cut would."""
        self._end([signal.SIGKILL])

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function inside this server's namespace."""
        return call_in(self.namespace, function) if self.namespace else function()

    def logs(self, lines: int = 40) -> str:
        """Return the last lines of every log in the folder, each file under its name."""
        parts = []
        for file in sorted(self.folder.glob("*.log")):
            last = file.read_text(errors="replace").splitlines()[-lines:]
            parts += [f"{file.name}:", *(f"  {line}" for line in last)]
        return "\n".join(parts)

    def write(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Write a file into the folder and return its path."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def _wait_until_it_answers(self) -> None:
        process = self._process
        assert process is not None

        def ready() -> bool:
            if process.poll() is not None:
                raise ServerError(f"{self.name} ended by itself with status {process.returncode}\n{self.logs()}")
            return self.answers()

        try:
            wait_until(ready, within_s=self.start_limit_s)
        except TimeoutError:
            raise ServerError(f"{self.name} gave no answer within {self.start_limit_s:g} s\n{self.logs()}") from None

    def _end(self, signals: Sequence[signal.Signals]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _running.remove(self)
        end_tree(process, signals, each_s=self.stop_limit_s)


def end_tree(process: subprocess.Popen[bytes], signals: Sequence[signal.Signals], *, each_s: float) -> None:
    """End a process started in a session of its own, with all that descends from it, by one signal after another.

    SIGTERM goes to the leaders of process groups alone, for a master knows best how to end its workers; SIGKILL
    goes to whole groups, because a master forks while we look. A group of a child's own is found by its descent.
    """
    tree = _with_descendants(process.pid)
    for number in signals:
        for member in filter(_alive, tree):
            with contextlib.suppress(ProcessLookupError):
                group = os.getpgid(member.pid)
                if number == signal.SIGKILL:
                    os.killpg(group, number)
                elif group == member.pid:
                    os.kill(group, number)
        deadline = time.monotonic() + each_s
        while any(_alive(p) for p in tree) and time.monotonic() < deadline:
            process.poll()  # takes the zombie away
            time.sleep(0.01)
    process.wait(timeout=each_s)
    left = [p.pid for p in tree if _alive(p)]
    assert not left, f"processes {left} outlived SIGKILL"


def _with_descendants(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def http_get(host: str, port: int, path: str, *, timeout_s: float = 2.0) -> tuple[int, str]:
    """Fetch a page over plain HTTP/1.0: status and body. Small, so that it works before anything else does."""
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    return (int(words[1]) if len(words) > 1 else 0), body.decode(errors="replace")


@contextlib.contextmanager
def child_process(
    argv: Sequence[str],
    *,
    log: Path,
    namespace: str | None = None,
    env: Mapping[str, str] | None = None,
    end_s: float = 5.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run any program, the daemon for one, in the background and end it with its children.

    Args:
        argv: program and arguments.
        log: file that its output is added to.
        namespace: network namespace to stand in.
        env: variables beside those of the tests.
        end_s: seconds from SIGTERM to SIGKILL.
    """
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*prefix, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            end_tree(process, [signal.SIGTERM, signal.SIGKILL], each_s=end_s)
