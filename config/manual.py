"""The manual of the configuration: `python -m config.manual` writes docs/configuration.md.

Tables come from the models and the probes themselves, examples from the samples that are tested; only what joins
them is written here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from config import schema
from config.problems import show_seconds
from config.wording import keys_of
from probes import PROBES
from probes.base import ProbeType, Value

FILE: Final = Path(__file__).parent.parent / "docs" / "configuration.md"
SAMPLES: Final = Path(__file__).parent / "samples"

_INTRO: Final = """\
# Configuration

One YAML 1.2 file says what to watch, how often, by which path, and whom to tell. `thongsuot check FILE` reads it
without running anything and prints every mistake at once as `file:line:column: path.to.key: message`.

This page is generated (`python -m config.manual`); so is [thongsuot.schema.json](thongsuot.schema.json)
(`python -m config.schema`). Editors that speak the YAML language server complete and check keys as you type when the
file begins with this line, the path taken from the file's own folder:

```yaml
# yaml-language-server: $schema=../docs/thongsuot.schema.json
```

A small complete file:

```yaml
site: {id: lang-son, name: Sở Thông tin và Truyền thông tỉnh Lạng Sơn}
references:
  gateway: {probe: icmp, host: 192.0.2.1, every: 5s}
  vnix: {probe: dns, server: 203.119.8.1, name: vn, type: NS}
services:
  mail:
    name: Thư điện tử công vụ
    kind: mail
    checks:
      smtp: {probe: smtp, host: mail.langson.gov.vn, port: 25, starttls: required}
alerts:
  mail:
    from: giam-sat@example.vn
    to: [truc@example.vn]
    relays: [{host: 127.0.0.1, port: 25}]
```

## How things are written

- **Durations** have their unit: `500ms`, `30s`, `5m`, `2h`, `7d`. A number alone is refused.
- **Dates and times** are local to `site.timezone`: `2022-04-29`, `2022-04-29 19:30` or `2022-04-29T19:30:00`, without
  an offset. A time that a change of clocks leaves out is refused; of one that comes twice the first is meant.
- **Ids** (of sites, paths, references, services, checks, events, peaks) are at most 63 of `a-z`, `0-9` and `-`, and
  begin with a letter or digit. Names for people may be any text on one line; without a name the id is shown.
- **Secrets** never stand in the file: `password_file` names a file whose first line is the secret, `password_env` an
  environment variable. A key like `password`, `token` or `secret` with a value is refused, and so is an address with a
  password in it (`https://user:…@host/`). Messages never repeat a secret.
- **File names** (keys that end in `_file`, `store.dir`, `blackbox.modules`) are relative to the file they stand in.
- **YAML**: duplicate keys are a mistake; `yes`, `no`, `on` and `off` are texts, only `true` and `false` are truth
  values; tags are refused; anchors, aliases and the merge key `<<` work. Files are UTF-8 and at most 4 MiB.
- A section left empty (everything in it commented out) is the same as one left out.
"""
_INCLUDE: Final = """\
## `include`: more files

`include: services.d/*.yaml` (or a list of names and patterns) reads more files, relative to the file it stands in, in
the order of their names. They may add to `services`, `references`, `paths` and `events`, and may include further files.
An id given twice, in whatever files, is a mistake that names both places; so are a pattern that matches nothing, a file
included twice, and files that include each other in a circle.

The text of all files together, each under a line `# file: NAME`, is what is kept of a configuration that ran; its
sha256 is the configuration's digest.
"""
_CHECKS: Final = """\
## Checks

