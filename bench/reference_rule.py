"""The rule the judge of congestion has to beat: minima of 15 minutes, 7 ms above the floor, in bins of five minutes.

Bins of a minimum; floor = 10th percentile of the hourly minima of 48 hours; threshold = the larger of 7 ms and six
times the noise (1.4826 MAD of 72 quiet bins); an episode begins after three bins above and ends after three below.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator, Sequence

from bench.labels import Found
from monitor.judge.limit import Packet

BIN_S = 300.0
WINDOW = 3


def minima(packets: Sequence[Packet]) -> Iterator[tuple[float, float]]:
    start, least, answers = -1.0, 0.0, 0
    for packet in packets:
        if packet.rtt_s is None:
            continue
        here = packet.at // BIN_S * BIN_S
        if here != start:
            if answers >= 5:
                yield start, least
            start, least, answers = here, packet.rtt_s, 0
        least = min(least, packet.rtt_s)
        answers += 1
    if answers >= 5:
        yield start, least


def episodes(packets: Sequence[Packet]) -> list[Found]:
    hours: deque[float] = deque(maxlen=48)
    quiet: deque[float] = deque(maxlen=72)
    window: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
    found: list[Found] = []
    began: tuple[float, float] | None = None
    hour, hour_least = -1.0, 0.0
    last = 0.0
    for start, least in minima(packets):
        last = start + BIN_S
        if start // 3600 != hour:
            if hour >= 0:
                hours.append(hour_least)
            hour, hour_least = start // 3600, least
        hour_least = min(hour_least, least)
        if len(hours) < 6:
            continue
        ordered = sorted([*hours, hour_least])
        queue = least - ordered[int(0.1 * (len(ordered) - 1))]
        threshold = max(0.007, 6 * _noise(quiet))
        if queue <= threshold:
            quiet.append(queue)
        window.append((start, queue > threshold))
        if len(window) < WINDOW:
            continue
        if began is None and all(above for _, above in window):
            began = (window[0][0], last)
        elif began is not None and not any(above for _, above in window):
            found.append(Found(began[0], window[0][0], began[1]))
            began = None
    if began is not None:
        found.append(Found(began[0], last, began[1]))
    return found


def _noise(quiet: Sequence[float]) -> float:
    if not quiet:
        return 0.00025
    middle = statistics.median(quiet)
    return max(0.00025, 1.4826 * statistics.median(abs(q - middle) for q in quiet))
