"""The daemon as a child process, started as a duty team would start it, and what it says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers import LOOPBACK
from tests.system.servers import Server, free_port, http_get, wait_until

PROGRAM = (sys.executable, "-m", "thongsuot")


class Daemon(Server):
    """`thongsuot run` on a configuration, with a state directory in its folder."""

    name = "thongsuot"

    def __init__(self, config: str, *, namespace: str | None = None) -> None:
        """Args: config: the text of the configuration, without `store` and `web`."""
        super().__init__(namespace=namespace)
        self._config = config
        self.port = free_port()

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "province.yaml"

    @property
    def state_dir(self) -> Path:
        """Where the journal is."""
        return self.folder / "state"

    def prepare(self) -> None:
        self.write("province.yaml", self._config)

    def command(self) -> Sequence[str]:
        listen = f"{LOOPBACK}:{self.port}"
        return [*PROGRAM, "run", str(self.config), "--state-dir", str(self.state_dir), "--listen", listen]

    def answers(self) -> bool:
        return http_get(LOOPBACK, self.port, "/healthz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Fetch one of its pages, from inside its namespace."""
        return self.inside(lambda: http_get(LOOPBACK, self.port, path))

    def status(self) -> dict[str, Any]:
        """Return `/api/v1/status`."""
        found: dict[str, Any] = json.loads(self.get("/api/v1/status")[1])
        return found

    def states(self) -> dict[str, str]:
        """Return the state of every service, and of every check as `service.check`."""
        status = self.status()
        found = {s["id"]: s["state"] for s in status["services"]}
        found |= {
            f"{s['id']}.{c['id'].rpartition('.')[2]}": c["state"] for s in status["services"] for c in s["checks"]
        }
        return found

    def wait_for(self, subject: str, state: str, *, within_s: float) -> None:
        """Wait until a service or check has a state.

        Raises:
            TimeoutError: with all states and the log.
        """
        try:
            wait_until(lambda: self.states().get(subject) == state, within_s=within_s, every_s=0.1)
        except TimeoutError:
            message = f"{subject} is not {state} within {within_s:g} s: {self.states()}\n{self.logs()}"
            raise TimeoutError(message) from None

    def wait_ready(self, within_s: float = 15.0) -> None:
        """Wait until every check has a verdict or a stated reason."""
        try:
            wait_until(lambda: self.get("/readyz")[0] == 200, within_s=within_s, every_s=0.1)
        except TimeoutError:
            raise TimeoutError(f"not ready within {within_s:g} s: {self.get('/readyz')[1]}\n{self.logs()}") from None

    def figures(self, start: str, end: str) -> dict[str, Any]:
        """Return the figures that `thongsuot report` writes for a period."""
        out = self.folder / "report"
        words = ["report", str(self.config), "--state-dir", str(self.state_dir), "--from", start, "--to", end]
        done = subprocess.run(
            [*PROGRAM, *words, "--out", str(out), "--format", "json"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads((out / "figures.json").read_text("utf-8"))
        return found
