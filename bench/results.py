"""Made-up results as rows of the journal: half echoes, three a result, and half web answers with their five phases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import orjson

from monitor.segments import Row

HOUR_MS: Final = 3_600_000
LOST: Final = 0.0005  # of the echoes


def bodies(r: random.Random, check: int) -> tuple[int, str]:
    """Make up what a check said: its duration in microseconds and its packed body."""
    if check % 2:
        base = 2_000 + 37 * check
        echoes = [base + round(r.expovariate(1 / 400)) for _ in range(3)]
        back = [None if r.random() < LOST else e for e in echoes]
        came = sum(e is not None for e in back)
        values = {"sent_count": 3.0, "received_count": float(came), "duplicate_count": 0.0, "reply_ttl_count": 57.0}
        body = {"r": back, "v": values, "f": {"address": "192.0.2.1"}}
        return max(echoes) + 2_000_000 + r.randrange(300), orjson.dumps(body).decode()
    means = {"resolve": 900, "connect": 4_000 + check, "tls": 9_000, "processing": 30_000, "transfer": 2_000}
    phases = {name: max(20, round(r.gauss(mean, mean / 8))) for name, mean in means.items()}
    values = {"status_code": 200.0, "content_bytes": 18_233.0, "tls_not_after_timestamp_s": 1_830_000_000.0}
    facts = {"address": "192.0.2.1", "http_version": "1.1", "tls_version": "TLSv1.3"}
    return sum(phases.values()) + r.randrange(100, 400), orjson.dumps({"p": phases, "v": values, "f": facts}).decode()


def made_up(start_ms: int, checks: int, every_ms: int, seed: int) -> Iterator[Row]:
    """Give an hour's results in the order of time; slots lie evenly, starts up to 10 ms after them."""
    r = random.Random(seed)
    step = every_ms / checks
    for number in range(HOUR_MS // every_ms * checks):
        check = number % checks
        slot = start_ms + round(number * step)
        duration, body = bodies(r, check)
        yield check + 1, slot, slot + r.randrange(10), 0, duration, "", body
