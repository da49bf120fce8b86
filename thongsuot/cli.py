"""The command line. Figures for machines with `--json` on standard output; messages for people on standard error.

Exit codes: 0 well, 1 the check or service asked about is not well, 2 wrong use, 70 our own fault, 78 configuration
refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from config import loader
from config.loader import ConfigError
from config.plan import Language, Plan
from config.settings import parse_listen
from exporters.mail import outcome_line, send_test
from monitor.chain import ChainError
from monitor.journal import JournalError
from probes import PROBES
from probes.base import Path as Uplink
from probes.base import ProbeSettings, ProbeType, Reading, Tools, measure, utc_now
from thongsuot import daemon, import_blackbox, once, reports
from thongsuot.daemon import DaemonInfo, StartError
from thongsuot.drill_command import HELP as DRILL_HELP
from thongsuot.drill_command import drill_command
from thongsuot.record_commands import correct_app, maintenance_app
from thongsuot.replay_commands import replay_app, simulate_app

T = TypeVar("T")

WELL, NOT_WELL, WRONG_USE, OWN_FAULT, REFUSED = 0, 1, 2, 70, 78

HELP = """Thông Suốt watches a province's services and links, says what is up and what is not, and keeps the proof.

Figures for machines with --json on standard output; messages for people on standard error.

