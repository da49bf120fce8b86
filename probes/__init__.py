"""The probes: one module a protocol, found by file name. There is no list to edit.

Every module beside this file that exports a `PROBE` is a probe, and its `kind` is its file name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from probes.base import ProbeType


def _discover() -> Mapping[str, ProbeType]:
    found: dict[str, ProbeType] = {}
    for module in pkgutil.iter_modules(__path__):
        probe = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PROBE", None)
        if probe is None:
            continue
        if probe.kind != module.name:
            raise ImportError(f"probes/{module.name}.py declares kind {probe.kind!r}; it must be its file name")
        found[probe.kind] = probe
    return MappingProxyType(found)


PROBES: Mapping[str, ProbeType] = _discover()
