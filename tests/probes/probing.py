"""Runs one probe as the daemon does, settings given as they stand in a configuration."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from probes.base import Path as Uplink
from probes.base import ProbeType, Reading, Tools, measure


async def run_probe(
    kind: ProbeType,
    *,
    timeout_s: float = 3.0,
    path: Uplink | None = None,
    tools: Tools | None = None,
    **settings: object,
) -> Reading:
    """Measure once; without `tools`, with fresh ones that are closed afterwards."""
    checked = kind.settings.model_validate_json(json.dumps(settings))
    own = tools or Tools()
    try:
        return await measure(kind, checked, timeout_s=timeout_s, path=path, tools=own)
    finally:
        if tools is None:
            own.close()


async def cancelled_after(kind: ProbeType, wait_s: float, **settings: object) -> None:
    """Start a probe, cancel it after a while, and make sure that it did end by that."""
    task = asyncio.create_task(run_probe(kind, **settings))  # type: ignore[arg-type]  # the settings of any probe
    await asyncio.sleep(wait_s)
    assert not task.done()
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)


def open_sockets() -> int:
    """Return how many sockets this process holds open."""
    return sum(_is_socket(entry) for entry in Path("/proc/self/fd").iterdir())


def _is_socket(entry: Path) -> bool:
    try:
        return entry.is_socket()
    except OSError:  # the listing's own descriptor
        return False