Exit codes: 0 well; 1 the check or service asked about is not well; 2 wrong use; 70 our own fault;
78 configuration refused.
"""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
alerts_app = typer.Typer(no_args_is_help=True, help="Messages to the people on duty.")
app.add_typer(alerts_app, name="alerts")
app.add_typer(replay_app, name="replay")
app.add_typer(maintenance_app, name="maintenance")
app.add_typer(correct_app, name="correct")
app.add_typer(simulate_app, name="simulate")
app.command(name="drill", help=DRILL_HELP)(drill_command)
import_app = typer.Typer(no_args_is_help=True, help="From another tool's files to a province file.")
app.add_typer(import_app, name="import")

log = logging.getLogger("thongsuot")


class LogLevel(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


ConfigArg = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration, a YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Figures for machines on standard output.")]
LangOption = Annotated[Language | None, typer.Option("--lang", help="Language for people: vi or en.")]
StateDirOption = Annotated[Path | None, typer.Option("--state-dir", help="Instead of store.dir.")]
ListenOption = Annotated[str | None, typer.Option("--listen", metavar="HOST:PORT", help="Instead of web.listen.")]
LogOption = Annotated[LogLevel, typer.Option("--log-level", help="How much the log on standard error says.")]


@app.callback()
def _every_command(
    ctx: typer.Context,
    lang: LangOption = None,
) -> None:
    ctx.obj = lang


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _end(code: int, text: str = "") -> NoReturn:
    if text:
        _say(text)
    raise typer.Exit(code)


def _load(config: Path, *, state_dir: Path | None = None, listen: str | None = None, as_json: bool = False) -> Plan:
    try:
        plan = loader.load(config)
    except ConfigError as exc:
        if as_json:
            print(json.dumps({"ok": False, "problems": _problems(exc), "warnings": []}, ensure_ascii=False))
        _end(REFUSED, str(exc))
    if state_dir is not None:
        plan = replace(plan, state_dir=state_dir)
    if listen is not None:
        try:
            host, port = parse_listen(listen)
        except ValueError as exc:
            _end(WRONG_USE, f"--listen {listen}: {exc}")
        plan = replace(plan, listen_host=host, listen_port=port)
    return plan


def _problems(exc: ConfigError) -> list[dict[str, Any]]:
    return [
        {"file": p.place.file, "line": p.place.line, "column": p.place.column, "path": p.path, "message": p.message}
        for p in exc.problems
    ]


def _run_loop(main: Coroutine[Any, Any, T]) -> T:
    # uvloop where it can be had: the same program at about two thirds of the cost.
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        log.info("uvloop is not installed; using the standard event loop")
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _set_up_log(level: LogLevel) -> None:
    # The journal of systemd stamps lines itself; a terminal or a file does not.
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


@app.command()
def run(
    config: ConfigArg,
    state_dir: StateDirOption = None,
    listen: ListenOption = None,
    log_level: LogOption = LogLevel.INFO,
) -> None:
    """Watch, judge, tell and remember, until stopped. SIGHUP reads the configuration again."""
    _set_up_log(log_level)
    plan = _load(config, state_dir=state_dir, listen=listen)
    missing = loader.missing_secrets(plan)
    if missing:
        _end(REFUSED, "\n".join(missing))
    for warning in plan.warnings:
        log.warning("%s", warning)
    _self_tests(plan)

    def load_again() -> Plan | None:
        try:
            again = loader.load(config)
        except ConfigError as exc:
            log.warning("the new configuration is refused, the old one stays:\n%s", exc)
            return None
        except Exception:  # a bug in reading must not end a watch that goes well; it is logged with its trace
            log.exception("the new configuration cannot be read, the old one stays")
            return None
        lacking = loader.missing_secrets(again)
        if lacking:
            log.warning("the new configuration is refused, the old one stays:\n%s", "\n".join(lacking))
            return None
        for warning in again.warnings:
            log.warning("%s", warning)
        return replace(
            again,
            state_dir=state_dir or again.state_dir,
            listen_host=plan.listen_host if listen else again.listen_host,
            listen_port=plan.listen_port if listen else again.listen_port,
        )

    try:
        _run_loop(_run_daemon(plan, load_again))
    except StartError as exc:
        _end(OWN_FAULT, str(exc))


async def _run_daemon(plan: Plan, load_again: Callable[[], Plan | None]) -> None:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)

    def ready(info: DaemonInfo) -> None:
        _say(f"{plan.site.name}: {info.url}")

    await daemon.run(plan, ready=ready, stop=stop, reload=reload, load=lambda: asyncio.to_thread(load_again))


def _self_tests(plan: Plan) -> None:
    for probe in {t.probe.kind: t.probe for t in plan.targets()}.values():
        trouble = probe.self_test() if probe.self_test else None
        if trouble:
            log.warning("%s checks cannot measure: %s", probe.kind, trouble)


@app.command()
def check(config: ConfigArg, as_json: JsonOption = False) -> None:
    """Read the configuration without running it; every mistake at once, with its place."""
    plan = _load(config, as_json=as_json)
    if as_json:
        print(json.dumps({"ok": True, "problems": [], "warnings": list(plan.warnings)}, ensure_ascii=False))
    for warning in plan.warnings:
        _say(f"warning: {warning}")
    _say(f"{config}: {len(plan.services)} services, {len(plan.targets())} checks, {len(plan.events)} events")


@app.command(name="once")
def once_command(
    ctx: typer.Context,
    config: ConfigArg,
    only: Annotated[str | None, typer.Option(help="SERVICE or SERVICE.CHECK")] = None,
    as_json: JsonOption = False,
    lang: LangOption = None,
) -> None:
    """Run each check once now and print what it found; exit 0 if all are up."""
    plan = _load(config)
    try:
        targets = once.choose(plan, only)
    except once.UsageError as exc:
        _end(WRONG_USE, str(exc))
    outcomes = _run_loop(once.run_once(targets, plan.state_dir))
    well = all(o.reading.fault is None for o in outcomes)
    if as_json:
        print(json.dumps({"ok": well, "checks": [once.as_json(o) for o in outcomes]}, ensure_ascii=False))
    else:
        names = {s.id: s.name for s in plan.services}
        once.print_table(outcomes, names, lang or ctx.obj or plan.site.language, plan.site.timezone)
    raise typer.Exit(WELL if well else NOT_WELL)


@app.command()
def probe(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(sorted(PROBES))}.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE…", help="Keys of a check of this kind, a dot reaches inside; timeout, source, interface."
        ),
    ] = None,
    as_json: JsonOption = False,
    lang: LangOption = None,
) -> None:
    """Run one probe without a configuration, for example: thongsuot probe http url=https://example.vn/ timeout=5s."""
    try:
        found, settings, timeout_s, path = once.parse_probe(kind, pairs or [])
    except once.UsageError as exc:
        _end(WRONG_USE, str(exc))
    reading = _run_loop(_probe_once(found, settings, timeout_s, path))
    if as_json:
        print(json.dumps({"ok": reading.fault is None, "kind": kind, **once.reading_json(reading)}, ensure_ascii=False))
    else:
        once.print_reading(reading, lang or ctx.obj or Language.VI)
    raise typer.Exit(WELL if reading.fault is None else NOT_WELL)


async def _probe_once(found: ProbeType, settings: ProbeSettings, timeout_s: float, path: Uplink | None) -> Reading:
    tools = Tools()
    try:
        return await measure(found, settings, timeout_s=timeout_s, path=path, tools=tools)
    finally:
        tools.close()


