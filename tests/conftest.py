"""Fixtures for every test: a blocking call inside the event loop fails the test that made it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["thongsuot", "config", "probes", "monitor", "exporters"]) as blocker:
        yield blocker
