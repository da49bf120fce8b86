"""`/probe`: one probe on demand, by blackbox_exporter's contract, so that a Prometheus needs nothing but a new address.

What may be reached is limited: to the hosts of configured checks and to what the configuration allows. How many
probes run at once is limited too. Source: blackbox_exporter 0.28, its handler's order of checks, codes and texts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus

from aiohttp import web

from config.blackbox import AllowList, Blackbox, Job
from exporters.blackbox_metrics import page, samples
from exporters.metrics import CONTENT_TYPE
from probes.base import Reading, Tools, measure, one_line, utc_now

DEFAULT_MODULE: Final = "http_2xx"
DEFAULT_TIMEOUT_S: Final = 120.0  # without a word of Prometheus
LONGEST_S: Final = 3600.0  # of whatever a header asks for
AT_ONCE: Final = 100  # probes under way together; more are turned away, and Prometheus shows it
TARGET_LIMIT: Final = 4096  # characters
_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN: Final = "text/plain; charset=utf-8"


class _TurnedAway(Exception):  # noqa: N818  no error of ours: an answer
    """A request that is not probed for; the message is the answer's text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Probing:
    """Answers `/probe` and `/config`. Lives as long as one configuration."""

    blackbox: Blackbox
    allowed: AllowList
    tools: Tools
    loaded_at: float = field(default_factory=lambda: utc_now().timestamp())
    unknown_modules: int = 0
    under_way: int = 0

    @classmethod
    def of(cls, blackbox: Blackbox, hosts: Iterable[str], tools: Tools) -> Probing:
        """Build one that allows `hosts`, those of configured checks, besides what is configured."""
        return cls(blackbox, AllowList(blackbox.allow, hosts), tools)

    async def probe(self, request: web.Request) -> web.Response:
        """Answer `/probe?target=&module=&hostname=&debug=true`."""
        try:
            name, job, timeout_s = self._order(request)
        except _TurnedAway as exc:
            return web.Response(status=exc.status, text=f"{exc}\n", headers={"Content-Type": _PLAIN})
        self.under_way += 1
        try:
            reading = await measure(job.probe, job.settings, timeout_s=timeout_s, path=job.path, tools=self.tools)
        finally:
            self.under_way -= 1
        text = page(samples(job.prober, reading, timeout_s))
        if request.query.get("debug") == "true":
            return web.Response(text=self._debug(name, job.log(), reading, text), headers={"Content-Type": _PLAIN})
        return web.Response(body=text.encode("utf-8"), headers={"Content-Type": CONTENT_TYPE})

    def _order(self, request: web.Request) -> tuple[str, Job, float]:
        """Return what is asked for, after the checks of the original in its order, and then our own.

        Raises:
            _TurnedAway: with the status and the text to answer.
        """
        name = request.query.get("module") or DEFAULT_MODULE
        module = self.blackbox.modules.get(name)
        if module is None:
            self.unknown_modules += 1
            raise _TurnedAway(400, f"Unknown module {_quoted(name)}")
        try:
            timeout_s = timeout_of(request.headers.get(_HEADER, ""), module.timeout, self.blackbox.timeout_offset_s)
        except ValueError as exc:
            raise _TurnedAway(500, f"Failed to parse timeout from Prometheus header: {exc}") from exc
        target = decoded(request.query.get("target", ""))
        if not target:
            raise _TurnedAway(400, "Target parameter is missing")
        try:
            job = self.blackbox.job(name, target, request.query.get("hostname", ""), self.allowed)
        except ValueError as exc:
            raise _TurnedAway(400, str(exc)) from exc
        self._look_at(name, target)
        return name, job, timeout_s

    def _look_at(self, name: str, target: str) -> None:
        if why := self.blackbox.refusal(name):
            raise _TurnedAway(501, f"Module {_quoted(name)} asks for what this program does not do: {why}")
        host = self.blackbox.host(name, target)
        if len(target) > TARGET_LIMIT or not target.isprintable() or not self.allowed(host):
            shown = _quoted(one_line(host, 100))
            words = "neither the host of a configured check nor in blackbox.allow"
            raise _TurnedAway(403, f"Target {shown} is not allowed: {words}")
        if self.under_way >= AT_ONCE:
            raise _TurnedAway(503, f"{AT_ONCE} probes are under way already")

    def _debug(self, name: str, log: str, reading: Reading, metrics: str) -> str:
        outcome = "Probe succeeded" if reading.fault is None else f"Probe failed: {reading.fault}: {reading.detail}"
        figures = "".join(line + "\n" for line in metrics.splitlines() if not line.startswith("#"))
        return (
            f"Logs for the probe:\n{log}{outcome} after {reading.duration_s:.6f} s\n\n\n\n"
            f"Metrics that would have been returned:\n{figures}\n\n\n"
            f"Module configuration:\n{self.blackbox.shown(name)}"
        )

    async def config(self, _: web.Request) -> web.Response:
        """Answer `/config`: every module, secrets hidden."""
        return web.Response(text=self.blackbox.shown(), headers={"Content-Type": _PLAIN})

    def metrics(self, *, reloaded_well: bool = True) -> bytes:
        """Return what the original says of itself, for `/metrics`."""
        return (
            "# HELP blackbox_exporter_config_last_reload_successful Blackbox exporter config loaded successfully.\n"
            "# TYPE blackbox_exporter_config_last_reload_successful gauge\n"
            f"blackbox_exporter_config_last_reload_successful {int(reloaded_well)}\n"
            "# HELP blackbox_exporter_config_last_reload_success_timestamp_seconds "
            "Timestamp of the last successful configuration reload.\n"
            "# TYPE blackbox_exporter_config_last_reload_success_timestamp_seconds gauge\n"
            f"blackbox_exporter_config_last_reload_success_timestamp_seconds {self.loaded_at!r}\n"
            "# HELP blackbox_module_unknown_total Count of unknown modules requested by probes\n"
            "# TYPE blackbox_module_unknown_total counter\n"
            f"blackbox_module_unknown_total {self.unknown_modules}\n"
        ).encode()


def timeout_of(header: str, module_s: float, offset_s: float) -> float:
    """Return how long a probe may take: what Prometheus waits less the offset, and no longer than the module says.

    Raises:
        ValueError: the header is no number; in the original's words.
    """
    asked_s = DEFAULT_TIMEOUT_S
    if header:
        try:
            asked_s = float(header.strip()) or DEFAULT_TIMEOUT_S
        except ValueError as exc:
            shown = _quoted(one_line(header, 40))
            raise ValueError(f"strconv.ParseFloat: parsing {shown}: invalid syntax") from exc
        if not math.isfinite(asked_s):
            raise ValueError(f"expected a finite number, got {asked_s}")
    most_s = min(asked_s, LONGEST_S) - offset_s
    return module_s if 0 < module_s < most_s or most_s < 0 else most_s


def decoded(target: str) -> str:
    """Decode a target a second time, as the original does, unless an escape in it is none."""
    return target if _BAD_ESCAPE.search(target) else unquote_plus(target)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