@app.command()
def report(  # noqa: PLR0913, PLR0917  the command line's own options
    config: ConfigArg,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    event: Annotated[str | None, typer.Option("--event", help="An event of the configuration.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Local date or time; with --to.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Local date (to its end) or time.")] = None,
    incident: Annotated[int | None, typer.Option("--incident", help="Number of an incident: an ad hoc report.")] = None,
    compare: Annotated[str | None, typer.Option("--compare", help="Another event, set beside day by day.")] = None,
    dated: Annotated[str | None, typer.Option("--date", help="Date of the document; left blank without it.")] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Some of csv,json,xlsx,docx,pdf with commas between.")
    ] = "csv,json",
    state_dir: StateDirOption = None,
) -> None:
    """Write the report of an event, a period or an incident: Word and PDF for the office, Excel, CSV and JSON."""
    plan = _load(config, state_dir=state_dir)
    try:
        wanted = reports.choose_formats(formats)
        asked = reports.Asked(event, start, end, incident, compare, dated)
        files = reports.write(plan, asked, out, wanted, utc_now())
    except reports.UsageError as exc:
        _end(WRONG_USE, str(exc))
    except JournalError as exc:
        _end(OWN_FAULT, str(exc))
    except OSError as exc:
        _end(OWN_FAULT, f"{out}: {exc.strerror or exc}")
    for file in files:
        _say(str(file))


@app.command()
def verify(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A state directory, its evidence, or a copy of it.")],
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="A public key kept elsewhere, PEM.")] = None,
    head: Annotated[str, typer.Option("--head", metavar="NUMBER:HASH", help="Head of the chain, from a mail.")] = "",
    tsa_ca: Annotated[
        Path | None, typer.Option("--tsa-ca", metavar="FILE", help="Certificates that time stamps must lead to, PEM.")
    ] = None,
    as_json: JsonOption = False,
    lang: LangOption = None,
) -> None:
    """Prove the evidence in DIR whole, or name what is missing or changed; exit 0 if it is whole."""
    from thongsuot import verify as verification  # the library of its files is large, and no other command needs it

    try:
        accounts = verification.verify(folder, key, head, tsa_ca)
    except ChainError as exc:
        _end(WRONG_USE, str(exc))
    whole = not any(account.problems for account in accounts)
    if as_json:
        print(json.dumps({"ok": whole, "sites": [a.as_json() for a in accounts]}, ensure_ascii=False))
    else:
        print(verification.page(accounts, lang or ctx.obj or Language.VI))
    raise typer.Exit(WELL if whole else NOT_WELL)


@simulate_app.command("event")
def simulate_event_command(
    config: ConfigArg,
    event: Annotated[str, typer.Option("--event", help="An event of the configuration.")],
    scenario: Annotated[Path, typer.Option("--scenario", help="What happens: a YAML file.")],
    out: Annotated[Path, typer.Option("--out", help="State directory to write; should be empty.")],
    seed: Annotated[int, typer.Option("--seed", help="Other answers of the same scenario.")] = 0,
) -> None:
    """Write a whole event's evidence in simulated time, as the daemon would have kept it; marked as simulated."""
    from thongsuot import scenario as scenarios
    from thongsuot import simulate_event

    plan = _load(config)
    try:
        found = reports.find_event(plan, event)
        script = scenarios.read(scenario, plan)
        outcome = _run_loop(simulate_event.simulate(plan, found, script, out, seed))
    except (reports.UsageError, scenarios.ScenarioError) as exc:
        _end(WRONG_USE, str(exc))
    except JournalError as exc:
        _end(NOT_WELL, str(exc))
    _say(f"{outcome.results} results in {outcome.runs} runs of the monitor, in {out}")


@app.command(name="approve")
def approve_command(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: ConfigArg,
    name: Annotated[str, typer.Argument(metavar="SERVICE.CHECK", help="A check with content: {watch: true}.")],
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who approves; else who is logged in.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why the page may be so.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
    lang: LangOption = None,
) -> None:
    """Show what changed on a watched page since it was last approved, and accept it."""
    from exporters import text_approve
    from thongsuot import approve

    plan = _load(config, state_dir=state_dir)
    words = lang or ctx.obj or plan.site.language
    try:
        found = _run_loop(approve.look(approve.find(plan, name), plan.state_dir, plan.site.timezone))
    except approve.UsageError as exc:
        _end(WRONG_USE, str(exc))
    except approve.NotWellError as exc:
        _end(NOT_WELL, text_approve.label("not-well", words, detail=exc))
    for line in approve.shown(found, words):
        _say(line)
    if as_json:
        print(json.dumps(approve.as_json(found), ensure_ascii=False))
    if found.same:
        _end(WELL)
    if not yes and not approve.asked(text_approve.label("question", words)):
        _end(NOT_WELL, text_approve.label("refused", words))
    try:
        file, approval = approve.accept(found, plan.state_dir, utc_now(), by or approve.who(), reason)
    except OSError as exc:
        _end(OWN_FAULT, f"{plan.state_dir}: {exc.strerror or exc}")
    _say(approve.done(found, approval, file, words))


