"""Prometheus and blackbox_exporter, as Debian packs them."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.servers import LOOPBACK
from tests.system.servers import Server, ServerError, free_port, http_get, wait_until

_GLOBAL: Final = """
global:
  scrape_interval: {every}
  evaluation_interval: {every}
"""


class Prometheus(Server):
    """A Prometheus that scrapes what it is told to, with an empty store of its own.

    Its first scrape comes five seconds after the start: so long it gathers targets, whatever the interval.
    """

    name = "prometheus"

    def __init__(
        self,
        scrape: Mapping[str, str],
        *,
        rules: Mapping[str, str] | None = None,
        config: str | None = None,
        every: str = "1s",
        host: str = LOOPBACK,
        namespace: str | None = None,
    ) -> None:
        """Set up what to scrape and how often.

        Args:
            scrape: job name to `host:port` of its /metrics.
            rules: file name to text of rule files.
            config: the whole configuration instead; rule files lie beside it.
            every: interval of scraping and of rules, as Prometheus writes it.
            host: address to listen on.
            namespace: network namespace to stand in.
        """
        super().__init__(host=host, namespace=namespace)
        self._scrape = dict(scrape)
        self._rules = dict(rules or {})
        self._config = config
        self._every = every
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Evaluate an expression now: the vector's elements, each with `metric` and `value`.

        Raises:
            ServerError: Prometheus refuses the expression.
        """
        answer = self.get("/api/v1/query", query=promql)
        kind, result = answer["resultType"], answer["result"]
        return [{"metric": {}, "value": result}] if kind == "scalar" else list(result)

    def value(self, promql: str) -> float:
        """Evaluate an expression that has exactly one element, and return its number."""
        found = self.query(promql)
        if len(found) != 1:
            raise ServerError(f"{promql}: expected one element, got {found}")
        return float(found[0]["value"][1])

    def wait_for(self, promql: str, *, within_s: float = 10.0) -> list[dict[str, Any]]:
        """Wait until an expression has elements, and return them.

        Raises:
            TimeoutError: it stayed empty; names the expression.
        """
        why = f"{promql} gave nothing within {within_s:g} s"
        return wait_until(lambda: self.query(promql), within_s=within_s, every_s=0.1, why=why)

    def get(self, path: str, **parameters: str) -> Any:
        """Ask the HTTP interface and return `data`.

        Raises:
            ServerError: the answer is not a success.
        """
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        status, body = self.inside(lambda: http_get(self.host, self.port, path + query))
        answer = json.loads(body) if body.startswith("{") else {"error": body}
        if status != 200 or answer.get("status") != "success":
            raise ServerError(f"{path}{query}: status {status}: {answer.get('error')}")
        return answer["data"]

    def prepare(self) -> None:
        for name, text in self._rules.items():
            self.write(name, text)
        self.write("prometheus.yml", self._config if self._config is not None else self._own_config())

    def command(self) -> Sequence[str]:
        return [
            "prometheus",
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={self.host}:{self.port}",
            "--log.level=warn",
        ]

    def answers(self) -> bool:
        return http_get(self.host, self.port, "/-/ready")[0] == 200

    def _own_config(self) -> str:
        # JSON is YAML: nothing needs quoting by hand.
        jobs = [{"job_name": job, "static_configs": [{"targets": [t]}]} for job, t in self._scrape.items()]
        rest = {"rule_files": list(self._rules), "scrape_configs": jobs}
        lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rest.items()]
        return _GLOBAL.format(every=self._every) + "\n".join(lines) + "\n"


class BlackboxExporter(Server):
    """Debian's blackbox_exporter, the peer that our own `/probe` is compared with."""

    name = "blackbox"

    def __init__(self, modules: str, *, host: str = LOOPBACK, namespace: str | None = None) -> None:
        """Args: modules: text of its configuration, from the line `modules:` on."""
        super().__init__(host=host, namespace=namespace)
        self._modules = modules
        self.port = free_port()

    def probe(self, module: str, target: str, *, timeout_s: float = 10.0) -> str:
        """Have a target probed and return the metrics.

        Raises:
            ServerError: the answer is not a 200.
        """
        query = urllib.parse.urlencode({"module": module, "target": target})
        path = f"/probe?{query}"
        status, body = self.inside(lambda: http_get(self.host, self.port, path, timeout_s=timeout_s))
        if status != 200:
            raise ServerError(f"{path}: status {status}: {body}")
        return body

    def prepare(self) -> None:
        self.write("blackbox.yml", self._modules)

    def command(self) -> Sequence[str]:
        return [
            "prometheus-blackbox-exporter",
            f"--config.file={self.folder}/blackbox.yml",
            f"--web.listen-address={self.host}:{self.port}",
            "--log.level=warn",
        ]

    def answers(self) -> bool:
        return http_get(self.host, self.port, "/-/healthy")[0] == 200


def promtool(*words: str, text: str = "") -> str:
    """Run promtool, `text` on its standard input, and return what it said.

    Raises:
        ServerError: it is not content; with its words.
    """
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise ServerError(f"promtool {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr
