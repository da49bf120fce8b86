"""The judge of congestion over a long past, in processes of its own: a core each, beside the one that reads the files.

Each gets the checks that it judges on its standard input, hour by hour as they are read, and answers with JSON. A path
is judged by itself beside its near references, which each process judges anew, so that nothing depends on how many
there are: the same packets give the same figures as `monitor.congestion_past.Judging` in one process, to the bit.
"""

from __future__ import annotations

import gc
import math
import os
import struct
import subprocess
import sys
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from monitor.congestion_past import Judged, Judging, Span
from monitor.congestion_record import Timed
from monitor.judge.episode import Cause, Episode, Severity
from monitor.judge.limit import Limit

PROCESSES: Final = 2
WORTH_HOURS: Final = 4_000  # of paths: about a second and a half of judging, several times what a process costs
_HEAD: Final = struct.Struct("<I")  # bytes of the JSON that says what follows


def processes_for(checks: int, period: Span) -> int:
    """Return how many processes are worth their cost; 0: judge in the one that asks."""
    hours = checks * (period.end - period.start).total_seconds() / 3600
    return min(PROCESSES, os.cpu_count() or 1, checks) if hours >= WORTH_HOURS else 0


class Judges:
    """Several processes that judge."""

    def __init__(self, near: Mapping[str, Sequence[str]], period: Span, count: int) -> None:
        """Start them. Args: near: the checks, each with its near references. period: whose end is the record's."""
        names = sorted(near)
        self._order = list(near)
        self._shares = [{name: near[name] for name in names[i::count]} for i in range(count)]
        self._wanted = [sorted({*share, *(r for rs in share.values() for r in rs)}) for share in self._shares]
        self._children = [_start() for _ in range(count)]
        for child, share in zip(self._children, self._shares, strict=True):
            _put(child, {"near": share, "start": period.start.isoformat(), "end": period.end.isoformat()})

    def __enter__(self) -> Judges:
        """Hear and finish within."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them, whether they were finished or not."""
        for child in self._children:
            with suppress(OSError):
                _pipe(child.stdin).close()
            if error is not None:
                child.kill()
            child.wait()
            _pipe(child.stdout).close()

    def hear(self, packets: Mapping[str, Timed]) -> None:
        """Hand on an hour's packets by check.

        Raises:
            ChildProcessError: one of them has ended.
        """
        last = max((timed.at[-1] for timed in packets.values() if len(timed.at)), default=None)
        if last is None:
            return
        for child, wanted in zip(self._children, self._wanted, strict=True):
            mine = {name: packets[name] for name in wanted if name in packets}
            _put(child, {"last": last, "counts": {name: len(t.at) for name, t in mine.items()}}, mine.values())

    def finish(self) -> Mapping[str, Judged]:
        """Wait for what they found, by check.

        Raises:
            ChildProcessError: one of them ended without an answer.
        """
        found: dict[str, Judged] = {}
        for child in self._children:
            with suppress(BrokenPipeError):  # it has ended; what it ended with tells more
                _pipe(child.stdin).close()
        for child in self._children:
            answer = _pipe(child.stdout).read()
            if child.wait() != 0:
                raise ChildProcessError(f"the process that judges congestion ended with {child.returncode}")
            found |= {name: _judged(said) for name, said in orjson.loads(answer).items()}
        return {name: found[name] for name in self._order}


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", __name__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  ourselves


def _pipe(stream: Any) -> BinaryIO:
    pipe: BinaryIO = stream
    return pipe


def _put(child: subprocess.Popen[bytes], head: Mapping[str, Any], packets: Any = ()) -> None:
    said = orjson.dumps(head)
    try:
        stream = _pipe(child.stdin)
        stream.write(_HEAD.pack(len(said)) + said)
        for timed in packets:
            stream.write(memoryview(timed.at).cast("B"))
            stream.write(memoryview(timed.rtt_s).cast("B"))
    except BrokenPipeError as exc:
        raise ChildProcessError(f"the process that judges congestion ended with {child.poll()}") from exc


def _judged(said: Mapping[str, Any]) -> Judged:
    return Judged(
        array("d", said["bins"]),
        [replace(Episode(**e), cause=Cause(e["cause"]), severity=Severity(e["severity"])) for e in said["episodes"]],
        Limit(**said["limit"]) if said["limit"] else None,
        math.nan if said["floor_s"] is None else said["floor_s"],
        said["threshold_s"],
    )


# In the process of its own.


class _Period(NamedTuple):
    start: datetime
    end: datetime


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    found: dict[str, Any] = orjson.loads(stream.read(_HEAD.unpack(head)[0]))
    return found


def _doubles(stream: BinaryIO, count: int) -> array[float]:
    values = array("d")
    values.frombytes(stream.read(8 * count))
    return values


def main() -> int:
    """Judge what comes on standard input, and answer on standard output."""
    gc.disable()  # bounded and short: no cycles to speak of
    stream = sys.stdin.buffer
    task = _read(stream)
    if task is None:
        return 1
    period = _Period(datetime.fromisoformat(task["start"]), datetime.fromisoformat(task["end"]))
    judging = Judging(task["near"], period)
    while (hour := _read(stream)) is not None:
        packets = {n: Timed(_doubles(stream, count), _doubles(stream, count)) for n, count in hour["counts"].items()}
        judging.hear_until(packets, hour["last"])
    found = {name: {**asdict(j), "bins": list(j.bins)} for name, j in judging.finish().items()}
    sys.stdout.buffer.write(orjson.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