@alerts_app.command("test")
def alerts_test(config: ConfigArg) -> None:
    """Send a test message through every relay, one by one; exit 0 if all took it."""
    plan = _load(config)
    mail = plan.mail
    if mail is None:
        _end(REFUSED, f"{config}: alerts.mail: nobody would be told; add alerts.mail with from, to and relays")

    async def send() -> bool:
        outcomes = await send_test(mail, plan.site, utc_now())
        for outcome in outcomes:
            _say(outcome_line(outcome, plan.site, utc_now()))
        return all(o.ok for o in outcomes)

    raise typer.Exit(WELL if _run_loop(send()) else NOT_WELL)


@import_app.command("blackbox")
def import_blackbox_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="blackbox_exporter's configuration.")],
    targets: Annotated[list[Path], typer.Option("--targets", help="Targets as file_sd_configs names them.")],
    out: Annotated[Path | None, typer.Option("--out", help="The province file; standard output without it.")] = None,
    module: Annotated[str, typer.Option(help="Module of targets whose labels name none.")] = "http_2xx",
    site_id: Annotated[str, typer.Option("--site-id", help="For site.id.")] = "tinh",
    site_name: Annotated[str, typer.Option("--site-name", help="For site.name.")] = "Tỉnh (chưa đặt tên)",
) -> None:
    """Write a province file from a blackbox_exporter's modules and targets; say what could not be translated."""
    try:
        asked = [one for name in targets for one in import_blackbox.read_targets(name, module)]
        imported = import_blackbox.build(file, asked, site_id=site_id, site_name=site_name)
    except ConfigError as exc:
        _end(REFUSED, str(exc))
    for note in imported.notes:
        _say(note)
    if out is None:
        print(imported.text, end="")
    else:
        try:
            out.write_text(imported.text, "utf-8")
        except OSError as exc:
            _end(NOT_WELL, f"{out}: {exc.strerror or exc}")
    _say(f"{imported.checks} of {len(asked)} targets became checks")


@app.command(name="reflector")
def reflector_command(  # noqa: PLR0913, PLR0917  the command line's own options
    listen: Annotated[
        list[str] | None, typer.Option("--listen", metavar="HOST:PORT", help="UDP address; may be given several times.")
    ] = None,
    counts: Annotated[bool, typer.Option("--count", help="Number the packets of each session (stateful).")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="NETWORK", help="Answer only these; else everybody.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="Answer only who knows its first line.")] = None,
    rate: Annotated[int, typer.Option("--rate", min=1, help="Packets a second for one address.")] = 1000,
    total_rate: Annotated[int, typer.Option("--total-rate", min=1, help="Packets a second in all.")] = 20_000,
    synchronised: Annotated[
        bool | None, typer.Option(help="What to say of this machine's clock; else what its kernel knows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send the packets of stamp checks back with this machine's times, until stopped; no configuration is needed."""
    from thongsuot import reflector

    try:
        places = [parse_listen(text) for text in listen or ["0.0.0.0:862"]]
        rules = reflector.make_rules(allow or [], key_file, counts, rate, total_rate, synchronised)
    except ValueError as exc:
        _end(WRONG_USE, str(exc))
    except OSError as exc:
        _end(OWN_FAULT, f"{key_file}: {exc.strerror or exc}")
    try:
        sockets = [reflector.open_socket(host, port) for host, port in places]
    except OSError as exc:
        _end(OWN_FAULT, f"--listen {' '.join(listen or ['0.0.0.0:862'])}: {exc.strerror or exc}")

    async def serve() -> Counter[str]:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for sock in sockets:
            _say("reflector: {}:{}".format(*sock.getsockname()[:2]))
        return await reflector.serve(sockets, rules, stop)

    counted = _run_loop(serve())
    if as_json:
        print(json.dumps({"answered": 0, **counted}))
    else:
        _say(
            f"reflector: {', '.join(f'{name} {number}' for name, number in sorted(counted.items())) or 'nothing came'}"
        )


@app.command()
def demo(listen: ListenOption = None, state_dir: StateDirOption = None) -> None:
    """Start the small province on loopback with the daemon on it; no network is needed."""
    from thongsuot.demo import run_demo

    logging.basicConfig(stream=sys.stderr, level="WARNING", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    raise typer.Exit(_run_loop(run_demo(listen, state_dir)))
