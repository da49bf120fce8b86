"""A long past of the demo's shape, as a state directory: 500 checks every 30 s, sealed, chained and signed.

Files are written straight from columns, not through a journal; what is in them is what the sealer would have written:
results, the ledger of slots, the daemon's life, changes and incidents.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from bench.results import HOUR_MS, made_up
from monitor.chain import GENESIS, append, evidence_folder, make_line, signing_key
from monitor.rows import from_ms, to_ms
from monitor.segments import Record, ResultColumns, write

SITE: Final = "bench"
CHECKS: Final = 500
EVERY_S: Final = 30
SHAPES: Final = 4  # different hours that a long past is made of
START: Final = datetime(2027, 1, 16, 17, tzinfo=UTC)  # 00:00 in Việt Nam
KINDS: Final = ("carrier", "portal", "mail", "office", "data-centre")  # of the services in turn; the first are networks
PER_SERVICE: Final = 5
REFERENCES: Final = {499: "references.vnix", 500: "references.gateway"}  # check number -> name; odd ones answer echoes


@dataclass(frozen=True, slots=True)
class Past:
    """What was written."""

    state_dir: Path
    config: Path
    start: datetime
    end: datetime
    results: int
    size: int  # bytes of the files

    @property
    def per_result(self) -> float:
        """Bytes of the disk a result takes, with all that is sealed beside it."""
        return self.size / self.results


def check_names() -> Mapping[int, str]:
    """Return the names of the checks by number."""
    names = {n: f"s{(n - 1) // PER_SERVICE}.c{(n - 1) % PER_SERVICE}" for n in range(1, CHECKS + 1)}
    return names | REFERENCES


def _is_echo(number: int) -> bool:
    return number % 2 == 0  # as bench.results makes them up


def configuration(hours: int) -> str:
    """Write the configuration that such a past belongs to: 100 services, two references, one event with a peak."""
    lines = [
        "site: {id: bench, name: Sở Thông tin và Truyền thông, timezone: Asia/Ho_Chi_Minh}",
        "references:",
        "  vnix: {probe: dns, label: Máy chủ tên miền, server: 192.0.2.8, name: vn, type: NS, every: 30s}",
        "  gateway: {probe: icmp, name: Bộ định tuyến, host: 192.0.2.1, every: 30s, role: near}",
        "services:",
    ]
    names = check_names()
    for number in range(1, CHECKS + 1):
        service, _, check = names[number].partition(".")
        if service == "references":
            continue
        if check == "c0":
            index = int(service[1:])
            lines += [
                f"  {service}:",
                f"    name: Dịch vụ số {index}",
                f"    kind: {KINDS[index % len(KINDS)]}",
                "    checks:",
            ]
        probe = "probe: icmp, count: 3, host" if _is_echo(number) else "probe: http, url"
        target = f"192.0.2.{number % 250 + 1}" if _is_echo(number) else f'"https://www{number}.example.vn/"'
        lines.append(f"      {check}: {{{probe}: {target}, every: 30s}}")
    end = START + timedelta(hours=hours)
    peak = START + timedelta(hours=hours / 2)
    local = [f"{m + timedelta(hours=7):%Y-%m-%d %H:%M}" for m in (START, end, peak)]
    lines += [
        "events:",
        f'  tet: {{name: Tết Nguyên đán, from: "{local[0]}", to: "{local[1]}", '
        f'peaks: {{giao-thua: {{at: "{local[2]}", before: 1h, after: 1h}}}}}}',
        "",
    ]
    return "\n".join(lines)


class _Shapes:
    """Hours of results that are moved to where they belong."""

    def __init__(self) -> None:
        names = {number: (name, "") for number, name in check_names().items()}
        self._shapes: list[tuple[ResultColumns, pa.Table]] = []
        for seed in range(SHAPES):
            columns = ResultColumns(names)
            columns.add(list(made_up(0, CHECKS, EVERY_S * 1000, seed)))
            self._shapes.append((columns, columns.chunks[0]))

    def at(self, hour: int) -> ResultColumns:
        """Return the results of an hour, counted from the start of the past."""
        columns, whole = self._shapes[hour % SHAPES]
        for name in ("time", "slot"):
            place = whole.schema.get_field_index(name)
            shift = pa.scalar(to_ms(START) + hour * HOUR_MS)
            whole = whole.set_column(place, name, pc.add(whole.column(name), shift))
        columns.chunks, columns.rows = [whole], len(whole)
        return columns


def _records(hour: int, hours: int) -> Iterator[Record]:
    """Give what else the sealer would have put into an hour's file."""
    start = to_ms(START) + hour * HOUR_MS
    end = start + HOUR_MS
    if hour in {0, hours - 1}:
        row = {"id": 1, "site": SITE, "started_ms": to_ms(START), "alive_ms": end, "stopped_ms": None}
        row |= {"config_digest": "0" * 64, "version": "bench", "state": ""}
        yield Record("run", "bench", to_ms(START), None, "", "", 1, row)
    names = check_names()
    for number, (subject, state, at_ms) in enumerate(_changes(hour, start), 1000 * hour):
        row = {"id": number, "site": SITE, "subject": subject, "state": state, "at_ms": at_ms, "confirmed_ms": at_ms}
        row |= {"earliest_ms": at_ms, "fault": "timeout" if state == "down" else "", "detail": "", "flapping": 0}
        yield Record("change", subject, at_ms, None, state, "", number, row)
    for name in sorted(names.values()):
        row = {"site": SITE, "check_name": name, "hour_ms": start, "done": HOUR_MS // EVERY_S // 1000}
        yield Record("slots", name, start, end, "", "", 0, {**row, "late": 0, "skipped": 0, "lost": 0})


def _changes(hour: int, start: int) -> Iterator[tuple[str, str, int]]:
    """Everything comes up in the first hour; then a check fails for ten minutes twice a day."""
    names = [n for n in check_names().values() if not n.startswith("references")]
    if hour == 0:
        for subject in sorted({n.partition(".")[0] for n in names} | set(check_names().values())):
            yield subject, "up", start
    if hour % 12 == 5:
        failing = names[hour * 7 % len(names)]
        yield failing, "down", start + 600_000
        yield failing, "up", start + 1_200_000


_shapes: list[_Shapes] = []  # of this process, made when the first hour is asked for


def _write_hour(folder: str, hour: int, hours: int) -> dict[str, Any]:
    if not _shapes:
        _shapes.append(_Shapes())
        pa.set_cpu_count(1)
    results = _shapes[0].at(hour)
    count, ends = results.rows, results.first_last_ms()
    assert ends is not None
    start = START + timedelta(hours=hour)
    day = Path(folder) / f"{start:%Y/%m/%d}"
    day.mkdir(parents=True, exist_ok=True)
    part = day / f".{start:%H}.part"
    rows = write(part, results, list(_records(hour, hours)), {"site": SITE})
    data = part.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    file = part.replace(day / f"{start:%H}-{digest[:12]}.parquet")
    until = to_ms(START) + (hour + 1) * HOUR_MS
    return {
        "file": str(file.relative_to(folder)),
        "sha256": digest,
        "rows": rows,
        "results": count,
        "late": 0,
        "first": _iso(ends[0]),
        "last": _iso(ends[1]),
        "hour": _iso(until - HOUR_MS),
        "sealed": _iso(until + 120_000),
        "simulated": True,
        "bytes": len(data),
        "journal": "bench",
        "until_ms": until,
        "through": {"results": (hour + 1) * count},
    }


def write_past(state_dir: Path, rows: int) -> Past:
    """Write hours until there are so many results, on two cores."""
    hours = max(1, round(rows / (CHECKS * HOUR_MS / 1000 / EVERY_S)))
    folder = evidence_folder(state_dir, SITE)
    folder.mkdir(parents=True)
    key, previous, lines = signing_key(state_dir, SITE), GENESIS, []
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(_write_hour, [str(folder)] * hours, range(hours), [hours] * hours, chunksize=8)
        for number, fields in enumerate(found, 1):
            line = make_line({"number": number, "kind": "segment", "site": SITE, **fields}, previous, key)
            previous = line.digest
            lines.append(line)
    append(folder, "\n".join(line.text for line in lines))
    config = state_dir / "config.yaml"
    config.write_text(configuration(hours), "utf-8")
    end = START + timedelta(hours=hours)
    return Past(state_dir, config, START, end, _sum(lines, "results"), _sum(lines, "bytes"))


def _sum(lines: Sequence[Any], name: str) -> int:
    return sum(line.fields[name] for line in lines)


def _iso(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
