"""A machine with a real systemd, in namespaces of its own: what a unit file says is proved by what obeys it.

Its files are an overlay of this machine's, its network has loopback alone, its processes and control groups are apart,
and none of the services of this machine starts in it. Needs root and Debian's systemd.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from tests.system.servers import end_tree, wait_until

BOOT: Final = Path(__file__).with_name("machine.sh")
# --kill-child: when the outer process dies, so does the first one inside, and with it everything in there.
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--kill-child")
BOOT_LIMIT_S: Final = 30.0  # chosen: two seconds on an idle machine


class MachineError(Exception):
    """The machine did not come up, or a command in it failed; the message holds what was said."""


class Machine:
    """Use as a context manager; `run` commands in it as root."""

    def __init__(self, *shared: Path) -> None:
        """Args: shared: folders of the outer machine that stand in it at the same place, writable."""
        self._shared = shared
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0  # process id of the systemd, as seen from outside

    def __enter__(self) -> Machine:
        self._folder = Path(tempfile.mkdtemp(prefix="thongsuot-machine-"))
        (self._folder / "layers").mkdir()
        try:
            self._boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._process is not None:
                end_tree(self._process, [signal.SIGKILL], each_s=10)
            # Processes that have just ended hold their groups for a moment: asked again while it says busy.
            wait_until(lambda: remove_group(f"thongsuot-machine-{self._folder.name}"), within_s=5)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _boot(self) -> None:
        with (self._folder / "console.log").open("wb") as console:
            self._process = subprocess.Popen(
                [*NAMESPACES, str(BOOT), str(self._layers), *map(str, self._shared)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._is_up, within_s=BOOT_LIMIT_S, every_s=0.05)
        except TimeoutError:
            raise MachineError(f"systemd did not come up:\n{self.console()}") from None

    @property
    def _layers(self) -> Path:
        # The name makes the name of the control group.
        folder = self._folder / "layers" / self._folder.name
        folder.mkdir(exist_ok=True)
        return folder

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise MachineError(f"the machine ended by itself:\n{self.console()}")
        children = psutil.Process(self._process.pid).children()
        if not children or children[0].name() != "systemd":
            return False
        self._first = children[0].pid
        return self.ask("systemctl", "is-active", "machine.target").returncode == 0

    def console(self) -> str:
        """Return what systemd said on its console."""
        return (self._folder / "console.log").read_text(errors="replace")

    def ask(self, *argv: str, cwd: str = "/", timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, whatever its end."""
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", f"--wdns={cwd}")
        return subprocess.run(
            ["nsenter", f"--target={self._first}", *spaces, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/",
                "LANG": "C.UTF-8",
            },
        )

    def run(self, *argv: str, cwd: str = "/", timeout_s: float = 30) -> str:
        """Run a command inside as root and return what it printed.

        Raises:
            MachineError: it ended with another status than 0.
        """
        done = self.ask(*argv, cwd=cwd, timeout_s=timeout_s)
        if done.returncode:
            raise MachineError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def write(self, file: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file inside, keeping the owner of one that is there."""
        inside = Path(f"/proc/{self._first}/root") / file.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text, encoding="utf-8")
        inside.chmod(mode)

    def read(self, file: str) -> str:
        """Read a file inside."""
        return (Path(f"/proc/{self._first}/root") / file.lstrip("/")).read_text("utf-8")

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def log(self, unit: str) -> str:
        """Return what a unit has logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


def remove_group(name: str) -> bool:
    """Remove a branch of the tree of control groups, with all below it; OSError while processes are in it."""
    for mount in _group_mounts():
        top = mount / name
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted((f for f in top.rglob("*") if f.is_dir()), reverse=True):
                folder.rmdir()
            top.rmdir()
    return True


def _group_mounts() -> Iterator[Path]:
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            yield Path(place)