A check is a probe with a schedule and a policy. These keys every check has; the rest are the probe's own
(see [Probes](#probes)). References take the same keys, and `role`.

- The interval is `every`, or that of `defaults`, or 30s. It may not be shorter than what the probe needs.
- A `timeout` given in a check may not be longer than its interval, nor than the interval of a peak that the check takes
  part in. Without one it is that of `defaults`, or what suits the probe, and is cut to the shortest of those intervals.
- With `paths` a check is asked by each of them, as `<check>@<path>`, and each is judged by itself. It is down when
  fewer than `up_by` says are usable (`majority`: at least half), and degraded while one that counts not is down:
  what is down by one carrier of three is not down, and the letter says which carrier does not get through.
- Policy keys are taken from the check, then from `defaults`, then from what suits the probe.
- `slow_over` must be less than the check's `timeout`, or it could never happen.
- Probes that have a key `name` of their own (`dns`: the name that is asked) take the name for people as `label`.
"""
_REFERENCES: Final = """\
## `references`: is it us?

Neutral points: the gateway, a resolver, the national exchange. When they fail together with what is watched, the fault
is ours and nothing is called down. A reference `near` lies on our own side of the uplink (the gateway, and the id
`gateway` is near without saying so); the others are `far`. A configuration without references, or with only one, is
accepted with a warning.
"""
_SERVICES: Final = """\
## `services`: what is watched

A service is up when its checks say so by `up_when`: `all` of them, `any`, or `{at_least: n}`. `needs` names services it
cannot work without: when one of those is down, this one's trouble is shown with that cause and told once. Services
that need each other in a circle are refused. The id `references` is taken. Services that fail together and share a
host, a path, a carrier or the resolver are one incident: `carrier` here, or in `paths`, says what only you know.
"""
_EVENTS: Final = """\
## `events`: periods with a report of their own

By the lunar calendar: `tet: 2027` is the Tết of 2027. Mùng 1 is the one of Việt Nam, which differs from the Chinese in
some years (2030: 2 February, not 3 February); years from 1968 to 2100 are known. The event begins `before` (2d without
one) the start of mùng 1, and ends `after` (5d without one) **that same start of mùng 1, 00:00 local time**. So with
2d and 5d the Tết of 2024 (mùng 1 on 10/02/2024) lasts from 08/02/2024 00:00 (29 Chạp) to 15/02/2024 00:00, which holds
mùng 5 whole. Whole days are days of the local calendar, each beginning at local midnight, also where clocks change.

By dates: `from` and `to`. A date as `to` is held to its end; a time is exact. `before` and `after` widen the span.

A peak raises the rate of the services it names (all of them, if none) to `every`, from `before` to `after` its moment
`at`: `giao-thua` (the local midnight that begins mùng 1) or a local date or time. A check that is faster by itself
stays as it is; without `every` the peak only marks a span for the report. References follow the peaks of the services
that leave by their path, no faster than their own time-out lets them. In a peak, queues are looked for by shorter
windows too: what they find is *suspected* until the ordinary rule confirms it. The peak's moment lies within its
event; two peaks of one service may not overlap, not even of different events.

```yaml
events:
  tet-2027:
    tet: 2027
    before: 2d
    after: 5d
    peaks:
      giao-thua: {at: giao-thua, before: 1h, after: 1h, every: 5s, services: [carrier-vnpt]}
  ky-niem-2022:
    name: Kỷ niệm 30 năm tái lập tỉnh
    from: 2022-03-01
    to: 2022-05-31
    peaks:
      dem-29-4: {at: 2022-04-29 19:30, before: 2h, after: 3h, every: 10s}
```
"""
_MAINTENANCE: Final = """\
## `maintenance`: announced work

The time of announced work is maintenance: it is in neither half of availability, its trouble sends no letter, and the
page shows the mark "bảo trì" beside what is measured all the same. It counts only from the moment at which the daemon
has read it: of a window that had begun by then, the part before is no maintenance, and what is entered when all is over
is a correction, which a second person approves (`thongsuot correct`). The daemon puts every window on record when it
first reads it, weekly ones 35 days ahead; a window that a later configuration leaves out ends with it. Work that comes
up between is announced with `thongsuot maintenance add`, without a reload.

Work on a service is work on all of its checks. Work on a single check is the service's where it can make the
difference: of two checks that are both needed it is, of two of which one is enough it is not while the other is up.
What needs a service under work, and fails with it, counts as down in its own figures unless it is named too, and is
told only if it still fails a minute after the work.

```yaml
maintenance:
  - {services: [portal], from: 2027-01-20 22:00, to: 2027-01-21 02:00, reason: Nâng cấp máy chủ cổng thông tin}
  - {id: va-loi, services: [mail], weekly: {on: sun, at: "22:00", for: 2h}, reason: Vá lỗi bảo mật hằng tuần}
  - {checks: [mail.webmail], weekly: {on: [mon, thu], at: "04:30", for: 30m}, reason: Sao lưu hộp thư}
```
"""
_ALERTS: Final = """\
## `alerts.mail`: who is told

Relays are tried in order. The mail server that is watched may be among them, and never the only one: a relay is the
same server when it has the host of a check of a mail service (on loopback: host and port). A login without TLS
(neither `tls: true` nor `starttls: required`) needs a second, explicit `plaintext_login: true`. Without alerts, and
with a secret that cannot be read, a configuration is accepted with a warning; the daemon refuses to start while a
secret is missing.
"""
_REPORTS: Final = """\
## `reports`: what stands in an official report

Bodies, symbols, addressees and legal bases change by decision, so they are configuration. Nothing here is required:
what is left out is printed as a placeholder `[…]` in the place where a person has to write. [report.md](report.md)
shows the documents.
"""
_SENT: Final = """\
### Reports that are sent by themselves

```yaml
reports:
  daily: {at: "07:00", to: [lanh-dao@example.vn]}
  weekly: {on: monday, at: "07:30", to: [lanh-dao@example.vn, van-phong@example.vn], formats: [docx, pdf, xlsx]}
  event: {at: "08:00", to: [van-phong@example.vn]}
events:
  tet-2027:
    tet: 2027
    daily: {at: "06:00", to: [lanh-dao@example.vn, ubnd@example.vn]}
```

They leave by the relays of `alerts.mail`, from its sender. `daily` tells of the 24 hours before it, `weekly` of the
seven days before it, so that nothing is left out between two of them. `event` sends the report after each event
once, as a draft, on the first morning after it. `daily` of an event takes the place of the usual one on the mornings
of that event and the one after it; what it does not say is as in `reports.daily`. `on` is a key of `weekly` alone.
"""


def text(probes: Mapping[str, ProbeType] = PROBES) -> str:
    """Return the whole manual."""
    defs = schema.build(probes)["$defs"]
    parts = [
        _INTRO,
        _INCLUDE,
        _section(defs, "`site`: whose monitor", "site"),
        _section(defs, "`paths`: uplinks", "path"),
        _REFERENCES,
        _section(defs, "`defaults`", "defaults"),
        _SERVICES + "\n" + _table(defs["service"], defs),
        _CHECKS + "\n" + _table(_common(probes, defs), defs),
        _EVENTS + "\n" + _table(defs["event"], defs) + "\nA peak:\n\n" + _table(defs["peak"], defs),
        _MAINTENANCE + "\n" + _table(defs["maintenance"], defs),
        "Every week:\n\n" + _table(defs["maintenance.WeeklySettings"], defs),
        _ALERTS + "\n" + _table(defs["alerts.MailSettings"], defs),
        "A relay:\n\n" + _table(defs["alerts.RelaySettings"], defs),
        _REPORTS + "\n" + _table(defs["reports"], defs),
        "Who signs:\n\n" + _table(defs["reports.SignerSettings"], defs),
        "Whom to ask:\n\n" + _table(defs["reports.ContactSettings"], defs),
        _SENT + "\n" + _table(defs["reports.WeeklySettings"], defs),
        _section(defs, "`store`: records", "store"),
        "A time-stamp authority:\n\n" + _table(defs["store.StampSettings"], defs),
        _section(defs, "`web`: the live page", "web"),
        _section(defs, "`blackbox`: probing on demand at `/probe`", "blackbox"),
        "## Probes\n\nDurations that a probe reports are seconds. Every probe reports its phases apart: `resolve`, "
        "`connect`, `tls`, `processing`, `transfer`, as far as it has them.\n",
        *(_probe(probe, defs) for _, probe in sorted(probes.items())),
        _samples(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def write(file: Path = FILE) -> None:
    """Write the manual to its place in the documentation."""
    file.write_text(text(), encoding="utf-8")


def _section(defs: schema.Schema, title: str, definition: str) -> str:
    return f"## {title}\n\n{_paragraph(defs[definition])}\n{_table(defs[definition], defs)}"


def _paragraph(definition: Mapping[str, Any]) -> str:
    return f"{definition['description']}\n" if definition.get("description") else ""


def _common(probes: Mapping[str, ProbeType], defs: schema.Schema) -> schema.Schema:
    """Return the keys that every check and reference has."""
    shared: dict[str, Any] = {}
    for kind, probe in sorted(probes.items()):
        own = set(keys_of(probe.settings))
        for key, value in defs[f"reference.{kind}"]["properties"].items():
            if key not in own:
                shared.setdefault(key, value)
    shared["probe"] = {"enum": sorted(probes), "description": "Kind of probe: what is measured"}
    first = ("probe", "name", "label", "path", "role")
    ordered = {key: shared[key] for key in (*first, *shared) if key in shared}
    return {"properties": ordered, "required": ["probe"]}


def _table(definition: Mapping[str, Any], defs: schema.Schema) -> str:
    rows = ["| key | value | without it | meaning |", "|---|---|---|---|"]
    required = definition.get("required", ())
    for key, value in definition["properties"].items():
        default = "**required**" if key in required else _default(value)
        rows.append(f"| `{key}` | {_cell(_kind(value, defs))} | {default} | {_cell(_meaning(value, defs))} |")
    return "\n".join(rows) + "\n"


def _meaning(value: Mapping[str, Any], defs: schema.Schema) -> str:
    own = str(value.get("description", ""))
    inner = [str(defs[name].get("description", "")) for name in _refs(value)]
    return own or " ".join(inner)


def _refs(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix("#/$defs/")
        for inner in value.values():
            yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ({}, []):
        return ""
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`" if isinstance(default, str | int | float) else ""


def _kind(value: Mapping[str, Any], defs: schema.Schema) -> str:
    """Say in words what a value may be."""
    for key, words in (("anyOf", " or "), ("oneOf", " or ")):
        if key in value:
            arms = [_kind(arm, defs) for arm in value[key] if arm.get("type") != "null"]
            return words.join(dict.fromkeys(arms))
    if "$ref" in value:
        return _kind(defs[value["$ref"].removeprefix("#/$defs/")], defs)
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(dict.fromkeys(f"`{option}`" for option in value["enum"]))
    if schema.is_duration(value):
        return "duration"
    return _plain_kind(value, defs)


def _plain_kind(value: Mapping[str, Any], defs: schema.Schema) -> str:
    kind = value.get("type")
    if kind == "array":
        return f"list of {_kind(value.get('items', {}), defs)}"
    if kind == "object":
        keys = value.get("properties")
        return f"mapping: {', '.join(f'`{key}`' for key in keys)}" if keys else "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return words.get(str(kind), "anything") + _range(value)


def _range(value: Mapping[str, Any]) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f", at least {low}"
    return f", at most {high}" if high is not None else ""


def _probe(probe: ProbeType, defs: schema.Schema) -> str:
    own = keys_of(probe.settings)
    whole = defs[f"check.{probe.kind}"]
    keys = {
        "properties": {key: value for key, value in whole["properties"].items() if key in own},
        "required": whole["required"],
    }
    parts = [f"### `{probe.kind}`\n\n{probe.summary.rstrip('.')}.\n", _docstring(probe), _table(keys, defs)]
    parts += [_nested(name, defs) for name in dict.fromkeys(_refs(keys["properties"])) if "properties" in defs[name]]
    parts.append(
        f"Without other words {probe.rounds_to_down} bad results in a row are down, and the time-out is "
        f"{show_seconds(probe.default_timeout_s)}.\n"
    )
    if probe.values:
        parts.append("It reports these numbers:\n\n" + _values(probe.values))
    if probe.facts:
        parts.append("And these texts:\n\n" + _values(probe.facts))
    sample = SAMPLES / "checks" / f"{probe.kind}.yaml"
    if sample.exists():
        parts.append(f"Examples, as they stand under `checks:`\n\n```yaml\n{sample.read_text('utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def _nested(name: str, defs: schema.Schema) -> str:
    """Describe a mapping within a probe's keys, and what stands in it."""
    inner = [_nested(n, defs) for n in dict.fromkeys(_refs(defs[name]["properties"])) if "properties" in defs[n]]
    title = f"`{name.rsplit('.', 1)[-1]}`: {_paragraph(defs[name])}"
    return "\n".join([f"{title}\n{_table(defs[name], defs)}", *inner])


def _docstring(probe: ProbeType) -> str:
    module = sys.modules.get(probe.settings.__module__)
    text = inspect.cleandoc(module.__doc__ or "") if module else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n" if text else ""


def _values(values: Iterable[Value]) -> str:
    rows = [f"| `{value.name}` | {_cell(value.help)} |" for value in values]
    return "\n".join(["| name | meaning |", "|---|---|", *rows]) + "\n"


def _samples() -> str:
    names = sorted(file.name for file in SAMPLES.glob("*.yaml"))
    links = "\n".join(f"- [{name}](../config/samples/{name})" for name in names)
    return f"## Whole provinces\n\nComplete files to start from, each accepted by `thongsuot check`:\n\n{links}\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    write()
